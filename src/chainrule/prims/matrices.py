"""Linear functions of stacked matrices, each with its transpose: the vocabulary in which factorisations state their Jacobians.

    path(left(A), right(B))        t -> A t B            ct -> A^T ct B^T
    path(left(A), adjugated)       t -> (A t)^H          ct -> A^T ct^H
    plus(step, other)              t -> step t + other t

A rule is written once, as the way of a tangent; the way of a cotangent follows, since every step has its transpose under the
pairing Re(sum(a * b)). Matrices are the last two axes; the axes before them are a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import has_nan, ops
from chainrule.ir.types import Array
from chainrule.linear import patterns
from chainrule.linear.maps import fit
from chainrule.linear.strong import mode

if TYPE_CHECKING:
    from scipy.sparse import csr_array


Triangle: TypeAlias = Literal["lower", "upper"]
_OTHER: dict[Triangle | None, Triangle | None] = {"lower": "upper", "upper": "lower", None: None}


class Step(NamedTuple):
    """A real-linear function of stacked matrices, and its transpose."""

    apply: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]


# ---- products and transposes


def times(a: Array, b: Array, *, ta: bool = False, tb: bool = False) -> Array:
    """The matrix product a b of stacks of equal depth; `ta`, `tb` transpose a factor first."""
    stack = tuple(range(a.ndim - 2))
    i, j, k = a.ndim, a.ndim + 1, a.ndim + 2
    left = (*stack, j, i) if ta else (*stack, i, j)
    right = (*stack, k, j) if tb else (*stack, j, k)
    return ops.contract(a, b, left=left, right=right, to=(*stack, i, k))


def transposed(a: Array) -> Array:
    """a^T."""
    n = a.ndim
    return ops.transpose(a, axes=(*range(n - 2), n - 1, n - 2))


def conjugated(a: Array) -> Array:
    """The complex conjugate, at no cost for a real array."""
    return ops.conjugate(a) if a.dtype.kind == "c" else a


def adjoint(a: Array) -> Array:
    """a^H, the conjugate transpose."""
    return conjugated(transposed(a))


def column(v: Array) -> Array:
    """A stack of vectors as columns: v[..., :, None]."""
    return ops.reshape(v, shape=(*v.shape, 1))


def row(v: Array) -> Array:
    """A stack of vectors as rows: v[..., None, :]."""
    return ops.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1]))


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the real part."""
    return np.empty(0, dtype).real.dtype


def floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that NumPy's linear algebra computes in: float64 for integers and booleans."""
    return dtype if dtype.kind in "fc" else np.dtype(float)


