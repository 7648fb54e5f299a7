"""Elementary functions as vectorisable LLVM code, on one number or on vectors of any width, float64 and float32.

    y = emit(builder, "exp", [x])                # x: double, float, <8 x double>, <16 x float>, ...
    s, c = emit(builder, "sincos", [x])

Each function is branch-free polynomial code within 2 ulp on its whole range, special values as in C99 and NumPy, and the same on
every target. Rare and slow cases (sin of 1e12, log of a subnormal number, the negative axis of lgamma) lie out of line behind one
test. A function that keeps such vectors in registers should `align_stack` itself, or LLVM spills them unaligned.
"""

from chainrule.backends.llvm.vector_maths.lanes import Lanes, align_stack
from chainrule.backends.llvm.vector_maths.library import FUNCTIONS, emit
from chainrule.backends.llvm.vector_maths.loops import loop_kernel

__all__ = ["FUNCTIONS", "Lanes", "align_stack", "emit", "loop_kernel"]
