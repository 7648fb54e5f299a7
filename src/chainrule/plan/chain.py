"""The cheapest way to multiply out a chain of maps, some or all of which are known only by their products.

Let F_0, .., F_{p-1} be applied one after the other, F_i with n_i inputs and m_i = n_{i+1} outputs, and E_i the cost of one
product of a vector with its Jacobian, from the left or from the right. The least cost C[j, i] of the Jacobian of maps i .. j is

    C[i, i] = E_i min(n_i, m_i), or what it costs to write the Jacobian of F_i down, where that is known and less
    C[j, i] = min over i <= k < j of
        C[j, k+1] + C[k, i] + m_j m_k n_i      multiply two accumulated Jacobians
        C[k, i] + n_i sum(E[k+1 .. j])         push the columns of the inner one through maps k+1 .. j (tangents)
        C[j, k+1] + m_j sum(E[i .. k])         pull the rows of the outer one through maps i .. k (adjoints)

[Naumann, "Matrix-Free Jacobian Chaining", 2024]. An adjoint needs a tape of the maps that it goes through: it is allowed only
where their tapes fit the memory together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
How = Literal["multiply", "tangent", "adjoint", "known"]
_HOW: tuple[How, ...] = ("multiply", "tangent", "adjoint", "known")


@dataclass(frozen=True)
class ChainMap:
    """One map of a chain: numbers of inputs and outputs, cost of one product with its Jacobian, bytes of its tape, and the cost
    of its Jacobian as a matrix, where that can be had without products.
    """

    inputs: int
    outputs: int
    product: float
    tape: float = 0.0
    jacobian: float = np.inf

    @classmethod
    def dense(cls, inputs: int, outputs: int) -> ChainMap:
        """A map whose Jacobian is at hand as a full matrix: a product costs inputs * outputs multiplications."""
        return cls(inputs, outputs, float(inputs * outputs), jacobian=0.0)


@dataclass(frozen=True)
class Bracket:
    """The Jacobian of maps first .. last, and how it is made.

    A single map: by tangents (one for each input), by adjoints (one for each output), or known. Several: `multiply` has both parts;
    `tangent` has the part `inner`, maps first .. split, whose columns go through the rest; `adjoint` has the part `outer`, maps
    split + 1 .. last, whose rows go through the rest. `cost` is that of everything below.
    """

    first: int
    last: int
    how: How
    cost: float
    split: int = -1
    outer: Bracket | None = None
    inner: Bracket | None = None

    def __iter__(self) -> Iterator[Bracket]:
        """All brackets, each after those that it uses."""
        for part in (self.inner, self.outer):
            if part is not None:
                yield from part
        yield self

    def __str__(self) -> str:
        """As a product: `F2 * F1` multiplies, `F2 > F1` pushes F1's columns on, `F2 < F1` pulls F2's rows back.

        Names: `F3` a Jacobian by tangents or known, `F3'` by adjoints, `f3` the map as it is, used through its products.
        """
        if self.first == self.last:
            return f"F{self.last}" + ("'" if self.how == "adjoint" else "")
        outer = str(self.outer) if self.outer else _maps(self.split + 1, self.last)
        inner = str(self.inner) if self.inner else _maps(self.first, self.split)
        return f"({outer} {_SIGN[self.how]} {inner})"


_SIGN = {"multiply": "*", "tangent": ">", "adjoint": "<"}


def _maps(first: int, last: int) -> str:
    return " ".join(f"f{i}" for i in range(last, first - 1, -1))


@dataclass(frozen=True)
class Chaining:
    """The cheapest bracketing of a chain, beside the two pure modes; `adjoint` is infinite where its tape does not fit."""

    maps: tuple[ChainMap, ...]
    bracket: Bracket
    tangent: float
    adjoint: float

    @property
    def cost(self) -> float:
        """Multiplications of the cheapest bracketing."""
        return self.bracket.cost

    def __str__(self) -> str:
        """The bracketing, and what each way costs."""
        ways = (("bracketed", self.cost), ("all tangents", self.tangent), ("all adjoints", self.adjoint))
        rows = [
            f"{name:<14}{cost:>16,.0f}" if np.isfinite(cost) else f"{name:<14}{'no memory':>16}" for name, cost in ways
        ]
        return "\n".join([str(self.bracket), *rows])


def bracket_chain(maps: Iterable[ChainMap], *, memory: float | None = None) -> Chaining:
    """The bracketing of least cost C[p-1, 0] of a chain of maps, innermost first, with tapes of at most `memory` bytes.

    Two wide maps with a narrow waist between them: pull the two rows of the inner one back, then push its columns on.

    >>> plan = bracket_chain([ChainMap(100, 2, 200.0), ChainMap(2, 100, 200.0)])
    >>> print(plan)
    (f1 > F0')
    bracketed               20,400
    all tangents            40,000
    all adjoints            40,000

    Raises:
        ValueError: for no maps, or maps that do not fit end to end.
    """
    chain = tuple(maps)
    _check(chain)
    limit = np.inf if memory is None else float(memory)
    cost, how, split = _table(chain, limit)
    products = sum(f.product for f in chain)
    adjoint = chain[-1].outputs * products if sum(f.tape for f in chain) <= limit else np.inf
    bracket = _bracket(cost, how, split, 0, len(chain) - 1)
    return Chaining(chain, bracket, float(chain[0].inputs * products), float(adjoint))


def _check(chain: Sequence[ChainMap]) -> None:
    if not chain:
        raise ValueError("a chain has at least one map")
    for i, (inner, outer) in enumerate(itertools.pairwise(chain)):
        if inner.outputs != outer.inputs:
            raise ValueError(f"map {i} has {inner.outputs} outputs, but map {i + 1} has {outer.inputs} inputs")


def _table(chain: Sequence[ChainMap], limit: float) -> tuple[Array, NDArray[np.int8], NDArray[np.int64]]:
    """Costs, ways and splits, at [first, last]; one step a length, all brackets of that length and their splits at once."""
    p = len(chain)
    n = np.array([f.inputs for f in chain], float)
    m = np.array([f.outputs for f in chain], float)
    through = np.concatenate([[0.0], np.cumsum([f.product for f in chain])])
    tape = np.concatenate([[0.0], np.cumsum([f.tape for f in chain])])
    cost, how, split = np.zeros((p, p)), np.zeros((p, p), np.int8), np.zeros((p, p), np.int64)
    at = np.arange(p)
    forward, back = n * np.diff(through), np.where(np.diff(tape) <= limit, m * np.diff(through), np.inf)
    leaves = np.stack([np.full(p, np.inf), forward, back, [f.jacobian for f in chain]])
    cost[at, at], how[at, at] = leaves.min(axis=0), leaves.argmin(axis=0)
    for length in range(2, p + 1):
        i = at[: p - length + 1, None]
        j = i + length - 1
        k = i + at[None, : length - 1]
        inner, outer = cost[i, k], cost[k + 1, j]
        ways = np.stack(
            [
                inner + outer + m[j] * m[k] * n[i],
                inner + n[i] * (through[j + 1] - through[k + 1]),
                np.where(tape[k + 1] - tape[i] <= limit, outer + m[j] * (through[k + 1] - through[i]), np.inf),
            ]
        )
        flat = ways.transpose(1, 0, 2).reshape(len(i), -1)
        best = flat.argmin(axis=1)
        i, j = i[:, 0], j[:, 0]
        cost[i, j] = flat[at[: len(i)], best]
        how[i, j], split[i, j] = best // (length - 1), i + best % (length - 1)
    return cost, how, split


def _bracket(cost: Array, how: NDArray[Any], split: NDArray[Any], first: int, last: int) -> Bracket:
    way, total, k = _HOW[int(how[first, last])], float(cost[first, last]), int(split[first, last])
    if first == last:
        return Bracket(first, last, way, total)
    outer = _bracket(cost, how, split, k + 1, last) if way != "tangent" else None
    inner = _bracket(cost, how, split, first, k) if way != "adjoint" else None
    return Bracket(first, last, way, total, k, outer, inner)
