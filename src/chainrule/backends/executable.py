"""What a backend makes of a program."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chainrule.ir.origin import Origin
from chainrule.ir.program import Equation, Program


@dataclass(frozen=True)
class ByNumpy:
    """An operation that NumPy computes, and why it is not part of native code."""

    operation: str
    why: str
    origin: Origin | None

    def __str__(self) -> str:
        place = f"  # {os.path.basename(self.origin.file)}:{self.origin.line}" if self.origin else ""
        return f"{self.operation}: {self.why}{place}"


@dataclass(frozen=True)
class Report:
    """How a program runs: its regions of native code, what NumPy computes between them, and the bytes of its workspace."""

    regions: tuple[str, ...]
    by_numpy: tuple[ByNumpy, ...]
    workspace: int
    kernels: int  # that differ by more than their buffers

    def __str__(self) -> str:
        count = f"{self.kernels} different kernel{'s' * (self.kernels != 1)}"
        lines = [f"native code: {count}, workspace of {self.workspace} bytes" if self.regions else "no native code"]
        lines += [f"  {line}" for line in self.regions]
        if self.by_numpy:
            lines += ["by NumPy", *(f"  {e}" for e in self.by_numpy)]
        return "\n".join(lines)


def by_numpy(e: Equation, why: str) -> ByNumpy:
    """An equation that NumPy computes."""
    return ByNumpy(f"{e.primitive.name} {', '.join(str(o.type) for o in e.outs)}", why, e.origin)


class Executable(ABC):
    """A program ready to run: called with one array an input, it returns fresh arrays (scalars of NumPy for rank 0)."""

    program: Program

    @abstractmethod
    def __call__(self, leaves: Sequence[Any], into: Sequence[Any] = ()) -> list[Any]:
        """The outputs for these inputs, whose types are the program's; `into` are arrays that the first may be written to."""

    @abstractmethod
    def report(self) -> Report:
        """How it runs."""


class Call(NamedTuple):
    """A call that an executable has served: its arguments in their tree, and what became of the outputs."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    statics: Sequence[int | str]  # the places and names of static arguments
    leaves: Sequence[Any]  # of the others, one an input of the program
    rebuild: Callable[[list[Any]], Any]  # the result's tree from its leaves
    expected: Sequence[Any]  # what the program's last outputs, its guards, must be
    out: Any = None  # the tree of the arrays that the result was written to
