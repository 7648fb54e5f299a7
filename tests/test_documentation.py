"""Every code block of the README and the documentation runs, and says what it shows.

The blocks of a page share one namespace and run in the order of the page, as a reader would type them. A `python` block
is run, or, where it is a `>>>` session, compared with the output it shows. In a `console` block, lines that begin with
`$ chainrule` are run and compared with the lines below them, in which `...` stands for anything. Others are prose.
"""

import doctest
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import chainrule.numpy
import chainrule.scipy  # noqa: F401 - these fill the registry and the tables of functions
from chainrule.ir.primitive import ops
from chainrule.trace.numpy_protocols import FUNCTIONS, UFUNCS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[^`\n]*)$")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclass(frozen=True)
class Block:
    """The text of a fenced block, and the number of its first line in the page."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is None:
            continue
        inside: list[str] = []
        for _, text in lines:
            if text.strip() == opening["ticks"]:
                break
            inside.append(text.removeprefix(opening["indent"]))
        else:
            raise ValueError(f"{page}:{number}: a code block is never closed")
        yield Block(page, number + 1, opening["language"].strip(), "\n".join(inside) + "\n")


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block so that a traceback points into the page."""
    if ">>> " in block.text:
        run_session(block, namespace)
    else:
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), namespace)


def run_session(block: Block, namespace: dict[str, Any]) -> None:
    """Run a `>>>` session and compare what it prints."""
    test = doctest.DocTestParser().get_doctest(block.text, {}, block.page.name, str(block.page), block.line - 1)
    test.globs = namespace
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=report.append, clear_globs=False)
    assert result.failed == 0, "".join(report)


def run_console(block: Block, folder: Path) -> None:
    """Run the `$ chainrule ...` commands of a block and compare what they print."""
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        if not command.startswith("chainrule "):
            continue
        program = [sys.executable, "-m", "chainrule.cli", *shlex.split(command)[1:]]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        where = f"{block.page}:{block.line}: $ {command}"
        assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
        shown = not expected.strip() or doctest.OutputChecker().check_output(expected, done.stdout, OPTIONS)
        assert shown, f"{where}\nexpected:\n{expected}\ngot:\n{done.stdout}"


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a page declares is forgotten after it."""
    known, ufuncs, functions = {primitive.name for primitive in ops}, dict(UFUNCS), dict(FUNCTIONS)
    yield
    for name in {primitive.name for primitive in ops} - known:
        ops.remove(name)
    for table, was in ((UFUNCS, ufuncs), (FUNCTIONS, functions)):
        for declared in table.keys() - was.keys():
            del table[declared]
        table.update(was)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            run_python(block, namespace)
        elif block.language == "console":
            run_console(block, tmp_path)


def test_every_block_names_its_language() -> None:
    nameless = [f"{block.page}:{block.line}" for page in PAGES for block in blocks(page) if not block.language]
    assert not nameless


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


def test_a_block_that_fails_is_reported_at_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\nassert x == 2\n```\n")
    (block,) = blocks(page)
    with pytest.raises(AssertionError) as failure:
        run_python(block, {})
    assert (str(failure.traceback[-1].path), failure.traceback[-1].lineno + 1) == (str(page), 5)


def test_a_session_that_prints_something_else_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n")
    (block,) = blocks(page)
    with pytest.raises(AssertionError, match=r"page\.md.*line 2"):
        run_session(block, {})
