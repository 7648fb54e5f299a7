"""The ways to differentiate, each as a function (Setting) -> Outcome that measures itself.

A method gives columns of the Jacobian (differences, complex step, forward mode), or rows of it (reverse mode), or all of it
(symbols). Where all of it would take longer than the budget, a sample of columns or rows is computed, and the rest estimated.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.explain.counting import Counts
from chainrule.explain.measure import count_text, peak_bytes, seconds, three_digits, time_text
from chainrule.explain.problem import Problem, Vector, one_line, quiet
from chainrule.explain.symbolic import Formula, NoFormula, derive
from chainrule.ir.program import Program
from chainrule.transforms import batch, forward, reverse

_TILE = 4e6  # bytes: batches of tangents or cotangents are as large as keeps their arrays in this
_MOST_JACOBIAN = 2e8  # bytes of Jacobian to hold
_MOST_FORMULA_OPERATIONS = 5_000
_MOST_FORMULA_ENTRIES = 400
_COMPLEX_PRODUCT = 4  # real multiplications

Indices = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class Block:
    """Part of a Jacobian: some of its rows and columns."""

    rows: Indices
    columns: Indices
    values: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """What a method did; `reason` says why it does not apply, `is_estimated` that time and memory are scaled up from a sample."""

    method: str
    evaluations: int = 0
    sweeps: str = ""
    multiplications: float | None = None
    time: float | None = None
    memory: float | None = None
    error: float | None = None
    block: Block | None = None
    is_estimated: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    formula: Formula | None = None


@dataclass(frozen=True)
class Setting:
    """What every method starts from: the problem, its counts and value, the time of one evaluation, the budget of a method."""

    problem: Problem
    counts: Counts
    value: Vector
    once: float
    budget: float
    program: Program | None
    order: Indices = field(repr=False)
    is_scalar: bool

    @property
    def inputs(self) -> int:
        """n."""
        return self.problem.size

    @property
    def outputs(self) -> int:
        """m."""
        return self.value.size


@dataclass(frozen=True)
class _Run:
    """What a method computed of the Jacobian: the indices (of columns or rows), a row of values each, and what it took."""

    taken: Indices
    values: np.ndarray[Any, Any]
    details: dict[str, Any]


def _measured(
    s: Setting, of: int, length: int, run: Callable[[Indices], np.ndarray[Any, Any]], together: int = 1
) -> _Run:
    """Run over all indices, `together` at a time, or over a random sample of them, as far as the budget goes.

    Time and memory are scaled up to all. Memory does not depend on how many follow each other, but for the Jacobian itself, so a
    few are enough to see it.
    """
    order = s.order if of == s.inputs else np.random.default_rng(1).permutation(of)
    most = min(of, max(together, int(_MOST_JACOBIAN / (8 * length))))
    found: list[np.ndarray[Any, Any]] = []
    done, size, spent = 0, together, 0.0
    while done < most and (done == 0 or spent < s.budget):
        part = order[done : min(done + size, most)]
        start = time.perf_counter()
        found.append(run(part))
        spent += time.perf_counter() - start
        done += len(part)
        fitting = int(done * (s.budget - spent) / max(spent, 1e-9))
        size = max(together, min(2 * size, fitting) // together * together)
    few = order[: max(together, 8)]
    everything = np.arange(of)
    details = {
        "time": seconds(lambda: run(everything), s.budget) if done == of and spent < s.budget else spent * of / done,
        "memory": peak_bytes(lambda: run(few)) + (of - len(few)) * length * 8,
        "is_estimated": done < of,
    }
    places = np.argsort(order[:done])
    return _Run(order[:done][places], np.concatenate(found)[places], details)


def _sample_note(taken: Indices, of: int, what: str) -> tuple[str, ...]:
    if len(taken) == of:
        return ()
    return (f"~ time and memory are estimated, and the error is of, {len(taken):,} of {of:,} {what}",)


# ---- differences and the complex step


def _scales(problem: Problem) -> Vector:
    """The size of each input: its own, or that of the others where it is smaller."""
    x = np.abs(problem.point)
    typical = float(np.sqrt(np.mean(x * x))) or 1.0
    return np.maximum(x, typical)


@dataclass(frozen=True)
class _Curvature:
    """kappa = sqrt(|f| / |f''|) along the scales of x: how far, relative to x, f keeps its course. Taken from two evaluations."""

    kappa: float
    evaluations: int


def _curvature(s: Setting) -> _Curvature:
    x, n = s.problem.point, s.inputs
    reach = s.problem.epsilon**0.25
    step = reach * _scales(s.problem) * np.random.default_rng(0).choice((-1.0, 1.0), n)
    second = np.max(np.abs(s.problem.at(x + step) - 2 * s.value + s.problem.at(x - step))) / (reach**2 * n)
    size = np.max(np.abs(s.value))
    kappa = float(np.sqrt(size / second)) if np.isfinite(second) and second > 0 and size > 0 else 1.0
    return _Curvature(float(np.clip(kappa, 1e-3, 1e3)), 2)


def _representable(x: Vector, h: Vector) -> Vector:
    """Steps that x + h - x gives back exactly."""
    return (x + h) - x


def forward_differences(s: Setting) -> Outcome:
    """(f(x + h e) - f(x)) / h for each unit vector e, with the h that makes truncation and rounding least."""
    curvature = _curvature(s)
    x = s.problem.point
    h = _representable(x, 2 * np.sqrt(s.problem.epsilon) * curvature.kappa * _scales(s.problem))

    def run(columns: Indices) -> np.ndarray[Any, Any]:
        base = s.problem.at(x)
        return np.stack([(s.problem.at(_moved(x, j, h[j])) - base) / h[j] for j in columns])

    measured = _measured(s, s.inputs, s.outputs, run)
    kappa = three_digits(curvature.kappa)
    note = f"h = 2 √ε κ |x|, which makes h |f''| / 2 + 2 ε |f| / h least; κ = √(|f| / |f''|) is about {kappa}"
    return Outcome(
        "forward differences",
        evaluations=s.inputs + 1 + curvature.evaluations,
        multiplications=(s.inputs + 1 + curvature.evaluations) * s.counts.value + s.inputs * s.outputs,
        block=Block(np.arange(s.outputs), measured.taken, measured.values.T),
        notes=(note, *_sample_note(measured.taken, s.inputs, "directions")),
        **measured.details,
    )


def central_differences(s: Setting) -> Outcome:
    """(f(x + h e) - f(x - h e)) / 2h for each unit vector e, with the h that makes truncation and rounding least."""
    curvature = _curvature(s)
    x = s.problem.point
    h = _representable(x, (3 * s.problem.epsilon) ** (1 / 3) * curvature.kappa * _scales(s.problem))

    def run(columns: Indices) -> np.ndarray[Any, Any]:
        pairs = ((s.problem.at(_moved(x, j, h[j])), s.problem.at(_moved(x, j, -h[j]))) for j in columns)
        return np.stack([(up - down) / (2 * h[j]) for j, (up, down) in zip(columns, pairs, strict=True)])

    measured = _measured(s, s.inputs, s.outputs, run)
    note = "h = ∛(3 ε) κ |x|, which makes h² |f'''| / 6 + ε |f| / h least where f''' is about |f| / κ³"
    return Outcome(
        "central differences",
        evaluations=2 * s.inputs + curvature.evaluations,
        multiplications=(2 * s.inputs + curvature.evaluations) * s.counts.value + s.inputs * s.outputs,
        block=Block(np.arange(s.outputs), measured.taken, measured.values.T),
        notes=(note, *_sample_note(measured.taken, s.inputs, "directions")),
        **measured.details,
    )


def _moved(x: Vector, j: int, h: Any) -> Vector:
    there = x.astype(np.result_type(x, h))
    there[j] += h
    return there


@dataclass(frozen=True)
class DifferenceCurve:
    """The errors of differences along one direction, for steps relative to the size of x; relative to the derivative there."""

    steps: tuple[float, ...]
    forward: tuple[float, ...]
    central: tuple[float, ...]


def difference_curve(problem: Problem) -> DifferenceCurve | None:
    """The U-shaped errors of differences against forward mode; None where the derivative is zero or not finite."""
    x = problem.point
    tangent = _scales(problem) * np.random.default_rng(3).choice((-1.0, 1.0), problem.size)
    values, dots = forward.jvp(problem.outputs, list(problem.leaves), problem.split(tangent))
    base, exact = (np.concatenate([np.ravel(a) for a in parts]).astype(float) for parts in (values, dots))
    size = np.max(np.abs(exact))
    if not (np.isfinite(size) and size > 0):
        return None
    steps = 10.0 ** -np.arange(1.0, 16.5, 0.5)
    errors = []
    for h in steps:
        there, back = problem.at(x + h * tangent), problem.at(x - h * tangent)
        ways = (there - base) / h, (there - back) / (2 * h)
        errors.append([float(np.max(np.abs(w - exact)) / size) for w in ways])
    one_sided, central = zip(*errors, strict=True)
    return DifferenceCurve(tuple(steps.tolist()), one_sided, central)


class _NotAnalytic(Exception):
    """Why the complex step does not apply."""


# What takes a complex number apart, so that its result is no analytic function of it.
_NOT_ANALYTIC = (
    "absolute",
    "real",
    "imag",
    "conjugate",
    "angle",
    "hypot",
    "arctan2",
    "maximum",
    "minimum",
    "sign",
    "copysign",
)
_TINY = 1e-20


def complex_step(s: Setting) -> Outcome:
    """Im f(x + i h e) / h for each unit vector e: exact to rounding where f is analytic and takes complex numbers."""
    x = s.problem.point
    h = _TINY * _scales(s.problem)

    def at(step: Vector) -> Vector:
        return _imaginary_part(s.problem, x + 1j * step)

    def run(columns: Indices) -> np.ndarray[Any, Any]:
        return np.stack([at(_moved(np.zeros_like(x), j, h[j])) / h[j] for j in columns])

    try:
        _check_analytic(s, at, h)
    except _NotAnalytic as error:
        return Outcome("complex step", reason=str(error))
    measured = _measured(s, s.inputs, s.outputs, run)
    return Outcome(
        "complex step",
        evaluations=s.inputs,
        sweeps="complex",
        multiplications=_COMPLEX_PRODUCT * s.inputs * s.counts.value,
        block=Block(np.arange(s.outputs), measured.taken, measured.values.T),
        notes=(
            f"h = {_TINY:g} |x|; nothing is subtracted, so it may be tiny",
            *_sample_note(measured.taken, s.inputs, "directions"),
        ),
        **measured.details,
    )


def _imaginary_part(problem: Problem, z: Vector) -> Vector:
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        y = problem.at(z, np.complex128)
    if y.dtype.kind != "c":
        raise _NotAnalytic("f drops the imaginary part")
    return y.imag


def _suspects(s: Setting) -> str:
    found = [name for name in s.counts.primitives if name in _NOT_ANALYTIC]
    return f" (it uses {', '.join(found)})" if found else ""


def _check_analytic(s: Setting, at: Callable[[Vector], Vector], h: Vector) -> None:
    """Compare one direction with forward mode: an operation that is not analytic gives a wrong number and no error."""
    signs = np.random.default_rng(2).uniform(0.5, 1.5, s.inputs)
    try:
        found = at(h * signs) / _TINY
    except _NotAnalytic as error:
        raise _NotAnalytic(f"{error}{_suspects(s)}") from None
    except np.exceptions.ComplexWarning as error:
        raise _NotAnalytic("f makes a complex number real, which drops the imaginary part") from error
    except Exception as error:  # the user's code may raise anything where it is given complex numbers
        raise _NotAnalytic(f"f does not take complex numbers: {one_line(error)}") from error
    tangent = h * signs / _TINY
    _, dots = forward.jvp(s.problem.outputs, list(s.problem.leaves), s.problem.split(tangent))
    expected = np.concatenate([np.ravel(d) for d in dots])
    size = np.max(np.abs(expected), initial=0.0)
    gap = np.max(np.abs(found - expected), initial=0.0)
    if gap > 1e3 * np.sqrt(s.problem.epsilon) * size:
        raise _NotAnalytic(
            f"f is not analytic{_suspects(s)}: along one direction it gives {_largest(found)} for {_largest(expected)}"
        )


def _largest(x: Vector) -> str:
    return f"{x[np.argmax(np.abs(x))]:.4g}"


# ---- forward and reverse mode


def _batch(s: Setting, most: int) -> int:
    return int(np.clip(_TILE / (8 * max(s.counts.largest, 1)), 1, most))


def _units(taken: Indices, like: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Unit vectors, one a taken index, each split into arrays like those given, with the batch axis first."""
    sizes = [int(np.size(a)) for a in like]
    whole = np.zeros((len(taken), sum(sizes)))
    whole[np.arange(len(taken)), taken] = 1
    parts = np.split(whole, np.cumsum(sizes)[:-1], axis=1)
    return [p.reshape(len(taken), *np.shape(a)).astype(a.dtype) for p, a in zip(parts, like, strict=True)]


