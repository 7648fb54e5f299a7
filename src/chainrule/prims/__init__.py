"""Every primitive, one room a family. Importing this package fills the registry."""

from chainrule.prims import (
    contract,
    convolve,
    cumulative,
    custom,
    elementwise,
    expm,
    factors,
    fft,
    indexing,
    linalg,
    reduce,
    search,
    shape,
    special,
    substitution,
)

__all__ = [
    "contract",
    "convolve",
    "cumulative",
    "custom",
    "elementwise",
    "expm",
    "factors",
    "fft",
    "indexing",
    "linalg",
    "reduce",
    "search",
    "shape",
    "special",
    "substitution",
]
