"""Tables, prose and progress on a terminal: by rich where it is installed, as plain text where it is not."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from chainrule.explain.evaluation import Explanation
from chainrule.explain.formulas import pad, width
from chainrule.explain.measure import bytes_text, count_text, time_text
from chainrule.explain.methods import Outcome
from chainrule.explain.report import Report, error_text

COLUMNS = ("method", "evaluations of f", "predicted multiplications", "time", "peak memory", "largest relative error")
_PROSE = 100


def cells(o: Outcome) -> tuple[str, ...]:
    """One row of the table of methods; `~` marks what is estimated from a sample."""
    if o.reason:
        return o.method, "", "", "", "", ""
    about = "~" if o.is_estimated else ""
    evaluations = f"{o.evaluations:,}" + (f" ({o.sweeps})" if o.sweeps else "")
    return (
        o.method,
        evaluations,
        count_text(o.multiplications or 0),
        about + time_text(o.time or 0),
        about + bytes_text(o.memory or 0),
        error_text(o.error),
    )


def notes(report: Report) -> Iterator[tuple[str, str]]:
    """What is to say of each method, and of the errors."""
    for o in report.outcomes:
        if o.reason:
            yield o.method, f"does not apply: {o.reason}"
        else:
            yield from ((o.method, note) for note in o.notes)
    yield "errors", f"relative to the largest entry of a row of the Jacobian; the reference is {report.reference}"


def has_rich() -> bool:
    """Whether rich is installed."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


class Printer:
    """Prints sections, tables and prose to a stream."""

    def __init__(self, stream: TextIO | None = None, plain: bool = False) -> None:
        self.stream = stream or sys.stdout
        self.console: Any = None
        if not plain and has_rich():
            from rich.console import Console

            # Into a file or a pipe, tables are as wide as they need to be.
            self.console = Console(file=self.stream, highlight=False, width=None if self.stream.isatty() else 200)

    @property
    def columns(self) -> int:
        """The width of prose."""
        return min(_PROSE, shutil.get_terminal_size().columns)

    def line(self, text: str = "", style: str = "") -> None:
        """One line."""
        if self.console is None:
            print(text, file=self.stream)
        else:
            self.console.print(text, style=style or None, markup=False, soft_wrap=True)

    def prose(self, text: str, indent: str = "") -> None:
        """A paragraph, wrapped."""
        self.line(textwrap.fill(text, self.columns, initial_indent=indent, subsequent_indent=indent))

    def heading(self, text: str) -> None:
        """A heading with a line above it."""
        self.line()
        self.line(text, style="bold")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], marked: str = "") -> None:
        """A table; numbers are to the right, and the row whose first cell is `marked` stands out."""
        if self.console is None:
            self._plain_table(head, rows, marked)
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for k, name in enumerate(head):
            table.add_column(name, justify="left" if k == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row, style="bold green" if row[0] == marked else None)
        self.console.print(table)

    def _plain_table(self, head: Sequence[str], rows: Sequence[Sequence[str]], marked: str) -> None:
        widths = [max(map(width, column)) for column in zip(head, *rows, strict=True)]

        def text(row: Sequence[str]) -> str:
            first, *rest = zip(row, widths, strict=True)
            return "  ".join([pad(*first), *(" " * (n - width(cell)) + cell for cell, n in rest)]).rstrip()

        self.line()
        self.line("  " + text(head))
        self.line("  " + "  ".join("-" * n for n in widths))
        for row in rows:
            self.line(("* " if row[0] == marked else "  ") + text(row))
        self.line()


def print_report(report: Report, printer: Printer) -> None:
    """The table of methods, the recommendation, the notes, and the evaluation trace of a small function."""
    printer.line(report.headline, style="bold")
    for warning in report.warnings:
        printer.prose(f"warning: {warning}")
    printer.table(COLUMNS, [cells(o) for o in report.outcomes], report.recommended)
    printer.heading(f"Recommended: {report.recommended}")
    for reason in report.reasons:
        printer.prose(reason, "  ")
    printer.heading("Notes")
    for method, note in notes(report):
        printer.prose(f"{method}: {note}", "  ")
    if report.explanation is not None:
        print_explanation(report.explanation, printer)


def print_explanation(explanation: Explanation, printer: Printer) -> None:
    """The evaluation trace."""
    printer.heading("Evaluation trace")
    printer.line(str(explanation))


# ---- progress


@contextlib.contextmanager
def progress(title: str, total: int, plain: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that tells what is being done, one step of `total`; to standard error, and only where someone may be watching."""
    if not sys.stderr.isatty():
        yield lambda _: None
    elif plain or not has_rich():
        yield lambda what: print(f"{title}: {what} ...", file=sys.stderr)
    else:
        with _bar(title, total) as tell:
            yield tell


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=total, what="")

        def tell(what: str) -> None:
            bar.update(task, advance=1, what=what)

        yield tell
