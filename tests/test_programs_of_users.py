"""Programs as users write them, from textbooks, tutorials and SciPy's documentation, through every transform unchanged."""

import collections
import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
import optree
import pytest
from numpy.polynomial import Chebyshev, Polynomial, chebyshev, hermite, legendre
from scipy import integrate, interpolate, linalg, optimize, signal, sparse, special, stats
from scipy.spatial import distance

import chainrule as cr

rng = np.random.default_rng(0)


# ---- dynamics and control


def lorenz_by_runge_kutta(p):
    def rhs(y):
        return np.array([p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]])

    y, h = np.ones(3), 0.01
    for _ in range(20):
        k1 = rhs(y)
        k2 = rhs(y + h / 2 * k1)
        k3 = rhs(y + h / 2 * k2)
        k4 = rhs(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.sum(y**2)


def kalman_filter(p):
    F, H = np.array([[1, 0.1], [0, 1]]), np.array([[1.0, 0]])
    Q, R = np.eye(2) * p[0], np.array([[p[1]]])
    x, P, likelihood = np.zeros((2, 1)), np.eye(2), 0.0
    for z in np.sin(np.arange(10) / 3):
        x, P = F @ x, F @ P @ F.T + Q
        y, S = z - H @ x, H @ P @ H.T + R
        K = P @ H.T @ np.linalg.inv(S)
        x, P = x + K @ y, (np.eye(2) - K @ H) @ P
        likelihood = likelihood - 0.5 * (y.T @ np.linalg.solve(S, y) + np.log(np.linalg.det(S)))
    return likelihood[0, 0]


def robot_arm(q):
    def link(t, d, a, al):
        ct, st, ca, sa = np.cos(t), np.sin(t), np.cos(al), np.sin(al)
        return np.array(
            [[ct, -st * ca, st * sa, a * ct], [st, ct * ca, -ct * sa, a * st], [0, sa, ca, d], [0, 0, 0, 1]]
        )

    T = np.eye(4)
    for angle, d, a, al in zip(q, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [np.pi / 2, 0, -np.pi / 2], strict=True):
        T = T @ link(angle, d, a, al)
    return np.sum(T[:3, 3] ** 2) + np.arctan2(T[1, 0], T[0, 0])


def chemical_kinetics(k):
    c = np.array([1.0, 0, 0])
    for _ in range(30):
        r = np.array([k[0] * c[0], k[1] * c[1] * c[2], k[2] * c[1] ** 2])
        c = c + 0.01 * np.array([-r[0] + r[1], r[0] - r[1] - r[2], r[2]])
    return 100 * c[1]


def bratu_residual(u):
    u = u.reshape(6, 6)
    U = np.pad(u, 1)
    laplacian = (U[2:, 1:-1] + U[:-2, 1:-1] + U[1:-1, 2:] + U[1:-1, :-2] - 4 * u) * 49
    return np.sum((laplacian + np.exp(u)) ** 2) / 1e4


def implicit_heat_equation(u):
    n = u.size
    step = sparse.diags_array([1.0, -2.0, 1.0], offsets=(-1, 0, 1), shape=(n, n)).tocsr()
    bands = np.zeros((3, n)) + np.array([[-0.1], [1.2], [-0.1]])
    for _ in range(3):
        u = linalg.solve_banded((1, 1), bands * (1 + u[0] ** 2), u + 0.05 * (step @ u))
    return np.sum(u**3)


# ---- statistics and learning


def gaussian_process(h):
    X = np.linspace(0, 1, 6)[:, None]
    y = np.sin(6 * X[:, 0])
    K = np.exp(h[0]) * np.exp(-((X - X.T) ** 2) / (2 * np.exp(h[1]) ** 2)) + np.exp(h[2]) * np.eye(6)
    L = np.linalg.cholesky(K)
    return 0.5 * y @ linalg.cho_solve((L, True), y) + np.sum(np.log(np.diag(L))) + 3 * np.log(2 * np.pi)


def gaussian_process_by_cdist(h):
    X = np.linspace(0, 1, 6)[:, None] * np.exp(h[1])
    factor = linalg.cho_factor(np.exp(h[0] - distance.cdist(X, X, "sqeuclidean")) + 0.1 * np.eye(6), lower=True)
    y = np.sin(np.arange(6.0))
    return 0.5 * y @ linalg.cho_solve(factor, y) + np.sum(np.log(np.diag(factor[0])))


def hidden_markov_model(t):
    A = np.exp(t[:4].reshape(2, 2))
    A = A / A.sum(1, keepdims=True)
    B = np.exp(t[4:].reshape(2, 3))
    B /= B.sum(axis=1)[:, None]
    a, likelihood = np.array([0.5, 0.5]) * B[:, 0], 0.0
    for seen in [1, 2, 0, 1, 1]:
        a = (a @ A) * B[:, seen]
        s = a.sum()
        likelihood += np.log(s)
        a = a / s
    return likelihood


def black_scholes(p):
    S, K, T, r, s = p
    d1 = (np.log(S / K) + (r + s**2 / 2) * T) / (s * np.sqrt(T))
    return S * special.ndtr(d1) - K * np.exp(-r * T) * special.ndtr(d1 - s * np.sqrt(T))


def black_scholes_by_math(p):
    S, K, T, r, s = p
    d1 = (math.log(S / K) + (r + s**2 / 2) * T) / (s * math.sqrt(T))
    normal = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))
    return S * normal(d1) - K * math.exp(-r * T) * normal(d1 - s * math.sqrt(T))


