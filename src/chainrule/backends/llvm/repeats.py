"""Runs of equal consecutive stretches in a sequence of tokens: the loops of a trace that was written out.

A run is found by its period: the least d at a place i with tokens[i : i + d] == tokens[i + d : i + 2 d]. Equality of stretches is
that of their hashes (sums of random words times powers of an odd number, modulo 2**64), so all places are tested at once; what
is built on a run checks it by itself. Found runs become tokens of their own, and the search is repeated: so loops within loops
are found from the innermost outwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

_NEXT, _NEXT_ALIKE, _ALIKE = 8, 16, 8
"""How many later places of the same token, and of the same eight tokens in a row, are tried as the end of a period."""
_DEPTH = 8


class Run(NamedTuple):
    """tokens[start : start + period * turns] is one stretch of `period` tokens, `turns` times."""

    start: int
    period: int
    turns: int


class _Hashes:
    """The hash of every stretch of a sequence, in constant time."""

    def __init__(self, ids: Any) -> None:
        n = len(ids)
        words = np.random.default_rng(20).integers(0, 2**64, int(ids.max()) + 1, np.uint64, endpoint=False)
        self.powers = np.ones(n + 1, np.uint64)
        np.cumprod(np.full(n, 0x9E3779B97F4A7C15, np.uint64), out=self.powers[1:])
        self.sums = np.zeros(n + 1, np.uint64)
        np.cumsum(words[ids] * self.powers[:n], out=self.sums[1:])

    def repeat(self, i: Any, d: Any) -> Any:
        """Whether the d tokens from i on equal the d tokens after them."""
        s = self.sums
        return (s[i + d] - s[i]) * self.powers[d] == s[i + 2 * d] - s[i + d]


def runs(tokens: Sequence[int]) -> list[Run]:
    """The outermost runs of a sequence of small whole numbers, in order; they do not overlap.

    >>> runs([7, 1, 2, 1, 2, 1, 2, 1, 9])
    [Run(start=1, period=2, turns=3)]
    >>> runs([1, 2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2])
    [Run(start=0, period=4, turns=3)]
    """
    ids: Any = np.asarray(tokens, np.int64)
    bounds = list(range(len(ids) + 1))  # where the items of the sequence at hand begin among the tokens
    outermost: dict[int, Run] = {}
    for _ in range(_DEPTH):
        found = _level(ids)
        if not found:
            break
        names: dict[Any, int] = {}
        following, starts, at = [], [], 0
        for run in (*found, Run(len(ids), 0, 0)):
            following += ids[at : run.start].tolist()
            starts += bounds[at : run.start]
            if run.turns:
                at = run.start + run.period * run.turns
                first, stop = bounds[run.start], bounds[at]
                key = (tuple(ids[run.start : run.start + run.period].tolist()), run.turns)
                following.append(names.setdefault(key, -1 - len(names)))
                starts.append(first)
                outermost[first] = Run(first, (stop - first) // run.turns, run.turns)
        bounds = [*starts, bounds[-1]]
        ids = np.unique(np.asarray(following), return_inverse=True)[1]  # runs are negative until all are numbered anew
    whole = pairwise(bounds)
    return [outermost[a] for a, b in whole if a in outermost and outermost[a].period * outermost[a].turns == b - a]


def _level(ids: Any) -> list[Run]:
    """Runs of least period, from left to right."""
    if len(ids) < 2:
        return []
    hashes = _Hashes(ids)
    period = _periods(ids, hashes)
    found: list[Run] = []
    end = 0
    for i in np.flatnonzero(period):
        if i < end:
            continue
        d = int(period[i])
        start = int(i)
        while start > end and ids[start - 1] == ids[start - 1 + d]:
            start -= 1
        stop = start + 2 * d
        while stop < len(ids) and ids[stop] == ids[stop - d]:
            stop += 1
        found.append(Run(start, d, (stop - start) // d))
        end = start + d * found[-1].turns
    return found


def _periods(ids: Any, hashes: _Hashes) -> Any:
    """At each place the least period found that holds for two turns; 0 where there is none."""
    n = len(ids)
    least = np.full(n, n)
    alike = hashes.sums[_ALIKE:] - hashes.sums[:-_ALIKE]
    alike = alike * hashes.powers[::-1][: len(alike)]
    for labels, tries in ((ids, _NEXT), (alike, _NEXT_ALIKE)):
        following = _following(labels, n)
        place = np.arange(len(labels))
        end = following[place]
        for _ in range(tries):
            d = end - place
            within = (end + d <= n) & (d < least[place])
            place, end, d = place[within], end[within], d[within]
            repeats = hashes.repeat(place, d)
            least[place[repeats]] = d[repeats]
            end = following[end]
    return np.where(least == n, 0, least)


def _following(labels: Any, n: int) -> Any:
    """For each place the next one with the same label; n where there is none."""
    order = np.argsort(labels, kind="stable")
    same = labels[order[1:]] == labels[order[:-1]]
    out = np.full(n + 1, n)
    out[order[:-1][same]] = order[1:][same]
    return out
