"""Laws of composition, addition and transposition, over random maps."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.types import ArrayType
from chainrule.linear import (
    Conjugate,
    Contract,
    Diagonal,
    Expand,
    Gather,
    Implicit,
    Mask,
    Permute,
    Place,
    Reshape,
    Scale,
    Scatter,
    Slice,
    SumOver,
    WeightedSum,
)
from chainrule.linear.algebra import Composition, Total, add, compose, density, to_dense, total, transpose
from chainrule.linear.forms import Dense, Einsum, Entries, as_einsum
from chainrule.linear.maps import Slot

F = np.dtype(float)


def of(*shape):
    return ArrayType(shape, F)


def some_maps(seed=0):
    """Maps between arrays of shapes (3, 4), (4,), (12,), (3, 1) and ()."""
    rng = np.random.default_rng(seed)
    r = rng.standard_normal
    i = np.array([2, 0, 2, 1])
    matrix = r((12, 12))
    yield from (
        Scale(2.0, of(3, 4), of(3, 4)),
        Scale(-1, of(4), of(3, 4)),
        Scale(0.0, of(4), of(4)),
        Scale(1.0, of(3, 1), of(3, 4)),
        Diagonal(r((3, 4)), of(3, 4), of(3, 4)),
        Diagonal(r(4), of(3, 1), of(3, 4)),
        Diagonal(r((3, 1)), of(4), of(3, 4)),
        Diagonal(r(()), of(4), of(4)),
        Mask(r((3, 4)) > 0, of(4), of(3, 4)),
        Mask(r(4) > 0, of(3, 4), of(3, 4), keep=False),
        WeightedSum(r((3, 4)), (0,), of(3, 4), of(4)),
        WeightedSum(r((3, 4)), (0, 1), of(3, 4), of()),
        SumOver((0,), of(3, 4), of(4)),
        SumOver((0,), of(12), of()),
        Expand(of(), (4,)),
        Expand(of(4), (3, 4)),
        Reshape(of(3, 4), (12,)),
        Reshape(of(12), (3, 4)),
        Reshape(of(3, 1), (1, 3)),
        Reshape(of(1, 3), (3, 1)),
        Slice((slice(None), slice(1, 2)), of(3, 4), of(3, 1)),
        Slice((1,), of(3, 4), of(4)),
        Slice((slice(None, None, -1),), of(4), of(4)),
        Place((slice(0, 8, 2),), of(4), (12,)),
        Place((slice(None), slice(2, 3)), of(3, 1), (3, 4)),
        Gather((Slot(0),), [i], of(3, 4), of(4, 4)),
        Gather((Slot(0),), [np.r_[i, i, i]], of(4), of(12)),
        Scatter((Slot(0),), [np.r_[i, i, i]], of(12), (4,)),
        Contract(r((5, 4)), (1,), (0, 1), (0,), of(4), of(5)),
        Contract(r((4, 4)), (0, 1), (1, 2), (0, 2), of(3, 4), of(3, 4)),
        Contract(r((3, 4)), (0, 1), (0, 1), (0,), of(3, 4), of(3)),
        Contract(r((3,)), (1,), (0,), (0, 1), of(4), of(3, 4)),
        Dense(r((4, 3, 4)), (3, 4), (4,), F),
        Permute((1, 0), of(3, 4)),
        Permute((1, 0), of(4, 3)),
        Implicit(lambda t: matrix @ t, lambda ct: matrix.T @ ct, of(12), of(12)),
        Entries(np.array([0, 3, 3]), np.array([1, 1, 2]), r(3), (4,), (4,), F),
        Entries(np.array([0, 3, 3]), np.array([1, 11, 2]), r(3), (12,), (4,), F),
        Composition(Scale(3.0, of(12), of(12)), Reshape(of(3, 4), (12,))),
        Total(Scale(3.0, of(4), of(4)), Diagonal(r(4), of(4), of(4))),
    )


MAPS = list(some_maps())
PAIRS = [(a, b) for a, b in itertools.product(MAPS, MAPS) if a.in_shape == b.out_shape]
SUMS = [(a, b) for a, b in itertools.product(MAPS, MAPS) if (a.in_shape, a.out_shape) == (b.in_shape, b.out_shape)]


def matrix_of(m):
    """By applications to unit vectors, independently of how maps compose."""
    n = int(np.prod(m.in_shape))
    columns = [np.ravel(m.apply(np.eye(n)[k].reshape(m.in_shape))) for k in range(n)]
    return np.stack(columns, axis=1)


def adjoint_matrix_of(m):
    n = int(np.prod(m.out_shape))
    return np.stack([np.ravel(m.adjoint(np.eye(n)[k].reshape(m.out_shape))) for k in range(n)], axis=0)


def agrees(m, matrix):
    np.testing.assert_allclose(matrix_of(m), matrix, atol=1e-12)
    np.testing.assert_allclose(adjoint_matrix_of(m), matrix, atol=1e-12)
    np.testing.assert_allclose(to_dense(m).reshape(matrix.shape), matrix, atol=1e-12)
    found = m.pattern().toarray()
    assert not np.any((np.abs(matrix) > 1e-12) & ~found)
    return found


def test_composition_is_product():
    for a, b in PAIRS:
        product = compose(a, b)
        assert (product.in_shape, product.out_shape) == (b.in_shape, a.out_shape)
        found = agrees(product, matrix_of(a) @ matrix_of(b))
        assert np.array_equal(found, (a.pattern().toarray().astype(int) @ b.pattern().toarray().astype(int)) > 0)


def test_sum_is_sum():
    for a, b in SUMS:
        agrees(add(a, b), matrix_of(a) + matrix_of(b))


def test_transpose_is_transpose():
    for m in MAPS:
        agrees(transpose(m), matrix_of(m).T)
        assert transpose(m).in_dtype is F
        assert (transpose(m).in_shape, transpose(m).out_shape) == (m.out_shape, m.in_shape)
        agrees(transpose(transpose(m)), matrix_of(m))


def test_a_transpose_takes_the_type_that_it_is_told():
    single = np.dtype(np.float32)
    for m in MAPS:
        assert transpose(m, single).in_dtype == single


def test_sums_of_sparse_maps_are_sparse_and_those_with_a_full_matrix_are_full():
    full = Contract(np.ones((4, 4)), (1,), (0, 1), (0,), of(4), of(4))
    reverse, diagonal = Slice((slice(None, None, -1),), of(4), of(4)), Diagonal(np.arange(4.0), of(4), of(4))
    assert isinstance(add(full, diagonal), Dense)
    assert isinstance(add(diagonal, full), Dense)
    assert isinstance(add(full, reverse), Dense)
    assert isinstance(add(reverse, full), Dense)
    assert isinstance(add(diagonal, reverse), Entries)
    assert isinstance(add(Scale(2.0, of(3, 3), of(3, 3)), Permute((1, 0), of(3, 3))), Entries)


def test_transposes_of_entries_are_entries():
    at, z = np.array([0, 2]), np.dtype(complex)
    for values, dtype in ((None, F), (np.ones(2), F), (np.ones(2), z), (np.array([1j, 2.0]), z)):
        assert isinstance(transpose(Entries(at, at[::-1], values, (3,), (3,), dtype)), Entries)


def test_structured_maps_stay_structured():
    lazy = [(a, b) for a, b in PAIRS if isinstance(compose(a, b), Composition)]
    assert all(any(isinstance(m, Implicit | Composition | Total) for m in pair) for pair in lazy)
    diagonal = compose(Diagonal(np.ones(4), of(4), of(4)), Diagonal(np.ones(4), of(4), of(4)))
    assert isinstance(diagonal, Einsum)
    assert diagonal.multiplications() == 4
    assert density(diagonal) == 0.25
    assert density(SumOver((0,), of(3, 4), of(4))) == 0.25


def test_a_total_adds_each_term_once():
    terms = [
        Scale(2.0, of(4), of(4)),
        Slice((slice(None, None, -1),), of(4), of(4)),
        Diagonal(np.arange(4.0), of(4), of(4)),
    ]
    agrees(total(terms), sum(matrix_of(m) for m in terms))
    assert total(terms[:1]) is terms[0]


def test_a_map_of_no_inputs_is_written_out_as_no_columns():
    m = Implicit(lambda t: np.zeros(3), lambda ct: np.zeros((0, 2)), of(0, 2), of(3))
    assert to_dense(m).shape == (3, 0, 2)


def test_composition_is_associative():
    rng = np.random.default_rng(1)
    chains = [(a, b, c) for (a, b), c in itertools.product(PAIRS, MAPS) if b.in_shape == c.out_shape]
    for k in rng.choice(len(chains), 200, replace=False):
        a, b, c = chains[k]
        matrix = matrix_of(a) @ matrix_of(b) @ matrix_of(c)
        agrees(compose(compose(a, b), c), matrix)
        agrees(compose(a, compose(b, c)), matrix)


def test_maps_record_on_tracers():
    def product(d, w, t):
        inner = compose(Diagonal(d, of(4), of(4)), Slice((slice(None, None, -1),), of(4), of(4)))
        outer = add(Contract(w, (1,), (0, 1), (0,), of(4), of(4)), Scale(2.0, of(4), of(4)))
        return compose(outer, inner).apply(t)

    rng = np.random.default_rng(2)
    d, w, t = rng.standard_normal(4), rng.standard_normal((4, 4)), rng.standard_normal(4)
    recorded = cr.program(product)(np.ones(4), np.ones((4, 4)), np.ones(4)).check()
    np.testing.assert_allclose(recorded(d, w, t)[0], (w + 2 * np.eye(4)) @ (d * t[::-1]))
    cr.check_grads(product, (d, w, t), order=2)


def test_selection_beats_infinite_partial():
    with np.errstate(all="ignore"):
        chosen = compose(Mask(np.array([True, False]), of(2), of(2)), Diagonal(np.array([1.0, np.inf]), of(2), of(2)))
    assert to_dense(chosen).tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_selection_beats_what_is_infinite_on_the_way_back_too():
    mask = as_einsum(Mask(np.array([True, False]), of(2), of(2)))
    with np.errstate(all="ignore"):
        assert transpose(mask).apply(np.array([1.0, np.inf])).tolist() == [1.0, 0.0]


def test_transposes_of_real_maps_into_complex_ones_take_real_parts():
    z, c = np.dtype(complex), np.array([1 + 2j, 3 - 1j])
    d = np.array([2j, 1 + 1j])
    entries = Entries(np.arange(2), np.arange(2), None, (2,), (2,), F)
    for m in (as_einsum(Diagonal(d, of(2), ArrayType((2,), z))), entries):
        np.testing.assert_allclose(transpose(m, z).apply(c), m.adjoint(c))
        assert transpose(m, z).apply(c).dtype == F
    for m, expected in ((Diagonal(np.array([2.0, 3.0]), of(2), of(2)), [2, 9]), (Scale(-1, of(2), of(2)), [-1, -3])):
        found = transpose(as_einsum(m), z).apply(c)
        assert found.dtype == F
        np.testing.assert_array_equal(found, expected)
    assert isinstance(transpose(as_einsum(Diagonal(np.ones(2), of(2), of(2)))), Einsum)
    assert isinstance(transpose(as_einsum(Diagonal(d, ArrayType((2,), z), ArrayType((2,), z))), z), Einsum)


def test_a_map_at_an_index_has_that_part_of_the_matrix():
    w = np.random.default_rng(3).standard_normal((5, 4))
    m = as_einsum(Contract(w, (1,), (0, 1), (0,), of(4), of(5)))
    (row,), (column,) = m.outer, m.inner
    np.testing.assert_array_equal(to_dense(m.at({row: 2})), w[2])
    np.testing.assert_array_equal(to_dense(m.at({column: 1})), w[:, 1])
    np.testing.assert_array_equal(to_dense(m.at({row: 2, column: 1})), w[2, 1])
    total = as_einsum(SumOver((0, 1), of(3, 4), of()))
    np.testing.assert_array_equal(to_dense(total.at({total.inner[0]: 2})), np.ones(4))


def test_an_identity_of_another_type_is_no_identity():
    outer, same = Diagonal(np.ones(2), of(2), of(2)), Scale(1.0, of(2), of(2))
    assert compose(outer, same) is outer
    assert compose(Conjugate(ArrayType((2,), np.dtype(complex))), same).in_dtype == F


def test_multiplications_are_counted():
    assert as_einsum(Contract(np.ones((5, 4)), (1,), (0, 1), (0,), of(4), of(5))).multiplications() == 20
    assert as_einsum(SumOver((0,), of(3, 4), of(4))).multiplications() == 0
    assert as_einsum(Scale(2.0, of(4), of(3, 4))).multiplications() == 4
    assert compose(Scale(2.0, of(4), of(4)), SumOver((0,), of(3, 4), of(4))).multiplications() == 4
    assert as_einsum(Scale(-1, of(4), of(3, 4))).multiplications() == 0
    rows, columns = np.array([0, 3, 3]), np.array([1, 1, 2])
    assert Entries(rows, columns, np.ones(3), (4,), (4,), F).multiplications() == 3
    assert Entries(rows, columns, None, (4,), (4,), F).multiplications() == 0


def test_a_composition_converts_between_its_parts():
    z = ArrayType((2,), np.dtype(complex))
    found = Composition(Conjugate(z), Scale(3.0, of(2), of(2))).apply(np.array([1.0, 2.0]))
    assert found.dtype == complex
    np.testing.assert_array_equal(found, [3.0, 6.0])


def test_conjugation_is_kept_as_it_is():
    z = ArrayType((2,), np.dtype(complex))
    m = compose(Diagonal(np.array([1j, 2.0]), z, z), Conjugate(z))
    t = np.array([1 + 2j, 3 - 1j])
    np.testing.assert_allclose(m.apply(t), np.array([1j, 2.0]) * t.conj())
    np.testing.assert_allclose(transpose(m).apply(t), m.adjoint(t))


def test_maps_that_do_not_meet_are_refused():
    with pytest.raises(ValueError, match="after one of outputs"):
        compose(SumOver((0,), of(3, 4), of(4)), Reshape(of(3, 4), (12,)))
    with pytest.raises(ValueError, match="maps"):
        add(SumOver((0,), of(12), of()), Reshape(of(3, 4), (12,)))
