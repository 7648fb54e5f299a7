"""Large results come from a pool: the memory of one that the caller has dropped is used for the next.

glibc gives blocks above 128 kB back to the kernel when they are freed, and faults every page in again at the next allocation; that
can cost more than the computation. An array from the pool holds a lease, and when the array and all its views are gone, so is the
lease, and its block goes back to the pool.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.backends.llvm.memory import LINE

LARGE = 1 << 17
KEPT = 4
"""How many free blocks of one size are kept."""

_free: dict[int, list[Any]] = {}


class _Lease:
    """One block of the pool in use; NumPy reads its memory through `__array_interface__`."""

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.block = block
        start = block.__array_interface__["data"][0]
        self.__array_interface__ = {
            "data": (start + -start % LINE, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        blocks = _free.get(self.block.nbytes)
        if blocks is not None and len(blocks) < KEPT:
            blocks.append(self.block)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An uninitialised array; from the pool if it is large."""
    need = dtype.itemsize
    for extent in shape:
        need *= extent
    if need < LARGE:
        return np.empty(shape, dtype)
    blocks = _free.setdefault(need + LINE, [])
    try:
        block = blocks.pop()
    except IndexError:
        block = np.empty(need + LINE, np.uint8)
    return np.asarray(_Lease(block, shape, dtype))


def clear() -> None:
    """Give the free blocks back to the system."""
    _free.clear()
