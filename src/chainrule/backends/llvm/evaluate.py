"""Evaluate at an index, with a memo: the scalar graph of the values that a kernel's roots need at one point of its iteration space.

The value of an equation's result at an index is an expression in its arguments at indices. What lies in a buffer is loaded; the
rest is computed where it is needed, once for each index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from chainrule.backends.llvm import moves
from chainrule.backends.llvm.graph import KINDS, Graph
from chainrule.backends.llvm.index import Box, Component, Dyn, Index, Lin, Unlowerable, flat, plus, times
from chainrule.backends.llvm.operations import build
from chainrule.ir.program import Atom, Equation, Literal, Var

# Constants of at most so many elements may be written into the code where their index is known.
INLINE_CONSTANT = 4096


class Evaluator:
    """The graph under construction for one box of a kernel's iteration space."""

    def __init__(
        self,
        definitions: Mapping[Var, Equation],
        slots: Mapping[Any, int],
        box: Box,
        limit: int,
        uniform: Callable[[Literal], Any],
    ) -> None:
        self.definitions = definitions
        self.slots = slots
        self.box = box
        self.limit = limit
        self.uniform = uniform
        self.graph = Graph()
        self._memo: dict[tuple[Any, Index], int] = {}

    def at(self, a: Atom, index: Index) -> int:
        """The node of an atom at an index."""
        key = (a, index)
        found = self._memo.get(key)
        if found is None:
            try:
                found = self._memo[key] = self._compute(a, index)
            except Unlowerable as refusal:
                if refusal.equation is None:
                    refusal.equation = self.definitions.get(a) if isinstance(a, Var) else None
                raise
            if len(self.graph.nodes) > self.limit:
                raise Unlowerable("a kernel that would be too long", too_long=True)
        return found

    def _compute(self, a: Atom, index: Index) -> int:
        if isinstance(a, Literal) and a.type.size <= INLINE_CONSTANT and all(isinstance(i, int) for i in index):
            return self._constant(a, index)
        slot = self.slots.get(a)
        if slot is not None:
            return self.graph.load(slot, flat(index, a.type.shape), KINDS[a.type.dtype])
        if isinstance(a, Literal):
            return self._constant(a, index)
        equation = self.definitions[a]
        rule = RULES.get(equation.primitive.name)
        if rule is not None:
            return rule(self, equation, index)
        args = [self.at(x, broadcast(index, x.type.shape)) for x in equation.args]
        return build(self.graph, equation.primitive.name, args, [x.type for x in equation.args], equation.outs[0].type)

    def _constant(self, a: Literal, index: Index) -> int:
        kind = KINDS[a.type.dtype]
        value = self.uniform(a)
        if value is None:
            if not all(isinstance(i, int) for i in index):
                raise Unlowerable("a constant array without a buffer")
            value = np.asarray(a.value)[index]
        return self.graph.constant(value, kind)

    def position(self, a: Atom, index: Index, extent: int) -> Component:
        """An index that is read from an array: wrapped as NumPy's are, and checked."""
        g = self.graph
        n = g.cast(self.at(a, index), "i64")
        known = g.value(n)
        if known is not None:
            if not -extent <= known < extent:
                raise Unlowerable("an index out of range")
            return int(known) % extent
        return Lin(0, ((Dyn(g.node("checked", "i64", (n,), extent), extent), 1),))


def broadcast(index: Index, shape: Sequence[int]) -> Index:
    """The index of an array of `shape` that is broadcast to the index's shape."""
    lead = len(index) - len(shape)
    return tuple(0 if n == 1 else index[lead + k] for k, n in enumerate(shape))


def _slice(e: Evaluator, q: Equation, index: Index) -> int:
    x = q.args[0]
    return e.at(x, moves.sliced(moves.parse(q.params["key"], x.type.shape), index))


def _place(e: Evaluator, q: Equation, index: Index) -> int:
    x = q.args[0]
    at = moves.placed(moves.parse(q.params["key"], q.outs[0].type.shape), index, _placed_rank(q), e.box)
    if at is None:
        return e.graph.constant(0, KINDS[q.outs[0].type.dtype])
    return e.at(x, broadcast(at, x.type.shape))


