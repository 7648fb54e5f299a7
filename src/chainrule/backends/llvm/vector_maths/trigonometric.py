"""sin, cos and tan: the argument modulo pi / 2, two polynomials on [-pi / 4, pi / 4], and a choice by the quadrant."""

from __future__ import annotations

from chainrule.backends.llvm.vector_maths.coefficients import COS, SIN
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Pair, Real, Whole
from chainrule.backends.llvm.vector_maths.reduction import modulo_half_pi


def sine(lanes: Lanes, r: Pair) -> Pair:
    """sin(r) for |r| <= pi / 4 as r.hi and the rest."""
    z = r.hi * r.hi
    cube = z * r.hi
    if lanes.short:
        return Pair(r.hi, cube * lanes.polynomial(z, SIN))
    return Pair(r.hi, lanes.fma(cube, lanes.polynomial(z, SIN), lanes.fma(-0.5 * z, r.lo, r.lo)))


def cosine(lanes: Lanes, r: Pair) -> Pair:
    """cos(r) for |r| <= pi / 4 as 1 - r**2 / 2, rounded, and the rest."""
    z = r.hi * r.hi
    half = 0.5 * z
    quartic = z * z * lanes.polynomial(z, COS)
    head = 1.0 - half
    if lanes.short:
        return Pair(head, quartic)
    return Pair(head, ((1.0 - head) - half) + lanes.fma(-r.hi, r.lo, quartic))


def with_sign(x: Real, quadrant: Whole) -> Real:
    """-x where the second bit of the quadrant is set, x elsewhere."""
    return (x.bits() ^ ((quadrant & 2) << 62)).as_real()


def sincos(lanes: Lanes, x: Real) -> tuple[Real, Real]:
    """sin(x) and cos(x), which share most of their work."""
    r, quadrant = modulo_half_pi(lanes, x)
    s, c = sine(lanes, r), cosine(lanes, r)
    sin_r, cos_r = s.hi + s.lo, c.hi + c.lo
    odd = (quadrant & 1).equals(1)
    sin_x = with_sign(lanes.where(odd, cos_r, sin_r), quadrant)
    return lanes.where(x.equals(0.0), x, sin_x), with_sign(lanes.where(odd, sin_r, cos_r), quadrant + 1)


def sin(lanes: Lanes, x: Real) -> Real:
    """The sine of x radians."""
    return sincos(lanes, x)[0]


def cos(lanes: Lanes, x: Real) -> Real:
    """The cosine of x radians."""
    return sincos(lanes, x)[1]


def tan(lanes: Lanes, x: Real) -> Real:
    """sin(x) / cos(x), from pairs, by one division."""
    r, quadrant = modulo_half_pi(lanes, x)
    s, c = sine(lanes, r), cosine(lanes, r)
    odd = (quadrant & 1).equals(1)
    if lanes.short:
        sin_r, cos_r = s.hi + s.lo, c.hi + c.lo
        result = lanes.where(odd, -cos_r, sin_r) / lanes.where(odd, sin_r, cos_r)
    else:
        s, c = lanes.fast_two_sum(s.hi, s.lo), lanes.fast_two_sum(c.hi, c.lo)
        above = Pair(lanes.where(odd, -c.hi, s.hi), lanes.where(odd, -c.lo, s.lo))
        below = Pair(lanes.where(odd, s.hi, c.hi), lanes.where(odd, s.lo, c.lo))
        result = lanes.quotient(above, below).hi
    return lanes.where(x.equals(0.0), x, result)