def identity_mask(n: int, m: int | None = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the identity matrix is one."""
    return np.eye(n, m, dtype=bool)


# ---- steps


def path(*steps: Step) -> Step:
    """One step after the other; the transpose goes back along them."""

    def apply(t: Array) -> Array:
        return reduce(lambda x, step: step.apply(x), steps, t)

    def back(ct: Array) -> Array:
        return reduce(lambda x, step: step.adjoint(x), reversed(steps), ct)

    return Step(apply, back)


def plus(*steps: Step) -> Step:
    """The sum of what several steps give."""
    return Step(
        lambda t: reduce(lambda x, y: x + y, [s.apply(t) for s in steps]),
        lambda ct: reduce(lambda x, y: x + y, [s.adjoint(ct) for s in steps]),
    )


def left(m: Array) -> Step:
    """t -> m t."""
    return Step(lambda t: times(m, t), lambda ct: times(m, ct, ta=True))


def right(m: Array) -> Step:
    """t -> t m."""
    return Step(lambda t: times(t, m), lambda ct: times(ct, m, tb=True))


def left_divided(m: Array, triangle: Triangle | None = None) -> Step:
    """t -> m^-1 t; `triangle` says that m is triangular."""
    return Step(lambda t: quotient(m, t, triangle), lambda ct: quotient(transposed(m), ct, _OTHER[triangle]))


def right_divided(m: Array, triangle: Triangle | None = None) -> Step:
    """t -> t m^-1; `triangle` says that m is triangular."""
    return Step(
        lambda t: transposed(quotient(transposed(m), transposed(t), _OTHER[triangle])),
        lambda ct: transposed(quotient(m, transposed(ct), triangle)),
    )


def quotient(m: Array, t: Array, triangle: Triangle | None = None) -> Array:
    """m^-1 t; NaN where a matrix is singular, since a derivative is no place to raise for one matrix of a stack."""
    if triangle is None:
        return ops.solve(m, t, singular="nan")
    return ops.solve_triangular(m, t, lower=triangle == "lower", singular="nan")


def weighted(f: Array) -> Step:
    """t -> f * t elementwise; exact zeros stay zero where f is infinite."""
    return Step(lambda t: ops.strong_multiply(t, f), lambda ct: ops.strong_multiply(ct, f))


def scaled(c: complex) -> Step:
    """t -> c t for a number c."""
    return Step(lambda t: t * c, lambda ct: ct * c)


def kept(mask: np.ndarray[Any, Any]) -> Step:
    """t -> t where the mask holds, zero elsewhere."""
    return Step(lambda t: ops.where(mask, t, 0.0), lambda ct: ops.where(mask, ct, 0.0))


def _to_real(t: Array) -> Array:
    return ops.real(t) if t.dtype.kind == "c" else t


identity = Step(lambda t: t, lambda ct: ct)
negated = Step(lambda t: -t, lambda ct: -ct)
adjugated = Step(adjoint, adjoint)  # t -> t^H is its own transpose under Re(sum(a * b))
real_part = Step(_to_real, _to_real)


def paired(m: Array) -> Step:
    """t -> the diagonal of t m, without the rest of the product."""
    stack = tuple(range(m.ndim - 2))
    i, j = m.ndim, m.ndim + 1
    t_labels, m_labels, out = (*stack, i, j), (*stack, j, i), (*stack, i)
    return Step(
        lambda t: ops.contract(t, m, left=t_labels, right=m_labels, to=out),
        lambda ct: ops.contract(ct, m, left=out, right=m_labels, to=t_labels),
    )


def traced(m: Array) -> Step:
    """t -> the trace of t m, for square matrices."""
    stack = tuple(range(m.ndim - 2))
    t_labels, m_labels = (*stack, m.ndim, m.ndim + 1), (*stack, m.ndim + 1, m.ndim)
    return Step(
        lambda t: ops.contract(t, m, left=t_labels, right=m_labels, to=stack),
        lambda ct: ops.contract(ct, m, left=stack, right=m_labels, to=t_labels),
    )


def from_triangle(n: int, lower: bool) -> Step:
    """The Hermitian matrix that a function reads from one triangle: t -> S + S^H + Re(diagonal), S the strict triangle of t."""
    strict = np.tri(n, k=-1, dtype=bool) if lower else np.tri(n, k=-1, dtype=bool).T
    return plus(path(kept(strict), plus(identity, adjugated)), path(kept(identity_mask(n)), real_part))


def without_span(q: Array) -> Step:
    """t -> (1 - q q^H) t for orthonormal columns q."""
    return plus(identity, path(left(adjoint(q)), left(q), negated))


def imaginary_diagonal(n: int) -> Step:
    """t -> i Im(diagonal of t)."""
    return path(kept(identity_mask(n)), plus(identity, path(adjugated, negated)), scaled(0.5))


# ---- the map


class MatrixMap(LinearMap):
    """A step as a local Jacobian, of stacks of matrices: each output of a stack depends on its own matrix alone."""

    __slots__ = ("cost", "stack", "step")

    def __init__(self, step: Step, x: Array, out: Array, *, stack: int | None = None, cost: int | None = None) -> None:
        self.step = step
        self.stack = x.shape[: x.ndim - 2 if stack is None else stack]
        self.in_shape = x.shape
        self.in_dtype = x.dtype
        self.out_shape = out.shape
        n = max(x.shape[-2:])
        self.cost = 4 * n * prod(x.shape) if cost is None else cost

    def apply(self, t: Array) -> Array:
        r = self.step.apply(t)
        if mode.strict or has_nan(r):
            r = self._strong(t, r)
        return r

    def adjoint(self, ct: Array) -> Array:
        r = self.step.adjoint(ct)
        if mode.strict:
            r = self._strong(ct, r)
        return fit(r, self.in_shape, self.in_dtype)

    def _strong(self, t: Array, r: Array) -> Array:
        """r, with zeros in the place of those members of the stack in which t is all zero."""
        depth = len(self.stack)
        some = ops.reduce_sum(ops.where(ops.equal(t, 0), 0.0, 1.0), axes=tuple(range(depth, t.ndim)))
        some = ops.reshape(some, shape=(*some.shape, *(1,) * (r.ndim - depth)))
        return ops.where(ops.equal(some, 0), 0.0, r)

    def pattern(self) -> csr_array:
        from scipy.sparse import csr_array, kron  # scipy loads at first use

        members = prod(self.stack)
        depth = len(self.stack)
        block = patterns.dense(prod(self.out_shape[depth:]), prod(self.in_shape[depth:]))
        return csr_array(kron(patterns.identity(members), block), dtype=bool)

    def multiplications(self) -> int:
        return self.cost
