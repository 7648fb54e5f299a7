"""The evaluation trace: every intermediate value v with its tangent v-dot and its cotangent v-bar, as textbooks print it.

Baydin et al. (2018), tables 2 and 3; Griewank and Walther (2008), section 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import DifferentiationError
from chainrule.explain.formulas import (
    COTANGENT,
    TANGENT,
    equation_formula,
    number,
    pad,
    rule_formulas,
    subscript,
    width,
)
from chainrule.explain.problem import Problem, ProblemError
from chainrule.ir.primitive import bind
from chainrule.ir.program import Atom, Equation, Program, Var
from chainrule.linear.strong import strong_products
from chainrule.trace.record import record_program
from chainrule.transforms.forward import pushforward

_MOST_DIRECTIONS = 3


@dataclass(frozen=True)
class Step:
    """One line of the forward trace: name = formula = value, and the tangents in each direction."""

    name: str
    formula: str
    value: Any
    tangent_name: str
    tangent_formula: str
    tangents: tuple[Any, ...]
    origin: str


@dataclass(frozen=True)
class Pull:
    """One line of the reverse trace: a term that is added to a cotangent, and what that cotangent then is."""

    name: str
    sign: str
    formula: str
    value: Any


@dataclass(frozen=True)
class Explanation:
    """The evaluation trace of a function at a point; `print` it, or read `steps` (inputs first) and `pulls` (outputs first)."""

    title: str
    directions: tuple[str, ...]
    steps: tuple[Step, ...]
    pulls: tuple[Pull, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        names = " | ".join(self.directions)
        forward = [_step_cells(s) for s in self.steps]
        parts = [
            self.title,
            f"\nForward, inputs first: v, and v{TANGENT} in the direction of {names}",
            *_aligned(forward),
            f"\nReverse, outputs first: v{COTANGENT}",
            *_aligned([(p.name, p.sign, p.formula, "=", number(p.value)) for p in self.pulls]),
        ]
        if self.notes:
            parts += ["", *self.notes]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def _step_cells(s: Step) -> tuple[str, ...]:
    dots = " | ".join(number(t) for t in s.tangents)
    moving = (s.tangent_name, "=", s.tangent_formula, "=", dots) if s.tangents else ("", "", "constant", "", "")
    return s.name, "=", s.formula, "=", number(s.value), *moving, s.origin


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    columns = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return ["  " + " ".join(pad(cell, n) for cell, n in zip(row, columns, strict=True)).rstrip() for row in rows]


def explain_call(f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Explanation:
    """The evaluation trace of f at its arguments; see `chainrule.explain`."""
    try:
        problem = Problem.of(f, args, kwargs)
        with np.errstate(all="ignore"):
            program = record_program(problem.outputs, list(problem.leaves), problem.name)
    except ProblemError as error:
        raise DifferentiationError(str(error)) from None
    return explain_program(program, problem)


def explain_program(program: Program, problem: Problem) -> Explanation:
    """The evaluation trace of a recorded problem."""
    with np.errstate(all="ignore"), strong_products():
        return _Trace(program, problem).explanation()


class _Trace:
    """The numbers and the names of one evaluation, filled in by a forward and a reverse pass."""

    def __init__(self, program: Program, problem: Problem) -> None:
        self.program, self.problem = program, problem
        numbers = count(1 - len(program.inputs))
        made = [*program.inputs, *(o for e in program.equations for o in e.outs)]
        self.numbers = {v: next(numbers) for v in made}
        self.names = self._named("")
        self.dot_names, self.bar_names = self._named(TANGENT), self._named(COTANGENT)
        self.values: dict[Var, Any] = {}
        self.dots: dict[Var, list[Any]] = {}

    def _named(self, mark: str) -> dict[Var, str]:
        return {v: subscript("v", n, mark) for v, n in self.numbers.items()}

    def read(self, a: Atom) -> Any:
        return self.values[a] if isinstance(a, Var) else a.value

    def explanation(self) -> Explanation:
        directions, labels = _directions(self.problem)
        steps = [self._input(k, v, directions) for k, v in enumerate(self.program.inputs)]
        for equation in self.program.equations:
            steps += self._push(equation, len(labels))
        called = ", ".join(self.problem.names)
        at = ", ".join(number(x) for x in self.problem.leaves)
        title = f"{self.problem.name}({called}) at ({at})"
        return Explanation(title, labels, tuple(steps), tuple(self._pulls()), tuple(_first_bad(steps)))

    def _input(self, k: int, v: Var, directions: Sequence[Sequence[Any]]) -> Step:
        self.values[v] = self.problem.leaves[k]
        self.dots[v] = [d[k] for d in directions]
        name = self.problem.names[k]
        dot = f"{name[0]}{TANGENT}{name[1:]}"
        return Step(self.names[v], name, self.values[v], self.dot_names[v], dot, tuple(self.dots[v]), "")

    def _push(self, e: Equation, directions: int) -> list[Step]:
        values = [self.read(a) for a in e.args]
        out = bind(e.primitive, values, e.params)
        outs = (out,) if e.primitive.outputs == 1 else out
        self.values.update(zip(e.outs, outs, strict=True))
        active = [isinstance(a, Var) and a in self.dots for a in e.args]
        formulas: Sequence[str] = [""] * len(outs)
        if e.primitive.differentiable and any(active):
            formulas = self._tangents(e, values, out, directions)
        formula = equation_formula(e, self.names)
        origin = f"{Path(e.origin.file).name}:{e.origin.line}" if e.origin and not e.origin.file.startswith("<") else ""
        parts = [formula] if len(outs) == 1 else [f"({formula}){subscript('', i + 1)}" for i in range(len(outs))]
        return [
            Step(self.names[v], p, x, self.dot_names[v], t, tuple(self.dots.get(v, ())), origin)
            for v, p, x, t in zip(e.outs, parts, outs, formulas, strict=True)
        ]

    def _tangents(self, e: Equation, values: Sequence[Any], out: Any, directions: int) -> Sequence[str]:
        for i in range(directions):
            dots = [self.dots[a][i] if isinstance(a, Var) and a in self.dots else None for a in e.args]
            found = pushforward(e.primitive, values, out, e.params, dots)
            for v, d, x in zip(e.outs, (found,) if e.primitive.outputs == 1 else found, self._outs(e), strict=True):
                self.dots.setdefault(v, []).append(np.zeros_like(x)[()] if d is None else d)
        return self._tangent_formulas(e, values, out) or [self._jacobian_terms(e)] * len(e.outs)

    def _outs(self, e: Equation) -> list[Any]:
        return [self.values[v] for v in e.outs]

    def _tangent_formulas(self, e: Equation, values: Sequence[Any], out: Any) -> list[str] | None:
        """What the rule of the pushforward computes, as a formula of the arguments, the outputs and the arguments' tangents."""
        args = {a: v for a, v in zip(e.args, values, strict=True) if isinstance(a, Var)}
        moving = {a: v for a, v in args.items() if a in self.dots}
        outs = self._outs(e)

        def rule(xs: list[Any]) -> Sequence[Any]:
            given = dict(zip(args, xs, strict=False))
            results = xs[len(args) : len(args) + len(outs)]
            dots = dict(zip(moving, xs[len(args) + len(outs) :], strict=True))
            found = e.primitive.pushforward(
                [given.get(a, v) if isinstance(a, Var) else v for a, v in zip(e.args, values, strict=True)],
                results[0] if e.primitive.outputs == 1 else tuple(results),
                e.params,
                [dots.get(a) if isinstance(a, Var) else None for a in e.args],
            )
            return [found] if e.primitive.outputs == 1 else list(found)

        names = [*(self.names[a] for a in args), *(self.names[v] for v in e.outs), *(self.dot_names[a] for a in moving)]
        return rule_formulas(rule, [*args.values(), *outs, *moving.values()], names)

    def _jacobian_terms(self, e: Equation) -> str:
        y = self.names[e.outs[0]]
        terms = [f"∂{y}/∂{self.names[a]} {self.dot_names[a]}" for a in e.args if isinstance(a, Var) and a in self.dots]
        return " + ".join(dict.fromkeys(terms))

    # ---- the reverse pass

    def _pulls(self) -> list[Pull]:
        bars: dict[Var, Any] = {}
        pulls = []
        for a in self.program.outputs:
            if isinstance(a, Var) and a in self.dots:
                bars[a] = np.ones_like(self.values[a])[()] + bars.get(a, 0)
                pulls.append(Pull(self.bar_names[a], "=", f"y{COTANGENT}", bars[a]))
        for e in reversed(self.program.equations):
            if any(v in bars for v in e.outs):
                pulls += self._pull(e, bars)
        for v, name in zip(self.program.inputs, self.problem.names, strict=True):
            bar = f"{name[0]}{COTANGENT}{name[1:]}"
            pulls.append(Pull(bar, "=", self.bar_names[v], bars.get(v, np.zeros_like(self.values[v])[()])))
        return pulls

    def _pull(self, e: Equation, bars: dict[Var, Any]) -> list[Pull]:
        values = [self.read(a) for a in e.args]
        wanted = [isinstance(a, Var) and a in self.dots for a in e.args]
        outs = self._outs(e)
        single = e.primitive.outputs == 1
        cts = bars[e.outs[0]] if single else [bars.get(v) for v in e.outs]
        terms = e.primitive.pullback(values, outs[0] if single else tuple(outs), e.params, cts, wanted)
        pulls = []
        for k, (a, term) in enumerate(zip(e.args, terms, strict=True)):
            if isinstance(a, Var) and term is not None:
                formula = self._cotangent_formula(e, values, k, cts) if single else None
                if formula is None:
                    y = next(v for v in e.outs if v in bars)
                    formula = f"∂{self.names[y]}/∂{self.names[a]}ᵀ {self.bar_names[y]}"
                sign = "+=" if a in bars else "="
                bars[a] = bars[a] + term if a in bars else term
                pulls.append(Pull(self.bar_names[a], sign, formula, bars[a]))
        return pulls

    def _cotangent_formula(self, e: Equation, values: Sequence[Any], k: int, ct: Any) -> str | None:
        args = {a: v for a, v in zip(e.args, values, strict=True) if isinstance(a, Var)}

        def rule(xs: list[Any]) -> Sequence[Any]:
            given = dict(zip(args, xs, strict=False))
            at = [given.get(a, v) if isinstance(a, Var) else v for a, v in zip(e.args, values, strict=True)]
            terms = e.primitive.pullback(at, xs[-2], e.params, xs[-1], [i == k for i in range(len(at))])
            return [terms[k]]

        names = [*(self.names[a] for a in args), self.names[e.outs[0]], self.bar_names[e.outs[0]]]
        found = rule_formulas(rule, [*args.values(), self.values[e.outs[0]], ct], names)
        return None if found is None else found[0]


def _directions(problem: Problem) -> tuple[list[list[Any]], tuple[str, ...]]:
    n = problem.size
    if n > _MOST_DIRECTIONS:
        return [problem.split(np.ones(n))], ("all ones",)
    labels = []
    for name, leaf in zip(problem.names, problem.leaves, strict=True):
        labels += (
            [name] if np.ndim(leaf) == 0 else [f"{name}[{', '.join(map(str, i))}]" for i in np.ndindex(leaf.shape)]
        )
    return [problem.split(row) for row in np.eye(n)], tuple(labels)


def _first_bad(steps: Sequence[Step]) -> list[str]:
    """Where the first value, and the first tangent, is not finite."""

    def note(what: str, s: Step) -> str:
        return f"The first {what} that is not finite: {s.name} = {s.formula}" + (f", at {s.origin}" if s.origin else "")

    notes = []
    for what, parts in (("value", [(s.value,) for s in steps]), ("derivative", [s.tangents for s in steps])):
        found = next(
            (s for s, xs in zip(steps, parts, strict=True) if not all(np.all(np.isfinite(x)) for x in xs)), None
        )
        if found is not None:
            notes.append(note(what, found))
    return notes
