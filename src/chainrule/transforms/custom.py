"""Functions with a derivative of the user's own: from one of pushforward and pullback the other is derived by transposition.

A pushforward rule is linear in the tangents, so its pullback is its transpose, and the other way round. Both are traced like
any other code when higher derivatives are asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DifferentiationError, ShapeError, TreeError
from chainrule.ir.primitive import concrete, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.prims.custom import CustomRule, custom_call
from chainrule.transforms.batch import vmap
from chainrule.transforms.reverse import Flat, vjp

Function = Callable[[list[Any]], Sequence[Array]]
Push = Callable[[Sequence[Array], Sequence[Array]], Sequence[Array]]
Forwards = Callable[[Sequence[Array]], tuple[Sequence[Array], Any]]
Backwards = Callable[[Any, Sequence[Array]], Sequence[Array]]


def tangent_zeros(x: Array) -> Array:
    """A zero tangent of x: of its own dtype, or float64 where x is of integers or booleans."""
    x_type = ArrayType.of(x)
    return np.zeros(x_type.shape, x_type.dtype if x_type.is_differentiable else np.float64)


def _filled(ts: Sequence[Array | None], like: Sequence[Array]) -> list[Array]:
    return [tangent_zeros(x) if t is None else t for t, x in zip(ts, like, strict=True)]


def agree(name: str, what: str, found: Sequence[Array], like: Sequence[Array]) -> None:
    """Raise where what a rule returned does not match the values that it belongs to."""
    if len(found) != len(like):
        raise TreeError(
            f"the {what} rule of `{name}` returned {len(found)} arrays where {len(like)} belong",
            f"Return one {what} an array, in the same tree.",
        )
    for f, x in zip(found, like, strict=True):
        if np.shape(f) != np.shape(x):
            raise ShapeError(
                f"the {what} rule of `{name}` returned shape {np.shape(f)} where {np.shape(x)} belongs",
                f"A {what} has the shape of its value.",
            )


def _transposed(name: str, what: str, rule: Flat, like: Sequence[Array], cts: Sequence[Array]) -> list[Array]:
    """The transpose of a rule that is linear in its tangents or cotangents, applied to cts.

    The rule is traced at some t, and run again at -t/64: a linear map multiplies all that it returns by the same, without rounding.
    """
    ts = [_probe(x) for x in like]
    values, back = vjp(rule, ts)
    smaller = rule([t / -64 for t in ts])
    if not all(map(_agree, values, smaller)):
        raise DifferentiationError(
            f"the {what} rule of `{name}` is not linear in its {what}s, so that the other mode cannot be derived from it",
            f"Return {what}s that are sums of multiples of those given.",
        )
    return back(cts)


def _probe(x: Array) -> Array:
    """A tangent of x that is neither zero nor small nor regular."""
    t = tangent_zeros(x)
    angles = np.arange(1.0, t.size + 1).reshape(t.shape)
    return (64 * (np.cos(angles) + (1j * np.sin(3 * angles) if t.dtype.kind == "c" else 0))).astype(t.dtype)[()]


def _agree(large: Array, small: Array) -> bool:
    """Whether -64 times what came of -t/64 is what came of t, as far as a rule that rounds by t's size can tell."""
    large, small = concrete(large), concrete(small)
    with np.errstate(all="ignore"):
        difference = np.abs(large + 64 * small)
        known = np.isfinite(difference)
        return not np.any(known & (difference > 0.01 * np.max(np.abs(large), initial=0, where=known)))


class _Rule(CustomRule):
    name: str
    function: Function

    @abstractmethod
    def batched(self, size: int, flags: Sequence[bool]) -> _Rule:
        """The same over a leading axis of the flagged arguments."""

    def batch(self, size: int, args: Sequence[Array], flags: Sequence[bool]) -> Sequence[Array]:
        return custom_call(*args, rule=self.batched(size, flags))  # type: ignore[no-any-return]

    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(o if hasattr(o, "dtype") else np.asarray(o)[()] for o in self.function(list(args)))

    def types(self, types: Sequence[ArrayType]) -> tuple[ArrayType, ...]:
        return tuple(ArrayType.of(o) for o in self.evaluate([np.ones(t.shape, t.dtype) for t in types]))

    def __str__(self) -> str:
        return self.name


