"""The type of an array: its shape and its dtype. Shapes are static."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

# An ndarray, a NumPy or Python scalar, or a tracer that stands for one. Rules compute on any of them with the same operators.
Array: TypeAlias = Any
Shape: TypeAlias = tuple[int, ...]

_SHORT = {"float": "f", "complex": "c", "int": "i", "uint": "u"}


def dtype_text(dtype: np.dtype[Any]) -> str:
    """A short name of a dtype: `f64`, `i32`, `c128`, `bool`."""
    name = dtype.name
    stem = name.rstrip("0123456789")
    return _SHORT[stem] + name[len(stem) :] if stem in _SHORT else name


@dataclass(frozen=True, slots=True)
class ArrayType:
    """Shape and dtype of an array.

    >>> print(ArrayType((3, 4), np.dtype(float)))
    f64[3,4]
    """

    shape: Shape
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, x: Array) -> ArrayType:
        """The type of a value: array, scalar, tracer, or anything NumPy makes an array of."""
        if not hasattr(x, "dtype"):
            x = np.asarray(x)
        return cls(x.shape, x.dtype)

    @property
    def size(self) -> int:
        """The number of elements."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    @property
    def nbytes(self) -> int:
        """The number of bytes that the elements take."""
        return self.size * self.dtype.itemsize

    @property
    def is_differentiable(self) -> bool:
        """Whether values of this type carry derivatives: floating and complex ones do."""
        return self.dtype.kind in "fc"

    def __str__(self) -> str:
        return f"{dtype_text(self.dtype)}[{','.join(map(str, self.shape))}]"


# Subclasses of ndarray by which NumPy computes something else.
_OTHER_ALGEBRAS = frozenset({"matrix", "MaskedArray"})
OTHER_ALGEBRA_REPAIR = (
    "Pass np.asarray(x) of a matrix, and x.filled(...) or x.data with a mask of its own for a masked array."
)


def is_other_algebra(x: Any) -> bool:
    """Whether a value is an array whose operations are not those of arrays: a matrix or a masked array."""
    return isinstance(x, np.ndarray) and not _OTHER_ALGEBRAS.isdisjoint(c.__name__ for c in type(x).__mro__)
