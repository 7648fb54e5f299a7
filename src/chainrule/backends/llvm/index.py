"""Symbolic indices: an integer, or an offset plus multiples of loop axes and of indices that are read at run time.

An axis is its number in the kernel's loop nest; a run-time index is a node of the scalar graph. Whether a component lies within
bounds is decided for the box of the iteration space at hand; where the box straddles a bound, `Split` asks for it to be cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Dyn(NamedTuple):
    """An index read at run time: a node that lies in range(extent)."""

    node: int
    extent: int


Atom = int | Dyn


class Lin(NamedTuple):
    """offset + sum of coefficient * atom; terms are sorted, no coefficient is zero, and there is at least one term."""

    offset: int
    terms: tuple[tuple[Atom, int], ...]


Component = int | Lin
Index = tuple[Component, ...]
Box = tuple[tuple[int, int], ...]


class Split(Exception):
    """The box is to be cut at a place of one axis."""

    def __init__(self, axis: int, at: int) -> None:
        super().__init__(axis, at)
        self.axis = axis
        self.at = at


class Unlowerable(Exception):
    """Something that a kernel cannot express.

    `equation` is where it arose; `too_long` says that the kernel is, so that keeping the equation's result in memory is the answer
    rather than leaving the equation to NumPy.
    """

    def __init__(self, why: str, *, too_long: bool = False) -> None:
        super().__init__(why)
        self.too_long = too_long
        self.equation: Any = None


def axis(k: int) -> Lin:
    """The index that runs along axis k."""
    return Lin(0, ((k, 1),))


def _order(term: tuple[Atom, int]) -> tuple[int, int]:
    atom = term[0]
    return (1, atom.node) if isinstance(atom, Dyn) else (0, atom)


def plus(a: Component, b: Component) -> Component:
    """a + b."""
    if isinstance(a, int):
        if isinstance(b, int):
            return a + b
        return Lin(a + b.offset, b.terms)
    if isinstance(b, int):
        return Lin(a.offset + b, a.terms)
    total: dict[Atom, int] = dict(a.terms)
    for atom, c in b.terms:
        total[atom] = total.get(atom, 0) + c
    terms = tuple(sorted(((t, c) for t, c in total.items() if c), key=_order))
    return Lin(a.offset + b.offset, terms) if terms else a.offset + b.offset


def times(a: Component, k: int) -> Component:
    """a * k."""
    if isinstance(a, int):
        return a * k
    return Lin(a.offset * k, tuple((t, c * k) for t, c in a.terms)) if k else 0


def flat(index: Index, shape: Sequence[int]) -> Component:
    """The row-major position of an index in an array of that shape."""
    total: Component = 0
    stride = 1
    for component, n in zip(reversed(index), reversed(shape), strict=True):
        total = plus(total, times(component, stride))
        stride *= n
    return total


def bounds(a: Component, box: Box) -> tuple[int, int]:
    """The least and the greatest value within a box."""
    if isinstance(a, int):
        return a, a
    lo = hi = a.offset
    for atom, c in a.terms:
        first, last = (0, atom.extent - 1) if isinstance(atom, Dyn) else (box[atom][0], box[atom][1] - 1)
        lo += c * (first if c > 0 else last)
        hi += c * (last if c > 0 else first)
    return lo, hi


def at_least(a: Component, bound: int, box: Box) -> bool:
    """Whether a >= bound all over the box; False where it holds nowhere; otherwise the box must be split."""
    lo, hi = bounds(a, box)
    if lo >= bound:
        return True
    if hi < bound:
        return False
    assert isinstance(a, Lin)
    if len(a.terms) != 1 or isinstance(a.terms[0][0], Dyn):
        raise Unlowerable("a bound on a sum of axes, or on an index read at run time")
    k, c = a.terms[0]
    assert isinstance(k, int)
    # The first place at which the comparison changes.
    rest = bound - a.offset
    raise Split(k, -(-rest // c) if c > 0 else rest // c + 1)


def divide(a: Component, n: int, box: Box) -> tuple[Component, Component]:
    """Quotient and remainder of a by n, where they are linear."""
    if isinstance(a, int):
        return a // n, a % n
    quotient: Component = 0
    remainder: Component = a.offset % n
    quotient = a.offset // n
    for atom, c in a.terms:
        if c % n == 0:
            quotient = plus(quotient, Lin(0, ((atom, c // n),)))
        else:
            remainder = plus(remainder, Lin(0, ((atom, c),)))
    lo, hi = bounds(remainder, box)
    if lo < 0 or hi >= n:
        raise Unlowerable("a reshape that mixes loop axes")
    return quotient, remainder
