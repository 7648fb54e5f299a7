"""sqrt, cbrt, hypot and x**y = exp(y log x), the logarithm to some 68 bits."""

from __future__ import annotations

import math

from chainrule.backends.llvm.vector_maths.coefficients import ATANH, ATANH_TAIL, RECIPROCAL_CBRT
from chainrule.backends.llvm.vector_maths.exponential import LN2_REST, LN2_SHORT_HI, bounded, exp_of_pair, scale
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Mask, Pair, Real
from chainrule.backends.llvm.vector_maths.logarithm import natural, split, split_any

TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
"""2 / 3 to 106 bits."""
CBRT_2 = 1.2599210498948732


def sqrt(lanes: Lanes, x: Real) -> Real:
    """The square root, correctly rounded."""
    return lanes.sqrt(x)


def _cbrt_of_positive(lanes: Lanes, k: Real, m: Real) -> Real:
    """(2**k m)**(1/3) = 2**q (2**j m)**(1/3) with k = 3 q + j: y near m**(-1/3) by a polynomial and Newton, then z = m y**2."""
    q, q_whole = lanes.nearest(k * (1.0 / 3.0))
    j = lanes.fma(-3.0, q, k)
    y = lanes.polynomial(m, RECIPROCAL_CBRT)
    y = lanes.fma(y * (1.0 / 3.0), lanes.residual(m * y, y * y, lanes.real(1.0)), y)
    # m grows by 2**j, j in {-1, 0, 1}, and y shrinks by its cube root: both as parabolas through the three values.
    m = m * lanes.horner(j, (1.0, 0.75, 0.25))
    y = y * lanes.horner(j, (1.0, (1.0 / CBRT_2 - CBRT_2) / 2, (1.0 / CBRT_2 + CBRT_2) / 2 - 1.0))
    z = m * (y * y)
    if not lanes.short:
        square = lanes.two_product(z, z)
        z = lanes.fma(lanes.residual(square.hi, z, m) - square.lo * z, y * y * (1.0 / 3.0), z)
    return z * lanes.power_of_two(q_whole)


def _cbrt_of_any(lanes: Lanes, x: Real) -> Real:
    """The cube root, of subnormal numbers and special values too."""
    size = abs(x)
    result = lanes.copysign(_cbrt_of_positive(lanes, *split_any(lanes, size)), x)
    return lanes.where((size < math.inf) & (size > 0.0), result, x)


def cbrt(lanes: Lanes, x: Real) -> Real:
    """The cube root, with the sign of x."""
    size = abs(x)
    fast = lanes.copysign(_cbrt_of_positive(lanes, *split(lanes, size)), x)
    return lanes.unless(size.is_positive_normal(), fast, "cbrt", _cbrt_of_any, x)


def hypot(lanes: Lanes, x: Real, y: Real) -> Real:
    """sqrt(x**2 + y**2) without overflow or underflow in between; infinite if either is."""
    x, y = abs(x), abs(y)
    if lanes.short:
        result = lanes.sqrt(lanes.fma(x, x, y * y))
    else:
        large = (x > 2.0**510) | (y > 2.0**510)
        small = (x < 2.0**-400) & (y < 2.0**-400)
        factor = lanes.where(large, 2.0**-600, lanes.where(small, 2.0**600, 1.0))
        inverse = lanes.where(large, 2.0**600, lanes.where(small, 2.0**-600, 1.0))
        x_scaled, y_scaled = x * factor, y * factor
        result = lanes.sqrt(lanes.fma(x_scaled, x_scaled, y_scaled * y_scaled)) * inverse
    return lanes.where(x.equals(math.inf) | y.equals(math.inf), math.inf, result)


