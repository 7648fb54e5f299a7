"""Numerical methods: gradient, trapezoid, convolve, interp, statistics of samples, and functions applied along axes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import is_tracer, ops
from chainrule.linear.maps import Slot
from chainrule.numpy.arguments import as_array, axis_index, axis_tuple, decide, in_dtype, part
from chainrule.numpy.cumulative import diff
from chainrule.numpy.indexing import take
from chainrule.numpy.shaping import moveaxis
from chainrule.trace.intercept import contains_tracer, intercepts
from chainrule.trace.numpy_protocols import implements, missing

# ---- derivatives and integrals of samples


def _spacings(f: Any, axes: tuple[int, ...], varargs: Sequence[Any]) -> list[Any]:
    """For each axis its step, or, where samples are not even, the vector of its steps."""
    if not varargs:
        return [1.0] * len(axes)
    given = [as_array(v) for v in varargs]
    if len(given) == 1 and given[0].ndim == 0:
        return [given[0]] * len(axes)
    if len(given) != len(axes):
        raise TypeError("invalid number of arguments")
    return [_spacing(g, f.shape[axis]) for g, axis in zip(given, axes, strict=True)]


def _spacing(given: Any, n: int) -> Any:
    if given.ndim == 0:
        return given
    if given.ndim != 1:
        raise ValueError("distances must be either scalars or 1d")
    if given.shape[0] != n:
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    steps = diff(given)
    return steps[0] if not is_tracer(steps) and (steps == steps[0]).all() else steps


def _laid(v: Any, axis: int, ndim: int) -> Any:
    """A vector laid along an axis."""
    return np.reshape(v, (-1,) + (1,) * (ndim - axis - 1)) if np.ndim(v) else v


def _slope(f: Any, h: Any, axis: int, edge_order: int) -> Any:
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements are required."
        )

    def at(i: int) -> Any:
        return part(f, axis, i, i + 1 if i != -1 else None)

    before, middle, after = part(f, axis, None, -2), part(f, axis, 1, -1), part(f, axis, 2, None)
    if np.ndim(h) == 0:
        inner = (after - before) / (2.0 * h)
        first, last = h, h
    else:
        dx1, dx2 = _laid(h[:-1], axis, f.ndim), _laid(h[1:], axis, f.ndim)
        inner = (
            -dx2 / (dx1 * (dx1 + dx2)) * before + (dx2 - dx1) / (dx1 * dx2) * middle + dx1 / (dx2 * (dx1 + dx2)) * after
        )
        first, last = h[0], h[-1]
    if edge_order == 1:
        ends = ((at(1) - at(0)) / first, (at(-1) - at(-2)) / last)
    else:
        second, before_last = (h, h) if np.ndim(h) == 0 else (h[1], h[-2])
        left = _one_sided(first, second)
        right = _one_sided(last, before_last)
        ends = (
            _sum_of(w * at(i) for i, w in enumerate(left)),
            -_sum_of(w * at(-1 - i) for i, w in enumerate(right)),
        )
    return in_dtype(ops.concatenate(ends[0], inner, ends[1], axis=axis), f.dtype)


def _one_sided(h1: Any, h2: Any) -> tuple[Any, Any, Any]:
    """Weights of the second-order derivative at the end of three samples, h1 and h2 apart."""
    return -(2.0 * h1 + h2) / (h1 * (h1 + h2)), (h1 + h2) / (h1 * h2), -h1 / (h2 * (h1 + h2))


def _sum_of(terms: Any) -> Any:
    """The sum of arrays."""
    total = None
    for t in terms:
        total = t if total is None else total + t
    return total


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """NumPy's gradient of samples; differentiable in the spacings too."""
    f = as_array(f)
    f = f if f.dtype.kind in "fc" else f.astype(float)
    if edge_order > 2:
        raise ValueError("'edge_order' greater than 2 not supported")
    axes = axis_tuple(axis, f.ndim)
    slopes = [_slope(f, h, i, edge_order) for h, i in zip(_spacings(f, axes, varargs), axes, strict=True)]
    return slopes[0] if len(axes) == 1 else tuple(slopes)


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """NumPy's trapezoid; differentiable in the samples and their places."""
    y = as_array(y)
    at = axis_index(axis, y.ndim)
    width = dx
    if x is not None:
        x = as_array(x)
        width = _laid(diff(x), at, y.ndim) if x.ndim == 1 else diff(x, axis=axis)
    middle = (part(y, at, 1, None) + part(y, at, None, -1)) / 2.0
    return np.sum(width * middle, axis=axis)


# ---- convolution


def _middle(full: Any, n: int, m: int, mode: Any, *, reverse: bool = False) -> Any:
    """The part of a full convolution of n and m <= n elements that a mode keeps."""
    if mode in ("full", 2):
        return full
    if mode in ("same", 1):
        start = m // 2 if reverse else (m - 1) // 2
        return full[start : start + n]
    if mode in ("valid", 0):
        return full[m - 1 : n]
    raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")


