"""Python's `math` on traced numbers: values and derivatives, plain results, errors, and who does not notice."""

import math
import threading
from fractions import Fraction
from math import sin

import numpy as np
import pytest

import chainrule as cr

PLAIN_MATH = dict(vars(math))

SMOOTH = {
    "acos": (math.acos, 0.3),
    "acosh": (math.acosh, 1.7),
    "asin": (math.asin, 0.3),
    "asinh": (math.asinh, 0.3),
    "atan": (math.atan, 0.3),
    "atan2": (math.atan2, 0.3, -0.8),
    "atanh": (math.atanh, 0.3),
    "cbrt": (math.cbrt, 0.7),
    "copysign": (math.copysign, 0.7, -2.0),
    "cos": (math.cos, 0.3),
    "cosh": (math.cosh, 0.3),
    "degrees": (math.degrees, 0.3),
    "dist": (lambda *v: math.dist(v[:2], v[2:]), 0.1, 0.2, 0.5, -0.4),
    "dist of arrays": (lambda x: math.dist(np.array([x, 1.0]), np.array([2.0, x * x])), 0.3),
    "erf": (math.erf, 0.3),
    "erfc": (math.erfc, 0.3),
    "exp": (math.exp, 0.3),
    "exp2": (math.exp2, 0.3),
    "expm1": (math.expm1, 0.3),
    "fabs": (math.fabs, -0.3),
    "fmod": (math.fmod, 7.3, 2.0),
    "frexp": (lambda x: math.frexp(x)[0], 7.3),
    "fsum": (lambda *v: math.fsum(v), 0.1, 0.2, 0.3),
    "fsum of a generator": (lambda *v: math.fsum(x * x for x in v), 0.1, 0.2, 0.3),
    "gamma": (math.gamma, 1.3),
    "hypot": (math.hypot, 0.3, -0.4, 1.2),
    "hypot of one": (math.hypot, -0.3),
    "ldexp": (lambda x: math.ldexp(x, 3), 0.3),
    "lgamma": (math.lgamma, 1.3),
    "log": (math.log, 0.3),
    "log with base": (math.log, 0.3, 2.5),
    "log10": (math.log10, 0.3),
    "log1p": (math.log1p, 0.3),
    "log2": (math.log2, 0.3),
    "modf": (lambda x: math.modf(x)[0] * math.modf(x)[1], -2.3),
    "pow": (math.pow, 0.3, 1.7),
    "pow of integers": (lambda x: math.pow(x, 3) + math.pow(2, x), 0.3),
    "prod": (lambda *v: math.prod(v), 0.1, 0.2, 0.3),
    "prod of a generator": (lambda *v: math.prod((x + 1 for x in v), start=v[0]), 0.1, 0.2),
    "radians": (math.radians, 30.0),
    "remainder": (math.remainder, 7.3, 2.0),
    "sin": (math.sin, 0.3),
    "sinh": (math.sinh, 0.3),
    "sqrt": (math.sqrt, 0.3),
    "tan": (math.tan, 0.3),
    "tanh": (math.tanh, 0.3),
}


def by_module(name, f):
    """The function, found in its module when it is called."""
    return f if hasattr(f, "__code__") else lambda *v: getattr(math, name.split()[0])(*v)


CALL = {name: by_module(name, f) for name, (f, *_) in SMOOTH.items()}


@pytest.mark.parametrize("name", SMOOTH)
def test_values_and_derivatives(name):
    f, args = CALL[name], SMOOTH[name][1:]
    value, _ = cr.value_and_grad(f, tuple(range(len(args))))(*args)
    assert float(value) == pytest.approx(f(*args), rel=1e-14)
    cr.check_grads(f, args)


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"frexp"}))
def test_batches(name):
    f, args = CALL[name], SMOOTH[name][1:]
    stacks = [np.array([a, a * 1.01]) for a in args]
    expected = [f(*(float(s[i]) for s in stacks)) for i in range(2)]
    assert cr.vmap(f)(*stacks) == pytest.approx(expected, rel=1e-14)


def test_plain_results():
    seen = {}

    def f(x):
        seen.update(
            floor=math.floor(x),
            ceil=math.ceil(x),
            trunc=math.trunc(x),
            isnan=math.isnan(x),
            isinf=math.isinf(x),
            isfinite=math.isfinite(x),
            isclose=math.isclose(x, 2.5 + 1e-12, rel_tol=1e-9),
            exponent=math.frexp(x)[1],
            ulp=math.ulp(x),
        )
        return x * math.floor(x)

    assert cr.grad(f)(2.5) == 2
    assert seen == {
        "floor": 2,
        "ceil": 3,
        "trunc": 2,
        "isnan": False,
        "isinf": False,
        "isfinite": True,
        "isclose": True,
        "exponent": 2,
        "ulp": math.ulp(2.5),
    }
    assert {type(seen[name]) for name in ("floor", "ceil", "trunc", "exponent")} == {int}
    assert {type(seen[name]) for name in ("isnan", "isinf", "isfinite", "isclose")} == {bool}


