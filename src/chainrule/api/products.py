"""Products with the Jacobian and with its transpose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.api.arguments import Outputs, Selected, held, leaves_like, of_staged
from chainrule.errors import TreeError
from chainrule.trace import tree
from chainrule.transforms import forward, reverse


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Push tangents of the inputs on to the outputs: (f(x), J(x) t), by one forward sweep beside the values.

    >>> import numpy as np
    >>> jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TreeError("jvp takes the primals as a tuple, and so the tangents", "Write cr.jvp(f, (x,), (t,)).")
    staged = of_staged(f, "jvp", (), lambda g: functools.wraps(g)(functools.partial(jvp, g)), regroups=True)
    if staged is not None:
        return staged(tuple(primals), tuple(tangents))  # type: ignore[no-any-return]
    selected = Selected(f, tuple(primals), {}, range(len(primals)))
    outputs = Outputs()
    ts = leaves_like("jvp", "tangent", tuple(tangents), tuple(primals), selected.leaves)
    values, dots = forward.jvp(outputs.of(selected.call), selected.leaves, ts)
    return outputs.rebuild(values), outputs.rebuild(dots)


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Pull a cotangent of the output back to the inputs: (f(x), ct -> J(x)^T ct).

    The pullback returns a tuple with one entry an argument.

    >>> import numpy as np
    >>> y, pullback = vjp(np.sin, 0.0)
    >>> pullback(1.0)
    (np.float64(1.0),)
    """
    selected = Selected(f, primals, {}, range(len(primals)))
    outputs = Outputs(has_aux)
    values, back = reverse.vjp(outputs.of(selected.call), [held(x) for x in selected.leaves])

    def pullback(ct: Any) -> Any:
        return selected.rebuild(back(leaves_like("the pullback", "cotangent", ct, outputs.rebuild(values), values)))

    result = outputs.rebuild([held(v) for v in values])
    return (result, pullback, tree.map_leaves(held, outputs.aux)) if has_aux else (result, pullback)


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(f(x), t -> J(x) t), where the second runs the recorded local Jacobians and not f again.

    >>> import numpy as np
    >>> y, push = linearize(np.sin, 0.0)
    >>> push(3.0)
    np.float64(3.0)
    """
    selected = Selected(f, primals, {}, range(len(primals)))
    outputs = Outputs()
    values, push = forward.linearize(outputs.of(selected.call), [held(x) for x in selected.leaves])

    def pushforward(*tangents: Any) -> Any:
        return outputs.rebuild(push(leaves_like("the pushforward", "tangent", tangents, primals, selected.leaves)))

    return outputs.rebuild([held(v) for v in values]), pushforward
