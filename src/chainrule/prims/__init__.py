"""Every primitive, one room a family. Those that the core itself uses are declared here; the others load at first use."""

from chainrule.ir.primitive import ops
from chainrule.prims import contract, custom, elementwise, indexing, reduce, shape

__all__ = ["contract", "custom", "elementwise", "indexing", "reduce", "shape"]

_LATER = (
    *("convolve", "cumulative", "cylinder", "distributions", "elliptic", "factors", "faddeeva", "fft", "filters"),
    *("linalg", "matrix_functions", "orthogonal", "search", "special", "substitution"),
)
ops.load_later([f"{__name__}.{room}" for room in _LATER])
