"""Which functions of a module are written out where they are called."""

from __future__ import annotations

from collections import Counter
from typing import Any

WRITTEN_OUT = 1500
"""The most instructions that all copies of a function may come to."""


def decide_inlining(module: Any) -> None:
    """Write out internal functions that are short or have one caller, unless they are to stay functions; LLVM need not search."""
    defined = module.functions
    calls = Counter(callee for f in defined for callee in f.calls)
    module.written_out = {
        f
        for f in defined
        if f.is_internal
        and "noinline" not in f.attributes
        and calls[f]
        and (calls[f] == 1 or calls[f] * f.size <= WRITTEN_OUT)
    }
