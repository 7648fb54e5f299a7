"""Trees of arguments: tuples, lists, dicts, and dataclasses registered with optree under the namespace "chainrule"."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import TreeError
from chainrule.ir.primitive import TracerBase

NAMESPACE = "chainrule"
_LEAVES = (np.ndarray, np.generic, float, complex, TracerBase)


@functools.cache
def _optree() -> Any:
    import optree  # loads with the first tree: functions of one array do without

    return optree


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of a tree, and the function that puts leaves back into its form."""
    if isinstance(tree, _LEAVES):
        return [tree], _sole
    leaves, spec = _optree().tree_flatten(tree, namespace=NAMESPACE)
    return leaves, spec.unflatten


def _sole(leaves: list[Any]) -> Any:
    return leaves[0]


def structure(tree: Any) -> Any:
    """The form of a tree without its leaves; comparable and printable."""
    return _optree().tree_structure(tree, namespace=NAMESPACE)


def map_leaves(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply f to corresponding leaves."""
    return _optree().tree_map(f, tree, *rest, namespace=NAMESPACE)


def paths(tree: Any) -> list[str]:
    """A readable name of each leaf, as one would write it in Python."""
    return [p.codify("") for p in _optree().tree_accessors(tree, namespace=NAMESPACE)]


def flatten_like(cotangents: Any, args: Any, name: str) -> list[Any]:
    """The leaves of what the pullback of `name` returned, a part an argument; None stands for zero, of a leaf or an argument."""
    parts = cotangents if isinstance(cotangents, tuple | list) else (cotangents,)
    structures = structure(args).children()
    if len(parts) != len(structures):
        raise TreeError(
            f"the pullback of `{name}` returned {len(parts)} cotangents for {len(structures)} arguments",
            "Return a tuple with one entry an argument, None for those without derivative.",
        )
    leaves: list[Any] = []
    for k, (of, part) in enumerate(zip(structures, parts, strict=True)):
        try:
            leaves += [None] * of.num_leaves if part is None else of.flatten_up_to(part)
        except ValueError as error:
            raise TreeError(
                f"the pullback of `{name}` returned a cotangent of argument {k} in another tree: {error}",
                "Return it in the tree of the argument.",
            ) from error
    return [x if x is None or hasattr(x, "dtype") else np.asarray(x)[()] for x in leaves]


def spread_prefix(prefix: Any, full: Any, what: str) -> list[int | None]:
    """The entries of a tree prefix (axes, None where not batched), one a leaf of the full tree."""
    if isinstance(prefix, int | np.integer | None):
        return [prefix if prefix is None else int(prefix)] * len(flatten(full)[0])
    try:
        return list(_optree().broadcast_prefix(prefix, full, none_is_leaf=True, namespace=NAMESPACE))
    except ValueError as error:
        raise TreeError(f"{what} does not fit the arguments: {error}", "Give one entry an argument.") from error
