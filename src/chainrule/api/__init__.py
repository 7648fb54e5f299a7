"""The public functions: each a few lines that lay out trees of arguments and call one transform."""

import importlib

from chainrule.api.batching import vmap
from chainrule.api.constants import stop_gradient, value
from chainrule.api.gradients import grad, value_and_grad
from chainrule.api.hessians import hessian, hvp
from chainrule.api.jacobians import jacfwd, jacobian, jacrev, pattern
from chainrule.api.planning import plan
from chainrule.api.products import jvp, linearize, vjp
from chainrule.api.programs import program
from chainrule.api.rules import custom_jvp, custom_vjp
from chainrule.ir.primitive import ops
from chainrule.trace.intercept import before_first_trace
from chainrule.transforms.variables import Variable, variable

__all__ = [
    "Variable",
    "custom_jvp",
    "custom_vjp",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "pattern",
    "plan",
    "program",
    "stop_gradient",
    "value",
    "value_and_grad",
    "variable",
    "vjp",
    "vmap",
]


def _load_surface() -> None:
    for name in ("chainrule.numpy", "chainrule.scipy", "chainrule.trace.lists", "chainrule.trace.maths"):
        importlib.import_module(name)
    ops.complete()


before_first_trace(_load_surface)
