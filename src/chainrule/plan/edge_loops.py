"""Elimination of single edges: native loops, on the rows of `bits`.

An order of edge eliminations is a list of tokens, numbers v * vertices + u: u = v eliminates vertex v, a predecessor u of v
eliminates the edge u -> v in front (u is joined to all successors of v), a successor u the edge v -> u at the back. A token whose
edge is not there does nothing, so that any list that has every vertex eliminates all of them, and a random search may insert,
drop and move tokens as it likes.
"""

from __future__ import annotations

from chainrule.native import Floats, Ints, kernel, lowest_bit, popcount
from chainrule.plan.anneal import BEST, LOGS, NEAR, ROOM, TOTAL, below
from chainrule.plan.bits import WORD, degree_product, eliminate, join, restore, save

# More places in the `control` array.
LENGTH, BEST_LENGTH, MOST = 5, 6, 7
CONTROLS = 8


@kernel
def has(state: Ints, side: int, u: int) -> int:
    """Is the bit of u set in the row at `side`?"""
    word = u // WORD
    return (state[side + word] >> (u - word * WORD)) & 1


@kernel
def edge_cost(state: Ints, far: int, near: int, u: int, words: int, planes: int) -> int:
    """Multiplications of eliminating the edge to u: the edges on the far side that are not unit, none if this one is unit."""
    cost = 0
    for w in range(words):
        cost += popcount(state[far + w])
    if planes == 2:
        if has(state, near + words, u) != 0:
            return 0
        for w in range(words):
            cost -= popcount(state[far + words + w])
    return cost


@kernel
def attach(state: Ints, side: int, u: int, words: int, planes: int, unit: int) -> None:
    """Add a path from or to u to the row half at `side`: a unit edge only where it is the only one and made of unit edges."""
    word = u // WORD
    mask = 1 << (u - word * WORD)
    if planes == 2:
        alone = (state[side + word] & mask) == 0
        kept = state[side + words + word] & ~mask
        state[side + words + word] = (kept | mask) if alone and unit != 0 else kept
    state[side + word] = state[side + word] | mask


@kernel
def detach(state: Ints, side: int, v: int, words: int, planes: int) -> None:
    """Take v out of the row half at `side`."""
    word = v // WORD
    mask = 1 << (v - word * WORD)
    for plane in range(planes):
        state[side + plane * words + word] = state[side + plane * words + word] & ~mask


@kernel
def is_empty(state: Ints, side: int, words: int) -> int:
    """Is no bit set in the row at `side`?"""
    for w in range(words):
        if state[side + w] != 0:
            return 0
    return 1


@kernel
def eliminate_edge(state: Ints, v: int, u: int, back: int, words: int, planes: int, undo: Ints, top: int) -> int:
    """Eliminate u -> v in front or, if `back`, v -> u at the back; the undo stack's new top. A v left without edges on that
    side is taken out of the graph.
    """
    half = planes * words
    turn = half if back != 0 else 0
    far = v * 2 * half + turn
    near = v * 2 * half + half - turn
    beyond = u * 2 * half + turn
    word = v // WORD
    unit = has(state, near + words, u) if planes == 2 else 0
    top = save(state, beyond, half, undo, top)
    join(state, beyond, far, words, planes, word, 1 << (v - word * WORD))
    top = save(state, near, half, undo, top)
    detach(state, near, u, words, planes)
    dead = is_empty(state, near, words)
    for w in range(words):
        bits = state[far + w]
        while bits != 0:
            k = w * WORD + lowest_bit(bits)
            side = k * 2 * half + half - turn
            top = save(state, side, half, undo, top)
            both = unit != 0 and has(state, far + words, k) != 0
            attach(state, side, u, words, planes, 1 if both else 0)
            if dead != 0:
                detach(state, side, v, words, planes)
            bits = bits & (bits - 1)
    return top


@kernel
def token_cost(state: Ints, token: int, vertices: int, words: int, planes: int) -> int:
    """Multiplications of a token now."""
    v = token // vertices
    u = token - v * vertices
    half = planes * words
    row = v * 2 * half
    if u == v:
        return degree_product(state, row, words, planes)
    if has(state, row + half, u) != 0:
        return edge_cost(state, row, row + half, u, words, planes)
    if has(state, row, u) != 0:
        return edge_cost(state, row + half, row, u, words, planes)
    return 0


