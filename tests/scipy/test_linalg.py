"""scipy.linalg: values, both modes, second order, batching and replay, by the laws over cases; what is not covered raises."""

import numpy as np
import pytest
import scipy.linalg

import chainrule as cr
import chainrule.scipy.linalg as ours
from chainrule.testing.cases import LAWS, case, draw

A = np.random.default_rng(0).uniform(-1, 1, (3, 3)) + np.diag([2.0, 3.0, 4.0])
C = A[:2, :2] + 1j * draw(2, 2)
P, B, V, TALL = A @ A.T, draw(3, 2, seed=2), draw(3, seed=3), draw(4, 2)
BANDS = np.array([[0.0, 0.2, -0.3], [3.0, 4.0, 5.0], [0.4, -0.1, 0.0]])
BIG = np.random.default_rng(1).uniform(-0.1, 0.1, (40, 40)) + np.diag(np.linspace(1, 2, 40))


def near(name, f, *args, **options):
    """A case whose further arguments are a little changed, so that they stay in the domain."""
    return case(name, f, *args, others=tuple(np.asarray(a) * 1.05 for a in args), **options)


FACTORS = scipy.linalg.lu_factor(np.array([[0.1, 2.0, 0.3], [1.5, 0.2, -0.4], [0.5, 1.0, 2.0]])[: len(A), : len(A)])


def triangular(**options):
    return lambda a, b: scipy.linalg.solve_triangular(a, b, **options)


CASES = [
    near("expm", lambda a: scipy.linalg.expm(a), A / 3),
    near("expm, complex", lambda a: scipy.linalg.expm(a), C / 3),
    near("expm, stack", lambda a: scipy.linalg.expm(a), np.stack([A, A.T]) / 4),
    near("expm, nilpotent", lambda a: scipy.linalg.expm(a), np.diag([1.0, 1.0], 1)),
    near("logm", lambda a: scipy.linalg.logm(a), P),
    near("logm, complex", lambda a: scipy.linalg.logm(a), P[:2, :2] + 0.3 * C),
    near("sqrtm", lambda a: scipy.linalg.sqrtm(a), P),
    near(
        "sqrtm, triangular with a double eigenvalue",
        lambda a: scipy.linalg.sqrtm(a),
        np.array([[2.0, 1.0], [0.0, 2.0]]),
    ),
    near("lu_solve", lambda a, b: scipy.linalg.lu_solve(scipy.linalg.lu_factor(a), b), A, V),
    near("lu_solve, transposed", lambda a, b: scipy.linalg.lu_solve(scipy.linalg.lu_factor(a), b, 1), A, B),
    near("lu_solve, plain factors", lambda b: scipy.linalg.lu_solve(FACTORS, b), V),
    near("lu_solve, plain factors, adjoint", lambda b: scipy.linalg.lu_solve(FACTORS, b, 2), V),
    near("solve_sylvester", lambda a, q: scipy.linalg.solve_sylvester(a, P, q), A, B @ B.T),
    near("solve_continuous_lyapunov", lambda a, q: scipy.linalg.solve_continuous_lyapunov(a, q), P, A),
    near(
        "solve_continuous_lyapunov, complex",
        lambda a: scipy.linalg.solve_continuous_lyapunov(C, a),
        A[:2, :2],
    ),
    near("solve_discrete_lyapunov", lambda a, q: scipy.linalg.solve_discrete_lyapunov(a, q), A / 12, P),
    near("lstsq", lambda a, b: scipy.linalg.lstsq(a, b)[0], TALL, draw(len(TALL))),
    near("eigvals", lambda a: np.sort(np.real(scipy.linalg.eigvals(a))), P + np.diag(np.arange(len(P)))),
    near("polar", lambda a: scipy.linalg.polar(a), A),
    near("polar, left", lambda a: scipy.linalg.polar(a, side="left"), A),
    near("circulant", lambda c: scipy.linalg.circulant(c), V),
    near("hankel", lambda c: scipy.linalg.hankel(c), V),
    near("hankel of column and row", lambda c, r: scipy.linalg.hankel(c, r), V, draw(4, seed=7)),
    near("solve_triangular", triangular(), A, V),
    near("solve_triangular, lower", triangular(lower=True), A, B),
    near("solve_triangular, transposed", triangular(lower=True, trans="T"), A, B),
    near("solve_triangular, adjoint", triangular(trans=2), C, draw(2)),
    near("solve_triangular, unit diagonal", triangular(unit_diagonal=True), A, V),
    near("solve_triangular, large", lambda a: scipy.linalg.solve_triangular(a, a[0], lower=True), BIG, order=1),
    near("cho_solve", lambda a, b: scipy.linalg.cho_solve(scipy.linalg.cho_factor(a), b), P, V),
    near("cho_solve, lower", lambda a, b: scipy.linalg.cho_solve(scipy.linalg.cho_factor(a, lower=True), b), P, B),
    near("solve_banded", lambda a, b: scipy.linalg.solve_banded((1, 1), a, b), BANDS, V),
    near("solve_banded, two below", lambda a, b: scipy.linalg.solve_banded((2, 0), a, b), BANDS[[1, 0, 2]], B),
    near("solve_banded, complex", lambda a, b: scipy.linalg.solve_banded((0, 1), a, b), BANDS[:2] * (1 + 0.5j), V),
    near("solveh_banded", lambda a, b: scipy.linalg.solveh_banded(a, b), BANDS[:2], V),
    near("solveh_banded, lower", lambda a, b: scipy.linalg.solveh_banded(a, b, lower=True), BANDS[1:], B),
    near("toeplitz", lambda c: scipy.linalg.toeplitz(c), V),
    near("toeplitz, complex", lambda c: scipy.linalg.toeplitz(c), V * (1 + 0.5j)),
    near("toeplitz of column and row", lambda c, r: scipy.linalg.toeplitz(c, r), V, draw(4, seed=7)),
    near("cholesky", lambda a: scipy.linalg.cholesky(a), P),
    near("cholesky, lower", lambda a: scipy.linalg.cholesky(a, lower=True), P),
    near("inv", lambda a: scipy.linalg.inv(a), A),
    near("det", lambda a: scipy.linalg.det(a), A),
    near("solve", lambda a, b: scipy.linalg.solve(a, b), A, V),
    near("solve, transposed", lambda a, b: scipy.linalg.solve(a, b, transposed=True), A, B),
    *(
        near(f"solve, {kind}", lambda a, b, kind=kind: scipy.linalg.solve(a, b, assume_a=kind), A + A.T, V)
        for kind in ("sym", "pos", "her", "gen", "diagonal", "upper triangular", "lower triangular")
    ),
    near("solve, pos, lower", lambda a, b: scipy.linalg.solve(a, b, lower=True, assume_a="pos"), P, V),
    near("pinv", lambda a: scipy.linalg.pinv(a), TALL),
    near("eigh", lambda a: (scipy.linalg.eigh(a)[0], np.abs(scipy.linalg.eigh(a)[1])), P),
    near("eigvalsh", lambda a: scipy.linalg.eigvalsh(a, lower=False), P),
    near("svd", lambda a: scipy.linalg.svd(a), A),
    near("svdvals", lambda a: scipy.linalg.svdvals(a), TALL),
    near("qr", lambda a: scipy.linalg.qr(a, mode="economic"), TALL),
    near("qr, r", lambda a: scipy.linalg.qr(a, mode="r")[0], TALL),
    near("norm", lambda a: scipy.linalg.norm(a), A),
    near("block_diag", lambda a, b: scipy.linalg.block_diag(a, b), V, B),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)


