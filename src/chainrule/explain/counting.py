"""Predicted multiplications, counted on the recorded operations of one evaluation.

A product with a partial costs what that map says of itself. Evaluating an operation costs as many multiplications as its dearest
partial: two factors one, a matrix product one each term, an elementary function counts as one, sums and moves are free.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from chainrule.explain.problem import Problem
from chainrule.ir.primitive import Elementary
from chainrule.ir.types import ArrayType
from chainrule.trace.tape import Node
from chainrule.transforms.reverse import record


@dataclass(frozen=True)
class Counts:
    """One evaluation of f: `value` multiplications for it, `sweep` for one product with its Jacobian from either side."""

    value: int
    sweep: int
    operations: int
    largest: int
    primitives: tuple[str, ...]


def count(problem: Problem) -> Counts:
    """The counts of a problem, from one recording."""
    with np.errstate(all="ignore"):
        tape, _, _, _ = record(problem.outputs, list(problem.leaves))
        value = sweep = operations = largest = 0
        names: Counter[str] = Counter()
        for node in tape.nodes:
            if node.primitive is None:
                continue
            costs = _partial_costs(node)
            value += max(costs, default=0)
            sweep += sum(costs)
            operations += 1
            names[node.primitive.name] += 1
            largest = max(largest, *(np.size(o) for o in (node.out if isinstance(node.out, tuple) else (node.out,))))
    return Counts(value, sweep, operations, largest, tuple(name for name, _ in names.most_common()))


def _partial_costs(node: Node) -> list[int]:
    """The multiplications of one product with each active argument's partials."""
    primitive = node.primitive
    active = [k for k, parent in enumerate(node.parents) if parent is not None]
    if isinstance(primitive, Elementary):
        maps = [
            [primitive.partial(k, node.values, node.out, node.params, r) for r in range(primitive.outputs)]
            for k in active
        ]
        return [sum(m.multiplications() for m in rows if m is not None) for rows in maps]
    assert primitive is not None
    outs = node.out if primitive.outputs != 1 else (node.out,)
    flops = primitive.flops([ArrayType.of(v) for v in node.values], [ArrayType.of(o) for o in outs], node.params)
    return [flops for _ in active]
