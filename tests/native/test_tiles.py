"""Loops over tiles of an axis compute what the whole arrays would, however the axis lies and wherever it ends."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.llvm import divide, native, tiles
from chainrule.backends.llvm.native import Native
from chainrule.backends.llvm.tiles import Tiles, tiled
from chainrule.optimise import optimise

from .test_agreement import PROGRAMS, mixture  # noqa: TID252 - the tests are no package
from .test_memory import fenced  # noqa: TID252


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Tiles wherever there is an axis for them, of 16 elements or so."""
    for name, value in {"SHORTEST": 30, "WORTH": 0, "TILE": 0, "LEAST": 16}.items():
        monkeypatch.setattr(tiles, name, value)
    monkeypatch.setattr(tiles._Map, "is_worth_it", lambda self, kept: True)


@pytest.fixture
def small_pieces(monkeypatch):
    """Loops over few tiles are cut as well."""
    for name, value in {"LEAST": 1, "GRAIN": 1, "SUMMED": 0.001, "COMBINED": 0.25}.items():
        monkeypatch.setattr(divide, name, value)
    monkeypatch.setenv("CHAINRULE_CACHE", "off")  # it is told of no such changes
    yield
    cr.set_threads(1)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.3, 1.7, shape)


def softmax_loss(w, b, x, y):
    z = np.tanh(x @ w + b)
    z = z - np.max(z, 1, keepdims=True)
    return -np.sum(y * (z - np.log(np.sum(np.exp(z), 1))[:, None])) / len(x)


def standardised(x):
    mean = np.sum(x, 0) / len(x)
    spread = np.sqrt(np.sum((x - mean) ** 2, 0) / len(x))
    return np.sum(np.tanh((x - mean) / spread), 1)


def moves(x, c):
    y = np.concatenate([x[:, 2:], x[:, :1] * c[:1]], 1)
    z = np.transpose(y.reshape(len(x), 2, -1), (2, 0, 1))[::-1, :, 1]
    return np.sum(z * z, 0), y[:, None, :] * c[:4, None], x[:, 1]


CASES = {
    "mixture": (cr.value_and_grad(mixture, (0, 1, 2)), (draw(5), draw(5, 18), draw(5, 18, 18), draw(64, 18))),
    "mixture_of_odd_extent": (cr.value_and_grad(mixture, (0, 1, 2)), (draw(5), draw(5, 18), draw(5, 18, 18), draw(101, 18))),
    "softmax": (cr.value_and_grad(softmax_loss, (0, 1)), (draw(20, 6), draw(6), draw(87, 20), draw(87, 6))),
    "gradient_along_the_axis": (cr.grad(softmax_loss, (0, 2)), (draw(20, 6), draw(6), draw(96, 20), draw(96, 6))),
    "standardised": (standardised, (draw(70, 5),)),
    "standardised_gradient": (cr.grad(lambda x: np.sum(standardised(x) ** 2)), (draw(70, 5),)),
    "second_axis": (lambda x, w: np.sum(np.tanh(w @ np.exp(x)), 1) + np.sum(x, 1)[:4], (draw(20, 77), draw(4, 20))),
    "results_along_the_second_axis": (lambda x, w: (np.tanh(w @ np.exp(x)) * 2, np.exp(x)), (draw(20, 77), draw(4, 20))),
    "middle_axis": (lambda x: np.sum(np.exp(x) / np.sum(np.exp(x), 0), (1, 2)), (draw(4, 50, 6),)),
    "moves": (moves, (draw(90, 9), draw(8))),
    "captured": (lambda x: np.sum(np.log(np.exp(x) @ CAPTURED) * LABELS, 0), (draw(60, 5),)),
    "vectors": (lambda x, y: np.sum(np.exp(x) * y) + np.dot(np.sin(x), y), (draw(1000), draw(1000))),
    "broadcast": (lambda x, y: np.broadcast_to(np.exp(x)[:, None], (60, 7)) * y + np.max(y) * x[:, None], (draw(60), draw(60, 7))),
    "booleans": (lambda x: np.where(x > 1, x, np.sum(x, 1)[:, None]) @ x[0], (draw(60, 7),)),
}  # fmt: skip
CAPTURED, LABELS = draw(5, 40, seed=1), draw(60, 40, seed=2)


def in_tiles(f, args):
    program = optimise(cr.program(f)(*args))
    form = tiled(program)
    assert form is not None
    return program, form.check()


