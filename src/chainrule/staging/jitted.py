"""jit(f): f staged by signature, guarded where Python branched, and run as native code.

    signature   the tree of the arguments, their shapes and dtypes, and the static arguments
    path        the program that f runs for one outcome of every Python branch on a traced value; its guards are those outcomes
    call        run a path, compare the values that were branched on with its guards, and take the result where they agree

Where no path agrees, f is recorded again for the path that it takes now.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from chainrule.backends import Call, entry
from chainrule.errors import TraceError
from chainrule.ir.primitive import is_tracer
from chainrule.staging.buffers import leaves_of, written
from chainrule.staging.paths import Backend, Path, Paths
from chainrule.staging.signature import Layout, Static, arrays, layout, numbers, signature, static_arguments
from chainrule.trace import inlining
from chainrule.trace.record import is_recorded


class Jitted:
    """A staged function; made by `jit`. Its `__call__` is replaced by a native entry once a signature is compiled."""

    __slots__ = ("__call__", "__dict__", "__weakref__")

    def __init__(self, f: Callable[..., Any], static: Static, backend: Backend) -> None:
        functools.update_wrapper(self, f)
        self.function = f
        self.static = static
        self.backend: Backend = backend
        self._lock = threading.Lock()
        self._entry: Any
        self._transformed: dict[Any, Jitted] = {}
        self.clear()

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None) if not self._takes_out else None
        call = layout(args, kwargs, self.static)
        if any(is_tracer(x) for x in call.leaves):
            if out is not None:
                raise TraceError(
                    f"`{self._name}` was called with out= on traced values, which no array can hold",
                    "Leave out= to the outermost call; inside a transformation, use the result.",
                )
            return self._call_traced(call)
        leaves = arrays(call, self._name)
        paths = self._paths(call, leaves)
        into = () if out is None else leaves_of(out)
        result, path = paths.run(lambda xs: call.call(self.function, xs), leaves, numbers(call), into)
        if out is not None:
            result = written(out, result, self._name)
        if path is not None:
            self._install(path, call, args, kwargs, out)
        return result

    @functools.cached_property
    def _takes_out(self) -> bool:
        """Whether the function has a parameter `out` of its own, which then is its own business."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return False
        return any(p.name == "out" or p.kind is p.VAR_KEYWORD for p in parameters)

    def _call_traced(self, call: Layout) -> Any:
        """As one operation of the traces; part of the program that is being recorded, where one is."""

        def f(xs: list[Any]) -> Any:
            return call.call(self.function, xs)

        if inlining.mode.on or any(is_recorded(x) for x in call.leaves):
            return f(call.leaves)
        leaves = arrays(call, self._name)
        return self._paths(call, leaves).run_traced(f, leaves, numbers(call))

    def _paths(self, call: Layout, leaves: list[Any]) -> Paths:
        """The paths of the call's signature."""
        key = signature(call, leaves, self._name)
        paths = self._staged.get(key)
        if paths is None:
            with self._lock:
                paths = self._staged.setdefault(key, Paths(self._name, self.backend))
        return paths

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def _install(self, path: Path, call: Layout, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Let the native entry take calls like this one from now on, where it can."""
        if path.is_narrow and any(not isinstance(x, np.ndarray) for x in call.leaves):
            return  # to the entry Python's numbers are as NumPy's are
        way = (path, tuple(kwargs), out is None, tuple(map(type, call.leaves)))
        with self._lock:
            if way in self._served:
                return
            self._served.add(way)
            if self._entry is None:
                self._entry = entry(self.backend, self._name, self._call)
            statics = [n for n, _ in call.statics]
            shown = Call(args, kwargs, statics, call.leaves, path.rebuild, path.expected, out)
            if self._entry is not None and self._entry.add(path.executable, shown):
                self.__call__ = self._entry.call

    def known(self, *args: Any, **kwargs: Any) -> Paths:
        """What is known for calls like this; recorded and compiled now where nothing is."""
        call = layout(args, kwargs, self.static)
        paths = self._paths(call, arrays(call, self._name))
        if not paths.paths:
            self._call(*args, **kwargs)
        return paths

    @property
    def signatures(self) -> int:
        """How many kinds of arguments it has been recorded for."""
        return len(self._staged)

    def clear(self) -> None:
        """Forget everything that was recorded and compiled."""
        self._staged: dict[Any, Paths] = {}
        self._served: set[Any] = set()  # the ways of calling each path that the entry has been shown
        self._entry = None
        self.__call__ = self._call
        for transformed in list(self._transformed.values()):
            transformed.clear()

    def __chainrule_transformed__(
        self, key: Any, transform: Callable[[Any], Callable[..., Any]], regroups: bool
    ) -> Jitted | None:
        """A transform staged as a whole: made once, and forgotten with the function.

        None where there are static arguments and the transform takes others, and where what it depends on has no hash.
        """
        try:
            hash(key)
        except TypeError:
            return None
        if regroups and (self.static.places or self.static.names):
            return None
        with self._lock:
            if key not in self._transformed:
                self._transformed[key] = Jitted(transform(self.function), self.static, self.backend)
            return self._transformed[key]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"jit({self.function!r})"

    def __reduce__(self) -> Any:
        name, module = getattr(self, "__qualname__", ""), sys.modules.get(getattr(self, "__module__", ""))
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        return Jitted, (self.function, self.static, self.backend)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@overload
def jit(
    f: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    backend: Backend = "llvm",
) -> Jitted: ...
@overload
def jit(
    f: None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    backend: Backend = "llvm",
) -> Callable[..., Jitted]: ...
def jit(
    f: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    backend: Backend = "llvm",
) -> Any:
    """f compiled: recorded once for each tree, shapes and dtypes of its arguments, and run as native code from then on.

    Python branches on traced values are recorded as guards: a call that decides otherwise is recorded again for its path, up to
    16 paths; beyond these f runs eagerly, with one warning. Arguments named by `static_argnums` or `static_argnames` are Python
    values (hashable) on which f may depend in any way; each value is recorded by itself. What f takes from outside its arguments
    (globals, closures) is captured as a constant when it is recorded, and what f prints, it prints then. Arguments are not written
    into: `x += 1` makes a new array. Python's numbers take the precision of the arrays they meet.

    `fast(*args, out=buffers)` writes the results into arrays of yours, in a tree like the result's, and returns `out`; native code
    allocates nothing then. The arrays may overlap the arguments. A function that has a parameter `out` itself gets it as ever.

    jit composes with every transformation: jit(grad(f)), jit(jacobian(f)), grad(jit(f)), vmap(jit(f)), jit(jit(f)). It may be
    called from several threads. `backend="numpy"` runs the same programs by NumPy.

    >>> import numpy as np
    >>> fast = jit(lambda x: np.sum(np.sin(x) ** 2))
    >>> fast(np.array([0.0, np.pi / 2]))
    np.float64(1.0)
    """
    if backend not in ("llvm", "numpy"):
        raise ValueError(f"backend is 'llvm' or 'numpy', not {backend!r}")

    def staged(g: Any) -> Any:
        if isinstance(g, staticmethod):
            return staticmethod(staged(g.__func__))
        if not callable(g):
            raise TypeError(
                f"jit takes a function, and was given a {type(g).__name__}: write cr.jit(f)(x) for cr.jit(f(x)), and @classmethod "
                "above @cr.jit"
            )
        return Jitted(g, static_arguments(g, static_argnums, static_argnames), backend)

    return staged if f is None else staged(f)
