"""Polynomials as NumPy's poly functions hold them, coefficients from the highest power to the constant; and what the classes of
numpy.polynomial, which hold them the other way round, do by writing into arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import MissingRule
from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, decide, in_dtype
from chainrule.numpy.joining import concatenate
from chainrule.numpy.numerical import convolve
from chainrule.trace.intercept import intercepts
from chainrule.trace.numpy_protocols import implements


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """NumPy's polyval: Horner's scheme."""
    p, x = as_array(p), as_array(x)
    y: Any = np.zeros(x.shape, x.dtype)[()]
    for k in range(p.shape[0]):
        y = y * x + p[k]
    return y


def _padded(a: Any, n: int) -> Any:
    return a if a.size == n else concatenate([np.zeros(n - a.size, a.dtype), a])


def _pair(a1: Any, a2: Any) -> tuple[Any, Any]:
    a, b = (np.atleast_1d(as_array(a)) for a in (a1, a2))
    n = max(a.size, b.size)
    return _padded(a, n), _padded(b, n)


@implements(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    """NumPy's polyadd."""
    a, b = _pair(a1, a2)
    return a + b


@implements(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    """NumPy's polysub."""
    a, b = _pair(a1, a2)
    return a - b


@implements(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    """NumPy's polymul."""
    return convolve(a1, a2)


@implements(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """NumPy's polyder."""
    if m < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    p = as_array(p)
    for _ in range(m):
        p = p[:-1] * np.arange(p.size - 1, 0, -1)
    return p


@implements(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """NumPy's polyint."""
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    constants = np.zeros(m) if k is None else np.atleast_1d(as_array(k))
    if constants.size == 1 and m > 1:
        constants = constants * np.ones(m)
    if constants.size < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    p = as_array(p)
    for i in range(m):
        p = concatenate([p / np.arange(p.size, 0, -1), constants[i : i + 1]])
    return p


@implements(np.polydiv)
def polydiv(u: Any, v: Any) -> tuple[Any, Any]:
    """NumPy's polydiv: quotient and remainder, of as many coefficients as the degrees leave."""
    u, v = (np.atleast_1d(as_array(a)) + 0.0 for a in (u, v))
    m, n = u.size - 1, v.size - 1
    if m < n:
        return np.zeros(1, np.result_type(u.dtype, v.dtype)), u
    quotient = []
    for _ in range(m - n + 1):
        q = u[0] / v[0]
        quotient.append(q)
        u = concatenate([u[1 : n + 1] - q * v[1:], u[n + 1 :]])
    return np.stack(quotient), u if u.size else np.zeros(1, u.dtype)


@implements(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    """NumPy's poly of zeros: the coefficients of the polynomial that has them."""
    zeros = np.atleast_1d(as_array(seq_of_zeros))
    if zeros.ndim != 1:
        raise ValueError("poly of a traced matrix is not covered: take the eigenvalues first")
    zeros = in_dtype(zeros, np.mintypecode(zeros.dtype.char))
    out: Any = np.ones(1, zeros.dtype)
    for k in range(zeros.size):
        out = convolve(out, np.stack([np.ones((), zeros.dtype), ops.negative(zeros[k])]))
    return out


@implements(np.polyfit)
def polyfit(x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """NumPy's polyfit: least squares, differentiable in places, values and weights."""
    if full or cov or np.ndim(deg):
        raise MissingRule(
            "`numpy.polyfit` with full=, cov= or a list of degrees is not covered",
            "Solve np.vander(x) with np.linalg.lstsq.",
        )
    x, y = as_array(x) + 0.0, as_array(y) + 0.0
    left = np.vander(x, int(deg) + 1)
    if w is not None:
        w = as_array(w) + 0.0
        left, y = left * w[:, None], y * (w[:, None] if y.ndim == 2 else w)
    scale = np.sqrt(np.sum(left * left, axis=0))
    found = np.linalg.lstsq(left / scale, y, len(x) * np.finfo(x.dtype).eps if rcond is None else rcond)[0]
    return np.transpose(np.transpose(found) / scale)


@implements(np.roots)
def roots(p: Any) -> Any:
    """NumPy's roots: the eigenvalues of the companion matrix; which leading and last coefficients are zero is decided now."""
    p = np.atleast_1d(as_array(p))
    if p.ndim != 1:
        raise ValueError("Input must be a rank-1 array.")
    kept = np.flatnonzero(decide(ops.not_equal(p, 0)))
    if not kept.size:
        return np.array([])
    at_zero = p.size - 1 - int(kept[-1])
    p = p[int(kept[0]) : int(kept[-1]) + 1] + 0.0
    n = p.size - 1
    if n == 0:
        return np.zeros(at_zero, p.dtype)
    below = np.eye(n - 1, n, dtype=p.dtype)
    found = np.linalg.eigvals(concatenate([(-p[1:] / p[0])[None, :], below]))
    return concatenate([found, np.zeros(at_zero, found.dtype)]) if at_zero else found


# ---- numpy.polynomial: sums in every basis, derivatives and integrals in that of powers

_SERIES = "numpy.polynomial.polyutils"


def _ended(c: Any, n: int) -> Any:
    return c if c.size == n else concatenate([c, np.zeros(n - c.size, c.dtype)])


def _sum_of_series(sign: int, c1: Any, c2: Any) -> Any:
    from numpy.polynomial.polyutils import as_series, trimseq

    a, b = as_series([c1, c2])
    n = max(a.size, b.size)
    return trimseq(_ended(a, n) + sign * _ended(b, n))


@intercepts(_SERIES, "_add")
def series_add(c1: Any, c2: Any) -> Any:
    """The sum of two series."""
    return _sum_of_series(1, c1, c2)


@intercepts(_SERIES, "_sub")
def series_subtract(c1: Any, c2: Any) -> Any:
    """The difference of two series."""
    return _sum_of_series(-1, c1, c2)


@intercepts("numpy.polynomial.polynomial:Polynomial", "_der")
def power_series_derivative(c: Any, m: int = 1, scl: Any = 1, axis: int = 0) -> Any:
    """polyder of numpy.polynomial, of one polynomial."""
    for _ in range(m):
        c = scl * (c[1:] * np.arange(1, c.size)) if c.size > 1 else 0.0 * c
    return c


@intercepts("numpy.polynomial.polynomial:Polynomial", "_int")
def power_series_integral(c: Any, m: int = 1, k: Any = (), lbnd: Any = 0, scl: Any = 1, axis: int = 0) -> Any:
    """polyint of numpy.polynomial, of one polynomial: zero at lbnd, plus a constant each time."""
    constants = list(k) if np.iterable(k) else [k]
    constants += [0.0] * (m - len(constants))
    for i in range(m):
        c = concatenate([np.zeros(1), scl * c / np.arange(1, c.size + 1)])
        start = polyval(c[::-1], lbnd)
        c = concatenate([np.reshape(constants[i] - start, (1,)), c[1:]])
    return c
