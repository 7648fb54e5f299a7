"""erf, erfc, and the normal distribution function with its logarithm.

erf(x) = x + x P(x**2) for |x| < 3/4. Beyond, erfc(x) = exp(-x**2) u Q(u) with u = 1 / (x + 3), which takes [3/4, inf) to an
interval on which exp(x**2) erfc(x) / u is nearly a polynomial (after Shepherd and Laframboise, Math. Comp. 36, 1981).
"""

from __future__ import annotations

from chainrule.backends.llvm.vector_maths.coefficients import ERF, ERFC
from chainrule.backends.llvm.vector_maths.exponential import exp_of_pair, scale
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Pair, Real
from chainrule.backends.llvm.vector_maths.logarithm import log_of_sum

SQRT_HALF = (0.7071067811865476, -4.833646656726457e-17)
"""1 / sqrt(2) to 106 bits."""


def _erf_rest(lanes: Lanes, x: Real) -> Real:
    """erf(x) / x - 1 for |x| < 3/4."""
    return lanes.polynomial(x * x, ERF)


def _scaled(lanes: Lanes, a: Pair) -> Pair:
    """exp(a**2) erfc(a) for a >= 3/4."""
    shifted = lanes.two_sum(a.hi, 3.0)
    u = 1.0 / shifted.hi
    slip = lanes.residual(u, shifted.hi, lanes.real(1.0)) - u * (shifted.lo + a.lo)  # 1 / (a + 3) = u (1 + slip)
    series = lanes.polynomial_pair(lanes.fma(u, slip, u - 0.15), ERFC)
    factor = lanes.two_product(u, series.hi)
    return Pair(factor.hi, lanes.fma(u, series.lo, factor.lo) + factor.hi * slip)


def _tail(lanes: Lanes, scaled: Pair, square: Pair) -> Real:
    """exp(-square) scaled."""
    e, k = exp_of_pair(lanes, Pair(-square.hi, -square.lo))
    product = lanes.two_product(scaled.hi, e.hi)
    rest = lanes.fma(scaled.hi, e.lo, lanes.fma(e.hi, scaled.lo, product.lo))
    return scale(lanes, product.hi + rest, k)


def _limit(lanes: Lanes) -> float:
    """Where erfc has vanished for good."""
    return 11.0 if lanes.short else 28.0


def _erfc_tail(lanes: Lanes, size: Real) -> Real:
    """erfc(size) for size >= 3/4."""
    a = lanes.at_most(size, _limit(lanes))
    return _tail(lanes, _scaled(lanes, Pair(a, lanes.real(0.0))), lanes.two_product(a, a))


def erf(lanes: Lanes, x: Real) -> Real:
    """2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    size = abs(x)
    near = lanes.fma(x, _erf_rest(lanes, x), x)
    return lanes.where(size < 0.75, near, lanes.copysign(1.0 - _erfc_tail(lanes, size), x))


def erfc(lanes: Lanes, x: Real) -> Real:
    """1 - erf(x), with all digits where that is small."""
    size = abs(x)
    near = lanes.fma(-x, _erf_rest(lanes, x), 1.0 - x)
    tail = _erfc_tail(lanes, size)
    return lanes.where(size < 0.75, near, lanes.where(x < 0.0, 2.0 - tail, tail))


def _over_root_two(lanes: Lanes, x: Real) -> Pair:
    """x / sqrt(2)."""
    product = lanes.two_product(x, SQRT_HALF[0])
    return Pair(product.hi, lanes.fma(x, SQRT_HALF[1], product.lo))


def _ndtr_near(lanes: Lanes, a: Pair) -> Pair:
    """(1 + erf(a)) / 2 for |a| < 3/4."""
    total = lanes.fast_two_sum(1.0, a.hi)
    rest = total.lo + lanes.fma(a.hi, _erf_rest(lanes, a.hi), a.lo)
    return lanes.fast_two_sum(0.5 * total.hi, 0.5 * rest)


def ndtr(lanes: Lanes, x: Real) -> Real:
    """The normal distribution function, erfc(-x / sqrt(2)) / 2."""
    limit = 2.0 * _limit(lanes)
    x = lanes.at_most(lanes.at_least(x, -limit), limit)
    a = _over_root_two(lanes, x)
    near = _ndtr_near(lanes, a)
    size = lanes.at_most(abs(x), 1.4 * _limit(lanes))
    tail = 0.5 * _tail(lanes, _scaled(lanes, _over_root_two(lanes, size)), lanes.two_product(size, 0.5 * size))
    far = lanes.where(x < 0.0, tail, 1.0 - tail)
    return lanes.where(abs(a.hi) < 0.75, near.hi + near.lo, far)


def log_ndtr(lanes: Lanes, x: Real) -> Real:
    """log of the normal distribution function; left of the middle -x**2 / 2 plus the log of what exp does not hold."""
    a = _over_root_two(lanes, x)
    near = _ndtr_near(lanes, a)
    size = lanes.at_most(abs(x), 1e150)
    scaled = _scaled(lanes, _over_root_two(lanes, size))
    cut = lanes.at_most(size, 1.4 * _limit(lanes))
    tail = 0.5 * _tail(lanes, scaled, lanes.two_product(cut, 0.5 * cut))
    right = lanes.fast_two_sum(1.0, -tail)
    middle, leftwards = abs(a.hi) < 0.75, x < 0.0
    hi = lanes.where(middle, near.hi, lanes.where(leftwards, 0.5 * scaled.hi, right.hi))
    lo = lanes.where(middle, near.lo, lanes.where(leftwards, 0.5 * scaled.lo, right.lo))
    logarithm = log_of_sum(lanes, Pair(hi, lo))
    square = lanes.two_product(size, 0.5 * size)
    left = (logarithm - square.lo) - square.hi
    left = lanes.where(x > -1e150, left, -0.5 * x * x)
    return lanes.where(leftwards & (abs(a.hi) >= 0.75), left, logarithm)
