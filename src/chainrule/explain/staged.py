"""What became of a staged function: its signature, its paths with their guards, and how each of them runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chainrule.backends.executable import Report
from chainrule.ir.program import Program
from chainrule.ir.types import ArrayType
from chainrule.staging import Jitted
from chainrule.staging.paths import PATHS, Path
from chainrule.trace import tree


@dataclass(frozen=True)
class PathExplanation:
    """One path: its program with its guards, how that runs, the seconds it took to record and to compile, and its derivatives."""

    program: Program
    report: Report
    recorded: float
    compiled: float
    derived: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"recorded in {_seconds(self.recorded)}, compiled in {_seconds(self.compiled)}",
            str(self.program),
            str(self.report),
        ]
        if self.derived:
            lines += ["compiled for", *(f"  {d}" for d in self.derived)]
        return "\n".join(lines)


@dataclass(frozen=True)
class StagedExplanation:
    """A staged function for one kind of arguments; `print` it, or read `signature` and `paths`."""

    name: str
    signature: str
    other_signatures: int
    is_eager: bool
    paths: tuple[PathExplanation, ...]

    def __str__(self) -> str:
        title = f"jit({self.name}) at ({self.signature})"
        if self.other_signatures:
            title += f", and {self.other_signatures} other signature{'s' * (self.other_signatures > 1)}"
        if self.is_eager:
            return f"{title}\nruns eagerly: it took more than {PATHS} paths through its branches on traced values"
        if len(self.paths) == 1:
            return f"{title}\n{self.paths[0]}"
        return "\n\n".join([title, *(f"path {k} of {len(self.paths)}, {p}" for k, p in enumerate(self.paths, 1))])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def explain_staged(f: Jitted, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StagedExplanation:
    """What became of a staged function for arguments like these; it is recorded and compiled for them where it was not yet."""
    known = f.known(*args, **kwargs)
    return StagedExplanation(
        known.name,
        _signature(f, args, kwargs),
        f.signatures - 1,
        known.is_eager,
        tuple(_path(p) for p in known.paths),
    )


def _path(path: Path) -> PathExplanation:
    staged = path.staged
    whole = staged.program
    guards = tuple(zip(whole.outputs[len(staged.outputs) :], staged.expected, strict=True))
    program = replace(whole, outputs=staged.outputs, guards=guards)
    report = staged.executable.report()
    return PathExplanation(program, report, path.seconds, staged.seconds, tuple(staged.derivatives()))


def _signature(f: Jitted, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    try:
        named = dict(inspect.signature(f.function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a callable without a signature
        named = {**{str(k): a for k, a in enumerate(args)}, **kwargs}
    names = list(named)
    static = f.static.names | {names[n] for n in f.static.places if -len(names) <= n < len(names)}
    return ", ".join(_argument(name, x, static=name in static) for name, x in named.items())


def _argument(name: str, x: Any, *, static: bool) -> str:
    if static:
        return f"{name}={x!r}"
    leaves, _ = tree.flatten(x)
    places = [""] if len(leaves) == 1 and leaves[0] is x else tree.paths(x)
    return ", ".join(f"{name}{place}: {ArrayType.of(leaf)}" for place, leaf in zip(places, leaves, strict=True))


def _seconds(t: float) -> str:
    return f"{1000 * t:.1f} ms" if t < 1 else f"{t:.2f} s"
