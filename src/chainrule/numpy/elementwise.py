"""NumPy's ufuncs and elementwise functions."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, as_objects, decide, in_dtype, result_dtype
from chainrule.numpy.shaping import broadcast_to
from chainrule.prims import elementwise as prims
from chainrule.trace.numpy_protocols import METHODS, PROPERTIES, UFUNCS, implements

# Every primitive that is named as a ufunc is that ufunc.
for _primitive in ops:
    _ufunc = getattr(np, _primitive.name, None)
    if isinstance(_ufunc, np.ufunc):
        UFUNCS[_ufunc] = _primitive

UFUNCS[np.fabs] = prims.absolute
UFUNCS[np.degrees] = prims.rad2deg
UFUNCS[np.radians] = prims.deg2rad
UFUNCS[np.divmod] = lambda x, y: (ops.floor_divide(x, y), ops.remainder(x, y))


def _modf(x: Any) -> tuple[Any, Any]:
    whole = ops.trunc(x)
    return ops.where(ops.isinf(x), 0.0, x - whole), whole


def _frexp(x: Any) -> tuple[Any, Any]:
    exponent = ops.exponent(x)
    return ops.ldexp(x, ops.negative(exponent)), exponent


UFUNCS[np.modf] = _modf
# An exponent is an integer, whatever it is an exponent of.
UFUNCS[np.ldexp] = lambda x, i: ops.ldexp(x, as_array(i))
UFUNCS[np.frexp] = _frexp


# ---- choices


def sign(x: Any) -> Any:
    """NumPy's sign; of complex numbers z / |z|, which is not constant, and 0 at 0."""
    x = as_array(x)
    if x.dtype.kind != "c":
        return ops.sign(x)
    size = ops.absolute(x)
    return x / ops.where(ops.equal(size, 0), 1.0, size)


UFUNCS[np.sign] = sign


@implements(np.where)
def where(condition: Any, *branches: Any) -> Any:
    """NumPy's where; with one argument, the indices where a condition holds."""
    if not branches:
        return np.nonzero(condition)
    x, y = branches
    return ops.where(_plain_or_traced(condition), _plain_or_traced(x), _plain_or_traced(y))


def _plain_or_traced(x: Any) -> Any:
    return as_array(x) if isinstance(x, list | tuple) else x


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
    dtype: Any = None,
) -> Any:
    """NumPy's clip; at a bound, where both sides tie, the derivative is 1/2."""
    low = a_min if min is None else min
    high = a_max if max is None else max
    a = as_array(a)
    if low is None and high is None:
        a = copy(a)
    if low is not None:
        a = ops.maximum(a, _plain_or_traced(low))
    if high is not None:
        a = ops.minimum(a, _plain_or_traced(high))
    return a if dtype is None else a.astype(dtype)


def _clip_method(a: Any, min: Any = None, max: Any = None, out: Any = None, **options: Any) -> Any:
    return clip(a, min, max, **options)


METHODS["clip"] = _clip_method


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """NumPy's select: the first choice whose condition holds."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    conditions = [as_array(c) for c in condlist]
    for i, c in enumerate(conditions):
        if c.dtype.kind != "b":
            raise TypeError(f"invalid entry {i} in condlist: should be boolean ndarray")
    choices = [_plain_or_traced(c) for c in choicelist]
    dtype = np.result_type(*(c.dtype if hasattr(c, "dtype") else c for c in (*choices, default)))
    result = default
    for condition, choice in zip(conditions[::-1], choices[::-1], strict=True):
        result = ops.where(condition, choice, result)
    return result if result.dtype == dtype else result.astype(dtype)


@implements(np.choose)
def choose(a: Any, choices: Sequence[Any], out: Any = None, mode: str = "raise") -> Any:
    """NumPy's choose: of several arrays, at every place the one whose number stands in a."""
    a = as_array(a)
    kind = result_dtype(choices)
    items = [in_dtype(as_array(c), kind) for c in choices]
    n = len(items)
    if mode == "raise" and not builtins.all(0 <= decide(bound) < n for bound in (a.min(), a.max())):
        raise ValueError("invalid entry in choice array")
    a = ops.remainder(a, n) if mode == "wrap" else clip(a, 0, n - 1)
    result = broadcast_to(items[-1], np.broadcast_shapes(a.shape, items[-1].shape))
    for k in range(n - 1):
        result = ops.where(ops.equal(a, k), items[k], result)
    return result


METHODS["choose"] = choose


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """NumPy's piecewise; the functions are evaluated on all of x, and chosen from where their conditions hold."""
    x = as_array(x)
    conditions = _conditions(x, condlist)
    functions = list(funclist)
    if len(functions) == len(conditions) + 1:
        conditions.append(ops.logical_not(_any_of(conditions)))
    elif len(functions) != len(conditions):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or {len(conditions) + 1} functions are expected"
        )
    result: Any = np.zeros(x.shape, x.dtype)
    for condition, f in zip(conditions, functions, strict=True):
        with np.errstate(all="ignore"):
            value = f(x, *args, **kw) if callable(f) else f
        result = ops.where(condition, value, result)
    return result if result.dtype == x.dtype else result.astype(x.dtype)


