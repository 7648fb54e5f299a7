"""Reverse mode: cotangents from the outputs back to the inputs.

    for each operation y = g(x_1, ..., x_k), last first:    bar x_i += (dg/dx_i)^T bar y

One sweep gives the derivative of one combination of outputs with respect to all inputs, for a small multiple of the cost of
the function; its memory grows with the number of operations, whose values it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import has_nan, is_tracer
from chainrule.ir.program import running
from chainrule.ir.types import Array
from chainrule.linear.maps import convert
from chainrule.linear.strong import mode, strong_products
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import Node, Part, Tape, recorded_origin, unwrap

Flat = Callable[[list[Any]], Sequence[Any]]
# A tape, the nodes of the inputs, the values of the outputs, and their nodes, None where an output is constant.
Recording = tuple[Tape, list[Node], list[Any], list[Node | None]]


class _Cotangents:
    """Cotangents of nodes under accumulation; `owned` ones are arrays made here, into which more may be added in place."""

    __slots__ = ("of", "owned")

    def __init__(self) -> None:
        self.of: dict[Node, Any] = {}
        self.owned: set[Node] = set()

    def add(self, node: Node, term: Array | None) -> None:
        """Add a cotangent to a node's; None is zero."""
        if term is None:
            return
        before = self.of.get(node)
        if before is None:
            self.of[node] = term
        elif node in self.owned and not is_tracer(term):
            np.add(before, term, out=before)
        else:
            total = before + term
            self.of[node] = total
            if type(total) is np.ndarray:
                self.owned.add(node)
            else:
                self.owned.discard(node)

    def add_part(self, node: Node, m: LinearMap, ct: Array) -> None:
        """Add m^T ct to a part of a node's cotangent: in place, so that many parts of one array take linear time."""
        before = self.of.get(node)
        if not m.accumulates or is_tracer(ct) or is_tracer(before):
            self.add(node, m.adjoint(ct))
            return
        if before is None:
            before = self.of[node] = np.zeros(m.in_shape, m.in_dtype)
        elif node not in self.owned:
            before = self.of[node] = np.array(before)
        self.owned.add(node)
        m.accumulate(before, ct)


class _Placed:
    """Nodes whose sweep is recorded: what each adds to the program stands where its operation stood in the user's code."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def __reversed__(self) -> Iterator[Node]:
        before = running.origin
        try:
            for node in reversed(self.nodes):
                running.origin = recorded_origin(node.out) or before
                yield node
        finally:
            running.origin = before


def sweep(nodes: Sequence[Node] | _Placed, seeds: Sequence[tuple[Node, Array]]) -> _Cotangents:
    """Pull seeds back through recorded nodes, last first."""
    cts = _Cotangents()
    for node, ct in seeds:
        cts.add(node, ct)
    pending = cts.of
    for node in reversed(nodes):
        ct = pending.pop(node, None)
        if ct is None:
            continue
        primitive: Any = node.primitive
        if primitive is None or not primitive.single_row:
            _pull_jointly(node, ct, cts)
        elif primitive.partwise:
            _pull_parts(primitive, node, ct, cts)
        else:
            for k, parent in enumerate(node.parents):
                if parent is not None:
                    term = primitive.cotangent(k, node.values, node.out, node.params, ct)
                    if parent in pending:
                        cts.add(parent, term)
                    elif term is not None:
                        pending[parent] = term
    return cts


def _pull_parts(primitive: Any, node: Node, ct: Any, cts: _Cotangents) -> None:
    """Pull through an operation whose adjoint fills but a part of a cotangent."""
    for k, parent in enumerate(node.parents):
        if parent is not None:
            m = primitive.partial(k, node.values, node.out, node.params)
            if m is not None:
                cts.add_part(parent, m, ct)


def _pull_jointly(node: Node, ct: Any, cts: _Cotangents) -> None:
    """Pull through an operation with several outputs, or one that carries a program or a rule of its own."""
    if isinstance(node, Part):
        cts.of.setdefault(node.whole, [None] * len(node.whole.out))[node.row] = ct
        return
    assert node.primitive is not None
    wanted = [p is not None for p in node.parents]
    terms = node.primitive.pullback(node.values, node.out, node.params, ct, wanted)
    for parent, term in zip(node.parents, terms, strict=True):
        if parent is not None:
            cts.add(parent, term)


def gradients(nodes: Sequence[Node], inputs: Sequence[Node], seeds: Sequence[tuple[Node, Array]]) -> list[Array | None]:
    """The cotangents of inputs; swept again with strong products where a NaN came out (see linear.strong)."""
    swept = _Placed(nodes) if any(is_tracer(node.out) for node, _ in seeds) else nodes
    with np.errstate(all="ignore"):
        cts = sweep(swept, seeds)
        found = [cts.of.get(node) for node in inputs]
        if not mode.strict and any(g is not None and has_nan(g) for g in found):
            with strong_products():
                cts = sweep(swept, seeds)
                found = [cts.of.get(node) for node in inputs]
    given = {id(ct) for _, ct in seeds}
    return [g if node in cts.owned else _own(g, given) for node, g in zip(inputs, found, strict=True)]


def _own(g: Array | None, given: set[int]) -> Array | None:
    """An array that the caller may keep and change: a copy of views, and of what is given or returned elsewhere."""
    if type(g) is not np.ndarray:
        return g
    flags = g.flags
    if not (flags.owndata and flags.writeable) or id(g) in given:
        return g.copy()
    given.add(id(g))
    return g


def record(f: Flat, xs: Sequence[Array]) -> Recording:
    """Run f on tracers of a new tape: the tape, the inputs' nodes, the outputs' values, and their nodes."""
    tape = Tape()
    tracers = [tape.input(x) for x in xs]
    inputs = [t.data for t in tracers]  # before f, which may write into its arguments
    with tracing():
        outs = f(list(tracers))
    tape.is_open = False
    values, nodes = [], []
    for out in outs:
        value, node = unwrap(out, tape)
        values.append(value)
        nodes.append(node)
    return tape, inputs, values, nodes


def zeros_like(x: Array) -> Array:
    """Zeros of the type of x."""
    return np.zeros(x.shape, x.dtype)[()]


def puller(
    tape: Tape, xs: Sequence[Array], inputs: Sequence[Node], values: Sequence[Any], nodes: Sequence[Node | None]
) -> Callable[[Sequence[Array | None]], list[Array]]:
    """The function that pulls cotangents of the outputs through a recording back to the inputs."""

    def pullback(cts: Sequence[Array | None]) -> list[Array]:
        seeds = [
            (node, ct if ct.dtype == value.dtype else convert(ct, value.dtype))
            for node, value, ct in zip(nodes, values, cts, strict=True)
            if node is not None and ct is not None
        ]
        tape.operands.check()
        found = gradients(tape.nodes, inputs, seeds)
        return [zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]

    return pullback


def vjp(f: Flat, xs: Sequence[Array]) -> tuple[list[Any], Callable[[Sequence[Array | None]], list[Array]]]:
    """The outputs of f at xs, and the pullback of cotangents of the outputs to cotangents of xs."""
    tape, inputs, values, nodes = record(f, xs)
    return values, puller(tape, xs, inputs, values, nodes)
