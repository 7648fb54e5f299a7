"""Dead code: equations of which no output, no guard and no later equation needs a result."""

from __future__ import annotations

from dataclasses import replace

from chainrule.ir.program import Equation, Program, Var


def without_dead_code(program: Program) -> Program:
    """The program without the equations that nothing needs."""
    needed = {a for a in program.outputs if isinstance(a, Var)}
    needed.update(a for a, _ in program.guards if isinstance(a, Var))
    kept: list[Equation] = []
    for equation in reversed(program.equations):
        if not needed.isdisjoint(equation.outs):
            needed.update(equation.variables)
            kept.append(equation)
    return replace(program, equations=tuple(reversed(kept)))
