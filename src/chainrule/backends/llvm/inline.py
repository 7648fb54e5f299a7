"""Which functions of a module are written out where they are called: decided here, so that LLVM need not search for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llvmlite import ir

WRITTEN_OUT = 1500
"""The most instructions that all copies of a function may come to."""


def decide_inlining(module: Any) -> None:
    """Mark every internal function: short ones, and those with one caller, are part of their callers; others stay functions."""
    defined = [f for f in module.functions if f.blocks]
    calls = Counter(
        i.callee for f in defined for b in f.blocks for i in b.instructions if isinstance(i, ir.instructions.CallInstr)
    )
    for f in defined:
        if f.linkage == "internal" and "noinline" not in f.attributes:
            size = sum(len(b.instructions) for b in f.blocks)
            f.attributes.add("alwaysinline" if calls[f] * size <= WRITTEN_OUT else "noinline")
