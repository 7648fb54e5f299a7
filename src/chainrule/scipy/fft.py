"""scipy.fft, differentiable: the transforms that NumPy has too, called by module (`scipy.fft.rfft(x)`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.trace.intercept import intercepts

_OF_ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
_OF_TWO_AXES = ("fft2", "ifft2", "rfft2", "irfft2")
_OF_AXES = ("fftn", "ifftn", "rfftn", "irfftn")
_ORDERS = ("fftshift", "ifftshift")


def _one_axis(function: Any) -> Callable[..., Any]:
    def transform(
        x: Any,
        n: int | None = None,
        axis: int = -1,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: None = None,
    ) -> Any:
        return function(np.asarray(x), n, axis, norm)

    return transform


def _several_axes(function: Any, default: Any) -> Callable[..., Any]:
    def transform(
        x: Any,
        s: Any = None,
        axes: Any = default,
        norm: str | None = None,
        overwrite_x: bool = False,
        workers: int | None = None,
        *,
        plan: None = None,
    ) -> Any:
        x = np.asarray(x)
        if axes is None and s is not None:
            axes = tuple(range(-len(s), 0))
        return function(x, s, axes, norm)

    return transform


for _name in _OF_ONE_AXIS:
    intercepts("scipy.fft", _name)(_one_axis(getattr(np.fft, _name)))
for _name in _OF_TWO_AXES:
    intercepts("scipy.fft", _name)(_several_axes(getattr(np.fft, _name), (-2, -1)))
for _name in _OF_AXES:
    intercepts("scipy.fft", _name)(_several_axes(getattr(np.fft, _name), None))
for _name in _ORDERS:
    intercepts("scipy.fft", _name)(getattr(np.fft, _name))
