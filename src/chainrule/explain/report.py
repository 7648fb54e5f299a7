"""One function, differentiated in every way there is: measurements, errors against the best, and a recommendation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import ChainruleError
from chainrule.explain.counting import Counts, count
from chainrule.explain.evaluation import Explanation, explain_program
from chainrule.explain.measure import bytes_text, count_text, seconds, three_digits, time_text
from chainrule.explain.methods import METHODS, Block, Outcome, Setting, cotangent_rows, run_method, tangent_columns
from chainrule.explain.problem import Problem, ProblemError, one_line, quiet
from chainrule.ir.program import Program
from chainrule.trace.record import record_program

_MOST_RECORDED = 20_000  # operations to record as a Program
_MOST_EXPLAINED = 40  # operations to print as an evaluation trace
_MOST_EXPLAINED_ELEMENTS = 16
AUTOMATIC = ("forward mode", "reverse mode")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """All that is found out about a function at a point."""

    problem: Problem
    inputs: int
    outputs: int
    once: float
    counts: Counts
    outcomes: tuple[Outcome, ...]
    reference: str
    recommended: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    program: Program | None
    explanation: Explanation | None

    def outcome(self, method: str) -> Outcome:
        """The row of one method."""
        return next(o for o in self.outcomes if o.method == method)

    @property
    def headline(self) -> str:
        """What was differentiated, in one line."""
        where = f" in {self.problem.file}" if self.problem.file else ""
        n, m = f"{self.inputs:,} input{'s' * (self.inputs != 1)}", f"{self.outputs:,} output{'s' * (self.outputs != 1)}"
        operations = f"{self.counts.operations:,} operation{'s' * (self.counts.operations != 1)}"
        return f"{self.problem.name}{where}: {n}, {m}; one evaluation takes {operations} and {time_text(self.once)}"


def report(problem: Problem, *, budget: float = 2.0, progress: Progress = lambda _: None) -> Report:
    """Differentiate a problem in every way there is, in about `budget` seconds each; raises ProblemError where nothing can."""
    progress("f")
    with quiet():
        setting, warnings = _setting(problem, budget)
    outcomes = []
    for name in METHODS:
        progress(name)
        outcomes.append(run_method(name, setting))
    progress("reference")
    with quiet():
        name, best = _reference(setting, outcomes)
    judged = tuple(dataclasses.replace(o, error=_error(o.block, best)) if o.block else o for o in outcomes)
    recommended, reasons = _recommend(setting, judged)
    explanation = None
    if setting.program is not None and _is_small(setting):
        with quiet():
            explanation = explain_program(setting.program, problem)
    return Report(
        problem,
        setting.inputs,
        setting.outputs,
        setting.once,
        setting.counts,
        judged,
        name,
        recommended,
        reasons,
        tuple(warnings),
        setting.program,
        explanation,
    )


def _is_small(s: Setting) -> bool:
    return (
        s.outputs == 1
        and s.counts.operations <= _MOST_EXPLAINED
        and max(s.counts.largest, s.inputs) <= _MOST_EXPLAINED_ELEMENTS
    )


def _setting(problem: Problem, budget: float) -> tuple[Setting, list[str]]:
    x = problem.point
    try:
        value, again = problem.at(x), problem.at(x)
    except ProblemError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ProblemError(f"{problem.name} raised {one_line(error)}") from error
    if value.dtype.kind != "f":
        raise ProblemError(
            f"{problem.name} returns {value.dtype}, which carries no real derivative: it should return floats"
        )
    warnings = []
    if not np.array_equal(value, again, equal_nan=True):
        warnings.append(f"{problem.name} gave two different results for the same inputs; differences will be noise")
    if not np.all(np.isfinite(value)):
        warnings.append(f"{problem.name} is not finite at these inputs")
    try:
        counts = count(problem)
    except ChainruleError as error:
        raise ProblemError(f"{problem.name} cannot be differentiated: {one_line(error)}") from error
    except Exception as error:  # the user's code may raise anything where it meets traced values
        raise ProblemError(f"{problem.name} could not be traced: {one_line(error)}") from error
    is_scalar = sum(np.ndim(y) == 0 for y in problem.outputs(problem.split(x))) == value.size == 1
    order = np.random.default_rng(0).permutation(problem.size)
    once = seconds(lambda: problem.at(x), min(0.2, budget))
    return Setting(
        problem, counts, value.astype(np.float64), once, budget, _program(problem, counts), order, is_scalar
    ), warnings


def _program(problem: Problem, counts: Counts) -> Program | None:
    if counts.operations > _MOST_RECORDED:
        return None
    try:
        return record_program(problem.outputs, list(problem.leaves), problem.name)
    except ChainruleError:
        return None


# ---- the reference


def _reference(s: Setting, outcomes: Sequence[Outcome]) -> tuple[str, Block]:
    """The most accurate Jacobian there is, and what it is."""
    extended = _extended(s)
    if extended is not None:
        return "automatic differentiation in extended precision", extended
    found = {o.method: o.block for o in outcomes if o.block is not None}
    own = AUTOMATIC if s.inputs <= s.outputs else AUTOMATIC[::-1]
    for name in ("complex step", *own):
        block = found.get(name)
        if block is not None:
            return name, block
    reasons = "; ".join(f"{o.method}: {o.reason}" for o in outcomes if o.method in AUTOMATIC)
    raise ProblemError(f"{s.problem.name} cannot be differentiated: {reasons}")


def _extended(s: Setting) -> Block | None:
    """Rows or columns of the Jacobian in extended precision, as many as the budget allows; None where it cannot be had."""
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        return None
    leaves = s.problem.split(s.problem.point, np.longdouble)
    by_rows = s.outputs <= s.inputs
    part = cotangent_rows if by_rows else tangent_columns
    order = np.random.default_rng(1).permutation(s.outputs) if by_rows else s.order
    found: list[np.ndarray[Any, Any]] = []
    start = time.perf_counter()
    try:
        if any(y.dtype != np.longdouble for y in s.problem.outputs(leaves)):
            return None
        for i in order:
            found.append(part(s.problem, leaves, np.array([i])))
            if time.perf_counter() - start > s.budget:
                break
    except Exception:  # noqa: BLE001 - the user's code, or LAPACK, does not take extended precision: there is another reference
        return None
    values = np.concatenate(found)
    if values.dtype != np.longdouble:
        return None
    taken = order[: len(found)]
    return Block(taken, np.arange(s.inputs), values) if by_rows else Block(np.arange(s.outputs), taken, values.T)


def _error(block: Block, best: Block) -> float | None:
    """The largest error of an entry, relative to the largest entry of its row, over what both blocks have."""
    rows, mine, theirs = np.intersect1d(block.rows, best.rows, return_indices=True)
    columns, own, other = np.intersect1d(block.columns, best.columns, return_indices=True)
    if not rows.size or not columns.size:
        return None
    ours, reference = block.values[np.ix_(mine, own)], best.values[np.ix_(theirs, other)]
    same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0, np.abs(ours - reference))
    sizes = np.max(np.abs(reference), axis=1, keepdims=True)
    sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1)
    return float(np.max(gaps / sizes))


# ---- the recommendation


def _recommend(s: Setting, outcomes: Sequence[Outcome]) -> tuple[str, tuple[str, ...]]:
    """The method to use, and the reasons."""
    by_name = {o.method: o for o in outcomes if o.time is not None}
    candidates = [by_name[name] for name in AUTOMATIC if name in by_name]
    if not candidates:
        raise ProblemError(
            f"{s.problem.name} cannot be differentiated: {'; '.join(o.reason for o in outcomes if o.reason)}"
        )
    best = min(candidates, key=_seconds)
    if len(candidates) == 2 and max(map(_seconds, candidates)) < 1.2 * _seconds(best):
        best = min(candidates, key=lambda o: o.multiplications or 0)
    reasons = [_why(s, best), *_against_other_mode(best, candidates), *_against_differences(best, by_name)]
    reasons += _faster_still(best, by_name)
    reasons.append(f"In Python: {_call(s, best.method)}")
    return best.method, tuple(reasons)


def _seconds(o: Outcome) -> float:
    return o.time if o.time is not None else np.inf


def _call(s: Setting, method: str) -> str:
    name = s.problem.name if s.problem.name.isidentifier() else "f"
    numbers = s.problem.argnums
    argnums = "" if numbers == (0,) else f", argnums={numbers[0] if len(numbers) == 1 else numbers}"
    if s.is_scalar and method == "reverse mode":
        return f"cr.grad({name}{argnums})"
    return f'cr.jacobian({name}{argnums}, mode="{method.removesuffix(" mode")}")'


def _why(s: Setting, best: Outcome) -> str:
    n, m = f"{s.inputs:,}", f"{s.outputs:,}"
    cost = f"in {time_text(_seconds(best))}, {three_digits(_seconds(best) / s.once)} times one evaluation of f"
    if best.method == "reverse mode":
        one = "one sweep back from the one output" if s.outputs == 1 else f"a sweep back from each of the {m} outputs"
        return f"Reverse mode: {one} gives the derivatives with respect to {_all(s.inputs, 'input')}, {cost}."
    one = "one tangent for the one input" if s.inputs == 1 else f"a tangent for each of the {n} inputs"
    return f"Forward mode: {one} gives the derivatives of {_all(s.outputs, 'output')}, {cost}; its memory does not grow with depth."


def _all(n: int, what: str) -> str:
    return {1: f"the one {what}", 2: f"both {what}s"}.get(n, f"all {n:,} {what}s")


def error_text(error: float | None) -> str:
    """An error, to a digit or two."""
    if error is None:
        return ""
    return "0" if error == 0 else f"{error:.1e}"


def _against_other_mode(best: Outcome, candidates: Sequence[Outcome]) -> list[str]:
    found = []
    for o in candidates:
        if o is best:
            continue
        products = (o.multiplications or 0) / max(best.multiplications or 0, 1)
        needs = "as many" if products == 1 else f"{three_digits(products)} times the"
        holds = f"; it would hold {bytes_text(o.memory or 0)} where {best.method} holds {bytes_text(best.memory or 0)}"
        found.append(
            f"{o.method.capitalize()} needs {needs} multiplications, and took "
            f"{three_digits(_seconds(o) / _seconds(best))} times as long{' (estimated)' if o.is_estimated else ''}{holds}."
        )
    return found


def _against_differences(best: Outcome, by_name: dict[str, Outcome]) -> list[str]:
    central = by_name.get("central differences")
    if central is None or central.error is None or best.error is None:
        return []
    ratio = _seconds(central) / _seconds(best)
    speed = f"take {three_digits(ratio)} times as long" if ratio >= 1 else f"take {time_text(_seconds(central))}"
    return [
        f"Central differences {speed}, and err by {error_text(central.error)} where {best.method} errs by {error_text(best.error)}."
    ]


def _faster_still(best: Outcome, by_name: dict[str, Outcome]) -> list[str]:
    """What was faster still, with what speaks against it."""
    found = []
    step, formula = by_name.get("complex step"), by_name.get("symbolic")
    if step is not None and _seconds(step) < _seconds(best):
        found.append(
            f"The complex step was faster here ({time_text(_seconds(step))}), as recording small operations takes "
            "longer than computing them. It grows with the inputs, and is silently wrong once f is not analytic (abs, max, conj)."
        )
    if formula is not None and formula.formula is not None and _seconds(formula) < _seconds(best):
        uses = formula.formula.deriving / (_seconds(best) - _seconds(formula))
        found.append(
            f"The formula evaluates faster ({time_text(_seconds(formula))}), once found: that pays after {count_text(uses)} "
            "evaluations, while the size of the inputs and the branches taken stay the same."
        )
    return found
