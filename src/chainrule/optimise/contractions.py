"""Rewrites of sums of products: sums pushed into contractions, products recognised as such, and the cheaper order of two.

Only sums are reassociated. A rule applies where nothing else needs the result that it takes apart, so no work is done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from chainrule.ir.primitive import Params
from chainrule.ir.program import Atom, Equation
from chainrule.ir.types import ArrayType
from chainrule.optimise.rule import New, Rule, new

if TYPE_CHECKING:
    from chainrule.optimise.simplify import Simplifier

Labels = tuple[Any, ...]


def _presummed(x: Any, labels: Labels, needed: Sequence[Any]) -> tuple[Any, Labels]:
    """An operand summed over those of its labels that nothing else has."""
    drop = tuple(k for k, a in enumerate(labels) if a not in needed)
    return (new("reduce_sum", x, axes=drop) if drop else x), tuple(a for a in labels if a in needed)


def _product(x: Any, y: Any, left: Labels, right: Labels, to: Labels) -> New:
    a, left_kept = _presummed(x, left, (*right, *to))
    b, right_kept = _presummed(y, right, (*left, *to))
    return new("contract", a, b, left=left_kept, right=right_kept, to=to)


def _sum_of_product(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    """sum(x @ y, 0) = sum(x, 0) @ y."""
    inner = s.only_use(args[0], "contract")
    if inner is None or out.dtype.kind not in "fc":
        return None
    to = tuple(a for k, a in enumerate(inner.params["to"]) if k not in params["axes"])
    x, y = inner.args
    return _product(x, y, inner.params["left"], inner.params["right"], to)


def _sum_of_broadcast_product(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    """sum(x[:, None, :] * y[None, :, :], -1) = x @ y.T: where each factor has an axis of the result that the other lacks."""
    inner = s.only_use(args[0], "multiply")
    if inner is None or out.dtype.kind != "f" or any(a.type.dtype != out.dtype for a in inner.args):
        return None
    shape = inner.outs[0].type.shape
    left, right = (_own_axes(a, shape) for a in inner.args)
    to = tuple(k for k in range(len(shape)) if k not in params["axes"])
    if any(k not in left and k not in right for k in range(len(shape))):
        return None
    rows, columns = set(to) - set(right), set(to) - set(left)
    if not (rows and columns and set(left) & set(right) & set(params["axes"])):
        return None
    x, y = (_without_units(a, mine, shape) for a, mine in zip(inner.args, (left, right), strict=True))
    return _product(x, y, left, right, to)


def _own_axes(a: Atom, shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a product along which a factor is not broadcast; those of extent one count as broadcast."""
    lead = len(shape) - len(a.type.shape)
    return tuple(lead + k for k, n in enumerate(a.type.shape) if n == shape[lead + k] and n != 1)


def _without_units(a: Atom, axes: Sequence[int], shape: Sequence[int]) -> Any:
    wanted = tuple(shape[k] for k in axes)
    return a if a.type.shape == wanted else new("reshape", a, shape=wanted)


# ---- the order of two contractions


class _Term(NamedTuple):
    """A factor of a product of three, and its labels."""

    x: Any
    labels: Labels


def _cheaper_order(s: Simplifier, args: tuple[Atom, ...], params: Params, out: ArrayType) -> New | None:
    """(x y) z = x (y z) where that takes fewer multiplications."""
    for k in (0, 1):
        inner = s.only_use(args[k], "contract")
        if inner is None or any(a.type.dtype != out.dtype for a in (*inner.args, *args)):
            continue
        mine, other = ("left", "right") if k == 0 else ("right", "left")
        x, y = _terms(inner, params[mine])
        z = _Term(args[1 - k], params[other])
        found = _reordered(x, y, z, params["to"])
        if found is not None:
            return found
    return None


def _terms(inner: Equation, labels: Labels) -> list[_Term]:
    """The factors of an inner contraction, labelled as the outer one labels its result."""
    outer = dict(zip(inner.params["to"], labels, strict=True))
    named = [tuple(outer.get(a, ("summed within", a)) for a in inner.params[side]) for side in ("left", "right")]
    return [_Term(x, own) for x, own in zip(inner.args, named, strict=True)]


def _reordered(x: _Term, y: _Term, z: _Term, to: Labels) -> New | None:
    extents: dict[Any, int] = {a: n for term in (x, y, z) for a, n in zip(term.labels, term.x.type.shape, strict=True)}

    def between(p: _Term, q: _Term, rest: _Term) -> Labels:
        return tuple(a for a in dict.fromkeys((*p.labels, *q.labels)) if a in rest.labels or a in to)

    def cost(p: _Term, q: _Term, rest: _Term) -> int:
        first, then = {*p.labels, *q.labels}, {*between(p, q, rest), *rest.labels}
        return prod([extents[a] for a in first]) + prod([extents[a] for a in then])

    now = cost(x, y, z)
    orders = [(cost(y, z, x), y, z, x), (cost(x, z, y), x, z, y)]
    best, p, q, rest = min(orders, key=lambda o: o[0])
    shared = set(p.labels) & set(q.labels)
    if best >= now or not shared:
        return None
    number = {a: k for k, a in enumerate(dict.fromkeys((*p.labels, *q.labels, *rest.labels)))}

    def numbered(labels: Labels) -> Labels:
        return tuple(number[a] for a in labels)

    made = between(p, q, rest)
    inside = new("contract", p.x, q.x, left=numbered(p.labels), right=numbered(q.labels), to=numbered(made))
    return new("contract", rest.x, inside, left=numbered(rest.labels), right=numbered(made), to=numbered(to))


CONTRACTIONS = [
    Rule("sum(x @ y, 0) = sum(x, 0) @ y", "reduce_sum", False, _sum_of_product),
    Rule("sum(x[:, None, :] * y[None, :, :], -1) = x @ y.T", "reduce_sum", False, _sum_of_broadcast_product),
    Rule("(x @ y) @ z = x @ (y @ z)", "contract", False, _cheaper_order),
]
