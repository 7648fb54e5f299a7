"""Filters of scipy.signal on traced signals and by traced coefficients, called by module: `scipy.signal.lfilter(b, a, x)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, axis_index
from chainrule.numpy.norms import as_floating
from chainrule.trace.intercept import intercepts


def _refuse_state(name: str, zi: Any) -> None:
    if zi is not None:
        raise MissingRule(
            f"`scipy.signal.{name}` with zi= is not covered: chainrule has no rule for it",
            "Call it without, from rest; or write the recursion as a loop in Python, or as one under cr.jit.",
        )


@intercepts("scipy.signal", "lfilter")
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """SciPy's lfilter, from rest: a recursive filter by a, and a moving sum by b of what it gives."""
    _refuse_state("lfilter", zi)
    b, a, x = (as_floating(np.atleast_1d(as_array(v))) for v in (b, a, x))
    axis = axis_index(axis, x.ndim)
    y = ops.all_pole(a[1:] / a[0], x, axis=axis, reverse=False) if a.shape[0] > 1 else x
    n, whole = x.shape[axis], (slice(None),) * axis
    total: Any = 0.0
    for k in range(b.shape[0]):
        kept = ops.slice(y, key=(*whole, slice(0, max(n - k, 0))))
        moved = ops.place(kept, key=(*whole, slice(min(k, n), n)), shape=y.shape)
        total = total + b[k] / a[0] * moved
    return total


@intercepts("scipy.signal", "sosfilt")
def sosfilt(sos: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """SciPy's sosfilt, from rest: one filter of second order after the other."""
    _refuse_state("sosfilt", zi)
    for section in as_array(sos):
        x = lfilter(section[:3], section[3:], x, axis)
    return x
