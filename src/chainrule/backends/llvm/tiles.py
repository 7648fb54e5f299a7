"""Tiles: what is computed along a shared axis, a stretch of the axis at a time, so that nothing in between leaves the cache.

Along an axis (the points of a data set, say) most of a program is a map: each element of a result needs only its own element of
the arguments. What the program then wants of it is the map's results, or their sums. So one loop over tiles of the axis computes
everything on arrays of a tile's extent, in a small workspace, and adds to the sums as it goes. What needs a sum starts the next
loop.

    tiles[body](args) -> outs    body: tiles of the sliced arguments, the others whole -> tiles of the results, parts of the sums

Within the body the tiled axis is the last one of every array: lanes run along it, and every product of matrices finds its operands
contiguous. At the border it is the first, so that a tile is a stretch of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm import moves
from chainrule.backends.llvm.operations import lowers
from chainrule.backends.llvm.partition import Layout, Partition, is_product
from chainrule.ir.origin import Origin
from chainrule.ir.primitive import Params, Primitive, Sample, ops
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import Array, ArrayType, Shape

SHORTEST = 128
"""Shorter axes are not tiled."""
WORTH = 1 << 20
"""Bytes between a program's loops from which tiles are worth it."""
MOVED = 2
"""How many times the bytes that are transposed at the border those must be that stay within, but where matrices are multiplied."""
TILE = 1 << 19
"""Bytes of a tile of the largest array: a few of them fit the second-level cache."""
AGAIN = 2
"""How many times the bytes that stay within those may be that every tile reads and writes again."""
FEWEST = 4
"""Axes of fewer tiles are not worth it."""
LEAST, MOST, STEP = 32, 512, 8
"""The extents of a tile, which are multiples of a vector."""


class Tiles(Primitive):
    """The loop over tiles of one axis, as one equation. It is made after all transformations of a program, and has no rules."""

    name = "tiles"
    differentiable = False

    def __init__(
        self,
        body: Program,
        rest: Program | None,
        extent: int,
        tile: int,
        sliced: Sequence[bool],
        stacked: Sequence[bool],
    ):
        self.body, self.rest = body, rest  # of a whole tile, and of what is left at the end
        self.extent, self.tile = extent, tile
        self.sliced, self.stacked = tuple(sliced), tuple(stacked)
        self.outputs = len(stacked)

    @property
    def turns(self) -> list[tuple[Program, int, int, int]]:
        """The body, where it starts, how many tiles it computes, and their extent: whole tiles, then the rest."""
        whole, left = divmod(self.extent, self.tile)
        found = [(self.body, 0, whole, self.tile)]
        return found if self.rest is None else [*found, (self.rest, whole * self.tile, 1, left)]

    def value(self, *args: Any, **params: Any) -> Any:
        """Tile after tile by NumPy."""
        parts: list[list[Any]] = [[] for _ in self.stacked]
        for body, start, count, tile in self.turns:
            for at in range(start, start + count * tile, tile):
                given = [x[at : at + tile] if s else x for x, s in zip(args, self.sliced, strict=True)]
                for part, x in zip(parts, body(*given), strict=True):
                    part.append(x)
        joined = (np.concatenate(p) if s else np.add.reduce(p) for p, s in zip(parts, self.stacked, strict=True))
        return tuple(joined) if self.outputs > 1 else next(joined)

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        return tuple(
            ArrayType((self.extent, *a.type.shape[1:]), a.type.dtype) if s else a.type
            for a, s in zip(self.body.outputs, self.stacked, strict=True)
        )

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return sum(count * body.flops() for body, _, count, _ in self.turns)

    def samples(self) -> Iterator[Sample]:
        return iter(())

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        raise TypeError("tiles are made after all transformations")

    def pushforward(self, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]) -> Any:
        raise TypeError("tiles are made after all transformations")

    def pullback(
        self, args: Sequence[Array], out: Any, params: Params, ct: Any, wanted: Sequence[object]
    ) -> list[Array | None]:
        raise TypeError("tiles are made after all transformations")


# ---- how one equation lies along the axis

SUM = -1
"""Of a result: it is summed over the tiled axis."""


class Along(NamedTuple):
    """An equation along an axis: which axis of each argument that is (None: the argument is taken whole), and of the result."""

    args: tuple[int | None, ...]
    out: int


Axes = Sequence[int | None]
Rule = Callable[[Equation, Axes, int], Along | None]


