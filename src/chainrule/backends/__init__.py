"""Backends run programs: `numpy` interprets them, `llvm` compiles them to native code and leaves to NumPy what it cannot lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.backends.executable import Executable
from chainrule.backends.interpret import Interpreted
from chainrule.ir.program import Program

__all__ = ["Executable", "Interpreted", "compile_program", "fast_entry"]


def compile_program(program: Program, backend: str) -> Executable:
    """An executable of a program, by the backend of that name."""
    if backend == "numpy":
        return Interpreted(program)
    if backend != "llvm":
        raise ValueError(f"backend is 'llvm' or 'numpy', not {backend!r}")
    from chainrule.backends.llvm import compiled  # llvmlite loads at first use

    return compiled(program)


def fast_entry(
    executable: Executable, args: tuple[Any, ...], rebuild: Callable[[list[Any]], Any], slow: Callable[..., Any]
) -> Callable[..., Any] | None:
    """A native entry for calls with arguments like these, which hands every other call to `slow`; None where there is none."""
    if isinstance(executable, Interpreted):
        return None
    from chainrule.backends.llvm import entry_of

    return entry_of(executable, args, rebuild, slow)
