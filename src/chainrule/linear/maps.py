"""The structured linear maps in which primitives state their local Jacobians.

    map          t ->                      ct ->
    Scale        c t, broadcast            c ct, summed over what was broadcast
    Diagonal     d * t, broadcast          d * ct, summed over what was broadcast
    ZeroDiagonal the same, in which zeros of d stay zero
    Mask         t where a mask holds      ct where it holds, summed likewise
    WeightedSum  sum of w * t over axes    w times ct broadcast
    SumOver      sum over axes             broadcast along axes
    Expand       broadcast to a shape      sum over what was broadcast
    Reshape      reshape                   reshape back
    Permute      transpose                 transpose back
    Slice        t[key]                    zeros, with ct at key
    Gather       t[indices]                zeros, with ct added at indices
    Place        zeros, with t at key      ct[key]
    Scatter      zeros, t added at indices ct[indices]
    Contract     sum_k t[..k..] w[..k..]   the same with the result's labels
    RealPart     Re(d t)                   d ct
    Conjugate    conj(t)                   conj(ct)
    Implicit     given by two functions

All compute on ndarrays and record on tracers, through `ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import has_nan, is_tracer, ops
from chainrule.ir.types import Array, Shape
from chainrule.linear import patterns
from chainrule.linear.strong import mode

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Labels = tuple[int, ...]


def fit(ct: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Sum a cotangent over the axes along which its array was broadcast, and give it that array's dtype."""
    if ct.shape != shape:
        lead = ct.ndim - len(shape)
        axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 and ct.shape[lead + i] != 1))
        if axes:
            ct = ops.reduce_sum(ct, axes=axes)
        if ct.shape != shape:
            ct = ops.reshape(ct, shape=shape)
    if ct.dtype != dtype:
        ct = convert(ct, dtype)
    return ct


