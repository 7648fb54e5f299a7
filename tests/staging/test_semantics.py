"""jit of whatever Python there is: the result is that of the function, or an error that names the repair."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import inspect
import math
import multiprocessing
import operator
import pickle
import threading
import traceback
import weakref
from decimal import Decimal

import numpy as np
import optree
import pytest
import scipy.stats

import chainrule as cr

X = np.array([0.5, -1.5, 2.0, 0.1, 1.0])
K = np.arange(-3, 4)
Pair = collections.namedtuple("Pair", "x y")


@optree.dataclasses.dataclass(namespace="chainrule")
class Parameters:
    weight: object
    bias: object


def leaves(tree):
    return optree.tree_leaves(tree, namespace="chainrule", none_is_leaf=True)


def same(found, wanted):
    assert optree.tree_structure(found, namespace="chainrule") == optree.tree_structure(wanted, namespace="chainrule")
    for f, w in zip(leaves(found), leaves(wanted), strict=True):
        if w is None:
            assert f is None
            continue
        assert np.shape(f) == np.shape(w)
        assert np.asarray(f).dtype == np.asarray(w).dtype
        np.testing.assert_allclose(f, w, rtol=1e-2 if np.asarray(w).dtype == np.float16 else 1e-6)


def factorial_power(n, x):
    return x if n <= 0 else x * factorial_power(n - 1, x)


def newton(x):
    y = x
    while np.sum(np.abs(y * y - x)) > 1e-9:
        y = (y + x / y) / 2
    return y


def caught(x):
    try:
        return 1.0 / int(x[0])
    except ZeroDivisionError:
        return x


CASES = {
    "bools": (lambda b: (b**2, ~b, b & True, b | b, b ^ b, np.any(b), np.sum(b), np.mean(b), b * b, b * 2.0), X > 0),
    "rounded bools": (lambda b: np.round(b), X > 0),
    "taken by bools": (lambda x, b: (np.take(x, b), np.take(x, X > 0), x[b]), X, X > 0),
    "integers": (
        lambda i: (i // 2, i % 3, i**2, i**2.0, i / 2, abs(i), np.sqrt(abs(i)), np.prod(i), ~i, i << 2, np.cumsum(i)),
        K,
    ),
    "division by zero": (lambda i: (i // 0, i % 0), K),
    "int32": (lambda i: (i + 1, i**2, i**2.0, i / 2, np.sum(i), i << 2, i * 2.0), K.astype(np.int32)),
    "uint8": (
        lambda u: (u * u, -u, u - 1, u / 2, u > -1, u > 300, np.where(u > 2, u, 0)),
        np.arange(5, dtype=np.uint8),
    ),
    "uint64": (lambda u: (u << 1, u + 1, u // 2), np.arange(5, dtype=np.uint64)),
    "overflow": (lambda i: i * i * i, np.array([1 << 40, -(1 << 40)])),
    "casts": (lambda x: (x.astype(int), x.astype(np.float32), x.astype(bool)), np.array([1.5, -2.7, 1e3, 0.0])),
    "half": (lambda x: (x * 2, np.exp(x), np.sum(x)), X.astype(np.float16)),
    "single": (lambda x: (x * 2, np.exp(x), np.sum(x), x**2, x / 3), X.astype(np.float32)),
    "long double": (lambda x: (x * 2, np.exp(x)), X.astype(np.longdouble)),
    "complex": (lambda z: (z * z, np.abs(z), np.exp(z), z.real, np.conj(z), np.angle(z)), X + 1j),
    "empty": (lambda x: (x * 2, np.sum(x), np.concatenate([x, x]), x @ x.T, np.prod(x)), np.zeros((0, 3))),
    "rank zero": (lambda x: (x + 1, x[()], x[None], x.reshape(1)), np.array(2.0)),
    "the argument": (lambda x: x, X),
    "None in results": (lambda x: (None, x, [x[0], (2.0, None)], {}), X),
    "constants": (lambda x: (3, True, np.arange(3), 1j), X),
    "None in arguments": (lambda t, y=None: t[0] * 2 if t[1] is None and y is None else 0, (X, None)),
    "default argument": (lambda x, s=2.0, c=X: x * s * c, X),
    "any number of arguments": (lambda *a: sum(a), X, X, 2.0),
    "int()": (lambda x: x * int(x[2]), X),
    "round()": (lambda x: x * round(x[2]), X),
    "cr.value": (lambda x: x * float(cr.value(x[2])), X),
    "range": (lambda x, n: sum(x * k for k in range(n)), X, 3),
    "iteration": (lambda x: sum(v for v in x), X),
    "sorted": (lambda x: np.array(sorted(x)), X),
    "max": (lambda x: (max(x) * x, min(x, key=lambda v: -v)), X),
    "in": (lambda x: x * (0.5 in x), X),
    "masks": (lambda x: (x[np.nonzero(x > 0)], x[x > 0], np.unique(np.floor(x)), x[np.argmax(x)]), X),
    "while": (newton, np.abs(X)),
    "recursion": (factorial_power, 3, X),
    "caught exception": (caught, X),
    "caught exception, not raised": (caught, X + 2),
    "index argument": (lambda x, k: (x[k], x[k:], x[:k], x[k:, None], x[..., k]), X, 2),
    "negative index argument": (lambda x, k: (x[k], x[k:]), X, -1),
    "shape argument": (lambda x, n: (x.reshape(n, 1), np.zeros(n), np.eye(n)), X, 5),
    "axis argument": (lambda x, a: np.sum(x, axis=a), np.ones((2, 3)), 1),
    "number of points": (lambda a, n: np.linspace(0, a, n), 2.0, 4),
    "list repeated": (lambda x, n: (np.stack([x] * n), np.array(n * (1.0, 2.0))), X, 3),
    "math": (lambda s: math.sin(s) + math.exp(s), 2.0),
    "deque": (lambda d: d[0] * 2, collections.deque([X])),
    "dict": (lambda d: {"b": d["a"] * 2, "a": 1.0}, {"a": X, "b": 1}),
    "ordered dict": (lambda d: d["a"] * 2, collections.OrderedDict(a=X)),
    "default dict": (lambda d: d["a"] * 2, collections.defaultdict(float, a=X)),
    "named tuple": (lambda p: Pair(p.y, p.x), Pair(X, 2.0)),
    "dataclass": (lambda p: Parameters(p.weight * p.bias, p.weight), Parameters(X, 2.0)),
    "ufunc": (np.exp, X),
    "builtin": (sum, X),
    "partial": (functools.partial(lambda a, b, c=1.0: a * b * c, 2.0, c=3.0), X),
    "class": (lambda x: Parameters(x, 1.0).weight * 2, X),
    "linear algebra": (lambda a: (a @ a, np.linalg.inv(a), np.linalg.det(a)), np.array([[2.0, 1.0], [1.0, 3.0]])),
}


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_result_is_that_of_the_function(name, backend):
    f, *args = CASES[name]
    staged = cr.jit(f, backend=backend)
    for _ in range(2):
        same(staged(*args), f(*args))


@pytest.mark.parametrize(
    ("f", "args", "error", "message"),
    [
        (lambda x: str(x), (X,), cr.TraceError, "returned a str"),
        (lambda x: object(), (X,), cr.TraceError, "returned a object"),
        (lambda x: x, (np.array(["a"]),), cr.TraceError, r"an array of <U1 \(argument 0\).*\n.*static_argnums"),
        (lambda x: x, (np.array([1.0, None]),), cr.TraceError, "an array of object"),
        (lambda x: x, (np.zeros(2, "M8[D]"),), cr.TraceError, "datetime64"),
        (lambda x, t: x, (X, {"a": X, "b": {1, 2}}), cr.TraceError, r"a set \(argument 1, \['b'\]\)"),
        (lambda x: sum(x), (iter([1.0]),), cr.TraceError, "a list_iterator"),
        (lambda x: x, (Decimal("1.5"),), cr.TraceError, "a Decimal"),
        (lambda x: x, (1 << 70,), cr.TraceError, "a int"),
        (
            lambda m: m * m,
            (np.ones((1, 1)).view(np.matrix),),
            cr.TraceError,
            r"a matrix \(argument 0\).*\n.*np\.asarray",
        ),
        (lambda m: m * m, (np.ma.masked_array(X, X > 0),), cr.TraceError, r"MaskedArray.*\n.*filled"),
        (lambda x, y: x + y, (X, X[:3]), ValueError, "broadcast"),
        (lambda x, y: x @ y, (X, X[:3]), ValueError, "not aligned"),
        (lambda x: x, (X, X), TypeError, "positional argument"),
        (lambda x: float(x[0]), (X,), cr.TraceError, r"cr\.value"),
        (lambda x: x[0].item(), (X,), cr.TraceError, r"cr\.value"),
        (lambda x, k: x[k], (X, 7), IndexError, "out of bounds"),
    ],
)
def test_errors_name_the_repair(f, args, error, message):
    with pytest.raises(error, match=message):
        cr.jit(f)(*args)


# ---- numbers


ARRAYS = {
    "bool": X > 0,
    "int8": np.arange(5, dtype=np.int8),
    "uint8": np.arange(5, dtype=np.uint8),
    "int32": np.arange(5, dtype=np.int32),
    "uint64": np.arange(5, dtype=np.uint64),
    "float16": X.astype(np.float16),
    "float32": X.astype(np.float32),
    "float64": X,
    "complex64": X.astype(np.complex64),
}
SCALARS = (2, 2.0, True, 1j, np.float32(2), np.float64(2), np.int8(2), np.array(2.0), np.array(2, np.int32))
OPERATIONS = {
    "add": operator.add,
    "multiply": operator.mul,
    "subtract": lambda a, s: s - a,
    "divide": lambda a, s: (a / s, (a + 1) / s),
    "power": lambda a, s: (a + 1) ** s,
    "maximum": np.maximum,
    "where": lambda a, s: np.where(a == 2, a, s),
    "equal": lambda a, s: (a == s / 10, a / 10 == s / 10),
    "arithmetic": lambda a, s: a * (s * 3 - 1) / (-s) + abs(s) + s**2,
    "through a ufunc": lambda a, s: a * np.sin(s),
}


@pytest.mark.parametrize("dtype", ARRAYS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_promote_as_they_do_in_numpy(dtype):
    a = ARRAYS[dtype]
    for name, f in OPERATIONS.items():
        staged = cr.jit(f, backend="numpy")
        for s in SCALARS:
            if s is True and name in ("equal", "arithmetic"):
                continue  # to Python a bool is an int, to NumPy it is not
            try:
                wanted = f(a, s)
            except TypeError:  # NumPy has no difference of booleans
                continue
            same(staged(a, s), wanted)
            same(cr.jit(lambda x: f(x, s), backend="numpy")(a), wanted)


def test_numbers_of_python_and_of_numpy_in_turn():
    x = X.astype(np.float32)
    staged = cr.jit(lambda x, s: x * s)
    for s in (2.0, np.float64(3.0), 4.0, np.float32(5.0), 6, np.int64(7), np.float64(8.0), 9.0):
        same(staged(x, s), x * s)
        same(staged(X, s), X * s)
    same(cr.grad(lambda x: np.sum(staged(x, 2.0)))(x), np.full(5, 2.0, np.float32))
    small = cr.jit(lambda u, k: u + k)
    u = np.arange(5, dtype=np.uint8)
    for k in (1, 2, 1):
        same(small(u, k), u + k)
    with pytest.raises(OverflowError):
        small(u, 300)


def test_gradients_with_respect_to_numbers():
    x = X.astype(np.float32)
    f = lambda s: np.sum(x * s) ** 2
    same(cr.jit(cr.value_and_grad(f))(2.0), cr.value_and_grad(f)(2.0))
    same(cr.jit(cr.hessian(f))(2.0), cr.hessian(f)(2.0))
    same(cr.jit(lambda s: cr.vmap(lambda v: v * s)(x))(2.0), x * 2.0)
    same(cr.grad(cr.jit(lambda s: f(s)))(2.0), cr.grad(f)(2.0))


def test_division_by_a_number_that_is_zero():
    staged = cr.jit(lambda s: (1.0 / s, X / s))
    with np.errstate(all="ignore"):
        for s in (0.0, 2.0, 0.0):
            same(staged(s), (np.float64(1.0) / np.float64(s), X / s))
    big = cr.jit(lambda n: n * n * 1.0)
    same(big(3), 9.0)


# ---- static arguments


def test_static_arguments_by_place_and_by_name():
    calls = []

    def f(x, n=1, *, how="times"):
        calls.append((n, how))
        return x * n if how == "times" else x + n

    for static in ({"static_argnums": 1, "static_argnames": "how"}, {"static_argnames": ("n", "how")}):
        staged = cr.jit(f, **static)
        calls.clear()
        for args, kwargs in (((X, 3), {}), ((X,), {"n": 3}), ((X, 3), {"how": "plus"}), ((X,), {}), ((X, 3), {})):
            same(staged(*args, **kwargs), f(*args, **kwargs))
            calls.pop()
        assert calls == [(3, "times"), (3, "times"), (3, "plus"), (1, "times")]
    same(cr.grad(lambda x: np.sum(staged(x, n=3)))(X), np.full(5, 3.0))
    same(cr.vmap(lambda x: staged(x, n=3))(X), 3 * X)
    assert "n=3" in str(cr.explain(staged, X, n=3))
    assert pickle.loads(pickle.dumps(cr.jit(factorial_power, static_argnames="n"))).static.places == (0,)


@pytest.mark.parametrize(
    ("static", "error"),
    [
        ({"static_argnums": 5}, ValueError),
        ({"static_argnums": "x"}, TypeError),
        ({"static_argnames": "y"}, ValueError),
        ({"static_argnames": 1}, TypeError),
        ({"backend": "cuda"}, ValueError),
    ],
)
def test_wrong_options_are_refused_at_once(static, error):
    with pytest.raises(error):
        cr.jit(lambda x: x, **static)


def test_unhashable_static_arguments():
    with pytest.raises(cr.ProgramError, match=r"cannot be hashed.*\n.*tuple"):
        cr.jit(lambda x, n: x, static_argnums=1)(X, [1])


def test_only_functions_are_taken():
    for x in (3, X, cr.jit(np.sum)(X)):
        with pytest.raises(TypeError, match=r"cr\.jit\(f\)\(x\)"):
            cr.jit(x)


# ---- methods


class Model:
    def __init__(self, k):
        self.k = k

    def scaled(self, x):
        return x * self.k

    __call__ = scaled

    @cr.jit
    def undeclared(self, x):
        return x * self.k

    @functools.partial(cr.jit, static_argnums=0)
    def static(self, x):
        return x * self.k

    @staticmethod
    @cr.jit
    def double(x):
        return x * 2

    @cr.jit
    @staticmethod
    def triple(x):
        return x * 3

    @classmethod
    @functools.partial(cr.jit, static_argnums=0)
    def of_class(cls, x):
        return x * len(cls.__name__)


def test_methods():
    two, three = Model(2.0), Model(3.0)
    same(cr.jit(two.scaled)(X), 2 * X)
    same(cr.jit(two)(X), 2 * X)
    same(two.static(X), 2 * X)
    same(three.static(X), 3 * X)
    same(Model.double(X), two.double(X))
    same(Model.triple(X), two.triple(X))
    same(Model.of_class(X), 5 * X)
    with pytest.raises(cr.TraceError, match=r"a Model \(argument 0\).*\n.*jit\(obj\.method\)"):
        two.undeclared(X)


# ---- what a function is


def documented(x: np.ndarray, n: int = 2) -> float:
    """What it does."""
    return np.sum(x * n)


def test_it_looks_like_the_function():
    staged = cr.jit(documented)
    assert (staged.__name__, staged.__doc__, staged.__wrapped__) == ("documented", "What it does.", documented)
    assert inspect.signature(staged) == inspect.signature(documented)
    assert weakref.ref(staged)() is staged
    assert len({staged, staged}) == 1
    for made in (copy.copy(staged), copy.deepcopy(staged), pickle.loads(pickle.dumps(staged))):
        same(made(X), documented(X))


def test_local_functions_cannot_be_pickled():
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(cr.jit(lambda x: x))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning")  # from JAX, where an oracle has loaded it
def test_in_a_forked_process():
    staged = cr.jit(lambda x: np.sum(x * 2))
    staged(X)
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: child.send((staged(X), staged(X[:2]))))
    with parent, child:
        process.start()
        same(parent.recv(), (np.sum(X * 2), np.sum(X[:2] * 2)))
        process.join()
    assert process.exitcode == 0


# ---- branches and what lies outside


def test_exceptions_of_the_function_pass_through_each_time():
    def boom(x):
        if x[0] > 0.4:
            raise RuntimeError("boom")
        return x * 2

    staged = cr.jit(boom)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="boom") as caught:
            staged(X)
        assert "boom" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}
        same(staged(X - 1), (X - 1) * 2)


def test_branches_on_nan_and_on_whole_arrays():
    staged = cr.jit(lambda x: x * 2 if x[0] > 0 else x * 3)
    for first in (np.nan, 1.0, np.nan, -1.0, np.inf):
        x = np.array([first, 1.0])
        same(staged(x), x * 2 if first > 0 else x * 3)
    select = cr.jit(lambda x: x[x > 0])
    for x in (X, -X, X, np.abs(X), X[::-1]):
        same(select(x), x[x > 0])
    assert len(select.known(X).paths) == 4


def test_a_value_that_is_asked_for_is_a_guard():
    staged = cr.jit(lambda x: x * float(cr.value(x[0])))
    for k in (1.0, 2.0, 1.0):
        same(staged(X * k), X * k * X[0] * k)
    slope = cr.grad(lambda x: np.sum(staged(x)))
    for k in (1.0, 3.0):
        same(slope(X * k), np.full(5, X[0] * k))
    same(cr.jit(cr.grad(lambda x: np.sum(x * float(cr.value(x[0])))))(2 * X), np.full(5, 1.0))


def test_integers_that_python_counts_with_are_guards():
    staged = cr.jit(lambda x, n, k: (sum(x * j for j in range(n)), x[k:], np.stack([x] * n)))
    for n, k in ((3, 1), (2, 1), (3, 4), (3, 1)):
        same(staged(X, n, k), (sum(X * j for j in range(n)), X[k:], np.stack([X] * n)))


def test_globals_are_those_of_the_recording():
    scale = [2.0, X.copy()]
    staged = cr.jit(lambda x: x * scale[0] * scale[1])
    same(staged(X), 2 * X * X)
    scale[0] = 3.0
    scale[1][:] = 0.0
    same(staged(X), 2 * X * X)
    staged.clear()
    same(staged(X), 0 * X)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda v: np.asarray(v)[()] * 2, 0.3),
        (lambda v: np.einsum(",->", v, v), 3),
        (lambda v: np.linalg.norm(v), -0.3),
        (lambda v: np.real(v) + np.imag(v), 1 + 2j),
        (lambda v: np.nan_to_num(v), 1 + 2j),
        (lambda v: scipy.stats.norm.logpdf(X, loc=v, scale=1.3), 0.3),
    ],
)
def test_a_number_of_python_goes_into_every_function(f, x):
    same(cr.jit(f)(x), f(x))


def test_an_array_of_traced_objects_comes_back_as_numbers():
    staged = cr.jit(lambda v: {"joined": np.concatenate([[v], [2 * v]]), "made": np.array([v, 3], object)})
    for v in (0.3, 0.5):
        found = staged(v)
        same(found["joined"], np.array([v, 2 * v]))
        same(found["made"], np.array([v, 3.0]))
    with pytest.raises(cr.TraceError, match="no array of numbers"):
        cr.jit(lambda v: np.array([v, None], object))(0.3)


def test_a_value_that_escapes_says_so():
    kept = []
    cr.jit(lambda x: (kept.append(x), x)[1])(X)
    with pytest.raises(cr.TraceError, match=r"had ended"):
        operator.mul(kept[0], 2)


def test_arguments_are_not_written_into():
    def f(x):
        x += 1
        x *= 2
        return x

    x = X.copy()
    same(cr.jit(f)(x), (X + 1) * 2)
    same(x, X)


def test_what_is_printed_is_printed_while_recording(capsys):
    staged = cr.jit(lambda x: (print("first", x[0], f"{x[1]:.1f}"), x * 2)[1])
    same(staged(X), 2 * X)
    same(staged(X), 2 * X)
    assert capsys.readouterr().out == "first 0.5 -1.5\n"


def test_functions_that_call_each_other_from_several_threads():
    odd = cr.jit(lambda x, n: x if n == 0 else even(x * 2, n - 1), static_argnums=1)
    even = cr.jit(lambda x, n: x + 1 if n == 0 else odd(x * 3, n - 1), static_argnums=1)
    barrier = threading.Barrier(4)
    found = []

    def work(f, n):
        barrier.wait()
        found.append(f(np.float64(1.0), n))

    threads = [threading.Thread(target=work, args=(f, n)) for f, n in ((odd, 5), (even, 5), (odd, 4), (even, 4))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert sorted(found) == [36.0, 37.0, 72.0 + 1, 108.0]


def test_threads_record_each_path_once():
    staged = cr.jit(lambda x: np.sum(np.sin(x)) if x[0] > 0 else np.sum(x))
    slope = cr.grad(lambda x: staged(x) * 2)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            x = rng.normal(size=4)
            y = np.sum(np.sin(x)) if x[0] > 0 else np.sum(x)
            g = 2 * np.cos(x) if x[0] > 0 else np.full(4, 2.0)
            if not (np.isclose(staged(x), y) and np.allclose(slope(x), g)):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(staged.known(np.ones(4)).paths) == 2


def test_undeclared_dataclasses_name_the_repair():
    plain = dataclasses.make_dataclass("Plain", ["a"])
    with pytest.raises(cr.TraceError, match=r"a Plain.*\n.*optree"):
        cr.jit(lambda p: p.a)(plain(X))


# ---- indices


INDEXINGS = {
    "gather": lambda x, i: np.sum(x[i] ** 2),
    "take": lambda x, i: np.sum(np.take(x, i) ** 2),
    "take_along_axis": lambda x, i: np.sum(np.take_along_axis(x, i, 0) ** 2),
    "rows": lambda x, i: np.sum((x[:, None] * np.ones(4))[i] ** 2),
    "pairs": lambda x, i: np.sum(np.outer(x, x)[i, i]),
}


@pytest.mark.parametrize("name", INDEXINGS)
def test_an_index_out_of_range_raises_with_the_line_in_every_mode(name):
    f = INDEXINGS[name]
    good, bad = np.array([0, -5, 4] * 6), np.array([0, 5, 4] * 6)
    where = rf"out of bounds.*test_semantics\.py:{f.__code__.co_firstlineno}\b"
    ways = {
        "jit": (lambda g: cr.jit(g), 0),
        "jit of grad": (lambda g: cr.jit(cr.grad(g)), 0),
        "grad of jit": (lambda g: cr.grad(cr.jit(g)), 0),
        "jit of vmap": (lambda g: cr.jit(cr.vmap(g, in_axes=(None, 0))), 1),
        "vmap of jit": (lambda g: cr.vmap(cr.jit(g), in_axes=(None, 0)), 1),
        "jit of jacobian of grad": (lambda g: cr.jit(cr.hessian(g)), 0),
    }
    for way, (transform, batched) in ways.items():
        staged = transform(f)
        first, second = (np.stack([good, good]), np.stack([good, bad])) if batched else (good, bad)
        before = staged(X, first)
        with pytest.raises(IndexError, match=where):
            staged(X, second)
        same(staged(X, first), before)
        with pytest.raises(IndexError, match="out of bounds"):
            transform(f)(X, second)
        assert way


def test_scatter_out_of_range():
    pull = cr.jit(lambda x, i, ct: cr.vjp(lambda v: v[i], x)[1](ct)[0])
    i, ct = np.array([0, -5, 4]), np.ones(3)
    same(pull(X, i, ct), np.array([2.0, 0, 0, 0, 1.0]))
    for bad in (np.array([0, 5, 4]), np.array([0, -6, 4])):
        with pytest.raises(IndexError, match="out of bounds"):
            pull(X, bad, ct)
