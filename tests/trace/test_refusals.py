"""An error of ours that compiled or a library's code hides is told; one that was caught on purpose is not."""

import contextlib
import os

import numpy as np
import pytest
import scipy
from scipy import integrate, optimize

import chainrule as cr

A = 0.7


def library(source):
    """A function of a library: code that a file of SciPy's folder is said to hold."""
    made = {}
    exec(compile(source, os.path.join(os.path.dirname(scipy.__file__), "made.py"), "exec"), made)
    return made["f"]


answers_with_another = library("""
def f(x):
    try:
        return float(x)
    except Exception:
        raise TypeError("x must be a number")
""")

does_without = library("""
def f(x):
    try:
        float(x)
    except Exception:
        pass
    raise ValueError("no solution")
""")

Gives = library("""
class f:
    def __add__(self, other):
        try:
            return float(other)
        except Exception:
            return NotImplemented
""")

goes_on = library("""
def f(solver, *args):
    try:
        solver(*args)
    finally:
        pass
    return 0.0
""")


ERROR = ValueError("of which nothing comes")


def clears(t):
    """The same; an exception that is pending gives way to one that is caught here, by nothing but Python's own code."""
    try:
        raise ERROR
    except ValueError:
        return t


HIDDEN = {
    "a solver that drops the error and meets the next with it": lambda a: optimize.brentq(lambda t: t * t - a, 0, 2),
    "a solver that complains of numbers": lambda a: optimize.brentq(lambda t: clears(t) * t - a, 0, 2),
    "the same under code of a library": lambda a: goes_on(optimize.brentq, lambda t: clears(t) * t - a, 0, 2),
    "the same under finally": lambda a: optimize.brentq(with_finally(lambda t: clears(t) * t - a), 0, 2),
    "quad": lambda a: integrate.quad(lambda t: np.sin(a * t), 0, 1)[0],
    "NumPy's own error": lambda a: np.zeros(3).__setitem__(0, np.ones(2) * a),
    "an operator of a library that gives up": lambda a: Gives() + [a][0],
    "another error of a library": lambda a: answers_with_another(a),
}


def with_finally(f):
    def g(t):
        try:
            return float(f(t))
        finally:
            clears(t)

    return g


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("transform", [cr.grad, cr.jit, cr.hessian, lambda f: cr.jit(cr.grad(f)), cr.jacfwd])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_error_is_told(name, transform):
    with pytest.raises(cr.TraceError) as caught:
        transform(HIDDEN[name])(A)
    assert caught.value.where.startswith(__file__)
    assert "traced" in caught.value.what
    assert caught.value.repair


def caught_in_callback(a):
    def f(t):
        with contextlib.suppress(cr.TraceError):
            float(t * a)
        return 1.0

    return optimize.brentq(f, 0, 2)


def caught_by_try_in_callback(a):
    def f(t):
        try:
            return float(t * a)
        except cr.TraceError:
            return 1.0

    return optimize.brentq(f, 0, 2)


def caught_before(a):
    try:  # noqa: SIM105 - the plain form is tried too
        float(a)
    except cr.TraceError:
        pass
    return int("1x") * a


def caught_in_the_same_call(a):
    for convert in (float, lambda a: int("1x")):
        with contextlib.suppress(cr.TraceError):
            convert(a)


def caught_and_kept(a):
    kept = []
    for convert in (float, lambda a: int("1x")):
        try:
            convert(a)
        except cr.TraceError as error:
            kept.append(error)


def while_caught(a):
    try:
        return float(a)
    except cr.TraceError:
        return int("1x") * a


def raised_from(a):
    try:
        return float(a)
    except cr.TraceError as error:
        raise ValueError("mine") from error


def raised_while_caught(a):
    try:
        return float(a)
    except cr.TraceError:
        raise ValueError("mine") from None


def raised_after_a_dropped_one(a):
    def f(t):
        clears(t)
        if t > 1:
            raise ValueError("mine")
        return t * t - a

    return optimize.brentq(f, 0, 2)


def a_library_does_without(a):
    return does_without(a)


def after_an_operator_that_gave_up(a):
    with contextlib.suppress(TypeError):
        Gives() + np.sin(a)
    return int("1x") * a


MEANT = (
    after_an_operator_that_gave_up,
    caught_in_callback,
    caught_by_try_in_callback,
    caught_before,
    caught_in_the_same_call,
    caught_and_kept,
    while_caught,
    raised_from,
    raised_while_caught,
    raised_after_a_dropped_one,
    a_library_does_without,
)


@pytest.mark.parametrize("transform", [cr.grad, cr.jit, cr.hessian, lambda f: cr.jit(cr.grad(f)), cr.jacfwd])
@pytest.mark.parametrize("f", MEANT, ids=lambda f: f.__name__)
def test_own_errors_are_left_alone(f, transform):
    with pytest.raises(ValueError) as caught:
        transform(f)(A)
    assert type(caught.value) is ValueError


def test_error_that_a_solver_hides_comes_with_what_it_said():
    with pytest.raises(cr.TraceError) as caught:
        cr.grad(HIDDEN["a solver that complains of numbers"])(A)
    assert "different signs" in str(caught.value.__cause__)


def test_what_was_dropped_in_one_trace_is_forgotten_in_the_next():
    with pytest.raises(cr.TraceError):
        cr.grad(HIDDEN["a solver that complains of numbers"])(A)
    for f in (lambda a: optimize.brentq(lambda t: 1.0, 0, 2), lambda a: int("1x") * a):
        with pytest.raises(ValueError) as caught:
            cr.grad(f)(A)
        assert type(caught.value) is ValueError
