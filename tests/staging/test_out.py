"""out=: results written into the caller's arrays, without allocating, and right wherever these lie."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import chainrule as cr

x5 = np.array([0.5, -1.5, 2.0, 0.1, 1.0])


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def peak(f):
    """Bytes that a call allocates at most."""
    f()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        f()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_results_are_written_into_the_buffers(backend):
    staged = cr.jit(cr.value_and_grad(rosenbrock), backend=backend)
    wanted = cr.value_and_grad(rosenbrock)(x5)
    out = (np.empty(()), np.empty(5))
    for _ in range(3):
        for buffer in out:
            buffer[...] = np.nan
        assert staged(x5, out=out) is out
        for found, expected in zip(out, wanted, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(staged(x5)[1], wanted[1], rtol=1e-12)


def test_small_results_are_written_without_allocating():
    staged = cr.jit(cr.value_and_grad(rosenbrock))
    x, out = np.linspace(-1, 1, 1000), (np.empty(()), np.empty(1000))
    staged(x, out=out)
    assert peak(lambda: staged(x, out=out)) < 200
    assert peak(lambda: staged(x)) > 8000


def test_large_results_are_written_without_allocating():
    staged = cr.jit(lambda x: {"y": np.sin(x) + 1, "z": x * 2})
    x = np.linspace(-1, 1, 200_000)
    out = {"y": np.empty_like(x), "z": np.empty_like(x)}
    addresses = [a.ctypes.data for a in out.values()]
    staged(x, out=out)
    assert peak(lambda: staged(x, out=out)) < 20_000
    assert [a.ctypes.data for a in out.values()] == addresses
    np.testing.assert_allclose(out["y"], np.sin(x) + 1)
    np.testing.assert_array_equal(out["z"], x * 2)


FUNCTIONS = {
    "elementwise": lambda x: x * 2 + x[::-1],
    "numpy between": lambda x: np.sort(x) * x,
    "returned": lambda x: x,
    "constant": lambda x: np.linspace(0.0, 1.0, 5) if x.size == 5 else np.linspace(0.0, 1.0, 3000),
    "guarded": lambda x: x[::-1] + 1 if x[0] > 0 else x[::-1] - 1,
}


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("n", [5, 3000])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_buffers_may_lie_anywhere(name, n, backend):
    f = FUNCTIONS[name]
    staged = cr.jit(f, backend=backend)
    start = np.sin(np.arange(1.0, n + 1))
    for sign in (1, -1):
        for _ in range(3):
            x = sign * start
            wanted = np.array(f(x))
            apart, strided, backwards = np.empty(n), np.empty(2 * n)[::2], np.empty(n)[::-1]
            shifted = np.frombuffer(bytearray(8 * n + 1), np.uint8)[1:].view(float)
            for buffer in (apart, strided, backwards, shifted):
                buffer[...] = np.nan
                assert staged(x, out=buffer) is buffer
                np.testing.assert_allclose(buffer, wanted, rtol=1e-12)
                np.testing.assert_array_equal(x, sign * start)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("n", [5, 3000, 40_000])
def test_buffers_that_overlap_the_arguments_are_written_as_if_these_were_copied(n, backend):
    staged = cr.jit(lambda x, y: (x[::-1] * 2, x + y), backend=backend)
    for _ in range(3):
        for shift in (0, 1, n // 2, n - 1, n):
            block = np.sin(np.arange(2.0 * n))
            x, buffer = block[:n], block[shift : shift + n]
            y = np.cos(x)
            wanted = x[::-1] * 2, x + y
            other = np.empty(n)
            staged(x, y, out=(buffer, other))
            np.testing.assert_array_equal(buffer, wanted[0])
            np.testing.assert_array_equal(other, wanted[1])
    x = np.arange(float(n))
    wanted = x[::-1] * 2, x + x
    staged(x, x, out=(x, np.empty(n)))
    np.testing.assert_array_equal(x, wanted[0])


def test_buffers_that_overlap_each_other_are_written_in_order():
    staged = cr.jit(lambda x: (x + 1, x + 2))
    for _ in range(3):
        block = np.empty(8)
        staged(x5, out=(block[:5], block[3:]))
        np.testing.assert_array_equal(block[3:], x5 + 2)
        np.testing.assert_array_equal(block[:3], x5[:3] + 1)


def _read_only():
    a = np.empty(5)
    a.flags.writeable = False
    return a


WRONG = {
    "shape": (lambda: np.empty(4), r"f64\[4\], where the result is f64\[5\]"),
    "rank": (lambda: np.empty((1, 5)), r"f64\[1,5\]"),
    "dtype": (lambda: np.empty(5, np.float32), r"f32\[5\], where the result is f64\[5\]"),
    "order of bytes": (lambda: np.empty(5, np.dtype(float).newbyteorder()), "f64"),
    "read-only": (_read_only, "may not be written"),
    "a list": (lambda: [0.0] * 5, "tree"),
    "a number": (lambda: 1.0, "is a float"),
    "another tree": (lambda: (np.empty(5),), "tree"),
    "a text": (lambda: "out", "is a str"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("n", [0, 3])
def test_a_wrong_buffer_is_refused(name, n):
    staged = cr.jit(lambda x: x * 2)
    for _ in range(n):
        staged(x5, out=np.empty(5))
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        staged(x5, out=make())
    assert "test_out.py" in str(caught.value)
    np.testing.assert_array_equal(staged(x5), 2 * x5)


def test_a_wrong_buffer_among_several_is_named():
    staged = cr.jit(lambda x: (x * 2, x + 1))
    with pytest.raises(cr.errors.ShapeError, match="array 1"):
        staged(x5, out=(np.empty(5), np.empty(3)))


def test_a_parameter_named_out_is_the_functions_own():
    def f(x, out=1.0):
        return x * out

    def g(x, **named):
        return x * named["out"]

    for h in (f, g):
        staged = cr.jit(h)
        for _ in range(3):
            np.testing.assert_array_equal(staged(x5, out=3.0), 3 * x5)
            np.testing.assert_array_equal(staged(x5, out=x5), x5 * x5)
    np.testing.assert_array_equal(cr.jit(cr.grad(lambda x, out: np.sum(x * out)))(x5, out=x5 + 1), x5 + 1)


def test_without_buffers_out_is_none():
    staged = cr.jit(lambda x: x * 2)
    for _ in range(3):
        np.testing.assert_array_equal(staged(x5, out=None), 2 * x5)


def test_buffers_and_other_names_in_any_order():
    staged = cr.jit(lambda x, *, a, b: (x * a, x + b))
    out = (np.empty(5), np.empty(5))
    for _ in range(3):
        for call in (
            lambda: staged(x5, a=2.0, b=x5, out=out),
            lambda: staged(x5, out=out, b=x5, a=2.0),
            lambda: staged(b=x5, out=out, x=x5, a=2.0),
        ):
            out[0][:] = out[1][:] = np.nan
            call()
            np.testing.assert_array_equal(out[0], x5 * 2)
            np.testing.assert_array_equal(out[1], x5 + x5)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_every_kind_of_result_has_its_buffer(backend):
    def f(x, s):
        y, t = x * 2, np.sum(x)
        return {"y": [y, y, x], "t": (t, t, s, 3.0, x5), "flag": x > 0}

    staged = cr.jit(f, backend=backend)
    flat = [np.empty(5) for _ in range(4)], [np.empty(()) for _ in range(4)]
    out = {"y": flat[0][:3], "t": (*flat[1], flat[0][3]), "flag": np.empty(5, bool)}
    for k in range(1, 4):
        x = k * x5
        assert staged(x, float(k), out=out) is out
        wanted = f(x, float(k))
        for name in wanted:
            for found, expected in zip(out[name], wanted[name], strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_index_out_of_range_raises_with_buffers():
    staged = cr.jit(lambda x, i: np.sin(x[i]) * 2)
    i, out = np.array([0, 4] * 8), np.empty(16)
    for _ in range(3):
        np.testing.assert_allclose(staged(x5, i, out=out), np.sin(x5[i]) * 2)
        with pytest.raises(IndexError, match=r"test_out\.py"):
            staged(x5, i + 1, out=out)


def test_static_arguments_and_numbers_with_buffers():
    staged = cr.jit(lambda x, how, k: x * k if how == "times" else x + k, static_argnums=1)
    out = np.empty(5)
    for _ in range(3):
        np.testing.assert_array_equal(staged(x5, "times", 3, out=out), 3 * x5)
        np.testing.assert_array_equal(staged(x5, "plus", 2.5, out=out), x5 + 2.5)


def test_buffers_have_no_place_within_a_transformation():
    staged = cr.jit(lambda x: x * x)
    with pytest.raises(cr.TraceError, match="out="):
        cr.grad(lambda x: np.sum(staged(x, out=np.empty(5))))(x5)


def test_a_function_that_runs_eagerly_writes_into_buffers():
    def f(x):
        for _ in range(int(x[0])):
            x = x + 1
        return x

    staged = cr.jit(f, backend="numpy")
    out = np.empty(2)
    for k in range(16):
        staged(np.array([k, 0.5]))
    with pytest.warns(RuntimeWarning, match="different paths"):
        staged(np.array([16, 0.5]), out=out)
    np.testing.assert_array_equal(out, f(np.array([16, 0.5])))
    np.testing.assert_array_equal(staged(np.array([3, 0.5]), out=out), f(np.array([3, 0.5])))
