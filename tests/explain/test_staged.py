"""`explain` of a staged function: what it says is what the function was recorded and compiled as."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

x = np.linspace(0.1, 1.0, 50)


def test_regions_and_what_numpy_computes_and_why():
    found = cr.explain(cr.jit(lambda x: np.linalg.eigvalsh(np.outer(np.exp(x), x))[0] + np.sum(np.fft.fft(x).real)), x)
    (path,) = found.paths
    reasons = {e.operation.split()[0]: e for e in path.report.by_numpy}
    assert "no native lowering" in reasons["eigh"].why
    assert reasons["eigh"].origin.file == __file__
    assert any("kernel over" in r for r in path.report.regions)
    text = str(found)
    assert "eigh" in text
    assert "test_staged.py:" in text
    assert f"workspace of {path.report.workspace} bytes" in text


@pytest.mark.parametrize(
    ("f", "args", "why"),
    [
        (lambda z: z * 2, (x * 1j,), "no native arithmetic of complex128"),
        (lambda k: k * np.int8(2), (np.arange(50, dtype=np.int8),), "no native arithmetic of int8"),
        (lambda x: x[:0] * 2 + 1, (x,), "arrays without elements"),
        (lambda x: np.sort(x), (x,), "has no native lowering"),
    ],
)
def test_reasons(f, args, why):
    (path,) = cr.explain(cr.jit(f), *args).paths
    assert any(why in e.why for e in path.report.by_numpy), str(path)


def test_the_numpy_backend_says_so():
    (path,) = cr.explain(cr.jit(np.sin, backend="numpy"), x).paths
    assert path.report.regions == ()
    assert [e.why for e in path.report.by_numpy] == ["the backend is NumPy"]


def test_signature_guards_and_paths():
    staged = cr.jit(lambda p, n, *, scale=1.0: p["a"] * scale if p["b"][0] > n else p["a"], static_argnums=1)
    first = {"a": x, "b": [x[:1]]}
    cr.explain(staged, first, 3, scale=2.0)
    staged({"a": x[:4], "b": [x[:1]]}, 3)
    other = {"a": x, "b": [x[:1] + 5]}
    staged(other, 3, scale=2.0)
    found = cr.explain(staged, other, 3, scale=2.0)
    assert found.signature == "p['a']: f64[50], p['b'][0]: f64[1], n=3, scale: f64[]"
    assert found.other_signatures == 1
    assert [[value for _, value in p.program.guards] for p in found.paths] == [[True], [False]]
    assert "path 1 of 2" in str(found)
    assert "guard " in str(found)
    assert all(p.recorded > 0 and p.compiled > 0 for p in found.paths)


def test_a_function_that_gave_up_says_so():
    def f(x):
        for _ in range(int(x[0])):
            x = x + 1
        return x

    staged = cr.jit(f, backend="numpy")
    with pytest.warns(RuntimeWarning, match="16 different paths"):
        _ = [staged(np.array([k, 1.0])) for k in range(18)]
    assert "runs eagerly" in str(cr.explain(staged, np.array([1.0, 1.0])))


def test_derivatives_and_batches_are_listed():
    staged = cr.jit(lambda x: np.sum(np.sin(x) * x))
    cr.grad(lambda x: staged(x) * 2)(x)
    cr.vmap(lambda x: staged(x) * 2)(np.ones((3, 50)))
    text = str(cr.explain(staged, x))
    assert "reverse mode, keeping nothing" in text
    assert "batches of 3" in text


def test_other_functions_have_their_trace():
    assert "Forward, inputs first" in str(cr.explain(lambda x: np.sum(x * 2), x[:2]))
