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

from chainrule.errors import MissingRule
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
    if name in _BEHIND:
        return _BEHIND[name]
    if name in _SYNONYMS:
        return ops[_SYNONYMS[name]]
    if name not in UFUNC_NAMES:
        ops.complete()  # the rooms of rarer functions, which add to the names
    return ops[name] if name in UFUNC_NAMES else None


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


# ---- numbers of choices


def _natural(n: Any, k: Any) -> Any:
    """Where n and k count something that can be chosen."""
    return ops.logical_and(ops.less_equal(k, n), ops.greater_equal(k, 0))


def comb(N: Any, k: Any, *, exact: bool = False, repetition: bool = False) -> Any:
    """SciPy's comb, which is zero where there is nothing to choose."""
    _not_exact("comb", exact)
    N, k = as_array(N), as_array(k)
    N = N + k - 1 if repetition else N
    return ops.where(_natural(N, k), ops.binom(N, k), 0.0)


def perm(N: Any, k: Any, exact: bool = False) -> Any:
    """SciPy's perm, which is zero where there is nothing to choose."""
    _not_exact("perm", exact)
    N, k = as_array(N), as_array(k)
    return ops.where(_natural(N, k), ops.poch(N - k + 1, k), 0.0)


def factorial(n: Any, exact: bool = False, extend: str = "zero") -> Any:
    """SciPy's factorial, gamma(n + 1); of negative numbers it is zero."""
    _not_exact("factorial", exact or extend != "zero")
    n = _floating(n)
    return ops.where(ops.less(n, 0), 0.0, ops.gamma(n + 1))


def _not_exact(name: str, given: bool) -> None:
    if given:
        raise MissingRule(
            f"`scipy.special.{name}` of integers, or extended, is not covered: chainrule has no rule for it",
            "Call it without exact= and extend=, or write it with scipy.special.gamma.",
        )


# ---- functions of angles


def diric(x: Any, n: int) -> Any:
    """SciPy's diric, sin(n x / 2) / (n sin(x / 2)), which at multiples of 2 pi is 1 or -1, with the derivative 0."""
    half = 0.5 * _floating(x)
    below = ops.sin(half)
    at_zero = ops.less(ops.absolute(below), 1e-9)
    limit = ops.where(ops.less(ops.cos(half), 0), (-1.0) ** (n - 1), 1.0)
    return ops.where(at_zero, limit, ops.sin(n * half) / (n * ops.where(at_zero, 1.0, below)))


def _legendre(m: Any, n: Any, x: Any, root: Any) -> Any:
    """The associated function P_n^m(x) for m >= 0, where root is sqrt(1 - x^2): a power of it times a polynomial."""
    factor = (-2.0) ** m * ops.poch(0.5, m)
    return factor * ops.power(root, m) * ops.eval_gegenbauer(n - m, m + 0.5, x)


def legendre_p(n: Any, z: Any, *, diff_n: int = 0) -> Any:
    """SciPy's legendre_p: a Legendre polynomial, with an axis in front for its derivatives."""
    if diff_n:
        raise MissingRule(
            "`scipy.special.legendre_p` with diff_n= is not covered: chainrule has no rule for it",
            "Differentiate eval_legendre with cr.jacfwd, or write its derivative with scipy.special.eval_gegenbauer.",
        )
    return np.expand_dims(ops.eval_legendre(n, as_array(z)), 0)


def _lpmv(m: Any, v: Any, x: Any) -> Any:
    m = _orders(m)
    return _legendre(m, v, x, ops.sqrt((1 - x) * (1 + x)))


def _orders(m: Any) -> Any:
    if np.any(np.asarray(m) < 0):
        raise MissingRule(
            "`scipy.special.lpmv` of a negative order is not covered: chainrule has no rule for it",
            "Write it by the positive order: P_n^-m = (-1)^m (n - m)! / (n + m)! P_n^m.",
        )
    return np.asarray(m)


def sph_harm_y(n: Any, m: Any, theta: Any, phi: Any, *, diff_n: int = 0) -> Any:
    """SciPy's sph_harm_y: spherical harmonics by the polar and the azimuthal angle, smooth at the poles too."""
    if diff_n:
        raise MissingRule(
            "`scipy.special.sph_harm_y` with diff_n= is not covered: chainrule has no rule for it",
            "Call it without, and differentiate that.",
        )
    n, m = np.asarray(n), np.asarray(m)
    size = np.abs(m)
    norm = ops.sqrt((2 * n + 1) / (4 * math.pi) / ops.poch(n - size + 1.0, 2.0 * size))
    theta = as_array(theta)
    along = norm * np.where(m < 0, (-1.0) ** size, 1.0) * _legendre(size, n, ops.cos(theta), ops.sin(theta))
    return along * ops.exp(1j * m * phi)


# Our functions for ufuncs that are called by no name of scipy.special, or are no primitives.
_BEHIND: dict[str, Callable[..., Any]] = {"_lambertw": lambda z, k, tol: ops.lambertw(k, z), "lpmv": _lpmv}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(logsumexp, softmax, log_softmax, polygamma, multigammaln, zeta, softplus, sinc),
        *(comb, perm, factorial, diric, legendre_p, sph_harm_y),
    )
}
for _name, _function in _FUNCTIONS.items():
    intercepts("scipy.special", _name)(_function)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = covered(name)
    if found is not None and name not in _FUNCTIONS:
        return found
    import scipy.special

    return guarded(scipy.special, name)