def _elementwise(e: Equation, axes: Axes, n: int) -> Along | None:
    rank = len(e.outs[0].type.shape)
    ranks = [len(a.type.shape) for a in e.args]
    apart = {r - a for r, a in zip(ranks, axes, strict=True) if a is not None}  # the axis, counted from the end
    if len(apart) != 1:
        return None
    (p,) = apart
    at = [r - p if r >= p and a.type.shape[r - p] == n else None for r, a in zip(ranks, e.args, strict=True)]
    if any(a is not None and b is None for a, b in zip(axes, at, strict=True)) or e.outs[0].type.shape[rank - p] != n:
        return None
    return Along(tuple(at), rank - p)


def _reduction(e: Equation, axes: Axes, n: int) -> Along | None:
    (a,) = axes
    assert a is not None
    if a not in e.params["axes"]:
        return Along((a,), a - sum(k < a for k in e.params["axes"]))
    return Along((a,), SUM) if e.primitive.name == "reduce_sum" and e.outs[0].type.dtype.kind == "f" else None


def _contract(e: Equation, axes: Axes, n: int) -> Along | None:
    sides = (e.params["left"], e.params["right"])
    labels = {side[a] for side, a in zip(sides, axes, strict=True) if a is not None}
    if len(labels) != 1 or e.outs[0].type.dtype.kind != "f":
        return None
    (label,) = labels
    at = tuple(side.index(label) if label in side else None for side in sides)
    to = e.params["to"]
    return Along(at, to.index(label) if label in to else SUM)


def _reshape(e: Equation, axes: Axes, n: int) -> Along | None:
    for mine, theirs in moves.groups(e.args[0].type.shape, e.outs[0].type.shape):
        if mine == [axes[0]] and len(theirs) == 1:
            return Along(tuple(axes), theirs[0])
    return None


def _transpose(e: Equation, axes: Axes, n: int) -> Along | None:
    return Along(tuple(axes), e.params["axes"].index(axes[0]))


def _broadcast_to(e: Equation, axes: Axes, n: int) -> Along | None:
    (a,) = axes
    assert a is not None
    return Along((a,), a + len(e.outs[0].type.shape) - len(e.args[0].type.shape))


def _walk(key: Sequence[Any]) -> Iterator[tuple[int, int, int, Any]]:
    """Of each part of a key: its place, the axis of the whole array, the axis of the array of what is taken, and the part."""
    whole = taken = 0
    for k, p in enumerate(key):
        yield k, whole, taken, p
        whole += p is not None
        taken += p is None or isinstance(p, slice)


def _is_all(p: Any, n: int) -> bool:
    return isinstance(p, slice) and range(*p.indices(n)) == range(n)


def _slice(e: Equation, axes: Axes, n: int) -> Along | None:
    for _, whole, taken, p in _walk(moves.explicit(e.params["key"], len(e.args[0].type.shape))):
        if whole == axes[0] and p is not None:
            return Along(tuple(axes), taken) if _is_all(p, n) else None
    return None


def _place(e: Equation, axes: Axes, n: int) -> Along | None:
    shape = e.outs[0].type.shape
    key = moves.explicit(e.params["key"], len(shape))
    if None in key or np.broadcast_to(np.int8(0), shape)[tuple(key)].shape != e.args[0].type.shape:
        return None
    for _, whole, taken, p in _walk(key):
        if taken == axes[0] and isinstance(p, slice):
            return Along(tuple(axes), whole) if _is_all(p, n) and shape[whole] == n else None
    return None


def _concatenate(e: Equation, axes: Axes, n: int) -> Along | None:
    known = {a for a in axes if a is not None}
    if len(known) != 1 or e.params["axis"] in known:
        return None
    (a,) = known
    return Along((a,) * len(e.args), a)


_RULES: dict[str, Rule] = {
    "reduce_sum": _reduction, "reduce_max": _reduction, "reduce_min": _reduction, "contract": _contract, "reshape": _reshape,
    "transpose": _transpose, "broadcast_to": _broadcast_to, "slice": _slice, "place": _place, "concatenate": _concatenate,
}  # fmt: skip


def along(e: Equation, axes: Axes, n: int) -> Along | None:
    """How an equation lies along an axis of extent n of its arguments; None where it does not."""
    if len(e.outs) != 1 or all(a is None for a in axes):
        return None
    rule = _RULES.get(e.primitive.name)
    if rule is None and lowers(e.primitive.name, [a.type for a in e.args], e.outs[0].type):
        rule = _elementwise
    return None if rule is None else rule(e, axes, n)


