"""The classic experiments: what forward and reverse mode cost in time and memory, and what differences and symbols lack.

f = tanh(W_end ... tanh(W_start x)) is a chain of layers with n_1, ..., n_{k+1} values. Products with the local Jacobians take
n_1 * sum(n_i n_{i+1}) multiplications in forward mode and n_{k+1} * sum(n_i n_{i+1}) in reverse mode, the first or last sum
leaving out the layer that a unit vector meets first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.api import grad, jacfwd, jacrev, jvp, program, vjp
from chainrule.explain.measure import bytes_text, count_text, peak_bytes, seconds, time_text
from chainrule.explain.terminal import Printer

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How large the experiments are: the widths that vary, the width and number of the other layers, depths, recursions, time."""

    widths: tuple[int, ...]
    base: int
    layers: int
    depths: tuple[int, ...]
    recursions: tuple[int, ...]
    budget: float

    @property
    def steps(self) -> int:
        """How many steps of progress there are."""
        return 3 * len(self.widths) + len(self.depths) + 2


FULL = Size((10, 18, 32, 56, 100, 178, 316, 562, 1000), 100, 5, (97, 243, 609, 1524, 3814), tuple(range(1, 11)), 0.5)
QUICK = Size((4, 16, 64), 16, 3, (10, 40, 160), tuple(range(1, 6)), 0.02)

WHERE = ("start", "middle", "end")


@dataclass(frozen=True)
class Timing:
    """The full Jacobian of one chain, by both modes."""

    width: int
    forward: float
    reverse: float
    forward_multiplications: int
    reverse_multiplications: int


@dataclass(frozen=True)
class Depth:
    """The peak memory of one sweep in each mode, for a chain of so many layers."""

    layers: int
    forward: int
    reverse: int


@dataclass(frozen=True)
class Step:
    """The error of differences for a step h, relative to the derivative."""

    h: float
    forward: float
    central: float
    complex: float


@dataclass(frozen=True)
class Growth:
    """The derivative of the k-th recursion: operations as a formula (differentiated, and simplified), and as programs."""

    k: int
    function: int
    differentiated: int | None
    simplified: int | None
    program: int
    derivative: int


@dataclass(frozen=True)
class Experiments:
    """What all the experiments found."""

    size: Size
    timings: dict[str, tuple[Timing, ...]]
    depths: tuple[Depth, ...]
    steps: tuple[Step, ...]
    exact_error: float
    growth: tuple[Growth, ...]

    @property
    def headline(self) -> str:
        """What was done, in one line."""
        s = self.size
        return (
            f"f = tanh(W_end ... tanh(W_start x)) with {s.layers} layers of width {s.base}, one of which varies from "
            f"{s.widths[0]} to {s.widths[-1]:,}; {s.depths[0]} to {s.depths[-1]:,} layers for memory; float64"
        )


def experiments(size: Size, progress: Progress = lambda _: None) -> Experiments:
    """Run all of them."""
    timings = {}
    for where in WHERE:
        found = []
        for width in size.widths:
            progress(f"n_{where} = {width}")
            found.append(_timing(_widths(size, where, width), width, size.budget))
        timings[where] = tuple(found)
    depths = []
    for layers in size.depths:
        progress(f"{layers} layers")
        depths.append(_depth(layers, size.base))
    progress("differences")
    steps, exact = differences()
    progress("symbols")
    return Experiments(size, timings, tuple(depths), steps, exact, tuple(_growth(k) for k in size.recursions))


# ---- time over width