def _vectors(a: Any, v: Any) -> tuple[Any, Any]:
    a, v = (np.atleast_1d(as_array(x)) for x in (a, v))
    if a.ndim > 1 or v.ndim > 1:
        raise ValueError("object too deep for desired array")
    if not a.size or not v.size:
        raise ValueError(f"{'a' if not a.size else 'v'} cannot be empty")
    return a, v


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    """NumPy's convolve."""
    a, v = _vectors(a, v)
    return _middle(ops.convolve(a, v), max(a.size, v.size), min(a.size, v.size), mode)


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    """NumPy's correlate: the second argument conjugated."""
    a, v = _vectors(a, v)
    back = ops.conjugate(v) if v.dtype.kind == "c" else v
    full = ops.convolve(a, back[::-1])
    return _middle(full, max(a.size, v.size), min(a.size, v.size), mode, reverse=v.size > a.size)


# ---- interpolation


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """NumPy's interp; differentiable in x, xp and fp.

    At a node the slope to the right of it is taken, at the last node that to its left; outside of all nodes the derivative
    in x is 0.
    """
    x, xp, fp = as_array(x), as_array(xp), as_array(fp)
    if xp.ndim != 1 or fp.ndim != 1 or xp.shape != fp.shape:
        raise ValueError(
            "Data points must be 1-D sequences"
            if xp.ndim != 1 or fp.ndim != 1
            else "fp and xp are not of the same length."
        )
    if xp.size == 0:
        raise ValueError("array of sample points is empty")
    x, xp = x.astype(float), xp.astype(float)
    fp = fp.astype(complex if fp.dtype.kind == "c" else float)
    if period is not None:
        x, xp, fp = _periodic(x, xp, fp, period)
        left = right = None
    n = xp.shape[0]
    left = fp[0] if left is None else left
    right = fp[-1] if right is None else right
    if n == 1:
        return ops.where(ops.less(x, xp[0]), left, ops.where(ops.greater(x, xp[0]), right, fp[0] + 0 * x))
    below = ops.minimum(ops.maximum(ops.searchsorted(xp, x, side="right") - 1, 0), n - 2)
    x0, x1, f0, f1 = take(xp, below), take(xp, below + 1), take(fp, below), take(fp, below + 1)
    inside = (f1 - f0) / (x1 - x0) * (x - x0) + f0
    return ops.where(ops.less(x, xp[0]), left, ops.where(ops.greater(x, xp[-1]), right, inside))


def _periodic(x: Any, xp: Any, fp: Any, period: Any) -> tuple[Any, Any, Any]:
    if not is_tracer(period) and period == 0:
        raise ValueError("period must be a non-zero value")
    period = ops.absolute(period)
    x, xp = ops.remainder(x, period), ops.remainder(xp, period)
    order = ops.argsort(xp, axis=0, kind="stable")
    xp, fp = take(xp, order), take(fp, order)
    return x, np.concatenate([xp[-1:] - period, xp, xp[0:1] + period]), np.concatenate([fp[-1:], fp, fp[0:1]])


# ---- samples


