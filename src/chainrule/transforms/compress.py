"""Sparse Jacobians by compression: few sweeps with sums of unit vectors, and the entries read off.

What depends on the pattern alone is prepared once: the pattern, its colouring, the seeds, and where each entry is found; or how
the entries are computed directly (`transforms.direct`), where that takes less. It holds as long as the function's graph has the
same structure; at another branch, or other indices, it is prepared anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.linear.maps import Slot
from chainrule.trace.sparse import Layout
from chainrule.transforms.direct import Direct, plan_terms
from chainrule.transforms.linearised import Linearised, pull, push, swept
from chainrule.transforms.sparsity import Structure, pattern, structure

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from chainrule.transforms.colour import Colouring

Side = Literal["auto", "forward", "reverse", "symmetric"]

# Structures of one signature that are remembered.
_MOST = 16
# What finding an entry by substitution costs, in elements of sweeps; and the most that are found one from the other.
_SUBSTITUTED, _DEEPEST = 5, 64


@dataclass(frozen=True, eq=False)
class Compression:
    """How one pattern is compressed and recovered. `index` has each entry's place in the forward sweeps' results, a row a colour,
    followed by the reverse sweeps', or by what is found from them by substitution, for which `steps` are the indices.
    """

    pattern: csr_array
    colouring: Colouring
    layout: Layout
    index: NDArray[np.int64]
    steps: tuple[NDArray[np.int64], ...]
    forward_seeds: NDArray[np.float64]
    reverse_seeds: NDArray[np.float64]

    @property
    def pays(self) -> bool:
        """Whether compression saves most of the entries and most of the sweeps."""
        m, n = self.layout.shape
        return 4 * self.pattern.nnz <= m * n and 4 * self.colouring.colours <= min(m, n)


def prepare(found: csr_array, side: Side = "auto", sweep: int = 0) -> Compression:
    """Colour the pattern of a Jacobian, of which one sweep computes so many elements."""
    if side == "symmetric":
        found = _both(found, found.T.tocsr())
    colouring = _coloured(found, side, sweep)
    layout = Layout(colouring.indptr, colouring.indices, colouring.shape)
    m, c = colouring.shape[0], colouring.column_colours

    def by_colour(places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(places < m * c, places % max(c, 1) * m + places // max(c, 1), places)

    steps = colouring.substitution
    return Compression(
        found,
        colouring,
        layout,
        by_colour(colouring.index),
        () if steps is None else (steps.order, by_colour(steps.source), by_colour(steps.sink)),
        np.ascontiguousarray(colouring.column_seed.T),
        np.ascontiguousarray(colouring.row_seed.T),
    )


def _both(a: csr_array, b: csr_array) -> csr_array:
    """Entries of both: what a symmetric matrix can have."""
    from scipy.sparse import csr_array

    found = csr_array(a.astype(np.int8).multiply(b.astype(np.int8)))
    found.sum_duplicates()
    return csr_array((np.ones(found.nnz, bool), found.indices, found.indptr), shape=found.shape)


def _coloured(found: csr_array, side: Side, sweep: int) -> Colouring:
    from chainrule.transforms.colour import colour  # scipy and llvmlite load at first use

    if side == "symmetric":
        return _symmetric(found, sweep)
    if side == "reverse":
        return colour(found, kind="row")
    columns = colour(found, kind="column")
    usual = found.nnz / max(1, np.count_nonzero(np.diff(found.indptr)))
    if side == "forward" or columns.colours <= 2 * usual + 4:
        return columns
    other = colour(found, kind="bidirectional")
    return other if other.colours < columns.colours else columns


def _symmetric(found: csr_array, sweep: int) -> Colouring:
    """A star colouring, or an acyclic one where the sweeps that it saves take longer than its substitution, which is not deep."""
    from chainrule.transforms.colour import colour

    star = colour(found, kind="star")
    substituted = _SUBSTITUTED * (found.nnz // 2)
    if (star.colours - 2) * sweep <= substituted:
        return star
    acyclic = colour(found, kind="acyclic")
    steps = acyclic.substitution
    saved = (star.colours - acyclic.colours) * sweep
    return acyclic if steps is not None and steps.depth <= _DEEPEST and saved > substituted else star


@dataclass(eq=False)
class Known:
    """What was found out for one structure: its compression, None where its pattern is not worth one; how its entries are
    computed directly, None where they cannot be; and whether they are, in staged functions (True) and others (False).
    """

    structure: Structure
    compression: Compression | None = None
    direct: Direct | None = None
    is_coloured: bool = False
    is_tried: bool = False
    is_direct: dict[bool, bool] = field(default_factory=dict)


class Prepared:
    """What is known of one function and one signature, by structure."""

    def __init__(self, side: Side = "auto") -> None:
        self.side: Side = side
        self.known: list[Known] = []

    def here(self, graph: Linearised) -> Known:
        """What is known for a graph's structure, which is remembered from now on."""
        found = structure(graph)
        for known in self.known:
            if known.structure.agrees(found):
                return known
        known = Known(found.kept())
        self.known = [known, *self.known[: _MOST - 1]]
        return known

    @overload
    def of(self, graph: Linearised, worth: None = None) -> Compression: ...
    @overload
    def of(self, graph: Linearised, worth: Callable[[csr_array], bool] | None) -> Compression | None: ...
    def of(self, graph: Linearised, worth: Callable[[csr_array], bool] | None = None) -> Compression | None:
        """The compression for a graph: one known for its structure, or a new one; None where its pattern is not worth it."""
        known = self.here(graph)
        if known.compression is None and not (known.is_coloured and worth is not None):
            known.is_coloured = True
            found = pattern(graph)
            if worth is None or worth(found):
                sweep = sum(graph.types[v].size for v, edges in enumerate(graph.incoming) for _ in edges)
                known.compression = prepare(found, self.side, sweep)
        return known.compression

    def direct(self, graph: Linearised, known: Known | None = None) -> Direct | None:
        """How the entries of a graph are computed directly; None where they cannot be."""
        known = self.here(graph) if known is None else known
        if not known.is_tried:
            known.is_tried = True
            known.direct = plan_terms(graph, symmetric=self.side == "symmetric")
        return known.direct


