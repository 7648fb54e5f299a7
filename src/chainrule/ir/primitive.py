"""Primitives, the registry, and `bind`, by which every elementary operation is computed or recorded.

This is the one clean cut of a circle: rules are written with operations, and operations carry rules. So the abstract primitive, the
abstract trace and the registry live below everything that needs them, and `ops.NAME` finds an operation when it is called.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from chainrule.errors import MissingRule, ProgramError
from chainrule.ir.linear_map import LinearMap
from chainrule.ir.pending import settled
from chainrule.ir.types import Array, ArrayType

Params: TypeAlias = dict[str, Any]
Sample: TypeAlias = tuple[tuple[Any, ...], Params]

_levels = count(1)


class Trace(ABC):
    """What happens to operations on the values of one transformation under way.

    Traces nest: each has a level, later ones higher, and the highest among an operation's arguments processes it, with the values
    of lower levels as its constants.
    """

    __slots__ = ("is_open", "level")
    carries_values = False
    """Whether the data of a tracer are a value that belongs to its own: its tangent."""

    def __init__(self) -> None:
        self.level = next(_levels)
        self.is_open = True

    @abstractmethod
    def process(self, primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
        """Compute `primitive` on arguments of which at least one belongs to this trace."""

    def unary(self, primitive: Primitive, compute: Callable[..., Any], x: TracerBase, params: Params) -> Any:
        """`process` of a tracer of this trace; `compute` is the same operation on plain values: the value, or an operator."""
        return self.process(primitive, (x,), params)

    def binary(self, primitive: Primitive, compute: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        """`process` of two operands, each of this trace or plain; `compute` is the same operation, an operator or a ufunc."""
        return self.process(primitive, (x, y), {})

    def decide(self, tracer: TracerBase) -> Any:
        """The plain value of a tracer of this trace, for Python to branch on or to count with."""
        below = tracer.value
        return below.owner.decide(below) if isinstance(below, TracerBase) else settled(below)


class TracerBase:
    """A handle on a value of a trace, its owner: `value` is what it holds one level down, `data` is the trace's own."""

    __slots__ = ("data", "owner", "shared", "value")

    value: Any
    owner: Trace
    data: Any
    shared: bool


def bind(primitive: Primitive, args: Sequence[Array], params: Params) -> Any:
    """Compute a primitive: by NumPy on plain arguments, by the highest trace among them otherwise."""
    top: Trace | None = None
    for a in args:
        if isinstance(a, TracerBase):
            trace = a.owner
            if top is None or trace.level > top.level:
                top = trace
    if top is None:
        return primitive.value(*args, **params)
    return top.process(primitive, args, params)


class Primitive(ABC):
    """An elementary operation: name, value, type rule, batching, cost and samples; its derivative is one of two kinds.

    `Elementary` primitives state their local Jacobians as linear maps, from which both modes follow. `Carrier` primitives
    carry whole programs or user rules, and state pushforward and pullback together.
    """

    name: str
    outputs: int = 1
    # For each argument (args, out, params, ct, product) -> its cotangent, None where that is zero: what sweeps ask of operations
    # of one output in the place of `pullback`. `product(ct, d)` is how the sweep under way multiplies by coefficients.
    pulls: Sequence[Callable[..., Any]] | dict[int, Callable[..., Any]] = ()
    # (buffer, ct, *args, **params) -> buffer: of operations whose adjoint fills but a part of the first argument's cotangent, and
    # no other's, the function that adds that part into a plain buffer in place, or where that is None, into fresh zeros. It
    # returns None where the part's place is traced.
    accumulate: Callable[..., Any] | None = None
    has_missing: bool = False  # whether some argument has no derivative
    # Whether the result may share memory with the first argument, as NumPy's views do.
    view: bool = False
    differentiable: bool = True
    ordinary: bool = False  # one output, differentiable in all arguments: known to need no more than to be recorded

    @abstractmethod
    def value(self, *args: Any, **params: Any) -> Any:
        """The result by NumPy; a tuple where there are several outputs."""

    @abstractmethod
    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        """The types of the outputs from those of the arguments."""

    def infer(self, args: Sequence[Array], params: Params) -> tuple[ArrayType, ...] | None:
        """The types of the outputs on arguments of which shapes and dtypes are known, exactly as the value would have them.

        None, or any exception, where the types do not tell: where they depend on values, or where the value might refuse the
        arguments and this does not. Then the value is computed.
        """
        return None

    @abstractmethod
    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        """The operation over a leading axis of `size` of those arguments that are batched; every output has that axis first."""

    @abstractmethod
    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        """Elementary floating-point operations that one evaluation takes."""

    @abstractmethod
    def samples(self) -> Iterator[Sample]:
        """Inputs on which the laws are checked: pairs of arguments and parameters."""

    def missing(self, k: int) -> bool:
        """Whether argument `k` has no derivative at all, so that asking for it must raise."""
        return False

    @abstractmethod
    def pushforward(self, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]) -> Any:
        """The output's tangent from the arguments' tangents, None standing for zero."""

    @abstractmethod
    def pullback(
        self, args: Sequence[Array], out: Any, params: Params, ct: Any, wanted: Sequence[object]
    ) -> list[Array | None]:
        """The cotangents of the arguments from the output's, None standing for zero, and for what is not wanted (false)."""

    def __call__(self, *args: Any, **params: Any) -> Any:
        if len(args) != 1:
            return bind(self, args, params)
        (x,) = args
        return x.owner.unary(self, self.value, x, params) if isinstance(x, TracerBase) else self.value(x, **params)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Callable[[str], Primitive], tuple[str]]:
        return _lookup, (self.name,)


