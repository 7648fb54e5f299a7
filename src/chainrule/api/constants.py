"""Traced values as constants."""

from __future__ import annotations

from typing import Any

from chainrule.api.arguments import held
from chainrule.ir.primitive import bind, concrete, is_tracer, ops
from chainrule.trace import tree
from chainrule.trace.record import is_recorded


def stop_gradient(x: Any) -> Any:
    """x as a constant: the same value, whose derivative is zero. Trees are taken leaf by leaf.

    >>> from chainrule import grad
    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree.map_leaves(lambda a: bind(ops.stop_gradient, (a,), {}), x)


def value(x: Any) -> Any:
    """The plain value of a traced x, as a deliberate constant: no derivative flows through it, and it may be converted at will.

    Under `jit` the value is a guard: a call with another one is recorded for a path of its own.

    >>> from chainrule import grad
    >>> grad(lambda x: x * float(value(x)))(3.0)
    np.float64(3.0)
    """
    return tree.map_leaves(lambda a: held(_decided(a)) if is_tracer(a) else a, x)


def _decided(x: Any) -> Any:
    return x.owner.decide(x) if is_recorded(x) else concrete(x)
