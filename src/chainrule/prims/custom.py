"""custom_call[rule](*xs): a function with a derivative of the user's own.

The rule states its pushforward, its pullback and how it is batched; `transforms.custom` makes such rules from what the user
gives, one of the two derivatives being derived from the other by transposition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from chainrule.errors import TraceError
from chainrule.ir.primitive import Carrier, Params, Sample, is_tracer, ops
from chainrule.ir.types import Array, ArrayType


class CustomRule(ABC):
    """A function from arrays to a tuple of arrays, with its derivative."""

    @abstractmethod
    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        """The function."""

    @abstractmethod
    def push(self, args: Sequence[Array], tangents: Sequence[Array | None]) -> tuple[Array | None, ...]:
        """Tangents of the outputs."""

    @abstractmethod
    def pull(self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None]) -> Sequence[Array | None]:
        """Cotangents of the arguments."""

    @abstractmethod
    def batched(self, size: int, flags: Sequence[bool]) -> CustomRule:
        """The same over a leading axis of the flagged arguments."""

    @abstractmethod
    def types(self, types: Sequence[ArrayType]) -> tuple[ArrayType, ...]:
        """The types of the outputs."""


class _CustomCall(Carrier):
    """custom_call[rule](*xs) -> tuple of arrays."""

    name = "custom_call"
    outputs = -1

    def value(self, *args: Any, **params: Any) -> Any:
        rule: CustomRule = params["rule"]
        outs = rule.evaluate(args)
        if any(is_tracer(o) for o in outs):
            raise TraceError(
                f"a function with a derivative of its own ({rule}) uses a traced value that is not among its arguments",
                "Pass the value as an argument.",
            )
        return outs

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        rule: CustomRule = params["rule"]
        return rule.types(types)

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return self(*args, rule=params["rule"].batched(size, batched))

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return sum(t.size for t in outs)

    def samples(self) -> Iterator[Sample]:
        yield from ()

    def pushforward(self, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]) -> Any:
        return params["rule"].push(args, tangents)

    def pullback(
        self, args: Sequence[Array], out: Any, params: Params, ct: Any, wanted: Sequence[bool]
    ) -> list[Array | None]:
        cts = params["rule"].pull(args, out, ct)
        return [c if want else None for c, want in zip(cts, wanted, strict=True)]


custom_call = _CustomCall()
ops.register(custom_call)
