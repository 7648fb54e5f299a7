"""Greedy colourings as native loops: orders, partial distance-2, star and acyclic colouring, recovery by substitution.

A pattern of m rows and n columns is given by columns (`colptr`, `colrow`) and by rows (`rowptr`, `rowcol`), as scipy's CSC and
CSR have them; a graph by its adjacency (`ptr`, `adj`), each edge stored from both ends with the same number in `edge`. Colours
count from 0, and -1 is none. `seen`, `mark` and their like are scratch arrays of -1.
"""

from __future__ import annotations

from chainrule.native import Ints, kernel


@kernel
def neighbours(
    hops: int, ptr: Ints, idx: Ints, backptr: Ints, backidx: Ints, v: int, seen: Ints, stamp: int, found: Ints
) -> int:
    """Write the vertices other than v that one or two steps lead to, each once, to `found`; how many."""
    count = 0
    seen[v] = stamp
    for a in range(ptr[v], ptr[v + 1]):
        if hops == 1:
            if seen[idx[a]] != stamp:
                seen[idx[a]] = stamp
                found[count] = idx[a]
                count += 1
        else:
            r = idx[a]
            for b in range(backptr[r], backptr[r + 1]):
                u = backidx[b]
                if seen[u] != stamp:
                    seen[u] = stamp
                    found[count] = u
                    count += 1
    return count


@kernel
def degrees(
    hops: int, ptr: Ints, idx: Ints, backptr: Ints, backidx: Ints, n: int, seen: Ints, found: Ints, degree: Ints
) -> int:
    """Write the number of neighbours of each vertex to `degree`; the largest."""
    most = 0
    for v in range(n):
        degree[v] = neighbours(hops, ptr, idx, backptr, backidx, v, seen, v, found)
        most = max(most, degree[v])
    return most


@kernel
def link(v: int, key: int, head: Ints, following: Ints, preceding: Ints) -> None:
    """Put v first in the list of its key."""
    following[v] = head[key]
    preceding[v] = -1
    if head[key] >= 0:
        preceding[head[key]] = v
    head[key] = v


@kernel
def unlink(v: int, key: int, head: Ints, following: Ints, preceding: Ints) -> None:
    """Take v out of the list of its key."""
    if preceding[v] >= 0:
        following[preceding[v]] = following[v]
    else:
        head[key] = following[v]
    if following[v] >= 0:
        preceding[following[v]] = preceding[v]


@kernel
def dynamic_order(
    hops: int, ptr: Ints, idx: Ints, backptr: Ints, backidx: Ints, n: int, rising: int, keys: Ints, head: Ints,
    following: Ints, preceding: Ints, seen: Ints, found: Ints, order: Ints,
) -> None:  # fmt: skip
    """Incidence-degree order (`rising`: next is who has most neighbours before it; `keys` 0 at first) or smallest-last order
    (last is who has fewest neighbours among those not placed; `keys` the degrees at first). Placed vertices have key -1.
    """
    for i in range(n):
        v = n - 1 - i if rising != 0 else i
        link(v, keys[v], head, following, preceding)
    at = 0
    for t in range(n):
        while head[at] < 0:
            at += -1 if rising != 0 else 1
        v = head[at]
        unlink(v, at, head, following, preceding)
        keys[v] = -1
        order[t if rising != 0 else n - 1 - t] = v
        for a in range(neighbours(hops, ptr, idx, backptr, backidx, v, seen, v, found)):
            u = found[a]
            if keys[u] >= 0:
                unlink(u, keys[u], head, following, preceding)
                keys[u] = keys[u] + (1 if rising != 0 else -1)
                link(u, keys[u], head, following, preceding)
                at = max(at, keys[u]) if rising != 0 else min(at, keys[u])


@kernel
def first_free(mark: Ints, stamp: int) -> int:
    """The least colour that is not marked with this stamp."""
    c = 0
    while mark[c] == stamp:
        c += 1
    return c


