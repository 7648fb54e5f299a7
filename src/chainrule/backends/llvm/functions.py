"""The functions of a module: what kernels, products of matrices and loops over tiles become, each called on buffers.

Steps that are equal up to their buffers are one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple, TypeVar

import numpy as np

from chainrule.backends.llvm import lapack, products
from chainrule.backends.llvm.body import Body, Fill
from chainrule.backends.llvm.divide import Division, combination, divided_tiles, division
from chainrule.backends.llvm.emit import kernel_function, piece_function
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.kernels import Lowering
from chainrule.backends.llvm.lapack import Factors, factors_function
from chainrule.backends.llvm.memory import Block, plan_memory
from chainrule.backends.llvm.partition import Kernel, Layout, Partition, Plan, is_product
from chainrule.backends.llvm.products import MatrixProduct, matrix_product, product_function
from chainrule.backends.llvm.schedule import Buffer, Step
from chainrule.backends.llvm.target import Target
from chainrule.backends.llvm.tile_code import TileBody, sums, tiles_function
from chainrule.backends.llvm.tiles import Tiles
from chainrule.ir.program import Equation, Literal, Program, Var

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
        calls = map(products.text, self.products)
        return [*kernels, *calls, *(f"LAPACK: {lapack.text(f)}" for f in self.factors), *self.loops]

    @property
    def flops(self) -> int:
        """Multiplications and additions of all products and calls of LAPACK."""
        return sum(map(products.flops, self.products)) + sum(map(lapack.flops, self.factors))

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

    def steps(self, e: Equation) -> Sequence[Step | Equation]:
        """The calls that compute what is no kernel; the equation itself where it is left to NumPy."""
        return self._tiles(e, e.primitive) if isinstance(e.primitive, Tiles) else [self._step(e) or e]

    def _step(self, e: Equation, adds: Set[Var] = frozenset()) -> Step | None:
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
            function = self._known[key] = product_function(self.module, name, p, self.target, adds=key[1])
        self.products.append(p)
        return Step(function, (*e.args, *e.outs, Block(products.workspace(p, self.target))))

    def _factors(self, e: Equation, f: Factors) -> Step:
        """The call that factors matrices, or divides by them."""
        function = self._known.get(f)
        if function is None:
            name = f"factors{len(self._known)}"
            function = self._known[f] = factors_function(self.module, name, f, fused=self.target.fused)
        self.factors.append(f)
        return Step(function, (*e.args, *e.outs, Block(f.nbytes)))

    # ---- loops over tiles

    def _tiles(self, e: Equation, loop: Tiles) -> list[Step]:
        """The calls of a loop; of one in pieces, and of what combines their rows."""
        bodies = [self._body(body, loop) for body, *_ in loop.turns]
        nbytes = max(b.nbytes for b in bodies)
        work = loop.flops([a.type for a in e.args], [o.type for o in e.outs], e.params)
        cut = divided_tiles(work, loop.turns[0][2], sums(e, loop))
        name = f"tiles{len(self.loops)}"
        function = tiles_function(self.module, name, e, bodies, cut)
        self.loops.append(_told(loop, cut))
        buffers: list[Buffer] = [*e.args, *e.outs]
        if cut is None:
            return [Step(function, [*buffers, Block(nbytes)])]
        combinations = [combination(row, cut.pieces, len(buffers) + k) for k, row in enumerate(cut.rows)]
        buffers += map(cut.buffer, cut.rows)
        shared = Step(function, buffers, cut.pieces, nbytes)
        if not combinations:
            return [shared]
        after = kernel_function(self.module, name + "_after", combinations, cut.rows, len(buffers), self.target)
        return [shared, Step(after, buffers)]

    def _body(self, body: Program, loop: Tiles) -> TileBody:
        """The calls of a body; its transposed arguments are kept, since they are read many times."""
        program = products.arranged(body, is_product)
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
        return TileBody(calls, parts, *plan_memory([*(c.buffers for c in calls), parts], elsewhere))

    def _within(self, step: Kernel | Equation, plan: Plan, adds: Set[Var]) -> Step:
        """The call of a step of a body."""
        if isinstance(step, Kernel):
            lowering = Lowering(step, plan, self.uniform)
            made = self.kernel(lowering, adds, in_pieces=False)
            return Step(made.whole, (*lowering.reads, *lowering.writes))
        call = self._step(step, adds)
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


def _told(loop: Tiles, cut: Division | None) -> str:
    """A loop in words."""
    pieces = "" if cut is None else f", in {cut.pieces} pieces"
    return f"tiles of {loop.tile} along an axis of {loop.extent}{pieces}"
