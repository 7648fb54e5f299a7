"""The distributions of scipy.stats on traced values: `norm.logpdf(x, loc, scale)`, `gamma.cdf(x, a)`, `poisson.logpmf(k, mu)`.

Their methods make an array, and place into it what the distribution's own formula gives where the argument is in its support. A
traced value cannot be placed into a plain array, so the array is made a traced one where an argument is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, decide
from chainrule.trace.intercept import intercepts
from chainrule.trace.tracer import Tracer

_METHODS = "scipy.stats._distn_infrastructure"
_ARGUMENTS = ("x", "k", "q", "loc", "scale")


class _Output(Tracer):
    """The traced array that a method of a distribution fills."""

    __slots__ = ()

    def set(self, new: Any) -> None:
        """Give it another value; nobody else has seen it yet."""
        assert new.owner is self.owner
        self.value, self.data = new.value, new.data

    def fill(self, value: float) -> None:
        """NumPy's fill, by a number."""
        self.set(ops.where(np.False_, self, np.asarray(value, self.dtype)))


def _traced_like(arguments: dict[str, Any], out: Any) -> Any:
    """A new array as one that is traced wherever an argument of the method that makes it is."""
    for t in (*(arguments.get(name) for name in _ARGUMENTS), *arguments.get("args", ())):
        if is_tracer(t) and t.size:
            element = t[(0,) * t.ndim]
            out = ops.where(np.False_, element.astype(out.dtype), out)
    return _Output(out.value, out.owner, out.data) if is_tracer(out) else out


def _maker(make: Callable[..., Any], depth: int) -> Callable[..., Any]:
    """A function that makes arrays, for a method of which it looks into the frame, so many above its own."""

    def made(*args: Any, **kwargs: Any) -> Any:
        return _traced_like(sys._getframe(depth).f_locals, make(*args, **kwargs))

    return made


class _NumPy:
    """NumPy as the methods' module sees it, when it says `np.full`."""

    full = staticmethod(_maker(np.full, 1))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


intercepts(_METHODS, "np", by_globals=True)(cast(Any, _NumPy()))
# Zeros in the place of an empty array, which may hold what is no number. Between them and the method is the interception.
intercepts(_METHODS, "empty", "zeros", always=True, by_globals=True)(_maker(np.zeros, 2))


def _not_traced(name: str) -> MissingRule:
    return MissingRule(
        f"a method of scipy.stats that uses np.{name} in a way that is not covered",
        "Write the distribution's formula with NumPy and scipy.special.",
    )


@intercepts(_METHODS, "putmask", by_globals=True)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """np.putmask of a number into a traced array."""
    if not isinstance(a, _Output):
        raise _not_traced("putmask")
    a.set(ops.where(ops.not_equal(mask, 0), np.asarray(values, a.dtype), a))


@intercepts(_METHODS, "place", by_globals=True)
def place(arr: Any, mask: Any, vals: Any) -> None:
    """np.place into a traced array."""
    if not isinstance(arr, _Output):
        raise _not_traced("place")
    chosen = np.asarray(decide(mask), bool)
    values = np.ravel(as_array(vals))
    if chosen.any():
        number = np.maximum(np.cumsum(chosen).reshape(chosen.shape) - 1, 0) % values.size
        arr.set(ops.where(chosen, values[number].astype(arr.dtype), arr))
