"""jit: signatures, guards, composition, and the native entry under hostile arguments."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import warnings

import numpy as np
import pytest

import chainrule as cr

x5 = np.array([0.5, -1.5, 2.0, 0.1, 1.0])


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@cr.jit
def decorated(x):
    return np.sum(x * x)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


COMPOSITIONS = {
    "jit(grad)": (cr.jit(cr.grad(rosenbrock)), cr.grad(rosenbrock)),
    "jit(jacobian)": (cr.jit(cr.jacobian(lambda x: np.sin(x) * x[::-1])), cr.jacobian(lambda x: np.sin(x) * x[::-1])),
    "jit(hessian)": (cr.jit(cr.hessian(rosenbrock)), cr.hessian(rosenbrock)),
    "grad(jit)": (cr.grad(cr.jit(rosenbrock)), cr.grad(rosenbrock)),
    "jit(grad(jit))": (cr.jit(cr.grad(cr.jit(rosenbrock))), cr.grad(rosenbrock)),
    "vmap(jit)": (
        lambda x: cr.vmap(cr.jit(rosenbrock))(np.stack([x, 2 * x])),
        lambda x: np.array([rosenbrock(x), rosenbrock(2 * x)]),
    ),
    "jit(vmap)": (
        lambda x: cr.jit(cr.vmap(rosenbrock))(np.stack([x, 2 * x])),
        lambda x: np.array([rosenbrock(x), rosenbrock(2 * x)]),
    ),
    "jit(jit)": (cr.jit(cr.jit(rosenbrock)), rosenbrock),
    "hessian(jit)": (cr.hessian(cr.jit(rosenbrock)), cr.hessian(rosenbrock)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_jit_composes(name):
    staged, plain = COMPOSITIONS[name]
    for _ in range(2):
        close(staged(x5), plain(x5))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x[::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype),
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.complex128),
        lambda x: x.astype(np.longdouble),
        lambda x: x.view(np.recarray).view(type("Sub", (np.ndarray,), {})),
        lambda x: x[:3],
        lambda x: np.array(x, copy=True),
        lambda x: np.broadcast_to(x[0], 5),
    ],
)
def test_any_array_of_numbers_is_taken(make):
    def f(x):
        return np.sum(x[1:] * x[:-1]), x * 2

    staged = cr.jit(f)
    staged(x5)
    x = make(x5)
    for found, wanted in zip(staged(x), f(np.asarray(x)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6 if x.dtype.itemsize < 8 else 1e-12)
        assert found.dtype == np.asarray(wanted).dtype.newbyteorder("=")


def test_zero_size_and_rank_zero():
    staged = cr.jit(lambda x: (np.sum(x), x + 1))
    for x in (np.zeros(0), np.zeros((0, 3)), np.float64(3.0), np.array(2.0), 1.5):
        total, more = staged(x)
        close(total, np.sum(x))
        close(more, np.asarray(x) + 1)
    assert isinstance(staged(1.5)[1], np.float64)


def test_trees_and_keywords():
    staged = cr.jit(lambda p, *, scale: {"y": p["a"] * scale, "z": (p["b"][0],)})
    out = staged({"a": x5, "b": [1.0, 2.0]}, scale=3.0)
    close(out["y"], x5 * 3)
    assert out["z"] == (1.0,)


def test_static_arguments():
    calls = []

    def f(x, n, how):
        calls.append(n)
        return x * n if how == "times" else x + n

    staged = cr.jit(f, static_argnums=(1, 2))
    close(staged(x5, 3, "times"), x5 * 3)
    close(staged(x5, 3, "times"), x5 * 3)
    close(staged(x5, 4, "plus"), x5 + 4)
    assert calls == [3, 4]


def test_a_text_among_the_arguments_names_the_repair():
    with pytest.raises(cr.TraceError, match="static_argnums"):
        cr.jit(lambda x, s: x)(x5, "text")


def test_branches_are_guarded():
    staged = cr.jit(lambda x: x * 2 if x[0] > 0 else x * 3)
    for sign in (1, -1, 1, -1):
        close(staged(sign * x5), sign * x5 * (2 if sign > 0 else 3))
    assert len(staged.known(x5).paths) == 2


def test_too_many_paths_run_eagerly_with_one_warning():
    def f(x):
        for _ in range(int(x[0])):
            x = x + 1
        return x

    staged = cr.jit(f, backend="numpy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(20):
            close(staged(np.array([k, 0.5])), f(np.array([k, 0.5])))
    assert [w.category for w in caught] == [RuntimeWarning]


def test_an_index_out_of_range_raises_with_the_line():
    staged = cr.jit(lambda x, i: np.sin(x[i]) * 2)
    i = np.array([0, 4, -1, -5] * 5)
    close(staged(x5, i), np.sin(x5[i]) * 2)
    for bad in (5, -6, 1 << 40, -(1 << 62)):
        with pytest.raises(IndexError, match=r"out of bounds.*test_jit\.py"):
            staged(x5, np.array([0, 4, bad, 1] * 5))
    close(staged(x5, i), np.sin(x5[i]) * 2)


def test_results_are_the_callers_own():
    constant = np.arange(5.0)
    staged = cr.jit(lambda x: (x, constant, x + 1, constant))
    a = staged(x5)
    for out in a:
        out += 1
    b = staged(x5)
    for out, wanted in zip(b, (x5, np.arange(5.0), x5 + 1, np.arange(5.0)), strict=True):
        close(out, wanted)


def test_special_values_pass_as_in_numpy():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-310, 1e308, -1.0] * 3)

    def f(x):
        return (
            np.exp(x),
            np.log(x),
            np.sqrt(x),
            np.maximum(x, 0.5),
            np.where(x > 0, x, -x),
            np.sign(x),
            x * 1e300,
            1 / x,
            np.tanh(x),
        )

    with np.errstate(all="ignore"):
        for found, wanted in zip(cr.jit(f)(x), f(x), strict=True):
            close(found, wanted)


def test_strong_zeros():
    staged = cr.jit(cr.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))))
    with np.errstate(all="ignore"):
        close(staged(np.array([0.0, 4.0] * 20)), [0.0, 0.25] * 20)


def test_pickled_by_reference():
    module = sys.modules.setdefault(__name__, sys.modules.get(__name__) or type(sys)(__name__))
    module.__dict__.setdefault("decorated", decorated)
    module.__dict__.setdefault("rosenbrock", rosenbrock)
    again = pickle.loads(pickle.dumps(cr.jit(rosenbrock)))
    close(again(x5), rosenbrock(x5))
    assert pickle.loads(pickle.dumps(decorated)) is decorated


def test_threads_share_one_function():
    staged = cr.jit(cr.value_and_grad(rosenbrock))
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            x = rng.normal(size=int(rng.integers(3, 6)))
            y, g = staged(x)
            if not (np.isclose(y, rosenbrock(x)) and g.shape == x.shape):
                failures.append(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_calls_do_not_leak():
    staged = cr.jit(cr.value_and_grad(rosenbrock))
    x = x5.copy()
    staged(x)
    held = [x.dtype, np.ndarray, None, np.float64]
    counts = []
    for _ in range(3):
        for _ in range(2000):
            staged(x)
            staged(x[::-1])
        gc.collect()
        counts.append([sys.getrefcount(x), *map(sys.getrefcount, held)])
    assert all(abs(a - b) <= 50 for a, b in zip(counts[1], counts[2], strict=True))


def test_compiled_functions_are_collected():
    import weakref

    staged = cr.jit(lambda x: x + 1)
    staged(x5)
    staged(x5)
    seen = weakref.ref(staged)
    del staged
    gc.collect()
    assert seen() is None


def test_large_results_do_not_share_memory():
    staged = cr.jit(lambda x: x * 2)
    x = np.arange(100_000.0)
    first = staged(x)
    view = first[10:20]
    del first
    second = staged(x + 1)
    close(view, x[10:20] * 2)
    assert not np.shares_memory(view, second)


def test_methods():
    class Model:
        @cr.jit
        def double(x):  # noqa: N805
            return x * 2

    close(Model.double(x5), x5 * 2)


def test_values_that_are_traced_outside_are_no_constants():
    def f(x):
        return cr.jit(lambda y: np.sum(y) * np.sum(x**2))(x5)

    x = np.arange(5.0)
    close(cr.grad(f)(x), 2 * x5.sum() * x)
    close(cr.jacobian(f, mode="forward")(x), 2 * x5.sum() * x)
    close(cr.vmap(f)(np.stack([x, 2 * x])), [f(x), f(2 * x)])
    close(cr.vmap(lambda x: cr.jit(lambda: x * 2)())(x), 2 * x)
    staged = cr.jit(f)
    for k in (1, 2, 3):
        close(staged(k * x), f(k * x))


def test_static_arguments_differ_by_type_and_sign():
    staged = cr.jit(lambda x, n: x * len(repr(n)), static_argnums=1)
    for n in (1, True, 1.0, 0.0, -0.0, float("nan"), (1,), (True,), (0.0,), (-0.0,)):
        close(staged(x5, n), x5 * len(repr(n)))


@pytest.mark.parametrize("n", [5, 5000])
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_captured_arrays_stay_as_they_were(n, backend):
    constant = np.arange(1.0, n + 1)
    staged = cr.jit(lambda x: (x * constant, constant), backend=backend)
    x = np.sin(constant)
    staged(x)
    before = constant.copy()
    constant[:] = 0.0
    for _ in range(2):
        product, captured = staged(x)
        close(product, x * before)
        close(captured, before)
