"""Products: dot, matmul, inner, outer, tensordot, einsum and their kin, all by the primitive `contract`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, bind, ops
from chainrule.numpy.arguments import as_array, axis_index, in_dtype
from chainrule.numpy.shaping import moveaxis
from chainrule.trace.numpy_protocols import UFUNCS, implements, is_sparse

Labels = tuple[int, ...]


def product(x: Any, y: Any, left: Labels, right: Labels, to: Labels) -> Any:
    """sum of x[left] y[right] over the labels that `to` lacks; labels of one operand alone that are summed are summed first."""
    x, left = _presum(x, left, {*right, *to})
    y, right = _presum(y, right, {*left, *to})
    return ops.contract(x, y, left=left, right=right, to=to)


def _presum(x: Any, labels: Labels, needed: set[int]) -> tuple[Any, Labels]:
    drop = tuple(i for i, a in enumerate(labels) if a not in needed)
    if not drop:
        return x, labels
    return ops.reduce_sum(x, axes=drop), tuple(a for a in labels if a in needed)


@implements(np.dot, method="dot")
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """NumPy's dot."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_product(a, b)
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return ops.multiply(a, b)
    return _dot(a, b)


def _dot(a: Any, b: Any) -> Any:
    ranks = a.ndim, b.ndim
    _same(a.shape[-1], b.shape[max(ranks[1] - 2, 0)], a, b)
    return bind(ops.contract, (a, b), _dot_labels(*ranks))


@functools.cache
def _dot_labels(m: int, n: int) -> Params:
    """The labels of the product of arrays of ranks m and n, over the last axis of the one and the last but one of the other."""
    left = tuple(range(m))
    shared = left[-1]
    fresh = tuple(range(m, m + n))
    place = max(n - 2, 0)
    right = (*fresh[:place], shared, *fresh[place + 1 :])
    return {"left": left, "right": right, "to": (*left[:-1], *(r for r in right if r != shared))}


def _same(n: int, m: int, a: Any, b: Any) -> None:
    if n != m:
        raise ValueError(f"shapes {a.shape} and {b.shape} not aligned: {n} != {m}")


def _sparse_product(a: Any, b: Any) -> Any:
    from chainrule.trace.sparse import sparse_product  # loads at first use

    return sparse_product(a, b)


@implements(np.matmul)
def matmul(a: Any, b: Any) -> Any:
    """NumPy's matmul."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_product(a, b)
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul: Input operand does not have enough dimensions")
    if a.ndim <= 2 and b.ndim <= 2:
        return _dot(a, b)
    _same(a.shape[-1], b.shape[max(b.ndim - 2, 0)], a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rank = len(batch)
    m, k, n = rank, rank + 1, rank + 2
    a, left = _batch_labels(a, batch, (m, k) if a.ndim > 1 else (k,))
    b, right = _batch_labels(b, batch, (k, n) if b.ndim > 1 else (k,))
    to = (*range(rank), *((m,) if m in left else ()), *((n,) if n in right else ()))
    return ops.contract(a, b, left=left, right=right, to=to)


def _batch_labels(x: Any, batch: tuple[int, ...], own: Labels) -> tuple[Any, Labels]:
    """x without batch axes of extent one that broadcast, and its labels."""
    lead = x.ndim - len(own)
    offset = len(batch) - lead
    kept = [i for i in range(lead) if x.shape[i] == batch[offset + i]]
    if len(kept) < lead:
        x = ops.reshape(x, shape=(*(x.shape[i] for i in kept), *x.shape[lead:]))
    return x, (*(offset + i for i in kept), *own)


def vecdot(a: Any, b: Any, *, axis: int = -1) -> Any:
    """NumPy's vecdot: the first argument conjugated."""
    a, b = as_array(a), as_array(b)
    if axis != -1:
        a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    a = ops.conjugate(a) if a.dtype.kind == "c" else a
    return matmul(a[..., None, :], b[..., :, None])[..., 0, 0]


def matvec(a: Any, b: Any) -> Any:
    """NumPy's matvec."""
    return matmul(as_array(a), as_array(b)[..., :, None])[..., 0]


def vecmat(a: Any, b: Any) -> Any:
    """NumPy's vecmat: the vector conjugated."""
    a = as_array(a)
    a = ops.conjugate(a) if a.dtype.kind == "c" else a
    return matmul(a[..., None, :], as_array(b))[..., 0, :]


UFUNCS[np.matmul] = matmul
UFUNCS[np.vecdot] = vecdot
UFUNCS[np.matvec] = matvec
UFUNCS[np.vecmat] = vecmat


