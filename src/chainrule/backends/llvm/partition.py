"""Which equations become kernels, which results are kept in memory, and in which order kernels and NumPy's operations run.

Every variable has a level: it can be computed in a kernel of that level from what lower levels have stored. A result is *kept*
(stored) where something outside needs it, where it is a reduction over loop axes, or where computing it again would cost more than
reading it; everything else is computed inside the kernels that need it. Roots of one level and one iteration space share a kernel.

A running operation along a loop axis is a loop in order: each turn reads what the turn before has stored.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from chainrule.backends.llvm import moves
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.operations import cost, kind_of, lowers
from chainrule.backends.llvm.products import matrix_product
from chainrule.ir.program import Atom, Equation, Program, Var
from chainrule.ir.types import Shape

UNROLLED_PROGRAM = 1500
"""Programs of at most so many elements altogether are written out as scalars, without loops."""
SCALAR = 16
"""Arrays of at most so many elements are written out as scalars in any program."""
WHOLE = 256
"""The largest array that is written out in such a small program."""
UNROLLED_AXIS, UNROLLED = 16, 64
"""The longest axis that is written out beside a loop axis, and the most elements written out."""
RECOMPUTED = 12
"""Operations an element that may be computed again rather than kept in memory."""
LONG = 1200
"""Scalar operations after which a result is kept, so that kernels stay short and LLVM quick."""
JOINED = 2000
"""Scalar operations after which a kernel takes no further roots."""
SUMMED = 16
"""Terms of a contraction that are written out within an expression."""
LOOPED = 20_000
"""Multiplications of a contraction up to which it is part of a kernel's loop."""

MOVES = frozenset({"slice", "place", "reshape", "transpose", "broadcast_to", "concatenate", "gather"})
REDUCTIONS = {
    "reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "max", "reduce_min": "min", "all_of": "and", "any_of": "or",
    "count_true": "add",
}  # fmt: skip
SEARCHES = frozenset({"argmax", "argmin"})
RUNNING = frozenset({"cumsum", "cumprod", "recur"})


@dataclass(eq=False)
class Kernel:
    """Roots that share an iteration space: equations whose results are stored; the loop extents that hold them all."""

    level: int
    extents: Shape
    roots: list[Equation] = field(default_factory=list)
    computed: int = 0  # a bit set of the equations computed in it


@dataclass
class Plan:
    """What runs, in order: kernels, and equations for NumPy; and the variables that live in memory."""

    steps: list[Kernel | Equation]
    kept: dict[Var, int]
    definitions: dict[Var, Equation]
    layout: Layout


class Layout:
    """Which axes of an array of some shape are loops; the others are written out."""

    def __init__(self, equations: Sequence[Equation], size: int) -> None:
        """Of a program with such equations (one of each kind will do) and so many elements in all results."""
        self.is_unrolled = size <= UNROLLED_PROGRAM
        self.mixed = _mixed_extents(equations)
        self._known: dict[Shape, tuple[int, ...]] = {}

    @classmethod
    def of(cls, program: Program) -> Layout:
        """The layout of a program."""
        return cls(program.equations, sum(o.type.size for e in program.equations for o in e.outs))

    def loops(self, shape: Shape) -> tuple[int, ...]:
        """The axes that are loops."""
        found = self._known.get(shape)
        if found is None:
            found = self._known[shape] = self._decide(shape)
        return found

    def extents(self, shape: Shape) -> Shape:
        """The extents of the loop axes."""
        return tuple(shape[a] for a in self.loops(shape))

    def is_fence(self, e: Equation) -> bool:
        """Whether an equation reduces over loop axes (or scatters), so that its result is known only after its loop."""
        name = e.primitive.name
        if name in REDUCTIONS:
            loops = self.loops(e.args[0].type.shape)
            return any(a in loops for a in e.params["axes"])
        if name in RUNNING:
            return e.params["axis"] in self.loops(e.outs[0].type.shape)
        return name in ("scatter_add", "assemble") or (name == "contract" and summed(e) > SUMMED)

    def order(self, e: Equation) -> int | None:
        """Which of the loops over an equation's domain must run in order, because each turn uses the result of the one before."""
        if e.primitive.name not in RUNNING or not self.is_fence(e):
            return None
        return self.loops(e.outs[0].type.shape).index(e.params["axis"])

    def domain(self, e: Equation) -> Shape:
        """The shape that an equation, as a root, iterates over: its result's, or what it reduces."""
        if not self.is_fence(e) or e.primitive.name in RUNNING:
            return e.outs[0].type.shape
        if e.primitive.name == "contract":
            extents = extents_of(e)
            return tuple(extents[a] for a in contraction_labels(e))
        return e.args[0].type.shape

    def _decide(self, shape: Shape) -> tuple[int, ...]:
        size = prod(shape)
        if size <= SCALAR or (self.is_unrolled and size <= WHOLE):
            return ()
        loops = [k for k, n in enumerate(shape) if n > 1]
        written = 1
        for k in reversed(list(loops)):
            n = shape[k]
            rest = size // (written * n)
            if n <= UNROLLED_AXIS and n in self.mixed and written * n <= UNROLLED and rest >= 2 * SCALAR:
                loops.remove(k)
                written *= n
        return tuple(loops)


