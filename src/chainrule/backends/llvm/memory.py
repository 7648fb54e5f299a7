"""Where results lie in the workspace: those whose lifetimes do not overlap may share a place."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Sequence
from typing import Any

from chainrule.ir.program import Literal, Var

LINE = 64
"""Arrays of a cache line and more begin at one; smaller ones stand close together."""
_SMALL = 16


class Block:
    """Memory that native code needs beside the variables of a program: `nbytes` of it."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def plan_memory(
    when: Sequence[Sequence[Var | Literal | Block]], elsewhere: Container[Any]
) -> tuple[dict[Any, int], int]:
    """The place of each buffer in the workspace, and its size, from what each step touches; `elsewhere` are not in it."""
    last = {a: t for t, touched in enumerate(when) for a in touched}
    places: dict[Any, int] = {}
    space = _Space()
    dying: list[list[tuple[int, int]]] = [[] for _ in range(len(when) + 1)]
    for t, touched in enumerate(when):
        for start, size in dying[t]:
            space.release(start, size)
        for a in touched:
            if not isinstance(a, Literal) and a not in places and a not in elsewhere:
                size = _rounded(a.nbytes if isinstance(a, Block) else a.type.nbytes)
                places[a] = space.take(size)
                dying[last[a] + 1].append((places[a], size))
    return places, space.total


def _rounded(size: int) -> int:
    unit = LINE if size >= LINE else _SMALL
    return -(-max(size, 1) // unit) * unit


class _Space:
    """Free gaps below `total`, in order; no two of them touch."""

    def __init__(self) -> None:
        self.total = 0
        self.starts: list[int] = []
        self.stops: list[int] = []

    def take(self, size: int) -> int:
        """The first place with room for so many bytes."""
        unit = LINE if size >= LINE else _SMALL
        for k, (start, stop) in enumerate(zip(self.starts, self.stops, strict=True)):
            at = -(-start // unit) * unit
            if stop - at >= size:
                self.starts[k : k + 1], self.stops[k : k + 1] = [], []
                self._put(start, at)
                self._put(at + size, stop)
                return at
        at = -(-self.total // unit) * unit
        self._put(self.total, at)
        self.total = at + size
        return at

    def release(self, start: int, size: int) -> None:
        """Give back what was taken; neighbouring gaps become one."""
        stop = start + size
        k = bisect_left(self.starts, start)
        if k < len(self.starts) and self.starts[k] == stop:
            stop = self.stops.pop(k)
            self.starts.pop(k)
        if k and self.stops[k - 1] == start:
            start = self.starts.pop(k - 1)
            self.stops.pop(k - 1)
        self._put(start, stop)

    def _put(self, start: int, stop: int) -> None:
        if stop > start:
            k = bisect_left(self.starts, start)
            self.starts.insert(k, start)
            self.stops.insert(k, stop)
