"""The paths of one signature: what f does for one outcome of every Python branch on a traced value, compiled.

A path is taken where the values that were branched on come out as they did when it was recorded: those are its guards.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np

from chainrule.backends import Executable
from chainrule.errors import user_frame
from chainrule.ir import program as ir
from chainrule.ir.primitive import is_traced_by, is_tracer
from chainrule.ir.program import Program
from chainrule.optimise import optimise
from chainrule.staging.carrier import Astray, Staged, instance, same, without_idle
from chainrule.staging.signature import returned
from chainrule.trace import tree
from chainrule.trace.record import record_program
from chainrule.transforms.batch import Batch

Backend = Literal["llvm", "numpy"]

PATHS = 16
"""How many paths of one signature are kept; beyond them the function runs eagerly."""


class Path:
    """What f does for one outcome of its branches: a staged program, and how its outputs form the result."""

    __slots__ = ("is_narrow", "numbers", "rebuild", "seconds", "staged")

    def __init__(
        self,
        program: Program,
        rebuild: Callable[[list[Any]], Any],
        backend: Backend,
        seconds: float,
        numbers: tuple[bool, ...],
    ) -> None:
        self.numbers = numbers  # which of the arguments were numbers of Python's
        self.is_narrow = _is_narrow(program)
        self.rebuild = rebuild
        self.seconds = seconds  # that recording took
        guards = [value for _, value in program.guards]
        self.staged = Staged(optimise(_with_own_constants(program)), backend, guards)

    @property
    def program(self) -> Program:
        """The program; after the function's own outputs come the values that were branched on."""
        return self.staged.program

    @property
    def executable(self) -> Executable:
        """The compiled program."""
        return self.staged.executable

    @property
    def expected(self) -> Sequence[Any]:
        """The values of the guards."""
        return self.staged.expected

    def suits(self, numbers: tuple[bool, ...]) -> bool:
        """Whether it holds where these arguments are numbers of Python's, which take the precision of narrower arrays."""
        return not self.is_narrow or self.numbers == numbers

    def is_twin_of(self, other: Path) -> bool:
        """Whether the other has the same guards, and so is the same path."""
        return (
            self.suits(other.numbers)
            and len(self.expected) == len(other.expected)
            and all(map(same, self.expected, other.expected))
        )

    def call(self, leaves: Sequence[Any], into: Sequence[Any] = ()) -> Any:
        """The result on arrays; raises Astray where their branches come out otherwise."""
        return self.rebuild(self.staged.run(leaves, into))

    def call_traced(self, leaves: Sequence[Any]) -> Any:
        """The result on values of which some are traced."""
        outs = self.staged.call(leaves)
        found = [without_idle(o, d, leaves) for o, d in zip(outs, self.staged.dependence, strict=False)]
        return self.rebuild(found)


def _with_own_constants(program: Program) -> Program:
    """The program with its guards' values as further outputs, and with copies of the arrays that user code may still write into."""
    copies: dict[int, ir.Literal] = {}

    def is_array(a: ir.Atom) -> bool:
        return isinstance(a, ir.Literal) and isinstance(a.value, np.ndarray)

    def own(atoms: Sequence[ir.Atom]) -> tuple[ir.Atom, ...]:
        return tuple(copied(a) if is_array(a) else a for a in atoms)  # type: ignore[arg-type]

    def copied(a: ir.Literal) -> ir.Literal:
        if not a.value.flags.writeable:
            return a
        if id(a.value) not in copies:
            copies[id(a.value)] = ir.Literal(a.value.copy(order="K"))
        return copies[id(a.value)]

    equations = tuple(
        dataclasses.replace(e, args=own(e.args)) if any(map(is_array, e.args)) else e for e in program.equations
    )
    outputs = program.outputs + tuple(a for a, _ in program.guards)
    return Program(program.name, program.inputs, equations, own(outputs))


# Python's numbers leave these dtypes as they are, as NumPy's float64 and int64 do.
_WIDE = frozenset(map(np.dtype, ("?", "i8", "f8", "c16", "g", "G")))


def _is_narrow(program: Program) -> bool:
    atoms = [a for e in program.equations for a in (*e.args, *e.outs)]
    return any(a.type.dtype not in _WIDE for a in (*program.inputs, *atoms))


