"""Recording: the tape of a reverse sweep, and the recorder of whole programs.

Both keep a list of nodes, each an operation with its values. A tape keeps what carries derivatives of its inputs; a recorder
keeps all that depends on its inputs, comparisons too, and where each came from. A tape holds values; a recorder holds types, and
computes what it is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.errors import TraceError, user_frame
from chainrule.ir.origin import Origin, running
from chainrule.ir.pending import Pending, settled, suspended
from chainrule.ir.primitive import Params, Primitive, Trace, TracerBase, bind, concrete, missing_derivative
from chainrule.ir.types import Array
from chainrule.prims.families import Elementwise
from chainrule.trace.operands import Constants, Operands
from chainrule.trace.tracer import Tracer

# Read in every operation; an attribute of NumPy's is slower to find while a thread traces (see intercept).
ndarray = np.ndarray


class Node:
    """One operation of a recording: what was computed, from which nodes, with which values.

    An input has no primitive and no parents. Nodes are made without arguments: one is made in every operation, and assigning
    its slots there is twice as fast as a constructor.
    """

    __slots__ = ("out", "params", "parents", "primitive", "values")

    out: Any
    params: Params
    parents: Sequence[Node | None]
    primitive: Primitive | None
    values: Sequence[Array]


def leaf(x: Array, params: Params) -> Node:
    """The node of an input."""
    node = Node()
    node.primitive, node.parents, node.values, node.out, node.params = None, (), (), x, params
    return node


class Part(Node):
    """One output of several: no primitive, and the operation's node as its sole parent."""

    __slots__ = ("row", "whole")

    def __init__(self, whole: Node, row: int, out: Array) -> None:
        self.primitive, self.parents, self.values, self.out, self.params = None, (whole,), (), out, {}
        self.row = row
        self.whole = whole


class TapeTracer(Tracer):
    """A tracer of a tape, whose node is its `data`. Made without arguments, as nodes are."""

    __slots__ = ()
    __init__ = object.__init__


