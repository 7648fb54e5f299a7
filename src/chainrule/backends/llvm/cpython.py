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
SIZE, DICT_SIZE, LIST_ITEMS = 16, 16, 24  # of a tuple or a list; of a dict; of a list
DATA, RANK, SHAPE, DTYPE, FLAGS = 16, 24, 32, 56, 64  # of an array
PLAIN, WRITEABLE = 0x0101, 0x0400  # C-contiguous and aligned; may be written into

_ARRAY_NEW, _ARRAY_SCALAR = 93, 60  # places in NumPy's table of C functions, fixed by its binary interface
_TP_ALLOC = 47  # Py_tp_alloc, fixed by CPython's


@cache
def holds() -> bool:
    """Whether all offsets are as stated, on this interpreter."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    arrays = [np.zeros((3, 5)), np.zeros(7, np.float32), np.zeros((2, 3, 4), np.int64), np.ones((4, 6))[:, ::2]]
    arrays.append(np.broadcast_to(1.0, (2,)))
    return (
        all(_array_holds(a) for a in arrays)
        and all(_number_holds(x) for x in (1.5, np.float64(-2.25)))
        and _at(np.int64(-3), VALUE, ctypes.c_int64) == -3
        and _containers_hold()
    )


@cache
def tuple_items() -> int:
    """Where a tuple keeps its items, which depends on the version of CPython; 0 where that is not known."""
    x = (object(), object(), object())
    places = [at for at in (24, 32) if all(_at(x, at + 8 * k, ctypes.c_size_t) == id(x[k]) for k in range(3))]
    return places[0] if places else 0


def _containers_hold() -> bool:
    items = [object(), object()]
    named = {"a": items[0], "b": items[1], "c": None}
    first = ctypes.c_size_t.from_address(_at(items, LIST_ITEMS, ctypes.c_size_t) + 8).value
    return (
        tuple_items() > 0
        and _at((1, 2, 3), SIZE, ctypes.c_ssize_t) == 3
        and _at(items, SIZE, ctypes.c_ssize_t) == 2
        and _at(named, DICT_SIZE, ctypes.c_ssize_t) == 3
        and first == id(items[1])
    )


def _at(x: Any, offset: int, kind: Any) -> Any:
    return kind.from_address(id(x) + offset).value


def _array_holds(a: Any) -> bool:
    if _at(a, TYPE, ctypes.c_size_t) != id(np.ndarray) or _at(a, DATA, ctypes.c_size_t) != a.ctypes.data:
        return False
    if _at(a, RANK, ctypes.c_int32) != a.ndim or _at(a, DTYPE, ctypes.c_size_t) != id(a.dtype):
        return False
    shape = (ctypes.c_ssize_t * a.ndim).from_address(_at(a, SHAPE, ctypes.c_size_t))
    flags = _at(a, FLAGS, ctypes.c_int32)
    is_plain, is_writeable = (flags & PLAIN) == PLAIN, bool(flags & WRITEABLE)
    alike = is_plain == (a.flags.c_contiguous and a.flags.aligned) and is_writeable == a.flags.writeable
    return bool(tuple(shape) == a.shape and alike)


def _number_holds(x: Any) -> bool:
    return _at(x, TYPE, ctypes.c_size_t) == id(type(x)) and bool(_at(x, VALUE, ctypes.c_double) == x)


def _address(function: Any) -> int:
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


@cache
def functions() -> dict[str, int]:
    """Addresses of the C functions that entries call, and of the type of arrays."""
    python = ctypes.pythonapi
    pointer = python.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API  # NumPy's public door for C
    table = ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    slot = python.PyType_GetSlot
    slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    new, scalar = table[_ARRAY_NEW], table[_ARRAY_SCALAR]
    assert new is not None
    assert scalar is not None
    return {
        "ndarray": id(np.ndarray),
        "array": new,
        "scalar": scalar,
        "incref": _address(python.Py_IncRef),
        "decref": _address(python.Py_DecRef),
        "tuple": _address(python.PyTuple_New),
        "tuple_set": _address(python.PyTuple_SetItem),
        "list": _address(python.PyList_New),
        "list_set": _address(python.PyList_SetItem),
        "dict": _address(python.PyDict_New),
        "dict_set": _address(python.PyDict_SetItem),
        "dict_get": _address(python.PyDict_GetItemWithError),
        "clear": _address(python.PyErr_Clear),
        "integer": _address(python.PyLong_AsLongLongAndOverflow),
        "save": _address(python.PyEval_SaveThread),
        "restore": _address(python.PyEval_RestoreThread),
        "call": _address(python.PyObject_Vectorcall),
        "float64": id(np.float64),
        "float64_new": slot(np.float64, _TP_ALLOC),
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
