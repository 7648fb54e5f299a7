"""What a rewrite rule is, and how it writes the expression that takes another's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from chainrule.ir.primitive import Params, Primitive, ops
from chainrule.ir.program import Atom
from chainrule.ir.types import ArrayType

if TYPE_CHECKING:
    from chainrule.optimise.simplify import Simplifier


class New(NamedTuple):
    """An expression that takes the place of another; arguments are atoms or expressions themselves."""

    primitive: Primitive
    args: tuple[Any, ...]
    params: Params


Rewrite = Callable[["Simplifier", tuple[Atom, ...], Params, ArrayType], "Atom | New | None"]


class Rule(NamedTuple):
    """law: what equals what; head: the primitive that it rewrites; exact: to the last bit."""

    law: str
    head: str
    exact: bool
    rewrite: Rewrite


def new(name: str, *args: Any, **params: Any) -> New:
    """The expression name[params] args."""
    return New(ops[name], args, params)
