"""Distribution functions of scipy.special, their inverses, and the ufuncs by which scipy.stats computes densities.

The derivative by the argument is the density. Shapes that enter incomplete gamma and beta functions have no closed derivative, and
none here; numbers of events count as constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Sample, ops
from chainrule.ir.types import Array
from chainrule.prims.families import POSITIVE, PROBABILITY, REAL, Interval, Rule
from chainrule.prims.special import (
    ABOVE_HALF,
    Several,
    beta_density,
    exprel_slope,
    f_density,
    gamma_density,
    of_several,
    scipy_value,
)


class _OfCounts(Several):
    """A distribution function of numbers of events, which have no derivative: an argument that has one comes last."""

    def samples(self) -> Iterator[Sample]:
        for args, params in super().samples():
            counts = [np.full(a.shape, 3 * k + 1)[()] for k, a in enumerate(args[:-1])]
            yield (*counts, args[-1]), params


def _of_counts(name: str, *rules: Rule, on: Sequence[Interval]) -> None:
    _OfCounts(name, scipy_value(name), rules, flops=80, on=on, holomorphic=False)


# ---- gamma and chi-squared, with the rate first, and the counts of Poisson's law

of_several(
    "gdtr",
    lambda a, b, x, out: x * gamma_density(b, a * x),
    None,
    lambda a, b, x, out: a * gamma_density(b, a * x),
    on=(POSITIVE, POSITIVE, POSITIVE),
)
of_several(
    "gdtrc",
    lambda a, b, x, out: -x * gamma_density(b, a * x),
    None,
    lambda a, b, x, out: -a * gamma_density(b, a * x),
    on=(POSITIVE, POSITIVE, POSITIVE),
)
of_several(
    "gdtrix",
    lambda a, b, p, out: -out / a,
    None,
    lambda a, b, p, out: 1 / (a * gamma_density(b, a * out)),
    on=(ABOVE_HALF, ABOVE_HALF, PROBABILITY),
)
of_several(
    "gdtria",
    lambda p, b, x, out: 1 / (x * gamma_density(b, out * x)),
    None,
    lambda p, b, x, out: -out / x,
    on=(PROBABILITY, ABOVE_HALF, ABOVE_HALF),
)
of_several("chdtri", None, lambda v, p, out: -2 / gamma_density(0.5 * v, 0.5 * out), on=(ABOVE_HALF, PROBABILITY))
_of_counts("pdtr", None, lambda k, m, out: -gamma_density(ops.floor(k) + 1, m), on=(POSITIVE, POSITIVE))
_of_counts("pdtrc", None, lambda k, m, out: gamma_density(ops.floor(k) + 1, m), on=(POSITIVE, POSITIVE))
_of_counts("pdtri", None, lambda k, y, out: -1 / gamma_density(ops.floor(k) + 1, out), on=(POSITIVE, PROBABILITY))

# ---- beta, F, and the counts of binomial laws


def _binomial(k: Array, n: Array, p: Array) -> Array:
    k = ops.floor(k)
    return beta_density(k + 1, ops.floor(n) - k, p)


def _negative_binomial(k: Array, n: Array, p: Array) -> Array:
    return beta_density(ops.floor(n), ops.floor(k) + 1, p)


_of_counts("bdtr", None, None, lambda k, n, p, out: -_binomial(k, n, p), on=(POSITIVE, POSITIVE, PROBABILITY))
_of_counts("bdtrc", None, None, lambda k, n, p, out: _binomial(k, n, p), on=(POSITIVE, POSITIVE, PROBABILITY))
_of_counts("nbdtr", None, None, lambda k, n, p, out: _negative_binomial(k, n, p), on=(POSITIVE, POSITIVE, PROBABILITY))
_of_counts(
    "nbdtrc", None, None, lambda k, n, p, out: -_negative_binomial(k, n, p), on=(POSITIVE, POSITIVE, PROBABILITY)
)
of_several("fdtri", None, None, lambda n, m, p, out: 1 / f_density(n, m, out), on=(ABOVE_HALF, ABOVE_HALF, PROBABILITY))
of_several(
    "betainccinv",
    None,
    None,
    lambda a, b, y, out: -1 / beta_density(a, b, out),
    on=(ABOVE_HALF, ABOVE_HALF, PROBABILITY),
)
of_several(
    "_beta_pdf",
    lambda x, a, b, out: out * ((a - 1) / x - (b - 1) / (1 - x)),
    lambda x, a, b, out: out * (ops.log(x) + ops.psi(a + b) - ops.psi(a)),
    lambda x, a, b, out: out * (ops.log1p(-x) + ops.psi(a + b) - ops.psi(b)),
    on=(PROBABILITY, ABOVE_HALF, ABOVE_HALF),
)
of_several(
    "_beta_ppf",
    lambda q, a, b, out: 1 / beta_density(a, b, out),
    None,
    None,
    on=(PROBABILITY, ABOVE_HALF, ABOVE_HALF),
)

# ---- noncentral chi-squared


def _noncentral_density(x: Array, k: Array, nc: Array) -> Array:
    """By a hypergeometric function, which does not mind nc = 0; where that is too large, by a Bessel function."""
    far = ops.greater(nc * x, 1e4)
    near_x, near_nc = ops.where(far, 1.0, x), ops.where(far, 1.0, nc)
    central = ops.xlogy(0.5 * k - 1, 0.5 * near_x) - ops.gammaln(0.5 * k) - 0.5 * (near_x + near_nc)
    near = ops.exp(central) * ops.hyp0f1(0.5 * k, 0.25 * near_nc * near_x)
    far_x, far_nc = ops.where(far, x, 1.0), ops.where(far, nc, 1.0)
    distance = ops.square(ops.sqrt(far_x) - ops.sqrt(far_nc))
    power = ops.power(far_x / far_nc, 0.25 * k - 0.5)
    beyond = ops.exp(-0.5 * distance) * power * ops.ive(0.5 * k - 1, ops.sqrt(far_nc * far_x))
    return 0.5 * ops.where(far, beyond, near)


of_several(
    "chndtr",
    lambda x, k, nc, out: _noncentral_density(x, k, nc),
    None,
    lambda x, k, nc, out: -_noncentral_density(x, k + 2, nc),
    on=(POSITIVE, POSITIVE, POSITIVE),
)
of_several(
    "chndtrix",
    lambda p, k, nc, out: 1 / _noncentral_density(out, k, nc),
    None,
    lambda p, k, nc, out: _noncentral_density(out, k + 2, nc) / _noncentral_density(out, k, nc),
    on=(PROBABILITY, ABOVE_HALF, POSITIVE),
)
of_several(
    "_ncx2_sf",
    lambda x, k, nc, out: -_noncentral_density(x, k, nc),
    None,
    lambda x, k, nc, out: _noncentral_density(x, k + 2, nc),
    on=(POSITIVE, POSITIVE, POSITIVE),
)
of_several(
    "_ncx2_pdf",
    lambda x, k, nc, out: out * ((0.5 * k - 1) / x - 0.5) + 0.5 * nc / x * _noncentral_density(x, k + 2, nc),
    None,
    lambda x, k, nc, out: 0.5 * (_noncentral_density(x, k + 2, nc) - out),
    on=(POSITIVE, POSITIVE, POSITIVE),
)

# ---- normal, skew and Cauchy


def _skew_density(x: Array, loc: Array, scale: Array, a: Array) -> Array:
    z = (x - loc) / scale
    return math.sqrt(2 / math.pi) * ops.exp(-0.5 * (z * z)) * ops.ndtr(a * z) / scale


def _skew_by_shape(x: Array, loc: Array, scale: Array, a: Array) -> Array:
    z = (x - loc) / scale
    return -ops.exp(-0.5 * (z * z) * (1 + a * a)) / (math.pi * (1 + a * a))


of_several(
    "_skewnorm_cdf",
    lambda x, loc, scale, a, out: _skew_density(x, loc, scale, a),
    lambda x, loc, scale, a, out: -_skew_density(x, loc, scale, a),
    lambda x, loc, scale, a, out: -(x - loc) / scale * _skew_density(x, loc, scale, a),
    lambda x, loc, scale, a, out: _skew_by_shape(x, loc, scale, a),
    on=(REAL, REAL, ABOVE_HALF, REAL),
)
of_several(
    "_skewnorm_ppf",
    lambda p, loc, scale, a, out: 1 / _skew_density(out, loc, scale, a),
    1,
    lambda p, loc, scale, a, out: (out - loc) / scale,
    lambda p, loc, scale, a, out: -_skew_by_shape(out, loc, scale, a) / _skew_density(out, loc, scale, a),
    on=(PROBABILITY, REAL, ABOVE_HALF, REAL),
)


def _cauchy_slope(out: Array, loc: Array, scale: Array) -> Array:
    z = (out - loc) / scale
    return math.pi * scale * (1 + z * z)


of_several(
    "_cauchy_ppf",
    lambda p, loc, scale, out: _cauchy_slope(out, loc, scale),
    1,
    lambda p, loc, scale, out: (out - loc) / scale,
    on=(PROBABILITY, REAL, ABOVE_HALF),
)
of_several(
    "_cauchy_isf",
    lambda p, loc, scale, out: -_cauchy_slope(out, loc, scale),
    1,
    lambda p, loc, scale, out: (out - loc) / scale,
    on=(PROBABILITY, REAL, ABOVE_HALF),
)

# ---- powers in the form of Box and Cox, and back


def _log_slope(u: Array) -> Array:
    """d/du log(1 + u)/u, summed where the closed form cancels."""
    small = ops.less(ops.absolute(u), 0.1)
    v = ops.where(small, u, 0.0)
    series: Any = 0.0
    for k in range(14, 0, -1):
        series = series * v + (-1) ** k * k / (k + 1)
    w = ops.where(small, 1.0, u)
    return ops.where(small, series, (w / (1 + w) - ops.log1p(w)) / (w * w))


of_several(
    "boxcox1p",
    lambda x, p, out: ops.power(1 + x, p - 1),
    lambda x, p, out: ops.square(ops.log1p(x)) * exprel_slope(p * ops.log1p(x)),
    on=(POSITIVE, REAL),
)
of_several(
    "inv_boxcox",
    lambda y, p, out: out / (1 + p * y),
    lambda y, p, out: out * (y * y) * _log_slope(p * y),
    on=(POSITIVE, POSITIVE),
)
of_several(
    "inv_boxcox1p",
    lambda y, p, out: (1 + out) / (1 + p * y),
    lambda y, p, out: (1 + out) * (y * y) * _log_slope(p * y),
    on=(POSITIVE, POSITIVE),
)
