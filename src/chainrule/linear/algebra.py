"""How linear maps compose, add up and transpose: exactly, and in structured form.

The two normal forms (`linear.forms`) are closed under composition and hold most maps: composing two Einsums is one contraction
of their weights; composing two Entries matches them by the vertex between, once, and then multiplies values. What fits neither
is kept as it is, `Composition`, `Total` and `Transposed`, and computed when it is applied. All of it computes on ndarrays and
records on tracers.
"""

from __future__ import annotations

from functools import singledispatch
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array, ArrayType, Shape
from chainrule.linear import maps, patterns
from chainrule.linear.forms import (
    MOST_ENTRIES,
    Dense,
    Einsum,
    Entries,
    Ints,
    Labels,
    Times,
    aligned,
    as_einsum,
    as_entries,
    laid_out,
    ones,
    product,
    scaled,
    summed,
    taken,
    times,
)
from chainrule.linear.maps import Slot, convert

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# ---- what is kept as it is


class Composition(LinearMap):
    """t -> outer(inner(t)), as it is."""

    __slots__ = ("inner", "outer")

    def __init__(self, outer: LinearMap, inner: LinearMap) -> None:
        self.outer, self.inner = outer, inner
        self.in_shape, self.in_dtype, self.out_shape = inner.in_shape, inner.in_dtype, outer.out_shape

    def apply(self, t: Array) -> Array:
        return self.outer.apply(convert(self.inner.apply(t), self.outer.in_dtype))

    def adjoint(self, ct: Array) -> Array:
        return self.inner.adjoint(self.outer.adjoint(ct))

    def pattern(self) -> csr_array:
        return patterns.boolean(self.outer.pattern() @ self.inner.pattern())

    def multiplications(self) -> int:
        return self.outer.multiplications() + self.inner.multiplications()


class Total(LinearMap):
    """t -> first(t) + second(t), as they are."""

    __slots__ = ("first", "second")

    def __init__(self, first: LinearMap, second: LinearMap) -> None:
        self.first, self.second = first, second
        self.in_shape, self.in_dtype, self.out_shape = first.in_shape, first.in_dtype, first.out_shape

    def apply(self, t: Array) -> Array:
        return self.first.apply(t) + self.second.apply(t)

    def adjoint(self, ct: Array) -> Array:
        return self.first.adjoint(ct) + self.second.adjoint(ct)

    def pattern(self) -> csr_array:
        return patterns.boolean(self.first.pattern() + self.second.pattern())

    def multiplications(self) -> int:
        return self.first.multiplications() + self.second.multiplications()


