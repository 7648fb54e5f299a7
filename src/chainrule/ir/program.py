"""The program: typed equations over arrays in static single assignment.

    program f(a: f64[2]) -> f64[]
      b: f64[2] = square a                      # model.py:4
      c: f64[] = reduce_sum[axes=(0,)] b        # model.py:4
      return c

A Program prints as text, evaluates (`program(x)`), and re-checks its own types (`program.check()`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.errors import ProgramError
from chainrule.ir.origin import Origin, located, running
from chainrule.ir.primitive import Params, Primitive, bind
from chainrule.ir.types import Array, ArrayType


class Var:
    """A variable: assigned once, identified by itself. Its name is given when the program is printed."""

    __slots__ = ("type",)

    def __init__(self, type: ArrayType) -> None:
        self.type = type

    def __repr__(self) -> str:
        return f"Var({self.type})"


class Literal:
    """A constant: a number, or an array captured from the user's code."""

    __slots__ = ("type", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.type = ArrayType.of(value)

    def __repr__(self) -> str:
        return f"Literal({self.type})"


Atom = Var | Literal


@dataclass(frozen=True, slots=True, eq=False)
class Equation:
    """outs = primitive[params] args."""

    primitive: Primitive
    args: tuple[Atom, ...]
    params: Params
    outs: tuple[Var, ...]
    origin: Origin | None = None

    @property
    def variables(self) -> Iterator[Var]:
        """The arguments that are variables."""
        return (a for a in self.args if isinstance(a, Var))

    def flops(self) -> int:
        """Elementary floating-point operations of one evaluation."""
        return self.primitive.flops([a.type for a in self.args], [o.type for o in self.outs], self.params)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Inputs, equations and outputs. `guards` are values that Python branched on: the program holds where they are as recorded."""

    name: str
    inputs: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Atom, ...]
    guards: tuple[tuple[Atom, Any], ...] = ()
    input_names: tuple[str, ...] = field(default=())

    def __call__(self, *args: Array) -> tuple[Array, ...]:
        """Evaluate on arrays or tracers; each value is dropped after its last use.

        NumPy's floating-point warnings are off: a derivative's own equations meet infinities that strong zeros then absorb.
        """
        if len(args) != len(self.inputs):
            raise ProgramError(
                f"program `{self.name}` takes {len(self.inputs)} arrays, and was given {len(args)}",
                "Give one array an input.",
            )
        for var, x in zip(self.inputs, args, strict=True):
            if ArrayType.of(x).shape != var.type.shape:
                raise ProgramError(
                    f"program `{self.name}` takes {var.type} where it was given {ArrayType.of(x)}",
                    "Shapes are static: record the program anew for other shapes.",
                )
        with np.errstate(all="ignore"):
            return evaluate(self, args)

    def check(self) -> Program:
        """Re-derive every type and check that every variable is made once and before its use; returns the program itself."""
        known: set[Var] = set(self.inputs)
        for equation in self.equations:
            for v in equation.variables:
                if v not in known:
                    raise ProgramError(f"`{equation.primitive.name}` uses a variable before it is made")
            derived = equation.primitive.type_rule(*(a.type for a in equation.args), **equation.params)
            declared = tuple(o.type for o in equation.outs)
            if derived != declared:
                raise ProgramError(
                    f"`{equation.primitive.name}` gives {', '.join(map(str, derived))}, declared {', '.join(map(str, declared))}"
                )
            if known.intersection(equation.outs):
                raise ProgramError(f"`{equation.primitive.name}` assigns a variable a second time")
            known.update(equation.outs)
        for a in self.outputs:
            if isinstance(a, Var) and a not in known:
                raise ProgramError(f"program `{self.name}` returns a variable that is never made")
        return self

    def flops(self) -> int:
        """Elementary floating-point operations of one evaluation."""
        return sum(e.flops() for e in self.equations)

    def __str__(self) -> str:
        from chainrule.ir.text import program_text

        return program_text(self)

    __repr__ = __str__


def last_uses(program: Program) -> list[list[Var]]:
    """For each equation, the variables that nothing needs after it."""
    needed = {a for a in program.outputs if isinstance(a, Var)} | {a for a, _ in program.guards if isinstance(a, Var)}
    out: list[list[Var]] = []
    for equation in reversed(program.equations):
        dead = {v for v in (*equation.variables, *equation.outs) if v not in needed}
        needed |= dead
        out.append(list(dead))
    return out[::-1]


def evaluate(program: Program, args: Sequence[Array]) -> tuple[Array, ...]:
    """Compute a program equation by equation; on tracers this records, so a program is transformed as any function is."""
    env: dict[Var, Any] = dict(zip(program.inputs, args, strict=True))

    def read(a: Atom) -> Any:
        return env[a] if isinstance(a, Var) else a.value

    before = running.origin
    try:
        for equation, dead in zip(program.equations, last_uses(program), strict=True):
            running.origin = equation.origin
            try:
                out = bind(equation.primitive, [read(a) for a in equation.args], equation.params)
            except IndexError as error:
                raise located(error, equation.origin) from error
            env.update(zip(equation.outs, (out,) if equation.primitive.outputs == 1 else out, strict=True))
            for var in dead:
                env.pop(var, None)
    finally:
        running.origin = before
    return tuple(read(a) for a in program.outputs)


def literal_text(value: Any) -> str:
    """A literal as text: a scalar's digits, an array's type."""
    x = np.asarray(value)
    return repr(x.item()) if x.ndim == 0 else f"<{ArrayType.of(x)}>"
