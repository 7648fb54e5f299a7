"""Factorisations: cholesky, eigh, eig, svd, qr, over stacks of matrices.

    cholesky    S = L L^H          dL = L tril'(L^-1 dS L^-H), tril' halving the diagonal
    eigh        S = V W V^H        T = V^H dS V,   dw = Re diag T,   dV = V (F * T),          F_ij = 1 / (w_j - w_i)
    eig         A = V W V^-1       T = V^-1 dA V,  dw = diag T,      dV = V (F * T) - V c,    c keeps the normalisation
    svd         A = U S V^H        T = U^H dA V,   ds = Re diag T,   G_ij = 1 / (s_j^2 - s_i^2)
                                   dU = U (G * (T S + S T^H) + i Im diag T / S) + (1 - U U^H) dA V / S
                                   dV = V (G * (S T + T^H S)) + (1 - V V^H) dA^H U / S
    qr          A = Q R            T = Q^H dA R^-1, K = tril(T, -1), O = K - K^H + i Im diag T
                                   dR = (T - O) R, dQ = dA R^-1 - Q (T - O)

F and G are zero on the diagonal, and infinite where eigenvalues or singular values coincide: the vectors have no derivative there,
and what uses them gets inf or NaN, never a wrong number. The values alone are differentiable in every symmetric function of them.

cholesky and eigh read one triangle, as NumPy does, and so does the derivative: it is that of the Hermitian matrix with the strict
triangle and the real diagonal of A, and the gradient lies in that triangle. Where A is symmetric by construction (A = X X^T,
A = (B + B^T) / 2), the gradients in X and B are the same as with a gradient spread over both triangles, as JAX and PyTorch give it.

Eigenvectors and singular vectors are determined up to a sign or a phase. Signs are locally constant; of complex eigh and svd the
derivative is that of one continuation (V^H dV real on the diagonal), right in every function that does not depend on the phases.

Source: Giles 2008; Wan and Zhang 2019 for the complex svd; Walter and Lehmann 2010 for qr; Boeddeker et al. 2017 for eig.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.ir.primitive import RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.prims import matrices as mx
from chainrule.prims.linalg import Matrix, cubic, regular, stacked
from chainrule.prims.matrices import MatrixMap, Step, path, plus
from chainrule.prims.shape import draw


def _reciprocal_gaps(values: Array, sums: Array | None = None) -> Array:
    """1 / (v_j - v_i), divided by sums too; zero on the diagonal."""
    gaps = mx.row(values) - mx.column(values)
    if sums is not None:
        gaps = gaps * sums
    eye = mx.identity_mask(values.shape[-1])
    return ops.where(eye, 0.0, ops.reciprocal(ops.where(eye, 1.0, gaps)))


# ---- cholesky[upper](a)


def _cholesky_partial(a: Array, *, out: Array, upper: bool) -> MatrixMap:
    n = a.shape[-1]
    half = np.tri(n, dtype=mx.real_dtype(out.dtype)) - 0.5 * np.eye(n, dtype=mx.real_dtype(out.dtype))
    if upper:
        divided = path(mx.left_divided(mx.adjoint(out), "lower"), mx.right_divided(out, "upper"))
        inner = path(divided, mx.weighted(half.T), mx.right(out))
    else:
        divided = path(mx.left_divided(out, "lower"), mx.right_divided(mx.adjoint(out), "upper"))
        inner = path(divided, mx.weighted(half), mx.left(out))
    return MatrixMap(path(mx.from_triangle(n, lower=not upper), inner), a, out)


def _definite(n: int, *stack: int, imaginary: float = 0.0) -> Matrix:
    a = regular(n, *stack, imaginary=imaginary)
    return a @ np.swapaxes(a, -1, -2).conj()


def _cholesky_samples() -> Iterator[Sample]:
    for upper in (False, True):
        for a in (_definite(3), _definite(1), _definite(2, 2), _definite(2, 0), _definite(2, imaginary=1.0)):
            yield (a,), {"upper": upper}
    yield (np.tril(_definite(3)),), {"upper": False}
    yield (np.zeros((0, 0)),), {"upper": False}


cholesky = RoomPrimitive(
    name="cholesky",
    compute=lambda a, upper: np.linalg.cholesky(a, upper=upper),
    types=lambda a, upper: ArrayType(a.shape, mx.floating(a.dtype)),
    partials=(_cholesky_partial,),
    batching=stacked("cholesky"),
    cost=cubic(1),
    examples=_cholesky_samples,
)

# ---- eigh[lower](a) -> eigenvalues in ascending order, eigenvectors


def _eigh_value(a: Matrix, *, lower: bool) -> tuple[Matrix, Matrix]:
    w, v = np.linalg.eigh(a, "L" if lower else "U")
    return w, v


def _eigh_types(a: ArrayType, *, lower: bool) -> tuple[ArrayType, ArrayType]:
    dtype = mx.floating(a.dtype)
    return ArrayType(a.shape[:-1], mx.real_dtype(dtype)), ArrayType(a.shape, dtype)


def _eigh_values(a: Array, *, out: Any, lower: bool) -> MatrixMap:
    w, v = out
    read = mx.from_triangle(a.shape[-1], lower)
    return MatrixMap(path(read, mx.left(mx.adjoint(v)), mx.paired(v), mx.real_part), a, w)


def _eigh_vectors(a: Array, *, out: Any, lower: bool) -> MatrixMap:
    w, v = out
    gaps = mx.weighted(_reciprocal_gaps(w))
    read = mx.from_triangle(a.shape[-1], lower)
    return MatrixMap(path(read, mx.left(mx.adjoint(v)), mx.right(v), gaps, mx.left(v)), a, v)


def _eigh_samples() -> Iterator[Sample]:
    for lower in (True, False):
        yield (_definite(3),), {"lower": lower}
        yield (regular(3),), {"lower": lower}
    for a in (regular(1), regular(2, 2), regular(2, 0), regular(0)):
        yield (a,), {"lower": True}


eigh = RoomPrimitive(
    name="eigh",
    compute=_eigh_value,
    types=_eigh_types,
    partials=((_eigh_values,), (_eigh_vectors,)),
    batching=stacked("eigh"),
    cost=cubic(9),
    examples=_eigh_samples,
    outputs=2,
)

# ---- eig(a) -> eigenvalues, eigenvectors, both complex


def _complex(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(mx.floating(dtype), np.complex64)


def _eig_value(a: Matrix) -> tuple[Matrix, Matrix]:
    w, v = np.linalg.eig(a)
    return w.astype(_complex(a.dtype)), v.astype(_complex(a.dtype))


def _eig_values(a: Array, *, out: Any) -> MatrixMap:
    w, v = out
    return MatrixMap(path(mx.left_divided(v), mx.paired(v)), a, w)


def _normalised(v: Array) -> Step:
    """t -> t - v c, the columns of v staying of length one and real where they are largest, which is how LAPACK gives them.

    c = Re(v^H t) + i Im(t_m) / v_m for each column, with m the place of its largest element.
    """
    size = ops.absolute(v)
    largest = ops.equal(size, mx.row(ops.reduce_max(size, axes=(v.ndim - 2,)))) if v.shape[-1] else size
    pick = ops.where(largest, ops.reciprocal(ops.where(largest, v, 1.0)), 0.0)
    ties = mx.row(ops.reduce_sum(ops.where(largest, 1.0, 0.0), axes=(v.ndim - 2,)))
    pick = pick / ops.convert(ties, dtype=mx.real_dtype(v.dtype))
    bar = ops.conjugate(v)

    def down(t: Array) -> Array:
        return mx.row(ops.reduce_sum(t, axes=(t.ndim - 2,)))

    return plus(
        mx.identity,
        Step(lambda t: -v * ops.real(down(bar * t)), lambda ct: -bar * ops.real(down(v * ct))),
        Step(lambda t: -1j * v * ops.imag(down(pick * t)), lambda ct: 1j * pick * ops.real(down(1j * v * ct))),
    )


def _eig_vectors(a: Array, *, out: Any) -> MatrixMap:
    w, v = out
    gaps = mx.weighted(_reciprocal_gaps(w))
    return MatrixMap(path(mx.left_divided(v), mx.right(v), gaps, mx.left(v), _normalised(v)), a, v)


def _eig_samples() -> Iterator[Sample]:
    yield (regular(3),), {}
    yield (np.array([[1.0, 2.0, 0.3], [-2.0, 1.5, 0.1], [0.2, 0.4, -1.0]]),), {}
    yield (regular(1),), {}
    yield (regular(2, 2),), {}
    yield (regular(2, 0),), {}
    yield (regular(0, 2, 2),), {}
    yield (regular(3, imaginary=1.0),), {}


eig = RoomPrimitive(
    name="eig",
    compute=_eig_value,
    types=lambda a: (ArrayType(a.shape[:-1], _complex(a.dtype)), ArrayType(a.shape, _complex(a.dtype))),
    partials=((_eig_values,), (_eig_vectors,)),
    batching=stacked("eig"),
    cost=cubic(25),
    examples=_eig_samples,
    outputs=2,
)

# ---- svd(a) -> u, singular values in descending order, v^H; reduced


def _svd_types(a: ArrayType) -> tuple[ArrayType, ArrayType, ArrayType]:
    dtype, (m, n), stack = mx.floating(a.dtype), a.shape[-2:], a.shape[:-2]
    k = min(m, n)
    return (
        ArrayType((*stack, m, k), dtype),
        ArrayType((*stack, k), mx.real_dtype(dtype)),
        ArrayType((*stack, k, n), dtype),
    )


def _singular_gaps(s: Array) -> Array:
    return _reciprocal_gaps(s, mx.row(s) + mx.column(s))


def _core(u: Array, vh: Array) -> Step:
    """t -> U^H t V."""
    return path(mx.left(mx.adjoint(u)), mx.right(mx.adjoint(vh)))


def _svd_left(a: Array, *, out: Any) -> MatrixMap:
    u, s, vh = out
    k = s.shape[-1]
    rotation = path(mx.weighted(mx.row(s)), plus(mx.identity, mx.adjugated), mx.weighted(_singular_gaps(s)))
    if u.dtype.kind == "c":
        rotation = plus(rotation, path(mx.imaginary_diagonal(k), mx.weighted(ops.reciprocal(mx.row(s)))))
    step = path(_core(u, vh), rotation, mx.left(u))
    if a.shape[-2] > k:
        scale = mx.weighted(ops.reciprocal(mx.row(s)))
        step = plus(step, path(mx.right(mx.adjoint(vh)), scale, mx.without_span(u)))
    return MatrixMap(step, a, u)


def _svd_values(a: Array, *, out: Any) -> MatrixMap:
    u, s, vh = out
    return MatrixMap(path(mx.left(mx.adjoint(u)), mx.paired(mx.adjoint(vh)), mx.real_part), a, s)


def _svd_right(a: Array, *, out: Any) -> MatrixMap:
    u, s, vh = out
    k, v = s.shape[-1], mx.adjoint(vh)
    rotation = path(mx.weighted(mx.column(s)), plus(mx.identity, mx.adjugated), mx.weighted(_singular_gaps(s)))
    step = path(_core(u, vh), rotation, mx.left(v))
    if a.shape[-1] > k:
        scale = mx.weighted(ops.reciprocal(mx.row(s)))
        step = plus(step, path(mx.adjugated, mx.right(u), scale, mx.without_span(v)))
    return MatrixMap(path(step, mx.adjugated), a, vh)


def _svd_samples() -> Iterator[Sample]:
    for a in (regular(3), draw(4, 2), draw(2, 3), regular(1), regular(2, 2), draw(2, 3, 2), draw(0, 2, 2), draw(0, 2)):
        yield (a,), {}


svd = RoomPrimitive(
    name="svd",
    compute=lambda a: tuple(np.linalg.svd(a, full_matrices=False)),
    types=_svd_types,
    partials=((_svd_left,), (_svd_values,), (_svd_right,)),
    batching=stacked("svd"),
    cost=cubic(20),
    examples=_svd_samples,
    outputs=3,
)

# ---- qr(a) -> q, r; reduced, for at least as many rows as columns


def _qr_types(a: ArrayType) -> tuple[ArrayType, ArrayType]:
    dtype, n = mx.floating(a.dtype), a.shape[-1]
    return ArrayType(a.shape, dtype), ArrayType((*a.shape[:-2], n, n), dtype)


def _triangular(n: int, is_complex: bool) -> Step:
    """t -> t - O(t), upper triangular with a real diagonal: what of Q^H dA R^-1 belongs to R."""
    turn = path(mx.kept(np.tri(n, k=-1, dtype=bool)), plus(mx.identity, path(mx.adjugated, mx.negated)))
    if is_complex:
        turn = plus(turn, mx.imaginary_diagonal(n))
    return plus(mx.identity, path(turn, mx.negated))


def _qr_q(a: Array, *, out: Any) -> MatrixMap:
    q, r = out
    part = _triangular(r.shape[-1], r.dtype.kind == "c")
    rest = plus(mx.identity, path(mx.left(mx.adjoint(q)), part, mx.left(q), mx.negated))
    return MatrixMap(path(mx.right_divided(r, "upper"), rest), a, q)


def _qr_r(a: Array, *, out: Any) -> MatrixMap:
    q, r = out
    part = _triangular(r.shape[-1], r.dtype.kind == "c")
    return MatrixMap(path(mx.right_divided(r, "upper"), mx.left(mx.adjoint(q)), part, mx.right(r)), a, r)


def _qr_samples() -> Iterator[Sample]:
    for a in (regular(3), draw(4, 2), regular(1), draw(2, 3, 2), draw(0, 3, 2), draw(2, 0)):
        yield (a,), {}
    yield (draw(3, 2) + 1j * draw(2, 3).T,), {}
    yield (regular(2, imaginary=1.0),), {}


qr = RoomPrimitive(
    name="qr",
    compute=lambda a: tuple(np.linalg.qr(a)),
    types=_qr_types,
    partials=((_qr_q,), (_qr_r,)),
    batching=stacked("qr"),
    cost=cubic(4),
    examples=_qr_samples,
    outputs=2,
)

# ---- complement[of](a): an orthonormal basis C of what the columns (or rows) of a leave out, as the full factorisation gives it

_FULL = {
    "svd_left": lambda a: np.linalg.svd(a)[0][..., :, a.shape[-1] :],
    "svd_right": lambda a: np.swapaxes(np.linalg.svd(a)[2][..., a.shape[-2] :, :], -1, -2).conj(),
    "qr": lambda a: np.linalg.qr(a, "complete")[0][..., :, a.shape[-1] :],
}


def _complement_types(a: ArrayType, *, of: str) -> ArrayType:
    few, many = sorted(a.shape[-2:])
    return ArrayType((*a.shape[:-2], many, many - few), mx.floating(a.dtype))


def _complement_partial(a: Array, *, out: Array, of: str) -> MatrixMap:
    """From A C = 0 follows dC = -A^+ dA C, and from A^H C = 0 the same of A^H, for full rank and functions of C C^H."""
    p = ops.pinv(a, rcond=1e-15, hermitian=False)
    if of == "svd_right":
        return MatrixMap(path(mx.right(out), mx.left(p), mx.negated), a, out)
    return MatrixMap(path(mx.adjugated, mx.right(out), mx.left(mx.adjoint(p)), mx.negated), a, out)


def _complement_samples() -> Iterator[Sample]:
    # One column is left out: its sign is the only choice, so that differences make sense.
    yield (draw(3, 2),), {"of": "svd_left"}
    yield (draw(3, 2),), {"of": "qr"}
    yield (draw(2, 3),), {"of": "svd_right"}
    yield (draw(2, 2, 3),), {"of": "svd_right"}


complement = RoomPrimitive(
    name="complement",
    compute=lambda a, of: np.ascontiguousarray(_FULL[of](a)),
    types=_complement_types,
    partials=(_complement_partial,),
    batching=stacked("complement"),
    cost=cubic(20),
    examples=_complement_samples,
)
