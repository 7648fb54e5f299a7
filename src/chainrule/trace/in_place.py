"""`a += t` for a plain array a and a traced t: the result is traced, and Python binds it to the name.

NumPy would write into the array that a names. That cannot be followed, and makes no difference as long as nobody else looks at
the array: not by another name, not through a view of it, not the caller who passed it in. Whether somebody does is read off its
reference count, against that of an array which has one name only. So `a += t` is either right or an error, and `out=` is an error.
"""

from __future__ import annotations

import dis
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from chainrule.errors import TraceError
from chainrule.ir.primitive import is_tracer

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_BINARY_OP = dis.opmap["BINARY_OP"]
# Of BINARY_OP's arguments, those from here on are the operators that assign.
_FIRST_IN_PLACE = 13
# An array that nothing but a.base and the argument of getrefcount refer to.
_BASE_ALONE = 2


class _Local(threading.local):
    probing = False
    count = 0


_local = _Local()


def updated(ufunc: Any, out: Any, probe: Any, compute: Callable[[], Any]) -> Any:
    """What `a op= t` gives for a plain array `a`, the sole member of `out`; raises for every other `out`."""
    target = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    count = sys.getrefcount(target)
    if _local.probing:
        _local.count = count
        return target
    if is_tracer(target) or not isinstance(target, np.ndarray) or not _is_assigning_operator():
        raise TraceError(
            f"`{ufunc.__name__}(..., out=...)` on traced values: writing into an array that exists already cannot be followed",
            "Use the value it returns, without out=.",
        )
    if count > _count_of_one_name(probe) or _is_view(target):
        raise TraceError(
            "a plain array that something else refers to, or shares memory with, is updated in place with a traced value, "
            "which only one of its names would see",
            "Write `x = x + y` for `x += y`, which makes a new array; or copy it first, `x = x.copy()`.",
        )
    return _fitted(ufunc, compute(), target)


def _fitted(ufunc: Any, result: Any, target: Any) -> Any:
    """The result in the type of the array that it takes the place of, by NumPy's rules for `op=`."""
    if result.shape != target.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {target.shape} doesn't match the shape {result.shape}"
        )
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast ufunc '{ufunc.__name__}' output from {result.dtype!r} to {target.dtype!r} with casting rule 'same_kind'"
        )
    return result if result.dtype == target.dtype else result.astype(target.dtype)


def _is_view(target: Any) -> bool:
    """Whether an array's memory belongs to another one that somebody can see."""
    if target.base is None:
        return False
    return not isinstance(target.base, np.ndarray) or sys.getrefcount(target.base) > _BASE_ALONE


def _is_assigning_operator() -> bool:
    """Whether the innermost Python code outside chainrule is at an operator such as +=."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return False
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at] == _BINARY_OP and code[at + 1] >= _FIRST_IN_PLACE


def _count_of_one_name(tracer: Any) -> int:
    """The reference count that `updated` sees of an array with one name: found by trying, on the same path through NumPy."""
    _local.probing = True
    try:
        a = np.zeros(tracer.shape)
        a += tracer
    finally:
        _local.probing = False
    return _local.count
