"""A function over an axis of its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.api.arguments import Outputs, as_leaf, check_function, of_staged
from chainrule.errors import ShapeError, TreeError
from chainrule.ir.types import Array
from chainrule.trace import tree
from chainrule.transforms import batch


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """f over an axis of its arguments, all instances at once in the place of a loop.

    `in_axes` is an axis for all arguments, or a tuple with an entry an argument: an axis, None (not batched), or a tree of these.
    `out_axes` says where the batch axis of the outputs is. Sparse outputs, which have no batch axis, come as a list of matrices.

    >>> import numpy as np
    >>> vmap(np.dot)(np.ones((3, 2)), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    array([ 3.,  7., 11.])
    """
    check_function("vmap", f)
    staged = of_staged(f, "vmap", (in_axes, out_axes), lambda g: vmap(g, in_axes, out_axes), regroups=True)
    if staged is not None:
        return staged

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = tree.flatten(args)
        leaves = [as_leaf(x) for x in leaves]
        axes = tree.spread_prefix(tuple(in_axes) if isinstance(in_axes, list) else in_axes, args, "in_axes")
        size = _batch_size(leaves, axes)
        outputs = Outputs()
        outs = batch.vmap(outputs.of(lambda xs: f(*rebuild(xs), **kwargs)), leaves, axes, size)
        instance = outputs.rebuild([o[0] if size else np.zeros(o.shape[1:], o.dtype) for o in outs])
        places = tree.spread_prefix(out_axes, instance, "out_axes")
        if any(p is None for p in places):
            raise TreeError(
                "out_axes has None: every output of vmap has the batch axis", "Give an axis, 0 for the first."
            )
        return outputs.rebuild([batch.from_front(o, p) for o, p in zip(outs, places, strict=True) if p is not None])

    return wrapped


def _batch_size(leaves: Sequence[Array], axes: Sequence[int | None]) -> int:
    sizes: set[int] = set()
    for x, axis in zip(leaves, axes, strict=True):
        if axis is not None:
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(
                    f"vmap over axis {axis} of an argument of shape {x.shape}",
                    "Choose in_axes among its axes, or None.",
                )
            sizes.add(int(x.shape[axis]))
    if len(sizes) != 1:
        raise ShapeError(
            f"vmap needs one batch size; the batched axes have {sorted(sizes)}"
            if sizes
            else "vmap with nothing batched",
            "Give the batched arguments equal extents along in_axes, and None for the others.",
        )
    return sizes.pop()
