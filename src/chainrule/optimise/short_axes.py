"""Rules for indices that are constants along a short axis: what they take or add up is written out as slices, side by side.

A kernel knows a slice of a short axis while it is compiled, where an index array is read at run time, from results kept in memory.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.primitive import Params
from chainrule.ir.program import Atom, Literal
from chainrule.ir.types import ArrayType
from chainrule.linear.maps import Slot
from chainrule.optimise.rule import New, Rule, new

if TYPE_CHECKING:
    from chainrule.optimise.simplify import Simplifier

SHORT = 16
"""The longest axis, and the most indices, that are written out."""


def _short(key: Any, index: Atom, shape: tuple[int, ...]) -> tuple[int, list[int]] | None:
    """The one axis that a key indexes by a constant, and the indices, if both are short and the other axes are taken whole."""
    axes = [i for i, p in enumerate(key) if isinstance(p, Slot)]
    rest = [p for p in key if not isinstance(p, Slot)]
    if len(axes) != 1 or not all(p is Ellipsis or p == slice(None) for p in rest) or not isinstance(index, Literal):
        return None
    axis = axes[0]
    if Ellipsis in key[:axis]:
        axis += len(shape) - len(key)
    n, where = shape[axis], np.asarray(index.value)
    if where.ndim != 1 or not 0 < where.size <= SHORT or n > SHORT or where.min() < -n or where.max() >= n:
        return None
    return axis, [int(i) % n for i in where]


def _part(x: Atom, axis: int, start: int, stop: int) -> New:
    return new("slice", x, key=(*(slice(None),) * axis, slice(start, stop)))


def _joined(parts: list[New], axis: int) -> New:
    return parts[0] if len(parts) == 1 else new("concatenate", *parts, axis=axis)


def _runs(indices: list[int | None]) -> list[list[int | None]]:
    """Indices in runs in which each is one more than the one before, or is None as they all are."""
    numbered = enumerate(indices)
    return [
        [i for _, i in run] for _, run in groupby(numbered, lambda pair: None if pair[1] is None else pair[1] - pair[0])
    ]


def _gathered(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    x, *indices = args
    found = _short(params["key"], indices[0], x.type.shape) if len(indices) == 1 else None
    if found is None or isinstance(x, Literal):
        return None
    axis, where = found
    return _joined([_run(x, axis, run, out) for run in _runs([*where])], axis)


def _scattered(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    ct, *indices = args
    found = _short(params["key"], indices[0], out.shape) if len(indices) == 1 else None
    if found is None or isinstance(ct, Literal):
        return None
    axis, where = found
    sources = [[k for k, i in enumerate(where) if i == j] for j in range(out.shape[axis])]
    if all(len(ks) < 2 for ks in sources):
        runs = _runs([ks[0] if ks else None for ks in sources])
        return _joined([_run(ct, axis, run, out) for run in runs], axis)
    return _joined([_total(ct, axis, ks, out) for ks in sources], axis)


def _run(ct: Atom, axis: int, run: list[int | None], out: ArrayType) -> New:
    first, last = run[0], run[-1]
    return _zeros(axis, len(run), out) if first is None or last is None else _part(ct, axis, first, last + 1)


def _zeros(axis: int, n: int, out: ArrayType) -> New:
    shape = (*out.shape[:axis], n, *out.shape[axis + 1 :])
    return new("broadcast_to", Literal(np.zeros((), out.dtype)[()]), shape=shape)


def _total(ct: Atom, axis: int, ks: list[int], out: ArrayType) -> New:
    if not ks:
        return _zeros(axis, 1, out)
    total = _part(ct, axis, ks[0], ks[0] + 1)
    for k in ks[1:]:
        total = new("add", total, _part(ct, axis, k, k + 1))
    return total


SHORT_AXES = (
    Rule("x[..., [2, 0, 1]] = x[..., 2:], x[..., :2] side by side", "gather", True, _gathered),
    Rule("t added at [..., [2, 0, 1]] is its slices side by side", "scatter_add", False, _scattered),
)
