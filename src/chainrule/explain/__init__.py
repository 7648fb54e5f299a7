"""What a program did, explained: evaluation traces, reports on every way to differentiate, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.explain.evaluation import Explanation


def explain(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """The evaluation trace of f: v_i = phi_i(v_j), dot v_i = sum of dphi_i/dv_j dot v_j, and bar v_j += dphi_i/dv_j bar v_i.

    Inputs are numbered up to 0, operations from 1. With up to three inputs there is a tangent for each; with more there is one, in
    the direction of all ones. The cotangent of every output is 1. Raises DifferentiationError where
    there is nothing to differentiate.

    >>> print(explain(lambda x1, x2: x1 * x2, 2.0, 5.0))  # doctest: +ELLIPSIS
    <lambda>(x1, x2) at (2, 5)
    ...
    """
    from chainrule.explain.evaluation import explain_call  # loaded at first use

    return explain_call(f, args, kwargs)
