"""check_grads: right derivatives pass, wrong ones are named with their place and both numbers."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.testing.differences import central_differences, complex_step, steps_at


def wrong_sine(error, *, in_forward=True):
    """sin, with a derivative that is off by a factor."""
    f = cr.custom_jvp(np.sin)
    f.defjvp(lambda xs, ts: (f(xs[0]), ts[0] * np.cos(xs[0]) * (1 + error)))
    return f


RIGHT = {
    "vector": (lambda x: np.sum(np.sin(x) ** 2), (np.array([0.3, 0.5]),)),
    "matrix output": (lambda x: np.exp(x) * x[:, None], (np.array([0.3, 0.5]),)),
    "scalar": (lambda x: x**3 / (1 + x), (0.7,)),
    "tiny argument": (lambda x: np.log(x), (1e-6,)),
    "large argument": (lambda x: x**2, (1e5,)),
    "tree": (lambda p: {"a": p["w"] @ p["x"], "b": np.log(p["w"])}, ({"w": np.array([0.3, 0.1]), "x": np.ones(2)},)),
    "list argument": (lambda xs: xs[0] * np.sin(xs[1]), ([1.5, 2.0],)),
    "constant integer": (lambda x, n: x**n, (np.array([1.5]), 3)),
    "integer output too": (lambda x: (x * x, x > 1), (np.array([1.5, 2.0]),)),
    "analytic": (lambda z: np.exp(z) * z, (np.array([0.3 + 0.2j]),)),
    "not analytic": (lambda z: np.abs(z) ** 2 + np.conj(z), (np.array([0.3 + 0.2j, 1.0]),)),
    "not complex-differentiable": (lambda x: np.abs(x) * x, (np.array([0.3, -0.2]),)),
    "branches": (lambda x: x * x if x > 0 else -x, (0.4,)),
    "constant in one argument": (lambda x, y: x + 0 * y, (1.0, 2.0)),
    "float32": (lambda x: np.exp(x) * x, (np.array([0.3, 0.5], np.float32),)),
    "longdouble": (lambda x: np.exp(x) * x, (np.array([0.3, 0.5], np.longdouble),)),
}


@pytest.mark.parametrize(("f", "args"), RIGHT.values(), ids=RIGHT)
def test_right_derivatives_pass(f, args):
    cr.check_grads(f, args, order=2)


def test_third_order():
    cr.check_grads(lambda x: np.sum(np.tanh(x)), (np.array([0.3, 0.1]),), order=3)


def test_error_names_argument_index_and_both_numbers():
    f = wrong_sine(1e-3)
    x = np.array([[0.1, 0.2], [0.3, 0.4]])
    with pytest.raises(AssertionError, match="wrong") as caught:
        cr.check_grads(lambda y, x: np.sum(y) + np.stack([x[0], f(x[1])]), (1.0, x))
    text = str(caught.value)
    assert "output 0, index (1, 0)" in text
    assert "argument 1, index (1, 0)" in text
    found, expected = (float(n) for n in re.findall(r":\s+(0\.\d+)", text))
    assert found == pytest.approx(1.001 * np.cos(0.3), rel=1e-12)
    assert expected == pytest.approx(np.cos(0.3), rel=1e-9)


def test_error_names_the_leaf_of_a_tree():
    f = wrong_sine(1e-2)
    with pytest.raises(AssertionError, match=re.escape("argument 0['w'][1], index (1,)")):
        cr.check_grads(lambda p: p["w"][0] + np.sum(f(p["w"][1][1])), ({"w": [1.0, np.ones(2)]},))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_each_mode_is_checked(mode):
    with pytest.raises(AssertionError, match=f"{mode} mode"):
        cr.check_grads(wrong_sine(1e-3), (0.3,), modes=(mode,))


def test_a_derivative_that_is_wrong_only_at_second_order():
    f = cr.custom_jvp(np.sin)
    f.defjvp(lambda xs, ts: (f(xs[0]), ts[0] * cr.stop_gradient(np.cos(xs[0]))))
    cr.check_grads(f, (0.3,), order=1)
    with pytest.raises(AssertionError, match="derivative 2"):
        cr.check_grads(f, (0.3,), order=2)


def test_the_imaginary_part_is_checked():
    f = cr.custom_jvp(lambda z: np.conj(z))
    f.defjvp(lambda zs, ts: (np.conj(zs[0]), ts[0]))
    with pytest.raises(AssertionError, match="imaginary part"):
        cr.check_grads(f, (1.0 + 2.0j,), order=1)


def test_large_arrays_are_checked_at_some_elements():
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(x**2)

    cr.check_grads(f, (np.linspace(1, 2, 5000),), order=1, limit=3)
    assert len(calls) < 100


def test_a_function_that_branches_on_being_traced_is_found():
    with pytest.raises(AssertionError, match="other values"):
        cr.check_grads(lambda x: x * (1.0 if isinstance(x, float | np.ndarray | np.generic) else 2.0), (1.0,))


def test_nothing_to_differentiate_is_an_error():
    with pytest.raises(cr.DifferentiationError, match="no floating argument"):
        cr.check_grads(lambda n: n, (3,))
    with pytest.raises(cr.DifferentiationError, match="without a floating output"):
        cr.check_grads(lambda x: x > 1, (np.ones(3),))
    with pytest.raises(ValueError, match="modes"):
        cr.check_grads(np.sin, (1.0,), modes=("backward",))


@pytest.mark.parametrize("x", [1e-8, 0.3, 40.0])
def test_differences_know_their_error(x):
    found = central_differences(lambda x: (np.exp(x), np.sqrt(x)), [np.float64(x)], [np.float64(1)], steps=steps_at(x))
    expected = np.array([np.exp(x), 0.5 / np.sqrt(x)])
    assert np.all(abs(found.value - expected) <= 10 * found.error + 1e-12 * abs(expected))


def test_complex_step_is_exact_and_refuses_what_has_no_complex_values():
    x = np.float64(0.7)
    assert complex_step(lambda x: (np.exp(np.sin(x)),), [x], [1.0]) == pytest.approx(
        np.cos(x) * np.exp(np.sin(x)), rel=1e-15
    )
    assert complex_step(lambda x: (np.cbrt(x),), [x], [1.0]) is None
