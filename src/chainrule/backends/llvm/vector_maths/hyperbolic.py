"""sinh, cosh, tanh, and their inverses.

With |x| = n log 2 + r, and A, B = (2**n + 2**-n) / 2, (2**n - 2**-n) / 2:

    sinh |x| = B cosh(r) + A sinh(r)        cosh |x| = A cosh(r) + B sinh(r)

so that no division is needed and nothing cancels near 0, where n = 0, A = 1, B = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.backends.llvm.vector_maths.coefficients import COSH, SINH
from chainrule.backends.llvm.vector_maths.exponential import reduce_by_ln2
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Pair, Real
from chainrule.backends.llvm.vector_maths.logarithm import log_of_sum


@dataclass(frozen=True)
class Parts:
    """A and B times a power of two, the powers they are made of, and sinh(r) = r + sinh_tail, cosh(r) = 1 + cosh_tail."""

    A: Real
    B: Real
    up: Real
    down: Real
    r: Real
    sinh_tail: Real
    cosh_tail: Real

    def sinh(self, lanes: Lanes) -> Pair:
        """B cosh(r) + A sinh(r): head and rest."""
        head = lanes.fma(self.A, self.r, self.B)
        return Pair(head, lanes.fma(self.A, self.sinh_tail, self.B * self.cosh_tail))

    def cosh(self, lanes: Lanes) -> Pair:
        """A cosh(r) + B sinh(r): head and rest."""
        head = lanes.fma(self.B, self.r, self.A)
        return Pair(head, lanes.fma(self.B, self.sinh_tail, self.A * self.cosh_tail))


def parts(lanes: Lanes, size: Real, exponent: int) -> Parts:
    """The parts for |x| = size, with A and B times 2**exponent."""
    n, k, r = reduce_by_ln2(lanes, size)
    up = lanes.power_of_two(k + (exponent - 1))
    # 2**-n is lost beside 2**n for n > 60, and would be subnormal further on.
    small = lanes.nearest(lanes.at_most(n, 200.0))[1]
    down = lanes.power_of_two(lanes.whole(exponent - 1) - small)
    z = r.hi * r.hi
    sinh_tail = lanes.fma(z * r.hi, lanes.polynomial(z, SINH), r.lo)
    return Parts(up + down, up - down, up, down, r.hi, sinh_tail, z * lanes.polynomial(z, COSH))


def bounded(lanes: Lanes, size: Real) -> Real:
    """|x| kept below where cosh overflows for good."""
    return lanes.at_most(size, 92.0 if lanes.short else 711.0)


def sinh(lanes: Lanes, x: Real) -> Real:
    """(exp(x) - exp(-x)) / 2."""
    y = parts(lanes, bounded(lanes, abs(x)), -2).sinh(lanes)
    return lanes.where(abs(x) < 2.0**-30, x, lanes.copysign(4.0 * (y.hi + y.lo), x))


def cosh(lanes: Lanes, x: Real) -> Real:
    """(exp(x) + exp(-x)) / 2."""
    y = parts(lanes, bounded(lanes, abs(x)), -2).cosh(lanes)
    return 4.0 * (y.hi + y.lo)


def tanh(lanes: Lanes, x: Real) -> Real:
    """sinh(x) / cosh(x)."""
    p = parts(lanes, lanes.at_most(abs(x), 22.0), 0)
    above, below = p.sinh(lanes), p.cosh(lanes)
    if lanes.short:
        return lanes.copysign((above.hi + above.lo) / (below.hi + below.lo), x)
    A_rest, B_rest = (p.up - p.A) + p.down, (p.up - p.B) - p.down
    top = _two_term(lanes, p.B, p.A, p.r, above.lo + B_rest)
    bottom = _two_term(lanes, p.A, p.B, p.r, below.lo + A_rest)
    return lanes.where(abs(x) < 2.0**-30, x, lanes.copysign(lanes.quotient(top, bottom).hi, x))


def _two_term(lanes: Lanes, head: Real, factor: Real, r: Real, tail: Real) -> Pair:
    """head + factor * r + tail as a pair, for |head| >= |factor * r| or head = 0."""
    product = lanes.two_product(factor, r)
    total = lanes.fast_two_sum(head, product.hi)
    return lanes.fast_two_sum(total.hi, total.lo + (product.lo + tail))


def _near_zero(lanes: Lanes) -> float:
    """Below this an inverse hyperbolic function of x is x, to rounding."""
    return 2.0**-13 if lanes.short else 2.0**-28


def _log_of_root(lanes: Lanes, x: Real, unit: float) -> Real:
    """log(x + sqrt(x**2 + unit)) for x > 0; from 2**28 on, log(2 x)."""
    if lanes.short:
        u = Pair(x + lanes.sqrt(lanes.fma(x, x, unit)), lanes.real(0.0))
        return log_of_sum(lanes, u)
    square = lanes.two_product(x, x)
    radicand = lanes.two_sum(square.hi, unit)
    root = lanes.sqrt(radicand.hi)
    rest = lanes.residual(root, root, radicand.hi) + (radicand.lo + square.lo)
    rest = lanes.where(root > 0.0, rest / (root + root), 0.0)
    total = lanes.two_sum(x, root)
    u = lanes.fast_two_sum(total.hi, total.lo + rest)
    huge = x > 2.0**28
    u = Pair(lanes.where(huge, x, u.hi), lanes.where(huge, 0.0, u.lo))
    return log_of_sum(lanes, u, lanes.where(huge, 1.0, 0.0))


def asinh(lanes: Lanes, x: Real) -> Real:
    """sign(x) log(|x| + sqrt(x**2 + 1))."""
    size = abs(x)
    result = lanes.copysign(_log_of_root(lanes, size, 1.0), x)
    return lanes.where((size >= _near_zero(lanes)) & (size < math.inf), result, x)


def acosh(lanes: Lanes, x: Real) -> Real:
    """log(x + sqrt(x**2 - 1)), NaN for x < 1."""
    result = lanes.where(x >= 1.0, _log_of_root(lanes, x, -1.0), math.nan)
    return lanes.where(x.equals(math.inf), x, result)


def atanh(lanes: Lanes, x: Real) -> Real:
    """log((1 + x) / (1 - x)) / 2, NaN for |x| > 1."""
    size = abs(x)
    if lanes.short:
        ratio = Pair((1.0 + size) / (1.0 - size), lanes.real(0.0))
    else:
        ratio = lanes.quotient(lanes.fast_two_sum(1.0, size), lanes.fast_two_sum(1.0, -size))
    result = lanes.where(size < 1.0, 0.5 * log_of_sum(lanes, ratio), lanes.where(size.equals(1.0), math.inf, math.nan))
    return lanes.where(size < _near_zero(lanes), x, lanes.copysign(result, x))
