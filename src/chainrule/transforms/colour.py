"""Colouring: few products that hold every entry of a sparse derivative.

Columns of J that share no row can be added up and still be told apart: with S[j, c] = 1 where column j has colour c, every entry of
J is an entry of J S, which takes one forward sweep for each colour. Likewise R^T J, for rows, with reverse sweeps; and a Jacobian
with a few dense rows and columns is best read from both. A symmetric H needs less still, since either of its two entries will do:

    kind            products        condition                                            entries
    column          J S             columns of a colour share no row                     are there
    row             R^T J           rows of a colour share no column                     are there
    bidirectional   J S and R^T J   each entry is alone in one of its two                are there
    star            H S             neighbours differ; no path of 4 has 2 colours        or their mirror images are there
    acyclic         H S             neighbours differ; no cycle has 2 colours            are found by substitution

Greedy colourings take time in proportion to the sum of squares of the numbers of entries of the rows; a row so full that this is
hours is given all its colours at once.

[Curtis, Powell & Reid 1974; Coleman & Moré 1983, 1984; Coleman & Cai 1986; Coleman & Verma 1998; Gebremedhin, Manne & Pothen,
"What color is your Jacobian?", 2005.]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.primitive import ops
from chainrule.transforms import colour_loops as loops

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Kind = Literal["column", "row", "bidirectional", "star", "acyclic"]
Order = Literal["natural", "largest-first", "smallest-last", "incidence-degree", "best"]
Ints = NDArray[np.int64]
Steps = tuple[int, Ints, Ints, Ints, Ints]

ORDERS: tuple[Order, ...] = ("natural", "largest-first", "smallest-last", "incidence-degree")
# A colouring whose inner loop would take more steps than this is left out where there is another one to take.
_TOO_LONG = 2_000_000_000


class ColourError(ValueError):
    """A pattern that cannot be coloured as asked, or a compressed derivative that does not belong to the colouring."""


@dataclass(frozen=True)
class Colouring:
    """Colours of the columns and of the rows of a pattern (-1: in no product), and where each entry is found again.

    `indptr` and `indices` are the pattern in canonical CSR form. `index[e]` is the place of entry e in the compressed derivative:
    J S in row-major order, then R^T J. In an acyclic colouring it is the place after substitution, see `recover`.
    """

    kind: Kind
    shape: tuple[int, int]
    columns: Ints
    rows: Ints
    column_colours: int
    row_colours: int
    indptr: Ints
    indices: Ints
    index: Ints
    substitution: Substitution | None = None

    @property
    def colours(self) -> int:
        """Products in all: forward sweeps and reverse sweeps."""
        return self.column_colours + self.row_colours

    @cached_property
    def column_seed(self) -> NDArray[np.float64]:
        """S: one column a colour."""
        return _seed(self.columns, self.column_colours)

    @cached_property
    def row_seed(self) -> NDArray[np.float64]:
        """R: one column a colour of the rows."""
        return _seed(self.rows, self.row_colours)

    def __str__(self) -> str:
        """The kind and the numbers of colours."""
        return f"{self.kind}: {self.column_colours} column and {self.row_colours} row colours for {self.shape}"


@dataclass(frozen=True)
class Substitution:
    """How the edges of two-coloured trees are found from their leaves inwards; see `colour_loops.peel`.

    `depth` is the most edges that are found one from the other; rounding errors add up along them.
    """

    order: Ints
    source: Ints
    sink: Ints
    depth: int


def colour(pattern: Any, *, kind: Kind = "column", order: Order = "best") -> Colouring:
    """Colour the non-zeros of `pattern`, any scipy.sparse matrix or array.

    Args:
        pattern: where the derivative may be non-zero; stored entries count, whatever their value.
        kind: see the module; "star" and "acyclic" are for symmetric patterns.
        order: in which the greedy colouring takes its vertices; "best" tries all of them, and the periodic colourings of a grid,
            until one has as few colours as the fullest row demands.

    Raises:
        ColourError: for an unknown kind or order, or a pattern that should be symmetric and is not.

    >>> from scipy.sparse import diags_array
    >>> tridiagonal = diags_array([[1.0] * 9, [1.0] * 10, [1.0] * 9], offsets=[-1, 0, 1])
    >>> [colour(tridiagonal, kind=kind).colours for kind in ("column", "row", "star", "acyclic")]
    [3, 3, 3, 2]
    """
    if kind not in _KINDS:
        raise ColourError(f"kind is one of {', '.join(_KINDS)}, not {kind!r}")
    if order not in (*ORDERS, "best"):
        raise ColourError(f"order is one of {', '.join(ORDERS)}, best, not {order!r}")
    return _KINDS[kind](Pattern.of(pattern), order)


def compress(derivative: Any, colouring: Colouring) -> tuple[NDArray[Any], NDArray[Any]]:
    """J S and R^T J, from a matrix that is at hand: what sweeps with the seeds give where it is not."""
    return derivative @ colouring.column_seed, (derivative.T @ colouring.row_seed).T


def recover(colouring: Colouring, forward: Any = None, reverse: Any = None) -> csr_array:
    """The sparse derivative, in canonical CSR form, from J S (`forward`) and R^T J (`reverse`).

    >>> from scipy.sparse import csr_array
    >>> J = csr_array([[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]])
    >>> c = colour(J)
    >>> c.colours, bool((recover(c, *compress(J, c)) != J).nnz == 0)
    (2, True)
    """
    from scipy.sparse import csr_array

    m, n = colouring.shape
    parts = [
        _part(forward, (m, colouring.column_colours), "forward"),
        _part(reverse, (colouring.row_colours, n), "reverse"),
    ]
    flat = np.concatenate([part for part in parts if part is not None] or [np.zeros(0)])
    if colouring.substitution is not None:
        steps = colouring.substitution
        flat = np.concatenate([flat, ops.substitute(flat, steps.order, steps.source, steps.sink)])
    return csr_array((flat[colouring.index], colouring.indices, colouring.indptr), shape=colouring.shape)


def _part(compressed: Any, shape: tuple[int, int], name: str) -> NDArray[Any] | None:
    if 0 in shape:
        return None
    array = np.zeros((0, 0)) if compressed is None else np.asarray(compressed)
    if array.shape != shape:
        raise ColourError(f"{name} has shape {array.shape}; this colouring needs {shape}")
    return array.ravel()


def _seed(colours: Ints, count: int) -> NDArray[np.float64]:
    seed = np.zeros((len(colours), count))
    coloured = np.flatnonzero(colours >= 0)
    seed[coloured, colours[coloured]] = 1
    return seed


@dataclass(frozen=True)
class Pattern:
    """A pattern by rows and by columns; `place` has, for each entry by columns, its number by rows."""

    shape: tuple[int, int]
    rowptr: Ints
    rowcol: Ints

    @classmethod
    def of(cls, matrix: Any) -> Pattern:
        """The stored entries of any scipy.sparse matrix, sorted, each once."""
        from scipy.sparse import csr_array

        rows = csr_array(matrix)
        if not rows.has_canonical_format:
            rows = csr_array((np.ones(rows.nnz, np.int8), rows.indices.copy(), rows.indptr.copy()), shape=rows.shape)
            rows.sum_duplicates()
        m, n = rows.shape
        return cls((int(m), int(n)), rows.indptr.astype(np.int64), rows.indices.astype(np.int64))

    @cached_property
    def _columns(self) -> tuple[Ints, Ints, Ints]:
        from scipy.sparse import csr_array

        numbered = csr_array((np.arange(self.nnz), self.rowcol, self.rowptr), shape=self.shape).tocsc()
        return numbered.indptr.astype(np.int64), numbered.indices.astype(np.int64), numbered.data.astype(np.int64)

    @property
    def nnz(self) -> int:
        """Entries."""
        return len(self.rowcol)

    @property
    def colptr(self) -> Ints:
        """Where each column starts in `colrow`."""
        return self._columns[0]

    @property
    def colrow(self) -> Ints:
        """Rows of the entries, column by column."""
        return self._columns[1]

    @property
    def place(self) -> Ints:
        """The number by rows of each entry by columns."""
        return self._columns[2]

    @cached_property
    def row_of(self) -> Ints:
        """Rows of the entries, row by row."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.rowptr))

    @cached_property
    def transposed(self) -> Pattern:
        """Rows and columns exchanged."""
        return Pattern(self.shape[::-1], self.colptr, self.colrow)

    def only(self, rows: NDArray[np.bool_]) -> Pattern:
        """The pattern with the entries of the other rows taken out."""
        kept = rows[self.row_of]
        counts = np.where(rows, np.diff(self.rowptr), 0)
        return Pattern(self.shape, np.concatenate([[0], np.cumsum(counts)]), self.rowcol[kept])

    @property
    def fullest(self) -> int:
        """Entries of the fullest row: no column colouring has fewer colours."""
        return int(np.diff(self.rowptr).max(initial=0))

    @property
    def steps(self) -> int:
        """Steps that a partial colouring of the columns takes."""
        return int((np.diff(self.rowptr).astype(float) ** 2).sum())


