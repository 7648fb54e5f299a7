"""Laws of single maps: the adjoint is the transpose, patterns are exact, zeros are strong, products are counted."""

import numpy as np
import pytest

from chainrule.ir.primitive import ops
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
    RealPart,
    Reshape,
    Scale,
    Scatter,
    Slice,
    SumOver,
    WeightedSum,
    ZeroDiagonal,
)
from chainrule.linear.algebra import to_dense
from chainrule.linear.dependence import Full, Groups, Unknown, move
from chainrule.linear.maps import Slot, convert, fill, fit
from chainrule.linear.strong import mode, strong_products

F, C, F4, C8 = (np.dtype(t) for t in ("f8", "c16", "f4", "c8"))


def of(*shape, dtype=F):
    return ArrayType(shape, dtype)


def a(*shape):
    """Distinct numbers, none of them zero or one."""
    return np.arange(2.0, 2 + np.prod(shape)).reshape(shape)


I = np.array([2, 0, 2])
# A map; how many multiplications one application takes.
MAPS = [
    (Scale(3.0, of(2, 1, 2), of(4, 2, 3, 2)), 48),
    (Scale(1, of(2, 3), of(2, 3)), 0),
    (Scale(-1, of(3), of(2, 3)), 0),
    (Scale(0.5, of(), of(2)), 2),
    (Scale(-2, of(2), of(2)), 2),
    (Scale(2, of(2), of(2)), 2),
    (Diagonal(a(2, 3), of(2, 3), of(2, 3)), 6),
    (Diagonal(a(3), of(2, 1), of(2, 3)), 6),
    (Diagonal(np.array(3.0), of(2), of(3, 2)), 6),
    (ZeroDiagonal(a(2, 3), of(2, 1), of(2, 3)), 6),
    (Mask(np.ones((2, 3), bool), of(3), of(2, 3)), 0),
    (Mask(np.zeros((2, 3), bool), of(2, 1), of(2, 3), keep=False), 0),
    (WeightedSum(a(2, 3), (0,), of(2, 3), of(3)), 6),
    (WeightedSum(a(2, 3, 2), (0, 2), of(2, 3, 2), of(3)), 12),
    (SumOver((0, 2), of(2, 3, 2), of(3)), 0),
    (SumOver((0, 1), of(2, 3), of()), 0),
    (Expand(of(2, 1), (4, 2, 3)), 0),
    (Reshape(of(2, 3), (3, 2)), 0),
    (Permute((2, 0, 1), of(2, 3, 4)), 0),
    (Slice((slice(None, None, -1), 1), of(3, 4), of(3)), 0),
    (Place((slice(None, None, -1), 1), of(3), (3, 4)), 0),
    (Gather((slice(None), Slot(0)), [I], of(2, 3), of(2, 3)), 0),
    (Scatter((slice(None), Slot(0)), [I], of(2, 3), (2, 4)), 0),
    (Contract(a(3, 4), (0, 1), (1, 2), (0, 2), of(2, 3), of(2, 4)), 24),
    (Contract(a(2, 3), (0, 1), (0, 1), (1,), of(2, 3), of(3)), 6),
    (Implicit(lambda t: a(2, 3) @ t, lambda ct: a(2, 3).T @ ct, of(3), of(2)), 6),
    (Implicit(lambda t: a(2, 3) @ t, lambda ct: a(2, 3).T @ ct, of(3), of(2), cost=5), 5),
    (Conjugate(of(3)), 0),
]
ONLY = [m for m, _ in MAPS]
named = pytest.mark.parametrize("m", ONLY, ids=lambda m: type(m).__name__)


def units(shape, dtype=F):
    n = int(np.prod(shape))
    return np.eye(n, dtype=dtype).reshape(n, *shape)


def matrix_of(m):
    return np.stack([np.ravel(m.apply(u[()])) for u in units(m.in_shape)], axis=1)


@named
def test_adjoint_is_transpose(m):
    transposed = np.stack([np.ravel(m.adjoint(u[()])) for u in units(m.out_shape)], axis=0)
    np.testing.assert_array_equal(transposed, matrix_of(m))
    np.testing.assert_array_equal(to_dense(m).reshape(transposed.shape), transposed)


