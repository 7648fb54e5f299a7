"""exp(x) = 2**n exp(r) with n = rint(x / log 2), |r| <= log(2) / 2, and a polynomial for exp(r); and its relatives exp2, expm1."""

from __future__ import annotations

from chainrule.backends.llvm.vector_maths.coefficients import EXP
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Pair, Real, Whole

LOG2_E = 1.4426950408889634
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
"""log 2 to 106 bits."""
LN2_SHORT_HI, LN2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""log 2 as 33 bits and the rest, so that n times the first is exact for |n| < 2**20 (fdlibm, e_exp.c)."""


def bounded(lanes: Lanes, x: Real) -> Real:
    """x kept where exp neither overflows nor vanishes for good, so that n stays small; NaN stays NaN."""
    low, high = (-104.0, 89.0) if lanes.short else (-746.0, 710.0)
    return lanes.at_most(lanes.at_least(x, low), high)


def reduce_by_ln2(lanes: Lanes, x: Real) -> tuple[Real, Whole, Pair]:
    """n (as a number and as an integer) and r = x - n log 2 to about 75 bits."""
    n, k = lanes.nearest(x, LOG2_E)
    hi = lanes.fma(-n, LN2_SHORT_HI, x)
    r = lanes.fma(-n, LN2_REST, hi)
    return n, k, Pair(r, lanes.fma(-n, LN2_REST, hi - r))


def scale(lanes: Lanes, y: Real, k: Whole) -> Real:
    """y * 2**k for 0.5 < y < 2 and -1100 <= k <= 1100, rounded once where the result is subnormal."""
    if lanes.short:
        return y * lanes.power_of_two(k)
    half = k >> 1
    return y * lanes.power_of_two(half) * lanes.power_of_two(k - half)


def exp_of_pair(lanes: Lanes, x: Pair) -> tuple[Pair, Whole]:
    """exp(x) = (hi + lo) 2**k for bounded x; the pair errs by some 2**-58, and hi is within [0.7, 1.42]."""
    _, k, r = reduce_by_ln2(lanes, x.hi)
    tail = lanes.fma(r.hi * r.hi, lanes.polynomial(r.hi, EXP), r.lo)
    if not lanes.short:
        tail = lanes.fma(x.lo, r.hi + tail, tail + x.lo)  # times 1 + x.lo
    y = lanes.fast_two_sum(1.0, r.hi)
    return lanes.fast_two_sum(y.hi, y.lo + tail), k


def exp(lanes: Lanes, x: Real) -> Real:
    """e**x."""
    _, k, r = reduce_by_ln2(lanes, bounded(lanes, x))
    return scale(lanes, _exp_of_rest(lanes, r.hi), k)


def _exp_of_rest(lanes: Lanes, r: Real) -> Real:
    """exp(r) for |r| <= log(2) / 2."""
    return 1.0 + lanes.fma(r * r, lanes.polynomial(r, EXP), r)


def exp2(lanes: Lanes, x: Real) -> Real:
    """2**x."""
    low, high = (-151.0, 129.0) if lanes.short else (-1080.0, 1025.0)
    x = lanes.at_most(lanes.at_least(x, low), high)
    n, k = lanes.nearest(x)
    f = x - n
    r = f * LN2[0]
    if lanes.short:
        return scale(lanes, _exp_of_rest(lanes, r), k)
    lo = lanes.fma(f, LN2[1], lanes.residual(-f, LN2[0], -r))
    tail = lanes.fma(r * r, lanes.polynomial(r, EXP), lo)
    return scale(lanes, 1.0 + (r + tail), k)


def expm1(lanes: Lanes, x: Real) -> Real:
    """e**x - 1 = (2**n - 1) + 2**n expm1(r), halved until the end so that 2**1024 does not overflow."""
    y = lanes.at_most(lanes.at_least(x, -40.0), 89.0 if lanes.short else 710.0)
    _, k, r = reduce_by_ln2(lanes, y)
    half = lanes.power_of_two(k - 1)
    tail = lanes.fma(r.hi * r.hi, lanes.polynomial(r.hi, EXP), r.lo)
    result = 2.0 * lanes.fma(half, tail, lanes.fma(half, r.hi, half - 0.5))
    return lanes.where(abs(x) < 2.0**-60, x, result)
