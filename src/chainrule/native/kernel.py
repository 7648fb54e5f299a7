"""A function in two readings: interpreted, and compiled at its first call."""

from __future__ import annotations

import ctypes
import functools
import threading
import types
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R", bound="int | float | None")

_SCALARS: dict[str, Any] = {"int": ctypes.c_int64, "float": ctypes.c_double, "None": None}
_ARRAYS: dict[str, Any] = {"Ints": np.dtype(np.int64), "Floats": np.dtype(np.float64)}
_lock = threading.RLock()


class KernelError(TypeError):
    """A kernel outside the subset of Python that can be compiled, or a call with the wrong kind of argument."""


class Kernel(Generic[P, R]):
    """A native function and the Python function it was made from; see the package docstring for the subset.

    The interpreter lock is released during a native call.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function: types.FunctionType = function  # type: ignore[assignment]  # lambdas and builtins are of no use here
        self._entry: Callable[..., Any] | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """Parameter names and the result (`return`) with their kinds: int, float, Ints, Floats, None."""
        annotations = self.function.__annotations__.items()
        return {name: getattr(kind, "__name__", str(kind)) for name, kind in annotations}

    @functools.cached_property
    def python(self) -> Callable[P, R]:
        """The interpreted function; the kernels that it calls are interpreted too."""
        names = self.function.__globals__
        used = {n: names[n].python for n in self.function.__code__.co_names if isinstance(names.get(n), Kernel)}
        return types.FunctionType(self.function.__code__, {**names, **used}, self.function.__name__)

    def compile(self) -> None:
        """Compile now rather than at the first call."""
        with _lock:
            if self._entry is None:
                self._entry = self._build()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._entry is None:
            self.compile()
        assert self._entry is not None
        if kwargs or len(args) != len(self.converters):
            raise KernelError(f"{self.function.__name__} takes {len(self.converters)} positional arguments")
        result: R = self._entry(*[convert(a) for convert, a in zip(self.converters, args, strict=True)])
        return result

    @functools.cached_property
    def converters(self) -> list[Callable[[Any], Any]]:
        """What turns each Python argument to what the native entry takes."""
        return [
            functools.partial(_address, _ARRAYS[kind], name) if kind in _ARRAYS else (int if kind == "int" else float)
            for name, kind in self.kinds.items()
            if name != "return"
        ]

    def _build(self) -> Callable[..., Any]:
        # llvmlite costs a fifth of a second to import, so it comes with the first kernel that runs.
        from chainrule.native import engine, lower

        arguments = [_SCALARS.get(kind, ctypes.c_void_p) for name, kind in self.kinds.items() if name != "return"]
        entry = ctypes.CFUNCTYPE(_SCALARS[self.kinds["return"]], *arguments)
        module, symbol = lower.module_of(self)
        return entry(engine.address(module, symbol))


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Declare a function to be native; it is compiled when it is first called."""
    return Kernel(function)


def _address(dtype: np.dtype[Any], name: str, array: Any) -> int:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or not array.flags.c_contiguous:
        found = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
        raise KernelError(f"argument {name!r} must be a contiguous {dtype} array, not {found}")
    address: int = array.ctypes.data
    return address
