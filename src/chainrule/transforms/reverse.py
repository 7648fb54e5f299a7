"""Reverse mode: cotangents from the outputs back to the inputs.

    for each operation y = g(x_1, ..., x_k), last first:    bar x_i += (dg/dx_i)^T bar y

One sweep gives the derivative of one combination of outputs with respect to all inputs, for a small multiple of the cost of
the function; its memory grows with the number of operations, whose values it needs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.origin import running
from chainrule.ir.primitive import TracerBase, has_nan, ops
from chainrule.ir.types import Array
from chainrule.linear.maps import convert
from chainrule.linear.strong import mode, strong_products
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import Node, Part, Tape, recorded_origin

ndarray = np.ndarray
_PLAIN = frozenset({ndarray, *np.sctypeDict.values()})

Flat = Callable[[list[Any]], Sequence[Any]]
# A tape, the nodes of the inputs, the values of the outputs, and their nodes, None where an output is constant.
Recording = tuple[Tape, list[Node], list[Any], list[Node | None]]


# Cotangents of nodes under accumulation, and those nodes whose cotangents are arrays made here, into which more may be added.
_Cotangents = tuple[dict[Node, Any], set[Node]]


def _add(cts: _Cotangents, node: Node, term: Any) -> None:
    """Add a cotangent to a node's; None is zero."""
    pending, owned = cts
    before = pending.get(node)
    if term is None:
        return
    if before is None:
        pending[node] = term
    elif node in owned and not isinstance(term, TracerBase):
        before += term
    else:
        pending[node] = total = before + term
        if type(total) is ndarray:
            owned.add(node)
        else:
            owned.discard(node)


def _pull(cts: _Cotangents, node: Node, ct: Any) -> None:
    """Pull through an operation that is no row of simple partials."""
    if isinstance(node, Part):
        cts[0].setdefault(node.whole, [None] * len(node.whole.out))[node.row] = ct
        return
    primitive: Any = node.primitive
    terms = primitive.pullback(node.values, node.out, node.params, ct, node.parents)
    for parent, term in zip(node.parents, terms, strict=True):
        if parent is not None:
            _add(cts, parent, term)


def _pull_part(cts: _Cotangents, node: Node, ct: Any) -> bool:
    """Pull through an operation whose adjoint fills but a part of a cotangent, in place, unless something is traced.

    So many parts of one array take linear time.
    """
    pending, owned = cts
    primitive: Any = node.primitive
    parent: Any = node.parents[0]
    before = pending.get(parent)
    if type(ct) not in _PLAIN or not (before is None or type(before) is ndarray):
        return False
    if before is not None and parent not in owned:
        before = np.array(before)
    total = primitive.accumulate(before, ct, *node.values, **node.params)
    if total is None:
        return False
    pending[parent] = total
    owned.add(parent)
    return True


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
    pending: dict[Node, Any] = {}
    cts: _Cotangents = pending, set()
    for node, ct in seeds:
        _add(cts, node, ct)
    product = ops.strong_multiply if mode.strict else operator.mul
    for node in reversed(nodes):
        ct = pending.pop(node, None)
        if ct is None:
            continue
        primitive: Any = node.primitive
        if primitive is None:
            _pull(cts, node, ct)
        elif primitive.pulls:
            k = 0
            for parent in node.parents:
                if parent is not None:
                    term = primitive.pulls[k](node.values, node.out, node.params, ct, product)
                    if term is None or parent in pending:
                        _add(cts, parent, term)
                    else:
                        pending[parent] = term
                k += 1  # noqa: SIM113 - zip and enumerate would take a quarter of the sweep's time
        elif primitive.accumulate is None or not _pull_part(cts, node, ct):
            _pull(cts, node, ct)
    return cts


@np.errstate(all="ignore")
def gradients(nodes: Sequence[Node], inputs: Sequence[Node], seeds: Sequence[tuple[Node, Array]]) -> list[Array | None]:
    """The cotangents of inputs; swept again with strong products where a NaN came out (see linear.strong)."""
    swept: Any = nodes
    for node, _ in seeds:
        if isinstance(node.out, TracerBase):
            swept = _Placed(nodes)
    found, owned = sweep(swept, seeds)
    if not mode.strict:
        for node in inputs:
            if node in found and has_nan(found[node]):
                with strong_products():
                    found, owned = sweep(swept, seeds)
                break
    if owned.issuperset(inputs):
        return [found[node] for node in inputs]
    given = {id(ct) for _, ct in seeds}
    return [found[node] if node in owned else _own(found.get(node), given) for node in inputs]


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
        own = isinstance(out, TracerBase) and out.owner is tape
        values.append(out.value if own else out)
        nodes.append(out.data if own else None)
    return tape, inputs, values, nodes


def zeros_like(x: Array) -> Array:
    """Zeros of the type of x."""
    return np.zeros(x.shape, x.dtype)[()]


def pull(recording: Recording, xs: Sequence[Array], cts: Sequence[Array | None]) -> list[Array]:
    """Pull cotangents of the outputs through a recording at xs back to the inputs."""
    tape, inputs, values, nodes = recording
    tape.operands.check()
    seeds = []
    for k, node in enumerate(nodes):
        ct = cts[k]
        if node is not None and ct is not None:
            dtype = values[k].dtype
            seeds.append((node, ct if ct.dtype is dtype else convert(ct, dtype)))
    found = gradients(tape.nodes, inputs, seeds)
    out: list[Array] = []
    for k, g in enumerate(found):
        out.append(zeros_like(xs[k]) if g is None else g)
    return out


def vjp(f: Flat, xs: Sequence[Array]) -> tuple[list[Any], Callable[[Sequence[Array | None]], list[Array]]]:
    """The outputs of f at xs, and the pullback of cotangents of the outputs to cotangents of xs."""
    recording = record(f, xs)
    return recording[2], functools.partial(pull, recording, xs)
