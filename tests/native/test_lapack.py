"""Factorisations and solves by LAPACK from native code: what NumPy gives, and its errors where it raises."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.linalg

import chainrule as cr
from chainrule import cache
from chainrule.backends.llvm import blas, lapack, native
from chainrule.backends.llvm.native import Native
from chainrule.optimise import optimise

from .test_memory import fenced  # noqa: TID252 - the tests are no package


def matrices(n, *stack, dtype=np.float64):
    a = np.random.default_rng(n).normal(size=(*stack, n, n))
    return (a @ np.swapaxes(a, -1, -2) + n * np.eye(n) + np.triu(a, 1)).astype(dtype)  # the triangles differ


def sides(n, k, *stack, dtype=np.float64):
    return np.random.default_rng(n + 100 * k).normal(size=(*stack, n, k)).astype(dtype)


def compiled(f, *args):
    return Native(optimise(cr.program(f)(*args)))


def lower_solve(a, b):
    return scipy.linalg.solve_triangular(a, b, lower=True)


def upper_solve(a, b):
    return scipy.linalg.solve_triangular(a, b)


ONE = {
    "cholesky": (np.linalg.cholesky, np.linalg.cholesky),
    "cholesky, upper": (
        lambda a: np.linalg.cholesky(a, upper=True),
        lambda a: np.linalg.cholesky(a, upper=True),
    ),
    "inv": (np.linalg.inv, np.linalg.inv),
    "det": (np.linalg.det, np.linalg.det),
    "slogdet, sign": (lambda a: np.linalg.slogdet(a)[0], lambda a: np.linalg.slogdet(a)[0]),
    "slogdet, logarithm": (lambda a: np.linalg.slogdet(a)[1], lambda a: np.linalg.slogdet(a)[1]),
}
TWO = {
    "solve": (np.linalg.solve, np.linalg.solve),
    "solve_triangular, lower": (lower_solve, lambda a, b: np.linalg.solve(np.tril(a), b)),
    "solve_triangular, upper": (upper_solve, lambda a, b: np.linalg.solve(np.triu(a), b)),
}


def check(f, reference, *args):
    run = compiled(f, *args)
    assert len(run.steps) == 1, run.report()
    (got,) = run(args)
    wanted = reference(*args)
    assert got.dtype == wanted.dtype
    tolerance = 1e-11 if got.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("stack", [(), (3,), (2, 2)])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("name", [*ONE, *TWO])
@np.errstate(over="ignore")  # determinants that single precision does not hold
def test_results_are_those_of_numpy(name, n, stack, dtype):
    a = matrices(n, *stack, dtype=dtype)
    if name in ONE:
        check(*ONE[name], a)
    else:
        for k in (1, 3):
            check(*TWO[name], a, sides(n, k, *stack, dtype=dtype))


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_matrices_without_elements_are_left_to_numpy(name):
    f, reference = (ONE | TWO)[name]
    args = (np.ones((0, 0)),) if name in ONE else (np.ones((0, 0)), np.ones((0, 2)))
    np.testing.assert_array_equal(cr.jit(f)(*args), reference(*args))


def test_operands_of_other_types_are_left_to_numpy():
    a, b = matrices(3), np.arange(6).reshape(3, 2)
    for left, right in ((a, b), (a + 1j, sides(3, 2)), (a.astype(np.float32), sides(3, 2))):
        np.testing.assert_allclose(cr.jit(np.linalg.solve)(left, right), np.linalg.solve(left, right), rtol=1e-6)


SINGULAR = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
FAULTY = {
    "singular": SINGULAR,
    "not a number": np.array([[2.0, 0.5, 0.1], [0.5, np.nan, 0.2], [0.1, 0.2, 3.0]]),
    "infinite": np.diag([1.0, np.inf, 2.0]),
    "indefinite": np.diag([1.0, -1.0, 2.0]),
    "zero": np.zeros((3, 3)),
}


def outcome(f, *args):
    try:
        with np.errstate(all="ignore"):
            return f(*args)
    except np.linalg.LinAlgError as error:
        return str(error)


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_faulty_matrices_end_as_in_numpy(name, fault):
    f, reference = (ONE | TWO)[name]
    rest = () if name in ONE else (sides(3, 2),)
    fast = cr.jit(f)
    good = fast(matrices(3), *rest)
    stacked = np.stack([matrices(3), FAULTY[fault]])
    for a, more in ((FAULTY[fault], rest), (stacked, tuple(np.stack([b, b]) for b in rest))):
        got, wanted = outcome(fast, a, *more), outcome(reference, a, *more)
        if isinstance(got, str) or isinstance(wanted, str):
            assert isinstance(got, str), (got, wanted)
            assert isinstance(wanted, str), (got, wanted)
        else:
            np.testing.assert_allclose(got, wanted)
    np.testing.assert_array_equal(fast(matrices(3), *rest), good)  # the fault is forgotten


def test_single_precision_is_factored_in_double_precision_as_in_numpy():
    a = (1.0 / (1 + np.arange(5.0) + np.arange(5.0)[:, None])).astype(np.float32)  # ill conditioned
    for f, _ in ONE.values():
        np.testing.assert_allclose(cr.jit(f)(a), f(a), rtol=1e-6)
    b = np.ones(5, np.float32)
    np.testing.assert_allclose(cr.jit(np.linalg.solve)(a, b), np.linalg.solve(a, b), rtol=1e-6)


def test_signs_of_determinants():
    a = np.random.default_rng(0).normal(size=(40, 5, 5))
    sign, log = cr.jit(lambda a: tuple(np.linalg.slogdet(a)))(a)
    wanted = np.linalg.slogdet(a)
    assert set(wanted[0]) == {-1.0, 1.0}
    np.testing.assert_array_equal(sign, wanted[0])
    np.testing.assert_allclose(log, wanted[1], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(cr.jit(np.linalg.det)(a), np.linalg.det(a), rtol=1e-12)
    swapped = np.eye(6)[[1, 0, 2, 4, 5, 3]]
    assert cr.jit(np.linalg.det)(swapped) == -1.0


def test_determinants_whose_partial_products_overflow():
    a = np.diag([1e200, 1e200, 1e-200, 1e-200])
    np.testing.assert_allclose(cr.jit(np.linalg.det)(a), 1.0, rtol=1e-12)


def test_singular_determinants_are_zero():
    assert cr.jit(np.linalg.det)(SINGULAR) == 0.0
    assert cr.jit(lambda a: tuple(np.linalg.slogdet(a)))(SINGULAR) == (0.0, -np.inf)


def test_numpys_own_error_is_raised():
    fast = cr.jit(np.linalg.solve)
    fast(matrices(3), np.ones(3))
    with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
        fast(SINGULAR, np.ones(3))
    fast = cr.jit(np.linalg.cholesky)
    fast(matrices(3))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        fast(-matrices(3))


def test_right_sides_that_are_not_numbers_spoil_their_columns_only():
    b = sides(4, 3)
    b[2, 1] = np.nan
    for f, reference in TWO.values():
        np.testing.assert_allclose(cr.jit(f)(matrices(4), b)[:, [0, 2]], reference(matrices(4), b)[:, [0, 2]])
        assert np.isnan(cr.jit(f)(matrices(4), b)[:, 1]).any()


def log_likelihood(p, x, y):
    squares = (x[:, None] - x) ** 2
    factor = np.linalg.cholesky(p[0] ** 2 * np.exp(-squares / p[1] ** 2) + p[2] ** 2 * np.eye(len(x)))
    z = scipy.linalg.solve_triangular(factor, y, lower=True)
    return -0.5 * z @ z - np.sum(np.log(np.diag(factor)))


def test_a_gaussian_process_and_its_gradient_are_factored_natively():
    x = np.linspace(0.0, 3.0, 35)
    y, p = np.sin(x), np.array([1.1, 0.7, 0.4])
    run = compiled(cr.value_and_grad(log_likelihood), p, x, y)
    assert not lapack.OPERANDS.keys() & {e.operation.split()[0] for e in run.report().by_numpy}
    covariance = p[0] ** 2 * np.exp(-((x[:, None] - x) ** 2) / p[1] ** 2) + p[2] ** 2 * np.eye(35)
    wanted = -0.5 * y @ np.linalg.inv(covariance) @ y - 0.5 * np.linalg.slogdet(covariance)[1]
    value, gradient = run([p, x, y])
    np.testing.assert_allclose(value, wanted, rtol=1e-10)
    for k in range(3):
        step = 1e-5 * np.eye(3)[k]
        difference = (log_likelihood(p + step, x, y) - log_likelihood(p - step, x, y)) / 2e-5
        np.testing.assert_allclose(gradient[k], difference, rtol=1e-6)


def filtered(m, p):
    """Steps of a loop, which are one body that runs many times."""
    total = 0.0
    for _ in range(60):
        gain = np.linalg.solve(p + np.eye(3), p)
        p = p - p @ gain + 0.1 * np.eye(3)
        m = m - gain @ m + np.linalg.inv(p)[0]
        total = total + np.sum(np.linalg.cholesky((p + p.T) / 2)) + m @ m
    return total, m, p


def test_factorisations_in_loops():
    m, p = np.array([1.0, -0.5, 0.3]), np.diag([1.0, 2.0, 3.0]) + 0.1
    run = compiled(filtered, m, p)
    assert len(run.steps) == 1, run.report()
    for got, wanted in zip(run([m, p]), filtered(m, p), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_lapack_touches_nothing_beyond_its_buffers(name, at_end, monkeypatch):
    monkeypatch.setattr(native, "empty", lambda shape, dtype: fenced(shape, dtype, at_end=at_end))

    class Memory:  # the workspace between pages that must not be touched
        def __getattr__(self, attribute):
            return getattr(np, attribute)

        def empty(self, size, dtype):
            return fenced((size,), dtype, at_end=at_end)

    monkeypatch.setattr(native, "np", Memory())
    f, reference = (ONE | TWO)[name]
    for n, k, stack in ((1, 1, ()), (13, 5, (2,)), (37, 1, ())):
        values = [matrices(n, *stack), *([] if name in ONE else [sides(n, k, *stack)])]
        args = [fenced(v.shape, v.dtype, at_end=at_end) for v in values]
        for a, v in zip(args, values, strict=True):
            a[...] = v
        np.testing.assert_allclose(compiled(f, *args)(args)[0], reference(*values), rtol=1e-9, atol=1e-11)
        for a, v in zip(args, values, strict=True):
            np.testing.assert_array_equal(a, v)


def test_several_threads_at_once(agree_in_threads):
    plain = lambda a, b: np.linalg.solve(a, b) + np.linalg.inv(np.linalg.cholesky(a)) @ b
    fast = cr.jit(plain)
    a, b = matrices(30), sides(30, 4)
    a = (a + a.T) / 2
    fast(a, b)
    agree_in_threads(lambda s: fast(a * s, b), lambda s: plain(a * s, b), (0.5, 1.0, 2.0))


def test_code_on_disk_calls_lapack_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    a, b = matrices(5), sides(5, 2)
    first = compiled(np.linalg.solve, a, b)
    assert cache.directory() is not None
    monkeypatch.setattr(native, "object_code", None)  # which would be called to compile
    again = compiled(np.linalg.solve, a, b)
    np.testing.assert_array_equal(first([a, b])[0], again([a, b])[0])
    np.testing.assert_allclose(again([a, b])[0], np.linalg.solve(a, b), rtol=1e-12)


def test_without_scipys_routines_numpy_computes(monkeypatch):
    monkeypatch.setattr(blas, "lapack_addresses", dict)
    run = compiled(np.linalg.inv, matrices(4))
    assert run.report().by_numpy
    np.testing.assert_array_equal(run([matrices(4)])[0], np.linalg.inv(matrices(4)))
