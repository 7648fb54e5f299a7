"""Sparse matrices among traced values: the entries may be traced, where they are is fixed.

A `SparseMatrix` stands for a scipy.sparse.csr_array while its entries are recorded. As a tree its one leaf is the entries, and a
tree rebuilt from plain entries is a csr_array: so a staged function that computes a sparse Jacobian returns scipy.sparse, and a
batch of them, whose entries have a further axis, is a list.

A matrix of scipy.sparse in a product with traced values is one whose entries are plain.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from chainrule.errors import ShapeError, TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.ir.types import Array
from chainrule.linear.maps import Slot
from chainrule.trace.numpy_protocols import is_sparse
from chainrule.trace.operands import fingerprint
from chainrule.trace.tree import NAMESPACE

Ints = NDArray[Any]


class Layout:
    """Where the entries of a matrix are, in CSR form; compared by identity."""

    __slots__ = ("_columns", "_like", "_rows", "indices", "indptr", "shape")

    def __init__(self, indptr: Ints, indices: Ints, shape: tuple[int, int]) -> None:
        kind = np.int32 if max(*shape, len(indices)) < 2**31 - 1 else np.int64
        self.indptr, self.indices, self.shape = indptr.astype(kind), indices.astype(kind), shape
        self._rows: Ints | None = None
        self._columns: Ints | None = None
        self._like: dict[str, Any] | None = None

    @property
    def rows(self) -> Ints:
        """The row of each entry."""
        if self._rows is None:
            self._rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
            self._rows.flags.writeable = False  # so that a recording need not watch it
        return self._rows

    @property
    def columns(self) -> Ints:
        """The column of each entry, of the type that NumPy's indexing would convert other integers to at each use."""
        if self._columns is None:
            self._columns = self.indices.astype(np.intp)
            self._columns.flags.writeable = False
        return self._columns

    def matrix(self, data: Any) -> Any:
        """The matrix with these entries: a csr_array, or a SparseMatrix while they are traced; of a batch a list of them."""
        if data.ndim > 1:
            if data.shape[-1] != len(self.indices):
                raise ShapeError(
                    f"a batch of sparse matrices of shape {self.shape} along another axis than the first",
                    "Use out_axes=0 for them: they come as a list.",
                )
            return [self.matrix(ops.slice(data, key=(i,))) for i in range(data.shape[0])]
        if is_tracer(data):
            return SparseMatrix(data, self)
        from scipy.sparse import csr_array  # scipy loads at first use

        if self._like is None:
            out = csr_array((data, self.indices.copy(), self.indptr.copy()), shape=self.shape)
            out.has_sorted_indices = out.has_canonical_format = True
            if vars(out).keys() >= set(_ARRAYS):
                self._like = {k: v for k, v in vars(out).items() if k not in _ARRAYS}
            return out
        # What the constructor would check has been checked for the first one.
        out = csr_array.__new__(csr_array)
        vars(out).update(self._like, data=data, indices=self.indices.copy(), indptr=self.indptr.copy())
        return out


_ARRAYS = ("data", "indices", "indptr")


class SparseMatrix:
    """A sparse matrix whose entries are traced: `data`, `shape`, `toarray()`, `@` with dense vectors and matrices, and `T @`."""

    __array_ufunc__ = None

    def __init__(self, data: Array, layout: Layout, *, turned: bool = False) -> None:
        self.data, self.layout, self.turned = data, layout, turned

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        m, n = self.layout.shape
        return (n, m) if self.turned else (m, n)

    @property
    def T(self) -> SparseMatrix:
        """The transpose."""
        return SparseMatrix(self.data, self.layout, turned=not self.turned)

    @property
    def _places(self) -> tuple[Ints, Ints]:
        rows, columns = self.layout.rows, self.layout.columns
        return (columns, rows) if self.turned else (rows, columns)

    def toarray(self) -> Array:
        """The matrix as a dense array."""
        return ops.scatter_add(self.data, *self._places, key=(Slot(0), Slot(1)), shape=self.shape)

    def __matmul__(self, other: Array) -> Array:
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise ShapeError(
                f"a sparse matrix of shape {self.shape} times an array of shape {other.shape}",
                "Multiply it by a vector or matrix of as many rows as it has columns.",
            )
        rows, columns = self._places
        taken = ops.gather(other, columns, key=(Slot(0),))
        data = ops.reshape(self.data, shape=(self.data.shape[0], *(1,) * (taken.ndim - 1)))
        return ops.scatter_add(taken * data, rows, key=(Slot(0),), shape=(self.shape[0], *taken.shape[1:]))

    def __repr__(self) -> str:
        return f"SparseMatrix({self.shape[0]} x {self.shape[1]}, {self.layout.indices.size} entries: {self.data})"


def _flatten(m: SparseMatrix) -> tuple[tuple[Array], tuple[Layout, bool]]:
    return (m.data,), (m.layout, m.turned)


def _unflatten(metadata: tuple[Layout, bool], children: tuple[Any]) -> Any:
    layout, turned = metadata
    if type(children[0]) is np.ndarray or is_tracer(children[0]):
        out = layout.matrix(children[0])
        return _turned(out) if turned else out
    return SparseMatrix(children[0], layout, turned=turned)


# ---- matrices of scipy.sparse


def sparse_product(a: Any, b: Any) -> Array:
    """a @ b on traced values, one of them a matrix of scipy.sparse."""
    if is_sparse(a):
        return _constant(a) @ b
    if a.ndim == 1:
        return _constant(b).T @ a
    return ops.transpose(_constant(b).T @ ops.transpose(a, axes=(1, 0)), axes=(1, 0))


def _constant(m: Any) -> SparseMatrix:
    if m.ndim != 2:
        raise TraceError(
            f"a {type(m).__name__} of shape {m.shape} in a product with traced values",
            "Give it two axes, m.reshape(1, -1), or make it dense, m.toarray().",
        )
    if m.format == "csc":
        return SparseMatrix(m.data, _layout(m.indptr, m.indices, m.shape[::-1]), turned=True)
    m = m.tocsr()
    return SparseMatrix(m.data, _layout(m.indptr, m.indices, m.shape))


# The layouts of matrices that are alive, by the array of their indices.
_layouts: dict[int, tuple[weakref.ref[Ints], bytes, Layout]] = {}


def _layout(indptr: Ints, indices: Ints, shape: tuple[int, int]) -> Layout:
    """The layout of a matrix, made when it is first met, and anew where its indices have been written into."""
    key, mark = id(indices), fingerprint(indptr) + fingerprint(indices)
    known = _layouts.get(key)
    if known is None or known[1] != mark or known[2].shape != shape:
        gone = weakref.ref(indices, lambda _: _layouts.pop(key, None))
        known = _layouts[key] = (gone, mark, Layout(indptr, indices, shape))
    return known[2]


def _turned(m: Any) -> Any:
    return [_turned(one) for one in m] if isinstance(m, list) else m.T


optree.register_pytree_node(SparseMatrix, _flatten, _unflatten, namespace=NAMESPACE)  # type: ignore[arg-type]