def written(layout: Layout, e: Equation) -> int:
    """About how many scalar operations an equation is, written out in a kernel."""

    def elements(a: Atom) -> int:
        return a.type.size // max(1, prod(layout.extents(a.type.shape)))

    if e.primitive.name == "contract":
        return elements(e.outs[0]) * 2 * min(summed(e), SUMMED)
    return max((elements(a) for a in (*e.outs, *(e.args if e.primitive.name in REDUCTIONS else ()))), default=1)


def _mixed_extents(equations: Sequence[Equation]) -> set[int]:
    """Extents of axes along which elements meet each other: sliced, reduced, joined or contracted ones."""
    found: set[int] = set()
    for e in equations:
        shape = e.args[0].type.shape if e.args else ()
        if e.primitive.name in REDUCTIONS:
            found.update(shape[a] for a in e.params["axes"])
        elif e.primitive.name in RUNNING or e.primitive.name in SEARCHES:
            found.add(shape[e.params["axis"]])
        elif e.primitive.name in ("slice", "place"):
            whole = shape if e.primitive.name == "slice" else e.outs[0].type.shape
            try:
                key = moves.parse(e.params["key"], whole)
            except Unlowerable:
                continue
            found.update(
                n
                for a, n in zip(key.axes, whole, strict=True)
                if not (isinstance(a, moves.Ranged) and len(a.range) == n)
            )
        elif e.primitive.name == "concatenate":
            found.add(e.outs[0].type.shape[e.params["axis"]])
        elif e.primitive.name == "contract":
            found.update(n for a in e.args for n in a.type.shape)
    return found


