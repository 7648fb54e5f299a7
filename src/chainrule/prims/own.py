"""Primitives of the user's own: declared from value and partials, with a default for everything else.

What a user's function returns is checked where it is used, since a partial of a wrong shape, or a forgotten `return`, would
otherwise be a wrong derivative.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from chainrule.errors import ShapeError, TraceError
from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Elementary, Params, Sample, bind, is_tracer, missing_derivative, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Contract, Diagonal, Scale
from chainrule.prims.families import Interval, align

# A partial: a function (*args, out, **params), a number, or None where there is no derivative.
OwnRule: TypeAlias = Callable[..., Any] | int | float | None
Cost: TypeAlias = Callable[[Sequence[ArrayType], Sequence[ArrayType], Params], int]
Batching: TypeAlias = Callable[[int, Sequence[Array], Sequence[bool], Params], Any]


def _defaults(function: Callable[..., Any]) -> Params:
    """The keyword-only parameters of a function that have defaults."""
    if not inspect.isfunction(function):  # compiled functions keep their defaults to themselves
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def as_argument(x: Any, *, weak: bool) -> Any:
    """An argument with shape and dtype; a Python number stays one where NumPy's promotion is to treat it weakly."""
    if hasattr(x, "dtype") or (weak and isinstance(x, bool | int | float | complex)):
        return x
    found = np.asarray(x)
    if found.dtype == object:
        raise TraceError(
            f"a {type(x).__name__} of traced values is no array", "Collect them with np.stack or np.array first."
        )
    return found[()]


class OwnPrimitive(Elementary):
    """A primitive whose partials are linear maps, or whole Jacobians as arrays of shape out.shape + x.shape."""

    weak = False

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        rows: tuple[tuple[OwnRule, ...], ...],
        *,
        types: Callable[..., Any] | None,
        batching: Batching | None,
        flops: int | Cost | None,
        examples: Callable[[], Iterator[Sample]],
    ) -> None:
        self.name = name
        self.function = function
        self.rows = rows
        self.outputs = len(rows)
        self.types = types
        self.batching = batching
        self.cost = flops
        self.examples = examples
        self.defaults = _defaults(function)
        self.differentiable = any(not _is_zero(rule) for row in rows for rule in row)
        self.has_missing = any(rule is None for row in rows for rule in row)
        ops.register(self)

    def __call__(self, *args: Any, **params: Any) -> Any:
        if len(args) != len(self.rows[0]):
            raise TypeError(
                f"`{self.name}` takes {len(self.rows[0])} arrays by position, and was given {len(args)}; "
                "parameters that are not differentiated go by keyword"
            )
        for key, p in params.items():
            if is_tracer(p):
                raise TraceError(f"the parameter `{key}` of `{self.name}` is traced", "Pass arrays by position.")
        return bind(self, [as_argument(a, weak=self.weak) for a in args], self.defaults | params)

    # ---- value and types

    def value(self, *args: Any, **params: Any) -> Any:
        out = self.function(*args, **params)
        if self.outputs == 1:
            return self.checked(out, args)
        if not (isinstance(out, tuple | list) and len(out) == self.outputs):
            raise ShapeError(
                f"`{self.name}` did not return a tuple of {self.outputs} arrays", "Return `first, second`."
            )
        return tuple(self.checked(o, args) for o in out)

    def checked(self, out: Any, args: Sequence[Any]) -> Array:
        """An output of the user's function as an array."""
        if is_tracer(out):
            raise TraceError(f"`{self.name}` uses a traced value that is not among its arguments", "Pass it as one.")
        found = np.asarray(out)
        if found.dtype.kind not in "biufc":
            raise TypeError(f"`{self.name}` returned a {type(out).__name__}, where an array of numbers belongs")
        return found[()]

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        if self.types is not None:
            out = self.types(*types, **params)
            return out if isinstance(out, tuple) else (out,)
        with np.errstate(all="ignore"):
            found = self.value(*(np.ones(t.shape, t.dtype)[()] for t in types), **params)
        return tuple(ArrayType.of(o) for o in (found if self.outputs > 1 else (found,)))

    # ---- derivative

    def missing(self, k: int) -> bool:
        return any(row[k] is None for row in self.rows)

    def partial(self, k: int, args: Sequence[Array], out: Any, params: Params, row: int = 0) -> LinearMap | None:
        rule = self.rows[row][k]
        if rule is None:
            raise missing_derivative(self, k)
        result = out if self.outputs == 1 else out[row]
        if not callable(rule):
            return self.linear_map(rule, k, args[k], result)
        found = rule(*args, out, **params)
        if found is None:
            raise TypeError(f"the partial {k} of `{self.name}` returned None: return 0 where the derivative is zero")
        return self.linear_map(found, k, args[k], result)

    def linear_map(self, found: Any, k: int, x: Array, out: Array) -> LinearMap | None:
        """What a partial returned, as a linear map of the right shape; None where it is zero."""
        if _is_zero(found):
            return None
        m = found if isinstance(found, LinearMap) else self.from_array(found, k, x, out)
        if (m.in_shape, m.out_shape) != (x.shape, out.shape):
            raise ShapeError(
                f"the partial {k} of `{self.name}` maps shape {m.in_shape} to {m.out_shape}",
                f"It must map {x.shape}, the argument's, to {out.shape}, the output's.",
            )
        return m

    def from_array(self, jacobian: Any, k: int, x: Array, out: Array) -> LinearMap:
        """The map of a whole Jacobian."""
        m, n = len(out.shape), len(x.shape)
        if np.shape(jacobian) != (*out.shape, *x.shape):
            raise ShapeError(
                f"the partial {k} of `{self.name}` returned an array of shape {np.shape(jacobian)}",
                f"Return the whole Jacobian, of shape {(*out.shape, *x.shape)}, or a map of chainrule.linear; "
                "for coefficients of an elementwise operation declare it with elementwise=True.",
            )
        rows, columns = tuple(range(m)), tuple(range(m, m + n))
        return Contract(as_argument(jacobian, weak=False), columns, (*rows, *columns), rows, x, out)

    # ---- batching, cost and samples

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        if self.batching is not None:
            return self.batching(size, args, batched, params)
        found = [
            self(*(ops.slice(a, key=(i,)) if b else a for a, b in zip(args, batched, strict=True)), **params)
            for i in range(size)
        ]
        if self.outputs == 1:
            return _stacked(found) if found else self._empty(args, batched, params)[0]
        return tuple(map(_stacked, zip(*found, strict=True))) if found else self._empty(args, batched, params)

    def _empty(self, args: Sequence[Array], batched: Sequence[bool], params: Params) -> tuple[Array, ...]:
        """The outputs of a batch of none."""
        types = [ArrayType.of(a) for a in args]
        single = [ArrayType(t.shape[1:], t.dtype) if b else t for t, b in zip(types, batched, strict=True)]
        return tuple(np.zeros((0, *t.shape), t.dtype) for t in self.type_rule(*single, **params))

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        if callable(self.cost):
            return self.cost(args, outs, params)
        size = sum(prod(o.shape) for o in outs)
        return size * self.cost if self.cost is not None else size + sum(prod(a.shape) for a in args)

    def samples(self) -> Iterator[Sample]:
        return ((args, self.defaults | params) for args, params in self.examples())