def _placed_rank(q: Equation) -> int:
    shape = np.broadcast_to(np.zeros((), np.int8), q.outs[0].type.shape)[q.params["key"]].shape
    if shape != q.args[0].type.shape or any(p is None for p in q.params["key"]):
        raise Unlowerable("a place that broadcasts")
    return len(shape)


def _reshape(e: Evaluator, q: Equation, index: Index) -> int:
    x = q.args[0]
    slot = e.slots.get(x)
    if slot is not None and isinstance(x, Var):
        return e.graph.load(slot, flat(index, q.outs[0].type.shape), KINDS[x.type.dtype])
    return e.at(x, moves.reshaped(index, q.outs[0].type.shape, x.type.shape, e.box))


def _transpose(e: Evaluator, q: Equation, index: Index) -> int:
    at: list[Component] = [0] * len(index)
    for k, a in enumerate(q.params["axes"]):
        at[a] = index[k]
    return e.at(q.args[0], tuple(at))


def _broadcast_to(e: Evaluator, q: Equation, index: Index) -> int:
    return e.at(q.args[0], broadcast(index, q.args[0].type.shape))


def _concatenate(e: Evaluator, q: Equation, index: Index) -> int:
    axis = q.params["axis"]
    k, at = moves.concatenated([a.type.shape[axis] for a in q.args], index, axis, e.box)
    return e.graph.cast(e.at(q.args[k], at), KINDS[q.outs[0].type.dtype])


def _gather(e: Evaluator, q: Equation, index: Index) -> int:
    x, *arrays = q.args
    return e.at(x, gathered(e, q.params["key"], x.type.shape, arrays, index))


def gathered(e: Evaluator, key: Any, shape: tuple[int, ...], arrays: Sequence[Atom], index: Index) -> Index:
    """The index into an array of `shape` of a gather's result at an index."""
    common = np.broadcast_shapes(*(a.type.shape for a in arrays))
    full = moves.parse(key, shape, len(common))
    own = index[full.place : full.place + full.rank]
    at: list[Component] = []
    for a, n in zip(full.axes, shape, strict=True):
        if isinstance(a, moves.Indexed):
            array = arrays[a.slot]
            at.append(e.position(array, broadcast(own, array.type.shape), n))
        elif isinstance(a, moves.Ranged):
            at.append(plus(times(index[a.out], a.range.step), a.range.start))
        else:
            at.append(a.at)
    return tuple(at)


def _within(index: Index, axes: Sequence[int], shape: Sequence[int]) -> list[Index]:
    """Every index of an array of `shape` that a reduction over `axes` adds up for an index of its result."""
    kept = iter(index)
    parts: list[Sequence[Component]] = [range(n) if k in axes else (next(kept),) for k, n in enumerate(shape)]
    return [tuple(i) for i in product(*parts)]


def reduced_at(e: Evaluator, q: Equation, index: Index, kind: str) -> int:
    """What a reduction combines for one element of its argument, in the result's kind."""
    n = e.at(q.args[0], index)
    return e.graph.cast(e.graph.cast(n, "i1") if q.primitive.name in _OF_TRUTH else n, kind)


_OF_TRUTH = ("all_of", "any_of", "count_true")


def _reduce(e: Evaluator, q: Equation, index: Index) -> int:
    x = q.args[0]
    kind = KINDS[q.outs[0].type.dtype]
    terms = [reduced_at(e, q, i, kind) for i in _within(index, q.params["axes"], x.type.shape)]
    name = q.primitive.name
    if name in ("reduce_sum", "count_true"):
        return e.graph.total(terms)
    found = terms[0]
    for n in terms[1:]:
        found = (
            e.graph.arithmetic("mul", found, n)
            if name == "reduce_prod"
            else e.graph.node("and" if name == "all_of" else "or", kind, (found, n))
        )
    return found


