"""How large the values of a function are, found without keeping them: what a recording would hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.ir.primitive import Params, Primitive, Trace, bind
from chainrule.ir.types import Array, ArrayType
from chainrule.trace.inlining import inlining
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import share, unwrap
from chainrule.trace.tracer import Tracer
from chainrule.transforms.reverse import Flat


class Sizes(Trace):
    """Adds up the bytes of all values through which derivatives flow; keeps none."""

    __slots__ = ("largest", "total")

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.largest = 0

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        out = bind(primitive, [unwrap(a, self)[0] for a in args], params)
        if not primitive.differentiable:
            return out
        results = (out,) if primitive.outputs == 1 else out
        for o in results:
            size = ArrayType.of(o).nbytes
            self.total += size
            self.largest = max(self.largest, size)
        if primitive.outputs != 1:
            return tuple(Tracer(o, self, True) for o in out)
        tracer = Tracer(out, self, True)
        if primitive.view:
            share(tracer, args)
        return tracer


def sizes(f: Flat, xs: Sequence[Array]) -> tuple[Sizes, list[ArrayType]]:
    """The sizes of the values of f at xs, and the types of its outputs."""
    trace = Sizes()
    with tracing(), inlining():
        outs = f([Tracer(x, trace, True) for x in xs])
    return trace, [ArrayType.of(unwrap(o, trace)[0]) for o in outs]