def _two_steps(pattern: Pattern) -> Steps:
    """From a column to those that it shares a row with."""
    return 2, pattern.colptr, pattern.colrow, pattern.rowptr, pattern.rowcol


def _one_step(graph: Pattern) -> Steps:
    """From a vertex to its neighbours."""
    return 1, graph.rowptr, graph.rowcol, graph.rowptr, graph.rowcol


def _order(steps: Steps, n: int, order: Order) -> Ints:
    """The vertices in one of the greedy orders."""
    if order == "natural":
        return np.arange(n)
    seen, found, keys = _unset(n), np.empty(n, np.int64), np.zeros(n, np.int64)
    most = loops.degrees(*steps, n, seen, found, keys)
    if order == "largest-first":
        return np.argsort(-keys, kind="stable")
    if order == "incidence-degree":
        keys[:] = 0
    seen[:] = -1
    result, head = np.empty(n, np.int64), _unset(most + 2)
    links = np.empty(n, np.int64), np.empty(n, np.int64)
    loops.dynamic_order(*steps, n, int(order == "incidence-degree"), keys, head, *links, seen, found, result)
    return result


Found = tuple[int, Ints]


def _unset(size: int) -> Ints:
    return np.full(size, -1)


def _least(tries: Iterator[Found], bound: int) -> Found:
    """The colouring of fewest colours, ending early at `bound`."""
    best: Found | None = None
    for found in tries:
        if best is None or found[0] < best[0]:
            best = found
        if best[0] <= bound:
            break
    assert best is not None
    return best