# ---- the equations of a body, the tiled axis last


def _others(shape: Shape, a: int) -> Shape:
    return (*shape[:a], *shape[a + 1 :])


def _last(k: int, a: int, rank: int) -> int:
    """Where axis k lies once axis a is the last."""
    return rank - 1 if k == a else k - (k > a)


def _params(e: Equation, how: Along, tile: int) -> Params:
    """The parameters of an equation on a tile."""
    name, params = e.primitive.name, e.params
    a, rank = how.args[0], len(e.args[0].type.shape)
    if name in ("reduce_sum", "reduce_max", "reduce_min"):
        assert a is not None
        return {**params, "axes": tuple(sorted(_last(k, a, rank) for k in params["axes"]))}
    if name == "contract":
        label = next(params[s][k] for s, k in zip(("left", "right"), how.args, strict=True) if k is not None)
        return {s: (*(q for q in params[s] if q != label), *(q for q in params[s] if q == label)) for s in params}
    if name in ("reshape", "broadcast_to"):
        return {**params, "shape": (*_others(params["shape"], how.out), tile)}
    if name == "transpose":
        assert a is not None
        return {"axes": (*(_last(k, a, rank) for k in params["axes"] if k != a), rank - 1)}
    if name == "concatenate":
        return {"axis": _last(params["axis"], how.out, rank)}
    if name in ("slice", "place"):
        return _key_params(e, how, tile)
    return params


def _key_params(e: Equation, how: Along, tile: int) -> Params:
    whole = e.args[0].type.shape if e.primitive.name == "slice" else e.params["shape"]
    a = how.args[0] if e.primitive.name == "slice" else how.out
    assert a is not None
    key = moves.explicit(e.params["key"], len(whole))
    kept = tuple(p for _, at, _, p in _walk(key) if at != a or p is None)
    params = {**e.params, "key": (*kept, slice(None))}
    return {**params, "shape": (*_others(whole, a), tile)} if "shape" in params else params


def _is_number(a: Atom) -> bool:
    """Whether an atom is written into the code rather than read from memory."""
    return isinstance(a, Literal) and a.type.size == 1


@dataclass
class _Body:
    """The body under construction for tiles of one extent: variables of the program as variables on a tile."""

    tile: int
    inputs: dict[tuple[Atom, int | None], Var]
    equations: list[Equation] = field(default_factory=list)
    known: dict[Any, Atom] = field(default_factory=dict)

    def make(self, name: str, args: Sequence[Atom], params: Params, origin: Origin | None) -> Var:
        primitive = ops[name]
        (t,) = primitive.type_rule(*(a.type for a in args), **params)
        out = Var(t)
        self.equations.append(Equation(primitive, tuple(args), params, (out,), origin))
        return out

    def atom(self, a: Atom, axis: int | None) -> Atom:
        """An atom on a tile, its tiled axis the last."""
        if _is_number(a):
            return a
        found = self.known.get((a, axis))
        if found is None:
            found = self.known[a, axis] = self.inputs[a, axis]
            if axis is not None and len(a.type.shape) > 1:
                order = (*range(1, len(a.type.shape)), 0)
                found = self.known[a, axis] = self.make("transpose", [found], {"axes": order}, None)
        return found

    def take(self, e: Equation, how: Along) -> None:
        """An equation of the program, on a tile."""
        args = [self.atom(a, k) for a, k in zip(e.args, how.args, strict=True)]
        if e.primitive.name not in _RULES:
            args = [self._aligned(x, a, k, how.out, e) for x, a, k in zip(args, e.args, how.args, strict=True)]
        out = self.make(e.primitive.name, args, _params(e, how, self.tile), e.origin)
        self.known[e.outs[0], None if how.out == SUM else how.out] = out

    def _aligned(self, x: Atom, a: Atom, axis: int | None, out: int, e: Equation) -> Atom:
        """An argument of an elementwise operation that is the same for the whole tile, with an axis of one in the tile's place."""
        shape = a.type.shape
        if axis is not None or not shape:
            return x
        if isinstance(x, Literal):
            return Literal(np.reshape(x.value, ()))
        k = out - len(e.outs[0].type.shape) + len(shape)
        wanted = (*(_others(shape, k) if k >= 0 else shape), 1)
        return x if wanted == shape else self.make("reshape", [x], {"shape": wanted}, e.origin)

    def stacked(self, v: Var, axis: int) -> Atom:
        """A result on a tile as it lies at the border, the tiled axis first."""
        x = self.known[v, axis]
        rank = len(x.type.shape)
        return x if rank < 2 else self.make("transpose", [x], {"axes": (rank - 1, *range(rank - 1))}, None)


