"""Derivatives by differences, and the check of derivatives against them.

    df/dx in direction d  ~  (f(x + h d) - f(x - h d)) / (2 h),   extrapolated to h -> 0 over three steps (Richardson)

The error of the extrapolation is estimated from its last two orders; where it is too large (rounding, a step across the
border of the domain) smaller steps are tried. Where the function computes on complex numbers analytically, Im f(x + i h d) / h
has no cancellation at all, and is preferred once it agrees with the differences.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule import api
from chainrule.errors import DifferentiationError
from chainrule.ir.types import Array
from chainrule.trace import tree

# A function from the differentiated leaves to the leaves of its output, and a direction: for each leaf an array, or None for zero.
Flat = Callable[..., tuple[Any, ...]]
Direction = Sequence[Array | None]

_STEPS = (4e-3, 3e-4, 2e-5, 1e-6)
_RELATIVE_STEPS = (4e-3, 3e-4)
_COMPLEX_STEP = 1e-30
_TOLERANCE = {2: 3e-2, 4: 2e-3, 8: 1e-6, 16: 1e-6}
_MODES = ("forward", "reverse")


# ---- differences


class Difference(NamedTuple):
    """A derivative by differences, and an estimate of its error."""

    value: np.ndarray[Any, Any]
    error: np.ndarray[Any, Any]


def _shifted(xs: Sequence[Array], direction: Direction, h: complex) -> list[Array]:
    return [x if d is None else x + h * d for x, d in zip(xs, direction, strict=True)]


def _joined(outs: Sequence[Any]) -> np.ndarray[Any, Any]:
    """All elements of all outputs, in one array."""
    return np.concatenate([np.ravel(o) for o in outs]) if outs else np.zeros(0)


def _extrapolated(f: Flat, xs: Sequence[Array], direction: Direction, h: float) -> Difference:
    def central(step: float) -> np.ndarray[Any, Any]:
        ahead, behind = f(*_shifted(xs, direction, step)), f(*_shifted(xs, direction, -step))
        slope: np.ndarray[Any, Any] = (_joined(ahead) - _joined(behind)) / (2 * step)
        return slope

    wide, middle, narrow = central(2 * h), central(h), central(h / 2)
    coarse, fine = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    best = (16 * fine - coarse) / 15
    return Difference(best, np.nan_to_num(abs(best - fine), nan=np.inf))


def steps_at(x: complex) -> tuple[float, ...]:
    """Steps to try for a perturbation of x, until one shows a small error: absolute ones, then small ones relative to x."""
    size = abs(x)
    return (*(max(1.0, size) * h for h in _STEPS), *(size * h for h in _RELATIVE_STEPS if 0 < size < 1))


def central_differences(
    f: Flat, xs: Sequence[Array], direction: Direction, *, steps: Sequence[float] = _STEPS, enough: float = 1e-8
) -> Difference:
    """The derivative of all outputs of f at xs in a direction, with the error that its own convergence shows.

    >>> print("%.6f" % central_differences(lambda x: (np.sin(x),), [np.array(0.0)], [np.array(1.0)]).value[0])
    1.000000
    """
    found: Difference | None = None
    for step in steps:
        with np.errstate(all="ignore"):
            tried = _extrapolated(f, xs, direction, step)
        if found is not None:
            better = tried.error < found.error
            tried = Difference(np.where(better, tried.value, found.value), np.minimum(tried.error, found.error))
        found = tried
        if np.all(found.error <= enough * np.maximum(1, abs(found.value))):
            break
    assert found is not None
    return found


def complex_step(f: Flat, xs: Sequence[Array], direction: Direction) -> np.ndarray[Any, Any] | None:
    """The derivative of real outputs at real xs by one evaluation at xs + i h d; None where f does not compute on complex numbers.

    Right only where f is analytic: the caller compares. Exact to rounding then, whatever the step.

    >>> float(complex_step(lambda x: (np.exp(x),), [np.array(0.0)], [np.array(1.0)])[0])
    1.0
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outs = f(*_shifted(xs, direction, 1j * _COMPLEX_STEP))
    except Exception:  # noqa: BLE001 - the user's function may object to complex numbers in any way it likes
        return None
    return np.imag(_joined(outs)) / _COMPLEX_STEP


def _reference(f: Flat, xs: Sequence[Array], direction: Direction, x: complex) -> Difference:
    """The best difference quotient there is, elementwise."""
    found = central_differences(f, xs, direction, steps=steps_at(x))
    if any(x.dtype.kind == "c" for x in xs) or found.value.dtype.kind == "c":
        return found
    exact = complex_step(f, xs, direction)
    if exact is None or exact.shape != found.value.shape:
        return found
    agrees = abs(exact - found.value) <= 10 * found.error + 1e-6 * np.maximum(1, abs(exact))
    return Difference(np.where(agrees, exact, found.value), np.where(agrees, 0.0, found.error))


# ---- the function and its differentiated leaves


