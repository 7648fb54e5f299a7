"""The paths of one signature: what f does for one outcome of every Python branch on a traced value, compiled.

A path is taken where the values that were branched on come out as they did when it was recorded: those are its guards.
"""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from chainrule.backends import Executable, compile_program
from chainrule.ir import program as ir
from chainrule.ir.primitive import is_tracer
from chainrule.ir.program import Program
from chainrule.optimise import optimise
from chainrule.staging.signature import as_array
from chainrule.trace import tree
from chainrule.trace.record import record_program

Backend = Literal["llvm", "numpy"]

PATHS = 16
"""How many paths of one signature are kept; beyond them the function runs eagerly."""

# What a path may raise when it is run with values that would have taken another.
_STRAY = (ArithmeticError, LookupError, ValueError, TypeError)


class Path:
    """One compiled path: its program ends with the values that were branched on, after the function's own outputs."""

    __slots__ = ("executable", "expected", "outputs", "program", "rebuild")

    def __init__(self, program: Program, rebuild: Callable[[list[Any]], Any], backend: Backend) -> None:
        self.expected = [value for _, value in program.guards]
        self.outputs = len(program.outputs)
        self.rebuild = rebuild
        whole = _with_own_constants(program)
        self.program = optimise(whole)
        self.executable: Executable = compile_program(self.program, backend)

    def run(self, leaves: Sequence[Any]) -> tuple[bool, list[Any]]:
        """Whether the values take this path, and the outputs if so."""
        if not self.expected:
            return True, self.executable(leaves)
        try:
            found = self.executable(leaves)
        except _STRAY:
            return False, []
        agrees = all(_same(a, b) for a, b in zip(found[self.outputs :], self.expected, strict=True))
        return agrees, found[: self.outputs]


def _with_own_constants(program: Program) -> Program:
    """The program with its guards' values as further outputs, and with copies of the arrays that user code may still write into."""
    copies: dict[int, ir.Literal] = {}

    def own(atoms: Sequence[ir.Atom]) -> tuple[ir.Atom, ...]:
        return tuple(copied(a) if isinstance(a, ir.Literal) and isinstance(a.value, np.ndarray) else a for a in atoms)

    def copied(a: ir.Literal) -> ir.Literal:
        if not a.value.flags.writeable:
            return a
        if id(a.value) not in copies:
            copies[id(a.value)] = ir.Literal(a.value.copy(order="K"))
        return copies[id(a.value)]

    equations = tuple(dataclasses.replace(e, args=own(e.args)) for e in program.equations)
    outputs = program.outputs + tuple(a for a, _ in program.guards)
    return Program(program.name, program.inputs, equations, own(outputs))


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc"))


class Paths:
    """The paths of one signature."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.paths: list[Path] = []
        self.is_eager = False
        self.lock = threading.RLock()

    def run(self, f: Callable[[list[Any]], Any], leaves: list[Any]) -> Any:
        """f(leaves), by the path that agrees; recorded now if there is none."""
        if not self.is_eager:
            for path in self.paths:
                agrees, outs = path.run(leaves)
                if agrees:
                    return path.rebuild(outs)
            try:
                recorded = self._record(f, leaves)
            except _TracedOutside:
                return f(leaves)
            if recorded is not None:
                agrees, outs = recorded.run(leaves)
                if agrees:
                    return recorded.rebuild(outs)
        return f(leaves)

    def _record(self, f: Callable[[list[Any]], Any], leaves: list[Any]) -> Path | None:
        with self.lock:
            if len(self.paths) >= PATHS:
                if not self.is_eager:
                    self.is_eager = True
                    warnings.warn(
                        f"jit: `{self.name}` took more than {PATHS} different paths through its branches on traced values; it runs "
                        "eagerly from now on. Use np.where in the place of branches, or static_argnums for what they depend on.",
                        RuntimeWarning,
                        stacklevel=4,
                    )
                return None
            path = Path(*_recorded(f, leaves, self.name), self.backend)
            self.paths = [path, *self.paths]
            return path


class _TracedOutside(Exception):
    """A result depends on a traced value that the function did not take as an argument; no constant may stand for it."""


def _is_traced_outside(x: Any, given: Sequence[Any]) -> bool:
    """Whether an output of a recording, whose inputs are given, is a value that a transformation around it traces."""
    if is_tracer(x) and any(x.owner is t.owner for t in given):
        x = x.value
    return is_tracer(x)


def _recorded(
    f: Callable[[list[Any]], Any], leaves: list[Any], name: str
) -> tuple[Program, Callable[[list[Any]], Any]]:
    """The program of f, and how its outputs are put back into their tree."""
    form: list[Callable[[list[Any]], Any]] = []

    def flat(xs: list[Any]) -> list[Any]:
        found, rebuild = tree.flatten(f(xs))
        form.append(rebuild)
        if any(_is_traced_outside(x, xs) for x in found):
            raise _TracedOutside
        return [x if hasattr(x, "dtype") else as_array(x, "returned") for x in found]

    program = record_program(flat, leaves, name)
    return program, form[0]
