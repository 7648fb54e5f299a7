"""Automatic garbage collection, suspended while programs are rewritten.

A long program is some hundred thousand objects that all live on. Python's collector would go over all of them again and again as
they are made, to find nothing: up to half of the time that compiling takes.
"""

from __future__ import annotations

import gc
import threading
from contextlib import ContextDecorator
from typing import ClassVar


class no_collection(ContextDecorator):  # noqa: N801 - it is used as a function
    """No automatic garbage collection within; also a decorator. Several threads may be within at once.

    >>> with no_collection():
    ...     gc.isenabled()
    False
    """

    _lock: ClassVar = threading.Lock()
    _under_way: ClassVar[int] = 0
    _was_enabled: ClassVar[bool] = False

    def __enter__(self) -> None:
        kind = type(self)
        with kind._lock:
            if kind._under_way == 0:
                kind._was_enabled = gc.isenabled()
                gc.disable()
            kind._under_way += 1

    def __exit__(self, *_: object) -> None:
        kind = type(self)
        with kind._lock:
            kind._under_way -= 1
            if kind._under_way == 0 and kind._was_enabled:
                gc.enable()
