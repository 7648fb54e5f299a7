"""What native code must know of CPython and NumPy: where objects keep their fields, and the addresses of a few C functions.

Nothing is taken from headers: every offset is tried on objects at hand when the first entry is made, and where one does not hold
(another interpreter, a build without the interpreter lock) there are no native entries.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
import sys
import sysconfig
from functools import cache
from typing import Any

import numpy as np

TYPE, VALUE = 8, 16  # of any object; of a float
DATA, RANK, SHAPE, DTYPE, FLAGS = 16, 24, 32, 56, 64  # of an array
PLAIN = 0x0101  # C-contiguous and aligned

_ARRAY_NEW, _ARRAY_SCALAR = 93, 60  # places in NumPy's table of C functions, fixed by its binary interface


@cache
def holds() -> bool:
    """Whether all offsets are as stated, on this interpreter."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    arrays = [np.zeros((3, 5)), np.zeros(7, np.float32), np.zeros((2, 3, 4), np.int64), np.ones((4, 6))[:, ::2]]
    return all(_array_holds(a) for a in arrays) and all(_number_holds(x) for x in (1.5, np.float64(-2.25)))


def _at(x: Any, offset: int, kind: Any) -> Any:
    return kind.from_address(id(x) + offset).value


def _array_holds(a: Any) -> bool:
    if _at(a, TYPE, ctypes.c_size_t) != id(np.ndarray) or _at(a, DATA, ctypes.c_size_t) != a.ctypes.data:
        return False
    if _at(a, RANK, ctypes.c_int32) != a.ndim or _at(a, DTYPE, ctypes.c_size_t) != id(a.dtype):
        return False
    shape = (ctypes.c_ssize_t * a.ndim).from_address(_at(a, SHAPE, ctypes.c_size_t))
    is_plain = (_at(a, FLAGS, ctypes.c_int32) & PLAIN) == PLAIN
    return bool(tuple(shape) == a.shape and is_plain == (a.flags.c_contiguous and a.flags.aligned))


def _number_holds(x: Any) -> bool:
    return _at(x, TYPE, ctypes.c_size_t) == id(type(x)) and bool(_at(x, VALUE, ctypes.c_double) == x)


def _address(function: Any) -> int:
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


@cache
def functions() -> dict[str, int]:
    """Addresses of the C functions that entries call."""
    python = ctypes.pythonapi
    pointer = python.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API  # NumPy's public door for C
    table = ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    new, scalar = table[_ARRAY_NEW], table[_ARRAY_SCALAR]
    assert new is not None
    assert scalar is not None
    return {
        "array": new,
        "scalar": scalar,
        "decref": _address(python.Py_DecRef),
        "tuple": _address(python.PyTuple_New),
        "set": _address(python.PyTuple_SetItem),
        "call": _address(python.PyObject_Vectorcall),
    }


class MethodDef(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


FASTCALL_KEYWORDS = 0x80 | 0x02


def builtin(definition: MethodDef, owner: Any) -> Any:
    """A built-in function of a definition, which `owner` must keep alive; it gets `owner` as its first argument."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(definition), owner, None)