# ---- the loops of a program


class _Map:
    """Which equations of a program are computed in loops over tiles of an axis of extent n, and in which loop."""

    def __init__(self, program: Program, n: int) -> None:
        self.program, self.n = program, n
        self.axis: dict[Var, int] = {}  # of variables computed in loops
        self.stage: dict[Var, int] = dict.fromkeys(
            program.inputs, 0
        )  # in which loop; or after how many loops it is known
        self.seeds = {v: v.type.shape.index(n) for v in program.inputs if n in v.type.shape}
        self.how: dict[Equation, Along] = {}
        needed = (*program.outputs, *(a for a, _ in program.guards))
        self.whole: set[Var] = {a for a in needed if isinstance(a, Var)}  # needed outside of loops
        for e in program.equations:
            self._take(e)

    def _take(self, e: Equation) -> None:
        how = self._along(e)
        if how is None:
            self.whole.update(v for v in e.variables if v in self.axis)
            after = max((self.stage[v] + (v in self.axis) for v in e.variables), default=0)
            self.stage.update(dict.fromkeys(e.outs, after))
            return
        out = e.outs[0]
        loop = max((self.stage[v] for v in e.variables), default=0)
        self.whole.update(v for v in e.variables if v in self.axis and self.stage[v] < loop)
        self.how[e] = how
        if how.out == SUM:
            self.stage[out] = loop + 1
        else:
            self.axis[out], self.stage[out] = how.out, loop

    def _along(self, e: Equation) -> Along | None:
        """How it lies along the axis: of all arguments that have it; or of the computed ones, inputs being at hand whole."""
        for seeds in (self.seeds, {}):
            axes = [self.axis.get(a, seeds.get(a)) if isinstance(a, Var) else None for a in e.args]
            how = along(e, axes, self.n)
            if how is not None and all(self._is_at_hand(a, k) for a, k in zip(e.args, how.args, strict=True)):
                return how
        return None

    def _is_at_hand(self, a: Atom, axis: int | None) -> bool:
        """Whether an argument can be had in tiles along that axis, or whole."""
        return not (isinstance(a, Var) and a in self.axis) or self.axis[a] == axis

    def saved(self, variables: Iterable[Var]) -> int:
        """Bytes of those of some variables that would stay within their tile."""
        return sum(v.type.nbytes for v in variables if v in self.axis and v not in self.whole)

    def is_worth_it(self, kept: Iterable[Var]) -> bool:
        """Whether tiles are, given what the program would keep in memory without them."""
        saved, count = self.saved(kept), self.n // self.tile()
        if saved < WORTH or count < FEWEST or AGAIN * saved < count * self.again:
            return False
        return saved >= MOVED * self.moved or any(is_product(e) for e in self.how)

    @property
    def moved(self) -> int:
        """Bytes that are transposed where tiles begin and end."""
        whole = sum(v.type.nbytes for v in self.axis if v in self.whole)
        return whole + sum(a.type.nbytes for a, k in self._given() if k is not None)

    @property
    def again(self) -> int:
        """Bytes that every tile reads or writes again: arguments taken whole, and sums."""
        sums = sum(e.outs[0].type.nbytes for e, how in self.how.items() if how.out == SUM)
        return sums + sum(a.type.nbytes for a, k in self._given() if k is None)

    def _given(self) -> set[tuple[Atom, int | None]]:
        """What loops take from outside, and along which axis."""
        pairs = ((a, k) for e, how in self.how.items() for a, k in zip(e.args, how.args, strict=True))
        return {(a, k) for a, k in pairs if a not in self.axis}

    def loops(self) -> list[list[Equation]]:
        """The equations of each loop."""
        found: list[list[Equation]] = []
        for e, how in self.how.items():
            loop = self.stage[e.outs[0]] - (how.out == SUM)
            found += [[] for _ in range(loop + 1 - len(found))]
            found[loop].append(e)
        return found

    def tile(self) -> int:
        """The extent of a tile: one that divides the axis, if there is such a one of a size that suits the cache."""
        row = max((v.type.nbytes for v in self.axis), default=0) // self.n
        wanted = min(max(TILE // max(row, 1), LEAST), MOST, max(self.n // FEWEST, LEAST)) // STEP * STEP
        for t in range(wanted + wanted // 4 // STEP * STEP, wanted // 2 - 1, -STEP):
            if t >= LEAST and self.n % t == 0:
                return t
        return wanted

    def tiled(self) -> Program:
        """The program with its loops over tiles as equations."""
        outside: dict[int, list[Equation]] = {}
        for e in self.program.equations:
            if e not in self.how:
                outside.setdefault(max((self.stage[o] for o in e.outs), default=0), []).append(e)
        loops = self.loops()
        equations: list[Equation] = []
        for s in range(max([len(loops), *(k + 1 for k in outside)])):
            equations += outside.get(s, ())
            if s < len(loops) and loops[s]:
                equations += self._loop(loops[s])
        return replace(self.program, equations=tuple(equations))

    def _loop(self, equations: Sequence[Equation]) -> list[Equation]:
        """A loop over tiles as one equation, with what moves the tiled axis first in its arguments, and back in its results."""
        made = {e.outs[0] for e in equations}
        given = list(
            dict.fromkeys(
                (a, k)
                for e in equations
                for a, k in zip(e.args, self.how[e].args, strict=True)
                if not (a in made or _is_number(a))
            )
        )
        before: list[Equation] = []
        args = [a if k is None or k == 0 else _moved(a, k, before) for a, k in given]
        sums = [e.outs[0] for e in equations if self.how[e].out == SUM]
        whole = [e.outs[0] for e in equations if e.outs[0] in self.whole and e.outs[0] in self.axis]
        tile = self.tile()
        body = self._body(equations, given, whole, sums, tile)
        left = self.n % tile
        rest = self._body(equations, given, whole, sums, left) if left else None
        sliced, stacked = [k is not None for _, k in given], [True] * len(whole) + [False] * len(sums)
        after: list[Equation] = []
        outs = [v if self.axis[v] == 0 else _moved_back(v, self.axis[v], after) for v in whole]
        loop = Tiles(body, rest, self.n, tile, sliced, stacked)
        return [*before, Equation(loop, tuple(args), {}, (*outs, *sums)), *after]

    def _body(
        self,
        equations: Sequence[Equation],
        given: Sequence[tuple[Atom, int | None]],
        whole: Sequence[Var],
        sums: Sequence[Var],
        tile: int,
    ) -> Program:
        inputs = {
            (a, k): Var(a.type if k is None else ArrayType((tile, *_others(a.type.shape, k)), a.type.dtype))
            for a, k in given
        }
        body = _Body(tile, inputs)
        for e in equations:
            body.take(e, self.how[e])
        outputs = (*(body.stacked(v, self.axis[v]) for v in whole), *(body.known[v, None] for v in sums))
        return Program("tile", tuple(inputs.values()), tuple(body.equations), outputs)


def _moved(a: Atom, axis: int, equations: list[Equation]) -> Atom:
    """An argument with the tiled axis first."""
    order = (axis, *(k for k in range(len(a.type.shape)) if k != axis))
    if isinstance(a, Literal):
        return Literal(np.ascontiguousarray(np.transpose(a.value, order)))
    out = Var(ArrayType(tuple(a.type.shape[k] for k in order), a.type.dtype))
    equations.append(Equation(ops.transpose, (a,), {"axes": order}, (out,)))
    return out


def _moved_back(v: Var, axis: int, equations: list[Equation]) -> Var:
    """A variable of the tiled axis first, from which an equation makes v."""
    shape = v.type.shape
    first = Var(ArrayType((shape[axis], *_others(shape, axis)), v.type.dtype))
    order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape)))
    equations.append(Equation(ops.transpose, (first,), {"axes": order}, (v,)))
    return first


def tiled(program: Program) -> Program | None:
    """The program with loops over tiles of the axis along which most would be kept in memory; None where no axis is worth it."""
    extents = {n for v in program.inputs for n in v.type.shape if n >= SHORTEST}
    maps = [m for n in sorted(extents) if (m := _Map(program, n)).saved(m.axis) >= WORTH]
    if not maps:
        return None
    kept = Partition(program, Layout.of(program), (), set()).plan().kept
    best = max(maps, key=lambda m: m.saved(kept))
    return best.tiled() if best.is_worth_it(kept) else None
