"""expm(a): the exponential of square matrices.

Its derivative in a direction E is L(A, E) = integral of exp((1 - s) A) E exp(s A) over s from 0 to 1, which stands in a corner of
an exponential of twice the size, so that every further derivative is one of expm again:

    exp [[A, E], [0, A]] = [[exp A, L(A, E)], [0, exp A]]

L is its own transpose with A transposed. Source: Higham, Functions of Matrices, 2008, section 10.6 and theorem 3.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.ir.primitive import RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.prims import matrices as mx
from chainrule.prims.linalg import Matrix, cubic, regular, stacked
from chainrule.prims.matrices import MatrixMap, Step


def _value(a: Matrix) -> Matrix:
    from scipy.linalg import expm as scipys  # scipy loads at first use

    dtype = mx.floating(a.dtype)
    return np.asarray(scipys(a), dtype) if a.size else np.zeros(a.shape, dtype)


def _directional(a: Array, e: Array) -> Array:
    """L(a, e)."""
    n = a.shape[-1]
    first, second = a.ndim - 2, a.ndim - 1
    top = ops.concatenate(a, e, axis=second)
    bottom = ops.concatenate(np.zeros(a.shape, a.dtype), a, axis=second)
    corner: Any = (*(slice(None),) * first, slice(0, n), slice(n, None))
    return ops.slice(ops.expm(ops.concatenate(top, bottom, axis=first)), key=corner)


def _partial(a: Array, *, out: Array) -> MatrixMap:
    step = Step(lambda t: _directional(a, t), lambda ct: _directional(mx.transposed(a), ct))
    return MatrixMap(step, a, out)


def _samples() -> Iterator[Sample]:
    for a in (regular(3), regular(1), regular(2, 2), regular(2, 0), regular(0), regular(2, imaginary=1.0)):
        yield (a / 4,), {}
    yield (np.zeros((2, 2)),), {}


expm = RoomPrimitive(
    name="expm",
    compute=_value,
    types=lambda a: ArrayType(a.shape, mx.floating(a.dtype)),
    partials=(_partial,),
    batching=stacked("expm"),
    cost=cubic(30),
    examples=_samples,
)
