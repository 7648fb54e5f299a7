"""The products of matrices of `gemm` in this process: their code, which is made once for a machine, and a call from Python.

Code that is loaded names the functions (`chainrule_dgemm`); LLVM is told their addresses before.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from llvmlite import binding

from chainrule import cache
from chainrule.backends.llvm import blas, canonical, gemm
from chainrule.backends.llvm.blocking import FLOATS, SIZES, blocking, symbol
from chainrule.backends.llvm.memory import LINE
from chainrule.backends.llvm.target import Loaded, Target, host, object_code


class Matmul:
    """The product for one type of numbers, by code in the form that suits a processor."""

    def __init__(self, letter: str, target: Target) -> None:
        self.letter, self.target = letter, target
        name = symbol(letter)
        key = canonical.key_of_text(name, target)
        image = cache.read(key)
        if image is None:
            image = object_code(str(gemm.module(letter, target)))
            cache.write(key, image)
        self._loaded = Loaded(image, [name])
        self.address = self._loaded.addresses[name]
        kinds = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
        self._function = ctypes.CFUNCTYPE(None, *kinds)(self.address)

    def __call__(self, a: Any, b: Any, out: Any, *, adds: bool = False) -> Any:
        """The product of arrays of shapes (m, k) and (k, n) into one of shape (m, n), or added to it.

        All have this type of numbers, and any strides; `out` shares no memory with the others, nor its elements with each other.
        """
        (m, k), (_, n) = a.shape, b.shape
        if not m * n:
            return out
        if not k:
            out[...] = out if adds else 0
            return out
        strides = [[s // SIZES[self.letter] for s in x.strides] for x in (a, b, out)]
        how = blocking(self.letter, self.target, (m, n, k), *((row, column) for row, column in strides))
        left, right = (b, a) if how.is_transposed else (a, b)
        record, workspace = np.array(how.record, np.int64), room(how.nbytes)
        self._function(*(x.ctypes.data for x in (record, left, right, out, workspace)), adds)
        return out


def room(nbytes: int) -> Any:
    """Memory for a call, which begins with a line of cache."""
    whole = np.empty(nbytes + LINE, np.uint8)
    return whole[-whole.ctypes.data % LINE :][:nbytes]


@functools.cache
def matmul(letter: str) -> Matmul:
    """The product on this machine; its code stays, since other code calls it."""
    found = Matmul(letter, host())
    binding.add_symbol(symbol(letter), found.address)
    return found


def provide(code: bytes) -> None:
    """Tell LLVM where all is that code names which is to be loaded."""
    if blas.PREFIX.encode() in code:
        blas.register()
    for letter in FLOATS:
        if symbol(letter).encode() in code:
            matmul(letter)
