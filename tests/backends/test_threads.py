"""Large loops on several threads: results are those of NumPy, and the same to the last bit however many threads there are."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends import threads
from chainrule.backends.llvm import divide, native
from chainrule.backends.llvm.native import build
from chainrule.backends.llvm.target import host
from chainrule.optimise import optimise


@pytest.fixture(autouse=True)
def as_before():
    before = cr.get_threads()
    yield
    cr.set_threads(before)


@pytest.fixture
def small_pieces(monkeypatch):
    """Kernels of few elements are cut as well."""
    monkeypatch.setenv("CHAINRULE_CACHE", "off")  # it is told of no such changes
    monkeypatch.setattr(divide, "LEAST", 1)
    monkeypatch.setattr(divide, "GRAIN", 16)
    monkeypatch.setattr(divide, "COMBINED", 0.25)


def draw(*shape):
    return np.random.default_rng(prod_of(shape)).normal(size=shape)


def prod_of(shape):
    return int(np.prod(shape, dtype=int)) + len(shape)


def places(n, below):
    return np.random.default_rng(n).integers(-below, below, n)


def smooth(x):
    return np.sum(np.sin(x) * np.exp(-(x**2)) + np.log(1 + x**2))


def stencil(x):
    return np.sum((x[2:] - 2 * x[1:-1] + x[:-2]) ** 2 * x[1:-1])


def heat(x):
    inner = x[1:-1, 1:-1] + 0.1 * (x[2:, 1:-1] + x[:-2, 1:-1] + x[1:-1, 2:] + x[1:-1, :-2] - 4 * x[1:-1, 1:-1])
    return np.sum(inner**2, axis=0)


def normalised(x):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def padded(x):
    """Sums of rows, which lie in boxes of different ranges: all rows for the first column, two parts of them for the others."""
    return np.sum(np.concatenate([x[:, :1] * 2, np.concatenate([x[:37, 1:] * 3, -x[37:, 1:]])], axis=1), axis=1)


def gathered(x, i):
    return np.sum(np.sin(x[i]) ** 2)


PROGRAMS = {
    "a sum and its gradient": (cr.value_and_grad(smooth), [draw(5003)]),
    "a sum of 1000 elements": (cr.value_and_grad(smooth), [draw(1000)]),
    "float32": (cr.value_and_grad(smooth), [draw(5003).astype(np.float32)]),
    "a stencil": (cr.value_and_grad(stencil), [draw(5003)]),
    "a stencil in two dimensions": (heat, [draw(71, 83)]),
    "its Jacobian's product": (lambda x, ct: cr.vjp(heat, x)[1](ct), [draw(71, 83), draw(81)]),
    "sums of rows": (lambda x: np.sum(np.exp(x), axis=1), [draw(200, 130)]),
    "sums of columns": (lambda x: np.sum(np.exp(x), axis=0), [draw(2000, 33)]),
    "sums of long columns": (lambda x: np.sum(np.exp(x), axis=0), [draw(33, 2000)]),
    "means of planes": (lambda x: np.mean(x * x, axis=(0, 2)), [draw(31, 40, 37)]),
    "softmax": (normalised, [draw(90, 70)]),
    "gradient of softmax": (cr.grad(lambda x: np.sum(normalised(x) ** 3)), [draw(90, 70)]),
    "rows in several boxes": (padded, [draw(100, 60)]),
    "extremes": (lambda x: (np.max(x), np.min(x), np.max(x, axis=0)), [draw(500, 40)]),
    "extremes with NaN": (lambda x: (np.max(x), np.min(x), np.max(x, axis=0)), [np.where(draw(500, 40) > 3, np.nan, 1.0)]),
    "a sum of integers": (lambda i: np.sum(i * i), [places(5003, 50)]),
    "comparisons": (lambda x: np.where(x > 0, x, 0.1 * x) > x.mean(), [draw(5003)]),
    "a matrix and a vector": (lambda a, x: a @ x, [draw(150, 120), draw(120)]),
    "an outer product": (lambda x, y: np.sin(x[:, None] * y), [draw(150), draw(120)]),
    "a transpose": (lambda x: np.sin(x.T) + 1, [draw(150, 120)]),
    "gather": (gathered, [draw(300), places(5003, 300)]),
    "scatter": (cr.grad(gathered), [draw(300), places(5003, 300)]),
    "a Jacobian of a batch": (cr.vmap(cr.jacobian(lambda p: np.stack([p[0] * p[1], np.sin(p[2]), p[0] / p[2]]))), [draw(1500, 3)]),
}  # fmt: skip


PROGRAMS["scatter of rows"] = (cr.grad(lambda x, i: np.sum(np.sin(x[i, :]) ** 2)), [draw(40, 64), places(300, 40)])


def leaves(tree):
    return [x for part in tree for x in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_do_not_depend_on_the_number_of_threads(name, small_pieces):
    f, args = PROGRAMS[name]
    fast = cr.jit(f)
    cr.set_threads(1)
    alone = leaves(fast(*args))
    assert " pieces" in str(cr.explain(fast, *args))
    for a, b in zip(alone, leaves(f(*args)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(
            a, b, rtol=1e-4 if a.dtype == np.float32 else 1e-11, atol=1e-5 if a.dtype == np.float32 else 1e-11
        )
    for n in (2, 3, 7):
        cr.set_threads(n)
        for _ in range(3):
            for a, b in zip(alone, leaves(fast(*args)), strict=True):
                assert a.tobytes() == b.tobytes(), n


@pytest.mark.parametrize("n", [*range(28, 70), 255, 256, 257])
def test_every_length_is_covered_once(n, small_pieces):
    cr.set_threads(3)
    x = np.arange(1.0, n + 1)
    together = cr.jit(lambda x: (np.sum(x), x + 1, np.sum(np.stack([x] * 40), axis=0)))
    total, more, rows = together(x)
    assert total == n * (n + 1) / 2
    assert (more == x + 1).all()
    assert (rows == 40 * x).all()


def test_pieces_that_meet_in_a_place_add_up_by_themselves(small_pieces):
    def rows(f, *args):
        ((_, made),) = build(optimise(cr.program(f)(*args)), host()).functions.kernels
        return len(made.division.rows)

    x = draw(100, 60)
    assert rows(lambda x: np.sum(np.sin(x), axis=1), x) == 0
    assert rows(lambda x: np.sum(np.sin(x), axis=0), draw(100, 17)) == 1
    assert rows(smooth, x) == 1
    assert rows(padded, x) == 1


def test_large_loops_are_cut_and_small_ones_are_not():
    fast = cr.jit(cr.value_and_grad(smooth))
    assert ", in 64 pieces:" in str(cr.explain(fast, np.ones(1_000_000)))
    assert " pieces" not in str(cr.explain(fast, np.ones(1000)))


def test_pieces_come_back_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    x = draw(100_001)
    cr.set_threads(3)
    made = cr.jit(cr.value_and_grad(smooth))(x)
    assert list(tmp_path.iterdir())
    with monkeypatch.context() as without:
        without.setattr(native, "build", None)
        stored = cr.jit(cr.value_and_grad(smooth))
        found = stored(x)
        assert " pieces" in str(cr.explain(stored, x))
    assert made[0] == found[0]
    assert (made[1] == found[1]).all()


def test_helpers_take_part():
    met = threading.Barrier(3, timeout=30)
    cr.set_threads(3)
    threads.share(met.wait, 3)  # returns only when three threads have come


def test_one_thread_starts_no_other():
    code = (
        "import numpy as np, threading, chainrule as cr\n"
        "assert cr.get_threads() == 1\n"
        "cr.jit(lambda x: np.sum(np.sin(x)))(np.ones(10**6))\n"
        "assert threading.active_count() == 1\n"
        "from chainrule.backends import threads\n"
        "assert threads._state.pool is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"CHAINRULE_THREADS": ""}, timeout=120)


def test_an_index_out_of_range_in_any_piece_raises(small_pieces):
    cr.set_threads(3)
    fast = cr.jit(lambda x, i: np.sum(np.sin(x[i])))
    i = places(5003, 300)
    assert np.isclose(fast(np.ones(300), i), 5003 * np.sin(1))
    for k in (0, 2500, 5002):
        wrong = i.copy()
        wrong[k] = 300
        with pytest.raises(IndexError, match=r"out of bounds.*test_threads\.py"):
            fast(np.ones(300), wrong)
    assert np.isclose(fast(np.ones(300), i), 5003 * np.sin(1))


def test_the_number_of_threads_is_checked():
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            cr.set_threads(wrong)
    for wrong in (1.0, "2", None):
        with pytest.raises(TypeError, match="whole number"):
            cr.set_threads(wrong)
    cr.set_threads(np.int64(2))
    assert cr.get_threads() == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("", 1), (" 2 ", 2), ("many", None), ("0", None), ("1.5", None)]
)
def test_the_environment_sets_the_default(text, expected, monkeypatch):
    monkeypatch.setenv("CHAINRULE_THREADS", text)
    monkeypatch.setattr(threads, "_state", threads._State())
    if expected is None:
        with pytest.raises(ValueError, match="CHAINRULE_THREADS"):
            cr.get_threads()
        cr.set_threads(1)  # the repair needs no restart
    else:
        assert cr.get_threads() == expected


def test_calls_from_many_threads_at_once(small_pieces):
    cr.set_threads(3)
    fast = cr.jit(cr.value_and_grad(smooth))
    inputs = [draw(5000) + k for k in range(8)]
    expected = [fast(x) for x in inputs]

    def run(k):
        for _ in range(50):
            value, gradient = fast(inputs[k])
            if value != expected[k][0] or gradient.tobytes() != expected[k][1].tobytes():
                return False
        return True

    def change():
        for n in (1, 2, 4, 3) * 20:
            cr.set_threads(n)
            time.sleep(0.001)

    with ThreadPoolExecutor(9) as pool:
        changed = pool.submit(change)
        assert all(pool.map(run, range(8)))
        changed.result()


def test_a_call_within_shared_work_does_not_wait_for_the_pool():
    cr.set_threads(3)
    inner = []

    def work():
        threads.share(lambda: inner.append(threading.get_ident()), 3)

    threads.share(work, 3)
    assert inner


def test_nothing_is_kept_alive_by_the_pool(small_pieces):
    cr.set_threads(3)

    class Marked:
        def __call__(self):
            time.sleep(0.001)

    marked = Marked()
    gone = weakref.ref(marked)
    threads.share(marked, 3)
    del marked
    until = time.monotonic() + 10
    while gone() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.001)
    assert gone() is None


def test_an_interrupt_waits_for_the_helpers():
    """Ctrl-C while helpers still work: KeyboardInterrupt is raised, but not before they are done with the memory."""
    cr.set_threads(2)
    caller = threading.main_thread()
    begun, done = threading.Event(), threading.Event()

    def work():
        if threading.current_thread() is caller:
            assert begun.wait(30)
            return
        begun.set()
        time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        threads.share(work, 2)
    assert done.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_a_pool_of_its_own():
    code = """
import os, warnings
import numpy as np, chainrule as cr
warnings.simplefilter("ignore", DeprecationWarning)
cr.set_threads(2)
fast = cr.jit(lambda x: np.sum(np.sin(x)))
x = np.ones(10**6)
before = fast(x)
child = os.fork()
if child == 0:
    os._exit(0 if fast(x) == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert fast(x) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_interpreter_ends_while_threads_wait_or_work():
    code = """
import atexit, threading
import numpy as np, chainrule as cr
cr.set_threads(2)
fast = cr.jit(lambda x: np.sum(np.sin(x)))
x = np.ones(10**6)
fast(x)
def forever():
    while True:
        fast(x)
threading.Thread(target=forever, daemon=True).start()
atexit.register(lambda: (cr.set_threads(3), fast(x)))
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_further_threads_the_caller_works_alone(monkeypatch, small_pieces):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    cr.set_threads(1)
    cr.set_threads(4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert np.isclose(cr.jit(smooth)(np.ones(5000)), smooth(np.ones(5000)))
