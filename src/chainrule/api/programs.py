"""The Program of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from chainrule.api.arguments import Outputs, as_leaf, check_function
from chainrule.ir.program import Program
from chainrule.trace import tree
from chainrule.trace.record import record_program


def program(f: Callable[..., Any]) -> Callable[..., Program]:
    """args -> the traced Program of f for these arguments: it prints, evaluates on arrays, and re-checks itself.

    >>> import numpy as np
    >>> print(program(lambda x: np.sum(x * x))(np.ones(3)).check())  # doctest: +ELLIPSIS
    program <lambda>(a: f64[3]) -> f64[]
      b: f64[3] = multiply a a ...
      c: f64[] = reduce_sum[axes=(0,)] b ...
      return c
    """
    check_function("program", f)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Program:
        leaves, rebuild = tree.flatten(args)
        leaves = [as_leaf(x) for x in leaves]
        outputs = Outputs()
        name = getattr(f, "__name__", type(f).__name__)
        return record_program(outputs.of(lambda xs: f(*rebuild(xs), **kwargs)), leaves, name)

    return wrapped
