"""The machine's constants are measured once, cached, overridden, and safe without a cache."""

import json

import pytest

from chainrule.plan import machine as module
from chainrule.plan.machine import Machine, machine, set_machine


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    set_machine(None)
    yield
    set_machine(None)


def test_constants_are_measured_once_and_kept(tmp_path, monkeypatch):
    first = machine()
    held = json.loads((tmp_path / "cache" / "machine.json").read_text())
    assert list(held.values()) == [vars(first)]
    set_machine(None)
    monkeypatch.setattr(module, "measure", lambda: pytest.fail("measured again"))
    assert machine() == first


def test_constants_can_be_set():
    own = Machine(call=1e-6, byte=1e-10, product=1e-10)
    set_machine(own)
    assert machine() is own
    assert own.seconds(1, 10, 100) == pytest.approx(1e-6 + 1e-9 + 1e-8)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": {"call": -1}}'])
def test_corrupt_cache_is_measured_over(tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "machine.json").write_text(content)
    assert machine().call > 0


def test_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file"))
    assert machine().byte > 0
