"""The laws and tests that a mutant has to get past, each with the functions that it runs through."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import FrameType
from typing import Any

Place = tuple[str, int]  # a function, by its file and first line

# Beside the laws; each file of tests runs with those mutants that it reaches.
TESTS = (
    *("tests/linear", "tests/prims", "tests/test_api.py", "tests/trace/test_own.py", "tests/scipy/test_special.py"),
    *("tests/plan/test_chain.py", "tests/plan/test_eliminate.py"),
)


@dataclass
class Coverage:
    """For each case the seconds it takes and the functions it runs; for each declared primitive where that is."""

    seconds: dict[str, float] = field(default_factory=dict)
    reached: dict[str, frozenset[Place]] = field(default_factory=dict)
    declared: dict[str, list[Place]] = field(default_factory=dict)


@contextmanager
def followed(sources: Sequence[str]) -> Iterator[set[Place]]:
    """The functions of some folders that run in this scope."""
    found: set[Place] = set()

    def trace(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(tuple(sources)):
            found.add((code.co_filename, code.co_firstlineno))

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield found
    finally:
        sys.settrace(before)


def law_cases() -> dict[str, Callable[[], None]]:
    """Each law on each sample of each primitive, as tests/test_laws.py runs them."""
    spec = importlib.util.spec_from_file_location("test_laws", Path("tests/test_laws.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def case(law: Any, values: Any) -> Callable[[], None]:
        return lambda: module.test_law(law, *values)

    return {f"{p.id} {name}": case(law, p.values) for p in module.CASES for name, law in module.LAWS.items()}


@contextmanager
def strict_warnings() -> Iterator[None]:
    """Warnings are errors, as in the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def declarations() -> dict[str, list[Place]]:
    """Import chainrule, and note for each primitive the lines that are under way when it is registered."""
    record: dict[str, list[Place]] = {}

    def trace(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code.co_name == "register" and "primitive" in frame.f_locals:
            places = record.setdefault(frame.f_locals["primitive"].name, [])
            above = frame.f_back
            while above is not None:
                places.append((above.f_code.co_filename, above.f_lineno))
                above = above.f_back

    sys.settrace(trace)
    import chainrule  # noqa: F401 - fills the registry

    sys.settrace(None)
    assert record, "no primitive was registered"
    return record


def measured(sources: Sequence[str]) -> Coverage:
    """The coverage of the unchanged package; in a process of its own, since it imports chainrule."""
    coverage = Coverage(declared=declarations())
    for name, case in law_cases().items():
        begin = time.process_time()
        with strict_warnings(), followed(sources) as places:
            case()
        coverage.seconds[name], coverage.reached[name] = time.process_time() - begin, frozenset(places)
    run_tests([t for t in TESTS if Path(t).exists()], _Follower(sources, coverage))
    return coverage


class _Follower:
    """A pytest plugin that notes what each test takes and runs, what its file runs at import included."""

    def __init__(self, sources: Sequence[str], coverage: Coverage) -> None:
        self.sources, self.coverage = sources, coverage
        self.imported: dict[str, set[Place]] = {}

    def collected(self, collector: Any) -> Iterator[Any]:
        """Around the collection of a file or a class."""
        with followed(self.sources) as places:
            report = yield
        self.imported.setdefault(collector.nodeid.split("::")[0], set()).update(places)
        return report

    def called(self, item: Any) -> Iterator[None]:
        """Around a test."""
        begin = time.process_time()
        with followed(self.sources) as places:
            yield
        self.coverage.seconds[item.nodeid] = time.process_time() - begin
        self.coverage.reached[item.nodeid] = frozenset(places | self.imported[item.nodeid.split("::")[0]])

    def __call__(self) -> Any:
        """The plugin; pytest is loaded by now."""
        import pytest

        class Plugin:
            @staticmethod
            @pytest.hookimpl(wrapper=True)
            def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
                return (yield from self.collected(collector))

            @staticmethod
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
                yield from self.called(item)

        return Plugin()


# Plain assertions and no plugins: there is a start of pytest a mutant.
OPTIONS = "-q -x --assert=plain -p no:cacheprovider --no-header --no-summary -o addopts=--import-mode=importlib"


def run_tests(names: Sequence[str], plugin: Callable[[], Any] | None = None) -> bool:
    """Whether tests pass, in this process."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return not names or pytest.main([*OPTIONS.split(), *names], plugins=[plugin()] if plugin else []) == 0


def order(names: Sequence[str], coverage: Coverage, limit: float) -> list[str]:
    """Cases of laws in an order in which primitives alternate, as many as take `limit` seconds."""
    ranks: dict[str, int] = {}
    keyed = []
    for name in random.Random(1).sample(sorted(names), len(names)):
        of = name.split("-")[0]
        ranks[of] = ranks.get(of, 0) + 1
        keyed.append((ranks[of], name))
    spent = list(accumulate(coverage.seconds[name] for _, name in sorted(keyed)))
    return [name for (_, name), total in zip(sorted(keyed), spent, strict=True) if total <= limit]
