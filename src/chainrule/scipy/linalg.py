"""scipy.linalg, differentiable: what `scipy.linalg.f(x)`, called by module, becomes on traced values.

Stacks of matrices work throughout. Options that only say how to compute (`overwrite_a`, `check_finite`, `lapack_driver`) make no
difference; those that change the result and are not covered raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import ops
from chainrule.numpy import linalg, norms
from chainrule.numpy.arguments import as_array
from chainrule.numpy.norms import as_floating
from chainrule.prims import matrices as mx
from chainrule.trace.intercept import contains_tracer, guarded, intercepts


def _refuse(name: str, **options: bool) -> None:
    """Raise for options that are given and have no rule."""
    given = [option for option, is_given in options.items() if is_given]
    if given:
        raise MissingRule(
            f"`scipy.linalg.{name}` with {', '.join(given)} is not covered: chainrule has no rule for it",
            "Call it without, or give the derivative with cr.custom_jvp or cr.custom_vjp.",
        )


# ---- solving


def inv(a: Any, overwrite_a: bool = False, check_finite: bool = True, **_: Any) -> Any:
    """SciPy's inv."""
    return linalg.inv(a)


def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """SciPy's det."""
    return linalg.det(a)


def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    assume_a: str | None = None,
    transposed: bool = False,
) -> Any:
    """SciPy's solve; of a matrix that is assumed symmetric, definite or triangular, one triangle is read."""
    a = _assumed(as_floating(a), assume_a, lower)
    return linalg.solve(mx.transposed(a) if transposed else a, b)


def _assumed(a: Any, structure: str | None, lower: bool) -> Any:
    """The matrix that SciPy reads."""
    n = a.shape[-1]
    if structure in (None, "gen", "general"):
        return a
    if structure in ("her", "hermitian", "pos", "positive definite"):
        return mx.from_triangle(n, lower).apply(a)
    if structure in ("sym", "symmetric") and a.dtype.kind != "c":
        return mx.from_triangle(n, lower).apply(a)
    masks = {"diagonal": np.eye(n), "lower triangular": np.tri(n), "upper triangular": np.tri(n).T}
    if structure in masks:
        return ops.where(masks[structure] != 0, a, 0.0)
    raise MissingRule(
        f"`scipy.linalg.solve` with assume_a={structure!r} is not covered: chainrule has no rule for it",
        "Pass the whole matrix, and leave assume_a out.",
    )


def pinv(a: Any, *, atol: Any = None, rtol: Any = None, return_rank: bool = False, check_finite: bool = True) -> Any:
    """SciPy's pinv."""
    _refuse("pinv", atol=bool(atol), return_rank=return_rank)
    a = as_floating(a)
    return linalg.pinv(a, rtol=rtol)


def _transposition(trans: Any) -> int:
    known = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}
    if trans not in known:
        raise ValueError(f"trans is 0, 1, 2, 'N', 'T' or 'C', not {trans!r}")
    return known[trans]


def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """SciPy's solve_triangular: one triangle of a is read."""
    a, b = as_floating(a), as_floating(b)
    if unit_diagonal:
        a = ops.where(mx.identity_mask(a.shape[-1]), 1.0, a)
    how = _transposition(trans)
    if how:
        a, lower = (mx.transposed(a) if how == 1 else mx.adjoint(a)), not lower
    if b.ndim == 1:
        found = ops.solve_triangular(a, mx.column(b), lower=bool(lower), singular="raise")
        return ops.reshape(found, shape=b.shape)
    return ops.solve_triangular(a, b, lower=bool(lower), singular="raise")


# ---- factorisations


def cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """SciPy's cholesky: upper by default, and read from that triangle."""
    return linalg.cholesky(a, upper=not lower)


def cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, bool]:
    """SciPy's cho_factor, with zeros in the triangle that SciPy leaves undefined."""
    return cholesky(a, lower), lower


