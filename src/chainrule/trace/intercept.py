"""Interception: what NumPy's protocols do not reach, for as long as a thread traces.

`np.array([t, t])`, `np.full(3, t)` and `math.sin(t)` ask a tracer for its number and nothing else. While a thread traces,
these functions are replaced by ones that look for tracers first. The replacement is counted, so that the last trace restores
what was there; on every other thread it passes straight through; `interception(False)` switches it off for the process.
"""

from __future__ import annotations

import functools
import operator
import re
import sys
import threading
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from chainrule.errors import TraceError, is_library, traceback_location, watched
from chainrule.ir.primitive import is_tracer
from chainrule.trace.refusals import Refusals


class _Local(threading.local):
    depth = 0

    def __init__(self) -> None:
        self.refusals = Refusals()


_local = _Local()
_lock = threading.Lock()
_loading = threading.RLock()
_state = {"count": 0, "enabled": True}
# (module name, attribute) -> what replaces it; filled by chainrule.numpy.
_ours: dict[tuple[str, str], Callable[..., Any]] = {}
# Modules that hold NumPy's functions under NumPy's names, as do those that say `from numpy import asarray`.
_NUMPY_TWINS = (
    "scipy._lib.array_api_compat.numpy",
    "scipy._external.array_api_compat.numpy",
    "scipy.optimize._optimize",
    "scipy.special._basic",
    "scipy.stats._distn_infrastructure",
    "scipy.stats._stats_py",
)
# Those that replace the original whether or not a tracer is seen.
_unconditional: set[tuple[str, str]] = set()
_modules: list[str] = list(_NUMPY_TWINS)
# Modules whose own code reads the names as globals; of the others they are read as attributes.
_by_globals: set[str] = set(_NUMPY_TWINS)


# What the first trace loads: the tables of NumPy's and SciPy's functions, which importing chainrule does without.
_surface: list[Callable[[], None]] = []


def before_first_trace(load: Callable[[], None]) -> None:
    """Have something loaded before anything is traced."""
    _surface.append(load)


def load_surface() -> None:
    """Load what waits for the first trace; once, also where several threads begin to trace together."""
    with _loading:
        for load in _surface:
            load()
        _surface.clear()


def contains_tracer(x: Any) -> bool:
    """Whether a value, or a nested sequence of values, has a tracer in it."""
    if isinstance(x, list | tuple):
        return any(contains_tracer(item) for item in x)
    if isinstance(x, np.ndarray):
        return x.dtype.kind == "O" and any(is_tracer(item) for item in x.ravel())
    return is_tracer(x)


