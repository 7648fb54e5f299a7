"""Gradients of scalar functions, by one reverse sweep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule.api.arguments import Argnums, Outputs, Selected, check_function, of_staged, scalar_output
from chainrule.api.planning import accumulator, linearise, planned
from chainrule.ir.primitive import ops
from chainrule.transforms import reverse

if TYPE_CHECKING:
    from chainrule.transforms.linearised import Linearised


def value_and_grad(
    f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, conjugate: bool = False
) -> Callable[..., Any]:
    """x -> (f(x), df/dx) for a scalar function f, by one reverse sweep.

    The gradient has the tree, shapes and dtypes of the arguments selected by `argnums`. With `has_aux`, f returns (value,
    aux) and the result is ((value, aux), gradient). For complex z = x + iy the gradient is df/dx - i df/dy, as in JAX and
    autograd; with `conjugate=True` it is df/dx + i df/dy, the direction of steepest ascent, as in PyTorch.

    >>> import numpy as np
    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    check_function("value_and_grad", f, argnums)
    if not has_aux:
        again = lambda g: value_and_grad(g, argnums, conjugate=conjugate)
        staged = of_staged(f, "value_and_grad", (argnums, conjugate), again)
        if staged is not None:
            return staged

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = Selected(f, args, kwargs, argnums)
        outputs = Outputs(has_aux)
        recording = reverse.record(outputs.of(selected.call), selected.leaves)
        y = scalar_output(recording[2])
        found = reverse.pull(recording, selected.leaves, [y.dtype.type(1)])
        if conjugate:
            found = [ops.conjugate(g) if g.dtype.kind == "c" else g for g in found]
        gradient = selected.rebuild(found)
        return ((y, outputs.aux), gradient) if has_aux else (y, gradient)

    return wrapped


def grad(
    f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, conjugate: bool = False
) -> Callable[..., Any]:
    """x -> df/dx for a scalar function f, by one reverse sweep; arguments as for `value_and_grad`.

    >>> import numpy as np
    >>> grad(np.tanh)(0.0)
    np.float64(1.0)
    """
    check_function("grad", f, argnums)
    if not has_aux:
        staged = of_staged(f, "grad", (argnums, conjugate), lambda g: grad(g, argnums, conjugate=conjugate))
        if staged is not None:
            return staged
    both = value_and_grad(f, argnums, has_aux=has_aux, conjugate=conjugate)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        y, g = both(*args, **kwargs)
        return (g, y[1]) if has_aux else g

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = Selected(f, args, kwargs, argnums)
        return linearise(Outputs(has_aux).of(selected.call), selected.leaves)

    return planned(wrapped, "grad", f, graph_of, accumulator("reverse"))
