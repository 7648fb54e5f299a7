"""The tracer: what the user's function holds instead of an array.

A tracer is a handle on a value of a trace. Operators and methods bind primitives; NumPy's functions reach it through its
protocols. What would lose the derivative raises, and names the repair.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from chainrule.errors import TraceError, user_operation
from chainrule.ir.primitive import Primitive, Trace, TracerBase, bind, concrete, ops
from chainrule.ir.types import ArrayType
from chainrule.prims.elementwise import add, divide, multiply, negative, power, square, subtract
from chainrule.prims.indexing import slice_
from chainrule.trace import numpy_protocols as protocols


def _binary(
    primitive: Primitive, compute: Callable[[Any, Any], Any]
) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """An operator and its reflection. With a plain operand, or a tracer of the same trace, there is nothing to look for."""
    plain = protocols.PLAIN
    # A complex number of Python's, on the left of one of NumPy's, gives one of Python's.
    plain_on_left = plain - {complex}

    def forward(self: Tracer, other: Any) -> Any:
        owner = self.owner
        if type(other) in plain or (isinstance(other, TracerBase) and other.owner is owner):
            return owner.binary(primitive, compute, self, other)
        if _is_repetition(primitive, self, other):
            return other * self.__index__()
        other = protocols.other_operand(other)
        return other if other is NotImplemented else bind(primitive, (self, other), {})

    def reflected(self: Tracer, other: Any) -> Any:
        if type(other) in plain_on_left:
            return self.owner.binary(primitive, compute, other, self)
        if _is_repetition(primitive, self, other):
            return other * self.__index__()
        other = protocols.other_operand(other)
        return other if other is NotImplemented else bind(primitive, (other, self), {})

    return forward, reflected


def _is_repetition(primitive: Primitive, t: Tracer, other: Any) -> bool:
    """Whether `t * other` repeats a sequence a traced number of times, as it does for NumPy's integers."""
    return primitive is multiply and type(other) in (list, tuple, str) and isinstance(concrete(t), np.integer | int)


# Types of a slice's bounds for which there is nothing to look for.
_BOUNDS = frozenset((int, type(None)))


def _squared(x: Any) -> Any:
    return x * x


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Tracer, other: Any) -> Any:
        return self._rebind(getattr(self, name)(other), name)

    return method