def intercepts(
    module: ModuleType | str, *names: str, always: bool = False, by_globals: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what replaces functions of a module while a thread traces, where an argument has a tracer in it, or always.

    A module that is given by its name has its functions replaced once it has been imported, by whomever. `by_globals` is for
    functions that the module's own code calls. "module:Class" names a class, whose methods are replaced.
    """
    of = module if isinstance(module, str) else module.__name__
    if of not in _modules:
        _modules.append(of)
    if by_globals:
        _by_globals.add(of)

    def declare(ours: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if isinstance(module, str) or hasattr(module, name):
                _ours[of, name] = ours
                if always:
                    _unconditional.add((of, name))
        return ours

    return declare


def intercepted() -> frozenset[tuple[str, str]]:
    """What is replaced while a thread traces: names of modules, each with the name of a function in it."""
    return frozenset(_ours)


def _guarded(original: Any, ours: Any) -> Any:
    if not callable(original):
        return ours  # an object such as np.r_, whose replacement looks for tracers itself

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _local.depth and (
            any(contains_tracer(a) for a in args) or (kwargs and any(contains_tracer(v) for v in kwargs.values()))
        ):
            return ours(*args, **kwargs)
        return original(*args, **kwargs)

    return call


def _replaced(original: Any, ours: Any) -> Any:
    if isinstance(original, type):
        return ours  # a class is replaced by a subclass of it

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs) if _local.depth else original(*args, **kwargs)

    return call


def guarded(module: ModuleType, name: str) -> Any:
    """A module's attribute; where interception replaces it, the version that looks for tracers first, tracing or not."""
    original = getattr(module, name)
    ours = _ours.get((module.__name__, name))
    if ours is None:
        return original
    if not callable(original) or isinstance(original, type):
        return ours

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        traced = any(contains_tracer(a) for a in args) or any(contains_tracer(v) for v in kwargs.values())
        return ours(*args, **kwargs) if traced else original(*args, **kwargs)

    return call


class _Intercepted:
    """A name of a module under interception: reading it gives the version that looks for tracers first.

    It reads what the module holds at that moment, so that whatever else replaces the name meanwhile is respected.
    """

    __slots__ = ("_made", "name", "ours", "wrap")

    def __init__(self, name: str, ours: Callable[..., Any], wrap: Callable[..., Any]) -> None:
        self.name = name
        self.ours = ours
        self.wrap = wrap
        self._made: tuple[Any, Any] = (None, None)

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        if self.name not in module.__dict__:
            raise AttributeError(f"module {module.__name__!r} has no attribute {self.name!r}")
        original = module.__dict__[self.name]
        made = self._made
        if made[0] is not original:
            made = self._made = (original, self.wrap(original, self.ours))
        return made[1]

    def __set__(self, module: Any, value: Any) -> None:
        module.__dict__[self.name] = value

    def __delete__(self, module: Any) -> None:
        del module.__dict__[self.name]


def _wrapper(key: tuple[str, str]) -> Callable[..., Any]:
    return _replaced if key in _unconditional else _guarded


def _class_of_traced(module: ModuleType) -> type:
    """The class of a module under interception of what is read off it, `np.array`; the cost of which is that of one name."""
    names = {
        name: _Intercepted(name, ours, _wrapper((of, name)))
        for (of, name), ours in _ours.items()
        if of == module.__name__
    }
    return type("TracedModule", (type(module),), names)


class _Globals:
    """Interception of names that a module's own code reads among its globals: they are replaced in its dictionary.

    The guarded versions are made anew when what they guard has changed.
    """

    __slots__ = ("before", "functions", "keys", "module", "originals", "read")

    def __init__(self, module: ModuleType) -> None:
        self.module = module.__dict__
        sources = (module.__name__, "numpy") if module.__name__ in _NUMPY_TWINS else (module.__name__,)
        # What is declared for the module itself comes last, and wins.
        keys = {name: (of, name) for of, name in sorted(_ours, key=lambda k: k[0] == module.__name__) if of in sources}
        self.keys = [key for name, key in keys.items() if name in self.module]
        # Two more names keep the getter's result a tuple however few there are.
        self.read = operator.itemgetter(*(name for _, name in self.keys), "__name__", "__doc__")
        self.originals: tuple[Any, ...] = ()
        self.before: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}

    def install(self) -> None:
        originals = self.read(self.module)
        if originals != self.originals:
            self.originals = originals
            self.before = {name: original for (_, name), original in zip(self.keys, originals, strict=False)}
            self.functions = {key[1]: _wrapper(key)(self.before[key[1]], _ours[key]) for key in self.keys}
        self.module.update(self.functions)

    def restore(self) -> None:
        self.module.update(self.before)


class _Methods:
    """Interception of methods of a class, which are replaced in it."""

    __slots__ = ("before", "functions", "of")

    def __init__(self, of: type, name: str) -> None:
        self.of = of
        keys = [key for key in _ours if key[0] == name]
        self.before = {key[1]: of.__dict__[key[1]] for key in keys}
        self.functions = {key[1]: self._made(key, self.before[key[1]]) for key in keys}

    @staticmethod
    def _made(key: tuple[str, str], original: Any) -> Any:
        if isinstance(original, staticmethod):
            return staticmethod(_wrapper(key)(original.__func__, _ours[key]))
        return _wrapper(key)(original, _ours[key])

    def install(self) -> None:
        for name, function in self.functions.items():
            setattr(self.of, name, function)

    def restore(self) -> None:
        for name, function in self.before.items():
            setattr(self.of, name, function)


