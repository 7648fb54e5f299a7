"""The scalar graph of one kernel body: typed nodes, each expression once, constants folded, structural zeros and ones gone.

Kinds: f64, f32, i64, i32, i1. A node is (op, kind, args, extra); arguments are numbers of earlier nodes, so the list is in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm.index import Component, Dyn, Lin

DTYPES = {
    kind: np.dtype(name) for kind, name in (("f64", "f8"), ("f32", "f4"), ("i64", "i8"), ("i32", "i4"), ("i1", "?"))
}
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}

_FOLD = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


class Node(NamedTuple):
    """One scalar operation."""

    op: str
    kind: str
    args: tuple[int, ...]
    extra: Any


class Graph:
    """Nodes, numbered in order of their making."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Any, int] = {}

    def node(self, op: str, kind: str, args: tuple[int, ...] = (), extra: Any = None) -> int:
        """The number of a node; the same expression has the same number."""
        key = (op, kind, args, extra)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.nodes)
            self.nodes.append(Node(op, kind, args, extra))
        return found

    def constant(self, value: Any, kind: str) -> int:
        """A constant; NaN and signed zeros are told apart by their bits."""
        x = np.asarray(value, DTYPES[kind])
        return self.node("const", kind, (), x.tobytes())

    def value(self, n: int) -> Any:
        """The value of a constant node as a NumPy scalar; None for other nodes."""
        node = self.nodes[n]
        return np.frombuffer(node.extra, DTYPES[node.kind])[0] if node.op == "const" else None

    def load(self, slot: int, at: Component, kind: str) -> int:
        """The element of a buffer at a flat position."""
        args = tuple(t.node for t, _ in at.terms if isinstance(t, Dyn)) if isinstance(at, Lin) else ()
        return self.node("load", kind, args, (slot, at))

    # ---- arithmetic

    def arithmetic(self, op: str, a: int, b: int) -> int:
        """a + b, a - b, a * b or a / b, of one kind."""
        kind = self.nodes[a].kind
        x, y = self.value(a), self.value(b)
        if x is not None and y is not None:
            with np.errstate(all="ignore"):
                return self.constant(_FOLD[op](x, y), kind)
        known = self._identity(op, a, b, x, y)
        if known is not None:
            return known
        if op in ("add", "mul") and a > b:
            a, b = b, a
        if op in ("add", "sub") and self.nodes[b].op == "neg":
            return self.arithmetic("sub" if op == "add" else "add", a, self.nodes[b].args[0])
        if op == "add" and self.nodes[a].op == "neg":
            return self.arithmetic("sub", b, self.nodes[a].args[0])
        return self.node(op, kind, (a, b))

    def _identity(self, op: str, a: int, b: int, x: Any, y: Any) -> int | None:
        if op == "add":
            return b if x is not None and x == 0 else a if y is not None and y == 0 else None
        if op == "sub":
            return a if y is not None and y == 0 else self.negative(b) if x is not None and x == 0 else None
        if op == "mul":
            for c, other in ((x, b), (y, a)):
                if c is not None and c == 1:
                    return other
                if c is not None and c == -1:
                    return self.negative(other)
            return None
        return a if y is not None and y == 1 else None

    def negative(self, a: int) -> int:
        """-a."""
        node = self.nodes[a]
        if node.op == "neg":
            return node.args[0]
        x = self.value(a)
        return self.node("neg", node.kind, (a,)) if x is None else self.constant(-x, node.kind)

    def strong(self, t: int, d: int) -> int:
        """t * d, in which a zero of t stays zero whatever d is."""
        x, y = self.value(t), self.value(d)
        if x is not None:
            return t if x == 0 else self.arithmetic("mul", t, d)
        if y is not None and np.isfinite(y):
            return self.arithmetic("mul", t, d)
        if self.nodes[t].op == "neg":
            return self.negative(self.strong(self.nodes[t].args[0], d))
        if self.nodes[d].op == "neg":
            return self.negative(self.strong(t, self.nodes[d].args[0]))
        return self.node("strong", self.nodes[t].kind, (t, d))

    # ---- comparisons and choices

    def compare(self, op: str, a: int, b: int) -> int:
        """Whether a op b."""
        x, y = self.value(a), self.value(b)
        if x is not None and y is not None:
            return self.constant(_COMPARE[op](x, y), "i1")
        return self.node(op, "i1", (a, b))

    def select(self, condition: int, a: int, b: int) -> int:
        """a where the condition holds, else b."""
        c = self.value(condition)
        if c is not None:
            return a if c else b
        return a if a == b else self.node("select", self.nodes[a].kind, (condition, a, b))

    def unary(self, op: str, a: int, kind: str | None = None) -> int:
        """A function of one argument, by name."""
        return self.node(op, kind or self.nodes[a].kind, (a,))

    def cast(self, a: int, kind: str) -> int:
        """a converted as NumPy's astype does."""
        node = self.nodes[a]
        if node.kind == kind:
            return a
        x = self.value(a)
        if x is not None and not (node.kind[0] == "f" and kind[0] == "i"):
            with np.errstate(all="ignore"):
                return self.constant(x.astype(DTYPES[kind]), kind)
        if kind == "i1":
            return self.compare("ne", a, self.constant(0, node.kind))
        return self.node("cast", kind, (a,))

    def total(self, terms: list[int]) -> int:
        """The sum of nodes, added in pairs."""
        while len(terms) > 1:
            paired = [self.arithmetic("add", a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = paired + terms[len(paired) * 2 :]
        return terms[0]
