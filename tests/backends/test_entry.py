"""The native entry: which calls it takes, that it hands on all others, and that it neither leaks nor crashes on any."""

from __future__ import annotations

import collections
import contextlib
import gc
import sys
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends import llvm
from chainrule.backends.llvm import cpython, entry, native
from chainrule.staging import Jitted

x5 = np.array([0.5, -1.5, 2.0, 0.1, 1.0])
Pair = collections.namedtuple("Pair", "a b")


@pytest.fixture
def slow(monkeypatch):
    """The calls that reach the Python path."""
    calls = []
    plain = Jitted._call

    def counted(self, *args, **kwargs):
        calls.append((args, kwargs))
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Jitted, "_call", counted)
    return calls


def agree(found, wanted):
    """Equal trees of equal types, dtypes and shapes."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = [found[k] for k in wanted], list(wanted.values())
    if isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            agree(a, b)
    elif wanted is not None:
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert isinstance(found, np.generic) or found.flags.owndata


def network(p, x):
    return np.sum(np.tanh(np.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]) ** 2)


def twice(x):
    y, s = x * 2, np.sum(x)
    return y, y, s, s


PARAMETERS = {
    "w1": np.linspace(-1, 1, 12).reshape(4, 3),
    "b1": np.linspace(0, 1, 3),
    "w2": np.linspace(-1, 0, 6).reshape(3, 2),
    "b2": np.ones(2),
}
FORMS = {
    "dict": (cr.value_and_grad(network), (PARAMETERS, np.linspace(0, 1, 4)), {}),
    "nested": (
        lambda t: {"z": [t[0]["a"] * 2, (t[1][0] + t[1][1], None)], "a": t[0]["b"]["c"] - 1},
        (({"a": x5, "b": {"c": 2.0}}, [x5, 3 * x5], None, ()),),
        {},
    ),
    "list": (lambda xs: [x * k for k, x in enumerate(xs)], ([x5, x5 + 1, x5[:3].copy()],), {}),
    "keywords": (lambda x, *, scale, more: (x * scale, more["x"]), (x5,), {"scale": 2.0, "more": {"x": 3 * x5}}),
    "numbers": (lambda a, b, c, d: (a * x5 + b, c * d), (2.0, np.float64(3.0), 4, np.int64(5)), {}),
    "integers": (lambda x, n: x * n, (np.arange(5), 3), {}),
    "single": (lambda x: x + np.float32(1), (x5.astype(np.float32),), {}),
    "returned": (lambda x, s: (x, x * 2, x, s, x5), (x5 + 1, 2.0), {}),
    "twice": (twice, (x5,), {}),
    "masks": (lambda x: (x > 0, x[0] > 0), (x5,), {}),
    "nothing": (lambda x: None, (x5,), {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_trees_go_in_and_out_natively(name, slow):
    f, args, kwargs = FORMS[name]
    staged = cr.jit(f)
    wanted = f(*args, **kwargs)
    for _ in range(3):
        agree(_arrays(staged(*args, **kwargs)), _arrays(wanted))
    assert len(slow) == (3 if name == "nothing" else 1)


def _arrays(t):
    """A tree with NumPy's types for numbers."""
    if isinstance(t, dict):
        return {k: _arrays(v) for k, v in t.items()}
    if isinstance(t, list | tuple):
        return type(t)(map(_arrays, t))
    return t if t is None or hasattr(t, "dtype") else np.asarray(t)[()]


def test_results_are_the_callers_own():
    constant = np.arange(5.0)
    staged = cr.jit(lambda x: {"x": x, "again": [x, constant], "y": x * 2, "z": x * 2})
    for _ in range(3):
        x = x5.copy()
        out = staged(x)
        for one in (out["x"], *out["again"], out["y"], out["z"]):
            one += 1
        np.testing.assert_array_equal(x, x5)
        np.testing.assert_array_equal(constant, np.arange(5.0))
        np.testing.assert_array_equal(out["y"], 2 * x5 + 1)
        np.testing.assert_array_equal(out["again"][1], np.arange(5.0) + 1)


class Evil(str):
    """A key that compares equal, after calling the function whose argument it is in."""

    __slots__ = ("then",)
    __hash__ = str.__hash__

    def __eq__(self, other):
        self.then()
        return str.__eq__(self, other)


