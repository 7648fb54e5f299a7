"""Strong zeros: whether products of the sweep under way must keep exact zeros zero.

A reverse sweep first multiplies plainly. Where a zero met an infinite or NaN partial, a NaN reaches the result, since every map is
linear and NaN cannot cancel; the sweep is then repeated with strong products. So strong zeros cost nothing where none is needed. A
program recorded for re-use cannot look at its results, and is swept strongly from the start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Mode(threading.local):
    strict = False


mode = _Mode()


@contextmanager
def strong_products() -> Iterator[None]:
    """Within this scope adjoint products keep exact zeros zero."""
    before = mode.strict
    mode.strict = True
    try:
        yield
    finally:
        mode.strict = before