class _Present:
    """The replacements for those modules that have been imported; looked for again when more have been."""

    __slots__ = ("_count", "_known", "attributes", "globals")

    def __init__(self) -> None:
        self.attributes: list[tuple[ModuleType, type, type]] = []
        self.globals: list[_Globals | _Methods] = []
        self._known: set[str] = set()
        self._count = -1

    def install(self) -> None:
        if len(sys.modules) != self._count:
            self._look()
        for module, traced, _ in self.attributes:
            module.__class__ = traced
        for replacement in self.globals:
            replacement.install()

    def restore(self) -> None:
        for module, _, plain in self.attributes:
            module.__class__ = plain
        for replacement in self.globals:
            replacement.restore()

    def _look(self) -> None:
        self._count = len(sys.modules)
        for name in _modules:
            module_name, _, owner = name.partition(":")
            module = sys.modules.get(module_name)
            if name in self._known or module is None:
                continue
            if getattr(module.__spec__, "_initializing", False):
                self._count = -1  # another thread is importing it: it is taken at the next look
                continue
            self._known.add(name)
            if owner:
                self.globals.append(_Methods(getattr(module, owner), name))
            elif name in _by_globals:
                self.globals.append(_Globals(module))
            else:
                self.attributes.append((module, _class_of_traced(module), type(module)))


_present = _Present()


# What NumPy says of an array of objects, such as a list of traced numbers becomes, and Python of a value it cannot take.
_NOT_TAKEN = (
    r"dtype\('O'\)|not supported for the input types|loop of ufunc does not support|array type object|Tracer\b|"
    r"__array__ method not producing an array|Error setting single item of array|to a common type|"
    r"not a proper array of floats|no attribute '(flags|strides|ctypes|data|base|owner|value|shape)'"
)


def _is_of_library(error: type) -> bool:
    """Whether an exception is one of Python's, NumPy's or SciPy's (`_minpack.error`), and no one's own."""
    package = error.__module__.partition(".")[0]
    return package in {"builtins", "numpy", "scipy", "statistics"} or (package[0] == "_" and package != "__main__")


def _tells_of_traced(error: BaseException, traceback: TracebackType | None) -> bool:
    """Whether an exception comes of a traced value: by its words, or as a library's branch on a mask, which it holds beside one."""
    if re.search(_NOT_TAKEN, str(error)):
        return True
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or not str(error).startswith("The truth value of an array"):
        return False
    frame = traceback.tb_frame
    return is_library(frame.f_code.co_filename) and any(contains_tracer(x) for x in frame.f_locals.values())


def _not_taken(error: BaseException, traceback: TracebackType | None) -> TraceError:
    """The error for a traced value in the hands of code that takes plain numbers only."""
    return TraceError(
        f"a traced value was given to code that cannot follow it: {error}",
        "Collect traced numbers with np.array([...]) and use NumPy's functions on them, or pass cr.value(x) where a constant is "
        "meant.",
        where=traceback_location(traceback),
    )


class tracing:  # noqa: N801 - a context manager, read as a word: `with tracing():`
    """The scope in which a thread traces. Nested scopes of one thread cost an addition."""

    __slots__ = ()

    def __enter__(self) -> None:
        if _surface:
            load_surface()
        depth = _local.depth
        _local.depth = depth + 1
        if depth == 0:
            watched.by = _local.refusals
        if depth == 0 and _state["enabled"]:
            with _lock:
                _state["count"] += 1
                if _state["count"] == 1:
                    _present.install()

    def __exit__(self, _type: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        depth = _local.depth - 1
        _local.depth = depth
        if depth == 0 and _state["enabled"]:
            with _lock:
                _state["count"] -= 1
                if _state["count"] == 0:
                    _present.restore()
        if depth == 0:
            watched.by = None
        try:
            if error is not None:
                self._explain(error, traceback)
        finally:
            if depth == 0:
                _local.refusals.clear()

    @staticmethod
    def _explain(error: BaseException, traceback: TracebackType | None) -> None:
        behind = _local.refusals.behind(error)
        if behind is not None:
            raise behind from (None if behind in (error.__cause__, error.__context__) else error)
        if isinstance(error, Exception) and _is_of_library(type(error)) and _tells_of_traced(error, traceback):
            raise _not_taken(error, traceback) from error


def interception(enabled: bool) -> None:
    """Switch the interception of np.array, math.sin and their kin on or off for the whole process.

    Off, these functions raise on traced values instead of following them. Not to be called while something is traced.

    >>> interception(False)
    >>> interception(True)
    """
    with _lock:
        if _state["count"]:
            raise RuntimeError("interception cannot be switched while a function is being traced")
        _state["enabled"] = enabled