class _Checked:
    """A function of trees as a function of its floating and complex leaves, the others being constants."""

    def __init__(self, f: Callable[..., Any], args: Sequence[Any]) -> None:
        self.f = f
        leaves, self.rebuild = tree.flatten(tuple(args))
        self.leaves = [_as_inexact(x) for x in leaves]
        self.chosen = [k for k, x in enumerate(self.leaves) if getattr(x, "dtype", np.dtype(object)).kind in "fc"]
        if not self.chosen:
            raise DifferentiationError("check_grads was given no floating argument", "Pass floats: 2.0 instead of 2.")
        paths = tree.paths(tuple(args))
        self.names = [f"argument {paths[k].lstrip('[').replace(']', '', 1)}" for k in self.chosen]
        self.xs = [self.leaves[k] for k in self.chosen]

    def __call__(self, *xs: Any) -> tuple[Any, ...]:
        leaves = list(self.leaves)
        for k, x in zip(self.chosen, xs, strict=True):
            leaves[k] = x
        found = tree.flatten(self.f(*self.rebuild(leaves)))[0]
        outs = tuple(o for o in map(_as_inexact, found) if getattr(o, "dtype", np.dtype(object)).kind in "fc")
        if not outs:
            raise DifferentiationError(
                "check_grads was given a function without a floating output", "Return floats, or trees of them."
            )
        return outs


def _as_inexact(x: Any) -> Any:
    return np.asarray(x)[()] if isinstance(x, float | complex | list) else x


class _Place(NamedTuple):
    """One element of one differentiated leaf, and the unit of its perturbation: 1, or 1j for an imaginary part."""

    leaf: int
    at: tuple[int, ...]
    unit: complex

    def direction(self, xs: Sequence[Array]) -> list[Array | None]:
        """The unit tangent there."""
        x = xs[self.leaf]
        t = np.zeros(x.shape, x.dtype)
        t[self.at] = self.unit if x.dtype.kind == "c" else 1
        return [t[()] if k == self.leaf else None for k in range(len(xs))]


def _places(xs: Sequence[Array], limit: int, rng: np.random.Generator) -> Iterator[_Place]:
    """All elements of small arrays, and a random choice of those of large ones."""
    for k, x in enumerate(xs):
        indices = list(np.ndindex(x.shape)) if x.size <= limit else _drawn(x, limit, rng)
        for index in indices:
            yield _Place(k, index, 1)
            if x.dtype.kind == "c":
                yield _Place(k, index, 1j)