def missing_derivative(primitive: Primitive, k: int) -> MissingRule:
    """The error for an operation that has no derivative in argument `k`."""
    return MissingRule(
        f"`{primitive.name}` has no derivative with respect to its argument {k}",
        "Keep that argument constant (cr.stop_gradient, cr.value), or declare the derivative with cr.custom_jvp.",
    )


class Elementary(Primitive):
    """A primitive of the first kind: `partial` states its local Jacobians as structured linear maps."""

    @abstractmethod
    def partial(self, k: int, args: Sequence[Array], out: Any, params: Params, row: int = 0) -> LinearMap | None:
        """The local Jacobian of output `row` with respect to argument `k`; None where it is zero."""

    def pushforward(self, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]) -> Any:
        if self.outputs == 1:
            return self._push_row(0, args, out, params, tangents)
        return tuple(self._push_row(row, args, out, params, tangents) for row in range(self.outputs))

    def _push_row(
        self, row: int, args: Sequence[Array], out: Any, params: Params, tangents: Sequence[Array | None]
    ) -> Array:
        total = None
        for k, t in enumerate(tangents):
            if t is not None:
                m = self.partial(k, args, out, params, row)
                if m is not None:
                    term = m.apply(t)
                    total = term if total is None else total + term
        return total

    def pullback(
        self, args: Sequence[Array], out: Any, params: Params, ct: Any, wanted: Sequence[object]
    ) -> list[Array | None]:
        rows = ((0, ct),) if self.outputs == 1 else tuple(enumerate(ct))
        return [self._pull_argument(k, args, out, params, rows) if want else None for k, want in enumerate(wanted)]

    def _pull_argument(
        self, k: int, args: Sequence[Array], out: Any, params: Params, rows: Sequence[tuple[int, Array | None]]
    ) -> Array | None:
        total = None
        for row, ct in rows:
            if ct is not None:
                m = self.partial(k, args, out, params, row)
                if m is not None:
                    term = m.adjoint(ct)
                    total = term if total is None else total + term
        return total


class Carrier(Primitive):
    """A primitive of the second kind, which carries programs or user rules; it states pushforward and pullback together."""


class _Registry:
    """All primitives by name: `ops.add` is the primitive add; `ops[name]`, `in`, iteration and `len` work as on a dict.

    Rooms that importing chainrule does without load when something is asked for that is not here yet.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Primitive] = {}
        self._rooms: list[str] = []

    def load_later(self, rooms: Sequence[str]) -> None:
        """Name modules that declare further primitives."""
        self._rooms.extend(rooms)

    def complete(self) -> None:
        """Load the rooms that wait; a thread that comes while another loads them waits for it in their import."""
        for room in tuple(self._rooms):
            import_module(room)
        self._rooms.clear()

    def register(self, primitive: Primitive) -> Primitive:
        if primitive.name in self._by_name:
            raise ProgramError(
                f"a primitive named `{primitive.name}` is declared already", "Choose another name: names are unique."
            )
        self._by_name[primitive.name] = primitive
        setattr(self, primitive.name, primitive)
        return primitive

    def remove(self, name: str) -> None:
        del self._by_name[name]
        delattr(self, name)

    def __getitem__(self, name: str) -> Primitive:
        if name not in self._by_name:
            self.complete()
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._by_name:
            self.complete()
        return name in self._by_name

    def __iter__(self) -> Iterator[Primitive]:
        self.complete()
        return iter(tuple(self._by_name.values()))

    def __len__(self) -> int:
        self.complete()
        return len(self._by_name)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self.complete()
            if name in self._by_name:
                return self._by_name[name]
        raise AttributeError(f"no primitive is named `{name}`")


ops = _Registry()


def _lookup(name: str) -> Primitive:
    return ops[name]


# A partial: a function (*args, out, **params) -> LinearMap | None; 0 where the derivative is zero; None where there is none.
Partial: TypeAlias = "Callable[..., LinearMap | None] | int | None"


class _VariadicPulls(dict[int, Callable[..., Any]]):
    """The adjoints of the partials of any number of arguments, made as they are asked for."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        self.rule = rule
        self[0] = self[0]  # not empty, which would say that there are none

    def __missing__(self, k: int) -> Callable[..., Any]:
        self[k] = _pull_map(functools.partial(self.rule, k))
        return self[k]


def _pull_map(rule: Any) -> Callable[..., Any]:
    """The adjoint of the linear map that a partial is."""

    def pull(args: Sequence[Array], out: Any, params: Params, ct: Array, product: Callable[[Any, Any], Any]) -> Any:
        m = rule(*args, out=out, **params) if callable(rule) else None
        return None if m is None else m.adjoint(ct)

    return pull


