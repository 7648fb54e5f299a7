"""Maps of stacks of matrices: zeros are strong member by member; values of factorisations and transforms by their definitions."""

import numpy as np
import pytest
import scipy.linalg

from chainrule.ir.primitive import ops
from chainrule.ir.types import ArrayType
from chainrule.linear import Contract
from chainrule.linear.maps import Slot
from chainrule.linear.strong import strong_products

SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
REGULAR = np.array([[2.0, 1.0], [0.5, 3.0]])


@np.errstate(all="ignore")
def test_zeros_stay_zero_in_each_matrix_of_a_stack():
    def inverse(a):
        return ops.inv.partial(0, (a,), ops.inv(a, singular="nan"), {"singular": "nan"})

    a = np.stack([SINGULAR * np.nan, REGULAR, SINGULAR * np.nan])
    m, alone = inverse(a), inverse(REGULAR)
    t = np.stack([np.zeros((2, 2)), np.array([[0.0, 1.0], [0.0, 0.0]]), np.ones((2, 2))])
    found = m.apply(t)
    np.testing.assert_array_equal(found[0], np.zeros_like(found[0]))
    np.testing.assert_allclose(found[1], alone.apply(t[1]))
    assert np.isnan(found[2]).any()
    ct = np.ones((3, 2, 2)) * np.reshape([0.0, 1.0, 1.0], (3, 1, 1))
    assert np.isnan(m.adjoint(ct)[0]).any()
    with strong_products():
        found = m.adjoint(ct)
    np.testing.assert_array_equal(found[0], np.zeros((2, 2)))
    np.testing.assert_allclose(found[1], alone.adjoint(ct[1]))
    assert np.isnan(found[2]).any()


@np.errstate(all="ignore")
def test_a_member_counts_as_zero_only_where_all_of_it_is():
    a = np.stack([REGULAR * np.nan, REGULAR])
    m = ops.inv.partial(0, (a,), ops.inv(a, singular="nan"), {"singular": "nan"})
    for places in np.ndindex(2, 2):
        t = np.zeros((2, 2, 2))
        t[(0, *places)] = -1.0
        assert np.isnan(m.apply(t)[0]).any()
        np.testing.assert_array_equal(m.apply(t)[1], np.zeros((2, 2)))


def fourier(n):
    return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_fourier_transform_is_its_matrix(norm, inverse):
    x = np.arange(12.0).reshape(4, 3) ** 2 + 1j * np.arange(12)[::-1].reshape(4, 3)
    scale = {"ortho": 12**-0.5, "backward": 1 / 12 if inverse else 1, "forward": 1 if inverse else 1 / 12}[norm]
    first, second = (f.conj() if inverse else f for f in (fourier(4), fourier(3)))
    expected = scale * first @ x @ second
    np.testing.assert_allclose(ops.fft(x, axes=(0, 1), norm=norm, inverse=inverse), expected, atol=1e-11)


@pytest.mark.parametrize("n", [3, 31, 32, 40])
@pytest.mark.parametrize("lower", [True, False])
def test_triangular_systems_of_any_size_are_solved_or_refused(n, lower):
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (n, n)) / n + 2 * np.eye(n)
    b = rng.standard_normal((n, 2))
    found = ops.solve_triangular(a, b, lower=lower, singular="raise")
    np.testing.assert_allclose((np.tril(a) if lower else np.triu(a)) @ found, b, rtol=1e-12, atol=1e-12)
    a[1, 1] = 0.0
    with pytest.raises((np.linalg.LinAlgError, scipy.linalg.LinAlgError)):
        ops.solve_triangular(a, b, lower=lower, singular="raise")
    hidden = ops.solve_triangular(a, b, lower=lower, singular="nan")
    assert hidden.shape == b.shape
    assert not np.isfinite(hidden).all()
    assert np.isnan(ops.solve_triangular(a * np.nan, b, lower=lower, singular="nan")).all()


def test_cotangents_of_gathers_are_added_to_what_is_there():
    x, i = np.arange(4.0), np.array([2, 0, 2])
    buffer = np.ones(4)
    found = ops.gather.accumulate(buffer, np.array([1.0, 10.0, 100.0]), x, i, key=(Slot(0),))
    assert found is buffer
    assert found.tolist() == [11, 1, 102, 1]
    assert ops.gather.accumulate(None, np.ones(3), x, i, key=(Slot(0),)).tolist() == [1, 0, 2, 0]


def test_pieces_that_reach_out_of_arrays_are_refused():
    x = np.arange(3.0)
    assert ops.assemble(x, pieces=((0, (0,), (3,), 2, (-1,)),), size=3).tolist() == [2, 1, 0]
    assert ops.assemble(x, pieces=((0, (1,), (1,), 9, (1,)),), size=3).shape == (3,)  # nothing of it goes anywhere
    for low, high in ((0, 4), (2, 1), (-1, 2)):
        with pytest.raises(IndexError, match="a piece from"):
            ops.assemble(x, pieces=((0, (low,), (high,), 0, (1,)),), size=3)
    for first, step in ((1, 1), (1, -1), (-1, 1), (3, -1)):
        with pytest.raises(IndexError, match="reaches out"):
            ops.assemble(x, pieces=((0, (0,), (3,), first, (step,)),), size=3)


def test_norms_of_complex_stacks_are_their_definition():
    x = np.array([[3.0 + 4j, 0], [1j, 2.0]])
    np.testing.assert_allclose(ops.reduce_norm(x, axes=(1,)), [5, 5**0.5])


def contract_of(w):
    left, right, to = (1,), (0, 1), (0,)
    kind = ArrayType((w.shape[1],), w.dtype)
    return Contract(w, left, right, to, kind, ArrayType((w.shape[0],), w.dtype))


@np.errstate(all="ignore")
def test_complex_contractions_keep_zeros_of_tangents():
    w = np.array([[np.nan, 1j, 2.0], [1.0, np.inf, 1j]])
    m = contract_of(w)
    np.testing.assert_array_equal(m.apply(np.array([0, 0, 3 + 1j])), [6 + 2j, 3j - 1])
    found = m.apply(np.array([0, 1j, 1.0]))
    assert found[0] == 1.0
    assert not np.isfinite(found[1])
    found = m.apply(np.array([1.0, 0, 1.0]))
    assert np.isnan(found[0])
    assert found[1] == 1 + 1j


@pytest.mark.parametrize(("name", "sign"), [("add", 1), ("subtract", -1)])
def test_cotangents_of_real_terms_of_complex_sums_are_real(name, sign):
    z, x, ct = np.array([1j, 2.0]), np.array([3.0, 4.0]), np.array([1 + 2j, 3 - 1j])
    back = ops[name].pulls[1]((z, x), z, {}, ct, np.multiply)
    assert back.dtype == float
    np.testing.assert_array_equal(back, sign * ct.real)
    back = ops[name].pulls[1]((z, x[:1]), z, {}, ct, np.multiply)
    np.testing.assert_array_equal(back, [sign * 4.0])
