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
    ZeroDiagonal,
    algebra,
    forms,
)
from chainrule.linear.algebra import Composition, Total, Transposed, add, compose, to_dense, transpose
from chainrule.linear.forms import Dense, Einsum, Entries, as_einsum, as_entries
from chainrule.linear.maps import Slot
from chainrule.linear.strong import strong_products

F = np.dtype(float)


def of(*shape):
    return ArrayType(shape, F)


def some_maps(seed=0):
    """Maps between arrays of shapes (3, 4), (4,), (12,), (3, 1), () and some more."""
    rng = np.random.default_rng(seed)
    r = rng.standard_normal
    i = np.array([2, 0, 2, 1])
    matrix = r((4, 12))
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
        Expand(of(3, 4), (2, 3, 4)),
        SumOver((0,), of(2, 3, 4), of(3, 4)),
        ZeroDiagonal(r((3, 4)), of(3, 4), of(3, 4)),
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
        Implicit(lambda t: matrix @ t, lambda ct: matrix.T @ ct, of(12), of(4)),
        Entries(np.array([0, 3, 3]), np.array([1, 1, 2]), r(3), (4,), (4,), F),
        Entries(np.array([0, 3, 3]), np.array([1, 11, 2]), r(3), (12,), (4,), F),
        Composition(Scale(3.0, of(12), of(12)), Reshape(of(3, 4), (12,))),
        Total(SumOver((0,), of(3, 4), of(4)), WeightedSum(r((3, 4)), (0,), of(3, 4), of(4))),
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
    pattern = m.pattern()
    assert pattern.has_canonical_format
    found = pattern.toarray()
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


def test_sums_of_one_structure_keep_it():
    diagonal, sums = Diagonal(np.arange(4.0), of(4), of(4)), SumOver((0,), of(3, 4), of(4))
    assert isinstance(add(diagonal, Scale(2.0, of(4), of(4))), Einsum)
    assert isinstance(add(sums, sums), Einsum)


def test_sums_of_sparse_maps_are_sparse_and_those_with_a_full_matrix_are_full():
    full = Contract(np.ones((4, 4)), (1,), (0, 1), (0,), of(4), of(4))
    reverse, diagonal = Slice((slice(None, None, -1),), of(4), of(4)), Diagonal(np.arange(4.0), of(4), of(4))
    assert isinstance(add(full, diagonal), Dense)
    assert isinstance(add(diagonal, full), Dense)
    assert isinstance(add(full, reverse), Dense)
    assert isinstance(add(reverse, full), Dense)
    assert isinstance(add(diagonal, reverse), Entries)
    assert isinstance(add(Scale(2.0, of(3, 3), of(3, 3)), Permute((1, 0), of(3, 3))), Entries)


def test_what_cannot_be_written_out_is_kept_beside_a_full_matrix():
    full = Contract(np.ones((4, 4)), (1,), (0, 1), (0,), of(4), of(4))
    some = Implicit(lambda t: 2 * t, lambda ct: 2 * ct, of(4), of(4))
    assert isinstance(add(full, some), Total)
    assert isinstance(add(some, full), Total)


def test_maps_of_too_many_entries_are_kept_as_they_are(monkeypatch):
    def limit(most):
        for module in (algebra, forms):
            monkeypatch.setattr(module, "MOST_ENTRIES", most)

    full = Contract(np.ones((3, 4)), (1,), (0, 1), (0,), of(4), of(3))
    ends = Slice((slice(None, None, 3),), of(4), of(2))
    first, second = np.array([0, 1, 1]), np.array([0, 0, 2])
    outer, inner = Entries(first, first, None, (2,), (2,), F), Entries(first, second, None, (3,), (2,), F)
    for most, kind in ((12, Dense), (11, Total)):
        limit(most)
        assert isinstance(add(full, Entries(second, second, None, (4,), (3,), F)), kind)
    for most, kind in ((5, Entries), (4, Composition)):  # each entry of outer meets those of inner in its column's row
        limit(most)
        assert isinstance(compose(outer, inner), kind)
    limit(12)
    assert len(as_entries(full).rows) == 12
    limit(11)
    assert as_entries(full) is None
    assert isinstance(as_entries(ends), Entries)


