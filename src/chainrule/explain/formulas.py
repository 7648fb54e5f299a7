"""Equations as textbooks write them: `v₃ = v₋₁ × v₀`, and the formula of a derivative read off the rule that computes it.

Rules are written with ordinary operations, so a rule can be recorded like any other code. What it records is its formula.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import ChainruleError
from chainrule.ir.primitive import Params, Primitive
from chainrule.ir.program import Atom, Equation, Program, Var
from chainrule.ir.types import ArrayType
from chainrule.trace.record import record_program

_SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TANGENT, COTANGENT = "\u0307", "\u0304"  # a dot, a bar, above the letter that they follow

# How tightly an expression holds together: sums least, then products, signs, functions, and names most.
_SUM, _PRODUCT, _SIGN, _CALL, _NAME = range(5)
_INFIX = {
    "add": ("+", _SUM),
    "subtract": ("−", _SUM),
    "multiply": ("×", _PRODUCT),
    "strong_multiply": ("×", _PRODUCT),
    "divide": ("/", _PRODUCT),
    "contract": ("·", _PRODUCT),
    "less": ("<", _SUM),
    "less_equal": ("≤", _SUM),
    "greater": (">", _SUM),
    "greater_equal": ("≥", _SUM),
    "equal": ("=", _SUM),
    "not_equal": ("≠", _SUM),
}
_FUNCTIONS = {"log": "ln", "reduce_sum": "Σ", "sqrt": "√", "conjugate": "conj"}
_SILENT = ("broadcast_to", "convert", "positive")

Expression = tuple[str, int]


def subscript(letter: str, number: int, mark: str = "") -> str:
    """A numbered variable: `v₋₁`, `v̇₃`.

    >>> print(subscript("v", -1))
    v₋₁
    """
    return letter + mark + str(number).translate(_SUBSCRIPTS)


def width(text: str) -> int:
    """How many columns a text takes: marks above a letter take none."""
    return sum(not unicodedata.combining(c) for c in text)


def pad(text: str, columns: int) -> str:
    """The text, filled with spaces on the right to a number of columns."""
    return text + " " * max(0, columns - width(text))


def number(value: Any) -> str:
    """A number to six digits, or a short array; of a long one its type and range. The sign of a zero is not shown.

    >>> number(np.log(2.0)), number(np.array([1.0, -0.0])), number(np.arange(100.0))
    ('0.693147', '[1, 0]', 'f64[100] in [0, 99]')
    """
    x = np.asarray(value)
    if x.dtype.kind == "f":
        x = x + 0.0  # -0.0 + 0.0 is 0.0
    if x.dtype.kind not in "fiub":
        return str(ArrayType.of(x)) if x.ndim else str(x)
    if x.ndim == 0:
        return f"{x.item():.6g}"
    if x.ndim == 1 and x.size <= 4:
        return "[" + ", ".join(f"{v:.4g}" for v in x) + "]"
    kind = ArrayType.of(x)
    return f"{kind} in [{x.min():.4g}, {x.max():.4g}]" if x.size else str(kind)


def _literal(value: Any) -> str:
    x = np.asarray(value)
    return number(x) if x.size <= 4 else str(ArrayType.of(x))


def _held(expression: Expression, tightness: int) -> str:
    text, own = expression
    return text if own >= tightness else f"({text})"


def _index(key: Any) -> str:
    parts = []
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, slice):
            ends = ["" if p is None else str(p) for p in (part.start, part.stop)]
            parts.append(":".join(ends if part.step is None else [*ends, str(part.step)]))
        else:
            parts.append("…" if part is Ellipsis else str(part) if isinstance(part, int) else "i")
    return ", ".join(parts)


def _infix(sign: str, tightness: int, a: Expression, b: Expression) -> Expression:
    left, right = _held(a, tightness), _held(b, tightness + (sign in "−/·"))
    if sign == "×" and "1" in (a[0], b[0]):
        return b if a[0] == "1" else a
    if sign == "×" and right.startswith("1 / "):
        return f"{left} / {right[4:]}", tightness
    if sign == "×" and right.startswith("−"):
        right = f"({right})"
    if sign == "+" and right.startswith("−"):
        return f"{left} − {right[1:]}", tightness
    return f"{left} {sign} {right}", tightness


def _power(args: Sequence[Expression]) -> Expression:
    exponent = args[1][0]
    if exponent.lstrip("-").isdigit():
        return _held(args[0], _NAME) + exponent.translate(_SUPERSCRIPTS), _CALL
    return f"{_held(args[0], _NAME)} ^ {_held(args[1], _NAME)}", _CALL


_FORMS: dict[str, Callable[[Sequence[Expression]], Expression]] = {
    "negative": lambda args: ("−" + _held(args[0], _PRODUCT), _PRODUCT),
    "reciprocal": lambda args: ("1 / " + _held(args[0], _SIGN), _PRODUCT),
    "square": lambda args: (_held(args[0], _NAME) + "²", _CALL),
    "absolute": lambda args: (f"|{args[0][0]}|", _NAME),
    "power": _power,
}


def render(primitive: Primitive, params: Params, args: Sequence[Expression]) -> Expression:
    """The formula of one operation on expressions, and how tightly it holds together."""
    name = primitive.name
    if name in _INFIX and len(args) == 2:
        return _infix(*_INFIX[name], args[0], args[1])
    if name in _FORMS:
        return _FORMS[name](args)
    if name in _SILENT:
        return args[0]
    if name == "slice":
        return f"{_held(args[0], _NAME)}[{_index(params['key'])}]", _NAME
    if name == "place":
        return f"{args[0][0]} at [{_index(params['key'])}]", _SUM
    called = _FUNCTIONS.get(name, name)
    if len(args) == 1:
        gap = "" if called == "√" or args[0][1] < _NAME else " "
        return called + gap + _held(args[0], _NAME), _CALL
    return f"{called}({', '.join(text for text, _ in args)})", _NAME


def equation_formula(equation: Equation, names: Mapping[Var, str]) -> str:
    """The right-hand side of an equation, its variables called by `names`."""
    args = [(names[a], _NAME) if isinstance(a, Var) else (_literal(a.value), _NAME) for a in equation.args]
    return render(equation.primitive, equation.params, args)[0]


def program_formulas(program: Program, names: Sequence[str]) -> list[str]:
    """Each output of a program as one formula of its inputs, which are called by `names`."""
    known: dict[Var, Expression] = {v: (n, _NAME) for v, n in zip(program.inputs, names, strict=True)}

    def of(a: Atom) -> Expression:
        return known[a] if isinstance(a, Var) else (_literal(a.value), _NAME)

    for e in program.equations:
        args = [of(a) for a in e.args]
        text, tightness = render(e.primitive, e.params, args)
        for row, out in enumerate(e.outs):
            known[out] = (text, tightness) if len(e.outs) == 1 else (f"({text}){subscript('', row + 1)}", _NAME)
    return [of(a)[0] for a in program.outputs]


def rule_formulas(
    rule: Callable[[list[Any]], Sequence[Any]], values: Sequence[Any], names: Sequence[str]
) -> list[str] | None:
    """The formulas that a rule computes, or None where it does something that cannot be recorded, or long ones."""
    try:
        found = program_formulas(record_program(rule, values, "rule"), names)
    except (ChainruleError, TypeError, ValueError, AttributeError):
        return None
    return found if all(width(text) <= _LONG for text in found) else None


_LONG = 60
