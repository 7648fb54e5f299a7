"""`xpx.at(x, index).set(y)` of SciPy's array code on traced values: an updated array, as for arrays that cannot be written to."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, decide
from chainrule.trace.intercept import intercepts

_PACKAGES = ("scipy._lib.array_api_extra", "scipy._external.array_api_extra")
_UNSET: Any = object()


def updated(x: Any, index: Any, y: Any) -> Any:
    """A copy of x with y at the index, a mask of the shape of x or an index as NumPy has them."""
    x, y = as_array(x), as_array(y)
    y = y if y.dtype == x.dtype else y.astype(x.dtype)
    if getattr(index, "dtype", np.dtype(object)).kind == "b" and index.shape == x.shape and y.ndim == 0:
        return ops.where(index, y, x)
    places = np.arange(x.size).reshape(x.shape)[decide(index)]
    fresh = np.broadcast_to(y, places.shape)
    source = np.arange(x.size)
    source[places.ravel()] = x.size + np.arange(places.size)
    return np.concatenate([np.ravel(x), np.ravel(fresh)])[source].reshape(x.shape)


class _Update:
    """The update of x at an index; while tracing this stands for `at` of array_api_extra, and is it where nothing is traced."""

    def __init__(self, at: Callable[..., Any], x: Any, index: Any = _UNSET) -> None:
        self.at = at
        self.x = x
        self.index = index

    def __getitem__(self, index: Any) -> _Update:
        return _Update(self.at, self.x, index)

    def set(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x with y at the index."""
        return self._at("set", None, y, copy, xp)

    def add(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x with y added at the index."""
        return self._at("add", operator.add, y, copy, xp)

    def subtract(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x with y subtracted at the index."""
        return self._at("subtract", operator.sub, y, copy, xp)

    def multiply(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x multiplied by y at the index."""
        return self._at("multiply", operator.mul, y, copy, xp)

    def divide(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x divided by y at the index."""
        return self._at("divide", operator.truediv, y, copy, xp)

    def power(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """x to the power of y at the index."""
        return self._at("power", operator.pow, y, copy, xp)

    def min(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """The lesser of x and y at the index."""
        return self._at("min", np.minimum, y, copy, xp)

    def max(self, y: Any, /, copy: bool | None = None, xp: Any = None) -> Any:
        """The greater of x and y at the index."""
        return self._at("max", np.maximum, y, copy, xp)

    def _at(self, name: str, combine: Callable[[Any, Any], Any] | None, y: Any, copy: bool | None, xp: Any) -> Any:
        if not (is_tracer(self.x) or is_tracer(y) or is_tracer(self.index)):
            plain = self.at(self.x) if self.index is _UNSET else self.at(self.x, self.index)
            return getattr(plain, name)(y, copy=copy, xp=xp)
        if copy is False:
            raise TraceError(
                "SciPy's code writes into an array in place, which cannot be followed", "Copy the array first."
            )
        if self.index is _UNSET:
            raise ValueError("Index has not been set")
        return updated(self.x, self.index, y if combine is None else combine(self.x[self.index], y))


def at(x: Any, index: Any = _UNSET, /) -> _Update:
    """array_api_extra's `at`, for arrays that are traced or into which traced values are put."""
    original = next(sys.modules[f"{name}._lib._at"].at for name in _PACKAGES if f"{name}._lib._at" in sys.modules)
    return _Update(original, x, index)


for _package in _PACKAGES:
    intercepts(_package, "at", always=True, by_globals=True)(at)
    intercepts(f"{_package}._lib._funcs", "at", always=True, by_globals=True)(at)
