"""The rewrite rules, as data: each states its law, the primitive at its head, whether it is exact, and the rewrite.

`exact=False` means that the last place, or the sign of a zero, may differ. No rule changes a derivative.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.primitive import Params, ops
from chainrule.ir.program import Atom, Literal
from chainrule.ir.types import ArrayType
from chainrule.optimise.contractions import CONTRACTIONS
from chainrule.optimise.rule import New, Rewrite, Rule, new
from chainrule.optimise.short_axes import SHORT_AXES

if TYPE_CHECKING:
    from chainrule.optimise.simplify import Simplifier

COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or"})


def uniform_value(a: Atom) -> Any:
    """The one number that every element of a literal is, as a Python number; None where there is none."""
    if not isinstance(a, Literal) or a.type.size == 0 or a.type.dtype.kind not in "fiub":
        return None
    x = np.asarray(a.value)
    first = x.flat[0]
    if x.ndim and not (x == first).all():
        return None
    return first.item()


def _whole(a: Atom, out: ArrayType) -> bool:
    """Whether an atom has the result's type, so that it can stand for it."""
    return a.type == out


def _other(s: Simplifier, args: tuple[Atom, ...], value: float, out: ArrayType) -> Atom | None:
    for a, b in (args, args[::-1]):
        if uniform_value(a) == value and _whole(b, out):
            return b
    return None


# ---- products


