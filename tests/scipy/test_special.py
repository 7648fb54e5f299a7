"""scipy.special on traced values: every covered function by the laws, far tails and kinks, and what has no derivative."""

import subprocess
import sys

import mpmath
import numpy as np
import pytest
from scipy import special

import chainrule as cr
import chainrule.numpy
import chainrule.scipy.special
from chainrule.ir.primitive import ops
from chainrule.prims.special import UFUNC_NAMES
from chainrule.testing.cases import LAWS, case, draw

ops.complete()
A = draw(2, 3)
P = draw(2, 3, low=0.2, high=3.0)
U = draw(3, low=0.1, high=0.9)

CASES = [
    case("logsumexp", special.logsumexp, A),
    case("logsumexp axis", lambda x: special.logsumexp(x, axis=1, keepdims=True), A),
    case("logsumexp axes", lambda x: special.logsumexp(x, axis=(0, -1)), A),
    case("logsumexp weights", lambda x, b: special.logsumexp(x, axis=0, b=b), A, P),
    case("logsumexp broadcast weights", lambda x, b: special.logsumexp(x, axis=1, b=b), A, P[0]),
    case("logsumexp signs", lambda x, b: special.logsumexp(x, b=b, return_sign=True), A, -P),
    case("logsumexp sign", lambda x: special.logsumexp(x, axis=1, return_sign=True), A),
    case("softmax", special.softmax, A),
    case("softmax axis", lambda x: special.softmax(x, axis=-1), A),
    case("log_softmax", special.log_softmax, A),
    case("log_softmax axis", lambda x: special.log_softmax(x, axis=0), A),
    case("polygamma", lambda x: special.polygamma(2, x), P),
    case("polygamma orders", lambda x: special.polygamma(np.arange(3), x), P),
    case("multigammaln", lambda a: special.multigammaln(a, 3), P + 1),
    case("zeta", lambda q: special.zeta(2.5, q), P),
    case("sinc", special.sinc, A),
    case("digamma", special.digamma, P),
    case("jn", lambda x: special.jn(2, x), A),
    case("jv orders", lambda x: special.jv(np.array([[0.0], [1.5]]), x), U),
    case("sici", special.sici, P),
    case("airy", special.airy, A),
    case("mixed", lambda x: special.erf(x) * special.expit(x[0]) + special.ndtr(1.0), A),
    case("np.i0", np.i0, A),
    case("lambertw", lambda x: special.lambertw(x).real, P),
    case("lambertw below", lambda x: special.lambertw(-0.3 * x, -1).real, U),
    case("spherical_jn", lambda x: special.spherical_jn(np.arange(3), x[:, None]), U),
    case("spherical_jn derivative", lambda x: special.spherical_jn(2, x, True), P),
    case("spherical_kn", lambda x: special.spherical_kn(1, x), P),
    case("eval_hermite", lambda x: special.eval_hermite(np.arange(3), x[:, None]), U),
    case("eval_legendre", lambda x: special.eval_legendre(3, x), A),
    case("legendre_p", lambda x: special.legendre_p(3, x), U),
    case("legendre series", lambda x: special.legendre(3)(x), U),
    case("lpmv", lambda x: special.lpmv(1, 3, x), U),
    case("sph_harm_y", lambda t, p: np.real(special.sph_harm_y(3, 2, t, p)), U, U[::-1]),
    case("sph_harm_y below", lambda t, p: np.imag(special.sph_harm_y(2, -1, t, p)), U, U[::-1]),
    case("hankel1", lambda x: np.abs(special.hankel1(1, x)) ** 2, P),
    case("wofz", lambda x: np.real(special.wofz(x + 0.3j)), A),
    case("comb", lambda n, k: special.comb(n + 3, k), P, P[::-1]),
    case("comb repetition", lambda k: special.comb(4.0, k, repetition=True), P),
    case("perm", lambda k: special.perm(4.0, k), P),
    case("factorial", lambda x: special.factorial(x), P),
    case("diric", lambda x: special.diric(x, 4), A),
    case("ellipj", lambda u, m: special.ellipj(u, m)[3], P, U[0]),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("c", CASES, ids=str)
def test_law(law, c):
    law(c)


@pytest.mark.parametrize("name", sorted(UFUNC_NAMES))
def test_ufuncs_reach_their_primitives(name):
    ufunc = getattr(special._ufuncs, name)
    args, _ = next(iter(ops[name].samples()))
    recorded = cr.program(ufunc)(*args)
    assert [e.primitive.name for e in recorded.equations] == [name]
    plain = ufunc(*args)
    for found, expected in zip(recorded(*args), plain if isinstance(plain, tuple) else (plain,), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", [n for n in sorted(UFUNC_NAMES) if n not in ("gammasgn", "_beta_ppf")])
def test_float32_stays_float32(name):
    args, _ = next(iter(ops[name].samples()))
    last = len(args) - 1
    x = args[-1].astype(np.float32)
    rest = [a.astype(np.float32) if hasattr(a, "dtype") and a.dtype == np.float64 else a for a in args[:-1]]
    f = lambda x: getattr(special._ufuncs, name)(*rest, x)
    value, dot = cr.jvp(f, (x,), (np.ones_like(x),))
    value, dot = (value[0], dot[0]) if isinstance(value, tuple) else (value, dot)
    plain = f(x)[0] if isinstance(f(x), tuple) else f(x)
    assert value.dtype == dot.dtype == plain.dtype
    back = cr.vjp(f, x)[1](cr.value(f(x)))[0]
    assert back.dtype == np.float32
    assert last >= 0


# ---- accuracy where naive formulas lose it


def derivative(f, x, n=1):
    """The n-th derivative by arbitrary precision."""
    with mpmath.workdps(60):
        return float(mpmath.diff(f, mpmath.mpf(x), n))


@pytest.mark.parametrize("x", [-1e3, -60.0, -38.0, -5.0, -0.1, 0.0, 0.3, 4.0, 9.0])
def test_log_ndtr_in_the_far_tail(x):
    log_cdf = lambda t: mpmath.log(mpmath.erfc(-t / mpmath.sqrt(2)) / 2)
    assert cr.grad(special.log_ndtr)(x) == pytest.approx(derivative(log_cdf, x), rel=1e-12)
    second = cr.grad(cr.grad(special.log_ndtr))(x)
    assert second == pytest.approx(derivative(log_cdf, x, 2), rel=1e-8)
    assert cr.grad(special.log_ndtr)(-1e8) == pytest.approx(1e8, rel=1e-14)


@pytest.mark.parametrize("x", [-3.0, 0.1, 40.0, 49.9, 50.1, 1e4, 1e8])
def test_erfcx_for_large_arguments(x):
    erfcx = lambda t: mpmath.exp(t * t) * mpmath.erfc(t)
    with mpmath.workdps(60):
        t = mpmath.mpf(x)
        first = 2 * t * erfcx(t) - 2 / mpmath.sqrt(mpmath.pi)
        second = 2 * erfcx(t) + 2 * t * first
    assert cr.grad(special.erfcx)(x) == pytest.approx(float(first), rel=1e-14 if x > 50 else 1e-11, abs=0)
    assert cr.grad(cr.grad(special.erfcx))(x) == pytest.approx(float(second), rel=1e-8, abs=0)


@pytest.mark.parametrize("power", [-0.43, -0.4, -1e-5, 1e-5, 0.4, 0.43, 0.5])
def test_the_slope_of_boxcox_by_its_power_near_zero(power):
    expected = derivative(lambda p: (mpmath.mpf(2) ** p - 1) / p, power)
    assert cr.grad(special.boxcox, 1)(2.0, power) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("x", [np.float16(0.5), np.array([0.5, 0.25], np.float16)])
def test_a_gradient_by_half_precision_is_of_half_precision_though_the_value_is_not(x):
    found = cr.grad(lambda x: np.sum(special.erf(x)))(x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, 2 / np.sqrt(np.pi) * np.exp(-np.square(x, dtype=float)), rtol=1e-3)


def test_erfcx_has_slope_zero_at_infinity():
    assert cr.grad(special.erfcx)(np.inf) == 0


@pytest.mark.parametrize("x", [-700.0, -40.0, 40.0, 700.0])
def test_the_logistic_functions_saturate_without_losing_their_slope(x):
    expected = float(mpmath.exp(-abs(mpmath.mpf(x))) / (1 + mpmath.exp(-abs(mpmath.mpf(x)))) ** 2)
    assert cr.grad(special.expit)(x) == pytest.approx(expected, rel=1e-14)
    assert cr.grad(special.log_expit)(x) == pytest.approx(float(1 / (1 + mpmath.exp(mpmath.mpf(x)))), rel=1e-14)


@pytest.mark.parametrize("u", [0.0, 1e-9, 1e-3, 0.299, 0.301, -0.2, 5.0])
def test_removable_singularities(u):
    exprel = lambda t: mpmath.expm1(t) / t if t else mpmath.mpf(1)
    expected = float(mpmath.nsum(lambda k: mpmath.mpf(u) ** k / (mpmath.factorial(k) * (k + 2)), [0, mpmath.inf]))
    assert cr.grad(special.exprel)(u) == pytest.approx(expected, rel=1e-13)
    assert exprel(1) > 1
    z = 1 + u
    with mpmath.workdps(40):
        w = 1 - mpmath.mpf(z)
        slope = mpmath.log(mpmath.mpf(z)) / w if w else mpmath.mpf(-1)
    assert cr.grad(special.spence)(z) == pytest.approx(float(slope), rel=1e-12)
    assert cr.grad(special.boxcox, 1)(np.e, u) == pytest.approx(expected, rel=1e-12)


def test_bessel_functions_at_zero():
    assert cr.grad(special.j1)(0.0) == 0.5
    assert cr.grad(special.i1)(0.0) == 0.5
    assert cr.grad(special.i0e)(0.0) == 0
    assert cr.grad(special.i1e)(0.0) == 0.5
    assert cr.grad(cr.grad(special.i0))(0.0) == 0.5
    assert cr.grad(special.i0e)(1e5) == pytest.approx(-0.5 * special.i0e(1e5) / 1e5, rel=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_exponential_integrals_of_every_order(n):
    x = 0.7
    expected = [derivative(lambda t: mpmath.expint(n, t), x, k) for k in (1, 2)]
    f = lambda t: special.expn(n, t)
    assert [cr.grad(f)(x), cr.grad(cr.grad(f))(x)] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("m", [-3.0, -0.0201, -0.0199, -1e-9, 0.0, 1e-12, 1e-3, 0.0199, 0.0201, 0.5, 0.99])
@pytest.mark.parametrize("phi", [0.3, 1.4, -0.7])
def test_incomplete_elliptic_integrals_about_the_parameter_zero(phi, m):
    for f, exact in ((special.ellipkinc, mpmath.ellipf), (special.ellipeinc, mpmath.ellipe)):
        by_m = lambda t: exact(mpmath.mpf(phi), t)
        assert cr.grad(f, 1)(phi, m) == pytest.approx(derivative(by_m, m), rel=1e-11)
        assert cr.grad(cr.grad(f, 1), 1)(phi, m) == pytest.approx(derivative(by_m, m, 2), rel=1e-8)


@pytest.mark.parametrize("m", [-1e3, -0.5, 0.0, 1e-9, 0.3, 0.999])
def test_complete_elliptic_integrals_at_every_parameter(m):
    for f, exact in ((special.ellipk, mpmath.ellipk), (special.ellipe, mpmath.ellipe)):
        assert cr.grad(f)(m) == pytest.approx(derivative(exact, m), rel=1e-12)
        assert cr.grad(cr.grad(f))(m) == pytest.approx(derivative(exact, m, 2), rel=1e-11)


@pytest.mark.parametrize("p", [1e-200, 1e-12, 0.3, 1.0, 1.5])
def test_the_complete_integral_next_to_its_pole(p):
    with mpmath.workdps(250):
        exact = mpmath.diff(lambda t: mpmath.ellipk(1 - t), mpmath.mpf(p), h=mpmath.mpf(p) * mpmath.mpf(10) ** -20)
    assert cr.grad(special.ellipkm1)(p) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("power", [0.0, 1e-9, 0.0999, 0.1001, -0.0999, 2.0])
def test_the_slope_of_the_inverse_of_boxcox_by_its_power_near_zero(power):
    exact = lambda p: mpmath.exp(mpmath.log1p(p) / p) if p else mpmath.e
    expected = derivative(exact, power) if power else -np.e / 2
    assert cr.grad(special.inv_boxcox, 1)(1.0, power) == pytest.approx(expected, rel=1e-12)
    assert cr.grad(special.inv_boxcox1p, 1)(1.0, power) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nc", [0.0, 0.5, 90.0, 3e4])
def test_noncentral_chi_squared_from_none_to_far(nc):
    def density(x, k):
        term = lambda j: mpmath.exp(-nc / 2) * (mpmath.mpf(nc) / 2) ** j / mpmath.factorial(j) * central(x, k + 2 * j)
        return mpmath.fsum(map(term, range(200))) if nc < 100 else far(x, k)

    central = lambda x, k: mpmath.exp(-x / 2) * x ** (k / 2 - 1) / 2 ** (k / 2) / mpmath.gamma(k / 2)
    far = lambda x, k: (
        0.5 * mpmath.exp(-(x + nc) / 2) * (x / nc) ** (k / 4 - 0.5) * mpmath.besseli(k / 2 - 1, mpmath.sqrt(nc * x))
    )
    x, k = mpmath.mpf(nc + 2.0), mpmath.mpf(3)
    assert cr.grad(special.chndtr)(float(x), 3.0, nc) == pytest.approx(float(density(x, k)), rel=1e-10)
    assert cr.grad(special.chndtr, 2)(float(x), 3.0, nc) == pytest.approx(-float(density(x, k + 2)), rel=1e-10)


@pytest.mark.parametrize("x", [-1.0, 1.0, 0.0])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_orthogonal_polynomials_at_the_ends_and_of_order_zero(n, x):
    for f, exact in (
        (special.eval_legendre, np.polynomial.Legendre),
        (special.eval_chebyt, np.polynomial.Chebyshev),
        (special.eval_hermite, np.polynomial.Hermite),
        (special.eval_hermitenorm, np.polynomial.HermiteE),
        (special.eval_laguerre, np.polynomial.Laguerre),
    ):
        expected = [exact.basis(n).deriv(k)(x) for k in (1, 2)]
        g = cr.grad(lambda t: f(n, t))
        assert [g(x), cr.grad(g)(x)] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_functions_at_zero():
    assert cr.grad(lambda x: special.lambertw(x).real)(0.0) == 1
    assert cr.grad(lambda x: special.spherical_jn(1, x))(0.0) == pytest.approx(1 / 3)
    assert cr.grad(lambda x: special.diric(x, 3))(0.0) == 0
    assert cr.grad(cr.grad(lambda x: special.ellipj(x, 0.5)[2]))(0.0) == pytest.approx(-0.5)
    assert cr.grad(lambda t: np.real(special.sph_harm_y(1, 0, t, 0.0)))(0.0) == 0
    assert cr.grad(lambda t: np.real(special.sph_harm_y(1, 1, t, 0.0)))(0.0) == pytest.approx(-np.sqrt(3 / (8 * np.pi)))


# ---- kinks and borders


def test_logsumexp_with_infinite_entries_and_ties():
    f = lambda x: special.logsumexp(x)
    g = cr.grad(f)
    inf = np.inf
    assert np.array_equal(g(np.array([0.0, -inf, 0.0])), [0.5, 0, 0.5])
    assert np.array_equal(g(np.array([-inf, -inf])), [0, 0])
    assert np.array_equal(g(np.array([1e6, 0.0])), [1, 0])
    assert np.allclose(cr.hessian(f)(np.array([3.0, 3.0])), [[0.25, -0.25], [-0.25, 0.25]])
    assert np.array_equal(cr.hessian(f)(np.array([0.0, -inf])), np.zeros((2, 2)))
    assert special.logsumexp(np.array([inf, 0.0])) == cr.value_and_grad(f)(np.array([inf, 0.0]))[0]
    x = np.array([[-inf, -inf], [0.0, 0.0]])
    assert np.array_equal(cr.jacobian(lambda x: special.logsumexp(x, axis=1))(x)[1, 1], [0.5, 0.5])


def test_logsumexp_of_complex_numbers_and_integers():
    z = np.array([1.0 + 2j, 0.5 - 1j])
    assert np.allclose(cr.jacobian(lambda z: special.logsumexp(z), holomorphic=True)(z), np.exp(z) / np.sum(np.exp(z)))
    weights = np.array([2, 0])
    assert np.allclose(cr.grad(lambda x: special.logsumexp(x, b=weights))(np.array([1.0, 5.0])), [1, 0])


def test_entropies_at_zero():
    assert special.entr(0.0) == 0
    with np.errstate(all="ignore"):
        assert cr.grad(special.entr)(0.0) == np.inf
    assert cr.grad(special.xlogy, 1)(0.0, 0.0) == 0
    assert cr.grad(special.xlogy, 1)(0.0, 3.0) == 0
    assert cr.grad(special.xlogy)(0.0, 3.0) == np.log(3)
    assert cr.grad(special.xlog1py, 1)(0.0, -1.0) == 0
    assert cr.grad(special.rel_entr, 1)(0.0, 2.0) == 0
    assert cr.grad(special.kl_div, 1)(0.0, 2.0) == 1
    p = np.array([0.0, 0.3, 0.7])
    masked = cr.grad(lambda p: np.sum(np.where(p > 0, special.entr(p), 0)))(p)
    assert np.allclose(masked, [0, -1 - np.log(0.3), -1 - np.log(0.7)])


# ---- what has no derivative, and what is not covered


@pytest.mark.parametrize(
    ("f", "args", "argnum"),
    [
        (special.gammainc, (1.5, 2.0), 0),
        (special.betainc, (1.5, 2.0, 0.5), 1),
        (special.jv, (1.5, 2.0), 0),
        (special.polygamma, (1.0, 2.0), 0),
        (special.stdtr, (3.0, 0.2), 0),
    ],
)
def test_arguments_without_a_derivative_are_refused(f, args, argnum):
    with pytest.raises(cr.MissingRule, match=f"argument {argnum}") as caught:
        cr.grad(f, argnum)(*args)
    assert "test_special.py" in str(caught.value)


def test_uncovered_functions_are_refused():
    with pytest.raises(cr.MissingRule, match="mathieu_a"):
        cr.grad(lambda x: special.mathieu_a(0, x))(1.0)
    with pytest.raises(cr.MissingRule, match="nctdtr"):
        cr.grad(lambda x: special.nctdtr(2.0, 0.5, x))(1.0)
    for f in (
        lambda x: special.comb(5, x, exact=True),
        lambda x: special.factorial(x, exact=True),
        lambda x: special.lpmv(-1, 2, x),
        lambda x: special.legendre_p(2, x, diff_n=1)[0],
        lambda x: np.real(special.sph_harm_y(2, 1, x, 0.3, diff_n=1)[0]),
    ):
        with pytest.raises(cr.MissingRule):
            cr.grad(f)(0.3)


# ---- the namespaces


def test_the_namespaces_hold_the_functions():
    here = chainrule.scipy.special
    x = np.array([0.3, 1.2])
    assert np.array_equal(here.erf(x), special.erf(x))
    assert np.allclose(here.softmax([1.0, 2.0]), special.softmax([1.0, 2.0]))
    assert np.array_equal(here.mathieu_a(0, x), special.mathieu_a(0, x))
    assert cr.grad(lambda x: np.sum(chainrule.numpy.special.gammaln(x)))(x) == pytest.approx(special.psi(x))
    with pytest.raises(AttributeError):
        chainrule.numpy.special.mathieu_a  # noqa: B018
    with pytest.raises(AttributeError):
        here.nothing  # noqa: B018


def test_scipy_is_imported_at_the_first_call():
    program = (
        "import sys, numpy as np, chainrule as cr; assert 'scipy' not in sys.modules; import chainrule.scipy.special as s;"
        "assert 'scipy' not in sys.modules; print(cr.grad(s.erf)(0.0)); assert 'scipy' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(2 / np.sqrt(np.pi))
