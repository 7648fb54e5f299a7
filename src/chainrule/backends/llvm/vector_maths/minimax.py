"""Near-minimax polynomials: where the numbers of `coefficients.py` come from.

The polynomial of degree n through f at the n + 1 Chebyshev points of [a, b] errs by little more than the best one (Trefethen,
Approximation Theory and Approximation Practice, chapter 16). It is computed in 60 digits, and each coefficient is rounded to a
double. `python -m chainrule.backends.llvm.vector_maths.minimax` prints `coefficients.py`; it needs mpmath, the library doesn't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DIGITS = 60


@dataclass(frozen=True)
class Fit:
    """A function of an mpmath number to be approximated on [low, high], by two degrees: for float64 and for float32 results."""

    formula: str
    function: Callable[[Any, Any], Any]
    low: float
    high: float
    degree: int
    short: int
    offset: float = 0.0
    """The polynomial will be added to this constant: errors count relative to the sum."""


def interpolate(fit: Fit, degree: int) -> list[Any]:
    """Coefficients, lowest first and in 60 digits, of the polynomial through f at the Chebyshev points."""
    import mpmath  # type: ignore[import-untyped, unused-ignore]

    with mpmath.workdps(DIGITS):
        low, high = mpmath.mpf(fit.low), mpmath.mpf(fit.high)
        angles = [mpmath.pi * (2 * k + 1) / (2 * degree + 2) for k in range(degree + 1)]
        points = [(low + high) / 2 + (high - low) / 2 * mpmath.cos(angle) for angle in angles]
        table = [fit.function(mpmath, x) for x in points]
        for step in range(1, degree + 1):
            for k in range(degree, step - 1, -1):
                table[k] = (table[k] - table[k - 1]) / (points[k] - points[k - step])
        coefficients = [table[degree]]
        for k in range(degree - 1, -1, -1):
            shifted = [mpmath.mpf(0), *coefficients]
            coefficients = [s - points[k] * c for s, c in zip(shifted, [*coefficients, 0], strict=True)]
            coefficients[0] += table[k]
        return coefficients


def error(fit: Fit, coefficients: list[float]) -> float:
    """log2 of the largest relative error, on 400 points, of the polynomial evaluated without rounding."""
    import mpmath

    with mpmath.workdps(DIGITS):
        low, high = mpmath.mpf(fit.low), mpmath.mpf(fit.high)
        worst = mpmath.mpf(0)
        for k in range(401):
            x = low + (high - low) * (k + mpmath.mpf("0.001")) / mpmath.mpf("400.01")
            exact = fit.function(mpmath, x)
            worst = max(worst, abs((mpmath.polyval(coefficients[::-1], x) - exact) / (exact + fit.offset)))
        return float(mpmath.log(worst, 2))


TINY = 1e-9
LOG_END = 0.02946
"""Just above s**2 for s = f / (2 + f), 1 + f = sqrt(2)."""
ROOT = "1.46163214496836234126265954232572132846819620400644629512959840859878644"
"""The positive zero of digamma."""


def _stirling(m: Any, z: Any) -> Any:
    """x (lgamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2)) at x = 1 / sqrt(z)."""
    x = 1 / m.sqrt(z)
    return x * (m.loggamma(x) - ((x - 0.5) * m.log(x) - x + m.log(2 * m.pi) / 2))


def _digamma_tail(m: Any, z: Any) -> Any:
    """x**2 (log(x) - 1 / (2 x) - digamma(x)) at x = 1 / sqrt(z)."""
    x = 1 / m.sqrt(z)
    return (m.log(x) - 1 / (2 * x) - m.digamma(x)) / z


def _erfc_scaled(m: Any, u: Any) -> Any:
    """(x + 3) exp(x**2) erfc(x) at x = 1 / (u + 0.15) - 3."""
    x = 1 / (u + m.mpf("0.15")) - 3
    return (x + 3) * m.exp(x * x) * m.erfc(x)


FITS = {
    "EXP": Fit(
        "(exp(x) - 1 - x) / x**2",
        lambda m, x: (m.exp(x) - 1 - x) / x**2,
        -0.34665,
        0.34658,
        9,
        4,
    ),
    "ATANH": Fit(
        "(2 atanh(s) / s - 2) / z at s = sqrt(z)",
        lambda m, z: (2 * m.atanh(m.sqrt(z)) / m.sqrt(z) - 2) / z,
        TINY,
        LOG_END,
        6,
        2,
    ),
    "ATANH_TAIL": Fit(
        "(2 atanh(s) / s - 2 - 2 z / 3) / z**2 at s = sqrt(z)",
        lambda m, z: (2 * m.atanh(m.sqrt(z)) / m.sqrt(z) - 2 - 2 * z / 3) / z**2,
        TINY,
        LOG_END,
        7,
        2,
    ),
    "SIN": Fit(
        "(sin(x) / x - 1) / z at x = sqrt(z)",
        lambda m, z: (m.sin(m.sqrt(z)) / m.sqrt(z) - 1) / z,
        TINY,
        0.61686,
        5,
        3,
    ),
    "COS": Fit(
        "(cos(x) - 1 + z / 2) / z**2 at x = sqrt(z)",
        lambda m, z: (m.cos(m.sqrt(z)) - 1 + z / 2) / z**2,
        TINY,
        0.61686,
        5,
        2,
    ),
    "SINH": Fit(
        "(sinh(x) / x - 1) / z at x = sqrt(z)",
        lambda m, z: (m.sinh(m.sqrt(z)) / m.sqrt(z) - 1) / z,
        TINY,
        0.12012,
        4,
        2,
    ),
    "COSH": Fit(
        "(cosh(x) - 1) / z at x = sqrt(z)",
        lambda m, z: (m.cosh(m.sqrt(z)) - 1) / z,
        TINY,
        0.12012,
        4,
        2,
    ),
    "ASIN": Fit(
        "(asin(x) / x - 1) / z at x = sqrt(z)",
        lambda m, z: (m.asin(m.sqrt(z)) / m.sqrt(z) - 1) / z,
        TINY,
        0.25,
        12,
        5,
    ),
    "ATAN": Fit(
        "(atan(x) / x - 1) / z at x = sqrt(z)",
        lambda m, z: (m.atan(m.sqrt(z)) / m.sqrt(z) - 1) / z,
        TINY,
        1.0,
        19,
        9,
    ),
    "RECIPROCAL_CBRT": Fit("x**(-1/3)", lambda m, x: x ** (-m.mpf(1) / 3), 0.7071, 1.4143, 4, 4),
    "ERF": Fit(
        "erf(x) / x - 1 at x = sqrt(z)",
        lambda m, z: m.erf(m.sqrt(z)) / m.sqrt(z) - 1,
        TINY,
        0.5625,
        10,
        5,
        offset=1.0,
    ),
    "ERFC": Fit(
        _erfc_scaled.__doc__ or "",
        _erfc_scaled,
        -0.1499,
        1 / 3.75 - 0.15,
        21,
        10,
    ),
    "LGAMMA": Fit("lgamma(2 + t) / t", lambda m, t: m.loggamma(2 + t) / t, -0.5001, 0.50011, 17, 8),
    "STIRLING": Fit(_stirling.__doc__ or "", _stirling, TINY, 1 / 4.499**2, 7, 2),
    "DIGAMMA": Fit(
        "digamma(x) / (x - x0) at x = 1.5 + t, x0 its zero",
        lambda m, t: m.digamma(m.mpf("1.5") + t) / (m.mpf("1.5") + t - m.mpf(ROOT)),
        -0.5,
        0.5,
        21,
        9,
    ),
    "DIGAMMA_TAIL": Fit(_digamma_tail.__doc__ or "", _digamma_tail, TINY, 1 / 3.999**2, 8, 2),
}


def module() -> str:
    """The text of `coefficients.py`."""
    parts = [
        '"""Coefficients of the polynomials, lowest first. Printed by `minimax.py`, which tells how they are computed."""\n',
        "from chainrule.backends.llvm.vector_maths.lanes import Series\n",
    ]
    for name, fit in FITS.items():
        lines = [f"{name} = Series("]
        worst = []
        for label, degree in (("double", fit.degree), ("short", fit.short)):
            numbers = [float(c) for c in interpolate(fit, degree)]
            worst.append(f"2**{error(fit, numbers):.1f}")
            lines += [f"    {label}=(", *(f"        {c!r}," for c in numbers), "    ),"]
        lines += [
            ")",
            f'"""{fit.formula.rstrip(".")}.',
            "",
            f"On [{fit.low:.6g}, {fit.high:.6g}], with relative errors {' and '.join(worst)}.",
            '"""\n',
        ]
        parts.append("\n".join(lines))
    return "\n".join(parts)


if __name__ == "__main__":
    print(module(), end="")
