"""What a kernel does: one body a box of its iteration space, whose graph's values have effects on buffers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from chainrule.backends.llvm.graph import DTYPES, Graph
from chainrule.backends.llvm.index import Box, Component, Dyn, Lin


class Effect(NamedTuple):
    """What a body does with a node: store it, scatter it, or combine it with what is there (add, mul, max, min, and, or)."""

    kind: str
    node: int
    slot: int
    at: Component


class Body(NamedTuple):
    """One box of a kernel: its graph and effects."""

    box: Box
    graph: Graph
    effects: list[Effect]
    ordered: int | None = None  # the loop whose turns use what the turn before has stored

    def needed(self) -> set[int]:
        """The nodes that the effects depend on."""
        todo = [e.node for e in self.effects]
        todo += [t.node for e in self.effects if isinstance(e.at, Lin) for t, _ in e.at.terms if isinstance(t, Dyn)]
        seen = set(todo)
        while todo:
            for a in self.graph.nodes[todo.pop()].args:
                if a not in seen:
                    seen.add(a)
                    todo.append(a)
        return seen

    def levels(self) -> dict[int, int]:
        """For each needed node, in order, how many loops must be open for it to be known."""
        levels: dict[int, int] = {}
        for n in sorted(self.needed()):
            node = self.graph.nodes[n]
            level = max((levels[a] for a in node.args), default=0)
            levels[n] = max(level, depth(node.extra[1], levels)) if node.op == "load" else level
        return levels


def depth(at: Component, levels: dict[int, int]) -> int:
    """How many loops must be open for a position to be known."""
    if isinstance(at, int):
        return 0
    return max(levels[t.node] if isinstance(t, Dyn) else t + 1 for t, _ in at.terms)


class Fill(NamedTuple):
    """A buffer to be filled before a kernel runs."""

    slot: int
    size: int
    kind: str
    effect: str


def neutral(effect: str, kind: str) -> float | int:
    """What a reduction starts from."""
    if effect in ("max", "min") and kind[0] == "i":
        bounds = np.iinfo(DTYPES[kind])
        return int(bounds.min if effect == "max" else bounds.max)
    return {"add": 0, "scatter": 0, "mul": 1, "max": -np.inf, "min": np.inf, "and": 1, "or": 0}[effect]
