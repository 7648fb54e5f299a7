"""The product of two matrices as native code of our own: one function for each type of numbers, for any sizes and strides.

    c (m by n)  =  a (m by k) b (k by n),    or c += a b

after Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008), and Van Zee and van de Geijn, BLIS (2015).
A tile of c is kept in registers while k goes by: a few vectors of a's column times as many numbers of b's row. The operands are
copied in the order in which tiles read them (packed), a block at a time that stays in a cache; so transposes cost nothing more.

    for each block of k, of columns, and of rows:                pack of b; pack of a
      for each strip of COLUMNS columns (or a little fewer):     a function of its own for each width, `strip1` and on
        for each tile of rows in the strip:                      registers
          for each k:                                            a multiplication and an addition for each of them

Every element of the result is a sum in the order of k within a block of k, and of the blocks in order, wherever it lies in a tile.
Few results of long sums, whose operands have neighbours along k, are dot products instead, with vectors along k (`dots`). What a
call is asked for stands in a record of words, `blocking.Field`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import I32, I64, PTR, VOID
from chainrule.backends.llvm.blocking import FLOATS, SIZES, Field, Tile, symbol, tile
from chainrule.backends.llvm.emit import Loop
from chainrule.backends.llvm.target import Target


def module(letter: str, target: Target) -> Any:
    """The module with the function `chainrule_?gemm(record, a, b, c, workspace, adds)`."""
    made = assembly.Module(target.triple)
    code = _Module(made, letter, tile(letter, target), fused=target.fused)
    strips = [code.strip(width) for width in range(1, code.tile.columns + 1)]
    code.whole(strips, code.pack_rows(), code.pack_columns(), code.dots())
    return made


class _Module:
    """The functions of one type of numbers."""

    def __init__(self, made: Any, letter: str, shape: Tile, *, fused: bool) -> None:
        self.module, self.letter, self.tile, self.fused = made, letter, shape, fused
        self.kind, self.size = FLOATS[letter], SIZES[letter]
        self.vector = assembly.vector(self.kind, shape.lanes)
        self.zero = assembly.splat(self.kind(0), shape.lanes)

    def _function(self, name: str, kinds: Sequence[Any], *, internal: bool = True) -> tuple[Any, Any]:
        function = assembly.Function(self.module, assembly.FunctionType(VOID, kinds), name, internal=internal)
        return function, assembly.Builder(function.append_basic_block())

    # ---- a strip of the result

    def strip(self, width: int) -> Any:
        """strip(m, k, a, a_step, a_vector, b, b_step, b_column, c, c_column, adds): m rows of `width` columns of c.

        Rows of c are neighbours. In a and in b there are so many elements from one k to the next; in a also from one vector of rows
        to the next. Of the last two tiles neither is much higher than the other.
        """
        kinds = [I64, I64, PTR, I64, I64, PTR, I64, I64, PTR, I64, I64]
        function, b = self._function(f"strip{width}", kinds)
        m, k, a, a_step, a_vector, right, b_step, b_column, c, c_column, adds = function.args
        step = _Step(width, k, a_step, a_vector, right, b_step, b_column, c_column, b.icmp_signed("!=", adds, I64(0)))
        lanes, most = self.tile.lanes, self.tile.vectors
        count = b.sdiv(b.add(m, I64(lanes - 1)), I64(lanes))
        before, head, following, done = b.block, *(b.append_basic_block(n) for n in ("tile", "next", "done"))
        b.branch(head)
        b.position_at_end(head)
        at = b.phi(I64)
        left = b.sub(count, at)
        half = b.sdiv(b.add(left, I64(1)), I64(2))
        vectors = self._least(b, b.select(b.icmp_signed(">", left, I64(most)), half, left), I64(most))
        after = b.add(at, vectors)
        last = b.sub(m, b.mul(b.sub(after, I64(1)), I64(lanes)))
        places = self._at(b, a, b.mul(at, a_vector)), self._at(b, c, b.mul(at, I64(lanes)))
        ways = [b.append_basic_block(f"vectors{v}") for v in range(1, most + 1)]
        b.switch(vectors, done, [(I64(v), way) for v, way in enumerate(ways, 1)])
        for v, way in enumerate(ways, 1):
            b.position_at_end(way)
            self._tile(b, step, v, *places, last)
            b.branch(following)
        b.position_at_end(following)
        at.add_incoming(I64(0), before)
        at.add_incoming(after, following)
        b.cbranch(b.icmp_signed("<", after, count), head, done)
        b.position_at_end(done)
        b.ret_void()
        return function

    def _tile(self, b: Any, step: _Step, vectors: int, a: Any, c: Any, lanes: Any) -> None:
        """One tile: registers over all k, then to memory; so many lanes of the last vector."""
        sums = self._sums(b, step, vectors, a)
        some = self._mask(b, lanes)
        with b.if_else(b.icmp_signed("<", lanes, I64(self.tile.lanes)), likely=False) as (in_part, whole):
            for way, mask in ((in_part, some), (whole, None)):
                with way, b.if_else(step.adds) as (adding, overwriting):
                    with adding:
                        self._keep(b, step, sums, c, mask, adds=True)
                    with overwriting:
                        self._keep(b, step, sums, c, mask, adds=False)

    def _sums(self, b: Any, step: _Step, vectors: int, a: Any) -> list[list[Any]]:
        """The loop over k: the vectors of each column."""
        before, head, after = b.block, b.append_basic_block("k"), b.append_basic_block("after")
        b.branch(head)
        b.position_at_end(head)
        left, left_at, right_at = b.phi(I64), b.phi(PTR), b.phi(PTR)
        sums = [[b.phi(self.vector) for _ in range(vectors)] for _ in range(step.width)]
        column = [self._load(b, self._at(b, left_at, b.mul(step.a_vector, I64(v)))) for v in range(vectors)]
        found = []
        for j, before_it in enumerate(sums):
            place = self._at(b, right_at, b.mul(step.b_column, I64(j))) if j else right_at
            number = self._splat(b, b.load(place, typ=self.kind, align=self.size))
            found.append([self._add_product(b, x, number, s) for x, s in zip(column, before_it, strict=True)])
        following = (b.sub(left, I64(1)), self._at(b, left_at, step.a_step), self._at(b, right_at, step.b_step))
        zero = self.zero
        phis = [left, left_at, right_at, *(s for part in sums for s in part)]
        begin = [step.k, a, step.b, *(zero for part in sums for _ in part)]
        for phi, first, then in zip(phis, begin, [*following, *(s for part in found for s in part)], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, head)
        b.cbranch(b.icmp_signed(">", following[0], I64(0)), head, after)
        b.position_at_end(after)
        return found

    def _keep(self, b: Any, step: _Step, sums: Sequence[Sequence[Any]], c: Any, mask: Any, *, adds: bool) -> None:
        """All is read before anything is written: a vector written in part would hold up the reading of its neighbours."""
        places = []
        for j, column in enumerate(sums):
            first = self._at(b, c, b.mul(step.c_column, I64(j))) if j else c
            for v, s in enumerate(column):
                own = mask if v == len(column) - 1 else None
                places.append((s, self._at(b, first, I64(v * self.tile.lanes)), own))
        found = [b.fadd(self._load(b, place, own), s) if adds else s for s, place, own in places]
        for x, (_, place, own) in zip(found, places, strict=True):
            self._store(b, x, place, own)

    # ---- packs

    def pack_rows(self) -> Any:
        """pack_rows(m, k, a, a_row, a_column, to): as many rows as a vector has lanes for each k, then the next rows.

        Where rows end within a vector, it does not matter what its other lanes are.
        """
        function, b = self._function("pack_rows", [I64, I64, PTR, I64, I64, PTR])
        m, k, a, a_row, a_column, to = function.args
        with Loop(b, 0, m, self.tile.lanes) as i:
            part = _Part(b.sub(m, i), k, self._at(b, a, b.mul(i, a_row)), a_row, a_column, self._at(b, to, b.mul(i, k)))
            with b.if_else(b.icmp_signed("==", a_row, I64(1))) as (near, apart):
                with near:
                    self._pack_neighbours(b, part)
                with apart:
                    self._pack_apart(b, part)
        b.ret_void()
        return function

    def _pack_neighbours(self, b: Any, part: _Part) -> None:
        """Rows that are neighbours in memory."""
        lanes, first = self.tile.lanes, self._mask(b, part.rows)
        with b.if_else(b.icmp_signed("<", part.rows, I64(lanes))) as (some, all_lanes):
            for way, mask in ((some, first), (all_lanes, None)):
                with way, Loop(b, 0, part.k, 1) as p:
                    x = self._load(b, self._at(b, part.a, b.mul(p, part.column)), mask)
                    self._store(b, x, self._at(b, part.to, b.mul(p, I64(lanes))))

    def _pack_apart(self, b: Any, part: _Part) -> None:
        """Rows that are not: squares are transposed in registers where columns are neighbours; else numbers, one by one."""
        lanes = self.tile.lanes
        last = b.sub(part.rows, I64(1))
        offsets = [
            b.mul(self._least(b, I64(r), last), part.row) for r in range(lanes)
        ]  # rows beyond the last are the last
        is_near = b.icmp_signed("==", part.column, I64(1))
        squares = b.select(is_near, b.and_(part.k, I64(-lanes)), I64(0))
        with b.if_then(b.icmp_signed(">", squares, I64(0))), Loop(b, 0, squares, lanes) as p:
            source = self._at(b, part.a, p)
            columns = self._transposed(b, [self._at(b, source, offset) for offset in offsets])
            for q, x in enumerate(columns):
                self._store(b, x, self._at(b, part.to, b.mul(b.add(p, I64(q)), I64(lanes))))
        with b.if_then(b.icmp_signed("<", squares, part.k)), Loop(b, squares, part.k, 1) as p:
            source = self._at(b, part.a, b.mul(p, part.column))
            place = self._at(b, part.to, b.mul(p, I64(lanes)))
            for r, offset in enumerate(offsets):
                self._copy(b, self._at(b, source, offset), self._at(b, place, I64(r)))

    def _transposed(self, b: Any, rows: Sequence[Any]) -> list[Any]:
        """The columns of a square from where its rows lie: halves change places as they are loaded, then quarters, and so on."""
        lanes = len(rows)
        half = lanes // 2
        joined = self._lanes(range(lanes))
        halves = [[self._half(b, self._at(b, row, I64(n))) for n in (0, half)] for row in rows]
        found = [b.shuffle_vector(halves[i][n], halves[i + half][n], joined) for n in (0, 1) for i in range(half)]
        half //= 2
        while half:
            low = [lanes + r - half if r & half else r for r in range(lanes)]
            high = [lanes + r if r & half else r + half for r in range(lanes)]
            for i in range(lanes):
                if not i & half:
                    pair = found[i], found[i + half]
                    found[i], found[i + half] = (b.shuffle_vector(*pair, self._lanes(mask)) for mask in (low, high))
            half //= 2
        return found

    def _half(self, b: Any, place: Any) -> Any:
        return b.load(place, typ=assembly.vector(self.kind, self.tile.lanes // 2), align=self.size)

    def pack_columns(self) -> Any:
        """pack_columns(n, k, b, b_row, b_column, to): a strip's numbers for each k.

        What is left at the end does not matter.
        """
        function, b = self._function("pack_columns", [I64, I64, PTR, I64, I64, PTR])
        n, k, source, b_row, b_column, to = function.args
        width = self.tile.columns
        neighbours = assembly.vector(self.kind, width)
        enough = b.icmp_signed(">=", n, I64(width))
        with b.if_else(b.and_(enough, b.icmp_signed("==", b_column, I64(1)))) as (near, apart):
            with near, Loop(b, 0, k, 1) as p:
                x = b.load(self._at(b, source, b.mul(p, b_row)), typ=neighbours, align=self.size)
                b.store(x, self._at(b, to, b.mul(p, I64(width))), align=self.size)
            with apart:
                last = b.sub(n, I64(1))
                offsets = [b.mul(self._least(b, I64(j), last), b_column) for j in range(width)]
                with Loop(b, 0, k, 1) as p:
                    row, place = self._at(b, source, b.mul(p, b_row)), self._at(b, to, b.mul(p, I64(width)))
                    for j, offset in enumerate(offsets):
                        self._copy(b, self._at(b, row, offset), self._at(b, place, I64(j)))
        b.ret_void()
        return function

    # ---- dot products

    def dots(self) -> Any:
        """dots(m, n, k, a, a_row, b, b_column, c, c_row, c_column, adds): vectors go along k, where both operands have neighbours.

        A square of sums is in registers; where the result ends within it, the last row or column is computed again.
        """
        function, b = self._function("dots", [I64, I64, I64, PTR, I64, PTR, I64, PTR, I64, I64, I64])
        m, n, k, a, a_row, right, b_column, c, c_row, c_column, adds = function.args
        side, lanes = self.tile.side, self.tile.lanes
        room = b.alloca(assembly.array(self.vector, -(-side * side // lanes)))
        squares = b.and_(k, I64(-lanes))
        rest = self._mask(b, b.sub(k, squares))
        with Loop(b, 0, m, side) as i, Loop(b, 0, n, side) as j:
            rows = self._lines(b, a, i, m, a_row)
            columns = self._lines(b, right, j, n, b_column)
            sums = self._products(b, squares, k, rest, rows, columns)
            for group in range(0, len(sums), lanes):
                self._store(b, self._totals(b, sums[group : group + lanes]), self._at(b, room, I64(group)))
            height, width = (self._least(b, I64(side), b.sub(x, at)) for x, at in ((m, i), (n, j)))
            with Loop(b, 0, height, 1) as r, Loop(b, 0, width, 1) as s:
                at = [b.mul(b.add(i, r), c_row), b.mul(b.add(j, s), c_column)]
                source = self._at(b, room, b.add(b.mul(r, I64(side)), s))
                self._put(b, source, self._at(b, c, b.add(*at)), adds)
        b.ret_void()
        return function

    def _lines(self, b: Any, pointer: Any, first: Any, count: Any, step: Any) -> list[Any]:
        """Where the lines of a square begin."""
        last = b.sub(count, I64(1))
        lines = (self._least(b, b.add(first, I64(r)), last) for r in range(self.tile.side))
        return [self._at(b, pointer, b.mul(line, step)) for line in lines]

    def _products(
        self, b: Any, squares: Any, k: Any, rest: Any, rows: Sequence[Any], columns: Sequence[Any]
    ) -> list[Any]:
        """The sums of a square, each still in all lanes: over whole vectors, and what is left, if anything is."""
        zero = self.zero
        sums = [zero] * (len(rows) * len(columns))
        for stop, step, mask in ((squares, self.tile.lanes, None), (k, self.tile.lanes, rest)):
            before, head, after = b.block, b.append_basic_block("k"), b.append_basic_block("after")
            start = I64(0) if mask is None else squares
            b.cbranch(b.icmp_signed("<", start, stop), head, after)
            b.position_at_end(head)
            p = b.phi(I64)
            phis = [b.phi(self.vector) for _ in sums]
            left, right = ([self._load(b, self._at(b, q, p), mask) for q in lines] for lines in (rows, columns))
            found = [
                self._add_product(b, x, y, phis[r * len(columns) + s])
                for r, x in enumerate(left)
                for s, y in enumerate(right)
            ]
            following = b.add(p, I64(step))
            for phi, first, then in zip([p, *phis], [start, *sums], [following, *found], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, head)
            b.cbranch(b.icmp_signed("<", following, stop), head, after)
            b.position_at_end(after)
            joined = [b.phi(self.vector) for _ in sums]
            for phi, first, then in zip(joined, sums, found, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(then, head)
            sums = joined
        return sums

    def _totals(self, b: Any, sums: Sequence[Any]) -> Any:
        """One vector of the sums over the lanes of as many vectors: halves are exchanged and added, pair by pair."""
        lanes = self.tile.lanes
        found = [*sums, *[self.zero] * (lanes - len(sums))]
        half = lanes // 2
        while half:
            low = [lanes + r - half if r & half else r for r in range(lanes)]
            high = [lanes + r if r & half else r + half for r in range(lanes)]
            masks = [self._lanes(mask) for mask in (low, high)]
            pairs = zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True)
            found = [b.fadd(*(b.shuffle_vector(x, y, mask) for mask in masks)) for x, y in pairs]
            half //= 2
        return found[0]

    def _put(self, b: Any, source: Any, place: Any, adds: Any) -> None:
        """A number to its place, or added to what is there."""
        x = b.load(source, typ=self.kind, align=self.size)
        with b.if_else(b.icmp_signed("!=", adds, I64(0))) as (adding, overwriting):
            with adding:
                b.store(b.fadd(b.load(place, typ=self.kind, align=self.size), x), place, align=self.size)
            with overwriting:
                b.store(x, place, align=self.size)

    # ---- the blocks

    def whole(self, strips: Sequence[Any], pack_rows: Any, pack_columns: Any, dots: Any) -> None:
        """The function that is called."""
        function, b = self._function(symbol(self.letter), [PTR] * 5 + [I64], internal=False)
        whole = _Whole(self, b, function.args, strips, pack_rows, pack_columns)
        f = whole.field
        with b.if_else(b.icmp_signed("!=", f[Field.dots], I64(0))) as (by_dots, in_blocks):
            with by_dots:
                sizes = [f[Field.m], f[Field.n], f[Field.k]]
                operands = [
                    whole.a,
                    f[Field.a_row],
                    whole.b,
                    f[Field.b_column],
                    whole.c,
                    f[Field.c_row],
                    f[Field.c_column],
                ]
                b.call(dots, [*sizes, *operands, whole.adds])
            with in_blocks:
                whole.emit()
        b.ret_void()

    # ---- numbers and vectors

    def _at(self, b: Any, pointer: Any, elements: Any) -> Any:
        return b.gep(pointer, [elements], source_etype=self.kind)

    def _least(self, b: Any, x: Any, y: Any) -> Any:
        return b.select(b.icmp_signed("<", x, y), x, y)

    def _copy(self, b: Any, source: Any, to: Any) -> None:
        b.store(b.load(source, typ=self.kind, align=self.size), to, align=self.size)

    def _load(self, b: Any, place: Any, mask: Any = None) -> Any:
        if mask is None:
            return b.load(place, typ=self.vector, align=self.size)
        arguments = [place, I32(self.size), mask, self.zero]
        return b.intrinsic(self._name("masked.load", ".p0"), self.vector, arguments)

    def _store(self, b: Any, x: Any, place: Any, mask: Any = None) -> None:
        if mask is None:
            b.store(x, place, align=self.size)
            return
        b.intrinsic(self._name("masked.store", ".p0"), VOID, [x, place, I32(self.size), mask])

    def _mask(self, b: Any, count: Any) -> Any:
        """The first so many lanes."""
        every = assembly.vector(I64, self.tile.lanes)(range(self.tile.lanes))
        return b.icmp_signed("<", every, self._splat(b, count))

    def _lanes(self, numbers: Sequence[int]) -> Any:
        return assembly.vector(I32, len(numbers))(numbers)

    def _splat(self, b: Any, x: Any) -> Any:
        undefined = assembly.undefined(assembly.vector(x.type, self.tile.lanes))
        zeros = self._lanes([0] * self.tile.lanes)
        return b.shuffle_vector(b.insert_element(undefined, x, I32(0)), undefined, zeros)

    def _add_product(self, b: Any, x: Any, y: Any, total: Any) -> Any:
        if not self.fused:
            return b.fadd(total, b.fmul(x, y))
        return b.intrinsic(self._name("fma"), self.vector, [x, y, total])

    def _name(self, intrinsic: str, suffix: str = "") -> str:
        return f"llvm.{intrinsic}.v{self.tile.lanes}f{8 * self.size}{suffix}"


class _Step(NamedTuple):
    """What is the same for all tiles of a strip."""

    width: int
    k: Any
    a_step: Any
    a_vector: Any
    b: Any
    b_step: Any
    b_column: Any
    c_column: Any
    adds: Any


class _Part(NamedTuple):
    """As many rows of a as there are lanes, if there are still so many, and where their packed copy begins."""

    rows: Any
    k: Any
    a: Any
    row: Any
    column: Any
    to: Any


class _Block(NamedTuple):
    """A block of the iteration space along one axis: where it begins, and its extent."""

    start: Any
    extent: Any


class _Whole:
    """The function over all blocks under construction."""

    def __init__(
        self,
        own: _Module,
        builder: Any,
        arguments: Sequence[Any],
        strips: Sequence[Any],
        pack_rows: Any,
        pack_columns: Any,
    ) -> None:
        self.own, self.builder, self.strips = own, builder, strips
        self.pack_rows, self.pack_columns = pack_rows, pack_columns
        record, self.a, self.b, self.c, self.workspace, self.adds = arguments
        self.field = {f: builder.load(builder.gep(record, [I64(f)], source_etype=I64), typ=I64) for f in Field}
        self.is_near = builder.icmp_signed("==", self.field[Field.c_row], I64(1))
        self.packs_a, self.packs_b = (
            builder.icmp_signed("!=", self.field[f], I64(0)) for f in (Field.packs_a, Field.packs_b)
        )
        # the workspace: a block of a; what is to be moved to c, a strip; a block of b
        room = builder.mul(self.field[Field.rows], self.field[Field.depth])
        self.strip = self._at(self.workspace, builder.select(self.packs_a, room, I64(0)))
        room = builder.mul(self.field[Field.rows], I64(own.tile.columns))
        self.right = self._at(self.strip, builder.select(self.is_near, I64(0), room))

    def emit(self) -> None:
        """The loops over blocks."""
        b, f = self.builder, self.field
        with self._blocks(f[Field.k], f[Field.depth]) as deep:
            adds = b.or_(self.adds, b.zext(b.icmp_signed(">", deep.start, I64(0)), I64))
            with self._blocks(f[Field.n], f[Field.columns]) as wide:
                right = self._place(self.b, (deep.start, f[Field.b_row]), (wide.start, f[Field.b_column]))
                strips = b.sdiv(b.add(wide.extent, I64(self.own.tile.columns - 1)), I64(self.own.tile.columns))
                with b.if_then(self.packs_b), Loop(b, 0, strips, 1) as s:
                    start = self._border(s, wide, strips)
                    source = self._at(right, b.mul(start, f[Field.b_column]))
                    arguments = [source, f[Field.b_row], f[Field.b_column], self._packed_strip(s, deep)]
                    b.call(self.pack_columns, [b.sub(wide.extent, start), deep.extent, *arguments])
                with self._blocks(f[Field.m], f[Field.rows]) as high:
                    left = self._place(self.a, (high.start, f[Field.a_row]), (deep.start, f[Field.a_column]))
                    with b.if_then(self.packs_a):
                        arguments = [left, f[Field.a_row], f[Field.a_column], self.workspace]
                        b.call(self.pack_rows, [high.extent, deep.extent, *arguments])
                    with Loop(b, 0, strips, 1) as s:
                        self._strip(s, strips, deep, wide, high, left, right, adds)

    def _strip(
        self, s: Any, strips: Any, deep: _Block, wide: _Block, high: _Block, left: Any, right: Any, adds: Any
    ) -> None:
        b, f, lanes = self.builder, self.field, I64(self.own.tile.lanes)
        first = self._border(s, wide, strips)
        width = b.sub(self._border(b.add(s, I64(1)), wide, strips), first)
        a = [
            b.select(self.packs_a, self.workspace, left),
            b.select(self.packs_a, lanes, f[Field.a_column]),
            b.select(self.packs_a, b.mul(lanes, deep.extent), lanes),
        ]
        own = [
            b.select(self.packs_b, self._packed_strip(s, deep), self._at(right, b.mul(first, f[Field.b_column]))),
            b.select(self.packs_b, I64(self.own.tile.columns), f[Field.b_row]),
            b.select(self.packs_b, I64(1), f[Field.b_column]),
        ]
        c = self._place(self.c, (high.start, f[Field.c_row]), (b.add(wide.start, first), f[Field.c_column]))
        to = [
            b.select(self.is_near, c, self.strip),
            b.select(self.is_near, f[Field.c_column], f[Field.rows]),
            b.select(self.is_near, adds, I64(0)),
        ]
        self._by_width(width, [high.extent, deep.extent, *a, *own, *to])
        with b.if_then(b.not_(self.is_near)):
            self._scatter(high.extent, width, c, adds)

    def _by_width(self, width: Any, arguments: Sequence[Any]) -> None:
        b = self.builder
        done = b.append_basic_block("computed")
        ways = [b.append_basic_block(f"width{k}") for k in range(1, len(self.strips) + 1)]
        b.switch(width, done, [(I64(k), way) for k, way in enumerate(ways, 1)])
        for way, strip in zip(ways, self.strips, strict=True):
            b.position_at_end(way)
            b.call(strip, arguments)
            b.branch(done)
        b.position_at_end(done)

    def _scatter(self, rows: Any, width: Any, c: Any, adds: Any) -> None:
        """From a strip in the workspace to a result whose rows are not neighbours."""
        b = self.builder
        with Loop(b, 0, rows, 1) as i, Loop(b, 0, width, 1) as j:
            source = self._place(self.strip, (i, I64(1)), (j, self.field[Field.rows]))
            self.own._put(
                b, source, self._place(c, (i, self.field[Field.c_row]), (j, self.field[Field.c_column])), adds
            )

    # ---- places

    @contextmanager
    def _blocks(self, extent: Any, step: Any) -> Iterator[_Block]:
        """A loop over blocks of an axis, as a context."""
        b = self.builder
        count = b.sdiv(b.add(extent, b.sub(step, I64(1))), step)
        with Loop(b, 0, count, 1) as turn:
            start = b.mul(turn, step)
            yield _Block(start, self.own._least(b, step, b.sub(extent, start)))

    def _border(self, s: Any, wide: _Block, strips: Any) -> Any:
        """The first column of a strip of a block: their widths differ by one at most."""
        return self.builder.sdiv(self.builder.mul(s, wide.extent), strips)

    def _packed_strip(self, s: Any, deep: _Block) -> Any:
        return self._at(self.right, self.builder.mul(self.builder.mul(s, I64(self.own.tile.columns)), deep.extent))

    def _place(self, pointer: Any, *indices: tuple[Any, Any]) -> Any:
        (i, row), (j, column) = indices
        return self._at(pointer, self.builder.add(self.builder.mul(i, row), self.builder.mul(j, column)))

    def _at(self, pointer: Any, elements: Any) -> Any:
        return self.own._at(self.builder, pointer, elements)
