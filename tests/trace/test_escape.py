"""Every way out of the trace that we could think of: the derivative is right, or an error names the line and the repair.

Derivatives are compared with differences of the same expression on plain numbers.
"""

import array
import bisect
import cmath
import collections
import copy
import ctypes
import decimal
import fractions
import functools
import heapq
import io
import itertools
import json
import operator
import pickle
import random
import statistics
import struct
import types

import numpy as np
import pytest
from scipy import optimize, sparse, special

import chainrule as cr
from chainrule.trace.tracer import Tracer

A = np.array([0.0, 1.0, 2.0])
X = 0.3


class Box:
    """Something with attributes."""

    def __init__(self, value=None):
        self.value = value


class Converts:
    """An object that NumPy converts by its __array__."""

    def __init__(self, t):
        self.t = t

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.t)


def assigned(assign):
    """The sum of a plain array after a statement has written into it."""

    def f(t):
        a = A.copy()
        assign(a, t)
        return np.sum(a)

    return f


def add_in_place(a, t):
    a += t


def add_local(t):
    a = A.copy()
    a += t
    a *= t
    return np.sum(a)


def add_in_loop(t):
    total = np.zeros(3)
    for k in range(3):
        total += t**k * A
    return np.sum(total)


def add_reshaped(t):
    a = np.arange(6.0).reshape(2, 3)
    a -= t
    return np.sum(a * a)


def add_attribute(t):
    box = Box(A.copy())
    box.value += t
    return np.sum(box.value)


def add_item(t):
    boxes = {"a": A.copy()}
    boxes["a"] /= t
    return np.sum(boxes["a"])


def add_closure(t):
    a = A.copy()

    def inner():
        nonlocal a
        a += t * t

    inner()
    return np.sum(a)


def add_alias(t):
    a = A.copy()
    b = a
    a += t
    return np.sum(b)


def add_alias_of_the_caller(t):
    a = A.copy()
    add_in_place(a, t)
    return np.sum(a)


def add_view(t):
    a = A.copy()
    v = a[1:]
    v += t
    return np.sum(a)


def add_base(t):
    a = A.copy()
    v = a[1:]
    a += t
    return np.sum(v)


def add_row(t):
    a = np.zeros((2, 2))
    a[0] += t
    return np.sum(a)


def add_element(t):
    a = A.copy()
    a[1] += t
    return np.sum(a)


def add_items_of_a_list(t):
    arrays = [A.copy()]
    for a in arrays:
        a += t
    return np.sum(arrays[0])


def object_array(t):
    boxes = np.empty(2, dtype=object)
    boxes[0], boxes[1] = t, t * t
    return boxes.sum()


def list_items(t):
    items = [0.0] * 3
    items[1] = t
    items += [t * t]
    return np.sum(np.array(items))


def shape_is_set(t):
    a = np.array([t, t * t, 1.0, t])
    a.shape = (2, 2)
    return np.sum(a[:, 0] * a[:, 1])


