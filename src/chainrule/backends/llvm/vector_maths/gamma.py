"""log |Gamma(x)| and its derivative digamma(x).

Up to 4 or so, a polynomial on an interval of length 1, from which the recurrence Gamma(x + 1) = x Gamma(x) leads to the others; its
zeros are factored out, so that the results have all digits near them. Beyond, the asymptotic series, as a polynomial in 1 / x**2.
Negative arguments, by reflection, lie behind one test.
"""

from __future__ import annotations

import math

from chainrule.backends.llvm.vector_maths.coefficients import DIGAMMA, DIGAMMA_TAIL, LGAMMA, STIRLING
from chainrule.backends.llvm.vector_maths.inverse_trigonometric import PI
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Mask, Pair, Real
from chainrule.backends.llvm.vector_maths.logarithm import log_pair, natural, split
from chainrule.backends.llvm.vector_maths.trigonometric import cosine, sine

HALF_LOG_TAU_LESS_HALF = 0.4189385332046727
"""log(2 pi) / 2 - 1 / 2."""
ROOT_OFFSET = (0.03836785503163766, 1.6445603550442201e-18)
"""3/2 less the positive zero of digamma, to 106 bits."""


def lgamma(lanes: Lanes, x: Real) -> Real:
    """log |Gamma(x)|, infinite at the poles; within 2 ulp for x > 0.

    For x < 0 within 3 ulp of the larger of 1, |result| and |lgamma(|x|)|, so not to the last digits at its zeros.
    """
    size = abs(x)
    value = _lgamma_positive(lanes, size)
    value = lanes.where(size.equals(0.0) | size.equals(math.inf), math.inf, value)
    negative = x < 0.0
    return lanes.wrap(lanes.rarely(negative, [value.value], lambda: [_reflect_lgamma(lanes, x, value).value])[0])


def _lgamma_positive(lanes: Lanes, x: Real) -> Real:
    """log Gamma(x) for 0 < x < inf."""
    large = x >= 4.5
    t, product = _shift_near_two(lanes, x)
    logarithm = log_pair(lanes, lanes.where(large, x, product.hi))
    # Below 4.5: lgamma(2 + t), and the logarithm of the product by which the recurrence differs.
    series = lanes.polynomial_pair(t, LGAMMA)
    near = lanes.two_product(t, series.hi)
    near = Pair(near.hi, lanes.fma(t, series.lo, near.lo))
    downwards = x < 1.5
    sign = lanes.where(downwards, -1.0, 1.0)
    total = lanes.two_sum(logarithm.hi * sign, near.hi)
    small = total.hi + (total.lo + lanes.fma(sign, logarithm.lo + product.lo / product.hi, near.lo))
    return lanes.where(large, _stirling(lanes, x, logarithm), small)


def _shift_near_two(lanes: Lanes, x: Real) -> tuple[Real, Pair]:
    """t, |t| <= 1/2, and p with Gamma(x) = Gamma(2 + t) p for 3/2 <= x < 9/2, and Gamma(2 + t) / p below."""
    n, one, zero = lanes.nearest(lanes.at_most(x, 4.5))[0], lanes.real(1.0), lanes.real(0.0)
    n = lanes.where(x - n >= 0.5, n + 1.0, n)  # a tie goes up
    n = lanes.where(x - n < -0.5, n - 1.0, n)
    above = lanes.two_sum(x, 1.0)
    low = lanes.two_product(x, above.hi)
    high = lanes.two_product(x - 1.0, x - 2.0)
    middle = lanes.where(x < 1.5, x, lanes.where(x < 2.5, one, x - 1.0))
    p = lanes.where(x < 0.5, low.hi, lanes.where(x < 3.5, middle, high.hi))
    rest = lanes.where(x < 0.5, lanes.fma(x, above.lo, low.lo), lanes.where(x < 3.5, zero, high.lo))
    return x - n, Pair(p, rest)


def _stirling(lanes: Lanes, x: Real, logarithm: Pair) -> Real:
    """(x - 1/2) (log x - 1) + (log(2 pi) - 1) / 2 + P(1 / x**2) / x for x >= 4.5."""
    inverse = 1.0 / x
    series = inverse * lanes.polynomial(inverse * inverse, STIRLING)
    head = lanes.fast_two_sum(logarithm.hi, -1.0)
    factor = x - 0.5
    product = lanes.two_product(factor, head.hi)
    rest = lanes.fma(factor, head.lo + logarithm.lo, product.lo + (series + HALF_LOG_TAU_LESS_HALF))
    return lanes.where(x < 1e100, product.hi + rest, product.hi)