@kernel
def apply_token(state: Ints, token: int, vertices: int, words: int, planes: int, undo: Ints, top: int) -> int:
    """Carry out a token; the undo stack's new top."""
    v = token // vertices
    u = token - v * vertices
    half = planes * words
    row = v * 2 * half
    if u == v:
        top = eliminate(state, 0, v, words, planes, undo, top)
        for side in range(2):  # a later token of v must find nothing
            top = save(state, row + side * half, half, undo, top)
            for w in range(half):
                state[row + side * half + w] = 0
        return top
    if has(state, row + half, u) != 0:
        return eliminate_edge(state, v, u, 0, words, planes, undo, top)
    if has(state, row, u) != 0:
        return eliminate_edge(state, v, u, 1, words, planes, undo, top)
    return top


@kernel
def rest_cost(
    state: Ints,
    tokens: Ints,
    p: int,
    length: int,
    limit: float,
    vertices: int,
    words: int,
    planes: int,
    undo: Ints,
    room: int,
) -> int:
    """Multiplications of tokens p .. length - 1 from the graph in `state`, which is left as it was; -1 if above `limit`."""
    total = 0
    top = 0
    for t in range(p, length):
        total += token_cost(state, tokens[t], vertices, words, planes)
        if total > limit or top > room:
            total = -1
            break
        top = apply_token(state, tokens[t], vertices, words, planes, undo, top)
    restore(state, planes * words, undo, top, 0)
    return total


@kernel
def random_neighbour(state: Ints, v: int, words: int, planes: int, control: Ints) -> int:
    """A random predecessor or successor of v in the graph as it is; v itself if it has none."""
    half = planes * words
    row = v * 2 * half
    degree = 0
    for w in range(words):
        degree += popcount(state[row + w]) + popcount(state[row + half + w])
    if degree == 0:
        return v
    skip = below(control, degree)
    for side in range(2):
        for w in range(words):
            bits = state[row + side * half + w]
            while bits != 0:
                if skip == 0:
                    return w * WORD + lowest_bit(bits)
                skip -= 1
                bits = bits & (bits - 1)
    return v


@kernel
def shift(tokens: Ints, trial: Ints, p: int, q: int, length: int, up: int) -> None:
    """Write tokens p .. length - 1 to `trial`, with that at p moved up to q, or that at q down to p."""
    for t in range(p, length):
        if t > q:
            trial[t] = tokens[t]
        elif up != 0:
            trial[t] = tokens[p] if t == q else tokens[t + 1]
        else:
            trial[t] = tokens[q] if t == p else tokens[t - 1]


@kernel
def propose(
    state: Ints, tokens: Ints, p: int, vertices: int, words: int, planes: int, control: Ints, trial: Ints
) -> int:
    """A random change from place p on, in `trial`: drop the edge there, insert one of a vertex still to come, or move a token.

    The new length.
    """
    length = control[LENGTH]
    token = tokens[p]
    chosen = below(control, 4)
    if chosen == 0 and p + 1 < length and token // vertices != token % vertices:
        for t in range(p + 1, length):
            trial[t - 1] = tokens[t]
        return length - 1
    if chosen == 1 and length < control[MOST]:
        v = tokens[p + below(control, min(NEAR, length - p))] // vertices
        trial[p] = v * vertices + random_neighbour(state, v, words, planes, control)
        for t in range(p, length):
            trial[t + 1] = tokens[t]
        if trial[p] // vertices != trial[p] % vertices:
            return length + 1
    if p + 1 < length:
        shift(tokens, trial, p, p + 1 + below(control, min(NEAR, length - 1 - p)), length, below(control, 2))
    else:
        trial[p] = token
    return length


@kernel
def anneal_tokens(
    start: Ints, state: Ints, size: int, vertices: int, words: int, planes: int, tokens: Ints, trial: Ints, tries: int,
    undo: Ints, control: Ints, logs: Floats, best: Ints, temperature: float,
) -> int:  # fmt: skip
    """One sweep over the tokens, trying `tries` random changes at each place; the least multiplications seen, in `best`."""
    for w in range(size):
        state[w] = start[w]
    spent = 0
    p = 0
    while p < control[LENGTH]:
        for _ in range(tries):
            slack = temperature * logs[below(control, LOGS)]
            length = propose(state, tokens, p, vertices, words, planes, control, trial)
            limit = control[TOTAL] - spent + slack
            after = rest_cost(state, trial, p, length, limit, vertices, words, planes, undo, control[ROOM])
            if after >= 0:
                for t in range(p, length):
                    tokens[t] = trial[t]
                control[LENGTH] = length
                control[TOTAL] = spent + after
            if control[TOTAL] < control[BEST]:
                control[BEST] = control[TOTAL]
                control[BEST_LENGTH] = length
                for t in range(length):
                    best[t] = tokens[t]
        spent += token_cost(state, tokens[p], vertices, words, planes)
        apply_token(state, tokens[p], vertices, words, planes, undo, 0)
        p += 1
    return control[BEST]
