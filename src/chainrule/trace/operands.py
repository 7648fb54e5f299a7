"""Plain arrays among the operands of recorded operations: a sweep reads them again, and user code may have written into them.

Small ones are copied. A copy of a large one would cost as much as the operation: of it a sample is kept, which is compared when
the array is used again and before the recording is. What has changed in between raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import TraceError

Array = np.ndarray[Any, Any]

# Arrays of no more bytes are copied.
_SMALL = 1 << 14
# Elements along each axis of which a sample is made, by the number of axes.
_PER_AXIS = {1: 512, 2: 24, 3: 8}


class Operands:
    """The plain arrays that one recording has seen."""

    __slots__ = ("_large",)

    def __init__(self) -> None:
        self._large: dict[int, tuple[Array, bytes]] = {}

    def held(self, x: Array) -> Array:
        """The array as it is now: a copy, or the array itself, to be watched."""
        if not x.flags.writeable:
            return x
        if x.nbytes <= _SMALL:
            return x.copy(order="K")
        seen = self._large.setdefault(id(x), (x, b""))
        if seen[1]:
            _compare(*seen)
        else:
            self._large[id(x)] = (x, _sample(x))
        return x

    def check(self) -> None:
        """Raise where a watched array has changed."""
        for x, before in self._large.values():
            _compare(x, before)


class Constants(Operands):
    """The plain arrays of a program: a copy serves every use of an array until that is changed."""

    __slots__ = ("_copies",)

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[Array, Array]] = {}

    def held(self, x: Array) -> Array:
        """The array as it is now."""
        known = self._copies.get(id(x))
        if known is None or known[1].shape != x.shape or known[1].tobytes() != x.tobytes():
            known = (x, super().held(x))
            if known[1] is not x:
                self._copies[id(x)] = known
        return known[1]


class Unwatched(Operands):
    """The plain arrays of a recording without an end, which keeps none of them."""

    __slots__ = ()

    def held(self, x: Array) -> Array:
        """The array as it is now, where that is small."""
        return x.copy(order="K") if x.nbytes <= _SMALL else x


def _sample(x: Array) -> bytes:
    n = _PER_AXIS.get(x.ndim, 4)
    steps = (max(extent // n, 1) for extent in x.shape)
    return x[tuple(slice(None, None, step) for step in steps)].tobytes()


def _compare(x: Array, before: bytes) -> None:
    if _sample(x) != before:
        raise TraceError(
            f"a plain array of shape {x.shape} was written into after it had been used with traced values; it is too large to be "
            "copied at each use",
            "Use a copy of it, `a.copy()`, or make a new array in the place of writing into the old one.",
        )
