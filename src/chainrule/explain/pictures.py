"""Pictures for the pages, as SVG text: plots by matplotlib, graphs of programs laid out by igraph.

Colours are names (`var(--ink)`), which the page gives a value for light and for dark, so one picture serves both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from chainrule.explain.formulas import equation_formula, subscript
from chainrule.ir.program import Program, Var

# Colours that stand for names until the picture is text: no plot uses them for anything else.
_NAMES = {
    "#010203": "var(--ink)",
    "#010204": "var(--faint)",
    "#010205": "var(--line)",
    "#0102a1": "var(--c1)",
    "#0102a2": "var(--c2)",
    "#0102a3": "var(--c3)",
    "#0102a4": "var(--c4)",
}
_INK, _FAINT, _LINE = "#010203", "#010204", "#010205"
COLOURS = ("#0102a1", "#0102a2", "#0102a3", "#0102a4")


@dataclass(frozen=True)
class Curve:
    """A curve of a plot; dashed where it is a prediction."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    is_dashed: bool = False


def _figure(width: float = 4.6, height: float = 3.1) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE, "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", color=_LINE, labelcolor=_FAINT)
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for colour, name in _NAMES.items():
        text = text.replace(colour, name)
    text = re.sub(r'id="([^"]+)"', lambda m: f'id="{_slug(label)}-{m[1]}"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', lambda m: f"{m[1]}{_slug(label)}-{m[2]}", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px system-ui, sans-serif", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text))
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label, quote=True)}" ', 1)


def _slug(label: str) -> str:
    return re.sub(r"\W+", "-", label.lower()).strip("-")


def curves(title: str, found: Sequence[Curve], x_label: str, y_label: str, *, x_scale: str = "log") -> str:
    """Curves over an axis, on a logarithmic one."""
    figure, axes = _figure()
    for c in found:
        style = (
            {"linestyle": "--", "linewidth": 1.2}
            if c.is_dashed
            else {"marker": "o", "markersize": 3.5, "linewidth": 1.6}
        )
        axes.plot(c.x, c.y, color=COLOURS[c.colour], label=c.label, **style)
    axes.set(xscale=x_scale, yscale="log", xlabel=x_label, ylabel=y_label)
    axes.grid(color=_LINE, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure, title)


