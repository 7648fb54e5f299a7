"""Python's `math` on traced scalars: `math.sin(t)` is followed while a thread traces, by interception.

Values are NumPy's. Where the result is not finite the function of `math` itself is asked, so that `math.sqrt(-1.0)` and
`math.exp(1e3)` raise what they raise on plain numbers. What gives integers or booleans (floor, isnan, isclose) gives plain
ones.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import concrete, is_tracer, ops
from chainrule.trace.intercept import contains_tracer, intercepts

# name in math: name of the primitive
_SAME = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "cbrt": "cbrt",
    "copysign": "copysign",
    "cos": "cos",
    "cosh": "cosh",
    "degrees": "rad2deg",
    "erf": "erf",
    "erfc": "erfc",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "fabs": "absolute",
    "fmod": "fmod",
    "gamma": "gamma",
    "lgamma": "gammaln",
    "log10": "log10",
    "log1p": "log1p",
    "log2": "log2",
    "nextafter": "nextafter",
    "pow": "power",
    "radians": "deg2rad",
    "sin": "sin",
    "sinh": "sinh",
    "sqrt": "sqrt",
    "tan": "tan",
    "tanh": "tanh",
    "ulp": "spacing",
}


def _scalar(name: str, x: Any) -> Any:
    """An argument as `math` takes it: one number, as a float."""
    if getattr(x, "shape", ()) != ():
        raise TraceError(
            f"math.{name} of an array of shape {x.shape}: it takes one number", f"Use NumPy's function for math.{name}."
        )
    kind = getattr(x, "dtype", np.dtype(float)).kind
    if kind == "c":
        raise TraceError(f"math.{name} of a complex number", f"Use NumPy's function for math.{name}.")
    return x if kind == "f" else ops.convert(x, dtype=np.dtype(float))


def _float(x: Any) -> Any:
    return float(x) if isinstance(x, int) else x


def _plain(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the original gives for the numbers behind traced values; a program remembers it, and a batch refuses to."""
    return original(*map(_decided, args), **{name: _decided(x) for name, x in kwargs.items()})


def _decided(x: Any) -> Any:
    return x.owner.decide(x) if is_tracer(x) else x


def _follow(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `math` as a rule on traced scalars, with the errors of the original."""
    original = getattr(math, name)

    @functools.wraps(original)
    def ours(*args: Any) -> Any:
        scalars = [_scalar(name, x) if is_tracer(x) else _float(x) for x in args]
        with np.errstate(all="ignore"):
            out = rule(*scalars)
        found = concrete(out)
        if not np.all(np.isfinite(found)) and np.ndim(found) == 0:
            original(*(concrete(x) for x in scalars))
        return out

    return ours


def _log(x: Any, base: Any = None) -> Any:
    return ops.log(x) if base is None else ops.log(x) / ops.log(base)


def _hypot(*coordinates: Any) -> Any:
    return functools.reduce(ops.hypot, coordinates) if len(coordinates) > 1 else ops.absolute(coordinates[0])


def _remainder(x: Any, y: Any) -> Any:
    return x - y * ops.rint(x / y)


_RULES: dict[str, Callable[..., Any]] = {
    **{name: ops[primitive] for name, primitive in _SAME.items()},
    "log": _log,
    "hypot": _hypot,
    "remainder": _remainder,
    "fma": lambda x, y, z: x * y + z,
}
_PLAIN = ("ceil", "floor", "isclose", "isfinite", "isinf", "isnan", "trunc")

for _name, _rule in _RULES.items():
    if hasattr(math, _name):
        intercepts(math, _name)(_follow(_name, _rule))
for _name in _PLAIN:
    intercepts(math, _name)(functools.partial(_plain, getattr(math, _name)))


@intercepts(math, "modf")
def modf(x: Any) -> tuple[Any, Any]:
    """math.modf: fractional and whole part."""
    x = _scalar("modf", x)
    whole = ops.trunc(x)
    return x - whole, whole


@intercepts(math, "frexp")
def frexp(x: Any) -> tuple[Any, int]:
    """math.frexp: mantissa and exponent, of which the exponent is plain."""
    exponent = _plain(math.frexp, x)[1]
    return _scaled(_scalar("frexp", x), -exponent), exponent


@intercepts(math, "ldexp")
def ldexp(x: Any, i: Any) -> Any:
    """math.ldexp: x times two to the power of i."""
    power = _plain(operator.index, i)
    return _scaled(_scalar("ldexp", x), power) if is_tracer(x) else math.ldexp(x, power)


def _scaled(x: Any, power: int) -> Any:
    # In two steps: 2**1074 is no float, though it may scale a subnormal number to one.
    half = power // 2
    return x * 2.0**half * 2.0 ** (power - half)


# ---- functions of several numbers, which may come from an iterator

_fsum, _prod = math.fsum, math.prod


@intercepts(math, "fsum", always=True)
def fsum(seq: Iterable[Any]) -> Any:
    """math.fsum; of traced values the sum is NumPy's."""
    items = list(seq)
    if not contains_tracer(items):
        return _fsum(items)
    return np.sum(np.stack([_scalar("fsum", x) if is_tracer(x) else np.float64(x) for x in items]))


@intercepts(math, "prod", always=True)
def prod(iterable: Iterable[Any], /, *, start: Any = 1) -> Any:
    """math.prod."""
    items = list(iterable)
    traced = contains_tracer(items) or is_tracer(start)
    return functools.reduce(operator.mul, items, start) if traced else _prod(items, start=start)


@intercepts(math, "sumprod", always=True)
def sumprod(p: Iterable[Any], q: Iterable[Any], /) -> Any:
    """math.sumprod: the sum of the products of corresponding items."""
    pairs = zip(list(p), list(q), strict=True)
    return functools.reduce(operator.add, (x * y for x, y in pairs), 0)


@intercepts(math, "dist", always=True)
def dist(p: Iterable[Any], q: Iterable[Any], /) -> Any:
    """math.dist: the Euclidean distance of two points; where they meet its derivative is 0."""
    starts, ends = list(p), list(q)
    if len(starts) != len(ends):
        raise ValueError("both points must have the same number of dimensions")
    steps = [_float(x - y) for x, y in zip(starts, ends, strict=True)]
    return math.hypot(*steps)