class Partition:
    """The decisions under way, one equation after the other."""

    def __init__(self, program: Program, layout: Layout, refused: Container[Equation], forced: set[Equation]) -> None:
        self.program = program
        self.refused = refused
        self.forced = forced
        self.layout = layout
        self.level: dict[Var, int] = dict.fromkeys(program.inputs, -1)
        self.kept: dict[Var, int] = dict.fromkeys(program.inputs, -1)
        self.definitions: dict[Var, Equation] = {}
        self.native: set[Equation] = set()
        self.ancestry: dict[Var, int] = {}  # bit sets of the equations computed to get a variable
        self.costly = 0
        self.written = [written(layout, e) for e in program.equations]
        self.uses = self._uses()
        self.opaque: list[tuple[int, Equation]] = []

    def _uses(self) -> dict[Var, list[Equation]]:
        found: dict[Var, list[Equation]] = {}
        for e in self.program.equations:
            for v in e.variables:
                found.setdefault(v, []).append(e)
        return found

    def plan(self) -> Plan:
        """Decide on all equations, and group the roots into kernels."""
        for number, e in enumerate(self.program.equations):
            if e not in self.refused and self._is_native(e):
                self._take(number, e)
            else:
                self._leave(e)
        for a in self.program.outputs:
            if isinstance(a, Var):
                self._keep(a)
        return Plan(self._steps(), self.kept, self.definitions, self.layout)

    # ---- what kernels can compute

    def _is_native(self, e: Equation) -> bool:
        if len(e.outs) != 1 or any(kind_of(a.type) is None or a.type.size == 0 for a in (*e.args, *e.outs)):
            return False
        name, out = e.primitive.name, e.outs[0]
        if name in MOVES:
            return name != "gather" or all(a.type.dtype.kind == "i" for a in e.args[1:])
        if name in REDUCTIONS or name in RUNNING or name in SEARCHES:
            return self._is_native_along(e)
        if name == "contract":
            return out.type.dtype.kind == "f" and not is_product(e)
        if name == "assemble":
            return out.type.dtype.kind == "f" and all(a.type.dtype == out.type.dtype for a in e.args)
        if name == "scatter_add":
            return out.type.dtype.kind == "f" and all(a.type.dtype.kind == "i" for a in e.args[1:])
        return lowers(name, [a.type for a in e.args], out.type)

    def _is_native_along(self, e: Equation) -> bool:
        """Whether kernels reduce along axes as an equation does."""
        name, given, made = e.primitive.name, e.args[0].type, e.outs[0].type.dtype.kind
        if name in SEARCHES:  # along axes that are written out
            return given.dtype.kind in "fi" and e.params["axis"] not in self.layout.loops(given.shape)
        return made in ("fi" if name in RUNNING or REDUCTIONS[name] in ("max", "min") else "fib")

    # ---- decisions

    def _leave(self, e: Equation) -> None:
        """Give an equation to NumPy."""
        for v in e.variables:
            self._keep(v)
        level = 1 + max((self.level[v] for v in e.variables), default=-1)
        self.opaque.append((level, e))
        for out in e.outs:
            self.definitions[out] = e
            self.level[out] = self.kept[out] = level

    def _take(self, number: int, e: Equation) -> None:
        self.native.add(e)
        out = e.outs[0]
        self.definitions[out] = e
        self._keep_arguments(e)
        level = max((self._available(v) for v in e.variables), default=0)
        for v in e.variables:  # kept rather than computed again in a later kernel
            if v not in self.kept and self.level[v] < level and self._cost(v) > 2:
                self._keep(v)
        self.level[out] = level
        own = 1 << number
        if cost(e.primitive.name) > 2 or e.primitive.name == "contract":
            self.costly |= own
        if e.primitive.name in MOVES:
            own = 0
        for v in e.variables:
            if v not in self.kept:
                own |= self.ancestry[v]
        self.ancestry[out] = own
        if e in self.forced or self.layout.is_fence(e) or self._is_worth_keeping(out):
            self._keep(out)

    def _available(self, v: Var) -> int:
        """The first level whose kernels can use a variable."""
        return self.level[v] + 1 if v in self.kept else self.level[v]

    def _keep(self, v: Var) -> None:
        if v not in self.kept:
            self.kept[v] = self.level[v]

    def _cost(self, v: Var) -> int:
        """Operations an element to compute a variable from what is kept."""
        done = self.ancestry.get(v, 0)
        return done.bit_count() + 15 * (done & self.costly).bit_count()

    def _keep_arguments(self, e: Equation) -> None:
        """Keep arguments that would be computed many times over, or at indices that are not linear."""
        out = e.outs[0].type.shape
        for k, v in enumerate(e.args):
            if not isinstance(v, Var) or v in self.kept:
                continue
            needs = self._must_keep(e, k, v)
            if not needs and self._cost(v) > 2:
                needs = self._is_elsewhere(e, v, out)
            if needs:
                self._keep(v)

    def _must_keep(self, e: Equation, k: int, v: Var) -> bool:
        name = e.primitive.name
        if name in RUNNING and self.layout.is_fence(e) and self._cost(v) > 2:
            # A loop in order along the last axis has no lanes; another kernel computes its arguments with them.
            return bool(self.layout.loops(e.outs[0].type.shape)[-1] == e.params["axis"])
        if name == "gather":
            return k == 0
        if name == "reshape":
            return self._mixes_loops(v.type.shape, e.outs[0].type.shape)
        return False

    def _mixes_loops(self, a: Shape, b: Shape) -> bool:
        mine, theirs = self.layout.loops(a), self.layout.loops(b)
        return any(
            (len(p) > 1 or len(q) > 1) and (any(i in mine for i in p) or any(j in theirs for j in q))
            for p, q in moves.groups(a, b)
        )

    def _is_elsewhere(self, e: Equation, v: Var, out: Shape) -> bool:
        """Whether an equation reads a variable in another iteration space than the one it is computed in."""
        theirs = self.layout.extents(v.type.shape)
        if e.primitive.name in REDUCTIONS or e.primitive.name in ("scatter_add", "assemble"):
            return False
        if e.primitive.name == "contract":
            return summed(e) > 1 and not self._is_along(e, v)
        mine = self.layout.extents(out)
        return not alike(mine, theirs)

    def _is_along(self, e: Equation, v: Var) -> bool:
        """Whether a contraction's loops are those of an argument, so that each turn takes the elements that it has computed."""
        if not self.layout.is_fence(e):
            return False
        labels, domain = contraction_labels(e), self.layout.domain(e)
        mine = [labels[k] for k in self.layout.loops(domain)]
        given = [e.params[side] for side, a in zip(("left", "right"), e.args, strict=True) if a is v]
        return all([names[k] for k in self.layout.loops(v.type.shape)] == mine for names in given)

    def _is_worth_keeping(self, v: Var) -> bool:
        return self._cost(v) * (self._readings(v) - 1) > RECOMPUTED or self._length(v) > LONG

    def _length(self, v: Var) -> int:
        """About how many scalar operations a kernel spends on a variable."""
        return self._written(self.ancestry[v])

    def _written(self, done: int) -> int:
        """About how many scalar operations a set of equations is, 0 if it is certainly few."""
        if done.bit_count() * UNROLLED <= LONG:
            return 0
        return sum(self.written[k] for k in _bits(done))

    def _readings(self, v: Var) -> int:
        """At how many different offsets along loop axes its users read a variable."""
        loops = self.layout.loops(v.type.shape)
        return len({self._offset(e, v, loops) for e in self.uses.get(v, ())}) if loops else 1

    def _offset(self, e: Equation, v: Var, loops: Sequence[int]) -> Any:
        name = e.primitive.name
        if name == "slice":
            key = moves.parse(e.params["key"], v.type.shape)
            taken = [key.axes[a] for a in loops]
            return tuple((a.range.start, a.range.step) if isinstance(a, moves.Ranged) else a for a in taken)
        if name == "place":
            key = moves.parse(e.params["key"], e.outs[0].type.shape)
            return tuple(
                (-a.range.start, a.range.step) for a in key.axes if isinstance(a, moves.Ranged) and a.out in loops
            )
        if name == "concatenate" and e.params["axis"] in loops:
            return id(e)
        if name == "transpose" and [a for a in e.params["axes"] if a in loops] != list(loops):
            return e.params["axes"]
        return tuple((0, 1) for _ in loops)

    # ---- order

    def _steps(self) -> list[Kernel | Equation]:
        """Kernels and NumPy's equations by level; within a level nothing depends on anything else, but NumPy's on each other."""
        by_level: dict[int, list[Kernel | Equation]] = {}
        for level, e in self.opaque:
            by_level.setdefault(level, []).append(e)
        for v, level in self.kept.items():
            made = self.definitions.get(v)
            if made is not None and made in self.native:
                self._join(by_level.setdefault(level, []), level, made)
        return [step for level in sorted(by_level) for step in by_level[level]]

    def _join(self, steps: list[Kernel | Equation], level: int, e: Equation) -> None:
        extents = self.layout.extents(self.layout.domain(e))
        computed = self.ancestry[e.outs[0]]
        for step in steps:
            if (
                isinstance(step, Kernel)
                and alike(step.extents, extents)
                and self._written(step.computed | computed) <= JOINED
                and (e.primitive.name == "scatter_add") == (step.roots[0].primitive.name == "scatter_add")
                and self.layout.order(e) == self.layout.order(step.roots[0])
            ):
                step.roots.append(e)
                step.extents = tuple(map(max, step.extents, extents))
                step.computed |= computed
                return
        steps.append(Kernel(level, extents, [e], computed))


