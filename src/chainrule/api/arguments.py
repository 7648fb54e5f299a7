"""Trees of arguments and outputs laid out as lists of leaves, checked on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DifferentiationError, IntegerInput, ShapeError, TreeError
from chainrule.ir.primitive import TracerBase, is_tracer, ops
from chainrule.ir.types import OTHER_ALGEBRA_REPAIR, Array, is_other_algebra
from chainrule.trace import tree
from chainrule.trace.tape import NUMBERS

Argnums = int | Sequence[int]


def of_staged(
    f: Any,
    name: str,
    options: tuple[Any, ...],
    transform: Callable[[Any], Callable[..., Any]],
    *,
    regroups: bool = False,
) -> Callable[..., Any] | None:
    """A staged function's transform staged as a whole, which is one native call; None of any other function.

    `regroups` says that the transform takes other arguments than the function, or changes what they are.
    """
    transformed = getattr(type(f), "__chainrule_transformed__", None)
    if transformed is None:
        return None
    key = (name, *(tuple(x) if isinstance(x, list) else x for x in options))
    return transformed(f, key, transform, regroups)  # type: ignore[no-any-return]


def check_function(name: str, f: Any, argnums: Any = 0) -> None:
    """Answer the two slips that come first: grad(f(x)) and grad(f, x) in the place of grad(f)(x)."""
    if not callable(f):
        raise DifferentiationError(
            f"{name} takes a function, and was given a {type(f).__name__}",
            f"Write cr.{name}(f)(x), not cr.{name}(f(x)).",
        )
    if not (_is_number(argnums) or (isinstance(argnums, Sequence) and all(map(_is_number, argnums)))):
        raise DifferentiationError(
            f"argnums of {name} is the number of an argument, or a tuple of numbers, not a {type(argnums).__name__}",
            f"Write cr.{name}(f)(x) for the derivative at x.",
        )


def _is_number(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool)


# Puts back the one leaf of what is no tree.
_SOLE = tree.flatten(0.0)[1]


class Selected:
    """The arguments of one call that are differentiated, as leaves, and the function of those leaves."""

    __slots__ = ("args", "f", "kwargs", "leaves", "numbers", "rebuild", "single")

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Argnums) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs
        self.numbers: Sequence[int]
        self.leaves: list[Array]
        if type(argnums) is int and 0 <= argnums < len(args):
            self.single, self.numbers = True, (argnums,)
        else:
            self.single = not isinstance(argnums, Sequence)
            self.numbers = _checked_numbers((argnums,) if self.single else argnums, args)  # type: ignore[arg-type]
        chosen = args[self.numbers[0]] if self.single else tuple(args[n] for n in self.numbers)
        if _is_inexact(chosen):
            self.leaves, self.rebuild = [chosen], _SOLE
            return
        leaves, self.rebuild = tree.flatten(chosen)
        self.leaves = [x if _is_inexact(x) else self._checked_leaf(k, x) for k, x in enumerate(leaves)]

    def _checked_leaf(self, k: int, x: Any) -> Array:
        """A leaf to differentiate: an array or scalar of floating or complex dtype."""
        x = as_leaf(x)
        if not hasattr(x, "dtype"):
            raise DifferentiationError(
                f"an argument to differentiate, {self._name(k)}, is a {type(x).__name__}, "
                "which is no array, number, or tree of them",
                'Pass arrays of floats; declare a dataclass by @optree.dataclasses.dataclass(namespace="chainrule").',
            )
        if x.dtype.kind in "iub":
            raise IntegerInput(
                f"an argument to differentiate, {self._name(k)}, has dtype {x.dtype}: integers and booleans have no derivative",
                "Pass floats: 2.0 instead of 2, or x.astype(float).",
            )
        if x.dtype.kind not in "fc":
            raise DifferentiationError(
                f"an argument to differentiate, {self._name(k)}, has dtype {x.dtype}", "Pass arrays of floats."
            )
        return x

    def _name(self, k: int) -> str:
        """Leaf k as the user would write it: the parameter's name, or the argument's number, and where it is in its tree."""
        places = [(n, path) for n in self.numbers for path in tree.paths(self.args[n])]
        n, path = places[k]
        try:
            parameters = list(inspect.signature(self.f).parameters.values())[: n + 1]
        except (TypeError, ValueError):  # of a compiled function
            parameters = []
        if len(parameters) == n + 1 and all(p.kind in _POSITIONAL for p in parameters):
            return f"`{parameters[n].name}{path}`"
        return f"argument {n}" + (f" at `{path}`" if path else "")

    def call(self, leaves: list[Any]) -> Any:
        """The user's function with leaves in the place of the selected arguments."""
        chosen = self.rebuild(leaves)
        if self.single and len(self.args) == 1:
            return self.f(chosen, **self.kwargs)
        args = list(self.args)
        for n, x in zip(self.numbers, (chosen,) if self.single else chosen, strict=True):
            args[n] = x
        return self.f(*args, **self.kwargs)


def _checked_numbers(numbers: Sequence[int], args: Sequence[Any]) -> Sequence[int]:
    count = len(args)
    for n in numbers:
        if not -count <= n < count:
            raise TreeError(
                f"argnums={n}, but the function was called with {count} positional arguments",
                "Pass the differentiated arguments by position.",
            )
    found = [n % count for n in numbers]
    if len(set(found)) < len(found):
        raise TreeError(f"argnums={tuple(numbers)} names an argument twice", "Give each once.")
    return found


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_inexact(x: Any) -> bool:
    """Whether a leaf can be differentiated as it is."""
    is_array = type(x) is np.ndarray or (is_tracer(x) and type(x.value) not in NUMBERS)
    return is_array and x.dtype.kind in "fc"


