"""Jacobians: dense or sparse, by pure modes or in the order that `plan` finds, and where they are non-zero."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from chainrule.api.arguments import Argnums, Outputs, Selected, check_function, of_staged
from chainrule.api.planning import Mode, accumulator, limited, linearise, planned
from chainrule.errors import DifferentiationError
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.trace.record import is_recorded
from chainrule.transforms import batch, forward, reverse

if TYPE_CHECKING:
    from chainrule.plan.accumulate import Accumulator
    from chainrule.plan.plans import Plan
    from chainrule.transforms.linearised import Linearised

# Jacobians of no more entries are accumulated by the pure mode of fewer sweeps, without looking for another order.
_SMALL = 2_500


def jacobian(
    f: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    mode: Mode = "auto",
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """x -> df/dx with shape f(x).shape + x.shape; for trees, the tree of outputs with trees of inputs in it.

    `mode="forward"` takes a sweep an input element, all in one batch; `"reverse"` one an output element; `"elimination"` expands a
    small function to scalars and multiplies out their graph in the order found to be cheapest. `"auto"` is the order predicted to
    be fastest: one of these, compressed sweeps where many entries are zero, or the cheapest way to multiply out the chain of maps
    between the narrow places that all paths go through (see `plan`). `plan=p` takes the order of a plan made before.
    `memory="500 MB"` is a limit that batches of sweeps keep to. For complex inputs `holomorphic=True` states that f is analytic.

    With `sparse=True` the result is one scipy.sparse.csr_array in canonical format, a row an element of the outputs and a column an
    element of the inputs, flattened one after the other. Its pattern is found once for each kind of arguments, and again where f
    takes another branch; each call then computes each entry by itself or, where that is faster or mode says so, takes a few sweeps
    over a colouring. `sparse="auto"` does so where it saves most of the entries and sweeps, and gives the dense result elsewhere.

    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    >>> jacobian(lambda x: x[1:] - x[:-1], sparse=True)(np.ones(1000)).nnz
    1998
    """
    check_function("jacobian", f, argnums)
    if mode not in ("auto", "forward", "reverse", "elimination"):
        raise ValueError(f"mode is 'auto', 'forward', 'reverse' or 'elimination', not {mode!r}")
    is_plain = sparse is False and memory is None and plan is None
    if is_plain:
        again = lambda g: jacobian(g, argnums, mode=mode, holomorphic=holomorphic)
        staged = of_staged(f, "jacobian", (argnums, mode, holomorphic), again)
        if staged is not None:
            return staged
    way = accumulator(mode, sparse, memory, plan)
    is_pure = is_plain and mode in ("forward", "reverse")
    is_plain = is_plain and mode == "auto"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = Selected(f, args, kwargs, argnums)
        check_holomorphic(selected, holomorphic)
        outputs = Outputs()
        flat = outputs.of(selected.call)
        if is_pure:
            blocks = _JACOBIANS[mode](flat, selected.leaves)
        elif is_plain:
            recording = reverse.record(flat, selected.leaves)
            blocks = _few(recording, selected.leaves) or _ordered(way(), flat, selected.leaves, recording)
        else:
            found = limited(way(), flat, selected.leaves)
            if not isinstance(found, list):
                return found
            blocks = found
        return outputs.rebuild([selected.rebuild(row) for row in blocks])

    return planned(wrapped, "jacobian", f, jacobian_graph(f, argnums), way)


def check_holomorphic(selected: Selected, holomorphic: bool) -> None:
    """Refuse complex arguments of a function that is not stated to be analytic."""
    if not holomorphic and any(x.dtype.kind == "c" for x in selected.leaves):
        raise DifferentiationError(
            "the Jacobian of a function of complex arguments is complex only where the function is analytic",
            "Pass holomorphic=True where it is, or differentiate with respect to real and imaginary part.",
        )


def jacobian_graph(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Linearised]:
    """x -> the graph of local Jacobians of f at x."""

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = Selected(f, args, kwargs, argnums)
        return linearise(Outputs().of(selected.call), selected.leaves)

    return graph_of


def _few(recording: reverse.Recording, leaves: list[Array]) -> list[list[Array]] | None:
    """The blocks of a small Jacobian, or of one that only forward mode can give; None where an order is to be chosen."""
    values = recording[2]
    inputs, outputs = (sum(int(np.prod(x.shape)) for x in xs) for xs in (leaves, values))
    is_complex = any(v.dtype.kind == "c" for v in values)
    if not is_complex and (inputs * outputs > _SMALL or any(map(is_recorded, values))):
        return None
    push, pullback = forward.both_ways(recording, leaves)
    return _columns(push, leaves) if inputs < outputs or is_complex else _rows(pullback, values)


def _ordered(
    way: Accumulator, flat: reverse.Flat, leaves: list[Array], recording: reverse.Recording
) -> list[list[Array]]:
    """The blocks of a Jacobian in the order chosen for its graph."""
    from chainrule.transforms.linearised import of_recording  # loads at first use

    graph = of_recording(recording)
    if graph.carries:
        graph = linearise(flat, leaves)  # this looks into staged functions
    # Operations that carry rules of their own are swept jointly.
    return _auto_blocks(flat, leaves) if graph.carries else way.blocks(graph)


def _basis(x: Array) -> Array:
    """All unit arrays of the type of x, along a leading axis."""
    n = int(np.prod(x.shape))
    return np.eye(n, dtype=x.dtype).reshape(n, *x.shape)


def _columns(push: Callable[[list[Any]], Sequence[Array]], leaves: Sequence[Array]) -> list[list[Array]]:
    """Jacobian blocks, a row an output, from a pushforward: one batch of unit tangents a leaf."""
    if not leaves:
        return [[] for _ in push([])]
    columns = []
    for k, x in enumerate(leaves):
        unit = _basis(x)

        def one(t: list[Any], k: int = k) -> Sequence[Array]:
            return push([t[0] if i == k else None for i in range(len(leaves))])

        dots = batch.vmap(one, [unit], [0], unit.shape[0])
        columns.append([ops.reshape(batch.from_front(d, -1), shape=(*d.shape[1:], *x.shape)) for d in dots])
    return [list(row) for row in zip(*columns, strict=True)]


def _rows(pullback: Callable[[Sequence[Any]], list[Array]], values: Sequence[Array]) -> list[list[Array]]:
    """Jacobian blocks, a row an output, from a pullback: one batch of unit cotangents an output."""
    rows = []
    for j, y in enumerate(values):
        unit = _basis(y)

        def one(ct: list[Any], j: int = j) -> list[Array]:
            return pullback([ct[0] if i == j else None for i in range(len(values))])

        found = batch.vmap(one, [unit], [0], unit.shape[0])
        rows.append([ops.reshape(g, shape=(*y.shape, *g.shape[1:])) for g in found])
    return rows


def _forward_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    return _columns(lambda ts: forward.jvp(f, leaves, ts)[1], leaves)


def _reverse_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    values, pullback = reverse.vjp(f, leaves)
    _refuse_complex_outputs(values, leaves)
    return _rows(pullback, values)


def _refuse_complex_outputs(values: Sequence[Array], leaves: Sequence[Array]) -> None:
    if any(v.dtype.kind == "c" for v in values) and any(x.dtype.kind != "c" for x in leaves):
        raise DifferentiationError(
            "reverse mode gives only the real part of a Jacobian from real inputs to complex outputs",
            'Use mode="forward".',
        )


def _auto_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    recording = reverse.record(f, leaves)
    push, pullback = forward.both_ways(recording, leaves)
    values = recording[2]
    inputs = sum(int(np.prod(x.shape)) for x in leaves)
    outputs = sum(int(np.prod(v.shape)) for v in values)
    if inputs < outputs or any(v.dtype.kind == "c" for v in values):
        return _columns(push, leaves)
    return _rows(pullback, values)


_JACOBIANS: dict[str, Callable[[reverse.Flat, list[Array]], list[list[Array]]]] = {
    "auto": _auto_blocks,
    "forward": _forward_blocks,
    "reverse": _reverse_blocks,
}


def jacfwd(f: Callable[..., Any], argnums: Argnums = 0, *, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by forward mode: `jacobian(f, argnums, mode="forward")`.

    >>> jacfwd(lambda x: np.array([x, x**2]))(3.0)
    array([1., 6.])
    """
    return jacobian(f, argnums, mode="forward", holomorphic=holomorphic)


def jacrev(f: Callable[..., Any], argnums: Argnums = 0, *, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by reverse mode: `jacobian(f, argnums, mode="reverse")`.

    >>> jacrev(lambda x: np.sum(x**2))(np.array([1.0, 3.0]))
    array([2., 6.])
    """
    return jacobian(f, argnums, mode="reverse", holomorphic=holomorphic)


def pattern(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """x -> where the Jacobian of f may be non-zero: a boolean scipy.sparse.csr_array, in the form of `jacobian(f, sparse=True)`.

    It covers the non-zeros for every x with which f takes the same branches. That of a Hessian is `pattern(grad(f))`.

    >>> pattern(lambda x: x * np.sum(x[1:]))(np.ones(3)).toarray().astype(int)
    array([[1, 1, 1],
           [0, 1, 1],
           [0, 1, 1]])
    """
    check_function("pattern", f, argnums)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = Selected(f, args, kwargs, argnums)
        from chainrule.transforms import sparsity  # loads at first use

        return sparsity.pattern(linearise(Outputs().of(selected.call), selected.leaves))

    return wrapped
