"""The pages that `--out` writes: one file each, with style, plots and graph in it; for light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

import numpy as np

from chainrule.explain import modes, pictures
from chainrule.explain.evaluation import Explanation
from chainrule.explain.formulas import COTANGENT, TANGENT, number
from chainrule.explain.measure import bytes_text, time_text
from chainrule.explain.methods import difference_curve
from chainrule.explain.problem import quiet
from chainrule.explain.report import Report, error_text
from chainrule.explain.terminal import COLUMNS, cells, notes
from chainrule.ir.text import program_text

_MOST_TEXT = 400  # lines of a program to show
_SMALLEST, _LARGEST = 1e-17, 10.0  # errors beyond are drawn there: a logarithmic axis has no zero

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --paper: light-dark(#fbfaf8, #16181c); --card: light-dark(#ffffff, #1e2126); --ink: light-dark(#1f2328, #e6e4df);
  --faint: light-dark(#6a6f76, #9a9fa8); --line: light-dark(#e3e0da, #343841); --accent: light-dark(#0b6e4f, #5fd0a5);
  --c1: light-dark(#0b6e4f, #5fd0a5); --c2: light-dark(#b4531f, #f0a06a); --c3: light-dark(#2f5fb3, #8fb4ff);
  --c4: light-dark(#7a3f9d, #d3a4f0);
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; padding-bottom: .75rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 48rem; } header p { max-width: none; text-wrap: pretty; }
.faint, figcaption, .notes { color: var(--faint); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.15rem; }
.verdict { border-left: 4px solid var(--accent); }
.verdict b { color: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--faint); font-weight: 500; font-size: .88rem; white-space: normal; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
tr.best td { color: var(--accent); font-weight: 600; }
td.why { text-align: left; color: var(--faint); white-space: normal; font-size: .9rem; }
.trace td, .trace th { text-align: left; padding: .2rem .7rem; font: .88rem/1.5 ui-monospace, monospace; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.plots td, .plots th { padding: .3rem .45rem; font-size: .92rem; }
.plots.three { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); margin-bottom: 1rem; }
figure { margin: 0; } figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .9rem; margin-top: .4rem; }
dl.notes { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .92rem; margin: 0; }
dl.notes dt { color: var(--ink); } dl.notes dd { margin: 0; overflow-wrap: anywhere; }
svg.graph { display: block; margin: 0 auto; max-width: 100%; height: auto; font: 13px system-ui, sans-serif; }
.graph .edge { fill: none; stroke: var(--faint); stroke-width: 1.2; opacity: .7; }
.graph .thin { stroke-width: .6; opacity: .45; }
.graph .node rect { fill: var(--paper); stroke: var(--line); stroke-width: 1.2; }
.graph .node.input rect { stroke: var(--accent); } .graph .node text { fill: var(--ink); text-anchor: middle; }
.graph .dot { fill: var(--c3); } .graph .dot.input { fill: var(--accent); }
pre { margin: 0; font: .82rem/1.5 ui-monospace, monospace; } code { font-family: ui-monospace, monospace; }
details summary { cursor: pointer; color: var(--faint); margin: 1.5rem 0 .6rem; }
@media (max-width: 44rem) {
  main { padding: 1.1rem .8rem 3rem; }
  dl.notes { grid-template-columns: 1fr; } dl.notes dd { margin-bottom: .5rem; }
  .methods thead { display: none; }
  .methods tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .methods tr:last-child { border-bottom: 0; }
  .methods td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; white-space: normal; }
  .methods td::before { content: attr(data-name); color: var(--faint); font-weight: 400; }
  .methods td:first-child { font-weight: 600; } .methods td:first-child::before, .methods td.why::before { content: none; }
}
</style>
</head>
<body><main>
<header><h1>$title</h1><p class="faint">$headline</p></header>
$body
<p class="faint">Made by <code>$command</code>.</p>
</main></body>
</html>
""")


def _page(title: str, headline: str, body: Iterable[str], command: str) -> str:
    return _PAGE.substitute(
        title=escape(title), headline=escape(headline), body="\n".join(body), command=escape(command)
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _figure(svg: str, caption: str) -> str:
    return f'<figure class="card">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    kind: str = "",
    best: str = "",
    whys: dict[str, str] | None = None,
) -> str:
    """A table whose cells carry the names of their columns, for screens on which it becomes a list."""
    lines = []
    for row in rows:
        why = (whys or {}).get(row[0])
        mark = ' class="best"' if best and row[0] == best else ""
        if why is not None:
            inner = f'<td>{escape(row[0])}</td><td class="why" colspan="{len(head) - 1}">{escape(why)}</td>'
        else:
            inner = "".join(
                f'<td data-name="{escape(n, quote=True)}">{escape(c)}</td>' for n, c in zip(head, row, strict=True)
            )
        lines.append(f"<tr{mark}>{inner}</tr>")
    top = "".join(f"<th>{escape(n)}</th>" for n in head)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


# ---- the report


def report_page(report: Report) -> str:
    """A report as one self-contained page."""
    name = f"The derivative of {report.problem.name}"
    target = f"{report.problem.file or 'FILE.py'}:{report.problem.name}"
    return _page(name, report.headline, _report_body(report), f"chainrule report {target} --out PAGE.html")


