"""What must hold where functions, transformations and the caller meet: nothing is lost, shared or kept without being said."""

import copy
import gc
import pickle
import weakref
from fractions import Fraction

import numpy as np
import pytest

import chainrule as cr

X = np.array([1.0, 2.0, 3.0])


# ---- derivatives


@pytest.mark.parametrize("transform", [cr.grad, cr.jacfwd, cr.jacrev])
def test_auxiliary_outputs_keep_the_derivatives_of_outer_transformations(transform):
    def outer(x):
        def inner(y):
            return y * y, {"outer": x, "inner": y, "text": "kept", "nothing": None}

        _, aux = cr.grad(inner, has_aux=True)(x * 1.0)
        assert aux["text"] == "kept"
        return aux["outer"] * 3 + aux["inner"]

    assert transform(outer)(3.0) == 4.0


def test_auxiliary_outputs_of_a_pullback_keep_the_derivatives_of_outer_transformations():
    def outer(x):
        y, pullback, aux = cr.vjp(lambda t: (t * t, (x, t)), 2 * x, has_aux=True)
        return y + pullback(1.0)[0] + aux[0] + aux[1]

    assert cr.grad(outer)(3.0) == 8 * 3 + 4 + 1 + 2


# ---- trees and kinds of arguments


def test_tangents_and_cotangents_have_the_tree_of_their_values():
    def f(p):
        return {"u": p["a"] * 2, "v": p["b"]}

    p = {"a": 1.0, "b": 2.0}
    with pytest.raises(cr.TreeError, match=r"'c'.*'b'"):
        cr.jvp(f, (p,), ({"a": 1.0, "c": 5.0},))
    with pytest.raises(cr.TreeError):
        cr.linearize(f, p)[1]((1.0, 5.0))
    with pytest.raises(cr.TreeError):
        cr.vjp(f, p)[1]((1.0, 5.0))
    _, pullback = cr.vjp(lambda x: (x, 2 * x), 1.0)
    assert pullback([1.0, 1.0]) == (3.0,)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("transform", [cr.grad, cr.jacfwd, cr.vmap, cr.program])
def test_arrays_of_another_algebra_are_refused(transform):
    for x in (np.matrix([[1.0, 2.0], [3.0, 4.0]]), np.ma.array([1.0, 2.0], mask=[0, 1])):
        with pytest.raises(cr.DifferentiationError, match="not those of arrays"):
            transform(lambda t: np.sum(t * t))(x)


def test_arrays_that_are_only_stored_differently_are_taken(tmp_path):
    x = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=3)
    x[:] = X
    np.testing.assert_array_equal(cr.grad(lambda t: np.sum(t * t))(x), 2 * X)
    np.testing.assert_array_equal(cr.vmap(lambda t: t * t)(x), X * X)


@pytest.mark.parametrize(
    ("declare", "what"),
    [
        (lambda: cr.custom_jvp(np.sin, lambda primals, tangents: tangents[0]), "tangent rule of `sin`"),
        (lambda: cr.custom_vjp(np.sin, np.sin, lambda _, ct: (ct,)), "first part of the pullback of `sin`"),
    ],
)
def test_a_rule_that_returns_no_pair_is_named(declare, what):
    with pytest.raises(cr.TreeError, match=what):
        cr.grad(declare())(1.0)


# ---- memory that is shared, or kept


def test_pullbacks_do_not_see_later_changes_of_inputs_and_outputs():
    x = X.copy()
    y, pullback, aux = cr.vjp(lambda t: (np.exp(t), np.exp(t) + 0), x, has_aux=True)
    _, push = cr.linearize(np.exp, x)
    z, other = cr.linearize(np.exp, x)
    for array in (x, y, z, aux):
        array[:] = 0.0
    np.testing.assert_allclose(pullback(np.ones(3))[0], np.exp(X))
    np.testing.assert_allclose(push(np.ones(3)), np.exp(X))
    np.testing.assert_allclose(other(np.ones(3)), np.exp(X))


class Big:
    """Something whose end can be watched."""


