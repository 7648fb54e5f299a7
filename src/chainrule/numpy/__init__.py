"""NumPy's namespace, differentiable: the same functions that `import numpy as np` reaches through its protocols, called directly.

What chainrule covers is its own; everything else (constants, dtypes, functions of plain arrays) is NumPy's.

>>> import chainrule.numpy as cnp
>>> float(cnp.trapezoid([1.0, 2.0, 3.0]))
4.0
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as _np

from chainrule.numpy import (
    creation,
    cumulative,
    elementwise,
    fft,
    indexing,
    joining,
    linalg,
    logic,
    numerical,
    padding,
    polynomials,
    products,
    quantiles,
    reductions,
    shaping,
    sorting,
    special,
    ufunc_methods,
)
from chainrule.trace import intercept as _intercept
from chainrule.trace import numpy_protocols as _protocols

__all__ = [
    "creation",
    "cumulative",
    "elementwise",
    "fft",
    "indexing",
    "joining",
    "linalg",
    "logic",
    "numerical",
    "padding",
    "polynomials",
    "products",
    "quantiles",
    "reductions",
    "shaping",
    "sorting",
    "special",
    "ufunc_methods",
]

_protocols.define_namespace(sys.modules[__name__])


def __getattr__(name: str) -> Any:
    return _intercept.guarded(_np, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_np)})
