"""Making arrays of traced values. What NumPy's protocols do not reach is intercepted while a thread traces."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, as_objects, decide, in_dtype, result_dtype
from chainrule.numpy.indexing import plain_shape
from chainrule.numpy.shaping import broadcast_to, moveaxis
from chainrule.trace.intercept import contains_tracer, intercepts
from chainrule.trace.numpy_protocols import as_object, implements, wants_other_operand

_plain_array = np.array


def _objects(x: Any, copy: Any) -> Any:
    """An array of objects, which keeps traced numbers as they are."""
    return as_objects(x) if is_tracer(x) else _plain_array(x, object, copy=copy)


def _raised(a: Any, ndmin: int) -> Any:
    return a if a.ndim >= ndmin else ops.reshape(a, shape=(1,) * (ndmin - a.ndim) + a.shape)


@intercepts(np, "array")
def array(obj: Any, dtype: Any = None, *, copy: Any = True, order: str = "K", ndmin: int = 0, **_: Any) -> Any:
    """np.array of traced values: a new traced array; of dtype object an array of traced numbers."""
    if dtype is not None and np.dtype(dtype) == object:
        return _raised(_objects(obj, copy), ndmin)
    made = as_array(obj, dtype)
    return _raised(np.copy(made) if made is obj and copy else made, ndmin)


@intercepts(np, "asanyarray")
def asanyarray(a: Any, dtype: Any = None, order: Any = None, **options: Any) -> Any:
    """np.asanyarray of traced values."""
    if is_tracer(a) and wants_other_operand(sys._getframe(2)):  # beyond the frame of the interception
        return as_object(a)
    return asarray(a, dtype, order, **options)


@intercepts(np, "asarray", "asarray_chkfinite")
def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **_: Any) -> Any:
    """np.asarray of traced values."""
    if dtype is not None and np.dtype(dtype) == object:
        return _objects(a, copy)
    made = as_array(a) if dtype is None or getattr(a, "dtype", None) == np.dtype(dtype) else as_array(a, dtype)
    return np.copy(made) if copy and made is a else made


@intercepts(np, "ascontiguousarray", "asfortranarray", "require")
def ascontiguousarray(a: Any, dtype: Any = None, *_: Any, **__: Any) -> Any:
    """np.ascontiguousarray of traced values, of one axis at least."""
    return _raised(asarray(a, dtype), 1)


_plain_fromiter = np.fromiter


@intercepts(np, "fromiter", always=True)
def fromiter(iter: Any, dtype: Any, count: int = -1, **options: Any) -> Any:
    """np.fromiter, which may be given traced numbers."""
    if np.dtype(dtype) == object:
        return _plain_fromiter(iter, dtype, count, **options)
    items = list(iter) if count < 0 else list(itertools.islice(iter, count))
    return as_array(items, dtype) if contains_tracer(items) else _plain_fromiter(items, dtype, count, **options)


@intercepts(np, "full")
def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **_: Any) -> Any:
    """np.full with a traced value."""
    value = as_array(fill_value)
    value = value if dtype is None or np.dtype(dtype) == value.dtype else value.astype(dtype)
    to = tuple(int(n) for n in shape) if np.iterable(shape) else (int(shape),)
    return np.copy(value) if value.shape == to else broadcast_to(value, to)


@intercepts(np, "full_like")
@implements(np.full_like)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any
) -> Any:
    """NumPy's full_like; it carries the derivative of the fill value only."""
    a = as_array(a)
    to = a.shape if shape is None else shape
    dtype = a.dtype if dtype is None else dtype
    if is_tracer(fill_value) or isinstance(fill_value, list | tuple):
        return full(to, fill_value, dtype)
    return np.full(to, fill_value, dtype)


def _constant_like(make: Callable[..., Any]) -> Callable[..., Any]:
    def like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
        a = as_array(a)
        return make(a.shape if shape is None else shape, a.dtype if dtype is None else dtype)

    return like


zeros_like = implements(np.zeros_like)(_constant_like(np.zeros))
ones_like = implements(np.ones_like)(_constant_like(np.ones))
empty_like = implements(np.empty_like)(_constant_like(np.empty))


# ---- ranges


@intercepts(np, "arange")
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, **_: Any) -> Any:
    """np.arange of traced numbers; how many there are is decided now."""
    if stop is None:
        start, stop = 0, start
    count = max(math.ceil(decide((stop - start) / step)), 0)
    made = start + np.arange(count) * step
    return made if dtype is None else made.astype(dtype)


