"""jit(f): f staged by signature, guarded where Python branched, and run as native code.

    signature   the tree of the arguments, their shapes and dtypes, and the static arguments
    path        the program that f runs for one outcome of every Python branch on a traced value; its guards are those outcomes
    call        run a path, compare the values that were branched on with its guards, and take the result where they agree

Where no path agrees, f is recorded again for the path that it takes now.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import numpy as np

from chainrule.backends import Executable, compile_program, fast_entry
from chainrule.errors import ProgramError, TraceError
from chainrule.ir import program as ir
from chainrule.ir.primitive import is_tracer
from chainrule.ir.program import Program
from chainrule.optimise import optimise
from chainrule.trace import tree
from chainrule.trace.record import record_program

Backend = Literal["llvm", "numpy"]

PATHS = 16
"""How many paths of one signature are kept; beyond them the function runs eagerly."""

# What a path may raise when it is run with values that would have taken another.
_STRAY = (ArithmeticError, LookupError, ValueError, TypeError)


class _Path:
    """One compiled path: its program ends with the values that were branched on, after the function's own outputs."""

    __slots__ = ("executable", "expected", "outputs", "program", "rebuild")

    def __init__(self, program: Program, rebuild: Callable[[list[Any]], Any], backend: Backend) -> None:
        self.expected = [value for _, value in program.guards]
        self.outputs = len(program.outputs)
        self.rebuild = rebuild
        whole = _with_own_constants(program)
        self.program = optimise(whole)
        self.executable: Executable = compile_program(self.program, backend)

    def run(self, leaves: Sequence[Any]) -> tuple[bool, list[Any]]:
        """Whether the values take this path, and the outputs if so."""
        if not self.expected:
            return True, self.executable(leaves)
        try:
            found = self.executable(leaves)
        except _STRAY:
            return False, []
        agrees = all(_same(a, b) for a, b in zip(found[self.outputs :], self.expected, strict=True))
        return agrees, found[: self.outputs]


def _with_own_constants(program: Program) -> Program:
    """The program with its guards' values as further outputs, and with copies of the arrays that user code may still write into."""
    copies: dict[int, ir.Literal] = {}

    def own(atoms: Sequence[ir.Atom]) -> tuple[ir.Atom, ...]:
        return tuple(copied(a) if isinstance(a, ir.Literal) and isinstance(a.value, np.ndarray) else a for a in atoms)

    def copied(a: ir.Literal) -> ir.Literal:
        if not a.value.flags.writeable:
            return a
        if id(a.value) not in copies:
            copies[id(a.value)] = ir.Literal(a.value.copy(order="K"))
        return copies[id(a.value)]

    equations = tuple(dataclasses.replace(e, args=own(e.args)) for e in program.equations)
    outputs = program.outputs + tuple(a for a, _ in program.guards)
    return Program(program.name, program.inputs, equations, own(outputs))


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc"))


