"""Which kernels are cut into pieces that threads can share, and how: a decision of shapes and code alone, never of the threads.

The loop over one axis is cut into a fixed number of ranges, in every box of the iteration space that is long enough; shorter boxes
belong to the first piece. What pieces add up into the same place, each adds up by itself, in a row of its own, and the rows are
combined in order when all pieces are done. A loop whose turns need each other's results is not cut. So a result is the same to the
last bit however many threads there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

from chainrule.backends.llvm.body import Body, Effect, Fill
from chainrule.backends.llvm.graph import DTYPES, Graph
from chainrule.backends.llvm.index import Component, Lin, axis, flat
from chainrule.backends.llvm.memory import Block

LEAST = 1 << 21
"""Scalar operations of a kernel from which on it is cut: about 0.1 ms, of which waking the threads takes a tenth."""
CALL = 20
"""Operations that an elementary function counts for."""
GRAIN, MOST = 1 << 18, 64
"""The fewest operations of a piece, and the most pieces."""
ENOUGH = 16
"""Pieces that keep all threads of most machines busy: an axis that allows so many is as good as one that allows more."""
LANES = 16
"""Pieces of the axis of the lanes begin at multiples of so many elements, whatever the processor's vectors are."""
ROWS = 1 << 21
"""The most elements in the rows of all pieces."""
COMBINED = 64
"""By how much combining the rows must be less work than the kernel."""

SUMMED = 4096
"""By how much combining the rows of tiles must be less work than the tiles, most of whose operations are products of matrices."""
EVEN = 4
"""More pieces than so many are a multiple of it where each is long, so that as many threads end together."""


class Division(NamedTuple):
    """A kernel cut along one axis of its nest; `rows` are the buffers of which each piece has its own row.

    Rows are `stride` elements apart; the buffers of the rows come after all others, in this order.
    """

    axis: int
    pieces: int
    step: int
    rows: tuple[Fill, ...]

    def blocks(self, lo: int, hi: int) -> int:
        """Of how many steps the pieces of a range are made; 0 where all of it is the first piece's."""
        count = (hi - lo) // self.step
        return count if count >= self.pieces else 0

    def buffer(self, row: Fill) -> Block:
        """Memory for the rows that stand for one buffer."""
        return Block(self.pieces * self.stride(row) * DTYPES[row.kind].itemsize)

    @staticmethod
    def stride(row: Fill) -> int:
        """Elements from one row to the next: whole lines of cache, so that no two threads write to one line."""
        return -(-row.size // LANES) * LANES


def division(bodies: Sequence[Body], fills: Sequence[Fill]) -> Division | None:
    """How to cut a kernel; None where it is too small, or no axis will do."""
    work = sum(_work(b) for b in bodies)
    if work < LEAST:
        return None
    pieces = min(MOST, work // GRAIN)
    axes = [k for k in range(len(bodies[0].box)) if all(b.ordered != k for b in bodies)]
    along = (_along(k, pieces, work, bodies, fills) for k in axes)
    found = [d for d in along if d is not None]
    return max(found, key=lambda d: (min(d.pieces, ENOUGH), -sum(map(d.stride, d.rows)), -d.axis), default=None)


def divided_tiles(work: int, count: int, rows: Sequence[Fill]) -> Division | None:
    """How to cut a loop over so many tiles, whose sums these are; None where it is too small."""
    if work < LEAST:
        return None
    elements = sum(map(Division.stride, rows))
    pieces = min(MOST, work // GRAIN, count)
    if elements:
        pieces = min(pieces, ROWS // elements, work // (SUMMED * elements))
    pieces -= pieces % EVEN if pieces > EVEN else 0
    return Division(0, pieces, 1, tuple(rows)) if pieces > 1 else None


def _work(body: Body) -> int:
    """About how many scalar operations a box takes."""
    turns = [prod(hi - lo for lo, hi in body.box[:k]) for k in range(len(body.box) + 1)]
    nodes = body.graph.nodes
    values = sum(turns[level] * (CALL if nodes[n].op == "call" else 1) for n, level in body.levels().items())
    return values + turns[-1] * len(body.effects)


def _along(k: int, pieces: int, work: int, bodies: Sequence[Body], fills: Sequence[Fill]) -> Division | None:
    step = LANES if k == len(bodies[0].box) - 1 else 1
    rows = tuple(f for f in fills if not _is_apart(f.slot, k, bodies))
    elements = sum(map(Division.stride, rows))
    if elements:
        pieces = min(pieces, ROWS // elements, work // (COMBINED * elements))
    pieces = min(pieces, max(b.box[k][1] - b.box[k][0] for b in bodies) // step)
    return Division(k, pieces, step, rows) if pieces > 1 else None


def _is_apart(slot: int, k: int, bodies: Sequence[Body]) -> bool:
    """Whether pieces along axis k never update the same element of a buffer.

    Every place is stored to once. Updated ones must advance with the axis; boxes that share a part of the axis must be cut alike.
    """
    ranges = set()
    for b in bodies:
        updates = [e for e in b.effects if e.slot == slot and e.kind != "store"]
        if not all(_advances(e.at, k) for e in updates):
            return False
        if updates:
            ranges.add(b.box[k])
    ordered = sorted(ranges)
    return all(a[1] <= b[0] for a, b in pairwise(ordered))


def _advances(at: Component, k: int) -> bool:
    """Whether turns of axis k go to different elements: an axis in a place is an index of its own there, scattered or not."""
    return isinstance(at, Lin) and any(t == k for t, _ in at.terms)


def combination(row: Fill, pieces: int, source: int) -> Body:
    """The body that combines the rows of all pieces, in order, in the buffer that they stand for."""
    graph = Graph()
    stride = Division.stride(row)
    box = ((0, pieces), (0, row.size)) if row.size > 1 else ((0, pieces),)
    place: Component = axis(1) if row.size > 1 else 0
    index = (axis(0), place)
    node = graph.load(source, flat(index, (pieces, stride)), row.kind)
    return Body(box, graph, [Effect("add" if row.effect == "scatter" else row.effect, node, row.slot, place)])
