"""out=: arrays of the caller's that a staged function writes its results into.

Native code writes into them directly where it can: where they are contiguous and share no memory with the arguments or with each
other. Elsewhere the results are computed apart and copied, as if NumPy had copied the arguments first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import ShapeError, TreeError
from chainrule.ir.types import ArrayType
from chainrule.trace import tree


def leaves_of(out: Any) -> list[Any]:
    """The buffers in a tree of them."""
    return tree.flatten(out)[0]


def written(out: Any, result: Any, name: str) -> Any:
    """`out`, whose buffers hold what the result's leaves are."""
    buffers, results = leaves_of(out), leaves_of(result)
    if tree.structure(out) != tree.structure(result):
        raise TreeError(
            f"out= of `{name}` is a tree {tree.structure(out)}, where the result is {tree.structure(result)}",
            "Give one array a result, in the result's tree.",
        )
    for k, (buffer, found) in enumerate(zip(buffers, results, strict=True)):
        _check(buffer, np.asarray(found), f"out= of `{name}`" + (f", array {k}," if len(buffers) > 1 else ""))
    for buffer, found in zip(buffers, results, strict=True):
        if buffer is not found:
            np.copyto(buffer, found)
    return out


def _check(buffer: Any, found: Any, which: str) -> None:
    wanted = ArrayType.of(found)
    repair = f"Give np.empty({wanted.shape}, {wanted.dtype.name!r}), or an array like it."
    if not isinstance(buffer, np.ndarray):
        raise ShapeError(f"{which} is a {type(buffer).__name__}, where the result is {wanted}", repair)
    if buffer.shape != wanted.shape or buffer.dtype != wanted.dtype:
        raise ShapeError(f"{which} is {ArrayType.of(buffer)}, where the result is {wanted}", repair)
    if not buffer.flags.writeable:
        raise ShapeError(f"{which} may not be written into", repair)
