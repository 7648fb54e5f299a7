"""The special functions under NumPy's namespace: where SciPy looks for them, by the array API, when SCIPY_ARRAY_API=1.

Only those that chainrule covers are here, so that SciPy falls back on its own code for the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.scipy.special import covered
from chainrule.trace.numpy_protocols import implements

implements(np.i0)(ops.i0)


def __getattr__(name: str) -> Any:
    found = covered(name)
    if found is None:
        raise AttributeError(f"chainrule.numpy.special has no {name!r}")
    return found
