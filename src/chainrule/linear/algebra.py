"""How linear maps compose, add up and transpose: exactly, and in structured form.

Two normal forms are closed under composition and hold most maps:

    Einsum     out[outer] = sum of in[inner] * weights[own]     diagonals, sums, broadcasts, transposes, contractions, matrices
    Entries    out[rows[e]] += in[columns[e]] * values[e]       slices, gathers and all that moves elements, weighted or not

Labels are numbers; axes of one label run together. Composing two Einsums is one contraction of their weights; composing two
Entries matches them by the vertex between, once, and then multiplies values. What fits neither is kept as it is, `Composition`
and `Total`, and computed when it is applied. All of it computes on ndarrays and records on tracers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import ops
from chainrule.ir.types import Array, ArrayType, Shape
from chainrule.linear import maps, patterns
from chainrule.linear.dependence import Groups, move
from chainrule.linear.maps import Slot, convert
from chainrule.linear.strong import mode

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Labels = tuple[int, ...]
Ints = NDArray[np.int64]

# Entries are composed while their products are no more than this; beyond it a Composition is kept.
MOST_ENTRIES = 4_000_000


def _like(shape: Shape, dtype: np.dtype[Any]) -> ArrayType:
    return ArrayType(shape, dtype)


# ---- the normal forms


class Einsum(LinearMap):
    """t -> factor * sum of t[inner] * weights[own] over the labels that `outer` lacks; weights may be None, for ones.

    Labels are distinct within inner, outer and own, and those of own are among the other two. Where the weights select
    (masks), their exact zeros win over whatever they multiply.
    """

    __slots__ = ("extents", "factor", "inner", "outer", "own", "selects", "weights")

    def __init__(
        self,
        weights: Array | None,
        own: Labels,
        inner: Labels,
        outer: Labels,
        extents: dict[int, int],
        in_dtype: np.dtype[Any],
        *,
        factor: float = 1.0,
        selects: bool = False,
    ) -> None:
        self.weights, self.own, self.inner, self.outer = weights, own, inner, outer
        self.extents, self.factor, self.selects = extents, factor, selects
        self.in_dtype = in_dtype
        self.in_shape = tuple(extents[a] for a in inner)
        self.out_shape = tuple(extents[a] for a in outer)

    def apply(self, t: Array) -> Array:
        return self._run(t, self.inner, self.outer, strict=True)

    def adjoint(self, ct: Array) -> Array:
        return convert(self._run(ct, self.outer, self.inner, strict=mode.strict), self.in_dtype)

    def _run(self, t: Array, given: Labels, wanted: Labels, *, strict: bool) -> Array:
        held = self.own if self.weights is not None else ()
        t, given = summed(t, given, {*wanted, *held})
        if self.weights is not None:
            to = tuple(a for a in wanted if a in given or a in held)
            if self.selects:
                t, given = _product(self.weights, held, t, given, to, strict=True), to
            else:
                t, given = _product(t, given, self.weights, held, to, strict=strict), to
        if self.factor != 1.0:
            t = -t if self.factor == -1.0 else ops.multiply(t, self.factor)
        return laid_out(t, given, wanted, self.extents)

    def at(self, index: dict[int, int]) -> Einsum:
        """The map of arrays taken at an index along some labels, of which each is the input's or the output's alone."""
        weights = self.weights
        if weights is not None and any(a in index for a in self.own):
            weights = ops.slice(weights, key=tuple(index.get(a, slice(None)) for a in self.own))
        own, inner, outer = (
            tuple(a for a in labels if a not in index) for labels in (self.own, self.inner, self.outer)
        )
        left = {a: n for a, n in self.extents.items() if a not in index}
        return Einsum(weights, own, inner, outer, left, self.in_dtype, factor=self.factor, selects=self.selects)

    def pattern(self) -> csr_array:
        rows, columns = _grid(self)
        return _matrix(rows.ravel(), columns.ravel(), (prod(self.out_shape), prod(self.in_shape)))

    def multiplications(self) -> int:
        if self.weights is None:
            return 0 if abs(self.factor) == 1 else min(prod(self.out_shape), prod(self.in_shape))
        involved = {a for a in self.inner if a in self.own or a in self.outer} | set(self.own)
        return prod(self.extents[a] for a in involved)


class Dense(Einsum):
    """A Jacobian written out: an array of shape out_shape + in_shape."""

    __slots__ = ()

    def __init__(self, array: Array, in_shape: Shape, out_shape: Shape, in_dtype: np.dtype[Any]) -> None:
        outer = tuple(range(len(out_shape)))
        inner = tuple(range(len(out_shape), len(out_shape) + len(in_shape)))
        extents = dict(zip(outer + inner, out_shape + in_shape, strict=True))
        super().__init__(array, outer + inner, inner, outer, extents, in_dtype)

    @property
    def array(self) -> Array:
        """The Jacobian, of shape out_shape + in_shape."""
        return self.weights


class Entries(LinearMap):
    """t -> out, with out[rows[e]] += t[columns[e]] * values[e] on flattened arrays; values may be None, for ones."""

    __slots__ = ("columns", "rows", "values")

    def __init__(
        self,
        rows: Ints,
        columns: Ints,
        values: Array | None,
        in_shape: Shape,
        out_shape: Shape,
        in_dtype: np.dtype[Any],
    ) -> None:
        self.rows, self.columns, self.values = rows, columns, values
        self.in_shape, self.out_shape, self.in_dtype = in_shape, out_shape, in_dtype

    def apply(self, t: Array) -> Array:
        return self._run(t, self.columns, self.rows, self.out_shape, strict=True)

    def adjoint(self, ct: Array) -> Array:
        return convert(self._run(ct, self.rows, self.columns, self.in_shape, strict=mode.strict), self.in_dtype)

    def _run(self, t: Array, source: Ints, sink: Ints, shape: Shape, *, strict: bool) -> Array:
        t = _taken(ops.reshape(t, shape=(prod(t.shape),)), source)
        if self.values is not None:
            t = ops.strong_multiply(t, self.values) if strict else t * self.values
        n = prod(shape)
        if not _is_range(sink, n):
            t = ops.scatter_add(t, sink, key=(Slot(0),), shape=(n,))
        return ops.reshape(t, shape=shape)

    def pattern(self) -> csr_array:
        return _matrix(self.rows, self.columns, (prod(self.out_shape), prod(self.in_shape)))

    def multiplications(self) -> int:
        return 0 if self.values is None else len(self.rows)


class Composition(LinearMap):
    """t -> outer(inner(t)), as it is."""

    __slots__ = ("inner", "outer")

    def __init__(self, outer: LinearMap, inner: LinearMap) -> None:
        self.outer, self.inner = outer, inner
        self.in_shape, self.in_dtype, self.out_shape = inner.in_shape, inner.in_dtype, outer.out_shape

    def apply(self, t: Array) -> Array:
        t = self.inner.apply(t)
        return self.outer.apply(t if t.dtype == self.outer.in_dtype else convert(t, self.outer.in_dtype))

    def adjoint(self, ct: Array) -> Array:
        return self.inner.adjoint(self.outer.adjoint(ct))

    def pattern(self) -> csr_array:
        return _boolean(self.outer.pattern().astype(np.int8) @ self.inner.pattern().astype(np.int8))

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
        return _boolean(self.first.pattern().astype(np.int8) + self.second.pattern().astype(np.int8))

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


# ---- pieces of arrays


def summed(t: Array, labels: Labels, keep: set[int]) -> tuple[Array, Labels]:
    """t summed over the axes whose labels are not kept, and the labels that are left."""
    axes = tuple(i for i, a in enumerate(labels) if a not in keep)
    return (ops.reduce_sum(t, axes=axes), tuple(a for a in labels if a in keep)) if axes else (t, labels)


def laid_out(t: Array, given: Labels, wanted: Labels, extents: dict[int, int]) -> Array:
    """t[given] with its axes in the order `wanted`, broadcast along those that it lacks."""
    order = tuple(given.index(a) for a in wanted if a in given)
    if order != tuple(range(len(order))):
        t = ops.transpose(t, axes=order)
    if len(given) == len(wanted):
        return t
    t = ops.reshape(t, shape=tuple(extents[a] if a in given else 1 for a in wanted))
    return ops.broadcast_to(t, shape=tuple(extents[a] for a in wanted))


def _aligned(t: Array, labels: Labels, to: Labels) -> Array:
    """t with its axes in the order `to`, extents of one where it lacks a label."""
    order = tuple(labels.index(a) for a in to if a in labels)
    if order != tuple(range(len(order))):
        t = ops.transpose(t, axes=order)
    shape = iter(t.shape)
    return ops.reshape(t, shape=tuple(next(shape) if a in labels else 1 for a in to)) if len(labels) < len(to) else t


def _product(x: Array, left: Labels, y: Array, right: Labels, to: Labels, *, strict: bool) -> Array:
    """The sum of x[left] y[right] over what `to` lacks; elementwise products keep the exact zeros of x where `strict`."""
    if set(left) | set(right) == set(to):
        x, y = _aligned(x, left, to), _aligned(y, right, to)
        return ops.strong_multiply(x, y) if strict else x * y
    x, left = summed(x, left, {*right, *to})
    y, right = summed(y, right, {*left, *to})
    return ops.contract(x, y, left=left, right=right, to=to)


def _taken(flat: Array, places: Ints) -> Array:
    return flat if _is_range(places, flat.shape[0]) else ops.gather(flat, places, key=(Slot(0),))


def _is_range(places: Ints, n: int) -> bool:
    return len(places) == n and (n == 0 or bool(places[0] == 0 and np.all(np.diff(places) == 1)))


def _matrix(rows: Ints, columns: Ints, shape: tuple[int, int]) -> csr_array:
    from scipy.sparse import coo_array  # scipy loads at first use

    return _boolean(coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=shape))


def _boolean(matrix: Any) -> csr_array:
    """A matrix's stored entries as a canonical boolean csr_array."""
    from scipy.sparse import csr_array

    out = csr_array(matrix)
    out.sum_duplicates()
    return csr_array((np.ones(out.nnz, bool), out.indices, out.indptr), shape=out.shape)


