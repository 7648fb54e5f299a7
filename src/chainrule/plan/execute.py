"""Running an order: the Jacobian of a linearised function, accumulated as planned."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.primitive import is_tracer, ops
from chainrule.ir.types import Array
from chainrule.linear.algebra import to_dense
from chainrule.linear.maps import convert
from chainrule.plan import eliminate, vertices
from chainrule.plan.chain import Bracket
from chainrule.plan.orders import Order, known_map, segments
from chainrule.trace.sparse import Layout
from chainrule.transforms.compress import Prepared, entries
from chainrule.transforms.linearised import Linearised, Sweep, pull, push, swept

Blocks = list[list[Array]]


def blocks(graph: Linearised, order: Order, prepared: Prepared) -> Blocks:
    """The Jacobian as blocks, a row an output and a column an input, of shape output.shape + input.shape."""
    if order.kind == "chain":
        return _split(graph, _chain(graph, order))
    if order.kind == "vertices":
        return vertices.jacobian(graph, order.elimination) or reverse_blocks(graph)
    if order.kind == "elimination":
        return _split(graph, eliminate.jacobian(graph, order.elimination))
    if order.kind == "compressed":
        compression = prepared.of(graph)
        return _split(graph, _spread(entries(graph, compression, order.chunk), compression.layout))
    direct = prepared.direct(graph) if order.kind == "direct" else None
    if direct is not None:
        return _split(graph, _spread(direct.values(graph), direct.layout))
    return forward_blocks(graph, order.chunk) if order.kind == "forward" else reverse_blocks(graph, order.chunk)


def forward_blocks(graph: Linearised, chunk: int | None = None) -> Blocks:
    """By forward sweeps, a batch of unit tangents an input."""
    columns = []
    for v in graph.inputs:
        kind = graph.types[v]
        found = _unit_sweeps(graph, push, v, kind.size, graph.roots, chunk)
        by_vertex = dict(zip(graph.roots, found, strict=True))
        column = []
        for w, value in zip(graph.outputs, graph.values, strict=True):
            shape = (*np.shape(value), *kind.shape)
            if w is None:
                column.append(np.zeros(shape, value.dtype))
            else:
                flat = ops.reshape(by_vertex[w], shape=(kind.size, prod(np.shape(value))))
                column.append(ops.reshape(ops.transpose(flat, axes=(1, 0)), shape=shape))
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def reverse_blocks(graph: Linearised, chunk: int | None = None) -> Blocks:
    """By reverse sweeps, a batch of unit cotangents an output."""
    rows = []
    for w, value in zip(graph.outputs, graph.values, strict=True):
        n, shape = prod(np.shape(value)), np.shape(value)
        kinds = [graph.types[v] for v in graph.inputs]
        if w is None:
            rows.append([np.zeros((*shape, *k.shape), k.dtype) for k in kinds])
        else:
            found = _unit_sweeps(graph, pull, w, n, graph.inputs, chunk)
            rows.append([ops.reshape(x, shape=(*shape, *k.shape)) for x, k in zip(found, kinds, strict=True)])
    return rows


def _unit_sweeps(
    graph: Linearised, sweep: Sweep, v: int, n: int, wanted: Sequence[int], chunk: int | None
) -> list[Array]:
    """Sweeps of all unit arrays of a vertex, in batches, whose results are put together a row a sweep."""
    kind = graph.types[v]
    step = chunk or max(n, 1)
    if n <= step:
        return swept(graph, sweep, {v: np.eye(n, dtype=kind.dtype).reshape(n, *kind.shape)}, wanted)
    whole: list[Any] = []
    for start in range(0, n, step):
        size = min(step, n - start)
        unit = np.eye(size, n, start, dtype=kind.dtype).reshape(size, *kind.shape)
        whole = _gathered(whole, swept(graph, sweep, {v: unit}, wanted), start, n)
    return [ops.concatenate(*parts, axis=0) if isinstance(parts, list) else parts for parts in whole]


def _gathered(whole: list[Any], found: list[Array], start: int, n: int) -> list[Any]:
    """Plain results are written into one array; traced ones are collected."""
    if any(is_tracer(x) for x in found):
        return [[x] for x in found] if not whole else [[*before, x] for before, x in zip(whole, found, strict=True)]
    if not whole:
        whole = [np.empty((n, *x.shape[1:]), x.dtype) for x in found]
    for out, x in zip(whole, found, strict=True):
        out[start : start + len(x)] = x
    return whole


def _split(graph: Linearised, matrix: Array) -> Blocks:
    """A matrix of all outputs by all inputs, as blocks of their shapes."""
    rows, i = [], 0
    for value, m in zip(graph.values, graph.output_sizes, strict=True):
        row, j = [], 0
        for v, n in zip(graph.inputs, graph.input_sizes, strict=True):
            whole = len(graph.inputs) == 1 and len(graph.values) == 1
            block = matrix if whole else ops.slice(matrix, key=(slice(i, i + m), slice(j, j + n)))
            row.append(ops.reshape(block, shape=(*np.shape(value), *graph.types[v].shape)))
            j += n
        rows.append(row)
        i += m
    return rows


def _spread(data: Array, layout: Layout) -> Array:
    """Entries in their places of a dense matrix."""
    m, n = layout.shape
    if not is_tracer(data):
        out = np.zeros((m, n), data.dtype)
        out[layout.rows, layout.indices] = data
        return out
    from chainrule.linear.maps import Slot

    return ops.scatter_add(data, layout.rows, layout.indices, key=(Slot(0), Slot(1)), shape=(m, n))


# ---- chains


def _chain(graph: Linearised, order: Order) -> Array:
    """The matrix of all outputs by all inputs, by the planned bracketing."""
    assert order.bracket is not None
    parts = segments(graph, order.cuts)
    with np.errstate(all="ignore"):
        found = _accumulated(graph, parts, order.bracket, order.chunk)
    return _outputs(graph, found)


def _outputs(graph: Linearised, matrix: Array) -> Array:
    """Rows of the distinct output vertices, as rows of all outputs: repeated where two are one, zero where constant."""
    if graph.outputs == graph.roots:
        return matrix
    start, n = {}, 0
    for v in graph.roots:
        start[v] = n
        n += graph.types[v].size
    width = matrix.shape[1]
    rows = [
        np.zeros((size, width), matrix.dtype)
        if v is None
        else ops.slice(matrix, key=(slice(start[v], start[v] + size),))
        for v, size in zip(graph.outputs, graph.output_sizes, strict=True)
    ]
    return ops.concatenate(*rows, axis=0)


Parts = Sequence[tuple[list[int], list[int]]]


def _accumulated(graph: Linearised, parts: Parts, b: Bracket, chunk: int | None) -> Array:
    """The Jacobian of the maps of a bracket, as a matrix."""
    sources, sinks = parts[b.first][0], parts[b.last][1]
    if b.how == "known":
        m = known_map(graph, sources, sinks)
        assert m is not None
        return ops.reshape(to_dense(m), shape=(prod(m.out_shape), prod(m.in_shape)))
    outer = None if b.outer is None else _accumulated(graph, parts, b.outer, chunk)
    inner = None if b.inner is None else _accumulated(graph, parts, b.inner, chunk)
    if b.how == "multiply":
        return ops.contract(outer, inner, left=(0, 1), right=(1, 2), to=(0, 2))
    if b.how == "tangent":
        start = sources if inner is None else parts[b.split][1]
        seeds = None if inner is None else ops.transpose(inner, axes=(1, 0))
        return ops.transpose(_through(graph, push, start, sinks, seeds, chunk), axes=(1, 0))
    start = sinks if outer is None else parts[b.split][1]
    return _through(graph, pull, start, sources, outer, chunk)


def _through(
    graph: Linearised, sweep: Sweep, start: Sequence[int], end: Sequence[int], seeds: Array | None, chunk: int | None
) -> Array:
    """Rows of seeds, unit rows where there are none, through a part of the graph."""
    total = sum(graph.types[v].size for v in start)
    count = total if seeds is None else seeds.shape[0]
    step = chunk or max(count, 1)
    rows = []
    for first in range(0, max(count, 1), step):
        size = min(step, count - first)
        part = np.eye(size, total, first) if seeds is None else _taken(seeds, first, size, count)
        rows.append(_joined(swept(graph, sweep, _arrays(graph, start, part), end), size))
    return rows[0] if len(rows) == 1 else ops.concatenate(*rows, axis=0)


def _taken(seeds: Array, first: int, size: int, count: int) -> Array:
    return seeds if size == count else ops.slice(seeds, key=(slice(first, first + size),))


def _arrays(graph: Linearised, vertices: Sequence[int], rows: Array) -> dict[int, Array]:
    out, i = {}, 0
    for v in vertices:
        kind = graph.types[v]
        part = rows if len(vertices) == 1 else ops.slice(rows, key=(slice(None), slice(i, i + kind.size)))
        out[v] = convert(ops.reshape(part, shape=(rows.shape[0], *kind.shape)), kind.dtype)
        i += kind.size
    return out


def _joined(found: Sequence[Array], size: int) -> Array:
    flat = [ops.reshape(x, shape=(size, prod(x.shape[1:]))) for x in found]
    return flat[0] if len(flat) == 1 else ops.concatenate(*flat, axis=1)
