"""Distances of scipy.spatial.distance between all pairs of points, called by module: `distance.cdist(x, y)`.

The distance of a point to itself has the derivative zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array
from chainrule.trace.intercept import intercepts


def _cosine(x: Any, y: Any) -> Any:
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return 1.0 - np.sum(x * y, axis=-1) / lengths


# Distances of x and y along the last axis.
_METRICS: dict[str, Callable[..., Any]] = {
    "euclidean": lambda x, y: np.linalg.norm(x - y, axis=-1),
    "sqeuclidean": lambda x, y: np.sum(ops.square(x - y), axis=-1),
    "cityblock": lambda x, y: np.sum(ops.absolute(x - y), axis=-1),
    "chebyshev": lambda x, y: np.max(ops.absolute(x - y), axis=-1),
    "minkowski": lambda x, y, p=2: np.linalg.norm(x - y, p, axis=-1),
    "cosine": _cosine,
}


def _distance(name: str, metric: Any) -> Callable[..., Any]:
    if metric not in _METRICS:
        raise MissingRule(
            f"`scipy.spatial.distance.{name}` with metric={metric!r} is not covered",
            f"Choose one of {', '.join(_METRICS)}, or write the distance with NumPy on x[:, None] - y[None].",
        )
    return _METRICS[metric]


def cdist(XA: Any, XB: Any, metric: Any = "euclidean", *, out: Any = None, **options: Any) -> Any:
    """SciPy's cdist: the distances of every row of one matrix to every row of another."""
    x, y = as_array(XA), as_array(XB)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"cdist of arrays of shape {x.shape} and {y.shape}: two matrices of as many columns are needed"
        )
    return _distance("cdist", metric)(x[:, None], y[None], **options)


def pdist(X: Any, metric: Any = "euclidean", *, out: Any = None, **options: Any) -> Any:
    """SciPy's pdist: the distances of every row of a matrix to every row after it."""
    x = as_array(X)
    if x.ndim != 2:
        raise ValueError("A 2-dimensional array must be passed.")
    first, second = np.triu_indices(x.shape[0], 1)
    return _distance("pdist", metric)(x[first], x[second], **options)


for _function in (cdist, pdist):
    intercepts("scipy.spatial.distance", _function.__name__)(_function)
