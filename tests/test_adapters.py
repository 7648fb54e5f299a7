"""Problems really solved with SciPy, from functions in plain NumPy."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares, minimize, root
from scipy.sparse import issparse
from scipy.sparse.linalg import cg, lsmr

import chainrule as cr


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


METHODS = ["BFGS", "L-BFGS-B", "Newton-CG", "dogleg", "trust-exact", "trust-ncg", "trust-krylov", "trust-constr"]


@pytest.mark.parametrize("method", [None, "Nelder-Mead", *METHODS])
def test_minimize_finds_the_minimum(method):
    convex = lambda x: np.sum(np.cosh(x - 1.0)) + np.sum((x[1:] - x[:-1]) ** 2)
    start = np.array([0.5, 2.0, 1.5])
    for f in (convex,) if method in ("dogleg", "Nelder-Mead") else (convex, rosenbrock):
        found = minimize(x0=start, **cr.for_minimize(f, method), options={"maxiter": 2000})
        np.testing.assert_allclose(found.x, np.ones(3), atol=1e-3)


def test_minimize_passes_args_on():
    found = minimize(x0=np.zeros(2), args=(3.0,), **cr.for_minimize(lambda x, a: np.sum((x - a) ** 2), "trust-ncg"))
    np.testing.assert_allclose(found.x, [3.0, 3.0])


def test_trust_constr_gets_a_sparse_hessian():
    kwargs = cr.for_minimize(rosenbrock, "trust-constr")
    assert issparse(kwargs["hess"](np.ones(200)))
    found = minimize(x0=np.full(120, 0.9), **kwargs, options={"maxiter": 60})
    np.testing.assert_allclose(found.x, np.ones(120), atol=1e-2)


def extended(x):
    """The extended Rosenbrock function as residuals: a sparse least-squares problem."""
    return np.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


@pytest.mark.parametrize(
    ("n", "method", "sparse"), [(400, None, True), (400, "dogbox", True), (10, None, False), (10, "lm", False)]
)
def test_least_squares_is_solved(n, method, sparse):
    kwargs = cr.for_least_squares(extended, method)
    assert issparse(kwargs["jac"](np.zeros(n))) == sparse
    found = least_squares(x0=np.full(n, -1.0), **kwargs)
    np.testing.assert_allclose(found.x, np.ones(n), atol=1e-6)


def test_circle_is_fitted():
    angle = np.linspace(0, 3, 40)
    points = np.array([1.0, 2.0]) + 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    residuals = lambda p: np.sqrt(np.sum((points - p[:2]) ** 2, axis=1)) - p[2]
    np.testing.assert_allclose(least_squares(x0=np.ones(3), **cr.for_least_squares(residuals)).x, [1, 2, 3], atol=1e-8)


@pytest.mark.parametrize("method", [None, "hybr", "lm", "broyden1"])
def test_root_is_found(method):
    f = lambda x: [x[0] ** 3 + x[1] - 2, x[0] - x[1]]
    g = lambda x: np.array(f(x))
    found = root(x0=np.array([1.2, 0.7]), **cr.for_root(g, method))
    assert found.success
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-5)


@pytest.mark.parametrize("method", ["BDF", "Radau", "LSODA", "RK45"])
def test_stiff_reaction_is_integrated(method):
    def robertson(t, y):
        a, b = 0.04 * y[0], 1e4 * y[1] * y[2]
        c = 3e7 * y[1] ** 2
        return np.array([b - a, a - b - c, c])

    end = 0.1 if method == "RK45" else 40.0
    found = solve_ivp(t_span=(0, end), y0=[1.0, 0.0, 0.0], rtol=1e-7, atol=1e-10, **cr.for_solve_ivp(robertson, method))
    assert found.success
    np.testing.assert_allclose(found.y.sum(axis=0), 1, rtol=1e-6)
    if end == 40.0:
        np.testing.assert_allclose(found.y[:, -1], [0.7158271, 9.185534e-06, 0.2841637], rtol=1e-4)


def test_diffusion_has_a_sparse_jacobian():
    def diffusion(t, y):
        padded = np.pad(y, 1)
        return (padded[2:] - 2 * y + padded[:-2]) * (y.size + 1) ** 2 + y**2

    y0 = np.sin(np.pi * np.arange(1, 200) / 200)
    kwargs = cr.for_solve_ivp(diffusion)
    assert issparse(kwargs["jac"](0.0, y0))
    found = solve_ivp(t_span=(0, 0.1), y0=y0, rtol=1e-6, atol=1e-8, **kwargs)
    plain = solve_ivp(diffusion, (0, 0.1), y0, method="BDF", rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.y[:, -1], plain.y[:, -1], rtol=1e-4)


# ---- operators

X = np.random.default_rng(0).uniform(0.5, 1.5, 7)


@pytest.mark.parametrize(
    "f", [lambda x: np.cumsum(x) * x, lambda x: (x[:3] * x[3:6], np.sum(x), np.ones(2)), rosenbrock]
)
def test_jacobian_operator_multiplies_as_the_matrix(f):
    J, dense = cr.jacobian_operator(f)(X), cr.jacobian(f, sparse=True)(X).toarray()
    rng = np.random.default_rng(1)
    v, w, vs, ws = (
        rng.normal(size=7),
        rng.normal(size=len(dense)),
        rng.normal(size=(7, 3)),
        rng.normal(size=(len(dense), 3)),
    )
    assert J.shape == dense.shape
    for found, expected in ((J @ v, dense @ v), (J.T @ w, dense.T @ w), (J @ vs, dense @ vs), (J.T @ ws, dense.T @ ws)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_hessian_operator_multiplies_as_the_matrix():
    H, dense = cr.hessian_operator(rosenbrock)(X), cr.hessian(rosenbrock)(X)
    np.testing.assert_allclose(H @ np.eye(7), dense, rtol=1e-12)
    np.testing.assert_allclose(H.T @ X, dense @ X, rtol=1e-12)


def test_newton_step_is_solved_without_a_matrix():
    f = lambda x: np.sum(np.cosh(x)) + np.sum((x[1:] - x[:-1]) ** 2)
    g = cr.grad(f)(X)
    step, info = cg(cr.hessian_operator(f)(X), g, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(step, np.linalg.solve(cr.hessian(f)(X), g), rtol=1e-8)
    J = cr.jacobian_operator(lambda x: np.concatenate([x**2, np.cumsum(x)]))(X)
    np.testing.assert_allclose(lsmr(J, J @ X, atol=1e-14, btol=1e-14)[0], X, rtol=1e-8)