def black_scholes_by_stats(p):
    S, K, T, r, s = p
    d1 = (np.log(S / K) + (r + s**2 / 2) * T) / (s * np.sqrt(T))
    return S * stats.norm.cdf(d1) - K * np.exp(-r * T) * stats.norm.cdf(d1 - s * np.sqrt(T))


def moving_average_likelihood(p):
    """Of an ARMA(1, 1) process, by its innovations."""
    e = [0.0]
    for t in range(1, len(SERIES)):
        e.append(SERIES[t] - p[0] * SERIES[t - 1] - p[1] * e[t - 1])
    return np.sum(stats.norm.logpdf(np.array(e[1:]), scale=np.exp(p[2])))


def mixture_by_stats(p):
    weights = special.log_softmax(p[:2])
    return np.sum(special.logsumexp(weights + stats.norm.logpdf(SERIES[:, None], p[2:4], np.exp(p[4:])), axis=1))


def truncated_normal(p):
    """The likelihood of observations that are positive."""
    scale = np.exp(p[1])
    return np.sum(stats.truncnorm.logpdf(np.abs(SERIES), -p[0] / scale, np.inf, p[0], scale))


def force_from_a_spline(p):
    """A particle in a potential that was measured at some points: velocity Verlet, the force by the spline's derivative."""
    x, v = p
    for _ in range(10):
        v = v - 0.05 * WELL(x, 1)
        x = x + 0.1 * v
        v = v - 0.05 * WELL(x, 1)
    return WELL(x) + 0.5 * v**2 + x


def orbital(p):
    r, theta, phi = p
    return (
        np.abs(special.sph_harm_y(2, 1, theta, phi) * r * special.eval_genlaguerre(1, 5.0, r) * np.exp(-r / 3) + 0.1)
        ** 2
    )


def pendulum_by_elliptic_functions(p):
    """Where a pendulum that swings to an amplitude is after a time, less its period."""
    amplitude, time = p
    k = np.sin(amplitude / 2)
    sn = special.ellipj(time, k**2)[0]
    return 2 * np.arcsin(k * sn) - 4 * special.ellipk(k**2)


def whitened(p):
    c = np.array([[p[0], p[1]], [p[1], p[2]]])
    return np.sum(np.linalg.solve(linalg.sqrtm(c), SERIES.reshape(2, -1)) ** 2) + np.trace(linalg.logm(c))