# ---- maps as Einsum


@singledispatch
def as_einsum(m: LinearMap) -> Einsum | None:
    """The map as an Einsum; None where it is none."""
    return None


@as_einsum.register
def _(m: Einsum) -> Einsum:
    return m


def _broadcast_labels(in_shape: Shape, out_shape: Shape) -> tuple[Labels, Labels, dict[int, int]]:
    """Labels of an input that broadcasts to an output: shared where the extents agree."""
    outer = tuple(range(len(out_shape)))
    extents = dict(zip(outer, out_shape, strict=True))
    lead, inner = len(out_shape) - len(in_shape), []
    for i, n in enumerate(in_shape):
        label = lead + i
        if n != out_shape[lead + i]:
            label = len(extents)
            extents[label] = n
        inner.append(label)
    return tuple(inner), outer, extents


def _weights(d: Array, outer: Labels, extents: dict[int, int]) -> tuple[Array, Labels]:
    """Coefficients that broadcast to the output, and their labels."""
    d = d if hasattr(d, "dtype") else np.asarray(d)[()]
    lead = len(outer) - len(d.shape)
    kept = [i for i, n in enumerate(d.shape) if n == extents[outer[lead + i]]]
    if len(kept) < len(d.shape):
        d = ops.reshape(d, shape=tuple(d.shape[i] for i in kept))
    return d, tuple(outer[lead + i] for i in kept)


