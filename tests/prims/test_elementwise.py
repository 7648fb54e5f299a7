"""Elementwise operations beyond their samples: other signs and types, kinks, and what is not finite."""

import mpmath
import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.prims.families import Elementwise
from chainrule.testing.laws import LAWS

A = np.array
NAN, INF = np.nan, np.inf
Z = A([1.5 + 2j, -0.3 - 0.8j, 0.7 - 1.1j])

# Points at which every law holds, on the branches that the samples leave out.
POINTS = [
    ("power", A([0.5, 2.0]), A([0.0, 3.0])),
    ("power", np.float64(1.5), A([1.2, -2.0])),
    ("power", np.float64(1.5), np.float64(0.0)),
    ("power", np.float64(1.5), np.float64(-1.3)),
    ("power", Z, np.float64(3.0)),
    ("divide", A([0.5, -2.0]), A([-0.7, 1.3])),
    ("divide", A([0.5, -2.0]), A([2, -3])),
    ("reciprocal", A([-0.5, 2.0])),
    ("cbrt", A([-0.5, -2.0])),
    ("log", -Z),
    ("tan", A([1.2, -1.4])),
    ("arctan2", A([0.5, -2.0, 1.0]), A([-0.7, -1.3, -1.0])),
    ("hypot", A([-0.5, 2.0]), A([-1.5, -0.3])),
    ("sinc", A([-0.5, 1.7, -2.3])),
    ("absolute", A([-0.5, 2.0])),
    ("absolute", Z),
    ("real", Z),
    ("imag", Z),
    ("conjugate", Z),
    ("angle", Z),
    ("imag", A([0.5, -1.0])),
    ("angle", A([0.5, -1.0])),
    ("copysign", A([-0.5, 2.0, -1.0, 0.3]), A([1.0, -2.0, -1.0, 0.5])),
    ("remainder", A([2.3, -0.7, -2.3, 0.7]), A([1.0, 0.5, -1.0, -0.3])),
    ("fmod", A([2.3, -0.7, -2.3, 0.7]), A([1.0, 0.5, -1.0, -0.3])),
    ("heaviside", A([0.5, -1.0]), A([0.2, 0.3])),
    ("maximum", A([0.5, -1.0]), A([1.5, -2.0])),
    ("minimum", A([0.5, -1.0]), A([1.5, -2.0])),
    ("fmax", A([0.5, -1.0]), A([1.5, -2.0])),
    ("fmin", A([0.5, -1.0]), A([1.5, -2.0])),
    ("logaddexp", A([800.0, -1.0]), A([799.0, 2.0])),
    ("logaddexp2", A([1800.0, -1.0]), A([1799.0, 2.0])),
    ("ldexp", A([0.5, -2.0]), A([1, -2])),
    ("strong_multiply", A([0.0, -1.0]), A([1.5, 2.0])),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize(("name", "args"), [(n, a) for n, *a in POINTS], ids=[p[0] for p in POINTS])
def test_law(law, name, args):
    law(ops[name], args, {})


# The derivative in each argument where it is a matter of choice, or of care.
KINKS = [
    (np.absolute, (0.0,), (0.0,)),
    (np.absolute, (0j,), (0j,)),
    (np.sqrt, (0.0,), (INF,)),
    (np.cbrt, (0.0,), (INF,)),
    (np.maximum, (1.0, 1.0), (0.5, 0.5)),
    (np.minimum, (1.0, 1.0), (0.5, 0.5)),
    (np.fmax, (1.0, 1.0), (0.5, 0.5)),
    (np.fmin, (1.0, 1.0), (0.5, 0.5)),
    (np.fmax, (1.0, NAN), (1.0, 0.0)),
    (np.fmax, (NAN, 1.0), (0.0, 1.0)),
    (np.fmin, (1.0, NAN), (1.0, 0.0)),
    (np.fmin, (NAN, 1.0), (0.0, 1.0)),
    (np.hypot, (0.0, 0.0), (0.0, 0.0)),
    (np.power, (0.0, 2.0), (0.0, 0.0)),
    (np.power, (0.0, 1.0), (1.0, 0.0)),
    (np.power, (0.0, 0.0), (0.0, 0.0)),
    (np.float_power, (0.0, 0.0), (0.0, 0.0)),
    (np.sinc, (0.0,), (0.0,)),
    (np.heaviside, (0.0, 0.3), (0.0, 1.0)),
    (np.copysign, (0.0, -2.0), (0.0, 0.0)),
    (np.logaddexp, (-INF, -INF), (0.0, 0.0)),
    (np.logaddexp, (-INF, 2.0), (0.0, 1.0)),
    (np.logaddexp2, (-INF, -INF), (0.0, 0.0)),
    (np.logaddexp2, (2.0, -INF), (1.0, 0.0)),
]


@np.errstate(all="ignore")
@pytest.mark.parametrize(("f", "args", "slopes"), KINKS, ids=[f"{f.__name__}{args}" for f, args, _ in KINKS])
@pytest.mark.parametrize("as_array", [False, True])
def test_kinks(f, args, slopes, as_array):
    xs = tuple(A([x]) if as_array else x for x in args)
    n = tuple(range(len(xs)))
    found = cr.grad(lambda *xs: np.real(np.sum(f(*xs))), argnums=n)(*xs)
    np.testing.assert_array_equal([np.ravel(g)[0] for g in found], slopes)
    for k in n:
        t = tuple(np.ones_like(x) if k == i else np.zeros_like(x) for i, x in enumerate(xs))
        np.testing.assert_array_equal(cr.jvp(f, xs, t)[1], np.real(np.reshape(slopes[k], np.shape(xs[k]))))


def test_power_of_a_negative_base():
    x, t = A([0.5, -2.0]), A([1.0, 2.0])
    for y in (3, 3.0, np.float64(3.0), A([3.0, 3.0])):
        np.testing.assert_allclose(cr.jvp(lambda x, y=y: x**y, (x,), (t,))[1], 3 * x**2 * t)
        np.testing.assert_allclose(cr.grad(lambda x, y=y: np.sum(x**y))(x), 3 * x**2)
        np.testing.assert_allclose(cr.jvp(cr.grad(lambda x, y=y: np.sum(x**y)), (x,), (t,))[1], 6 * x * t)


@pytest.mark.parametrize("x", [1e-9, 1e-5, -3e-4, 9e-4, -9.9e-4, 1.1e-3, 5e-3])
def test_sinc_does_not_cancel_near_zero(x):
    with mpmath.workdps(40):
        first, second = (float(mpmath.diff(lambda t: mpmath.sinc(mpmath.pi * t), mpmath.mpf(x), n)) for n in (1, 2))
    assert cr.grad(np.sinc)(x) == pytest.approx(first, rel=1e-9)
    assert cr.grad(cr.grad(np.sinc))(x) == pytest.approx(second, rel=1e-5)


def test_exact_zeros_of_strong_products_win():
    t, d = A([0.0, 0.0, 0.0, 2.0]), A([INF, NAN, 3.0, INF])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(ops.strong_multiply(t, d), [0, 0, 0, INF])
        np.testing.assert_array_equal(ops.strong_multiply(d, t), [NAN, NAN, 0, INF])
        assert ops.strong_multiply(np.float64(0), np.float64(INF)) == 0
        assert isinstance(ops.strong_multiply(np.float64(0), np.float64(INF)), np.floating)
        slope = cr.grad(lambda d: np.sum(ops.strong_multiply(t, d)[:3]))(d)
    np.testing.assert_array_equal(slope, np.zeros(4))


@pytest.mark.parametrize("name", ["real", "imag", "angle", "absolute"])
def test_partials_of_real_functions_of_complex_arrays_are_real(name):
    out = ops[name](Z)
    m = ops[name].partial(0, (Z,), out, {})
    for t in (Z, 1j * Z):
        assert m.apply(t).dtype == out.dtype
        assert m.adjoint(out).dtype == Z.dtype


@pytest.mark.parametrize("dtype", [float, np.float32, complex, np.complex64])
@pytest.mark.parametrize("x", [Z, Z.real], ids=["complex", "real"])
def test_conversion_takes_real_parts_either_way(x, dtype):
    to = np.dtype(dtype)
    out = (x.real if to.kind == "f" else x).astype(to)
    m = ops.convert.partial(0, (x,), out, {"dtype": to})
    t, ct = 1j * Z if x.dtype.kind == "c" else Z.imag, (1j + Z if to.kind == "c" else Z.imag).astype(to)
    back = m.adjoint(ct)
    assert back.dtype == x.dtype
    np.testing.assert_allclose(back, ct if x.dtype.kind == "c" else ct.real)
    if to.kind == "f":
        assert m.apply(t).dtype.kind == "f"
    np.testing.assert_allclose(m.apply(t), t.real if to.kind == "f" else t)


def test_second_derivatives_at_kinks_are_zero():
    x = np.zeros(2)
    np.testing.assert_array_equal(cr.hessian(lambda x: np.hypot(x[0], x[1]))(x), np.zeros((2, 2)))
    np.testing.assert_array_equal(cr.hessian(lambda x: np.sum(np.abs(x)))(x), np.zeros((2, 2)))


STEPS = {"sign", "floor", "ceil", "trunc", "rint", "spacing", "floor_divide", "stop_gradient"}
DISCRETE = "bitwise_and bitwise_or bitwise_xor left_shift right_shift gcd lcm invert bitwise_count isnat discretise"


def is_discrete(out):
    return all(o.dtype.kind in "biu" for o in (out if isinstance(out, tuple) else (out,)))


def test_what_is_constant_almost_everywhere_is_not_differentiable():
    outs = {p.name: [p(*args, **params) for args, params in p.samples()] for p in ops}
    discrete = {name for name, found in outs.items() if found and all(map(is_discrete, found))} | set(DISCRETE.split())
    constant = {p.name for p in ops if not p.differentiable}
    assert discrete | STEPS <= constant
    assert constant - discrete - STEPS <= {"gammasgn"}


def samples_of(p, dtype):
    for args, params in p.samples():
        if not any(np.iscomplexobj(x) for x in args):
            yield tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in args), params


