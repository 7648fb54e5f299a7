"""Loops whose steps read slices of arrays that move on from step to step: they run as loops, and compute what NumPy does.

The programs compute with small whole numbers, so that every sum and product is exact however it is rounded or ordered.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.backends.llvm import segments
from chainrule.backends.llvm.native import Native
from chainrule.backends.llvm.windows import Windows, place_of
from chainrule.ir.program import Var
from chainrule.ir.types import ArrayType
from chainrule.optimise import optimise

# ---- windows


def keys(n):
    ends = (None, *range(-n, n + 1))
    slices = [slice(*p) for p in product(ends, ends, (None, -2, -1, 2, 3))]
    return st.sampled_from([*range(-n, n), *(s for s in slices if range(*s.indices(n)))])


@settings(deadline=None)  # the first trace loads NumPy's surface
@given(keys(4), keys(3), keys(5), st.booleans(), st.booleans())
def test_a_window_takes_what_the_slice_takes(i, j, k, has_axis, is_short):
    key = (i, None, j) if has_axis else (i, j) if is_short else (i, Ellipsis, k)
    x = np.arange(60.0).reshape(4, 3, 5)
    (e,) = cr.program(lambda x: x[key])(x).equations
    window = Windows().of(e)
    assert window.offset % 8 == 0
    moved = np.concatenate([x.ravel()[window.offset // 8 :], np.full(60, np.nan)])[:60].reshape(x.shape)
    np.testing.assert_array_equal(moved[window.key], x[key])
    if window.is_whole:
        np.testing.assert_array_equal(moved.ravel()[: x[key].size], x[key].ravel())


def test_a_slice_of_slices_lies_in_the_array_itself():
    program = cr.program(lambda x: x[2].reshape(6, 2)[1:4][1] * 1.5)(np.zeros((3, 4, 3)))
    made = {o: e for e in program.equations for o in e.outs}
    v = program.equations[-1].args[0]
    assert place_of(v, made.get, Windows()) == (program.inputs[0], 8 * (2 * 12 + 2 * 2))


def test_what_is_no_slice_of_a_variable_has_no_window():
    program = cr.program(lambda x: np.sin(x)[1:0])(np.zeros(3))
    assert [Windows().of(e) for e in program.equations] == [None, None]
    assert place_of(Var(ArrayType((2,), np.dtype(float))), {}.get, Windows())[1] == 0


# ---- programs


def fold(x):
    """x brought back to small numbers."""
    return np.where(np.abs(x) > 64.0, np.sign(x), x)


def total(x):
    return np.sum(fold(x))


def rows(x, u):
    for t in range(len(u)):
        x = fold(u[t] - np.abs(x) + 3.0)
    return total(x)


def rows_of_another_shape(x, u):
    v = np.reshape(u, (len(u) // 2, 2, -1))
    for t in range(len(v)):
        x = fold(v[t, 0] - np.abs(x) + v[t, 1] * np.sign(x))
    return total(x)


def columns(x, u):
    v = u.T
    for t in range(len(u)):
        x = fold(v[:, t] - np.abs(x) + 3.0)
    return total(x)


def backwards(x, u):
    for t in reversed(range(len(u))):
        x = fold(u[t][::-1] - np.abs(x) + 3.0)
    return total(x)


def every_second(x, u):
    for t in range(0, len(u), 2):
        x = fold(u[t] - np.abs(x) * np.where(u[t + 1] > 0, 1.0, 2.0))
    return total(x)


def two_at_a_time(x, u):
    for t in range(1, len(u)):
        x = fold(u[t] - np.abs(x) + u[t - 1])
    return total(x)


def pieces(x, u):
    for t in range(len(u) - 3):
        x = fold(np.sum(u[t : t + 3], 0) - np.abs(x) + 3.0)
    return total(x)


def elements(x, u):
    s = x[0]
    for t in range(len(u)):
        s = fold(u[t, 1] - np.abs(s) + u[t, 0] * 2.0)
    return s + total(x)


def first_and_last_differ(x, u):
    x = x + 2.0 * u[0]
    for t in range(1, len(u) - 1):
        x = fold(u[t] - np.abs(x) + 3.0)
    return total(np.maximum(x, u[-1]))


def one_row_is_skipped(x, u):
    for t in range(len(u)):
        if t != 13:
            x = fold(u[t] - np.abs(x) + 3.0)
    return total(x)


def out_of_order(x, u):
    for t in np.random.default_rng(5).permutation(len(u)):
        x = fold(u[int(t)] - np.abs(x) + 3.0)
    return total(x)


def the_same_and_the_next(x, u):
    for t in range(len(u)):
        x = fold(u[t] - np.abs(x) + u[0] + np.max(u))
    return total(x)


def of_a_result(x, u):
    v = fold(u * u - 3.0)
    for t in range(len(u)):
        x = fold(v[t] - np.abs(x) + 3.0)
    return total(x) + total(v)


def of_a_state(x, u):
    for t in range(len(u)):
        a, b = x[:2], x[2:]
        x = fold(np.concatenate([b, a - np.abs(u[t, :2])]))
    return total(x)


def nested(x, u):
    v = np.reshape(u, (len(u) // 6, 6, -1))
    for i in range(len(v)):
        for j in range(6):
            x = fold(v[i, j] - np.abs(x) + float(j))
        x = np.maximum(x[::-1], v[i, 0])
    return total(x)


def nested_rows(x, u):
    v = np.reshape(u, (len(u) // 6, 6, -1))
    for part in v:
        for row in part:
            x = fold(row - np.abs(x) + 3.0)
        x = np.maximum(x[::-1], x)
    return total(x)


def consecutive(x, u):
    for t in range(len(u)):
        x = fold(u[t] - np.abs(x) + 3.0)
    for t in range(len(u)):
        x = fold(np.maximum(x, u[t]) - u[-1 - t] * 2.0)
    return total(x)


def by_numpy(x, u):
    for t in range(len(u)):
        x = fold(np.sort(u[t]) - np.abs(x) + 3.0)
    return total(x)


def indexed(x, u):
    places = np.abs(np.sign(np.arange(len(u)) % 3 - 1))
    for t in range(len(u)):
        x = fold(u[t] - np.abs(x) + x[places[t]])
    return total(x)


PROGRAMS = {
    f.__name__: f
    for f in (
        rows, rows_of_another_shape, columns, backwards, every_second, two_at_a_time, pieces, elements, first_and_last_differ,
        one_row_is_skipped, out_of_order, the_same_and_the_next, of_a_result, of_a_state, nested, nested_rows, consecutive,
        by_numpy, indexed,
    )
}  # fmt: skip


def inputs(n, count, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(-5, 6, n).astype(float), draw.integers(-5, 6, (count, n)).astype(float)


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_over_slices_compute_the_same_to_the_last_bit(name, n):
    f = PROGRAMS[name]
    staged = cr.jit(cr.value_and_grad(f))
    for seed in (0, 1, 0):
        args = inputs(n, 60, seed)
        for found, wanted in zip(staged(*args), cr.value_and_grad(f)(*args), strict=True):
            assert np.abs(wanted).max() < 2**53  # so all was exact
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_over_slices_are_found(name, n):
    f = PROGRAMS[name]
    program = optimise(cr.program(lambda x, u: cr.value_and_grad(f)(x, u))(*inputs(n, 120)))
    parts, _ = segments.segments(program)
    rolled = sum(len(s.turns) * len(s.body.program.equations) for s in parts if len(s.turns) > 1)
    assert rolled > 0.6 * len(program.equations)


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_does_not_grow_with_the_number_of_slices(name):
    f = PROGRAMS[name]

    def code(count):
        return Native(optimise(cr.program(lambda x, u: cr.value_and_grad(f)(x, u))(*inputs(40, count)))).code

    short, long = code(120), code(360)
    assert long.different <= short.different + 3
    assert name == "by_numpy" or len(long.steps) == 1


@pytest.mark.parametrize("dtype", ["f4", "i8", "i4", "?", "f2", "c16"])
def test_slices_of_any_dtype(dtype):
    def f(x, u):
        for t in range(len(u)):
            x = fold(np.abs(x - 3.0) - np.real(u[t]).astype(x.dtype))
        return x

    x, u = np.arange(6.0), np.random.default_rng(2).integers(0, 2, (80, 6)).astype(dtype)
    np.testing.assert_array_equal(cr.jit(f)(x, u), f(x, u))
