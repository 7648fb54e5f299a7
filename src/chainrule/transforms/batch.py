"""Batching: one operation over a leading axis in the place of a loop over it.

A batched value holds all its instances, the batch axis first; each primitive states how it computes on such values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import Params, Primitive, Trace, TracerBase, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import escaped, share, unwrap
from chainrule.trace.tracer import Tracer
from chainrule.transforms.reverse import Flat


class BatchTracer(Tracer):
    """A tracer whose value has the batch axis first; its shape is that of one instance."""

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape[1:]  # type: ignore[no-any-return]

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._set_shape(shape)

    @property
    def ndim(self) -> int:
        return self.value.ndim - 1  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


class Batch(Trace):
    """Computes on all instances of a batch at once."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        if not self.is_open:
            raise escaped()
        values = [a.value if self.owns(a) else a for a in args]
        out = primitive.batch(self.size, values, [self.owns(a) for a in args], params)
        if primitive.outputs != 1:
            return tuple(BatchTracer(o, self, True) for o in out)
        tracer = BatchTracer(out, self, True)
        if primitive.view:
            share(tracer, args)
        return tracer

    def owns(self, a: Any) -> bool:
        """Whether a value is batched by this trace."""
        return isinstance(a, TracerBase) and a.owner is self

    def decide(self, tracer: TracerBase) -> Any:
        raise TraceError(
            f"Python needs one value of a batched {ArrayType.of(tracer)}, which has {self.size}: "
            "in a branch, an index, int() or a mask",
            "Use np.where(condition, a, b), or a loop over the batch instead of vmap.",
        )


def vmap(f: Flat, xs: Sequence[Array], axes: Sequence[int | None], size: int) -> list[Array]:
    """The outputs of f over the batch, each with the batch axis first; an axis of None is not batched."""
    trace = Batch(size)
    inputs = [
        x if axis is None else BatchTracer(to_front(x, axis), trace, True) for x, axis in zip(xs, axes, strict=True)
    ]
    with tracing():
        outs = f(inputs)
    trace.is_open = False
    return [_whole(*unwrap(out, trace), size) for out in outs]


def to_front(x: Array, axis: int) -> Array:
    """x with one axis moved to the front."""
    axis %= x.ndim
    return x if axis == 0 else ops.transpose(x, axes=(axis, *(i for i in range(x.ndim) if i != axis)))


def from_front(x: Array, axis: int) -> Array:
    """x with its first axis moved to a place."""
    axis %= x.ndim
    if axis == 0:
        return x
    order = list(range(1, x.ndim))
    order.insert(axis, 0)
    return ops.transpose(x, axes=tuple(order))


def _whole(value: Array, is_batched: bool | None, size: int) -> Array:
    if is_batched:
        return value
    shape = getattr(value, "shape", None)
    if shape is None:
        value = np.asarray(value)
        shape = value.shape
    return ops.broadcast_to(value, shape=(size, *shape))
