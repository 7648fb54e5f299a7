"""Where operations that move elements take them from: for an index of the result, the index of the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm.index import Box, Component, Index, Unlowerable, at_least, divide, flat, plus, times
from chainrule.ir.types import Shape


class Fixed(NamedTuple):
    """An axis of the argument indexed by an integer."""

    at: int


class Ranged(NamedTuple):
    """An axis of the argument taken by a slice: the result's axis, and the range."""

    out: int
    range: range


class Indexed(NamedTuple):
    """An axis of the argument taken by the k-th index array."""

    slot: int


class Key(NamedTuple):
    """A key in full: how each axis of the argument is taken; where the index arrays' axes stand in the result, and their shape."""

    axes: tuple[Fixed | Ranged | Indexed, ...]
    place: int
    rank: int


def parse(key: Sequence[Any], shape: Shape, index_rank: int = 0) -> Key:
    """The key of a slice or a gather of an array of that shape, by NumPy's rules."""
    parts = explicit(key, len(shape))
    wide = [i for i, p in enumerate(parts) if _is_slot(p)]
    advanced = [i for i, p in enumerate(parts) if _is_slot(p) or (wide and _is_integer(p))]
    apart = bool(advanced) and advanced[-1] - advanced[0] + 1 != len(advanced)
    axes: list[Fixed | Ranged | Indexed] = []
    place, out = (0 if apart else -1), (index_rank if apart else 0)
    for i, p in enumerate(parts):
        n = shape[len(axes)] if len(axes) < len(shape) else 0
        if p is None:
            out += 1
        elif i in advanced:
            if place < 0:
                place = out
                out += index_rank
            axes.append(Indexed(p.k) if _is_slot(p) else Fixed(_wrapped(int(p), n)))
        elif isinstance(p, slice):
            axes.append(Ranged(out, range(*p.indices(n))))
            out += 1
        elif _is_integer(p):
            axes.append(Fixed(_wrapped(int(p), n)))
        else:
            raise Unlowerable(f"a key with {p!r}")
    return Key(tuple(axes), max(place, 0), index_rank)


def _is_slot(p: Any) -> bool:
    return type(p).__name__ == "Slot"


def _is_integer(p: Any) -> bool:
    return isinstance(p, int | np.integer) and not isinstance(p, bool | np.bool_)


def _wrapped(i: int, n: int) -> int:
    if not -n <= i < n:
        raise Unlowerable("an index out of range")
    return i % n


def explicit(key: Sequence[Any], rank: int) -> list[Any]:
    """The key with one part for each axis of an array of that rank."""
    used = sum(1 for p in key if p is not None and p is not Ellipsis)
    fill = [slice(None)] * (rank - used)
    parts: list[Any] = []
    seen = False
    for p in key:
        if p is Ellipsis:
            parts += fill
            seen = True
        else:
            parts.append(p)
    return parts if seen else parts + fill


def sliced(key: Key, index: Index) -> Index:
    """The argument's index for a result's index of slice[key]."""
    return tuple(
        a.at if isinstance(a, Fixed) else plus(times(index[a.out], a.range.step), a.range.start)  # type: ignore[union-attr]
        for a in key.axes
    )


def placed(key: Key, index: Index, rank: int, box: Box) -> Index | None:
    """The argument's index for a result's index of place[key]; None where the result is zero."""
    found: list[Component] = [0] * rank
    for a, i in zip(key.axes, index, strict=True):
        if isinstance(a, Fixed):
            if not (at_least(i, a.at, box) and not at_least(i, a.at + 1, box)):
                return None
            continue
        assert isinstance(a, Ranged)
        low, high = (a.range[0], a.range[-1]) if a.range.step > 0 else (a.range[-1], a.range[0])
        if not at_least(i, low, box) or at_least(i, high + 1, box):
            return None
        steps = _steps(plus(i, -a.range.start), a.range.step)
        if steps is None:
            return None
        found[a.out] = steps
    return tuple(found)


def _steps(distance: Component, step: int) -> Component | None:
    """distance / step; None where it is no whole number."""
    if isinstance(distance, int):
        return distance // step if distance % step == 0 else None
    if any(c % step for _, c in distance.terms):
        raise Unlowerable("a strided place")
    if distance.offset % step:
        return None
    return type(distance)(distance.offset // step, tuple((t, c // step) for t, c in distance.terms))


def concatenated(extents: Sequence[int], index: Index, axis: int, box: Box) -> tuple[int, Index]:
    """Which argument of a concatenation an index falls in, and the index in it."""
    start = 0
    for k, n in enumerate(extents):
        if n and not at_least(index[axis], start + n, box):
            return k, (*index[:axis], plus(index[axis], -start), *index[axis + 1 :])
        start += n
    raise Unlowerable("an index beyond a concatenation")


def groups(a: Shape, b: Shape) -> list[tuple[list[int], list[int]]]:
    """Pairs of runs of axes of two shapes of equal size with equal products, as short as can be; axes of extent one stand alone."""
    out: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        if i < len(a) and a[i] == 1:
            out.append(([i], []))
            i += 1
        elif j < len(b) and b[j] == 1:
            out.append(([], [j]))
            j += 1
        else:
            left, right, p, q = [i], [j], a[i], b[j]
            i, j = i + 1, j + 1
            while p != q:
                if p < q:
                    left.append(i)
                    p *= a[i]
                    i += 1
                else:
                    right.append(j)
                    q *= b[j]
                    j += 1
            out.append((left, right))
    return out


def reshaped(index: Index, out: Shape, shape: Shape, box: Box) -> Index:
    """The argument's index, in an array of `shape`, for an index of its reshape to `out`."""
    found: list[Component] = [0] * len(shape)
    for mine, theirs in groups(shape, out):
        if len(mine) == 1 and len(theirs) == 1:
            found[mine[0]] = index[theirs[0]]
        elif theirs:
            rest = flat(tuple(index[j] for j in theirs), [out[j] for j in theirs])
            for i in reversed(mine[1:]):
                rest, found[i] = divide(rest, shape[i], box)
            if mine:
                found[mine[0]] = rest
    return tuple(found)