@implements(np.inner)
def inner(a: Any, b: Any) -> Any:
    """NumPy's inner."""
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return ops.multiply(a, b)
    return tensordot(a, b, ((-1,), (-1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """NumPy's outer."""
    a, b = as_array(a), as_array(b)
    return ops.contract(
        ops.reshape(a, shape=(a.size,)), ops.reshape(b, shape=(b.size,)), left=(0,), right=(1,), to=(0, 1)
    )


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    """NumPy's vdot: the first argument conjugated."""
    a, b = as_array(a), as_array(b)
    a = ops.conjugate(a) if a.dtype.kind == "c" else a
    return dot(ops.reshape(a, shape=(a.size,)), ops.reshape(b, shape=(b.size,)))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """NumPy's tensordot."""
    a, b = as_array(a), as_array(b)
    if isinstance(axes, int):
        over_a: Sequence[int] = range(a.ndim - axes, a.ndim)
        over_b: Sequence[int] = range(axes)
    else:
        over_a, over_b = ([x] if np.ndim(x) == 0 else list(x) for x in axes)
    left = list(range(a.ndim))
    right = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip(over_a, over_b, strict=True):
        _same(a.shape[i], b.shape[j], a, b)
        right[j] = left[i]
    summed = {left[i] for i in over_a}
    to = tuple(x for x in (*left, *right) if x not in summed)
    return ops.contract(a, b, left=tuple(left), right=tuple(right), to=to)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    """NumPy's kron: every element of a times b."""
    a, b = as_array(a), as_array(b)
    rank = max(a.ndim, b.ndim)
    left, right = (1,) * (rank - a.ndim) + a.shape, (1,) * (rank - b.ndim) + b.shape
    product_of_all = ops.multiply(
        ops.reshape(a, shape=tuple(n for m in left for n in (m, 1))),
        ops.reshape(b, shape=tuple(n for m in right for n in (1, m))),
    )
    return ops.reshape(product_of_all, shape=tuple(m * n for m, n in zip(left, right, strict=True)))


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """NumPy's cross, of vectors of three elements."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = as_array(a), as_array(b)
    if a.ndim < 1 or b.ndim < 1:
        raise ValueError("At least one array has zero dimension")
    a = moveaxis(a, axis_index(axisa, a.ndim), -1)
    b = moveaxis(b, axis_index(axisb, b.ndim), -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, but they are "
            f"{a.shape[-1]} and {b.shape[-1]} dimensional instead."
        )
    after, before = np.array([1, 2, 0]), np.array([2, 0, 1])
    out = a[..., after] * b[..., before] - a[..., before] * b[..., after]
    return moveaxis(out, -1, axis_index(axisc, out.ndim))


# ---- einsum


Symbols = list[Any]  # letters or integers, and Ellipsis


def _symbols(subscript: str) -> Symbols:
    head, dots, tail = subscript.partition("...")
    return [*map(ord, head), *([Ellipsis] if dots else []), *map(ord, tail)]


def _split(args: tuple[Any, ...]) -> tuple[list[Any], list[Symbols], Symbols | None]:
    """Operands, their symbols, and the output's where it is given, from either form of einsum's arguments."""
    if isinstance(args[0], str):
        inputs, arrow, output = args[0].replace(" ", "").partition("->")
        return (
            [as_array(x) for x in args[1:]],
            [_symbols(t) for t in inputs.split(",")],
            _symbols(output) if arrow else None,
        )
    even = len(args) - len(args) % 2
    operands = [as_array(x) for x in args[0:even:2]]
    return operands, [list(s) for s in args[1:even:2]], list(args[-1]) if len(args) % 2 else None


def _parse(args: tuple[Any, ...]) -> tuple[list[Any], list[Labels], Labels]:
    """Operands and integer labels of either form of einsum's arguments."""
    operands, terms, output = _split(args)
    if len(operands) != len(terms):
        raise ValueError(f"einsum was given {len(operands)} operands and subscripts for {len(terms)}")
    extra = [x.ndim - len(t) + 1 for x, t in zip(operands, terms, strict=True) if Ellipsis in t]
    dots: Symbols = [("dots", i) for i in range(max(extra, default=0), 0, -1)]
    written = [_written(t, dots, x.ndim) for x, t in zip(operands, terms, strict=True)]
    flat = [a for s in written for a in s]
    if output is None:
        to = [*dots, *sorted(a for a in flat if not isinstance(a, tuple) and flat.count(a) == 1)]
    else:
        to = [a for t in output for a in (dots if t is Ellipsis else [t])]
    if set(to) - set(flat) or len(set(to)) < len(to):
        raise ValueError("einsum's output has a label twice, or one that no operand has")
    number = {a: i for i, a in enumerate(dict.fromkeys(flat))}
    labels = [tuple(number[a] for a in s) for s in written]
    return operands, labels, tuple(number[a] for a in to)


def _written(term: Symbols, dots: Symbols, ndim: int) -> Symbols:
    """The symbols of one operand, with those that its dots stand for."""
    if Ellipsis in term:
        n = ndim - len(term) + 1
        at = term.index(Ellipsis)
        term = [*term[:at], *(dots[len(dots) - n :] if n > 0 else []), *term[at + 1 :]]
    if len(term) != ndim:
        raise ValueError(f"einsum subscripts have {len(term)} labels for an operand of {ndim} axes")
    return term


def _without_broadcasting(arrays: Sequence[Any], labels: Sequence[Labels]) -> list[tuple[Any, Labels]]:
    """Operands without axes of extent one whose label has another extent elsewhere."""
    extents: dict[int, int] = {}
    for x, s in zip(arrays, labels, strict=True):
        for a, n in zip(s, x.shape, strict=True):
            known = extents.setdefault(a, n)
            if 1 not in (n, known) and n != known:
                raise ValueError(f"einsum operands have extents {known} and {n} for the same label")
            extents[a] = n if known == 1 else known
    out = []
    for x, s in zip(arrays, labels, strict=True):
        kept = [i for i, a in enumerate(s) if x.shape[i] == extents[a]]
        if len(kept) < len(s):
            x, s = ops.reshape(x, shape=tuple(x.shape[i] for i in kept)), tuple(s[i] for i in kept)
        out.append((x, s))
    return out


def _diagonal(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """x with labels that stand twice in it merged by taking the diagonal."""
    while len(set(labels)) < len(labels):
        twice = next(a for a in labels if labels.count(a) > 1)
        i = labels.index(twice)
        j = labels.index(twice, i + 1)
        order = [k for k in range(x.ndim) if k not in (i, j)]
        moved = x if (i, j) == (0, 1) else ops.transpose(x, axes=(i, j, *order))
        n = np.arange(moved.shape[0])
        x = moved[n, n]
        labels = (twice, *(labels[k] for k in order))
    return x, labels


@implements(np.einsum)
def einsum(*operands: Any, out: Any = None, optimize: Any = "greedy", **_: Any) -> Any:
    """NumPy's einsum; several operands are contracted in pairs, in a cheap order."""
    arrays, labels, to = _parse(operands)
    work = [_diagonal(x, s) for x, s in _without_broadcasting(arrays, labels)]
    for i, j in _pair_order(work, to):
        (x, left), (y, right) = work[i], work[j]
        rest = [w for k, w in enumerate(work) if k not in (i, j)]
        needed = {*to, *(a for _, s in rest for a in s)}
        kept = tuple(dict.fromkeys(a for a in (*left, *right) if a in needed))
        if not rest:
            kept = to
        work = [*rest, (product(x, y, left, right, kept), kept)]
    x, left = _presum(*work[0], set(to))
    x = in_dtype(x, np.result_type(*(a.dtype for a in arrays)))  # sums of small integers are not widened
    order = tuple(left.index(a) for a in to)
    return x if order == tuple(range(len(order))) else ops.transpose(x, axes=order)


def _pair_order(work: Sequence[tuple[Any, Labels]], to: Labels) -> list[tuple[int, int]]:
    """Pairs of positions to contract, from NumPy's search; the result of a pair goes to the end."""
    if len(work) < 2:
        return []
    if len(work) == 2:
        return [(0, 1)]
    spec: list[Any] = []
    small = {a: i for i, a in enumerate(dict.fromkeys(a for _, s in work for a in s))}
    for x, s in work:
        spec += [np.broadcast_to(np.zeros(()), x.shape), [small[a] for a in s]]
    path = np.einsum_path(*spec, [small[a] for a in to], optimize="greedy")[0][1:]
    pairs: list[tuple[int, int]] = []
    for step in path:
        chosen = sorted(step)
        count = len(work) - len(pairs)
        while len(chosen) >= 2:
            pairs.append((chosen[0], chosen[1]))
            chosen = sorted([c - (c > chosen[0]) - (c > chosen[1]) for c in chosen[2:]] + [count - 2])
            count -= 1
    return pairs
