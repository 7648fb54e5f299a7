"""In which order a derivative is accumulated: chosen when it is first asked for, shown by `plan`."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import chainrule.plan
from chainrule.ir.types import Array
from chainrule.transforms import reverse

if TYPE_CHECKING:
    from chainrule.plan.accumulate import Accumulator
    from chainrule.plan.plans import Plan
    from chainrule.transforms.linearised import Linearised

Mode = Literal["auto", "forward", "reverse", "elimination"]


def linearise(flat: reverse.Flat, leaves: list[Array]) -> Linearised:
    """The graph of local Jacobians of a function of leaves."""
    from chainrule.transforms import linearised  # loads at first use

    return linearised.linearise(flat, leaves)


def accumulator(
    mode: Mode,
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    *,
    symmetric: bool = False,
) -> Callable[[], Accumulator]:
    """How a Jacobian is accumulated; made when it is first asked for, since planning loads at first use."""

    @functools.cache
    def way() -> Accumulator:
        from chainrule.plan.accumulate import Accumulator
        from chainrule.plan.plans import parse_memory

        return Accumulator(mode, sparse, parse_memory(memory), plan, symmetric=symmetric)

    if memory is not None:
        way()  # a wrong text is an error here and now
    return way


def limited(way: Accumulator, flat: reverse.Flat, leaves: list[Array]) -> Any:
    """A Jacobian with a memory limit, a plan, or a sparse result: its blocks, or a sparse matrix."""
    blocks = way.without_tape(flat, leaves)
    if blocks is not None:
        return blocks
    graph = linearise(flat, leaves)
    found = way.matrix(graph)
    return way.blocks(graph) if found is None else found


class _Planned:
    """What `plan` needs to know of a function that a transform made: its graph for some arguments, and how it is accumulated."""

    def __init__(
        self,
        made: Callable[..., Any],
        transform: str,
        f: Callable[..., Any],
        graph: Callable[..., Linearised],
        way: Callable[[], Accumulator],
    ) -> None:
        # By a weak reference: a cycle would keep all that f closes over until the garbage collector runs.
        self.made = weakref.ref(made)
        self.transform, self.graph, self.way = transform, graph, way
        self.function = getattr(f, "__name__", type(f).__name__)


def planned(
    made: Callable[..., Any],
    transform: str,
    f: Callable[..., Any],
    graph: Callable[..., Linearised],
    way: Callable[[], Accumulator],
) -> Callable[..., Any]:
    """The function that a transform made, with what `plan` needs to know of it."""
    made.__chainrule_plan__ = _Planned(made, transform, f, graph, way)  # type: ignore[attr-defined]
    return made


def plan(
    transform: Callable[..., Any],
    *args: Any,
    memory: str | float | None = None,
    effort: Literal["fast", "thorough"] = "fast",
    **kwargs: Any,
) -> Plan:
    """Every order in which a derivative can be accumulated for these arguments, what each costs, and which is taken, and why.

    `transform` is what `jacobian`, `hessian`, `grad` or `hvp` returned (or `jit` of it). The plan prints as a table; its
    multiplications are exact, its times are predicted from constants measured once on this machine. It can be kept, pickled, and
    passed back: `jacobian(f, plan=p)`. With `effort="thorough"` an elimination order is searched for by annealing, up to a second.

    >>> import numpy as np
    >>> from chainrule import jacobian, plan
    >>> waist = lambda x: np.outer(np.sin(np.ones((2, 100)) @ x), np.ones(100)).ravel()
    >>> p = plan(jacobian(waist), np.ones(100))
    >>> min(p.orders, key=lambda order: order.multiplications).kind
    'chain'
    """
    known: _Planned | None = getattr(transform, "__chainrule_plan__", None)
    if known is None or not any(known.made() is f for f in (transform, getattr(transform, "function", None))):
        raise TypeError(
            "plan takes what jacobian, hessian, grad or hvp returned (or jit of that), and then the arguments: plan(jacobian(f), x)"
        )
    graph = known.graph(*args, **kwargs)
    from chainrule.plan.plans import parse_memory  # loads at first use

    return known.way().make_plan(known.transform, known.function, graph, parse_memory(memory), effort)


class _CallablePackage(types.ModuleType):
    """The package chainrule.plan, which is called as the function of that name."""

    __call__ = staticmethod(plan)
    __signature__ = inspect.signature(plan)


chainrule.plan.__class__ = _CallablePackage
vars(chainrule.plan)["__doc__"] = plan.__doc__
if not TYPE_CHECKING:
    plan = chainrule.plan
