"""Greedy elimination orders: always the vertex that looks cheapest now.

The keys, with P and S the numbers of predecessors and successors at the time [Griewank & Reese 1991; Naumann 1999, 2004]:

    Markowitz             multiplications of eliminating v: P S, less the free ones
    relative Markowitz    that, less (inputs that reach v) (outputs that v reaches): what any order must pay in the end
    fill                  edges that eliminating v makes
    Markowitz + fill      the sum of the two

Each is tried with ties going to the first and to the last vertex, since neither is ever the better one in general.
"""

from __future__ import annotations

from chainrule.native import Ints, kernel, lowest_bit, popcount
from chainrule.plan.bits import WORD, degree_product, eliminate

KEYS: tuple[tuple[str, int, int, int], ...] = (
    # name, weight of Markowitz degree, of fill, of the final degree
    ("Markowitz", 1, 0, 0),
    ("relative Markowitz", 1, 0, -1),
    ("fill", 0, 1, 0),
    ("Markowitz + fill", 1, 1, 0),
)


@kernel
def fill(state: Ints, row: int, stride: int, words: int, planes: int) -> int:
    """Edges that eliminating the vertex at `row` makes: pairs of a predecessor and a successor not joined yet."""
    half = planes * words
    made = 0
    for w in range(words):
        bits = state[row + half + w]
        while bits != 0:
            side = (w * WORD + lowest_bit(bits)) * stride
            for u in range(words):
                made += popcount(state[row + u] & ~state[side + u])
            bits = bits & (bits - 1)
    return made


@kernel
def mark_changed(state: Ints, row: int, stride: int, words: int, planes: int, wide: int, changed: Ints) -> None:
    """Set in `changed` the vertices whose key the elimination at `row` can change: its neighbours and, if `wide` (a fill
    depends on the edges between neighbours), all that follow a predecessor or precede a successor.
    """
    half = planes * words
    for w in range(words):
        changed[w] = state[row + w] | state[row + half + w]
    if wide == 0:
        return
    for side in range(2):
        for w in range(words):
            bits = state[row + side * half + w]
            while bits != 0:
                other = (w * WORD + lowest_bit(bits)) * stride + (1 - side) * half
                for u in range(words):
                    changed[u] = changed[u] | state[other + u]
                bits = bits & (bits - 1)


@kernel
def key(state: Ints, row: int, words: int, planes: int, markowitz: int, filling: int) -> int:
    """The weighted sum of Markowitz degree and fill of the vertex at `row`."""
    found = 0
    if markowitz != 0:
        found += markowitz * degree_product(state, row, words, planes)
    if filling != 0:
        found += filling * fill(state, row, 2 * planes * words, words, planes)
    return found


@kernel
def cheapest(keys: Ints, alive: Ints, offsets: Ints, n: int, weight: int, last: int) -> int:
    """The living vertex of least key + weight * offset, the first or the last of its equals; -1 if none lives."""
    best = -1
    least = 0
    for v in range(n):
        if alive[v] != 0:
            value = keys[v] + weight * offsets[v]
            if best < 0 or value < least or (last != 0 and value == least):
                best = v
                least = value
    return best


@kernel
def greedy(
    state: Ints, n: int, words: int, planes: int, markowitz: int, filling: int, relative: int, last: int,
    offsets: Ints, alive: Ints, keys: Ints, changed: Ints, undo: Ints, order: Ints,
) -> int:  # fmt: skip
    """Write an elimination order of the `n` vertices that live to `order`; its multiplications. `state` is used up."""
    stride = 2 * planes * words
    for v in range(n):
        if alive[v] != 0:
            keys[v] = key(state, v * stride, words, planes, markowitz, filling)
    total = 0
    t = 0
    while True:
        v = cheapest(keys, alive, offsets, n, relative, last)
        if v < 0:
            return total
        alive[v] = 0
        order[t] = v
        t += 1
        total += degree_product(state, v * stride, words, planes)
        mark_changed(state, v * stride, stride, words, planes, filling, changed)
        eliminate(state, 0, v, words, planes, undo, 0)
        for w in range(words):
            bits = changed[w]
            while bits != 0:
                u = w * WORD + lowest_bit(bits)
                if u < n and alive[u] != 0:
                    keys[u] = key(state, u * stride, words, planes, markowitz, filling)
                bits = bits & (bits - 1)
    return total