@kernel
def partial_colour(
    colptr: Ints, colrow: Ints, rowptr: Ints, rowcol: Ints, order: Ints, n: int, mark: Ints, colour: Ints
) -> int:
    """Colour columns so that no two of a colour meet in a row, each with the least colour that is free; empty columns get none,
    and those that have one at first keep it.

    The number of colours. Partial distance-2 colouring of the bipartite graph [Gebremedhin, Manne & Pothen 2005, alg. 3.1].
    """
    most = 0
    for t in range(n):
        j = order[t]
        most = max(most, colour[j] + 1)
        if colptr[j] == colptr[j + 1] or colour[j] >= 0:
            continue
        for a in range(colptr[j], colptr[j + 1]):
            r = colrow[a]
            for b in range(rowptr[r], rowptr[r + 1]):
                c = colour[rowcol[b]]
                if c >= 0:
                    mark[c] = j
        colour[j] = first_free(mark, j)
        most = max(most, colour[j] + 1)
    return most


@kernel
def number_edges(ptr: Ints, adj: Ints, n: int, at: Ints, edge: Ints) -> int:
    """Give both ends of each edge one number; adjacency lists are sorted, and `at` starts as a copy of `ptr`. The number of edges.

    The smaller neighbours of j are met in the order in which j's list has them, so a pointer a vertex finds the other end.
    """
    count = 0
    for i in range(n):
        for a in range(ptr[i], ptr[i + 1]):
            j = adj[a]
            if j > i:
                edge[a] = count
                edge[at[j]] = count
                at[j] = at[j] + 1
                count += 1
    return count


@kernel
def forbid_around(ptr: Ints, adj: Ints, w: int, v: int, colour: Ints, mark: Ints, treated: Ints) -> None:
    """Forbid v the colours of all neighbours of w."""
    for a in range(ptr[w], ptr[w + 1]):
        if colour[adj[a]] >= 0:
            mark[colour[adj[a]]] = v
    treated[w] = v


@kernel
def forbid_paths(
    ptr: Ints, adj: Ints, edge: Ints, v: int, colour: Ints, mark: Ints, treated: Ints, star: Ints, hub: Ints,
    by: Ints, first: Ints, first_edge: Ints,
) -> None:  # fmt: skip
    """Forbid v every colour with which a path on four vertices would have two colours only.

    For each colour, `first` and `first_edge` are the first neighbour of v that has it (where `by` is v) and the edge there.
    """
    for a in range(ptr[v], ptr[v + 1]):
        w = adj[a]
        c = colour[w]
        if c < 0:
            continue
        mark[c] = v
        if by[c] == v:
            if treated[first[c]] != v:
                forbid_around(ptr, adj, first[c], v, colour, mark, treated)
            forbid_around(ptr, adj, w, v, colour, mark, treated)
        else:
            by[c] = v
            first[c] = w
            first_edge[c] = edge[a]
            for b in range(ptr[w], ptr[w + 1]):
                x = adj[b]
                if x != v and colour[x] >= 0 and x == hub[star[edge[b]]]:
                    mark[colour[x]] = v


@kernel
def same_colour_beyond(ptr: Ints, adj: Ints, v: int, w: int, colour: Ints) -> int:
    """Where w's list has a neighbour other than v that has v's colour; -1 if it has none."""
    for b in range(ptr[w], ptr[w + 1]):
        if adj[b] != v and colour[adj[b]] == colour[v]:
            return b
    return -1