def _sweep(linear: Callable[[list[Any]], Sequence[Any]], units: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """A linear function at each of a batch of unit vectors: its results flat, one a row."""
    size = len(units[0])
    found = linear([u[0] for u in units]) if size == 1 else batch.vmap(linear, units, [0] * len(units), size)
    return np.concatenate([np.reshape(p, (size, -1)) for p in found], axis=1)


def _push_units(problem: Problem, leaves: list[Any], units: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return _sweep(lambda ts: forward.jvp(problem.outputs, leaves, ts)[1], units)


def _pull_units(problem: Problem, leaves: list[Any], units: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return _sweep(reverse.vjp(problem.outputs, leaves)[1], units)


def tangent_columns(problem: Problem, leaves: list[Any], columns: Indices) -> np.ndarray[Any, Any]:
    """Columns of the Jacobian, one a row of the result: one evaluation, with all their tangents carried beside it."""
    return _push_units(problem, leaves, _units(columns, leaves))


def cotangent_rows(problem: Problem, leaves: list[Any], rows: Indices) -> np.ndarray[Any, Any]:
    """Rows of the Jacobian: one recorded evaluation, and the pullback of all their cotangents."""
    return _pull_units(problem, leaves, _units(rows, problem.outputs(leaves)))


def _in_batches(
    sweep: Callable[..., np.ndarray[Any, Any]], problem: Problem, like: Sequence[Any], size: int
) -> Callable[[Indices], np.ndarray[Any, Any]]:
    """The sweeps for given indices, `size` at a time."""
    leaves = list(problem.leaves)
    first = _units(np.arange(1), like)  # made once: for one sweep of a small function it would be much of the time

    def units(taken: Indices) -> list[np.ndarray[Any, Any]]:
        return first if len(taken) == 1 and taken[0] == 0 else _units(taken, like)

    def run(taken: Indices) -> np.ndarray[Any, Any]:
        return np.concatenate([sweep(problem, leaves, units(taken[i : i + size])) for i in range(0, len(taken), size)])

    return run


def forward_mode(s: Setting) -> Outcome:
    """A tangent for each input, carried with the values."""
    size = _batch(s, s.inputs)
    sweeps = _in_batches(_push_units, s.problem, s.problem.leaves, size)
    measured = _measured(s, s.inputs, s.outputs, sweeps, size)
    batches = -(-s.inputs // size)
    return Outcome(
        "forward mode",
        evaluations=batches,
        sweeps=_plural(s.inputs, "tangent"),
        multiplications=batches * s.counts.value + s.inputs * s.counts.sweep,
        block=Block(np.arange(s.outputs), measured.taken, measured.values.T),
        notes=(
            _batches_note(s.inputs, batches, "tangent", "evaluation"),
            *_sample_note(measured.taken, s.inputs, "directions"),
        ),
        **measured.details,
    )


def reverse_mode(s: Setting) -> Outcome:
    """A cotangent for each output, carried back through the recorded values."""
    size = _batch(s, s.outputs)
    sweeps = _in_batches(_pull_units, s.problem, s.problem.outputs(list(s.problem.leaves)), size)
    measured = _measured(s, s.outputs, s.inputs, sweeps, size)
    batches = -(-s.outputs // size)
    return Outcome(
        "reverse mode",
        evaluations=batches,
        sweeps=_plural(s.outputs, "cotangent"),
        multiplications=batches * s.counts.value + s.outputs * s.counts.sweep,
        block=Block(measured.taken, np.arange(s.inputs), measured.values),
        notes=(
            _batches_note(s.outputs, batches, "cotangent", "recording"),
            *_sample_note(measured.taken, s.outputs, "outputs"),
        ),
        **measured.details,
    )


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _batches_note(n: int, batches: int, what: str, run: str) -> str:
    if batches == 1:
        return f"{_plural(n, what)} in one batch, with one {run}" if n > 1 else f"one {what}, with one {run}"
    return f"{_plural(n, what)} in {batches:,} batches, with one {run} each"


# ---- symbols


def symbolic(s: Setting) -> Outcome:
    """The derivative as a formula."""
    flops = s.program.flops() if s.program is not None else 0
    if s.program is None or flops > _MOST_FORMULA_OPERATIONS:
        return Outcome(
            "symbolic", reason=f"too large: {count_text(max(flops, s.counts.operations))} operations in one evaluation"
        )
    if s.inputs * s.outputs > _MOST_FORMULA_ENTRIES:
        return Outcome("symbolic", reason=f"too large: {s.inputs * s.outputs:,} derivatives to write down")
    names = _symbol_names(s.problem)
    try:
        formula = derive(s.program, names, s.problem.point, max(10.0, 3 * s.budget))
    except NoFormula as error:
        return Outcome("symbolic", reason=str(error))
    notes = [_formula_note(formula)]
    if s.program.guards:
        notes.append("the formula holds on the branches taken here only")
    return Outcome(
        "symbolic",
        evaluations=1,
        sweeps="traced",
        multiplications=formula.multiplications,
        time=formula.time,
        memory=formula.memory,
        block=Block(np.arange(s.outputs), np.arange(s.inputs), formula.jacobian),
        notes=tuple(notes),
        formula=formula,
    )


def _formula_note(f: Formula) -> str:
    simplified = "simplification did not finish" if f.simplified is None else f"{f.simplified:,} simplified"
    return (
        f"f has {f.function:,} operations; its derivative {f.differentiated:,} as differentiated, {simplified}, "
        f"{f.shared:,} with common parts shared; found in {time_text(f.deriving)}, the time is of evaluating it"
    )


def _symbol_names(problem: Problem) -> list[str]:
    names = []
    for name, leaf in zip(problem.names, problem.leaves, strict=True):
        stem = "".join(c if c.isalnum() else "_" for c in name).strip("_")
        names += [stem] if np.ndim(leaf) == 0 else [f"{stem}_{'_'.join(map(str, i))}" for i in np.ndindex(leaf.shape)]
    return names


METHODS: dict[str, Callable[[Setting], Outcome]] = {
    "forward differences": forward_differences,
    "central differences": central_differences,
    "complex step": complex_step,
    "symbolic": symbolic,
    "forward mode": forward_mode,
    "reverse mode": reverse_mode,
}


def run_method(name: str, s: Setting) -> Outcome:
    """One method; what it cannot do is its outcome's reason."""
    try:
        with quiet():
            return METHODS[name](s)
    except MemoryError:
        return Outcome(name, reason="not enough memory")
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything away from its inputs
        return Outcome(name, reason=one_line(error))
