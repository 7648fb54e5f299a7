"""Distances of scipy.spatial between all pairs of points."""

import numpy as np
import pytest
from scipy.spatial import distance

import chainrule as cr

X, Y = np.sin(np.arange(12.0)).reshape(4, 3), np.cos(np.arange(6.0)).reshape(2, 3)
METRICS = {"euclidean": {}, "sqeuclidean": {}, "cityblock": {}, "chebyshev": {}, "minkowski": {"p": 3}, "cosine": {}}


@pytest.mark.parametrize(("metric", "options"), METRICS.items(), ids=METRICS)
def test_values_and_derivatives_are_right(metric, options):
    for f, x in (
        (lambda x: distance.cdist(x, Y, metric, **options), X),
        (lambda y: distance.cdist(X, y, metric, **options), Y),
        (lambda x: distance.pdist(x, metric, **options), X),
    ):
        np.testing.assert_allclose(cr.jvp(f, (x,), (x,))[0], f(x), rtol=1e-13)
        cr.check_grads(f, (x,), order=1)


def test_points_that_coincide_have_the_derivative_zero():
    d = lambda x: np.sum(distance.cdist(x, x))
    assert np.isfinite(cr.grad(d)(X)).all()
    np.testing.assert_allclose(cr.grad(d)(X), 2 * cr.grad(lambda x: np.sum(distance.pdist(x)))(X))
    np.testing.assert_array_equal(cr.grad(d)(np.ones((2, 3))), np.zeros((2, 3)))


def test_what_is_not_covered_says_what_is():
    with pytest.raises(cr.MissingRule, match="cityblock"):
        cr.grad(lambda x: np.sum(distance.cdist(x, Y, "canberra")))(X)
    with pytest.raises(ValueError, match="columns"):
        cr.grad(lambda x: np.sum(distance.cdist(x, Y[:, :2])))(X)