def _drawn(x: Array, limit: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    flat = np.sort(rng.choice(x.size, limit, replace=False))
    return [tuple(int(i) for i in np.unravel_index(n, x.shape)) for n in flat]


# ---- the check


class _Check:
    """What is compared, how exactly, and how a difference is reported."""

    def __init__(self, name: str, names: Sequence[str], rtol: float, atol: float, limit: int) -> None:
        self.name, self.names = name, names
        self.rtol, self.atol = rtol, atol
        self.limit = limit
        self.rng = np.random.default_rng(0)

    def run(self, f: Flat, xs: Sequence[Array], modes: Sequence[str], order: int, taken: tuple[str, ...] = ()) -> None:
        """Compare the derivatives of f by each mode with differences; then the derivatives of those, up to the order."""
        outs = f(*xs)
        u = [self._draw(o) for o in outs]
        gradient = api.vjp(f, *xs)[1](tuple(u)) if "reverse" in modes else ()
        wide = [x.astype(np.result_type(x.dtype, np.float64)) for x in xs]
        for place in _places(xs, self.limit, self.rng):
            reference = _reference(f, wide, place.direction(wide), wide[place.leaf][place.at])
            for mode in modes:
                self._compare(mode, taken, place, outs, *_FOUND[mode](f, xs, place, u, gradient, reference))
        if order > 1:
            t = [self._draw(x) for x in xs]
            for mode in modes:
                self.run(_DERIVATIVES[mode](f, t, u), xs, modes, order - 1, (mode, *taken))

    def _draw(self, like: Any) -> Any:
        t = self.rng.uniform(0.5, 1.5, like.shape) * self.rng.choice([-1.0, 1.0], like.shape)
        if like.dtype.kind == "c":
            t = t + 1j * self.rng.uniform(-1, 1, like.shape)
        return np.asarray(t).astype(like.dtype)[()]

    def _compare(
        self,
        mode: str,
        taken: tuple[str, ...],
        place: _Place,
        outs: Sequence[Any],
        found: np.ndarray[Any, Any],
        expected: np.ndarray[Any, Any],
        error: np.ndarray[Any, Any],
    ) -> None:
        size = np.maximum(abs(found), abs(expected))
        # What the differences themselves do not know is allowed for, up to a thousandth: beyond that they say nothing.
        slack = np.minimum(error, 1e-3 * np.maximum(size, 1))
        wrong = ~(abs(found - expected) <= self.atol + self.rtol * size + slack)
        wrong &= ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
        if wrong.any():
            k = int(np.argmax(wrong))
            where = "" if mode == "reverse" else f" of {_output_name(outs, k)}"
            raise AssertionError(
                self._message(
                    mode, taken, place, where, found[k], expected[k], bool(error[k] > self.atol + 1e-3 * size[k])
                )
            )

    def _message(
        self, mode: str, taken: tuple[str, ...], place: _Place, where: str, found: Any, expected: Any, rough: bool
    ) -> str:
        order = len(taken) + 1
        part = " (imaginary part)" if place.unit == 1j else ""
        index = f", index {place.at}" if place.at else ""
        which = " over ".join((mode, *taken))
        lines = [
            f"derivative {order} of `{self.name}`{where} with respect to {self.names[place.leaf]}{index}{part} is wrong:",
            f"  {which + ' mode:':<28}{found!s}",
            f"  {'differences:':<28}{expected!s}",
        ]
        if mode == "reverse":
            lines.append("  (of a random combination of the outputs)")
        if rough:
            lines.append(
                "  The differences do not settle as the step shrinks: f may have a kink or a jump here. Check at another point."
            )
        return "\n".join(lines)


def _output_name(outs: Sequence[Any], k: int) -> str:
    for n, o in enumerate(outs):
        if k < o.size:
            index = tuple(int(i) for i in np.unravel_index(k, o.shape)) if o.shape else ()
            return f"output {n}{f', index {index}' if index else ''},"
        k -= o.size
    raise AssertionError("an index beyond the outputs")


def _forward_found(
    f: Flat, xs: Sequence[Array], place: _Place, u: Sequence[Array], gradient: Sequence[Array], reference: Difference
) -> tuple[Any, Any, Any]:
    """A column of the Jacobian, by forward mode and by differences."""
    direction = [
        np.zeros(x.shape, x.dtype)[()] if t is None else t for t, x in zip(place.direction(xs), xs, strict=True)
    ]
    return _joined(api.jvp(f, tuple(xs), tuple(direction))[1]), reference.value, reference.error


def _reverse_found(
    f: Flat, xs: Sequence[Array], place: _Place, u: Sequence[Array], gradient: Sequence[Array], reference: Difference
) -> tuple[Any, Any, Any]:
    """One element of the gradient of Re sum(u * f), by reverse mode and by differences."""
    weights = _joined(u)
    expected = np.real(np.sum(weights * reference.value))
    found = np.real(gradient[place.leaf][place.at] * place.unit)
    return np.array([found]), np.array([expected]), np.array([np.sum(abs(weights) * reference.error)])


def _pushed(f: Flat, t: Sequence[Array], u: Sequence[Array]) -> Flat:
    return lambda *xs: api.jvp(f, xs, tuple(t))[1]


def _pulled(f: Flat, t: Sequence[Array], u: Sequence[Array]) -> Flat:
    return lambda *xs: api.vjp(f, *xs)[1](tuple(u))


_FOUND = {"forward": _forward_found, "reverse": _reverse_found}
_DERIVATIVES: dict[str, Callable[..., Flat]] = {"forward": _pushed, "reverse": _pulled}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = _MODES,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    limit: int = 40,
) -> None:
    """Compare the derivatives of f at args, up to an order, with differences; raise AssertionError where they disagree.

    Every floating or complex leaf of the arguments is perturbed, element by element (`limit` elements, drawn at random, of larger
    arrays); the error says which argument, which index, and both numbers. Order 2 differentiates the derivative again, every mode
    over every mode. `rtol` and `atol` are by default 1e-6 for float64 and 2e-3 for float32, whose differences are taken in float64.

    >>> check_grads(lambda x: np.sum(np.sin(x) ** 2), (np.array([0.3, 0.5]),))
    """
    for mode in modes:
        if mode not in _MODES:
            raise ValueError(f"modes are 'forward' and 'reverse', not {mode!r}")
    checked = _Checked(f, args)
    outs = checked(*checked.xs)
    coarsest = min(x.dtype.itemsize // (2 if x.dtype.kind == "c" else 1) for x in (*checked.xs, *outs))
    tolerance = _TOLERANCE[min(coarsest, 16)]
    name = getattr(f, "__name__", type(f).__name__)
    check = _Check(name, checked.names, tolerance if rtol is None else rtol, tolerance if atol is None else atol, limit)
    _same_values(checked, outs, name)
    with np.errstate(all="ignore"):
        check.run(checked, checked.xs, modes, order)


def _same_values(f: Flat, outs: Sequence[Any], name: str) -> None:
    """Raise where f computes something else on traced values than on plain ones."""
    assert isinstance(f, _Checked)
    traced = api.jvp(f, tuple(f.xs), tuple(np.zeros(x.shape, x.dtype)[()] for x in f.xs))[0]
    plain, seen = _joined(outs), _joined(traced)
    if plain.shape != seen.shape or not np.allclose(plain, seen, rtol=1e-4, equal_nan=True):
        raise AssertionError(f"`{name}` computes other values on traced arguments than on plain ones")
