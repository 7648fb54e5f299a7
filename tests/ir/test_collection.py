"""Garbage collection while programs are rewritten."""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest

from chainrule.ir.collection import no_collection


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_afterwards_as_it_was_before(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with no_collection(), contextlib.suppress(ValueError), no_collection():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_collection_resumes_when_the_last_thread_is_done():
    inside, leave = threading.Event(), threading.Event()

    def work():
        with no_collection():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=work)
    with no_collection():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
