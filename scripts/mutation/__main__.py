"""python scripts/mutation [FILES]: change one thing at a time in linear/ and prims/, and see that a law or a test fails.

Every mutant is imported and run in a process of its own, forked from this one, which has loaded all but chainrule. What
survives has to be explained in survivors.toml beside this file: the exit status is 1 where a survivor is not, or where an
explanation fits nothing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fnmatch
import gc
import importlib
import importlib.machinery
import os
import pickle
import random
import re
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import CodeType
from typing import Any

import suite
from mutants import Left, Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (Path("src/chainrule/linear"), Path("src/chainrule/prims"))
LOADED = ("numpy", "scipy.special", "scipy.linalg", "scipy.sparse", "optree", "pytest", "_pytest.assertion.rewrite")
ADDRESS_SPACE = 8 << 30
LISTED = r"^(\S+):\d+ in (.*)\n    - (.*)\n    \+ (.*)$"  # a mutant, as it is printed
CODES: dict[str, CodeType] = {}
FEW = 150


def in_child(work: Callable[[], Any], seconds: float) -> Any:
    """The result of `work` in a forked process; None where it exceeds its time or dies."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            _limit(seconds)
            with os.fdopen(write, "wb") as pipe, open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                pipe.write(pickle.dumps(work()))
        finally:
            os._exit(0)  # whatever happened: nothing of the parent's runs on here
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


def _limit(seconds: float) -> None:
    """Processor time is limited; so is the clock's, generously, against what sleeps."""
    cpu = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    signal.alarm(int(20 * seconds) + 20)


def attempt(mutant: Mutant, cases: Sequence[str], tests: Sequence[str]) -> str:
    """What fails on a mutant; empty where nothing does. A few laws come first, then the tests, then the other laws."""
    replace(mutant)
    try:
        with suite.strict_warnings():
            found = suite.law_cases()
    except Exception as error:  # noqa: BLE001 - whatever a mutant raises has found it
        return f"import: {type(error).__name__}"
    few, rest = cases[:FEW], cases[FEW:]
    return laws(found, few) or ("" if suite.run_tests(tests) else "tests") or laws(found, rest)


def laws(found: dict[str, Callable[[], None]], cases: Sequence[str]) -> str:
    """The first law that fails."""
    for name in cases:
        try:
            with suite.strict_warnings():
                found[name]()
        except Exception as error:  # noqa: BLE001 - so here
            return f"{name}: {type(error).__name__}"
    return ""


def replace(mutant: Mutant) -> None:
    """From now on the mutated file is imported in its changed form."""
    CODES[str(mutant.path.resolve())] = compile(mutant.source(), str(mutant.path.resolve()), "exec")


def import_from_codes() -> None:
    """Have modules imported from what is compiled already, here for all forked processes, where it is."""
    loader = importlib.machinery.SourceFileLoader
    plain = loader.get_code
    loader.get_code = lambda self, name: CODES.get(self.path) or plain(self, name)  # type: ignore
    for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        CODES[str(path)] = compile(path.read_bytes(), str(path), "exec")


class Chooser:
    """The cases and tests for a mutant: those that run through its function, else all of what its file declares."""

    def __init__(self, coverage: suite.Coverage, limit: float) -> None:
        self.coverage, self.limit = coverage, limit
        self.trees: dict[Path, ast.Module] = {}

    def __call__(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        file = str(mutant.path.resolve())
        if mutant.path not in self.trees:
            self.trees[mutant.path] = ast.parse(mutant.path.read_text())
        tree = self.trees[mutant.path]
        through = self._through((file, _function(tree, mutant)))
        names = through or self._declared(file, _statement(tree, mutant.line))
        chosen = suite.order([n for n in names if "::" not in n], self.coverage, self.limit)
        tests = sorted((n for n in names if "::" in n), key=lambda n: self.coverage.seconds[n])
        spent = accumulate(self.coverage.seconds[n] for n in tests)
        return chosen, [
            n for n, total in zip(tests, spent, strict=True) if total <= (3 if through else 20) * self.limit
        ]

    def _through(self, place: suite.Place) -> list[str]:
        return [n for n, places in self.coverage.reached.items() if place in places]

    def _declared(self, file: str, lines: range) -> list[str]:
        """The cases of the primitives that these lines declare, or, where they declare none, that their file does."""
        declared, reached = self.coverage.declared, self.coverage.reached
        here = {p for p, places in declared.items() if any(f == file and line in lines for f, line in places)}
        room = here or {p for p, places in declared.items() if any(f == file for f, _ in places)}
        tests = [n for n, places in reached.items() if "::" in n and any(f == file for f, _ in places)]
        if not room:
            return [n for n, places in reached.items() if any(f == file for f, _ in places)]
        return [n for n in reached if "::" not in n and n.split("-")[0] in room] + tests


def _function(tree: ast.Module, mutant: Mutant) -> int:
    """The first line of the innermost function around a mutant, as code objects have it; -1 outside of all."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    at = (mutant.line, mutant.column)
    around = [n for n in nodes if (n.lineno, n.col_offset) <= at < (n.end_lineno or 0, n.end_col_offset or 0)]
    return _first(max(around, key=lambda n: (n.lineno, n.col_offset))) if around else -1


def _statement(tree: ast.Module, line: int) -> range:
    """The lines of the module's statement that has this line."""
    spans = (range(node.lineno, (node.end_lineno or node.lineno) + 1) for node in tree.body)
    return next(span for span in spans if line in span)


def _first(node: ast.FunctionDef | ast.Lambda) -> int:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *(d.lineno for d in decorators)])


