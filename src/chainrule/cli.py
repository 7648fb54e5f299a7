"""Differentiate a function of yours in every way there is (`report`), repeat the classic experiments (`modes`), or look after the
cache of compiled code (`cache`)."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from chainrule.errors import ChainruleError

_EXTRA = ("matplotlib", "igraph")


class UsageError(Exception):
    """What is wrong with the command, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for an error, 130 where interrupted."""
    options = _parser().parse_args(arguments)
    _tolerate(sys.stdout)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("chainrule: interrupted" + ("; nothing was written" if options.out else ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output stopped; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # one line for the user; --debug shows all of it
        if options.debug:
            raise
        print(f"chainrule: {_message(error)}", file=sys.stderr)
        return 2
    return 0


def _message(error: Exception) -> str:
    from chainrule.explain.problem import ProblemError, one_line

    known = isinstance(error, UsageError | ProblemError | ChainruleError)
    return " ".join(str(error).split()) if known else f"{one_line(error)}; --debug shows where"


def _tolerate(stream: object) -> None:
    """Let a terminal that lacks a character show another."""
    with contextlib.suppress(AttributeError, OSError):
        stream.reconfigure(errors="replace")  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chainrule", description=__doc__)
    parser.add_argument("--version", action="version", version=f"chainrule {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = _command(commands, "report", _report, "differentiate a function in every way there is, and compare")
    report.add_argument("target", metavar="FILE.py:FUNCTION", help="the function, in a file of yours")
    report.add_argument(
        "--inputs", metavar="NAME", help="its inputs, in the same file (default: FUNCTION_inputs, inputs, ...)"
    )
    report.add_argument(
        "--wrt", metavar="NAMES", help="the arguments to differentiate, by name or number (default: all of floats)"
    )
    report.add_argument(
        "--budget", metavar="SECONDS", type=float, default=2.0, help="about how long each method may take"
    )
    modes = _command(commands, "modes", _modes, "repeat the classic experiments on forward and reverse mode")
    modes.add_argument("--quick", action="store_true", help="small sizes, in a few seconds")
    cache = _command(commands, "cache", _cache, "show where compiled code is kept and how much, or delete it")
    cache.add_argument("--clear", action="store_true", help="delete the compiled code")
    cache.set_defaults(out=None)
    for command in (report, modes):
        command.add_argument("--out", metavar="PAGE.html", type=Path, help="also write one self-contained page")
        command.add_argument("--plain", action="store_true", help="no colours, no lines")
    for command in (report, modes, cache):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    help: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def _version() -> str:
    from chainrule import __version__

    return __version__


# ---- the commands


def _report(options: argparse.Namespace) -> None:
    from chainrule.explain.methods import METHODS
    from chainrule.explain.problem import load
    from chainrule.explain.report import report
    from chainrule.explain.terminal import Printer, print_report, progress

    if not options.budget > 0:
        raise UsageError("--budget is a number of seconds above 0")
    _check_out(options.out)
    problem = load(options.target, options.inputs, options.wrt.split(",") if options.wrt else None)
    with progress(problem.name, len(METHODS) + 3, options.plain) as tell:
        found = report(problem, budget=options.budget, progress=tell)
        page = ""
        if options.out:
            from chainrule.explain.page import report_page

            tell("the page")
            page = report_page(found)
    printer = Printer(plain=options.plain)
    print_report(found, printer)
    if options.out:
        write(options.out, page)
        printer.line(f"\nThe page is {options.out}")


def _modes(options: argparse.Namespace) -> None:
    from chainrule.explain.modes import FULL, QUICK, experiments, print_experiments
    from chainrule.explain.terminal import Printer, progress

    _check_out(options.out)
    size = QUICK if options.quick else FULL
    with progress("modes", size.steps, options.plain) as tell:
        found = experiments(size, tell)
        page = ""
        if options.out:
            from chainrule.explain.page import modes_page

            page = modes_page(found)
    printer = Printer(plain=options.plain)
    print_experiments(found, printer)
    if options.out:
        write(options.out, page)
        printer.line(f"\nThe page is {options.out}")


def _cache(options: argparse.Namespace) -> None:
    from chainrule import cache

    root = cache.directory()
    if root is None:
        print("Compiled code is not kept: CHAINRULE_CACHE says so, or there is no directory for it.")
        return
    files = cache.clear() if options.clear else cache.contents()
    size = sum(f.size for f in files)
    done = "deleted from" if options.clear else "in"
    print(f"{len(files)} compiled programs, {size / 1e6:.1f} MB (of at most {cache.LIMIT / 1e6:.0f}), {done} {root}")


# ---- writing


def _check_out(out: Path | None) -> None:
    """Say at once what would keep the page from being written at the end."""
    if out is None:
        return
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(f"--out needs {' and '.join(missing)}: pip install 'chainrule[report]'")
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(
            f"{out} cannot be written: {'it is a directory' if out.is_dir() else 'there is no such directory'}"
        )
    if not os.access(out.resolve().parent, os.W_OK):
        raise UsageError(f"{out} cannot be written: no permission")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all: into a temporary one beside it, which then takes its name."""
    with _temporary(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


if __name__ == "__main__":
    sys.exit(main())