def _widths(size: Size, where: str, width: int) -> list[int]:
    """The numbers of values n_1, ..., n_{k+1}, one of them changed."""
    widths = [size.base] * (size.layers + 1)
    widths[{"start": 0, "middle": (size.layers + 1) // 2, "end": size.layers}[where]] = width
    return widths


def chain(widths: Sequence[int], seed: int = 0) -> tuple[Callable[[Any], Any], np.ndarray[Any, Any]]:
    """tanh(W_end ... tanh(W_start x)) with random matrices, and an x."""
    rng = np.random.default_rng(seed)
    matrices = [rng.normal(0, 1 / np.sqrt(n), (m, n)) for n, m in pairwise(widths)]

    def f(x: Any) -> Any:
        for W in matrices:
            x = np.tanh(W @ x)
        return x

    return f, rng.normal(size=widths[0])


def multiplications(widths: Sequence[int]) -> tuple[int, int]:
    """Those of forward and of reverse mode, for a chain of dense local Jacobians.

    >>> multiplications((10, 100, 100, 1))
    (101000, 11000)
    """
    products = [a * b for a, b in pairwise(widths)]
    return widths[0] * sum(products[1:]), widths[-1] * sum(products[:-1])


def _timing(widths: Sequence[int], width: int, budget: float) -> Timing:
    f, x = chain(widths)
    forward, reverse = jacfwd(f), jacrev(f)
    return Timing(
        width, seconds(lambda: forward(x), budget), seconds(lambda: reverse(x), budget), *multiplications(widths)
    )


def predicted(multiplications: Sequence[int], times: Sequence[float]) -> list[float]:
    """Times a + b * multiplications: a fixed cost and a rate, the ones that come nearest to the measured times, relatively."""
    counts, measured = np.array(multiplications, dtype=float), np.array(times)
    matrix = np.stack([np.ones_like(counts), counts / counts.max()], axis=1) / measured[:, None]
    cost, rate = np.maximum(np.linalg.lstsq(matrix, np.ones_like(measured))[0], 0.0)
    return [float(t) for t in cost + rate * counts / counts.max()]


# ---- memory over depth


def _depth(layers: int, width: int) -> Depth:
    rng = np.random.default_rng(0)
    W = rng.normal(0, 1 / np.sqrt(width), (width, width))  # one for all layers: what is measured is not the weights
    x, t = rng.normal(size=(2, width))

    def f(x: Any) -> Any:
        for _ in range(layers):
            x = np.tanh(W @ x)
        return x

    def pull() -> Any:
        _, pullback = vjp(f, x)
        return pullback(t)

    return Depth(layers, peak_bytes(lambda: jvp(f, (x,), (t,))), peak_bytes(pull))


# ---- differences over h


def squire_trapp(x: Any) -> Any:
    """e^x / (sin^3 x + cos^3 x): the function on which Squire and Trapp (1998) showed the complex step."""
    return np.exp(x) / (np.sin(x) ** 3 + np.cos(x) ** 3)


_AT = 1.5


def _slope() -> float:
    """The derivative there, by its formula."""
    s, c = np.sin(_AT), np.cos(_AT)
    bottom = s**3 + c**3
    return float(np.exp(_AT) * (bottom - 3 * s * c * (s - c)) / bottom**2)


def differences() -> tuple[tuple[Step, ...], float]:
    """The errors of differences and the complex step over h, and that of reverse mode."""
    exact = _slope()
    found = []
    for h in 10.0 ** -np.arange(1.0, 19.0):
        there, back = squire_trapp(_AT + h), squire_trapp(_AT - h)
        ways = (there - squire_trapp(_AT)) / h, (there - back) / (2 * h), np.imag(squire_trapp(_AT + 1j * h)) / h
        found.append(Step(float(h), *(abs(float(w) / exact - 1) for w in ways)))
    return tuple(found), abs(float(grad(squire_trapp)(_AT)) / exact - 1)


# ---- symbols over the recursion


def logistic(x: Any, k: int) -> Any:
    """l_k, where l_1 = x and l_{k+1} = 4 l_k (1 - l_k)."""
    for _ in range(k - 1):
        x = 4 * x * (1 - x)
    return x


def _growth(k: int) -> Growth:
    def f(x: Any) -> Any:
        return logistic(x, k)

    sizes = [len(program(g)(0.3).equations) for g in (f, grad(f))]
    return Growth(k, *_formula_sizes(k), *sizes)


def _formula_sizes(k: int) -> tuple[int, int | None, int | None]:
    """Operations of the formula, of its derivative as differentiated, and multiplied out: a polynomial of degree 2^(k-1)."""
    if find_spec("sympy") is None:
        return 0, None, None
    import sympy as sp

    x = sp.Symbol("x", real=True)
    y = logistic(x, k)
    derivative = sp.diff(y, x)
    simplified = int(sp.count_ops(sp.expand(derivative))) if k <= _MOST_SIMPLIFIED else None
    return int(sp.count_ops(y)), int(sp.count_ops(derivative)), simplified


_MOST_SIMPLIFIED = 8


# ---- as tables and plots


@dataclass(frozen=True)
class Line:
    """A curve of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    is_dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot, its y axis logarithmic."""

    title: str
    curves: tuple[Line, ...]
    x_label: str
    y_label: str
    caption: str
    x_scale: str = "log"


@dataclass(frozen=True)
class Table:
    """One experiment: what it is, its numbers, its plots."""

    title: str
    prose: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    plots: tuple[Plot, ...]


def tables(found: Experiments) -> list[Table]:
    """All the experiments as tables."""
    return [_timing_table(found), _depth_table(found), _step_table(found), _growth_table(found)]


_LABELS = {"start": "n_start", "middle": "n_middle", "end": "n_end"}


def _timing_table(found: Experiments) -> Table:
    rows = []
    for where, timings in found.timings.items():
        for t in timings:
            counts = count_text(t.forward_multiplications), count_text(t.reverse_multiplications)
            times = time_text(t.forward), time_text(t.reverse)
            cheaper = "forward" if t.forward < t.reverse else "reverse"
            rows.append((f"{_LABELS[where]} = {t.width:,}", counts[0], times[0], counts[1], times[1], cheaper))
    return Table(
        "Time of the full Jacobian over width",
        (
            "All n_1 tangents, or n_{k+1} cotangents, go in one batch (cr.jacfwd, cr.jacrev), not in a loop.",
            (
                "Predicted are n_1 Σ n_i n_{i+1} and n_{k+1} Σ n_i n_{i-1} multiplications, all layers but the first or the last; "
                "the dashed curves are these times a rate, plus a fixed cost of recording, fitted for each mode and plot."
            ),
        ),
        ("", "forward: multiplications", "time", "reverse: multiplications", "time", "faster"),
        tuple(rows),
        tuple(_timing_plot(where, timings) for where, timings in found.timings.items()),
    )


def _timing_plot(where: str, timings: Sequence[Timing]) -> Plot:
    forward = predicted([t.forward_multiplications for t in timings], [t.forward for t in timings])
    reverse = predicted([t.reverse_multiplications for t in timings], [t.reverse for t in timings])
    x = [t.width for t in timings]
    curves = (
        Line("forward", x, [t.forward for t in timings], 0),
        Line("forward, predicted", x, forward, 0, True),
        Line("reverse", x, [t.reverse for t in timings], 1),
        Line("reverse, predicted", x, reverse, 1, True),
    )
    return Plot(
        f"Time over {_LABELS[where]}",
        curves,
        _LABELS[where],
        "seconds",
        f"The full Jacobian, as {_LABELS[where]} grows.",
    )


def _depth_table(found: Experiments) -> Table:
    x = [d.layers for d in found.depths]
    plot = Plot(
        "Memory over depth",
        (
            Line("forward", x, [d.forward for d in found.depths], 0),
            Line("reverse", x, [d.reverse for d in found.depths], 1),
        ),
        "layers",
        "bytes",
        "Peak memory of one sweep: constant in forward mode, linear in reverse mode.",
    )
    rows = [
        (f"{d.layers:,}", bytes_text(d.forward), bytes_text(d.reverse), bytes_text(d.reverse / d.layers))
        for d in found.depths
    ]
    prose = (
        f"One jvp and one vjp through layers of width {found.size.base}, which share their weights; the weights are not counted.",
    )
    return Table(
        "Peak memory over depth", prose, ("layers", "forward", "reverse", "reverse, a layer"), tuple(rows), (plot,)
    )


def _step_table(found: Experiments) -> Table:
    def visible(errors: Sequence[float]) -> list[float]:
        return [max(e, 1e-17) for e in errors]

    x = [s.h for s in found.steps]
    curves = (
        Line("forward differences", x, visible([s.forward for s in found.steps]), 1),
        Line("central differences", x, visible([s.central for s in found.steps]), 2),
        Line("complex step", x, visible([s.complex for s in found.steps]), 3),
        Line("reverse mode", x, visible([found.exact_error] * len(x)), 0, True),
    )
    plot = Plot(
        "Error over the step", curves, "h", "relative error", "Truncation on the right of the U, rounding on its left."
    )
    rows = [(f"{s.h:.0e}", *(_error(e) for e in (s.forward, s.central, s.complex))) for s in found.steps]
    prose = (f"e^x / (sin³ x + cos³ x) at {_AT}. Reverse mode has no h; its error is {_error(found.exact_error)}.",)
    return Table(
        "Error of differences over h", prose, ("h", "forward", "central", "complex step"), tuple(rows), (plot,)
    )


def _error(e: float) -> str:
    return "0" if e == 0 else f"{e:.1e}"


def _growth_table(found: Experiments) -> Table:
    rows = []
    for g in found.growth:
        ratio = f"{g.derivative / g.program:.1f}" if g.program else ""
        symbols = ["" if n is None else f"{n:,}" for n in (g.differentiated, g.simplified)]
        rows.append((str(g.k), f"{g.function:,}", *symbols, f"{g.program:,}", f"{g.derivative:,}", ratio))
    known = [g for g in found.growth if g.differentiated and g.program]
    x = [g.k for g in known]
    curves = (
        Line("derivative as a formula", x, [g.differentiated or 0 for g in known], 1),
        Line("derivative by reverse mode", x, [g.derivative for g in known], 0),
        Line("the function as a program", x, [g.program for g in known], 2),
    )
    plot = Plot(
        "Operations over k",
        curves,
        "k",
        "operations",
        "The formula grows exponentially, the programs by a constant.",
        "linear",
    )
    prose = (
        (
            "l_1 = x, l_{k+1} = 4 l_k (1 - l_k). Counted are SymPy's operations in the formulas, written out, and equations in the "
            "programs of f and of cr.grad(f)."
        ),
    )
    head = ("k", "formula of f", "differentiated", "multiplied out", "program of f", "of its gradient", "ratio")
    return Table("Growth of the symbolic derivative", prose, head, tuple(rows), (plot,) if known else ())


def print_experiments(found: Experiments, printer: Printer) -> None:
    """All tables."""
    printer.line(found.headline, style="bold")
    for table in tables(found):
        printer.heading(table.title)
        for paragraph in table.prose:
            printer.prose(paragraph, "  ")
        printer.table(table.head, table.rows)
