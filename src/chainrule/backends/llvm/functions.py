"""The functions of a module: what kernels, products of matrices and loops over tiles become, each called on buffers.

Steps that are equal up to their buffers are one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from chainrule.backends.llvm import assembly, blas, lapack
from chainrule.backends.llvm.assembly import I8, I64, PTR
from chainrule.backends.llvm.blas import MatrixProduct, matrix_product, product_function
from chainrule.backends.llvm.body import Body, Fill
from chainrule.backends.llvm.divide import Division, combination, division
from chainrule.backends.llvm.emit import TYPES, Loop, kernel_function, piece_function
from chainrule.backends.llvm.graph import KINDS
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.kernels import Lowering
from chainrule.backends.llvm.lapack import Factors, factors_function
from chainrule.backends.llvm.memory import Block, plan_memory
from chainrule.backends.llvm.partition import Kernel, Layout, Partition, Plan, is_for_blas
from chainrule.backends.llvm.schedule import Buffer, Step
from chainrule.backends.llvm.target import Target
from chainrule.backends.llvm.tiles import Tiles
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType

_ATTEMPTS = 40
T = TypeVar("T")


class Made(NamedTuple):
    """The functions of a kernel: the whole; or of one in pieces what goes before, one piece, and what follows."""

    before: Any
    whole: Any
    after: Any
    division: Division | None


class Constants:
    """The literals of a program: those whose elements are all alike, and arrays that need a buffer."""

    def __init__(self) -> None:
        self._known: dict[Literal, Any] = {}

    def __call__(self, a: Literal) -> Any:
        """The one number that all elements are; None where they differ."""
        if a not in self._known:
            x = np.asarray(a.value)
            first = x.flat[0] if x.size else None
            alike = x.size == 1 or (x.size > 0 and bool((x == first).all()))
            self._known[a] = first if alike else None
        return self._known[a]


class _Body(NamedTuple):
    """The calls that compute one tile; sums over it to be added by a loop; where all that lies, and the bytes of it."""

    calls: list[Step]
    parts: list[Var]
    places: dict[Any, int]
    nbytes: int


class Functions:
    """The functions of a module under construction, and the calls of them."""

    def __init__(self, module: Any, target: Target) -> None:
        self.module, self.target = module, target
        self.uniform = Constants()
        self.kernels: list[tuple[Lowering, Made]] = []
        self.products: list[MatrixProduct] = []
        self.factors: list[Factors] = []
        self.loops: list[str] = []
        self._known: dict[Any, Any] = {}

    @property
    def different(self) -> int:
        """How many functions there are: kernels that differ by more than their buffers, and products and loops likewise."""
        return len(self._known) + len(self.loops)

    def describe(self) -> list[str]:
        """What is called, in lines."""
        kernels = [lowering.describe(made.division) for lowering, made in self.kernels]
        products = [f"BLAS: {blas.text(p)}" for p in self.products]
        return [*kernels, *products, *(f"LAPACK: {lapack.text(f)}" for f in self.factors), *self.loops]

    @property
    def flops(self) -> int:
        """Multiplications and additions of all calls of BLAS and LAPACK."""
        return sum(map(blas.flops, self.products)) + sum(map(lapack.flops, self.factors))

    def kernel(self, lowering: Lowering, adds: Set[Var] = frozenset(), *, in_pieces: bool = True) -> Made:
        """The functions of a kernel, in pieces where that is worth it; it adds to the variables of `adds`."""
        adding = tuple(v in adds for v in lowering.writes)
        key = (lowering.key, adding, in_pieces)
        made: Made | None = self._known.get(key)
        if made is None:
            bodies, fills = lowering.bodies()
            fills = [f for f in fills if not adding[f.slot - len(lowering.reads)]]
            cut = division(bodies, fills) if in_pieces else None
            made = self._known[key] = self._made(lowering, bodies, fills, cut)
        self.kernels.append((lowering, made))
        return made

    def _made(self, lowering: Lowering, bodies: Sequence[Body], fills: Sequence[Fill], cut: Division | None) -> Made:
        slots = len(lowering.reads) + len(lowering.writes)
        name = f"kernel{len(self._known)}"
        if cut is None:
            return Made(None, kernel_function(self.module, name, bodies, fills, slots, self.target), None, None)
        combinations = [combination(row, cut.pieces, slots + k) for k, row in enumerate(cut.rows)]
        slots += len(cut.rows)

        def serial(suffix: str, bodies: Sequence[Body], fills: Sequence[Fill]) -> Any:
            return kernel_function(self.module, name + suffix, bodies, fills, slots, self.target) if fills else None

        before = serial("_before", [], [f for f in fills if f not in cut.rows])
        piece = piece_function(self.module, name + "_piece", bodies, cut, slots, self.target)
        return Made(before, piece, serial("_after", combinations, cut.rows), cut)

    def step(self, e: Equation, adds: Set[Var] = frozenset()) -> Step | None:
        """The call that computes what is no kernel; None where it is left to NumPy."""
        if isinstance(e.primitive, Tiles):
            return self._tiles(e, e.primitive)
        f = lapack.factors(e)
        if f is not None:
            return self._factors(e, f)
        p = matrix_product(e)
        if p is None:
            return None
        key = (p, e.outs[0] in adds)
        function = self._known.get(key)
        if function is None:
            name = f"product{len(self._known)}"
            function = self._known[key] = product_function(self.module, name, p, adds=key[1])
        self.products.append(p)
        return Step(function, (*e.args, *e.outs))

    def _factors(self, e: Equation, f: Factors) -> Step:
        """The call that factors matrices, or divides by them."""
        function = self._known.get(f)
        if function is None:
            name = f"factors{len(self._known)}"
            function = self._known[f] = factors_function(self.module, name, f, fused=self.target.fused)
        self.factors.append(f)
        return Step(function, (*e.args, *e.outs, Block(f.nbytes)))

    # ---- loops over tiles

    def _tiles(self, e: Equation, loop: Tiles) -> Step:
        bodies = [self._body(body, loop) for body, *_ in loop.turns]
        scratch = Block(max(b.nbytes for b in bodies))
        buffers: tuple[Buffer, ...] = (*e.args, *e.outs, scratch)
        kind = assembly.FunctionType(assembly.VOID, [PTR] * (len(buffers) + 1))
        function = assembly.Function(self.module, kind, f"tiles{len(self.loops)}", internal=True)
        builder = assembly.Builder(function.append_basic_block("entry"))
        pointer: dict[Buffer, Any] = dict(zip(buffers, function.args, strict=False))
        for out, is_stacked in zip(e.outs, loop.stacked, strict=True):
            if not is_stacked:
                _clear(builder, pointer[out], out.type)
        for (body, start, count, tile), made in zip(loop.turns, bodies, strict=True):
            with Loop(builder, 0, count, 1) as turn:
                at = builder.add(I64(start), builder.mul(turn, I64(tile)))
                own = _at_tile(builder, at, e, loop, body, pointer)
                own.update(
                    (v, builder.gep(pointer[scratch], [I64(n)], source_etype=I8)) for v, n in made.places.items()
                )
                for step in made.calls:
                    builder.call(step.function, [*(own[a] for a in step.buffers), function.args[-1]])
                for out, v in zip(e.outs, body.outputs, strict=True):
                    if v in made.parts:
                        _add(builder, own[v], pointer[out], out.type)
        builder.ret_void()
        self.loops.append(f"tiles of {loop.tile} along an axis of {loop.extent}")
        return Step(function, buffers)

    def _body(self, body: Program, loop: Tiles) -> _Body:
        """The calls of a body; its transposed arguments are kept, since they are read many times."""
        program = blas.arranged(body, is_for_blas)
        sums = [a for a, s in zip(program.outputs, loop.stacked, strict=True) if isinstance(a, Var) and not s]
        forced = {e for e in program.equations if e.primitive.name == "transpose" and e.args[0] in program.inputs}
        done = len(self.kernels), len(self.products), len(self.factors)

        def make(plan: Plan) -> tuple[list[Step], list[Var]]:
            del self.kernels[done[0] :], self.products[done[1] :], self.factors[done[2] :]  # of an attempt before
            parts = [v for v in sums if not _can_add(plan, v)]
            adds = set(sums).difference(parts)
            return [self._within(step, plan, adds) for step in plan.steps], parts

        calls, parts = _settled(program, make, forced)
        elsewhere = {*program.inputs, *(a for a in program.outputs if isinstance(a, Var))}.difference(parts)
        return _Body(calls, parts, *plan_memory([*(c.buffers for c in calls), parts], elsewhere))

    def _within(self, step: Kernel | Equation, plan: Plan, adds: Set[Var]) -> Step:
        """The call of a step of a body."""
        if isinstance(step, Kernel):
            lowering = Lowering(step, plan, self.uniform)
            made = self.kernel(lowering, adds, in_pieces=False)
            return Step(made.whole, (*lowering.reads, *lowering.writes))
        call = self.step(step, adds)
        if call is None:
            raise Unlowerable("an operation of NumPy within a loop over tiles")
        return call


def _settled(program: Program, make: Callable[[Plan], T], forced: Set[Equation]) -> T:
    """What is made of a plan of a body, in which equations are kept in memory until kernels can express all."""
    layout = Layout.of(program)
    kept = set(forced)
    for _ in range(_ATTEMPTS):
        try:
            return make(Partition(program, layout, (), kept).plan())
        except Unlowerable as refusal:
            if refusal.equation is None or not refusal.too_long or refusal.equation in kept:
                refusal.equation = None  # the whole loop is done without
                raise
            kept.add(refusal.equation)
    raise Unlowerable("a body that does not come apart")


def _can_add(plan: Plan, v: Var) -> bool:
    """Whether the step that computes a variable can add to it; else it is computed by itself, and then added."""
    e = plan.definitions[v]
    return matrix_product(e) is not None if e in plan.steps else plan.layout.is_fence(e)


def _clear(builder: Any, pointer: Any, t: ArrayType) -> None:
    kind = TYPES[KINDS[t.dtype]]
    with Loop(builder, 0, t.size, 1) as i:
        builder.store(assembly.Constant(kind, 0.0), builder.gep(pointer, [i], source_etype=kind))


def _add(builder: Any, part: Any, whole: Any, t: ArrayType) -> None:
    kind = TYPES[KINDS[t.dtype]]
    with Loop(builder, 0, t.size, 1) as i:
        source, target = (builder.gep(p, [i], source_etype=kind) for p in (part, whole))
        builder.store(builder.fadd(builder.load(target, typ=kind), builder.load(source, typ=kind)), target)


def _at_tile(
    builder: Any, at: Any, e: Equation, loop: Tiles, body: Program, pointer: dict[Buffer, Any]
) -> dict[Buffer, Any]:
    """Where the inputs and outputs of a body lie for the tile that begins at a place of the axis."""

    def moved(a: Atom, is_tiled: bool) -> Any:
        if not is_tiled:
            return pointer[a]
        row = prod(a.type.shape[1:]) * a.type.dtype.itemsize
        return builder.gep(pointer[a], [builder.mul(at, I64(row))], source_etype=I8)

    own: dict[Buffer, Any] = {v: moved(a, s) for v, a, s in zip(body.inputs, e.args, loop.sliced, strict=True)}
    own.update((v, moved(a, s)) for v, a, s in zip(body.outputs, e.outs, loop.stacked, strict=True))
    return own
