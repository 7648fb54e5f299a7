"""Plain arrays among the operands of recorded operations: a sweep reads them again, and user code may have written into them.

Small ones are copied. Of large ones a fingerprint is kept, which costs one reading; it is taken again when the array is used again
and before the recording is, and what has changed in between raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import TraceError

Array = np.ndarray[Any, Any]

# Arrays of no more bytes are copied.
_SMALL = 1 << 14
# A fingerprint has a number for each row of so many words.
_ROW = 1024


def _weights() -> Array:
    """Odd numbers, so that the change of a single word always changes the sum, modulo 2^64, of the words of a row times these.

    They are those of the generator SplitMix64 (Steele, Lea and Flood, 2014), without NumPy's, which takes long to load.
    """
    z = np.arange(1, _ROW + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


_WEIGHTS = _weights()


class Operands:
    """The plain arrays that one recording has seen."""

    __slots__ = ("_large",)

    def __init__(self) -> None:
        self._large: dict[int, tuple[Array, bytes]] = {}

    def held(self, x: Array) -> Array:
        """The array as it is now: a copy, or the array itself, to be watched."""
        if not x.flags.writeable and _is_constant(x):
            return x
        if x.nbytes <= _SMALL:
            return x.copy(order="K")
        seen = self._large.get(id(x))
        if seen is None:
            self._large[id(x)] = (x, fingerprint(x))
        else:
            compare(*seen)
        return x

    def check(self) -> None:
        """Raise where a watched array has changed."""
        for x, before in self._large.values():
            compare(x, before)


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
    """The plain arrays of a recording without an end, which keeps none of them; each operation watches its own."""

    __slots__ = ()

    def held(self, x: Array) -> Array:
        """The array as it is now, where that is small."""
        return x.copy(order="K") if x.nbytes <= _SMALL else x


class Watching(list[Any]):
    """The values of an operation, with the fingerprints of those that are large plain arrays."""

    __slots__ = ("fingerprints",)

    def __init__(self, values: Sequence[Any], plain: Sequence[int]) -> None:
        super().__init__(values)
        self.fingerprints = [(values[k], fingerprint(values[k])) for k in plain]

    def check(self) -> None:
        """Raise where one of the arrays has changed."""
        for x, before in self.fingerprints:
            compare(x, before)


def is_large(x: Any) -> bool:
    """Whether a value is an array that is not copied."""
    return type(x) is np.ndarray and x.nbytes > _SMALL


def _is_constant(x: Array) -> bool:
    """Whether nobody can write into the memory of a read-only array, by its base either."""
    base = x.base
    if isinstance(base, np.ndarray):
        return not base.flags.writeable and base.base is None
    return base is None or isinstance(base, bytes)


def fingerprint(x: Array) -> bytes:
    """What is as good as certain to differ when an element of the array does."""
    if x.dtype.hasobject:
        return x.tobytes()
    if isinstance(x.base, np.ndarray) and x.base.nbytes < x.nbytes:
        x = x.base  # which x repeats
    if x.flags.forc:
        return _of_memory(x.ravel(order="K"))
    # What does not lie together is copied, a little at a time.
    parts: Any = np.nditer(x, ["external_loop", "buffered"], order="K", buffersize=1 << 15)
    return b"".join(_of_memory(part.ravel()) for part in parts)


def _of_memory(x: Array) -> bytes:
    memory = x.view(np.uint8)
    rows = memory.size // (8 * _ROW)
    words = memory[: rows * 8 * _ROW].view(np.uint64).reshape(rows, _ROW)
    sums: Array = np.einsum("ij,j->i", words, _WEIGHTS)
    return sums.tobytes() + memory[rows * 8 * _ROW :].tobytes()


def compare(x: Array, before: bytes) -> None:
    """Raise where an array has not the fingerprint that it had before."""
    if fingerprint(x) != before:
        raise TraceError(
            f"a plain array of shape {x.shape} was written into after it had been used with traced values; it is too large to be "
            "copied at each use",
            "Use a copy of it, `a.copy()`, or make a new array in the place of writing into the old one.",
        )