def convert(t: Array, dtype: np.dtype[Any]) -> Array:
    """Give a tangent or cotangent another dtype; of a complex one for a real array, the real part."""
    if t.dtype.kind == "c" and dtype.kind != "c":
        t = ops.real(t)
    return t if t.dtype == dtype else ops.convert(t, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of the k-th index array in a key."""

    k: int

    def __str__(self) -> str:
        return f"#{self.k}"


def fill(key: tuple[Any, ...], indices: Sequence[Any]) -> tuple[Any, ...]:
    """The key with its slots filled."""
    return tuple(indices[p.k] if isinstance(p, Slot) else p for p in key)


def spread(t: Array, shape: Shape) -> Array:
    """Broadcast a tangent to a shape, if it has not got it."""
    return t if t.shape == shape else ops.broadcast_to(t, shape=shape)


class Scale(LinearMap):
    """t -> c t for a constant number c, broadcast to the output's shape."""

    __slots__ = ("factor",)

    def __init__(self, factor: float, x: Array, out: Array) -> None:
        self.factor = factor
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        if self.factor == -1:
            t = ops.negative(t)
        elif self.factor != 1:
            t = ops.multiply(t, self.factor)
        return t if t.shape == self.out_shape else ops.broadcast_to(t, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        if self.factor == -1:
            ct = -ct
        elif self.factor != 1:
            ct = ct * self.factor
        if ct.shape == self.in_shape and ct.dtype is self.in_dtype:
            return ct
        return fit(ct, self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.broadcast(self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        return 0 if abs(self.factor) == 1 else prod(self.out_shape)


class Diagonal(LinearMap):
    """t -> d * t elementwise, broadcast to the output's shape: the Jacobian of every elementwise operation."""

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: Array, x: Array, out: Array) -> None:
        self.coefficients = coefficients
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        t = ops.strong_multiply(t, self.coefficients)
        return t if t.shape == self.out_shape else ops.broadcast_to(t, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        ct = ops.strong_multiply(ct, self.coefficients) if mode.strict else ct * self.coefficients
        if ct.shape == self.in_shape and ct.dtype is self.in_dtype:
            return ct
        return fit(ct, self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.broadcast(self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        return prod(self.out_shape)


class ZeroDiagonal(Diagonal):
    """A Diagonal map whose exact zeros stay zero whatever they multiply: the derivative of a strong product by its partial."""

    __slots__ = ()

    def apply(self, t: Array) -> Array:
        return spread(ops.strong_multiply(self.coefficients, t), self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        return fit(ops.strong_multiply(self.coefficients, ct), self.in_shape, self.in_dtype)


class Mask(LinearMap):
    """t -> t where the mask holds (or, with `keep=False`, where it does not), zero elsewhere: a selection, never a product."""

    __slots__ = ("keep", "mask")

    def __init__(self, mask: Array, x: Array, out: Array, *, keep: bool = True) -> None:
        self.mask = mask
        self.keep = keep
        super().__init__(x, out.shape)

    def _select(self, t: Array) -> Array:
        return ops.where(self.mask, t, 0.0) if self.keep else ops.where(self.mask, 0.0, t)

    def apply(self, t: Array) -> Array:
        return spread(self._select(t), self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        return fit(self._select(ct), self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.broadcast(self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        return 0


class WeightedSum(LinearMap):
    """t -> sum of w * t over axes: reductions whose local Jacobian is a row of weights (prod, max, min)."""

    __slots__ = ("axes", "weights")

    def __init__(self, weights: Array, axes: tuple[int, ...], x: Array, out: Array) -> None:
        self.weights = weights
        self.axes = axes
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        return ops.reduce_sum(ops.strong_multiply(t, self.weights), axes=self.axes)

    def adjoint(self, ct: Array) -> Array:
        ct = ops.reshape(ct, shape=tuple(1 if i in self.axes else n for i, n in enumerate(self.in_shape)))
        ct = ops.strong_multiply(ct, self.weights) if mode.strict else ct * self.weights
        return fit(ct, self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.sum_over(self.axes, self.in_shape)

    def multiplications(self) -> int:
        return prod(self.in_shape)


class SumOver(LinearMap):
    """t -> sum of t over axes."""

    __slots__ = ("axes",)

    def __init__(self, axes: tuple[int, ...], x: Array, out: Array) -> None:
        self.axes = axes
        LinearMap.__init__(self, x, out.shape)

    def apply(self, t: Array) -> Array:
        return ops.reduce_sum(t, axes=self.axes)

    def adjoint(self, ct: Array) -> Array:
        if self.out_shape:
            ct = ops.reshape(ct, shape=tuple(1 if i in self.axes else n for i, n in enumerate(self.in_shape)))
        ct = ops.broadcast_to(ct, shape=self.in_shape)
        return ct if ct.dtype is self.in_dtype else convert(ct, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.sum_over(self.axes, self.in_shape)

    def multiplications(self) -> int:
        return 0


class Expand(LinearMap):
    """t -> t broadcast to a shape."""

    __slots__ = ()

    def apply(self, t: Array) -> Array:
        return ops.broadcast_to(t, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        return fit(ct, self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.broadcast(self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        return 0


class Reshape(LinearMap):
    """t -> t with another shape, in row-major order."""

    __slots__ = ()

    def apply(self, t: Array) -> Array:
        return ops.reshape(t, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        return ops.reshape(ct, shape=self.in_shape)

    def pattern(self) -> csr_array:
        return patterns.identity(prod(self.in_shape))

    def multiplications(self) -> int:
        return 0


class Permute(LinearMap):
    """t -> t with its axes permuted."""

    __slots__ = ("axes",)

    def __init__(self, axes: tuple[int, ...], x: Array) -> None:
        self.axes = axes
        super().__init__(x, tuple(x.shape[a] for a in axes))

    def apply(self, t: Array) -> Array:
        return ops.transpose(t, axes=self.axes)

    def adjoint(self, ct: Array) -> Array:
        return ops.transpose(ct, axes=tuple(int(a) for a in np.argsort(self.axes)))

    def pattern(self) -> csr_array:
        return patterns.moved(self.in_shape, lambda positions: positions.transpose(self.axes))

    def multiplications(self) -> int:
        return 0


class Slice(LinearMap):
    """t -> t[key] for a key of integers, slices, None and Ellipsis."""

    __slots__ = ("key",)

    def __init__(self, key: Any, x: Array, out: Array) -> None:
        self.key = key
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        return ops.slice(t, key=self.key)

    def adjoint(self, ct: Array) -> Array:
        return ops.place(ct, key=self.key, shape=self.in_shape)

    def pattern(self) -> csr_array:
        return patterns.moved(self.in_shape, lambda positions: positions[self.key])

    def multiplications(self) -> int:
        return 0


class Place(LinearMap):
    """t -> zeros of a shape, with t at key: the adjoint of Slice."""

    __slots__ = ("key",)

    def __init__(self, key: Any, x: Array, out_shape: Shape) -> None:
        self.key = key
        LinearMap.__init__(self, x, out_shape)

    def apply(self, t: Array) -> Array:
        return ops.place(t, key=self.key, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        ct = ops.slice(ct, key=self.key)
        return ct if ct.dtype is self.in_dtype else convert(ct, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.transposed(patterns.moved(self.out_shape, lambda positions: positions[self.key]))

    def multiplications(self) -> int:
        return 0


class Gather(LinearMap):
    """t -> t[key] for a key with integer arrays; `key` holds `Slot`s where the arrays in `indices` go."""

    __slots__ = ("indices", "key")

    def __init__(self, key: Any, indices: Sequence[Array], x: Array, out: Array) -> None:
        self.key = key
        self.indices = tuple(indices)
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        return ops.gather(t, *self.indices, key=self.key)

    def adjoint(self, ct: Array) -> Array:
        return ops.scatter_add(ct, *self.indices, key=self.key, shape=self.in_shape)

    def pattern(self) -> csr_array:
        return patterns.moved(self.in_shape, lambda positions: ops.gather.value(positions, *self.indices, key=self.key))

    def multiplications(self) -> int:
        return 0


class Scatter(LinearMap):
    """t -> zeros of a shape, with t added at indices: the adjoint of Gather, whose key and indices it has."""

    __slots__ = ("indices", "key")

    def __init__(self, key: Any, indices: Sequence[Array], x: Array, out_shape: Shape) -> None:
        self.key = key
        self.indices = tuple(indices)
        super().__init__(x, out_shape)

    def apply(self, t: Array) -> Array:
        return ops.scatter_add(t, *self.indices, key=self.key, shape=self.out_shape)

    def adjoint(self, ct: Array) -> Array:
        return convert(ops.gather(ct, *self.indices, key=self.key), self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.transposed(
            patterns.moved(self.out_shape, lambda positions: ops.gather.value(positions, *self.indices, key=self.key))
        )

    def multiplications(self) -> int:
        return 0


def strong_contraction(r: Array, t: Array, w: Array, left: Labels, right: Labels, to: Labels) -> Array:
    """A contraction of t and w, whose plain value is r, in which exact zeros of t stay zero times what is infinite or NaN in w.

    What is finite in w is contracted as it is; of the rest it is counted how often it meets an element of t, and with which sign.
    Where w is traced, nothing is known of it but what it is now.
    """
    if w.dtype.kind not in "fc" or not (
        has_nan(r) or (is_tracer(r) and not is_tracer(w) and not np.all(np.isfinite(w)))
    ):
        return r

    def count(of_t: Array, of_w: Array) -> Array:
        return ops.contract(
            *(ops.convert(x, dtype=np.dtype(float)) for x in (of_t, of_w)), left=left, right=right, to=to
        )

    finite, live = ops.isfinite(w), ops.not_equal(t, 0)
    known = ops.contract(t, ops.where(finite, w, np.zeros((), w.dtype)), left=left, right=right, to=to)
    if r.dtype.kind == "c":
        return ops.where(ops.equal(count(live, ops.logical_not(finite)), 0), known, r)
    infinite = ops.isinf(w)
    both = count(live, infinite)
    balance = count(ops.sign(t), ops.where(infinite, ops.sign(w), np.zeros((), w.dtype)))
    up, down = ops.greater(both + balance, 0), ops.greater(both - balance, 0)
    broken = ops.logical_or(ops.logical_and(up, down), ops.greater(count(live, ops.isnan(w)), 0))
    rest = ops.where(broken, np.nan, ops.where(up, np.inf, ops.where(down, -np.inf, 0.0)))
    return known + ops.convert(rest, dtype=r.dtype)


class Contract(LinearMap):
    """t -> sum of t times `other` over the labels that the output lacks (one side of an einsum of two operands)."""

    __slots__ = ("labels", "other", "other_labels", "out_labels")

    def __init__(
        self, other: Array, labels: Labels, other_labels: Labels, out_labels: Labels, x: Array, out: Array
    ) -> None:
        self.other = other
        self.labels, self.other_labels, self.out_labels = labels, other_labels, out_labels
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        r = ops.contract(t, self.other, left=self.labels, right=self.other_labels, to=self.out_labels)
        return strong_contraction(r, t, self.other, self.labels, self.other_labels, self.out_labels)

    def adjoint(self, ct: Array) -> Array:
        r = ops.contract(ct, self.other, left=self.out_labels, right=self.other_labels, to=self.labels)
        if mode.strict:
            r = strong_contraction(r, ct, self.other, self.out_labels, self.other_labels, self.labels)
        return r if r.dtype == self.in_dtype else convert(r, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.contraction(self.labels, self.out_labels, self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        extents = dict(zip(self.labels + self.out_labels, self.in_shape + self.out_shape, strict=True))
        return prod(extents.values())


class RealPart(LinearMap):
    """t -> Re(d t), a real array from a complex one: real, imag, abs and angle of complex arrays."""

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: Array, x: Array, out: Array) -> None:
        self.coefficients = coefficients
        super().__init__(x, out.shape)

    def apply(self, t: Array) -> Array:
        return ops.real(ops.strong_multiply(t, self.coefficients))

    def adjoint(self, ct: Array) -> Array:
        return fit(ops.strong_multiply(ct, self.coefficients), self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.broadcast(self.in_shape, self.out_shape)

    def multiplications(self) -> int:
        return 2 * prod(self.out_shape)


class Conjugate(LinearMap):
    """t -> conj(t), its own adjoint under the pairing Re(sum(a * b))."""

    __slots__ = ()

    def __init__(self, x: Array) -> None:
        super().__init__(x, x.shape)

    def apply(self, t: Array) -> Array:
        return ops.conjugate(t)

    def adjoint(self, ct: Array) -> Array:
        return ops.conjugate(ct)

    def pattern(self) -> csr_array:
        return patterns.identity(prod(self.in_shape))

    def multiplications(self) -> int:
        return 0


class Implicit(LinearMap):
    """A map given by its application and its adjoint, where the Jacobian has no simple structure (factorisations, transforms).

    `cost` is the number of multiplications of one application, by default that of a dense matrix.
    """

    __slots__ = ("_adjoint", "_apply", "cost")

    def __init__(
        self,
        apply: Callable[[Array], Array],
        adjoint: Callable[[Array], Array],
        x: Array,
        out: Array,
        *,
        cost: int | None = None,
    ) -> None:
        self._apply = apply
        self._adjoint = adjoint
        super().__init__(x, out.shape)
        self.cost = prod(x.shape) * prod(out.shape) if cost is None else cost

    def apply(self, t: Array) -> Array:
        return self._apply(t)

    def adjoint(self, ct: Array) -> Array:
        return fit(self._adjoint(ct), self.in_shape, self.in_dtype)

    def pattern(self) -> csr_array:
        return patterns.dense(prod(self.out_shape), prod(self.in_shape))

    def multiplications(self) -> int:
        return self.cost
