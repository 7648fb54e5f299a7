"""The routines of BLAS and LAPACK that native code calls, by the addresses that SciPy exports.

Code names the routines (`chainrule_blas_dgemv`); their addresses are told to LLVM when code is loaded, so that code may be kept on
disk.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from llvmlite import binding

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import PTR, VOID

PREFIX = "chainrule_blas_"
LARGEST = 2**31 - 1
"""The integers of SciPy's BLAS have 32 bits."""

_ROUTINES = {"sgemv": 11, "dgemv": 11, "dtrsm": 11, "dtrsv": 8}
_LAPACK_ROUTINES = {"dpotrf": 5, "dgetrf": 6, "dgetrs": 9}


@cache
def addresses() -> dict[str, int]:
    """The addresses of BLAS's routines by their symbols in our code; empty where SciPy's do not have the form we call."""
    return _exported("scipy.linalg.cython_blas", _ROUTINES)


@cache
def lapack_addresses() -> dict[str, int]:
    """The same of LAPACK's routines, which come with those of BLAS or not at all."""
    return _exported("scipy.linalg.cython_lapack", _LAPACK_ROUTINES) if addresses() else {}


def _exported(library: str, arities: Mapping[str, int]) -> dict[str, int]:
    """The addresses of a library's routines of so many arguments; none unless all are as called."""
    capsules = importlib.import_module(library).__pyx_capi__  # loads at first use
    name_of, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found: dict[str, int] = {}
    for routine, arity in arities.items():
        capsule = capsules.get(routine)
        signature = b"" if capsule is None else name_of(capsule)
        if not _is_as_called(signature.decode(), arity):
            return {}
        found[PREFIX + routine] = pointer(capsule, signature)
    return found


def _is_as_called(signature: str, arity: int) -> bool:
    """Whether a routine returns nothing and takes so many pointers, its integers being C's int."""
    kinds = signature.removeprefix("void (").removesuffix(")").split(", ")
    return (
        signature.startswith("void (")
        and len(kinds) == arity
        and all(k.endswith(" *") for k in kinds)
        and "int *" in kinds
    )


@cache
def register() -> None:
    """Tell LLVM where the routines are that loaded code names."""
    for symbol, address in (addresses() | lapack_addresses()).items():
        binding.add_symbol(symbol, address)


# ---- the code of a call


def call_routine(builder: Any, symbol: str, args: Sequence[Any]) -> None:
    """Call a routine, declared where it is not yet."""
    builder.call(declared(builder.module, symbol, [PTR] * len(args)), args)


def declared(module: Any, symbol: str, kinds: Sequence[Any]) -> Any:
    """The function that is elsewhere under a symbol, declared where it is not yet."""
    known = module.globals.get(symbol)
    return known or assembly.Function(module, assembly.FunctionType(VOID, kinds), symbol)


def constant(module: Any, kind: Any, value: float) -> Any:
    """The address of a constant, which Fortran takes in the place of its value."""
    name = f"{kind}.{value}"
    known = module.globals.get(name)
    if known is None:
        known = assembly.GlobalVariable(module, assembly.Constant(kind, value), name)
    return known
