"""One pass over a program: each equation is rewritten by the rules, folded if constant, or found to be computed already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.ir.origin import Origin
from chainrule.ir.primitive import Params, Primitive, parameter_key
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType
from chainrule.optimise.rule import New
from chainrule.optimise.rules import COMMUTATIVE, RULES, uniform_value

# Larger constants are not computed ahead: they would be kept in memory for good.
_FOLD_ELEMENTS = 4096
# Rewrites of one equation that follow from each other.
_STEPS = 16


class Simplifier:
    """The program under construction: what each variable became, how each was made, and which expressions are known."""

    def __init__(self, program: Program) -> None:
        self.equations: list[Equation] = []
        self.uses = Counter(a for e in program.equations for a in e.args if isinstance(a, Var))
        self.uses.update(a for a in (*program.outputs, *(a for a, _ in program.guards)) if isinstance(a, Var))
        self.made: dict[Var, Equation] = {}
        self.became: dict[Var, Atom] = {}
        self.known: dict[Any, tuple[Var, ...]] = {}
        self.changed = False
        self.origin: Origin | None = None
        self.literals: dict[Literal, Any] = {}

    def atom(self, a: Atom) -> Atom:
        """What an atom of the old program is in the new one."""
        return self.became.get(a, a) if isinstance(a, Var) else a

    def definition(self, a: Atom, name: str) -> Equation | None:
        """The equation that makes `a`, if it is of that primitive."""
        if not isinstance(a, Var):
            return None
        equation = self.made.get(a)
        return equation if equation is not None and equation.primitive.name == name else None

    def only_use(self, a: Atom, name: str) -> Equation | None:
        """The equation that makes `a`, if it is of that primitive and one equation alone needs its result."""
        return self.definition(a, name) if isinstance(a, Var) and self.uses[a] == 1 else None

    def take(self, equation: Equation) -> None:
        """Put an equation of the old program into the new one."""
        args = tuple(self.atom(a) for a in equation.args)
        self.origin = equation.origin
        if len(equation.outs) == 1:
            self.became[equation.outs[0]] = self.make(equation.primitive, args, equation.params, equation.outs[0])
            return
        found = self._share(equation.primitive, args, equation.params, equation.outs)
        self.became.update(zip(equation.outs, found, strict=True))

    def make(self, primitive: Primitive, args: tuple[Atom, ...], params: Params, out: Var | None = None) -> Atom:
        """The atom for primitive[params] args: simplified, folded, shared or newly computed, in `out` if that is given."""
        out_type = out.type if out is not None else primitive.type_rule(*(a.type for a in args), **params)[0]
        for _ in range(_STEPS):
            found = self._rewrite(primitive, args, params, out_type)
            if found is None:
                break
            self.changed = True
            if not isinstance(found, New):
                return found
            args = self._built(found.args)
            primitive, params = found.primitive, found.params
        folded = self._fold(primitive, args, params, out_type)
        if folded is not None:
            self.changed = True
            return folded
        return self._share(primitive, args, params, (Var(out_type) if out is None else out,))[0]

    def _built(self, args: tuple[Any, ...]) -> tuple[Atom, ...]:
        """Arguments of a new expression as atoms, the innermost first."""
        return tuple(self.make(a.primitive, self._built(a.args), a.params) if isinstance(a, New) else a for a in args)

    def _rewrite(
        self, primitive: Primitive, args: tuple[Atom, ...], params: Params, out: ArrayType
    ) -> Atom | New | None:
        for rule in RULES.get(primitive.name, ()):
            found = rule.rewrite(self, args, params, out)
            if found is not None and (isinstance(found, New) or found.type == out):
                return found
        return None

    def _fold(self, primitive: Primitive, args: Sequence[Atom], params: Params, out: ArrayType) -> Literal | None:
        if not args or primitive.outputs != 1 or out.size > _FOLD_ELEMENTS or primitive.name == "custom_call":
            return None
        values = [a.value for a in args if isinstance(a, Literal)]
        if len(values) < len(args):
            return None
        with np.errstate(all="ignore"):
            try:
                value = primitive.value(*values, **params)
            except (IndexError, ValueError, TypeError):  # it is for the run to raise it
                return None
        literal = Literal(value)
        return literal if literal.type == out else None

    def _argument_key(self, a: Atom) -> tuple[int, str]:
        if isinstance(a, Var):
            return (id(a), "")
        key = self.literals.get(a)
        if key is None:
            key = self.literals[a] = _literal_key(a)
        return (0, key)

    def _share(
        self, primitive: Primitive, args: tuple[Atom, ...], params: Params, outs: tuple[Var, ...]
    ) -> tuple[Var, ...]:
        keys = [self._argument_key(a) for a in args]
        if primitive.name in COMMUTATIVE:
            keys.sort()
        key = (primitive, tuple(keys), parameter_key(params) if params else ())
        before = self.known.get(key)
        if before is not None:
            self.changed = True
            for kept, dropped in zip(before, outs, strict=True):
                self.uses[kept] += self.uses[dropped]
            return before
        self.known[key] = outs
        equation = Equation(primitive, args, params, outs, self.origin)
        self.equations.append(equation)
        for out in outs:
            self.made[out] = equation
        return outs


def _literal_key(a: Literal) -> Any:
    """A key that is equal for equal constants, and that sorts."""
    x = np.asarray(a.value)
    if x.size <= _FOLD_ELEMENTS:
        return f"{x.dtype.str}{x.shape}{x.tobytes().hex()}"
    value = uniform_value(a)
    return (
        f"object {id(a.value)}"
        if value is None
        else f"{x.dtype.str}{x.shape}{np.asarray(value, x.dtype).tobytes().hex()}"
    )


def simplify(program: Program) -> tuple[Program, bool]:
    """The program after one pass of rules, constant folding and sharing, and whether anything changed."""
    s = Simplifier(program)
    for equation in program.equations:
        s.take(equation)
    outputs = tuple(s.atom(a) for a in program.outputs)
    guards = tuple((s.atom(a), value) for a, value in program.guards)
    return replace(program, equations=tuple(s.equations), outputs=outputs, guards=guards), s.changed