def test_any_other_tree_is_handed_on(slow):
    def f(p, y):
        return p["w"] * y[0] + y[1]

    staged = cr.jit(f)
    p, y = {"w": x5}, (x5 + 1, 2.0)
    staged(p, y)
    staged(p, y)
    assert len(slow) == 1
    for other in (
        ({"w": x5.astype(np.float32)}, y),
        ({"w": x5[::-1]}, y),
        ({"w": x5[:1]}, y),
        ({"w": 3.0}, y),
        ({"w": x5, "v": x5}, y),
        (collections.OrderedDict(w=x5), y),
        (collections.defaultdict(list, w=x5), y),
        (p, [x5 + 1, 2.0]),
        (p, Pair(x5 + 1, 2.0)),
        (p, (x5 + 1, 2)),
        (p, (x5 + 1, np.float32(2))),
        (p, (x5 + 1, True)),
        (p, (x5 + 1, np.array(2.0))),
        (p, (x5 + 1, x5)),
        (p, (x5 + 1, 2.0, 3.0)),
        (p, (np.float64(1.0), 2.0)),
        (p, (np.broadcast_to(1.0, 5), 2.0)),
        (p, (np.frombuffer(b"\0" + x5.tobytes(), np.uint8)[1:].view(float), 2.0)),
    ):
        before = len(slow)
        np.testing.assert_allclose(staged(*other), f(*other), rtol=1e-6)
        assert len(slow) == before + 1
    for wrong, error in (
        (({"v": x5}, y), KeyError),
        (({}, y), KeyError),
        ((p,), TypeError),
        ((p, y, y), TypeError),
        ((p, ()), IndexError),
        ((None, y), TypeError),
        ((p, (x5 + 1, "text")), cr.TraceError),
        ((p, (np.ma.masked_array(x5), 2.0)), cr.TraceError),
    ):
        with pytest.raises(error):
            staged(*wrong)
    with pytest.raises(TypeError):
        staged(p, z=y)
    np.testing.assert_allclose(staged(p, y=y), f(p, y))


def test_a_key_that_calls_back_is_no_harm():
    staged = cr.jit(lambda p: p["w"] * 2)
    staged({"w": x5})
    inner = []
    key = Evil("w")
    key.then = lambda: inner.append(staged({"w": x5 + 1}))
    outer = {key: x5}
    np.testing.assert_array_equal(staged(outer), 2 * x5)
    assert inner
    for one in inner:
        np.testing.assert_array_equal(one, 2 * (x5 + 1))


def test_a_key_that_empties_the_list_it_is_in_is_no_harm():
    staged = cr.jit(lambda xs: xs[0]["w"] * xs[1] + xs[2])
    for _ in range(2):
        np.testing.assert_allclose(staged([{"w": x5}, x5, x5]), x5 * x5 + x5)
    for _ in range(50):
        key = Evil("w")
        outer = [{key: x5.copy()}, x5.copy(), x5.copy()]
        key.then = outer.clear
        with contextlib.suppress(IndexError, KeyError, cr.TraceError):
            staged(outer)


def test_paths_are_chosen_natively(slow):
    def f(x, y):
        if x[0] > 0:
            return x * y
        return (x - y, x) if y[0] > 0 else None

    staged = cr.jit(f)
    points = [(x5, x5), (-x5, x5), (-x5, -x5)]
    for _ in range(4):
        for x, y in points:
            found, wanted = staged(x, y), f(x, y)
            agree(found, wanted)
    assert len(slow) == 3


def test_guards_on_arrays_and_whole_numbers():
    def f(x, n):
        for _ in range(int(n)):
            x = x + 1
        return x[x > 1.0] if bool((x > 1.2).all()) else x[x > 0.0]

    staged = cr.jit(f)
    for _ in range(3):
        for n in (1, 2, 4):
            agree(staged(x5, n), f(x5, n))
            agree(staged(x5, np.float64(n)), f(x5, n))
    agree(staged(x5 + 1, 1), f(x5 + 1, 1))  # another mask


def test_loops_of_a_number_of_turns_are_paths(slow):
    def f(x, n):
        for _ in range(int(n)):
            x = x + 1
        return x

    staged = cr.jit(f)
    for _ in range(3):
        for n in (1, 2, 4):
            agree(staged(x5, n), f(x5, n))
    assert len(slow) == 3