def extents_of(e: Equation) -> dict[Any, int]:
    """The extent of each label of a contraction."""
    labels = (*e.params["left"], *e.params["right"])
    return dict(zip(labels, (*e.args[0].type.shape, *e.args[1].type.shape), strict=True))


def contraction_labels(e: Equation) -> tuple[Any, ...]:
    """The labels of a contraction: those of the result, then the summed ones."""
    return (*e.params["to"], *(a for a in extents_of(e) if a not in e.params["to"]))


def summed(e: Equation) -> int:
    """How many terms a contraction adds up for each element."""
    return prod(n for a, n in extents_of(e).items() if a not in e.params["to"])


def is_product(e: Equation) -> bool:
    """Whether an equation is a product of matrices (or of a matrix and a vector) that is computed by itself, which beats loops."""
    if e.primitive.name != "contract" or summed(e) <= SUMMED or prod(extents_of(e).values()) <= LOOPED:
        return False
    left, right = e.params["left"], e.params["right"]
    has_rows, has_columns = any(a not in right for a in left), any(a not in left for a in right)
    return (has_rows and has_columns) or matrix_product(e) is not None


def _bits(word: int) -> list[int]:
    """The places of the ones in a number."""
    found = []
    while word:
        low = word & -word
        found.append(low.bit_length() - 1)
        word ^= low
    return found


def alike(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two iteration spaces differ little enough to share a loop."""
    return len(a) == len(b) and all(abs(m - n) <= 4 and max(m, n) <= 2 * min(m, n) for m, n in zip(a, b, strict=True))
