"""Derivatives in the form that SciPy's solvers take, and Jacobians and Hessians as matrix-free linear operators.

Each adapter returns the keyword arguments of one SciPy function:

    minimize(x0=x0, **for_minimize(f, method="trust-krylov"))
    least_squares(x0=x0, **for_least_squares(residuals))
    root(x0=x0, **for_root(f))
    solve_ivp(t_span=(0, 1), y0=y0, **for_solve_ivp(f, method="BDF"))
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from chainrule.api import hessian, hvp, jacobian, value_and_grad
from chainrule.api.arguments import Argnums
from chainrule.api.hessians import gradient_graph
from chainrule.api.jacobians import jacobian_graph
from chainrule.ir.types import Array

if TYPE_CHECKING:
    from chainrule.transforms.linearised import Linearised

__all__ = [
    "for_least_squares",
    "for_minimize",
    "for_root",
    "for_solve_ivp",
    "hessian_operator",
    "jacobian_operator",
]

Sparse = bool | Literal["auto"]

# What each method of scipy.optimize.minimize uses beyond values.
_NO_GRADIENT = {"nelder-mead", "powell", "cobyla", "cobyqa"}
_HESSIAN = {"dogleg", "trust-exact"}
_PRODUCTS = {"newton-cg", "trust-ncg", "trust-krylov"}


def for_minimize(f: Callable[..., Any], method: str | None = None, *, sparse: Sparse = "auto") -> dict[str, Any]:
    """The keyword arguments of scipy.optimize.minimize for a scalar function of one array (and `args`).

    Value and gradient come from one sweep. Methods that use second derivatives get them as they take them: dogleg and trust-exact
    the Hessian, Newton-CG, trust-ncg and trust-krylov its products with vectors, trust-constr the Hessian, sparse where that pays.

    >>> from scipy.optimize import minimize
    >>> minimize(x0=np.zeros(2), **for_minimize(lambda x: np.sum((x - 1.0) ** 4), method="trust-exact")).x
    array([1., 1.])
    """
    name = (method or "").lower()
    out: dict[str, Any] = {} if method is None else {"method": method}
    if name in _NO_GRADIENT:
        return {"fun": f, **out}
    out |= {"fun": value_and_grad(f), "jac": True}
    if name in _HESSIAN:
        out["hess"] = hessian(f)
    elif name in _PRODUCTS:
        out["hessp"] = hvp(f)
    elif name == "trust-constr":
        out["hess"] = hessian(f, sparse=sparse)
    return out


def for_least_squares(f: Callable[..., Any], method: str | None = None, *, sparse: Sparse = "auto") -> dict[str, Any]:
    """The keyword arguments of scipy.optimize.least_squares for the residuals f of one array (and `args`).

    The Jacobian is sparse where that saves most of its entries and of the work, except for method "lm", which takes no sparse ones.

    >>> from scipy.optimize import least_squares
    >>> least_squares(x0=np.ones(2), **for_least_squares(lambda x: np.array([x[0] ** 2 - 4, x[0] * x[1] - 6]))).x
    array([2., 3.])
    """
    derivative = jacobian(_vector(f), sparse=False if method == "lm" else sparse)
    return {"fun": f, "jac": derivative} | ({} if method is None else {"method": method})


def for_root(f: Callable[..., Any], method: str | None = None) -> dict[str, Any]:
    """The keyword arguments of scipy.optimize.root for a function of one array with as many values (and `args`).

    Methods hybr and lm use the Jacobian; the others are quasi-Newton, and get the function alone.

    >>> from scipy.optimize import root
    >>> root(x0=np.ones(2), **for_root(lambda x: np.array([x[0] + x[1] - 3, x[0] * x[1] - 2]) * np.exp(x))).success
    True
    """
    out: dict[str, Any] = {"fun": f} if method is None else {"fun": f, "method": method}
    if method in (None, "hybr", "lm"):
        out["jac"] = jacobian(_vector(f))
    return out


def for_solve_ivp(f: Callable[..., Any], method: str = "BDF", *, sparse: Sparse = "auto") -> dict[str, Any]:
    """The keyword arguments of scipy.integrate.solve_ivp for dy/dt = f(t, y) (and `args`).

    The implicit methods (BDF, Radau, LSODA) get the Jacobian by y, sparse where that pays and the method takes it.

    >>> from scipy.integrate import solve_ivp
    >>> bool(solve_ivp(t_span=(0, 1), y0=np.ones(2), **for_solve_ivp(lambda t, y: -1000 * y**3, "Radau")).success)
    True
    """
    out: dict[str, Any] = {"fun": f, "method": method}
    if method in ("BDF", "Radau", "LSODA"):
        out["jac"] = jacobian(_vector(f), 1, sparse=False if method == "LSODA" else sparse)
    return out


def _vector(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with its values as one array, as SciPy takes lists and scalars too."""

    @functools.wraps(f)
    def vector(*args: Any, **kwargs: Any) -> Any:
        return np.reshape(np.asarray(f(*args, **kwargs)), (-1,))

    return vector


