"""The object style: variables that hold their derivative after a backward sweep.

    w = variable(x);  y = any NumPy expression of w;  y.backward();  w.grad

The operations are recorded as a graph of nodes that keep their parents alive, so what nothing refers to any more is freed.
"""

from __future__ import annotations

import weakref
from typing import Any, NoReturn

import numpy as np

from chainrule.errors import DifferentiationError, ShapeError, TraceError
from chainrule.ir.types import Array, ArrayType
from chainrule.trace.intercept import load_surface
from chainrule.trace.operands import Unwatched, Watching, is_large
from chainrule.trace.tape import Node, Tape, TapeTracer, leaf
from chainrule.transforms.reverse import gradients


class Expression(TapeTracer):
    """The value of an expression of variables."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name == "grad":
            raise AttributeError(
                "an expression holds no .grad: ask the variable, and keep it one (`w.value = w.value - step` for `w = w - step`)"
            )
        return super().__getattr__(name)

    def backward(self, ct: Array | None = None) -> None:
        """Add ct^T dself/dw to `w.grad` of every variable w that this value depends on; ct is 1 for a scalar.

        >>> w = variable(np.array([1.0, 2.0]))
        >>> np.sum(w * w).backward()
        >>> w.grad
        array([2., 4.])
        """
        if ct is None:
            if self.shape:
                raise DifferentiationError(
                    f"backward() of {ArrayType.of(self)}: only a scalar has an obvious cotangent",
                    "Sum it first, or pass the cotangent: y.backward(np.ones(y.shape)).",
                )
            ct = np.ones((), self.dtype)[()]
        elif np.shape(ct) != self.shape:
            raise ShapeError(
                f"the cotangent has shape {np.shape(ct)}, the value {self.shape}", "Give them the same shape."
            )
        ancestors = _ancestors(self.data)
        leaves = [n for n in ancestors if n.primitive is None and not n.parents]
        nodes = [n for n in ancestors if n.parents]
        for node in nodes:
            if type(node.values) is Watching:
                node.values.check()
        found = gradients(nodes, leaves, [(self.data, np.asarray(ct, self.dtype)[()])])
        for node, g in zip(leaves, found, strict=True):
            owner: Variable | None = node.params["variable"]()
            if g is not None and owner is not None:
                owner.grad = g if owner.grad is None else owner.grad + g


class Variable(Expression):
    """A variable: `value` is its array, `grad` what backward sweeps have added up, or None."""

    __slots__ = ("grad",)
    grad: Any

    def __repr__(self) -> str:
        return f"Variable({self.value!r})"

    def _rebind(self, new: Any, name: str) -> NoReturn:
        raise TraceError(
            "an operation in place on a variable, which would make it an expression of itself",
            "Change its value: `w.value = w.value - step` for `w -= step`.",
        )


def _watch(node: Node) -> None:
    """A graph's nodes are held by those that come after them; each watches the large plain arrays that it will need."""
    plain = [k for k, p in enumerate(node.parents) if p is None and is_large(node.values[k])]
    if plain:
        node.values = Watching(node.values, plain)


class _Graph(Tape):
    """The trace of all variables: below every other, and without a list of its nodes."""

    __slots__ = ()
    handle = Expression

    def __init__(self) -> None:
        super().__init__()
        self.level = 0
        self.note = _watch
        self.operands = Unwatched()


_graph = _Graph()


def _ancestors(last: Node) -> list[Node]:
    """All nodes that `last` depends on, parents before children."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(last, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack.extend((p, False) for p in node.parents if p is not None and p not in done)
    return order


def variable(x: Array) -> Variable:
    """A variable that holds a copy of x, and its derivative after a backward sweep.

    Gradients of several sweeps add up in `grad`; set it to None to begin anew. Assign `w.value` to change it between sweeps.

    >>> w = variable(3.0)
    >>> (w**2).backward()
    >>> float(w.grad)
    6.0
    """
    load_surface()
    value = np.array(x)[()]
    if value.dtype.kind not in "fc":
        raise DifferentiationError(
            f"a variable of dtype {value.dtype} has no derivative", "Make it floating: x.astype(float)."
        )
    w: Variable = Variable()
    w.value, w.owner, w.shared, w.grad = value, _graph, False, None
    w.data = leaf(value, {"variable": weakref.ref(w)})  # so that the two are no cycle
    return w
