"""Sparse Jacobians entry by entry: structured maps composed along the graph, with no seeds and no colours.

What a vertex depends on is held as a few terms. A term gives for each element of the vertex one input, its place (-1 for none),
and one value, the derivative by it; values are arrays of the vertex's own shape. Maps that multiply or move elements multiply and
move the values, sums over short axes become several terms, and terms whose places agree are added up. So each entry of the
Jacobian is computed once, from what it depends on, in arrays as long as the function's own.

The same holds backwards: for each element of a vertex one output that it feeds. A part of the graph, D, is gone through forwards,
the rest backwards, and where edges leave D the two meet: every pair of a forward and a backward term gives an entry an element.
D is chosen to make the arrays that are gone through few. Where an index is gathered by many, forwards is the way before it; behind
it, backwards may be.

All places are found once for a structure (`plan_terms`); a call computes values only (`Direct.values`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array, Shape
from chainrule.linear import maps
from chainrule.linear.algebra import transpose
from chainrule.linear.dependence import NOTHING, Groups, move
from chainrule.linear.forms import Einsum, as_einsum
from chainrule.linear.maps import convert
from chainrule.linear.strong import strong_products
from chainrule.trace.sparse import Layout
from chainrule.transforms.assembly import Assembly, assembled, assembly
from chainrule.transforms.linearised import Linearised

Ints = NDArray[Any]
Labels = tuple[int, ...]
At = tuple[int, ...] | None

# Sums of more elements than this are not taken apart, and vertices of more terms are left to sweeps.
_MOST_SUMMED, _MOST_TERMS = 24, 48
_MOST_PARTS, _MOST_ITEMS = 4_000, 256
# What an entry costs beside a multiplication, and how much more work is done for entries that need not be added up.
_ENTRY, _APART = 4.0, 2.5
_MOVES = (maps.Slice, maps.Place, maps.Gather, maps.Scatter, maps.Reshape, maps.Permute)


class Part(NamedTuple):
    """One contribution to a term: a term of another vertex through an edge, at an index along what the map sums over.

    `edge` is (sink, number among its edges), `term` the number among the terms of the edge's other end; `keep` is where the
    contribution counts, None for everywhere. `placed` is where it has places at all, None for everywhere.
    """

    edge: tuple[int, int]
    term: int
    at: At
    keep: Any
    placed: Any


class Term:
    """The places of a term, and what its values are the sum of; a seed has no parts, and is one where it is placed."""

    __slots__ = ("is_even", "parts", "placed", "places")

    def __init__(self, places: Ints, parts: Sequence[Part] = ()) -> None:
        self.places = places
        self.parts = list(parts)

    def settle(self) -> None:
        """Keep of the places where there are some (None for everywhere), and whether every part counts all over there."""
        self.placed = _placed(self.places)
        self.is_even = all(p.keep is None and _same(p.placed, self.placed) for p in self.parts)
        del self.places


def _same(a: Any, b: Any) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _placed(places: Ints) -> Any:
    return None if not places.size or places.min() >= 0 else places >= 0


Terms = list[Term] | None
Found = tuple[At, Ints]


# ---- places through one map


def _through(m: LinearMap, places: Ints, *, forward: bool) -> list[Found] | None:
    """The places of a term on the other side of a map, in one piece or one for each index along what is summed."""
    moved = _moved(m, places, forward=forward)
    if moved is not None:
        return [(None, moved)]
    einsum = as_einsum(m)
    return None if einsum is None else _split(einsum, places, forward=forward)


def _moved(m: LinearMap, places: Ints, *, forward: bool) -> Ints | None:
    """The places moved, where each element on the other side has one of them."""
    if not forward:
        if isinstance(m, maps.Scale | maps.Diagonal | maps.Mask | maps.Expand):
            return places if m.in_shape == m.out_shape else None
        if not isinstance(m, _MOVES):
            return None
        m = transpose(m) if not isinstance(m, maps.Permute) else _inverse(m)
    found = move(m, places)
    if isinstance(found, np.ndarray):
        return found
    if isinstance(m, maps.Scatter) and isinstance(found, Groups):
        return _injected(found.target, places, m.out_shape)
    return None


def _inverse(m: maps.Permute) -> maps.Permute:
    return maps.Permute(
        tuple(int(a) for a in np.argsort(m.axes)), np.broadcast_to(np.zeros((), m.in_dtype), m.out_shape)
    )


def _injected(target: Ints, places: Ints, shape: Shape) -> Ints | None:
    """The places scattered, where no two go to one element."""
    flat = target.ravel()
    if np.bincount(flat, minlength=1).max() > 1:
        return None
    out = np.full(prod(shape), NOTHING, places.dtype)
    out[flat] = places.ravel()
    return out.reshape(shape)


def _sides(e: Einsum, *, forward: bool) -> tuple[Labels, Labels]:
    return (e.inner, e.outer) if forward else (e.outer, e.inner)


def _summed(e: Einsum, *, forward: bool) -> Labels:
    given, wanted = _sides(e, forward=forward)
    return tuple(a for a in given if a not in wanted)


def _split(e: Einsum, places: Ints, *, forward: bool) -> list[Found] | None:
    given, wanted = _sides(e, forward=forward)
    summed = _summed(e, forward=forward)
    axes = tuple(given.index(a) for a in summed)
    first = places[tuple(slice(0, 1) if i in axes else slice(None) for i in range(places.ndim))]
    if places.size and np.array_equal(places, np.broadcast_to(first, places.shape)):
        return [(None, _spread(first.reshape(_without(first.shape, axes)), given, axes, wanted, e.extents))]
    if prod(e.extents[a] for a in summed) > _MOST_SUMMED:
        return None
    return [
        (at, _spread(places[_key(at, axes, places.ndim)], given, axes, wanted, e.extents))
        for at in product(*(range(e.extents[a]) for a in summed))
    ]


def _without(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _key(at: Sequence[int], axes: Sequence[int], rank: int) -> tuple[Any, ...]:
    """The key that takes an array at an index along some of its axes."""
    where = dict(zip(axes, at, strict=True))
    return tuple(where.get(i, slice(None)) for i in range(rank))


def _spread(places: Ints, given: Labels, axes: Sequence[int], wanted: Labels, extents: dict[int, int]) -> Ints:
    """Places with the labels of `given` but for those at `axes`, laid out for the labels `wanted`."""
    left = tuple(a for i, a in enumerate(given) if i not in axes)
    turned = places.transpose([left.index(a) for a in wanted if a in left])
    shape = [extents[a] if a in left else 1 for a in wanted]
    return np.broadcast_to(turned.reshape(shape), tuple(extents[a] for a in wanted))


# ---- terms of one vertex


def _combined(found: Sequence[tuple[Ints, Part]]) -> list[Term] | None:
    """Contributions to a vertex as few terms."""
    terms: list[Term] = []
    for places, part in found:
        for term in terms:
            both = merged(term.places, places)
            if both is not None:
                term.places = both
                term.parts.append(part)
                break
        else:
            terms.append(Term(places, [part]))
            if len(terms) > _MOST_TERMS:
                return None
    if len(terms) > 2:
        for term in list(terms):
            others = [t for t in terms if t is not term]
            if len(others) > 1 and _distributed(term, others):
                terms = others
    return terms


def merged(a: Ints, b: Ints) -> Ints | None:
    """The places of both, where they agree wherever both have one."""
    if a is b:
        return a
    if a.size and any(_differ(a.item(end), b.item(end)) for end in (0, -1)):
        return None
    few = _few(a)
    if few is not None and not _agree(a[few], b[few]):
        return None
    return np.maximum(a, b) if _agree(a, b) else None


def _differ(a: int, b: int) -> bool:
    return a != b and a >= 0 and b >= 0


def _few(places: Ints) -> slice | None:
    """Some elements of a long array, by which most of what does not fit is found out."""
    return slice(None, None, places.shape[0] // 16) if places.ndim and places.shape[0] > 64 else None


def _agree(a: Ints, b: Ints) -> bool:
    return bool(np.all((a == b) | (a == NOTHING) | (b == NOTHING)))


def _distributed(term: Term, others: list[Term]) -> bool:
    """Give each element of a term to another that has the same place there, if there is one for all."""
    if any(p.keep is not None for p in term.parts):
        return False
    few = _few(term.places)
    if few is not None and not _covered(term.places[few], [t.places[few] for t in others]):
        return False
    left = term.places >= 0
    shares = []
    for other in others:
        mine = left & (other.places == term.places)
        if mine.any():
            shares.append((other, mine))
            left &= ~mine
    if left.any():
        return False
    for other, mine in shares:
        other.parts.extend(p._replace(keep=_box(mine)) for p in term.parts)
    return True


def _covered(places: Ints, others: Sequence[Ints]) -> bool:
    """Whether every place is that of another term too."""
    left = places >= 0
    for other in others:
        left = left & (other != places)
    return not left.any()


def _box(mask: NDArray[np.bool_]) -> Any:
    """A mask as the key of a box, if it is one."""
    key = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        key.append(slice(int(line[0]), int(line[-1]) + 1))
    return tuple(key) if mask[tuple(key)].all() else mask


# ---- both ways through the graph


def _forwards(graph: Linearised) -> list[Terms]:
    found: list[Terms] = [None] * len(graph.types)
    offset = 0
    for v in graph.inputs:
        found[v] = [Term(_numbers(offset, graph.types[v].shape))]
        offset += graph.types[v].size
    for v, edges in enumerate(graph.incoming):
        if edges:
            found[v] = _entering(graph, found, v, range(len(edges)))
    return found


def _numbers(offset: int, shape: Shape) -> Ints:
    last = offset + prod(shape)
    return np.arange(offset, last, dtype=np.int32 if last < 2**31 else np.int64).reshape(shape)


def _entering(graph: Linearised, found: Sequence[Terms], v: int, edges: Sequence[int]) -> Terms:
    """Forward terms of a vertex by some of its edges; None where there are none to be had."""
    parts: list[tuple[Ints, Part]] = []
    for i in edges:
        s, m = graph.incoming[v][i]
        if not _carried(parts, found[s], m, (v, i), forward=True):
            return None
    return _combined(parts)


def _carried(
    parts: list[tuple[Ints, Part]], terms: Terms, m: LinearMap, edge: tuple[int, int], *, forward: bool
) -> bool:
    if terms is None:
        return False
    for k, term in enumerate(terms):
        through = _through(m, term.places, forward=forward)
        if through is None:
            return False
        parts.extend((places, Part(edge, k, at, None, _placed(places))) for at, places in through)
    return len(parts) <= _MOST_TERMS * _MOST_SUMMED


def _backwards(graph: Linearised) -> list[Terms]:
    found: list[Terms] = [None] * len(graph.types)
    if any(t.dtype.kind == "c" for t in graph.types):
        return found  # a cotangent gives the real part only
    seeds: dict[int, list[Term]] = {}
    offset = 0
    for v, n in zip(graph.outputs, graph.output_sizes, strict=True):
        if v is not None:
            seeds.setdefault(v, []).append(Term(_numbers(offset, graph.types[v].shape)))
        offset += n
    leaving = _numbered_outgoing(graph)
    for v in reversed(range(len(graph.types))):
        parts: list[tuple[Ints, Part]] = []
        if all(_carried(parts, found[w], graph.incoming[w][i][1], (w, i), forward=False) for w, i in leaving[v]):
            rest = _combined(parts)
            found[v] = None if rest is None else [*seeds.get(v, []), *rest]
    return found


def _numbered_outgoing(graph: Linearised) -> list[list[tuple[int, int]]]:
    out: list[list[tuple[int, int]]] = [[] for _ in graph.types]
    for w, edges in enumerate(graph.incoming):
        for i, (s, _) in enumerate(edges):
            out[s].append((w, i))
    return out


# ---- where the two ways meet


def _price(m: LinearMap) -> float:
    """What a value through a map costs an element; entries, which are stored, cost more."""
    return 0.25 if isinstance(m, _MOVES) else 0.5 if isinstance(m, maps.Scale) else 1.0


def _work(graph: Linearised, terms: Terms, v: int) -> float:
    """What computing the terms of a vertex takes; infinite where there are none to be had."""
    if terms is None:
        return np.inf
    parts = [p.edge for t in terms for p in t.parts]
    return sum(_price(graph.incoming[w][i][1]) for w, i in parts) * graph.types[v].size


def _choices(graph: Linearised, forward: Sequence[Terms], backward: Sequence[Terms]) -> list[tuple[float, set[int]]]:
    """The vertices that are gone through forwards, for little work, and this: the best of several kinds, the best first."""
    n = len(graph.types)
    found = [_split_at(graph, forward, backward, free, range(n + 1)) for free in (set(), _units(graph, forward))]
    found += [_split_at(graph, forward, backward, set(), (i,)) for i in (0, n)]
    return sorted((pair for pair in found if np.isfinite(pair[0])), key=lambda pair: pair[0])


def _split_at(
    graph: Linearised, forward: Sequence[Terms], backward: Sequence[Terms], free: set[int], at: Sequence[int]
) -> tuple[float, set[int]]:
    """The same where D is some vertices that cost nothing, and the first of all, as many as one of `at` says."""
    sizes = [t.size for t in graph.types]
    n = len(sizes)
    ahead = [0.0 if v in free else _work(graph, forward[v], v) for v in range(n)]
    behind = [0.0 if v in free else _work(graph, backward[v], v) for v in range(n)]
    entries = np.zeros(n + 2)
    for v, edges in enumerate(graph.incoming):
        ends = [(0 if s in free else s + 1, len(forward[s] or ())) for s, _ in edges]
        if v in graph.inputs:
            ends.append((0, 1))
        for start, many in ends:
            count = many * len(backward[v] or ()) * sizes[v]
            entries[start] += count
            entries[v + 1 if v not in free else start] -= count
    for v in graph.roots:
        entries[0 if v in free else v + 1] += len(forward[v] or ()) * sizes[v]
    before = np.array([0.0, *accumulate(ahead)])
    after = np.array([*accumulate(reversed(behind), initial=0.0)])[::-1]
    total = before + after + _ENTRY * np.cumsum(entries)[: n + 1]
    best = min(at, key=lambda i: total[i])
    return float(total[best]), {*free, *range(best)}


def _units(graph: Linearised, forward: Sequence[Terms]) -> set[int]:
    """Vertices that are but inputs moved: they cost nothing to go through."""
    units = set(graph.inputs)
    for v, edges in enumerate(graph.incoming):
        if len(edges) == 1 and edges[0][0] in units and isinstance(edges[0][1], _MOVES) and forward[v] is not None:
            units.add(v)
    return units


class Item(NamedTuple):
    """Entries that lie at the elements of a vertex: by a forward and a backward term, the latter None at an output itself."""

    vertex: int
    forward: int
    backward: int | None


@dataclass(eq=False)
class Direct:
    """How the entries of one structure are computed.

    `ahead[v]` and `behind[v]` are the terms that are computed forwards and backwards, `meeting[v]` the forward terms of a vertex
    by the edges that leave what is gone through forwards; entries of one group are added up before they are put in their places.
    """

    ahead: dict[int, list[Term]]
    behind: dict[int, list[Term]]
    meeting: dict[int, list[Term]]
    groups: list[list[Item]]
    keeps: list[list[Any]]
    assembly: Assembly

    @property
    def layout(self) -> Layout:
        """Where the entries are."""
        return self.assembly.layout

    @property
    def terms(self) -> int:
        """How many arrays of entries there are."""
        return sum(map(len, self.groups))

    @property
    def pays(self) -> bool:
        """Whether a sparse result saves most of the entries, and its arrays most of the sweeps."""
        m, n = self.layout.shape
        return 4 * len(self.layout.indices) <= m * n and 4 * self.terms <= min(m, n)

    def values(self, graph: Linearised, made: Callable[[Array], Array] = lambda x: x) -> Array:
        """The entries for a graph of the structure that this was planned for; `made` is what stands for coefficients."""
        with np.errstate(all="ignore"), strong_products():
            return _Values(self, graph, made).entries()

    @property
    def parts(self) -> Iterator[tuple[int, Part]]:
        """Every contribution, with the vertex whose term it goes into."""
        for terms in (self.ahead, self.behind, self.meeting):
            for v, found in terms.items():
                for term in found:
                    yield from ((v, part) for part in term.parts)


def plan_terms(graph: Linearised, *, symmetric: bool = False) -> Direct | None:
    """How to compute the entries of a graph's Jacobian directly; None where some sum is too long, or some map is not structured."""
    forward, backward = _forwards(graph), _backwards(graph)
    choices = _choices(graph, forward, backward)
    found: Direct | None = None
    for work, chosen in choices:
        if found is None or work <= _APART * choices[0][0]:
            made = _planned(graph, forward, backward, chosen, symmetric=symmetric)
            if made is not None and (found is None or made.assembly.target is None):
                found = made
            if found is not None and found.assembly.target is None:
                break
    if found is not None:
        _settle(graph, found)
    return found


