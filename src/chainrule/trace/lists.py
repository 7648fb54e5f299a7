"""NumPy's functions on lists of traced numbers, where NumPy's own code would not do: `np.mean([t, 2 * t])`.

A list reaches most of NumPy as an array of objects, whose loops call the operators of traced values. Means and solvers want
numbers; with a traced value in a list they are intercepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.trace.intercept import intercepts
from chainrule.trace.numpy_protocols import call_function

_MEANS = (
    "average",
    "bincount",
    "interp",
    "mean",
    "nanmean",
    "nanstd",
    "nanvar",
    "percentile",
    "quantile",
    "std",
    "var",
)
_SOLVERS = ("cond", "det", "eigh", "eigvalsh", "inv", "lstsq", "norm", "pinv", "slogdet", "solve", "svd")


def _ours(function: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: call_function(function, args, kwargs)


# NumPy's protocol does not ask the indices.
intercepts(np, "take")(_ours(np.take))
for _name in _MEANS:
    intercepts(np, _name)(_ours(getattr(np, _name)))
for _name in _SOLVERS:
    intercepts(np.linalg, _name)(_ours(getattr(np.linalg, _name)))


@intercepts(np, "ndenumerate")
def ndenumerate(arr: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """NumPy's ndenumerate: pairs of index and element."""
    x = np.asarray(arr)
    return ((index, x[index]) for index in np.ndindex(x.shape))