def test_a_nan_that_was_branched_on():
    def f(x):
        return x * 2 if x[0] != x[0] else x

    staged = cr.jit(f)
    for _ in range(3):
        for first in (np.nan, -np.nan, 1.0):
            x = np.array([first, 1.0])
            np.testing.assert_array_equal(staged(x), f(x))


def test_more_signatures_than_the_entry_holds():
    staged = cr.jit(lambda x: x * 2)
    for _ in range(3):
        for n in range(1, entry.CAPACITY + 8):
            np.testing.assert_array_equal(staged(np.arange(float(n))), 2 * np.arange(n))


def test_static_arguments_are_known_by_identity(slow):
    how = ("times", 2)
    staged = cr.jit(lambda how, x: x * how[1] if how[0] == "times" else x + how[1], static_argnums=0)
    for _ in range(3):
        np.testing.assert_array_equal(staged(how, x5), 2 * x5)
    assert len(slow) == 1
    np.testing.assert_array_equal(staged(("plus", 2), x5), x5 + 2)
    np.testing.assert_array_equal(staged(tuple(["times", 2]), x5), 2 * x5)  # noqa: C409 - another object, equal


def test_static_arguments_by_name_are_known_by_identity(slow):
    staged = cr.jit(lambda x, *, how, by: x * by if how == "times" else x + by, static_argnames="how")
    for _ in range(3):
        np.testing.assert_array_equal(staged(x5, how="times", by=2.0), 2 * x5)
        np.testing.assert_array_equal(staged(x5, by=2.0, how="plus"), x5 + 2)
    assert len(slow) == 2