@kernel
def grow_stars(
    ptr: Ints,
    adj: Ints,
    edge: Ints,
    v: int,
    colour: Ints,
    star: Ints,
    hub: Ints,
    first: Ints,
    first_edge: Ints,
    stars: int,
) -> int:
    """Add the edges of v, just coloured, to the two-coloured stars that they belong to; the number of stars."""
    for a in range(ptr[v], ptr[v + 1]):
        w = adj[a]
        if colour[w] < 0:
            continue
        e = edge[a]
        b = same_colour_beyond(ptr, adj, v, w, colour)
        if b >= 0:
            star[e] = star[edge[b]]
            hub[star[e]] = w
        elif first[colour[w]] != w:
            star[e] = star[first_edge[colour[w]]]
            hub[star[e]] = v
        else:
            star[e] = stars
            stars += 1
    return stars


@kernel
def star_colour(
    ptr: Ints, adj: Ints, edge: Ints, order: Ints, n: int, mark: Ints, treated: Ints, star: Ints, hub: Ints,
    by: Ints, first: Ints, first_edge: Ints, colour: Ints,
) -> int:  # fmt: skip
    """Colour so that neighbours differ and no path on four vertices has two colours; the number of colours.

    Every two colours then induce a forest of stars; `hub` has the centre of each (-1 for a single edge)
    [Gebremedhin, Tarafdar, Manne & Pothen 2007, alg. 4.1].
    """
    most = 0
    stars = 0
    for t in range(n):
        v = order[t]
        forbid_paths(ptr, adj, edge, v, colour, mark, treated, star, hub, by, first, first_edge)
        colour[v] = first_free(mark, v)
        most = max(most, colour[v] + 1)
        stars = grow_stars(ptr, adj, edge, v, colour, star, hub, first, first_edge, stars)
    return most


@kernel
def root(parent: Ints, e: int) -> int:
    """The representative of e's set, halving the path to it on the way [Tarjan & van Leeuwen 1984]."""
    while parent[e] != e:
        parent[e] = parent[parent[e]]
        e = parent[e]
    return e


@kernel
def unite(parent: Ints, size: Ints, a: int, b: int) -> None:
    """Join the sets of a and b."""
    a = root(parent, a)
    b = root(parent, b)
    if a == b:
        return
    if size[a] < size[b]:
        parent[a] = b
        size[b] = size[b] + size[a]
    else:
        parent[b] = a
        size[a] = size[a] + size[b]


@kernel
def forbid_cycles(
    ptr: Ints, adj: Ints, edge: Ints, v: int, colour: Ints, mark: Ints, parent: Ints, visitor: Ints, entrance: Ints
) -> None:
    """Forbid v the colours of its neighbours, and each with which a two-coloured tree that v touches twice would close."""
    for a in range(ptr[v], ptr[v + 1]):
        if colour[adj[a]] >= 0:
            mark[colour[adj[a]]] = v
    for a in range(ptr[v], ptr[v + 1]):
        w = adj[a]
        if colour[w] < 0:
            continue
        for b in range(ptr[w], ptr[w + 1]):
            x = adj[b]
            if x != v and colour[x] >= 0 and mark[colour[x]] != v:
                tree = root(parent, edge[b])
                if visitor[tree] != v:
                    visitor[tree] = v
                    entrance[tree] = w
                elif entrance[tree] != w:
                    mark[colour[x]] = v


@kernel
def grow_trees(
    ptr: Ints, adj: Ints, edge: Ints, v: int, colour: Ints, parent: Ints, size: Ints, by: Ints, first_edge: Ints
) -> None:
    """Join the edges of v, just coloured, to the two-coloured trees that they touch."""
    for a in range(ptr[v], ptr[v + 1]):
        w = adj[a]
        c = colour[w]
        if c < 0:
            continue
        if by[c] == v:
            unite(parent, size, edge[a], first_edge[c])
        else:
            by[c] = v
            first_edge[c] = edge[a]
        for b in range(ptr[w], ptr[w + 1]):
            if adj[b] != v and colour[adj[b]] == colour[v]:
                unite(parent, size, edge[a], edge[b])


