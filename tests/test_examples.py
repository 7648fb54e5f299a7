"""Every example runs, and finds what it looks for; those that make a point of it can be reported on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain.problem import load

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_textbook_prints_the_traces_of_the_textbooks(capsys) -> None:
    textbook = example("textbook")
    textbook.main()
    out = capsys.readouterr().out
    assert "= 11.6521" in out
    (x,) = textbook.chain_inputs
    assert np.allclose(textbook.chain_rule_forward(x), cr.jacobian(textbook.chain)(x))
    assert np.allclose(textbook.chain_rule_reverse(x), cr.jacobian(textbook.chain)(x))


def test_digits_are_recognised() -> None:
    pytest.importorskip("sklearn")
    digits = example("digits")
    parameters = digits.trained(epochs=8)
    assert digits.accuracy(parameters, digits.images[digits.test], digits.labels[digits.test]) > 0.93


def test_bundle_is_adjusted_down_to_the_noise() -> None:
    bundle = example("bundle_adjustment")
    before = bundle.root_mean_square(bundle.residuals(*bundle.start()))
    cameras, points, _ = bundle.adjusted()
    after = bundle.root_mean_square(bundle.residuals(cameras, points))
    assert before > 2
    assert after < bundle.NOISE


def test_jacobian_of_the_bundle_is_that_of_differences() -> None:
    bundle = example("bundle_adjustment")
    cameras, points = bundle.start()
    J = cr.jacobian(bundle.residuals, mode="forward")(cameras, points).reshape(-1, cameras.size)
    h = 1e-6
    for k in range(cameras.size):
        step = np.zeros(cameras.size)
        step[k] = h
        step = step.reshape(cameras.shape)
        column = (bundle.residuals(cameras + step, points) - bundle.residuals(cameras - step, points)) / (2 * h)
        assert np.allclose(J[:, k], column, rtol=1e-5, atol=1e-4)


def test_rates_are_found_through_the_loop_over_time(monkeypatch) -> None:
    ode = example("ode")
    rates, start, found = ode.fitted()
    assert found.fun < 0.003
    assert np.allclose(rates, ode.true_rates, rtol=0.2)
    assert np.allclose(start, ode.true_start, rtol=0.1)


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        ("textbook.py:baydin", 2),
        ("textbook.py:parabola", 2),
        ("textbook.py:squared_length", 2),
        ("textbook.py:squared_length_of_four", 4),
        ("textbook.py:logistic", 1),
        ("textbook.py:chain", 2),
        ("digits.py:loss", 2410),
        ("bundle_adjustment.py:residuals", 165),
        ("ode.py:misfit", 6),
    ],
)
def test_examples_name_their_inputs_for_the_report(target, inputs) -> None:
    if "digits" in target:
        pytest.importorskip("sklearn")
    assert load(str(EXAMPLES / target)).size == inputs
