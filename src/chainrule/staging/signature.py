"""The signature of a call: the tree of its arguments, their shapes and dtypes, and the static arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import ProgramError, TraceError
from chainrule.ir.primitive import is_tracer
from chainrule.ir.types import OTHER_ALGEBRA_REPAIR, is_other_algebra
from chainrule.trace import tree
from chainrule.trace.tape import NUMBERS


class Static(NamedTuple):
    """Which arguments are static: by place, and by name."""

    places: tuple[int, ...]
    names: frozenset[str]


class Layout(NamedTuple):
    """The arguments of one call, laid out: static ones by place or name, the leaves of the others, and how these form the call."""

    statics: tuple[tuple[int | str, Any], ...]
    leaves: list[Any]
    rebuild: Callable[[list[Any]], Any]
    tree: Any

    def call(self, f: Callable[..., Any], leaves: list[Any]) -> Any:
        """f with these leaves in the place of the arguments that are not static."""
        own, named = self.rebuild(leaves)
        whole = list(own)
        for place, value in self.statics:
            if isinstance(place, str):
                named[place] = value
            else:
                whole.insert(place, value)
        return f(*whole, **named)


def static_arguments(f: Callable[..., Any], argnums: int | Sequence[int], argnames: str | Sequence[str]) -> Static:
    """The static arguments of f; where its signature tells, those given by place are known by name too, and the other way round."""
    numbers = _checked(
        "static_argnums", (argnums,) if isinstance(argnums, int | np.integer) else argnums, int | np.integer
    )
    names = _checked("static_argnames", (argnames,) if isinstance(argnames, str) else argnames, str)
    if not numbers and not names:
        return Static((), frozenset())
    try:
        parameters = inspect.signature(f).parameters
    except (TypeError, ValueError):  # a callable that does not tell its signature
        return Static(tuple(map(int, numbers)), frozenset(names))
    positional = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    kinds = {p.kind for p in parameters.values()}
    n = len(positional)
    is_open = inspect.Parameter.VAR_POSITIONAL in kinds
    for k in numbers:
        if not (is_open or -n <= k < n):
            raise ValueError(f"static_argnums={k}, but `{_name(f)}` has {n} positional arguments")
    for name in names:
        if name not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ValueError(f"static_argnames has {name!r}, which is no argument of `{_name(f)}`")
    places = {int(k) if is_open else int(k) % n for k in numbers}
    return Static(
        tuple(sorted(places | {positional.index(name) for name in names if name in positional})),
        frozenset(names) | {positional[k] for k in places if -n <= k < n},
    )


def _checked(what: str, given: Any, kind: Any) -> list[Any]:
    if not isinstance(given, Iterable) or not all(isinstance(x, kind) for x in given):
        raise TypeError(
            f"{what} is {'a name or names' if kind is str else 'a number or numbers'} of arguments, not {given!r}"
        )
    return list(given)


def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def layout(args: tuple[Any, ...], kwargs: dict[str, Any], static: Static) -> Layout:
    """The arguments of a call, laid out."""
    statics: tuple[tuple[int | str, Any], ...] = ()
    if static.places:
        places = sorted({n % len(args) for n in static.places if -len(args) <= n < len(args)})
        statics = tuple((n, args[n]) for n in places)
        args = tuple(a for n, a in enumerate(args) if n not in places)
    if static.names and kwargs:
        statics += tuple((name, kwargs[name]) for name in sorted(static.names & kwargs.keys()))
        kwargs = {name: x for name, x in kwargs.items() if name not in static.names}
    leaves, rebuild = tree.flatten((args, kwargs))
    return Layout(statics, leaves, rebuild, (args, kwargs))


def signature(call: Layout, leaves: list[Any], name: str) -> Hashable:
    """What a recording is made for; `leaves` are those of the call as arrays."""
    key = (
        tree.structure(call.tree),
        tuple((n, _static(x)) for n, x in call.statics),
        *[(x.shape, x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")) for x in leaves],
    )
    try:
        hash(key)
    except TypeError as error:
        raise ProgramError(
            f"a static argument of `{name}` cannot be hashed", "Pass a tuple, a string, a number."
        ) from error
    return key


def _static(x: Any) -> Any:
    """A static argument as part of a signature: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(x, tuple):
        return (type(x), *map(_static, x))
    return (type(x), x.hex()) if isinstance(x, float) else (type(x), x)


def arrays(call: Layout, name: str) -> list[Any]:
    """The leaves of a call as NumPy's own arrays and scalars, in this machine's byte order; traced values as they are."""
    return [x if is_tracer(x) else _leaf(x, k, call, name) for k, x in enumerate(call.leaves)]


def numbers(call: Layout) -> tuple[bool, ...]:
    """Which leaves are numbers of Python's own, which take the precision of the arrays that they meet."""
    return tuple(type(x) in NUMBERS for x in call.leaves)


def _leaf(x: Any, k: int, call: Layout, name: str) -> Any:
    if type(x) is not np.ndarray and not isinstance(x, np.generic):
        if is_other_algebra(x):
            what = f"jit: `{name}` was given a {type(x).__name__} ({_place(call, k)})"
            raise TraceError(f"{what}, whose operations are not those of arrays", OTHER_ALGEBRA_REPAIR)
        try:
            x = np.asarray(x)
        except ValueError:
            raise _no_array(x, k, call, name) from None
    if x.dtype.kind not in "biufc":
        raise _no_array(call.leaves[k], k, call, name)
    x = native(x)
    return x if isinstance(call.leaves[k], np.ndarray) else x[()]


def native(x: Any) -> Any:
    """An array or scalar in this machine's byte order."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _no_array(x: Any, k: int, call: Layout, name: str) -> TraceError:
    kind = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
    return TraceError(
        f"jit: `{name}` was given {kind} ({_place(call, k)}), which is no array of numbers",
        "Name such arguments in static_argnums or static_argnames; pass arrays, numbers, or trees of them; declare a dataclass by "
        '@optree.dataclasses.dataclass(namespace="chainrule"). For a method, write jit(obj.method).',
    )


def _place(call: Layout, k: int) -> str:
    """Which argument a leaf is, as a text such as "argument 0, ['a']"."""
    args, kwargs = call.tree
    left = [n for n in range(len(args) + len(call.statics)) if n not in {p for p, _ in call.statics}]
    for n, x in [*zip(left, args, strict=False), *kwargs.items()]:
        names = tree.paths(x)
        if k < len(names):
            return f"argument {n}{', ' + names[k] if names[k] else ''}"
        k -= len(names)
    return "an argument"


def returned(x: Any, name: str) -> Any:
    """A leaf of a result as an array or scalar of numbers."""
    from chainrule.numpy.arguments import as_array  # loaded by the trace that x comes from

    out = as_array(x)
    if out.dtype.kind not in "biufc":
        raise TraceError(
            f"jit: `{name}` returned a {type(x).__name__}, which is no array of numbers",
            "Return arrays, numbers, or trees of them.",
        )
    return out[()]
