"""Splines of scipy.interpolate at traced places: CubicSpline, PchipInterpolator, Akima1DInterpolator, PPoly, BSpline.

Their coefficients are plain. In an interval the spline is a polynomial, and its derivative that of the polynomial; at a breakpoint,
where pieces of less smoothness meet, it is the derivative to the right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array
from chainrule.trace.intercept import intercepts


def _at(coefficients: Any, breaks: Any, x: Any, extrapolate: Any) -> Any:
    """The value at x of the polynomials c[0, i] d^k + ... + c[k, i], of the distance d from the i-th break."""
    first, last = breaks[0], breaks[-1]
    if not np.all(np.diff(breaks) >= 0):
        raise MissingRule(
            "a spline with decreasing breakpoints at traced places is not covered", "Make it with increasing ones."
        )
    if isinstance(extrapolate, str):  # periodic
        x = first + np.mod(x - first, last - first)
    piece = np.clip(np.searchsorted(breaks, x, side="right") - 1, 0, len(breaks) - 2)
    further = coefficients.ndim - 2
    d = np.reshape(x - np.take(breaks, piece), x.shape + (1,) * further)
    out = np.take(coefficients[0], piece, axis=0)
    for c in coefficients[1:]:
        out = out * d + np.take(c, piece, axis=0)
    if extrapolate:
        return out
    outside = np.reshape(ops.logical_or(ops.less(x, first), ops.greater(x, last)), d.shape)
    return ops.where(outside, np.nan, out)


def _turned(out: Any, places: int, axis: int) -> Any:
    """The result with the axes of the places where the axis of the data was."""
    order = list(range(out.ndim))
    return np.transpose(out, order[places : places + axis] + order[:places] + order[places + axis :])


@intercepts("scipy.interpolate._interpolate:_PPolyBase", "__call__")
def of_pieces(self: Any, x: Any, nu: int = 0, extrapolate: Any = None) -> Any:
    """SciPy's piecewise polynomials."""
    from scipy.interpolate import BPoly, PPoly

    extrapolate = self.extrapolate if extrapolate is None else extrapolate
    pieces = PPoly.from_bernstein_basis(self) if isinstance(self, BPoly) else self
    pieces = PPoly.construct_fast(pieces.c, pieces.x, self.extrapolate, self.axis)
    pieces = pieces.derivative(nu) if nu else pieces
    x = as_array(x)
    return _turned(_at(pieces.c, pieces.x, x, extrapolate), x.ndim, self.axis)


@intercepts("scipy.interpolate._bsplines:BSpline", "__call__")
def of_basis(self: Any, x: Any, nu: int = 0, extrapolate: Any = None) -> Any:
    """SciPy's splines by coefficients of B-splines."""
    from scipy.interpolate import BSpline, PPoly

    extrapolate = self.extrapolate if extrapolate is None else extrapolate
    plain = BSpline.construct_fast(self.t, self.c, self.k, True)
    breaks = np.unique(self.t[self.k : self.t.size - self.k])
    middle = 0.5 * (breaks[1:] + breaks[:-1])
    # About the middle of each piece, where no other one has a part in the derivatives, and from there to its beginning.
    orders = range(self.k, -1, -1)
    taylor = np.stack([plain(middle, nu=j) / float(np.prod(np.arange(1, j + 1))) for j in orders])
    pieces = PPoly(taylor, breaks)
    shift = np.reshape(breaks[:-1] - middle, (-1,) + (1,) * (taylor.ndim - 2))
    begin = np.stack([_shifted(pieces.c, shift, j) for j in orders])
    whole = PPoly(begin, breaks)
    whole = whole.derivative(nu) if nu else whole
    x = as_array(x)
    return _turned(_at(whole.c, breaks, x, extrapolate), x.ndim, self.axis)


def _shifted(c: Any, by: Any, order: int) -> Any:
    """The coefficient of an order of polynomials about another point."""
    degree = len(c) - 1
    total: Any = np.zeros(c.shape[1:])
    choices = 1.0
    for j in range(order, degree + 1):
        total = total + choices * c[degree - j] * by ** (j - order)
        choices = choices * (j + 1) / (j + 1 - order)
    return total
