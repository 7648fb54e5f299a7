"""Second derivatives of scalar functions: the matrix, and its product with a vector."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from chainrule.api.arguments import Argnums, Outputs, Selected, check_function, of_staged, scalar_output
from chainrule.api.gradients import grad
from chainrule.api.jacobians import check_holomorphic, jacfwd, jacrev
from chainrule.api.planning import accumulator, limited, linearise, planned
from chainrule.api.products import jvp
from chainrule.trace import tree
from chainrule.transforms import reverse

if TYPE_CHECKING:
    from chainrule.plan.plans import Plan
    from chainrule.transforms.linearised import Linearised


def hessian(
    f: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """x -> d^2 f / dx^2, forward over reverse; shape f(x).shape + x.shape + x.shape.

    With `sparse=True`, for a scalar f, one scipy.sparse.csr_array in canonical format, a row and a column an element of the inputs,
    flattened one after the other: each entry by itself where that is faster than a few sweeps over the gradient, as many as a
    colouring of its pattern has colours. `sparse="auto"` does so where it saves most of the entries and sweeps. `memory` and
    `plan`, for a scalar f, as for `jacobian`.

    >>> import numpy as np
    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    >>> hessian(lambda x: np.sum((x[1:] - x[:-1]) ** 4), sparse=True)(np.arange(1000.0)).nnz
    2998
    """
    check_function("hessian", f, argnums)
    if sparse is False and memory is None and plan is None:
        again = lambda g: hessian(g, argnums, holomorphic=holomorphic)
        staged = of_staged(f, "hessian", (argnums, holomorphic), again)
        if staged is not None:
            return staged
    dense = jacfwd(jacrev(f, argnums, holomorphic=holomorphic), argnums, holomorphic=holomorphic)
    way = accumulator("auto", sparse, memory, plan, symmetric=True)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if sparse is False and memory is None and plan is None:
            return dense(*args, **kwargs)
        selected = Selected(f, args, kwargs, argnums)
        check_holomorphic(selected, holomorphic)
        found = limited(way(), _gradient(selected), selected.leaves)
        return selected.rebuild([selected.rebuild(row) for row in found]) if isinstance(found, list) else found

    return planned(wrapped, "hessian", f, gradient_graph(f, argnums), way)


def gradient_graph(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Linearised]:
    """x -> the graph of local Jacobians of the gradient of a scalar f at x."""

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = Selected(f, args, kwargs, argnums)
        return linearise(_gradient(selected), selected.leaves)

    return graph_of


def _gradient(selected: Selected) -> Callable[[list[Any]], list[Any]]:
    """The gradient of a scalar function as a function of leaves."""

    def gradient(leaves: list[Any]) -> list[Any]:
        values, pullback = reverse.vjp(Outputs().of(selected.call), leaves)
        y = scalar_output(values)
        return pullback([y.dtype.type(1)])

    return gradient


def hvp(f: Callable[..., Any]) -> Callable[..., Any]:
    """(x, v) -> d^2 f / dx^2 v for a scalar function f of one argument: a forward sweep over a reverse one, no matrix formed.

    >>> import numpy as np
    >>> hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    check_function("hvp", f)
    staged = of_staged(f, "hvp", (), hvp, regroups=True)
    if staged is not None:
        return staged
    gradient = grad(f)

    @functools.wraps(f)
    def wrapped(x: Any, v: Any, *rest: Any, **kwargs: Any) -> Any:
        return jvp(lambda y: gradient(y, *rest, **kwargs), (x,), (v,))[1]

    def graph_of(x: Any, *rest: Any, **kwargs: Any) -> Linearised:
        """The gradient along the line x + s v, of which the product is the derivative at s = 0."""
        v, *others = rest or (x,)
        along = Selected(lambda s: tree.map_leaves(lambda a, t: a + s * t, x, v), (0.0,), {}, 0)
        selected = Selected(f, (x, *others), kwargs, 0)

        def gradient_along(leaves: list[Any]) -> list[Any]:
            moved, _ = tree.flatten(along.call(leaves))
            return _gradient(selected)(moved)

        return linearise(gradient_along, along.leaves)

    return planned(wrapped, "hvp", f, graph_of, accumulator("forward"))
