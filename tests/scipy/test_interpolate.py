"""Splines of scipy.interpolate at traced places, against SciPy's own values and derivatives."""

import numpy as np
import pytest
from scipy import interpolate as ip

import chainrule as cr

K = np.arange(6.0) ** 1.2
P = np.random.default_rng(0).normal(size=(6, 2))
X = np.array([-0.4, 0.0, 0.3, 2.2, K[-1], 9.0])
SPLINES = {
    "CubicSpline": ip.CubicSpline(K, P),
    "CubicSpline of rows": ip.CubicSpline(K, P.T, axis=1),
    "CubicSpline, periodic": ip.CubicSpline(K, np.concatenate([P[:-1], P[:1]]), bc_type="periodic"),
    "CubicSpline, not beyond": ip.CubicSpline(K, P, extrapolate=False),
    "PchipInterpolator": ip.PchipInterpolator(K, P),
    "Akima1DInterpolator": ip.Akima1DInterpolator(K, P),
    "BPoly": ip.BPoly.from_derivatives([0, 1, 3.0], [[1.0, 2], [3, 4], [0, 1]]),
    "PPoly": ip.PPoly(P[:, :, None], [0.0, 1.0, 3.0]),
    "BSpline": ip.make_interp_spline(K, P),
    "BSpline of rows": ip.make_interp_spline(K, P.T, axis=1),
    "BSpline, linear": ip.make_interp_spline(K, P[:, 0], k=1),
    "BSpline of degree 5": ip.make_interp_spline(K, P, k=5),
    "BSpline, smoothing": ip.make_smoothing_spline(K, P[:, 0]),
    "BSpline, not beyond": ip.BSpline(K, P[:4, 0], 1, extrapolate=False),
}


@pytest.mark.parametrize("nu", [0, 1])
@pytest.mark.parametrize("name", SPLINES)
def test_values_and_derivatives_are_scipys(name, nu):
    spline = SPLINES[name]
    value, slope = cr.jvp(lambda x: spline(x, nu), (X,), (np.ones_like(X),))
    expected = spline(X, nu + 1)
    np.testing.assert_allclose(value, spline(X, nu), rtol=1e-9, atol=1e-9)
    known = ~np.isnan(expected)
    np.testing.assert_allclose(slope[known], expected[known], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in SPLINES if "beyond" not in n and "Akima" not in n])
def test_they_are_staged_batched_and_reversed(name):
    spline = SPLINES[name]
    f = lambda x: np.sum(spline(x) ** 2)
    g, staged = cr.grad(f), cr.jit(cr.grad(f))
    direction = np.cos(np.arange(6.0))
    assert g(X) @ direction == pytest.approx(cr.jvp(f, (X,), (direction,))[1], rel=1e-10)
    for x in (X, X[::-1].copy()):
        np.testing.assert_allclose(staged(x), g(x), rtol=1e-10, atol=1e-10)
    xs = np.stack([X, X + 0.1])
    np.testing.assert_allclose(
        cr.vmap(spline)(xs), spline(xs[:, :]) if spline.axis == 0 else np.stack([spline(x) for x in xs])
    )


def test_a_spline_of_a_number_has_every_derivative():
    spline = SPLINES["CubicSpline"]
    f = lambda x: spline(x)[0]
    assert cr.grad(cr.grad(cr.grad(f)))(1.3) == pytest.approx(spline(1.3, 3)[0])
    assert cr.grad(cr.grad(cr.grad(cr.grad(f))))(1.3) == 0


def test_decreasing_breakpoints_are_refused():
    spline = ip.PPoly(np.ones((2, 2)), [2.0, 1.0, 0.0])
    with pytest.raises(cr.MissingRule, match="decreasing") as caught:
        cr.grad(lambda x: spline(x))(0.5)
    assert caught.value.where.startswith(__file__)


def test_scipys_classes_are_as_they_were_after_a_trace():
    before = ip.BSpline.__call__, ip.PPoly.__call__
    cr.grad(lambda x: SPLINES["BSpline, linear"](x))(1.3)
    assert (ip.BSpline.__call__, ip.PPoly.__call__) == before
    assert type(SPLINES["CubicSpline"](1.3)) is np.ndarray
