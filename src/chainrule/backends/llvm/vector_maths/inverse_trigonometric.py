"""asin and acos by a polynomial on [0, 1/2] and asin(x) = pi / 2 - 2 asin(sqrt((1 - x) / 2)); atan by one on [0, 1]."""

from __future__ import annotations

import math

from chainrule.backends.llvm.vector_maths.coefficients import ASIN, ATAN
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Mask, Real
from chainrule.backends.llvm.vector_maths.reduction import HALF_PI

PI = (2.0 * HALF_PI[0], 2.0 * HALF_PI[1])


def _asin_parts(lanes: Lanes, x: Real) -> tuple[Mask, Real, Real]:
    """Whether |x| > 1/2; s, which is |x| or else sqrt((1 - |x|) / 2); and asin(s) - s."""
    size = abs(x)
    large = size > 0.5
    z = lanes.where(large, lanes.fma(-0.5, size, 0.5), size * size)
    s = lanes.where(large, lanes.sqrt(z), size)
    return large, s, s * (z * lanes.polynomial(z, ASIN))


def asin(lanes: Lanes, x: Real) -> Real:
    """The angle in [-pi / 2, pi / 2] whose sine is x; NaN for |x| > 1."""
    large, s, rest = _asin_parts(lanes, x)
    head = lanes.fast_two_sum(HALF_PI[0], -2.0 * s)
    complement = head.hi + (head.lo - lanes.fma(2.0, rest, -HALF_PI[1]))
    return lanes.copysign(lanes.where(large, complement, s + rest), x)


def acos(lanes: Lanes, x: Real) -> Real:
    """The angle in [0, pi] whose cosine is x; NaN for |x| > 1."""
    large, s, rest = _asin_parts(lanes, x)
    double = 2.0 * (s + rest)
    far = lanes.where(x < 0.0, PI[0] - (double - PI[1]), double)
    near = HALF_PI[0] - (lanes.copysign(s, x) - (HALF_PI[1] - lanes.copysign(rest, x)))
    return lanes.where(large, far, near)


def atan(lanes: Lanes, x: Real) -> Real:
    """The angle in [-pi / 2, pi / 2] whose tangent is x."""
    size = abs(x)
    large = size > 1.0
    t = lanes.where(large, 1.0 / size, size)
    z = t * t
    rest = t * z * lanes.horner(z, ATAN)
    return lanes.copysign(lanes.where(large, HALF_PI[0] - (t + (rest - HALF_PI[1])), t + rest), x)


def atan2(lanes: Lanes, y: Real, x: Real) -> Real:
    """The angle in [-pi, pi] from the first axis to the point (x, y)."""
    across, along = abs(x), abs(y)
    steep = along > across
    below = lanes.where(steep, along, across)
    t = lanes.where(steep, across, along) / below
    t = lanes.where(across.equals(0.0) & along.equals(0.0), 0.0, t)
    t = lanes.where(across.equals(math.inf) & along.equals(math.inf), 1.0, t)
    z = t * t
    rest = t * z * lanes.horner(z, ATAN)
    leftwards = lanes.copysign(1.0, x) < 0.0
    turned = steep ^ leftwards
    t, rest = lanes.where(turned, -t, t), lanes.where(turned, -rest, rest)
    base = lanes.where(steep, HALF_PI[0], lanes.where(leftwards, PI[0], 0.0))
    base_rest = lanes.where(steep, HALF_PI[1], lanes.where(leftwards, PI[1], 0.0))
    return lanes.copysign(base + (t + (rest + base_rest)), y)
