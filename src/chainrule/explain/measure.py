"""Time and memory of a computation, as they are, and in words."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

_SHORTEST = 1e-3  # seconds: shorter runs are timed several at once
_REPEATS = 7


def seconds(run: Callable[[], Any], budget: float) -> float:
    """The median time over repeats: as many as fit into a budget of seconds, no less than three unless one alone exceeds it."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > budget:
        return first
    number = max(1, int(_SHORTEST / max(first, 1e-9)))
    times: list[float] = []
    spent = first
    while len(times) < 3 or (len(times) < _REPEATS and spent < budget):
        start = time.perf_counter()
        for _ in range(number):
            run()
        taken = time.perf_counter() - start
        times.append(taken / number)
        spent += taken
    return statistics.median(times)


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that a run holds at once beyond what is held before it, its result included."""
    is_nested = tracemalloc.is_tracing()
    if not is_nested:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = run()
        _, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        if not is_nested:
            tracemalloc.stop()
    return max(0, peak - before)


def time_text(taken: float) -> str:
    """A time in words.

    >>> time_text(0.00123), time_text(75.0)
    ('1.23 ms', '75 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if taken >= scale:
            return f"{three_digits(taken / scale)} {unit}"
    return f"{three_digits(taken / 1e-9)} ns"


def bytes_text(count: float) -> str:
    """An amount of memory in words.

    >>> bytes_text(1_500_000), bytes_text(12)
    ('1.5 MB', '12 B')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{three_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def count_text(count: float) -> str:
    """A count, in full while it is short.

    >>> count_text(65536), count_text(12_345_678_901)
    ('65,536', '1.23e10')
    """
    if count < 1e7:
        return f"{count:,.0f}"
    mantissa, exponent = f"{count:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def three_digits(x: float) -> str:
    """Three significant digits, without an exponent."""
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.3g}"