def test_reshapes_that_add_and_drop_axes_of_one_are_einsums():
    for before, after in (((3, 1), (1, 3)), ((1, 2, 1, 3), (2, 3, 1)), ((2, 3), (2, 1, 3)), ((), (1, 1))):
        m = as_einsum(Reshape(of(*before), after))
        assert (m.in_shape, m.out_shape) == (before, after)
        assert to_dense(m).ravel().tolist() == np.eye(int(np.prod(before))).ravel().tolist()
    assert as_einsum(Reshape(of(2, 3), (3, 2))) is None
    assert as_einsum(Reshape(of(2, 2), (4,))) is None


def test_recorded_indices_have_no_entries():
    def f(i, t):
        scatter = Scatter((Slot(0),), [i], of(3), (4,))
        assert as_entries(scatter) is None
        assert as_entries(Gather((Slot(0),), [i], of(4), of(3))) is None
        return compose(Diagonal(np.arange(4.0), of(4), of(4)), scatter).apply(t)

    found = cr.program(f)(np.array([0, 1, 2]), np.ones(3))
    assert found(np.array([3, 1, 1]), np.arange(1.0, 4))[0].tolist() == [0, 5, 0, 3]


def test_patterns_of_compositions_hold_any_number_of_paths():
    for n in (2, 256, 512):
        row = Implicit(np.sum, lambda ct: np.full(n, ct), of(n), of())
        column = Implicit(lambda t: np.full(n, t), np.sum, of(), of(n))
        assert Composition(row, column).pattern().toarray().tolist() == [[True]]
        assert Composition(column, row).pattern().nnz == n * n


def test_a_map_of_single_precision_is_written_out_in_it():
    single = ArrayType((2,), np.dtype(np.float32))
    assert to_dense(Implicit(lambda t: 2 * t, lambda ct: 2 * ct, single, single)).dtype == np.float32


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


BAD = np.array([np.inf, np.nan, 2.0])
SOME = np.array([0.0, 0.0, 1.0])


@np.errstate(invalid="ignore")
def test_zeros_stay_zero_where_maps_are_multiplied_out():
    bad, columns = Diagonal(BAD, of(3), of(3)), np.arange(3)
    for m in (as_einsum(bad), Entries(columns, columns, BAD, (3,), (3,), F), add(bad, Scale(2.0, of(3), of(3)))):
        expected = np.array([0, 0, to_dense(m)[2, 2]])
        np.testing.assert_array_equal(m.apply(SOME), expected)
        assert np.isnan(m.adjoint(SOME)[0])
        with strong_products():
            np.testing.assert_array_equal(m.adjoint(SOME), expected)
    spread = as_einsum(Diagonal(BAD[:, None], of(2), of(3, 2)))
    np.testing.assert_array_equal(spread.apply(np.array([0.0, 1.0])).T, [[0, 0, 0], BAD])


def in_forms(m):
    """A map of vectors as an Einsum and as Entries, with what it selects."""
    einsum = as_einsum(m)
    n = len(einsum.weights)
    at = np.arange(n)
    yield einsum
    yield Entries(at, at, einsum.weights, (n,), (n,), F, selects=einsum.selects)


