"""How a product of matrices is cut into blocks, and which operands are copied: decided by sizes and strides, before it is computed.

    c (m by n)  =  a (m by k) b (k by n)        or, transposed,        c^T = b^T a^T

Vectors run down the columns of c, where its elements are to be neighbours, and a's had better be. So either product may be the
better one; that of fewer operations is taken, counting those of vectors that are partly empty, and of what is moved. `Field`
names the words of the record that `gemm` reads.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import NamedTuple

from chainrule.backends.llvm.assembly import F32, F64
from chainrule.backends.llvm.target import Target

FLOATS = {"d": F64, "s": F32}
SIZES = {"d": 8, "s": 4}

DEPTH = 256
"""The most of k in a block: a strip of b stays in the first-level cache."""
BLOCK = 1 << 18
"""Bytes of a block of a, which stays in the second-level cache."""
COLUMNS = 1024
"""The most columns in a block."""
FEW = 96
"""Columns up to which a's own columns are read where they lie, if they can be: packed ones are not read often enough."""
MANY = 384
"""Rows from which b's columns are packed, if they are no neighbours in memory along k."""
SUMMED = 75
"""Multiplications that it costs to add up a vector."""
NEAR, TURNED, FAR, STORED = 8, 10, 32, 32
"""Multiplications that it costs to move a number: packed from neighbours, transposed, one by one; and stored one by one."""


class Field(IntEnum):
    """The words of a record: sizes; the strides of rows and columns in elements; the blocks; and which operands are packed."""

    m = 0
    n = auto()
    k = auto()
    a_row = auto()
    a_column = auto()
    b_row = auto()
    b_column = auto()
    c_row = auto()
    c_column = auto()
    rows = auto()
    depth = auto()
    columns = auto()
    packs_a = auto()
    packs_b = auto()
    dots = auto()


class Tile(NamedTuple):
    """How much of the result is in registers: so many vectors of so many lanes in each of so many columns.

    Of dot products there are as many as a square of a side has.
    """

    lanes: int
    vectors: int
    columns: int
    side: int

    @property
    def rows(self) -> int:
        """The rows of a tile."""
        return self.lanes * self.vectors


class Blocking(NamedTuple):
    """The record, of the transposed product if so; and the bytes of workspace."""

    is_transposed: bool
    record: tuple[int, ...]
    nbytes: int


Strides = tuple[int, int]
"""Of rows and of columns."""


def symbol(letter: str) -> str:
    """The name of the function for a type of numbers."""
    return f"chainrule_{letter}gemm"


def tile(letter: str, target: Target) -> Tile:
    """The tile that a processor's registers hold beside what a step needs: a column of a, and a number of b."""
    lanes = target.bits // 8 // SIZES[letter]
    if target.bits == 512:
        return Tile(lanes, 3, 8, 5)  # of 32 registers
    if target.triple.startswith(("aarch64", "arm64")):
        return Tile(lanes, 4, 6, 4)  # of 32
    return (
        Tile(lanes, 3, 4, 3) if target.fused else Tile(lanes, 2, 4, 3)
    )  # of 16; a product takes one where it is not fused


def blocking(letter: str, target: Target, sizes: tuple[int, int, int], a: Strides, b: Strides, c: Strides) -> Blocking:
    """The better way to compute a product of sizes m, n and k."""
    m, n, k = sizes
    shape = tile(letter, target)
    direct = _Way(shape, m, n, k, a, b, c)
    turned = _Way(shape, n, m, k, b[::-1], a[::-1], c[::-1])
    best = min(turned, direct, key=lambda w: w.cost)
    if best.dot_cost < best.cost:
        return Blocking(best is turned, (*best.sizes, *best.a, *best.b, *best.c, 0, 0, 0, 0, 0, 1), 0)
    rows, depth, columns = best.blocks(SIZES[letter])
    record = (*best.sizes, *best.a, *best.b, *best.c, rows, depth, columns, best.packs_a, best.packs_b, 0)
    room = best.packs_a * rows + (best.packs_b and _whole(columns, shape.columns))
    elements = room * depth + (best.c[0] != 1) * rows * shape.columns
    return Blocking(best is turned, tuple(map(int, record)), elements * SIZES[letter])


class _Way(NamedTuple):
    """A product as it stands, its operands with their strides."""

    tile: Tile
    m: int
    n: int
    k: int
    a: Strides
    b: Strides
    c: Strides

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.m, self.n, self.k

    @property
    def packs_a(self) -> bool:
        """Unless its columns are read in place: whole vectors, and not often."""
        return self.a[0] != 1 or self.m % self.tile.lanes > 0 or self.n > FEW

    @property
    def packs_b(self) -> bool:
        """Where rows are many enough to read it often; neighbours along k are read as quickly where they lie."""
        return self.b[0] != 1 and self.m >= MANY

    @property
    def cost(self) -> int:
        """About how long it takes, in multiplications."""
        total = _whole(self.m, self.tile.lanes) * self.n * self.k
        if self.packs_a:
            total += self.m * self.k * (NEAR if self.a[0] == 1 else TURNED if self.a[1] == 1 else FAR)
        if self.packs_b:
            total += self.n * self.k * TURNED
        return total if self.c[0] == 1 else total + self.m * self.n * -(-self.k // DEPTH) * STORED

    @property
    def dot_cost(self) -> float:
        """The same by dot products along k, where both operands have neighbours."""
        if self.a[1] != 1 or self.b[0] != 1:
            return float("inf")
        squares = _whole(self.m, self.tile.side) * _whole(self.n, self.tile.side)
        return squares * (_whole(self.k, self.tile.lanes) + SUMMED)

    def blocks(self, size: int) -> tuple[int, int, int]:
        """Rows, depth and columns of a block, about equal for all blocks."""
        depth = _even(self.k, DEPTH, 1)
        most = max(BLOCK // (depth * size) // self.tile.rows, 1) * self.tile.rows
        return _even(self.m, most, self.tile.rows), depth, _even(self.n, COLUMNS, self.tile.columns)


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _even(n: int, most: int, unit: int) -> int:
    """The extent of a block where as few as can be are about equal, none longer than the most."""
    return min(_whole(-(-n // -(-n // most)), unit), max(most, unit))