@pytest.mark.parametrize("n", [1 << 62, -(1 << 63), (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 200, -(1 << 63) - 1])
def test_integers_of_any_size(n):
    staged = cr.jit(lambda k, x: (k, x))
    staged(3, x5)
    staged(4, x5)
    if np.asarray(n).dtype == object:
        with pytest.raises(cr.TraceError):
            staged(n, x5)
        return
    found, _ = staged(n, x5)
    assert (found, found.dtype) == (n, np.asarray(n).dtype)


def test_methods_and_bound_entries():
    class Model:
        @cr.jit
        def double(x, y=2.0):  # noqa: N805
            return x * y

    for _ in range(3):
        np.testing.assert_array_equal(Model.double(x5), 2 * x5)
        np.testing.assert_array_equal(Model.double(x5, y=3.0), 3 * x5)


def _counts(objects):
    gc.collect()
    return [sys.getrefcount(o) for o in objects]


def test_no_references_are_lost_or_kept():
    x, y, key = x5.copy(), x5 + 1, "a key"
    tree = {key: x, "rest": [y, (1.5, 7)]}

    def f(t, flag):
        z = t[key] * t["rest"][0]
        if flag > 0:
            z = z + 1
        return {key: z, "t": (np.sum(z), [z, None, 3.0])}

    staged = cr.jit(f)
    picked = cr.jit(lambda x, i: x[i] * 2)
    inside, outside = np.array([0, 1] * 8), np.array([0, 7] * 8)
    objects = [x, y, key, tree, tree["rest"], inside, x.dtype, np.ndarray, np.float64, None, dict, tuple, list]

    def work(times):
        for _ in range(times):
            staged(tree, 1.0)
            staged(tree, -1.0)
            staged({"rest": tree["rest"], key: y}, 1.0)
            picked(x, inside)
            for wrong in (({key: x}, 1.0), ({key: x, "rest": []}, 1.0)):
                with pytest.raises((KeyError, IndexError)):
                    staged(*wrong)
            with pytest.raises(IndexError):
                picked(x, outside)

    work(5)
    before = _counts(objects)
    work(200)
    assert all(abs(a - b) <= 20 for a, b in zip(_counts(objects), before, strict=True))


def test_the_entry_goes_with_its_function():
    import weakref

    x = x5.copy()
    staged = cr.jit(lambda t: {"y": t["x"] * 2})
    for _ in range(3):
        staged({"x": x})
    seen, call = weakref.ref(staged), staged.__call__
    np.testing.assert_array_equal(call({"x": x})["y"], 2 * x)
    staged.clear()
    np.testing.assert_array_equal(call({"x": x})["y"], 2 * x)  # whoever holds the entry may go on
    del staged, call
    gc.collect()
    assert seen() is None


def _sines(xs):
    y = xs[0]
    for _ in range(400):
        y = np.sin(y) + xs[1]["x"]
    return y


def test_long_runs_let_other_threads_work():
    staged, x = cr.jit(_sines), np.linspace(-1, 1, 1000)
    wanted = staged([x, {"x": 0.1 * x}])
    shared, done, found = [x.copy(), {"x": 0.1 * x}], threading.Event(), []

    def call():
        found.extend(staged([x.copy(), {"x": 0.1 * x}]) for _ in range(40))

    def call_on_shared():
        for _ in range(40):
            with contextlib.suppress(KeyError):
                staged(shared)

    def disturb():  # containers that calls under way read from
        while not done.is_set():
            shared[1].clear()
            shared[1]["x"] = 0.1 * x
            shared[0] = x.copy()

    callers = [threading.Thread(target=t) for t in (call, call, call_on_shared)]
    disturber = threading.Thread(target=disturb)
    for t in (*callers, disturber):
        t.start()
    for t in callers:
        t.join()
    done.set()
    disturber.join()
    np.testing.assert_allclose(wanted, _sines([x, {"x": 0.1 * x}]))
    assert len(found) == 80
    assert all(np.array_equal(y, wanted) for y in found)


def test_an_exception_of_the_python_path_is_its_own():
    def f(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cr.jit(f)(x5)


def test_offsets_that_do_not_hold_leave_the_python_path(monkeypatch, slow):
    monkeypatch.setattr(cpython, "holds", lambda: False)
    staged = cr.jit(lambda x: x * 2)
    for _ in range(3):
        np.testing.assert_array_equal(staged(x5), 2 * x5)
    assert len(slow) == 3


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_a_failure_of_llvm_is_told_once_and_shown(monkeypatch):
    def fail(text):
        raise RuntimeError("no such processor\nmore")

    monkeypatch.setattr(native, "object_code", fail)
    monkeypatch.setattr(llvm, "_warned", threading.Event())
    staged = cr.jit(rosenbrock)
    with pytest.warns(RuntimeWarning, match="`rosenbrock` runs by NumPy.*LLVM failed: no such processor") as caught:
        np.testing.assert_allclose(staged(x5), rosenbrock(x5))
    assert caught[0].filename == __file__
    np.testing.assert_allclose(cr.jit(rosenbrock)(x5[1:]), rosenbrock(x5[1:]))
    assert "LLVM failed: no such processor" in str(cr.explain(staged, x5))


def _random_tree(rng, depth=0):
    """A tree of arrays and numbers, two deep at most."""
    choice = int(rng.integers(8 if depth < 2 else 4))
    if choice < 4:
        return [rng.normal(size=3), float(rng.normal()), rng.normal(size=(2, 2)), np.float64(rng.normal())][choice]
    items = [_random_tree(rng, depth + 1) for _ in range(int(rng.integers(4)))]
    if choice == 7:
        return dict(zip(rng.permutation(list("abc"))[: len(items)].tolist(), items, strict=True))
    return [tuple(items), items, (None, *items)][choice - 4]


def _changed(t, rng):
    """The tree with something of it, perhaps, otherwise."""
    if isinstance(t, dict):
        t = {k: _changed(v, rng) for k, v in t.items()}
        return {"z": t, **t} if rng.random() < 0.1 else dict(reversed(t.items()))
    if isinstance(t, list | tuple):
        t = [_changed(v, rng) for v in t]
        return [tuple, list][int(rng.random() < 0.5)](t[: len(t) - int(rng.random() < 0.1)])
    if t is None or rng.random() < 0.7:
        return t
    return [2.5, np.float32(1), 7, np.ones(3)[::-1], np.ones((2, 2), np.float32), None, np.ones(0)][
        int(rng.integers(7))
    ]


def _doubled(t):
    if isinstance(t, dict):
        return {k: _doubled(v) for k, v in t.items()}
    if isinstance(t, list | tuple):
        return type(t)(map(_doubled, t))
    return t if t is None else t * 2


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_come_back_whole(seed):
    rng = np.random.default_rng(seed)
    args = tuple(_random_tree(rng) for _ in range(1 + seed % 3))
    staged = cr.jit(lambda *ts: _doubled(ts))
    for _ in range(20):
        agree(_arrays(staged(*args)), _arrays(_doubled(args)))
        other = tuple(_changed(t, rng) for t in args)
        agree(_arrays(staged(*other)), _arrays(_doubled(other)))
