"""numpy.fft: values, both modes, second order, batching and replay, by the laws over cases; JAX as an oracle."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.numpy as cnp
from chainrule.testing.cases import LAWS, case, draw

NORMS = ("backward", "ortho", "forward")
X, M, T = draw(5), draw(4, 3), draw(2, 4, 3)
Z, W = X + 1j * draw(5, seed=1), M + 1j * draw(4, 3, seed=2)

ONE_AXIS = [
    *(
        case(f"{f.__name__} {norm}, {n} of 5", lambda x, f=f, n=n, norm=norm: f(x, n, norm=norm), Z)
        for f in (np.fft.fft, np.fft.ifft, np.fft.irfft, np.fft.hfft)
        for n, norm in zip((None, 7, 4, 1), (*NORMS, None), strict=True)
    ),
    *(
        case(f"{f.__name__} {norm}, {n} of 5", lambda x, f=f, n=n, norm=norm: f(x, n, norm=norm), X)
        for f in (np.fft.rfft, np.fft.ihfft, np.fft.fft, np.fft.irfft)
        for n, norm in zip((None, 8, 4, 2, 1), (*NORMS, None, "ortho"), strict=True)
    ),
    *(
        case(f"{f.__name__} along {axis}", lambda x, f=f, axis=axis: f(x, axis=axis), W)
        for f in (np.fft.fft, np.fft.ifft, np.fft.irfft, np.fft.hfft)
        for axis in (0, -2, 1)
    ),
    *(
        case(f"{f.__name__} of real along {axis}", lambda x, f=f, axis=axis: f(x, axis=axis), M)
        for f in (np.fft.rfft, np.fft.ihfft)
        for axis in (0, -1)
    ),
]

MANY_AXES = [
    *(
        case(f"{f.__name__} {options}", lambda x, f=f, options=options: f(x, **options), W)
        for f in (np.fft.fft2, np.fft.ifft2, np.fft.irfft2, np.fft.fftn, np.fft.ifftn, np.fft.irfftn)
        for options in ({}, {"s": (3, 4), "axes": (0, 1)}, {"axes": (1, 0), "norm": "ortho"}, {"axes": (0,)})
    ),
    *(
        case(f"{f.__name__} of real {options}", lambda x, f=f, options=options: f(x, **options), T)
        for f in (np.fft.rfft2, np.fft.rfftn, np.fft.fftn)
        for options in ({}, {"s": (3, -1), "axes": (0, 1)}, {"axes": (2, 0), "norm": "forward"}, {"axes": (1,)})
    ),
    case("irfftn, the whole last axis", lambda x: np.fft.irfftn(x, s=(3, -1), axes=(0, 1)), W),
    case("fftn, an axis twice", lambda x: np.fft.fftn(x, axes=(0, 0)), W),
    case("fftn, an axis twice, padded", lambda x: np.fft.fftn(x, s=(5, 6), axes=(0, 0)), W),
    *(
        case(f"{f.__name__} {axes}", lambda x, f=f, axes=axes: f(x, axes), T)
        for f in (np.fft.fftshift, np.fft.ifftshift)
        for axes in (None, 2, (0, -1))
    ),
    case("fft of no members", np.fft.fft, np.zeros((0, 3))),
    case("rfft of no members", np.fft.rfft, np.zeros((0, 3))),
    case("a filter", lambda x, h: np.fft.irfft(np.fft.rfft(x, 9) * np.fft.rfft(h, 9), 9), X, draw(5, seed=3)),
    case("power spectrum", lambda x: np.abs(np.fft.rfft(x)) ** 2, X),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", [*ONE_AXIS, *MANY_AXES], ids=str)
def test_law(law, case):
    law(case)


def test_convolution_theorem_gives_the_gradient_of_a_convolution():
    x, h = draw(6), draw(4, seed=1)
    by_fft = lambda x, h: np.sum(np.fft.irfft(np.fft.rfft(x, 9) * np.fft.rfft(h, 9), 9) ** 3)
    full = np.convolve(x, h)
    expected = np.correlate(3 * full**2, h, "valid"), np.correlate(3 * full**2, x, "valid")
    for found, e in zip(cr.grad(by_fft, (0, 1))(x, h), expected, strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-12, atol=1e-12)


def test_parseval_makes_the_gradient_of_energy_linear():
    np.testing.assert_allclose(
        cr.grad(lambda x: np.sum(np.abs(np.fft.fft(x, norm="ortho")) ** 2))(X), 2 * X, rtol=1e-12
    )


@pytest.mark.parametrize("f", [np.fft.fft, np.fft.irfft, np.fft.hfft, np.fft.fftn, np.fft.fftshift])
def test_single_precision_is_kept(f):
    z = Z.astype(np.complex64)
    out, pullback = cr.vjp(f, z)
    assert out.dtype == f(z).dtype
    assert pullback(np.ones_like(out))[0].dtype == np.complex64
    x = X.astype(np.float32)
    out, pullback = cr.vjp(np.fft.rfft, x)
    assert (out.dtype, pullback(np.ones_like(out))[0].dtype) == (np.complex64, np.float32)


def test_nested_batching_is_a_loop():
    found = cr.vmap(cr.vmap(np.fft.rfft, in_axes=1), in_axes=0)(T)
    np.testing.assert_allclose(found, np.fft.rfft(np.swapaxes(T, 1, 2)), rtol=1e-12, atol=1e-14)


def test_arguments_that_numpy_refuses_are_refused():
    with pytest.raises(ValueError, match="norm value"):
        cr.vjp(lambda z: np.fft.fft(z, norm="other"), Z)
    with pytest.raises(ValueError, match="data points"):
        cr.vjp(lambda z: np.fft.fft(z, 0), Z)
    with pytest.raises(ValueError, match="different lengths"):
        cr.vjp(lambda z: np.fft.fftn(z, (2, 2), (0,)), W)
    with pytest.raises(TypeError, match="real"):
        cr.vjp(np.fft.rfft, Z)
    with pytest.raises(np.exceptions.AxisError):
        cr.vjp(lambda z: np.fft.fft(z, axis=3), Z)


def test_namespace_has_all_of_numpys_names():
    for name in np.fft.__all__:
        assert getattr(cnp.fft, name) is not None
    np.testing.assert_array_equal(cnp.fft.fftfreq(5), np.fft.fftfreq(5))
    np.testing.assert_array_equal(cnp.fft.fft(X), np.fft.fft(X))


FUNCTIONS = ["fft", "ifft", "irfft", "hfft", "fft2", "ifft2", "irfft2", "fftn", "irfftn", "fftshift"]
OF_REAL = ["rfft", "rfft2", "rfftn", "ihfft", "fft"]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "x"), [*((n, W) for n in FUNCTIONS), *((n, M) for n in OF_REAL)])
def test_gradient_is_jaxs(name, x):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        weights = draw(*getattr(np.fft, name)(x).shape, seed=8)
        loss = lambda np, x: np.sum(weights * np.abs(getattr(np.fft, name)(x)) ** 2)
        expected = np.asarray(jax.grad(lambda x: loss(jax.numpy, x))(jax.numpy.asarray(x)))
    np.testing.assert_allclose(cr.grad(lambda x: loss(np, x))(x), expected, rtol=1e-10, atol=1e-12)