class Tracer(TracerBase):
    """A traced array. It has NumPy's operators, methods and attributes; `cr.value(t)` gives its plain value as a constant."""

    __slots__ = ("__weakref__",)
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any, trace: Trace, data: Any) -> None:
        self.value = value
        self.owner = trace
        self.data = data
        self.shared = False

    # ---- NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs:
            return protocols.call_plainly(ufunc, inputs)
        return protocols.call_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return protocols.call_function(func, args, kwargs)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return protocols.namespace(sys._getframe(1))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        # A number may be the item of a list: then it stays what it is, in an array of objects, which loses nothing.
        is_number = not self.shape and (dtype is None or dtype is object or dtype == np.dtype(object))
        if is_number or protocols.wants_other_operand(sys._getframe(1)):
            return protocols.as_object(self)
        if self.dtype.kind in "iub":
            raise TraceError(
                f"a traced {ArrayType.of(self)} was about to become a plain NumPy array, as when a plain array is indexed by it",
                "Write np.take(a, i) for a[i], np.take(a.ravel(), i * a.shape[1] + j) for a[i, j], np.where(mask, a, b) for a "
                "choice; or cr.value(i) where a constant is meant.",
            )
        raise TraceError(
            f"a traced {ArrayType.of(self)} was about to become a plain NumPy array, which would lose its derivative",
            "Use NumPy's functions on it as it is (a @ x or np.dot(a, x) for a.dot(x)), or cr.value(x) where a constant is meant.",
        )

    # ---- attributes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape  # type: ignore[no-any-return]

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._set_shape(shape)

    def _set_shape(self, shape: Any) -> None:
        reshaped = protocols.call_function(np.reshape, (self, shape), {})
        self.value, self.data = reshaped.value, reshaped.data

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.value.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return int(np.prod(self.value.shape))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def device(self) -> str:
        return "cpu"

    # ---- what carries no derivative

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.owner.decide(self))

    def __int__(self) -> int:
        return int(self.owner.decide(self))

    def __index__(self) -> int:
        if self.dtype.kind not in "iub":
            raise TypeError(f"a traced {ArrayType.of(self)} cannot be interpreted as an integer")
        return self.owner.decide(self).__index__()  # type: ignore[no-any-return]

    def __round__(self, digits: int | None = None) -> Any:
        if digits is None:
            return round(self.owner.decide(self).item())
        return protocols.call_function(np.round, (self, digits), {})

    def __float__(self) -> float:
        if user_operation() == "STORE_SUBSCR":
            raise TraceError(
                f"assignment of a traced {ArrayType.of(self)} into a plain NumPy array would lose its derivative",
                "Collect the values in a list and make the array from it, np.array([...]) or np.stack([...]), or assign "
                "cr.value(x) where a constant is meant.",
            )
        self._refuse_number("float()")

    def _refuse_number(self, by: str) -> NoReturn:
        raise TraceError(
            f"{by} of a traced {ArrayType.of(self)} would lose its derivative",
            "Use NumPy on it as it is (np.sin instead of math.sin; np.array([...]) or np.stack to collect values), or "
            "cr.value(x) where a constant is meant.",
        )

    def __complex__(self) -> complex:
        return complex(self.__float__())

    def item(self, *_: Any) -> NoReturn:
        self._refuse_number(".item()")

    def tolist(self) -> NoReturn:
        self._refuse_number(".tolist()")

    as_integer_ratio = item

    def __str__(self) -> str:
        return str(concrete(self))

    def __repr__(self) -> str:
        return f"Tracer({ArrayType.of(self)}, value={concrete(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(concrete(self), spec)

    # ---- indexing

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int or (
            type(key) is slice
            and type(key.start) in _BOUNDS
            and type(key.stop) in _BOUNDS
            and type(key.step) in _BOUNDS
        ):
            return self.owner.unary(slice_, slice_.value, self, {"key": (key,)})
        return protocols.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TraceError(
            f"assignment into a traced array {ArrayType.of(self)}",
            "Build the array from its parts instead: np.where(mask, new, x), np.concatenate([...]), or np.stack([...]).",
        )

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, x: Any) -> bool:
        return bool(np.any(self == x))

    # ---- operators

    __add__, __radd__ = _binary(add, operator.add)
    __sub__, __rsub__ = _binary(subtract, operator.sub)
    __mul__, __rmul__ = _binary(multiply, operator.mul)
    __truediv__, __rtruediv__ = _binary(divide, operator.truediv)

    def __neg__(self) -> Any:
        return self.owner.unary(negative, operator.neg, self, {})

    def __pos__(self) -> Any:
        return self.owner.process(ops.positive, (self,), {})

    def __abs__(self) -> Any:
        return self.owner.unary(ops.absolute, operator.abs, self, {})

    def __invert__(self) -> Any:
        return self.owner.process(ops.invert, (self,), {})

    def __pow__(self, other: Any, modulo: None = None) -> Any:
        if (type(other) is int or (type(other) is float and self.dtype.kind in "fc")) and other == 2:
            compute = np.square if self.dtype.kind == "b" else _squared  # that of booleans is an int8
            return self.owner.unary(square, compute, self, {})
        other = protocols.other_operand(other)
        return other if other is NotImplemented else bind(power, (self, other), {})

    def __rpow__(self, other: Any) -> Any:
        other = protocols.other_operand(other)
        return other if other is NotImplemented else bind(power, (other, self), {})

    def __matmul__(self, other: Any) -> Any:
        return protocols.call_function(np.matmul, (self, other), {})

    def __rmatmul__(self, other: Any) -> Any:
        return protocols.call_function(np.matmul, (other, self), {})

    __mod__, __rmod__ = _binary(ops.remainder, operator.mod)
    __floordiv__, __rfloordiv__ = _binary(ops.floor_divide, operator.floordiv)
    __eq__, _ = _binary(ops.equal, operator.eq)
    __ne__, _ = _binary(ops.not_equal, operator.ne)
    __lt__, _ = _binary(ops.less, operator.lt)
    __le__, _ = _binary(ops.less_equal, operator.le)
    __gt__, _ = _binary(ops.greater, operator.gt)
    __ge__, _ = _binary(ops.greater_equal, operator.ge)
    __and__, __rand__ = _binary(ops.bitwise_and, operator.and_)
    __or__, __ror__ = _binary(ops.bitwise_or, operator.or_)
    __xor__, __rxor__ = _binary(ops.bitwise_xor, operator.xor)
    __lshift__, __rlshift__ = _binary(ops.left_shift, operator.lshift)
    __rshift__, __rrshift__ = _binary(ops.right_shift, operator.rshift)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    __iadd__ = _in_place("__add__")
    __isub__ = _in_place("__sub__")
    __imul__ = _in_place("__mul__")
    __itruediv__ = _in_place("__truediv__")
    __ipow__ = _in_place("__pow__")
    __ifloordiv__ = _in_place("__floordiv__")
    __imod__ = _in_place("__mod__")
    __imatmul__ = _in_place("__matmul__")

    def _rebind(self, new: Any, name: str) -> Any:
        """Give this handle the value of an operation in place, as every other name of the same array must see it."""
        if not self.shape:
            return new
        sign = {"__add__": "+", "__sub__": "-", "__mul__": "*", "__truediv__": "/"}.get(name, name.strip("_"))
        if self.shared:
            raise TraceError(
                f"`{sign}=` on a traced array {ArrayType.of(self)} that shares its memory with another "
                "(a view, or an array that has views)",
                f"Write `x = x {sign} y`, which makes a new array.",
            )
        if new.shape != self.shape or new.dtype != self.dtype or getattr(new, "owner", None) is not self.owner:
            raise TraceError(
                f"`{sign}=` would change a traced {ArrayType.of(self)} to {new.dtype}{list(new.shape)}, or to another "
                "transformation's value",
                f"Write `x = x {sign} y`, which makes a new array.",
            )
        self.value, self.data = new.value, new.data
        return self

    def __getattr__(self, name: str) -> Any:
        return protocols.method(self, name)

    def __init_subclass__(cls) -> None:
        # In its own dictionary: compiled code may ask with an exception pending, at which Python stops looking in those of the
        # bases, concludes that there is no such method, and never looks again.
        if "__getattr__" not in cls.__dict__:
            cls.__getattr__ = Tracer.__getattr__  # type: ignore[method-assign]

    def __copy__(self) -> Any:
        return self.owner.process(ops.positive, (self,), {})

    def __deepcopy__(self, memo: Any) -> Any:
        return self.owner.process(ops.positive, (self,), {})

    def __reduce__(self) -> NoReturn:
        raise TraceError("a traced value cannot be pickled", "Pickle cr.value(x), its plain value.")
