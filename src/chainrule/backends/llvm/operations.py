"""The table of elementwise operations: from a primitive's name to the scalar nodes that compute it.

A builder takes the graph, the arguments' nodes in the kind they are computed in, and the result's kind. What is not in the table
has no lowering, and is left to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm.graph import DTYPES, KINDS, Graph
from chainrule.ir.types import ArrayType

Builder = Callable[[Graph, list[int], str], int]


class Operation(NamedTuple):
    """How an operation is lowered.

    build: makes the nodes; kinds: which kinds it takes, by first letter; into: computed in the result's kind, the arguments' common
    one, or as they come (own); cost: operations an element, where computing twice is weighed against keeping in memory
    """

    build: Builder
    kinds: str = "f"
    into: str = "result"
    cost: int = 1


def kind_of(t: ArrayType) -> str | None:
    """The kind of a type's elements; None where kernels have none for it."""
    return KINDS.get(t.dtype)


def _two(op: str) -> Builder:
    return lambda g, a, kind: g.arithmetic(op, a[0], a[1])


def _call(name: str) -> Builder:
    return lambda g, a, kind: g.node("call", kind, tuple(a), name)


def _unary(op: str) -> Builder:
    return lambda g, a, kind: g.unary(op, a[0])


def _compare(op: str) -> Builder:
    return lambda g, a, kind: g.compare(op, a[0], a[1])


def _extreme(op: str, sole: bool) -> Builder:
    """NumPy's maximum (a NaN wins) or fmax (a number wins)."""

    def build(g: Graph, a: list[int], kind: str) -> int:
        x, y = a
        first = g.compare(op, x, y)
        if kind[0] == "f":
            odd = y if sole else x
            first = g.node("or", "i1", (first, g.compare("ne", odd, odd)))
        return g.select(first, x, y)

    return build


def _sign(g: Graph, a: list[int], kind: str) -> int:
    x, zero = a[0], g.constant(0, kind)
    negative = g.select(g.compare("lt", x, zero), g.constant(-1, kind), x)  # NaN and zero stay
    return g.select(g.compare("gt", x, zero), g.constant(1, kind), negative)


def _heaviside(g: Graph, a: list[int], kind: str) -> int:
    x, h = a
    zero = g.constant(0, kind)
    below = g.select(g.compare("lt", x, zero), zero, x)  # NaN stays
    return g.select(g.compare("eq", x, zero), h, g.select(g.compare("gt", x, zero), g.constant(1, kind), below))


def _isfinite(g: Graph, a: list[int], kind: str) -> int:
    x = a[0]
    return g.compare("lt", g.unary("abs", x), g.constant(np.inf, g.nodes[x].kind))


def _isinf(g: Graph, a: list[int], kind: str) -> int:
    x = a[0]
    return g.compare("eq", g.unary("abs", x), g.constant(np.inf, g.nodes[x].kind))


def _square(g: Graph, a: list[int], kind: str) -> int:
    return g.arithmetic("mul", a[0], a[0])


def _scaled(factor: float) -> Builder:
    return lambda g, a, kind: g.arithmetic("mul", a[0], g.constant(factor, kind))


def _same(g: Graph, a: list[int], kind: str) -> int:
    return a[0]


def _boolean(op: str) -> Builder:
    return lambda g, a, kind: g.node(op, kind, (g.cast(a[0], "i1"), g.cast(a[1], "i1")))


def _signbit(g: Graph, a: list[int], kind: str) -> int:
    of = g.nodes[a[0]].kind
    return g.compare("lt", g.node("copysign", of, (g.constant(1, of), a[0])), g.constant(0, of))


