"""Elliptic integrals and Jacobi's elliptic functions, of the parameter m = k^2.

By the parameter, the complete integrals are hypergeometric functions, whose derivatives are such functions again. The formulas for
the incomplete ones cancel about m = 0, where the series in m is summed:

    F(phi, m) = integral of (1 - m sin^2)^(-1/2) from 0 to phi,    E(phi, m) = integral of (1 - m sin^2)^(1/2)

Source: NIST Digital Library of Mathematical Functions, 19.4 and 22.13.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.prims.families import POSITIVE, REAL, UNIT
from chainrule.prims.special import of_one, of_several, with_outputs

# Where |m| is less the series are summed, to a relative error of _SMALL^_TERMS.
_SMALL, _TERMS = 0.02, 9


def _complete(a: float, b: float, m: Array) -> Array:
    return (math.pi / 8) * ops.hyp2f1(a, b, 2.0, m)


of_one("ellipk", lambda m, out: _complete(1.5, 1.5, m), on=(-2.0, 0.9), flops=80)
of_one("ellipe", lambda m, out: -_complete(0.5, 1.5, m), on=(-2.0, 0.9), flops=80)
# By Euler's transformation, which keeps the accuracy that p = 1 - m has near zero.
of_one("ellipkm1", lambda p, out: -_complete(0.5, 0.5, 1 - p) / p, on=(0.1, 2.0), flops=80)


def _series(phi: Array, m: Array, power: float) -> Array:
    """The integral of sin^2 (1 - m sin^2)^power from 0 to phi, by the powers of m."""
    s, c = ops.sin(phi), ops.cos(phi)
    squared, odd = s * s, s
    moment = phi  # the integral of sin^(2k)
    total, factor, coefficient = 0.0, 1.0, 1.0
    for k in range(_TERMS):
        moment = ((2 * k + 1) * moment - odd * c) / (2 * k + 2)
        total = total + coefficient * factor * moment
        odd, factor = odd * squared, factor * m
        coefficient *= (k - power) / (k + 1)
    return total


def _by_parameter(phi: Array, m: Array, closed: Array, power: float) -> Array:
    """The derivative by m of the integral of (1 - m sin^2)^power: the closed form, or where that cancels the series."""
    small = ops.less(ops.absolute(m), _SMALL)
    return ops.where(small, -power * _series(phi, ops.where(small, m, 0.0), power - 1), closed)


def _delta(phi: Array, m: Array) -> Array:
    s = ops.sin(phi)
    return ops.sqrt(1 - m * (s * s))


def _first_kind_slope(phi: Array, m: Array, first: Array) -> Array:
    """dF/dm."""
    safe = ops.where(ops.less(ops.absolute(m), _SMALL), 1.0 / 2, m)
    second = ops.ellipeinc(phi, safe)
    arc = ops.sin(phi) * ops.cos(phi) / (2 * (1 - safe) * _delta(phi, safe))
    closed = (second / (1 - safe) - first) / (2 * safe) - arc
    return _by_parameter(phi, m, closed, -0.5)


def _second_kind_slope(phi: Array, m: Array, second: Array) -> Array:
    """dE/dm."""
    safe = ops.where(ops.less(ops.absolute(m), _SMALL), 1.0 / 2, m)
    closed = (second - ops.ellipkinc(phi, safe)) / (2 * safe)
    return _by_parameter(phi, m, closed, 0.5)


of_several("ellipkinc", lambda phi, m, out: 1 / _delta(phi, m), _first_kind_slope, on=(REAL, UNIT))
of_several("ellipeinc", lambda phi, m, out: _delta(phi, m), _second_kind_slope, on=(REAL, UNIT))


# ---- ellipj(u, m): sn, cn, dn, and the amplitude, of which they are functions


def _amplitude_slope(m: Array, out: Any) -> Array:
    """d(amplitude)/dm at constant u = F(amplitude, m)."""
    phi = out[3]
    return -out[2] * _first_kind_slope(phi, m, ops.ellipkinc(phi, m))


def _delta_slope(m: Array, out: Any) -> Array:
    sn, cn, dn, _ = out
    return -(sn * sn + 2 * m * sn * cn * _amplitude_slope(m, out)) / (2 * dn)


with_outputs(
    "ellipj",
    (lambda u, m, out: out[1] * out[2], lambda u, m, out: out[1] * _amplitude_slope(m, out)),
    (lambda u, m, out: -out[0] * out[2], lambda u, m, out: -out[0] * _amplitude_slope(m, out)),
    (lambda u, m, out: -m * out[0] * out[1], lambda u, m, out: _delta_slope(m, out)),
    (lambda u, m, out: out[2], lambda u, m, out: _amplitude_slope(m, out)),
    on=[POSITIVE, (0.0, 0.9)],
)