class PushRule(_Rule):
    """A function with its pushforward (args, tangents) -> tangents of the outputs."""

    def __init__(self, name: str, function: Function, rule: Push) -> None:
        self.name = name
        self.function = function
        self.rule = rule

    def push(
        self, args: Sequence[Array], outs: Sequence[Array], tangents: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        return tuple(self.rule(args, _filled(tangents, args)))

    def pull(
        self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        return _transposed(self.name, "tangent", lambda ts: self.rule(args, ts), args, _filled(cts, outs))

    def batched(self, size: int, flags: Sequence[bool]) -> PushRule:
        axes = [0 if f else None for f in flags]

        def rule(args: Sequence[Array], ts: Sequence[Array]) -> list[Array]:
            n = len(args)
            return vmap(lambda xs: self.rule(xs[:n], xs[n:]), [*args, *ts], [*axes, *axes], size)

        return PushRule(self.name, lambda args: vmap(self.function, args, axes, size), rule)


class PullRule(_Rule):
    """A function with its pullback, split as forwards: args -> (outs, residuals) and backwards: (residuals, cts) -> cts of args."""

    def __init__(self, name: str, function: Function, forwards: Forwards, backwards: Backwards) -> None:
        self.name = name
        self.function = function
        self.forwards = forwards
        self.backwards = backwards
        self._kept: tuple[Sequence[Array], Any] | None = None

    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        outs, residuals = self.forwards(args)
        self._kept = (args, residuals)
        return tuple(o if hasattr(o, "dtype") else np.asarray(o)[()] for o in outs)

    def _residuals(self, args: Sequence[Array]) -> Any:
        if self._kept is not None and all(a is b for a, b in zip(self._kept[0], args, strict=True)):
            return self._kept[1]
        return self.forwards(args)[1]

    def pull(
        self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        found = self.backwards(self._residuals(args), _filled(cts, outs))
        agree(self.name, "cotangent", [x if f is None else f for f, x in zip(found, args, strict=True)], args)
        # Views say that the memory may be the user's, an argument or a residual, as a gradient's must not be.
        return [f.view() if type(f) is np.ndarray else f for f in found]

    def push(
        self, args: Sequence[Array], outs: Sequence[Array], tangents: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        _, residuals = self.forwards(args)

        def back(cts: Sequence[Array]) -> list[Array]:
            found = self.backwards(residuals, cts)
            return [tangent_zeros(x) if f is None else f for f, x in zip(found, args, strict=True)]

        return tuple(_transposed(self.name, "cotangent", back, outs, _filled(tangents, args)))

    def batched(self, size: int, flags: Sequence[bool]) -> _Rule:
        axes = [0 if f else None for f in flags]

        def forwards(args: Sequence[Array]) -> tuple[Sequence[Array], Any]:
            return vmap(self.function, args, axes, size), args

        def backwards(args: Sequence[Array], cts: Sequence[Array]) -> list[Array]:
            n = len(args)

            def one(xs: Sequence[Array]) -> list[Array]:
                found = self.backwards(self.forwards(xs[:n])[1], xs[n:])
                return [tangent_zeros(x) if f is None else f for f, x in zip(found, xs[:n], strict=True)]

            found = vmap(one, [*args, *cts], [*axes, *(0 for _ in cts)], size)
            return [f if flag else ops.reduce_sum(f, axes=(0,)) for f, flag in zip(found, flags, strict=True)]

        return PullRule(self.name, lambda args: vmap(self.function, args, axes, size), forwards, backwards)