def _divided(g: Graph, a: list[int], kind: str) -> tuple[int, int, int]:
    """Quotient, rounded towards zero, and rest of integers: 0 and 0 for a divisor of 0; and whether they are to be rounded down."""
    x, y = a
    zero, one, less = (g.constant(c, kind) for c in (0, 1, -1))
    is_zero, is_less = g.compare("eq", y, zero), g.compare("eq", y, less)  # the least integer has no quotient by -1
    safe = g.select(g.node("or", "i1", (is_zero, is_less)), one, y)
    quotient = g.select(is_zero, zero, g.select(is_less, g.negative(x), g.node("quotient", kind, (x, safe))))
    rest = g.node("rest", kind, (x, safe))
    apart = g.node("xor", "i1", (g.compare("lt", rest, zero), g.compare("lt", y, zero)))
    return quotient, rest, g.node("and", "i1", (g.compare("ne", rest, zero), apart))


def _floored(g: Graph, a: list[int], kind: str) -> tuple[int, int]:
    """Quotient, rounded down, and rest of floating-point numbers, as NumPy has them to the last bit and sign."""
    x, y = a
    zero, one = g.constant(0, kind), g.constant(1, kind)
    rest = g.node("call", kind, (x, y), "fmod")
    quotient = g.arithmetic("div", g.arithmetic("sub", x, rest), y)
    apart = g.node("xor", "i1", (g.compare("lt", y, zero), g.compare("lt", rest, zero)))
    down = g.node("and", "i1", (g.compare("ne", rest, zero), apart))
    quotient = g.select(down, g.arithmetic("sub", quotient, one), quotient)
    low = g.unary("floor", quotient)
    is_above = g.compare("gt", g.arithmetic("sub", quotient, low), g.constant(0.5, kind))
    near = g.select(is_above, g.arithmetic("add", low, one), low)
    plain, is_none = g.arithmetic("div", x, y), g.compare("eq", y, zero)
    whole = g.select(g.compare("eq", quotient, zero), g.node("copysign", kind, (zero, plain)), near)
    signed = g.select(g.compare("eq", rest, zero), g.node("copysign", kind, (zero, y)), rest)
    return g.select(is_none, plain, whole), g.select(down, g.arithmetic("add", rest, y), signed)


def _floor_divide(g: Graph, a: list[int], kind: str) -> int:
    if kind[0] == "f":
        return _floored(g, a, kind)[0]
    quotient, _, down = _divided(g, a, kind)
    return g.select(down, g.arithmetic("sub", quotient, g.constant(1, kind)), quotient)


def _remainder(g: Graph, a: list[int], kind: str) -> int:
    if kind[0] == "f":
        return _floored(g, a, kind)[1]
    _, rest, down = _divided(g, a, kind)
    return g.select(down, g.arithmetic("add", rest, a[1]), rest)


def _fmod(g: Graph, a: list[int], kind: str) -> int:
    return g.node("call", kind, (a[0], a[1]), "fmod") if kind[0] == "f" else _divided(g, a, kind)[1]


def _shift(op: str) -> Builder:
    """A shift; one by more than there are bits, or by less than none, is by all of them."""

    def build(g: Graph, a: list[int], kind: str) -> int:
        x, y = a
        zero, most = g.constant(0, kind), g.constant(8 * DTYPES[kind].itemsize - 1, kind)
        inside = g.node("and", "i1", (g.compare("ge", y, zero), g.compare("le", y, most)))
        shifted = g.node(op, kind, (x, g.select(inside, y, most)))
        return g.select(inside, shifted, zero) if op == "shl" else shifted

    return build


def _logaddexp2(g: Graph, a: list[int], kind: str) -> int:
    x, y = a
    apart = g.arithmetic("sub", x, y)
    power = g.node("call", kind, (g.negative(g.unary("abs", apart)),), "exp2")
    more = g.arithmetic("mul", g.node("call", kind, (power,), "log1p"), g.constant(np.log2(np.e), kind))
    larger = g.select(g.compare("gt", apart, g.constant(0, kind)), x, y)
    far = g.select(g.compare("ne", apart, apart), apart, g.arithmetic("add", larger, more))  # NaN stays
    return g.select(g.compare("eq", x, y), g.arithmetic("add", x, g.constant(1, kind)), far)


