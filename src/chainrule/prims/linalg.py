"""Linear algebra without factors: solve, inv, pinv, det, slogdet and the Euclidean norm, over stacks of matrices.

    solve       A x = b            dx = A^-1 (db - dA x)
    inv         B = A^-1           dB = -B dA B
    det         d = det A          dd = tr(adj(A) dA)
    slogdet     s, l               dl = Re tr(A^-1 dA),  ds = i s Im tr(A^-1 dA)
    pinv        P = A^+            dP = -P dA P + P P^H dA^H (1 - A P) + (1 - P A) dA^H P^H P     (constant rank)
    norm        r = |x|            dr = Re(sum(conj(x) dx)) / r, and 0 at x = 0

Source: Giles, Collected matrix derivative results for forward and reverse mode AD, 2008; Golub and Pereyra 1973 for pinv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit, WeightedSum
from chainrule.prims import matrices as mx
from chainrule.prims.matrices import MatrixMap, Step, path, plus
from chainrule.prims.reduce import Axes, reduced
from chainrule.prims.shape import draw

Matrix = np.ndarray[Any, Any]


def stacked(name: str) -> Callable[..., Any]:
    """Batching for operations of one stack of matrices: the batch is one more axis of the stack."""

    def rule(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return ops[name](args[0], **params)

    return rule


def cubic(factor: int) -> Callable[[Sequence[ArrayType], Sequence[ArrayType], Params], int]:
    """A cost of `factor` n m min(n, m) a matrix."""

    def flops(args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return factor * args[0].size * min(args[0].shape[-2:])

    return flops


def each_matrix(f: Callable[..., Matrix], out: Matrix, *stacks: Matrix) -> Matrix:
    """Fill `out` with f of each matrix of the stacks; NaN where f finds it singular."""
    for index in np.ndindex(stacks[0].shape[:-2]):
        try:
            out[index] = f(*(a[index] for a in stacks))
        except np.linalg.LinAlgError:
            out[index] = np.nan
    return out


def regular(n: int, *stack: int, seed: int = 0, imaginary: float = 0.0) -> Matrix:
    """Sample matrices far from singular, with distinct singular values."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, (*stack, n, n)) + np.diag(2.0 + np.arange(n))
    return a + imaginary * 1j * rng.uniform(-1, 1, a.shape) if imaginary else a


# ---- solve[singular](a, b): stacks of equal depth, b a stack of matrices


def _solve_value(a: Matrix, b: Matrix, *, singular: str) -> Matrix:
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if singular == "raise":
            raise
        out = np.empty(b.shape, np.result_type(mx.floating(a.dtype), mx.floating(b.dtype)))
        return each_matrix(np.linalg.solve, out, a, b)


def _solve_matrix(a: Array, b: Array, *, out: Array, singular: str) -> MatrixMap:
    return MatrixMap(path(mx.right(out), mx.negated, mx.left_divided(a)), a, out)


def _solve_right(a: Array, b: Array, *, out: Array, singular: str) -> MatrixMap:
    return MatrixMap(mx.left_divided(a), b, out)