RIGHT = {
    "abs, pow": lambda t: abs(-t) + pow(t, 2) + t.__pow__(3),
    "accumulate": lambda t: list(itertools.accumulate([t, t, t * t]))[-1] ** 2,
    "add_attribute": add_attribute,
    "add_closure": add_closure,
    "add_in_loop": add_in_loop,
    "add_item": add_item,
    "add_local": add_local,
    "add_reshaped": add_reshaped,
    "array float": lambda t: np.sum(np.array([t * t, 1], dtype=float)),
    "array nested": lambda t: np.sum(np.array([[t, 2 * t], [1, t * t]]) ** 2),
    "array object": lambda t: np.sum(np.array([t * t, t], dtype=object)),
    "asarray": lambda t: np.asarray(t) ** 2 + np.asarray([t, t], like=A).sum(),
    "asarray object": lambda t: np.asarray(t * t, dtype=object)[()],
    "astype object": lambda t: np.array([t, t * t]).astype(object).sum(),
    "bisect": lambda t: bisect.bisect([0.1, 0.2, 0.9], t) * t,
    "branch": lambda t: t * t if t > 0.2 else t,
    "copies": lambda t: copy.copy(t) ** 2 + copy.deepcopy([t, {"a": t}])[1]["a"] ** 3,
    "dict": lambda t: {"a": t, "b": t * t}["b"] ** 2,
    "divmod": lambda t: sum(divmod(t * 7.7, 2.0)),
    "fromiter": lambda t: np.fromiter((t * x for x in (t, 2.0)), float).sum(),
    "r_ and c_": lambda t: np.sum(np.r_[t, 1.0] @ np.c_[[t, t * t]]),
    "frompyfunc": lambda t: np.frompyfunc(lambda x: x * t, 1, 1)(A).sum(),
    "fromfunction": lambda t: np.fromfunction(lambda i: i * t, (3,)).sum(),
    "generator": lambda t: sum(x * t for x in (1.0, t)),
    "heapq": lambda t: heapq.nsmallest(1, [t, 2 * t])[0] ** 2,
    "int": lambda t: int(t * 10.5) * t + round(t * 10.2) * t,
    "list_items": list_items,
    "list of arrays": lambda t: np.mean([t * A, A]),
    "lists in np.dot": lambda t: np.dot([t, 2 * t], [1.0, t]),
    "lists in np.linalg": lambda t: np.linalg.norm([t, 2 * t]) + np.linalg.det([[t, 1.0], [2.0, t]]),
    "lists in np.linalg.solve": lambda t: np.linalg.solve([[t, 1.0], [0.0, 2.0]], [1.0, t])[0],
    "lists in np.max": lambda t: np.max([t * t, t]) * np.min([t, 1.0]),
    "lists in np.mean": lambda t: np.mean([t, t * t]) + np.std([t, 1.0]) + np.var([[t], [2.0]]),
    "lists in np.sin": lambda t: np.sin([t, 2 * t]).sum() + np.abs([[t], [-t]]).sum(),
    "lists in np.sum": lambda t: np.sum([t, t * t]) * np.prod([t, 2.0]),
    "lists joined": lambda t: np.concatenate([[t], A]).sum() + np.r_[t * t, 1.0].sum() + np.hstack([t, A]).sum(),
    "max, min": lambda t: max(t, 0.1) ** 2 + min([t, 10 * t]) ** 3,
    "meshgrid": lambda t: np.sum(np.meshgrid([t, t * t], [1.0, 2.0])[0] ** 2),
    "ndenumerate": lambda t: sum(i[0] * x for i, x in np.ndenumerate(np.array([t, t * t]))),
    "nditer": lambda t: sum(float(x) * t for x in np.nditer(A)),
    "object array": object_array,
    "object operand": lambda t: (np.array([1, 2], dtype=object) * t).sum(),
    "poly": lambda t: np.polyval([t, 1.0], 2.0) + np.polynomial.Polynomial([t, 1.0])(2.0),
    "records": lambda t: np.rec.fromarrays([[t]], names="a").a[0],
    "reduce": lambda t: functools.reduce(operator.mul, [t, t, 2.0]),
    "round": lambda t: round(t * 1.0, 1) * t,
    "shape is set": shape_is_set,
    "sign of a complex number": lambda t: np.sign(t + 1j).real,
    "sorted": lambda t: sorted([2 * t, t, t * t])[1],
    "statistics.median": lambda t: statistics.median([t, 2 * t, 4.0]) ** 2,
    "sum": lambda t: sum([t, t * t]),
    "tuple": lambda t: operator.itemgetter(1)((1.0, t)) ** 2,
}

