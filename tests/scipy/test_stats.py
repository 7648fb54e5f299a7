"""The distributions of scipy.stats, differentiated through SciPy's own code."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

import chainrule as cr

T, K = np.array([0.3, 1.0, 2.5]), np.arange(4)
CASES = {
    "norm.logpdf": (lambda p: norm.logpdf(T, p[0], p[1]), [1.0, 2.0]),
    "norm.logpdf by keyword": (lambda p: norm.logpdf(T, loc=p[0], scale=np.exp(p[1])), [1.0, 0.2]),
    "frozen norm.pdf": (lambda p: norm(p[0], p[1]).pdf(T), [1.0, 2.0]),
    "norm.cdf of a number": (lambda p: norm.cdf(p[0] * p[1]), [0.5, 0.3]),
    "norm.sf": (lambda p: norm.sf(T * p[0], p[1]), [1.0, 2.0]),
    "norm.logcdf": (lambda p: norm.logcdf(p, 0.5), [1.0, -2.0]),
    "norm.logsf": (lambda p: norm.logsf(p), [1.0, 2.0]),
    "norm.ppf": (lambda p: norm.ppf(p, p[0]), [0.1, 0.7]),
    "norm.isf": (lambda p: norm.isf(p, scale=p[1]), [0.1, 0.7]),
    "gamma.logpdf": (lambda p: stats.gamma.logpdf(T, p[0], scale=p[1]), [1.5, 2.0]),
    "gamma.cdf": (lambda p: stats.gamma.cdf(p, 2.0), [1.0, 2.0]),
    "t.logpdf": (lambda p: stats.t.logpdf(T, p[0], scale=p[1]), [3.5, 2.0]),
    "beta.logpdf": (lambda p: stats.beta.logpdf(np.array([0.2, 0.5]), p[0], p[1]), [1.5, 2.0]),
    "expon.pdf, partly outside": (lambda p: stats.expon.pdf(np.array([-1.0, 0.5, 0.7]), scale=p[0]), [2.0]),
    "uniform.logpdf": (lambda p: stats.uniform.logpdf(np.array([0.5, 0.7]), p[0], p[1]), [0.1, 2.0]),
    "lognorm.logpdf": (lambda p: stats.lognorm.logpdf(T, p[0], scale=p[1]), [2.0, 1.0]),
    "lognorm.pdf, partly outside": (lambda p: stats.lognorm.pdf(T - 0.5, p[0], scale=p[1]), [2.0, 1.0]),
    "truncnorm.logpdf": (lambda p: stats.truncnorm.logpdf(0.3, p[0], p[1], p[2]), [-1.0, 2.0, 0.1]),
    "truncnorm.pdf, left": (lambda p: stats.truncnorm.pdf(-1.3, p[0], p[1]), [-2.0, -1.0]),
    "truncnorm.pdf, right": (lambda p: stats.truncnorm.pdf(9.3, p[0], p[1]), [9.0, 10.0]),
    "truncnorm.logpdf, open": (lambda p: stats.truncnorm.logpdf(T, p[0], np.inf), [0.1]),
    "beta.pdf": (lambda p: stats.beta.pdf(p[2], p[0], p[1]), [1.5, 2.0, 0.3]),
    "ncx2.logpdf": (lambda p: stats.ncx2.logpdf(p[0], 3.0, p[1]), [1.5, 2.0]),
    "f.ppf": (lambda p: stats.f.ppf(p, 3.0, 5.0), [0.3, 0.6]),
    "cauchy.logpdf": (lambda p: stats.cauchy.logpdf(T, p[0], p[1]), [2.0, 1.0]),
    "chi2.logpdf": (lambda p: stats.chi2.logpdf(T, p[0]), [2.5]),
    "weibull_min.logpdf": (lambda p: stats.weibull_min.logpdf(T, p[0], scale=p[1]), [2.0, 1.0]),
    "invgamma.logpdf": (lambda p: stats.invgamma.logpdf(T, p[0], scale=p[1]), [2.3, 1.0]),
    "poisson.logpmf": (lambda p: stats.poisson.logpmf(K, p[0]), [1.5]),
    "poisson.pmf": (lambda p: stats.poisson.pmf(K, p[0]), [1.5]),
    "binom.logpmf": (lambda p: stats.binom.logpmf(K, 5, p[0]), [0.3]),
    "nbinom.logpmf": (lambda p: stats.nbinom.logpmf(K, p[0], p[1]), [3.0, 0.3]),
    "norm.nnlf": (lambda p: norm.nnlf((p[0], p[1]), T), [2.3, 1.0]),
    "multivariate_normal.logpdf": (
        lambda p: stats.multivariate_normal.logpdf(T[:2], mean=p[:2], cov=np.diag(p[2:])),
        [0.1, 0.2, 1.0, 2.0],
    ),
    "zscore": (lambda p: stats.zscore(p) ** 3, [1.0, 2.0, 4.0, 3.0]),
    "skew": (stats.skew, [1.0, 2.0, 4.0, 3.0]),
    "entropy": (stats.entropy, [1.0, 2.0, 4.0]),
    "linregress": (lambda p: stats.linregress(K, p).slope, [1.0, 2.0, 4.0, 3.0]),
}


def differences(f, x):
    h = 1e-6
    return np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(x.size)], axis=-1)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_derivatives_by_parameters_and_arguments(f, x):
    x = np.array(x)
    expected = differences(f, x)
    for transform in (cr.jacfwd, cr.jacrev):
        np.testing.assert_allclose(transform(f)(x), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(cr.jvp(f, (x,), (x,))[0], f(x), rtol=1e-14)
    np.testing.assert_allclose(
        cr.hessian(lambda p: np.sum(f(p)))(x), differences(cr.grad(lambda p: np.sum(f(p))), x), rtol=1e-5, atol=1e-7
    )


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", [n for n in CASES if "logpdf" in n or "pdf" in n or "cdf" in n])
def test_they_are_staged(name):
    f, x = CASES[name]
    x = np.array(x)
    g = lambda p: np.sum(f(p))
    np.testing.assert_allclose(cr.jit(cr.grad(g))(x), differences(g, x), rtol=1e-6, atol=1e-8)


METHODS = [n for n in CASES if n.rpartition(".")[2].removeprefix("log")[:3] in ("pdf", "cdf", "pmf", "ppf", "sf")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in METHODS if "multivariate" not in n])
def test_batches_equal_loops(name):
    f, x = CASES[name]
    xs = np.stack([np.array(x), 1.05 * np.array(x)])
    for g in (f, cr.jacobian(f)):
        expected = np.stack([g(x) for x in xs])
        np.testing.assert_allclose(cr.vmap(g)(xs), expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(cr.jit(cr.vmap(g))(xs), expected, rtol=1e-11, atol=1e-13)


def test_a_program_holds_inside_and_outside_of_the_support():
    f = cr.jit(cr.value_and_grad(lambda x: stats.expon.pdf(x, scale=2.0)))
    for x in (0.5, -1.0, 3.0):
        assert f(x) == pytest.approx((stats.expon.pdf(x, scale=2.0), -0.5 * stats.expon.pdf(x, scale=2.0)))


def test_at_the_border_of_the_support_the_shape_moves_nothing_where_the_density_is_zero():
    for f, shape in ((stats.gamma.pdf, 2.0), (stats.chi2.pdf, 4.0)):
        for transform in (cr.grad, lambda g: cr.jit(cr.grad(g))):
            assert transform(lambda a: f(0.0, a))(shape) == 0
    assert cr.grad(lambda a: stats.gamma.logpdf(0.0, a))(1.5) == -np.inf


def test_outside_of_the_support_the_density_and_its_derivative_are_zero():
    f = lambda scale: stats.expon.pdf(np.array([-1.0, 0.5]), scale=scale)
    assert cr.jacobian(f)(2.0)[0] == 0.0
    assert cr.jvp(lambda s: stats.expon.logpdf(-1.0, scale=s), (2.0,), (1.0,)) == (-np.inf, 0.0)
    assert np.isnan(cr.jvp(lambda s: norm.logpdf(0.0, scale=s), (-1.0,), (1.0,))[0])


def test_scipy_is_as_it_was_after_a_trace():
    from scipy.stats import _distn_infrastructure as module

    before = {name: getattr(module, name) for name in ("np", "empty", "zeros", "place", "putmask")}
    cr.grad(lambda s: norm.logpdf(0.0, scale=s))(1.0)
    assert {name: getattr(module, name) for name in before} == before
    assert type(norm.logpdf(T)) is np.ndarray


def test_methods_that_are_not_covered_say_so():
    with pytest.raises(cr.MissingRule, match=r"scipy\.stats"):
        cr.grad(lambda s: norm.mean(s, 1.0))(1.0)
