"""The reverse sweep: its short ways through operations against their partials, and arguments that the function changes."""

import operator

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import has_nan, ops
from chainrule.linear.strong import strong_products


def samples_of(primitives):
    return [
        pytest.param(p, args, params, id=f"{p.name}-{i}")
        for p in primitives
        for i, (args, params) in enumerate(p.samples())
    ]


def random_like(x):
    rng = np.random.default_rng(5)
    t = rng.uniform(-2, 2, x.shape)
    return (t + 1j * rng.uniform(-2, 2, x.shape) if x.dtype.kind == "c" else t).astype(x.dtype)[()]


@pytest.mark.parametrize("product", [operator.mul, ops.strong_multiply], ids=["plain", "strong"])
@pytest.mark.parametrize(("primitive", "args", "params"), samples_of(p for p in ops if p.pulls))
def test_sweeps_pull_by_the_adjoints_of_the_partials(primitive, args, params, product):
    args = [np.asarray(x)[()] for x in args]
    out = primitive.value(*args, **params)
    ct = random_like(out)
    for k, x in enumerate(args):
        if x.dtype.kind in "fc" and not primitive.missing(k):
            found = primitive.pulls[k](args, out, params, ct, product)
            m = primitive.partial(k, args, out, params)
            if m is None:
                assert found is None
            else:
                expected = m.adjoint(ct)
                assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("primitive", "args", "params"), samples_of(p for p in ops if p.accumulate is not None))
def test_parts_add_into_a_buffer(primitive, args, params):
    out = primitive.value(*args, **params)
    ct = random_like(out)
    expected = primitive.partial(0, args, out, params).adjoint(ct)
    fresh = primitive.accumulate(None, ct, *args, **params)
    np.testing.assert_array_equal(fresh, expected)
    assert fresh.flags.owndata
    buffer = -np.arange(1.0, 1 + expected.size).reshape(expected.shape)
    total = primitive.accumulate(buffer, ct, *args, **params)
    assert total is buffer
    np.testing.assert_allclose(buffer, expected - np.arange(1.0, 1 + expected.size).reshape(expected.shape), rtol=1e-14)


def test_both_ways_of_accumulating_are_tested():
    assert {p.name for p in ops if p.accumulate is not None} == {"slice", "gather"}


def test_traced_indices_are_no_place_in_a_plain_buffer():
    seen = []

    def f(i):
        seen.append(ops.gather.accumulate(None, np.ones(3), np.zeros(4), i, key=(slice(None),)))
        return ops.add(i, 1)

    cr.program(f)(np.array([0, 1, 2]))
    assert seen == [None]


X = np.array([1.0, -2.0, 3.0])


def double(x):
    x *= 2
    return np.sum(x * x)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (cr.grad(double), 8 * X),
        (cr.jacobian(double, mode="reverse"), 8 * X),
        (cr.jacobian(double, mode="forward"), 8 * X),
        (cr.jit(cr.grad(double)), 8 * X),
        (cr.grad(cr.jit(double)), 8 * X),
        (cr.jit(double), np.float64(56.0)),
        (cr.hessian(double), 8 * np.eye(3)),
        (lambda x: cr.vjp(double, x)[1](1.0)[0], 8 * X),
        (lambda x: cr.linearize(double, x)[1](np.ones(3)), np.float64(16.0)),
        (lambda x: cr.program(double)(x)(x)[0], np.float64(56.0)),
    ],
)
def test_an_argument_changed_in_place_is_differentiated_as_it_came_in(gradient, expected):
    x = X.copy()
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-14)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("number", [2, 2.0, True, 2j, np.float32(2), np.complex64(2j), np.int64(2), np.True_])
@pytest.mark.parametrize("x", [np.float64(1.5), np.float32(1.5), np.complex64(1.5j), np.array([1.5, 2.5], np.float32)])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "eq", "pow"])
def test_operators_give_the_types_of_numpy(name, x, number):
    """Of traced numbers and arrays with numbers on either side, recorded eagerly and as programs."""
    operate = getattr(operator, name)
    for f in (lambda t: operate(t, number), lambda t: operate(number, t)):
        expected = f(x)
        seen = []

        def watch(t, f=f, seen=seen):
            seen.append(cr.value(f(t)))
            return np.real(np.sum(t))

        cr.grad(watch)(x)
        (found,) = seen
        assert (type(found), found.dtype) == (type(np.asarray(expected)[()]), np.asarray(expected).dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_square_of_an_integer_is_an_integer_only_by_an_integer():
    n = np.array([1, 2, 3])
    assert cr.program(lambda i: i**2)(n)(n)[0].dtype == (n**2).dtype
    assert cr.program(lambda i: i**2.0)(n)(n)[0].dtype == (n**2.0).dtype


def test_a_sweep_within_strong_products_keeps_zeros():
    def f(x):
        return np.sum(np.where(x > 0, np.sqrt(x), 0.0))

    x = np.array([0.0, 4.0])
    np.testing.assert_array_equal(cr.grad(f)(x), [0.0, 0.25])
    with strong_products():
        np.testing.assert_array_equal(cr.grad(f)(x), [0.0, 0.25])


@pytest.mark.parametrize("n", [8, 100, 5000])
@pytest.mark.parametrize("shape", [lambda n: (n,), lambda n: (n // 4, 4)], ids=["vector", "matrix"])
@pytest.mark.parametrize("at", [0, -1])
def test_a_nan_is_found_wherever_it_is_and_infinities_are_none(n, shape, at):
    x = np.linspace(-1.0, 1.0, n)
    x[1], x[2] = np.inf, -np.inf
    assert not has_nan(x.reshape(shape(n)))
    x[at] = np.nan
    assert has_nan(x.reshape(shape(n)))
    assert has_nan(x.reshape(shape(n)).T)


@pytest.mark.parametrize("n", [10, 5000])
def test_zero_cotangents_stay_zero_in_arrays_of_any_size(n):
    x = np.linspace(0.0, 1.0, n)
    x[n // 2] = 0.0
    found = cr.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found, np.where(x > 0, 0.5 / np.sqrt(x), 0.0))