SMOOTH = [p for p in ops if isinstance(p, Elementwise) and p.differentiable and not p.has_missing]


@np.errstate(all="ignore")
@pytest.mark.parametrize("p", SMOOTH, ids=str)
def test_single_precision_stays_single(p):
    for args, params in samples_of(p, np.float32):
        real = [k for k, x in enumerate(args) if x.dtype.kind == "f"]

        def f(*xs, p=p, args=args, params=params, real=real):
            full = list(args)
            for k, x in zip(real, xs, strict=True):
                full[k] = x
            return p(*full, **params)

        xs = tuple(args[k] for k in real)
        out, pullback = cr.vjp(f, *xs)
        _, dot = cr.jvp(f, xs, tuple(np.ones_like(x) for x in xs))
        assert out.dtype == f(*xs).dtype
        assert dot.dtype == out.dtype
        for x, g in zip(xs, pullback(np.ones_like(out)), strict=True):
            assert g.dtype == x.dtype
        wide = tuple(x.astype(float) for x in xs)
        expected = cr.jvp(f, wide, tuple(np.ones_like(x) for x in wide))[1]
        np.testing.assert_allclose(dot, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("scale", [1e200, 1.0, 1e-200])
def test_arctan2_at_any_scale(scale):
    dy, dx = cr.grad(np.arctan2, argnums=(0, 1))(3.0 * scale, 4.0 * scale)
    np.testing.assert_allclose([dy * scale, dx * scale], [4 / 25, -3 / 25], rtol=1e-14)


@pytest.mark.parametrize(
    ("x", "y", "weights"),
    [
        (np.inf, 0.0, (1, 0)),
        (0.0, np.inf, (0, 1)),
        (-np.inf, 0.0, (0, 1)),
        (-np.inf, -np.inf, (0, 0)),
        (800.0, 0.0, (1, 0)),
    ],
)
def test_logaddexp_weighs_infinities(x, y, weights):
    with np.errstate(all="ignore"):
        assert cr.grad(np.logaddexp, argnums=(0, 1))(x, y) == weights
