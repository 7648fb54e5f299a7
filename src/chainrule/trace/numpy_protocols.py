"""How NumPy's calls on tracers find chainrule's functions: tables from NumPy's functions, ufuncs and methods to ours.

`chainrule.numpy` fills the tables when it is imported, with `implements`. What is in none of them raises MissingRule.
"""

from __future__ import annotations

import functools
import numbers
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from chainrule.errors import MissingRule, TraceError
from chainrule.ir.primitive import Primitive, TracerBase, bind, is_tracer
from chainrule.trace import in_place

# An attribute of NumPy's is slower to find while a thread traces (see intercept).
ndarray = np.ndarray

UFUNCS: dict[Any, Primitive | Callable[..., Any]] = {}
UFUNC_METHODS: dict[tuple[Any, str], Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}
PROPERTIES: dict[str, Callable[..., Any]] = {}
_GETITEM: list[Callable[[Any, Any], Any]] = []
_NAMESPACE: list[Any] = []
_OPERAND: list[Callable[[Any], Any]] = []
# Searches for our rule of a ufunc that another package than NumPy defines.
_LATE_UFUNCS: list[Callable[[Any], Any]] = []


def implements(*functions: Any, method: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function to be chainrule's version of NumPy's functions, and of the method of that name."""

    def declare(ours: Callable[..., Any]) -> Callable[..., Any]:
        for f in functions:
            FUNCTIONS[f] = ours
        if method is not None:
            METHODS[method] = ours
        return ours

    return declare


def define_late_ufuncs(search: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Declare where to look for the rule of a ufunc, which may belong to a package that is imported late."""
    _LATE_UFUNCS.append(search)
    return search


def rule_of(ufunc: Any) -> Any:
    """Our rule for a ufunc; raises MissingRule where there is none."""
    rule = UFUNCS.get(ufunc)
    if rule is None:
        rule = next((found for search in _LATE_UFUNCS if (found := search(ufunc)) is not None), None)
        if rule is None:
            raise missing(ufunc.__name__)
        UFUNCS[ufunc] = rule
    return rule


def define_getitem(rule: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Declare how a tracer is indexed."""
    _GETITEM[:] = [rule]
    return rule


def getitem(x: Any, key: Any) -> Any:
    """x[key] on a tracer."""
    return _GETITEM[0](x, key)


def define_operand(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Declare how nested sequences, which may hold tracers, become arrays."""
    _OPERAND[:] = [rule]
    return rule


def operand(x: Any) -> Any:
    """An operand of an operation on tracers; sequences become arrays, with the derivatives of the tracers in them."""
    if isinstance(x, list | tuple):
        return _OPERAND[0](x)
    return _of_subclass(x) if isinstance(x, np.ndarray) and type(x) is not np.ndarray else x


# Types of operands that are what they seem.
PLAIN = frozenset({bool, int, float, complex, ndarray, *np.sctypeDict.values()})


def other_operand(x: Any) -> Any:
    """An operand of an operator on tracers, whatever it is; NotImplemented where its own operator is to be asked."""
    if type(x) in PLAIN or is_tracer(x):
        return x
    if isinstance(x, numbers.Real):
        return float(x)
    ufunc_protocol = getattr(type(x), "__array_ufunc__", np.ndarray.__array_ufunc__)
    if ufunc_protocol is not np.ndarray.__array_ufunc__ and not isinstance(x, np.ma.MaskedArray):
        return NotImplemented
    if isinstance(x, list | tuple | np.ndarray):
        return operand(x)
    if is_sparse(x):
        raise TraceError(
            f"a {type(x).__name__} of scipy.sparse in an operation on traced values by elements",
            "Write S @ x for the product of matrices, and S.toarray() for the rest.",
        )
    is_array_like = hasattr(x, "__array__") or (isinstance(x, Sequence) and not isinstance(x, str | bytes))
    return np.asarray(x) if is_array_like else NotImplemented


def _of_subclass(x: Any) -> Any:
    """An array of a subclass of NumPy's as a plain one."""
    if isinstance(x, np.matrix | np.ma.MaskedArray):
        raise TraceError(
            f"a {type(x).__name__} in an operation on traced values: its operations are not those of arrays",
            "Use np.asarray of a matrix with `@`, and np.where(mask, ...) in the place of a masked array.",
        )
    return np.asarray(x)


def is_sparse(x: Any) -> bool:
    """Whether x is a matrix or array of scipy.sparse."""
    kind = type(x)
    return kind is not ndarray and kind.__module__.startswith("scipy.sparse.") and hasattr(x, "tocsr")


def as_object(x: Any) -> Any:
    """The traced array itself as the one item of an array of objects."""
    return np.fromiter((x,), object, 1).reshape(())


def wants_other_operand(caller: FrameType) -> bool:
    """Whether scipy.sparse asks what a traced operand of `S @ t` is.

    It leaves the product to the operand when NumPy can make no array of it but one of objects.
    """
    return caller.f_code.co_name == "_matmul_dispatch" and caller.f_globals["__name__"].startswith("scipy.sparse.")


def define_namespace(module: Any) -> None:
    """Declare the module that stands for NumPy in the array API's protocol."""
    _NAMESPACE[:] = [module]


_COMPATIBILITY = ".array_api_compat.common._helpers"


def namespace(asked: FrameType | None = None) -> Any:
    """The module that stands for NumPy in the array API's protocol.

    Where SciPy asks for the namespace of traced and plain arrays together, it is SciPy's version of NumPy, which is also that of
    the plain ones: there must be one for all.
    """
    if asked is not None:
        name = asked.f_globals.get("__name__", "")
        if name.endswith(_COMPATIBILITY) and any(
            isinstance(x, np.ndarray | np.generic) for x in asked.f_locals.get("xs", ())
        ):
            return sys.modules[name.removesuffix("common._helpers") + "numpy"]
    return _NAMESPACE[0]


def missing(name: str) -> MissingRule:
    """The error for a function that chainrule does not cover."""
    return MissingRule(
        f"`{name}` is not covered: chainrule has no rule for it",
        "Write it with covered operations (docs: coverage), declare a primitive with cr.primitive, give the derivative with "
        "cr.custom_jvp or cr.custom_vjp, or pass cr.value(x) where a constant is meant.",
    )


def call_function(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A NumPy function on tracers."""
    ours = FUNCTIONS.get(func)
    if ours is None:
        raise missing(f"{getattr(func, '__module__', 'numpy')}.{getattr(func, '__name__', func)}")
    if kwargs.get("out") is not None:
        raise _out_error(func)
    return ours(*args, **kwargs)


def _out_error(func: Any) -> TraceError:
    return TraceError(
        f"`{func.__name__}(..., out=...)` on traced values: writing into an array that exists already cannot be followed",
        "Use the value it returns, without out=.",
    )


def call_plainly(ufunc: Any, inputs: Sequence[Any]) -> Any:
    """A ufunc on tracers, without options: on one, or on one and a plain operand, there is nothing to look for."""
    rule = UFUNCS.get(ufunc)
    if isinstance(rule, Primitive):
        if len(inputs) == 1:
            return inputs[0].owner.unary(rule, rule.value, inputs[0], {})
        if len(inputs) == 2:
            x, y = inputs
            if isinstance(y, TracerBase):
                if _is_plain(x):
                    return y.owner.binary(rule, ufunc, x, y)
            elif _is_plain(y):
                return x.owner.binary(rule, ufunc, x, y)
    elif rule is not None and len(inputs) == 2:
        x, y = inputs
        if (isinstance(x, TracerBase) or _is_plain(x)) and (isinstance(y, TracerBase) or _is_plain(y)):
            return rule(x, y)
    return call_ufunc(ufunc, "__call__", inputs, {})


def _is_plain(x: Any) -> bool:
    """Whether an operand is one of NumPy's own arrays of numbers, or a number."""
    kind = type(x)
    return x.dtype.kind != "O" if kind is ndarray else kind in PLAIN


def call_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A ufunc, or one of its methods, on tracers."""
    out = kwargs.pop("out", None)
    if out is not None:
        probe = next(x for x in (*inputs, *out) if is_tracer(x))
        return in_place.updated(ufunc, out, probe, lambda: call_ufunc(ufunc, method, inputs, kwargs))
    if any(type(x) is ndarray and x.dtype.kind == "O" for x in inputs):
        # An array of objects stays one: NumPy's loop calls the operators of its items, some of which may be traced.
        return getattr(ufunc, method)(*(x.__array__() if is_tracer(x) else x for x in inputs), **kwargs)
    if method != "__call__":
        ours = UFUNC_METHODS.get((ufunc, method))
        if ours is None:
            raise missing(f"{ufunc.__name__}.{method}")
        return ours(*inputs, **kwargs)
    rule = rule_of(ufunc)
    inputs = [operand(x) for x in inputs]
    if not kwargs:
        return bind(rule, inputs, kwargs) if isinstance(rule, Primitive) else rule(*inputs)
    return _with_options(rule, ufunc, inputs, kwargs)


def _with_options(rule: Any, ufunc: Any, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    dtype = kwargs.pop("dtype", None)
    for harmless in ("casting", "order", "subok"):
        kwargs.pop(harmless, None)
    if kwargs.get("where", True) is True:
        kwargs.pop("where", None)
    if kwargs and ufunc.signature is None:
        raise TraceError(
            f"`{ufunc.__name__}` on traced values with {', '.join(kwargs)}=", "Use np.where(mask, result, otherwise)."
        )
    result = rule(*inputs, **kwargs)
    return result if dtype is None else result.astype(dtype)


def method(x: Any, name: str) -> Any:
    """An attribute of a tracer that is one of NumPy's methods or properties."""
    ours = METHODS.get(name)
    if ours is not None:
        return _BoundMethod(ours, x, name)
    rule = PROPERTIES.get(name)
    if rule is not None:
        return rule(x)
    ufunc = getattr(np, name, None)
    if isinstance(ufunc, np.ufunc):  # NumPy's loops over arrays of objects call a method of the ufunc's name
        return functools.partial(ufunc, x)
    raise AttributeError(f"a traced array has no attribute {name!r}")


class _BoundMethod:
    """A method of a tracer: the function with the tracer as its first argument."""

    __slots__ = ("function", "name", "x")

    def __init__(self, function: Callable[..., Any], x: Any, name: str) -> None:
        self.function = function
        self.x = x
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            raise TraceError(f"`.{self.name}(out=...)` on a traced value", "Use the value it returns, without out=.")
        return self.function(self.x, *args, **kwargs)
