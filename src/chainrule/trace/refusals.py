"""Errors of ours that were raised while a thread traced, and that another error hides.

Compiled code that calls Python may drop what that raised: SciPy's root finders ask a traced value for its number, go on without
one, and complain of the numbers in the end. And NumPy answers some errors with one of its own. What the user has to know is the
first error, so it takes the place of what leaves the trace, unless the user's own code raised that, or caught the first error
and went on, which was meant. A library may go on too, and raise errors of its own; but where its operator gave up because of the
first error, and Python says that there is no such operator, that is told.

Whether an error was caught is read off its traceback when the last reference to it goes. Its outermost frame is that from which
it went into compiled code, which it left the frame by; or that which caught it, which has gone on since.
"""

from __future__ import annotations

import dis
import sys
import weakref
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType

from chainrule.errors import ChainruleError, is_library

# More errors than these are not remembered: the first are those to tell.
_MOST = 16
_RAISES = frozenset(("RAISE_VARARGS", "RERAISE"))


class _Noted:
    """An error that was made: its words, and where every frame on the stack was then."""

    __slots__ = ("again", "alive", "by_library", "stack")

    def __init__(self, error: ChainruleError) -> None:
        self.by_library = False
        self.again = type(error), error.what, error.repair, error.where
        self.alive = weakref.ref(error)
        self.stack: dict[int, int] = {}
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            self.stack[id(frame)] = frame.f_lasti
            frame = frame.f_back

    def was_under(self, traceback: TracebackType) -> bool:
        """Whether another error came from the same call of compiled code, or from the same call of a library's function."""
        same = False
        for frame, at in _entries(traceback):
            before = self.stack.get(id(frame))
            if before is None:
                return same and not self.by_library
            same = before == at or (is_library(frame.f_code.co_filename) and not self.by_library)
        return same


class Refusals:
    """The errors that were made since a thread began to trace; they are not held, since they hold the frames they went through."""

    __slots__ = ("_alive", "_dropped")

    def __init__(self) -> None:
        self._alive: dict[int, _Noted] = {}
        self._dropped: list[_Noted] = []

    def clear(self) -> None:
        """Forget all: nothing is traced any more."""
        if self._alive or self._dropped:
            self._alive.clear()
            self._dropped.clear()

    def begin(self, error: ChainruleError) -> None:
        """Remember an error that is about to be raised."""
        if len(self._alive) + len(self._dropped) < _MOST:
            self._alive[id(error)] = _Noted(error)

    def end(self, error: ChainruleError) -> None:
        """Forget an error that the user's code has caught and dropped, and keep one that compiled or a library's code has."""
        noted = self._alive.pop(id(error), None)
        if noted is None:
            return
        catcher = _catcher(error)
        noted.by_library = catcher is not None and is_library(catcher.f_code.co_filename)
        if catcher is None or noted.by_library:
            self._dropped.append(noted)

    def behind(self, error: BaseException) -> ChainruleError | None:
        """The error that another one hides, which leaves the trace."""
        if isinstance(error, ChainruleError) or error.__traceback__ is None or _is_raised_by_user(error):
            return None
        told = _told(error)
        if told is not None:
            return told
        for noted in (*self._dropped, *self._alive.values()):
            alive = noted.alive()
            if (alive is None or _catcher(alive) is None) and noted.was_under(error.__traceback__):
                kind, what, repair, where = noted.again
                return kind(what, repair, where=where)
        return None


def _told(error: BaseException) -> ChainruleError | None:
    """The error of ours that compiled or a library's code answered with another, which names it."""
    behind = error.__cause__ or error.__context__
    while behind is not None and not _is_raised_by_user(behind):
        if isinstance(behind, ChainruleError):
            by = _catcher(behind)
            return behind if by is None or is_library(by.f_code.co_filename) else None
        behind = behind.__cause__ or behind.__context__
    return None


def _catcher(error: ChainruleError) -> FrameType | None:
    """The frame that has caught an error and gone on; None where it went into compiled code."""
    for frame, at in _entries(error.__traceback__):
        now = frame.f_lasti
        return None if now == at or _operation(frame.f_code, now) == "RERAISE" else frame
    return None


def _is_raised_by_user(error: BaseException) -> bool:
    """Whether an error comes from a `raise` in the user's code."""
    *_, last = None, *_entries(error.__traceback__)
    if last is None:
        return False
    frame, at = last
    return not is_library(frame.f_code.co_filename) and _operation(frame.f_code, at) in _RAISES


def _entries(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """The frames that an error went through, and where each was, outermost first."""
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lasti
        traceback = traceback.tb_next


def _operation(code: CodeType, at: int) -> str:
    return dis.opname[code.co_code[at]]
