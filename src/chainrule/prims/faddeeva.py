"""Functions of complex arguments: Faddeeva's, Voigt's profile, and Lambert's W; and two hypergeometric ones.

Values that are complex for real arguments have complex derivatives there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.prims.families import POSITIVE, REAL
from chainrule.prims.special import ABOVE_HALF, TWO_OVER_ROOT_PI, of_one, of_several, scipy_function, with_order

ROOT_TWO = math.sqrt(2.0)


def _faddeeva_slope(z: Array, w: Array) -> Array:
    return -2 * z * w + TWO_OVER_ROOT_PI * 1j


of_one("wofz", lambda z, out: _faddeeva_slope(z, out), holomorphic=True)


# ---- Voigt's profile: the real part of w(z) / (s sqrt(2 pi)), at z = (x + i g) / (s sqrt 2)


def _profile(x: Array, s: Array, g: Array) -> tuple[Array, Array]:
    """z, and the derivative of the profile's complex form by it."""
    z = (x + 1j * g) / (s * ROOT_TWO)
    return z, _faddeeva_slope(z, ops.wofz(z)) / (s * math.sqrt(2 * math.pi))


def _by_place(x: Array, s: Array, g: Array, out: Array) -> Array:
    return ops.real(_profile(x, s, g)[1]) / (s * ROOT_TWO)


def _by_normal_width(x: Array, s: Array, g: Array, out: Array) -> Array:
    z, slope = _profile(x, s, g)
    return -(out + ops.real(z * slope)) / s


def _by_lorentz_width(x: Array, s: Array, g: Array, out: Array) -> Array:
    return -ops.imag(_profile(x, s, g)[1]) / (s * ROOT_TWO)


of_several("voigt_profile", _by_place, _by_normal_width, _by_lorentz_width, on=(REAL, ABOVE_HALF, POSITIVE))


# ---- Lambert's W: w exp(w) = z, by the branch and z; and the solution of w + log(w) = z

# To which SciPy's iteration goes by default.
_TOLERANCE = 1e-8


def _lambert_value(k: Any, z: Any) -> Any:
    return scipy_function("_lambertw")(z, np.asarray(k, int), _TOLERANCE)


with_order("lambertw", lambda k, z, out: ops.exp(-out) / (1 + out), on=POSITIVE, value=_lambert_value)
of_one("wrightomega", lambda z, out: out / (1 + out), holomorphic=True)

# ---- hypergeometric functions

of_several(
    "hyperu", None, None, lambda a, b, x, out: -a * ops.hyperu(a + 1, b + 1, x), on=(POSITIVE, POSITIVE, POSITIVE)
)
of_several("wright_bessel", None, None, lambda a, b, x, out: ops.wright_bessel(a, a + b, x), on=(POSITIVE,) * 3)