def freed(use):
    """Whether what a function closes over is freed without the garbage collector once `use` of the function is over."""
    big = Big()
    alive = weakref.ref(big)
    gc.disable()
    try:
        use(lambda x, big=big: np.sum(np.sin(x) * x) * (big is not None))
        del big
        return alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "transform", [cr.grad, cr.value_and_grad, cr.jacobian, cr.jacfwd, cr.hessian, cr.hvp, cr.vmap, cr.pattern]
)
def test_what_a_function_closes_over_is_freed_with_its_derivative(transform):
    args = (X, X) if transform is cr.hvp else (X,)
    assert freed(lambda f: transform(f)(*args))
    assert freed(lambda f: cr.jvp(f, (X,), (X,)))
    assert freed(lambda f: cr.vjp(f, X)[1](1.0))


@pytest.mark.parametrize("transform", [cr.program, cr.grad, cr.jacobian, cr.hessian, cr.vmap])
def test_values_of_a_recording_are_freed_with_it(transform):
    seen = []

    def f(x):
        y = np.sin(x)
        seen.append(weakref.ref(np.asarray(cr.value(y))))
        return np.sum(y * y)

    gc.disable()
    try:
        transform(f)(X)
        assert [alive() for alive in seen] == [None]
    finally:
        gc.enable()


def test_a_variable_is_freed_with_its_last_name():
    w = cr.variable(X)
    y = np.sum(w * w)
    y.backward()
    alive = weakref.ref(w)
    gc.disable()
    try:
        del w
        assert alive() is None
    finally:
        gc.enable()
    y.backward()


def test_gradients_are_not_the_memory_of_a_custom_pullback():
    constant = np.ones(3)
    kept = cr.custom_vjp(lambda x: np.sum(x), lambda x: (np.sum(x), x), lambda x, ct: (x,))
    same = cr.custom_vjp(lambda x: np.sum(x), lambda x: (np.sum(x), None), lambda _, ct: (constant,))
    for f in (kept, same):
        cr.grad(f)(X)[:] = 0.0
    assert X.any()
    assert constant.all()


# ---- variables


def test_variables_are_not_changed_in_place():
    for x in (X, 2.0):
        w = cr.variable(x)
        np.sum(w * w).backward()
        with pytest.raises(cr.TraceError, match=r"w\.value = w\.value"):
            w -= 0.1 * w.grad
        with pytest.raises(AttributeError, match="ask the variable"):
            _ = (w * 2).grad


# ---- errors


@pytest.mark.parametrize("clone", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_are_the_same_after_pickling(clone):
    with pytest.raises(cr.TraceError) as raised:
        cr.grad(lambda x: float(x))(1.0)
    error = raised.value
    error.add_note("a note")
    found = clone(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert (found.what, found.repair, found.where) == (error.what, error.repair, error.where)
    assert found.__notes__ == ["a note"]


def test_a_package_beside_a_library_is_the_users():
    from chainrule.errors import is_library

    beside = np.__file__.replace("numpy/__init__.py", "numpy_helpers/code.py")
    assert is_library(np.__file__)
    assert not is_library(beside)
    assert not is_library(cr.__file__.replace("chainrule/__init__.py", "chainrule_examples/code.py"))


def test_an_index_that_is_no_integer_is_named_by_its_type():
    with pytest.raises(cr.TraceError, match=r"f64\[\] is used as an index"):
        cr.grad(lambda x: x[x[0]])(X)


# ---- rounding


@pytest.mark.parametrize("f", [np.remainder, np.fmod])
def test_the_derivative_of_a_remainder_is_that_of_its_value(f):
    x, y = 1.0, 0.1  # x / y rounds to 10, and x % y is 0.0999...
    assert cr.grad(f, argnums=1)(x, y) == -9.0
    assert cr.grad(f, argnums=1)(-7.5, 2.0) == (4.0 if f is np.remainder else 3.0)


# ---- operands of other kinds


class Doubles:
    """Something with operators of its own."""

    def __mul__(self, other):
        return other * 2

    __rmul__ = __mul__


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: x * Doubles() + Doubles() * x, 4.0),
        (lambda x: x * Fraction(1, 2) + Fraction(1, 4) * x + x ** Fraction(1), 1.75),
        (lambda x: np.sum(x * range(3)), 3.0),
        (lambda x: np.sum(x * np.ones(2).view(np.recarray)), 2.0),
        (lambda x: x if x != "auto" and not x == "auto" and x != None else 2 * x, 1.0),  # noqa: E711, SIM201
        (lambda x: x if 3.0 in np.array([[x, 1.0], [2.0, 4.0]]) else 2 * x, 1.0),
    ],
)
def test_operands_of_other_kinds(f, slope):
    assert cr.grad(f)(3.0) == cr.jacfwd(f)(3.0) == slope


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("f", [lambda m, x: m * x, lambda m, x: x * m, lambda m, x: x + m, np.multiply])
def test_matrices_are_refused_as_operands(f):
    with pytest.raises(cr.TraceError, match="not those of arrays"):
        cr.grad(lambda x: np.sum(f(np.matrix(np.eye(2)), x)))(np.ones((2, 2)))


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2)])
def test_an_argument_is_selected_once(argnums):
    with pytest.raises(cr.TreeError, match="twice"):
        cr.grad(lambda x, y: x * y, argnums)(2.0, 3.0)


