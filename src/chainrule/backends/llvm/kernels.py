"""Kernels in detail: the buffers that one reads and writes, the graphs of its boxes, and the key that equal kernels share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from chainrule.backends.llvm.body import Body, Effect, Fill
from chainrule.backends.llvm.divide import Division
from chainrule.backends.llvm.evaluate import INLINE_CONSTANT, Evaluator, gathered, product_at, reduced_at, stepped
from chainrule.backends.llvm.graph import KINDS
from chainrule.backends.llvm.index import (
    Box,
    Component,
    Index,
    Lin,
    Split,
    Unlowerable,
    at_least,
    axis,
    flat,
    plus,
    times,
)
from chainrule.backends.llvm.partition import REDUCTIONS, Kernel, Layout, Plan, contraction_labels
from chainrule.ir.primitive import parameter_key
from chainrule.ir.program import Atom, Equation, Literal, Var

NODES = 4_000
"""The most nodes in the graph of one box."""
BOXES = 64
"""The most boxes that an iteration space is cut into."""

LANES = 8
"""The width of a vector for which the axis of the lanes is chosen."""

Uniform = Callable[[Literal], Any]


class Lowering:
    """One kernel: `reads` are the atoms in its input buffers, `writes` the variables in its output buffers, by slots."""

    def __init__(self, kernel: Kernel, plan: Plan, uniform: Uniform) -> None:
        self.kernel = kernel
        self.layout: Layout = plan.layout
        self.definitions: Mapping[Var, Equation] = plan.definitions
        self.uniform = uniform
        self.kept = plan.kept
        self.reads: list[Atom] = []
        self.writes: list[Var] = [e.outs[0] for e in kernel.roots]
        self.slots: dict[Any, int] = {}
        self.order = tuple(range(len(kernel.extents)))
        self.ordered = self.layout.order(kernel.roots[0])
        self.key = self._walk()

    def describe(self, cut: Division | None) -> str:
        """The kernel in a line."""
        space = " x ".join(map(str, self.kernel.extents)) or "no loop"
        space += f", in {cut.pieces} pieces" if cut is not None else ""
        roots = ", ".join(f"{e.primitive.name} {e.outs[0].type}" for e in self.kernel.roots)
        return f"kernel over {space}: reads {len(self.reads)}, computes {len(self.key[2])} operations for {roots}"

    def _is_loaded(self, v: Var) -> bool:
        level = self.kept.get(v)
        return level is not None and level < self.kernel.level

    def _walk(self) -> Any:
        """Visit all that the roots need, numbering buffers as they are met; returns a key equal for kernels of equal code."""
        numbers: dict[Equation, int] = {}
        parts: list[Any] = []
        for root in self.kernel.roots:
            stack: list[tuple[Equation, bool]] = [(root, False)]
            while stack:
                e, done = stack.pop()
                if e in numbers:
                    continue
                if not done:
                    stack.append((e, True))
                    stack += [
                        (self.definitions[a], False)
                        for a in reversed(e.args)
                        if isinstance(a, Var) and not self._is_loaded(a)
                    ]
                    continue
                refs = tuple(self._reference(a, numbers) for a in e.args)
                numbers[e] = len(numbers)
                parts.append((e.primitive.name, parameter_key(e.params), refs, _type_key(e.outs[0])))
        return (self.kernel.extents, tuple(numbers[r] for r in self.kernel.roots), tuple(parts))

    def _reference(self, a: Atom, numbers: Mapping[Equation, int]) -> Any:
        if isinstance(a, Var):
            return (
                ("slot", self._slot(a), _type_key(a))
                if self._is_loaded(a)
                else ("equation", numbers[self.definitions[a]])
            )
        value = self.uniform(a)
        if value is None:
            x = np.asarray(a.value)
            content = x.tobytes() if x.size <= INLINE_CONSTANT else None
            return ("slot", self._slot(a), _type_key(a), content)
        return ("constant", np.asarray(value, a.type.dtype).tobytes(), _type_key(a))

    def _slot(self, a: Atom) -> int:
        if a not in self.slots:
            self.slots[a] = len(self.reads)
            self.reads.append(a)
        return self.slots[a]

    # ---- boxes

    def bodies(self) -> tuple[list[Body], list[Fill]]:
        """The graph and effects of each box of the iteration space, and what must be filled before."""
        self._choose_lanes()
        todo: list[Box] = [tuple((0, self.kernel.extents[k]) for k in self.order)]
        found: list[Body] = []
        while todo:
            box = todo.pop()
            try:
                found.append(self._body(box))
            except Split as split:
                todo += _halves(box, split)
                if len(found) + len(todo) > BOXES:
                    refusal = Unlowerable("a kernel cut into too many boxes", too_long=True)
                    refusal.equation = self.kernel.roots[-1]
                    raise refusal from None
        return [b for b in found if b.effects], self._fills()

    def _choose_lanes(self) -> None:
        """Put the loop axis last along which the accesses of memory are cheapest for lanes."""
        rank = len(self.kernel.extents)
        natural = self.order
        if rank < 2 or self.ordered is not None or any(e.primitive.name == "scatter_add" for e in self.kernel.roots):
            return
        middle = tuple((n // 2, n // 2 + 1) for n in self.kernel.extents)
        try:
            body = self._body(middle)
        except Split:
            return
        places = [n.extra[1] for n in body.graph.nodes if n.op == "load"] + [e.at for e in body.effects]
        prices = [sum(_price(at, k) for at in places) * _waste(n) for k, n in enumerate(self.kernel.extents)]
        best = min(range(rank), key=lambda k: (prices[k], -k))
        if prices[best] < 0.6 * prices[-1]:
            self.order = (*(k for k in natural if k != best), best)

    def _fills(self) -> list[Fill]:
        out = []
        for k, e in enumerate(self.kernel.roots):
            if self.layout.is_fence(e) and self.ordered is None and not _fills_all(e):
                t = e.outs[0].type
                out.append(Fill(len(self.reads) + k, t.size, KINDS[t.dtype], _effect(e)))
        return out

    def _body(self, box: Box) -> Body:
        e = Evaluator(self.definitions, self.slots, box, NODES, self.uniform)
        effects: list[Effect] = []
        for k, root in enumerate(self.kernel.roots):
            shape = self.layout.domain(root)
            loops = self.layout.loops(shape)
            nest = {a: self.order.index(j) for j, a in enumerate(loops)}
            if any(at_least(axis(nest[a]), shape[a], box) for a in loops):
                continue
            index = [axis(nest[k]) if k in nest else None for k in range(len(shape))]
            try:
                effects += self._root(e, root, len(self.reads) + k, shape, index)
            except Unlowerable as refusal:
                if refusal.equation is None:
                    refusal.equation = root
                raise
        return Body(box, e.graph, effects, self.ordered)

    def _root(
        self, e: Evaluator, root: Equation, slot: int, shape: Sequence[int], index: Sequence[Component | None]
    ) -> list[Effect]:
        if not self.layout.is_fence(root):
            return [Effect("store", e.at(root.outs[0], i), slot, flat(i, shape)) for i in _elements(index, shape)]
        name = root.primitive.name
        if name == "scatter_add":
            return [self._scatter(e, root, slot, i) for i in _elements(index, shape)]
        if self.ordered is not None:
            return [self._run(e, root, slot, i) for i in _elements(index, shape)]
        if name == "assemble":
            return [effect for i in _elements(index, shape) for effect in _assembled(e, root, slot, i)]
        kind = KINDS[root.outs[0].type.dtype]
        terms: dict[Index, list[int]] = {}
        if name == "contract":
            labels = contraction_labels(root)
            rank = len(root.params["to"])
            for i in _elements(index, shape):
                terms.setdefault(i[:rank], []).append(product_at(e, root, dict(zip(labels, i, strict=True)), kind))
        else:
            axes = root.params["axes"]
            for i in _elements(index, shape):
                place = tuple(c for k, c in enumerate(i) if k not in axes)
                terms.setdefault(place, []).append(reduced_at(e, root, i, kind))
        effect = _effect(root)
        out = root.outs[0].type.shape
        if effect == "add":
            return [Effect(effect, e.graph.total(ns), slot, flat(place, out)) for place, ns in terms.items()]
        return [Effect(effect, n, slot, flat(place, out)) for place, ns in terms.items() for n in ns]

    def _run(self, e: Evaluator, root: Equation, slot: int, index: Index) -> Effect:
        """One step of a running operation, from what the step before has stored; the loop counts steps, in reverse from the end."""
        shape, axis = root.outs[0].type.shape, root.params["axis"]
        step = index[axis]
        reverse = root.params.get("reverse", False)

        def element(k: Component) -> Index:
            return (*index[:axis], plus(times(k, -1), shape[axis] - 1) if reverse else k, *index[axis + 1 :])

        at = element(step)
        if not at_least(step, 1, e.box):
            return Effect("store", stepped(e, root, at, None), slot, flat(at, shape))
        before = e.graph.load(slot, flat(element(plus(step, -1)), shape), KINDS[root.outs[0].type.dtype])
        return Effect("store", stepped(e, root, at, before), slot, flat(at, shape))

    def _scatter(self, e: Evaluator, root: Equation, slot: int, index: Index) -> Effect:
        ct, *arrays = root.args
        shape = root.params["shape"]
        return Effect(
            "scatter", e.at(ct, index), slot, flat(gathered(e, root.params["key"], shape, arrays, index), shape)
        )


def _assembled(e: Evaluator, root: Equation, slot: int, index: Index) -> list[Effect]:
    """What the elements of the arguments at an index are stored to."""
    found = []
    for k, low, high, first, steps in root.params["pieces"]:
        if all(at_least(i, a, e.box) and not at_least(i, b, e.box) for i, a, b in zip(index, low, high, strict=True)):
            at: Component = first
            for i, a, step in zip(index, low, steps, strict=True):
                at = plus(at, times(plus(i, -a), step))
            found.append(Effect("store", e.at(root.args[k], index), slot, at))
    return found


def _fills_all(e: Equation) -> bool:
    """Whether the pieces of an `assemble`, which do not overlap, are all of its result."""
    if e.primitive.name != "assemble":
        return False
    covered = sum(prod(b - a for a, b in zip(low, high, strict=True)) for _, low, high, *_ in e.params["pieces"])
    return bool(covered == e.outs[0].type.size)


def _price(at: Component, k: int) -> float:
    """What lanes along axis k cost at a position: the same element for all, neighbours, or elements apart."""
    steps = [c for t, c in at.terms if t == k] if isinstance(at, Lin) else []
    return 0.2 if not steps else 1.0 if steps == [1] else 8.0


def _waste(n: int) -> float:
    """By how much the last, partly filled vector lengthens a loop of n turns."""
    return 8.0 if n < LANES else -(-n // LANES) * LANES / n


def _halves(box: Box, split: Split) -> list[Box]:
    lo, hi = box[split.axis]
    assert lo < split.at < hi
    return [(*box[: split.axis], part, *box[split.axis + 1 :]) for part in ((split.at, hi), (lo, split.at))]


def _effect(e: Equation) -> str:
    return "scatter" if e.primitive.name in ("scatter_add", "assemble") else REDUCTIONS.get(e.primitive.name, "add")


def _elements(index: Sequence[Component | None], shape: Sequence[int]) -> list[Index]:
    """The index with every axis that is no loop written out."""
    return [
        tuple(i) for i in product(*((c,) if c is not None else range(n) for c, n in zip(index, shape, strict=True)))
    ]


def _type_key(a: Atom) -> Any:
    return (a.type.shape, a.type.dtype)
