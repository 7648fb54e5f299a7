"""The distributions of scipy.stats on traced values: `norm.logpdf(x, loc, scale)`, `gamma.cdf(x, a)`, `poisson.logpmf(k, mu)`.

Their methods make an array, and place into it what the distribution's own formula gives where the argument is in its support. A
traced value cannot be placed into a plain array, so the array is made a traced one where an argument is. Where the support is
traced too, in a program or a batch, the formula is computed everywhere, and chosen where it holds.
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
_CONTINUOUS = "scipy.stats._continuous_distns"
_ARGUMENTS = ("x", "k", "q", "loc", "scale")


class _Output(Tracer):
    """The traced array that a method of a distribution fills; a class of its own for every kind of tracer."""

    __slots__ = ()

    def set(self, new: Any) -> None:
        """Give it another value; nobody else has seen it yet."""
        assert new.owner is self.owner
        self.value, self.data = new.value, new.data

    def fill(self, value: float) -> None:
        """NumPy's fill, by a number."""
        self.set(ops.where(np.False_, self, np.asarray(value, self.dtype)))


_outputs: dict[Any, Any] = {Tracer: _Output}


def _output_of(kind: Any) -> Any:
    """The class for a kind of tracer."""
    if kind not in _outputs:
        _outputs[kind] = type("Output", (_Output, kind), {"__slots__": ()})
    return _outputs[kind]


def _traced_like(arguments: dict[str, Any], out: Any) -> Any:
    """A new array as one that is traced wherever an argument of the method that makes it is."""
    for t in (*(arguments.get(name) for name in _ARGUMENTS), *arguments.get("args", ())):
        if is_tracer(t) and t.size:
            element = t[(0,) * t.ndim]
            out = ops.where(np.False_, element.astype(out.dtype), out)
    if is_tracer(out):
        out.__class__ = _output_of(type(out))
    return out


def _maker(make: Callable[..., Any], depth: int) -> Callable[..., Any]:
    """A function that makes arrays, for a method of which it looks into the frame, so many above its own."""

    def made(*args: Any, **kwargs: Any) -> Any:
        return _traced_like(sys._getframe(depth).f_locals, make(*args, **kwargs))

    return made


class _NumPy:
    """NumPy as the methods' module sees it, when it says `np.full`."""

    full = staticmethod(_maker(np.full, 1))

    @staticmethod
    def any(x: Any) -> Any:
        """Whether there is something to compute."""
        return True if is_tracer(x) else np.any(x)

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
    values = np.ravel(as_array(vals))
    if is_tracer(mask) and values.size in (1, arr.size):
        values = np.reshape(values, arr.shape if values.size == arr.size else ())
        arr.set(ops.where(ops.not_equal(mask, 0), values.astype(arr.dtype), arr))
        return
    chosen = np.asarray(decide(mask), bool)
    if chosen.any():
        number = np.maximum(np.cumsum(chosen).reshape(chosen.shape) - 1, 0) % values.size
        arr.set(ops.where(chosen, values[number].astype(arr.dtype), arr))


@intercepts(_METHODS, "argsreduce", by_globals=True)
def argsreduce(cond: Any, *args: Any) -> Any:
    """SciPy's argsreduce: the arguments where a condition holds; all of them where it is traced."""
    arrays = [np.atleast_1d(x) for x in args]
    if is_tracer(cond):
        return np.broadcast_arrays(*arrays, cond)[:-1]
    if np.all(cond):
        return np.broadcast_arrays(*arrays, np.atleast_1d(cond))[:-1]
    chosen = np.asarray(cond, bool)
    return [x if x.size == 1 else np.extract(chosen, np.broadcast_to(x, chosen.shape)) for x in arrays]


# ---- choices by conditions, which SciPy makes by assignment into arrays


@intercepts("scipy._lib.array_api_extra", "apply_where")
def apply_where(cond: Any, args: Any, f1: Any, f2: Any = None, /, *, fill_value: Any = None, xp: Any = None) -> Any:
    """SciPy's apply_where: f1(*args) where a condition holds; elsewhere f2(*args), or a value.

    Where the condition is plain and the same everywhere, only what it chooses is computed.
    """
    cond, *arrays = np.broadcast_arrays(cond, *(args if isinstance(args, tuple) else (args,)))
    holds = [True, False] if is_tracer(cond) else np.unique(cond)
    with np.errstate(all="ignore"):
        first = f1(*arrays) if True in holds else None
        second = fill_value if f2 is None else f2(*arrays) if first is None or False in holds else first
    return np.where(cond, second if first is None else first, second)


@intercepts(_CONTINUOUS, "_lazyselect", by_globals=True)
def lazyselect(condlist: Any, choicelist: Any, arrays: Any, default: Any = 0) -> Any:
    """SciPy's _lazyselect: what the function of the last condition that holds gives."""
    arrays = np.broadcast_arrays(*arrays)
    out: Any = np.full(arrays[0].shape, default, np.result_type(*arrays))
    for cond, f in zip(condlist, choicelist, strict=True):
        out = apply_where(cond, tuple(arrays), f, fill_value=out)
    return out


@intercepts(_CONTINUOUS, "_log_gauss_mass", by_globals=True)
def log_gauss_mass(a: Any, b: Any) -> Any:
    """SciPy's _log_gauss_mass: the logarithm of the probability of an interval under the standard normal distribution.

    An interval right of zero is reflected, and one about zero is what its two tails leave.
    """
    right = ops.greater(a, 0)
    a, b = ops.where(right, -b, a), ops.where(right, -a, b)
    low, high = ops.log_ndtr(a), ops.log_ndtr(b)
    outside = ops.log1p(-ops.ndtr(a) - ops.ndtr(-b))
    return ops.where(ops.less_equal(b, 0), high + ops.log(-ops.expm1(low - high)), outside)
