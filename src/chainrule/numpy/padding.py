"""np.pad in all its modes but `empty` and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import MissingRule, TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.numpy.arguments import as_array, in_dtype, part
from chainrule.numpy.indexing import moved
from chainrule.trace.numpy_protocols import implements

Widths = list[tuple[int, int]]


def _pairs(given: Any, ndim: int, default: Any = None) -> list[tuple[Any, Any]]:
    """(before, after) for every axis, from any of the forms NumPy takes; traced values stay."""
    if given is None:
        return [(default, default)] * ndim
    if isinstance(given, dict):
        return [_pair(given.get(i, given.get(i - ndim, 0))) for i in range(ndim)]
    if np.ndim(given) == 0:
        return [(given, given)] * ndim
    pairs = [_pair(p) for p in given]
    if np.ndim(given) == 1:
        pairs = [(given[0], given[-1])]
    return pairs * ndim if len(pairs) == 1 else pairs


def _pair(p: Any) -> tuple[Any, Any]:
    return (p, p) if np.ndim(p) == 0 else (p[0], p[-1])


def _checked(widths: Any, ndim: int) -> Widths:
    pairs = [(int(b), int(a)) for b, a in _pairs(widths, ndim)]
    if len(pairs) != ndim:
        raise ValueError(f"operands could not be broadcast together with remapped shapes: pad_width for {ndim} axes")
    if any(w < 0 for pair in pairs for w in pair):
        raise ValueError("index can't contain negative values")
    return pairs


def _each_side(a: Any, widths: Widths, edge: Callable[[Any, int, int, bool], Any]) -> Any:
    """a with what `edge(a, axis, width, is_after)` gives before and after, one axis after the other."""
    for axis, (before, after) in enumerate(widths):
        parts = [a]
        if before:
            parts.insert(0, edge(a, axis, before, False))
        if after:
            parts.append(edge(a, axis, after, True))
        if len(parts) > 1:
            a = ops.concatenate(*parts, axis=axis)
    return a


def _block(value: Any, a: Any, axis: int, width: int) -> Any:
    """A value spread over the padding of one side."""
    block = ops.broadcast_to(as_array(value), shape=(*a.shape[:axis], width, *a.shape[axis + 1 :]))
    return block if block.dtype == a.dtype else block.astype(a.dtype)


def _constant(a: Any, widths: Widths, constant_values: Any = 0) -> Any:
    if np.ndim(constant_values) == 0 and not is_tracer(constant_values) and constant_values == 0:
        key = tuple(slice(b, b + n) for (b, _), n in zip(widths, a.shape, strict=True))
        return ops.place(a, key=key, shape=tuple(b + n + w for (b, w), n in zip(widths, a.shape, strict=True)))
    values = _pairs(constant_values, a.ndim)
    return _each_side(a, widths, lambda x, axis, width, after: _block(values[axis][after], x, axis, width))


def _linear_ramp(a: Any, widths: Widths, end_values: Any = 0) -> Any:
    ends = _pairs(end_values, a.ndim)

    def ramp(x: Any, axis: int, width: int, after: bool) -> Any:
        n = x.shape[axis]
        edge = part(x, axis, n - 1, n) if after else part(x, axis, 0, 1)
        steps = np.arange(width).reshape((-1,) + (1,) * (x.ndim - axis - 1)) / width
        end = ends[axis][after]
        rising = end + steps * (edge - end)
        rising = in_dtype(rising, x.dtype)
        return part(rising, axis, None, None, -1) if after else rising

    return _each_side(a, widths, ramp)


def _statistic(statistic: Callable[..., Any]) -> Callable[..., Any]:
    def pad_by(a: Any, widths: Widths, stat_length: Any = None) -> Any:
        lengths = _pairs(stat_length, a.ndim)
        sizes = a.shape

        def edge(x: Any, axis: int, width: int, after: bool) -> Any:
            n = sizes[axis]
            length = n if lengths[axis][after] is None else min(int(lengths[axis][after]), n)
            if length <= 0:
                raise ValueError("stat_length of 0 yields no value for padding")
            chosen = part(x, axis, n - length, n) if after else part(x, axis, 0, length)
            return _block(statistic(chosen, axis=axis, keepdims=True), x, axis, width)

        return _each_side(a, widths, edge)

    return pad_by


def _by_numbers(mode: str) -> Callable[..., Any]:
    """Modes that copy elements: NumPy pads their numbers."""

    def pad_by(a: Any, widths: Widths, reflect_type: str = "even") -> Any:
        if reflect_type != "even":
            raise MissingRule(
                f"`numpy.pad` with mode={mode!r} and reflect_type={reflect_type!r} is not covered",
                "Write it as 2 * edge - np.pad(x, ..., reflect_type='even').",
            )
        return moved(a, lambda numbers: np.pad(numbers, widths, mode=mode))  # type: ignore[call-overload]

    return pad_by


_MODES: dict[str, Callable[..., Any]] = {
    "constant": _constant,
    "linear_ramp": _linear_ramp,
    "maximum": _statistic(np.max),
    "minimum": _statistic(np.min),
    "mean": _statistic(np.mean),
    "median": _statistic(np.median),
    **{mode: _by_numbers(mode) for mode in ("edge", "reflect", "symmetric", "wrap")},
}


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    """NumPy's pad."""
    a = as_array(array)
    if callable(mode):
        raise TraceError(
            "np.pad with a function as its mode writes into an array, which a trace cannot follow",
            "Join the padding to the array with np.concatenate.",
        )
    rule = _MODES.get(mode)
    if rule is None:
        raise ValueError(f"mode '{mode}' is not supported on traced values")
    return rule(a, _checked(pad_width, a.ndim), **options)
