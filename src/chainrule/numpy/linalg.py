"""numpy.linalg, differentiable: solving, factorisations, products and norms of stacks of matrices.

cholesky and eigh read one triangle, as NumPy does: the gradient lies in that triangle. Eigenvectors and singular vectors have no
derivative where their values coincide (inf or NaN), and are differentiated up to the sign or phase that LAPACK chose; see
`chainrule.prims.factors`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.linalg import _linalg

from chainrule.errors import MissingRule, TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy import products
from chainrule.numpy.arguments import as_array, axis_index, decide
from chainrule.numpy.norms import as_floating, cond, matrix_norm, matrix_rank, norm, singular_values, vector_norm
from chainrule.numpy.shaping import moveaxis
from chainrule.prims import matrices as mx
from chainrule.trace.numpy_protocols import implements

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]


def __getattr__(name: str) -> Any:
    return getattr(np.linalg, name)


def _square(a: Any) -> Any:
    a = as_floating(a)
    if a.ndim < 2:
        raise np.linalg.LinAlgError(f"{a.ndim}-dimensional array given. Array must be at least two-dimensional")
    if a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return a


def _decided(x: Any, *, in_a_batch: bool) -> bool:
    """The truth of x, by which the type of a result is decided; a batch has one type for all its instances: the given one."""
    try:
        return bool(decide(x))
    except TraceError:
        return in_a_batch


# ---- solving


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """NumPy's solve: b is a vector where it has one axis, else a stack of matrices."""
    a, b = _square(a), as_floating(b)
    if b.ndim == 0 or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ValueError(f"solve: a of shape {a.shape} and b of shape {b.shape} do not agree")
    if b.ndim == 1:
        return solve(a, mx.column(b))[..., 0]
    if a.ndim == 2 and b.ndim > 2:
        return _solve_side_by_side(a, b)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return ops.solve(_on_stack(a, stack), _on_stack(b, stack), singular="raise")


def _on_stack(a: Any, stack: tuple[int, ...]) -> Any:
    return a if a.shape[:-2] == stack else ops.broadcast_to(a, shape=(*stack, *a.shape[-2:]))


def _solve_side_by_side(a: Any, b: Any) -> Any:
    """One factorisation for all right-hand sides of a stack."""
    front = moveaxis(b, -2, 0)
    found = ops.solve(a, ops.reshape(front, shape=(a.shape[0], math.prod(front.shape[1:]))), singular="raise")
    return moveaxis(ops.reshape(found, shape=front.shape), 0, -2)


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """NumPy's inv."""
    return ops.inv(_square(a), singular="raise")


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """NumPy's tensorsolve."""
    a, b = as_floating(a), as_floating(b)
    if axes is not None:
        moved = [axis_index(k, a.ndim) for k in axes]
        a = ops.transpose(a, axes=(*(i for i in range(a.ndim) if i not in moved), *moved))
    shape = a.shape[b.ndim :]
    n = math.prod(shape)
    if n * n != a.size:
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])"
        )
    found = solve(ops.reshape(a, shape=(n, n)), ops.reshape(b, shape=(b.size,)))
    return ops.reshape(found, shape=shape)