TRACE = cr.TraceError
ANY = (cr.TraceError, cr.MissingRule)
RAISES = {
    "__array__": (TRACE, lambda t: np.sum(np.asarray(Converts(t)))),
    "add.at": (ANY, lambda t: np.add.at(A.copy(), [0], t)),
    "add_alias": (TRACE, add_alias),
    "add_alias_of_the_caller": (TRACE, add_alias_of_the_caller),
    "add_base": (TRACE, add_base),
    "add_element": (TRACE, add_element),
    "add_items_of_a_list": (TRACE, add_items_of_a_list),
    "add_row": (TRACE, add_row),
    "add_view": (TRACE, add_view),
    "array.array": (TRACE, lambda t: array.array("d", [t])[0]),
    "assign array": (TRACE, assigned(lambda a, t: a.__setitem__(slice(None), t * A))),
    "assign element": (TRACE, assigned(lambda a, t: operator.setitem(a, 1, t))),
    "assign ellipsis": (TRACE, assigned(lambda a, t: operator.setitem(a, ..., t))),
    "assign flat": (TRACE, assigned(lambda a, t: a.flat.__setitem__(1, t))),
    "assign list": (TRACE, assigned(lambda a, t: operator.setitem(a, slice(2), [t, t]))),
    "assign mask": (TRACE, assigned(lambda a, t: operator.setitem(a, a > 0, t))),
    "assign real": (TRACE, lambda t: setattr(np.zeros(2, complex), "real", t)),
    "assign slice": (TRACE, assigned(lambda a, t: operator.setitem(a, slice(1, None), t))),
    "bytes": (TRACE, lambda t: bytes(t)),
    "cmath": (TRACE, lambda t: cmath.exp(t)),
    "complex": (TRACE, lambda t: abs(complex(t))),
    "copyto": (ANY, assigned(lambda a, t: np.copyto(a, t))),
    "copyto where": (ANY, assigned(lambda a, t: np.copyto(a, t, where=[True, False, True]))),
    "Counter": (TRACE, lambda t: collections.Counter([t])),
    "ctypes": (TRACE, lambda t: ctypes.c_double(t).value),
    "Decimal": (TRACE, lambda t: decimal.Decimal(t)),
    "dict key": (TRACE, lambda t: {t: 1}[t]),
    "einsum out": (TRACE, lambda t: np.einsum("i,->", A, t, out=np.zeros(()))),
    "fill": (TRACE, assigned(lambda a, t: a.fill(t))),
    "fill_diagonal": (ANY, lambda t: np.fill_diagonal(np.zeros((2, 2)), t)),
    "float": (TRACE, lambda t: float(t) ** 2),
    "format %": (TRACE, lambda t: t * float("%f" % t)),  # noqa: UP031 - the conversion is the point
    "fsum in statistics": (TRACE, lambda t: statistics.fmean([t, 2 * t])),
    "item": (TRACE, lambda t: t.item() ** 2),
    "json": (TRACE, lambda t: json.dumps({"a": t})),
    "json default": (TRACE, lambda t: json.dumps({"a": t}, default=float)),
    "lists in scipy.special": (TRACE, lambda t: special.erf([t])[0]),
    "lru_cache": (TRACE, lambda t: functools.lru_cache(lambda x: x * x)(t)),
    "masked array": (TRACE, lambda t: np.ma.array([t, 2 * t], mask=[0, 1]).sum()),
    "masked product": (TRACE, lambda t: (np.ma.array(A, mask=[0, 1, 0]) * t).sum()),
    "memoryview": (TRACE, lambda t: memoryview(t)),
    "np.float64": (TRACE, lambda t: np.float64(t) ** 2),
    "np.float32": (TRACE, lambda t: np.float32(t) ** 2),
    "np.int64": (TRACE, lambda t: np.int64(t) * t),
    "np.save": (ANY, lambda t: np.save(io.BytesIO(), t)),
    "np.savetxt": (ANY, lambda t: np.savetxt(io.StringIO(), [t])),
    "out": (TRACE, assigned(lambda a, t: np.add(a, t, out=a))),
    "out by position": (TRACE, assigned(lambda a, t: np.add(a, t, a))),
    "out in an expression": (TRACE, assigned(lambda a, t: np.add(a, t, out=a) + 1)),
    "out of clip": (TRACE, lambda t: np.clip(np.array([t, t]), 0, 1, out=np.zeros(2))),
    "out of cumsum": (TRACE, lambda t: np.cumsum(np.array([t, t]), out=np.zeros(2))),
    "out of dot": (TRACE, lambda t: np.dot(np.array([t, t]), np.ones(2), out=np.zeros(()))),
    "out of matmul": (TRACE, lambda t: np.matmul(np.eye(2) * t, np.eye(2), out=np.zeros((2, 2)))),
    "out of a method": (TRACE, lambda t: np.array([t, t]).sum(out=np.zeros(()))),
    "out of sum": (TRACE, lambda t: np.sum(np.array([t, t]), out=np.zeros(()))),
    "out of take": (TRACE, lambda t: np.take(np.array([t, t]), [0], out=np.zeros(1))),
    "pickle": (TRACE, lambda t: pickle.loads(pickle.dumps(t))),
    "place": (ANY, assigned(lambda a, t: np.place(a, a > 0, t))),
    "put": (ANY, assigned(lambda a, t: np.put(a, [0], t))),
    "put_along_axis": (ANY, assigned(lambda a, t: np.put_along_axis(a, np.array([0]), t, 0))),
    "putmask": (ANY, assigned(lambda a, t: np.putmask(a, a > 0, t))),
    "random normal": (TRACE, lambda t: np.random.default_rng(0).normal(t, 1.0)),
    "random choice": (TRACE, lambda t: np.random.default_rng(0).choice(3, p=[t, 1 - t, 0 * t]) * t),
    "set": (TRACE, lambda t: len({t}) * t),
    "setfield": (TRACE, assigned(lambda a, t: a.setfield(t, float))),
    "sort in place": (ANY, lambda t: np.array([2 * t, t]).sort()),
    "sparse": (TRACE, lambda t: sparse.csr_array(([t], ([0], [0])), shape=(1, 1)).sum()),
    "statistics.mean": (TRACE, lambda t: statistics.mean([t, 2 * t])),
    "statistics.stdev": (TRACE, lambda t: statistics.stdev([t, 2 * t, 4.0])),
    "struct": (TRACE, lambda t: struct.pack("d", t)),
    "structured array": (TRACE, lambda t: np.array([(t, 1)], dtype=[("a", float), ("b", int)])["a"][0]),
    "tobytes": (ANY, lambda t: np.array([t]).tobytes()),
    "tolist": (TRACE, lambda t: np.array([t]).tolist()[0]),
    "vectorize imported earlier": (TRACE, lambda t: VECTORIZED(t).sum()),
    "view as another type": (ANY, lambda t: np.array([t]).view(np.int64)),
}
VECTORIZED = np.vectorize(lambda x: x * A, otypes=[float])
# Python and its library say these in their own words, which is all that can be done: no number comes out.
IN_OTHER_WORDS = {
    "Fraction": (TypeError, lambda t: fractions.Fraction(t)),
    "range": (TypeError, lambda t: range(t)),
}


