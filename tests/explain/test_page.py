import re
from html.parser import HTMLParser

import numpy as np
import pytest

from chainrule.explain.problem import Problem
from chainrule.explain.report import report

pytest.importorskip("matplotlib")
pytest.importorskip("igraph")

from chainrule.explain.page import modes_page, report_page

VOID = {"meta", "br", "input", "hr", "link", "img"}


class Balance(HTMLParser):
    """Raises where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def check(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\((?!#)""", page)
    assert "#0102" not in page


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.fixture(autouse=True)
def without_symbols(monkeypatch):
    from chainrule.explain import methods

    def refuse(*_):
        raise methods.NoFormula("not in this <test>")

    monkeypatch.setattr(methods, "derive", refuse)


def test_page_is_whole_and_needs_nothing_else() -> None:
    page = report_page(report(Problem.of(rosenbrock, (np.linspace(0.5, 1.5, 4),)), budget=0.02))
    check(page)
    assert "not in this &lt;test&gt;" in page
    assert "Evaluation trace" in page
    assert page.count("<figure") == 5


def test_graph_of_a_large_program_is_dots() -> None:
    def f(x):
        for _ in range(500):
            x = np.sin(x) * 1.01
        return x

    page = report_page(report(Problem.of(f, (0.5,)), budget=0.02))
    check(page)
    assert "The first 400 of 1,000 operations" in page
    assert 'class="dot' in page


def test_zero_derivative_has_a_page() -> None:
    check(report_page(report(Problem.of(lambda x: 0.0 * x, (np.ones(2),)), budget=0.02)))


def test_function_that_is_not_finite_has_a_page() -> None:
    check(report_page(report(Problem.of(lambda x: np.log(x) * x, (0.0,)), budget=0.02)))


def test_modes_page_is_whole() -> None:
    from chainrule.explain.modes import Size, experiments

    found = experiments(Size((3, 6), 4, 2, (3, 6), (1, 2, 3), 1e-3))
    check(modes_page(found))
