"""The abstract linear map: what a primitive states as its local Jacobian, and what every mode multiplies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.ir.types import Array, Shape

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class LinearMap(ABC):
    """A (real-)linear map between two array spaces, held in structured form.

    `apply` is t -> J t and `adjoint` is ct -> J^T ct, where the pairing of two complex arrays is Re(sum(a * b)), without
    conjugation. Both compute on ndarrays and record on tracers. A map keeps shapes and dtypes, never the arrays it came from
    unless they are its coefficients.
    """

    __slots__ = ("in_dtype", "in_shape", "out_shape")

    in_shape: Shape
    in_dtype: np.dtype[Any]
    out_shape: Shape

    def __init__(self, x: Array, out_shape: Shape) -> None:
        """A map from arrays of the type of x to arrays of a shape."""
        self.in_shape = x.shape
        self.in_dtype = x.dtype
        self.out_shape = out_shape

    @abstractmethod
    def apply(self, t: Array) -> Array:
        """J t: push a tangent of the input to the output."""

    @abstractmethod
    def adjoint(self, ct: Array) -> Array:
        """J^T ct: pull a cotangent of the output back to the input."""

    @abstractmethod
    def pattern(self) -> csr_array:
        """Where the Jacobian is structurally non-zero: a boolean sparse matrix of (output elements, input elements)."""

    @abstractmethod
    def multiplications(self) -> int:
        """How many scalar multiplications one `apply` takes (one `adjoint` takes as many)."""
