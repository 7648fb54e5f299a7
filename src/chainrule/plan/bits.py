"""The graph of local Jacobians as bit sets, and the elimination of a vertex in it: native loops.

Vertex `v` has a row for its successors and a row for its predecessors, each of `words` words of 63 bits (so that no word is ever
negative). Where the graph has unit edges (partials whose products are free), a second plane in each row holds the unit ones:

    state[v * stride : (v + 1) * stride] = successors | unit successors | predecessors | unit predecessors

with `stride = 2 * planes * words` and planes 1 or 2. Eliminating v joins each predecessor to each successor and costs one
multiplication for each pair whose two edges are both not unit [Griewank & Walther, Evaluating Derivatives, ch. 9-10]. The
row of v itself is left as it was: nothing refers to it any more.

Since the graph after a set of eliminations does not depend on their order, neither do these rows: also an edge is unit exactly
when it stands for a single path of unit edges.
"""

from __future__ import annotations

from chainrule.native import Ints, kernel, lowest_bit, popcount

WORD = 63


@kernel
def degree_product(state: Ints, row: int, words: int, planes: int) -> int:
    """Multiplications that eliminating the vertex at `row` costs: non-unit predecessors times non-unit successors, and
    one unit edge is enough to make a product free.
    """
    half = planes * words
    successors = 0
    predecessors = 0
    for w in range(words):
        successors += popcount(state[row + w])
        predecessors += popcount(state[row + half + w])
    if planes == 2:
        for w in range(words):
            successors -= popcount(state[row + words + w])
            predecessors -= popcount(state[row + half + words + w])
    return successors * predecessors


@kernel
def join(state: Ints, side: int, other: int, words: int, planes: int, word: int, mask: int) -> None:
    """In the row half at `side`, replace the vertex (bit `mask` of `word`) by all that `other`, a half of its own row, holds."""
    if planes == 1:
        for w in range(words):
            state[side + w] = state[side + w] | state[other + w]
    else:
        through = (state[side + words + word] & mask) != 0
        for w in range(words):
            old = state[side + w]
            more = state[other + w]
            made = (state[other + words + w] & ~old) if through else 0
            state[side + words + w] = (state[side + words + w] & ~more) | made
            state[side + w] = old | more
        state[side + words + word] = state[side + words + word] & ~mask
    state[side + word] = state[side + word] & ~mask


@kernel
def save(state: Ints, side: int, half: int, undo: Ints, top: int) -> int:
    """Push a half row on the undo stack; the stack's new top."""
    for w in range(half):
        undo[top + w] = state[side + w]
    undo[top + half] = side
    return top + half + 1


@kernel
def eliminate(state: Ints, base: int, v: int, words: int, planes: int, undo: Ints, top: int) -> int:
    """Eliminate v from the graph at `base`, pushing what it overwrites on the undo stack; the stack's new top."""
    half = planes * words
    stride = 2 * half
    row = base + v * stride
    word = v // WORD
    mask = 1 << (v - word * WORD)
    for w in range(words):
        bits = state[row + half + w]
        while bits != 0:
            side = base + (w * WORD + lowest_bit(bits)) * stride
            top = save(state, side, half, undo, top)
            join(state, side, row, words, planes, word, mask)
            bits = bits & (bits - 1)
        bits = state[row + w]
        while bits != 0:
            side = base + (w * WORD + lowest_bit(bits)) * stride + half
            top = save(state, side, half, undo, top)
            join(state, side, row + half, words, planes, word, mask)
            bits = bits & (bits - 1)
    return top


@kernel
def restore(state: Ints, half: int, undo: Ints, top: int, bottom: int) -> None:
    """Undo eliminations until the stack is down at `bottom` again."""
    while top > bottom:
        top -= half + 1
        side = undo[top + half]
        for w in range(half):
            state[side + w] = undo[top + w]


@kernel
def replay_costs(state: Ints, order: Ints, n: int, words: int, planes: int, undo: Ints, costs: Ints) -> int:
    """Eliminate all of `order` from the graph at 0, in place: what each step costs, and their sum."""
    total = 0
    stride = 2 * planes * words
    for t in range(n):
        costs[t] = degree_product(state, order[t] * stride, words, planes)
        total += costs[t]
        eliminate(state, 0, order[t], words, planes, undo, 0)
    return total
