"""The table of functions, and `emit`, which declares one in a module at its first use and calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import F32, F64
from chainrule.backends.llvm.vector_maths import (
    division,
    error_function,
    exponential,
    gamma,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    logistic,
    power,
    trigonometric,
)
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Real, align_stack, tag, widen


class Entry(NamedTuple):
    """A function on lanes, its number of arguments and of results."""

    formula: Callable[..., Real | tuple[Real, ...]]
    arguments: int
    results: int = 1


FUNCTIONS = {
    "exp": Entry(exponential.exp, 1),
    "exp2": Entry(exponential.exp2, 1),
    "expm1": Entry(exponential.expm1, 1),
    "log": Entry(logarithm.log, 1),
    "log2": Entry(logarithm.log2, 1),
    "log10": Entry(logarithm.log10, 1),
    "log1p": Entry(logarithm.log1p, 1),
    "fmod": Entry(division.fmod, 2),
    "sqrt": Entry(power.sqrt, 1),
    "cbrt": Entry(power.cbrt, 1),
    "pow": Entry(power.pow, 2),
    "hypot": Entry(power.hypot, 2),
    "sin": Entry(trigonometric.sin, 1),
    "cos": Entry(trigonometric.cos, 1),
    "sincos": Entry(trigonometric.sincos, 1, results=2),
    "tan": Entry(trigonometric.tan, 1),
    "asin": Entry(inverse_trigonometric.asin, 1),
    "acos": Entry(inverse_trigonometric.acos, 1),
    "atan": Entry(inverse_trigonometric.atan, 1),
    "atan2": Entry(inverse_trigonometric.atan2, 2),
    "sinh": Entry(hyperbolic.sinh, 1),
    "cosh": Entry(hyperbolic.cosh, 1),
    "tanh": Entry(hyperbolic.tanh, 1),
    "asinh": Entry(hyperbolic.asinh, 1),
    "acosh": Entry(hyperbolic.acosh, 1),
    "atanh": Entry(hyperbolic.atanh, 1),
    "expit": Entry(logistic.expit, 1),
    "softplus": Entry(logistic.softplus, 1),
    "logaddexp": Entry(logistic.logaddexp, 2),
    "erf": Entry(error_function.erf, 1),
    "erfc": Entry(error_function.erfc, 1),
    "ndtr": Entry(error_function.ndtr, 1),
    "log_ndtr": Entry(error_function.log_ndtr, 1),
    "lgamma": Entry(gamma.lgamma, 1),
    "digamma": Entry(gamma.digamma, 1),
}


def emit(builder: Any, name: str, args: Sequence[Any], *, fused: bool = True) -> Any:
    """name(*args) at the builder's position, lane by lane; a tuple for functions of several results (`sincos`).

    args: LLVM values of one type: double, float, or a vector of either
    fused: the target has a fused multiply-add; without one, say so, or each becomes a call of the C library

    The function is defined once in the module, as an internal function such as `chainrule.exp.v8f64`.
    """
    entry = FUNCTIONS[name]
    if len(args) != entry.arguments:
        raise TypeError(f"{name} takes {entry.arguments} arguments, and was given {len(args)}")
    function = _declare(builder.module, name, args[0].type, fused)
    result = builder.call(function, args)
    if entry.results == 1:
        return result
    return tuple(builder.extract_value(result, k) for k in range(entry.results))


def _declare(module: Any, name: str, kind: Any, fused: bool) -> Any:
    """The module's function for this name and type: made once in this process, and adopted by every module that calls it."""
    full = f"chainrule.{name}.{tag(kind)}" + ("" if fused else ".unfused")
    with _making:
        found = _library.globals.get(full) or _defined(full, name, kind, fused)
    module.adopt(found)
    return found


_library, _making = assembly.Module(), threading.Lock()


def _defined(full: str, name: str, kind: Any, fused: bool) -> Any:
    entry = FUNCTIONS[name]
    returned = kind if entry.results == 1 else assembly.structure(*[kind] * entry.results)
    signature = assembly.FunctionType(returned, [kind] * entry.arguments)
    function = assembly.Function(_library, signature, full, internal=True)
    align_stack(function, kind.count if assembly.is_vector(kind) else None)
    builder = assembly.Builder(function.append_basic_block("entry"))
    results = _body(builder, entry, function.args, kind, fused)
    if entry.results == 1:
        builder.ret(results[0])
    else:
        total = assembly.undefined(returned)
        for k, value in enumerate(results):
            total = builder.insert_value(total, value, k)
        builder.ret(total)
    return function


def _body(builder: Any, entry: Entry, args: Sequence[Any], kind: Any, fused: bool) -> list[Any]:
    """The formula on float64 lanes; float32 arguments are widened before, and the results rounded."""
    width, scalar = (kind.count, kind.element) if assembly.is_vector(kind) else (None, kind)
    short = scalar == F32
    lanes = Lanes(builder, width, short=short, fused=fused)
    if short:
        args = [builder.fpext(a, widen(F64, width)) for a in args]
    results = entry.formula(lanes, *(lanes.wrap(a) for a in args))
    values = [r.value for r in (results if isinstance(results, tuple) else (results,))]
    return [builder.fptrunc(v, kind) for v in values] if short else values