class OwnElementwise(OwnPrimitive):
    """A primitive on corresponding elements, which broadcasts; its partials are coefficients."""

    weak = True

    def checked(self, out: Any, args: Sequence[Any]) -> Array:
        found = super().checked(out, args)
        expected = np.broadcast_shapes(*(np.shape(a) for a in args))
        if found.shape != expected:
            raise ShapeError(
                f"`{self.name}` returned shape {found.shape} for arguments that broadcast to {expected}",
                "An elementwise operation has one result an element; others are declared with elementwise=False.",
            )
        return found

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        if self.types is not None:
            return super().type_rule(*types, **params)
        shape = np.broadcast_shapes(*(t.shape for t in types))
        single = super().type_rule(*(ArrayType((), t.dtype) for t in types), **params)
        return tuple(ArrayType(shape, t.dtype) for t in single)

    def from_array(self, jacobian: Any, k: int, x: Array, out: Array) -> LinearMap:
        shape = np.shape(jacobian)
        if len(shape) > len(out.shape) or any(
            n not in (1, m) for n, m in zip(shape[::-1], out.shape[::-1], strict=False)
        ):
            raise ShapeError(
                f"the partial {k} of `{self.name}` returned coefficients of shape {shape} for an output of {out.shape}",
                "Return one coefficient an element of the output.",
            )
        return Scale(jacobian, x, out) if isinstance(jacobian, int | float) else Diagonal(jacobian, x, out)

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        if self.batching is not None:
            return self.batching(size, args, batched, params)
        return self(*align(args, batched), **params)


def _is_zero(rule: Any) -> bool:
    return isinstance(rule, int | float) and rule == 0


def _stacked(parts: Sequence[Array]) -> Array:
    return ops.concatenate(*(ops.reshape(p, shape=(1, *p.shape)) for p in parts), axis=0)


_SHAPES = {1: (((3,),), ((),)), 2: (((3,), (3,)), ((), (3,)), ((2, 1), (3,)))}


def drawn(intervals: Sequence[Interval]) -> Iterator[Sample]:
    """Samples of an elementwise operation: arrays of several shapes, drawn from an interval for each argument."""
    n = len(intervals)
    rng = np.random.default_rng(n)
    for shapes in _SHAPES.get(n, (((3,),) * n, ((2, 1),) + ((3,),) * (n - 1))):
        yield tuple(rng.uniform(*i, s) for i, s in zip(intervals, shapes, strict=True)), {}