def test_derivative_of_expm_is_scipys():
    _, dot = cr.jvp(ours.expm, (A,), (P,))
    np.testing.assert_allclose(dot, scipy.linalg.expm_frechet(A, P, compute_expm=False), rtol=1e-10)


def test_trace_of_expm_has_its_transpose_as_gradient():
    np.testing.assert_allclose(cr.grad(lambda a: np.linalg.trace(ours.expm(a)))(A), scipy.linalg.expm(A).T, rtol=1e-12)


def test_only_one_triangle_is_read():
    gradient = cr.grad(lambda a: np.sum(ours.solve_triangular(a, V, lower=True)))(A)
    assert not np.any(np.triu(gradient, 1))
    assert np.all(gradient[np.tril_indices(3)])


def test_what_is_not_covered_raises():
    for f in (
        lambda a: ours.eigh(a, a),
        lambda a: ours.eigh(a, subset_by_index=(0, 1)),
        lambda a: ours.qr(a, pivoting=True),
        lambda a: ours.pinv(a, return_rank=True),
        lambda a: ours.solve(a, V, assume_a="banded"),
    ):
        with pytest.raises(cr.errors.MissingRule, match="not covered"):
            cr.vjp(f, P)
    with pytest.raises(ValueError, match="trans"):
        ours.solve_triangular(A, V, trans=5)
    with pytest.raises(np.linalg.LinAlgError, match="square"):
        ours.expm(B)


def test_a_singular_triangle_raises():
    for n in (3, 40):
        with pytest.raises(np.linalg.LinAlgError):
            ours.solve_triangular(np.zeros((n, n)), np.ones(n))


def test_namespace_falls_back_to_scipys():
    assert ours.toeplitz([1.0, 2.0])[0, 1] == 2.0
    np.testing.assert_allclose(ours.expm(A), scipy.linalg.expm(A))


def test_a_real_function_of_a_matrix_with_negative_eigenvalues_asks_for_a_complex_one():
    a = np.array([[-1.0, 0.2], [0.0, 2.0]])
    for f in (scipy.linalg.sqrtm, scipy.linalg.logm):
        name = f.__name__
        with pytest.raises(cr.TraceError, match="complex") as caught:
            cr.jvp(lambda a: getattr(scipy.linalg, name)(a), (a,), (a,))
        assert caught.value.where.startswith(__file__)
        z = a.astype(complex)
        assert np.allclose(cr.jvp(lambda a: getattr(scipy.linalg, name)(a), (z,), (z,))[0], f(a))


def test_factors_of_a_traced_matrix_are_for_solving_only():
    with pytest.raises(cr.MissingRule, match="lu_solve only"):
        cr.grad(lambda a: np.sum(scipy.linalg.lu_factor(a)[0].diagonal()))(A)
