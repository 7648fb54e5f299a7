"""The signature of a call: the tree of its arguments, their shapes and dtypes, and the static arguments."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import ProgramError, TraceError
from chainrule.trace import tree


class Layout(NamedTuple):
    """The arguments of one call, laid out: static ones by place, the leaves of the others, and how these form the call again."""

    statics: tuple[tuple[int, Any], ...]
    leaves: list[Any]
    rebuild: Callable[[list[Any]], Any]
    form: Any

    def call(self, f: Callable[..., Any], leaves: list[Any]) -> Any:
        """f with these leaves in the place of the arguments that are not static."""
        own, named = self.rebuild(leaves)
        whole = list(own)
        for n, value in self.statics:
            whole.insert(n, value)
        return f(*whole, **named)


def layout(args: tuple[Any, ...], kwargs: dict[str, Any], static_argnums: tuple[int, ...]) -> Layout:
    """The arguments of a call, laid out."""
    statics: tuple[tuple[int, Any], ...] = ()
    if static_argnums:
        places = sorted({n % len(args) for n in static_argnums if -len(args) <= n < len(args)})
        statics = tuple((n, args[n]) for n in places)
        args = tuple(a for n, a in enumerate(args) if n not in places)
    leaves, rebuild = tree.flatten((args, kwargs))
    return Layout(statics, leaves, rebuild, tree.structure((args, kwargs)))


def signature(call: Layout, leaves: list[Any], name: str) -> Hashable:
    """What a recording is made for; `leaves` are those of the call as arrays."""
    key = (
        call.form,
        tuple((n, _static(x)) for n, x in call.statics),
        tuple((x.shape, x.dtype.newbyteorder("=")) for x in leaves),
    )
    try:
        hash(key)
    except TypeError as error:
        raise ProgramError(
            f"a static argument of `{name}` cannot be hashed", "Pass a tuple, a string, a number."
        ) from error
    return key


def as_array(x: Any, what: str) -> Any:
    """A leaf as an array or scalar of numbers; what it was (given, returned) is for the error."""
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


def leaf(x: Any) -> Any:
    """An argument as NumPy's own array or scalar, in this machine's byte order."""
    if type(x) is not np.ndarray:
        x = np.asarray(x) if isinstance(x, np.ndarray) else (x if isinstance(x, np.generic) else as_array(x, "given"))
        if x.dtype.kind not in "biufc":
            return as_array(x, "given")
    elif x.dtype.kind not in "biufc":
        return as_array(x, "given")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