@as_einsum.register
def _(m: maps.Scale) -> Einsum:
    inner, outer, extents = _broadcast_labels(m.in_shape, m.out_shape)
    return Einsum(None, (), inner, outer, extents, m.in_dtype, factor=m.factor)


@as_einsum.register
def _(m: maps.Expand) -> Einsum:
    inner, outer, extents = _broadcast_labels(m.in_shape, m.out_shape)
    return Einsum(None, (), inner, outer, extents, m.in_dtype)


@as_einsum.register
def _(m: maps.Diagonal) -> Einsum:
    inner, outer, extents = _broadcast_labels(m.in_shape, m.out_shape)
    selects = isinstance(m, maps.ZeroDiagonal)
    return Einsum(*_weights(m.coefficients, outer, extents), inner, outer, extents, m.in_dtype, selects=selects)


@as_einsum.register
def _(m: maps.Mask) -> Einsum:
    inner, outer, extents = _broadcast_labels(m.in_shape, m.out_shape)
    real = np.dtype(m.in_dtype.type(0).real.dtype).type
    chosen = (real(1), real(0)) if m.keep else (real(0), real(1))
    weights = ops.where(m.mask, *chosen)
    return Einsum(*_weights(weights, outer, extents), inner, outer, extents, m.in_dtype, selects=True)


@as_einsum.register
def _(m: maps.SumOver) -> Einsum:
    inner = tuple(range(len(m.in_shape)))
    outer = tuple(i for i in inner if i not in m.axes)
    return Einsum(None, (), inner, outer, dict(zip(inner, m.in_shape, strict=True)), m.in_dtype)


