"""Orthogonal polynomials of scipy.special: eval_legendre, eval_chebyt and their kin, by the argument.

The derivative of one is one of the same or a neighbouring family, of an order less, so that nothing divides by 1 - x^2. Orders and
parameters of families have no derivative. Source: NIST Digital Library of Mathematical Functions, 18.9(iii).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.prims.families import POSITIVE, PROBABILITY, UNIT, Interval
from chainrule.prims.special import of_several, shifted, whole_order, with_order


def _polynomial(name: str, slope: Callable[[Array, Array], Array], on: Interval = UNIT) -> None:
    with_order(name, lambda n, x, out: slope(n, x), on=on, value=whole_order(name))


def _less(n: Array) -> Array:
    """The order less one, of which there is none below zero; what it is multiplied by is zero there."""
    return ops.maximum(shifted(n, -1), 0)


def _gegenbauer(n: Array, alpha: float, x: Array) -> Array:
    return ops.eval_gegenbauer(shifted(n, -1), alpha, x)


_polynomial("eval_legendre", lambda n, x: _gegenbauer(n, 1.5, x))
_polynomial("eval_chebyt", lambda n, x: n * ops.eval_chebyu(_less(n), x))
_polynomial("eval_chebyu", lambda n, x: 2 * _gegenbauer(n, 2.0, x))
_polynomial("eval_chebyc", lambda n, x: n * ops.eval_chebys(_less(n), x))
_polynomial("eval_chebys", lambda n, x: _gegenbauer(n, 2.0, 0.5 * x))
_polynomial("eval_hermite", lambda n, x: 2 * n * ops.eval_hermite(_less(n), x))
_polynomial("eval_hermitenorm", lambda n, x: n * ops.eval_hermitenorm(_less(n), x))
_polynomial("eval_laguerre", lambda n, x: -ops.eval_genlaguerre(shifted(n, -1), 1.0, x), POSITIVE)
_polynomial("eval_sh_legendre", lambda n, x: 2 * _gegenbauer(n, 1.5, 2 * x - 1), PROBABILITY)
_polynomial("eval_sh_chebyt", lambda n, x: 2 * n * ops.eval_sh_chebyu(_less(n), x), PROBABILITY)
_polynomial("eval_sh_chebyu", lambda n, x: 4 * _gegenbauer(n, 2.0, 2 * x - 1), PROBABILITY)


def _family(name: str, parameters: int, slope: Callable[..., Array], on: Interval = UNIT) -> None:
    """A family with parameters between the order and the argument."""
    rule: Any = lambda *args: slope(*args[:-1])
    on_all = [(1.0, 4.0), *[POSITIVE] * parameters, on]
    of_several(name, *[None] * (parameters + 1), rule, on=on_all, value=whole_order(name))


_family("eval_gegenbauer", 1, lambda n, a, x: 2 * a * ops.eval_gegenbauer(shifted(n, -1), a + 1, x))
_family("eval_genlaguerre", 1, lambda n, a, x: -ops.eval_genlaguerre(shifted(n, -1), a + 1, x), POSITIVE)
_family("eval_jacobi", 2, lambda n, a, b, x: 0.5 * (n + a + b + 1) * ops.eval_jacobi(shifted(n, -1), a + 1, b + 1, x))
