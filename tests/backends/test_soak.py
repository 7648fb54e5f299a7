"""Compilations and calls without end, from several threads: memory does not grow.

A compilation loses some ten bytes within LLVM; beside that there is only what malloc keeps in fragments, which does not grow with
the number of compilations.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.llvm import native

LOST, FRAGMENTS = 1_000, 6_000_000
"""Bytes: twice what a compilation is known to lose, and what fragments may take."""
THREADS = 4

_STATM = Path("/proc/self/statm")


def resident():
    """The bytes of this process in memory."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE


def compile_and_call(k):
    """One function, in three ways compiled and called: for two shapes, and with buffers; right each time."""
    c = k + 0.5
    staged = cr.jit(cr.value_and_grad(lambda t: np.sum(np.sin(t["x"]) * c + t["x"][::-1] * t["x"])))
    for n in (4, 7):
        x = np.linspace(0.0, 1.0, n)
        out = np.empty(()), {"x": np.empty(n)}
        for _ in range(3):
            _, gradient = staged({"x": x})
            staged({"x": x}, out=out)
            for found in (gradient, out[1]):
                np.testing.assert_allclose(found["x"], np.cos(x) * c + 2 * x[::-1], rtol=1e-12)


def soak(first, last):
    """Compile and call in several threads at once, along with calls of a function that they share."""
    shared = cr.jit(lambda x, i: x[i] * 2 if x[0] > 0 else x[i])
    x, failures = np.linspace(0.5, 1.0, 20), []

    def work(start):
        try:
            for k in range(start, last, THREADS):
                compile_and_call(k)
                for sign in (1, -1):
                    for _ in range(50):
                        shared(sign * x, np.arange(20))
                with pytest.raises(IndexError):
                    shared(x, np.arange(1, 21))
        except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first + t,)) for t in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def check_growth(count):
    """Memory after so many functions, of two compilations each, is what it was before, but for what is known to be lost."""
    soak(0, 40)
    before = resident()
    soak(40, 40 + count)
    assert resident() - before < FRAGMENTS + 2 * count * LOST


needs_statm = pytest.mark.skipif(not _STATM.exists(), reason="reads /proc/self/statm")


@needs_statm
def test_memory_does_not_grow():
    check_growth(60)


@needs_statm
@pytest.mark.slow
def test_memory_does_not_grow_over_thousands_of_compilations():
    check_growth(1500)


def test_native_code_goes_with_its_function(monkeypatch):
    made = []
    plain = native.Native.__init__

    def noted(self, program):
        plain(self, program)
        made.append(weakref.ref(self))

    monkeypatch.setattr(native.Native, "__init__", noted)
    for k in range(3):
        compile_and_call(k)
    gc.collect()
    assert len(made) == 6
    assert all(ref() is None for ref in made)