# ---- operators


def jacobian_operator(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """x -> the Jacobian of f at x as a scipy.sparse.linalg.LinearOperator, which is multiplied by sweeps and never formed.

    Rows are the elements of the outputs, columns those of the inputs, flattened one after the other. f runs once; each product
    with a vector takes one sweep, forward for J v, reverse for J^T v, and a product with a matrix one batch of them.

    >>> J = jacobian_operator(lambda x: np.cumsum(x) ** 2)(np.ones(3))
    >>> J @ np.ones(3), J.T @ np.ones(3)
    (array([ 2.,  8., 18.]), array([12., 10.,  6.]))
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _operator(jacobian_graph(f, argnums)(*args, **kwargs), symmetric=False)

    return wrapped


def hessian_operator(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """x -> the Hessian of a scalar f at x as a scipy.sparse.linalg.LinearOperator: forward sweeps over the gradient.

    >>> hessian_operator(lambda x: np.sum(x**3))(np.arange(3.0)) @ np.ones(3)
    array([ 0.,  6., 12.])
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _operator(gradient_graph(f, argnums)(*args, **kwargs), symmetric=True)

    return wrapped


def _operator(graph: Linearised, *, symmetric: bool) -> Any:
    from scipy.sparse.linalg import LinearOperator  # these load at first use

    from chainrule.transforms.compress import split
    from chainrule.transforms.linearised import pull, push, swept

    m, n = sum(graph.output_sizes), sum(graph.input_sizes)

    def matmat(v: Array) -> Array:
        found = dict(
            zip(graph.roots, swept(graph, push, split(graph, graph.inputs, np.asarray(v).T), graph.roots), strict=True)
        )
        size = np.shape(v)[1]
        rows = [
            np.zeros((size, k)) if w is None else found[w].reshape(size, k)
            for w, k in zip(graph.outputs, graph.output_sizes, strict=True)
        ]
        return np.concatenate(rows, axis=1).T

    def rmatmat(v: Array) -> Array:
        seeds: dict[int, Array] = {}
        start, rows = 0, np.conj(np.asarray(v)).T
        for w, k in zip(graph.outputs, graph.output_sizes, strict=True):
            if w is not None:
                kind = graph.types[w]
                part = rows[:, start : start + k].astype(kind.dtype).reshape(-1, *kind.shape)
                seeds[w] = seeds[w] + part if w in seeds else part
            start += k
        found = swept(graph, pull, seeds, graph.inputs) if seeds else []
        flat = [x.reshape(len(x), prod(x.shape[1:])) for x in found] or [np.zeros((rows.shape[0], n))]
        return np.conj(np.concatenate(flat, axis=1)).T

    back = matmat if symmetric else rmatmat
    return LinearOperator(
        shape=(m, n),
        matvec=lambda v: matmat(np.reshape(v, (n, 1)))[:, 0],
        rmatvec=lambda v: back(np.reshape(v, (m, 1)))[:, 0],
        matmat=matmat,
        rmatmat=back,
        dtype=np.result_type(*(x.dtype for x in graph.values)),
    )