@named
def test_pattern_is_where_the_jacobian_is_not_zero(m):
    pattern = m.pattern()
    assert pattern.dtype == bool
    np.testing.assert_array_equal(pattern.toarray(), matrix_of(m) != 0)


@named
def test_dependence_agrees_with_the_pattern(m):
    n = int(np.prod(m.in_shape))
    found = move(m, np.arange(n).reshape(m.in_shape))
    pattern = m.pattern().toarray()
    if isinstance(found, Groups):
        sums = np.arange(np.prod(found.sums)).reshape(found.sums)
        target = np.broadcast_to(sums, found.spread).ravel()
        np.testing.assert_array_equal(target[:, None] == found.target.ravel(), pattern)
    elif isinstance(found, np.ndarray):
        assert found.shape == m.out_shape
        np.testing.assert_array_equal(found.ravel()[:, None] == np.arange(n), pattern)
    else:
        assert type(m) is Implicit
        assert isinstance(found, Full)
        assert pattern.all()


def test_implicit_maps_with_a_pattern_of_their_own_are_asked_for_it():
    m = ops.cumsum.partial(0, (a(3),), a(3), {"axis": 0, "reverse": False})
    assert isinstance(move(m, np.arange(3)), Unknown)
    np.testing.assert_array_equal(m.pattern().toarray(), np.tri(3, dtype=bool))


@pytest.mark.parametrize(("m", "count"), MAPS, ids=lambda x: type(x).__name__)
def test_multiplications_are_counted(m, count):
    assert m.multiplications() == count


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 1, 2), (0, 2)),
        ((3, 2), (0, 1)),
        ((1, 3, 1), (0, 1, 3)),
        ((), (0, 1, 2, 3)),
        ((4, 2, 3, 2), ()),
        ((1, 2), (0, 1, 2)),
        ((4, 2, 1, 1), (2, 3)),
        ((4, 1, 1, 2), (1, 2)),
    ],
)
def test_cotangents_are_summed_over_what_was_broadcast(shape, axes):
    ct = a(4, 2, 3, 2)
    found = fit(ct, shape, F4)
    assert found.dtype == F4
    np.testing.assert_array_equal(found, ct.sum(axis=axes).reshape(shape))


def test_cotangents_are_summed_beside_axes_of_one_element():
    ct = a(3, 1, 4)
    np.testing.assert_array_equal(fit(ct, (3, 1, 1), F), ct.sum(2, keepdims=True))
    np.testing.assert_array_equal(fit(ct, (1, 1, 1), F), ct.sum(keepdims=True))


@pytest.mark.parametrize("to", [F, C, F4, C8])
@pytest.mark.parametrize("dtype", [F, C, F4, C8])
def test_conversion_takes_real_parts_for_real_arrays(dtype, to):
    t = np.array([1 + 2j, 3 - 1j]) if dtype.kind == "c" else np.array([1.0, 3.0])
    t = t.astype(dtype)
    found = convert(t, to)
    assert found.dtype == to
    np.testing.assert_array_equal(found, t if to.kind == "c" else t.real)
    assert convert(t, dtype) is t


