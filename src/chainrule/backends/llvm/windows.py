"""Slices of memory: a slice as one that begins at the array's first element, and how far that is moved.

    x[t, 2:5]  =  w[0, 0:3],  w being x moved by (t * strides[0] + 2 * strides[1]) bytes

So the slices that successive turns of a loop take are one operation, on an array that moves from turn to turn.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from chainrule.backends.llvm import moves
from chainrule.backends.llvm.index import Unlowerable
from chainrule.ir.primitive import parameter_key
from chainrule.ir.program import Equation, Var
from chainrule.ir.types import Shape

Key = tuple[Any, ...]


class Window(NamedTuple):
    """A key that begins at the first element, the bytes by which the array is moved, and whether what it takes lies together."""

    key: Key
    offset: int
    is_whole: bool


class Windows:
    """The windows of slices, each key and shape looked at once."""

    def __init__(self) -> None:
        self._known: dict[Any, Window | None] = {}

    def of(self, e: Equation) -> Window | None:
        """The window of a slice of a variable; None for other operations, and for keys that take nothing."""
        if e.primitive.name != "slice" or not isinstance(e.args[0], Var):
            return None
        kind = e.args[0].type
        known = (parameter_key(e.params["key"]), kind.shape, kind.dtype.itemsize)
        if known not in self._known:
            self._known[known] = _window(e.params["key"], kind.shape, kind.dtype.itemsize)
        return self._known[known]


def _window(key: Any, shape: Shape, itemsize: int) -> Window | None:
    try:
        axes = moves.parse(key, shape).axes
    except Unlowerable:
        return None
    strides = [prod(shape[k + 1 :]) for k in range(len(shape))]
    parts: list[Any] = []
    offset = 0
    for a, n, stride in zip(axes, shape, strides, strict=True):
        if isinstance(a, moves.Fixed):
            offset += a.at * stride
            parts.append(0)
        elif isinstance(a, moves.Ranged) and len(a.range):
            low = min(a.range[0], a.range[-1])
            offset += low * stride
            parts.append(_from_start(a.range, low, n))
        else:
            return None
    return Window(_with_axes(key, parts), offset * itemsize, _lies_together(axes, shape))


def _from_start(taken: range, low: int, n: int) -> slice:
    """The same range, moved so that its least number is 0."""
    if taken == range(n):
        return slice(None)
    first, last = taken[0] - low, taken[-1] - low
    return slice(first, last + 1, taken.step) if taken.step > 0 else slice(first, None, taken.step)


def _with_axes(key: Any, parts: list[Any]) -> Key:
    """A key with these parts for the axes of the array, and the new axes of another key."""
    rest = iter(parts)
    return tuple(None if p is None else next(rest) for p in moves.explicit(key, len(parts)))


def _lies_together(axes: tuple[Any, ...], shape: Shape) -> bool:
    """Whether what is taken is one piece of memory, in order."""
    inner = True  # whether all axes so far, the last ones, are taken whole
    for a, n in zip(reversed(axes), reversed(shape), strict=True):
        taken = a.range if isinstance(a, moves.Ranged) else range(1)
        if len(taken) > 1 and not (inner and taken.step == 1):
            return False
        inner = inner and len(taken) == n
    return True


def place_of(a: Var, definition: Callable[[Var], Equation | None], windows: Windows) -> tuple[Var, int]:
    """The variable in whose memory another lies, being a reshape or a whole piece of it; and how many bytes from its beginning."""
    offset = 0
    while (e := definition(a)) is not None and isinstance(e.args[0], Var):
        if e.primitive.name == "slice":
            window = windows.of(e)
            if window is None or not window.is_whole:
                break
            offset += window.offset
        elif e.primitive.name != "reshape":
            break
        a = e.args[0]
    return a, offset
