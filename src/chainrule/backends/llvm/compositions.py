"""Operations that are compositions of others, written out as such where that is how native code computes them.

    reduce_norm[axes](x)    sqrt(reduce_sum[axes](square(x)))    of real numbers, for which there are loops

They are operations of their own for their derivatives, which are made before: written out, a norm has none at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chainrule.backends.llvm.operations import kind_of
from chainrule.ir.primitive import ops
from chainrule.ir.program import Equation, Program, Var
from chainrule.ir.types import ArrayType


def _norm(e: Equation) -> list[Equation]:
    (x,) = e.args
    (out,) = e.outs
    if kind_of(x.type) is None or x.type.dtype.kind != "f" or not e.params["axes"]:
        return [e]
    squares, total = Var(x.type), Var(ArrayType(out.type.shape, out.type.dtype))
    return [
        Equation(ops.square, (x,), {}, (squares,), e.origin),
        Equation(ops.reduce_sum, (squares,), e.params, (total,), e.origin),
        Equation(ops.sqrt, (total,), {}, (out,), e.origin),
    ]


COMPOSITIONS: dict[str, Callable[[Equation], list[Equation]]] = {"reduce_norm": _norm}


def written_out(program: Program) -> Program:
    """The program with its compositions written out."""
    if not any(e.primitive.name in COMPOSITIONS for e in program.equations):
        return program
    equations: list[Equation] = []
    for e in program.equations:
        rule = COMPOSITIONS.get(e.primitive.name)
        equations += [e] if rule is None else rule(e)
    return replace(program, equations=tuple(equations))
