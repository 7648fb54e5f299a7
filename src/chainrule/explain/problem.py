"""What is differentiated: a function with the arguments it is called with, seen as a function from R^n to R^m.

`load` finds both in a file of the user's. Errors are `ProblemError`s of one line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from chainrule.ir.types import ArrayType
from chainrule.trace import tree

Vector = np.ndarray[Any, np.dtype[Any]]


class ProblemError(Exception):
    """What keeps a function from being differentiated, in one line."""


@dataclass(frozen=True)
class Problem:
    """f at given arguments, as a function of those of their leaves that are real arrays (of the arguments named in `wrt`)."""

    name: str
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    function: Callable[[list[Any]], Any] = field(repr=False)
    file: str = ""
    argnums: tuple[int, ...] = (0,)

    @classmethod
    def of(
        cls,
        f: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
        *,
        wrt: Sequence[str] | None = None,
        file: str = "",
    ) -> Problem:
        """The function with arguments as they would be given to it; `wrt` names arguments, or gives their numbers."""
        kwargs = kwargs or {}
        labels = [*_argument_names(f, len(args)), *kwargs]
        chosen = _chosen(labels, wrt)
        values = [*args, *kwargs.values()]
        flat: list[tuple[list[Any], Callable[[list[Any]], Any]]] = [tree.flatten(v) for v in values]
        places: list[tuple[int, int]] = []
        leaves, names = [], []
        for i, (label, (found, _)) in enumerate(zip(labels, flat, strict=True)):
            paths = tree.paths(values[i]) if len(found) > 1 else [""] * len(found)
            for j, (leaf, path) in enumerate(zip(found, paths, strict=True)):
                if label in chosen and _is_real(leaf):
                    places.append((i, j))
                    leaves.append(np.asarray(leaf)[()])
                    names.append(label + path)
        _refuse_none(f, labels, chosen, flat, leaves)

        def function(given: list[Any]) -> Any:
            lists = [list(found) for found, _ in flat]
            for (i, j), x in zip(places, given, strict=True):
                lists[i][j] = x
            whole = [rebuild(found) for found, (_, rebuild) in zip(lists, flat, strict=True)]
            return f(*whole[: len(args)], **dict(zip(kwargs, whole[len(args) :], strict=True)))

        return cls(
            getattr(f, "__name__", type(f).__name__),
            tuple(leaves),
            tuple(names),
            function,
            file,
            _argnums(f, labels, places),
        )

    def outputs(self, leaves: list[Any]) -> list[Any]:
        """The outputs of f, as a list of arrays or tracers, for leaves in the place of the differentiated ones."""
        found, _ = tree.flatten(self.function(leaves))
        if not found:
            raise ProblemError(f"{self.name} returned nothing to differentiate: it should return a number or an array")
        return [x if hasattr(x, "dtype") else np.asarray(x)[()] for x in found]

    @property
    def point(self) -> Vector:
        """The leaves as one vector of float64."""
        return np.concatenate([np.ravel(x).astype(np.float64) for x in self.leaves])

    @property
    def size(self) -> int:
        """The number n of inputs."""
        return sum(int(np.size(x)) for x in self.leaves)

    @property
    def epsilon(self) -> float:
        """The rounding unit of the least precise leaf."""
        return max(float(np.finfo(x.dtype).eps) for x in self.leaves)

    def split(self, x: Vector, dtype: Any = None) -> list[Any]:
        """A vector as leaves, of their own dtypes or of another."""
        out, start = [], 0
        for leaf in self.leaves:
            n = int(np.size(leaf))
            out.append(x[start : start + n].reshape(leaf.shape).astype(dtype or leaf.dtype)[()])
            start += n
        return out

    def at(self, x: Vector, dtype: Any = None) -> Vector:
        """f(x) as one vector, for x as one vector; computed by NumPy alone."""
        return np.concatenate([np.ravel(y) for y in self.outputs(self.split(x, dtype))])


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, float | np.floating) or (
        isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" and leaf.size > 0
    )


def _argument_names(f: Callable[..., Any], count: int | None) -> list[str]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [p.name for p in parameters if p.kind in kinds]
    return [named[i] if i < len(named) else f"x{i + 1}" for i in range(len(named) if count is None else count)]


def _argnums(f: Any, labels: Sequence[str], places: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The numbers of the arguments that have differentiated leaves, in the order of the function's signature."""
    order = _argument_names(f, None) or list(labels)
    return tuple(dict.fromkeys(order.index(labels[i]) if labels[i] in order else i for i, _ in places))


def _chosen(labels: Sequence[str], wrt: Sequence[str] | None) -> set[str]:
    if wrt is None:
        return set(labels)
    chosen = set()
    for name in wrt:
        label = labels[int(name)] if name.isdigit() and int(name) < len(labels) else name
        if label not in labels:
            raise ProblemError(f"--wrt {name}: the arguments are {', '.join(labels)}")
        chosen.add(label)
    return chosen


