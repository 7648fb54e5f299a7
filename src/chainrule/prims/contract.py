"""contract[left, right, to](x, y): the sum of products x[left] y[right] over the labels that `to` lacks.

An einsum of two operands in canonical form: no label twice in one operand, and every label in at least two of left, right and to.
Dot, matmul, inner, outer, tensordot and einsum all come down to it, and so does its own derivative in each operand. It is
computed by one matrix product (BLAS), with the labels sorted into batch, free and summed ones; how is decided once per
triple of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, bind
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Contract
from chainrule.linear.maps import convert
from chainrule.linear.strong import mode
from chainrule.prims.shape import draw

Labels = tuple[int, ...]


def _as_matrix_product(left: Labels, right: Labels, out: Labels) -> Callable[[Any, Any], Any]:
    """A function that computes the contraction by one (batched) matrix product."""
    batch = [a for a in left if a in right and a in out]
    summed = [a for a in left if a in right and a not in out]
    rows = [a for a in left if a not in right]
    columns = [a for a in right if a not in left]
    # The result in the order batch, rows, columns; where `out` begins with the columns, swap the operands' roles.
    if columns and rows and [a for a in out if a not in batch] == [*columns, *rows]:
        swapped = _as_matrix_product(right, left, out)
        return lambda x, y: swapped(y, x)
    left_order = [left.index(a) for a in (*batch, *rows, *summed)]
    right_order = [right.index(a) for a in (*batch, *summed, *columns)]
    made = (*batch, *rows, *columns)
    out_order = [made.index(a) for a in out]
    nb, nr, ns = len(batch), len(rows), len(summed)
    move_left, move_right = left_order != sorted(left_order), right_order != sorted(right_order)
    move_out = out_order != sorted(out_order)
    plain = nb == 0 and nr <= 1 and ns == 1 and len(columns) <= 1

    def compute(x: Any, y: Any) -> Any:
        if move_left:
            x = x.transpose(left_order)
        if move_right:
            y = y.transpose(right_order)
        if plain:
            r = np.dot(x, y)
        else:
            b, m, k, n = x.shape[:nb], x.shape[nb : nb + nr], x.shape[nb + nr :], y.shape[nb + ns :]
            kk = prod(k)
            x3, y3 = x.reshape(*b, prod(m), kk), y.reshape(*b, kk, prod(n))
            r = (x3 * y3 if kk == 1 else np.matmul(x3, y3)).reshape((*b, *m, *n))
        if move_out:
            r = r.transpose(out_order)
        return r

    return compute


@lru_cache(maxsize=4096)
def lowering(left: Labels, right: Labels, out: Labels) -> Callable[[Any, Any], Any]:
    """How a contraction is computed: an elementwise product where nothing is summed, else a matrix product."""
    if left == right and not out:
        return lambda x, y: np.vdot(x, y) if x.dtype.kind != "c" else np.add.reduce(x * y, axis=None)
    return _as_matrix_product(left, right, out)


def _value(x: Any, y: Any, *, left: Labels, right: Labels, to: Labels) -> Any:
    r = lowering(left, right, to)(x, y)
    return r if to else r[()]


def _types(x: ArrayType, y: ArrayType, *, left: Labels, right: Labels, to: Labels) -> ArrayType:
    extents = dict(zip(left + right, x.shape + y.shape, strict=True))
    if tuple([extents[a] for a in left + right]) != x.shape + y.shape:
        raise ValueError(f"{x} and {y} differ in the extent of a label: {left}, {right}")
    return ArrayType(tuple(extents[a] for a in to), np.result_type(x.dtype, y.dtype))


def _partial(k: int, x: Array, y: Array, *, out: Array, left: Labels, right: Labels, to: Labels) -> Contract:
    return Contract(y, left, right, to, x, out) if k == 0 else Contract(x, right, left, to, y, out)


def _pull(k: int) -> Callable[..., Any]:
    """The adjoint of the partial without its making the map: sweeps call it twice a product."""
    mine, others = ("left", "right") if k == 0 else ("right", "left")

    def pull(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Callable[[Any, Any], Any]) -> Array:
        if mode.strict:
            return _partial(k, *args, out=out, **params).adjoint(ct)
        r = bind(contract, (ct, args[1 - k]), {"left": params["to"], "right": params[others], "to": params[mine]})
        dtype = args[k].dtype
        return r if r.dtype is dtype else convert(r, dtype)

    return pull


def _batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    left, right, to = params["left"], params["right"], params["to"]
    fresh = max((*left, *right, *to), default=-1) + 1
    x_batched, y_batched = batched
    return contract(
        *args,
        left=(fresh, *left) if x_batched else left,
        right=(fresh, *right) if y_batched else right,
        to=(fresh, *to),
    )


def _flops(args: Sequence[ArrayType], _outs: Sequence[ArrayType], params: Params) -> int:
    extents = dict(zip(params["left"] + params["right"], args[0].shape + args[1].shape, strict=True))
    return 2 * prod(extents.values())


def _samples() -> Iterator[Sample]:
    yield (draw(2, 3), draw(3, 4)), {"left": (0, 1), "right": (1, 2), "to": (0, 2)}
    yield (draw(2, 3), draw(3, 4)), {"left": (0, 1), "right": (1, 2), "to": (2, 0)}
    yield (draw(2, 3), draw(4, 3)), {"left": (0, 1), "right": (2, 1), "to": (0, 2)}
    yield (draw(3), draw(3)), {"left": (0,), "right": (0,), "to": ()}
    yield (draw(2, 3), draw(3, 2)), {"left": (0, 1), "right": (1, 0), "to": ()}
    yield (draw(), draw()), {"left": (), "right": (), "to": ()}
    yield (draw(2), draw(3)), {"left": (0,), "right": (1,), "to": (0, 1)}
    yield (draw(2, 3), draw(3)), {"left": (0, 1), "right": (1,), "to": (0,)}
    yield (draw(2, 3, 4), draw(2, 4, 5)), {"left": (0, 1, 2), "right": (0, 2, 3), "to": (0, 1, 3)}
    yield (draw(2, 3, 4), draw(4, 3)), {"left": (0, 1, 2), "right": (2, 1), "to": (0,)}
    yield (draw(2, 3), draw(2, 3)), {"left": (0, 1), "right": (0, 1), "to": (1,)}
    z = draw(2, 3) + 1j * draw(3, 2).T
    yield (draw(2, 3) > 0, draw(2, 3) < 1), {"left": (0, 1), "right": (0, 1), "to": ()}
    yield (z, z - 1j), {"left": (0, 1), "right": (0, 1), "to": ()}
    yield (draw(2, 0), draw(0, 3)), {"left": (0, 1), "right": (1, 2), "to": (0, 2)}
    yield (draw(2, 3) + 1j * draw(2, 3), draw(3, 4)), {"left": (0, 1), "right": (1, 2), "to": (0, 2)}


contract = RoomPrimitive(
    name="contract",
    compute=_value,
    types=_types,
    typed=True,
    partials=(),
    variadic=_partial,
    batching=_batch,
    cost=_flops,
    examples=_samples,
)
contract.pulls = (_pull(0), _pull(1))