# ---- the end of a trace


@pytest.mark.parametrize("transform", [cr.grad, cr.jacfwd, cr.jacrev, cr.vmap, cr.program])
def test_values_of_an_ended_transformation_are_refused(transform):
    kept = []

    def f(x):
        kept.append(x)
        return np.sum(x)

    transform(f)(X)
    with pytest.raises(cr.TraceError, match="had ended"):
        kept[0] * 2


def test_errors_of_ones_own_pass_as_they_are():
    class Own(Exception):
        pass

    def f(x):
        raise Own("no Tracer, no array type object")

    with pytest.raises(Own):
        cr.grad(f)(1.0)


# ---- rules of one's own


def test_the_cotangents_of_a_custom_pullback_have_the_tree_of_its_arguments():
    f = cr.custom_vjp(
        lambda p, n: np.sum(p["a"]) * n,
        lambda p, n: (np.sum(p["a"]) * n, (p, n)),
        lambda r, ct: ({"a": ct * r[1] * np.ones(2), "none": None}, None),
    )
    np.testing.assert_array_equal(cr.grad(lambda a: f({"a": a, "none": None}, 3))(np.ones(2)), [3.0, 3.0])
    assert cr.jvp(lambda a: f({"a": a, "none": None}, 3), (np.ones(2),), (np.ones(2),))[1] == 6.0


@pytest.mark.parametrize(
    ("cotangents", "error", "what"),
    [
        (lambda ct: (ct, ct), cr.TreeError, "2 cotangents for 1 arguments"),
        (lambda ct: ({"b": ct},), cr.TreeError, "argument 0 in another tree"),
        (lambda ct: ({"a": np.ones(3)},), cr.ShapeError, "shape"),
    ],
)
def test_cotangents_that_do_not_fit_the_arguments_are_refused(cotangents, error, what):
    f = cr.custom_vjp(lambda p: p["a"] * 2, lambda p: (p["a"] * 2, None), lambda _, ct: cotangents(ct))
    with pytest.raises(error, match=what):
        cr.grad(lambda x: f({"a": x}))(1.0)


def test_rules_that_are_not_linear_are_refused_where_they_are_transposed():
    push = cr.custom_jvp(lambda x: 2 * x, lambda primals, tangents: (2 * primals[0], 7.0))
    pull = cr.custom_vjp(lambda x: 2 * x, lambda x: (2 * x, None), lambda _, ct: (7.0,))
    with pytest.raises(cr.DifferentiationError, match="tangent rule of `<lambda>` is not linear"):
        cr.grad(push)(1.0)
    with pytest.raises(cr.DifferentiationError, match="cotangent rule of `<lambda>` is not linear"):
        cr.jvp(pull, (1.0,), (1.0,))


@pytest.mark.parametrize(
    "declared",
    [
        cr.custom_jvp(lambda x, *, y: x * y(), lambda p, t, *, y: (p[0] * y(), 100.0 * t[0] * y())),
        cr.custom_vjp(lambda x, *, y: x * y(), lambda x, *, y: (x * y(), None), lambda _, ct: (100.0 * ct,)),
    ],
    ids=["jvp", "vjp"],
)
def test_traced_values_that_a_rule_is_not_given_are_refused(declared):
    for x in (1.0, np.ones(3)):
        with pytest.raises(cr.TraceError, match=r"not among its arguments \(at .*test_boundaries"):
            cr.grad(lambda t: np.sum(declared(x, y=lambda: t)))(2.0)
        with pytest.raises(cr.TraceError, match="not among its arguments"):
            cr.grad(lambda t: np.sum(declared(x * t, y=lambda: t)))(2.0)
    by_keyword = cr.custom_jvp(lambda x, *, y=1.0: x * y, lambda p, t, *, y=1.0: (p[0] * y, t[0] * y))
    assert cr.grad(lambda t: by_keyword(t, y=3.0))(2.0) == 3.0
    with pytest.raises(cr.TraceError, match="by keyword"):
        cr.grad(lambda t: by_keyword(t, y=t))(2.0)
    with pytest.raises(cr.TraceError, match="by keyword"):
        cr.grad(lambda t: by_keyword(1.0, y={"scale": [t]}))(2.0)


