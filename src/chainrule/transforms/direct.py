"""Sparse Jacobians entry by entry: structured maps composed along the graph, with no seeds and no colours.

A part of the graph, D, is gone through forwards, term by term (`transforms.terms`), the rest backwards, and where edges leave D
the two meet: every pair of a forward and a backward term gives an entry an element. So each entry of the Jacobian is computed
once, from what it depends on, in arrays as long as the function's own. D is chosen to make the arrays that are gone through few.
Where an index is gathered by many, forwards is the way before it; behind it, backwards may be.

All places are found once for a structure (`plan_terms`); a call computes values only (`Direct.values`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any, NamedTuple

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array
from chainrule.linear import maps
from chainrule.linear.dependence import NOTHING
from chainrule.linear.forms import Einsum, as_einsum
from chainrule.linear.maps import convert
from chainrule.linear.strong import strong_products
from chainrule.trace.sparse import Layout
from chainrule.transforms.assembly import Assembly, assembled, assembly
from chainrule.transforms.linearised import Linearised
from chainrule.transforms.terms import (
    MOVES,
    Ints,
    Part,
    Term,
    Terms,
    backwards,
    box,
    entering,
    forwards,
    merged,
    numbers,
    taken_at,
)

# Graphs whose terms have more parts, or whose entries come in more arrays, are left to sweeps.
_MOST_PARTS, _MOST_ITEMS = 4_000, 256
# What an entry costs beside a multiplication, and how much more work is done for entries that need not be added up.
_ENTRY, _APART = 4.0, 2.5

# ---- where the two ways meet


def _price(m: LinearMap) -> float:
    """What a value through a map costs an element; entries, which are stored, cost more."""
    return 0.25 if isinstance(m, MOVES) else 0.5 if isinstance(m, maps.Scale) else 1.0


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
        if len(edges) == 1 and edges[0][0] in units and isinstance(edges[0][1], MOVES) and forward[v] is not None:
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
    forward, backward = forwards(graph), backwards(graph)
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
            found = entering(graph, forward, v, inside)
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
                rows.append(numbers(offset, term.places.shape))
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
        [None if len(ks) == 1 or (k >= 0).all() else box(k >= 0) if (k >= 0).any() else k >= 0 for k in ks]
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
            x, m = taken_at(einsum, p.at, x, forward=forward)
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
    return x if isinstance(m, MOVES) or (isinstance(m, maps.Expand) and m.in_shape == m.out_shape) else None


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
