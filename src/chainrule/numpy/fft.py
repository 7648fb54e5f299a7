"""numpy.fft, differentiable: arrays are cut or padded to the length asked for, then transformed by fft, rfft or irfft."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import ops
from chainrule.numpy.arguments import as_array, axis_index, part
from chainrule.prims.fft import OPPOSITE, Norm
from chainrule.prims.matrices import conjugated
from chainrule.trace.numpy_protocols import implements

__all__ = [
    "fft",
    "fft2",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftn",
]


def __getattr__(name: str) -> Any:
    return getattr(np.fft, name)


def _norm(norm: str | None) -> Norm:
    if norm is None:
        return "backward"
    for known in OPPOSITE.values():
        if norm == known:
            return known
    raise ValueError(f'Invalid norm value {norm}; should be "backward","ortho" or "forward".')


def _length(n: Any, otherwise: int) -> int:
    length = otherwise if n is None else operator.index(n)
    if length < 1:
        raise ValueError(f"Invalid number of FFT data points ({length}) specified.")
    return length


def _of_length(a: Any, n: int, axis: int) -> Any:
    """a cut, or padded with zeros, to n elements along an axis."""
    if a.shape[axis] > n:
        return part(a, axis, 0, n)
    if a.shape[axis] < n:
        key = (slice(None),) * axis + (slice(0, a.shape[axis]),)
        return ops.place(a, key=key, shape=(*a.shape[:axis], n, *a.shape[axis + 1 :]))
    return a


def _lengths_and_axes(a: Any, s: Any, axes: Any) -> tuple[list[int | None], list[int]]:
    """Lengths (None: as it is) and axes of an n-dimensional transform."""
    if axes is None:
        axes = range(-a.ndim if s is None else -len(s), 0)
    numbers = [axis_index(i, a.ndim) for i in axes]
    lengths: list[int | None] = [None] * len(numbers) if s is None else [None if n == -1 else n for n in s]
    if len(lengths) != len(numbers):
        raise ValueError("Shape and axes have different lengths.")
    return lengths, numbers


# ---- complex transforms


def _transform(a: Any, s: Sequence[int | None], axes: Sequence[int], norm: Any, *, inverse: bool) -> Any:
    if len(set(axes)) < len(axes):
        # An axis that is named twice is transformed twice, last first.
        for n, axis in zip(reversed(s), reversed(axes), strict=True):
            a = _transform(a, [n], [axis], norm, inverse=inverse)
        return a
    for n, axis in zip(s, axes, strict=True):
        a = _of_length(a, _length(n, a.shape[axis]), axis)
    return ops.fft(a, axes=tuple(axes), norm=_norm(norm), inverse=inverse)


@implements(np.fft.fft)
def fft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's fft."""
    a = as_array(a)
    return _transform(a, [n], [axis_index(axis, a.ndim)], norm, inverse=False)


@implements(np.fft.ifft)
def ifft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's ifft."""
    a = as_array(a)
    return _transform(a, [n], [axis_index(axis, a.ndim)], norm, inverse=True)


@implements(np.fft.fftn)
def fftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """NumPy's fftn."""
    a = as_array(a)
    return _transform(a, *_lengths_and_axes(a, s, axes), norm, inverse=False)


@implements(np.fft.ifftn)
def ifftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """NumPy's ifftn."""
    a = as_array(a)
    return _transform(a, *_lengths_and_axes(a, s, axes), norm, inverse=True)


@implements(np.fft.fft2)
def fft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """NumPy's fft2."""
    return fftn(a, s, axes, norm)


@implements(np.fft.ifft2)
def ifft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """NumPy's ifft2."""
    return ifftn(a, s, axes, norm)


# ---- real transforms


@implements(np.fft.rfft)
def rfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's rfft."""
    a = as_array(a)
    if a.dtype.kind == "c":
        raise TypeError("rfft takes real arrays; this one is complex")
    at = axis_index(axis, a.ndim)
    return ops.rfft(_of_length(a, _length(n, a.shape[at]), at), axis=at, norm=_norm(norm))


@implements(np.fft.irfft)
def irfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's irfft."""
    a = as_array(a)
    at = axis_index(axis, a.ndim)
    n = _length(n, 2 * (a.shape[at] - 1))
    return ops.irfft(_of_length(a, n // 2 + 1, at), n=n, axis=at, norm=_norm(norm))


@implements(np.fft.rfftn)
def rfftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """NumPy's rfftn: real along the last of the axes, then complex along the others."""
    a = as_array(a)
    lengths, numbers = _lengths_and_axes(a, s, axes)
    half = rfft(a, lengths[-1], numbers[-1], norm)
    return _transform(half, lengths[:-1], numbers[:-1], norm, inverse=False) if numbers[:-1] else half


@implements(np.fft.irfftn)
def irfftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """NumPy's irfftn: complex along all axes but the last, then real along that."""
    a = as_array(a)
    lengths, numbers = _lengths_and_axes(a, s, axes)
    if numbers[:-1]:
        a = _transform(a, lengths[:-1], numbers[:-1], norm, inverse=True)
    last = a.shape[numbers[-1]] if s is not None and s[-1] == -1 else lengths[-1]
    return irfft(a, last, numbers[-1], norm)


@implements(np.fft.rfft2)
def rfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """NumPy's rfft2."""
    return rfftn(a, s, axes, norm)


@implements(np.fft.irfft2)
def irfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """NumPy's irfft2."""
    return irfftn(a, s, axes, norm)


@implements(np.fft.hfft)
def hfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's hfft: the real spectrum of a signal with Hermitian symmetry."""
    return irfft(conjugated(as_array(a)), n, axis, OPPOSITE[_norm(norm)])


@implements(np.fft.ihfft)
def ihfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """NumPy's ihfft."""
    return ops.conjugate(rfft(a, n, axis, OPPOSITE[_norm(norm)]))


# ---- shifts


def _rolled(x: Any, axes: Any, *, back: bool) -> Any:
    """x rolled by half its extent along axes."""
    x = as_array(x)
    for axis in range(x.ndim) if axes is None else ((axes,) if isinstance(axes, int) else axes):
        at = axis_index(axis, x.ndim)
        n = x.shape[at]
        split = n // 2 if back else n - n // 2
        if 0 < split < n:
            x = ops.concatenate(part(x, at, split, None), part(x, at, 0, split), axis=at)
    return x


@implements(np.fft.fftshift)
def fftshift(x: Any, axes: Any = None) -> Any:
    """NumPy's fftshift."""
    return _rolled(x, axes, back=False)


@implements(np.fft.ifftshift)
def ifftshift(x: Any, axes: Any = None) -> Any:
    """NumPy's ifftshift."""
    return _rolled(x, axes, back=True)