class _Staged:
    """The paths of one signature."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.paths: list[_Path] = []
        self.is_eager = False
        self.lock = threading.RLock()

    def run(self, f: Callable[[list[Any]], Any], leaves: list[Any]) -> Any:
        """f(leaves), by the path that agrees; recorded now if there is none."""
        if not self.is_eager:
            for path in self.paths:
                agrees, outs = path.run(leaves)
                if agrees:
                    return path.rebuild(outs)
            try:
                recorded = self._record(f, leaves)
            except _TracedOutside:
                return f(leaves)
            if recorded is not None:
                agrees, outs = recorded.run(leaves)
                if agrees:
                    return recorded.rebuild(outs)
        return f(leaves)

    def _record(self, f: Callable[[list[Any]], Any], leaves: list[Any]) -> _Path | None:
        with self.lock:
            if len(self.paths) >= PATHS:
                if not self.is_eager:
                    self.is_eager = True
                    warnings.warn(
                        f"jit: `{self.name}` took more than {PATHS} different paths through its branches on traced values; it runs "
                        "eagerly from now on. Use np.where in the place of branches, or static_argnums for what they depend on.",
                        RuntimeWarning,
                        stacklevel=4,
                    )
                return None
            path = _Path(*_recorded(f, leaves, self.name), self.backend)
            self.paths = [path, *self.paths]
            return path


class _TracedOutside(Exception):
    """A result depends on a traced value that the function did not take as an argument; no constant may stand for it."""


def _is_traced_outside(x: Any, given: Sequence[Any]) -> bool:
    """Whether an output of a recording, whose inputs are given, is a value that a transformation around it traces."""
    if is_tracer(x) and any(x.owner is t.owner for t in given):
        x = x.value
    return is_tracer(x)


def _recorded(
    f: Callable[[list[Any]], Any], leaves: list[Any], name: str
) -> tuple[Program, Callable[[list[Any]], Any]]:
    """The program of f, and how its outputs are put back into their tree."""
    form: list[Callable[[list[Any]], Any]] = []

    def flat(xs: list[Any]) -> list[Any]:
        found, rebuild = tree.flatten(f(xs))
        form.append(rebuild)
        if any(_is_traced_outside(x, xs) for x in found):
            raise _TracedOutside
        return [x if hasattr(x, "dtype") else _as_array(x, "returned") for x in found]

    program = record_program(flat, leaves, name)
    return program, form[0]


def _as_array(x: Any, what: str) -> Any:
    out = np.asarray(x)
    if out.dtype.kind not in "biufc":
        raise TraceError(
            f"a staged function was {what} a {type(x).__name__}, which is not an array of numbers",
            "Name such arguments in static_argnums; return arrays, numbers, or trees of them.",
        )
    return out[()]


def _static(x: Any) -> Any:
    """A static argument as part of a signature: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(x, tuple):
        return (type(x), *map(_static, x))
    return (type(x), x.hex()) if isinstance(x, float) else (type(x), x)


def _leaf(x: Any) -> Any:
    """An argument as NumPy's own array or scalar, in this machine's byte order."""
    if type(x) is not np.ndarray:
        x = np.asarray(x) if isinstance(x, np.ndarray) else (x if isinstance(x, np.generic) else _as_array(x, "given"))
        if x.dtype.kind not in "biufc":
            return _as_array(x, "given")
    elif x.dtype.kind not in "biufc":
        return _as_array(x, "given")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


