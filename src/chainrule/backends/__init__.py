"""Backends run programs: `numpy` interprets them, `llvm` compiles them to native code and leaves to NumPy what it cannot lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule.backends.executable import Call, Executable
from chainrule.backends.interpret import Interpreted
from chainrule.ir.collection import no_collection
from chainrule.ir.program import Program

if TYPE_CHECKING:
    from chainrule.backends.llvm.entry import Entry

__all__ = ["Call", "Executable", "Interpreted", "compile_program", "entry"]


@no_collection()
def compile_program(program: Program, backend: str) -> Executable:
    """An executable of a program, by the backend of that name."""
    if backend == "numpy":
        return Interpreted(program)
    if backend != "llvm":
        raise ValueError(f"backend is 'llvm' or 'numpy', not {backend!r}")
    from chainrule.backends.llvm import compiled  # llvmlite loads at first use

    return compiled(program)


def entry(backend: str, name: str, slow: Callable[..., Any]) -> Entry | None:
    """A C-level callable to put before a function's Python path, which takes the calls it is shown; None where there is none."""
    if backend != "llvm":
        return None
    from chainrule.backends.llvm import new_entry

    return new_entry(name, slow)
