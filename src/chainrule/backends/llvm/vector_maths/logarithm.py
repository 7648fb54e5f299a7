"""log(x) = k log 2 + log(1 + f) with x = 2**k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); and log2, log10, log1p.

With s = f / (2 + f), log(1 + f) = 2 atanh(s) = f - f**2 / 2 + s (f**2 / 2 + z A(z)), z = s**2, as in fdlibm's e_log.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from chainrule.backends.llvm.vector_maths.coefficients import ATANH
from chainrule.backends.llvm.vector_maths.exponential import LN2_REST, LN2_SHORT_HI
from chainrule.backends.llvm.vector_maths.lanes import TINIEST_NORMAL, Lanes, Pair, Real, Series, bits_of

SQRT_HALF_BITS = bits_of(math.sqrt(0.5))
LOG2_E = (1.4426950408889634, 2.0355273740931033e-17)
"""1 / log 2 to 106 bits."""
LOG10_E = (0.4342944819032518, 1.098319650216765e-17)
"""1 / log 10 to 106 bits."""
LOG10_2 = (3.01029995663611771306e-01, 3.69423907715893078616e-13)
"""log 2 / log 10 as 38 bits and the rest (fdlibm, e_log10.c)."""


def split(lanes: Lanes, x: Real) -> tuple[Real, Real]:
    """k and m with x = 2**k m and sqrt(1/2) <= m < sqrt(2), for positive normal x."""
    bits = x.bits()
    k = (bits - SQRT_HALF_BITS) >> 52
    return k.to_real(), (bits - (k << 52)).as_real()


def split_any(lanes: Lanes, x: Real) -> tuple[Real, Real]:
    """The same for 0 < x < inf."""
    if lanes.short:  # no float32 is subnormal as a float64
        return split(lanes, x)
    subnormal = x < TINIEST_NORMAL
    k, m = split(lanes, lanes.where(subnormal, x * 2.0**54, x))
    return k - lanes.where(subnormal, 54.0, 0.0), m


def logarithm_tail(lanes: Lanes, f: Real, series: Series | Sequence[float] = ATANH) -> tuple[Real, Real]:
    """f**2 / 2 and s (f**2 / 2 + z A(z)), of which log(1 + f) = f - first + second."""
    s = f / (f + 2.0)
    z = s * s
    half_square = 0.5 * f * f
    return half_square, s * lanes.fma(z, lanes.polynomial(z, series), half_square)


def natural(lanes: Lanes, k: Real, m: Real, series: Series | Sequence[float] = ATANH) -> Real:
    """k log 2 + log(m)."""
    f = m - 1.0
    half_square, tail = logarithm_tail(lanes, f, series)
    return lanes.fma(k, LN2_SHORT_HI, f - (half_square - lanes.fma(k, LN2_REST, tail)))


def binary(lanes: Lanes, k: Real, m: Real) -> Real:
    """k + log2(m)."""
    return _in_base(lanes, k, lanes.real(0.0), m, LOG2_E)


def decimal(lanes: Lanes, k: Real, m: Real) -> Real:
    """k log10(2) + log10(m)."""
    return _in_base(lanes, k * LOG10_2[0], k * LOG10_2[1], m, LOG10_E)


def _in_base(lanes: Lanes, whole: Real, whole_rest: Real, m: Real, factor: tuple[float, float]) -> Real:
    """whole + whole_rest + factor log(m), the large products without rounding."""
    f = m - 1.0
    half_square, tail = logarithm_tail(lanes, f)
    part = lanes.two_product(f, factor[0])
    head = lanes.fast_two_sum(whole, part.hi)
    rest = lanes.fma(f, factor[1], lanes.fma(tail - half_square, factor[0], part.lo))
    return head.hi + (head.lo + (whole_rest + rest))


def log_mantissa(lanes: Lanes, m: Real) -> Pair:
    """log(m) for m of `split`, with an error of some 2**-57 f**2."""
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    square = lanes.two_product(0.5 * f, f)
    tail = s * lanes.fma(z, lanes.polynomial(z, ATANH), square.hi)
    head = lanes.fast_two_sum(f, -square.hi)
    return lanes.fast_two_sum(head.hi, head.lo + (tail - square.lo))


def log_pair(lanes: Lanes, x: Real) -> Pair:
    """log(x) for 0 < x < inf with some four more bits than a double."""
    k, m = split_any(lanes, x)
    part = log_mantissa(lanes, m)
    head = lanes.fast_two_sum(k * LN2_SHORT_HI, part.hi)
    return lanes.fast_two_sum(head.hi, head.lo + lanes.fma(k, LN2_REST, part.lo))


def log_of_sum(lanes: Lanes, u: Pair, extra: Real | float = 0.0) -> Real:
    """log(u.hi + u.lo) + extra log 2, with all digits also where u is near 1; u.hi normal."""
    bits = u.hi.bits()
    whole = (bits - SQRT_HALF_BITS) >> 52
    f = (bits - (whole << 52)).as_real() - 1.0
    k = whole.to_real() + extra
    # u.lo / u.hi, to a few bits, by 1 / (1 + f) ~ 1 - f + f**2; half of that, since 2**-k would be subnormal at the top.
    c = u.lo * lanes.power_of_two(lanes.whole(1) - whole) * lanes.polynomial(f, (0.5, -0.5, 0.5))
    half_square, tail = logarithm_tail(lanes, f)
    return lanes.fma(k, LN2_SHORT_HI, f - (half_square - (lanes.fma(k, LN2_REST, tail) + c)))


def with_special_values(lanes: Lanes, x: Real, result: Real) -> Real:
    """Any logarithm's values at 0, below it, at infinity and for NaN, and `result` elsewhere."""
    result = lanes.where(x > 0.0, result, lanes.where(x.equals(0.0), -math.inf, math.nan))
    return lanes.where(x.equals(math.inf), x, result)


def _of_any_argument(formula: Callable[[Lanes, Real, Real], Real]) -> Callable[[Lanes, Real], Real]:
    """formula(k, m), completed to subnormal numbers and special values."""
    return lambda lanes, x: with_special_values(lanes, x, formula(lanes, *split_any(lanes, x)))


def log(lanes: Lanes, x: Real) -> Real:
    """The natural logarithm."""
    fast = natural(lanes, *split(lanes, x))
    return lanes.unless(x.is_positive_normal(), fast, "log", _of_any_argument(natural), x)


def log2(lanes: Lanes, x: Real) -> Real:
    """The logarithm to base 2; exact for powers of two."""
    fast = binary(lanes, *split(lanes, x))
    return lanes.unless(x.is_positive_normal(), fast, "log2", _of_any_argument(binary), x)


def log10(lanes: Lanes, x: Real) -> Real:
    """The logarithm to base 10."""
    fast = decimal(lanes, *split(lanes, x))
    return lanes.unless(x.is_positive_normal(), fast, "log10", _of_any_argument(decimal), x)


def log1p(lanes: Lanes, x: Real) -> Real:
    """log(1 + x)."""
    u = lanes.two_sum(1.0, x)
    result = with_special_values(lanes, u.hi, log_of_sum(lanes, u))
    return lanes.where(abs(x) < 2.0**-54, x, result)