@kernel
def acyclic_colour(
    ptr: Ints, adj: Ints, edge: Ints, order: Ints, n: int, mark: Ints, parent: Ints, size: Ints, visitor: Ints,
    entrance: Ints, by: Ints, first_edge: Ints, colour: Ints,
) -> int:  # fmt: skip
    """Colour so that neighbours differ and no cycle has two colours; the number of colours.

    Every two colours then induce a forest; its trees are sets of edges, joined as they grow
    [Gebremedhin, Tarafdar, Manne & Pothen 2007, alg. 3.1].
    """
    most = 0
    for t in range(n):
        v = order[t]
        forbid_cycles(ptr, adj, edge, v, colour, mark, parent, visitor, entrance)
        colour[v] = first_free(mark, v)
        most = max(most, colour[v] + 1)
        grow_trees(ptr, adj, edge, v, colour, parent, size, by, first_edge)
    return most


@kernel
def alone_in_row(ptr: Ints, idx: Ints, colour: Ints, m: int, count: Ints, alone: Ints) -> int:
    """Set in `alone` the entries whose column has a colour that no other column of their row has; how many.

    `count` is scratch, zeros, and left so.
    """
    total = 0
    for i in range(m):
        for a in range(ptr[i], ptr[i + 1]):
            c = colour[idx[a]]
            if c >= 0:
                count[c] = count[c] + 1
        for a in range(ptr[i], ptr[i + 1]):
            c = colour[idx[a]]
            alone[a] = 1 if c >= 0 and count[c] == 1 else 0
            total += alone[a]
        for a in range(ptr[i], ptr[i + 1]):
            c = colour[idx[a]]
            if c >= 0:
                count[c] = 0
    return total


@kernel
def peel(
    ends: Ints, edges: int, colour: Ints, colours: int, count: Ints, mixed: Ints, source: Ints, sink: Ints, known: Ints,
    order: Ints,
) -> int:  # fmt: skip
    """Order the edges of all two-coloured trees from their leaves inwards; how many could be ordered: all, if they are trees.

    Slot (i, c) is the place of the compressed matrix that holds the sum of i's entries of colour c. Edge e = {i, j} (`ends`)
    is in the slots (i, colour of j) and (j, colour of i); `count` has how many edges not yet ordered each slot holds, and `mixed`
    the exclusive or of their numbers, which is the edge itself once it is alone. `source[e]` is the slot that gives it, `sink[e]`
    the slot from which it is then to be subtracted.
    """
    for e in range(edges):
        i = ends[2 * e]
        j = ends[2 * e + 1]
        for side in range(2):
            slot = i * colours + colour[j] if side == 0 else j * colours + colour[i]
            count[slot] = count[slot] + 1
            mixed[slot] = mixed[slot] ^ e
    tail = 0
    for e in range(edges):
        i = ends[2 * e]
        j = ends[2 * e + 1]
        near = i * colours + colour[j]
        far = j * colours + colour[i]
        if count[near] == 1 or count[far] == 1:
            known[e] = 1
            source[e] = near if count[near] == 1 else far
            sink[e] = near + far - source[e]
            order[tail] = e
            tail += 1
    done = 0
    while done < tail:
        e = order[done]
        done += 1
        slot = sink[e]
        count[slot] = count[slot] - 1
        mixed[slot] = mixed[slot] ^ e
        if count[slot] == 1 and known[mixed[slot]] == 0:
            u = mixed[slot]
            i = ends[2 * u]
            j = ends[2 * u + 1]
            known[u] = 1
            source[u] = slot
            sink[u] = i * colours + colour[j] + j * colours + colour[i] - slot
            order[tail] = u
            tail += 1
    return tail


@kernel
def depth(order: Ints, source: Ints, sink: Ints, edges: int, reached: Ints) -> int:
    """The longest run of edges of which each is found from the one before; `reached` has a zero for each slot."""
    longest = 0
    for t in range(edges):
        e = order[t]
        here = reached[source[e]] + 1
        reached[sink[e]] = max(reached[sink[e]], here)
        longest = max(longest, here)
    return longest