def cho_solve(c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    """SciPy's cho_solve."""
    c, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    return solve_triangular(c, solve_triangular(c, b, first, lower), second, lower)


def eigh(
    a: Any,
    b: Any = None,
    *,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    """SciPy's eigh of one matrix; the vectors are those of NumPy's LAPACK driver, which may differ from SciPy's in their sign."""
    _refuse("eigh", b=b is not None, subset=subset_by_index is not None or subset_by_value is not None)
    w, v = linalg.eigh(a, "L" if lower else "U")
    return w if eigvals_only else (w, v)


def eigvalsh(a: Any, b: Any = None, *, lower: bool = True, **options: Any) -> Any:
    """SciPy's eigvalsh of one matrix."""
    return eigh(a, b, lower=lower, eigvals_only=True, **options)


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """SciPy's svd."""
    found = linalg.svd(a, full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


def svdvals(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """SciPy's svdvals."""
    return linalg.svdvals(a)


def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> Any:
    """SciPy's qr, in the modes full, economic and r."""
    _refuse("qr", pivoting=pivoting, raw=mode == "raw")
    modes = {"full": "complete", "economic": "reduced", "r": "complete"}
    if mode not in modes:
        raise ValueError("Mode argument should be one of ['full', 'r', 'economic', 'raw']")
    q, r = linalg.qr(a, modes[mode])
    return (r,) if mode == "r" else (q, r)


# ---- functions and forms of matrices


def _square(a: Any) -> Any:
    a = as_floating(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("The input array must be at least two-dimensional, and square in its last two axes")
    return a


def expm(A: Any) -> Any:
    """SciPy's expm, the exponential of matrices."""
    return ops.expm(_square(A))


def logm(A: Any, disp: Any = None) -> Any:
    """SciPy's logm, the principal logarithm; that of a real matrix has to be real."""
    return ops.logm(_square(A))


def sqrtm(A: Any, disp: Any = None, blocksize: Any = None) -> Any:
    """SciPy's sqrtm, the principal square root; that of a real matrix has to be real."""
    return ops.sqrtm(_square(A))


# ---- equations


def _sum_of_products(a: Any, b: Any, q: Any) -> Any:
    """X of a X + X b = q, by the equations of all its elements."""
    m, n = a.shape[-1], b.shape[-1]
    left = np.kron(a, np.eye(n)) + np.kron(np.eye(m), np.swapaxes(b, 0, 1))
    return np.reshape(linalg.solve(left, np.reshape(q, (m * n,))), (m, n))


def solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    """SciPy's solve_sylvester, by a system of as many equations as q has elements."""
    return _sum_of_products(as_floating(a), as_floating(b), as_floating(q))


def solve_continuous_lyapunov(a: Any, q: Any) -> Any:
    """SciPy's solve_continuous_lyapunov: a X + X a^H = q."""
    a = as_floating(a)
    return _sum_of_products(a, mx.adjoint(a), as_floating(q))


def solve_discrete_lyapunov(a: Any, q: Any, method: str | None = None) -> Any:
    """SciPy's solve_discrete_lyapunov: a X a^H - X + q = 0."""
    a, q = as_floating(a), as_floating(q)
    n = a.shape[-1]
    left = np.eye(n * n) - np.kron(a, ops.conjugate(a))
    return np.reshape(linalg.solve(left, np.reshape(q, (n * n,))), (n, n))


class _Factored:
    """What lu_factor gives of a traced matrix: something to solve with."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix

    def __getattr__(self, name: str) -> Any:
        raise MissingRule(
            "the factors that `scipy.linalg.lu_factor` gives of a traced matrix can be passed to lu_solve only",
            "Use scipy.linalg.cholesky or qr for factors, or numpy.linalg.slogdet for the determinant.",
        )


def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    """SciPy's lu_factor, for lu_solve."""
    return _Factored(_square(a)), None


def lu_solve(lu_and_piv: Any, b: Any, trans: Any = 0, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    """SciPy's lu_solve, with factors of a traced matrix or of a plain one."""
    lu, pivots = lu_and_piv
    if not isinstance(lu, _Factored):
        if not contains_tracer((lu, b)):
            from scipy.linalg import _decomp_lu  # where interception does not stand in for it

            return _decomp_lu.lu_solve(lu_and_piv, b, trans, overwrite_b, check_finite)
        lu = _Factored(_multiplied(lu, pivots))
    how = _transposition(trans)
    a = lu.matrix
    return linalg.solve(a if how == 0 else mx.transposed(a) if how == 1 else mx.adjoint(a), b)


def _multiplied(lu: Any, pivots: Any) -> Any:
    """The matrix that has these factors, whose rows were exchanged in the order of the pivots."""
    n = lu.shape[-1]
    if lu.ndim != 2:
        raise MissingRule(
            "`scipy.linalg.lu_solve` with a stack of factors is not covered", "Solve with one matrix at a time."
        )
    rows = np.arange(n)
    for i, p in enumerate(pivots):
        rows[[i, p]] = rows[[p, i]]
    return ((np.tril(lu, -1) + np.eye(n)) @ np.triu(lu))[np.argsort(rows)]


def lstsq(
    a: Any,
    b: Any,
    cond: Any = None,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    lapack_driver: Any = None,
) -> Any:
    """SciPy's lstsq."""
    return tuple(np.linalg.lstsq(as_floating(a), as_floating(b), cond))


def eigvals(a: Any, b: Any = None, overwrite_a: bool = False, check_finite: bool = True, **options: Any) -> Any:
    """SciPy's eigvals of one matrix."""
    _refuse("eigvals", b=b is not None, **{name: bool(given) for name, given in options.items()})
    return np.linalg.eigvals(as_floating(a)) + 0j


def polar(a: Any, side: str = "right") -> tuple[Any, Any]:
    """SciPy's polar decomposition, by singular values."""
    if side not in ("right", "left"):
        raise ValueError("`side` must be either 'right' or 'left'")
    w, s, vh = linalg.svd(as_floating(a), False)
    outer = mx.adjoint(vh) if side == "right" else w
    return w @ vh, (outer * s) @ mx.adjoint(outer)


def norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True) -> Any:
    """SciPy's norm."""
    return norms.norm(a, ord, axis, keepdims)


def block_diag(*arrs: Any) -> Any:
    """SciPy's block_diag."""
    blocks = [as_array(x) for x in arrs] or [np.zeros((1, 0))]
    blocks = [x if x.ndim > 1 else ops.reshape(x, shape=(1, x.size)) for x in blocks]
    if any(x.ndim != 2 for x in blocks):
        raise ValueError("arguments in the following positions must be 2-dimensional")
    width = sum(x.shape[1] for x in blocks)
    rows, start = [], 0
    for x in blocks:
        key = (slice(None), slice(start, start + x.shape[1]))
        rows.append(ops.place(x, key=key, shape=(x.shape[0], width)))
        start += x.shape[1]
    return ops.concatenate(*rows, axis=0)


def toeplitz(c: Any, r: Any = None) -> Any:
    """SciPy's toeplitz: the matrix of a first column and a first row that is constant along its diagonals."""
    c = np.ravel(as_array(c))
    r = ops.conjugate(c) if r is None else np.ravel(as_array(r))
    n, m = c.size, r.size
    return np.concatenate([c[::-1], r[1:]])[n - 1 - np.arange(n)[:, None] + np.arange(m)]


def circulant(c: Any) -> Any:
    """SciPy's circulant: the matrix whose columns are a vector turned round."""
    c = np.ravel(as_array(c))
    return c[(np.arange(c.size)[:, None] - np.arange(c.size)) % c.size]


def hankel(c: Any, r: Any = None) -> Any:
    """SciPy's hankel: the matrix of a first column and a last row that is constant along its antidiagonals."""
    c = np.ravel(as_array(c))
    r = np.zeros(c.size) if r is None else np.ravel(as_array(r))
    return np.concatenate([c, r[1:]])[np.arange(c.size)[:, None] + np.arange(r.size)]


def _banded(ab: Any, below: int, above: int) -> Any:
    """The matrix whose diagonals are the rows of ab, the uppermost first: A[i, j] = ab[above + i - j, j]."""
    n = ab.shape[1]
    i, j = np.indices((n, n))
    row = above + i - j
    inside = (row >= 0) & (row <= below + above)
    return ops.where(inside, ab[np.where(inside, row, 0), j], np.zeros((), ab.dtype))


def solve_banded(
    l_and_u: tuple[int, int],
    ab: Any,
    b: Any,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """SciPy's solve_banded, by the solution with the whole matrix."""
    below, above = l_and_u
    ab, b = as_floating(ab), as_array(b)
    if below + above + 1 != ab.shape[0]:
        raise ValueError(f"invalid values for the number of lower and upper diagonals: {l_and_u} of {ab.shape[0]} rows")
    if ab.shape[1] != b.shape[0]:
        raise ValueError("shapes of ab and b are not compatible.")
    return solve(_banded(ab, int(below), int(above)), b)


def solveh_banded(
    ab: Any,
    b: Any,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    lower: bool = False,
    check_finite: bool = True,
) -> Any:
    """SciPy's solveh_banded, by the solution with the whole matrix."""
    ab, b = as_floating(ab), as_array(b)
    if ab.shape[1] != b.shape[0]:
        raise ValueError("shapes of ab and b are not compatible.")
    width = ab.shape[0] - 1
    half = _banded(ab, width, 0) if lower else _banded(ab, 0, width)
    across = np.swapaxes(half, 0, 1)
    return solve(half + np.where(np.eye(ab.shape[1], dtype=bool), 0.0, ops.conjugate(across)), b)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(inv, det, solve, pinv, solve_triangular, cholesky, cho_factor, cho_solve),
        *(eigh, eigvalsh, svd, svdvals, qr, expm, norm, block_diag),
        *(toeplitz, circulant, hankel, solve_banded, solveh_banded, logm, sqrtm, solve_sylvester),
        *(solve_continuous_lyapunov, solve_discrete_lyapunov, lu_factor, lu_solve, lstsq, eigvals, polar),
    )
}
for _name, _function in _FUNCTIONS.items():
    # What lu_factor gives of a traced matrix is not itself traced.
    intercepts("scipy.linalg", _name, always=_name == "lu_solve")(_function)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    import scipy.linalg

    return guarded(scipy.linalg, name)


# The distances of scipy.spatial have imported it by name.
intercepts("scipy.spatial.distance", "norm", by_globals=True)(norm)
