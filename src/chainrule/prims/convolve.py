"""convolve(a, v): the full discrete convolution of two vectors, out_k = sum_i a_i v_(k-i), linear in each.

Its adjoint in one vector convolves with the other one reversed, and keeps the middle; so it is closed under differentiation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit
from chainrule.linear.maps import Slot
from chainrule.prims.shape import draw


def _partial(k: int, a: Array, v: Array, *, out: Array) -> Implicit:
    x, other = (a, v) if k == 0 else (v, a)
    n, m = x.shape[0], other.shape[0]

    def adjoint(ct: Array) -> Array:
        back = ops.slice(other, key=(slice(None, None, -1),))
        return ops.slice(convolve(ct, back), key=(slice(m - 1, m - 1 + n),))

    return Implicit(lambda t: convolve(t, other), adjoint, x, out, cost=n * m)


def _batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    """By windows of the longer vector, laid out so that one contraction with the shorter, reversed, gives every output."""
    lengths = [a.shape[-1] for a in args]
    long = 0 if lengths[0] >= lengths[1] else 1
    n, m = lengths[long], lengths[1 - long]
    x, y = args[long], args[1 - long]
    lead: tuple[int, ...] = (size,) if batched[long] else ()
    whole = (slice(None),) * len(lead)
    padded = ops.place(x, key=(*whole, slice(m - 1, m - 1 + n)), shape=(*lead, n + 2 * (m - 1)))
    windows = ops.gather(padded, np.arange(n + m - 1)[:, None] + np.arange(m), key=(*whole, Slot(0)))
    y = ops.slice(y, key=(slice(None),) * (y.ndim - 1) + (slice(None, None, -1),))
    left = (0, 1, 2) if batched[long] else (1, 2)
    return ops.contract(windows, y, left=left, right=(0, 2) if batched[1 - long] else (2,), to=(0, 1))


def _samples() -> Iterator[Sample]:
    yield (draw(4), draw(3)), {}
    yield (draw(2), draw(5)), {}
    yield (draw(1), draw(3) + 1j), {}


convolve: RoomPrimitive = RoomPrimitive(
    name="convolve",
    compute=np.convolve,
    types=lambda a, v: ArrayType((a.shape[0] + v.shape[0] - 1,), np.result_type(a.dtype, v.dtype)),
    partials=(),
    variadic=_partial,
    batching=_batch,
    cost=lambda args, outs, params: 2 * args[0].size * args[1].size,
    examples=_samples,
)