def _planned(
    graph: Linearised, forward: Sequence[Terms], backward: Sequence[Terms], chosen: set[int], *, symmetric: bool
) -> Direct | None:
    meeting = {v: forward[v] or [] for v in graph.inputs if v not in chosen}
    for v, edges in enumerate(graph.incoming):
        inside = [i for i, (s, _) in enumerate(edges) if s in chosen]
        if v not in chosen and inside:
            found = _entering(graph, forward, v, inside)
            if found is None:
                return None
            meeting[v] = found
    ahead = {v: forward[v] or [] for v in sorted(chosen)}
    behind = {v: backward[v] or [] for v in range(len(graph.types)) if v not in chosen}
    items, rows, columns = _items(graph, ahead, behind, meeting)
    if len(items) > _MOST_ITEMS:
        return None
    groups, keeps, keys = _grouped(graph, items, rows, columns)
    shape = (sum(graph.output_sizes), sum(graph.input_sizes))
    made = Direct(ahead, behind, meeting, groups, keeps, assembly(keys, shape, symmetric=symmetric))
    return made if sum(1 for _ in made.parts) <= _MOST_PARTS else None


def _items(
    graph: Linearised, ahead: dict[int, list[Term]], behind: dict[int, list[Term]], meeting: dict[int, list[Term]]
) -> tuple[list[Item], list[Ints], list[Ints]]:
    items, rows, columns = [], [], []
    for v, terms in meeting.items():
        for r, f in product(range(len(behind[v])), range(len(terms))):
            items.append(Item(v, f, r))
            rows.append(behind[v][r].places)
            columns.append(terms[f].places)
    offset = 0
    for w, n in zip(graph.outputs, graph.output_sizes, strict=True):
        if w is not None and w in ahead:
            for f, term in enumerate(ahead[w]):
                items.append(Item(w, f, None))
                rows.append(_numbers(offset, term.places.shape))
                columns.append(term.places)
        offset += n
    return items, rows, columns