class Survivors:
    """The explanations: what is left alone, and which survivors are right to survive."""

    def __init__(self, path: Path) -> None:
        table = tomllib.loads(path.read_text())
        self.left = Left(tuple(table["left"]["functions"]), tuple(table["left"]["keywords"]))
        self.entries: list[dict[str, str]] = table.get("survivor", [])
        self.used: set[int] = set()

    def reason(self, mutant: Mutant) -> str:
        """Why a mutant may survive; empty where nothing says so."""
        for i, entry in enumerate(self.entries):
            if self._is_of(entry, mutant):
                self.used.add(i)
                return entry["why"]
        return ""

    @staticmethod
    def _is_of(entry: dict[str, str], mutant: Mutant) -> bool:
        found = {"file": mutant.path.as_posix(), "scope": mutant.scope, "was": mutant.was, "now": mutant.now}
        return all(_fits(found[key], pattern) for key, pattern in entry.items() if key in found)

    def unused(self, every: Sequence[Mutant]) -> list[dict[str, str]]:
        """Explanations that fit no mutant at all."""
        return [e for e in self.entries if not any(self._is_of(e, m) for m in every)]


def _fits(text: str, pattern: str) -> bool:
    """Whether a text is a pattern's, in which * stands for anything and all else for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutate", description="Mutate linear/ and prims/, and see the laws fail."
    )
    parser.add_argument(
        "files", nargs="*", help="parts of the paths of files to mutate, e.g. prims/shape; default: all"
    )
    parser.add_argument("--scope", default="*", help="only in functions and declarations of this name (a pattern)")
    parser.add_argument("--again", type=Path, metavar="OUTPUT", help="only those that an earlier output lists")
    parser.add_argument("--sample", type=int, help="only this many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="what --sample draws with")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds of laws a mutant has to get past")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    return parser.parse_args()


def chosen(options: argparse.Namespace, every: Sequence[Mutant]) -> list[Mutant]:
    """The mutants that the command line asks for."""
    before = re.findall(LISTED, options.again.read_text(), re.MULTILINE) if options.again else None
    found = [
        m
        for m in every
        if (not options.files or any(f in m.path.as_posix() for f in options.files))
        and fnmatch.fnmatchcase(m.scope, options.scope)
        and (before is None or (m.path.as_posix(), m.scope, m.was, m.now) in before)
    ]
    if options.sample is not None and options.sample < len(found):
        found = sorted(random.Random(options.seed).sample(found, options.sample), key=lambda m: (m.path, m.start))
    return found


def main() -> int:
    """The exit status."""
    options = arguments()
    os.chdir(ROOT)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # a forked process cannot use its parent's threads
    sys.path.insert(0, str(ROOT / "src"))
    survivors = Survivors(Path(__file__).with_name("survivors.toml"))
    every = [m for folder in SOURCES for path in sorted(folder.glob("*.py")) for m in mutants(path, survivors.left)]
    wanted = chosen(options, every)
    if options.list:
        print("\n".join(map(str, wanted)))
        return 0
    for name in LOADED:
        importlib.import_module(name)
    import_from_codes()
    gc.collect()
    gc.freeze()  # collections in the forked processes need not look at what they share
    coverage = in_child(lambda: suite.measured([str(folder.resolve()) for folder in SOURCES]), 600)
    if coverage is None:
        raise SystemExit("the laws or tests fail without any mutation")
    counts = run(wanted, Chooser(coverage, options.limit), survivors)
    stale = survivors.unused(every)
    for entry in stale:
        print(f"survivors.toml explains what is no mutant: {entry}")
    print(f"{len(wanted)} mutants: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    return int(bool(stale) or counts["unexplained"] > 0)


def run(wanted: Sequence[Mutant], choose: Chooser, survivors: Survivors) -> Counter[str]:
    """Try each mutant, print what survives, and count."""
    counts: Counter[str] = Counter()
    for k, mutant in enumerate(wanted):
        cases, tests = choose(mutant)
        seconds = 10 + 10 * sum(choose.coverage.seconds[n] for n in (*cases, *tests))
        outcome = in_child(partial(attempt, mutant, cases, tests), seconds)
        if outcome == "":
            reason = survivors.reason(mutant)
            counts["explained" if reason else "unexplained"] += 1
            print(
                f"{mutant}\n    survived {len(cases)} laws, {len(tests)} tests: {reason or 'UNEXPLAINED'}", flush=True
            )
        else:
            counts["killed"] += 1
        if sys.stderr.isatty():
            print(f"\r{k + 1}/{len(wanted)}", end="", file=sys.stderr)
    return counts


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
