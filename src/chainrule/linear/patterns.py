"""Where a structured map is non-zero, as a boolean scipy.sparse matrix of (output elements, input elements) in row-major order."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.types import Shape

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Positions = np.ndarray[Any, np.dtype[np.int64]]


def from_pairs(rows: Positions, columns: Positions, shape: tuple[int, int]) -> csr_array:
    """The pattern that is non-zero at these places, each named once or more often."""
    from scipy.sparse import coo_array  # scipy loads at first use

    data = np.ones(rows.size, dtype=bool)
    out = coo_array((data, (rows.ravel(), columns.ravel())), shape=shape).tocsr()
    out.data[:] = True
    return out


def positions(shape: Shape) -> Positions:
    """The row-major number of every element of an array of this shape, in that shape."""
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


def identity(n: int) -> csr_array:
    """The pattern of the identity of n elements."""
    return from_pairs(np.arange(n), np.arange(n), (n, n))


def dense(rows: int, columns: int) -> csr_array:
    """The pattern in which every output depends on every input."""
    r, c = np.indices((rows, columns))
    return from_pairs(r, c, (rows, columns))


def moved(in_shape: Shape, move: Callable[[Positions], Any]) -> csr_array:
    """The pattern of a map that only moves elements: apply the move to the elements' own positions."""
    source = np.asarray(move(positions(in_shape)))
    return from_pairs(np.arange(source.size), source, (source.size, prod(in_shape)))


def broadcast(in_shape: Shape, out_shape: Shape) -> csr_array:
    """The pattern of elementwise maps that broadcast their input to the output's shape."""
    return moved(in_shape, lambda p: np.broadcast_to(p, out_shape))


def sum_over(axes: tuple[int, ...], in_shape: Shape) -> csr_array:
    """The pattern of a sum over axes."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(in_shape))
    rows = np.broadcast_to(positions(kept), in_shape)
    return from_pairs(rows, positions(in_shape), (prod(kept), prod(in_shape)))


def along(shape: Shape, axis: int, part: Callable[[Positions], Positions]) -> csr_array:
    """The pattern of a map of a shape to itself along one axis: `part` of the square in which all depend on all."""
    n = shape[axis]
    rows, columns = np.nonzero(part(np.ones((n, n), dtype=np.int64)))
    lines = np.moveaxis(positions(shape), axis, 0)
    return from_pairs(lines[rows], lines[columns], (prod(shape), prod(shape)))


def contraction(labels: tuple[int, ...], out_labels: tuple[int, ...], in_shape: Shape, out_shape: Shape) -> csr_array:
    """The pattern of one side of a contraction: an output depends on the inputs that agree with it on the labels they share."""
    extents = dict(zip(labels + out_labels, in_shape + out_shape, strict=True))
    space = tuple(extents)
    grid = np.indices([extents[label] for label in space])
    where = {label: grid[i] for i, label in enumerate(space)}

    def flat(names: tuple[int, ...], shape: Shape) -> Any:
        if not names:
            return np.zeros(grid.shape[1:], dtype=np.int64)
        return np.ravel_multi_index([where[n] for n in names], shape) if prod(shape) else np.zeros(0, dtype=np.int64)

    return from_pairs(flat(out_labels, out_shape), flat(labels, in_shape), (prod(out_shape), prod(in_shape)))


def transposed(pattern: csr_array) -> csr_array:
    """The pattern of the adjoint map."""
    return pattern.T.tocsr()


def boolean(matrix: Any) -> csr_array:
    """The pattern of a sparse matrix: where it has stored entries."""
    from scipy.sparse import csr_array

    out = csr_array(matrix)
    out.sum_duplicates()
    return csr_array((np.ones(out.nnz, bool), out.indices, out.indptr), shape=out.shape)