def _sinc(g: Graph, a: list[int], kind: str) -> int:
    y = g.arithmetic("mul", a[0], g.constant(np.pi, kind))
    wave = g.arithmetic("div", g.node("call", kind, (y,), "sin"), y)
    return g.select(g.compare("eq", y, g.constant(0, kind)), g.constant(1, kind), wave)


def _xlogy(g: Graph, a: list[int], kind: str) -> int:
    x, y = a
    zero = g.constant(0, kind)
    is_zero = g.node("and", "i1", (g.compare("eq", x, zero), g.compare("eq", y, y)))
    return g.select(is_zero, zero, g.arithmetic("mul", x, g.node("call", kind, (y,), "log")))


def _entr(g: Graph, a: list[int], kind: str) -> int:
    x, zero = a[0], g.constant(0, kind)
    inside = g.negative(g.arithmetic("mul", x, g.node("call", kind, (x,), "log")))
    outside = g.select(g.compare("eq", x, zero), zero, g.select(g.compare("lt", x, zero), g.constant(-np.inf, kind), x))
    return g.select(g.compare("gt", x, zero), inside, outside)


def _log_expit(g: Graph, a: list[int], kind: str) -> int:
    return g.negative(g.node("call", kind, (g.negative(a[0]),), "softplus"))


OPERATIONS: dict[str, Operation] = {
    "signbit": Operation(_signbit, "f", "own"),
    "floor_divide": Operation(_floor_divide, "fi", cost=20),
    "remainder": Operation(_remainder, "fi", cost=20),
    "fmod": Operation(_fmod, "fi", cost=20),
    "left_shift": Operation(_shift("shl"), "i"),
    "right_shift": Operation(_shift("shr"), "i"),
    "logaddexp2": Operation(_logaddexp2, "f", cost=40),
    "sinc": Operation(_sinc, "f", cost=25),
    "xlogy": Operation(_xlogy, "f", cost=20),
    "entr": Operation(_entr, "f", cost=20),
    "log_expit": Operation(_log_expit, "f", cost=30),
    "arctan2": Operation(_call("atan2"), "f", cost=30),
    "add": Operation(_two("add"), "fi"),
    "subtract": Operation(_two("sub"), "fi"),
    "multiply": Operation(_two("mul"), "fi"),
    "divide": Operation(_two("div"), "f", cost=4),
    "strong_multiply": Operation(lambda g, a, kind: g.strong(a[0], a[1]), "f"),
    "negative": Operation(lambda g, a, kind: g.negative(a[0]), "fi"),
    "positive": Operation(_same, "fi", cost=0),
    "stop_gradient": Operation(_same, "fib", cost=0),
    "conjugate": Operation(_same, "fi", cost=0),
    "real": Operation(_same, "f", cost=0),
    "reciprocal": Operation(lambda g, a, kind: g.arithmetic("div", g.constant(1, kind), a[0]), "f", cost=4),
    "square": Operation(_square, "fi"),
    "sqrt": Operation(_unary("sqrt"), "f", cost=6),
    "absolute": Operation(_unary("abs"), "fi"),
    "sign": Operation(_sign, "fi", cost=2),
    "floor": Operation(_unary("floor"), "f"),
    "ceil": Operation(_unary("ceil"), "f"),
    "trunc": Operation(_unary("trunc"), "f"),
    "rint": Operation(_unary("rint"), "f"),
    "copysign": Operation(lambda g, a, kind: g.node("copysign", kind, tuple(a)), "f"),
    "heaviside": Operation(_heaviside, "f", cost=3),
    "maximum": Operation(_extreme("ge", sole=False), "fi"),
    "minimum": Operation(_extreme("le", sole=False), "fi"),
    "fmax": Operation(_extreme("ge", sole=True), "f"),
    "fmin": Operation(_extreme("le", sole=True), "f"),
    "deg2rad": Operation(_scaled(float(np.pi / 180)), "f"),
    "rad2deg": Operation(_scaled(float(180 / np.pi)), "f"),
    "isnan": Operation(lambda g, a, kind: g.compare("ne", a[0], a[0]), "f", "own"),
    "isinf": Operation(_isinf, "f", "own"),
    "isfinite": Operation(_isfinite, "f", "own"),
    "logical_not": Operation(lambda g, a, kind: g.node("not", "i1", (g.cast(a[0], "i1"),)), "fib", "own"),
    **{
        name: Operation(_boolean(op), "fib", "own")
        for name, op in (("logical_and", "and"), ("logical_or", "or"), ("logical_xor", "xor"))
    },
    **{
        name: Operation(lambda g, a, kind, op=op: g.node(op, kind, tuple(a)), "ib")  # type: ignore[misc]
        for name, op in (("bitwise_and", "and"), ("bitwise_or", "or"), ("bitwise_xor", "xor"))
    },
    "invert": Operation(lambda g, a, kind: g.node("not", kind, (a[0],)), "ib"),
    **{
        name: Operation(_compare(op), "fib", "common")
        for name, op in (
            ("equal", "eq"), ("not_equal", "ne"), ("less", "lt"), ("less_equal", "le"), ("greater", "gt"), ("greater_equal", "ge"),
        )
    },
    **{
        name: Operation(_call(function), "f", cost=20)
        for name, function in (
            ("exp", "exp"), ("exp2", "exp2"), ("expm1", "expm1"), ("log", "log"), ("log2", "log2"), ("log10", "log10"),
            ("log1p", "log1p"), ("cbrt", "cbrt"), ("power", "pow"), ("hypot", "hypot"), ("sin", "sin"), ("cos", "cos"),
            ("tan", "tan"), ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("sinh", "sinh"),
            ("cosh", "cosh"), ("tanh", "tanh"), ("arcsinh", "asinh"), ("arccosh", "acosh"), ("arctanh", "atanh"),
            ("logaddexp", "logaddexp"), ("erf", "erf"), ("erfc", "erfc"), ("expit", "expit"), ("gammaln", "lgamma"),
            ("psi", "digamma"), ("ndtr", "ndtr"), ("log_ndtr", "log_ndtr"), ("float_power", "pow"),
        )
    },
}  # fmt: skip