@implements(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    """NumPy's tensorinv."""
    a = as_floating(a)
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    n = math.prod(a.shape[ind:])
    found = inv(ops.reshape(a, shape=(a.size // n if n else 0, n)))
    return ops.reshape(found, shape=(*a.shape[ind:], *a.shape[:ind]))


@implements(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Any:
    """NumPy's pinv; its derivative is that at constant rank."""
    a = as_floating(a)
    if rtol is not np._NoValue:
        if rcond is not None:
            raise ValueError("`rtol` and `rcond` can't be both set.")
        rcond = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps) if rtol is None else rtol
    cutoff = 1e-15 if rcond is None else rcond
    if is_tracer(cutoff) or np.ndim(cutoff):
        raise TraceError("pinv on traced values with an array of cut-offs", "Pass rcond as one Python number.")
    return ops.pinv(a, rcond=float(cutoff), hermitian=bool(hermitian))


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, Any, Any]:
    """NumPy's lstsq, by the pseudo-inverse; its derivative is that at constant rank. Under vmap, residuals are as of full rank."""
    a, b = as_floating(a), as_floating(b)
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise np.linalg.LinAlgError(f"{a.ndim}-dimensional array given. Array must be two-dimensional")
    m, n = a.shape
    if b.shape[0] != m:
        raise np.linalg.LinAlgError("Incompatible dimensions")
    cutoff = float(np.finfo(np.result_type(a.dtype, b.dtype)).eps) * max(m, n) if rcond is None else float(rcond)
    x = products.dot(ops.pinv(a, rcond=cutoff, hermitian=False), b)
    s = singular_values(a)
    rank = matrix_rank(a, rtol=cutoff)
    residuals: Any = np.array([], s.dtype)
    if m > n and _decided(ops.equal(rank, n), in_a_batch=True):
        gap = b - products.dot(a, x)
        squares = ops.reduce_sum(ops.square(ops.absolute(gap)), axes=(0,))
        residuals = squares if b.ndim == 2 else ops.reshape(squares, shape=(1,))
    return x, residuals, rank, s


# ---- determinants


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """NumPy's det; its gradient is the transposed adjugate, at singular matrices too."""
    return ops.det(_square(a))


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    """NumPy's slogdet."""
    return _linalg.SlogdetResult(*ops.slogdet(_square(a)))


# ---- factorisations


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """NumPy's cholesky, which reads one triangle."""
    return ops.cholesky(_square(a), upper=bool(upper))


def _lower(UPLO: str) -> bool:
    if UPLO.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return UPLO.upper() == "L"


@implements(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    """NumPy's eigh, which reads one triangle."""
    return _linalg.EighResult(*ops.eigh(_square(a), lower=_lower(UPLO)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """NumPy's eigvalsh, which reads one triangle."""
    return ops.eigh(_square(a), lower=_lower(UPLO))[0]


@implements(np.linalg.eig)
def eig(a: Any) -> Any:
    """NumPy's eig: vectors of length one, real where they are largest. Under vmap the results are complex always."""
    a = _square(a)
    w, v = ops.eig(a)
    if a.dtype.kind != "c":
        not_real = ops.reduce_sum(ops.not_equal(ops.imag(w), 0), axes=tuple(range(w.ndim)))
        if _decided(ops.equal(not_real, 0), in_a_batch=False):
            w, v = ops.real(w), ops.real(v)
    return _linalg.EigResult(w, v)


@implements(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    """NumPy's eigvals. Under vmap the results are complex always."""
    return eig(a)[0]


@implements(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """NumPy's svd. Of the vectors that `full_matrices` adds, only their span is differentiated, at full rank."""
    a = as_floating(a)
    if a.ndim < 2:
        raise np.linalg.LinAlgError(f"{a.ndim}-dimensional array given. Array must be at least two-dimensional")
    if hermitian:
        return _hermitian_svd(_square(a), compute_uv)
    u, s, vh = ops.svd(a)
    if not compute_uv:
        return s
    m, n = a.shape[-2:]
    if full_matrices and m > n:
        u = ops.concatenate(u, ops.complement(a, of="svd_left"), axis=a.ndim - 1)
    elif full_matrices and n > m:
        vh = ops.concatenate(vh, mx.adjoint(ops.complement(a, of="svd_right")), axis=a.ndim - 2)
    return _linalg.SVDResult(u, s, vh)


def _hermitian_svd(a: Any, compute_uv: bool) -> Any:
    """From eigh: singular values are absolute eigenvalues, and the sign goes to the right."""
    w, v = ops.eigh(a, lower=True)
    order = np.argsort(ops.absolute(w), axis=-1)[..., ::-1]
    w = np.take_along_axis(w, order, -1)
    s = ops.absolute(w)
    if not compute_uv:
        return s
    u = np.take_along_axis(v, order[..., None, :], -1)
    return _linalg.SVDResult(u, s, mx.adjoint(u * mx.row(ops.copysign(1.0, w))))


@implements(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    """NumPy's svdvals."""
    return svd(x, compute_uv=False)


@implements(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    """NumPy's qr, in the modes reduced, complete and r. Of the columns that complete adds, only their span is differentiated."""
    a = as_floating(a)
    if mode not in ("reduced", "complete", "r"):
        if mode in ("raw", "f", "full", "e", "economic"):
            raise MissingRule(f"`qr` in mode {mode!r} has no derivative", "Use mode='reduced', 'complete' or 'r'.")
        raise ValueError(f"Unrecognized mode '{mode}'")
    m, n = a.shape[-2:]
    q, r = ops.qr(a if m >= n else a[..., :m])
    if m < n:
        # What stands to the right of the square part follows from it.
        r = ops.concatenate(r, mx.times(mx.adjoint(q), a[..., m:]), axis=a.ndim - 1)
    if mode == "r":
        return r
    if mode == "complete" and m > n:
        q = ops.concatenate(q, ops.complement(a, of="qr"), axis=a.ndim - 1)
        r = ops.concatenate(r, np.zeros((*a.shape[:-2], m - n, n), r.dtype), axis=a.ndim - 2)
    return _linalg.QRResult(q, r)


# ---- products


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    """NumPy's matrix_power: repeated squaring, of the inverse where n is negative."""
    a = as_array(a)
    _square(a)
    n = operator.index(n)
    if n == 0:
        return ops.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), shape=a.shape)
    if n < 0:
        a, n = inv(a), -n
    power, result = a, None
    while True:
        if n & 1:
            result = power if result is None else mx.times(result, power)
        n >>= 1
        if not n:
            return result
        power = mx.times(power, power)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """NumPy's multi_dot: the product of a chain of matrices, in the order of fewest multiplications."""
    chain = [as_array(x) for x in arrays]
    if len(chain) < 2:
        raise ValueError("Expecting at least two arrays.")
    first, last = chain[0].ndim, chain[-1].ndim
    chain[0] = chain[0] if first == 2 else mx.row(chain[0])
    chain[-1] = chain[-1] if last == 2 else mx.column(chain[-1])
    if any(x.ndim != 2 for x in chain):
        raise np.linalg.LinAlgError("multi_dot: all arrays but the first and last must be two-dimensional")
    extents = (chain[0].shape[0], *(x.shape[1] for x in chain))

    @functools.cache
    def best(i: int, j: int) -> tuple[int, int]:
        """The least multiplications for chain[i..j], and after which factor to split."""
        if i == j:
            return 0, i
        return min(
            (best(i, k)[0] + best(k + 1, j)[0] + extents[i] * extents[k + 1] * extents[j + 1], k) for k in range(i, j)
        )

    def multiply(i: int, j: int) -> Any:
        if i == j:
            return chain[i]
        k = best(i, j)[1]
        return products.dot(multiply(i, k), multiply(k + 1, j))

    result = multiply(0, len(chain) - 1)
    kept = ((result.shape[0],) if first == 2 else ()) + ((result.shape[1],) if last == 2 else ())
    return ops.reshape(result, shape=kept)


matmul = implements(np.linalg.matmul)(products.matmul)
tensordot = implements(np.linalg.tensordot)(products.tensordot)


@implements(np.linalg.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """NumPy's matrix_transpose: the last two axes swapped."""
    x = as_array(x)
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return mx.transposed(x)


@implements(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """NumPy's linalg.vecdot: the first argument conjugated."""
    x1, x2 = moveaxis(as_array(x1), axis, -1), moveaxis(as_array(x2), axis, -1)
    together = ops.multiply(mx.conjugated(x1), x2)
    return ops.reduce_sum(together, axes=(together.ndim - 1,))


@implements(np.linalg.outer)
def outer(x1: Any, x2: Any, /) -> Any:
    """NumPy's linalg.outer, of two vectors."""
    x1, x2 = as_array(x1), as_array(x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"Input arrays must be one-dimensional, but they are {x1.ndim=} and {x2.ndim=}.")
    return products.outer(x1, x2)


@implements(np.linalg.cross)
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """NumPy's linalg.cross, of vectors of three."""
    x1, x2 = as_array(x1), as_array(x2)
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, but they are "
            f"{x1.shape[axis]} and {x2.shape[axis]} dimensional instead."
        )
    (a, b, c), (x, y, z) = ([moveaxis(v, axis, -1)[..., i] for i in range(3)] for v in (x1, x2))
    parts = (mx.column(b * z - c * y), mx.column(c * x - a * z), mx.column(a * y - b * x))
    return moveaxis(ops.concatenate(*parts, axis=parts[0].ndim - 1), -1, axis)


@implements(np.linalg.diagonal)
def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """NumPy's linalg.diagonal, of the last two axes."""
    x = as_array(x)
    m, n = x.shape[-2:]
    count = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    i = np.arange(count)
    return x[..., i - min(offset, 0), i + max(offset, 0)]


@implements(np.linalg.trace)
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """NumPy's linalg.trace, of the last two axes."""
    d = diagonal(x, offset=offset)
    out = ops.reduce_sum(d, axes=(d.ndim - 1,))
    return out if dtype is None else out.astype(dtype)
