"""The door to primitives of one's own: `primitive(name, value, partials)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.errors import ProgramError
from chainrule.ir.primitive import Sample, ops
from chainrule.prims.families import Interval
from chainrule.prims.own import Batching, Cost, OwnElementwise, OwnPrimitive, OwnRule, drawn
from chainrule.trace.numpy_protocols import FUNCTIONS, UFUNCS

Samples = Iterable[Any] | Callable[[], Iterable[Any]]


def primitive(
    name: str,
    value: Callable[..., Any],
    partials: OwnRule | Sequence[Any],
    *,
    elementwise: bool = False,
    outputs: int = 1,
    types: Callable[..., Any] | None = None,
    batching: Batching | None = None,
    flops: int | Cost | None = None,
    on: Sequence[Interval] | Interval | None = None,
    samples: Samples | None = None,
    implements: Any = (),
    replace: bool = False,
) -> OwnPrimitive:
    """Declare an operation from its value and its partials dy/dx_k; both modes, higher derivatives, vmap and programs follow.

    `value(*arrays, **params)` computes on NumPy arrays in any way it likes. `partials` has one entry an argument (for several
    `outputs`, a row of such entries an output): a function `(*arrays, out, **params)`, 0 where the derivative is zero, or None
    where there is none, so that asking for it raises MissingRule. With `elementwise=True` a partial returns dy/dx element by
    element, and arguments broadcast; otherwise a map of `chainrule.linear`, or the whole Jacobian as an array of shape
    out.shape + x.shape. Partials are written with NumPy and primitives, so that they can be differentiated in their turn.

    The rest has defaults: `types(*types, **params)`, the result's ArrayType, by running `value` on ones; `batching(size,
    arrays, batched, params)` by a loop (elementwise: by broadcasting); `flops`, a number per element of the result or a function;
    `samples`, tuples of arguments or pairs (arguments, params), and for elementwise operations `on`, an interval for each
    argument: where `chainrule.testing.check_primitive` checks the laws. `implements` names NumPy or SciPy functions that mean
    this operation when they are called on traced values. A name is declared once; `replace=True` declares it anew.

    >>> softplus = primitive(
    ...     "softplus", lambda x: np.logaddexp(x, 0), lambda x, y: 1 - np.exp(-y), elementwise=True, on=(-3.0, 3.0)
    ... )
    >>> from chainrule import grad
    >>> grad(softplus)(0.0)
    np.float64(0.5)
    """
    _free(name, replace)
    rows = _rows(partials, outputs)
    if on is not None and samples is None:
        intervals = [on] if np.ndim(on[0]) == 0 else list(on)
        samples = lambda: drawn(intervals)  # type: ignore[arg-type]
    declared = (OwnElementwise if elementwise else OwnPrimitive)(
        name, value, rows, types=types, batching=batching, flops=flops, examples=lambda: _pairs(samples)
    )
    for function in implements if isinstance(implements, tuple | list) else (implements,):
        if isinstance(function, np.ufunc):
            UFUNCS[function] = declared
        else:
            FUNCTIONS[function] = declared
    return declared


def _free(name: str, replace: bool) -> None:
    """See to it that a name can be declared."""
    if not name or hasattr(type(ops), name):
        raise ProgramError(f"`{name}` cannot be a primitive's name", "Choose another.")
    if name in ops:
        if not isinstance(ops[name], OwnPrimitive):
            raise ProgramError(f"`{name}` is one of chainrule's own primitives", "Choose another name.")
        if not replace:
            raise ProgramError(
                f"a primitive named `{name}` is declared already", "Choose another name, or pass replace=True."
            )
        ops.remove(name)


def _rows(partials: Any, outputs: int) -> tuple[tuple[OwnRule, ...], ...]:
    """The partials as a row of rules an output."""
    if outputs > 1:
        rows = tuple(tuple(row) if isinstance(row, tuple | list) else (row,) for row in partials)
        if len(rows) != outputs or len({len(row) for row in rows}) != 1:
            raise ProgramError(
                f"{outputs} outputs need {outputs} rows of partials", "Give one entry an argument in each."
            )
    else:
        rows = (tuple(partials) if isinstance(partials, tuple | list) else (partials,),)
    for rule in (rule for row in rows for rule in row):
        if not (rule is None or callable(rule) or isinstance(rule, int | float)):
            raise ProgramError(
                f"a partial is a function, a number or None, not a {type(rule).__name__}", "Give a function."
            )
    return rows


def _pairs(samples: Samples | None) -> Iterator[Sample]:
    """Samples as pairs of arguments and parameters."""
    for sample in (samples() if callable(samples) else samples) or ():
        if (
            isinstance(sample, tuple)
            and len(sample) == 2
            and isinstance(sample[0], tuple)
            and isinstance(sample[1], dict)
        ):
            yield tuple(np.asarray(a)[()] for a in sample[0]), sample[1]
        else:
            yield tuple(np.asarray(a)[()] for a in (sample if isinstance(sample, tuple) else (sample,))), {}
