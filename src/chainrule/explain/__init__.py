"""What a program did, explained: evaluation traces, reports on every way to differentiate, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.explain.evaluation import Explanation
    from chainrule.explain.staged import StagedExplanation


def explain(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation | StagedExplanation:
    """The evaluation trace of f: v_i = phi_i(v_j), dot v_i = sum of dphi_i/dv_j dot v_j, and bar v_j += dphi_i/dv_j bar v_i.

    Inputs are numbered up to 0, operations from 1. With up to three inputs there is a tangent for each; with more there is one, in
    the direction of all ones. The cotangent of every output is 1. Raises DifferentiationError where
    there is nothing to differentiate.

    >>> print(explain(lambda x1, x2: x1 * x2, 2.0, 5.0))  # doctest: +ELLIPSIS
    <lambda>(x1, x2) at (2, 5)
    ...

    Of a function that `jit` made it tells what became of it for these arguments; it is recorded and compiled for them if it
    was not yet: the signature; each path with its program and guards; its regions of native code; what NumPy computes and
    why; the workspace; how long recording and compiling took; and the derivatives and batches that are compiled too.

    >>> import numpy as np, chainrule as cr
    >>> print(explain(cr.jit(lambda x: np.argsort(np.exp(x))), np.ones(500)))  # doctest: +ELLIPSIS
    jit(<lambda>) at (x: f64[500])
    recorded in ... ms, compiled in ... ms
    program <lambda>(a: f64[500]) -> i64[500]
      b: f64[500] = exp a ...
      c: i64[500] = argsort[...] b ...
      return c
    native code: 1 different kernel, workspace of 4032 bytes
      kernel over 500: reads 1, computes 1 operations for exp f64[500]
    by NumPy
      argsort i64[500]: argsort has no native lowering ...
    """
    from chainrule.explain.evaluation import explain_call  # loaded at first use
    from chainrule.staging import Jitted

    if isinstance(f, Jitted):
        from chainrule.explain.staged import explain_staged

        return explain_staged(f, args, kwargs)

    return explain_call(f, args, kwargs)
