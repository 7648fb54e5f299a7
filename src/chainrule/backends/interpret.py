"""The reference backend: NumPy computes one equation after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.backends.executable import Executable, Report, by_numpy
from chainrule.ir.origin import located
from chainrule.ir.program import Equation, Literal, Program, Var, last_uses


class Interpreted(Executable):
    """A program run by NumPy; each value is dropped after its last use."""

    def __init__(self, program: Program, why: str = "the backend is NumPy") -> None:
        self.program = program
        self.why = why
        self._dead = last_uses(program)

    def __call__(self, leaves: Sequence[Any], into: Sequence[Any] = ()) -> list[Any]:
        env: dict[Var, Any] = dict(zip(self.program.inputs, leaves, strict=True))
        with np.errstate(all="ignore"):
            for equation, dead in zip(self.program.equations, self._dead, strict=True):
                run_equation(equation, env)
                for var in dead:
                    env.pop(var, None)
        given = {id(x) for x in leaves}
        return [_own(a.value if isinstance(a, Literal) else env[a], a, given) for a in self.program.outputs]

    def report(self) -> Report:
        return Report((), tuple(by_numpy(e, self.why) for e in self.program.equations), 0, 0)


def run_equation(equation: Equation, env: dict[Var, Any]) -> None:
    """Compute one equation by NumPy; an index out of range is reported with the user's file and line."""
    args = [a.value if isinstance(a, Literal) else env[a] for a in equation.args]
    try:
        out = equation.primitive.value(*args, **equation.params)
    except IndexError as error:
        raise located(error, equation.origin) from error
    env.update(zip(equation.outs, (out,) if equation.primitive.outputs == 1 else out, strict=True))


def _own(x: Any, a: Any, given: set[int]) -> Any:
    """An array that the caller may keep and change: fresh, and not a constant, an input, or returned a second time."""
    if not isinstance(x, np.ndarray):
        return x
    if x.ndim == 0:
        return x[()]
    if id(x) in given or isinstance(a, Literal) or not (x.flags.owndata and x.flags.writeable):
        return x.copy()
    given.add(id(x))
    return x