@np.errstate(invalid="ignore")
def test_what_a_mask_does_not_select_is_zero_in_every_order():
    mask, zeros = Mask(SOME == 1, of(3), of(3)), ZeroDiagonal(SOME, of(3), of(3))
    bad, twice = Diagonal(BAD, of(3), of(3)), Scale(2.0, of(3), of(3))
    for selection, (of_selection, of_bad) in itertools.product(
        (mask, zeros), zip(zip(in_forms(mask), in_forms(zeros), strict=True), in_forms(bad), strict=True)
    ):
        chosen = of_selection[selection is zeros]
        for product in (
            compose(chosen, of_bad),
            compose(of_bad, chosen),
            compose(twice, chosen),
            compose(chosen, twice),
        ):
            assert product.selects
            np.testing.assert_array_equal(to_dense(product), np.diag([0.0, 0.0, 2.0]))
            for m in (product, transpose(product)):
                np.testing.assert_array_equal(m.apply(BAD), [0, 0, 4])
                np.testing.assert_array_equal(m.adjoint(BAD), [0, 0, 4])
                np.testing.assert_array_equal(to_dense(compose(m, of_bad)), np.diag([0.0, 0.0, 4.0]))
                np.testing.assert_array_equal(to_dense(compose(of_bad, m)), np.diag([0.0, 0.0, 4.0]))
        np.testing.assert_array_equal(add(chosen, chosen).apply(BAD), [0, 0, 4])


@np.errstate(invalid="ignore")
def test_a_coefficient_of_zero_selects_nothing():
    for m in in_forms(Diagonal(SOME, of(3), of(3))):
        for made in (m, compose(m, Scale(2.0, of(3), of(3))), transpose(m), add(m, m)):
            assert np.isnan(made.apply(BAD)[:2]).all()


@np.errstate(all="ignore")
def test_a_recorded_selection_beats_what_becomes_infinite_later():
    def product(d, t):
        return compose(
            Diagonal(d, of(3), of(3)), Entries(*[np.arange(3)] * 2, 1 * SOME, (3,), (3,), F, selects=True)
        ).apply(t)

    def reverse(d, t):
        return compose(
            Entries(*[np.arange(3)] * 2, 1 * SOME, (3,), (3,), F, selects=True), Diagonal(d, of(3), of(3))
        ).apply(t)

    for f in (product, reverse):
        recorded = cr.program(f)(np.ones(3), np.ones(3))
        np.testing.assert_array_equal(recorded(BAD, np.ones(3))[0], [0, 0, 2])


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
    entries = Entries(np.arange(2), np.arange(2), d, (2,), (2,), F)
    for m in (as_einsum(Diagonal(d, of(2), ArrayType((2,), z))), entries):
        assert isinstance(transpose(m), Transposed)
        np.testing.assert_allclose(transpose(m).apply(c), (d * c).real)
    assert isinstance(transpose(Diagonal(np.ones(2), of(2), of(2))), Einsum)
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
    w = np.random.default_rng(4).standard_normal((2, 5, 4))
    tensor = as_einsum(Contract(w, (2,), (0, 1, 2), (0, 1), of(4), of(2, 5)))
    found = compose(Scale(3.0, of(2, 5), of(2, 5)), tensor).at({tensor.outer[1]: 3})
    np.testing.assert_array_equal(to_dense(found), 3 * w[:, 3])
    with np.errstate(invalid="ignore"):
        mask = as_einsum(Mask(np.array([[True, False]] * 3), of(3, 1), of(3, 2)))
        np.testing.assert_array_equal(mask.at({mask.inner[1]: 0}).apply(np.full(3, np.inf)), [[np.inf, 0]] * 3)


def test_an_identity_of_another_type_is_no_identity():
    single = ArrayType((2,), np.dtype(np.float32))
    narrowed = compose(Scale(1.0, single, single), Scale(1.0, of(2), single))
    assert narrowed.apply(np.ones(2)).dtype == np.float32
    outer, same = Diagonal(np.ones(2), of(2), of(2)), Scale(1.0, of(2), of(2))
    assert compose(outer, same) is outer
    assert compose(same, outer) is outer
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
    columnwise = Diagonal(np.ones((3, 1)), of(4), of(3, 4))
    assert as_einsum(columnwise).multiplications() == 12
    assert compose(Diagonal(np.ones(3), of(3), of(3)), SumOver((1,), of(3, 4), of(3))).multiplications() == 3
    matrix = Implicit(lambda t: t, lambda ct: ct, of(4), of(4))
    assert Composition(columnwise, matrix).multiplications() == 28
    assert Total(matrix, Diagonal(np.ones(4), of(4), of(4))).multiplications() == 20


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
