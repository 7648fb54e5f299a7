"""Accumulating Jacobians by plan: the order is chosen once for each kind of arguments, and kept."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, Literal

import numpy as np

from chainrule.errors import DifferentiationError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.ir.types import Array
from chainrule.plan import orders
from chainrule.plan.execute import Blocks, blocks
from chainrule.plan.machine import machine
from chainrule.plan.orders import Costs, Order
from chainrule.plan.plans import Plan, candidates, choose, fingerprint, make_plan, size_text
from chainrule.trace.record import is_recorded
from chainrule.transforms import batch, forward
from chainrule.transforms.compress import Prepared, Side, entries
from chainrule.transforms.direct import Direct
from chainrule.transforms.linearised import Flat, Linearised
from chainrule.transforms.sizes import sizes

Mode = Literal["auto", "forward", "reverse", "elimination"]

# Jacobians of fewer entries than this are left dense by sparse="auto".
_WORTH_SPARSE = 10_000
_MOST_KEPT = 64
# Jacobians of no more entries are accumulated by the pure mode of fewer sweeps.
SMALL = 2_500
# A staged function of few scalars is eliminated where that takes at most this share of the multiplications of the better pure mode.
_FEW, _PAYS = 500, 0.75


class Accumulator:
    """How one function's Jacobian is accumulated, and what was found out for the arguments so far."""

    def __init__(
        self,
        mode: Mode = "auto",
        sparse: bool | Literal["auto"] = False,
        memory: int | None = None,
        plan: Plan | None = None,
        *,
        symmetric: bool = False,
    ) -> None:
        self.mode: Mode = mode
        self.sparse = sparse
        self.memory = memory
        self.plan = plan
        self.symmetric = symmetric
        self._prepared: dict[Any, Prepared] = {}
        self._orders: dict[Any, Order] = {}
        self._eliminations: dict[Any, tuple[Order | None]] = {}

    # ---- sparse results

    def matrix(self, graph: Linearised) -> Any:
        """The Jacobian as a sparse matrix; None where it is to be dense."""
        if self.sparse is False:
            return None
        always = self.sparse is True
        if not always and sum(graph.input_sizes) * sum(graph.output_sizes) < _WORTH_SPARSE:
            return None
        direct = self._direct(graph)
        if direct is not None:
            return direct.layout.matrix(direct.values(graph)) if always or direct.pays else None
        compression = self.prepared(graph).of(graph)
        if not always and not compression.pays:
            return None
        chunk = None
        if self.memory is not None:
            costs = Costs(machine(), self.memory, orders.held_bytes(graph))
            chunk = orders.compressed(graph, costs, compression, sparse=True).chunk
        return compression.layout.matrix(entries(graph, compression, chunk))

    def _direct(self, graph: Linearised) -> Direct | None:
        """How the entries are computed directly, where neither a mode nor a limit is asked for, and sweeps would take longer."""
        if self.memory is not None or self._side(graph) not in ("auto", "symmetric"):
            return None
        prepared = self.prepared(graph)
        if self.plan is not None and self.plan.fingerprint == fingerprint(graph):
            return prepared.direct(graph) if self.plan.chosen.kind == "direct" else None
        known = prepared.here(graph)
        direct = prepared.direct(graph, known)
        if direct is None:
            return None
        staged = any(map(is_recorded, graph.values))
        if staged not in known.is_direct:
            known.is_direct[staged] = _is_cheaper(graph, direct, prepared, staged=staged)
        return direct if known.is_direct[staged] else None

    def prepared(self, graph: Linearised) -> Prepared:
        """The patterns that are known for a graph's inputs and outputs."""
        side = self._side(graph)
        key = (side, *((graph.types[v].shape, graph.types[v].dtype) for v in graph.inputs), tuple(graph.output_sizes))
        found: Prepared = _kept(self._prepared, key, lambda: Prepared(side))
        return found

    def _side(self, graph: Linearised) -> Side:
        if self.symmetric:
            return "symmetric"
        if not any(v.dtype.kind == "c" for v in graph.values):
            return "auto" if self.mode == "elimination" else self.mode
        if self.mode == "reverse" and any(graph.types[v].dtype.kind != "c" for v in graph.inputs):
            raise DifferentiationError(
                "reverse mode gives only the real part of a Jacobian from real inputs to complex outputs",
                'Use mode="forward".',
            )
        return "forward"

    # ---- dense results

    def blocks(self, graph: Linearised) -> Blocks:
        """The Jacobian as blocks, a row an output and a column an input."""
        return blocks(graph, self.order(graph), self.prepared(graph))

    def order(self, graph: Linearised) -> Order:
        """The order for a graph: that of the plan given, the mode asked for, or the one chosen."""
        entries = sum(graph.input_sizes) * sum(graph.output_sizes)
        side = self._side(graph)
        if (
            self.plan is None
            and self.memory is None
            and (self.mode == "elimination" or any(map(is_recorded, graph.values)))
        ):
            eliminated = self._eliminated(graph)
            if eliminated is not None:
                return eliminated
        if self.plan is None and self.memory is None and (side in ("forward", "reverse") or entries <= SMALL):
            return _plain(graph, side)
        key = fingerprint(graph)
        if self.plan is not None and self.plan.fingerprint == key:
            return self.plan.chosen
        found: Order = _kept(self._orders, key, lambda: self._chosen(graph, side))
        return found

    def _eliminated(self, graph: Linearised) -> Order | None:
        """Vertex elimination, where it was asked for, or where it pays for a function that is being staged."""
        if self.mode not in ("auto", "elimination") or any(v.dtype.kind == "c" for v in graph.values):
            return None
        found: tuple[Order | None] = _kept(self._eliminations, fingerprint(graph), lambda: (self._elimination(graph),))
        return found[0]

    def _elimination(self, graph: Linearised) -> Order | None:
        costs = Costs(machine(), None, 0)
        found = orders.eliminated(graph, costs, "thorough" if self.mode == "elimination" else "fast")
        if found is None:
            if self.mode == "elimination":
                raise DifferentiationError(
                    "elimination expands a function to scalars; this one has too many, or complex ones",
                    'Use mode="auto", or eliminate in a part of it: vmap(jacobian(part, mode="elimination")).',
                )
            return None
        best = min(o.multiplications for o in orders.pure(graph, costs))
        pays = found.multiplications <= _PAYS * best and sum(t.size for t in graph.types) <= _FEW
        return found if pays or self.mode == "elimination" else None

    def _chosen(self, graph: Linearised, side: Side) -> Order:
        costs = Costs(machine(), self.memory, orders.held_bytes(graph))
        if side in ("forward", "reverse"):
            found = [o for o in orders.pure(graph, costs) if o.kind == side]
        else:
            found = candidates(graph, costs, self.prepared(graph), sparse=False, looking=False)
        return found[choose(found, self.memory)]

    def make_plan(
        self, transform: str, function: str, graph: Linearised, memory: int | None, effort: str = "fast"
    ) -> Plan:
        """The plan for a graph."""
        side = self._side(graph)
        only = self.mode if self.mode == "elimination" else side if side in ("forward", "reverse") else None
        limit = self.memory if memory is None else memory
        if self.plan is not None and self.plan.fingerprint == fingerprint(graph):
            return self.plan
        sparse = self.sparse is True or (self.sparse == "auto" and self.matrix(graph) is not None)
        return make_plan(
            transform,
            function,
            graph,
            prepared=self.prepared(graph),
            sparse=sparse,
            memory=limit,
            only=only,
            effort="thorough" if self.mode == "elimination" else effort,
        )

    # ---- without a recording

    def without_tape(self, f: Flat, leaves: list[Array]) -> Blocks | None:
        """The dense Jacobian by forward mode that records nothing, where a recording would not fit the memory; else None."""
        if self.memory is None or self.mode == "reverse" or self.sparse or any(is_tracer(x) for x in leaves):
            return None
        found, outs = sizes(f, leaves)
        result = sum(t.nbytes for t in outs) * sum(prod(np.shape(x)) for x in leaves)
        if result > self.memory:
            raise DifferentiationError(
                f"the Jacobian itself takes {size_text(result)}, more than the limit of {size_text(self.memory)}",
                "Use sparse=True where most of it is zero, cr.jacobian_operator for its products, or allow more memory.",
            )
        if 3 * found.total + 2 * result <= self.memory:
            return None
        room = self.memory - 2 * result - 4 * found.largest
        chunk = max(1, int(room // max(1, 6 * found.largest)))
        return _forward_only(f, leaves, [t.shape for t in outs], chunk)


def _is_cheaper(graph: Linearised, direct: Direct, prepared: Prepared, *, staged: bool) -> bool:
    """Whether entries are computed faster directly than by compressed sweeps, which are coloured only if that is in doubt.

    Calls of NumPy cost nothing in a function that is being staged.
    """
    costs = Costs(replace(machine(), call=0.0) if staged else machine(), None, 0)
    seconds = orders.directly(graph, costs, direct, sparse=True).seconds
    if seconds <= orders.least_compressed(graph, costs, len(direct.layout.indices), sparse=True).seconds:
        return True
    return seconds <= orders.compressed(graph, costs, prepared.of(graph), sparse=True).seconds


def _kept(known: dict[Any, Any], key: Any, make: Any) -> Any:
    found = known.get(key)
    if found is None:
        if len(known) >= _MOST_KEPT:
            known.pop(next(iter(known)))
        found = known[key] = make()
    return found


def _plain(graph: Linearised, side: Side) -> Order:
    """A pure order, unpriced: the one asked for, or that of fewer sweeps."""
    n, m = sum(graph.input_sizes), sum(graph.output_sizes)
    is_forward = side == "forward" or (side != "reverse" and n < m)
    return Order("forward" if is_forward else "reverse", min(n, m), 0, 0, 0, 0.0, 0)


def _forward_only(f: Flat, leaves: list[Array], shapes: list[tuple[int, ...]], chunk: int) -> Blocks:
    """Forward sweeps of at most `chunk` unit tangents at once, f being run anew for each batch."""
    columns = []
    for k, x in enumerate(leaves):
        n = prod(np.shape(x))
        whole: list[Any] = []
        for start in range(0, max(n, 1), chunk):
            size = min(chunk, n - start)
            unit = np.eye(size, n, start, dtype=x.dtype).reshape(size, *x.shape)

            def one(t: list[Any], k: int = k) -> list[Array]:
                return forward.jvp(f, leaves, [t[0] if i == k else None for i in range(len(leaves))])[1]

            found = batch.vmap(one, [unit], [0], size)
            whole = whole or [np.empty((n, *d.shape[1:]), d.dtype) for d in found]
            for out, d in zip(whole, found, strict=True):
                out[start : start + size] = d
        columns.append(
            [
                ops.reshape(ops.transpose(ops.reshape(w, shape=(n, prod(s))), axes=(1, 0)), shape=(*s, *x.shape))
                for w, s in zip(whole, shapes, strict=True)
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]
