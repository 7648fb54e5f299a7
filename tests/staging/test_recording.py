"""While a program is recorded, operations are typed; values are computed where Python asks for them, and only those it needs."""

import tracemalloc

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops


@pytest.fixture
def counted(monkeypatch):
    """How often primitives are computed by NumPy on arrays, not on the samples from which dtypes are inferred."""
    calls = dict.fromkeys(("sin", "exp", "cos"), 0)

    def watch(name, compute):
        def value(*args, **params):
            calls[name] += args[0].size > 0 and np.ndim(args[0]) > 0
            return compute(*args, **params)

        monkeypatch.setattr(ops[name], "value", value)

    for name in calls:
        watch(name, ops[name].value)
    return calls


def test_nothing_is_computed_where_nobody_asks(counted):
    x = np.linspace(0.0, 1.0, 1000)
    value, gradient = cr.jit(cr.value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(x))))(x)
    assert counted == {"sin": 0, "exp": 0, "cos": 0}
    np.testing.assert_allclose(value, np.sum(np.sin(x) * np.exp(x)), rtol=1e-13)
    np.testing.assert_allclose(gradient, (np.sin(x) + np.cos(x)) * np.exp(x), rtol=1e-13)


def test_a_branch_computes_what_it_needs_once(counted):
    def f(x):
        s, e = np.sin(x), np.exp(x)
        total = np.sum(s)
        if total > 0 and total < 1e6:
            return np.sum(s * e)
        return np.sum(e)

    x = np.linspace(0.0, 1.0, 1000)
    np.testing.assert_allclose(cr.jit(f)(x), np.sum(np.sin(x) * np.exp(x)), rtol=1e-13)
    assert counted == {"sin": 1, "exp": 0, "cos": 0}


def test_a_chain_of_thousands_of_operations_can_be_asked_for():
    def f(x):
        for _ in range(3000):
            x = x + 1.0
        return x if x[0] > 0 else -x

    assert cr.jit(f, backend="numpy")(np.zeros(2)).tolist() == [3000.0, 3000.0]


def test_printing_shows_the_value(capsys):
    cr.jit(lambda x: (print(np.sum(x)), x)[1])(np.ones(3))
    assert capsys.readouterr().out == "3.0\n"


@pytest.mark.parametrize(
    "f", [lambda x: x + np.ones(4), lambda x: x @ np.ones(4), lambda x: np.reshape(x, (2, 2)), lambda x: x[5]]
)
def test_numpy_itself_says_what_does_not_fit(f):
    x = np.ones(3)
    with pytest.raises(Exception) as plain:  # which one is NumPy's affair
        f(x)
    with pytest.raises(plain.type):
        cr.jit(f)(x)


def test_the_first_call_takes_little_more_memory_than_later_ones():
    def f(x):
        for _ in range(8):
            x = np.sin(x) + np.exp(-x)
        return np.sum(x)

    x = np.linspace(0.0, 1.0, 1 << 20)
    cr.jit(cr.value_and_grad(f))(x[:8])  # what is imported and made once
    staged = cr.jit(cr.value_and_grad(f))
    tracemalloc.start()
    try:
        staged(x)
        first = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert first < 6 * x.nbytes
