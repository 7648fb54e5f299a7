"""Why an operation is left to NumPy."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.backends.llvm import lapack
from chainrule.backends.llvm.compositions import COMPOSITIONS
from chainrule.backends.llvm.operations import OPERATIONS, kind_of
from chainrule.backends.llvm.partition import MOVES, REDUCTIONS, RUNNING, SEARCHES
from chainrule.ir.program import Equation

_LOWERED = {
    *OPERATIONS,
    *MOVES,
    *REDUCTIONS,
    *RUNNING,
    *SEARCHES,
    *lapack.OPERANDS,
    *COMPOSITIONS,
    "contract",
    "scatter_add",
    "where",
    "convert",
    "discretise",
}


def why_left(e: Equation, refused: Mapping[Equation, str]) -> str:
    """What keeps an equation out of native code, in a few words; `refused` has what kernels could not express."""
    if e in refused:
        return f"no kernel expresses it here ({refused[e]})"
    name = e.primitive.name
    if name not in _LOWERED:
        return f"{name} has no native lowering"
    types = [a.type for a in (*e.args, *e.outs)]
    other = next((t for t in types if kind_of(t) is None), None)
    if other is not None:
        return f"no native arithmetic of {other.dtype}"
    if any(t.size == 0 for t in types):
        return "arrays without elements"
    return f"{name} has no native lowering for {', '.join(str(t) for t in types[: len(e.args)])}"
