"""Loops over integers and floats, written once in Python and run as native code.

The search for an accumulation order and the colouring of a pattern are loops over index arrays and bit sets: a thousand times
too slow when interpreted, and not expressible as array operations. Such a loop is written here as a plain function in a small
subset of Python; `kernel` compiles it through LLVM at its first call. The undecorated function stays at hand as `.python`: the
reference that tests compare the native code with is the same text, so the two cannot drift apart.

    >>> import numpy as np
    >>> @kernel
    ... def total(values: Ints, n: int) -> int:
    ...     s = 0
    ...     for i in range(n):
    ...         s += values[i]
    ...     return s
    >>> total.python([1, 2, 3], 3)
    6

The subset. Parameters: `int`, `float`, `Ints` (contiguous int64), `Floats` (contiguous float64); arrays must not overlap.
Statements: assignment, `if`, `while`, `for .. in range(..)` with a constant step, `break`, `continue`, `return`, `pass`.
Expressions: arithmetic, shifts, bit operations, comparisons, `and`, `or`, `not`, `a if c else b`, `min`, `max`, `abs`, `int`,
`float`, `popcount`, `lowest_bit`, elements of arrays, integer constants of the module, and calls to other kernels. A local
keeps the type of its first value. Integers have 64 bits and wrap; indices are not checked and must not be negative.
"""

from __future__ import annotations

from typing import Any, Protocol

from chainrule.native.kernel import Kernel, KernelError, kernel

__all__ = ["Floats", "Ints", "Kernel", "KernelError", "kernel", "lowest_bit", "popcount"]


class Ints(Protocol):
    """A contiguous array of int64 in native code; anything indexable when interpreted."""

    def __getitem__(self, index: int, /) -> Any: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


class Floats(Protocol):
    """A contiguous array of float64 in native code; anything indexable when interpreted."""

    def __getitem__(self, index: int, /) -> Any: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


def popcount(bits: int) -> int:
    """Count the ones of a non-negative integer.

    >>> popcount(0b1011)
    3
    """
    return int(bits).bit_count()


def lowest_bit(bits: int) -> int:
    """Index of the lowest one of a positive integer.

    >>> lowest_bit(0b1000)
    3
    """
    return (int(bits) & -int(bits)).bit_length() - 1
