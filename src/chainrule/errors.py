"""Every public exception and warning, each with the smallest example that raises it and the repair.

An error says what happened, where in the user's code, and what to write instead. `user_location` finds the where: the innermost
frame that belongs neither to chainrule nor to NumPy, SciPy, optree or Python's own library.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Protocol


def _folder_of(file: str) -> str:
    """The folder of a file with a separator at its end, so that the names of its neighbours do not begin with it."""
    return os.path.join(os.path.dirname(file), "")


_PACKAGE = _folder_of(__file__)
_STANDARD = _folder_of(os.__file__)
_LIBRARIES = ("numpy", "scipy", "optree")
_INTERACTIVE = ("<stdin>", "<ipython", "<doctest", "<string>")


@functools.cache
def is_library(filename: str) -> bool:
    """Whether a file of code belongs to chainrule, to Python, or to a library that calls back into it."""
    if filename.startswith("<"):
        return not filename.startswith(_INTERACTIVE)
    if filename.endswith((".pyx", ".pxd")):
        return True
    if filename.startswith(_STANDARD) and not {"site-packages", "dist-packages"} & set(filename.split(os.sep)):
        return True
    files = [sys.modules[name].__file__ for name in _LIBRARIES if name in sys.modules]
    return filename.startswith((_PACKAGE, *(_folder_of(file) for file in files if file)))


def user_frame() -> FrameType | None:
    """The innermost frame of the user's own code, or None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_location() -> str:
    """`file:line` of the innermost frame of the user's own code; `<unknown>` where there is none."""
    frame = user_frame()
    return "<unknown>" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def user_operation() -> str:
    """The bytecode operation at which the innermost frame of the user's own code is, such as "STORE_SUBSCR" for `a[i] = v`."""
    frame = user_frame()
    return "" if frame is None else dis.opname[frame.f_code.co_code[frame.f_lasti]]


def traceback_location(traceback: TracebackType | None) -> str:
    """`file:line` of the user's innermost code in a traceback; where there is none, of the code that runs now."""
    found = None
    while traceback is not None:
        if not is_library(traceback.tb_frame.f_code.co_filename):
            found = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found or user_location()


class Watch(Protocol):
    """What is told of errors while a thread traces."""

    def begin(self, error: ChainruleError) -> None:
        """An error was made, where it is about to be raised."""

    def end(self, error: ChainruleError) -> None:
        """Nobody holds the error any more."""


class Watched(threading.local):
    """Where a thread that traces says who watches its errors."""

    by: Watch | None = None


watched = Watched()


class ChainruleError(Exception):
    """Base of every error that chainrule raises on purpose."""

    def __init__(self, what: str, repair: str = "", *, where: str | None = None) -> None:
        self.what = what
        self.repair = repair
        self.where = user_location() if where is None else where
        lines = [f"{what} (at {self.where})"]
        if repair:
            lines.append(f"  {repair}")
        super().__init__("\n".join(lines))
        if watched.by is not None:
            watched.by.begin(self)

    def __del__(self) -> None:
        if watched.by is not None:
            watched.by.end(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), where=self.where), (self.what, self.repair), self.__dict__


class TraceError(ChainruleError):
    """A traced value met something that would lose its derivative.

    It is no TypeError on purpose: NumPy answers a TypeError from `float()` with one of its own, and the repair would be lost.

    Smallest example: `cr.grad(lambda x: float(x) ** 2)(1.0)`. Repair: stay in NumPy (`x ** 2`), or say `cr.value(x)` where a
    constant is meant.
    """


class MissingRule(ChainruleError, NotImplementedError):
    """An operation, or its derivative in one argument, has no rule.

    Smallest example: `cr.grad(lambda x: np.nextafter(x, 1.0))(0.5)`. Repair: use covered operations, or declare a primitive with
    `cr.primitive`, or give the derivative with `cr.custom_jvp` or `cr.custom_vjp`.
    """


class DifferentiationError(ChainruleError, TypeError):
    """The derivative that was asked for does not exist as asked.

    Smallest example: `cr.grad(lambda x: x)(np.ones(3))`. Repair: `cr.jacobian`, or reduce the output to a scalar.
    """


class IntegerInput(DifferentiationError):
    """A derivative was asked for with respect to integers or booleans, which have none.

    Smallest example: `cr.grad(lambda x: x * x)(2)`. Repair: `2.0`, or `x.astype(float)`.
    """


class ShapeError(ChainruleError, ValueError):
    """Tangents, cotangents or batches do not have the shapes of what they belong to.

    Smallest example: `cr.jvp(np.sin, (np.ones(3),), (np.ones(2),))`. Repair: a tangent has its primal's shape.
    """


class TreeError(ChainruleError, ValueError):
    """Two trees that must agree do not.

    Smallest example: `cr.jvp(f, (x, y), (tx,))`. Repair: give one tangent a primal, in a tree of the same structure.
    """


class ProgramError(ChainruleError, ValueError):
    """A Program is not well formed: a type that does not follow from its arguments, or a variable used before it is made."""