@as_einsum.register
def _(m: maps.WeightedSum) -> Einsum:
    inner = tuple(range(len(m.in_shape)))
    outer = tuple(i for i in inner if i not in m.axes)
    extents = dict(zip(inner, m.in_shape, strict=True))
    return Einsum(*_weights(m.weights, inner, extents), inner, outer, extents, m.in_dtype)


@as_einsum.register
def _(m: maps.Permute) -> Einsum:
    inner = tuple(range(len(m.axes)))
    return Einsum(None, (), inner, m.axes, dict(zip(inner, m.in_shape, strict=True)), m.in_dtype)


@as_einsum.register
def _(m: maps.Reshape) -> Einsum | None:
    """Only where it does no more than add or drop axes of extent one."""
    wide = [i for i, n in enumerate(m.in_shape) if n != 1]
    if [m.in_shape[i] for i in wide] != [n for n in m.out_shape if n != 1]:
        return None
    inner = tuple(range(len(m.in_shape)))
    extents = dict(zip(inner, m.in_shape, strict=True))
    outer, left = [], iter(wide)
    for n in m.out_shape:
        label = next(left) if n != 1 else len(extents)
        extents.setdefault(label, 1)
        outer.append(label)
    return Einsum(None, (), inner, tuple(outer), extents, m.in_dtype)


@as_einsum.register
def _(m: maps.Contract) -> Einsum:
    extents = dict(zip(m.labels + m.out_labels + m.other_labels, m.in_shape + m.out_shape + m.other.shape, strict=True))
    return Einsum(m.other, m.other_labels, m.labels, m.out_labels, extents, m.in_dtype)


# ---- maps as Entries


def _grid(m: Einsum) -> tuple[Ints, Ints]:
    """The output's and the input's position at every point of the space of their labels, in the shape of that space."""
    space = tuple(dict.fromkeys((*m.outer, *m.inner)))
    shape = tuple(m.extents[a] for a in space)

    def spread(labels: Labels) -> Ints:
        flat = patterns.positions(tuple(m.extents[a] for a in labels))
        order = tuple(labels.index(a) for a in space if a in labels)
        flat = flat.transpose(order).reshape([m.extents[a] if a in labels else 1 for a in space])
        return np.broadcast_to(flat, shape)

    return spread(m.outer), spread(m.inner)


def _einsum_entries(m: Einsum) -> Entries:
    rows, columns = _grid(m)
    values = None
    if m.weights is not None or m.factor != 1.0:
        space = tuple(dict.fromkeys((*m.outer, *m.inner)))
        values = np.asarray(m.factor) if m.weights is None else m.weights
        if m.weights is not None and m.factor != 1.0:
            values = ops.multiply(values, m.factor)
        values = laid_out(values, () if m.weights is None else m.own, space, m.extents)
        values = ops.reshape(values, shape=(rows.size,))
    return Entries(rows.ravel(), columns.ravel(), values, m.in_shape, m.out_shape, m.in_dtype)


def as_entries(m: LinearMap) -> Entries | None:
    """The map as Entries; None where its entries are too many, or are not known."""
    if isinstance(m, Entries):
        return m
    einsum = as_einsum(m)
    if einsum is not None:
        space = prod(einsum.extents[a] for a in {*einsum.outer, *einsum.inner})
        return _einsum_entries(einsum) if space <= MOST_ENTRIES else None
    if isinstance(m, maps.Conjugate | maps.RealPart):
        return None
    found = move(m, patterns.positions(m.in_shape))
    if isinstance(found, np.ndarray):
        flat = found.ravel()
        rows = np.flatnonzero(flat >= 0)
        return Entries(rows, flat[rows], None, m.in_shape, m.out_shape, m.in_dtype)
    if isinstance(found, Groups) and isinstance(m, maps.Scatter):
        target = found.target.ravel()
        return Entries(target, np.arange(target.size), None, m.in_shape, m.out_shape, m.in_dtype)
    return None


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
    weights, labels = _joined(outer.weights, own, inner.weights, inner.own, keep, outer.selects)
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
        selects=outer.selects and inner.weights is None,
    )


def _joined(
    x: Array | None, left: Labels, y: Array | None, right: Labels, keep: set[int], selects: bool
) -> tuple[Array | None, Labels]:
    """The product of two weights, summed over what is not kept."""
    if x is None or y is None:
        w, labels = (x, left) if y is None else (y, right)
        return (None, ()) if w is None else summed(w, labels, keep)
    if not selects:
        x, left, y, right = y, right, x, left
    to = tuple(dict.fromkeys(a for a in (*left, *right) if a in keep))
    return _product(x, left, y, right, to, strict=True), to


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
    values = _values_product(outer.values, first, inner.values, second)
    return _merged(outer.rows[first], inner.columns[second], values, inner.in_shape, outer.out_shape, inner.in_dtype)