def sums_of_polynomials(c):
    f = (Polynomial(c) + Polynomial([1.0, 2]) - Polynomial([0.5, 1.0, 1.0, 2.0])).deriv()
    return f(0.3) * f.integ(2, [1.0, c[0]], lbnd=0.2)(0.4)


def soft_k_means(c):
    X = np.sin(np.arange(40.0)).reshape(20, 2)
    c = c.reshape(3, 2)
    for _ in range(3):
        w = special.softmax(-3 * ((X[:, None] - c[None]) ** 2).sum(-1), axis=1)
        c = (w.T @ X) / w.sum(0)[:, None]
    return np.sum(c**3)


def attention(w):
    X = np.sin(np.arange(20.0)).reshape(5, 4)
    q, k, v = (X @ W for W in w.reshape(3, 4, 4))
    q = q.reshape(5, 2, 2).transpose(1, 0, 2)
    k = k.reshape(5, 2, 2).swapaxes(0, 1)
    v = np.moveaxis(v.reshape(5, 2, 2), 1, 0)
    scores = np.where(np.tril(np.ones((5, 5), bool)), q @ k.transpose(0, 2, 1) / np.sqrt(2), -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    o = ((e / e.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(5, 4)
    return np.einsum("ij,ij->", (o - o.mean(-1, keepdims=True)) / o.std(-1, keepdims=True), np.cos(X))


def lstm(w):
    W, U, b = w[:24].reshape(8, 3), w[24:40].reshape(8, 2), w[40:48]
    h = c = np.zeros(2)
    for x in np.sin(np.arange(12.0)).reshape(4, 3):
        i, f, g, o = np.split(W @ x + U @ h + b, 4)
        c = special.expit(f) * c + special.expit(i) * np.tanh(g)
        h = special.expit(o) * np.tanh(c)
    return h.sum()


# ---- geometry, signals, interpolation


def quaternion_rotation(v):
    w, x, y, z = v / np.linalg.norm(v)
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return (R @ np.array([1.0, 2, 3])) @ np.array([0.3, -1, 0.2])


def image_warp(p):
    image = np.sin(np.arange(64.0))
    y, x = np.mgrid[1:6, 1:6].astype(float)
    xs, ys = p[0] * x + p[1], y + p[2]
    x0, y0 = np.floor(xs).astype(int), np.floor(ys).astype(int)
    wx, wy = xs - x0, ys - y0
    at = lambda i, j: np.take(image, 8 * i + j)
    top = at(y0, x0) * (1 - wx) + at(y0, x0 + 1) * wx
    return np.sum((top * (1 - wy) + (at(y0 + 1, x0) * (1 - wx) + at(y0 + 1, x0 + 1) * wx) * wy) ** 2)


def convolution_by_fft(k):
    s = np.sin(np.arange(16.0))
    n = len(s) + len(k) - 1
    return np.sum(np.fft.irfft(np.fft.rfft(s, n) * np.fft.rfft(k, n), n) ** 2)


def cubic_spline(y):
    x = np.linspace(0, 1, len(y))
    h = np.diff(x)
    bands = np.zeros((3, len(y) - 2))
    bands[0, 1:], bands[1], bands[2, :-1] = h[1:-1], 2 * (h[:-1] + h[1:]), h[1:-1]
    slopes = np.diff(y) / h
    M = np.concatenate([[0], linalg.solve_banded((1, 1), bands, 6 * np.diff(slopes)), [0]])
    k = np.searchsorted(x, 0.37) - 1
    a, b = (x[k + 1] - 0.37) / h[k], (0.37 - x[k]) / h[k]
    return a * y[k] + b * y[k + 1] + ((a**3 - a) * M[k] + (b**3 - b) * M[k + 1]) * h[k] ** 2 / 6


def interpolation_by_hand(x):
    xs = np.linspace(0, 1, 8)
    ys = np.sin(3 * xs) + x[0] * xs
    k = int(np.searchsorted(xs, x[1])) - 1
    w = (x[1] - xs[k]) / (xs[k + 1] - xs[k])
    return ys[k] * (1 - w) + ys[k + 1] * w


# ---- algorithms


def householder(v):
    R = v.reshape(4, 3)
    for k in range(3):
        x, e = R[k:, k], np.eye(4 - k)[0]
        u = x + np.sign(x[0]) * np.linalg.norm(x) * e
        u = u / np.linalg.norm(u)
        H = np.eye(4 - k) - 2 * np.outer(u, u)
        R = np.block([[np.eye(k), np.zeros((k, 4 - k))], [np.zeros((4 - k, k)), H]]) @ R
    return np.sum(np.log(np.abs(np.diag(R))))


def power_iteration(v):
    A = v.reshape(3, 3)
    A = A + A.T
    x, before, found = np.ones(3) / np.sqrt(3), 0.0, 1.0
    while abs(found - before) > 1e-13:
        y = A @ x
        x = y / np.linalg.norm(y)
        before, found = found, x @ A @ x
    return found


def newton(p):
    x = 1.5
    for _ in range(50):
        s = (x**3 - p[0] * x - p[1]) / (3 * x**2 - p[0])
        x = x - s
        if abs(s) < 1e-14:
            break
    return x


def by_python(p):
    pairs = sum(a * b for a, b in itertools.combinations(p, 2))
    last = collections.deque([p[0] ** 2, p[1]], 2)[-1]
    return pairs + last * functools.reduce(lambda a, b: a * b, p) + max(p) * min(p) + sum(sorted(p)[1:]) ** 2


S, PARAMETERS = np.sin(np.arange(5.0)), np.array([0.3, 0.2, 0.4])
SERIES = np.sin(np.arange(12.0) ** 1.3) + 0.1
WELL = interpolate.CubicSpline(np.linspace(-3, 3, 9), np.linspace(-3, 3, 9) ** 2 / 2 + np.cos(np.arange(9.0)))
SMOOTH = {
    "SciPy's Rosenbrock": (optimize.rosen, [1.2, 0.8, 1.1]),
    "Lorenz by Runge-Kutta": (lorenz_by_runge_kutta, [10, 28, 8 / 3]),
    "Kalman filter": (kalman_filter, [0.1, 0.3]),
    "robot arm": (robot_arm, [0.1, 0.7, -0.4]),
    "chemical kinetics": (chemical_kinetics, [4.0, 10.0, 3.0]),
    "Bratu residual": (bratu_residual, 0.1 * rng.normal(size=36)),
    "implicit heat equation": (implicit_heat_equation, [0.3, 0.5, -0.2, 0.1]),
    "Gaussian process": (gaussian_process, [0.1, -0.5, -2.0]),
    "Gaussian process by cdist": (gaussian_process_by_cdist, [0.1, -0.5]),
    "hidden Markov model": (hidden_markov_model, np.linspace(-1, 1, 10)),
    "Black-Scholes": (black_scholes, [100, 95, 0.5, 0.02, 0.3]),
    "Black-Scholes by math": (black_scholes_by_math, [100, 95, 0.5, 0.02, 0.3]),
    "Black-Scholes by scipy.stats": (black_scholes_by_stats, [100, 95, 0.5, 0.02, 0.3]),
    "moving average by scipy.stats": (moving_average_likelihood, [0.4, 0.3, 0.1]),
    "mixture by scipy.stats": (mixture_by_stats, [0.1, 0.2, -0.3, 0.4, 0.1, 0.3]),
    "truncated normal by scipy.stats": (truncated_normal, [0.1, 0.3]),
    "force from a spline": (force_from_a_spline, [0.3, 1.2]),
    "spherical harmonics": (orbital, [0.3, 0.7, 1.1]),
    "pendulum by elliptic functions": (pendulum_by_elliptic_functions, [0.7, 1.3]),
    "covariance by a matrix root": (whitened, [1.5, 0.3, 2.0]),
    "soft k-means": (soft_k_means, np.arange(6) / 3),
    "attention": (attention, rng.normal(size=48)),
    "LSTM": (lstm, rng.normal(size=48)),
    "quaternion rotation": (quaternion_rotation, [0.9, 0.1, -0.3, 0.4]),
    "image warp": (image_warp, [1.03, 0.21, 0.33]),
    "convolution by FFT": (convolution_by_fft, [0.2, 0.5, 0.3]),
    "SciPy's fftconvolve": (lambda k: np.sum(signal.fftconvolve(np.sin(np.arange(16.0)), k) ** 2), [0.2, 0.5, 0.3]),
    "cubic spline": (cubic_spline, np.sin(np.arange(7.0))),
    "triangular solve": (
        lambda v: np.sum(linalg.solve_triangular(np.tril(v.reshape(3, 3)) + 3 * np.eye(3), PARAMETERS, lower=True)),
        np.arange(9) / 5,
    ),
    "Householder": (householder, rng.normal(size=12)),
    "apply_along_axis": (
        lambda x: np.sum(np.apply_along_axis(lambda r: r / np.sum(r), 1, x.reshape(2, 3)) ** 2),
        np.arange(1.0, 7),
    ),
    "piecewise": (lambda x: np.sum(np.piecewise(x, [x < 0], [lambda t: -(t**3), lambda t: t**2])), [1.0, -2, 3]),
    "Polynomial of coefficients": (lambda c: Polynomial(c)(0.7), [1.0, 2, 3]),
    "Polynomial of x": (lambda x: Polynomial([1.0, 2, 3])(x[0]), [0.3]),
    "Chebyshev": (lambda c: Chebyshev(c)(0.4) * chebyshev.chebval(0.3, c), [1.0, 2, 3]),
    "Legendre, Hermite": (lambda c: legendre.legval(0.4, c) * np.sum(hermite.hermval(PARAMETERS, c)), [1.0, 2, 3]),
    "Polynomial.fit": (lambda y: Polynomial.fit(np.arange(5.0), y, 2)(1.3), S),
    "Simpson": (lambda p: integrate.simpson(np.exp(-p[0] * np.linspace(0, 1, 51) ** 2), dx=0.02), [0.3]),
    "Gauss-Legendre": (lambda p: integrate.fixed_quad(lambda x: np.exp(p[0] * x), 0, 1)[0], [0.3]),
    "expm": (lambda p: np.sum(linalg.expm(p.reshape(2, 2))), [0.1, 0.2, 0.3, 0.4]),
    "Toeplitz": (lambda p: np.sum(np.linalg.inv(linalg.toeplitz(p))), [2.1, 0.2, 0.3]),
    "weighted histogram": (
        lambda p: np.sum(np.histogram([0.1, 0.2, 0.7], bins=2, range=(0, 1), weights=p)[0] ** 2),
        PARAMETERS,
    ),
    "complex modulus": (lambda p: np.abs(np.exp(1j * p[0]) + p[1]) ** 2, [0.3, 0.2]),
}
BRANCHING = {
    "interpolation by hand": (interpolation_by_hand, [1.2, 0.43]),
    "power iteration": (power_iteration, [2, 0.1, 0.3, 0.2, 1, 0.1, 0.5, 0.2, 3]),
    "Newton's method": (newton, [1.0, 1.0]),
    "SciPy's Newton": (lambda p: optimize.newton(lambda x: x**3 - p[0] * x - p[1], 1.5), [1.0, 1.0]),
    "np.vectorize": (lambda x: np.sum(np.vectorize(lambda t: t**2 if t > 0 else -t)(x)), [1.0, -2, 3]),
    "sums of Polynomials": (sums_of_polynomials, [1.0, 2, 3]),
    "plain Python": (by_python, PARAMETERS),
    "poly1d": (lambda c: (np.poly1d(c) * np.poly1d([1.0, 2])).deriv()(0.4), [1.0, 2, 3]),
}
PROGRAMS = {name: (f, np.array(x, float)) for name, (f, x) in {**SMOOTH, **BRANCHING}.items()}


def differences(f, x):
    steps = 1e-6 * np.maximum(1, np.abs(x))
    return np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for h, e in zip(steps, np.eye(x.size), strict=True)])


@pytest.mark.parametrize("name", PROGRAMS)
def test_first_derivatives_in_both_modes(name):
    f, x = PROGRAMS[name]
    expected = differences(f, x)
    scale = max(1.0, np.max(np.abs(expected)))
    value, gradient = cr.value_and_grad(f)(x)
    np.testing.assert_allclose(value, f(x), rtol=1e-13)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(cr.jacfwd(f)(x), gradient, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize(
    "name", [n for n in PROGRAMS if n != "power iteration"]
)  # whose end has other second derivatives
def test_second_derivatives(name):
    f, x = PROGRAMS[name]
    if x.size > 12:
        direction = np.cos(np.arange(x.size))
        along = lambda s: cr.grad(f)(x + s[0] * direction)
        found, expected = cr.hvp(f)(x, direction), differences(along, np.zeros(1))[0]
    else:
        found, expected = cr.hessian(f)(x), differences(cr.grad(f), x)
        np.testing.assert_allclose(found, found.T, rtol=1e-8, atol=1e-9 * max(1.0, np.max(np.abs(found))))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.max(np.abs(expected))))


