"""A trace that counts: operations on arrays that have shapes and no values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, Primitive, Trace, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.trace.tracer import Tracer


class Shapes(Trace):
    """Computes shapes, and counts operations, their results' elements, scalar multiplications and additions, without values."""

    __slots__ = ("additions", "elements", "multiplications", "operations")

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.elements = self.multiplications = self.additions = 0

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        types = [ArrayType.of(a) for a in args]
        (out,) = primitive.type_rule(*types, **params)
        self.operations += 1
        self.elements += out.size
        if primitive is ops.contract:
            self.multiplications += primitive.flops(types, [out], params) // 2
        elif primitive in (ops.multiply, ops.strong_multiply):
            self.multiplications += out.size
        elif primitive in (ops.add, ops.subtract):
            self.additions += out.size
        return self.array(out)

    def array(self, kind: ArrayType) -> Tracer:
        """An array that has no values."""
        return Tracer(np.broadcast_to(np.zeros((), kind.dtype), kind.shape), self, None)