class Transposed(LinearMap):
    """ct -> m^T ct, as it is; `dtype` is that of m's output."""

    __slots__ = ("of",)

    def __init__(self, of: LinearMap, dtype: np.dtype[Any]) -> None:
        self.of = of
        self.in_shape, self.in_dtype, self.out_shape = of.out_shape, dtype, of.in_shape

    def apply(self, t: Array) -> Array:
        return self.of.adjoint(t)

    def adjoint(self, ct: Array) -> Array:
        return convert(self.of.apply(ct), self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.transposed(self.of.pattern())

    def multiplications(self) -> int:
        return self.of.multiplications()


# ---- composing


def is_identity(m: LinearMap) -> bool:
    """Whether a map is the identity."""
    if m.in_shape != m.out_shape:
        return False
    if isinstance(m, maps.Scale):
        return m.factor == 1
    return isinstance(m, maps.Expand | maps.Reshape)


def compose(outer: LinearMap, inner: LinearMap) -> LinearMap:
    """The map t -> outer(inner(t)), multiplied out where that has a structured form.

    >>> double, total = maps.Scale(2.0, np.ones(3), np.ones(3)), maps.SumOver((0,), np.ones(3), np.ones(()))
    >>> float(compose(total, double).apply(np.ones(3)))
    6.0
    """
    if inner.out_shape != outer.in_shape:
        raise ValueError(f"a map of inputs {outer.in_shape} after one of outputs {inner.out_shape}")
    if is_identity(outer) and outer.in_dtype == inner.in_dtype:
        return inner
    if is_identity(inner):
        return outer if inner.in_dtype == outer.in_dtype else Composition(outer, inner)
    a, b = as_einsum(outer), as_einsum(inner)
    if a is not None and b is not None:
        return _compose_einsums(a, b)
    x, y = as_entries(outer), as_entries(inner)
    if x is not None and y is not None:
        made = _compose_entries(x, y)
        if made is not None:
            return made
    return Composition(outer, inner)


def _renamed(m: Einsum, names: dict[int, int], first: int) -> tuple[Labels, Labels, Labels, dict[int, int]]:
    """The labels of m with some given names, and all others new ones from `first` on."""
    names = dict(names)
    for a in m.extents:
        if a not in names:
            names[a] = first
            first += 1

    def of(labels: Labels) -> Labels:
        return tuple(names[a] for a in labels)

    return of(m.own), of(m.inner), of(m.outer), {names[a]: n for a, n in m.extents.items()}


def _compose_einsums(outer: Einsum, inner: Einsum) -> Einsum:
    names = dict(zip(outer.inner, inner.outer, strict=True))
    own, _, out, extents = _renamed(outer, names, max((*inner.extents, -1)) + 1)
    extents = {**inner.extents, **extents}
    keep = {*inner.inner, *out}
    selects = outer.selects or inner.selects
    weights, labels = _joined(inner.weights, inner.own, outer.weights, own, keep, times(strict=True, selects=selects))
    # A label that only the vertex between has is summed over: as often as it is long, where no weights have it.
    held = {*own, *inner.own}
    lost = prod(extents[a] for a in set(inner.outer) if a not in keep and a not in held)
    used = {a: extents[a] for a in keep}
    return Einsum(
        weights,
        labels,
        inner.inner,
        out,
        used,
        inner.in_dtype,
        factor=outer.factor * inner.factor * lost,
        selects=selects,
    )


def _joined(
    x: Array | None, left: Labels, y: Array | None, right: Labels, keep: set[int], elementwise: Times
) -> tuple[Array | None, Labels]:
    """The product of two weights, summed over what is not kept; None, for ones, where both are."""
    if x is None:
        return summed(y, right, keep)
    if y is None:
        return summed(x, left, keep)
    to = tuple(dict.fromkeys(a for a in (*left, *right) if a in keep))
    return product(x, left, y, right, to, elementwise), to


def _compose_entries(outer: Entries, inner: Entries) -> Entries | None:
    """Every pair of an entry of the one and an entry of the other that meet; entries at one place are added up."""
    n = prod(inner.out_shape)
    by_row = np.argsort(inner.rows, kind="stable")
    start = np.searchsorted(inner.rows[by_row], np.arange(n + 1))
    count = np.diff(start)[outer.columns]
    if count.sum() > MOST_ENTRIES:
        return None
    first = np.repeat(np.arange(len(outer.rows)), count)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    second = by_row[start[outer.columns[first]] + offset]
    selects = outer.selects or inner.selects
    values = _values_product(inner.values, second, outer.values, first, times(strict=True, selects=selects))
    made = Entries(
        outer.rows[first],
        inner.columns[second],
        values,
        inner.in_shape,
        outer.out_shape,
        inner.in_dtype,
        selects=selects,
    )
    return _merged(made)


def _values_product(x: Array | None, first: Ints, y: Array | None, second: Ints, elementwise: Times) -> Array | None:
    if x is None:
        return None if y is None else taken(y, second)
    left = taken(x, first)
    return left if y is None else elementwise(left, taken(y, second))


def _merged(m: Entries) -> Entries:
    """Entries with those at one place added up, in row-major order."""
    width = prod(m.in_shape)
    places, which = np.unique(m.rows * width + m.columns, return_inverse=True)
    values = m.values
    if len(places) < len(m.rows):
        values = ops.scatter_add(ones(m), which, key=(Slot(0),), shape=(len(places),))
    elif values is not None:
        order = np.empty(len(places), np.int64)
        order[which] = np.arange(len(places))
        values = taken(values, order)
    return Entries(places // width, places % width, values, m.in_shape, m.out_shape, m.in_dtype, selects=m.selects)


# ---- adding


def add(first: LinearMap, second: LinearMap) -> LinearMap:
    """The map t -> first(t) + second(t), added up where that has a structured form."""
    if (first.in_shape, first.out_shape) != (second.in_shape, second.out_shape):
        raise ValueError(f"maps {first.in_shape} -> {first.out_shape} and {second.in_shape} -> {second.out_shape}")
    a, b = as_einsum(first), as_einsum(second)
    if a is not None and b is not None:
        made = _add_einsums(a, b)
        if made is not None:
            return made
    if (a is None or not _is_full(a)) and (b is None or not _is_full(b)):
        x, y = as_entries(first), as_entries(second)
        if x is not None and y is not None:
            return _add_entries(x, y)
    return _add_written(first, second)


def _add_written(first: LinearMap, second: LinearMap) -> LinearMap:
    """Where one of the two is a full matrix, the sum is one; else it is kept as it is."""
    if any(as_entries(m) is None for m in (first, second)):
        return Total(first, second)
    total = to_dense(first) + to_dense(second)
    return Dense(total, first.in_shape, first.out_shape, first.in_dtype)


def _is_full(m: Einsum) -> bool:
    return not set(m.inner) & set(m.outer)


def _add_einsums(a: Einsum, b: Einsum) -> Einsum | None:
    """The sum of two of one structure: their inputs share the same labels with their outputs."""
    names = {**dict(zip(b.outer, a.outer, strict=True)), **dict(zip(b.inner, a.inner, strict=True))}
    consistent = all(names[o] == n for o, n in zip(b.outer, a.outer, strict=True))
    shared = len(set(a.outer) & set(a.inner)) == len(set(b.outer) & set(b.inner))
    if not (consistent and shared):
        return None
    own = tuple(names[label] for label in b.own)
    space = tuple(dict.fromkeys((*a.own, *own)))
    w = [aligned(scaled(m), labels, space) for m, labels in ((a, a.own), (b, own))]
    total = w[0] + w[1]
    kept = {label: a.extents[label] for label in (*a.inner, *a.outer)}
    return Einsum(total, space, a.inner, a.outer, kept, a.in_dtype, selects=a.selects or b.selects)


def _add_entries(x: Entries, y: Entries) -> Entries:
    parts = [ones(x), ones(y)]
    values = ops.concatenate(*parts, axis=0)
    rows, columns = np.concatenate([x.rows, y.rows]), np.concatenate([x.columns, y.columns])
    selects = x.selects or y.selects
    return _merged(Entries(rows, columns, values, x.in_shape, x.out_shape, x.in_dtype, selects=selects))


# ---- transposing


def _like(shape: Shape, dtype: np.dtype[Any]) -> ArrayType:
    return ArrayType(shape, dtype)


@singledispatch
def transpose(m: LinearMap, dtype: np.dtype[Any] | None = None) -> LinearMap:
    """The map ct -> m^T ct; `dtype` is that of m's output, by default that of its input."""
    made = as_einsum(m)
    return Transposed(m, dtype or m.in_dtype) if made is None else transpose(made, dtype)


@transpose.register
def _(m: Einsum, dtype: np.dtype[Any] | None = None) -> LinearMap:
    to = dtype or m.in_dtype
    if m.in_dtype.kind != "c" and (to.kind == "c" or (m.weights is not None and m.weights.dtype.kind == "c")):
        return Transposed(m, to)  # takes real parts on the way back
    return Einsum(m.weights, m.own, m.outer, m.inner, m.extents, to, factor=m.factor, selects=m.selects)


@transpose.register
def _(m: Entries, dtype: np.dtype[Any] | None = None) -> LinearMap:
    to = dtype or m.in_dtype
    if m.in_dtype.kind != "c" and (to.kind == "c" or (m.values is not None and m.values.dtype.kind == "c")):
        return Transposed(m, to)
    return _merged(Entries(m.columns, m.rows, m.values, m.out_shape, m.in_shape, to, selects=m.selects))


@transpose.register
def _(m: maps.Slice, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return maps.Place(m.key, _like(m.out_shape, dtype or m.in_dtype), m.in_shape)


@transpose.register
def _(m: maps.Place, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return maps.Slice(m.key, _like(m.out_shape, dtype or m.in_dtype), _like(m.in_shape, m.in_dtype))


@transpose.register
def _(m: maps.Gather, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return maps.Scatter(m.key, m.indices, _like(m.out_shape, dtype or m.in_dtype), m.in_shape)


@transpose.register
def _(m: maps.Scatter, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return maps.Gather(m.key, m.indices, _like(m.out_shape, dtype or m.in_dtype), _like(m.in_shape, m.in_dtype))


@transpose.register
def _(m: maps.Reshape, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return maps.Reshape(_like(m.out_shape, dtype or m.in_dtype), m.in_shape)


@transpose.register
def _(m: Composition, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return Composition(transpose(m.inner, m.outer.in_dtype), transpose(m.outer, dtype))


@transpose.register
def _(m: Total, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return Total(transpose(m.first, dtype), transpose(m.second, dtype))


@transpose.register
def _(m: Transposed, dtype: np.dtype[Any] | None = None) -> LinearMap:
    return m.of


# ---- writing out


def to_dense(m: LinearMap) -> Array:
    """The Jacobian written out, of shape out_shape + in_shape: exactly, without products where the map has a structured form.

    >>> to_dense(maps.SumOver((0,), np.ones((2, 2)), np.ones(2)))
    array([[[1., 0.],
            [1., 0.]],
    <BLANKLINE>
           [[0., 1.],
            [0., 1.]]])
    """
    einsum = as_einsum(m)
    shape = m.out_shape + m.in_shape
    if einsum is not None and _is_full(einsum):
        return _written(einsum)
    entries = as_entries(m)
    if entries is not None:
        flat = entries.rows * prod(m.in_shape) + entries.columns
        return ops.reshape(ops.scatter_add(ones(entries), flat, key=(Slot(0),), shape=(prod(shape),)), shape=shape)
    if isinstance(m, Total):
        return to_dense(m.first) + to_dense(m.second)
    return _by_columns(m)


def _written(m: Einsum) -> Array:
    return laid_out(scaled(m), m.own, (*m.outer, *m.inner), m.extents)


def _by_columns(m: LinearMap) -> Array:
    """One application an input element; batched sweeps (see transforms) are the faster way."""
    n = prod(m.in_shape)
    units = np.eye(n, dtype=m.in_dtype).reshape(n, *m.in_shape)
    columns = [ops.reshape(m.apply(u[()]), shape=(*m.out_shape, 1)) for u in units]
    if not columns:
        return np.zeros(m.out_shape + m.in_shape, m.in_dtype)
    return ops.reshape(ops.concatenate(*columns, axis=len(m.out_shape)), shape=m.out_shape + m.in_shape)
