"""What a backend makes of a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from chainrule.ir.program import Program


class Executable(ABC):
    """A program ready to run: called with one array an input, it returns fresh arrays (scalars of NumPy for rank 0)."""

    program: Program

    @abstractmethod
    def __call__(self, leaves: Sequence[Any]) -> list[Any]:
        """The outputs for these inputs, whose types are the program's."""

    @abstractmethod
    def describe(self) -> str:
        """How it runs, as text."""