def difference(f, h=1e-5):
    plus, minus = (float(np.real(f(np.float64(X + s)))) for s in (h, -h))
    return (plus - minus) / (2 * h)


@pytest.mark.parametrize("name", RIGHT)
def test_the_derivative_is_right(name):
    f = RIGHT[name]
    assert cr.grad(f)(X) == pytest.approx(difference(f), rel=1e-6)
    assert cr.jacfwd(f)(X) == pytest.approx(difference(f), rel=1e-6)
    assert cr.grad(lambda t: cr.grad(f)(t))(X) == pytest.approx(difference(cr.grad(f)), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("transform", [cr.grad, cr.jacfwd], ids=["grad", "jacfwd"])
@pytest.mark.parametrize("name", RAISES)
def test_an_error_names_the_line_and_the_repair(name, transform):
    kind, f = RAISES[name]
    with pytest.raises(kind) as caught:
        transform(f)(X)
    file, line = caught.value.where.rsplit(":", 1)
    assert file == __file__
    lines = {n for code in _codes(f.__code__) for *_, n in code.co_lines() if n is not None}
    assert int(line) in lines or "assign" in name or "." in name or f.__name__ == "f" or "alias" in name
    assert len(caught.value.repair) > 20


def _codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_an_error_in_other_words(name):
    kind, f = IN_OTHER_WORDS[name]
    with pytest.raises(kind):
        cr.grad(f)(X)


def test_text_shows_the_number():
    seen = []

    def f(t):
        seen.extend([f"{t:.3f}", str(t), "%s" % t, f"{t}", format(t, ".1e")])  # noqa: UP031 - each way of writing it
        assert "0.3" in repr(t)
        return t * t

    cr.grad(f)(X)
    assert seen == ["0.300", "0.3", "0.3", "0.3", "3.0e-01"]


def test_random_numbers_are_constants_unless_they_are_scaled():
    assert cr.grad(lambda t: t * random.Random(0).random())(X) == random.Random(0).random()
    assert cr.grad(lambda t: random.Random(0).uniform(0, t))(X) == pytest.approx(random.Random(0).random())


def test_objects_that_are_returned_carry_their_derivative():
    f = lambda t: np.frompyfunc(lambda x: x * t, 1, 1)(A)
    assert np.array_equal(cr.jacfwd(f)(X), A)
    assert np.array_equal(cr.jacrev(f)(X), A)
    value, pullback = cr.vjp(f, X)
    assert value.dtype == float
    assert pullback(np.ones(3)) == (3.0,)


def test_in_place_updates_follow_numpys_types():
    def single(t):
        a = np.zeros(2, np.float32)
        a += t
        return a

    assert cr.jacfwd(single)(X).dtype == np.float32

    def integers(t):
        a = np.zeros(2, int)
        a += t
        return a

    with pytest.raises(TypeError, match="Cannot cast ufunc 'add' output"):
        cr.jacfwd(integers)(X)

    def grows(t):
        a = np.zeros(2)
        a += np.ones((3, 2)) * t
        return a

    with pytest.raises(ValueError, match="non-broadcastable"):
        cr.jacfwd(grows)(X)


def test_an_array_that_the_caller_holds_is_not_updated_in_silence():
    held = np.zeros(3)

    def f(t, a):
        a += t
        return np.sum(a)

    with pytest.raises(cr.TraceError, match=r"x = x \+ y"):
        cr.grad(f)(X, held)
    assert not held.any()
    assert cr.grad(lambda t: f(t, held.copy()))(X) == 3


def test_values_kept_beyond_the_trace_are_refused():
    kept = []
    cr.grad(lambda t: kept.append(t) or t * t)(X)
    with pytest.raises(cr.TraceError, match="had ended"):
        kept[0] * 2


def test_traced_values_keep_their_methods_after_compiled_code_that_overlooks_an_exception():
    with pytest.raises(cr.TraceError):
        cr.grad(lambda x: optimize.brentq(lambda y: y**3 - x, 0.0, 2.0))(1.0)
    assert cr.grad(lambda x: x.astype(float).sum())(1.0) == 1.0
    for kind in (Tracer, *Tracer.__subclasses__()):
        assert "__getattr__" in vars(kind)
