"""Programs as text: the same program always prints the same, whatever made it."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import numpy as np

from chainrule.ir.program import Atom, Equation, Program, Var, literal_text
from chainrule.ir.types import ArrayType


def _letters(n: int) -> str:
    name = ""
    while True:
        n, r = divmod(n, 26)
        name = chr(ord("a") + r) + name
        if n == 0:
            return name
        n -= 1


def _key_text(part: Any) -> str:
    if isinstance(part, slice):
        return ":".join(
            "" if p is None else str(p) for p in ((part.start, part.stop) + ((part.step,) if part.step else ()))
        )
    return "..." if part is Ellipsis else str(part)


def param_text(value: Any) -> str:
    """A parameter's value as text."""
    if isinstance(value, tuple):
        inner = ", ".join(map(_key_text, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, np.ndarray):
        return f"<{ArrayType.of(value)}>"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value)


class _Names:
    """Names in the order of appearance: a, b, ..., z, aa, ..."""

    def __init__(self) -> None:
        self._names: dict[Var, str] = {}
        self._next = count()

    def of(self, a: Atom) -> str:
        if not isinstance(a, Var):
            return literal_text(a.value)
        if a not in self._names:
            self._names[a] = _letters(next(self._next))
        return self._names[a]


def _equation_text(e: Equation, names: _Names) -> str:
    args = " ".join(names.of(a) for a in e.args)
    outs = ", ".join(f"{names.of(o)}: {o.type}" for o in e.outs)
    params = ", ".join(f"{k}={param_text(v)}" for k, v in sorted(e.params.items()))
    return f"{outs} = {e.primitive.name}{f'[{params}]' if params else ''} {args}"


def program_text(program: Program, *, origins: bool = True) -> str:
    """The program as text, one equation a line, each with its place in the user's code."""
    names = _Names()
    inputs = ", ".join(f"{names.of(v)}: {v.type}" for v in program.inputs)
    results = ", ".join(str(a.type) for a in program.outputs)
    body = [(_equation_text(e, names), e.origin) for e in program.equations]
    width = max((len(text) for text, _ in body), default=0)
    lines = [f"program {program.name}({inputs}) -> {results}"]
    for text, origin in body:
        note = f"  # {os.path.basename(origin.file)}:{origin.line}" if origins and origin else ""
        lines.append(f"  {text:<{width}}{note}".rstrip())
    for atom, value in program.guards:
        lines.append(f"  guard {names.of(atom)} == {param_text(value)}")
    lines.append(f"  return {', '.join(names.of(a) for a in program.outputs)}")
    return "\n".join(lines)