def _grouped(
    graph: Linearised, items: Sequence[Item], rows: Sequence[Ints], columns: Sequence[Ints]
) -> tuple[list[list[Item]], list[list[Any]], list[Ints]]:
    """Items whose entries lie in the same places wherever both have some; the places of each that count; the entries' numbers."""
    n = sum(graph.input_sizes)
    groups: list[list[Item]] = []
    own: list[list[Ints]] = []
    keys: list[Ints] = []
    for item, r, c in zip(items, rows, columns, strict=True):
        key = np.where((r >= 0) & (c >= 0), r.astype(np.int64) * n + c, NOTHING)
        for g, known in enumerate(keys):
            both = merged(known, key) if known.shape == key.shape else None
            if both is not None:
                keys[g] = both
                groups[g].append(item)
                own[g].append(key)
                break
        else:
            groups.append([item])
            own.append([key])
            keys.append(key)
    # Values count only where their entry is: what is added to others must be zero elsewhere.
    keeps = [
        [None if len(ks) == 1 or (k >= 0).all() else _box(k >= 0) if (k >= 0).any() else k >= 0 for k in ks]
        for ks in own
    ]
    return groups, keeps, keys


def _settle(graph: Linearised, direct: Direct) -> None:
    """Leave out what no entry needs, and forget all places."""
    ahead, behind, meeting = set(), set(), set()
    for item in (i for group in direct.groups for i in group):
        if item.backward is None:
            ahead.add((item.vertex, item.forward))
        else:
            meeting.add((item.vertex, item.forward))
            behind.add((item.vertex, item.backward))
    _needed(direct.meeting, meeting, lambda p: ahead.add((graph.incoming[p.edge[0]][p.edge[1]][0], p.term)))
    _needed(
        direct.ahead, ahead, lambda p: ahead.add((graph.incoming[p.edge[0]][p.edge[1]][0], p.term)), last_first=True
    )
    _needed(direct.behind, behind, lambda p: behind.add((p.edge[0], p.term)))


