"""Functions with a derivative of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.api.arguments import Outputs, pair
from chainrule.errors import DifferentiationError, TraceError
from chainrule.ir.primitive import is_tracer, ops
from chainrule.ir.types import Array
from chainrule.trace import tree
from chainrule.transforms import custom


class _CustomFunction:
    """A function with a derivative of the user's own; keyword arguments are constants."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        functools.update_wrapper(self, f)

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: Outputs) -> Any:
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return getattr(self.f, "__name__", type(self.f).__name__)

    def _untraced(self, out: Any) -> Any:
        """What f gave for plain arguments: where that is traced, it would be differentiated without the rule."""
        if any(map(is_tracer, tree.flatten(out)[0])):
            raise TraceError(
                f"a function with a derivative of its own ({self._name}) uses a traced value that is not among its arguments",
                "Pass the value as an argument.",
            )
        return out

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = tree.flatten(args)
        if kwargs and any(map(is_tracer, tree.flatten(kwargs)[0])):
            raise TraceError(
                f"`{self._name}` has a derivative of its own, and was given a traced value by keyword",
                "Pass by position what is differentiated: keyword arguments are constants.",
            )
        if not any(map(is_tracer, leaves)):
            return self._untraced(self.f(*args, **kwargs))
        outputs = Outputs()
        outs = ops.custom_call(*leaves, rule=self._rule(rebuild, kwargs, outputs))
        return outputs.rebuild(list(outs))


class custom_jvp(_CustomFunction):  # noqa: N801 - a decorator
    """A function whose pushforward the user gives: rule(primals, tangents) -> (output, its tangent), linear in the tangents.

    Reverse mode, higher derivatives and vmap follow; the pullback is the transpose of the pushforward.

    >>> from chainrule import grad
    >>> @custom_jvp
    ... def softplus(x):
    ...     return np.log1p(np.exp(x))
    >>> @softplus.defjvp
    ... def softplus_jvp(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return softplus(x), t / (1 + np.exp(-x))
    >>> grad(softplus)(0.0)
    np.float64(0.5)
    """

    def __init__(self, f: Callable[..., Any], jvp: Callable[..., Any] | None = None) -> None:
        super().__init__(f)
        self.jvp = jvp

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Declare the pushforward; usable as a decorator."""
        self.jvp = jvp
        return jvp

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: Outputs) -> custom.PushRule:
        if self.jvp is None:
            raise DifferentiationError(f"`{self._name}` has no pushforward yet", "Declare it with @f.defjvp.")
        jvp = self.jvp

        def push(args: Sequence[Array], ts: Sequence[Array]) -> list[Array]:
            out, dots = pair(
                jvp(rebuild(list(args)), rebuild(list(ts)), **kwargs),
                f"the tangent rule of `{self._name}` returns a pair (output, its tangent)",
                "Return both, in this order.",
            )
            like, _ = tree.flatten(out)
            found = [t if hasattr(t, "dtype") else np.asarray(t)[()] for t in tree.flatten(dots)[0]]
            custom.agree(self._name, "tangent", found, like)
            return found

        return custom.PushRule(self._name, outputs.of(lambda xs: self.f(*rebuild(list(xs)), **kwargs)), push)


class custom_vjp(_CustomFunction):  # noqa: N801 - a decorator
    """A function whose pullback the user gives in two parts.

    forwards(*args) -> (output, residuals) and backwards(residuals, ct) -> a tuple of cotangents, linear in ct.
    Forward mode, higher derivatives and vmap follow; the pushforward is the transpose of the pullback.

    >>> from chainrule import grad
    >>> @custom_vjp
    ... def logarithm(x):
    ...     return np.log(x)
    >>> logarithm.defvjp(lambda x: (np.log(x), x), lambda x, ct: (ct / x,))
    >>> grad(lambda x: 3 * logarithm(x))(2.0)
    np.float64(1.5)
    """

    def __init__(
        self,
        f: Callable[..., Any],
        forwards: Callable[..., Any] | None = None,
        backwards: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(f)
        self.forwards = forwards
        self.backwards = backwards

    def defvjp(self, forwards: Callable[..., Any], backwards: Callable[..., Any]) -> None:
        """Declare the pullback in its two parts."""
        self.forwards = forwards
        self.backwards = backwards

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: Outputs) -> custom.PullRule:
        name = self._name
        if self.forwards is None or self.backwards is None:
            raise DifferentiationError(
                f"`{self._name}` has no pullback yet", "Declare it with f.defvjp(forwards, backwards)."
            )
        first, second = self.forwards, self.backwards

        def forwards(args: Sequence[Array]) -> tuple[Sequence[Array], Any]:
            given = rebuild(list(args))
            out, residuals = pair(
                first(*given, **kwargs),
                f"the first part of the pullback of `{name}` returns a pair (output, residuals)",
                "Return both, with None for residuals where there are none.",
            )
            return outputs.of(lambda _: out)([]), (given, residuals)

        def backwards(kept: Any, cts: Sequence[Array]) -> list[Array]:
            given, residuals = kept
            return tree.flatten_like(second(residuals, outputs.rebuild(list(cts))), given, name)

        return custom.PullRule(name, outputs.of(lambda xs: self.f(*rebuild(list(xs)), **kwargs)), forwards, backwards)
