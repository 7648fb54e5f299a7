"""custom_call[rule](*xs): a function with a derivative of its own.

The rule states its pushforward, its pullback and how it is batched. `transforms.custom` makes such rules from what the user
gives, one of the two derivatives being derived from the other by transposition; staged functions bring compiled ones.
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

    is_typed = False
    """Whether `types` tells without running code of the user's, and refuses what `evaluate` would refuse."""

    @abstractmethod
    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        """The function."""

    @abstractmethod
    def push(
        self, args: Sequence[Array], outs: Sequence[Array], tangents: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Tangents of the outputs."""

    @abstractmethod
    def pull(
        self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        """Cotangents of the arguments; those that are not wanted may be left out as None."""

    @abstractmethod
    def batch(self, size: int, args: Sequence[Array], flags: Sequence[bool]) -> Sequence[Array]:
        """The function over a leading axis of the flagged arguments; every output has that axis."""

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

    def infer(self, args: Sequence[Array], params: Params) -> tuple[ArrayType, ...] | None:
        rule: CustomRule = params["rule"]
        return rule.types([ArrayType.of(a) for a in args]) if rule.is_typed else None

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return params["rule"].batch(size, args, batched)

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return sum(t.size for t in outs)

    def samples(self) -> Iterator[Sample]:
        yield from ()

    def pushforward(self, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]) -> Any:
        return params["rule"].push(args, out, tangents)

    def pullback(
        self, args: Sequence[Array], out: Any, params: Params, ct: Any, wanted: Sequence[object]
    ) -> list[Array | None]:
        cts = params["rule"].pull(args, out, ct, wanted)
        return [c if want else None for c, want in zip(cts, wanted, strict=True)]


custom_call = _CustomCall()
ops.register(custom_call)