class Jitted:
    """A staged function; made by `jit`. Its `__call__` is replaced by a native entry once a signature is compiled."""

    __slots__ = ("__call__", "__dict__", "__weakref__")

    def __init__(self, f: Callable[..., Any], static_argnums: tuple[int, ...], backend: Backend) -> None:
        functools.update_wrapper(self, f)
        self.function = f
        self.static_argnums = static_argnums
        self.backend: Backend = backend
        self._staged: dict[Any, _Staged] = {}
        self._lock = threading.Lock()
        self.__call__ = self._call

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        statics, leaves, rebuild, form = self._layout(args, kwargs)
        if any(is_tracer(x) for x in leaves):
            return self.function(*args, **kwargs)
        leaves = [_leaf(x) for x in leaves]
        staged = self._signature(statics, form, leaves)

        def flat(xs: list[Any]) -> Any:
            own, named = rebuild(xs)
            return self.function(*self._with_statics(own, statics), **named)

        known = len(staged.paths)
        result = staged.run(flat, leaves)
        if known == 0 and len(staged.paths) == 1:
            self._install(staged, args, kwargs)
        return result

    def _layout(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, list[Any], Callable[[list[Any]], Any], Any]:
        """Static arguments by place, the leaves of the others, how to rebuild these, and their form."""
        statics: tuple[tuple[int, Any], ...] = ()
        if self.static_argnums:
            places = sorted({n % len(args) for n in self.static_argnums if -len(args) <= n < len(args)})
            statics = tuple((n, args[n]) for n in places)
            args = tuple(a for n, a in enumerate(args) if n not in places)
        leaves, rebuild = tree.flatten((args, kwargs))
        return statics, leaves, rebuild, tree.structure((args, kwargs))

    @staticmethod
    def _with_statics(args: tuple[Any, ...], statics: tuple[tuple[int, Any], ...]) -> list[Any]:
        whole = list(args)
        for n, value in statics:
            whole.insert(n, value)
        return whole

    def _signature(self, statics: Any, form: Any, leaves: list[Any]) -> _Staged:
        key = (form, tuple((n, _static(x)) for n, x in statics), tuple((x.shape, x.dtype) for x in leaves))
        try:
            staged = self._staged.get(key)
        except TypeError as error:
            raise ProgramError(
                f"a static argument of `{self._name}` cannot be hashed", "Pass a tuple, a string, a number."
            ) from error
        if staged is None:
            with self._lock:
                staged = self._staged.setdefault(key, _Staged(self._name, self.backend))
        return staged

    @property
    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def _install(self, staged: _Staged, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put a native entry in front of the slow path, where there is one for this kind of call."""
        path = staged.paths[0]
        if (
            kwargs
            or path.expected
            or any(tree.flatten(a)[0] != [a] for a in args if not hasattr(a, "dtype"))
            or self.static_argnums
        ):
            return
        entry = fast_entry(path.executable, args, path.rebuild, self._call)
        if entry is not None:
            self.__call__ = entry

    def paths(self, *args: Any, **kwargs: Any) -> Sequence[_Path]:
        """The compiled paths for a call like this; compiles one where there is none."""
        statics, leaves, _, form = self._layout(args, kwargs)
        staged = self._signature(statics, form, [_leaf(x) for x in leaves])
        if not staged.paths:
            self._call(*args, **kwargs)
        return staged.paths

    def clear(self) -> None:
        """Forget everything that was recorded and compiled."""
        self._staged = {}
        self.__call__ = self._call

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
        return jit, (self.function,), {"static_argnums": self.static_argnums, "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@overload
def jit(f: Callable[..., Any], *, static_argnums: int | Sequence[int] = (), backend: Backend = "llvm") -> Jitted: ...
@overload
def jit(
    f: None = None, *, static_argnums: int | Sequence[int] = (), backend: Backend = "llvm"
) -> Callable[..., Jitted]: ...
def jit(
    f: Callable[..., Any] | None = None, *, static_argnums: int | Sequence[int] = (), backend: Backend = "llvm"
) -> Any:
    """f compiled: recorded once for each tree, shapes and dtypes of its arguments, and run as native code from then on.

    Python branches on traced values are recorded as guards: a call that decides otherwise is recorded again for its path, up to
    16 paths; beyond these f runs eagerly, with one warning. Arguments named by `static_argnums` are Python values (hashable) on
    which f may depend in any way; each value is recorded by itself. What f takes from outside its arguments (globals, closures) is
    captured as a constant when it is recorded, and what f prints, it prints then. Numbers among the arguments count as float64 or
    int64.

    jit composes with every transformation: jit(grad(f)), jit(jacobian(f)), grad(jit(f)), vmap(jit(f)), jit(jit(f)). It may be
    called from several threads. `backend="numpy"` runs the same programs by NumPy.

    >>> fast = jit(lambda x: np.sum(np.sin(x) ** 2))
    >>> fast(np.array([0.0, np.pi / 2]))
    np.float64(1.0)
    """
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    if f is None:
        return lambda g: Jitted(g, numbers, backend)
    return Jitted(f, numbers, backend)


def describe(jitted: Jitted, *args: Any, **kwargs: Any) -> str:
    """The stages of a jitted function for these arguments, as text: each path's program, then its kernels and what NumPy runs.

    >>> print(describe(jit(lambda x: x + 1.0, backend="numpy"), np.ones(3)))  # doctest: +ELLIPSIS
    program <lambda>(a: f64[3]) -> f64[3]
      b: f64[3] = add a 1.0 ...
      return b
    by NumPy, one operation after the other
    """
    return "\n\n".join(f"{path.program}\n{path.executable.describe()}" for path in jitted.paths(*args, **kwargs))
