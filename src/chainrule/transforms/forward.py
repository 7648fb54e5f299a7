"""Forward mode: tangents from the inputs on to the outputs, beside the values.

    for each operation y = g(x_1, ..., x_k), first first:    dot y = sum_i (dg/dx_i) dot x_i

One sweep gives the derivative of all outputs in one direction. Nothing is kept but what the user's function still holds, so
memory does not grow with depth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, Primitive, Trace, TracerBase, bind
from chainrule.ir.types import Array
from chainrule.linear.maps import convert
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import Node, Part, Tape, escaped, refuse_missing, share, unwrap
from chainrule.trace.tracer import Tracer
from chainrule.transforms.reverse import Flat, Recording, pull, record, zeros_like


class Forward(Trace):
    """Carries a tangent beside every value."""

    __slots__ = ()
    carries_values = True

    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        if not self.is_open:
            raise escaped()
        values: list[Array] = []
        tangents: list[Array | None] = []
        for a in args:
            value, tangent = unwrap(a, self)
            values.append(value)
            tangents.append(tangent)
        out = bind(primitive, values, params)
        if not primitive.differentiable:
            return out
        if primitive.has_missing:
            refuse_missing(primitive, tangents)
        dots = pushforward(primitive, values, out, params, tangents)
        if primitive.outputs != 1:
            return tuple(self._wrap(o, d) for o, d in zip(out, dots, strict=True))
        tracer = self._wrap(out, dots)
        if primitive.view and isinstance(tracer, TracerBase):
            share(tracer, args)
        return tracer

    def attach(self, primitive: Primitive, args: Sequence[Array], outs: tuple[Array, ...], params: Params) -> Any:
        """The outputs of an operation, which have been computed already, with their tangents."""
        if not self.is_open:
            raise escaped()
        values, tangents = zip(*(unwrap(a, self) for a in args), strict=True)
        dots = pushforward(primitive, values, outs, params, tangents)
        return tuple(self._wrap(o, d) for o, d in zip(outs, dots, strict=True))

    def _wrap(self, out: Array, tangent: Array | None) -> Any:
        return out if tangent is None else Tracer(out, self, tangent)


def pushforward(
    primitive: Primitive, values: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]
) -> Any:
    """The tangent of an operation's output (a tuple for several), in the output's dtype; None where it is zero."""
    with np.errstate(all="ignore"):
        dots = primitive.pushforward(values, out, params, tangents)
    if primitive.outputs == 1:
        return _in_dtype(dots, out)
    return tuple(_in_dtype(d, o) for d, o in zip(dots, out, strict=True))


def _in_dtype(tangent: Array | None, out: Array) -> Array | None:
    return tangent if tangent is None or tangent.dtype == out.dtype else convert(tangent, out.dtype)


def jvp(f: Flat, xs: Sequence[Array], ts: Sequence[Array | None]) -> tuple[list[Any], list[Array]]:
    """The outputs of f at xs, and their tangents in the direction ts; a tangent of None is zero."""
    trace = Forward()
    with tracing():
        outs = f([x if t is None else Tracer(x, trace, t) for x, t in zip(xs, ts, strict=True)])
    trace.is_open = False
    values, tangents = [], []
    for out in outs:
        value, tangent = unwrap(out, trace)
        values.append(value)
        tangents.append(zeros_like(value) if tangent is None else tangent)
    return values, tangents


def _pusher(
    tape: Tape, inputs: Sequence[Node], values: Sequence[Any], nodes: Sequence[Node | None]
) -> Callable[[Sequence[Array | None]], list[Array]]:
    """The function that pushes tangents of the inputs through a recording to the outputs."""

    def push(ts: Sequence[Array | None]) -> list[Array]:
        tape.operands.check()
        tangents: dict[Node, Any] = dict(zip(inputs, ts, strict=True))
        for node in tape.nodes:
            if isinstance(node, Part):
                bundle = tangents.get(node.whole)
                tangents[node] = None if bundle is None else bundle[node.row]
                continue
            assert node.primitive is not None
            dots = [None if p is None else tangents.get(p) for p in node.parents]
            if any(d is not None for d in dots):
                tangents[node] = pushforward(node.primitive, node.values, node.out, node.params, dots)
        out = [None if node is None else tangents.get(node) for node in nodes]
        return [zeros_like(v) if t is None else t for v, t in zip(values, out, strict=True)]

    return push


def linearize(f: Flat, xs: Sequence[Array]) -> tuple[list[Any], Callable[[Sequence[Array | None]], list[Array]]]:
    """The outputs of f at xs, and the function that pushes tangents of xs to tangents of the outputs without running f again."""
    tape, inputs, values, nodes = record(f, xs)
    return values, _pusher(tape, inputs, values, nodes)


def both_ways(
    recording: Recording, xs: Sequence[Array]
) -> tuple[Callable[[Sequence[Array | None]], list[Array]], Callable[[Sequence[Array | None]], list[Array]]]:
    """The pushforward and the pullback of a recording of a function at xs."""
    tape, inputs, values, nodes = recording
    return _pusher(tape, inputs, values, nodes), functools.partial(pull, recording, xs)
