"""Where in the user's code an operation comes from."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Origin(NamedTuple):
    """Where in the user's code an equation comes from."""

    file: str
    line: int
    function: str


class _Running(threading.local):
    """The place in the user's code of the equation that is being evaluated, for what records it."""

    origin: Origin | None = None


running = _Running()


def located(error: IndexError, origin: Origin | None) -> IndexError:
    """The error of an index out of range with the place in the user's code of the operation that met it."""
    if origin is None or f"{origin.file}:" in str(error):
        return error
    return IndexError(f"{error} (at {origin.file}:{origin.line})")
