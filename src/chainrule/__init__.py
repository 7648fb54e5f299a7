"""chainrule: automatic differentiation of ordinary NumPy programs."""

import importlib
from typing import TYPE_CHECKING, Any

from chainrule.api import (
    Variable,
    custom_jvp,
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    linearize,
    pattern,
    plan,
    program,
    stop_gradient,
    value,
    value_and_grad,
    variable,
    vjp,
    vmap,
)
from chainrule.errors import (
    ChainruleError,
    DifferentiationError,
    IntegerInput,
    MissingRule,
    ProgramError,
    ShapeError,
    TraceError,
    TreeError,
)
from chainrule.explain import explain
from chainrule.trace.intercept import interception
from chainrule.trace.own import primitive

if TYPE_CHECKING:
    from chainrule.adapters import (
        for_least_squares,
        for_minimize,
        for_root,
        for_solve_ivp,
        hessian_operator,
        jacobian_operator,
    )
    from chainrule.backends.threads import get_threads, set_threads
    from chainrule.staging import jit
    from chainrule.testing.differences import check_grads

__all__ = [
    "ChainruleError",
    "DifferentiationError",
    "IntegerInput",
    "MissingRule",
    "ProgramError",
    "ShapeError",
    "TraceError",
    "TreeError",
    "Variable",
    "check_grads",
    "custom_jvp",
    "custom_vjp",
    "explain",
    "for_least_squares",
    "for_minimize",
    "for_root",
    "for_solve_ivp",
    "get_threads",
    "grad",
    "hessian",
    "hessian_operator",
    "hvp",
    "interception",
    "jacfwd",
    "jacobian",
    "jacobian_operator",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "pattern",
    "plan",
    "primitive",
    "program",
    "set_threads",
    "stop_gradient",
    "value",
    "value_and_grad",
    "variable",
    "vjp",
    "vmap",
]
__version__ = "0.1.0"

# What loads at first use: `import chainrule` costs little more than `import numpy`.
_LATER = {
    "check_grads": "testing.differences",
    "for_least_squares": "adapters",
    "for_minimize": "adapters",
    "for_root": "adapters",
    "for_solve_ivp": "adapters",
    "get_threads": "backends.threads",
    "hessian_operator": "adapters",
    "jacobian_operator": "adapters",
    "jit": "staging",
    "set_threads": "backends.threads",
}
_PACKAGES = ("linear", "numpy", "scipy", "staging", "testing")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"chainrule.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"chainrule.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_PACKAGES})