@pytest.mark.parametrize("name", SMOOTH)
def test_batches(name):
    f, x = PROGRAMS[name]
    xs = np.stack([x, 1.01 * x, 0.99 * x])
    np.testing.assert_allclose(cr.vmap(f)(xs), [f(u) for u in xs], rtol=1e-10)
    of_one = cr.grad(f)
    np.testing.assert_allclose(cr.vmap(of_one)(xs), [of_one(u) for u in xs], rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_native_code(name):
    f, x = PROGRAMS[name]
    value, gradient = cr.value_and_grad(f)(x)
    found_value, found = cr.jit(cr.value_and_grad(f))(x)
    np.testing.assert_allclose(found_value, value, rtol=1e-11)
    np.testing.assert_allclose(found, gradient, rtol=1e-8, atol=1e-10 * max(1.0, np.max(np.abs(gradient))))


# ---- trees, and the object style


@optree.dataclasses.dataclass(namespace="chainrule")
class Layer:
    weights: np.ndarray
    bias: np.ndarray


@dataclass
class Settings:
    rate: float
    steps: int


def test_networks_of_dataclasses_and_dicts_are_trained():
    x = np.linspace(-1, 1, 20)[:, None]
    y = x**2
    net = {"hidden": [Layer(np.sin(np.arange(8.0))[None], np.zeros(8))], "out": Layer(np.ones((8, 1)) / 8, np.zeros(1))}
    settings = Settings(rate=0.1, steps=50)

    def predict(net, x):
        for layer in net["hidden"]:
            x = np.tanh(x @ layer.weights + layer.bias)
        return x @ net["out"].weights + net["out"].bias

    def loss(net, settings):
        return np.mean((predict(net, x) - y) ** 2) + 1e-3 * settings.rate

    losses = []
    for _ in range(settings.steps):
        value, gradient = cr.value_and_grad(loss)(net, settings)
        losses.append(value)
        net = optree.tree_map(lambda p, g: p - settings.rate * g, net, gradient, namespace="chainrule")
    assert isinstance(gradient["hidden"][0], Layer)
    assert losses[-1] < 0.5 * losses[0]
    cr.check_grads(lambda net: loss(net, settings), (net,), order=2)


def test_variables_are_trained():
    x = np.linspace(-1, 1, 20)
    w, b = cr.variable(np.array([0.5, -0.3])), cr.variable(0.1)
    losses = []
    for _ in range(300):
        w.grad = b.grad = None
        loss = np.mean((w[0] * x + w[1] * x**2 + b - (1 + 2 * x)) ** 2)
        loss.backward()
        losses.append(float(cr.value(loss)))
        w.value, b.value = w.value - 0.3 * w.grad, b.value - 0.3 * b.grad
    assert losses[-1] < 1e-3 * losses[0]
    np.testing.assert_allclose(cr.value(w), [2.0, 0.0], atol=0.1)
