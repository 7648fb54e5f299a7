"""Reductions beyond their samples: sums of many short rows, which are not left to NumPy."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.complex128, np.int8, np.bool_])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 9])
def test_sums_of_short_rows_are_those_of_numpy_to_the_last_bit(dtype, order, n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(300, 3, n)) * 10.0 ** rng.integers(-6, 6, (300, 3, n))
    x = np.array(x.clip(-100, 100), dtype, order=order)
    for axes in ((2,), (1,), (0,), (1, 2)):
        found, expected = ops.reduce_sum(x, axes=axes), np.add.reduce(x, axis=axes)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)


def test_sums_of_short_rows_keep_signed_zeros_and_what_is_not_finite():
    rows = np.array([[-0.0, -0.0, -0.0], [np.inf, 1.0, 2.0], [np.inf, -np.inf, 1.0], [np.nan, 0.0, 0.0]])
    x = np.tile(rows, (100, 1))
    with np.errstate(invalid="ignore"):
        found, expected = ops.reduce_sum(x, axes=(1,)), np.add.reduce(x, axis=1)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_sums_of_many_short_rows_are_differentiated():
    x = np.random.default_rng(0).normal(size=(400, 3))
    found = cr.grad(lambda x: np.sum(np.sum(x, 1) ** 2))(x)
    np.testing.assert_allclose(found, np.repeat(2 * x.sum(1, keepdims=True), 3, axis=1), rtol=1e-14)