def _takes(operation: Operation, kinds: Sequence[str | None]) -> bool:
    return all(k is not None and ("b" if k == "i1" else k[0]) in operation.kinds for k in kinds)


def lowers(name: str, args: Sequence[ArrayType], out: ArrayType) -> bool:
    """Whether an elementwise primitive of these types has a lowering."""
    kinds, result = [kind_of(t) for t in args], kind_of(out)
    if result is None or any(k is None for k in kinds):
        return False
    if name in ("where", "convert", "discretise"):
        return True
    operation = OPERATIONS.get(name)
    if operation is None:
        return False
    if operation.into == "result":
        return _takes(operation, [result])
    if operation.into == "common":
        return _takes(operation, [KINDS.get(np.result_type(*(t.dtype for t in args)))])
    return _takes(operation, kinds)


def build(g: Graph, name: str, args: list[int], types: Sequence[ArrayType], out: ArrayType) -> int:
    """The node of an elementwise primitive applied to nodes."""
    kind = KINDS[out.dtype]
    if name in ("convert", "discretise"):
        return g.cast(args[0], kind)
    if name == "where":
        return g.select(g.cast(args[0], "i1"), g.cast(args[1], kind), g.cast(args[2], kind))
    operation = OPERATIONS[name]
    if operation.into == "result":
        args = [g.cast(a, kind) for a in args]
    elif operation.into == "common":
        common = KINDS[np.result_type(*(t.dtype for t in types))]
        args = [g.cast(a, common) for a in args]
    return operation.build(g, args, kind)


def cost(name: str) -> int:
    """Operations an element."""
    operation: Any = OPERATIONS.get(name)
    return 1 if operation is None else operation.cost
