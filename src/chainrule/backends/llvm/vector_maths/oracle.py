"""What the functions should give: mpmath references, the arguments to try, and errors counted in units in the last place.

For the tests and the benchmark; needs mpmath.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
PRECISION = 160
Reference = Callable[..., Any]
HALF_PI = math.pi / 2


@dataclass(frozen=True)
class Case:
    """A reference on mpmath numbers (module first), where to try it, and what its errors are measured against.

    spans: for each argument, an interval that matters
    near: numbers around which to look closely
    domain: the least and the greatest argument that the reference takes
    floor: a magnitude below which a result needn't have all its digits
    """

    reference: Reference
    spans: tuple[tuple[float, float], ...]
    near: tuple[float, ...] = (0.0, 1.0)
    domain: tuple[float, float] = (-math.inf, math.inf)
    floor: Reference | None = field(default=None)


def _exp(m: Any, x: Any) -> Any:
    """exp(x), huge or tiny enough where it would be more so."""
    return m.exp(min(max(x, m.mpf(-4000)), m.mpf(4000)))


def _power(m: Any, x: Any, y: Any) -> Any:
    sign = -1 if x < 0 and y % 2 == 1 else 1
    return sign * _exp(m, y * m.log(abs(x)))


def _softplus(m: Any, x: Any) -> Any:
    return x if x > 1000 else m.log1p(_exp(m, x))


def _logaddexp(m: Any, x: Any, y: Any) -> Any:
    return max(x, y) + _softplus(m, -abs(x - y))


def _erfc(m: Any, x: Any) -> Any:
    return m.erfc(min(max(x, m.mpf(-40)), m.mpf(40)))


def _ndtr(m: Any, x: Any) -> Any:
    return m.erfc(-min(max(x, m.mpf(-60)), m.mpf(60)) / m.sqrt(2)) / 2


def _log_ndtr(m: Any, x: Any) -> Any:
    if x > 1:
        return m.log1p(-_ndtr(m, -x))
    return m.log(m.erfc(-x / m.sqrt(2)) / 2) if x > -(10**6) else -x * x / 2 - m.log(-x * m.sqrt(2 * m.pi))


def _lgamma(m: Any, x: Any) -> Any:
    if x > 0:
        return m.re(m.loggamma(x))
    with m.workprec(PRECISION + 80):
        return m.log(m.pi / abs(x * m.sin(m.pi * x))) - m.re(m.loggamma(-x))


def _digamma(m: Any, x: Any) -> Any:
    if x > 0:
        return m.digamma(x)
    with m.workprec(PRECISION + 80):
        return m.digamma(1 - x) - m.pi / m.tan(m.pi * x)


def _lgamma_floor(m: Any, x: Any) -> Any:
    return max(m.mpf(1), abs(m.re(m.loggamma(-x)))) if x < 0 else m.mpf(0)


def _digamma_floor(m: Any, x: Any) -> Any:
    return max(m.mpf(1), abs(m.digamma(-x))) if x < 0 else m.mpf(0)


def _fmod(m: Any, x: Any, y: Any) -> Any:
    size = abs(Fraction(float(x))) % abs(Fraction(float(y)))
    return m.sign(x) * size.numerator / size.denominator


MULTIPLES = tuple(k * HALF_PI for k in (1, 2, 3, 4, 7, 22, 355, 11, 103993, 2.0**40, 2.0**200))
CASES = {
    "exp": Case(_exp, ((-750, 715),), (0.0, 1.0, 709.78, -708.4, -745.1, 88.72, -87.3, -103.9)),
    "exp2": Case(
        lambda m, x: _exp(m, x * m.log(2)), ((-1080, 1030),), (0.0, 0.5, 1.0, 1024.0, -1022.0, -1074.0, 128.0)
    ),
    "expm1": Case(
        lambda m, x: m.expm1(min(x, m.mpf(4000))) if x > -4000 else m.mpf(-1),
        ((-45, 2),),
        (0.0, 0.3466, -0.3466, 709.78),
    ),
    "log": Case(lambda m, x: m.log(x), ((0, 10),), (0.0, 1.0, 0.7071, 1.4142, 2.0), (5e-324, math.inf)),
    "log2": Case(lambda m, x: m.log(x, 2), ((0, 10),), (0.0, 1.0, 0.7071, 1.4142, 2.0), (5e-324, math.inf)),
    "log10": Case(lambda m, x: m.log(x, 10), ((0, 10),), (0.0, 1.0, 0.7071, 1.4142, 2.0), (5e-324, math.inf)),
    "log1p": Case(
        lambda m, x: m.log1p(x), ((-1, 3),), (0.0, -1.0, -0.2929, 0.4142, 1.0), (math.nextafter(-1, 0), math.inf)
    ),
    "sqrt": Case(lambda m, x: m.sqrt(x), ((0, 10),), (0.0, 1.0), (0.0, math.inf)),
    "cbrt": Case(lambda m, x: m.sign(x) * m.cbrt(abs(x)), ((-30, 30),), (0.0, 1.0, 8.0, 0.7071, 27.0)),
    "pow": Case(_power, ((0, 30), (-30, 30)), (1.0, 0.7071, 1.4142, 2.0)),
    "hypot": Case(lambda m, x, y: m.hypot(x, y), ((-5, 5), (-5, 5))),
    "fmod": Case(_fmod, ((-100, 100), (-5, 5)), (1.0, 3.0)),
    "sin": Case(lambda m, x: m.sin(x), ((-100, 100),), (0.0, *MULTIPLES)),
    "cos": Case(lambda m, x: m.cos(x), ((-100, 100),), (0.0, *MULTIPLES)),
    "tan": Case(lambda m, x: m.tan(x), ((-100, 100),), (0.0, math.pi / 4, *MULTIPLES)),
    "asin": Case(lambda m, x: m.asin(x), ((-1, 1),), (0.0, 0.5, -0.5, 1.0, -1.0), (-1.0, 1.0)),
    "acos": Case(lambda m, x: m.acos(x), ((-1, 1),), (0.0, 0.5, -0.5, 1.0, -1.0), (-1.0, 1.0)),
    "atan": Case(lambda m, x: m.atan(x), ((-5, 5),), (0.0, 1.0, -1.0)),
    "atan2": Case(lambda m, y, x: m.atan2(y, x), ((-5, 5), (-5, 5)), (1.0, -1.0)),
    "sinh": Case(
        lambda m, x: m.sinh(min(max(x, m.mpf(-4000)), m.mpf(4000))), ((-3, 3),), (0.0, 0.3466, 1.04, 710.47, 89.4)
    ),
    "cosh": Case(
        lambda m, x: m.cosh(min(max(x, m.mpf(-4000)), m.mpf(4000))), ((-3, 3),), (0.0, 0.3466, 1.04, 710.47, 89.4)
    ),
    "tanh": Case(lambda m, x: m.tanh(min(max(x, m.mpf(-99)), m.mpf(99))), ((-3, 3),), (0.0, 0.3466, 1.04, 22.0, 19.06)),
    "asinh": Case(lambda m, x: m.asinh(x), ((-5, 5),), (0.0, 0.75, 2.0**28)),
    "acosh": Case(lambda m, x: m.acosh(x), ((1, 5),), (1.0, 1.25, 2.0**28), (1.0, math.inf)),
    "atanh": Case(
        lambda m, x: m.atanh(x), ((-1, 1),), (0.0, 0.1716, 1.0, -1.0), (math.nextafter(-1, 0), math.nextafter(1, 0))
    ),
    "expit": Case(lambda m, x: 1 / (1 + _exp(m, -x)), ((-40, 40),), (0.0, -0.3466, 36.0, -708.4, -745.1)),
    "softplus": Case(_softplus, ((-40, 40),), (0.0, -0.3466, 36.0, -708.4, -745.1)),
    "logaddexp": Case(
        _logaddexp,
        ((-9, 9), (-9, 9)),
        (0.0, 1.0, -0.6931),
        floor=lambda m, x, y: max(abs(max(x, y)), _softplus(m, -abs(x - y))),
    ),
    "erf": Case(lambda m, x: m.erf(min(max(x, m.mpf(-40)), m.mpf(40))), ((-3, 3),), (0.0, 0.75, -0.75, 5.9)),
    "erfc": Case(_erfc, ((-6, 28),), (0.0, 0.75, -0.75, 0.25, 26.5, 27.2, 10.0)),
    "ndtr": Case(_ndtr, ((-40, 9),), (0.0, 1.06066, -1.06066, -37.5, -38.5, -13.2, -14.4)),
    "log_ndtr": Case(_log_ndtr, ((-60, 40),), (0.0, 1.06066, -1.06066, -39.0, 38.4, 13.1)),
    "lgamma": Case(_lgamma, ((-10, 20),), (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 4.5, -1.0, -2.457), floor=_lgamma_floor),
    "digamma": Case(
        _digamma, ((-10, 20),), (0.0, 1.0, 1.4616321449683623, 2.0, 3.0, 4.0, -0.504), floor=_digamma_floor
    ),
}


@np.errstate(all="ignore")
def arguments(name: str, dtype: str, count: int) -> list[FloatArray]:
    """A third of them any bit pattern, a third across the intervals that matter, a third close to special points."""
    case, rng = CASES[name], np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
    found = [_spread(case, span, np.dtype(dtype), rng, count) for span in case.spans]
    x, y = found[0], found[-1]
    low, high = case.domain
    keep = (x >= low) & (x <= high) & np.isfinite(x) & np.isfinite(y)
    if name == "pow":
        y[:count] = rng.uniform(-760, 720, count) / np.log(abs(x[:count].astype("float64")))
        y[2 * count :] = rng.integers(-40, 40, count)
        keep = np.isfinite(x) & np.isfinite(y) & ((x > 0) | ((x < 0) & (np.rint(y) == y)))
    if name in ("lgamma", "digamma"):
        keep &= (x > -(2.0**50)) & ((x > 0) | (np.rint(x) != x))
    return [a[keep] for a in found]


def _spread(
    case: Case, span: tuple[float, float], kind: np.dtype[Any], rng: np.random.Generator, count: int
) -> FloatArray:
    """`count` of each of the three sorts."""
    patterns = rng.integers(0, 2 ** (8 * kind.itemsize), count, dtype=f"u{kind.itemsize}").view(kind)
    points = rng.choice(np.array(case.near), count)
    offsets = rng.choice([-1.0, 1.0], count) * 2.0 ** rng.uniform(-60, -2, count)
    close = points + offsets * np.maximum(abs(points), rng.random(count) < 0.5)
    return np.concatenate([patterns, rng.uniform(*span, count).astype(kind), close.astype(kind)])


def errors(name: str, args: list[FloatArray], results: FloatArray) -> npt.NDArray[np.float64]:
    """|result - exact| of each, in units in the last place of the exact value (of the case's floor, where that is larger)."""
    import mpmath

    case, kind = CASES[name], np.finfo(results.dtype)
    out = np.empty(len(results))
    with mpmath.workprec(PRECISION):
        for i, (y, *xs) in enumerate(zip(results, *args, strict=True)):
            numbers = [mpmath.mpf(float(x)) for x in xs]
            exact = case.reference(mpmath, *numbers)
            size = abs(exact) if case.floor is None else max(abs(exact), case.floor(mpmath, *numbers))
            out[i] = _ulps(mpmath, float(y), exact, size, kind)
    return out


def _ulps(m: Any, y: float, exact: Any, size: Any, kind: Any) -> float:
    """One error; none where the exact value overflows and the result is infinite."""
    largest = m.mpf(float(kind.max))
    if math.isnan(y):
        return math.inf
    if abs(exact) > largest and (math.isinf(y) or abs(y) == largest):
        return 0.0 if (y > 0) == (exact > 0) else math.inf
    if math.isinf(y):
        return math.inf
    exponent = max(m.frexp(size)[1] - 1, int(kind.minexp)) if size else int(kind.minexp)
    return float(abs(m.mpf(y) - exact) / m.ldexp(1, exponent - int(kind.nmant)))
