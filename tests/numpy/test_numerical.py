"""Numerical methods, polynomials and array creation: values, both modes, second order, batching and replay, by the laws."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.numpy as cnp
from chainrule.testing.cases import LAWS, case, draw

V = draw(6)
U = draw(3, seed=1)
X = draw(3, 4)
Z = draw(4) + 1j * draw(4, seed=5)
STEPS = np.array([0.0, 0.3, 1.1, 1.6, 2.9, 3.3])
OTHER_STEPS = np.array([-0.5, 0.4, 0.9, 2.0, 2.5, 3.9])
POINTS = np.array([[-1.0, 0.1, 0.7], [2.0, 3.2, 4.5]])
A, B = np.float64(0.7), np.float64(2.4)

DIFFERENCES = [
    case("diff", lambda x: np.diff(x) ** 2, X),
    case("diff twice", lambda x: np.diff(x, n=2, axis=0) ** 2 + np.diff(x, 0)[1:2], X),
    case("diff with ends", lambda v: np.diff(v, prepend=0.0, append=v[:2]) ** 2, V),
    case("ediff1d", lambda x: np.ediff1d(x, to_begin=x[0, 0], to_end=[1.0, 2.0]) ** 2, X),
    case("gradient", lambda x: np.gradient(x), X),
    case("gradient with a step", lambda v, a: np.gradient(v, a) ** 2, V, A),
    case("gradient of second order at the ends", lambda v, a: np.gradient(v, a, edge_order=2) ** 2, V, A),
    case("gradient at places", lambda v, s: np.gradient(v, s), V, STEPS, others=(V[::-1], OTHER_STEPS)),
    case(
        "gradient at places, second order",
        lambda v, s: np.gradient(v, s, edge_order=2),
        V,
        STEPS,
        others=(V[::-1], OTHER_STEPS),
    ),
    case("gradient along axes", lambda x: np.gradient(x, 0.5, [0.0, 1.0, 1.5, 3.0], axis=(0, 1)), X),
    case("trapezoid", lambda x: np.trapezoid(x, dx=0.5) ** 2 + np.trapezoid(x, axis=0)[:3], X),
    case("trapezoid at places", lambda v, s: np.trapezoid(v, s), V, STEPS),
    case(
        "trapezoid of rows", lambda x, s: np.trapezoid(x, s[:4], axis=1) + np.trapezoid(x, x**2, axis=0)[:3], X, STEPS
    ),
    case("unwrap", lambda v: np.unwrap(v * 4.0), V),
    case("unwrap by a period", lambda x: np.unwrap(x * 3.0, axis=0, period=2.5), X),
]

CONVOLUTIONS = [
    *(case(f"convolve {mode}", lambda v, u, m=mode: np.convolve(v, u, m), V, U) for mode in ("full", "same", "valid")),
    *(
        case(f"convolve the longer {mode}", lambda u, v, m=mode: np.convolve(u, v, m), draw(2), V)
        for mode in ("full", "same", "valid")
    ),
    *(
        case(f"correlate {mode}", lambda v, u, m=mode: np.correlate(v, u, m), V, U)
        for mode in ("full", "same", "valid")
    ),
    *(
        case(f"correlate the longer {mode}", lambda u, v, m=mode: np.correlate(u, v, m), draw(4), draw(5))
        for mode in ("full", "same", "valid")
    ),
    case("convolve complex numbers", lambda z, u: np.convolve(z, u) + np.correlate(u, z, "full"), Z, U),
    case("convolve with a plain kernel", lambda v: np.convolve([1.0, -2.0, 1.0], v, "same") ** 2, V),
]

INTERPOLATION = [
    case("interp in x", lambda x: np.interp(x, STEPS, V), POINTS),
    case("interp in values", lambda f: np.interp(POINTS, STEPS, f) ** 2, V),
    case("interp in places", lambda s: np.interp(POINTS, s, V), STEPS, others=(OTHER_STEPS,)),
    case("interp in all", np.interp, POINTS, STEPS, V, others=(POINTS + 0.02, OTHER_STEPS, V[::-1])),
    case("interp with ends", lambda x, f: np.interp(x, STEPS, f, left=f[1], right=7.0) ** 2, POINTS, V),
    case("interp at the nodes", lambda f: np.interp(STEPS, STEPS, f), V),
    case("interp of a number", lambda a, f: np.interp(a, STEPS, f), A, V),
    case("interp periodic", lambda x, f: np.interp(x, STEPS, f, period=3.5) ** 2, POINTS, V),
    case("interp of one node", lambda x, f: np.interp(x, [0.5], f[:1]), POINTS, V),
    case("interp of complex values", lambda z: np.interp(POINTS, STEPS[:4], z), Z),
]

SAMPLES = [
    case("cov", np.cov, X),
    case("cov of columns", lambda x: np.cov(x, rowvar=False, bias=True), X),
    case("cov of two vectors", lambda v: np.cov(v, v**2, ddof=0), V),
    case("cov weighted", lambda x, w: np.cov(x, aweights=w), X, draw(4, low=0.5, high=2.0)),
    case(
        "cov weighted by counts",
        lambda x, w: np.cov(x, fweights=[1, 2, 1, 3], aweights=w, ddof=0),
        X,
        draw(4, low=0.5, high=2.0),
    ),
    case("cov with counts", lambda x: np.cov(x, fweights=[1, 2, 1, 3]), X),
    case("cov of complex numbers", lambda z: np.cov(np.stack([z, z**2])), Z),
    case("corrcoef", lambda x: np.corrcoef(x) ** 2, X),
    case("bincount", lambda v: np.bincount([0, 2, 2, 1, 0, 5], v, minlength=8) ** 2, V),
    case("histogram", lambda v: np.histogram(np.arange(V.size), 3, weights=v**2)[0], V),
    case("histogram, range", lambda v: np.histogram(np.arange(V.size), [0.5, 1.0, 2.0], weights=v**2)[0], V),
    case("histogram, density", lambda v: np.histogram(np.arange(V.size), 3, density=True, weights=v**2)[0], V),
    case("take by traced indices", lambda v: np.take(V, np.argsort(v)) * v, V),
    case("bincount of traced counts", lambda v: np.bincount((v > 0).astype(int), v**2, 2), V, batched=False),
    case("apply_along_axis", lambda x: np.apply_along_axis(lambda r: np.outer(r[:2], r[1:]), 1, x), X),
    case("apply_along_axis to a number", lambda x: np.apply_along_axis(lambda r: r[0] * r[-1], 0, x), X),
    case("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x**2, [0, 1]), X),
    case("vectorize by NumPy's name", lambda v: np.vectorize(lambda a: a**3, otypes=[float])(v), V),
    case("fromiter", lambda v: np.fromiter((a * a for a in v), float), V),
    case(
        "vectorize by blocks",
        lambda v: np.vectorize(lambda a, b: np.sum(a * b), signature="(n),(n)->()")(np.outer(v, v), v),
        V,
    ),
    case(
        "vectorize to blocks",
        lambda v: np.vectorize(lambda a: (a**2, a[0]), signature="(n)->(n),()")(np.outer(v, v)),
        V,
    ),
    case("vectorize with a constant", lambda v: np.vectorize(lambda a, p: a ** p[0], excluded=["p"])(v, p=[2]), V),
    case("vectorize with a constant place", lambda v: np.vectorize(lambda p, a: a ** p[0], excluded=[0])([2], v), V),
    case("vectorize by name", lambda v: np.vectorize(lambda a, b: a * b)(v, b=2.0 * v), V),
    case("vectorize", lambda v: cnp.vectorize(lambda a, b: a * b if b > 1 else a**2)(v, 2.0), V),
]

POLYNOMIALS = [
    case("polyval", np.polyval, U, X),
    case("polynomials", lambda u, v: (np.polyadd(u, v), np.polysub(v, u), np.polymul(u, v)), U, V),
    case("polyder", lambda v: (np.polyder(v) ** 2, np.polyder(v, 2) ** 2), V),
    case("polyint", lambda v: (np.polyint(v) ** 2, np.polyint(v, 2, k=[1.0, 2.0]) ** 2), V),
    case("polydiv", np.polydiv, V, U + 3.0),
    case("polyfit", lambda s, v: np.polyfit(s, v, 2), STEPS, V, others=(OTHER_STEPS, V[::-1])),
    case("polyfit weighted", lambda v, w: np.polyfit(STEPS, v, 1, w=w), V, draw(6, low=0.5, high=2.0)),
    case(
        "roots",
        lambda u: (
            np.sum(np.roots(np.add([4.0, 0.0, -6.0], u)) ** 2)
            + np.sum(np.sort(np.roots(np.add([4.0, 0.0, -6.0], u))) * [1, 2])
        ),
        U,
        batched=False,
        replayed=False,
    ),
    case("poly1d", lambda u: np.poly1d(u)(U) * np.poly1d(u).deriv()(2.0), U, batched=False),
    case("poly", lambda u: np.poly(u) ** 2, U),
]

CREATION = [
    case("linspace", lambda a, b: np.linspace(a, b, 5) ** 2, A, B),
    case("linspace open", lambda a, b: np.linspace(a, b, 4, endpoint=False, retstep=True), A, B),
    case("linspace of arrays", lambda u: np.linspace(u, u**2, 3, axis=-1), U),
    case("linspace of few", lambda a, b: (np.linspace(a, b, 1), np.linspace(a, b, 0), np.linspace(a, b, 2)), A, B),
    case("logspace", lambda a, b: (np.logspace(a, b, 4), np.logspace(0, b, 3, base=a)), A, B),
    case("geomspace", lambda a, b: (np.geomspace(a, b, 4), np.geomspace(-a, -b, 3, endpoint=False)), A, B),
    case("arange", lambda a, b: np.arange(a, b, 0.5) ** 2, A, B, batched=False),
    case("full", lambda a, u: np.full((2, 3), u) * np.full(3, a) * np.full((), a), A, U),
    case("full_like", lambda u, a: np.full_like(u, a) * np.full_like(u, 2.0), U, A),
    case(
        "constants like",
        lambda u: u * np.zeros_like(u) + np.ones_like(u, shape=(2, 3)) * u + 0 * np.empty_like(u, dtype=int),
        U,
    ),
    case("array of lists", lambda u: np.array([u[0], [1.0, u[1]][1], 3]) + np.array([[u[2]] * 3]), U),
    case("asarray", lambda u: np.asarray(u) * np.ascontiguousarray(u) * np.asanyarray([u, u]), U),
]

CASES = DIFFERENCES + CONVOLUTIONS + INTERPOLATION + SAMPLES + POLYNOMIALS + CREATION


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)


def test_slope_at_the_nodes_of_interp_is_to_the_right_and_at_the_last_to_the_left():
    slope = cr.vmap(cr.grad(lambda x: np.interp(x, [0.0, 1.0, 2.0], [0.0, 1.0, 5.0])))
    np.testing.assert_array_equal(slope(np.array([-1.0, 0.0, 1.0, 2.0, 3.0])), [0, 1, 4, 4, 0])


def test_questions_about_tracers():
    def f(x):
        assert np.shape(x) == (6,)
        assert np.ndim(x) == 1
        assert np.size(x) == 6
        assert np.size(x, 0) == 6
        assert not np.iscomplexobj(x)
        assert np.isrealobj(x)
        assert np.isscalar(x[0])
        assert not np.isscalar(x)
        assert np.result_type(x, np.float32) == np.float64
        assert np.can_cast(x, complex)
        assert np.common_type(x, np.ones(1, np.float32)) is np.float64
        assert np.min_scalar_type(x) == np.float64
        assert np.array_equal(x, x)
        assert not np.array_equal(x, x[:2])
        assert np.array_equiv(x, x[None])
        assert np.allclose(x, x + 1e-12)
        assert np.isclose(x, x + 1).sum() == 0
        assert np.isreal(x).all()
        assert np.shares_memory(x, x)
        assert not np.may_share_memory(x, np.ones(3))
        assert np.array2string(x, precision=2) == np.array2string(V, precision=2)
        assert np.array_repr(x) == np.array_repr(V)
        assert np.array_str(x) == str(V)
        with np.printoptions(precision=3):
            assert str(V) in f"{cr.value(x)}"
        return np.sum(x)

    np.testing.assert_array_equal(cr.grad(f)(V), np.ones(6))


def test_the_namespace_is_numpys():
    assert {"sin", "interp", "array", "float64", "pi", "linalg", "fft", "special"} <= set(dir(cnp))
    assert set(dir(np)) <= set(dir(cnp))
    found = cr.grad(lambda x: cnp.sum(cnp.concat([cnp.array([x[0], x[1] ** 2]), cnp.astype(x, float)])))(U)
    np.testing.assert_allclose(found, [2, 2 * U[1] + 1, 1])
    assert cnp.__array_namespace_info__().default_dtypes()["real floating"] == np.float64
    for alias in (
        "acos",
        "asinh",
        "pow",
        "concat",
        "permute_dims",
        "matrix_transpose",
        "vecdot",
        "unique_values",
        "bitwise_invert",
    ):
        assert hasattr(cnp, alias)


def test_nested_lists_are_followed_when_called_directly():
    def f(x):
        return cnp.sum([x[0], 2 * x[1]]) + cnp.max([x[0], x[1]]) + cnp.mean(cnp.stack([[x[0], x[1]], [1.0, x[2]]]))

    np.testing.assert_allclose(cr.grad(f)(np.array([1.0, 2.0, 3.0])), [1.25, 3.25, 0.25])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.histogram(x),
        lambda x: np.histogramdd(x),
        lambda x: np.packbits(x),
        lambda x: np.polyfit(x, x, 1, full=True),
    ],
)
def test_what_is_not_covered_raises_with_the_place(f):
    with pytest.raises(cr.errors.MissingRule, match=r"not covered.*test_numerical"):
        cr.grad(f)(V)


NOT_COVERED = {
    "busday_count",
    "busday_offset",
    "datetime_as_string",
    "is_busday",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
    "packbits",
    "unpackbits",
    "ravel_multi_index",
    "unravel_index",
    "save",
    "savetxt",
    "savez",
    "savez_compressed",
}


def test_every_function_of_numpy_is_covered_or_known_not_to_be():
    from chainrule.trace.numpy_protocols import FUNCTIONS, UFUNCS

    dispatched = {name for name in dir(np) if hasattr(getattr(np, name), "_implementation")}
    assert {name for name in dispatched if getattr(np, name) not in FUNCTIONS} <= NOT_COVERED
    ufuncs = {name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    assert not {name for name in ufuncs if getattr(np, name) not in UFUNCS}


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sin(x) - [x[0], x[1], 1.0],
        lambda x: [x[0], x[1], 1.0] * x,
        lambda x: x ** (x[1], x[2], 2.0),
        lambda x: np.multiply([x[0], x[1], 1.0], x),
        lambda x: np.maximum(x, [2 * x[0], 0.5 * x[1], 1.0]),
        lambda x: np.subtract.outer(x, [x[0], 1.0]),
        lambda x: x @ [x[0], x[1], 1.0],
        lambda x: np.where([True, False, True], [x[0], 1.0, x[2]], x**2),
        lambda x: np.einsum("i,i", [x[0], x[1], 1.0], x),
        lambda x: np.clip(x, [0.5 * x[1], 0.0, 1.0], 2.5),
        lambda x: np.interp([x[0], 1.7], [0.0, x[1], 3.0], [x[2], 1.0, x[0]]),
    ],
)
def test_lists_of_traced_numbers_keep_their_derivatives(f):
    x = np.array([1.0, 2.0, 2.7])
    found = cr.jvp(f, (x,), (np.ones(3),))[1]
    h = 1e-6
    np.testing.assert_allclose(found, (np.asarray(f(x + h)) - np.asarray(f(x - h))) / (2 * h), rtol=1e-6, atol=1e-8)