def entries(graph: Linearised, compression: Compression, chunk: int | None = None) -> Array:
    """The entries of the sparse Jacobian, by compressed sweeps of at most `chunk` at once."""
    parts = []
    if len(compression.forward_seeds):
        parts.append(_sweeps(graph, compression.forward_seeds, chunk, forward=True))
    if len(compression.reverse_seeds):
        parts.append(_sweeps(graph, compression.reverse_seeds, chunk, forward=False))
    if not parts:
        return np.zeros(0, np.result_type(np.float32, *(v.dtype for v in graph.values)))
    if compression.steps:
        parts.append(ops.substitute(parts[0], *compression.steps))
    flat = parts[0] if len(parts) == 1 else ops.concatenate(*parts, axis=0)
    return ops.gather(flat, compression.index, key=(Slot(0),))


def _sweeps(graph: Linearised, seeds: NDArray[np.float64], chunk: int | None, *, forward: bool) -> Array:
    """The results of the sweeps, a row each, flattened."""
    step = chunk or len(seeds)
    rows = [_rows(graph, seeds[i : i + step], forward=forward) for i in range(0, len(seeds), step)]
    flat = [ops.reshape(r, shape=(r.shape[0] * r.shape[1],)) for r in rows]
    return flat[0] if len(flat) == 1 else ops.concatenate(*flat, axis=0)


def _rows(graph: Linearised, seeds: NDArray[np.float64], *, forward: bool) -> Array:
    size = len(seeds)
    if forward:
        found = swept(graph, push, split(graph, graph.inputs, seeds), graph.roots)
        by_vertex = dict(zip(graph.roots, found, strict=True))
        blocks = [
            np.zeros((size, n)) if v is None else ops.reshape(by_vertex[v], shape=(size, n))
            for v, n in zip(graph.outputs, graph.output_sizes, strict=True)
        ]
    else:
        found = swept(graph, pull, _split_outputs(graph, seeds), graph.inputs)
        blocks = [ops.reshape(x, shape=(size, n)) for x, n in zip(found, graph.input_sizes, strict=True)]
    return blocks[0] if len(blocks) == 1 else ops.concatenate(*blocks, axis=1)


def split(graph: Linearised, vertices: Sequence[int], seeds: NDArray[np.float64]) -> dict[int, Array]:
    """Columns of seeds as arrays of the vertices' shapes and dtypes."""
    out, start = {}, 0
    for v in vertices:
        kind = graph.types[v]
        block = seeds[:, start : start + kind.size]
        out[v] = block.astype(kind.dtype, copy=False).reshape(len(seeds), *kind.shape)
        start += kind.size
    return out


def _split_outputs(graph: Linearised, seeds: NDArray[np.float64]) -> dict[int, Array]:
    """The same for outputs, of which several may be one vertex."""
    out: dict[int, Array] = {}
    start = 0
    for v, n in zip(graph.outputs, graph.output_sizes, strict=True):
        if v is not None:
            kind = graph.types[v]
            block = seeds[:, start : start + n].astype(kind.dtype).reshape(len(seeds), *kind.shape)
            out[v] = out[v] + block if v in out else block
        start += n
    return out