@dataclass(eq=False, repr=False)
class RoomPrimitive(Elementary):
    """A primitive declared by its slots, as rooms do.

    `partials` has one entry an argument, or, for several outputs, one such tuple a row; `variadic` gives all arguments the same
    function, called with the argument's number first.
    """

    name: str
    compute: Callable[..., Any]
    types: Callable[..., Any]
    partials: tuple[Any, ...]
    batching: Callable[[int, Sequence[Array], Sequence[bool], Params], Any]
    cost: Callable[[Sequence[ArrayType], Sequence[ArrayType], Params], int]
    examples: Callable[[], Iterator[Sample]]
    outputs: int = 1
    view: bool = False
    typed: bool = False  # whether `types` refuses all shapes and dtypes that `compute` refuses
    accumulate: Callable[..., Any] | None = None
    variadic: Callable[..., LinearMap | None] | None = None
    differentiable: bool = field(init=False)
    has_missing: bool = field(init=False)
    ordinary: bool = field(init=False)

    def __post_init__(self) -> None:
        self._rows: tuple[tuple[Any, ...], ...] = self.partials if self.outputs > 1 else (self.partials,)
        self.differentiable = self.variadic is not None or any(p != 0 for row in self._rows for p in row)
        self.has_missing = self.variadic is None and any(p is None for row in self._rows for p in row)
        self.ordinary = self.outputs == 1 and self.differentiable and not self.has_missing
        if self.ordinary and self.accumulate is None:
            self.pulls = (
                tuple(map(_pull_map, self.partials)) if self.variadic is None else _VariadicPulls(self.variadic)
            )
        # The value is called on every operation: an instance attribute saves one Python call.
        self.value = self.compute  # type: ignore[method-assign]
        ops.register(self)

    def value(self, *args: Any, **params: Any) -> Any:  # pragma: no cover - replaced by the instance attribute
        return self.compute(*args, **params)

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        out = self.types(*types, **params)
        return out if isinstance(out, tuple) else (out,)

    def infer(self, args: Sequence[Array], params: Params) -> tuple[ArrayType, ...] | None:
        if not self.typed or not all(hasattr(a, "dtype") for a in args):
            return None
        return self.type_rule(*[ArrayType(a.shape, a.dtype) for a in args], **params)

    def missing(self, k: int) -> bool:
        return self.variadic is None and any(k >= len(row) or row[k] is None for row in self._rows)

    def partial(self, k: int, args: Sequence[Array], out: Any, params: Params, row: int = 0) -> LinearMap | None:
        if self.variadic is not None:
            return self.variadic(k, *args, out=out, **params)
        rule = self._rows[row][k]
        if callable(rule):
            return rule(*args, out=out, **params)  # type: ignore[no-any-return]
        if rule is None:
            raise missing_derivative(self, k)
        return None

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return self.batching(size, args, batched, params)

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return self.cost(args, outs, params)

    def samples(self) -> Iterator[Sample]:
        return self.examples()


def parameter_key(value: Any) -> Any:
    """A hashable stand-in for a parameter's value, equal only for equal values."""
    kind = type(value)
    if kind is slice:
        return (slice, value.start, value.stop, value.step)
    if kind is tuple or kind is list:
        return tuple([parameter_key(v) for v in value])
    if kind is dict:
        return tuple([(k, parameter_key(v)) for k, v in sorted(value.items())])
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (kind, value)


def is_tracer(x: Any) -> bool:
    """Whether a value is traced."""
    return isinstance(x, TracerBase)


def is_traced_by(x: Any, kind: type[Trace]) -> bool:
    """Whether a trace of this kind is among those that a value belongs to, at whatever depth."""
    while isinstance(x, TracerBase):
        if isinstance(x.owner, kind):
            return True
        x = x.value
    return False


def concrete(x: Any) -> Any:
    """The plain value under all traces: what NumPy computed. Loses every derivative, so only for deciding and printing."""
    while isinstance(x, TracerBase):
        x = x.value
    return settled(x)


def has_nan(x: Any) -> bool:
    """Whether a floating or complex array, or a tangent of it, has a NaN; or, if complex, perhaps infinities of both signs.

    In a sum of squares NaN cannot cancel, and NumPy takes it for the greatest of all. Complex arrays are added up, which is faster;
    what opposite infinities add is a NaN too, and costs the caller a closer look.
    """
    while isinstance(x, TracerBase):
        if x.owner.carries_values and has_nan(x.data):
            return True
        x = x.value
    x = settled(x)
    if type(x) is not np.ndarray or x.ndim == 0:
        return bool(x != x)
    if x.dtype.kind != "f":
        with np.errstate(all="ignore"):
            s = np.add.reduce(x, axis=None)
    elif x.size < _SMALL:
        if x.ndim > 1:
            x = x.ravel(order="K")
        s = x.dot(x)
    else:
        s = _largest(x, axis=None)
    return bool(s != s)


# Up to this size a dot product is the fastest, and runs on one thread.
_SMALL = 4096
_largest = np.maximum.reduce
