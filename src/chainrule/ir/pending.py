"""A value that is known by its type, and computed when somebody asks for it.

    a = sin x           f64[1000000]    nothing is computed
    b = reduce_sum a    f64[]
    b.settled()                         computes a, then b, and keeps both

While a program is recorded, operations are only typed. A value is wanted where Python branches on it, prints it or counts with it:
then what it depends on is computed, once, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.ir.origin import Origin, located
from chainrule.ir.types import ArrayType, Shape


class _Operation:
    """A primitive with its arguments, which are plain or pending; its result, once that has been computed."""

    __slots__ = ("args", "is_done", "origin", "out", "params", "primitive")

    def __init__(self, primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> None:
        self.primitive = primitive
        self.args = args
        self.params = params
        self.origin: Origin | None = None  # set where the operation is recorded
        self.is_done = False
        self.out: Any = None

    def waits_for(self) -> list[_Operation]:
        """The operations that have to be computed before this one."""
        return [a.operation for a in self.args if type(a) is Pending and not a.operation.is_done]

    def compute(self) -> None:
        """By NumPy, without its warnings: who records an operation does not ask for what it gives."""
        values = [a.settled() if type(a) is Pending else a for a in self.args]
        try:
            with np.errstate(all="ignore"):
                self.out = self.primitive.value(*values, **self.params)
        except IndexError as error:
            raise located(error, self.origin) from error
        self.is_done = True
        self.args = ()


class Pending:
    """The output of an operation; of several outputs, that of number `row`."""

    __slots__ = ("dtype", "operation", "row", "shape")

    def __init__(self, operation: _Operation, row: int | None, type: ArrayType) -> None:
        self.operation = operation
        self.row = row
        self.shape: Shape = type.shape
        self.dtype: np.dtype[Any] = type.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def settled(self) -> Any:
        """The value, computed now unless it has been; without recursion, since programs have thousands of operations."""
        waiting = [] if self.operation.is_done else [self.operation]
        while waiting:
            before = waiting[-1].waits_for()
            if before:
                waiting.extend(before)
            elif not (operation := waiting.pop()).is_done:
                operation.compute()
        out = self.operation.out
        return out if self.row is None else out[self.row]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.settled(), dtype, copy=copy)


def suspended(primitive: Any, args: Sequence[Any], params: dict[str, Any], types: Sequence[ArrayType]) -> Any:
    """What a primitive gives on arguments, typed and not computed: a Pending, or for several outputs a tuple of them."""
    operation = _Operation(primitive, args, params)
    if primitive.outputs == 1:
        return Pending(operation, None, types[0])
    return tuple(Pending(operation, row, t) for row, t in enumerate(types))


def settled(x: Any) -> Any:
    """A value as it is, or if it is pending, computed."""
    return x.settled() if type(x) is Pending else x
