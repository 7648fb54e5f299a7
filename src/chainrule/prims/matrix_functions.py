"""Functions of square matrices: expm(a), logm(a) and sqrtm(a), the exponential, and the principal logarithm and square root.

The derivative L(A, E) of such a function in a direction E stands in a corner of the function of a matrix of twice the size, so that
every further derivative is one of the same function again:

    f [[A, E], [0, A]] = [[f(A), L(A, E)], [0, f(A)]]

L is its own transpose with A transposed. Source: Higham, Functions of Matrices, 2008, theorem 3.6 and section 10.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.prims import matrices as mx
from chainrule.prims.linalg import Matrix, cubic, regular, stacked
from chainrule.prims.matrices import MatrixMap, Step


def _scipys(name: str) -> Callable[[Matrix], Matrix]:
    """The value of a function by SciPy's, of stacks one by one, in the type of the matrix.

    It is computed in double precision: SciPy's estimates of errors take that for granted, and would warn.
    """

    def value(a: Matrix) -> Matrix:
        import scipy.linalg  # scipy loads at first use

        dtype = mx.floating(a.dtype)
        if not a.size:
            return np.zeros(a.shape, dtype)
        f = getattr(scipy.linalg, name)
        wide = a.astype(np.promote_types(dtype, np.float64), copy=False)
        found = np.stack([f(m) for m in wide.reshape(-1, *a.shape[-2:])]).reshape(a.shape)
        if found.dtype.kind == "c" and dtype.kind != "c":
            return np.asarray(_real(name, found), dtype)
        return np.asarray(found, dtype)

    return value


def _real(name: str, found: Matrix) -> Matrix:
    if np.abs(found.imag).max() > 1e-8 * np.abs(found).max():
        raise TraceError(
            f"{name} of a real matrix that has negative eigenvalues is complex",
            "Pass a complex matrix, a.astype(complex).",
        )
    return found.real


def _directional(name: str, a: Array, e: Array) -> Array:
    """L(a, e)."""
    n = a.shape[-1]
    first, second = a.ndim - 2, a.ndim - 1
    top = ops.concatenate(a, e, axis=second)
    bottom = ops.concatenate(np.zeros(a.shape, a.dtype), a, axis=second)
    corner: Any = (*(slice(None),) * first, slice(0, n), slice(n, None))
    return ops.slice(ops[name](ops.concatenate(top, bottom, axis=first)), key=corner)


def _function(name: str, cost: int, shift: float) -> RoomPrimitive:
    """Declare a function; the samples have their eigenvalues about `shift`."""

    def partial(a: Array, *, out: Array) -> MatrixMap:
        step = Step(lambda t: _directional(name, a, t), lambda ct: _directional(name, mx.transposed(a), ct))
        return MatrixMap(step, a, out)

    def samples() -> Iterator[Sample]:
        for a in (regular(3), regular(1), regular(2, 2), regular(2, 0), regular(0), regular(2, imaginary=1.0)):
            yield (a / 4 + shift * np.eye(a.shape[-1]),), {}
        yield (np.zeros((2, 2)) + shift * np.eye(2),), {}

    return RoomPrimitive(
        name=name,
        compute=_scipys(name),
        types=lambda a: ArrayType(a.shape, mx.floating(a.dtype)),
        partials=(partial,),
        batching=stacked(name),
        cost=cubic(cost),
        examples=samples,
    )


expm = _function("expm", 30, 0.0)
logm = _function("logm", 60, 2.0)
sqrtm = _function("sqrtm", 25, 2.0)