def _conditions(x: Any, condlist: Any) -> list[Any]:
    if not isinstance(condlist, list | tuple) or (
        x.ndim and not isinstance(condlist[0], list) and np.ndim(condlist[0]) == 0
    ):
        condlist = list(condlist) if np.ndim(condlist) > x.ndim else [condlist]
    return [as_array(c, bool) for c in condlist]


def _any_of(conditions: Sequence[Any]) -> Any:
    total = conditions[0]
    for c in conditions[1:]:
        total = ops.logical_or(total, c)
    return total


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """NumPy's nan_to_num; what is replaced is constant."""
    x = as_array(x)
    if not copy:
        raise TraceError("np.nan_to_num(copy=False) of a traced value works in place", "Write `x = np.nan_to_num(x)`.")
    if x.dtype.kind == "c":
        return nan_to_num(ops.real(x), nan=nan, posinf=posinf, neginf=neginf) + 1j * nan_to_num(
            ops.imag(x), nan=nan, posinf=posinf, neginf=neginf
        )
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    above = limits.max if posinf is None else posinf
    below = limits.min if neginf is None else neginf
    infinite = ops.isinf(x)
    x = ops.where(ops.logical_and(infinite, ops.greater(x, 0)), above, x)
    x = ops.where(ops.logical_and(infinite, ops.less(x, 0)), below, x)
    return ops.where(ops.isnan(x), nan, x)


# ---- rounding: constant almost everywhere


@implements(np.round, np.around, method="round")
def round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """NumPy's round: its derivative is zero."""
    a = as_array(a)
    if a.dtype.kind == "c":
        return round(ops.real(a), decimals) + 1j * round(ops.imag(a), decimals)
    if a.dtype.kind in "iu":
        return ops.discretise(_rounded(a, decimals), dtype=a.dtype) if decimals < 0 else copy(a)
    return _rounded(a, decimals)


def _rounded(a: Any, decimals: int) -> Any:
    if decimals == 0:
        return ops.rint(a)
    scale = np.asarray(10.0 ** builtins.abs(decimals), a.dtype if a.dtype.kind == "f" else float)[()]
    return ops.rint(a * scale) / scale if decimals > 0 else ops.rint(a / scale) * scale


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """NumPy's fix: towards zero; its derivative is zero."""
    return ops.trunc(as_array(x))


# ---- complex numbers


@implements(np.real)
def real(val: Any) -> Any:
    """NumPy's real."""
    val = as_array(val)
    return ops.real(val) if val.dtype.kind == "c" else val


@implements(np.imag)
def imag(val: Any) -> Any:
    """NumPy's imag."""
    return ops.imag(as_array(val))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """NumPy's angle."""
    out = ops.angle(as_array(z))
    return out * (180 / np.pi) if deg else out


@implements(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    """NumPy's real_if_close: the real part where all imaginary parts are close to zero."""
    a = as_array(a)
    if a.dtype.kind != "c":
        return a
    limit = tol * np.finfo(a.dtype).eps if tol > 1 else tol
    return ops.real(a) if decide(np.all(ops.less(ops.absolute(ops.imag(a)), limit))) else a


PROPERTIES["real"] = real
PROPERTIES["imag"] = imag
METHODS["conj"] = METHODS["conjugate"] = ops.conjugate


# ---- special elementwise functions


@implements(np.sinc)
def sinc(x: Any) -> Any:
    """NumPy's sinc, sin(pi x) / (pi x)."""
    return ops.sinc(as_array(x))


# ---- copies and dtypes


@implements(np.copy, method="copy")
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    """NumPy's copy: a new handle."""
    a = as_array(a)
    return ops.positive(a) if a.dtype.kind in "fc" else ops.stop_gradient(a)


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """NumPy's astype; to integers and booleans, which carry no derivative, a plain array."""
    target = np.dtype(dtype)
    if target == x.dtype:
        return _new_handle(x) if copy else x
    if target.kind in "fc":
        return ops.convert(x, dtype=target)
    if target.kind == "O":
        return as_objects(x)
    if target.kind == "V":
        raise TraceError(f"a traced value does not fit into an array of dtype {target}", "Keep one array a field.")
    return ops.discretise(x, dtype=target)


_new_handle = copy


def _astype_method(
    x: Any, dtype: Any, order: str = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    if not np.can_cast(x.dtype, np.dtype(dtype), casting=casting):
        raise TypeError(
            f"Cannot cast array data from {x.dtype!r} to {np.dtype(dtype)!r} according to the rule '{casting}'"
        )
    return astype(x, dtype, copy=copy)


METHODS["astype"] = _astype_method