SQUARE = lambda x: x * x
NOT_LINEAR = {
    "quadratic": lambda t: t * t,
    "of size": lambda t: np.sqrt(np.sum(t * t)) * np.ones(np.shape(t)),
    "clipped": lambda t: np.clip(t, -1.0, 1.0),
    "affine in one element": lambda t: t + 1.0,
}


@pytest.mark.parametrize("rule", NOT_LINEAR.values(), ids=NOT_LINEAR)
@pytest.mark.parametrize("x", [1.5, np.array([1.5, -2.0, 0.5])], ids=["scalar", "array"])
def test_rules_that_vanish_at_zero_and_are_not_linear_are_refused_too(rule, x):
    push = cr.custom_jvp(SQUARE, lambda primals, tangents: (SQUARE(*primals), 2 * primals[0] * rule(tangents[0])))
    pull = cr.custom_vjp(SQUARE, lambda x: (x * x, x), lambda x, ct: (2 * x * rule(ct),))
    with pytest.raises(cr.DifferentiationError, match="not linear"):
        cr.grad(lambda x: np.sum(push(x)))(x)
    with pytest.raises(cr.DifferentiationError, match="not linear"):
        cr.jvp(pull, (x,), (x,))
    with pytest.raises(cr.DifferentiationError, match="not linear"):
        cr.vmap(cr.grad(lambda x: np.sum(push(x))))(np.stack([x, x]))


def test_a_pullback_may_clip_what_it_is_given():
    clipped = cr.custom_vjp(lambda x: x, lambda x: (x, None), lambda _, ct: (np.clip(ct, -1.0, 1.0),))
    np.testing.assert_array_equal(cr.grad(lambda x: np.sum(5 * clipped(x) ** 2))(np.array([1.0, 0.01])), [1.0, 0.1])


def test_linear_rules_are_transposed_whatever_they_multiply_by():
    def rule(primals, tangents):
        (x, w), (t, u) = primals, tangents
        return np.real(w * np.conj(w)) * x, np.real(w * np.conj(w)) * t + 2 * x * np.real(np.conj(w) * u)

    energy = cr.custom_jvp(lambda x, w: np.real(w * np.conj(w)) * x, rule)
    x, w = np.array([1.0, np.inf, 1e200]), np.array([1.0 + 2.0j, 0.5j, 0.0])
    plain = lambda x, w: np.sum(np.real(w * np.conj(w)) * x)
    for k in range(2):
        np.testing.assert_array_equal(cr.grad(lambda x, w: np.sum(energy(x, w)), k)(x, w), cr.grad(plain, k)(x, w))
    twice = lambda x, y: np.sum(energy(x * y[0], w + 0 * y))
    batched = cr.vmap(cr.vmap(cr.grad(twice), (0, None)), (None, 0))(np.ones((2, 3)), np.ones((4, 3)))
    assert batched.shape == (4, 2, 3)


@pytest.mark.parametrize("out", [{1, 2}, "text", np.array([1.0, None], object)])
def test_outputs_that_are_no_numbers_are_refused(out):
    with pytest.raises(cr.DifferentiationError, match="not an array of numbers"):
        cr.grad(lambda x: out)(1.0)


# ---- plain arrays that change


@pytest.mark.parametrize("transform", [cr.grad, cr.jacfwd, cr.jacrev, cr.jacobian])
def test_small_plain_arrays_are_what_they_were_when_they_were_used(transform):
    def f(x):
        buffer = np.zeros(3)
        total = 0.0
        for i in range(3):
            buffer[:] = i
            total = total + np.sum(x * buffer) + buffer @ x
        return total

    np.testing.assert_array_equal(transform(f)(X), [6.0, 6.0, 6.0])
    assert cr.program(f)(X)(2 * X) == (2 * f(X),)


def test_one_copy_serves_all_uses_of_a_constant_in_a_program():
    constant = np.arange(3.0)
    equations = cr.program(lambda x: np.sum(x * constant) + np.sum(np.sin(x) * constant))(X).equations
    literals = {id(a.value) for e in equations for a in e.args if hasattr(a, "value") and a.type.shape}
    assert len(literals) == 1