def test_every_function_of_math_is_followed_or_takes_integers():
    from chainrule.trace.intercept import _ours

    integers = {"comb", "factorial", "gcd", "isqrt", "lcm", "perm"}
    functions = {name for name, f in PLAIN_MATH.items() if callable(f) and not name.startswith("_")}
    assert {name for of, name in _ours if of == "math"} == functions - integers


@pytest.mark.parametrize(
    ("f", "x", "error"),
    [
        (lambda x: math.sqrt(x), -1.0, ValueError),
        (lambda x: math.log(x), 0.0, ValueError),
        (lambda x: math.log(x), -1.0, ValueError),
        (lambda x: math.exp(x), 1e3, OverflowError),
        (lambda x: math.gamma(x), 0.0, ValueError),
        (lambda x: math.pow(x, 0.5), -1.0, ValueError),
        (lambda x: math.acos(x), 2.0, ValueError),
    ],
)
def test_errors_are_those_of_math(f, x, error):
    with pytest.raises(error) as plain:
        f(x)
    with pytest.raises(error) as traced:
        cr.grad(f)(x)
    assert str(traced.value) == str(plain.value)
    assert type(traced.value) is type(plain.value)


def test_infinities_and_nan_pass():
    assert cr.value_and_grad(lambda x: math.exp(x))(np.inf)[0] == np.inf
    assert np.isnan(cr.value_and_grad(lambda x: math.sin(x))(np.nan)[0])


def test_arrays_and_complex_numbers_are_refused():
    with pytest.raises(cr.TraceError, match=r"math.sin of an array of shape \(2,\)"):
        cr.jacobian(lambda x: math.sin(x))(np.ones(2))
    with pytest.raises(cr.TraceError, match="complex"):
        cr.jacobian(lambda x: math.sin(x), holomorphic=True)(1j)


def test_a_function_imported_by_name_raises_with_the_repair():
    with pytest.raises(cr.TraceError, match=r"np\.sin instead of math\.sin") as caught:
        cr.grad(lambda x: sin(x))(0.3)
    assert "test_maths.py" in str(caught.value)


def test_plain_numbers_pass_through():
    def f(x):
        assert math.sin(0.3) == PLAIN_MATH["sin"](0.3)
        assert math.fsum([0.1] * 10) == 1.0
        assert math.prod([2, 3]) == 6
        assert type(math.prod([2, 3])) is int
        assert math.floor(Fraction(7, 2)) == 3
        assert math.dist((0, 0), (3, 4)) == 5
        assert math.comb(5, 2) == 10
        return x

    cr.grad(f)(1.0)


def restored():
    return all(getattr(math, name) is f for name, f in PLAIN_MATH.items()) and np.array.__module__ == "numpy"


def test_originals_are_back_after_a_trace():
    assert restored()
    cr.grad(lambda x: cr.grad(lambda y: math.sin(y) * math.cos(x))(x) + math.exp(x))(0.3)
    assert restored()

    def fails(x):
        assert not restored()
        raise KeyError("inside")

    for transform, x in ((cr.grad, 1.0), (cr.vmap, np.ones(1)), (cr.program, 1.0), (cr.jacfwd, 1.0)):
        with pytest.raises(KeyError):
            transform(fails)(x)
        assert restored()


def test_nested_traces_are_followed():
    f = lambda x: cr.grad(lambda y: math.sin(x * y))(1.0)
    assert cr.grad(f)(0.3) == pytest.approx(math.cos(0.3) - 0.3 * math.sin(0.3))


def test_interception_can_be_switched_off():
    cr.interception(False)
    try:
        for f in (lambda x: math.sin(x), lambda x: np.sum(np.array([x, x], dtype=float))):
            with pytest.raises((cr.TraceError, ValueError)):
                cr.grad(f)(0.3)
        assert cr.grad(lambda x: np.sin(x))(0.0) == 1
    finally:
        cr.interception(True)
    assert cr.grad(lambda x: math.sin(x))(0.0) == 1
    with pytest.raises(RuntimeError, match="while a function is being traced"):
        cr.grad(lambda x: cr.interception(False))(1.0)


def test_other_threads_see_plain_functions():
    stop = threading.Event()
    wrong = []
    calls = [0]

    def other():
        while not stop.is_set():
            calls[0] += 1
            x = math.sin(0.3)
            a = np.array([x, 1.0])
            if type(x) is not float or a.dtype != float or type(a) is not np.ndarray or math.fsum([x]) != x:
                wrong.append(calls[0])

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    f = lambda x: math.sin(x) * np.sum(np.array([x, x * x]))
    for _ in range(300):
        cr.grad(f)(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert calls[0] > 100
    assert restored()


def test_threads_that_trace_at_the_same_time():
    expected = cr.grad(lambda x: math.sin(x) * math.exp(x))(0.3)
    failed = []

    def work():
        found = {cr.grad(lambda x: math.sin(x) * math.exp(x))(0.3) for _ in range(200)}
        failed.extend(found - {expected})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert restored()
