"""The elementwise family: one line declares an operation, and the family broadcasts, batches and types it.

    tanh = unary("tanh", np.tanh, lambda x, out: 1 - out * out, flops=20)
    mul  = binary("mul", np.multiply, lambda x, y, out: y, lambda x, y, out: x, flops=1)

A rule, one an argument, is a function of the arguments and the output that gives the coefficients of a Diagonal map; a
number, which gives a Scale map, 0 meaning that the function is constant almost everywhere; or None, where there is no
derivative. A rule may also return a linear map of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import Elementary, Params, Sample, missing_derivative, ops
from chainrule.ir.types import Array, ArrayType, Shape
from chainrule.linear import Diagonal, Scale
from chainrule.linear.maps import fit

Rule: TypeAlias = Callable[..., Any] | int | float | None
Interval: TypeAlias = tuple[float, float]
Product: TypeAlias = Callable[[Any, Any], Any]

# What most rules return. isinstance of an abstract class is slow where it fails, so these are sorted out first.
_ARRAYS = frozenset((np.ndarray, np.float64, np.float32, float, int))

REAL: Interval = (-2.0, 2.0)
POSITIVE: Interval = (0.1, 3.0)
UNIT: Interval = (-0.9, 0.9)
PROBABILITY: Interval = (0.05, 0.95)


def align(args: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
    """Give batched arguments the rank that broadcasting needs, so that their leading axes meet."""
    rank = max(np.ndim(a) - b for a, b in zip(args, batched, strict=True))
    return [
        ops.reshape(a, shape=(a.shape[0], *(1,) * (rank - a.ndim + 1), *a.shape[1:])) if b and a.ndim - 1 < rank else a
        for a, b in zip(args, batched, strict=True)
    ]


def _pull_unary(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The adjoint of the Diagonal map with the coefficients that a rule gives, or of the map that it gives."""

    def pull(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> Array:
        (x,) = args
        d = rule(x, out)
        if type(d) not in _ARRAYS and isinstance(d, LinearMap):
            return d.adjoint(ct)
        term = product(ct, d)
        return term if term.dtype is x.dtype else fit(term, x.shape, x.dtype)

    return pull


def _pull_nary(rule: Callable[..., Any], k: int) -> Callable[..., Any]:
    """The same for argument k of several, which may have been broadcast."""

    def pull(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> Array:
        d = rule(*args, out)
        if type(d) not in _ARRAYS and isinstance(d, LinearMap):
            return d.adjoint(ct)
        x = args[k]
        term = product(ct, d)
        return term if term.shape == x.shape and term.dtype is x.dtype else fit(term, x.shape, x.dtype)

    return pull


def _pull_scaled(factor: float, k: int) -> Callable[..., Any]:
    """The adjoint of the Scale map with a factor."""

    def plus(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> Array:
        x = args[k]
        return ct if ct.shape == x.shape and ct.dtype is x.dtype else fit(ct, x.shape, x.dtype)

    def minus(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> Array:
        x = args[k]
        return -ct if ct.shape == x.shape and ct.dtype is x.dtype else fit(-ct, x.shape, x.dtype)

    def scaled(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> Array:
        return Scale(factor, args[k], out).adjoint(ct)

    return plus if factor == 1 else minus if factor == -1 else scaled


def _number_kind(x: Any) -> Any:
    """What stands for all numbers that promote as this one does; large integers do not fit every dtype."""
    if hasattr(x, "dtype"):
        return (x.dtype.type, np.ones((), x.dtype)[()])
    kind = type(x)
    if kind is int:
        return (kind, x if not 0 <= x <= 127 else 1)
    if kind in (bool, float, complex):
        return (kind, kind(1))
    raise TypeError(f"a {kind.__name__} has no dtype")


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape to which shapes broadcast; mostly one of them, which is found faster than NumPy's function is called."""
    found: Shape = ()
    for shape in shapes:
        if shape != found and shape:
            if found:
                return np.broadcast_shapes(*shapes)
            found = shape
    return found


class Elementwise(Elementary):
    """An operation on corresponding elements, broadcasting as NumPy does."""

    def __init__(
        self,
        name: str,
        compute: Callable[..., Any],
        rules: tuple[Rule, ...],
        *,
        flops: int,
        on: Sequence[Interval] | None,
        holomorphic: bool,
    ) -> None:
        self.name = name
        self.rules = rules
        self.domains = on
        self.holomorphic = holomorphic
        self.flops_per_element = flops
        self.differentiable = not all(isinstance(r, int | float) and r == 0 for r in rules)
        self.has_missing = any(r is None for r in rules)
        self.ordinary = self.differentiable and not self.has_missing
        # An instance attribute: the value is called on every operation, and this saves one Python call.
        self.value = compute  # type: ignore[method-assign]
        self.pulls = tuple(self._pull(k, rule) for k, rule in enumerate(rules))
        self._dtypes: dict[Any, np.dtype[Any]] = {}
        ops.register(self)

    def value(self, *args: Any, **params: Any) -> Any:
        raise AssertionError("replaced by the instance attribute")

    def missing(self, k: int) -> bool:
        return self.rules[k] is None

    def partial(self, k: int, args: Sequence[Array], out: Any, params: Params, row: int = 0) -> LinearMap | None:
        rule = self.rules[k]
        if callable(rule):
            d = rule(*args, out)
            if type(d) not in _ARRAYS and isinstance(d, LinearMap):
                return d
            return Diagonal(d, args[k], out)
        if rule is None:
            raise missing_derivative(self, k)
        return Scale(rule, args[k], out) if rule else None

    def _pull(self, k: int, rule: Rule) -> Callable[..., Any]:
        """The adjoint of `partial` without its making the map: sweeps call it once an operand of every operation."""
        if callable(rule):
            return _pull_unary(rule) if len(self.rules) == 1 else _pull_nary(rule, k)
        if rule:
            return _pull_scaled(rule, k)

        def nothing(args: Sequence[Array], out: Array, params: Params, ct: Array, product: Product) -> None:
            if rule is None:
                raise missing_derivative(self, k)

        return nothing

    def type_rule(self, *types: ArrayType, **params: Any) -> tuple[ArrayType, ...]:
        return (ArrayType(_broadcast([t.shape for t in types]), self._dtype(tuple([t.dtype for t in types]))),)

    def infer(self, args: Sequence[Array], params: Params) -> tuple[ArrayType, ...] | None:
        by_dtype = isinstance(self.value, np.ufunc)  # others may look at single numbers in a way of their own
        kinds = tuple([a.dtype if hasattr(a, "dtype") and (by_dtype or a.shape) else _number_kind(a) for a in args])
        shapes = [a.shape for a in args if hasattr(a, "shape")]
        return (ArrayType(_broadcast(shapes), self._dtype(kinds)),)

    def _dtype(self, kinds: tuple[Any, ...]) -> np.dtype[Any]:
        """The dtype of the result by trying: on no elements of each dtype, and on Python's own numbers as they are."""
        found = self._dtypes.get(kinds)
        if found is None:
            with np.errstate(all="ignore"):
                found = self.value(*[np.ones(0, k) if isinstance(k, np.dtype) else k[1] for k in kinds]).dtype
            self._dtypes[kinds] = found
        return found

    def batch(self, size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Any:
        return self(*align(args, batched))

    def flops(self, args: Sequence[ArrayType], outs: Sequence[ArrayType], params: Params) -> int:
        return self.flops_per_element * prod(outs[0].shape)

    def samples(self) -> Iterator[Sample]:
        if self.domains is None:
            return
        for seed, shapes in enumerate(_SHAPES[len(self.rules)]):
            rng = np.random.default_rng(seed)
            draws = [rng.uniform(lo, hi, shape) for (lo, hi), shape in zip(self.domains, shapes, strict=True)]
            yield tuple(draws), {}
            if self.holomorphic:
                yield tuple(x + 1j * rng.uniform(0.1, 0.8, x.shape) for x in draws), {}


_SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    1: (((3,),), ((),), ((2, 3),), ((0,),)),
    2: (((3,), (3,)), ((), (3,)), ((2, 1), (3,)), ((2, 3), ()), ((1, 3), (2, 1)), ((0,), (1,))),
    3: (((3,), (3,), (3,)), ((3,), (2, 3), ()), ((2, 1), (), (1, 3))),
}


def unary(
    name: str,
    compute: Callable[..., Any],
    rule: Rule,
    *,
    flops: int,
    on: Interval | None = REAL,
    holomorphic: bool = False,
) -> Elementwise:
    """Declare an elementwise operation of one argument."""
    return Elementwise(name, compute, (rule,), flops=flops, on=None if on is None else (on,), holomorphic=holomorphic)


def binary(
    name: str,
    compute: Callable[..., Any],
    left: Rule,
    right: Rule,
    *,
    flops: int,
    on: tuple[Interval, Interval] | None = (REAL, REAL),
    holomorphic: bool = False,
) -> Elementwise:
    """Declare an elementwise operation of two arguments."""
    return Elementwise(name, compute, (left, right), flops=flops, on=on, holomorphic=holomorphic)