def _times_one(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    return _other(s, args, 1, out)


def _times_minus_one(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    b = _other(s, args, -1, out) if out.dtype.kind in "fi" else None
    return None if b is None else new("negative", b)


def _equal_factors(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    a, b = args
    return new("square", a) if a is b and out.dtype.kind == "f" else None


def _strong_by_constant(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    t, d = args
    if isinstance(d, Literal) and d.type.is_differentiable and np.isfinite(d.value).all():
        return new("multiply", t, d)
    if isinstance(t, Literal) and t.type.size and (np.asarray(t.value) != 0).all():
        return new("multiply", t, d)
    return None


def _strong_zero(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    if uniform_value(args[0]) != 0:
        return None
    zero = Literal(np.zeros((), out.dtype)[()])
    return new("broadcast_to", zero, shape=out.shape) if out.shape else zero


def _scalar_literal(name: str) -> Rewrite:
    def rewrite(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
        if len(args) != 2:
            return None
        for k, (a, b) in enumerate((args, args[::-1])):
            if isinstance(a, Literal) and a.type.shape and b.type.shape == out.shape:
                value = uniform_value(a)
                if value is not None:
                    c = Literal(np.asarray(value, a.type.dtype)[()])
                    return new(name, *((b, c) if k else (c, b)))
        return None

    return rewrite


def _product_of_constants(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    for a, b in (args, args[::-1]):
        inner = s.definition(b, "multiply")
        if inner is None or not isinstance(a, Literal) or a.type.shape or out.dtype != np.float64:
            continue
        for c, x in (inner.args, inner.args[::-1]):
            if isinstance(c, Literal) and not c.type.shape and c.type.dtype == out.dtype and _power_of_two(c.value):
                return new("multiply", Literal(np.float64(a.value) * c.value), x)
    return None


def _scaled_by_power_of_two(a: Atom, s: Simplifier) -> tuple[Literal, Atom] | None:
    inner = s.definition(a, "multiply")
    if inner is None:
        return None
    for c, x in (inner.args, inner.args[::-1]):
        if (
            isinstance(c, Literal)
            and not c.type.shape
            and c.type.dtype == a.type.dtype == np.float64
            and _power_of_two(c.value)
        ):
            return c, x
    return None


def _strong_scaled(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    for k, a in enumerate(args):
        found = _scaled_by_power_of_two(a, s)
        if found is not None:
            c, x = found
            return new("multiply", c, new("strong_multiply", *((args[0], x) if k else (x, args[1]))))
    return None


def _scaling_out(name: str) -> Rewrite:
    def rewrite(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
        found = _scaled_by_power_of_two(args[0], s)
        return None if found is None else new("multiply", found[0], New(ops[name], (found[1],), params))

    return rewrite


def _power_of_two(value: Any) -> bool:
    return (
        bool(np.isfinite(value))
        and value != 0
        and abs(math.frexp(float(value))[0]) == 0.5
        and 1e-100 < abs(value) < 1e100
    )


# ---- sums and signs


def _plus_zero(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    return _other(s, args, 0, out)


def _minus_zero(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    a, b = args
    if uniform_value(b) == 0 and _whole(a, out):
        return a
    return new("negative", b) if uniform_value(a) == 0 and _whole(b, out) and out.dtype.kind == "f" else None


def _doubled(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    two = Literal(np.asarray(2, out.dtype)[()])
    return new("multiply", two, args[0]) if args[0] is args[1] and out.dtype.kind == "f" else None


def _plus_negative(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    for a, b in (args, args[::-1]):
        inner = s.definition(b, "negative")
        if inner is not None:
            return new("subtract", a, inner.args[0])
    return None


def _minus_negative(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    inner = s.definition(args[1], "negative")
    return None if inner is None else new("add", args[0], inner.args[0])


def _double_negation(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    inner = s.definition(args[0], "negative")
    return None if inner is None else inner.args[0]


def _negative_out(name: str) -> Rewrite:
    def rewrite(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
        for k, a in enumerate(args):
            inner = s.definition(a, "negative")
            if inner is not None:
                rest = list(args)
                rest[k] = inner.args[0]
                return new("negative", New(ops[name], tuple(rest), params))
        return None

    return rewrite


# ---- quotients and powers


def _over_power_of_two(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    c = uniform_value(args[1])
    if c == 1 and _whole(args[0], out):
        return args[0]
    if c is None or args[1].type.dtype != out.dtype or out.dtype.kind != "f" or not _power_of_two(c):
        return None
    return new("multiply", args[0], Literal(np.asarray(1 / np.asarray(args[1].value))[()]))  # type: ignore[union-attr]


def _small_power(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    x, y = args
    n = uniform_value(y)
    if n is None or x.type != out or out.dtype.kind != "f" or n not in (1, 2, 3, 4, -1):
        return None
    if n == 1:
        return x
    square = new("square", x)
    return {2: square, 3: new("multiply", square, x), 4: new("square", square), -1: new("reciprocal", x)}[int(n)]


# ---- moving elements


def _same_type(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    return args[0] if _whole(args[0], out) else None


def _no_axes(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    return args[0] if not params["axes"] and _whole(args[0], out) else None


def _once(name: str) -> Rewrite:
    """Of reshape and broadcast_to only the last shape counts."""

    def rewrite(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
        inner = s.definition(args[0], name)
        return None if inner is None else New(ops[name], inner.args, params)

    return rewrite


def _transposes(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    axes = params["axes"]
    if axes == tuple(range(len(axes))):
        return args[0]
    inner = s.definition(args[0], "transpose")
    return None if inner is None else new("transpose", inner.args[0], axes=tuple(inner.params["axes"][a] for a in axes))


def _plain_key(key: Any, shape: tuple[int, ...]) -> tuple[range, ...] | None:
    """A key of slices with positive steps as one range an axis."""
    if any(not isinstance(p, slice) for p in key) or len(key) > len(shape):
        return None
    full = (*key, *(slice(None),) * (len(shape) - len(key)))
    ranges = tuple(range(*p.indices(n)) for p, n in zip(full, shape, strict=True))
    return ranges if all(r.step > 0 for r in ranges) else None


def _slice_of(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | New | None:
    x = args[0]
    ranges = _plain_key(params["key"], x.type.shape)
    if ranges is None:
        return None
    if _whole(x, out) and all(r.step == 1 for r in ranges):
        return x
    placed = s.definition(x, "place")
    if placed is not None and _whole(placed.args[0], out) and _plain_key(placed.params["key"], x.type.shape) == ranges:
        return placed.args[0]
    inner = s.definition(x, "slice")
    before = None if inner is None else _plain_key(inner.params["key"], inner.args[0].type.shape)
    if inner is None or before is None:
        return None
    both = [b[r.start : r.stop : r.step] for b, r in zip(before, ranges, strict=True)]
    return new("slice", inner.args[0], key=tuple(slice(b.start, b.stop, b.step) for b in both))


def _adds_axes(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    """x[:, None] moves nothing."""
    key, n = params["key"], max(args[0].type.size, 1)
    if not any(p is None for p in key) or any(not (p is None or p == slice(None)) for p in key):
        return None
    return new("reshape", args[0], shape=out.shape) if out.size == n else None


def _whole_place(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> Atom | None:
    ranges = _plain_key(params["key"], out.shape)
    return args[0] if ranges is not None and _whole(args[0], out) and all(r.step == 1 for r in ranges) else None


def _broadcasts_itself(name: str) -> Rewrite:
    """An elementwise operation broadcasts by itself: it takes the array before broadcast_to, where the shape stays."""

    def rewrite(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
        for k, a in enumerate(args):
            inner = s.definition(a, "broadcast_to")
            if inner is not None:
                rest = list(args)
                rest[k] = inner.args[0]
                if np.broadcast_shapes(*(r.type.shape for r in rest)) == out.shape:
                    return New(ops[name], tuple(rest), params)
        return None

    return rewrite


_BROADCASTING = (
    "add", "subtract", "multiply", "strong_multiply", "divide", "power", "maximum", "minimum", "where", "arctan2", "equal", "less",
    "less_equal", "greater", "greater_equal", "not_equal",
)  # fmt: skip

_TABLE = [
    Rule("t s 1 = t", "strong_multiply", True, _times_one),
    Rule("0 s d = 0", "strong_multiply", True, _strong_zero),
    Rule("t s d = t * d, where t is not zero or d is finite", "strong_multiply", True, _strong_by_constant),
    Rule("-t s d = -(t s d)", "strong_multiply", False, _negative_out("strong_multiply")),
    Rule("x * 1 = x", "multiply", True, _times_one),
    Rule("x * -1 = -x", "multiply", True, _times_minus_one),
    Rule("x * x = square(x)", "multiply", True, _equal_factors),
    Rule("c * full(d) = c * d", "multiply", True, _scalar_literal("multiply")),
    Rule("a * (2**n * x) = (a * 2**n) * x", "multiply", True, _product_of_constants),
    Rule("(2**n * t) s d = t s (2**n * d) = 2**n * (t s d)", "strong_multiply", True, _strong_scaled),
    Rule("reshape(2**n * x) = 2**n * reshape(x)", "reshape", True, _scaling_out("reshape")),
    Rule("-x * y = -(x * y)", "multiply", True, _negative_out("multiply")),
    Rule("x + 0 = x", "add", False, _plus_zero),
    Rule("x + x = 2 * x", "add", True, _doubled),
    Rule("x + full(d) = x + d", "add", True, _scalar_literal("add")),
    Rule("x + -y = x - y", "add", True, _plus_negative),
    Rule("x - 0 = x, 0 - x = -x", "subtract", False, _minus_zero),
    Rule("x - full(d) = x - d", "subtract", True, _scalar_literal("subtract")),
    Rule("x - -y = x + y", "subtract", True, _minus_negative),
    Rule("--x = x", "negative", True, _double_negation),
    Rule("x / 2**n = x * 2**-n", "divide", True, _over_power_of_two),
    Rule("x / full(d) = x / d", "divide", True, _scalar_literal("divide")),
    Rule("-x / y = -(x / y)", "divide", True, _negative_out("divide")),
    Rule("x**1 = x, x**2 = x * x, x**3 = x * x * x, x**4, x**-1", "power", False, _small_power),
    Rule("convert to its own dtype", "convert", True, _same_type),
    Rule("+x = x", "positive", True, _same_type),
    Rule("reshape to its own shape", "reshape", True, _same_type),
    Rule("reshape of reshape", "reshape", True, _once("reshape")),
    Rule("broadcast to its own shape", "broadcast_to", True, _same_type),
    Rule("broadcast of broadcast", "broadcast_to", True, _once("broadcast_to")),
    Rule("transpose of transpose, and the identity", "transpose", True, _transposes),
    Rule("slice of all, of slice, and of place at the same key", "slice", True, _slice_of),
    Rule("place at all", "place", True, _whole_place),
    Rule("slice[:, None] is a reshape", "slice", True, _adds_axes),
    Rule("place at [:, None] is a reshape", "place", True, _adds_axes),
    Rule("sum over no axes", "reduce_sum", True, _no_axes),
    *(
        Rule(f"{name}(-x) = -{name}(x)", name, False, _negative_out(name))
        for name in ("place", "slice", "reshape", "transpose", "broadcast_to", "reduce_sum")
    ),
    *CONTRACTIONS,
    *SHORT_AXES,
    *(Rule(f"{name} broadcasts", name, True, _broadcasts_itself(name)) for name in _BROADCASTING),
]

RULES: dict[str, list[Rule]] = {}
for _rule in _TABLE:
    RULES.setdefault(_rule.head, []).append(_rule)