def precise_log(lanes: Lanes, k: Real, m: Real) -> Pair:
    """k log 2 + log(m) with a relative error of some 2**-66."""
    # s = (m - 1) / (m + 1), and 2 atanh(s) = 2 s + s w with w = z (2/3 + z A(z)), z = s**2; products as pairs, to some 100 bits.
    below = lanes.fast_two_sum(1.0, m)
    above = m - 1.0
    inverse = 1.0 / below.hi
    s_hi = above * inverse
    s_lo = inverse * lanes.fma(-s_hi, below.lo, lanes.residual(s_hi, below.hi, above))
    z = lanes.two_product(s_hi, s_hi)
    z_lo = lanes.fma(s_hi + s_hi, s_lo, z.lo)
    inner = lanes.fast_two_sum(TWO_THIRDS[0], lanes.fma(z.hi, lanes.polynomial(z.hi, ATANH_TAIL), TWO_THIRDS[1]))
    w = lanes.two_product(z.hi, inner.hi)
    w_lo = lanes.fma(z.hi, inner.lo, lanes.fma(z_lo, inner.hi, w.lo))
    tail = lanes.two_product(s_hi, w.hi)
    tail_lo = lanes.fma(s_hi, w_lo, lanes.fma(s_lo, w.hi, tail.lo))
    head = lanes.fast_two_sum(k * LN2_SHORT_HI, s_hi + s_hi)
    body = lanes.fast_two_sum(head.hi, tail.hi)
    rest = lanes.fma(k, LN2_REST, head.lo) + (body.lo + lanes.fma(2.0, s_lo, tail_lo))
    return lanes.fast_two_sum(body.hi, rest)


def _exponent(lanes: Lanes, k: Real, m: Real, y: Real) -> Pair:
    """y log(2**k m)."""
    if lanes.short:
        return Pair(y * natural(lanes, k, m, ATANH.double), lanes.real(0.0))
    log_x = precise_log(lanes, k, m)
    product = lanes.two_product(log_x.hi, y)
    return Pair(product.hi, lanes.fma(log_x.lo, y, product.lo))


def _size_of_power(lanes: Lanes, x: Real, y: Real) -> Real:
    """x**y for 0 < x < inf."""
    exponent = _exponent(lanes, *split_any(lanes, x), y)
    # An overflowing product has no rest.
    exponent = Pair(exponent.hi, lanes.where(abs(exponent.hi) < 1e4, exponent.lo, 0.0))
    result, k = exp_of_pair(lanes, Pair(bounded(lanes, exponent.hi), exponent.lo))
    return scale(lanes, result.hi, k)


def _parity(lanes: Lanes, y: Real) -> tuple[Mask, Mask]:
    """Whether y is an integer, and whether it is an odd one."""
    half = 0.5 * y
    is_integer = lanes.rint(y).equals(y)
    return is_integer, is_integer & ~lanes.rint(half).equals(half)


def _pow_of_any(lanes: Lanes, x: Real, y: Real) -> Real:
    """x**y with the special values of C99, annex F.9.4.4."""
    size = abs(x)
    is_integer, is_odd = _parity(lanes, y)
    result = _size_of_power(lanes, size, y)
    # A base of 0 or infinity, to a power of either sign.
    extreme = size.equals(0.0) | size.equals(math.inf)
    grows = size.equals(0.0) ^ (y > 0.0)
    result = lanes.where(extreme, lanes.where(grows, math.inf, 0.0), result)
    result = lanes.where(is_odd, lanes.copysign(result, x), result)
    undefined = (x < 0.0) & (x > -math.inf) & ~is_integer
    result = lanes.where(undefined | x.is_nan() | y.is_nan(), math.nan, result)
    certain = x.equals(1.0) | y.equals(0.0) | (x.equals(-1.0) & abs(y).equals(math.inf))
    return lanes.where(certain, 1.0, result)


def pow(lanes: Lanes, x: Real, y: Real) -> Real:
    """x**y; fast for positive normal x and moderate y."""
    exponent = _exponent(lanes, *split(lanes, x), y)
    # For |y| < 2**40 the rest is below 1 even where the exponent is cut, so it does no harm there.
    result, k = exp_of_pair(lanes, Pair(bounded(lanes, exponent.hi), exponent.lo))
    usual = x.is_positive_normal() & (abs(y) < 2.0**40)
    return lanes.unless(usual, scale(lanes, result.hi, k), "pow", _pow_of_any, x, y)
