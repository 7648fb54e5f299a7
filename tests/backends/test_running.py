"""Running operations and reductions in native code: results are NumPy's, special values included, and NumPy computes nothing."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.llvm import divide
from chainrule.ir.primitive import ops

SHAPES = [(1,), (2,), (7,), (40,), (5000,), (3, 700), (700, 3), (60, 70), (9, 30, 20), (1, 400), (40, 1, 33)]


@pytest.fixture(params=["whole", "in pieces"])
def pieces(request, monkeypatch):
    before = cr.get_threads()
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    if request.param == "in pieces":
        monkeypatch.setattr(divide, "LEAST", 1)
        monkeypatch.setattr(divide, "GRAIN", 16)
        monkeypatch.setattr(divide, "COMBINED", 0.25)
        cr.set_threads(3)
    yield
    cr.set_threads(before)


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def native(f, *args):
    """What native code gives, having made sure that it is native."""
    fast = cr.jit(f)
    found = fast(*args)
    assert "by NumPy" not in str(cr.explain(fast, *args)), str(cr.explain(fast, *args))
    return found


def same(found, expected, rtol=0.0):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


def cases():
    return [(shape, axis) for shape in SHAPES for axis in range(len(shape))]


@pytest.mark.parametrize(("shape", "axis"), cases())
def test_running_sums_and_products(shape, axis, pieces):
    x = draw(*shape)
    sums, products, reversed_sums = native(
        lambda x: (
            np.cumsum(x, axis=axis),
            np.cumprod(x, axis=axis),
            ops.cumsum(np.exp(x), axis=axis, reverse=True),
        ),
        x,
    )
    same(sums, np.cumsum(x, axis=axis))
    same(products, np.cumprod(x, axis=axis), 1e-13)
    same(reversed_sums, np.flip(np.cumsum(np.flip(np.exp(x), axis), axis), axis), 1e-13)


def recurrence(a, b, axis, steps):
    y, before = np.empty(b.shape), 0.0
    for i in steps:
        at = (slice(None),) * axis + (i,)
        y[at] = before = a[at] * before + b[at]
    return y


@pytest.mark.parametrize(("shape", "axis"), cases())
def test_recurrences(shape, axis, pieces):
    a, b = draw(*shape), draw(*shape[::-1]).reshape(shape)
    steps = range(shape[axis])
    found = native(lambda a, b: [ops.recur(a, b, axis=axis, reverse=r) for r in (False, True)], a, b)
    for y, expected in zip(found, (recurrence(a, b, axis, s) for s in (steps, steps[::-1])), strict=True):
        same(y, expected, 1e-11 * np.abs(expected).max())


def test_derivatives_of_running_operations(pieces):
    for shape, axis in (((30,), 0), ((300,), 0), ((20, 40), 0), ((20, 40), 1)):
        x = 1 + 0.1 * draw(*shape)
        for f in (
            lambda x: np.sum(np.cumsum(np.sin(x), axis=axis) ** 2),
            lambda x: np.sum(np.sin(np.cumprod(x, axis=axis))),
            lambda x: np.sum(np.sin(np.prod(x, axis=axis))),
        ):
            same(native(cr.grad(f), x), cr.grad(f)(x), 1e-10)


@np.errstate(all="ignore")
def test_special_values_run_on():
    x = np.tile([1.0, -0.0, np.inf, 2.0, -np.inf, 1.0, np.nan, 3.0], 40)
    for part in (x, x[:5], x[4:8], x.reshape(40, 8), x.astype(np.float32)):
        for axis in range(part.ndim):
            same(native(lambda x: np.cumsum(x, axis=axis), part), np.cumsum(part, axis=axis))
            same(native(lambda x: np.cumprod(x, axis=axis), part), np.cumprod(part, axis=axis))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_, np.float32])
def test_dtypes_are_those_of_numpy(dtype, pieces):
    x = np.random.default_rng(0).integers(0, 4, (50, 30)).astype(dtype)

    def everything(x):
        running = np.cumsum(x, axis=0), np.cumprod(x, axis=1)
        totals = np.sum(x, axis=0), np.prod(x, axis=0), np.prod(x)
        truth = np.all(x, axis=0), np.any(x, axis=1), np.all(x), np.any(x)
        return *running, *totals, *truth, np.count_nonzero(x, axis=1), np.count_nonzero(x)

    for found, expected in zip(native(everything, x), everything(x), strict=True):
        same(found, expected, 1e-6 if dtype == np.float32 else 0)
    if dtype != np.bool_:
        same(native(lambda x: np.max(x, axis=0) - np.min(x), -x), np.max(-x, axis=0) - np.min(-x))


@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_truth_over_every_axis(shape, pieces):
    x = 1 + 0.3 * draw(*shape)
    several = [None, *range(len(shape)), *([(0, 1)] if len(shape) > 1 else [])]

    def everything(x):
        products = [np.prod(x, axis=axes) for axes in several]
        return products, [
            f(x > c, axis=axes) for f in (np.all, np.any, np.count_nonzero) for c in (-5, 0.9, 5) for axes in several
        ]

    products, truth = native(everything, x)
    for found, expected in zip(products, everything(x)[0], strict=True):
        same(found, expected, 1e-12)
    for found, expected in zip(truth, everything(x)[1], strict=True):
        same(found, expected)


def test_nan_is_true_and_extremes_of_integers_start_from_the_least():
    x = np.zeros(100)
    x[70] = np.nan
    assert native(np.any, x)
    assert native(np.count_nonzero, x) == 1
    assert not native(np.all, x)
    least = np.full(100, np.iinfo(np.int64).min)
    assert native(np.max, least) == np.iinfo(np.int64).min
    assert native(np.min, ~least) == np.iinfo(np.int64).max


def test_a_running_result_is_read_at_any_index(pieces):
    x, z = draw(4), draw(1000)
    same(native(lambda x, z: np.cumsum(x)[:, None] * z, x, z), np.cumsum(x)[:, None] * z)
    same(native(lambda z: np.cumsum(z)[::-3] - np.cumsum(z)[0], z), np.cumsum(z)[::-3] - np.cumsum(z)[0], 1e-15)
    y = draw(50, 60)
    same(native(lambda y: np.cumsum(np.cumsum(y, axis=0), axis=1).T, y), np.cumsum(np.cumsum(y, 0), 1).T, 1e-13)
    same(native(lambda y: np.cumsum(y), y), np.cumsum(y))


WHOLE = np.array([0, 1, -1, 2, -2, 3, -3, 7, -7, 62, 63, 64, 65, 1000, 2**62, -(2**62), 2**63 - 1, -(2**63)])


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@np.errstate(all="ignore")
def test_division_and_shifts_of_integers(dtype):
    x, y = (a.ravel().copy() for a in np.meshgrid(WHOLE.astype(dtype), WHOLE.astype(dtype)))
    for f in (np.floor_divide, np.remainder, np.fmod, np.left_shift, np.right_shift):
        for part in (slice(None), slice(3)):
            same(native(f, x[part], y[part]), f(x[part], y[part]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@np.errstate(all="ignore")
def test_division_with_rest_is_exact(dtype):
    """Every bit and every sign of NumPy's, for quotients of any size."""
    rng, limits = np.random.default_rng(0), np.finfo(dtype)
    special = [0.0, -0.0, 1, -1, 0.5, -2, 3, 0.1, -0.3, np.pi, 1e10, 2.0**52 + 1, 1e30, np.inf, -np.inf, np.nan]
    special += [s * x for x in (limits.tiny, limits.smallest_subnormal, limits.max) for s in (1, -3)]
    wide = rng.normal(size=(2, 1500)) * 10.0 ** rng.integers(-36, 36, (2, 1500))
    near = rng.integers(-60, 60, 1500) * 0.1, rng.integers(-9, 9, 1500) * 0.1  # quotients that round to integers
    grid = (a.ravel() for a in np.meshgrid(special, special))
    x, y = (np.concatenate(parts).astype(dtype) for parts in zip(grid, wide, near, strict=True))
    for f in (np.remainder, np.fmod, np.floor_divide):
        for part in (slice(None), slice(3), slice(300, 421)):
            found, expected = native(f, x[part], y[part]), f(x[part], y[part])
            np.testing.assert_array_equal(found, expected)
            number = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(found)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_norms_and_their_gradients(dtype):
    x = draw(60, 70).astype(dtype)
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    for f in (np.linalg.norm, lambda x: np.linalg.norm(x, axis=0), lambda x: np.linalg.norm(x[:3, 0])):
        same(native(f, x), f(x), rtol)
    slope = native(cr.grad(lambda x: np.sum(np.linalg.norm(x, axis=1))), x)
    same(slope, x / np.sqrt(np.sum(x * x, 1, keepdims=True)), rtol)
    np.testing.assert_array_equal(native(cr.grad(np.linalg.norm), x * 0), 0 * x)  # zero at the kink
    assert np.isnan(native(np.linalg.norm, np.where(x > 1, np.nan, x)))


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_sizes_and_signs_of_integers(dtype):
    x = np.array([0, 1, -1, 5, -7, np.iinfo(dtype).max, np.iinfo(dtype).min] * 50, dtype)
    for part in (slice(None), slice(5)):
        same(native(np.abs, x[part]), np.abs(x[part]))
        same(native(np.sign, x[part]), np.sign(x[part]))


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-320, 1e-20, 1e20, 1e308, np.inf, -np.inf, np.nan, -np.nan, 700.0, -1100.0]
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@np.errstate(all="ignore")
def test_signs_and_sums_of_powers_and_sinc(dtype):
    rng = np.random.default_rng(0)
    x, y = (
        a.ravel().astype(dtype)
        for a in np.meshgrid(np.r_[SPECIAL, rng.normal(size=20)], np.r_[SPECIAL, rng.normal(size=20)])
    )
    ulp = 2 * float(np.finfo(dtype).eps)
    same(native(np.signbit, x), np.signbit(x))
    for f in (lambda x: np.signbit(x[:3]), lambda x: np.sinc(x[:3])):
        same(native(f, x), f(x), ulp)
    found, expected = native(np.logaddexp2, x, y), np.logaddexp2(x, y)
    near = np.where(
        np.isfinite(expected) & (expected != 0), expected, 1
    )  # relative; near 0 relative to the larger argument
    size = np.maximum(np.abs(near), np.where(np.abs(near) < 1, 1, 0)).astype(dtype)
    same(found / size, expected / size, 2 * ulp)
    moderate = x[np.abs(x) < 1e5]
    same(native(np.sinc, moderate), np.sinc(moderate), ulp)
    assert np.isnan(native(np.sinc, np.array([np.inf, np.nan] * 20, dtype))).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_the_first_extreme_along_a_short_axis(dtype):
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (4000, 5)).astype(dtype)
    if dtype != np.int64:
        x[rng.random(x.shape) < 0.1] = np.nan
        x[rng.random(x.shape) < 0.1] = -np.inf
        x[rng.random(x.shape) < 0.1] = -0.0
    for f in (np.argmax, np.argmin):
        same(native(lambda x: f(x, axis=1), x), f(x, axis=1))
        same(native(lambda x: f(x, axis=0), x[:7].T.copy()), f(x[:7].T, axis=0))
        same(native(lambda x: f(x[3]), x), f(x[3]))
        assert cr.jit(f)(x.ravel()) == f(x.ravel())  # along a loop, by NumPy
