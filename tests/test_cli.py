import subprocess
import sys
from pathlib import Path

import pytest

from chainrule import cache, cli
from chainrule.explain import methods

ROOT = Path(__file__).resolve().parent.parent
MODEL = """
import numpy as np

def energy(x, k=2.0):
    return k * np.sum(np.sin(x) ** 2)

energy_inputs = np.linspace(0.1, 1.0, 3)
many = (np.linspace(0.1, 1.0, 5), 3.0)
by_name = {"k": 1.5, "x": np.ones(2)}

def made():
    return np.ones(4)

def defaults(a=1.0, b=2.0):
    return a * b**2

def careless(x):
    return float(x) ** 2

careless_inputs = 3.0

def raising(x):
    raise RuntimeError("no\\nluck")

raising_inputs = 1.0

def without(x):
    return x
"""


def _no_formula(*_):
    raise methods.NoFormula("not in this test")


@pytest.fixture(autouse=True)
def without_symbols(monkeypatch, request):
    """SymPy takes a second to start: only the test of all methods has it."""
    if "row_for_each" not in request.node.name:
        monkeypatch.setattr(methods, "derive", _no_formula)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def run(capsys, *arguments):
    status = cli.main([*map(str, arguments)])
    found = capsys.readouterr()
    return status, found.out, found.err


def report(capsys, target, *options):
    return run(capsys, "report", target, "--budget", "0.02", "--plain", *options)


def test_report_has_a_row_for_each_method_and_a_recommendation(capsys, model) -> None:
    status, out, err = report(capsys, f"{model}:energy")
    assert (status, err) == (0, "")
    for method in (
        "forward differences",
        "central differences",
        "complex step",
        "symbolic",
        "forward mode",
        "reverse mode",
    ):
        assert f"\n  {method}" in out or f"\n* {method}" in out
    assert "Recommended:" in out
    assert "Evaluation trace" in out


@pytest.mark.parametrize(
    ("target", "options", "inputs"),
    [
        ("energy", (), 3),
        ("energy", ("--inputs", "many"), 6),
        ("energy", ("--inputs", "many", "--wrt", "x"), 5),
        ("energy", ("--inputs", "many", "--wrt", "1"), 1),
        ("energy", ("--inputs", "by_name"), 3),
        ("energy", ("--inputs", "made"), 4),
        ("defaults", (), 2),
    ],
)
def test_inputs_are_found(capsys, model, target, options, inputs) -> None:
    status, out, _ = report(capsys, f"{model}:{target}", *options)
    assert status == 0
    assert f"{inputs} input" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nowhere.py:f", (), "no such file"),
        ("{model}", (), "FILE.py:FUNCTION"),
        ("{model}:absent", (), "the functions are: energy, "),
        ("{model}:many", (), "not a function"),
        ("{model}:energy", ("--inputs", "absent"), "is not in it"),
        ("{model}:energy", ("--wrt", "absent"), "the arguments are x"),
        ("{model}:without", (), "no inputs"),
        ("{model}:careless", (), "cannot be differentiated: float() of a traced"),
        ("{model}:raising", (), "RuntimeError: no luck (at "),
        ("{model}:energy", ("--budget", "0"), "--budget"),
        ("{model}:energy", ("--out", "/nowhere/report.html"), "no such directory"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(capsys, model, target, options, message) -> None:
    status, out, err = report(capsys, target.format(model=model), *options)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys, model) -> None:
    with pytest.raises(Exception, match="no luck"):
        report(capsys, f"{model}:raising", "--debug")


def test_file_that_cannot_be_imported_is_one_line(capsys, tmp_path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import numpy\n1 / 0\n")
    status, _, err = report(capsys, f"{path}:f")
    assert status == 2
    assert "ZeroDivisionError" in err
    assert "broken.py:2" in err


def test_interrupt_leaves_no_file(capsys, monkeypatch, model, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(cli.os, "replace", _interrupt)
    out = tmp_path / "report.html"
    status, _, err = report(capsys, f"{model}:energy", "--out", out)
    assert status == 130
    assert "interrupted" in err
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".py" and p.name != "__pycache__"] == []


def _interrupt(*_):
    raise KeyboardInterrupt


def test_without_rich_tables_are_plain(capsys, monkeypatch, model) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    status, out, _ = run(capsys, "report", f"{model}:defaults", "--budget", "0.02")
    assert status == 0
    assert "  ------" in out


def test_without_matplotlib_a_page_is_refused_at_once(capsys, monkeypatch, model, tmp_path) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    status, _, err = report(capsys, f"{model}:energy", "--out", tmp_path / "page.html")
    assert status == 2
    assert "chainrule[report]" in err


def test_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chainrule.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "src",
    )
    assert done.stdout.startswith("chainrule ")


def test_cache_shows_and_clears_compiled_code(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "kept"))
    cache.write(cache.key_of(b"1"), bytes(2_000_000))
    for arguments, wanted in (
        (["cache"], "1 compiled programs, 2.0 MB (of at most 268), in"),
        (["cache", "--clear"], "1 compiled programs, 2.0 MB (of at most 268), deleted from"),
        (["cache"], "0 compiled programs, 0.0 MB (of at most 268), in"),
    ):
        assert cli.main(arguments) == 0
        assert capsys.readouterr().out.strip() == f"{wanted} {tmp_path / 'kept'}"
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    assert cli.main(["cache", "--clear"]) == 0
    assert "not kept" in capsys.readouterr().out
