"""Native code by LLVM: a Program becomes a few loops over its arrays, with nothing intermediate in memory that need not be.

    repeats     runs of equal stretches in a sequence of tokens
    segments    a long program cut into bodies that are compiled once, and the turns in which each runs
    partition   which equations are computed by kernels, which results are kept in memory, which operations are left to NumPy
    kernels     a kernel's buffers, and its iteration space cut into boxes in which every bound is decided
    body        what a kernel does in one box: a graph, and what its values do to buffers
    evaluate    the value of each root at a symbolic index, as one scalar graph: movement is index arithmetic, and costs nothing
    emit        the graph as LLVM: loops over a box, explicit SIMD lanes along its last axis, reductions in registers
    tiles       long axes cut into tiles, so that what lies between the steps of a program stays in the cache
    products    contractions as products of matrices: of two by gemm, of a matrix and a vector by BLAS
    gemm        the product of two matrices: tiles in registers, blocks in caches (blocking says how, matmul loads it)
    blas        the routines of BLAS and LAPACK, by the addresses that SciPy exports
    lapack      factorisations and solves as calls of LAPACK, likewise
    functions   the functions of a module: what kernels, products and loops over tiles become
    divide      which kernels are cut into pieces that threads share, and along which axis
    schedule    the tree of calls and loops over them, and the address of every buffer in every turn
    memory      where in the workspace each result lies
    assembly    LLVM's assembly language as text, and functions written out in others
    inline      which functions are written out where they are called
    native      all kernels of a program in one module; the table of buffers, the steps
    entry       the C-level callable in front: arguments compared with tables, results allocated, kernels called
                (entry_tables, entry_code)

Which axes are loops and which are written out is decided by shape (`partition.Layout`): programs of few elements become straight
scalar code; short axes beside a long one are written out into registers, so that a Jacobian of a small function over a large
batch is one loop over the batch. Bounds (of slices joined, padded or placed) are never tested in a loop: a box that straddles one
is cut there. Kernels that are equal up to their buffers are one function, so a Python loop of a thousand steps compiles the
kernels of one step; and where steps follow each other, what is between the kernels is a loop too.

Indices read at run time are wrapped as NumPy does and checked in native code; a failed check ends the run, and NumPy raises. What
has no lowering (complex numbers, small integers, eigenvalues) is computed by NumPy between the kernels.
"""

from __future__ import annotations

import threading
import warnings

from chainrule.backends.executable import Executable
from chainrule.backends.interpret import Interpreted
from chainrule.backends.llvm.entry import Entry, new_entry
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.native import Native
from chainrule.errors import user_frame
from chainrule.ir.program import Program

__all__ = ["Entry", "compiled", "new_entry"]

_warned = threading.Event()


def compiled(program: Program) -> Executable:
    """An executable of native code; of NumPy's operations where the program does not lend itself to any."""
    try:
        return Native(program)
    except Unlowerable as refusal:
        return Interpreted(program, str(refusal))
    except RuntimeError as error:  # as which llvmlite reports what LLVM cannot do
        why = f"LLVM failed: {str(error).strip().partition(chr(10))[0]}"
        _warn(program.name, why)
        return Interpreted(program, why)


def _warn(name: str, why: str) -> None:
    """Say once, at the user's line, that a function runs without native code for a reason that is not its own."""
    if _warned.is_set():
        return
    _warned.set()
    frame = user_frame()
    file, line = (frame.f_code.co_filename, frame.f_lineno) if frame else (__file__, 1)
    warnings.warn_explicit(
        f"jit: `{name}` runs by NumPy, without native code, and so may others: {why}. Please report it.",
        RuntimeWarning,
        file,
        line,
    )