def _orders(order: Order) -> tuple[Order, ...]:
    return ORDERS if order == "best" else (order,)


def _partial(pattern: Pattern, order: Order) -> Found:
    """Columns of a pattern, no two of a colour meeting in a row."""
    return _least(_partial_tries(pattern, order), pattern.fullest)


def _partial_tries(pattern: Pattern, order: Order) -> Iterator[Found]:
    n, quick = pattern.shape[1], pattern.steps <= _TOO_LONG
    for one in _orders(order if quick else "natural"):
        colours = _unset(n) if quick else _spread(pattern)
        steps = _two_steps(pattern)
        count = loops.partial_colour(*steps[1:], _order(steps, n, one), n, _unset(n + 1), colours)
        yield count, colours
        if order == "best" and one == "natural":
            yield from _grid(pattern, count)


def _spread(pattern: Pattern) -> Ints:
    """All colours different in the fullest row, as they must be, and none elsewhere yet.

    The greedy colouring looks through the row again for each of its columns, which takes too long where it has very many.
    """
    colours, row = _unset(pattern.shape[1]), int(np.diff(pattern.rowptr).argmax())
    columns = pattern.rowcol[pattern.rowptr[row] : pattern.rowptr[row + 1]]
    colours[columns] = np.arange(len(columns))
    return colours


