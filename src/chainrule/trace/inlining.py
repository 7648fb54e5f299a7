"""Inlining: whether a staged function that meets traced values is recorded operation by operation.

A sweep takes a staged function as one operation, which runs as native code. A graph of local Jacobians, from which patterns and
orders of accumulation are found, needs to see inside.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Mode(threading.local):
    on = False


mode = _Mode()


@contextmanager
def inlining() -> Iterator[None]:
    """Within this scope staged functions are recorded operation by operation."""
    before = mode.on
    mode.on = True
    try:
        yield
    finally:
        mode.on = before
