"""scipy.special, differentiable: its ufuncs, and its functions of whole arrays.

The ufuncs of `scipy.special` called on traced values come here, and so do its Python functions, called by module
(`scipy.special.softmax(x)`); one that was imported by name is traced like any other Python code. SciPy is imported when the
first of its functions is called.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.ir.primitive import concrete, ops
from chainrule.numpy.arguments import as_array, axis_tuple, in_dtype, keep_axes
from chainrule.prims.special import UFUNC_NAMES
from chainrule.trace.intercept import guarded, intercepts
from chainrule.trace.numpy_protocols import define_late_ufuncs

# What SciPy has under a name of its own.
_SYNONYMS = {
    "digamma": "psi",
    "jn": "jv",
    "round": "rint",
    **{name: name for name in ("log1p", "expm1", "exp2", "cbrt")},
}


def covered(name: str) -> Any:
    """The primitive or function of ours that stands for a name of scipy.special; None where there is none."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    return ops[_SYNONYMS.get(name, name)] if name in _SYNONYMS or name in UFUNC_NAMES else None


@define_late_ufuncs
def _late(ufunc: Any) -> Any:
    """Our rule for a ufunc of SciPy."""
    module = sys.modules.get("scipy.special._ufuncs")
    name = ufunc.__name__
    return covered(name) if getattr(module, name, None) is ufunc else None


# ---- functions of whole arrays


def _floating(x: Any) -> Any:
    x = as_array(x)
    return x if x.dtype.kind in "fc" else x.astype(float)


def _weighted(a: Any, b: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """The sum of b exp(a - shift) and the shift, the axes kept at extent one; a weight of zero silences what it weighs."""
    a = ops.where(ops.not_equal(b, 0), a, -np.inf)
    top = ops.stop_gradient(np.max(np.real(a), axis=axes, keepdims=True))
    top = ops.where(ops.isfinite(top), top, 0.0)
    return np.sum(b * ops.exp(a - top), axis=axes, keepdims=True), top


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """SciPy's logsumexp: log of sum(b * exp(a)); a sum of nothing but zeros has -inf, and the derivative 0."""
    a = _floating(a)
    axes = axis_tuple(axis, a.ndim)
    if b is None and a.dtype.kind == "f":
        out = ops.reduce_logsumexp(a, axes=axes)
        out = keep_axes(out, a.shape, axes) if keepdims else out
        return (out, ops.where(ops.equal(out, -np.inf), 0.0, np.ones((), out.dtype))) if return_sign else out
    b = _floating(1.0 if b is None else b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    axes = axis_tuple(axis, len(shape))
    total, top = _weighted(np.broadcast_to(a, shape), np.broadcast_to(b, shape), axes)
    if not keepdims:
        total, top = np.squeeze(total, axes), np.squeeze(top, axes)
    if return_sign:
        size = ops.absolute(total)
        return ops.log(size) + top, total / size if total.dtype.kind == "c" else ops.sign(total)
    return ops.log(total if total.dtype.kind == "c" else ops.where(ops.less(total, 0), np.nan, total)) + top


def log_softmax(x: Any, axis: Any = None) -> Any:
    """SciPy's log_softmax: x - logsumexp(x)."""
    x = _floating(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: Any, axis: Any = None) -> Any:
    """SciPy's softmax: exp(x) over its sum."""
    return ops.exp(log_softmax(x, axis))


def polygamma(n: Any, x: Any) -> Any:
    """SciPy's polygamma: the n-th derivative of psi."""
    return ops.polygamma(n if isinstance(n, int) else as_array(n), in_dtype(as_array(x), np.float64))


def multigammaln(a: Any, d: int) -> Any:
    """SciPy's multigammaln: log of the multivariate gamma function."""
    a = _floating(a)
    if np.any(concrete(a) <= 0.5 * (d - 1)):
        raise ValueError(f"condition a ({a}) > 0.5 * (d-1) ({0.5 * (d - 1)}) not met")
    parts = ops.gammaln(a[..., None] - 0.5 * np.arange(d))
    return 0.25 * d * (d - 1) * math.log(math.pi) + np.sum(parts, axis=-1)


def zeta(x: Any, q: Any = None, out: Any = None) -> Any:
    """SciPy's zeta of Hurwitz; differentiable in q."""
    return ops._zeta(x, 1.0 if q is None else q)


def softplus(x: Any, **_: Any) -> Any:
    """SciPy's softplus: log(1 + exp(x))."""
    return ops.logaddexp(_floating(x), 0.0)


def sinc(x: Any) -> Any:
    """SciPy's sinc, which is NumPy's."""
    return np.sinc(x)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (logsumexp, softmax, log_softmax, polygamma, multigammaln, zeta, softplus, sinc)
}
for _name, _function in _FUNCTIONS.items():
    intercepts("scipy.special", _name)(_function)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = covered(name)
    if name in _SYNONYMS or name in UFUNC_NAMES:
        return found
    import scipy.special

    return guarded(scipy.special, name)
