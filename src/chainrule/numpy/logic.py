"""Comparisons, questions about arrays, and their text: results without derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import concrete, is_tracer, ops
from chainrule.ir.types import ArrayType
from chainrule.numpy.arguments import as_array, axis_index
from chainrule.trace.intercept import intercepts
from chainrule.trace.numpy_protocols import METHODS, implements

# ---- comparisons


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """NumPy's isclose."""
    a, b = as_array(a), as_array(b)
    with np.errstate(invalid="ignore"):
        near = ops.less_equal(ops.absolute(ops.subtract(a, b)), atol + rtol * ops.absolute(b))
    found = ops.logical_or(ops.logical_and(near, ops.isfinite(b)), ops.equal(a, b))
    return ops.logical_or(found, ops.logical_and(ops.isnan(a), ops.isnan(b))) if equal_nan else found


def _plain_bool(x: Any) -> Any:
    return x if is_tracer(x) else bool(x)


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """NumPy's allclose."""
    return _plain_bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """NumPy's array_equal."""
    a, b = as_array(a1), as_array(a2)
    if a.shape != b.shape:
        return False
    same = ops.equal(a, b)
    if equal_nan and a.dtype.kind in "fc" and b.dtype.kind in "fc":
        same = ops.logical_or(same, ops.logical_and(ops.isnan(a), ops.isnan(b)))
    return _plain_bool(np.all(same))


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    """NumPy's array_equiv."""
    a, b = as_array(a1), as_array(a2)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return _plain_bool(np.all(ops.equal(a, b)))


def _infinite(sign: Any) -> Callable[..., Any]:
    def test(x: Any, out: Any = None) -> Any:
        x = as_array(x)
        return ops.logical_and(ops.isinf(x), sign(x))

    return test


isposinf = implements(np.isposinf)(_infinite(lambda x: ops.logical_not(ops.signbit(x))))
isneginf = implements(np.isneginf)(_infinite(lambda x: ops.signbit(x)))


@implements(np.isreal)
def isreal(x: Any) -> Any:
    """NumPy's isreal."""
    return ops.equal(ops.imag(as_array(x)), 0)


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    """NumPy's iscomplex."""
    return ops.not_equal(ops.imag(as_array(x)), 0)


# ---- shapes and dtypes


@implements(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    """NumPy's shape."""
    return as_array(a).shape  # type: ignore[no-any-return]


@implements(np.ndim)
def ndim(a: Any) -> int:
    """NumPy's ndim."""
    return as_array(a).ndim  # type: ignore[no-any-return]


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    """NumPy's size."""
    a = as_array(a)
    if axis is None:
        return a.size  # type: ignore[no-any-return]
    axes = axis if isinstance(axis, tuple) else (axis,)
    return int(np.prod([a.shape[axis_index(i, a.ndim)] for i in axes], dtype=int))


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    """NumPy's iscomplexobj."""
    return bool(as_array(x).dtype.kind == "c")


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    """NumPy's isrealobj."""
    return not iscomplexobj(x)


def _of_dtypes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A question about dtypes, asked of arrays of the tracers' dtypes."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        return function(*(np.empty(a.shape[:1] and 1, a.dtype) if is_tracer(a) else a for a in args), **kwargs)

    return ask


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """NumPy's result_type."""
    return np.result_type(*(a.dtype if is_tracer(a) else a for a in arrays_and_dtypes))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """NumPy's can_cast."""
    return np.can_cast(from_.dtype if is_tracer(from_) else from_, to, casting)


common_type = implements(np.common_type)(_of_dtypes(np.common_type))


@implements(np.min_scalar_type)
def min_scalar_type(a: Any, /) -> np.dtype[Any]:
    """NumPy's min_scalar_type."""
    return np.min_scalar_type(concrete(a))


# ---- memory and text: of the plain values


def _of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return function(*(concrete(a) for a in args), **kwargs)

    return ask


for _function in (np.shares_memory, np.may_share_memory, np.array2string, np.array_repr, np.array_str):
    implements(_function)(_of_values(_function))


@intercepts(np, "isscalar")
def isscalar(element: Any) -> bool:
    """np.isscalar of a traced value: whether its plain value is a NumPy scalar."""
    return isinstance(concrete(element), np.generic | float | int | complex)


# ---- what a tracer's methods refuse


def _refusal(name: str, repair: str) -> Callable[..., Any]:
    def refuse(x: Any, *_: Any, **__: Any) -> Any:
        raise TraceError(f"`.{name}()` of a traced {ArrayType.of(x)}", repair)

    return refuse


_REFUSED = {
    "sort": "It sorts in place: write `x = np.sort(x)`.",
    "partition": "It works in place: write `x = np.partition(x, kth)`.",
    "fill": "It writes in place: write `x = np.full(x.shape, value)`.",
    "put": "It writes in place: build the array with np.where or np.concatenate.",
    "itemset": "It writes in place: build the array with np.where or np.concatenate.",
    "resize": "It works in place: write `x = np.resize(x, shape)`.",
    "setfield": "It writes in place: build the array with np.where.",
    "view": "A view of the same memory as another dtype has no derivative: use x.astype(dtype), x.real or x.imag.",
    "getfield": "Use x.real, x.imag, or x.astype(dtype).",
    "byteswap": "Use cr.value(x).byteswap(), a constant.",
    "tobytes": "Use cr.value(x).tobytes(), a constant.",
    "tofile": "Use cr.value(x).tofile(...), a constant.",
    "dump": "Use cr.value(x).dump(...), a constant.",
    "dumps": "Use cr.value(x).dumps(), a constant.",
    "setflags": "Use it on a plain array.",
}
for _name, _repair in _REFUSED.items():
    METHODS[_name] = _refusal(_name, _repair)