class Tape(Trace):
    """Records the operations through which its inputs' derivatives flow.

    `note` takes a node into the recording; here it is the list's own append, since it runs once an operation.
    """

    __slots__ = ("nodes", "note", "operands")
    handle: type[TapeTracer] = TapeTracer
    keeps_all = False  # whether operations without derivative are recorded too
    note: Callable[[Node], None]

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.note = self.nodes.append
        self.operands = Operands()

    def input(self, x: Array) -> Tracer:
        """A tracer for one input."""
        tracer: TapeTracer = self.handle()
        tracer.value, tracer.owner, tracer.data, tracer.shared = x, self, leaf(x, {}), False
        return tracer

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        if not self.is_open:
            raise escaped()
        values: list[Array] = []
        parents: list[Node | None] = []
        plain = True  # whether no value belongs to a trace below
        for a in args:
            parent = None
            if isinstance(a, TracerBase):
                if a.owner is self:
                    parent = a.data
                    a = a.value
                plain = plain and not isinstance(a, TracerBase)
            elif type(a) is ndarray:
                a = self.operands.held(a)
            values.append(a)
            parents.append(parent)
        value = primitive.value
        # Most operations have no parameters, and passing none is faster than passing an empty dictionary.
        out = bind(primitive, values, params) if not plain else value(*values, **params) if params else value(*values)
        node = Node()
        node.primitive, node.parents, node.values, node.out, node.params = primitive, parents, values, out, params
        if not primitive.ordinary:
            return self._special(node)
        self.note(node)
        tracer = self._tracer(node)
        if primitive.view:
            share(tracer, args)
        return tracer

    # The two below are `process` with all that can be written out in one function, since most operations come this way.

    def unary(self, primitive: Primitive, compute: Callable[..., Any], x: TracerBase, params: Params) -> Any:
        if not self.is_open:
            raise escaped()
        node = Node()
        value = x.value
        if isinstance(value, TracerBase):
            out = bind(primitive, (value,), params)
        else:
            out = compute(value, **params) if params else compute(value)
        node.primitive = primitive
        node.parents = (x.data,)
        node.values = (value,)
        node.out = out
        node.params = params
        if not primitive.ordinary:
            return self._special(node)
        self.note(node)
        tracer = self.handle()
        tracer.value = out
        tracer.owner = self
        tracer.data = node
        tracer.shared = False
        if primitive.view:
            x.shared = tracer.shared = True
        return tracer

    def binary(self, primitive: Primitive, compute: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        if not self.is_open:
            raise escaped()
        first = second = None
        if isinstance(x, TracerBase):
            first, x = x.data, x.value
        elif type(x) is ndarray:
            x = self.operands.held(x)
        if isinstance(y, TracerBase):
            second, y = y.data, y.value
        elif type(y) is ndarray:
            y = self.operands.held(y)
        node = Node()
        node.primitive = primitive
        node.parents = (first, second)
        node.values = (x, y)
        node.out = out = compute(x, y)
        node.params = {}
        if not primitive.ordinary:
            return self._special(node)
        self.note(node)
        tracer = self.handle()
        tracer.value = out
        tracer.owner = self
        tracer.data = node
        tracer.shared = False
        return tracer

    def _special(self, node: Node) -> Any:
        """The result of an operation that is not ordinary, recorded where it is to be."""
        primitive: Any = node.primitive
        if not (primitive.differentiable or self.keeps_all):
            return node.out
        if primitive.has_missing and not self.keeps_all:
            refuse_missing(primitive, node.parents)
        self.note(node)
        if primitive.outputs == 1:
            return self._tracer(node)
        return tuple(self._one_of_several(node, row, o) for row, o in enumerate(node.out))

    def attach(self, primitive: Primitive, args: Sequence[Array], outs: tuple[Array, ...], params: Params) -> Any:
        """Record an operation of several outputs that have been computed already, one level down."""
        if not self.is_open:
            raise escaped()
        node = self._node(primitive, args, params)
        node.out = outs
        self.note(node)
        return tuple(self._one_of_several(node, row, o) for row, o in enumerate(outs))

    def _node(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Node:
        """The node of an operation on these arguments, its output still to come."""
        pairs = [unwrap(a, self) for a in args]
        node = Node()
        node.primitive, node.params = primitive, params
        node.parents = [p for _, p in pairs]
        node.values = [self.operands.held(v) if type(v) is ndarray and p is None else v for v, p in pairs]
        return node

    def _one_of_several(self, node: Node, row: int, out: Array) -> Tracer:
        part = Part(node, row, out)
        self.note(part)
        return self._tracer(part)

    def _tracer(self, node: Node) -> TapeTracer:
        tracer: TapeTracer = self.handle()
        tracer.value, tracer.owner, tracer.data, tracer.shared = node.out, self, node, False
        return tracer


def share(view: TracerBase, args: Sequence[Array]) -> None:
    """Mark a view and what it is a view of: operations in place on either would have to change both."""
    view.shared = True
    for a in args:
        if isinstance(a, TracerBase):
            a.shared = True


def refuse_missing(primitive: Primitive, carried: Sequence[Any]) -> None:
    """Raise where a derivative is asked for that has no rule: at the operation, not later in a sweep."""
    for k, data in enumerate(carried):
        if data is not None and primitive.missing(k):
            raise missing_derivative(primitive, k)


def escaped() -> TraceError:
    """The error for a value whose trace has ended."""
    return TraceError(
        "a traced value was used after the transformation that made it had ended",
        "Return it from the differentiated function (has_aux=True for values that are not differentiated), or keep cr.value(x).",
    )


NUMBERS = (int, float, complex)
"""Python's own numbers; in an operation with an array they take its precision."""


class NumberTracer(TapeTracer):
    """A traced number of Python's: its value stays one, so that NumPy promotes it as such."""

    __slots__ = ()
    shape = ()
    ndim = 0
    size = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(type(self.value))

    def __pow__(self, other: Any, modulo: None = None) -> Any:
        return _number_if(super().__pow__(other), self, other)

    def __rpow__(self, other: Any) -> Any:
        return _number_if(super().__rpow__(other), self, other)


def _number_if(out: Any, *args: Any) -> Any:
    """The result of Python's operator `**`, which is one of Python's numbers where all arguments are."""
    if isinstance(out, TapeTracer) and all(type(getattr(a, "value", a)) in NUMBERS for a in args):
        out.value = out.value.item() if isinstance(out.value, np.generic) else out.value
        out.__class__ = NumberTracer
    return out


class Recorder(Tape):
    """Records every operation that depends on the inputs, with its origin, and the values on which Python branched."""

    __slots__ = ("guards", "origins")
    keeps_all = True

    def __init__(self) -> None:
        super().__init__()
        self.operands = Constants()
        self.guards: list[tuple[Node, Any]] = []
        self.origins: dict[Node, Origin] = {}
        # No method of the recorder: that would be a cycle, which keeps all values until the garbage collector runs.
        self.note = functools.partial(_note_origin, self.nodes, self.origins)

    def input(self, x: Array) -> Tracer:
        return _numbered(super().input(x))  # type: ignore[no-any-return]

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        if not isinstance(primitive, Elementwise):
            args = [_in_numpy(a) for a in args]
        if any(map(_waits, args)):
            return self._typed(primitive, primitive.value, args, params)
        return super().process(primitive, args, params)

    def unary(self, primitive: Primitive, compute: Callable[..., Any], x: TracerBase, params: Params) -> Any:
        if not isinstance(primitive, Elementwise):
            x = _in_numpy(x)
        if _waits(x):
            return self._typed(primitive, compute, (x,), params)
        return _numbered(super().unary(primitive, compute, x, params))

    def binary(self, primitive: Primitive, compute: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        if type(getattr(x, "value", x)) not in NUMBERS or type(getattr(y, "value", y)) not in NUMBERS:
            if _waits(x) or _waits(y):
                return self._typed(primitive, compute, (x, y), {})
            return super().binary(primitive, compute, x, y)
        try:
            found = compute(concrete(x), concrete(y))
        except ZeroDivisionError:
            return self.process(primitive, (x, y), {})
        if type(found) is bool or (type(found) is int and not _LEAST <= found <= _GREATEST):
            return self.process(primitive, (x, y), {})
        return _numbered(super().binary(primitive, compute, x, y))

    def _typed(self, primitive: Primitive, compute: Callable[..., Any], args: Sequence[Array], params: Params) -> Any:
        """Record an operation whose value is computed when it is asked for."""
        if not self.is_open:
            raise escaped()
        node = self._node(primitive, args, params)
        node.out = _outcome(primitive, compute, node.values, params)
        out = self._special(node)
        if primitive.view:
            share(out, args)
        return out

    def decide(self, tracer: TracerBase) -> Any:
        value = super().decide(tracer)
        self.guards.append((tracer.data, value))
        return value


_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


SMALL = 256
"""Elements of arguments up to which computing an operation takes no longer than typing it."""


def _waits(x: Any) -> bool:
    """Whether an argument makes an operation wait: its value does so itself, or is a large array."""
    value = x.value if isinstance(x, TracerBase) else x
    return type(value) is Pending or (type(value) is ndarray and value.size > SMALL)


def _outcome(primitive: Primitive, compute: Callable[..., Any], values: Sequence[Array], params: Params) -> Any:
    """The output, or outputs, of an operation: typed, to be computed if they are asked for.

    They are computed at once on values of transformations around the recording, which are to see it; and where the types do not
    tell, as where NumPy is to say what does not fit.
    """
    if any(isinstance(v, TracerBase) for v in values):
        return bind(primitive, [settled(v) for v in values], params)
    try:
        types = primitive.infer(values, params)
    except Exception:  # noqa: BLE001 - of whatever kind: NumPy's own is raised below, if it is one of NumPy's too
        types = None
    if types is not None:
        return suspended(primitive, values, params, types)
    return compute(*[settled(v) for v in values], **params)


def _numbered(t: Any) -> Any:
    """A tracer, as one of a number where its value is one."""
    if type(t) is TapeTracer and type(t.value) in NUMBERS:
        t.__class__ = NumberTracer
    return t


def _in_numpy(x: Any) -> Any:
    """A traced number of Python's as one of NumPy's, for operations that ask it for its shape and dtype."""
    if not isinstance(x, NumberTracer):
        return x
    same = TapeTracer()
    same.value, same.owner, same.data, same.shared = np.asarray(x.value)[()], x.owner, x.data, False
    return same


def _note_origin(nodes: list[Node], origins: dict[Node, Origin], node: Node) -> None:
    origin = running.origin
    if origin is None and (frame := user_frame()) is not None:
        origin = Origin(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    if origin is not None:
        origins[node] = origin
        if type(node.out) is Pending:
            node.out.operation.origin = origin
    nodes.append(node)


def recorded_origin(x: Any) -> Origin | None:
    """Where the operation that made a value stood in the user's code, if the value is being recorded as part of a program."""
    x = x[0] if isinstance(x, tuple) else x
    while isinstance(x, TracerBase):
        if isinstance(x.owner, Recorder):
            return x.owner.origins.get(x.data)
        x = x.value
    return None


def unwrap(x: Any, trace: Trace) -> tuple[Any, Any]:
    """The value of x one level down, and what the trace keeps of it; None where x does not belong to the trace."""
    if isinstance(x, TracerBase) and x.owner is trace:
        return x.value, x.data
    return x, None
