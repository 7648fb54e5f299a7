"""Simulated annealing on the order of elimination.

A move takes a vertex out of the order and puts it back elsewhere, half of the time within 12 places. The graph after a set of
eliminations does not depend on their order, so a move between places p < q changes only the costs from p to q, and finding
these takes the graph as it is before p. Therefore the moves are tried in sweeps: p runs through the order, the graph at p is
kept by eliminating one vertex at each step, and a few moves between p and a random later place are tried there, eliminating
what lies between and undoing that afterwards. A move that makes the sum worse by d is taken with probability exp(-d / T)
[Metropolis et al. 1953]: its threshold -T log u is drawn first, so that the evaluation can stop as soon as the sum is past it.
T falls geometrically, from sweep to sweep.
"""

from __future__ import annotations

from chainrule.native import Floats, Ints, kernel
from chainrule.plan.bits import degree_product, eliminate, restore

NEAR = 12
LOGS = 4096
# Places in the `control` array, the state of a run.
RANDOM, TOTAL, BEST, ROOM, REACH = 0, 1, 2, 3, 4
CONTROLS = 5


@kernel
def draw(control: Ints) -> int:
    """The next of a sequence of pseudo-random numbers in [1, 2^32): xorshift [Marsaglia 2003]."""
    x = control[RANDOM]
    x = x ^ ((x << 13) & 0xFFFFFFFF)
    x = x ^ (x >> 17)
    x = x ^ ((x << 5) & 0xFFFFFFFF)
    control[RANDOM] = x
    return x


@kernel
def below(control: Ints, n: int) -> int:
    """A pseudo-random number in [0, n)."""
    return (draw(control) * n) >> 32


@kernel
def pick_later(control: Ints, p: int, n: int) -> int:
    """A place after p: half of the time within NEAR places, else at most some power of two up to `reach` away."""
    most = NEAR
    if below(control, 2) == 0:
        most = 2 << below(control, control[REACH])
    return p + 1 + below(control, min(most, n - 1 - p))


@kernel
def moved(order: Ints, p: int, q: int, up: int, t: int) -> int:
    """The vertex at place t, p <= t <= q, once that at p is moved up to q, or that at q down to p."""
    if up != 0:
        return order[p] if t == q else order[t + 1]
    return order[q] if t == p else order[t - 1]


@kernel
def segment_cost(
    state: Ints, words: int, planes: int, order: Ints, p: int, q: int, up: int, limit: float,
    undo: Ints, room: int, trial: Ints,
) -> int:  # fmt: skip
    """Cost of places p .. q after the move, each in `trial`; -1 as soon as it is above `limit`, or the undo stack above
    `room`. `state` is the graph before place p, and is so again afterwards.
    """
    stride = 2 * planes * words
    total = 0
    top = 0
    for t in range(p, q + 1):
        v = moved(order, p, q, up, t)
        trial[t] = degree_product(state, v * stride, words, planes)
        total += trial[t]
        if total > limit or top > room:
            total = -1
            break
        if t < q:
            top = eliminate(state, 0, v, words, planes, undo, top)
    restore(state, planes * words, undo, top, 0)
    return total


@kernel
def take(order: Ints, costs: Ints, trial: Ints, p: int, q: int, up: int) -> None:
    """Carry out a move, and note the new costs."""
    v = order[p] if up != 0 else order[q]
    if up != 0:
        for t in range(p, q):
            order[t] = order[t + 1]
        order[q] = v
    else:
        for t in range(q, p, -1):
            order[t] = order[t - 1]
        order[p] = v
    for t in range(p, q + 1):
        costs[t] = trial[t]


@kernel
def attempt(
    state: Ints, words: int, planes: int, order: Ints, costs: Ints, trial: Ints, n: int, p: int,
    undo: Ints, control: Ints, slack: float,
) -> int:  # fmt: skip
    """Try a random move between p and a later place; take it if the sum grows by no more than `slack`. Did the sum change?"""
    q = pick_later(control, p, n)
    up = below(control, 2)
    before = 0
    for t in range(p, q + 1):
        before += costs[t]
    after = segment_cost(state, words, planes, order, p, q, up, before + slack, undo, control[ROOM], trial)
    if after < 0:
        return 0
    take(order, costs, trial, p, q, up)
    control[TOTAL] = control[TOTAL] + after - before
    return 1 if after != before else 0


@kernel
def sweep(
    start: Ints, state: Ints, size: int, words: int, planes: int, order: Ints, costs: Ints, trial: Ints, n: int,
    first: int, last: int, tries: int, undo: Ints, control: Ints, logs: Floats, best: Ints, temperature: float,
) -> int:  # fmt: skip
    """Try `tries` moves from each of the places first .. last - 1 on, keeping the best order seen in `best`; its cost.

    `state` is the graph before place `first`, as the part of the sweep before this one leaves it.
    """
    if first == 0:
        for w in range(size):
            state[w] = start[w]
    for p in range(first, min(last, n - 1)):
        for _ in range(tries):
            slack = temperature * logs[below(control, LOGS)]
            changed = attempt(state, words, planes, order, costs, trial, n, p, undo, control, slack)
            if changed != 0 and control[TOTAL] < control[BEST]:
                control[BEST] = control[TOTAL]
                for t in range(n):
                    best[t] = order[t]
        eliminate(state, 0, order[p], words, planes, undo, 0)
    return control[BEST]