def _grid(pattern: Pattern, count: int) -> Iterator[Found]:
    """Colours that repeat over a grid: column j at (x, y, z) of it has colour x + t y + u z modulo p.

    Where the pattern is a stencil, the strides of the grid are among the offsets of its diagonals, and such a colouring can have
    exactly as many colours as the stencil has points, which greedy ones seldom reach.
    """
    n = pattern.shape[1]
    offsets = _diagonals(pattern)
    strides = [int(s) for s in offsets if s > 2]
    grids = [(s, n) for s in strides] + [(s, w) for s, w in itertools.combinations(strides, 2) if w % s == 0]
    for p in range(max(1, pattern.fullest), min(count, 17)):
        for s, w in grids:
            for t, u in itertools.product(range(p), range(p if w < n else 1)):
                if len({_on_grid(int(d), s, w, t, u) % p for d in offsets}) == len(offsets):
                    j = np.arange(n)
                    colours = (j % s + t * (j % w // s) + u * (j // w)) % p
                    colours = np.where(np.diff(pattern.colptr) > 0, colours, -1)
                    if _is_partial(pattern, colours, p):
                        yield p, colours
                        return


def _on_grid(offset: int, s: int, w: int, t: int, u: int) -> int:
    """The change of colour that goes with an offset, taken as the shortest way on the grid."""
    z = (2 * offset + w) // (2 * w)
    rest = offset - z * w
    y = (2 * rest + s) // (2 * s)
    return rest - y * s + t * y + u * z


def _diagonals(pattern: Pattern, most: int = 32) -> Ints:
    """The offsets (column minus row) that have entries; none if there are more than `most`."""
    part = np.unique((pattern.rowcol - pattern.row_of)[:: max(1, pattern.nnz // 4096)])
    if len(part) > most:
        return np.zeros(0, np.int64)
    offsets = np.unique(pattern.rowcol - pattern.row_of)
    return offsets if len(offsets) <= most else np.zeros(0, np.int64)


def _is_partial(pattern: Pattern, colours: Ints, count: int) -> bool:
    return int(_alone(pattern, colours, count).sum()) == pattern.nnz


def _alone(pattern: Pattern, colours: Ints, count: int) -> NDArray[np.bool_]:
    """Entries whose column has a colour that no other entry's column in the row has."""
    alone = np.empty(pattern.nnz, np.int64)
    loops.alone_in_row(pattern.rowptr, pattern.rowcol, colours, pattern.shape[0], np.zeros(count + 1, np.int64), alone)
    return alone.astype(bool)


def _direct(kind: Kind, pattern: Pattern, columns: Found, rows: Found) -> Colouring:
    """A colouring whose entries are all found in J S or else in R^T J."""
    m, n = pattern.shape
    by_column = _alone(pattern, columns[1], columns[0])
    by_row = np.empty(pattern.nnz, bool)
    by_row[pattern.place] = _alone(pattern.transposed, rows[1], rows[0])
    assert np.all(by_column | by_row)
    in_columns = pattern.row_of * columns[0] + columns[1][pattern.rowcol]
    in_rows = m * columns[0] + rows[1][pattern.row_of] * n + pattern.rowcol
    index = np.where(by_column, in_columns, in_rows)
    return Colouring(
        kind, pattern.shape, columns[1], rows[1], columns[0], rows[0], pattern.rowptr, pattern.rowcol, index
    )


def _none(size: int) -> Found:
    return 0, _unset(size)


def _by_column(pattern: Pattern, order: Order) -> Colouring:
    return _direct("column", pattern, _partial(pattern, order), _none(pattern.shape[0]))


def _by_row(pattern: Pattern, order: Order) -> Colouring:
    return _direct("row", pattern, _none(pattern.shape[1]), _partial(pattern.transposed, order))


# Both ways


def _by_both(pattern: Pattern, order: Order) -> Colouring:
    """The best of: columns only, rows only, a few of the fullest rows (columns) taken out to be rows' (columns'), and a star
    colouring of the bipartite graph. Each is tried only while it can still win; the last gains nothing over colours as few as
    the entries of a row (column) where all rows and columns are about as full.
    """
    ways = sorted(_both_ways(pattern, order), key=lambda way: way[0])
    best = ways[0][1]()
    for bound, attempt in ways[1:]:
        if bound < _total(best):
            best = min(best, attempt(), key=_total)
    even = len(ways) == 2 and _total(best) == ways[0][0]
    if not even and pattern.steps + pattern.transposed.steps <= _TOO_LONG:
        best = min(best, _bipartite(pattern, order), key=_total)
    return _direct("bidirectional", pattern, *best)


def _total(found: tuple[Found, Found]) -> int:
    return found[0][0] + found[1][0]


Way = tuple[int, Callable[[], tuple[Found, Found]]]


def _both_ways(pattern: Pattern, order: Order) -> Iterator[Way]:
    """Ways to colour both, each with a number of colours below which it cannot come."""
    turned = pattern.transposed
    for dense in _fullest_rows(pattern):
        rest, taken = pattern.only(~dense), pattern.only(dense).transposed
        bound = rest.fullest + taken.fullest
        yield bound, lambda rest=rest, taken=taken: (_partial(rest, order), _partial(taken, order))  # type: ignore[misc]
    for dense in _fullest_rows(turned):
        rest, taken = turned.only(~dense), turned.only(dense).transposed
        bound = rest.fullest + taken.fullest
        yield bound, lambda rest=rest, taken=taken: (_partial(taken, order), _partial(rest, order))  # type: ignore[misc]


def _fullest_rows(pattern: Pattern) -> Iterator[NDArray[np.bool_]]:
    """No row, then the 1, 2, 4, .. fullest rows, while these are fuller than a row usually is."""
    counts = np.diff(pattern.rowptr)
    yield np.zeros(len(counts), bool)
    filled = np.sort(counts[counts > 0])
    if not len(filled):
        return
    by_count, k = np.argsort(-counts, kind="stable"), 1
    while k < len(filled) and filled[-k] > 2 * filled[len(filled) // 2]:
        dense = np.zeros(len(counts), bool)
        dense[by_count[:k]] = True
        yield dense
        k *= 2


def _bipartite(pattern: Pattern, order: Order) -> tuple[Found, Found]:
    """Star colouring of the graph of rows and columns, less the colours that no entry needs."""
    m, n = pattern.shape
    graph = Pattern(
        (n + m, n + m),
        np.concatenate([pattern.colptr, pattern.rowptr[1:] + pattern.nnz]),
        np.concatenate([pattern.colrow + n, pattern.rowcol]),
    )
    _, colours = _least(_graph_tries(graph, order, _star), 2)
    columns, rows = _compact(colours[:n]), _compact(colours[n:])
    return _needed(pattern, columns, rows)


def _compact(colours: Ints) -> Found:
    """Renumber colours from 0."""
    kinds, renamed = np.unique(colours[colours >= 0], return_inverse=True)
    result = _unset(len(colours))
    result[colours >= 0] = renamed
    return len(kinds), result


def _needed(pattern: Pattern, columns: Found, rows: Found) -> tuple[Found, Found]:
    """Drop the colours without which every entry is still alone in one of its two."""
    by_column = _alone(pattern, columns[1], columns[0])
    by_row = np.empty(pattern.nnz, bool)
    by_row[pattern.place] = _alone(pattern.transposed, rows[1], rows[0])
    c, r = columns[1][pattern.rowcol], rows[1][pattern.row_of]
    keep_c, keep_r = np.zeros(columns[0], bool), np.zeros(rows[0], bool)
    keep_c[c[by_column & ~by_row]] = True
    keep_r[r[by_row & ~by_column]] = True
    while True:  # what is left can go either way: keep the colour that serves most
        free = ~((by_column & keep_c[c]) | (by_row & keep_r[r]))
        if not free.any():
            break
        uses_c, uses_r = np.bincount(c[free], minlength=columns[0]), np.bincount(r[free], minlength=rows[0])
        if uses_c.max() >= uses_r.max():
            keep_c[uses_c.argmax()] = True
        else:
            keep_r[uses_r.argmax()] = True
    return _compact(_where_kept(columns[1], keep_c)), _compact(_where_kept(rows[1], keep_r))


def _where_kept(colours: Ints, keep: NDArray[np.bool_]) -> Ints:
    return np.where((colours >= 0) & np.append(keep, False)[colours], colours, -1)


# Symmetric patterns


def _graph(pattern: Pattern) -> Pattern:
    """The adjacency graph of a symmetric pattern: its entries off the diagonal."""
    turned = pattern.transposed
    same = pattern.shape[0] == pattern.shape[1] and np.array_equal(pattern.rowptr, turned.rowptr)
    if not (same and np.array_equal(pattern.rowcol, turned.rowcol)):
        raise ColourError("star and acyclic colourings are for symmetric patterns; this one is not")
    off = pattern.rowcol != pattern.row_of
    counts = np.bincount(pattern.row_of[off], minlength=pattern.shape[0])
    return Pattern(pattern.shape, np.concatenate([[0], np.cumsum(counts)]), pattern.rowcol[off])


def _edges(graph: Pattern) -> Ints:
    edge = np.empty(graph.nnz, np.int64)
    loops.number_edges(graph.rowptr, graph.rowcol, graph.shape[0], graph.rowptr.copy(), edge)
    return edge


def _star(graph: Pattern, edge: Ints, order: Ints) -> Found:
    n, e, colours = graph.shape[0], graph.nnz // 2, _unset(graph.shape[0])
    stars, firsts = (_unset(e), _unset(e)), (_unset(n), _unset(n), _unset(n))
    where = graph.rowptr, graph.rowcol, edge
    return loops.star_colour(*where, order, n, _unset(n + 1), _unset(n), *stars, *firsts, colours), colours


def _acyclic(graph: Pattern, edge: Ints, order: Ints) -> Found:
    n, e, colours = graph.shape[0], graph.nnz // 2, _unset(graph.shape[0])
    trees, firsts = (np.arange(e), np.ones(e, np.int64), _unset(e), _unset(e)), (_unset(n), _unset(n))
    where = graph.rowptr, graph.rowcol, edge
    return loops.acyclic_colour(*where, order, n, _unset(n + 1), *trees, *firsts, colours), colours


def _graph_tries(graph: Pattern, order: Order, greedy: Callable[[Pattern, Ints, Ints], Found]) -> Iterator[Found]:
    edge = _edges(graph)
    for one in _orders(order):
        yield greedy(graph, edge, _order(_one_step(graph), graph.shape[0], one))


def _by_star(pattern: Pattern, order: Order) -> Colouring:
    graph = _graph(pattern)
    count, colours = _least(_graph_tries(graph, order, _star), 1 + min(2, graph.fullest))
    alone = _alone(pattern, colours, count)
    here = pattern.row_of * count + colours[pattern.rowcol]
    mirrored = pattern.rowcol * count + colours[pattern.row_of]
    index = np.where(alone, here, mirrored)
    none = _none(pattern.shape[0])[1]
    return Colouring("star", pattern.shape, colours, none, count, 0, pattern.rowptr, pattern.rowcol, index)


def _by_trees(pattern: Pattern, order: Order) -> Colouring:
    graph = _graph(pattern)
    count, colours = _least(_graph_tries(graph, order, _acyclic), 1 + min(1, graph.fullest))
    n, edge = pattern.shape[0], _edges(graph)
    plan = _peel(graph, edge, colours, count)
    index = pattern.row_of * count + colours[pattern.rowcol]  # right as it is on the diagonal
    index[pattern.rowcol != pattern.row_of] = n * count + edge
    none = _none(n)[1]
    return Colouring("acyclic", pattern.shape, colours, none, count, 0, pattern.rowptr, pattern.rowcol, index, plan)


def _peel(graph: Pattern, edge: Ints, colours: Ints, count: int) -> Substitution:
    edges, slots = graph.nnz // 2, graph.shape[0] * count
    ends = np.empty((edges, 2), np.int64)
    upper = graph.rowcol > graph.row_of
    ends[edge[upper]] = np.stack([graph.row_of[upper], graph.rowcol[upper]], axis=1)
    source, sink, order = (np.empty(edges, np.int64) for _ in range(3))
    scratch = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    peeled = loops.peel(ends.ravel(), edges, colours, count, *scratch, source, sink, np.zeros(edges, np.int64), order)
    assert peeled == edges
    return Substitution(order, source, sink, loops.depth(order, source, sink, edges, np.zeros(slots, np.int64)))


_KINDS: dict[str, Callable[[Pattern, Order], Colouring]] = {
    "column": _by_column,
    "row": _by_row,
    "bidirectional": _by_both,
    "star": _by_star,
    "acyclic": _by_trees,
}