def _report_body(report: Report) -> Iterable[str]:
    for warning in report.warnings:
        yield f'<p class="card">{escape(warning)}</p>'
    whys = {o.method: f"does not apply: {o.reason}" for o in report.outcomes if o.reason}
    rows = [cells(o) for o in report.outcomes]
    yield f'<div class="card">{_table(COLUMNS, rows, "methods", report.recommended, whys)}</div>'
    reasons = "".join(f"<p>{escape(r)}</p>" for r in report.reasons[:-1])
    *_, call = report.reasons
    verdict = (
        f"<p><b>{escape(report.recommended.capitalize())}</b> · <code>{escape(call.partition(': ')[2])}</code></p>"
    )
    yield _section("What to use", f'<div class="card verdict">{verdict}{reasons}</div>')
    yield _section("Measured", f'<div class="plots">{"".join(_report_plots(report))}</div>')
    if report.program is not None:
        yield _section("Graph", _graph_card(report))
    if report.explanation is not None:
        yield _section("Evaluation trace", *_trace(report.explanation))
    listed, before = "", ""
    for method, note in notes(report):
        listed += f"<dt>{escape(method if method != before else '')}</dt><dd>{escape(note)}</dd>"
        before = method
    yield _section("Notes", f'<dl class="notes">{listed}</dl>')
    if report.program is not None:
        lines = program_text(report.program).splitlines()
        rest = [f"  ... {len(lines) - _MOST_TEXT:,} more lines"] if len(lines) > _MOST_TEXT else []
        text = escape("\n".join(lines[:_MOST_TEXT] + rest))
        yield f'<details><summary>The program, as text</summary><div class="card scroll"><pre>{text}</pre></div></details>'


def _report_plots(report: Report) -> Iterable[str]:
    shown = [o for o in report.outcomes if o.time is not None and o.time > 0]
    names = [o.method for o in shown]
    marked = names.index(report.recommended)
    about = ["~" if o.is_estimated else "" for o in shown]
    times = [o.time or 0.0 for o in shown]
    texts = [a + time_text(t) for a, t in zip(about, times, strict=True)]
    yield _figure(
        pictures.bars("Time of the whole Jacobian", names, times, texts, "seconds", marked),
        "Time of the whole Jacobian.",
    )
    sizes = [max(o.memory or 0.0, 1.0) for o in shown]
    texts = [a + bytes_text(b) for a, b in zip(about, sizes, strict=True)]
    yield _figure(
        pictures.bars("Peak memory", names, sizes, texts, "bytes", marked), "Peak memory, the Jacobian included."
    )
    judged = [o for o in shown if o.error is not None and np.isfinite(o.error)]
    if judged:
        errors = [max(o.error or 0.0, _SMALLEST) for o in judged]
        texts = [error_text(o.error) for o in judged]
        found = [o.method for o in judged]
        where = found.index(report.recommended) if report.recommended in found else -1
        yield _figure(
            pictures.bars("Largest relative error", found, errors, texts, "relative error", where),
            "Largest relative error.",
        )
    with quiet():
        curve = difference_curve(report.problem)
    if curve is not None:
        lines = [
            pictures.Curve("forward differences", curve.steps, np.clip(curve.forward, _SMALLEST, _LARGEST).tolist(), 1),
            pictures.Curve("central differences", curve.steps, np.clip(curve.central, _SMALLEST, _LARGEST).tolist(), 2),
        ]
        svg = pictures.curves("Error over the step", lines, "step h, relative to x", "relative error")
        yield _figure(
            svg, "Differences in one direction: truncation on the right, rounding on the left, against forward mode."
        )


def _graph_card(report: Report) -> str:
    program = report.program
    assert program is not None
    count = len(program.equations)
    caption = "Inputs above, results below; each box is an operation."
    if count + len(program.inputs) > pictures.MOST_LABELLED:
        caption = "Inputs above, results below; each dot is an operation, which says what it is when pointed at."
    if count > pictures.MOST_DRAWN:
        caption += f" The first {pictures.MOST_DRAWN:,} of {count:,} operations."
    drawn = pictures.graph(program, report.problem.names)
    return f'<figure class="card"><div class="scroll">{drawn}</div><figcaption>{caption}</figcaption></figure>'


def _trace(e: Explanation) -> Iterable[str]:
    yield f"<p>{escape(e.title)}</p><h3>Forward, inputs first</h3>"
    head = ("v", "=", "value", f"v{TANGENT}", "=", *(f"in {d}" for d in e.directions), "line")
    rows = []
    for s in e.steps:
        dots = [number(t) for t in s.tangents] or [""] * len(e.directions)
        rows.append(
            (s.name, s.formula, number(s.value), s.tangent_name, s.tangent_formula or "constant", *dots, s.origin)
        )
    yield f'<div class="card">{_table(head, rows, "trace")}</div><h3>Reverse, outputs first</h3>'
    pulls = [(p.name, p.sign, p.formula, number(p.value)) for p in e.pulls]
    yield f'<div class="card">{_table((f"v{COTANGENT}", "", "", "value"), pulls, "trace")}</div>'
    yield from (f"<p>{escape(n)}</p>" for n in e.notes)


# ---- the classic experiments


def modes_page(found: modes.Experiments) -> str:
    """The classic experiments as one self-contained page."""
    return _page("Forward and reverse mode", found.headline, _modes_body(found), "chainrule modes --out PAGE.html")


def _modes_body(found: modes.Experiments) -> Iterable[str]:
    for table in modes.tables(found):
        plots = "".join(_figure(_plot(p), p.caption) for p in table.plots)
        prose = "".join(f"<p>{escape(p)}</p>" for p in table.prose)
        card = f'<div class="card">{_table(table.head, table.rows)}</div>'
        if len(table.plots) == 1:
            yield _section(table.title, prose, f'<div class="plots">{plots}{card}</div>')
        else:
            yield _section(table.title, prose, f'<div class="plots three">{plots}</div>', card)


def _plot(p: modes.Plot) -> str:
    lines = [pictures.Curve(c.label, c.x, c.y, c.colour, c.is_dashed) for c in p.curves]
    return pictures.curves(p.title, lines, p.x_label, p.y_label, x_scale=p.x_scale)
