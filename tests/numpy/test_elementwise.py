"""Elementwise functions: values, both modes, second order, batching and replay, by the laws over cases."""

import numpy as np
import pytest

from chainrule.testing.cases import LAWS, case, draw

X = draw(2, 3)
Y = draw(3, seed=1, low=0.2, high=2.0)
POSITIVE = draw(2, 3, low=0.1, high=3.0)
UNIT = draw(2, 3, low=-0.9, high=0.9)
ABOVE_ONE = draw(2, 3, low=1.2, high=3.0)
Z = draw(2, 3) + 1j * draw(2, 3, seed=3)
MASK = np.array([[True, False, True], [False, True, False]])
INTEGERS = np.array([[0, 1, 2], [2, 0, 1]])
POOR = np.array([[0.5, np.nan, -1.0], [np.inf, 2.0, -np.inf]])
CASES = [
    *(
        case(f.__name__, f, X)
        for f in (
            np.exp,
            np.exp2,
            np.expm1,
            np.sin,
            np.cos,
            np.sinh,
            np.cosh,
            np.tanh,
            np.arctan,
            np.arcsinh,
            np.square,
            np.negative,
            np.positive,
            np.absolute,
            np.fabs,
            np.deg2rad,
            np.rad2deg,
            np.degrees,
            np.radians,
        )
    ),
    *(case(f.__name__, f, POSITIVE) for f in (np.log, np.log2, np.log10, np.log1p, np.sqrt, np.cbrt, np.reciprocal)),
    *(case(f.__name__, f, UNIT) for f in (np.tan, np.arcsin, np.arccos, np.arctanh, np.sinc)),
    case("arccosh", np.arccosh, ABOVE_ONE),
    *(
        case(f.__name__, f, X, Y)
        for f in (np.add, np.subtract, np.multiply, np.divide, np.arctan2, np.hypot, np.logaddexp, np.logaddexp2)
    ),
    case("power", np.power, POSITIVE, Y),
    case("float_power", np.float_power, POSITIVE, Y),
    case("power by a number", lambda x: x**3 + x**-1 + x**0.5 + 2**x + x**0, POSITIVE),
    *(case(f.__name__, f, X, Y) for f in (np.maximum, np.minimum, np.fmax, np.fmin, np.copysign)),
    case("remainder", lambda x, y: x % y, X, Y * 3, rtol=1e-5),
    case("fmod", np.fmod, X * 3, Y + 0.05),
    case("divmod", lambda x, y: np.divmod(x, y), X * 3, Y + 0.05),
    case("divmod operator", lambda x: divmod(x, 1.3), X),
    case("modf", np.modf, X),
    case("frexp", np.frexp, X),
    case("ldexp", lambda x: np.ldexp(x, np.array([1, -2, 3])), X),
    case("heaviside", lambda x, y: np.heaviside(x, y), X, Y),
    case("where", lambda x, y: np.where(MASK, x, y), X, Y),
    case("where of a comparison", lambda x: np.where(x > 0.1, x**2, [1.0, 2.0, 3.0]), X),
    case("clip", lambda x: np.clip(x, -0.6, 0.9), X),
    case("clip by arrays", lambda x, y: np.clip(x, -y, y), X, Y),
    case("clip method", lambda x: x.clip(-0.6) + x.clip(max=0.5), X),
    case("select", lambda x: np.select([x > 0.5, x < -0.5], [x**2, np.sin(x)], 1.5), X),
    case("select without default", lambda x, y: np.select([x > 0.5, x > 0.1], [x * y, y]), X, Y),
    case("choose", lambda x, y: np.choose(INTEGERS, [x, y * x, 3.0]), X, Y),
    case("choose wrapped", lambda x: np.choose(INTEGERS + 2, [x, x**2], mode="wrap"), X),
    case("choose clipped", lambda x: np.choose(INTEGERS - 1, [x, x**2], mode="clip"), X),
    case("piecewise", lambda x: np.piecewise(x, [x < -0.5, x > 0.5], [lambda v: v**2, lambda v: np.exp(v), -1.0]), X),
    case("piecewise without default", lambda x: np.piecewise(x, [x > 0.1], [np.sqrt]), POSITIVE),
    case("piecewise of a scalar", lambda x: np.piecewise(x, x > 0, [lambda v, k: k * v, 0.0], 3.0), np.float64(0.7)),
    case("nan_to_num", lambda x: np.nan_to_num(x * np.where(np.isnan(POOR), np.nan, 1.0), nan=2.0), X),
    case("nan_to_num of infinities", lambda x: np.nan_to_num(x + POOR, posinf=1.0, neginf=-1.0), X),
    case("round", lambda x: np.round(x, 1) + np.around(x) + x.round(2), X, step=1e-5),
    case("round to tens", lambda x: np.round(x, -1), X * 100 + 0.3),
    case("steps", lambda x: (np.floor(x), np.ceil(x), np.trunc(x), np.rint(x), np.fix(x), np.sign(x)), X),
    case("steps times x", lambda x: x * np.floor(x) + x // 0.7, X),
    case(
        "comparisons",
        lambda x, y: (x < y, x >= y, x == y, np.logical_and(x > 0, y > 1), ~(x > 0), (x > 0) ^ (y > 1)),
        X,
        Y,
    ),
    case(
        "truth of elements",
        lambda x: (np.isnan(x), np.isfinite(x), np.isinf(x), np.signbit(x), np.isposinf(x), np.isneginf(x)),
        X,
    ),
    case("bits", lambda x: ((x > 0) & (x < 1), (x > 0) | MASK, np.invert(x > 0), np.left_shift(INTEGERS, 1) * x), X),
    case(
        "integer arithmetic",
        lambda x: np.gcd(INTEGERS, 4) * x + np.lcm(INTEGERS, 3) * x + np.bitwise_count(INTEGERS) * x,
        X,
    ),
    case(
        "astype",
        lambda x: x.astype(np.float32).astype(float),
        X.astype(np.float32).astype(float),
        rtol=1e-2,
        step=0.05,
        order=0,
    ),
    case("astype integer", lambda x: (x.astype(int), np.astype(x, bool)), X),
    case("astype complex", lambda x: x.astype(complex) * (1 + 2j), X),
    case("copies", lambda x: np.copy(x) * x.copy(), X),
    *(
        case(f"{f.__name__} of complex numbers", f, Z)
        for f in (np.exp, np.log, np.sqrt, np.sin, np.cosh, np.tanh, np.square, np.conjugate)
    ),
    case("parts of complex numbers", lambda z: (np.real(z) * z.imag, np.abs(z), np.angle(z), z.conj() * z.real), Z),
    case("angle in degrees", lambda z: np.angle(z, deg=True), Z),
    case("complex powers", lambda z, x: z**2 + z**x + 1 / z, Z, X),
    case("complex of parts", lambda x: x[0] + 1j * x[1], X),
    case("real_if_close", lambda x: np.real_if_close(x + 0j) * x, X, batched=False),
    case("array and list", lambda x: np.subtract(x, [1.0, 2.0, 3.0]), X),
    case("list and array", lambda x: [1.0, 2.0, 3.0] * x, X),
    case("outer method", lambda x, y: np.subtract.outer(x, y), X, Y),
    case("outer with a list", lambda y: np.multiply.outer([1.0, 2.0], y), Y),
    case("i0", np.i0, X),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)