def _quotient_batch(name: str) -> Callable[[int, Sequence[Array], Sequence[bool], Params], Any]:
    """Batching of m^-1 b: of one matrix by one factorisation, its right-hand sides standing side by side."""

    def rule(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        a, b = args
        if batched[1] and not batched[0] and b.ndim == 3:
            n, k = b.shape[1:]
            joined = ops.reshape(ops.transpose(b, axes=(1, 0, 2)), shape=(n, size * k))
            found = ops[name](a, joined, **params)
            return ops.transpose(ops.reshape(found, shape=(n, size, k)), axes=(1, 0, 2))
        whole = [x if f else ops.broadcast_to(x, shape=(size, *x.shape)) for x, f in zip(args, batched, strict=True)]
        return ops[name](*whole, **params)

    return rule


def _solve_samples() -> Iterator[Sample]:
    params = {"singular": "raise"}
    yield (regular(3), draw(3, 2)), params
    yield (regular(1), draw(1, 1)), params
    yield (regular(2, 2), draw(2, 2, 3)), params
    yield (regular(2, 0), draw(0, 2, 1)), params
    yield (regular(0), draw(0, 2)), params
    yield (regular(2, imaginary=1.0), draw(2, 2)), params
    yield (regular(2), draw(2, 2) + 1j * draw(2, 2)), params


def _solve_cost(args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
    n = args[0].shape[-1]
    return 2 * n * args[0].size // 3 + 2 * n * args[1].size


solve = RoomPrimitive(
    name="solve",
    compute=_solve_value,
    types=lambda a, b, singular: ArrayType(b.shape, np.result_type(mx.floating(a.dtype), mx.floating(b.dtype))),
    partials=(_solve_matrix, _solve_right),
    batching=_quotient_batch("solve"),
    cost=_solve_cost,
    examples=_solve_samples,
)

# ---- solve_triangular[lower, singular](a, b): the same for triangular matrices, of which one triangle is read

# Below this size, and for stacks, eliminating anew has less overhead than SciPy's call.
_SMALL = 32


def _solve_triangular_value(a: Matrix, b: Matrix, *, lower: bool, singular: str) -> Matrix:
    if a.ndim > 2 or a.shape[-1] < _SMALL:
        return _solve_value(np.tril(a) if lower else np.triu(a), b, singular=singular)
    from scipy.linalg import solve_triangular as scipys  # scipy loads at first use

    try:
        found = scipys(a, b, lower=lower, check_finite=False)
    except np.linalg.LinAlgError:
        if singular == "raise":
            raise
        found = np.full(b.shape, np.nan)
    return np.asarray(found, np.result_type(mx.floating(a.dtype), mx.floating(b.dtype)))


def _triangle(lower: bool) -> mx.Triangle:
    return "lower" if lower else "upper"


def _solve_triangular_matrix(a: Array, b: Array, *, out: Array, lower: bool, singular: str) -> MatrixMap:
    n = a.shape[-1]
    read = mx.kept(np.tri(n, dtype=bool) if lower else np.tri(n, dtype=bool).T)
    return MatrixMap(path(read, mx.right(out), mx.negated, mx.left_divided(a, _triangle(lower))), a, out)


def _solve_triangular_right(a: Array, b: Array, *, out: Array, lower: bool, singular: str) -> MatrixMap:
    return MatrixMap(mx.left_divided(a, _triangle(lower)), b, out)


def _solve_triangular_samples() -> Iterator[Sample]:
    for (a, b), params in _solve_samples():
        for lower in (True, False):
            yield (a, b), {"lower": lower, **params}
    n = _SMALL
    yield (regular(n) / 4, np.ones((n, 1))), {"lower": True, "singular": "raise"}


solve_triangular = RoomPrimitive(
    name="solve_triangular",
    compute=_solve_triangular_value,
    types=lambda a, b, lower, singular: ArrayType(b.shape, np.result_type(mx.floating(a.dtype), mx.floating(b.dtype))),
    partials=(_solve_triangular_matrix, _solve_triangular_right),
    batching=_quotient_batch("solve_triangular"),
    cost=lambda args, outs, params: args[0].shape[-1] * args[1].size,
    examples=_solve_triangular_samples,
)

# ---- inv[singular](a)


def _inv_value(a: Matrix, *, singular: str) -> Matrix:
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        if singular == "raise":
            raise
        return each_matrix(np.linalg.inv, np.empty(a.shape, mx.floating(a.dtype)), a)


def _inv_partial(a: Array, *, out: Array, singular: str) -> MatrixMap:
    return MatrixMap(path(mx.left(out), mx.right(out), mx.negated), a, out)


def _square_samples(*params: Params) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        for p in params:
            for a in (regular(3), regular(1), regular(2, 2), regular(2, 0), regular(0), regular(2, imaginary=1.0)):
                yield (a,), p

    return samples


inv = RoomPrimitive(
    name="inv",
    compute=_inv_value,
    types=lambda a, singular: ArrayType(a.shape, mx.floating(a.dtype)),
    partials=(_inv_partial,),
    batching=stacked("inv"),
    cost=cubic(2),
    examples=_square_samples({"singular": "raise"}),
)


def inverse(a: Array) -> Array:
    """The inverse inside a rule: NaN where a matrix is singular."""
    return ops.inv(a, singular="nan")


# ---- pinv[rcond, hermitian](a)


def _pinv_value(a: Matrix, *, rcond: float, hermitian: bool) -> Matrix:
    return np.linalg.pinv(a, rcond, hermitian)


def _pinv_partial(a: Array, *, out: Array, rcond: float, hermitian: bool) -> MatrixMap:
    n = a.shape[-1]
    if hermitian:
        a = mx.from_triangle(n, lower=True).apply(a)
    ph = mx.adjoint(out)
    outside = np.eye(a.shape[-2], dtype=out.dtype) - mx.times(a, out)
    inside = np.eye(n, dtype=out.dtype) - mx.times(out, a)
    step = plus(
        path(mx.left(out), mx.right(out), mx.negated),
        path(mx.adjugated, mx.left(mx.times(out, ph)), mx.right(outside)),
        path(mx.adjugated, mx.left(inside), mx.right(mx.times(ph, out))),
    )
    if hermitian:
        step = path(mx.from_triangle(n, lower=True), step)
    return MatrixMap(step, a, out)


def _pinv_samples() -> Iterator[Sample]:
    params = {"rcond": 1e-15, "hermitian": False}
    yield (draw(4, 2),), params
    yield (draw(2, 3),), params
    yield (draw(2, 3, 2),), params
    yield (draw(3, 2) + 1j * draw(2, 3).T,), params
    yield (draw(0, 3, 2),), params
    yield (regular(3),), {"rcond": 1e-15, "hermitian": True}


pinv = RoomPrimitive(
    name="pinv",
    compute=_pinv_value,
    types=lambda a, rcond, hermitian: ArrayType((*a.shape[:-2], a.shape[-1], a.shape[-2]), mx.floating(a.dtype)),
    partials=(_pinv_partial,),
    batching=stacked("pinv"),
    cost=cubic(20),
    examples=_pinv_samples,
)

# ---- det(a), and its gradient's transpose, the adjugate


def _det_partial(a: Array, *, out: Array) -> MatrixMap:
    return MatrixMap(mx.traced(ops.adjugate(a)), a, out, cost=prod(a.shape))


def _det_samples() -> Iterator[Sample]:
    yield from _square_samples({})()
    yield (np.outer([1.0, 2.0, -1.0], [0.5, 1.0, 2.0]) + np.diag([1.0, 0.0, 0.0]),), {}
    yield (np.zeros((2, 2)),), {}


det = RoomPrimitive(
    name="det",
    compute=np.linalg.det,
    types=lambda a: ArrayType(a.shape[:-2], mx.floating(a.dtype)),
    partials=(_det_partial,),
    batching=stacked("det"),
    cost=cubic(1),
    examples=_det_samples,
)


def _adjugate_by_svd(a: Matrix) -> Matrix:
    """adj(U S V^H) = det(U V^H) V adj(S) U^H, in which nothing is divided."""
    u, s, vh = np.linalg.svd(a)
    n = s.shape[-1]
    others = np.prod(np.where(np.eye(n, dtype=bool), 1, s[..., None, :]), axis=-1)
    phase = np.linalg.det(u) * np.linalg.det(vh)
    turned = np.swapaxes(vh.conj(), -1, -2) * others[..., None, :]
    return np.asarray(phase[..., None, None] * (turned @ np.swapaxes(u.conj(), -1, -2)), a.dtype)


def _adjugate_value(a: Matrix) -> Matrix:
    """det(a) a^-1 where that is accurate, else by singular values: a gradient of det exists at singular matrices too."""
    a = np.asarray(a, mx.floating(a.dtype))
    if not a.size:
        return a.copy()
    with np.errstate(all="ignore"):
        b = _inv_value(a, singular="nan")
        d = np.linalg.det(a)
        condition = np.abs(a).max((-1, -2)) * np.abs(b).max((-1, -2))
        good = np.isfinite(b).all((-1, -2)) & (d != 0) & np.isfinite(d) & (condition < np.finfo(a.dtype).eps ** -0.5)
        out = d[..., None, None] * b
    if not np.all(good):
        out[~good] = _adjugate_by_svd(a[~good])
    return np.asarray(out)


def _products_of_others(s: Array) -> Array:
    """P[i, j], the product of all s but s[i] and s[j]; zero on the diagonal."""
    n = s.shape[-1]
    eye = mx.identity_mask(n)
    out = np.ones((n, n), s.dtype)
    for k in range(n):
        involved = eye[k][:, None] | eye[k]
        out = out * ops.where(involved, 1.0, mx.column(mx.column(s[..., k])))
    return ops.where(eye, 0.0, out)


def _adjugate_partial(a: Array, *, out: Array) -> MatrixMap:
    """In the bases of singular vectors, with T = U^H dA V: -P_ij T_ij off the diagonal, sum_k P_ik T_kk on it."""
    u, s, vh = ops.svd(a)
    eye = mx.identity_mask(a.shape[-1])
    p = _products_of_others(s)

    def turn(t: Array) -> Array:
        diagonal = ops.reduce_sum(ops.where(eye, t, 0.0), axes=(t.ndim - 1,))
        return ops.where(eye, mx.times(p, mx.column(diagonal)), -p * t)

    phase = ops.det(u) * ops.det(vh)
    if a.dtype.kind != "c":
        phase = ops.sign(phase)
    step = path(
        mx.left(mx.adjoint(u)),
        mx.right(mx.adjoint(vh)),
        Step(turn, turn),
        mx.left(mx.adjoint(vh)),
        mx.right(mx.adjoint(u)),
        mx.weighted(mx.column(mx.column(phase))),
    )
    return MatrixMap(step, a, out)


adjugate = RoomPrimitive(
    name="adjugate",
    compute=_adjugate_value,
    types=lambda a: ArrayType(a.shape, mx.floating(a.dtype)),
    partials=(_adjugate_partial,),
    batching=stacked("adjugate"),
    cost=cubic(3),
    examples=lambda: iter([*_square_samples({})(), ((np.diag([2.0, 1.0, 0.0]) @ regular(3),), {})]),
)

# ---- slogdet(a) -> sign, logarithm of the absolute value


def _slogdet_value(a: Matrix) -> tuple[Any, Any]:
    return tuple(np.linalg.slogdet(a))


def _turn(sign: Array) -> Step:
    """t -> i s Im(t), for complex numbers s."""
    turned = sign * 1j
    return Step(lambda t: turned * ops.imag(t), lambda ct: ops.real(ct * turned) * -1j)


def _sign_partial(a: Array, *, out: Any) -> MatrixMap | None:
    if a.dtype.kind != "c":
        return None
    return MatrixMap(path(mx.traced(inverse(a)), _turn(out[0])), a, out[0], cost=prod(a.shape))


def _logabsdet_partial(a: Array, *, out: Any) -> MatrixMap:
    return MatrixMap(path(mx.traced(inverse(a)), mx.real_part), a, out[1], cost=prod(a.shape))


slogdet = RoomPrimitive(
    name="slogdet",
    compute=_slogdet_value,
    types=lambda a: (
        ArrayType(a.shape[:-2], mx.floating(a.dtype)),
        ArrayType(a.shape[:-2], mx.real_dtype(mx.floating(a.dtype))),
    ),
    partials=((_sign_partial,), (_logabsdet_partial,)),
    batching=stacked("slogdet"),
    cost=cubic(1),
    examples=_square_samples({}),
    outputs=2,
)

# ---- reduce_norm[axes](x): the square root of the sum of squares


def _norm_value(x: Any, *, axes: Axes) -> Any:
    if len(axes) == x.ndim:
        flat = x.ravel(order="K")
        return np.sqrt(np.vdot(flat, flat).real)
    squares = x * x if x.dtype.kind != "c" else x.real**2 + x.imag**2
    return np.sqrt(np.add.reduce(squares, axis=axes))


def _norm_partial(x: Array, *, out: Array, axes: Axes) -> LinearMap:
    length = ops.reshape(out, shape=tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    at_zero = ops.equal(length, 0)
    unit = ops.where(at_zero, 0.0, x / ops.where(at_zero, 1.0, length))
    if x.dtype.kind != "c":
        return WeightedSum(unit, axes, x, out)
    unit = ops.conjugate(unit)
    return Implicit(
        lambda t: ops.real(ops.reduce_sum(ops.strong_multiply(t, unit), axes=axes)),
        lambda ct: ops.strong_multiply(ops.reshape(ct, shape=length.shape), unit),
        x,
        out,
        cost=2 * prod(x.shape),
    )


def _norm_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return reduce_norm(args[0], axes=tuple(a + 1 for a in params["axes"]))


def _norm_samples() -> Iterator[Sample]:
    yield (draw(3),), {"axes": (0,)}
    yield (draw(2, 3),), {"axes": (0, 1)}
    yield (draw(2, 3, 2),), {"axes": (1,)}
    yield (draw(2, 0),), {"axes": (1,)}
    yield (draw(2, 3) + 1j * draw(3, 2).T,), {"axes": (1,)}
    yield (draw(3) + 0.5j,), {"axes": (0,)}


reduce_norm = RoomPrimitive(
    name="reduce_norm",
    compute=_norm_value,
    types=lambda x, axes: ArrayType(reduced(x, axes), mx.real_dtype(x.dtype)),
    partials=(_norm_partial,),
    batching=_norm_batch,
    cost=lambda args, outs, params: 2 * args[0].size,
    examples=_norm_samples,
)