@implements(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """NumPy's cov; differentiable in the samples and in aweights."""
    rows = _rows(m, rowvar)
    if y is not None:
        rows = np.concatenate([rows, _rows(y, rowvar)], axis=0)
    rows = in_dtype(rows, np.promote_types(rows.dtype, np.float64) if dtype is None else dtype)
    weights = None if fweights is None else as_array(fweights)
    if aweights is not None:
        weights = as_array(aweights) if weights is None else weights * as_array(aweights)
    ddof = (0 if bias else 1) if ddof is None else ddof
    centre = np.average(rows, axis=1, weights=weights)
    freedom: Any
    if weights is None:
        freedom = rows.shape[1] - ddof
    elif ddof == 0:
        freedom = np.sum(weights)
    elif aweights is None:
        freedom = np.sum(weights) - ddof
    else:
        freedom = np.sum(weights) - ddof * np.sum(weights * as_array(aweights)) / np.sum(weights)
    rows = rows - centre[:, None]
    weighted = rows if weights is None else rows * weights
    other = ops.conjugate(weighted) if weighted.dtype.kind == "c" else weighted
    return np.squeeze(np.dot(rows, np.transpose(other)) / freedom)


def _rows(m: Any, rowvar: bool) -> Any:
    m = as_array(m)
    if m.ndim > 2:
        raise ValueError("m has more than 2 dimensions")
    m = np.atleast_2d(m)
    return m if rowvar or m.shape[0] == 1 else np.transpose(m)


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """NumPy's corrcoef."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    spread = np.sqrt(np.real(np.diagonal(c)))
    c = c / spread[:, None] / spread[None, :]
    return np.clip(np.real(c), -1, 1) + (1j * np.clip(np.imag(c), -1, 1) if c.dtype.kind == "c" else 0.0)


@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """NumPy's bincount; differentiable in the weights."""
    bins = as_array(x)
    if bins.ndim != 1 or bins.dtype.kind not in "iub":
        raise TypeError(
            "Cannot cast array data to int64 according to the rule 'safe'" if bins.ndim == 1 else "object too deep"
        )
    length = max(int(decide(np.max(bins))) + 1 if bins.size else 0, minlength)
    if weights is None:
        weights = np.ones(bins.shape, np.intp)
    weights = as_array(weights)
    if weights.shape != bins.shape:
        raise ValueError("The weights and list don't have the same length.")
    if weights.dtype.kind == "f":
        weights = in_dtype(weights, np.float64)  # which NumPy adds up in
    return ops.scatter_add(weights, bins, key=(Slot(0),), shape=(length,))


@implements(np.histogram)
def histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> tuple[Any, Any]:
    """NumPy's histogram of plain elements; differentiable in their weights."""
    if weights is None or is_tracer(a) or contains_tracer(bins):
        raise missing("numpy.histogram")
    places, weights = np.ravel(as_array(a)), np.ravel(as_array(weights))
    if weights.shape != places.shape:
        raise ValueError("weights should have the same shape as a.")
    edges = np.histogram_bin_edges(places, bins, range)
    bin_of = np.searchsorted(edges, places, "right") - 1 - (places == edges[-1])
    inside = (bin_of >= 0) & (bin_of < edges.size - 1)
    counts = ops.scatter_add(weights[inside], bin_of[inside], key=(Slot(0),), shape=(edges.size - 1,))
    return (counts / np.diff(edges) / np.sum(counts) if density else counts), edges


# ---- functions applied along axes


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """NumPy's apply_along_axis, by a loop over the lines."""
    a = as_array(arr)
    lines = moveaxis(a, axis_index(axis, a.ndim), -1)
    outer = lines.shape[:-1]
    if not all(outer):
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [as_array(func1d(lines[i], *args, **kwargs)) for i in itertools.product(*map(range, outer))]
    whole = np.reshape(np.stack(results), (*outer, *results[0].shape))
    at = axis_index(axis, a.ndim)
    inner = tuple(range(at, at + results[0].ndim))
    return moveaxis(whole, tuple(range(len(outer), whole.ndim)), inner) if inner else whole


@implements(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Any:
    """NumPy's apply_over_axes."""
    out = as_array(a)
    rank = out.ndim
    for axis in np.atleast_1d(axes).tolist():
        axis = axis_index(axis, rank)
        result = func(out, axis)
        out = result if result.ndim == out.ndim else np.expand_dims(result, axis)
        if out.ndim != rank:
            raise ValueError("function is not returning an array of the correct shape")
    return out


@intercepts(np, "vectorize", always=True)
class vectorize(np.vectorize):  # noqa: N801 - NumPy's name
    """NumPy's vectorize, by a loop in Python: traced elements are followed; without traced arguments it is NumPy's own.

    >>> vectorize(lambda x, y: x if x > y else y)(np.array([1.0, 5.0]), 3.0)
    array([3., 5.])
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of corresponding elements."""
        if not any(is_tracer(a) for a in (*args, *kwargs.values())):
            return super().__call__(*args, **kwargs)
        kept = [i for i in range(len(args)) if i not in self.excluded]
        names = [name for name in kwargs if name not in self.excluded]

        def f(*items: Any) -> Any:
            positional, named = list(args), dict(kwargs)
            for i, item in zip(kept, items, strict=False):
                positional[i] = item
            named.update(zip(names, items[len(kept) :], strict=True))
            return self.pyfunc(*positional, **named)

        operands = [as_array(args[i]) for i in kept] + [as_array(kwargs[name]) for name in names]
        cores = [0] * len(operands) if self.signature is None else _core_ranks(self.signature, len(operands))
        whole = _looped(f, operands, cores)
        if self.otypes:
            whole = [a.astype(kind) for a, kind in zip(whole, self.otypes, strict=True)]
        return whole[0] if len(whole) == 1 else tuple(whole)


def _core_ranks(signature: str, count: int) -> list[int]:
    """How many axes the function takes of each argument, by a signature such as "(m,n),(n)->(m)"."""
    inputs = signature.partition("->")[0]
    taken = [len([n for n in core.split(",") if n.strip()]) for core in re.findall(r"\(([^)]*)\)", inputs)]
    if len(taken) != count:
        raise TypeError(f"wrong number of positional arguments: expected {len(taken)}, got {count}")
    return taken


def _looped(f: Callable[..., Any], operands: list[Any], cores: list[int]) -> list[Any]:
    """The function of every element, or of every block of the last axes, in a loop."""
    outer = np.broadcast_shapes(*(a.shape[: a.ndim - k] for a, k in zip(operands, cores, strict=True)))
    blocks = []
    for a, k in zip(operands, cores, strict=True):
        core = a.shape[a.ndim - k :]
        blocks.append(np.reshape(np.broadcast_to(a, outer + core), (-1, *core)))
    results = [f(*(b[i] for b in blocks)) for i in range(math.prod(outer))]
    columns = list(zip(*results, strict=True)) if isinstance(results[0], tuple) else [tuple(results)]
    stacked = [np.stack(column) for column in columns]
    return [np.reshape(a, outer + a.shape[1:]) for a in stacked]