@pytest.mark.parametrize("shape", [(4000,), (70, 70), (20, 20, 20), (9, 9, 9, 9)])
@pytest.mark.parametrize("transform", [cr.grad, cr.jacrev, cr.program])
def test_large_plain_arrays_that_change_are_refused(transform, shape):
    def f(x):
        buffer = np.zeros(shape)
        y = np.sum(x * buffer)
        buffer[:] = 1.0
        return y

    def used_again(x):
        buffer = np.zeros(shape)
        y = np.sum(x * buffer)
        buffer += 1.0
        return y + np.sum(x * buffer)

    for g in (f, used_again):
        with pytest.raises(cr.TraceError, match="was written into"):
            transform(g)(2.0)


def test_large_plain_arrays_are_watched_until_the_pullback():
    data = np.ones(4000)
    _, pullback = cr.vjp(lambda x: np.sum(x * data), 2.0)
    _, push = cr.linearize(lambda x: np.sum(x * data), 2.0)
    assert pullback(1.0) == (4000.0,)
    data[:] = 0.0
    for use in (pullback, push):
        with pytest.raises(cr.TraceError, match="was written into"):
            use(1.0)


VIEWS = {
    "contiguous": lambda a: a,
    "by columns": lambda a: a.T,
    "reversed": lambda a: a[::-1, ::-1],
    "every second": lambda a: a[:, ::2],
    "single precision": lambda a: a.astype(np.float32),
    "bytes": lambda a: a.astype(np.int8),
    "complex": lambda a: a.astype(complex)[:, 1:],
    "three axes": lambda a: a.reshape(10, 30, 100).transpose(2, 0, 1),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_change_of_a_single_element_of_a_large_array_is_refused(view):
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = view(rng.normal(size=(100, 300)))
        place = tuple(rng.integers(1, data.shape))

        def changes(x):
            y = np.sum(np.real(x * data))
            data[place] += 1
            return y

        def swaps(x):
            y = np.sum(np.real(x * data))
            data[place[0]], data[0] = data[0].copy(), data[place[0]].copy()
            return y

        def changes_and_restores(x):
            before = data[place]
            y = np.sum(np.real(x * data))
            data[place] += 1
            y = y + np.sum(np.real(x * data))
            data[place] = before
            return y

        for f in (changes, swaps, changes_and_restores):
            with pytest.raises(cr.TraceError, match="was written into"):
                cr.grad(f)(2.0)


@pytest.mark.parametrize(
    "shown",
    [
        lambda a: np.broadcast_to(a, (3, *a.shape)),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 50),
        lambda a: np.broadcast_to(a[:2], (5000, 2)),
    ],
)
@pytest.mark.parametrize("transform", [cr.grad, cr.jacobian, cr.jacrev, cr.program])
def test_read_only_views_of_arrays_that_change_are_refused(shown, transform):
    data = np.ones(3000)

    def f(x):
        y = np.sum(x * shown(data))
        data[1] = 5.0
        return y

    with pytest.raises(cr.TraceError, match="was written into"):
        transform(f)(2.0)


def test_small_read_only_views_are_what_they_were_when_they_were_used():
    data = np.ones(3)

    def f(x):
        y = np.sum(x * np.broadcast_to(data, (2, 3)))
        data[:] = 5.0
        return y

    assert cr.grad(f)(2.0) == 6.0


def test_variables_watch_large_plain_arrays():
    data = np.ones(4000)
    w = cr.variable(2.0)
    y = np.sum(w * data)
    data[7] = 3.0
    with pytest.raises(cr.TraceError, match="was written into"):
        y.backward()
    np.sum(w * data).backward()  # other expressions see what is there now
    assert w.grad == 4002.0


def test_variables_keep_no_plain_arrays_alive():
    buffer = np.ones(3)
    w = cr.variable(X)
    y = np.sum(w * buffer)
    buffer[:] = 0.0
    y.backward()
    np.testing.assert_array_equal(w.grad, np.ones(3))
    large = np.ones(4000)
    alive = weakref.ref(large)
    y = np.sum(w[0] * large)
    del large, y
    gc.collect()
    assert alive() is None


def test_the_plain_value_of_a_traced_array_may_be_changed():
    def f(x):
        y = np.exp(x)
        cr.value(y)[:] = 0.0
        return np.sum(y)

    np.testing.assert_allclose(cr.grad(f)(X), np.exp(X))