def _float_dtype(*xs: Any) -> np.dtype[Any]:
    """The inexact dtype of arrays together; Python numbers among them take that of the others."""
    return result_dtype([*xs, 1.0])


@implements(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    """NumPy's linspace; differentiable in both ends."""
    num = int(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    kind = _float_dtype(start, stop)
    start, stop = in_dtype(as_array(start), kind), in_dtype(as_array(stop), kind)
    gap = stop - start
    spaces = num - 1 if endpoint else num
    numbers = np.arange(num, dtype=kind).reshape((-1,) + (1,) * gap.ndim)
    step = gap / spaces if spaces > 0 else gap * np.nan
    if spaces > 0:
        made = numbers * step + start
    else:
        made = numbers * gap + start
    if endpoint and num > 1:
        last = np.reshape(broadcast_to(stop, gap.shape), (1, *gap.shape))
        made = ops.concatenate(made[:-1], last if last.dtype == made.dtype else last.astype(made.dtype), axis=0)
    made = moveaxis(made, 0, axis) if axis else made
    if dtype is not None:
        made = ops.floor(made) if np.dtype(dtype).kind in "iu" else made
        made = made.astype(dtype)
    return (made, step) if retstep else made


@implements(np.logspace)
def logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    """NumPy's logspace; differentiable in both ends and in the base."""
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    base = as_array(base) if not np.isscalar(base) else base
    if np.ndim(base):
        exponents = moveaxis(linspace(*np.broadcast_arrays(start, stop, base)[:2], num, endpoint, axis=0), 0, axis)
        base = np.expand_dims(base, axis)
    made = ops.power(base, exponents)
    return made if dtype is None else made.astype(dtype)


@implements(np.geomspace)
def geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """NumPy's geomspace; differentiable in both ends, which have one sign, or are complex."""
    kind = np.promote_types(_float_dtype(start, stop), np.float64)  # NumPy's, whatever the precision of the ends
    start, stop = in_dtype(as_array(start), kind), in_dtype(as_array(stop), kind)
    if any(not is_tracer(x) and np.any(x == 0) for x in (start, stop)):
        raise ValueError("Geometric sequence cannot include zero")
    sign = ops.sign(start)
    exponents = linspace(ops.log10(start / sign), ops.log10(stop / sign), num, endpoint, axis=0)
    made = ops.power(10.0, exponents) * sign
    ends = [(0, start)] + ([(-1, stop)] if endpoint and num > 1 else []) if num else []
    for at, end in ends:
        end = np.reshape(broadcast_to(end, made.shape[1:]), (1, *made.shape[1:]))
        made = ops.concatenate(*((end, made[1:]) if at == 0 else (made[:-1], end)), axis=0)
    made = moveaxis(made, 0, axis) if axis else made
    return made if dtype is None else made.astype(dtype)


# ---- what a constant array is asked for


@implements(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """NumPy's vander: the powers of a vector as columns."""
    x = as_array(x)
    x = in_dtype(x, np.promote_types(x.dtype, int))
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    count = len(x) if N is None else N
    if count == 0:
        return np.empty((len(x), 0), x.dtype)
    powers = [np.ones(x.shape, x.dtype)]
    for _ in range(count - 1):
        powers.append(x if len(powers) == 1 else powers[-1] * x)
    return np.stack(powers if increasing else powers[::-1], axis=1)


def _refuse_fill(name: str, repair: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise TraceError(f"np.{name} writes into an array, which a trace cannot follow", repair)

    return refuse


for _name, _repair in {
    "copyto": "Use np.where(mask, new, old), or the new value itself.",
    "place": "Use np.where(mask, new, old).",
    "put": "Build the array with np.where or np.concatenate.",
    "putmask": "Use np.where(mask, new, old).",
    "put_along_axis": "Use np.where(np.arange(n) == index, new, old).",
    "fill_diagonal": "Use np.where(np.eye(n, dtype=bool), new, old).",
}.items():
    implements(getattr(np, _name))(_refuse_fill(_name, _repair))


@implements(np.einsum_path)
def einsum_path(*operands: Any, optimize: Any = "greedy", **options: Any) -> Any:
    """NumPy's einsum_path, which looks at shapes only."""
    return np.einsum_path(*(plain_shape(x) if is_tracer(x) else x for x in operands), optimize=optimize, **options)