def _needed(
    known: dict[int, list[Term]], needed: set[tuple[int, int]], use: Callable[[Part], None], *, last_first: bool = False
) -> None:
    """Say which terms the needed ones are made of, and drop the parts of the others."""
    for v in sorted(known, reverse=last_first):
        for k, term in enumerate(known[v]):
            if (v, k) not in needed:
                term.parts = []
            for part in term.parts:
                use(part)
            term.settle()


# ---- values


class _Values:
    """The values of all terms for one graph, each computed when it is first asked for.

    A number stands for an array that is that number wherever the term is placed, and zero elsewhere.
    """

    def __init__(self, direct: Direct, graph: Linearised, made: Callable[[Array], Array]) -> None:
        self.direct, self.graph, self.made = direct, graph, made
        self.ahead: dict[tuple[int, int], Any] = {}
        self.behind: dict[tuple[int, int], Any] = {}
        self.carried: dict[Any, Any] = {}

    def entries(self) -> Array:
        """The entries, in the order of the layout."""
        direct, graph = self.direct, self.graph
        for v, terms in direct.ahead.items():
            for k, term in enumerate(terms):
                self.ahead[v, k] = self._sum(v, term, forward=True) if term.parts else 1.0
        for v in sorted(direct.behind, reverse=True):
            for k, term in enumerate(direct.behind[v]):
                self.behind[v, k] = self._sum(v, term, forward=False) if term.parts else 1.0
        values = [self._group(group, keeps) for group, keeps in zip(direct.groups, direct.keeps, strict=True)]
        dtype = np.result_type(np.float32, *(v.dtype for v in graph.values))
        return assembled(values, direct.assembly, dtype)

    def _group(self, group: Sequence[Item], keeps: Sequence[Any]) -> Any:
        found = [self._item(item) for item in group]
        if len(found) == 1:
            return self._array(found[0], group[0].vertex, None) if type(found[0]) is float else found[0]
        total = None
        for item, x, keep in zip(group, found, keeps, strict=True):
            x = _kept(self._array(x, item.vertex, None) if type(x) is float else x, keep)
            total = x if total is None else total + x
        return total

    def _item(self, item: Item) -> Any:
        """The product of a backward and a forward value."""
        if item.backward is None:
            return self.ahead[item.vertex, item.forward]
        r = self.behind[item.vertex, item.backward]
        term = self.direct.meeting[item.vertex][item.forward]
        f = self._sum(item.vertex, term, forward=True) if term.parts else 1.0
        if type(f) is float:
            return r * f if type(r) is float else _scaled(r, f)
        return _scaled(f, r) if type(r) is float else ops.strong_multiply(r, f)

    def _sum(self, v: int, term: Term, *, forward: bool) -> Any:
        """The value of a term; a number where all its parts are."""
        found = [self._part(v, p, forward=forward) for p in term.parts]
        if len(found) == 1:
            return found[0]
        if all(type(x) is float for x in found) and term.is_even:
            return sum(found)
        total = None
        for x in found:
            if type(x) is not float:
                total = x if total is None else total + x
        for p, x in zip(term.parts, found, strict=True):
            if type(x) is float:
                total = self._array(x, v, p.placed) if total is None else self._raised(total, x, v, p.placed)
        return total

    def _raised(self, total: Array, x: float, v: int, placed: Any) -> Array:
        """An array with a number added where it is placed: a mask is less to read than an array of numbers."""
        more = total + self.graph.types[v].dtype.type(x)
        return more if placed is None else ops.where(placed, more, total)

    def _array(self, x: float, v: int, placed: Any) -> Array:
        """A number as an array."""
        kind = self.graph.types[v]
        number = kind.dtype.type(x)
        whole = np.broadcast_to(number, kind.shape) if placed is None else np.where(placed, number, kind.dtype.type(0))
        return self.made(whole)

    def _part(self, v: int, p: Part, *, forward: bool) -> Any:
        key = (forward, p.edge, p.term, p.at)
        if key not in self.carried:
            self.carried[key] = self._carry(v, p, forward=forward)
        x = self.carried[key]
        if p.keep is None:
            return x
        return _kept(self._array(x, v, p.placed) if type(x) is float else x, p.keep)

    def _carry(self, v: int, p: Part, *, forward: bool) -> Any:
        """A value through an edge, at an index along what is summed."""
        w, i = p.edge
        s, m = self.graph.incoming[w][i]
        source = s if forward else w
        x = (self.ahead if forward else self.behind)[source, p.term]
        einsum = None if p.at is None else as_einsum(m)
        if type(x) is float:
            number = _number(m, x, einsum)
            if number is not None:
                return number
            placed = (self.direct.ahead if forward else self.direct.behind)[source][p.term].placed
            if placed is None and type(m) is maps.Diagonal and einsum is None and m.in_shape == m.out_shape:
                return self._coefficients(m, x, v)
            x = self._array(x, source, placed)
        if einsum is not None:
            assert p.at is not None
            summed = _summed(einsum, forward=forward)
            given, _ = _sides(einsum, forward=forward)
            x = ops.slice(x, key=_key(p.at, [given.index(a) for a in summed], len(given)))
            m = einsum.at(dict(zip(summed, p.at, strict=True)))
        if isinstance(m, maps.Scale) and m.in_shape == m.out_shape:
            x = _scaled(x, m.factor)
        else:
            x = m.apply(x) if forward else m.adjoint(x)
        dtype = self.graph.types[v].dtype
        return x if x.dtype == dtype else convert(x, dtype)

    def _coefficients(self, m: maps.Diagonal, x: float, v: int) -> Array:
        """A number through a diagonal map: a multiple of its coefficients."""
        found = self.made(m.coefficients if hasattr(m.coefficients, "dtype") else np.asarray(m.coefficients))
        found = maps.spread(_scaled(found, x), m.out_shape)
        dtype = self.graph.types[v].dtype
        return found if found.dtype == dtype else convert(found, dtype)


def _number(m: LinearMap, x: float, einsum: Einsum | None) -> float | None:
    """A number through a map, where it stays one."""
    if einsum is not None:
        return x * float(einsum.factor) if einsum.weights is None else None
    if isinstance(m, maps.Scale):
        return x * float(m.factor) if m.in_shape == m.out_shape and m.in_dtype.kind != "c" else None
    return x if isinstance(m, _MOVES) or (isinstance(m, maps.Expand) and m.in_shape == m.out_shape) else None


def _scaled(x: Array, factor: float) -> Array:
    if factor == 1.0:
        return x
    return ops.negative(x) if factor == -1.0 else ops.multiply(x, factor)


def _kept(x: Array, keep: Any) -> Array:
    """A value where it counts, zero elsewhere."""
    if keep is None:
        return x
    if isinstance(keep, tuple):
        return ops.place(ops.slice(x, key=keep), key=keep, shape=x.shape)
    return ops.where(keep, x, 0.0)
