"""JAX as an oracle: gradients of the same functions, written once against a namespace, agree."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.testing.cases import draw

pytestmark = pytest.mark.oracle

X = draw(3, 4)
P = draw(3, 4, low=0.2, high=2.0)
V = draw(6)
U = draw(3, seed=1)
S = np.array([0.0, 0.3, 1.1, 1.6, 2.9, 3.3])
TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.5]])

CASES = {
    "exp": (lambda np, x: np.exp(x), X),
    "log1p": (lambda np, x: np.log1p(x), P),
    "expm1": (lambda np, x: np.expm1(x), X),
    "arctan2": (lambda np, x: np.arctan2(x, x[::-1] + 0.1), X),
    "hypot": (lambda np, x: np.hypot(x, x[::-1]), X),
    "logaddexp": (lambda np, x: np.logaddexp(x, x[::-1] ** 2), X),
    "power": (lambda np, x: x ** x[::-1] + x**-2.5, P),
    "sinc": (lambda np, x: np.sinc(x), X),
    "abs": (lambda np, x: np.abs(x) * np.sign(x + 0.1), X),
    "float_power": (lambda np, x: np.float_power(x, 1.7), P),
    "remainder": (lambda np, x: np.remainder(x, 0.7), X),
    "where": (lambda np, x: np.where(x > 0, np.sin(x), x**3), X),
    "select": (lambda np, x: np.select([x > 0.5, x < -0.5], [x**2, np.exp(x)], 1.0), X),
    "clip": (lambda np, x: np.clip(x, -0.5, 0.8), X),
    "nan_to_num": (lambda np, x: np.nan_to_num(x), X),
    "sum": (lambda np, x: np.sum(x, axis=1) ** 2, X),
    "prod": (lambda np, x: np.prod(x, axis=1), X),
    "prod with zeros": (lambda np, x: np.prod(x, axis=1), ZEROS),
    "mean": (lambda np, x: np.mean(x, axis=0) ** 2, X),
    "var": (lambda np, x: np.var(x, axis=0, ddof=1), X),
    "std": (lambda np, x: np.std(x, axis=1), X),
    "max": (lambda np, x: np.max(x, axis=1), X),
    "max with ties": (lambda np, x: np.max(x, axis=1), TIES),
    "min with ties": (lambda np, x: np.min(x, axis=0), TIES),
    "maximum with ties": (lambda np, x: np.maximum(x, x[::-1]), TIES),
    "ptp": (lambda np, x: np.ptp(x, axis=1), X),
    "median": (lambda np, x: np.median(x, axis=1), X),
    "quantile": (lambda np, x: np.quantile(x, np.array([0.2, 0.65]), axis=1), X),
    "average": (lambda np, x: np.average(x, axis=1, weights=x[0] ** 2), X),
    "nanmean": (lambda np, x: np.nanmean(np.where(x > 1, np.nan, x), axis=0), X),
    "nanstd": (lambda np, x: np.nanstd(np.where(x > 1, np.nan, x)), X),
    "nanmax": (lambda np, x: np.nanmax(np.where(x > 1, np.nan, x), axis=1), X),
    "cumsum": (lambda np, x: np.cumsum(x, axis=1) ** 2, X),
    "cumprod": (lambda np, x: np.cumprod(x, axis=1), X),
    "cumprod with zeros": (lambda np, x: np.cumprod(x, axis=1), ZEROS),
    "sort": (lambda np, x: np.sort(x, axis=0) * np.arange(4), X),
    "partition": (lambda np, x: np.sort(np.partition(x, 2)[:3]) * np.arange(3), V),
    "take_along_axis": (lambda np, x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1) ** 2, X),
    "indexing": (lambda np, x: x[np.array([0, 2, 0]), 1:3] * x[None, :, -1, None], X),
    "reshaping": (lambda np, x: np.reshape(x, (2, 6)) @ np.ravel(x, order="F")[:6], X),
    "tile and repeat": (lambda np, x: np.tile(x, (2, 1)) * np.repeat(x, 2, axis=0), X),
    "stacks": (lambda np, x: np.vstack([x, x**2]) @ np.hstack([x[0], x[1]])[:4], X),
    "roll and flip": (lambda np, x: np.roll(x, 2, axis=1) * np.flip(x, 0) * np.rot90(x, 2), X),
    "pad": (lambda np, x: np.pad(x, ((1, 2), (0, 1)), mode="reflect") ** 2, X),
    "pad with ramps": (lambda np, x: np.pad(x, 2, mode="linear_ramp", end_values=1.0) ** 2, V),
    "triangles": (lambda np, x: np.tril(x) @ np.triu(x.T), X),
    "diagonals": (lambda np, x: np.diag(x[0]) * np.diagonal(x) + np.trace(x), X[:, :3]),
    "kron": (lambda np, x: np.kron(x[:2], x[:, :2]), X),
    "cross": (lambda np, x: np.cross(x.T, x.T[::-1]), X),
    "diff": (lambda np, x: np.diff(x, n=2, axis=1) ** 2, X),
    "gradient": (lambda np, x: np.gradient(x, 0.5, axis=0) ** 2, X),
    "trapezoid": (lambda np, x: np.trapezoid(x, S) * np.trapezoid(S, x), V),
    "convolve": (lambda np, x: np.convolve(x, x[:3] ** 2, mode="same"), V),
    "correlate": (lambda np, x: np.correlate(x, x[:3] ** 2, mode="full"), V),
    "interp": (lambda np, x: np.interp(np.array([0.1, 1.3, 2.0, 3.2]) + 0.01 * x[0], S, x), V),
    "polyval": (lambda np, x: np.polyval(x, x[0]), V),
    "unwrap": (lambda np, x: np.unwrap(3 * x) ** 2, V),
    "cov": (lambda np, x: np.cov(x), X),
    "corrcoef": (lambda np, x: np.corrcoef(x), X),
    "einsum": (lambda np, x: np.einsum("ij,kj,k->i", x, x, x[:, 0]), X),
    "tensordot": (lambda np, x: np.tensordot(x, x, axes=((0,), (0,))), X),
    "vander": (lambda np, x: np.vander(x, 4), U),
    "linspace": (lambda np, x: np.linspace(x[0], x[1], 5) ** 2, U),
    "geomspace": (lambda np, x: np.geomspace(x[0] ** 2, x[1] ** 2, 4), U),
    "piecewise": (lambda np, x: np.piecewise(x, [x < 0, x > 1], [lambda v: v**2, lambda v: -v, 0.5]), V),
    "logaddexp.reduce": (lambda np, x: np.logaddexp.reduce(x, axis=1), X),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_jax(name):
    jax = pytest.importorskip("jax")
    f, x = CASES[name]
    weights = draw(*np.shape(f(np, x)), seed=8)
    with jax.enable_x64(True):
        jnp = jax.numpy
        expected = jax.grad(lambda y: jnp.sum(f(jnp, y) * weights))(jnp.asarray(x))
        expected = np.asarray(expected)
    found = cr.grad(lambda y: np.sum(f(np, y) * weights))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