def agree(found, wanted, rtol=1e-12):
    for a, b in zip(found, wanted, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1.0, float(np.max(np.abs(b)))))


@pytest.mark.parametrize("name", CASES)
def test_tiles_by_numpy_give_what_the_program_gives(name):
    f, args = CASES[name]
    program, form = in_tiles(f, args)
    agree(form(*args), program(*args))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_native_tiles_give_what_the_program_gives(name, dtype):
    f, args = CASES[name]
    args = [a.astype(dtype) for a in args]
    program, _ = in_tiles(f, args)
    run = Native(program)
    assert any("tiles of" in line for line in run.code.described)
    for _ in range(2):  # sums begin anew at every call
        agree(run(args), program(*args), 1e-10 if dtype == "float64" else 2e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_where_tiles_are_always_worth_it(name):
    f, args = PROGRAMS[name]
    program = optimise(cr.program(f)(*args))
    with np.errstate(all="ignore"):
        agree(Native(program)(args), program(*args), 1e-9)


@pytest.mark.parametrize("n", [30, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100])
def test_every_remainder_agrees(n):
    args = (draw(4), draw(4, 17), draw(4, 17, 17), draw(n, 17))
    program, _ = in_tiles(cr.value_and_grad(mixture, (0, 1, 2, 3)), args)
    agree(Native(program)(args), program(*args), 1e-10)


def loops(form):
    return [e.primitive for e in form.equations if isinstance(e.primitive, Tiles)]


def test_what_needs_a_sum_starts_the_next_loop():
    _, form = in_tiles(*CASES["standardised"])
    assert len(loops(form)) == 3


def test_a_gradient_is_one_loop_and_nothing_along_the_axis_leaves_it():
    f, args = CASES["mixture"]
    _, form = in_tiles(f, args)
    (loop,) = loops(form)
    assert not any(loop.stacked)
    assert all(len(args[3]) not in o.type.shape for e in form.equations for o in e.outs)


def test_a_tile_divides_the_axis_where_it_can(monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 1 << 12)
    for n, rest in ((960, False), (1600, False), (1021, True)):
        _, form = in_tiles(lambda x: np.sum(np.exp(x) @ x[0]), (draw(n, 4),))
        (loop,) = loops(form)
        assert (loop.rest is not None) == rest
        assert sum(count * extent for _, _, count, extent in loop.turns) == n


def test_no_loop_for_what_is_small_or_fused_anyway(monkeypatch):
    monkeypatch.undo()
    f, args = CASES["mixture"]
    assert tiled(optimise(cr.program(f)(*args))) is None
    assert tiled(optimise(cr.program(lambda x: np.sum(np.sin(x) * np.exp(x)))(draw(400_000)))) is None
    rows = draw(4000, 100)
    assert tiled(optimise(cr.program(lambda x: np.exp(x) / np.sum(np.exp(x), 1)[:, None])(rows))) is None
    layers = cr.program(lambda x, w: np.sum(np.tanh(np.tanh(x @ w) @ w)))
    assert tiled(optimise(layers(rows, rows[:100]))) is not None
    assert tiled(optimise(layers(draw(1499, 100), rows[:100]))) is not None
    assert tiled(optimise(layers(draw(640, 1000), draw(1000, 1000)))) is None


def test_what_only_numpy_computes_stays_outside():
    def f(x):
        y = np.exp(x) @ x[:3].T
        return np.sum(np.cumsum(y, 0) * y)

    program, form = in_tiles(f, (draw(64, 3),))
    assert any(e.primitive.name == "cumsum" for e in form.equations)
    agree(Native(program)([draw(64, 3)]), program(draw(64, 3)))


def test_not_a_number_goes_where_it_belongs():
    f, args = CASES["gradient_along_the_axis"]
    program, _ = in_tiles(f, args)
    x = args[2].copy()
    x[37, 3] = np.nan
    found, wanted = Native(program)([*args[:2], x, args[3]]), program(*args[:2], x, args[3])
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


def test_a_branch_within_is_guarded():
    @cr.jit
    def f(x):
        total = np.sum(np.exp(x) @ x[0])
        return total * 2 if total > 100 else np.tanh(x) @ x[0]

    for x in (draw(64, 3), draw(64, 3) - 3):
        np.testing.assert_allclose(f(x), f.function(x), rtol=1e-12)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    "name", ["mixture_of_odd_extent", "gradient_along_the_axis", "moves", "results_along_the_second_axis"]
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_tiles_touch_nothing_beyond_their_buffers(name, at_end, in_pieces, monkeypatch, request):
    if in_pieces:
        request.getfixturevalue("small_pieces")
        monkeypatch.setattr(native._Scratch, "take", lambda self: fenced((self._nbytes + 64,), np.uint8, at_end=at_end))
    monkeypatch.setattr(native, "empty", lambda shape, dtype: fenced(shape, dtype, at_end=at_end))
    f, args = CASES[name]
    inputs = []
    for a in args:
        inputs.append(fenced(a.shape, a.dtype, at_end=at_end))
        inputs[-1][...] = a
    program, _ = in_tiles(f, args)
    agree(Native(program)(inputs), program(*args), 1e-10)


@pytest.mark.parametrize("name", CASES)
def test_tiles_give_the_same_bits_on_any_number_of_threads(name, small_pieces):
    f, args = CASES[name]
    program, _ = in_tiles(f, args)
    run = Native(program)
    assert any("tiles of" in line and " pieces" in line for line in run.code.described)
    alone = run(args)
    agree(alone, program(*args), 1e-10)
    for n in (2, 3, 7):
        cr.set_threads(n)
        for _ in range(5):
            assert [np.asarray(a).tobytes() for a in run(args)] == [np.asarray(a).tobytes() for a in alone], n


@pytest.mark.parametrize("n", [32, 33, 47, 48, 49, 63, 64, 65, 100, 161])
def test_every_tile_is_one_piece_s(n, small_pieces):
    x = np.arange(1.0, 7 * n + 1).reshape(n, 7)
    program, form = in_tiles(lambda x: (np.sum(x, 0), np.sum(np.exp(-x) * 0 + 1, 0), (x * 2)[:, ::-1]), (x,))
    cr.set_threads(3)
    sums, counts, twice = Native(program)([x])
    assert len(loops(form)) == 1
    np.testing.assert_array_equal(sums, np.sum(x, 0))
    np.testing.assert_array_equal(counts, np.full(7, n))
    np.testing.assert_array_equal(twice, 2 * x[:, ::-1])


def test_large_loops_over_tiles_are_cut_and_small_ones_are_not(monkeypatch):
    monkeypatch.undo()

    def pieces(n, d):
        layers = cr.program(lambda x, w: np.sum(np.tanh(np.tanh(x @ w) @ w)))(draw(n, d), draw(d, d))
        (line,) = [s for s in Native(optimise(layers)).code.described if "tiles of" in s]
        return line.partition(" in ")[2]

    monkeypatch.setattr(tiles, "WORTH", 0)
    monkeypatch.setattr(tiles._Map, "is_worth_it", lambda self, kept: True)
    assert pieces(130, 30) == ""
    assert pieces(20_000, 100) == "48 pieces"


def test_threads_do_not_share_what_lies_within_a_tile(small_pieces):
    """Threads that wait for each other within their pieces have memory of their own."""
    f, args = CASES["mixture"]
    program, _ = in_tiles(f, args)
    run = Native(program)
    alone = run(args)
    (step,) = [s for s in run.steps if isinstance(s, native._Shared) and s._step.scratch]
    met, taken = threading.Barrier(2, timeout=30), []
    take = step._scratch.take

    def take_together():
        block = take()
        taken.append(block)
        met.wait()  # so that both hold one at the same time
        return block

    step._scratch.take = take_together
    cr.set_threads(2)
    again = run(args)
    assert [np.asarray(a).tobytes() for a in again] == [np.asarray(a).tobytes() for a in alone]
    assert not np.shares_memory(*taken)


def test_tiles_run_in_several_threads_at_once():
    f, args = CASES["mixture"]
    fast = cr.jit(f)
    wanted = {s: f(*args[:3], args[3] * s) for s in (0.5, 1.0, 2.0)}
    fast(*args)
    wrong = []

    def work(scale):
        for _ in range(20):
            value, grads = fast(*args[:3], args[3] * scale)
            good = np.allclose(value, wanted[scale][0]) and all(map(np.allclose, grads, wanted[scale][1]))
            wrong.extend([] if good else [scale])

    threads = [threading.Thread(target=work, args=(s,)) for s in wanted]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
