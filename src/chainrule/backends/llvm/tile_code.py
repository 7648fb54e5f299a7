"""The function of a loop over tiles, from those that compute one tile.

A loop that threads share is cut into pieces of whole tiles; what is left at the end is the last piece's. Each thread has scratch
memory for what lies within a tile. What is summed over the axis, each piece adds up by itself, in a row of its own, and the rows
are combined in order when all pieces are done: see `divide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import I8, I64, PTR
from chainrule.backends.llvm.body import Fill
from chainrule.backends.llvm.divide import Division
from chainrule.backends.llvm.emit import TYPES, Loop
from chainrule.backends.llvm.graph import KINDS
from chainrule.backends.llvm.schedule import Step
from chainrule.backends.llvm.tiles import Tiles
from chainrule.ir.program import Equation, Program, Var
from chainrule.ir.types import ArrayType


class TileBody(NamedTuple):
    """The calls that compute one tile; sums over it to be added by a loop; where all that lies, and the bytes of it."""

    calls: list[Step]
    parts: list[Var]
    places: dict[Any, int]
    nbytes: int


def sums(e: Equation, loop: Tiles) -> list[Fill]:
    """The results that are sums over the tiled axis, as buffers of the loop's function."""
    return [
        Fill(len(e.args) + k, o.type.size, KINDS[o.type.dtype], "add")
        for k, (o, is_stacked) in enumerate(zip(e.outs, loop.stacked, strict=True))
        if not is_stacked
    ]


def tiles_function(module: Any, name: str, e: Equation, bodies: Sequence[TileBody], cut: Division | None) -> Any:
    """The function `name(arg, ..., out, ..., [row, ...,] scratch, status[, piece])` of a loop over tiles, or of a piece of one."""
    loop = e.primitive
    assert isinstance(loop, Tiles)
    rows = () if cut is None else cut.rows
    buffers = len(e.args) + len(e.outs)
    kind = assembly.FunctionType(assembly.VOID, [PTR] * (buffers + len(rows) + 2) + [I64] * (cut is not None))
    function = assembly.Function(module, kind, name, internal=True)
    code = _Code(assembly.Builder(function.append_basic_block("entry")), e, loop, list(function.args[:buffers]))
    code.scratch, code.status = function.args[buffers + len(rows) :][:2]
    piece = function.args[-1]
    for row, source in zip(rows, function.args[buffers:], strict=False):
        start = code.builder.mul(piece, I64(Division.stride(row)))
        code.buffers[row.slot] = code.builder.gep(source, [start], source_etype=TYPES[row.kind])
    for fill in sums(e, loop):
        code.clear(fill)
    for turn, body in zip(loop.turns, bodies, strict=True):
        if cut is None:
            code.tiles(*turn, body)
        else:
            code.share(*turn, body, piece, cut.pieces)
    code.builder.ret_void()
    return function


class _Code:
    """The code of a loop, or of a piece of one, under construction."""

    status: Any
    scratch: Any

    def __init__(self, builder: Any, e: Equation, loop: Tiles, buffers: list[Any]) -> None:
        self.builder, self.e, self.loop, self.buffers = builder, e, loop, buffers

    def clear(self, fill: Fill) -> None:
        """Let a sum begin at zero."""
        kind = TYPES[fill.kind]
        with Loop(self.builder, 0, fill.size, 1) as i:
            self.builder.store(kind(0.0), self._element(self.buffers[fill.slot], i, kind))

    def share(
        self, program: Program, start: int, count: int, tile: int, body: TileBody, piece: Any, pieces: int
    ) -> None:
        """A piece's part of some tiles; all of them are the last one's where there are fewer than pieces."""
        b = self.builder
        if count < pieces:
            with b.if_then(b.icmp_unsigned("==", piece, I64(pieces - 1))):
                self.tiles(program, start, count, tile, body)
            return
        first, after = (b.udiv(b.mul(k, I64(count)), I64(pieces)) for k in (piece, b.add(piece, I64(1))))
        self.tiles(program, start, count, tile, body, first, after)

    def tiles(
        self, program: Program, start: int, count: int, tile: int, body: TileBody, first: Any = 0, after: Any = None
    ) -> None:
        """Those tiles among `count` of one extent from `first` to before `after`."""
        b = self.builder
        with Loop(b, first, count if after is None else after, 1) as turn:
            own = self._at_tile(b.add(I64(start), b.mul(turn, I64(tile))), program)
            own.update((v, b.gep(self.scratch, [I64(n)], source_etype=I8)) for v, n in body.places.items())
            for step in body.calls:
                b.call(step.function, [*(own[a] for a in step.buffers), self.status])
            for k, (o, v) in enumerate(zip(self.e.outs, program.outputs, strict=True)):
                if v in body.parts:
                    self._add(own[v], self.buffers[len(self.e.args) + k], o.type)

    def _at_tile(self, at: Any, program: Program) -> dict[Any, Any]:
        """Where the inputs and outputs of a body lie for the tile that begins at a place of the axis."""
        b, found = self.builder, {}
        atoms = (*self.e.args, *self.e.outs)
        are_tiled = (*self.loop.sliced, *self.loop.stacked)
        for v, a, pointer, is_tiled in zip(
            (*program.inputs, *program.outputs), atoms, self.buffers, are_tiled, strict=True
        ):
            row = prod(a.type.shape[1:]) * a.type.dtype.itemsize
            found[v] = b.gep(pointer, [b.mul(at, I64(row))], source_etype=I8) if is_tiled else pointer
        return found

    def _add(self, part: Any, whole: Any, t: ArrayType) -> None:
        b, kind = self.builder, TYPES[KINDS[t.dtype]]
        with Loop(b, 0, t.size, 1) as i:
            source, target = (self._element(p, i, kind) for p in (part, whole))
            b.store(b.fadd(b.load(target, typ=kind), b.load(source, typ=kind)), target)

    def _element(self, pointer: Any, i: Any, kind: Any) -> Any:
        return self.builder.gep(pointer, [i], source_etype=kind)