def _reduce_extreme(e: Evaluator, q: Equation, index: Index) -> int:
    x = q.args[0]
    name = {"reduce_max": "maximum", "reduce_min": "minimum"}[q.primitive.name]
    first, *rest = (e.at(x, i) for i in _within(index, q.params["axes"], x.type.shape))
    for n in rest:
        first = build(e.graph, name, [first, n], [x.type, x.type], q.outs[0].type)
    return first


def _search(e: Evaluator, q: Equation, index: Index) -> int:
    """Where the extreme is first; the first NaN, if there is one."""
    g, x, axis = e.graph, q.args[0], q.params["axis"]
    place = g.constant(0, KINDS[q.outs[0].type.dtype])
    best = None
    for k, at in enumerate(_within(index, (axis,), x.type.shape)):
        value = e.at(x, at)
        if best is None:
            best = value
            continue
        better = g.compare("gt" if q.primitive.name == "argmax" else "lt", value, best)
        if x.type.dtype.kind == "f":
            first = g.node("and", "i1", (g.compare("ne", value, value), g.compare("eq", best, best)))
            better = g.node("or", "i1", (better, first))
        place = g.select(better, g.constant(k, KINDS[q.outs[0].type.dtype]), place)
        best = g.select(better, value, best)
    return place


def stepped(e: Evaluator, q: Equation, index: Index, before: int | None) -> int:
    """A running operation at an index, from its result one step before; None before the first step."""
    kind = KINDS[q.outs[0].type.dtype]
    args = [e.graph.cast(e.at(a, broadcast(index, a.type.shape)), kind) for a in q.args]
    if before is None:
        return args[-1]
    if q.primitive.name == "recur":
        return e.graph.arithmetic("add", e.graph.arithmetic("mul", args[0], before), args[1])
    return e.graph.arithmetic("add" if q.primitive.name == "cumsum" else "mul", before, args[0])


def _running(e: Evaluator, q: Equation, index: Index) -> int:
    axis = q.params["axis"]
    step = index[axis]
    if not isinstance(step, int):
        raise Unlowerable(
            "a running operation at an index that a loop decides", too_long=True
        )  # so it is kept in memory
    reverse = q.params.get("reverse", False)
    first = q.outs[0].type.shape[axis] - 1 if reverse else 0
    before = (*index[:axis], step + 1 if reverse else step - 1, *index[axis + 1 :])
    return stepped(e, q, index, None if step == first else e.at(q.outs[0], before))


def _contract(e: Evaluator, q: Equation, index: Index) -> int:
    x, y = q.args
    left, right, to = q.params["left"], q.params["right"], q.params["to"]
    extents = dict(zip((*left, *right), (*x.type.shape, *y.type.shape), strict=True))
    summed = [a for a in extents if a not in to]
    kind = KINDS[q.outs[0].type.dtype]
    known: dict[Any, Component] = dict(zip(to, index, strict=True))
    terms = []
    for values in product(*(range(extents[a]) for a in summed)):
        at = {**known, **dict(zip(summed, values, strict=True))}
        terms.append(product_at(e, q, at, kind))
    return e.graph.total(terms)


def product_at(e: Evaluator, q: Equation, at: Mapping[Any, Component], kind: str) -> int:
    """One term of a contraction."""
    x, y = q.args
    a = e.at(x, tuple(at[label] for label in q.params["left"]))
    b = e.at(y, tuple(at[label] for label in q.params["right"]))
    return e.graph.arithmetic("mul", e.graph.cast(a, kind), e.graph.cast(b, kind))


RULES: dict[str, Callable[[Evaluator, Equation, Index], int]] = {
    "slice": _slice,
    "place": _place,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "gather": _gather,
    "reduce_sum": _reduce,
    "reduce_prod": _reduce,
    "all_of": _reduce,
    "any_of": _reduce,
    "count_true": _reduce,
    "argmax": _search,
    "argmin": _search,
    "cumsum": _running,
    "cumprod": _running,
    "recur": _running,
    "reduce_max": _reduce_extreme,
    "reduce_min": _reduce_extreme,
    "contract": _contract,
}
