"""Loops found again in a trace: what runs as a loop gives to the last bit what the written out program gives.

The programs compute with small whole numbers, so that every sum and product is exact however it is rounded or ordered.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.backends.llvm import segments
from chainrule.backends.llvm.memory import plan_memory
from chainrule.backends.llvm.native import Native
from chainrule.backends.llvm.repeats import runs
from chainrule.ir.program import Var
from chainrule.ir.types import ArrayType
from chainrule.optimise import optimise

# ---- runs


@given(st.lists(st.integers(0, 3), max_size=60))
def test_runs_repeat_and_do_not_overlap(tokens):
    end = 0
    for run in runs(tokens):
        assert run.start >= end
        assert run.turns >= 2
        end = run.start + run.period * run.turns
        one = tokens[run.start : run.start + run.period]
        assert tokens[run.start : end] == one * run.turns


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(4, 40),
    st.lists(st.integers(10, 12), max_size=5),
    st.lists(st.integers(13, 15), max_size=5),
)
def test_a_loop_is_found(body, turns, before, after):
    found = runs([*before, *body * turns, *after])
    assert any(run.period * run.turns > len(body) * (turns - 2) and run.start >= len(before) for run in found)


def test_loops_within_loops_are_a_run_of_the_outer_body():
    inner = [1, 2, 3, 4] * 30 + [5, 6]
    found = runs([9, *inner * 20, 8])
    longest = max(found, key=lambda run: run.period * run.turns)
    assert longest.period == len(inner)
    assert longest.turns >= 19


# ---- places in memory


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=40),
    st.lists(st.integers(1, 40), min_size=31, max_size=31),
)
def test_places_of_values_that_live_together_are_apart(when, sizes):
    variables = [Var(ArrayType((n,), np.dtype(float))) for n in sizes]
    steps = [[variables[k] for k in touched] for touched in when]
    places, total = plan_memory(steps, set())
    lives = {v: [t for t, touched in enumerate(steps) if v in touched] for v in places}
    for a in places:
        assert places[a] % 16 == 0
        assert places[a] + a.type.nbytes <= total
        for b in places:
            together = lives[a][0] <= lives[b][-1] and lives[b][0] <= lives[a][-1]
            if a is not b and together:
                assert places[a] + a.type.nbytes <= places[b] or places[b] + b.type.nbytes <= places[a]


# ---- programs


def fold(x):
    """x brought back to small numbers."""
    return np.where(np.abs(x) > 64.0, np.sign(x), x)


def step(x, k=1.0):
    y = np.concatenate([x[1:], x[:1]])
    return fold(np.maximum(x, y) - np.minimum(2.0 * x, y - k) + 3.0)


def other(x):
    return fold(x[::-1] - np.where(x > 2.0, x, -x) + 1.0)


def total(x):
    return np.sum(fold(x))


def plain(n):
    def f(x):
        for _ in range(n):
            x = step(x)
        return total(x)

    return f


def counted(x):
    for k in range(30):
        x = step(x, float(k % 7 + 1))
    return total(x)


def one_constant_differs(x):
    for k in range(30):
        x = step(x, 5.0 if k == 11 else 1.0)
    return total(x)


def one_step_differs(x):
    for k in range(30):
        x = other(step(x)) if k == 17 else step(x)
    return total(x)


def one_order_differs(x):
    for k in range(30):
        a, b = np.maximum(x, 2.0), np.minimum(x, 3.0)
        x = fold(np.abs(b) - a + 1.0 if k != 13 else np.abs(a) - b + 1.0)
        x = np.where(x > 1.0, x - 2.0, x + 1.0)
    return total(x)


def one_shape_differs(x):
    for k in range(30):
        if k == 9:
            x = np.concatenate([x, x[:1]])
        x = step(x)
    return total(x)


def alternating(x):
    for _ in range(16):
        x = other(step(x))
        x = step(other(x), 2.0)
    return total(x)


def nested(x):
    for k in range(8):
        for _ in range(6):
            x = step(x)
        x = other(x) + float(k % 3 + 1)
    return total(x)


def nested_with_data(x):
    for _ in range(8):
        y = x
        for j in range(6):
            y = step(y, float(j + 1))
        x = fold(x - y)
    return total(x)


def trailing(x):
    for _ in range(20):
        x = other(step(x))
    return total(step(x) * 2.0 + x)


def several_values(x):
    y, z = 2.0 * x, x[:1]
    for _ in range(25):
        x, y = fold(y - np.abs(x)), step(x)
        z = fold(z + y[:1])
    return total(x) + total(y) + total(z)


def history(x):
    found = []
    for _ in range(25):
        x = step(x)
        found.append(x[:2])
    return total(np.concatenate(found)) + total(x)


def far_back(x):
    old = [x, x + 1.0, x + 2.0]
    for k in range(40):
        old.append(fold(old[k] - step(old[k + 2])))
    return total(old[-1])


_DATA = np.random.default_rng(3).integers(-3, 4, (30, 5)).astype(float)


def data(x):
    for row in _DATA:
        x = step(x, row[0]) + np.concatenate([row, x[5:]])
    return total(x)


def by_numpy(x):
    for _ in range(20):
        x = fold(np.cumsum(x) - step(x))
    return total(x)


def decided(x):
    for k in range(30):
        x = step(x) if x[0] > 0 else other(x)
        if k % 5 == 0 and x[1] > 1:
            x = x - 1.0
    return total(x)


def gathered(x):
    places = np.array([2, 0, 1, 4, 3])
    for _ in range(25):
        x = fold(np.concatenate([x[places], x[5:]]) - step(x))
    return total(x)


def scalars(x):
    a, b = x[0], x[1]
    for k in range(60):
        a, b = fold(b - np.abs(a) + float(k % 2)), fold(a + np.maximum(a, b))
    return a - b


PROGRAMS = {
    f.__name__: f
    for f in (
        counted, one_constant_differs, one_step_differs, one_order_differs, one_shape_differs, alternating, nested,
        nested_with_data, trailing, several_values, history, far_back, data, by_numpy, decided, gathered, scalars,
    )
} | {f"plain {n}": plain(n) for n in (29, 30, 31)}  # fmt: skip


def program_of(f, x):
    return optimise(cr.program(lambda x: cr.value_and_grad(f)(x))(x))


def inputs(n):
    return [np.random.default_rng(s).integers(-5, 6, n).astype(float) for s in (0, 1)]


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_compute_the_same_to_the_last_bit(name, n):
    f = PROGRAMS[name]
    staged = cr.jit(cr.value_and_grad(f))
    for x in (*inputs(n), inputs(n)[0]):
        for found, wanted in zip(staged(x), cr.value_and_grad(f)(x), strict=True):
            assert np.abs(wanted).max() < 2**53  # so all was exact
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_are_found(name, n):
    program = program_of(PROGRAMS[name], inputs(n)[0])
    parts, _ = segments.segments(program)
    rolled = sum(len(s.turns) * len(s.body.program.equations) for s in parts if len(s.turns) > 1)
    if name != "decided":
        assert rolled > 0.4 * len(program.equations)


def rounded(x):
    for k in range(40):
        x = 0.9 * np.sin(x) * np.concatenate([x[1:], x[:1]]) + np.cos(float(k)) * x
    return np.sum(x * x)


@pytest.mark.parametrize("n", [3, 50])
def test_a_loop_differs_from_its_written_out_program_by_rounding_only(n, monkeypatch):
    x = np.linspace(-1, 1, n)
    looped = cr.jit(cr.value_and_grad(rounded))(x)
    monkeypatch.setattr(segments, "LONG", 10**9)
    written_out = cr.jit(cr.value_and_grad(rounded))(x)
    for a, b in zip(looped, written_out, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("f", [plain, lambda n: lambda x: total(sum(step(x, float(k + 1)) for k in range(n)))])
def test_code_does_not_grow_with_the_number_of_turns(f):
    x = inputs(40)[0]
    short, long = (Native(program_of(f(n), x)).code for n in (60, 240))
    assert short.different == long.different <= 12
    assert len(long.steps) == 1


def test_an_index_out_of_range_in_a_loop_raises():
    def f(x, i):
        for _ in range(60):
            x = x - 2.0 * x[i] + np.abs(x)
            i = i + 1
        return x

    x = np.ones(70)
    staged = cr.jit(f)
    np.testing.assert_array_equal(staged(x, np.arange(70) % 10), f(x, np.arange(70) % 10))
    with pytest.raises(IndexError):
        staged(x, np.arange(70) % 10 + 5)
