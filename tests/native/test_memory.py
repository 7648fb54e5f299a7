"""Kernels keep to their buffers, on this machine; and the code for other machines is well formed."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest
from llvmlite import binding

import chainrule as cr
from chainrule.backends.llvm import divide, native, partition
from chainrule.backends.llvm.target import Target, machine
from chainrule.optimise import optimise

from .test_agreement import PROGRAMS as AGREEING  # noqa: TID252 - the tests are no package

_x = np.sin(np.arange(37 * 83.0)).reshape(37, 83)
PROGRAMS = {
    **AGREEING,
    "running": (lambda x: (np.cumsum(x, axis=0), np.cumsum(x, axis=1)[::-1], np.cumprod(x[:, 1:] + 1, axis=1)), (_x,)),
    "truth": (
        lambda x: (np.all(x < 2, axis=0), np.any(x > 0, axis=1), np.count_nonzero(x > 0), np.prod(x, axis=0)),
        (_x,),
    ),
    "remainders": (lambda x: (np.remainder(x, 0.3), np.fmod(x, x[::-1] + 2), np.floor_divide(x, 1e-19)), (_x,)),
    "searched": (lambda x: np.argmax(x.reshape(-1, 1) * np.arange(5.0), axis=1), (_x,)),
}

PAGE = mmap.PAGESIZE
_kept = []


def fenced(shape, dtype, *, at_end):
    """An array that ends (or begins) where a page begins (or ends) that must not be touched."""
    need = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-need // PAGE)
    block = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    libc = ctypes.CDLL(None, use_errno=True)
    for page in (0, pages + 1):
        assert libc.mprotect(ctypes.c_void_p(start + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
    _kept.append(block)
    offset = (pages + 1) * PAGE - need if at_end else PAGE
    return np.ndarray(shape, dtype, block, offset)


NAMES = [
    "rosenbrock_gradient",
    "elementwise",
    "lorenz",
    "observations",
    "gathered",
    "column_sums",
    "branches",
    "strides",
    "outer",
    "mixture",
    "running",
    "truth",
    "remainders",
    "searched",
]


@pytest.fixture(params=[1, 3], ids=["whole", "in pieces"])
def threads(request, monkeypatch):
    before = cr.get_threads()
    if request.param > 1:
        monkeypatch.setattr(divide, "LEAST", 1)
        monkeypatch.setattr(divide, "GRAIN", 16)
        monkeypatch.setattr(divide, "COMBINED", 0.25)
    cr.set_threads(request.param)
    yield
    cr.set_threads(before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_kernels_touch_nothing_beyond_their_buffers(name, at_end, threads, monkeypatch):
    monkeypatch.setattr(partition, "UNROLLED_PROGRAM", 0)
    monkeypatch.setattr(native, "empty", lambda shape, dtype: fenced(shape, dtype, at_end=at_end))
    f, args = PROGRAMS[name]
    inputs = []
    for a in args:
        x = fenced(a.shape, a.dtype, at_end=at_end)
        x[...] = a
        inputs.append(x)
    program = optimise(cr.program(f)(*args))
    for found, wanted in zip(native.Native(program)(inputs), program(*args), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


TARGETS = [
    Target("x86_64-unknown-linux-gnu", "x86-64", "", 128, fused=False),
    Target("x86_64-unknown-linux-gnu", "haswell", "", 256, fused=True),
    Target("aarch64-unknown-linux-gnu", "generic", "", 128, fused=True),
    Target("arm64-apple-darwin", "apple-m1", "", 128, fused=True),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.cpu + t.triple[:5])
@pytest.mark.parametrize(
    "name", ["elementwise", "observations", "gathered", "branches", "running", "truth", "remainders"]
)
def test_code_for_other_machines_is_well_formed(name, target, threads):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    f, args = PROGRAMS[name]
    code = native.build(optimise(cr.program(f)(*args)), target)
    module = binding.parse_assembly(str(code.module))
    module.triple = target.triple
    module.verify()
    assert len(machine(target).emit_object(module)) > 500