def bars(
    title: str, labels: Sequence[str], values: Sequence[float], texts: Sequence[str], x_label: str, marked: int
) -> str:
    """Horizontal bars on a logarithmic axis, each with its value in words; the marked one stands out."""
    figure, axes = _figure(height=0.5 + 0.42 * len(labels))
    colours = [COLOURS[0] if i == marked else _FAINT for i in range(len(labels))]
    least = min(values)
    axes.barh(range(len(labels)), values, color=colours, height=0.62, left=0)
    for i, (value, text) in enumerate(zip(values, texts, strict=True)):
        axes.annotate(text, (value, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=_INK)
    axes.set_xscale("log")
    axes.set_xlim(least / 4, max(values) * 30)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    return _svg(figure, title)


# ---- graphs

MOST_LABELLED = 64
MOST_DRAWN = 400
_COLUMN, _ROW, _BOX = 100, 50, 28


def graph(program: Program, inputs: Sequence[str]) -> str:
    """A program as a graph, inputs above, outputs below: boxes with formulas where it is small, dots where it is large."""
    names, labels, edges, levels = _vertices(program, inputs)
    places = _layout(len(names), edges, levels)
    draw = _boxes if len(names) <= MOST_LABELLED else _dots
    return draw(names, labels, edges, places, f"Graph of {program.name}")


def _vertices(program: Program, inputs: Sequence[str]) -> tuple[list[str], list[str], list[tuple[int, int]], list[int]]:
    """Names, formulas, edges (from, to) and levels of inputs and equations; only the first ones of a large program."""
    equations = program.equations[:MOST_DRAWN]
    number = {v: i + 1 - len(program.inputs) for i, v in enumerate(program.inputs)}
    place = {v: i for i, v in enumerate(program.inputs)}
    names = [f"{subscript('v', n)} = {name}" for n, name in zip(number.values(), inputs, strict=True)]
    labels, kinds = list(names), ["input"] * len(names)
    edges: list[tuple[int, int]] = []
    count = 0
    for e in equations:
        vertex = len(names)
        for out in e.outs:
            count += 1
            number[out], place[out] = count, vertex
        sources = list(dict.fromkeys(place[a] for a in e.args if isinstance(a, Var)))
        edges += [(s, vertex) for s in sources]
        called = {v: subscript("v", n) for v, n in number.items() if v in e.args}
        names.append(subscript("v", number[e.outs[0]]))
        labels.append(f"{names[-1]} = {equation_formula(e, called)}")
        kinds.append(e.primitive.name)
    return kinds, labels, edges, _levels(len(names), len(program.inputs), edges)


def _levels(count: int, inputs: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Where each vertex is, from above: after all it needs, and, but for the inputs, right before the first that needs it."""
    early = [0] * count
    for a, b in sorted(edges, key=lambda e: e[1]):
        early[b] = max(early[b], early[a] + 1)
    late: dict[int, int] = {}
    for a, b in sorted(edges, reverse=True):
        late[a] = min(late.get(a, count), late.get(b, early[b]) - 1)
    return [early[v] if v < inputs else late.get(v, early[v]) for v in range(count)]


def _layout(count: int, edges: Sequence[tuple[int, int]], levels: Sequence[int]) -> np.ndarray[Any, Any]:
    import igraph

    laid = igraph.Graph(n=count, edges=edges, directed=True).layout_sugiyama(layers=list(levels), maxiter=30)
    places = np.array(laid.coords[:count], dtype=float).reshape(count, 2)
    moved: np.ndarray[Any, Any] = places - places.min(axis=0)
    return moved


def _path(a: Any, b: Any, gap: float) -> str:
    middle = (a[1] + b[1]) / 2
    return f"M{a[0]:.1f} {a[1] + gap:.1f}C{a[0]:.1f} {middle:.1f} {b[0]:.1f} {middle:.1f} {b[0]:.1f} {b[1] - gap:.1f}"


def _frame(width: float, height: float, label: str, body: Sequence[str]) -> str:
    head = (
        f'<svg class="graph" role="img" aria-label="{escape(label, quote=True)}" viewBox="0 0 {width:.0f} {height:.0f}"'
    )
    return f'{head} style="width:{width:.0f}px;min-width:{0.6 * width:.0f}px">{"".join(body)}</svg>'


def _shorter(text: str, most: int = 20) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _boxes(
    kinds: Sequence[str], labels: Sequence[str], edges: Sequence[tuple[int, int]], places: Any, label: str
) -> str:
    texts = [_shorter(t) for t in labels]
    half = [max(22.0, 3.9 * len(t)) for t in texts]
    column = max(_COLUMN, 2 * max(half) + 14)
    at = places * (column, _ROW) + (column / 2, _BOX)
    body = [f'<path class="edge" d="{_path(at[a], at[b], _BOX / 2)}"/>' for a, b in edges]
    for (x, y), kind, text, full, w in zip(at, kinds, texts, labels, half, strict=True):
        mark = " input" if kind == "input" else ""
        body.append(
            f'<g class="node{mark}"><title>{escape(full)}</title>'
            f'<rect x="{x - w:.1f}" y="{y - _BOX / 2:.1f}" width="{2 * w:.1f}" height="{_BOX}" rx="8"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text></g>'
        )
    return _frame(at[:, 0].max() + column / 2, at[:, 1].max() + _BOX, label, body)


def _dots(
    kinds: Sequence[str], labels: Sequence[str], edges: Sequence[tuple[int, int]], places: Any, label: str
) -> str:
    spread = np.maximum(places.max(axis=0), 1)
    at = places * np.minimum((22.0, 22.0), (900.0, 1600.0) / spread) + 14
    body = [f'<path class="edge thin" d="{_path(at[a], at[b], 3)}"/>' for a, b in edges]
    for (x, y), kind, full in zip(at, kinds, labels, strict=True):
        mark = " input" if kind == "input" else ""
        body.append(
            f'<circle class="dot{mark}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>{escape(full)}</title></circle>'
        )
    return _frame(at[:, 0].max() + 14, at[:, 1].max() + 14, label, body)