def _values_product(x: Array | None, first: Ints, y: Array | None, second: Ints) -> Array | None:
    if x is None:
        return None if y is None else _taken(y, second)
    left = _taken(x, first)
    return left if y is None else ops.strong_multiply(left, _taken(y, second))


def _merged(
    rows: Ints, columns: Ints, values: Array | None, in_shape: Shape, out_shape: Shape, in_dtype: np.dtype[Any]
) -> Entries:
    """Entries with those at one place added up, in row-major order."""
    width = max(prod(in_shape), 1)
    places, which = np.unique(rows * width + columns, return_inverse=True)
    if len(places) < len(rows):
        if values is None:
            values = np.ones(len(rows), np.dtype(in_dtype.type(0).real.dtype))
        values = ops.scatter_add(values, which, key=(Slot(0),), shape=(len(places),))
    elif values is not None:
        order = np.empty(len(places), np.int64)
        order[which] = np.arange(len(places))
        values = _taken(values, order)
    return Entries(places // width, places % width, values, in_shape, out_shape, in_dtype)


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
    known = [as_einsum(m) is not None or as_entries(m) is not None for m in (first, second)]
    if not all(known) or prod(first.in_shape) * prod(first.out_shape) > MOST_ENTRIES:
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
    w = [_aligned(_scaled(m), labels, space) for m, labels in ((a, a.own), (b, own))]
    total = w[0] + w[1]
    kept = {label: a.extents[label] for label in (*a.inner, *a.outer)}
    return Einsum(total, space, a.inner, a.outer, kept, a.in_dtype)


def _scaled(m: Einsum) -> Array:
    if m.weights is None:
        return np.asarray(m.factor, m.in_dtype)[()]
    return m.weights if m.factor == 1.0 else ops.multiply(m.weights, m.factor)


def _add_entries(x: Entries, y: Entries) -> Entries:
    parts = [_ones(x), _ones(y)]
    values = ops.concatenate(*parts, axis=0)
    rows, columns = np.concatenate([x.rows, y.rows]), np.concatenate([x.columns, y.columns])
    return _merged(rows, columns, values, x.in_shape, x.out_shape, x.in_dtype)


def _ones(m: Entries) -> Array:
    return np.ones(len(m.rows), np.dtype(m.in_dtype.type(0).real.dtype)) if m.values is None else m.values


# ---- transposing


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
    return _merged(m.columns, m.rows, m.values, m.out_shape, m.in_shape, to)


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
        entries = _merged(entries.rows, entries.columns, entries.values, m.in_shape, m.out_shape, m.in_dtype)
        flat = entries.rows * max(prod(m.in_shape), 1) + entries.columns
        return ops.reshape(ops.scatter_add(_ones(entries), flat, key=(Slot(0),), shape=(prod(shape),)), shape=shape)
    if isinstance(m, Total):
        return to_dense(m.first) + to_dense(m.second)
    return _by_columns(m)


def _written(m: Einsum) -> Array:
    weights = _scaled(m)
    labels = m.own if m.weights is not None else ()
    return laid_out(weights, labels, (*m.outer, *m.inner), m.extents)


def _by_columns(m: LinearMap) -> Array:
    """One application an input element; batched sweeps (see transforms) are the faster way."""
    n = prod(m.in_shape)
    units = np.eye(n, dtype=m.in_dtype).reshape(n, *m.in_shape)
    columns = [ops.reshape(m.apply(u[()]), shape=(*m.out_shape, 1)) for u in units]
    if not columns:
        return np.zeros(m.out_shape + m.in_shape, m.in_dtype)
    return ops.reshape(ops.concatenate(*columns, axis=len(m.out_shape)), shape=m.out_shape + m.in_shape)


def density(m: LinearMap) -> float:
    """The share of a map's entries that may be non-zero."""
    n = prod(m.in_shape) * prod(m.out_shape)
    return m.pattern().nnz / n if n else 0.0


def total(terms: Sequence[LinearMap]) -> LinearMap:
    """The sum of one or more maps."""
    result = terms[0]
    for m in terms[1:]:
        result = add(result, m)
    return result
