"""Elementwise operations: NumPy's ufuncs, where, and the conversions between dtypes.

Kinks have one value each: abs'(0) = 0; ties of maximum and minimum share evenly; sqrt'(0) is inf; the steps (sign, floor, ...) are
constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Params, RoomPrimitive, Sample, has_nan, is_tracer, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Conjugate, Mask, RealPart, Scale, ZeroDiagonal
from chainrule.prims.families import POSITIVE, REAL, UNIT, Elementwise, binary, unary

LN2 = float(np.log(2.0))
LN10 = float(np.log(10.0))


# ---- arithmetic


def _power_base(x: Array, y: Array, out: Array) -> Array:
    if np.ndim(y) == 0 and not is_tracer(y):
        return y * ops.power(x, y - 1) if y != 0 else 0.0
    # At 0^0 alone: elsewhere the exponent y - 1 is differentiated again, also at y = 0.
    at_zero = ops.logical_and(ops.equal(x, 0), ops.equal(y, 0))
    return y * ops.power(x, ops.where(at_zero, 1.0, ops.subtract(y, 1.0)))


def _power_exponent(x: Array, y: Array, out: Array) -> Array:
    return ops.log(ops.where(ops.equal(x, 0), 1.0, x)) * out


add = binary("add", np.add, 1, 1, flops=1, holomorphic=True)
subtract = binary("subtract", np.subtract, 1, -1, flops=1, holomorphic=True)
multiply = binary("multiply", np.multiply, lambda x, y, out: y, lambda x, y, out: x, flops=1, holomorphic=True)
divide = binary(
    "divide",
    np.divide,
    lambda x, y, out: ops.reciprocal(y) if hasattr(y, "dtype") and y.dtype.kind in "fc" else ops.divide(1.0, y),
    lambda x, y, out: -out / y,
    flops=4,
    on=(REAL, POSITIVE),
    holomorphic=True,
)
power = binary("power", np.power, _power_base, _power_exponent, flops=40, on=(POSITIVE, REAL), holomorphic=True)
float_power = binary("float_power", np.float_power, _power_base, _power_exponent, flops=40, on=(POSITIVE, REAL))
negative = unary("negative", np.negative, -1, flops=1, holomorphic=True)
positive = unary("positive", np.positive, 1, flops=0, holomorphic=True)
reciprocal = unary("reciprocal", np.reciprocal, lambda x, out: -(out * out), flops=4, on=POSITIVE, holomorphic=True)
# The same number twice: NumPy needs twice the time to multiply an array by a Python number.
square = unary("square", np.square, lambda x, out: x + x if type(x) is np.ndarray else 2 * x, flops=1, holomorphic=True)
sqrt = unary("sqrt", np.sqrt, lambda x, out: 0.5 / out, flops=4, on=POSITIVE, holomorphic=True)
cbrt = unary("cbrt", np.cbrt, lambda x, out: 1 / (3 * out * out), flops=20, on=POSITIVE)


def strong_product(t: Any, d: Any) -> Any:
    """t * d, in which an exact zero of t stays zero whatever d is."""
    r = t * d
    return np.where(np.equal(t, 0), np.zeros((), r.dtype), r)[()] if has_nan(r) else r


strong_multiply = binary(
    "strong_multiply",
    strong_product,
    lambda t, d, out: d,
    lambda t, d, out: ZeroDiagonal(t, d, out),
    flops=1,
    holomorphic=True,
)

# ---- exponentials and logarithms

exp = unary("exp", np.exp, lambda x, out: out, flops=15, holomorphic=True)
exp2 = unary("exp2", np.exp2, lambda x, out: LN2 * out, flops=15)
expm1 = unary("expm1", np.expm1, lambda x, out: out + 1, flops=20, holomorphic=True)
log = unary("log", np.log, lambda x, out: ops.reciprocal(x), flops=15, on=POSITIVE, holomorphic=True)
log2 = unary("log2", np.log2, lambda x, out: 1 / (LN2 * x), flops=15, on=POSITIVE)
log10 = unary("log10", np.log10, lambda x, out: 1 / (LN10 * x), flops=15, on=POSITIVE)
log1p = unary("log1p", np.log1p, lambda x, out: 1 / (1 + x), flops=20, on=POSITIVE, holomorphic=True)


def _softmax_weight(a: Array, out: Array, exponential: Any) -> Array:
    # Where the output is infinite, inf - inf would be NaN: an argument that is +inf has all the weight, any other none.
    at_infinity = ops.where(ops.equal(a, np.inf), 0.0, -np.inf)
    return exponential(ops.where(ops.isfinite(out), a - out, at_infinity))


logaddexp = binary(
    "logaddexp",
    np.logaddexp,
    lambda x, y, out: _softmax_weight(x, out, ops.exp),
    lambda x, y, out: _softmax_weight(y, out, ops.exp),
    flops=40,
)
logaddexp2 = binary(
    "logaddexp2",
    np.logaddexp2,
    lambda x, y, out: _softmax_weight(x, out, ops.exp2),
    lambda x, y, out: _softmax_weight(y, out, ops.exp2),
    flops=40,
)

# ---- trigonometric and hyperbolic

sin = unary("sin", np.sin, lambda x, out: ops.cos(x), flops=15, holomorphic=True)
cos = unary("cos", np.cos, lambda x, out: -ops.sin(x), flops=15, holomorphic=True)
tan = unary("tan", np.tan, lambda x, out: 1 + out * out, flops=20, on=UNIT, holomorphic=True)
arcsin = unary("arcsin", np.arcsin, lambda x, out: 1 / ops.sqrt(1 - x * x), flops=20, on=UNIT, holomorphic=True)
arccos = unary("arccos", np.arccos, lambda x, out: -1 / ops.sqrt(1 - x * x), flops=20, on=UNIT, holomorphic=True)
arctan = unary("arctan", np.arctan, lambda x, out: 1 / (1 + x * x), flops=20, on=UNIT, holomorphic=True)
sinh = unary("sinh", np.sinh, lambda x, out: ops.cosh(x), flops=20, holomorphic=True)
cosh = unary("cosh", np.cosh, lambda x, out: ops.sinh(x), flops=20, holomorphic=True)
tanh = unary("tanh", np.tanh, lambda x, out: 1 - out * out, flops=20, holomorphic=True)
arcsinh = unary("arcsinh", np.arcsinh, lambda x, out: 1 / ops.sqrt(1 + x * x), flops=20, on=UNIT, holomorphic=True)
arccosh = unary("arccosh", np.arccosh, lambda x, out: 1 / (ops.sqrt(x - 1) * ops.sqrt(x + 1)), flops=20, on=(1.2, 3.0))
arctanh = unary("arctanh", np.arctanh, lambda x, out: 1 / (1 - x * x), flops=20, on=UNIT, holomorphic=True)
deg2rad = unary("deg2rad", np.deg2rad, float(np.pi / 180), flops=1)
rad2deg = unary("rad2deg", np.rad2deg, float(180 / np.pi), flops=1)


def _over_square_radius(a: Array, x: Array, y: Array) -> Array:
    # a / (x^2 + y^2), without the squares, which overflow and underflow long before the quotient does.
    r = ops.hypot(x, y)
    return a / r / r


arctan2 = binary(
    "arctan2",
    np.arctan2,
    lambda y, x, out: _over_square_radius(x, x, y),
    lambda y, x, out: -_over_square_radius(y, x, y),
    flops=25,
    on=(REAL, POSITIVE),
)


def _hypot_rule(a: Array, out: Array) -> Array:
    at_zero = ops.equal(out, 0)
    return ops.where(at_zero, 0.0, a / ops.where(at_zero, 1.0, out))


hypot = binary(
    "hypot",
    np.hypot,
    lambda x, y, out: _hypot_rule(x, out),
    lambda x, y, out: _hypot_rule(y, out),
    flops=8,
    on=(POSITIVE, REAL),
)


def _sinc_rule(x: Array, out: Array) -> Array:
    # cos(pi x)/x - sin(pi x)/(pi x^2); the series -pi^2 x/3 + pi^4 x^3/30 where the difference would cancel.
    small = ops.less(ops.absolute(x), 1e-3)
    safe = ops.where(small, 1.0, x)
    series = x * (-(np.pi**2) / 3 + (np.pi**4 / 30) * (x * x))
    return ops.where(small, series, (ops.cos(np.pi * safe) - out) / safe)


sinc = unary("sinc", np.sinc, _sinc_rule, flops=20, on=POSITIVE)

# ---- choices


def _larger(x: Array, y: Array) -> Array:
    return ops.where(ops.equal(x, y), 0.5, ops.where(ops.greater(x, y), 1.0, 0.0))


def _larger_or_sole(x: Array, y: Array) -> Array:
    return ops.where(ops.isnan(y), 1.0, _larger(x, y))


def _where_true(condition: Array, x: Array, y: Array, out: Array) -> Mask:
    return Mask(condition, x, out)


def _where_false(condition: Array, x: Array, y: Array, out: Array) -> Mask:
    return Mask(condition, y, out, keep=False)


class _Where(Elementwise):
    """where(condition, x, y): x where the condition holds, else y."""

    def samples(self) -> Iterator[Sample]:
        for args, params in super().samples():
            yield (args[0] > 0, *args[1:]), params


where = _Where(
    "where",
    lambda c, x, y: np.asarray(np.where(c, x, y))[()],
    (0, _where_true, _where_false),
    flops=1,
    on=(REAL, REAL, REAL),
    holomorphic=False,
)

_APART = ((0.5, 1.5), (-1.5, 0.4))
maximum = binary(
    "maximum", np.maximum, lambda x, y, out: _larger(x, y), lambda x, y, out: _larger(y, x), flops=1, on=_APART
)
minimum = binary(
    "minimum", np.minimum, lambda x, y, out: _larger(y, x), lambda x, y, out: _larger(x, y), flops=1, on=_APART
)
fmax = binary(
    "fmax",
    np.fmax,
    lambda x, y, out: _larger_or_sole(x, y),
    lambda x, y, out: _larger_or_sole(y, x),
    flops=1,
    on=_APART,
)
fmin = binary(
    "fmin",
    np.fmin,
    lambda x, y, out: ops.where(ops.isnan(y), 1.0, _larger(y, x)),
    lambda x, y, out: ops.where(ops.isnan(x), 1.0, _larger(x, y)),
    flops=1,
    on=_APART,
)


def _absolute_rule(x: Array, out: Array) -> Any:
    if x.dtype.kind != "c":
        return ops.sign(x)
    at_zero = ops.equal(out, 0)
    return RealPart(ops.conjugate(x) / ops.where(at_zero, 1.0, out), x, out)


absolute = unary("absolute", np.absolute, _absolute_rule, flops=1, on=POSITIVE)
copysign = binary(
    "copysign", np.copysign, lambda x, y, out: ops.copysign(1.0, y) * ops.sign(x), 0, flops=1, on=(POSITIVE, POSITIVE)
)


def _minus_times(x: Array, y: Array, out: Array) -> Array:
    # How often y was taken from x. Not the whole part of x / y, which rounds up where out is just below y: 1.0 % 0.1.
    return -ops.rint((x - out) / y)


remainder = binary(
    "remainder",
    np.remainder,
    1,
    lambda x, y, out: _minus_times(x, y, out),
    flops=8,
    on=((0.6, 0.9), (0.4, 0.5)),
)
fmod = binary("fmod", np.fmod, 1, lambda x, y, out: _minus_times(x, y, out), flops=8, on=((0.6, 0.9), (0.4, 0.5)))
heaviside = binary("heaviside", np.heaviside, 0, lambda x, y, out: ops.where(ops.equal(x, 0), 1.0, 0.0), flops=1)
nextafter = binary("nextafter", np.nextafter, None, None, flops=1, on=None)

# ---- constant almost everywhere: their results are plain arrays

sign = unary("sign", np.sign, 0, flops=1)
floor = unary("floor", np.floor, 0, flops=1)
ceil = unary("ceil", np.ceil, 0, flops=1)
trunc = unary("trunc", np.trunc, 0, flops=1)
rint = unary("rint", np.rint, 0, flops=1)
spacing = unary("spacing", np.spacing, 0, flops=1)
exponent = unary("exponent", lambda x: np.frexp(x)[1], 0, flops=1)
ldexp = binary("ldexp", np.ldexp, lambda x, i, out: ops.ldexp(np.ones((), x.dtype)[()], i), 0, flops=1, on=None)
floor_divide = binary("floor_divide", np.floor_divide, 0, 0, flops=4, on=(REAL, POSITIVE))
for _name in ("isnan", "isinf", "isfinite", "signbit", "logical_not"):
    unary(_name, getattr(np, _name), 0, flops=1)
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    binary(_name, getattr(np, _name), 0, 0, flops=1)
for _name in ("logical_and", "logical_or", "logical_xor"):
    binary(_name, getattr(np, _name), 0, 0, flops=1)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"):
    binary(_name, getattr(np, _name), 0, 0, flops=1, on=None)
for _name in ("gcd", "lcm"):
    binary(_name, getattr(np, _name), 0, 0, flops=20, on=None)
for _name in ("invert", "bitwise_count", "isnat"):
    unary(_name, getattr(np, _name), 0, flops=1, on=None)
stop_gradient = unary("stop_gradient", lambda x: np.asarray(x)[()], 0, flops=0)

# ---- complex


def _real_rule(x: Array, out: Array) -> Any:
    return RealPart(1.0, x, out) if x.dtype.kind == "c" else 1.0


def _imag_rule(x: Array, out: Array) -> Any:
    return RealPart(-1j, x, out) if x.dtype.kind == "c" else 0.0


def _conjugate_rule(x: Array, out: Array) -> Any:
    return Conjugate(x) if x.dtype.kind == "c" else 1.0


def _angle_rule(x: Array, out: Array) -> Any:
    return RealPart(-1j / x, x, out) if x.dtype.kind == "c" else 0.0


real = unary("real", lambda x: np.real(np.asarray(x))[()], _real_rule, flops=0, holomorphic=False)
imag = unary("imag", lambda x: np.imag(np.asarray(x))[()], _imag_rule, flops=0)
conjugate = unary("conjugate", np.conjugate, _conjugate_rule, flops=1)
angle = unary("angle", np.angle, _angle_rule, flops=25)

# ---- dtype


def _convert_value(x: Any, *, dtype: np.dtype[Any]) -> Any:
    return x.astype(dtype) if hasattr(x, "astype") else np.asarray(x).astype(dtype)[()]


def _convert_partial(x: Array, out: Array, *, dtype: np.dtype[Any]) -> LinearMap:
    return RealPart(1.0, x, out) if x.dtype.kind == "c" and dtype.kind != "c" else Scale(1, x, out)


def _convert_samples() -> Iterator[Sample]:
    yield (np.array([1.5, -2.0]),), {"dtype": np.dtype(np.complex128)}
    yield (np.array([1.5, -2.0]),), {"dtype": np.dtype(np.float64)}


def _convert_batch(size: int, args: Any, batched: Any, params: Params) -> Array:
    return convert(args[0], **params)


convert = RoomPrimitive(
    name="convert",
    compute=_convert_value,
    types=lambda x, dtype: ArrayType(x.shape, dtype),
    typed=True,
    partials=(_convert_partial,),
    batching=_convert_batch,
    cost=lambda args, outs, params: 0,
    examples=_convert_samples,
)


def _discretise_samples() -> Iterator[Sample]:
    yield (np.array([1.5, -2.0]),), {"dtype": np.dtype(np.int64)}


discretise: RoomPrimitive = RoomPrimitive(
    name="discretise",
    compute=_convert_value,
    types=lambda x, dtype: ArrayType(x.shape, dtype),
    typed=True,
    partials=(0,),
    batching=lambda size, args, batched, params: discretise(args[0], **params),
    cost=lambda args, outs, params: 0,
    examples=_discretise_samples,
)
