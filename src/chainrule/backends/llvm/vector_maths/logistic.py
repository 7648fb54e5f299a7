"""expit(x) = 1 / (1 + exp(-x)), softplus(x) = log(1 + exp(x)), logaddexp(x, y) = log(exp(x) + exp(y)), all through exp(-|...|)."""

from __future__ import annotations

from chainrule.backends.llvm.vector_maths.exponential import exp
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Real
from chainrule.backends.llvm.vector_maths.logarithm import log_of_sum


def expit(lanes: Lanes, x: Real) -> Real:
    """1 / (1 + exp(-x))."""
    e = exp(lanes, -abs(x))
    below = lanes.fast_two_sum(1.0, e)
    result = lanes.where(x < 0.0, e, 1.0) / below.hi
    return lanes.fma(-result, below.lo, result)


def softplus(lanes: Lanes, x: Real) -> Real:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    e = exp(lanes, -abs(x))
    return lanes.at_least(x, 0.0) + log_of_sum(lanes, lanes.fast_two_sum(1.0, e))


def logaddexp(lanes: Lanes, x: Real, y: Real) -> Real:
    """log(exp(x) + exp(y)) = m + log(1 + exp(-|x - y|)) with m the larger; within 2 ulp of the largest of the three."""
    larger = lanes.where(x > y, x, y)
    smaller = lanes.where(x > y, y, x)
    d = lanes.two_sum(smaller, -larger)
    # Equal infinities differ by nothing; unequal ones have no rest.
    distance = lanes.where(x.equals(y), 0.0, d.hi)
    e = exp(lanes, distance)
    e = lanes.where(distance > -800.0, lanes.fma(e, d.lo, e), e)
    e = lanes.where(x.equals(y), 1.0, e)
    return larger + log_of_sum(lanes, lanes.fast_two_sum(1.0, e))
