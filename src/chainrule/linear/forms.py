"""The normal forms of linear maps, and which maps have one.

    Einsum     out[outer] = sum of in[inner] * weights[own]     diagonals, sums, broadcasts, transposes, contractions, matrices
    Entries    out[rows[e]] += in[columns[e]] * values[e]       slices, gathers and all that moves elements, weighted or not

Labels are numbers; axes of one label run together. An Einsum can be written as Entries where these are not too many. All of it
computes on ndarrays and records on tracers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import has_nan, is_tracer, ops
from chainrule.ir.types import Array, Shape
from chainrule.linear import maps, patterns
from chainrule.linear.dependence import Groups, move
from chainrule.linear.maps import Slot, convert
from chainrule.linear.strong import mode

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Labels = tuple[int, ...]
Ints = NDArray[np.int64]

# A map is written as Entries, and Entries are composed, while there are no more than this.
MOST_ENTRIES = 4_000_000

# ---- the normal forms


class Einsum(LinearMap):
    """t -> factor * sum of t[inner] * weights[own] over the labels that `outer` lacks; weights may be None, for ones.

    Labels are distinct within inner, outer and own, and those of own are among the other two; there are none without weights.
    Where the weights select (a mask is one of their factors), their exact zeros win over whatever they multiply.
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
        t, given = summed(t, given, {*wanted, *self.own})
        if self.weights is not None:
            to = tuple(a for a in wanted if a in given or a in self.own)
            t, given = product(t, given, self.weights, self.own, to, times(strict=strict, selects=self.selects)), to
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
        return patterns.from_pairs(rows, columns, (prod(self.out_shape), prod(self.in_shape)))

    def multiplications(self) -> int:
        if self.weights is None:
            return 0 if abs(self.factor) == 1 else min(prod(self.out_shape), prod(self.in_shape))
        involved = set(self.inner) & set(self.outer) | set(self.own)
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
    """t -> out, with out[rows[e]] += t[columns[e]] * values[e] on flattened arrays; values may be None, for ones.

    Where the values select, as an Einsum's weights can, their exact zeros win over whatever they multiply.
    """

    __slots__ = ("columns", "rows", "selects", "values")

    def __init__(
        self,
        rows: Ints,
        columns: Ints,
        values: Array | None,
        in_shape: Shape,
        out_shape: Shape,
        in_dtype: np.dtype[Any],
        *,
        selects: bool = False,
    ) -> None:
        self.rows, self.columns, self.values, self.selects = rows, columns, values, selects
        self.in_shape, self.out_shape, self.in_dtype = in_shape, out_shape, in_dtype

    def apply(self, t: Array) -> Array:
        return self._run(t, self.columns, self.rows, self.out_shape, strict=True)

    def adjoint(self, ct: Array) -> Array:
        return convert(self._run(ct, self.rows, self.columns, self.in_shape, strict=mode.strict), self.in_dtype)

    def _run(self, t: Array, source: Ints, sink: Ints, shape: Shape, *, strict: bool) -> Array:
        t = taken(ops.reshape(t, shape=(prod(t.shape),)), source)
        if self.values is not None:
            t = times(strict=strict, selects=self.selects)(t, self.values)
        n = prod(shape)
        if not _is_range(sink, n):
            t = ops.scatter_add(t, sink, key=(Slot(0),), shape=(n,))
        return ops.reshape(t, shape=shape)

    def pattern(self) -> csr_array:
        return patterns.from_pairs(self.rows, self.columns, (prod(self.out_shape), prod(self.in_shape)))

    def multiplications(self) -> int:
        return 0 if self.values is None else len(self.rows)


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


def aligned(t: Array, labels: Labels, to: Labels) -> Array:
    """t[labels] with its axes in the order `to`, extents of one where it lacks a label."""
    order = tuple(labels.index(a) for a in to if a in labels)
    if order != tuple(range(len(order))):
        t = ops.transpose(t, axes=order)
    shape = iter(t.shape)
    return ops.reshape(t, shape=tuple(next(shape) if a in labels else 1 for a in to)) if len(labels) < len(to) else t


def either(x: Array, y: Array) -> Array:
    """x * y, in which an exact zero of either wins over what is infinite or NaN in the other."""
    r = ops.strong_multiply(x, y)
    if has_nan(r) or (mode.strict and is_tracer(r)):
        return ops.where(ops.equal(y, 0), np.zeros((), r.dtype), r)
    return r


Times = Callable[[Array, Array], Array]


def times(*, strict: bool, selects: bool) -> Times:
    """How x is multiplied by y: exact zeros of x win where `strict`, those of both where one of the two selects.

    So the zeros of a mask win in whatever order maps are multiplied, as they do in forward and in reverse sweeps.
    """
    return either if selects else ops.strong_multiply if strict else mul


def product(x: Array, left: Labels, y: Array, right: Labels, to: Labels, elementwise: Times) -> Array:
    """The sum of x[left] y[right] over what `to` lacks; `elementwise` is how the two are multiplied where nothing is summed."""
    if set(left) | set(right) == set(to):
        return elementwise(aligned(x, left, to), aligned(y, right, to))
    x, left = summed(x, left, {*right, *to})
    y, right = summed(y, right, {*left, *to})
    return ops.contract(x, y, left=left, right=right, to=to)


def taken(flat: Array, places: Ints) -> Array:
    """The elements of a flat array at these places; the array itself where they are all of its own, in order."""
    return flat if _is_range(places, flat.shape[0]) else ops.gather(flat, places, key=(Slot(0),))


def _is_range(places: Ints, n: int) -> bool:
    return len(places) == n and bool(np.all(np.diff(places) == 1))


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
    real = _real(m.in_dtype).type
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


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a number's real part."""
    real: np.dtype[Any] = dtype.type(0).real.dtype
    return real


def ones(m: Entries) -> Array:
    """The values of Entries, written out."""
    return np.ones(len(m.rows), _real(m.in_dtype)) if m.values is None else m.values


def scaled(m: Einsum) -> Array:
    """The weights of an Einsum with its factor; the factor alone where it has none."""
    if m.weights is None:
        return np.asarray(m.factor, m.in_dtype)[()]
    return m.weights if m.factor == 1.0 else ops.multiply(m.weights, m.factor)


def _einsum_entries(m: Einsum) -> Entries:
    rows, columns = _grid(m)
    values = None
    if m.weights is not None or m.factor != 1.0:
        space = tuple(dict.fromkeys((*m.outer, *m.inner)))
        values = ops.reshape(laid_out(scaled(m), m.own, space, m.extents), shape=(rows.size,))
    return Entries(rows.ravel(), columns.ravel(), values, m.in_shape, m.out_shape, m.in_dtype, selects=m.selects)


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
    if isinstance(found, Groups):  # of a Scatter: sums are Einsums
        target = found.target.ravel()
        return Entries(target, np.arange(target.size), None, m.in_shape, m.out_shape, m.in_dtype)
    return None
