"""Reductions, quantiles and running reductions, by the laws over cases; and their kinks."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.testing.cases import LAWS, case, draw

X = draw(2, 3)
Y = draw(3, seed=1, low=0.2, high=2.0)
W = draw(2, 3, low=0.2, high=2.0, seed=2)
T = draw(2, 3, 2, seed=4)
Z = draw(2, 3) + 1j * draw(2, 3, seed=3)
MASK = np.array([[True, False, True], [True, True, False]])
HOLES = np.where(np.array([[False, True, False], [False, False, True]]), np.nan, 1.0)
ONE_ZERO = np.array([[2.0, 0.0, 3.0], [1.0, -1.5, 0.5]])
ZEROS = np.array([[2.0, 0.0, 0.0], [0.0, -1.5, 0.5]])
METHODS = [
    "linear",
    "lower",
    "higher",
    "midpoint",
    "nearest",
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "median_unbiased",
    "normal_unbiased",
]
AXES = {"all": None, "first": 0, "last": -1, "both": (0, 1)}


def over_axes(f, *args, **options):
    name = f.__name__
    return [
        *(
            case(f"{name} over {label}", lambda x, f=f, axis=axis: f(x, axis=axis), *args, **options)
            for label, axis in AXES.items()
        ),
        case(f"{name} keepdims", lambda x, f=f: f(x, axis=1, keepdims=True) + f(x, keepdims=True), *args, **options),
    ]


CASES = [
    *(
        c
        for f in (np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.ptp, np.median)
        for c in over_axes(f, X)
    ),
    *(
        c
        for f in (np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nanmin, np.nanmedian)
        for c in over_axes(f, X)
    ),
    *(
        case(f"{f.__name__} with holes", lambda x, f=f: f(x * HOLES, axis=1), X)
        for f in (
            np.nansum,
            np.nanprod,
            np.nanmean,
            np.nanvar,
            np.nanstd,
            np.nanmax,
            np.nanmin,
            np.nanmedian,
            np.nancumsum,
            np.nancumprod,
        )
    ),
    case("sum of an empty axis", lambda x: np.sum(x[:, :0], axis=1) + x[:, 0], X),
    case("sum where", lambda x: np.sum(x, axis=0, where=MASK, initial=2.0), X),
    case("sum in another dtype", lambda x: np.sum(x, dtype=np.complex128), X),
    case("sum of booleans", lambda x: np.sum(x > 0) * x, X),
    case("sum of complex numbers", lambda z: np.sum(z, axis=0), Z),
    case("prod with a zero", lambda x: np.prod(x, axis=1), ONE_ZERO),
    case("prod with zeros", lambda x: np.prod(x), ZEROS),
    case("prod where", lambda x: np.prod(x, axis=1, where=MASK, initial=2.0), X),
    case("prod over outer axes", lambda t: np.prod(t, axis=(0, 2)), T),
    case("prod of complex numbers", lambda z: np.prod(z, axis=0), Z),
    case("mean where", lambda x: np.mean(x, axis=1, where=MASK), X),
    case("var where", lambda x: np.var(x, axis=1, where=MASK, ddof=1), X),
    case("var of complex numbers", lambda z: np.var(z, axis=1), Z),
    case("std corrected", lambda x: np.std(x, axis=1, ddof=1) + np.std(x, axis=1, correction=1), X),
    case("var with mean", lambda x: np.var(x, axis=1, mean=np.mean(x, axis=1, keepdims=True)), X),
    case("max with initial", lambda x: np.max(x, axis=1, initial=0.2), X),
    case("max where", lambda x: np.max(x, axis=1, initial=-5.0, where=MASK), X),
    case("methods", lambda x: x.sum(0) + x.prod(0) + x.mean(0) + x.var(0) + x.std(0) + x.max(0) + x.min(0), X),
    case("average", lambda x: np.average(x, axis=0), X),
    case("average weighted", lambda x, w: np.average(x, axis=1, weights=w), X, Y),
    case("average weighted alike", lambda x, w: np.average(x, weights=w, returned=True), X, W),
    case("median of an even number", lambda t: np.median(t, axis=(0, 1)), draw(2, 2, 3)),
    *(
        case(f"quantile {method}", lambda x, m=method: np.quantile(x, 0.37, axis=0, method=m), draw(7, 2))
        for method in METHODS
    ),
    case(
        "quantile in q",
        lambda x, q: np.quantile(x, q),
        draw(7),
        np.array([0.2, 0.55, 0.9]),
        others=(draw(7, seed=9), np.array([0.8, 0.3, 0.1])),
    ),
    case("quantile keepdims", lambda x: np.quantile(x, [0.25, 0.8], axis=1, keepdims=True), X),
    case("percentile", lambda x: np.percentile(x, [10, 50, 95], axis=0), draw(5, 2)),
    case("nanquantile", lambda x: np.nanquantile(x * HOLES, [0.3, 0.6], axis=1), X),
    case("nanpercentile", lambda x: np.nanpercentile(x * HOLES, 40, axis=1), X),
    *(
        case(f"{f.__name__} {axis}", lambda x, f=f, axis=axis: f(x, axis=axis), X)
        for f in (np.cumsum, np.cumprod, np.nancumsum, np.nancumprod)
        for axis in (None, 0, -1)
    ),
    case("cumprod with a zero", lambda x: np.cumprod(x, axis=1), ONE_ZERO),
    case("cumprod with zeros", lambda x: np.cumprod(x), ZEROS),
    case("cumprod of complex numbers", lambda z: z.cumprod(1), Z),
    case("cumulative_sum", lambda x: np.cumulative_sum(x, axis=1, include_initial=True), X),
    case("cumulative_prod", lambda x: np.cumulative_prod(x, axis=1), X),
    case("add.reduce", lambda x: np.add.reduce(x) * np.add.reduce(x, axis=None), X),
    case("multiply.reduce", lambda x: np.multiply.reduce(x, axis=1, keepdims=True), X),
    case("maximum.reduce", lambda x: np.maximum.reduce(x, axis=1) - np.minimum.reduce(x, axis=1), X),
    case("logaddexp.reduce", lambda x: np.logaddexp.reduce(x, axis=1) + np.logaddexp2.reduce(x, axis=1), X),
    case("subtract.reduce", lambda x: np.subtract.reduce(x, axis=1), X),
    case("hypot.reduce", lambda x: np.hypot.reduce(x, axis=0), X),
    case("logical reduces", lambda x: (np.logical_and.reduce(x > -1), np.logical_or.reduce(x > 1, axis=1)), X),
    case("add.accumulate", lambda x: np.add.accumulate(x, axis=1) + np.multiply.accumulate(x), X),
    case(
        "maximum.accumulate", lambda x: np.maximum.accumulate(x, axis=1) - np.minimum.accumulate(x, axis=1), draw(2, 6)
    ),
    case("divide.accumulate", lambda w: np.divide.accumulate(w, axis=1), W),
    case("add.reduceat", lambda x: np.add.reduceat(x, [0, 2, 1, 3]), draw(5)),
    case("multiply.reduceat", lambda x: np.multiply.reduceat(x, [0, 2], axis=1), X),
    case("truth", lambda x: (np.any(x > 1), np.all(x > -3, axis=0), (x > 0).any(1), (x > 0).all(keepdims=True)), X),
    case("counts", lambda x: (np.count_nonzero(x > 0), np.count_nonzero(x > 0, axis=1), np.sum(x > 0, axis=0)), X),
    case(
        "places",
        lambda x: (
            np.argmax(x),
            x.argmin(0),
            np.argmax(x, axis=1, keepdims=True),
            np.nanargmax(x, axis=1),
            np.nanargmin(x),
        ),
        X,
    ),
    case("argmax as an index", lambda x: x[np.argmax(x, axis=0), np.arange(3)] ** 2, X),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)


def gradient(f, x):
    return cr.grad(f)(np.array(x))


def test_ties_of_extremes_share_evenly():
    np.testing.assert_array_equal(gradient(np.max, [1.0, 3.0, 3.0]), [0, 0.5, 0.5])
    np.testing.assert_array_equal(gradient(np.min, [1.0, 1.0, 3.0]), [0.5, 0.5, 0])
    np.testing.assert_array_equal(cr.jvp(np.max, (np.array([2.0, 2.0]),), (np.array([1.0, 0.0]),))[1], 0.5)


def test_ties_in_order_keep_their_order():
    np.testing.assert_array_equal(cr.jacobian(np.sort)(np.array([2.0, 1.0, 1.0])), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(gradient(np.median, [1.0, 1.0, 1.0]), [0, 1, 0])


def test_spread_of_equal_elements_has_derivative_zero():
    np.testing.assert_array_equal(gradient(np.std, [2.0, 2.0, 2.0]), [0, 0, 0])
    np.testing.assert_array_equal(gradient(np.nanstd, [2.0, np.nan, 2.0]), [0, 0, 0])
    np.testing.assert_array_equal(cr.jvp(np.std, (np.ones(3),), (np.arange(3.0),))[1], 0)


def test_bounds_of_clip_share_evenly():
    np.testing.assert_array_equal(
        cr.grad(lambda x: np.sum(np.clip(x, 0.0, 1.0)))(np.array([0.0, 0.5, 1.0])), [0.5, 1, 0.5]
    )


@pytest.mark.parametrize("zeros", [(0,), (0, 2), (0, 1, 2)])
def test_products_with_zeros_are_right_at_every_order(zeros):
    x = np.array([2.0, 3.0, 5.0, 7.0])
    x[list(zeros)] = 0.0
    others = lambda *skip: np.prod(np.delete(x, skip)) if len(set(skip)) == len(skip) else 0.0
    n = range(4)
    np.testing.assert_array_equal(cr.grad(np.prod)(x), [others(i) for i in n])
    np.testing.assert_array_equal(cr.hessian(np.prod)(x), [[others(i, j) for j in n] for i in n])
    third = cr.jacobian(cr.hessian(np.prod))(x)
    np.testing.assert_array_equal(third, [[[others(i, j, k) for k in n] for j in n] for i in n])
    np.testing.assert_array_equal(cr.hessian(lambda x: np.cumprod(x)[-1])(x), cr.hessian(np.prod)(x))


def test_dtypes_are_numpys():
    f = lambda x: (
        np.mean(x),
        np.var(x),
        np.std(x),
        np.sum(x),
        np.prod(x),
        np.cumsum(x),
        np.median(x),
        np.quantile(x, 0.3),
        np.nanvar(x),
    )
    for dtype in (np.float16, np.float32, np.float64):
        x = np.array([1.0, 2.0, 4.0], dtype)
        found, _ = cr.jvp(f, (x,), (np.ones(3, dtype),))
        for a, b in zip(found, f(x), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-3)


@pytest.mark.parametrize(
    "f", [np.sum, np.prod, np.max, np.mean, np.var, np.median, np.cumsum, np.sort, np.argmax, np.flip]
)
def test_axes_that_do_not_exist_raise_as_numpy_does(f):
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds for array of dimension 1"):
        cr.jvp(lambda x: f(x, axis=2), (np.ones(3),), (np.ones(3),))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "rows", [[[1, np.inf, 2], [3, 4, np.inf]], [[np.nan, -np.inf, 1, 2], [1, np.nan, np.nan, 9]], [[], []]]
)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_median_of_lines_with_infinities_and_of_empty_lines(dtype, rows, keepdims):
    x = np.array(rows, dtype)
    for f in (np.median, np.nanmedian):
        for axis in (None, 1):
            expected = f(x, axis, keepdims=keepdims)
            found = cr.jit(lambda x: f(x, axis, keepdims=keepdims), backend="numpy")(x)
            np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("indices", [[0, 3], [-1], [7]])
def test_reduceat_refuses_places_outside(indices):
    with pytest.raises(IndexError, match=r"out-of-bounds in add\.reduceat"):
        cr.grad(lambda x: np.sum(np.add.reduceat(x, indices)))(np.ones(3))


@pytest.mark.parametrize("f", [np.sum, np.prod, np.max, np.min, np.any, np.all])
@pytest.mark.parametrize("axis", [0, -1])
def test_reductions_of_rank_0_take_an_axis_for_none(f, axis):
    assert cr.jit(lambda x: f(x, axis=axis))(2.5) == f(2.5, axis=axis)
    with pytest.raises(np.exceptions.AxisError):
        cr.jit(lambda x: f(x, axis=1))(2.5)