@pytest.mark.parametrize(
    "m",
    [
        Scale(2.0, of(3, dtype=F4), of(3, dtype=C)),
        Scale(1, of(3, dtype=F4), of(3, dtype=C)),
        Scale(-1, of(3, dtype=F4), of(2, 3, dtype=C)),
        Diagonal(np.array(2j), of(3, dtype=F), of(3, dtype=C)),
        Diagonal(np.array([2j, 3, 1]), of(3, dtype=F4), of(2, 3, dtype=C)),
        ZeroDiagonal(np.array([2j, 3, 1]), of(3, dtype=F4), of(2, 3, dtype=C)),
        Mask(np.array([True, False, True]), of(3, dtype=F4), of(3, dtype=C)),
        WeightedSum(a(3) * 1j, (0,), of(3, dtype=F4), of(dtype=C)),
        SumOver((0,), of(3, dtype=F4), of(dtype=C)),
        Expand(of(3, dtype=F4), (2, 3)),
        Place((slice(0, 3),), of(3, dtype=F4), (4,)),
        Scatter((Slot(0),), [I], of(3, dtype=F4), (3,)),
        Contract(a(3) * 1j, (0,), (0,), (), of(3, dtype=F4), of(dtype=C)),
        RealPart(1j * a(3) + 2, of(3, dtype=C8), of(3, dtype=F4)),
        RealPart(np.array(-1j), of(3, dtype=C), of(3)),
        RealPart(1j * a(2, 3) + 2, of(3, dtype=C), of(2, 3)),
        Conjugate(of(3, dtype=C)),
        Implicit(lambda t: t * 1j, lambda ct: ct * 1j, of(3, dtype=F4), of(3, dtype=C)),
    ],
    ids=lambda m: type(m).__name__,
)
def test_adjoint_of_mixed_types_is_that_of_the_real_pairing(m):
    rng = np.random.default_rng(0)
    t = rng.standard_normal(m.in_shape) + (1j * rng.standard_normal(m.in_shape) if m.in_dtype.kind == "c" else 0)
    t = t.astype(m.in_dtype)
    out = m.apply(t)
    ct = rng.standard_normal(m.out_shape)
    if not isinstance(m, RealPart):
        ct = ct + 1j * rng.standard_normal(m.out_shape)
    back = m.adjoint(ct)
    assert (back.shape, back.dtype) == (m.in_shape, m.in_dtype)
    assert np.real(np.sum(back * t)) == pytest.approx(np.real(np.sum(ct * out)), rel=1e-5)


def test_real_part_takes_two_products_an_element():
    m = RealPart(1j * a(2), of(2, dtype=C), of(3, 2))
    assert m.multiplications() == 12
    np.testing.assert_array_equal(m.pattern().toarray(), np.tile(np.eye(2, dtype=bool), (3, 1)))


BAD = np.array([np.inf, np.nan, 2.0])


@np.errstate(invalid="ignore")
def test_zero_tangents_stay_zero():
    zero = np.array([0.0, 0.0, 1.0])
    np.testing.assert_array_equal(Diagonal(BAD, of(3), of(3)).apply(zero), [0, 0, 2])
    np.testing.assert_array_equal(WeightedSum(BAD, (0,), of(3), of()).apply(zero), 2)
    z = of(3, dtype=C)
    np.testing.assert_array_equal(RealPart(BAD * 1j, z, of(3)).apply(zero * 1j), [0, 0, -2])


@np.errstate(invalid="ignore")
def test_zero_cotangents_stay_zero_where_products_are_strong():
    zero = np.array([0.0, 0.0, 1.0])
    diagonal, weighted = Diagonal(BAD, of(3), of(3)), WeightedSum(BAD, (0,), of(3), of())
    assert np.isnan(diagonal.adjoint(zero)[0])
    assert np.isnan(weighted.adjoint(np.zeros(()))[0])
    with strong_products():
        np.testing.assert_array_equal(diagonal.adjoint(zero), [0, 0, 2])
        np.testing.assert_array_equal(weighted.adjoint(np.zeros(())), np.zeros(3))
    np.testing.assert_array_equal(RealPart(BAD, of(3, dtype=C), of(3)).adjoint(zero), [0, 0, 2])


def test_strong_products_nest_and_end_with_errors():
    with strong_products():
        with strong_products():
            pass
        assert mode.strict
    assert not mode.strict

    def fail():
        with strong_products():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not mode.strict


@np.errstate(invalid="ignore")
def test_zero_coefficients_and_masks_win_over_what_is_not_finite():
    zero = np.array([0.0, 0.0, 1.0])
    m = ZeroDiagonal(zero, of(3), of(3))
    np.testing.assert_array_equal(m.apply(BAD), [0, 0, 2])
    np.testing.assert_array_equal(m.adjoint(BAD), [0, 0, 2])
    for keep in (True, False):
        m = Mask((zero == 1) == keep, of(3), of(3), keep=keep)
        np.testing.assert_array_equal(m.apply(BAD), [0, 0, 2])
        np.testing.assert_array_equal(m.adjoint(BAD), [0, 0, 2])


def test_slots_are_filled_by_their_number():
    assert fill((Slot(1), slice(None), Slot(0), 3), ["i", "j"]) == ("j", slice(None), "i", 3)
    assert str(Slot(1)) == "#1"
