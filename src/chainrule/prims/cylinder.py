"""Further Bessel functions: of integer order, of Hankel, Kelvin and Struve, spherical ones, and integrals of them.

By the argument, the derivative of a function of order v is a sum of those of the orders v - 1 and v + 1, which divides by nothing.
The orders have no derivative. Source: NIST Digital Library of Mathematical Functions, 10.6, 10.51, 10.61 and 11.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.prims.families import POSITIVE
from chainrule.prims.special import half_sum, of_one, shifted, whole_order, with_order, with_outputs

# ---- of the first, second and third kind

_jv, _yv, _kv = half_sum("jv", -1, 0.5), half_sum("yv", -1, 0.5), half_sum("kv", 1, -0.5)
_hankel1, _hankel2 = half_sum("hankel1", -1, 0.5), half_sum("hankel2", -1, 0.5)
_hankel1e, _hankel2e = half_sum("hankel1e", -1, 0.5), half_sum("hankel2e", -1, 0.5)

with_order("kn", lambda n, x, out: _kv(n, x), on=POSITIVE, value=whole_order("kn"))
with_order("yn", lambda n, x, out: _yv(n, x), on=POSITIVE, value=whole_order("yn"))
# For real arguments they are jv and yv.
with_order("jve", lambda v, x, out: _jv(v, x), on=POSITIVE)
with_order("yve", lambda v, x, out: _yv(v, x), on=POSITIVE)
with_order("hankel1", lambda v, x, out: _hankel1(v, x), on=POSITIVE)
with_order("hankel2", lambda v, x, out: _hankel2(v, x), on=POSITIVE)
with_order("hankel1e", lambda v, x, out: _hankel1e(v, x) - 1j * out, on=POSITIVE)
with_order("hankel2e", lambda v, x, out: _hankel2e(v, x) + 1j * out, on=POSITIVE)

# ---- of Kelvin: the parts of J_0 and K_0 along a diagonal of the plane

of_one("ber", lambda x, out: ops.berp(x), on=POSITIVE)
of_one("bei", lambda x, out: ops.beip(x), on=POSITIVE)
of_one("ker", lambda x, out: ops.kerp(x), on=POSITIVE)
of_one("kei", lambda x, out: ops.keip(x), on=POSITIVE)
of_one("berp", lambda x, out: -ops.bei(x) - out / x, on=POSITIVE)
of_one("beip", lambda x, out: ops.ber(x) - out / x, on=POSITIVE)
of_one("kerp", lambda x, out: -ops.kei(x) - out / x, on=POSITIVE)
of_one("keip", lambda x, out: ops.ker(x) - out / x, on=POSITIVE)

# ---- of Struve


def _struve_term(v: Array, x: Array) -> Array:
    return 0.5 / math.sqrt(math.pi) * ops.power(0.5 * x, v) * ops.rgamma(shifted(v, 1) + 0.5)


_struve, _modstruve = half_sum("struve", -1, 0.5), half_sum("modstruve", 1, 0.5)
with_order("struve", lambda v, x, out: _struve(v, x) + _struve_term(v, x), on=POSITIVE)
with_order("modstruve", lambda v, x, out: _modstruve(v, x) + _struve_term(v, x), on=POSITIVE)

# ---- spherical ones; SciPy has their derivatives as functions too


def _spherical(name: str, sign: int, scale: int) -> Callable[[Array, Array], Array]:
    """(n, x) -> scale (n F(n - 1, x) + sign (n + 1) F(n + 1, x)) / (2 n + 1); there is no order below zero."""

    def rule(n: Array, x: Array) -> Array:
        f = ops[name]
        below = f(ops.maximum(shifted(n, -1), 0), x)
        return scale * (n * below + sign * (n + 1) * f(shifted(n, 1), x)) / (2 * n + 1)

    return rule


def _with_spherical_order(name: str, sign: int, scale: int) -> None:
    slope, curvature = _spherical(name, sign, scale), _spherical(f"{name}_d", sign, scale)
    with_order(name, lambda n, x, out: slope(n, x), on=POSITIVE, value=whole_order(name))
    with_order(f"{name}_d", lambda n, x, out: curvature(n, x), on=POSITIVE, value=whole_order(f"{name}_d"))


_with_spherical_order("_spherical_jn", -1, 1)
_with_spherical_order("_spherical_yn", -1, 1)
_with_spherical_order("_spherical_in", 1, 1)
_with_spherical_order("_spherical_kn", 1, -1)

# ---- integrals

with_outputs("itj0y0", (lambda x, out: ops.j0(x),), (lambda x, out: ops.y0(x),), on=[POSITIVE])
with_outputs("iti0k0", (lambda x, out: ops.i0(x),), (lambda x, out: ops.k0(x),), on=[POSITIVE])
of_one("itstruve0", lambda x, out: ops.struve(0, x), on=POSITIVE)
of_one("itmodstruve0", lambda x, out: ops.modstruve(0, x), on=POSITIVE)