def _turn(lanes: Lanes, size: Real) -> tuple[Real, Pair, Pair]:
    """r = size - rint(size), exact; and sin(pi |r|), cos(pi |r|)."""
    r = size - lanes.rint(size)
    part = abs(r)
    swap = part > 0.25
    angle = lanes.product(
        Pair(lanes.where(swap, 0.5 - part, part), lanes.real(0.0)), Pair(lanes.real(PI[0]), lanes.real(PI[1]))
    )
    s, c = sine(lanes, angle), cosine(lanes, angle)
    s, c = lanes.fast_two_sum(s.hi, s.lo), lanes.fast_two_sum(c.hi, c.lo)
    return r, _choose(lanes, swap, c, s), _choose(lanes, swap, s, c)


def _choose(lanes: Lanes, mask: Mask, yes: Pair, no: Pair) -> Pair:
    return Pair(lanes.where(mask, yes.hi, no.hi), lanes.where(mask, yes.lo, no.lo))


def _reflect_lgamma(lanes: Lanes, x: Real, value: Real) -> Real:
    """log(pi / (|x| sin(pi |x|))) - lgamma(|x|) where x < 0; infinite at the poles."""
    size = abs(x)
    r, s, _ = _turn(lanes, size)
    reflected = natural(lanes, *split(lanes, PI[0] / (size * s.hi))) - value
    reflected = lanes.where(r.equals(0.0), math.inf, reflected)
    return lanes.where((x < -(2.0**-60)) & (size < math.inf), reflected, value)


def digamma(lanes: Lanes, x: Real) -> Real:
    """Gamma'(x) / Gamma(x), NaN at the poles; within 2 ulp for x > 0.

    For x < 0 within 3 ulp of the larger of 1, |result| and |digamma(|x|)|, so not to the last digits at its zeros.
    """
    size = abs(x)
    value = _digamma_positive(lanes, size)
    negative = x < 0.0
    value = lanes.wrap(lanes.rarely(negative, [value.value], lambda: [_reflect_digamma(lanes, x, value).value])[0])
    value = lanes.where(size < 1e-20, -1.0 / x, value)
    return lanes.where(x.equals(math.inf), x, value)


def _digamma_positive(lanes: Lanes, x: Real) -> Real:
    """digamma(x) for 0 < x < inf."""
    # On [1, 2) a polynomial times x less the zero; elsewhere below 4 a sum of reciprocals more, as one quotient.
    t = x - lanes.where(x < 2.0, lanes.where(x < 1.0, 0.5, 1.5), lanes.where(x < 3.0, 2.5, 3.5))
    distance = (t + ROOT_OFFSET[0]) + ROOT_OFFSET[1]
    two = lanes.two_product(x - 1.0, x - 2.0)
    zero = lanes.real(0.0)
    above = lanes.where(x < 2.0, lanes.where(x < 1.0, -1.0, 0.0), lanes.where(x < 3.0, 1.0, lanes.fma(2.0, x, -3.0)))
    below = lanes.where(x < 2.0, lanes.where(x < 1.0, x, 1.0), lanes.where(x < 3.0, x - 1.0, two.hi))
    steps = lanes.quotient(Pair(above, zero), Pair(below, lanes.where(x < 3.0, 0.0, two.lo)))
    series = lanes.polynomial_pair(t, DIGAMMA)
    part = lanes.two_product(distance, series.hi)
    total = lanes.two_sum(steps.hi, part.hi)
    small = total.hi + (total.lo + lanes.fma(distance, series.lo, part.lo + steps.lo))
    logarithm = log_pair(lanes, x)
    inverse = 1.0 / x
    z = inverse * inverse
    tail = lanes.fma(z, lanes.polynomial(z, DIGAMMA_TAIL), 0.5 * inverse)
    return lanes.where(x < 4.0, small, logarithm.hi + (logarithm.lo - tail))


def _reflect_digamma(lanes: Lanes, x: Real, value: Real) -> Real:
    """digamma(|x|) + 1 / |x| + pi cot(pi |x|) where x < 0."""
    size = abs(x)
    r, s, c = _turn(lanes, size)
    cotangent = lanes.product(lanes.quotient(c, s), Pair(lanes.real(PI[0]), lanes.real(PI[1])))
    sign = lanes.copysign(1.0, r)
    total = lanes.two_sum(sign * cotangent.hi, value)
    reflected = total.hi + (lanes.fma(sign, cotangent.lo, total.lo) + 1.0 / size)
    reflected = lanes.where(r.equals(0.0), math.nan, reflected)
    return lanes.where(x < 0.0, lanes.where(size < math.inf, reflected, math.nan), value)
