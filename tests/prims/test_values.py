"""Values of the primitives on their own samples, by NumPy's, SciPy's or a plain loop's."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
import scipy.special

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.linear.maps import Slot, fill


def placed(x, key, shape):
    out = np.zeros(shape, x.dtype)
    out[key] = x
    return out


def scattered(ct, *indices, key, shape):
    """Element by element, at the places where a gather would read."""
    source = np.arange(np.prod(shape)).reshape(shape)[fill(key, indices)]
    out = np.zeros(int(np.prod(shape)), ct.dtype)
    for place, value in zip(np.ravel(source), np.ravel(ct), strict=True):
        out[place] += value
    return out.reshape(shape)


def contracted(x, y, left, right, to):
    out = np.einsum(x, list(left), y, list(right), list(to))
    return out.astype(np.result_type(x, y))


def cumulative_sum(x, axis, reverse):
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


def running(better):
    def along(line):
        best, out = 0, []
        for i, x in enumerate(line):
            if better(x, line[best]):
                best = i
            out.append(best)
        return np.array(out)

    return lambda x, axis: np.apply_along_axis(along, axis, x)


VALUES = {
    "reshape": lambda x, shape: np.reshape(x, shape),
    "transpose": lambda x, axes: np.transpose(x, axes),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis=axis),
    "contract": contracted,
    "reduce_sum": lambda x, axes: np.sum(x, axis=axes),
    "reduce_prod": lambda x, axes: np.prod(x, axis=axes),
    "reduce_max": lambda x, axes: np.max(x, axis=axes),
    "reduce_min": lambda x, axes: np.min(x, axis=axes),
    "reduce_norm": lambda x, axes: np.sqrt(np.sum(np.abs(x) ** 2, axis=axes)),
    "cumsum": cumulative_sum,
    "cumprod": lambda x, axis: np.cumprod(x, axis=axis),
    "slice": lambda x, key: x[key],
    "place": placed,
    "gather": lambda x, *indices, key: x[fill(key, indices)],
    "scatter_add": scattered,
    "argmax": lambda x, axis: np.argmax(x, axis=axis),
    "argmin": lambda x, axis: np.argmin(x, axis=axis),
    "argsort": lambda x, axis, kind: np.argsort(x, axis=axis, kind="stable"),
    "argpartition": lambda x, axis, kth: np.argpartition(x, kth, axis=axis),
    "running_argmax": running(lambda a, b: a > b),
    "running_argmin": running(lambda a, b: a < b),
    "all_of": lambda x, axes: np.all(x, axis=axes),
    "any_of": lambda x, axes: np.any(x, axis=axes),
    "count_true": lambda x, axes: np.sum(x != 0, axis=axes),
    "searchsorted": lambda a, v, side: np.searchsorted(a, v, side),
    "strong_multiply": lambda t, d: t * d,
    "stop_gradient": lambda x: x,
    "convert": lambda x, dtype: np.asarray(x, dtype),
    "discretise": lambda x, dtype: np.asarray(x).astype(dtype),
    "det": lambda x: np.linalg.det(x),
    "expm": lambda x: scipy.linalg.expm(x),
}
CASES = [(name, args, params) for name in VALUES for args, params in ops[name].samples()]


@pytest.mark.parametrize(("name", "args", "params"), CASES, ids=[name for name, _, _ in CASES])
def test_value(name, args, params):
    found, expected = ops[name](*args, **params), VALUES[name](*args, **params)
    assert np.shape(found) == np.shape(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [p.name for p in ops if isinstance(getattr(np, p.name, None), np.ufunc)])
def test_ufuncs_have_numpys_values(name):
    args = {1: ([0.3, 0.7],), 2: ([0.3, 0.7], [0.4, -0.2])}[getattr(np, name).nin]
    for dtype in (float, np.float32, complex, int, bool):
        xs = [(np.array(a) * 10 if dtype is int else np.array(a)).astype(dtype) for a in args]
        with np.errstate(all="ignore"):
            try:
                expected = getattr(np, name)(*xs)
            except (TypeError, ValueError):
                continue
            found = ops[name](*xs)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_max", "reduce_prod", "any_of", "count_true"])
@pytest.mark.parametrize("dtype", [float, np.float32, complex, np.int8, np.uint8, bool])
def test_types_of_reductions_are_numpys(name, dtype):
    from chainrule.ir.types import ArrayType

    x = np.ones((2, 3), dtype)
    derived = ops[name].type_rule(ArrayType.of(x), axes=(0,))
    assert derived == (ArrayType.of(VALUES[name](x, axes=(0,))),)
    assert derived == (ArrayType.of(ops[name](x, axes=(0,))),)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_extremes_stay_at_the_first_tie_and_at_nan(reverse):
    line = np.array([1.0, 1.0, 0.0, 2.0, np.nan, 3.0, np.nan])
    expected = [0, 0, 0, 3, 4, 4, 4]
    name, sign = ("running_argmin", -1) if reverse else ("running_argmax", 1)
    np.testing.assert_array_equal(ops[name](sign * line, axis=0), expected)
    np.testing.assert_array_equal(
        ops[name](sign * np.stack([line, line], 1), axis=0), np.stack([expected, expected], 1)
    )


@pytest.mark.parametrize("size", [3, 20_000])
def test_large_broadcasts_are_views_and_small_ones_are_copies(size):
    x = np.arange(3.0)
    out = ops.broadcast_to(x, shape=(size, 3))
    assert np.shares_memory(out, x) == (size > 3)
    np.testing.assert_array_equal(out, np.broadcast_to(x, (size, 3)))


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", [float, np.float32, complex, np.int8, np.uint8, bool])
def test_types_of_running_reductions_are_numpys(name, dtype):
    from chainrule.ir.types import ArrayType

    params = {"axis": 1, "reverse": True} if name == "cumsum" else {"axis": 1}
    x = np.ones((2, 3), dtype)
    expected = ArrayType.of(getattr(np, name)(x, axis=1))
    assert ops[name].type_rule(ArrayType.of(x), **params) == (expected,)
    assert ArrayType.of(ops[name](x, **params)) == expected


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrence_of_factors_whose_products_overflow(reverse):
    a, b = np.array([7.0, 1e200, 1e200, 1e-300, 3.0]), np.array([1e-250, 0.0, 0.0, 1.0, 2.0])
    expected = [b[0]]
    for factor, term in zip(a[1:], b[1:], strict=True):
        expected.append(factor * expected[-1] + term)
    if reverse:
        a, b, expected = a[::-1], b[::-1], expected[::-1]
    np.testing.assert_allclose(ops.recur(a, b, axis=0, reverse=reverse), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_sorting_is_stable_along_its_axis(axis):
    x = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(float)
    expected = np.argsort(x, axis=axis, kind="stable")
    np.testing.assert_array_equal(ops.argsort(x, axis=axis, kind="stable"), expected)
    found = np.take_along_axis(x, ops.argpartition(x, axis=axis, kth=(17,)), axis)
    np.testing.assert_array_equal(np.take(found, 17, axis), np.take(np.sort(x, axis), 17, axis))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searching_in_a_batch_treats_nan_as_the_largest(side):
    a = np.array([[0.0, 1.0, 1.0, 2.0], [0.0, 1.0, np.nan, np.nan], [np.nan] * 4])
    v = np.array([-1.0, 0.0, 1.0, 1.5, 3.0, np.nan])
    vs = np.stack([v, v[::-1], v])
    search = lambda a, v: ops.searchsorted(a, v, side=side)
    np.testing.assert_array_equal(
        cr.vmap(search)(a, vs), [np.searchsorted(x, y, side) for x, y in zip(a, vs, strict=True)]
    )
    np.testing.assert_array_equal(cr.vmap(search, in_axes=(0, None))(a, v), [np.searchsorted(x, v, side) for x in a])


def shares_memory(p, args, params):
    with np.errstate(all="ignore"):
        out = p(*args, **params)
    arrays = [o for o in (out if isinstance(out, tuple) else (out,)) if isinstance(o, np.ndarray)]
    return any(np.shares_memory(o, x) for o in arrays for x in args if isinstance(x, np.ndarray))


# What is the identity on real arrays returns them as they are.
@pytest.mark.parametrize("p", [p for p in ops if p.name not in {"real", "stop_gradient", "custom_call"}], ids=str)
def test_results_that_share_memory_are_declared_views(p):
    assert any(shares_memory(p, *sample) for sample in p.samples()) == p.view


def test_plain_numbers_are_broadcast():
    np.testing.assert_array_equal(ops.broadcast_to(2.5, shape=(2,)), [2.5, 2.5])


def test_scalars_stay_scalars():
    for out in (
        ops.reshape(np.ones(1), shape=()),
        ops.contract(np.ones(2), np.ones(2), left=(0,), right=(0,), to=()),
        ops.contract(1j * np.ones((2, 3)), np.ones((3, 2)), left=(0, 1), right=(1, 0), to=()),
        ops.where(np.bool_(True), 1.0, 2.0),
        ops.real(np.float64(1)),
        ops.imag(np.float64(1)),
        ops.stop_gradient(np.float64(1)),
        ops.convert(1, dtype=np.dtype(float)),
        ops.count_true(np.ones(2), axes=(0,)),
    ):
        assert isinstance(out, np.generic)


def test_of_a_stack_only_what_is_singular_is_nan():
    a = np.stack([np.ones((2, 2)), np.diag([2.0, 4.0])])
    expected = np.stack([np.full((2, 2), np.nan), np.diag([0.5, 0.25])])
    np.testing.assert_array_equal(ops.inv.value(a, singular="nan"), expected)
    np.testing.assert_array_equal(ops.solve.value(a, np.stack([np.eye(2)] * 2), singular="nan"), expected)


def test_a_piece_that_goes_backwards_stays_within_the_array():
    assert ops.assemble.value(np.arange(1.0, 4.0), pieces=((0, (0,), (3,), 2, (-1,)),), size=4).tolist() == [3, 2, 1, 0]
    with pytest.raises(IndexError, match="reaches out"):
        ops.assemble.value(np.ones(3), pieces=((0, (0,), (3,), 1, (-1,)),), size=6)


def test_polygamma_of_single_precision_stays_so():
    x = np.array([0.5, 2.0])
    for n in (0, 1, np.array([0, 2])):
        assert ops.polygamma.value(n, x).dtype == float
        found = ops.polygamma.value(n, x.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, scipy.special.polygamma(n, x), rtol=1e-6)


def cofactors(a):
    """The transposed matrix of the cofactors, each an exact sum of products."""
    (a, b, c), (d, e, f), (g, h, i) = ([Fraction(float(x)) for x in row] for row in a)
    rows = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    return np.array(rows, float)


def test_the_adjugate_has_the_cofactors_of_matrices_near_and_far_from_singular():
    far = np.array([[2.0, 1.0, 0.5], [-1.0, 3.0, 0.25], [0.5, 1.0, 4.0]])
    near = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0 + 1e-12]])
    stack = np.stack([far, near, near.round(), np.outer([1.0, 2.0, -1.0], [0.5, 1.0, 2.0]), np.zeros((3, 3))])
    for a, found in zip(stack, ops.adjugate.value(stack), strict=True):
        np.testing.assert_allclose(found, cofactors(a), rtol=0, atol=1e-14 * np.abs(a).max() ** 2)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_the_adjugate_exists_where_the_determinant_overflows_or_underflows(scale):
    a = scale * np.array([[2.0, 1.0], [1.0, 3.0]])
    np.testing.assert_allclose(ops.adjugate.value(a), scale * np.array([[3.0, -1.0], [-1.0, 2.0]]), rtol=1e-14)


def test_of_largest_elements_that_tie_the_mean_phase_of_an_eigenvector_stays():
    a, da = np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([[0.3, 0.2j], [0.5j - 0.4, 0.1]])
    (_, v), (_, dv) = cr.jvp(lambda a: tuple(np.linalg.eig(a)), (a.astype(complex),), (da,))
    assert abs(v[0, 1]) == abs(v[1, 1])
    np.testing.assert_allclose(np.sum(np.imag(dv[:, 1] / v[:, 1])), 0, atol=1e-15)
    assert abs(np.imag(dv[0, 1] / v[0, 1])) > 0.1


def test_a_singular_matrix_is_an_error_where_it_is_numpys():
    for value in (lambda a: ops.inv.value(a, singular="raise"), lambda a: ops.solve.value(a, a, singular="raise")):
        with pytest.raises(np.linalg.LinAlgError):
            value(np.ones((2, 2)))


def test_logsumexp_of_infinities_among_large_numbers_does_not_warn():
    value = ops.reduce_logsumexp.value
    np.testing.assert_array_equal(value(np.array([[np.inf, 1e3], [-np.inf, -np.inf]]), axes=(1,)), [np.inf, -np.inf])


@pytest.mark.parametrize("index", [[2, 0], [0, 0], [0, -4], [3, -1], [[1, 2], [3, 0]], [[1, 1]]])
def test_scatter_adds_up_what_goes_to_one_place(index):
    i = np.array(index)
    ct = np.arange(1.0, 1 + 3 * i.size).reshape(3, *i.shape)
    expected = np.zeros((3, 4))
    for row in range(3):
        for k, value in zip(i.ravel(), ct[row].ravel(), strict=True):
            expected[row, k] += value
    found = ops.scatter_add(ct, i, key=(slice(None), Slot(0)), shape=(3, 4))
    np.testing.assert_array_equal(found, expected)