def _refuse_none(f: Any, labels: Sequence[str], chosen: set[str], flat: Sequence[Any], leaves: Sequence[Any]) -> None:
    name = getattr(f, "__name__", type(f).__name__)
    candidates = [leaf for label, (found, _) in zip(labels, flat, strict=True) if label in chosen for leaf in found]
    if any(np.iscomplexobj(leaf) for leaf in candidates):
        raise ProblemError(f"{name} has complex inputs: give it real and imaginary part as real arguments")
    if leaves:
        return
    if not candidates:
        raise ProblemError(f"{name} has no inputs to differentiate")
    found = ", ".join(
        sorted({str(ArrayType.of(leaf)) if hasattr(leaf, "dtype") else type(leaf).__name__ for leaf in candidates})
    )
    raise ProblemError(
        f"{name} has no floating-point inputs (only {found}): write 2.0 instead of 2, or x.astype(float)"
    )


# ---- from a file


def load(target: str, inputs: str | None = None, wrt: Sequence[str] | None = None) -> Problem:
    """The problem that `FILE.py:FUNCTION` names, with inputs from the same file."""
    path, _, name = target.rpartition(":")
    if not path or not name or name.endswith(".py"):
        raise ProblemError(f"{target}: expected FILE.py:FUNCTION, as in model.py:loss")
    module = _module(Path(path))
    f: Any = module
    for part in name.split("."):
        f = getattr(f, part, None)
    if not callable(f):
        offered = ", ".join(
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        )
        what = "is not a function" if f is not None else "is not in it"
        raise ProblemError(f"{path}: {name} {what}; the functions are: {offered or 'none'}")
    args, kwargs = _arguments(f, name, _inputs(module, f, name, inputs, path))
    return Problem.of(f, args, kwargs, wrt=wrt, file=path)


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ProblemError(f"{path}: no such file")
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_reported"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProblemError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ProblemError(f"{path} could not be imported: {one_line(error)}") from error
    except SystemExit as error:
        raise ProblemError(
            f"{path} called sys.exit() when imported; guard it with `if __name__ == '__main__':`"
        ) from error
    finally:
        sys.path.pop(0)
    return module


_NONE = object()


def _inputs(module: ModuleType, f: Any, name: str, wanted: str | None, path: str) -> Any:
    simple = name.rpartition(".")[2]
    names = (wanted,) if wanted else (f"{simple}_inputs", "inputs", "example_inputs")
    found = next((getattr(module, n) for n in names if hasattr(module, n)), _NONE)
    if found is _NONE:
        if wanted:
            raise ProblemError(f"{path}: --inputs {wanted} is not in it")
        defaults = _defaults(f)
        if not defaults:
            raise ProblemError(
                f"{path}: no inputs for {name}: define one of {', '.join(names)} in it, or name them with --inputs"
            )
        return defaults
    if callable(found) and not isinstance(found, np.ndarray):
        try:
            return found()
        except Exception as error:  # the user's code may raise anything
            raise ProblemError(f"the inputs of {name} could not be made: {one_line(error)}") from error
    return found


def _defaults(f: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return {}
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {} if required else {p.name: p.default for p in parameters if p.default is not p.empty}


def _arguments(f: Any, name: str, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How f is called: with a tuple as its arguments, a dict as its keywords, where f takes them so; all else is one argument."""
    candidates: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((given,), {})]
    if isinstance(given, tuple):
        candidates.insert(0, (given, {}))
    if isinstance(given, dict) and all(isinstance(k, str) for k in given):
        candidates.insert(0, ((), given))
    for args, kwargs in candidates:
        try:
            inspect.signature(f).bind(*args, **kwargs)
        except TypeError:
            continue
        except ValueError:  # a function in C, without a signature
            pass
        return args, kwargs
    raise ProblemError(
        f"the inputs do not fit {name}{inspect.signature(f)}: give a tuple of its arguments, or a dict of them by name"
    )


# ---- running the user's code


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this scope what the user's function prints, and what NumPy warns of, is dropped: it runs many times."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def one_line(error: BaseException) -> str:
    """An exception as one line: its kind, its message, and where in the user's code."""
    message = " ".join(str(error).split())
    where = _where(error)
    text = (
        message
        if hasattr(error, "repair")
        else f"{type(error).__name__}: {message}"
        if message
        else type(error).__name__
    )
    return f"{text} ({where})" if where and not hasattr(error, "repair") else text


def _where(error: BaseException) -> str:
    """`file:line` of the innermost frame outside of installed packages."""
    here = str(Path(__file__).resolve().parent.parent)
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((here, "<frozen")) and "site-packages" not in file and f"{sys.prefix}/lib" not in file:
            found = f"at {file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
