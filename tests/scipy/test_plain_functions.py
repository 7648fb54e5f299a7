"""SciPy's own functions where they are plain array code: unmodified, and right; and what cannot be followed says so.

All of it holds with SCIPY_ARRAY_API unset and set, where SciPy dispatches on the namespace of its arguments.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.differentiate
import scipy.fft
from scipy import cluster, constants, integrate, interpolate, linalg, optimize, signal, spatial, special, stats
from scipy.spatial import distance
from scipy.special import log_softmax, logsumexp, softmax

import chainrule as cr

X = np.array([0.3, -0.7, 1.2, 0.5])
P = np.array([0.4, 0.7, 1.3, 0.6])
Y = np.sin(np.arange(9.0)) + 1.5
M = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.0]])


def total(f):
    """The sum of squares of what a function returns."""
    return lambda x: np.sum(f(x) ** 2)


RIGHT = {
    "constants.convert_temperature": (lambda t: constants.convert_temperature(t, "C", "K") ** 2, 20.0),
    "comb": (lambda t: special.comb(5.0, t), 2.3),
    "derivative": (lambda a: scipy.differentiate.derivative(lambda t: np.sin(a * t), 0.5).df, 0.7),
    "distance.braycurtis": (lambda x: distance.braycurtis(x, P), X),
    "distance.chebyshev": (lambda x: distance.chebyshev(x, P), X),
    "distance.cityblock": (lambda x: distance.cityblock(x, P), X),
    "distance.correlation": (lambda x: distance.correlation(x, P), X),
    "distance.cosine": (lambda x: distance.cosine(x, P), X),
    "distance.euclidean": (lambda x: distance.euclidean(x, P), X),
    "distance.jensenshannon": (lambda x: distance.jensenshannon(x, P[::-1]), P),
    "distance.mahalanobis": (lambda x: distance.mahalanobis(x[:3], P[:3], M), X),
    "distance.minkowski": (lambda x: distance.minkowski(x, P, 3), X),
    "distance.sqeuclidean": (lambda x: distance.sqeuclidean(x, P), X),
    "fft.fft": (lambda x: np.sum(np.abs(scipy.fft.fft(x)) ** 2), X),
    "fft.irfftn": (total(lambda x: scipy.fft.irfftn(x * 1j + 1, s=(6,))), X),
    "fft.rfft2": (lambda x: np.sum(np.abs(scipy.fft.rfft2(x.reshape(2, 2))) ** 3), X),
    "fixed_point": (lambda a: optimize.fixed_point(lambda t: np.cos(a * t), 0.5), 0.7),
    "fixed_quad": (lambda a: integrate.fixed_quad(lambda t: np.sin(a * t), 0, 1, n=5)[0], 0.7),
    "gausspulse": (lambda t: np.sum(signal.gausspulse(1e-3 * t)), X),
    "geometric_slerp": (lambda t: spatial.geometric_slerp([1.0, 0.0], [0.0, 1.0], t)[0], 0.3),
    "integrate.cumulative_trapezoid": (total(integrate.cumulative_trapezoid), Y),
    "integrate.romb": (lambda y: integrate.romb(y, dx=0.5) ** 2, Y),
    "integrate.simpson": (lambda y: integrate.simpson(y, dx=0.5) ** 2, P),
    "integrate.trapezoid": (lambda x: integrate.trapezoid(P, np.cumsum(x**2)), X),
    "interpolate.krogh": (lambda t: interpolate.krogh_interpolate(np.arange(4.0), P, t), 1.3),
    "interpolate.lagrange": (lambda t: interpolate.lagrange(np.arange(4.0), P)(t), 1.3),
    "jvp": (lambda t: special.jvp(1, t), 2.3),
    "linalg.solve": (lambda x: np.sum(linalg.solve(M + np.diag(x), P[:3])), X[:3] ** 2),
    "log_softmax": (total(log_softmax), X),
    "logsumexp": (logsumexp, X),
    "logsumexp of lists": (lambda t: special.logsumexp(np.array([t, 2 * t])), 0.4),
    "logsumexp with weights": (lambda x: np.sum(logsumexp(x.reshape(2, 2), axis=1, b=np.array([1.0, 2.0]))), X),
    "newton": (lambda a: optimize.newton(lambda t: t * t - a, 1.0, fprime=lambda t: 2 * t), 0.7),
    "newton's secants": (lambda a: optimize.newton(lambda t: t * t - a, 1.0), 0.7),
    "optimize.rosen": (optimize.rosen, X),
    "optimize.rosen_hess": (total(optimize.rosen_hess), X),
    "root_scalar": (lambda a: optimize.root_scalar(lambda t: t * t - a, x0=1.0, fprime=lambda t: 2 * t).root, 0.7),
    "signal.convolve": (total(lambda x: signal.convolve(x, P)), X),
    "signal.correlate": (total(lambda x: signal.correlate(x, P)), X),
    "signal.fftconvolve": (total(lambda x: signal.fftconvolve(x, P)), X),
    "signal.lfilter": (total(lambda x: signal.lfilter([1.0, 0.2], [1.0, 0.3], x)), X),
    "signal.resample": (total(lambda x: signal.resample(x, 5)), Y),
    "softmax": (total(softmax), X),
    "softplus": (total(special.softplus), X),
    "stats.boxcox_llf": (lambda lmbda: stats.boxcox_llf(lmbda, P), 0.3),
    "stats.entropy": (stats.entropy, P),
    "stats.gmean": (stats.gmean, P),
    "stats.hmean": (stats.hmean, P),
    "stats.kurtosis": (stats.kurtosis, P),
    "stats.moment": (lambda x: stats.moment(x, 3), P),
    "stats.multivariate_normal": (lambda m: stats.multivariate_normal.logpdf(X[:3], m, M), P[:3]),
    "stats.norm._logpdf": (lambda x: np.sum(stats.norm._logpdf(x)), X),
    "stats.Normal": (lambda x: np.sum(stats.Normal(mu=0.1, sigma=2.0).logpdf(x)), X),
    "stats.sem": (stats.sem, P),
    "stats.skew": (stats.skew, P),
    "stats.trim_mean": (lambda x: stats.trim_mean(x, 0.2), P),
    "stats.ttest_ind": (lambda x: stats.ttest_ind(x, P).statistic, X),
    "stats.variation": (stats.variation, P),
    "stats.zscore": (lambda x: stats.zscore(x)[0], X),
    "vq.whiten": (lambda x: np.sum(cluster.vq.whiten(x.reshape(2, 2))), X),
    "windows.gaussian": (lambda a: np.sum(signal.windows.gaussian(7, a)), 1.3),
    "xlogy of mixed arrays": (lambda x: np.sum(special.xlogy(P, x) * special.betaln(P, x)), P),
}

COMB = special.comb  # which branches on a mask; called by module it is followed

# Compiled code, or code that writes into arrays of its own.
REFUSED = {
    "brentq": (lambda a: optimize.brentq(lambda t: t * t - a, 0, 2), 0.7),
    "comb by name": (lambda x: np.sum(COMB(5.0, x)), P),
    "CubicSpline of values": (lambda a: interpolate.CubicSpline(np.arange(4.0), a * P)(1.3), 0.7),
    "detrend": (total(signal.detrend), Y),
    "curve_fit": (lambda a: optimize.curve_fit(lambda t, b: b * t, P, a * P)[0][0], 0.7),
    "gaussian_kde": (lambda x: np.sum(stats.gaussian_kde(P)(x)), X),
    "filtfilt": (total(lambda x: signal.filtfilt([1.0, 0.2], [1.0, 0.3], x)), Y),
    "quad": (lambda a: integrate.quad(lambda t: np.sin(a * t), 0, 1)[0], 0.7),
    "root": (lambda a: optimize.root(lambda t: t - a, [0.0]).x[0], 0.7),
}


def differences(f, x, h=1e-6):
    flat = np.ravel(x)
    at = lambda d: float(f((flat + d).reshape(np.shape(x))[()]))
    return np.array([(at(h * e) - at(-h * e)) / (2 * h) for e in np.eye(flat.size)]).reshape(np.shape(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RIGHT)
def test_derivative_is_right(name):
    f, x = RIGHT[name]
    assert np.allclose(cr.grad(f)(x), differences(f, x), rtol=1e-5, atol=1e-7)
    assert np.allclose(cr.jacfwd(f)(x), cr.grad(f)(x), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_says_where_and_what_instead(name, capfd):
    f, x = REFUSED[name]
    f(x)
    with pytest.raises((cr.TraceError, cr.MissingRule)) as caught:
        cr.grad(f)(x)
    assert caught.value.where.startswith(__file__)
    assert len(caught.value.repair) > 20


def test_optimisers_take_gradients():
    found = optimize.minimize(
        optimize.rosen, X, jac=cr.grad(optimize.rosen), hess=cr.hessian(optimize.rosen), method="Newton-CG", tol=1e-10
    )
    assert np.allclose(found.x, 1, atol=1e-6)
    fitted = optimize.least_squares(
        lambda p: P - p[0] * np.exp(p[1] * X), [1.0, 0.0], jac=cr.jacobian(lambda p: P - p[0] * np.exp(p[1] * X))
    )
    assert fitted.success


@pytest.mark.skipif(bool(os.environ.get("SCIPY_ARRAY_API")), reason="this is the inner run")
def test_the_same_with_the_array_api():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
