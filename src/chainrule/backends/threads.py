"""A pool of threads for large loops. The thread that calls always works itself; the others help where they are free.

A job is a function that takes pieces of some work until none is left, called by every thread at once. Whoever calls never depends
on a helper: helpers that have not begun when the work is used up are not waited for. So calls from many threads at once, and
calls within calls, share the pool without waiting for each other.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

VARIABLE = "CHAINRULE_THREADS"


class _Job:
    """One piece of work shared by several threads."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work: Callable[[], object] | None = work
        self._lock = threading.Lock()
        self._helping = 0
        self._idle = threading.Lock()  # held while the caller has to wait
        self._idle.acquire()

    def help(self) -> None:
        """Take part, unless the work is used up."""
        with self._lock:
            work = self.work
            if work is None:
                return
            self._helping += 1
        try:
            work()
        finally:
            with self._lock:
                self._helping -= 1
                if self._helping == 0 and self.work is None:
                    self._idle.release()

    def close(self) -> None:
        """Let nobody begin any more, and wait for those that have; an interrupt is raised when they are done."""
        with self._lock:
            self.work = None
        interrupt: BaseException | None = None
        while self._helping:
            try:
                self._idle.acquire()  # an interrupt may come before it or after it
            except BaseException as error:  # noqa: BLE001 - the helpers write to memory that the caller will free
                interrupt = error
        if interrupt is not None:
            raise interrupt


class _Pool:
    """Helping threads that wait for jobs."""

    def __init__(self, helpers: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.helpers = 0
        with suppress(RuntimeError):  # no more threads on this system, or none any more at the interpreter's end
            for k in range(helpers):
                threading.Thread(target=_serve, args=(self._jobs,), name=f"chainrule-{k + 1}", daemon=True).start()
                self.helpers += 1

    def announce(self, job: _Job, most: int) -> None:
        """Ask helpers for help, at most so many."""
        for _ in range(min(most, self.helpers)):
            self._jobs.put(job)

    def end(self) -> None:
        """Let the helpers go when they have done what they were asked for."""
        for _ in range(self.helpers):
            self._jobs.put(None)


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    job = jobs.get()
    while job is not None:
        job.help()
        job = None  # while waiting, nothing of the last one is kept alive
        job = jobs.get()


class _State:
    """How many threads there are to be, and the pool once it is needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count: int | None = None
        self.pool: _Pool | None = None


_state = _State()


def _after_fork() -> None:
    """A forked process has none of the threads, and may have inherited locks that nobody will release."""
    _state.lock = threading.Lock()
    _state.pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def set_threads(n: int) -> None:
    """Let native code run its large loops on n threads, the calling one included.

    The number holds for the whole process, from the next call of a compiled function on. 1 is the default, as in NumPy: then no
    other thread is ever started. The environment variable `CHAINRULE_THREADS` sets another default. Results do not depend on the
    number of threads, to the last bit: what is computed together is decided by shapes alone.

    It is an error if n is less than 1.

    >>> set_threads(2)
    >>> get_threads()
    2
    >>> set_threads(1)
    """
    count = _checked(n, "set_threads(n)")
    with _state.lock:
        if _state.pool is not None and count != _state.count:
            _state.pool.end()
            _state.pool = None
        _state.count = count


def get_threads() -> int:
    """On how many threads native code runs its large loops; see `set_threads`.

    >>> get_threads()
    1
    """
    if _state.count is None:
        text = os.environ.get(VARIABLE, "").strip() or "1"
        try:
            _state.count = _checked(int(text), VARIABLE)
        except ValueError:
            raise ValueError(f"{VARIABLE} is a whole number of at least 1, not {text!r}") from None
    return _state.count


def _checked(n: int, what: str) -> int:
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"{what} takes a whole number, not a {type(n).__name__}") from None
    if count < 1:
        raise ValueError(f"{what}: there is at least 1 thread, the calling one, so not {count}")
    return count


def share(work: Callable[[], object], pieces: int) -> None:
    """Call `work` on this thread and on those that are free, at most one for each piece; return when it has returned everywhere.

    `work` takes pieces until none is left. It must not raise.
    """
    helpers = min(get_threads(), pieces) - 1
    if helpers < 1:
        work()
        return
    job = _Job(work)
    _pool().announce(job, helpers)
    try:
        work()
    finally:
        job.close()


def _pool() -> _Pool:
    pool = _state.pool
    if pool is None:
        with _state.lock:
            pool = _state.pool
            if pool is None:
                pool = _state.pool = _Pool(get_threads() - 1)
    return pool
