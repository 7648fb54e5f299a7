import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import explain


def baydin(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def test_values_are_those_of_the_textbook() -> None:
    trace = explain(baydin, 2.0, 5.0)
    expected = [2, 5, math.log(2), 10, math.log(2) + 10, math.sin(5), math.log(2) + 10 - math.sin(5)]
    assert [float(s.value) for s in trace.steps] == pytest.approx(expected)
    assert [s.name for s in trace.steps] == ["v₋₁", "v₀", "v₁", "v₂", "v₃", "v₄", "v₅"]


def test_tangents_are_those_of_the_textbook() -> None:
    dots = [float(s.tangents[0]) for s in explain(baydin, 2.0, 5.0).steps]
    assert dots == pytest.approx([1, 0, 0.5, 5, 5.5, 0, 5.5])


def test_cotangents_are_those_of_the_textbook() -> None:
    last = {p.name: float(p.value) for p in explain(baydin, 2.0, 5.0).pulls}
    assert last["x̄1"] == pytest.approx(5.5)
    assert last["x̄2"] == pytest.approx(2 - math.cos(5))


def test_formulas_are_those_of_the_textbook() -> None:
    trace = explain(baydin, 2.0, 5.0)
    assert [s.formula for s in trace.steps] == ["x1", "x2", "ln v₋₁", "v₋₁ × v₀", "v₁ + v₂", "sin v₀", "v₃ − v₄"]
    assert [s.tangent_formula for s in trace.steps[2:]] == [
        "v̇₋₁ / v₋₁",
        "v̇₋₁ × v₀ + v̇₀ × v₋₁",
        "v̇₁ + v̇₂",
        "v̇₀ × cos v₀",
        "v̇₃ − v̇₄",
    ]
    assert [p.formula for p in trace.pulls if p.sign == "+="] == ["v̄₂ × v₋₁", "v̄₁ / v₋₁"]


def test_text_shows_every_step_and_its_line() -> None:
    text = str(cr.explain(baydin, 2.0, 5.0))
    assert text.startswith("baydin(x1, x2) at (2, 5)")
    assert "= 11.6521" in text
    assert "test_evaluation.py:" in text


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sum(np.tanh(x) ** 3 / (1 + x)), np.linspace(0.5, 1.5, 7)),
        (lambda x: np.prod(np.stack([x[0], np.exp(-x[1]), x[0] - x[1]])), np.array([1.5, 0.5])),
        (lambda x: np.max(x @ np.eye(5)[:, :2]) * np.sqrt(x[4]), np.arange(1.0, 6.0)),
        (lambda x: np.where(x > 0, np.sqrt(np.abs(x)), 0.0).sum(), np.array([0.0, -1.0, 4.0])),
    ],
)
def test_trace_ends_in_the_derivative(f, x) -> None:
    trace = explain(f, x)
    gradient = cr.grad(f)(x)
    assert np.allclose(trace.pulls[-1].value, gradient)
    directions = np.eye(x.size) if x.size <= 3 else [np.ones(x.size)]
    assert np.allclose(list(trace.steps[-1].tangents), [gradient @ d for d in directions])


def test_arguments_that_carry_no_derivative_are_constants() -> None:
    trace = explain(lambda x, n: x**n, 3.0, 2)
    assert trace.directions == ("x",)
    assert float(trace.pulls[-1].value) == 6.0


def test_line_that_made_the_nan_is_named() -> None:
    def f(x):
        y = x - 1.0
        return np.log(y) * 0.0 * y

    notes = explain(f, 1.0).notes
    assert "value that is not finite: v₂ = ln v₁" in notes[0]
    assert "test_evaluation.py:" in notes[0]


def test_outputs_that_are_trees_are_explained() -> None:
    trace = explain(lambda x: {"a": x * 2, "b": (x, 1.0)}, 3.0)
    assert float(trace.pulls[-1].value) == 3.0


def test_own_rules_are_explained_without_a_formula() -> None:
    @cr.custom_jvp
    def f(x):
        return np.exp(x)

    f.defjvp(lambda primals, tangents: (np.exp(primals[0]), 2 * np.exp(primals[0]) * tangents[0]))
    assert float(explain(lambda x: f(x) * 3.0, 0.0).pulls[-1].value) == 6.0


@pytest.mark.parametrize("x", [2, None, "x", 1j])
def test_nothing_to_differentiate_is_an_error(x) -> None:
    with pytest.raises(cr.DifferentiationError):
        explain(lambda x: x, x)
