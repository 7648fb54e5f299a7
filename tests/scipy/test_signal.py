"""Filters of scipy.signal by the laws over cases: signals and coefficients are traced; what is not covered raises."""

import numpy as np
import pytest
import scipy.signal

import chainrule as cr
from chainrule.testing.cases import LAWS, case, draw

X, A, B = draw(2, 6), np.array([1.5, -0.5, 0.2]), np.array([0.7, 0.3, -0.2, 0.1])
SECTIONS = scipy.signal.butter(3, 0.3, output="sos")

CASES = [
    case("lfilter", lambda x: scipy.signal.lfilter(B, A, x), X),
    case("lfilter along the first axis", lambda x: scipy.signal.lfilter(B, A, x, axis=0), X),
    case("lfilter, moving average", lambda x: scipy.signal.lfilter(B, [2.0], x), X),
    case("lfilter, more delays than samples", lambda x: scipy.signal.lfilter(B, A, x), X[0, :2]),
    case("lfilter by all", lambda b, a, x: scipy.signal.lfilter(b, a, x), B, A, X, others=(B[::-1], A + 0.1, X[::-1])),
    case("lfilter of a complex signal", lambda x: scipy.signal.lfilter(B, A, x), X * (1 + 0.5j)),
    case("sosfilt", lambda x: scipy.signal.sosfilt(SECTIONS, x), X),
    case(
        "sosfilt by sections",
        lambda s: scipy.signal.sosfilt(np.concatenate([s, SECTIONS[:, 3:]], axis=1), X),
        SECTIONS[:, :3],
    ),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("c", CASES, ids=str)
def test_law(law, c):
    law(c)


def test_autoregressive_likelihood_is_fitted():
    rng = np.random.default_rng(0)
    y = scipy.signal.lfilter([1.0, 0.4], [1.0, -0.6], rng.normal(size=200))
    # The innovations of an ARMA process are what the inverse filter gives.
    loss = lambda p: np.mean(scipy.signal.lfilter(np.stack([1.0, -p[0]]), np.stack([1.0, p[1]]), y) ** 2)
    p = np.array([0.2, 0.1])
    h = 1e-6
    expected = [(loss(p + h * e) - loss(p - h * e)) / (2 * h) for e in np.eye(2)]
    assert cr.grad(loss)(p) == pytest.approx(expected, rel=1e-6)
    assert cr.jit(cr.grad(loss))(p) == pytest.approx(expected, rel=1e-6)


def test_states_are_refused():
    for f in (
        lambda x: np.sum(scipy.signal.lfilter(B, A, x, zi=np.zeros(3))[0]),
        lambda x: np.sum(scipy.signal.sosfilt(SECTIONS, x, zi=np.zeros((2, 2)))[0]),
    ):
        with pytest.raises(cr.MissingRule, match="zi") as caught:
            cr.grad(f)(X[0])
        assert caught.value.where.startswith(__file__)