class Paths:
    """The paths of one signature."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.paths: tuple[Path, ...] = ()
        self.is_eager = False
        self.lock = threading.RLock()

    def run(
        self, f: Callable[[list[Any]], Any], leaves: list[Any], numbers: tuple[bool, ...], into: Sequence[Any] = ()
    ) -> tuple[Any, Path | None]:
        """f(leaves) by the path that agrees, recorded now if there is none, and that path.

        `numbers` tells which leaves are numbers of Python's; `into` are arrays that the result may be written to.
        """
        for path in self.paths:
            if path.suits(numbers):
                with suppress(Astray):
                    return path.call(leaves, into), path
        taken: list[Path] = []

        def call(path: Path, xs: Sequence[Any]) -> Any:
            result = path.call(xs, into)
            taken.append(path)
            return result

        result = self._run_recorded(f, leaves, call, leaves, numbers)
        return result, taken[0] if taken else None

    def run_traced(self, f: Callable[[list[Any]], Any], leaves: list[Any], numbers: tuple[bool, ...]) -> Any:
        """f(leaves) where some are traced, as one operation; operation by operation where a batch would have to decide a branch."""

        def call(path: Path, xs: Sequence[Any]) -> Any:
            if path.expected and any(is_traced_by(x, Batch) for x in xs):
                return f(_as_given(leaves, numbers))
            return path.call_traced(xs)

        for path in self.paths:
            if path.suits(numbers):
                with suppress(Astray):
                    return call(path, leaves)
        return self._run_recorded(f, leaves, call, [instance(x) for x in leaves], numbers)

    def _run_recorded(
        self,
        f: Callable[[list[Any]], Any],
        leaves: list[Any],
        call: Callable[[Path, Sequence[Any]], Any],
        plain: list[Any],
        numbers: tuple[bool, ...],
    ) -> Any:
        """f(leaves) by a path that is recorded now, or has been by another thread; f itself where none can be."""
        try:
            path = self._recorded(f, plain, numbers)
        except _TracedOutside:
            path = None
        if path is not None:
            with suppress(Astray):
                return call(path, leaves)
        return f(_as_given(leaves, numbers))

    def _recorded(self, f: Callable[[list[Any]], Any], leaves: list[Any], numbers: tuple[bool, ...]) -> Path | None:
        """A path recorded at these leaves; None where there are too many."""
        if self.is_eager:
            return None
        if len(self.paths) >= PATHS:
            with self.lock:
                first, self.is_eager, self.paths = not self.is_eager, True, ()
            if first:
                _warn(self.name)
            return None
        start = time.perf_counter()
        program, rebuild = _recorded(f, _as_given(leaves, numbers), self.name)
        path = Path(program, rebuild, self.backend, time.perf_counter() - start, numbers)
        # User code runs without the lock, so that functions which call each other cannot wait for each other.
        with self.lock:
            for other in self.paths:  # which another thread may have recorded
                if other.is_twin_of(path):
                    return other
            self.paths = (path, *self.paths)
        return path


def _as_given(leaves: list[Any], numbers: tuple[bool, ...]) -> list[Any]:
    """The leaves with Python's numbers as they were given."""
    return [x.item() if number else x for x, number in zip(leaves, numbers, strict=True)]


def _warn(name: str) -> None:
    frame = user_frame()
    warnings.warn_explicit(
        f"jit: `{name}` took more than {PATHS} different paths through its branches on traced values; it runs "
        "eagerly from now on. Use np.where in the place of branches, or static_argnums for what they depend on.",
        RuntimeWarning,
        frame.f_code.co_filename if frame else "<unknown>",
        frame.f_lineno if frame else 0,
    )


class _TracedOutside(Exception):
    """A result depends on a traced value that the function did not take as an argument; no constant may stand for it."""


def _is_traced_outside(x: Any, given: Sequence[Any]) -> bool:
    """Whether an output of a recording, whose inputs are given, is a value that a transformation around it traces."""
    if is_tracer(x) and any(x.owner is t.owner for t in given):
        x = x.value
    return is_tracer(x)


_OBJECTS = np.dtype(object)


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
        return [x if getattr(x, "dtype", _OBJECTS) != _OBJECTS else returned(x, name) for x in found]

    program = record_program(flat, leaves, name)
    return program, form[0]
