"""fmod: the rest of a division rounded towards zero, exactly."""

from __future__ import annotations

from chainrule.backends.llvm.vector_maths.lanes import Lanes, Real


def _fmod_of_any(lanes: Lanes, x: Real, y: Real) -> Real:
    return lanes.wrap(lanes.builder.frem(x.value, y.value))  # the C library's


def fmod(lanes: Lanes, x: Real, y: Real) -> Real:
    """x - n y for the integer n = trunc(x / y), with the sign of x; fast where n has at most 53 bits.

    The rounded quotient is at most one above n, and x less that many y is a number: one rounding gives it exactly.
    """
    if not lanes.fused:
        return _fmod_of_any(lanes, x, y)
    n = lanes.intrinsic("trunc", x / y)
    rest = lanes.fma(-n, y, x)
    is_below = rest * lanes.copysign(1.0, x) < 0.0
    rest = lanes.copysign(lanes.where(is_below, rest + lanes.copysign(y, x), rest), x)
    usual = (abs(n) < 2.0**53) & rest.equals(rest)
    return lanes.unless(usual, rest, "fmod", _fmod_of_any, x, y)