def as_leaf(x: Any) -> Array:
    """An argument as a tracer or one of NumPy's own arrays and scalars; subclasses that only store differently become arrays."""
    if type(x) is np.ndarray or isinstance(x, np.generic):
        return x
    if is_tracer(x):
        return ops.positive(x) if type(x.value) in NUMBERS else x
    if is_other_algebra(x):
        raise DifferentiationError(
            f"an argument is a {type(x).__name__}, whose operations are not those of arrays", OTHER_ALGEBRA_REPAIR
        )
    return np.asarray(x)[()]


class Outputs:
    """Flattens the outputs of a traced function and remembers their form."""

    __slots__ = ("aux", "has_aux", "rebuild")

    def __init__(self, has_aux: bool = False) -> None:
        self.has_aux = has_aux
        self.aux: Any = None
        self.rebuild: Callable[[list[Any]], Any] = _SOLE

    def of(self, f: Callable[[list[Any]], Any]) -> Callable[[list[Any]], list[Any]]:
        """f with its outputs as a list of leaves."""

        def flat(leaves: list[Any]) -> list[Any]:
            out = f(leaves)
            if self.has_aux:
                out, aux = pair(
                    out, "with has_aux=True the function returns a pair (value, aux)", "Return `value, aux`."
                )
                self.aux = _untraced(aux, leaves)
            if isinstance(out, TracerBase):
                self.rebuild = _SOLE
                return [out]
            if out is None:
                raise DifferentiationError("the function returned None", "Give it a `return`.")
            found, self.rebuild = tree.flatten(out)
            return [
                x if isinstance(x, TracerBase) or getattr(x, "dtype", _OBJECTS) != _OBJECTS else _as_output(x)
                for x in found
            ]

        return flat


_OBJECTS = np.dtype(object)


def _as_output(x: Any) -> Any:
    from chainrule.numpy.arguments import as_array  # loaded by the trace that x comes from

    out = as_array(x)[()]
    if getattr(out, "dtype", _OBJECTS).kind not in "fciub":
        raise DifferentiationError(
            f"the function returned a {type(x).__name__}, which is not an array of numbers",
            "Return arrays, scalars, or trees of them.",
        )
    return out


def pair(out: Any, what: str, repair: str) -> tuple[Any, Any]:
    """What a user's function returned, which must be a pair."""
    if not (isinstance(out, tuple) and len(out) == 2):
        raise TreeError(what, repair)
    return out


def _untraced(aux: Any, inputs: Sequence[Any]) -> Any:
    """Auxiliary outputs out of the trace that the inputs belong to, so that they live on after it; other traces keep theirs."""
    ended = inputs[0].owner if inputs and is_tracer(inputs[0]) else None
    return tree.map_leaves(lambda x: x.value if is_tracer(x) and x.owner is ended else x, aux)


def scalar_output(values: Sequence[Any]) -> Any:
    """The sole output of a function that has a gradient: a real scalar."""
    if len(values) == 1 and values[0].shape == () and values[0].dtype.kind == "f":
        return values[0]
    if len(values) != 1 or values[0].shape != ():
        shapes = ", ".join(str(v.shape) for v in values)
        raise DifferentiationError(
            f"grad needs a function with one scalar output; this one returns shape {shapes}",
            "Reduce it to a scalar (np.sum, np.mean, y[0]), or use cr.jacobian.",
        )
    y = values[0]
    if y.dtype.kind == "c":
        raise DifferentiationError(
            "grad needs a real output; this one is complex", "Take np.real, np.imag or np.abs, or use cr.vjp."
        )
    raise DifferentiationError(
        f"grad needs a floating output; this one is {y.dtype}",
        "Integers and booleans carry no derivative: return a float.",
    )


def leaves_like(name: str, what: str, given: Any, of: Any, leaves: Sequence[Array]) -> list[Array]:
    """Tangents or cotangents as leaves, checked against the values that they belong to, which are the tree `of`."""
    found, _ = tree.flatten(given)
    if len(found) != len(leaves):
        raise TreeError(
            f"{name} was given {len(found)} {what} arrays for {len(leaves)} values",
            f"Give one {what} a value, in the same tree.",
        )
    if len(leaves) > 1 and tree.structure(given) != tree.structure(of) and tree.paths(given) != tree.paths(of):
        raise TreeError(
            f"{name} was given {what}s {_named(given)} for values {_named(of)}",
            f"Give one {what} a value, in the same tree.",
        )
    out = []
    for x, leaf in zip(found, leaves, strict=True):
        x = x if hasattr(x, "dtype") else np.asarray(x)[()]
        if x.shape != leaf.shape:
            raise ShapeError(
                f"{name} was given a {what} of shape {x.shape} for a value of shape {leaf.shape}",
                "Give them the same shape.",
            )
        out.append(x if x.dtype == leaf.dtype else ops.convert(x, dtype=leaf.dtype))
    return out


def _named(leaves: Any) -> str:
    return ", ".join(tree.paths(leaves))


def held(x: Any) -> Any:
    """x apart from what the caller can change: pullbacks and pushforwards are called later."""
    return x.copy(order="K") if type(x) is np.ndarray else x
