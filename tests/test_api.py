"""The public functions: trees, options, nesting, semantics, and what they refuse."""

import threading
import warnings
from dataclasses import dataclass

import numpy as np
import optree
import pytest

import chainrule as cr


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# ---- trees and options


def test_gradients_have_the_tree_of_the_arguments():
    def f(p, k):
        return k * np.sum(p["w"] * p["b"][0]) + p["b"][1]

    p = {"w": np.array([1.0, 2.0]), "b": (3.0, np.float64(4.0))}
    g = cr.grad(f)(p, 2.0)
    np.testing.assert_array_equal(g["w"], [6.0, 6.0])
    assert g["b"] == (6.0, 1.0)
    both = cr.grad(f, argnums=(0, 1))(p, 2.0)
    assert both[1] == 9.0


def test_registered_dataclasses_are_trees():
    @optree.dataclasses.dataclass(namespace="chainrule")
    @dataclass
    class Point:
        x: float
        y: float

    g = cr.grad(lambda p: p.x**2 * p.y)(Point(3.0, 2.0))
    assert (g.x, g.y) == (12.0, 9.0)


def test_auxiliary_outputs_are_returned_and_not_differentiated():
    g, aux = cr.grad(lambda x: (x**2, {"x": x, "n": 3}), has_aux=True)(2.0)
    assert (g, aux["x"], aux["n"]) == (4.0, 2.0, 3)
    (y, aux), g = cr.value_and_grad(lambda x: (x**2, x + 1), has_aux=True)(2.0)
    assert (y, aux, g) == (4.0, 3.0, 4.0)


def test_keyword_arguments_are_constants():
    assert cr.grad(lambda x, *, k: k * x**2)(3.0, k=2.0) == 12.0


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_of_trees(mode):
    def f(p):
        return {"s": p["a"] * p["b"], "t": np.sum(p["a"])}

    p = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}
    j = cr.jacobian(f, mode=mode)(p)
    np.testing.assert_array_equal(j["s"]["a"], np.diag(p["b"]))
    np.testing.assert_array_equal(j["s"]["b"], np.diag(p["a"]))
    np.testing.assert_array_equal(j["t"]["a"], [1.0, 1.0])
    np.testing.assert_array_equal(j["t"]["b"], [0.0, 0.0])


def test_hessian_vector_product_is_the_hessian_times_the_vector():
    x, v = np.linspace(-1, 1, 5), np.linspace(2, 3, 5)
    np.testing.assert_allclose(cr.hvp(rosenbrock)(x, v), cr.hessian(rosenbrock)(x) @ v, rtol=1e-12)


def test_gradients_belong_to_the_caller():
    x = np.ones(3)
    for f in (np.sum, lambda x: np.sum(x[::-1]), lambda x: np.sum(x.reshape(3, 1)), lambda x: 0.0 * np.sum(x)):
        g = cr.grad(f)(x)
        g += 1
        assert np.all(x == 1)
    a, b = cr.grad(lambda a, b: np.sum(a + b), argnums=(0, 1))(x, x)
    a[0] = 7
    assert b[0] == 1.0
    ct = np.ones(3)
    (g,) = cr.vjp(lambda x: x + 0.0, x)[1](ct)
    g[0] = 5
    assert ct[0] == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_gradients_have_the_dtype_of_the_primal(dtype):
    x = np.ones(3, dtype)
    assert cr.grad(lambda x: np.sum(np.sin(x) * np.arange(3.0)))(x).dtype == dtype
    y, t = cr.jvp(lambda x: np.tanh(x) * 2, (x,), (x,))
    assert y.dtype == t.dtype == dtype


# ---- nesting


def test_perturbations_are_not_confused():
    assert cr.grad(lambda x: x * cr.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert cr.jvp(lambda x: x * cr.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1] == 1.0
    assert cr.grad(lambda x: cr.grad(lambda y: x * y * y)(x))(3.0) == 12.0


def test_fourth_derivative():
    f = np.sin
    for _ in range(4):
        f = cr.grad(f)
    assert f(0.7) == pytest.approx(np.sin(0.7), rel=1e-14)


def test_vmap_nests_with_itself_and_with_derivatives():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(cr.vmap(cr.vmap(lambda a: a * a))(x), x * x)
    np.testing.assert_allclose(cr.vmap(cr.hessian(rosenbrock))(x), np.stack([cr.hessian(rosenbrock)(a) for a in x]))
    g = cr.grad(lambda x: np.sum(cr.vmap(rosenbrock)(x)))(x)
    np.testing.assert_allclose(g, np.stack([cr.grad(rosenbrock)(a) for a in x]))


def test_vmap_axes():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    out = cr.vmap(lambda u, v: u * v, in_axes=(1, 0), out_axes=1)(a, b)
    np.testing.assert_array_equal(out, a * b)
    out = cr.vmap(lambda p, c: p["x"] + c, in_axes=({"x": 0}, None))({"x": a}, 1.0)
    np.testing.assert_array_equal(out, a + 1)
    np.testing.assert_array_equal(cr.vmap(lambda _: 2.0)(b), [2.0, 2.0, 2.0])


# ---- any Python


def test_branches_loops_recursion_and_printing(capsys):
    def power(x, n):
        return 1.0 if n == 0 else x * power(x, n - 1)

    def f(x):
        while np.sum(x) < 10:
            x = x * 2
        print(f"{x[0]:.1f}", int(x[0]), round(x[0]), x.shape)
        return power(x[0], 3) if x[0] > 1 else x[0]

    assert cr.grad(f)(np.array([1.0, 1.0]))[0] == 3 * 8.0**2 * 8
    assert capsys.readouterr().out == "8.0 8 8 (2,)\n"


def test_arrays_of_traced_values():
    def f(x):
        a = np.array([x[0], 2 * x[1], 3.0])
        b = np.full(2, x[0])
        c = np.asarray([[x[1], 1], [0, x[0]]])
        return np.sum(a * a) + np.sum(b) + np.sum(c @ c)

    x = np.array([2.0, 3.0])
    h = 1e-6
    expected = [(f(x + e) - f(x - e)) / (2 * h) for e in np.eye(2) * h]
    np.testing.assert_allclose(cr.grad(f)(x), expected, rtol=1e-8)


def test_numpy_is_restored_after_tracing_and_after_errors():
    originals = np.array, np.full, np.asarray
    cr.grad(lambda x: np.sum(np.array([x, x])))(1.0)
    assert (np.array, np.full, np.asarray) == originals

    def fails(x):
        raise KeyError("user")

    with pytest.raises(KeyError):
        cr.grad(fails)(1.0)
    assert (np.array, np.full, np.asarray) == originals


def test_threads_differentiate_independently():
    results = {}

    def work(k):
        for _ in range(20):
            results[k] = cr.grad(lambda x: np.sum(np.array([x[0] * k, x[1]]) ** 2))(np.array([1.0, 2.0]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, g in results.items():
        np.testing.assert_array_equal(g, [2.0 * k * k, 4.0])


# ---- semantics


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("wrapped", [lambda f: f, cr.jit], ids=["eager", "staged"])
def test_strong_zeros_of_hessians(wrapped, sparse):
    def masked(x):
        return np.sum(np.where(x > 0, x**1.5, 0))

    def scaled(x):
        return np.where(x[0] > 0, np.sqrt(x[0]), 1.0) * np.sum(x)

    x = np.array([0.0, 1.0, 4.0])
    for f, expected in ((masked, np.diag([0, 0.75, 0.375])), (scaled, np.zeros((3, 3)))):
        found = wrapped(cr.hessian(f, sparse=sparse))(x)
        np.testing.assert_allclose(found.toarray() if sparse else found, expected)
    slope = cr.jvp(wrapped(cr.grad(masked)), (x,), (np.array([1.0, 0, 0]),))[1]
    np.testing.assert_array_equal(slope, np.zeros(3))


def test_strong_zeros():
    x = np.array([0.0, 1.0, 4.0])
    safe = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(cr.grad(safe)(x), [0.0, 0.5, 0.25])
        np.testing.assert_array_equal(np.diag(cr.jacfwd(lambda x: np.where(x > 0, np.sqrt(x), 0.0))(x)), [0, 0.5, 0.25])
        np.testing.assert_array_equal(cr.vmap(cr.grad(lambda x: np.where(x > 0, np.sqrt(x), 0.0)))(x), [0, 0.5, 0.25])
        second = cr.hessian(safe)(x)
        np.testing.assert_allclose(np.diag(second), [0.0, -0.25, -0.25 / 8])
        recorded = cr.program(cr.grad(safe))(np.ones(3))
        np.testing.assert_array_equal(recorded(x)[0], [0.0, 0.5, 0.25])


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [
        (np.abs, 0.0, 0.0),
        (lambda x: np.maximum(x, 0.0), 0.0, 0.5),
        (lambda x: np.minimum(x, 0.0), 0.0, 0.5),
        (np.sqrt, 0.0, np.inf),
        (lambda x: np.clip(x, 0.0, 1.0), 0.0, 0.5),
        (lambda x: np.max(np.array([x, x, 2 * x])), 0.0, 4 / 3),
        (np.sign, 0.0, 0.0),
        (lambda x: np.hypot(x, 0.0), 0.0, 0.0),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**2.0, 0.0, 0.0),
        (lambda x: np.sinc(x), 0.0, 0.0),
    ],
)
def test_kinks_have_their_documented_value(f, x, slope):
    with np.errstate(divide="ignore"):
        assert cr.grad(lambda x: f(x) * 1.0)(x) == pytest.approx(slope)
        assert cr.jvp(f, (x,), (1.0,))[1] == pytest.approx(slope)


def test_complex_convention():
    z = 1.0 + 2.0j
    assert cr.grad(lambda z: np.abs(z) ** 2)(z) == pytest.approx(2 * np.conj(z))
    assert cr.grad(lambda z: np.abs(z) ** 2, conjugate=True)(z) == pytest.approx(2 * z)
    assert cr.grad(lambda z: np.real(z * z))(z) == pytest.approx(2 * z)
    assert cr.jacobian(lambda z: z**3, holomorphic=True)(z) == pytest.approx(3 * z**2)
    assert cr.grad(lambda x: np.real(np.exp(1j * x)))(0.3) == pytest.approx(-np.sin(0.3))
    assert cr.jacfwd(lambda x: np.exp(1j * x))(0.3) == pytest.approx(1j * np.exp(0.3j))


# ---- what is refused


@pytest.mark.parametrize("x", [2, np.array([1, 2]), True])
def test_integers_are_refused(x):
    with pytest.raises(cr.IntegerInput, match="no derivative"):
        cr.grad(np.sum)(x)


@pytest.mark.parametrize(
    ("f", "error", "repair"),
    [
        (lambda x: float(x[0]), cr.TraceError, "cr.value"),
        (lambda x: x.item(), cr.TraceError, "cr.value"),
        (lambda x: np.nextafter(x, 1.0), cr.MissingRule, "custom_jvp"),
        (lambda x: x, cr.DifferentiationError, "cr.jacobian"),
        (lambda x: x[0] > 0, cr.DifferentiationError, "return a float"),
        (lambda x: np.sum(x + 1j), cr.DifferentiationError, "np.real"),
        (lambda x: "text", cr.DifferentiationError, "Return arrays"),
    ],
)
def test_errors_name_the_place_and_the_repair(f, error, repair):
    with pytest.raises(error) as caught:
        cr.grad(f)(np.ones(2))
    assert repair in str(caught.value)
    assert "test_api.py:" in str(caught.value)


def test_assignment_into_traced_arrays_is_refused():
    def assigns(x):
        x[0] = 1.0
        return np.sum(x)

    def writes(x):
        out = np.empty(2)
        out[0] = x[0]
        return np.sum(out)

    def writes_slice(x):
        out = np.empty(2)
        out[:] = x
        return np.sum(out)

    def out_argument(x):
        out = np.empty(2)
        np.add(x, 1.0, out=out)
        return np.sum(out)

    for f in (assigns, writes, writes_slice, out_argument):
        with pytest.raises(cr.TraceError, match=r"test_api\.py"):
            cr.grad(f)(np.ones(2))


def test_adding_in_place_rebinds_where_that_is_what_numpy_does():
    def f(x):
        total = np.zeros(2)
        for k in range(3):
            total += x * k
        alias = total
        total *= 2.0
        return np.sum(alias * alias)

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(cr.grad(f)(x), 2 * 36 * x)

    def through_a_view(x):
        y = x * 2
        v = y[1:]
        v += 1.0
        return np.sum(y)

    with pytest.raises(cr.TraceError, match="shares its memory"):
        cr.grad(through_a_view)(x)


def test_values_that_escape_are_refused():
    kept = []
    cr.grad(lambda x: kept.append(x) or x**2)(1.0)
    with pytest.raises(cr.TraceError, match="had ended"):
        kept[0] * 2


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: cr.jvp(np.sin, (np.ones(3),), (np.ones(2),)), cr.ShapeError),
        (lambda: cr.jvp(np.sin, (np.ones(3),), ()), cr.TreeError),
        (lambda: cr.vjp(np.sin, np.ones(3))[1](np.ones(2)), cr.ShapeError),
        (lambda: cr.vmap(np.add)(np.ones(3), np.ones(2)), cr.ShapeError),
        (lambda: cr.vmap(np.sin, in_axes=None)(np.ones(3)), cr.ShapeError),
        (lambda: cr.vmap(np.sin, in_axes=2)(np.ones(3)), cr.ShapeError),
        (lambda: cr.grad(np.sin, argnums=1)(1.0), cr.TreeError),
        (lambda: cr.jacobian(np.sin)(1j), cr.DifferentiationError),
        (lambda: cr.grad(lambda x: x, has_aux=True)(1.0), cr.TreeError),
    ],
)
def test_shapes_and_trees_are_checked(call, error):
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("transform", [cr.grad, cr.jacobian, cr.jacfwd, cr.jacrev, cr.hessian])
def test_no_arguments_have_an_empty_derivative(transform):
    x = np.ones(3)
    assert transform(np.sum, argnums=())(x) == ()
    assert transform(lambda tree, y: np.sum(y))({}, x) == {}
    assert cr.jacobian(np.sum, argnums=(), sparse=True)(x).shape == (1, 0)


@pytest.mark.parametrize("transform", [cr.grad, cr.jacobian, cr.hessian])
def test_argument_numbers_may_be_numpys(transform):
    product = lambda x, y: np.sum(x * x * y**3)
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(transform(product, np.int64(1))(x, x), transform(product, 1)(x, x))
    np.testing.assert_array_equal(transform(product, [np.int8(1)])(x, x)[0], transform(product, (1,))(x, x)[0])
    np.testing.assert_array_equal(cr.vmap(np.sum, np.int64(1))(np.ones((2, 3))), [2.0, 2.0, 2.0])


def test_branching_on_a_batch_is_refused():
    with pytest.raises(cr.TraceError, match=r"np\.where"):
        cr.vmap(lambda x: x if x > 0 else -x)(np.ones(3))


# ---- rules of one's own


def test_custom_pushforward_gives_every_mode():
    @cr.custom_jvp
    def cube(x, y):
        return x**3 * y

    calls = []

    @cube.defjvp
    def _(primals, tangents):
        (x, y), (tx, ty) = primals, tangents
        calls.append(1)
        return cube(x, y), 3 * x**2 * y * tx + x**3 * ty

    assert cube(2.0, 3.0) == 24.0
    assert cr.grad(cube, argnums=(0, 1))(2.0, 3.0) == (36.0, 8.0)
    assert cr.jvp(cube, (2.0, 3.0), (1.0, 1.0))[1] == 44.0
    assert cr.hessian(lambda x: cube(x, 3.0))(2.0) == 36.0
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(cr.vmap(cr.grad(cube), in_axes=(0, None))(x, 3.0), 9 * x**2)
    assert cr.grad(lambda y: np.sum(cr.vmap(cube, in_axes=(0, None))(x, y)))(3.0) == 9.0
    assert calls


def test_custom_pullback_gives_every_mode():
    @cr.custom_vjp
    def product(p):
        return {"v": p["a"] * p["b"]}

    product.defvjp(
        lambda p: ({"v": p["a"] * p["b"]}, p), lambda p, ct: ({"a": ct["v"] * p["b"], "b": ct["v"] * p["a"]},)
    )
    p = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}
    f = lambda p: np.sum(product(p)["v"] ** 2)
    plain = lambda p: np.sum((p["a"] * p["b"]) ** 2)
    for transform in (cr.grad, cr.hessian):
        found, expected = optree.tree_leaves(transform(f)(p)), optree.tree_leaves(transform(plain)(p))
        for u, v in zip(found, expected, strict=True):
            np.testing.assert_allclose(u, v)
    t = {"a": np.ones(2), "b": np.zeros(2)}
    np.testing.assert_allclose(cr.jvp(f, (p,), (t,))[1], cr.jvp(plain, (p,), (t,))[1])
    batch = {k: np.stack([v, 2 * v]) for k, v in p.items()}
    np.testing.assert_allclose(cr.vmap(cr.grad(f))(batch)["a"], cr.vmap(cr.grad(plain))(batch)["a"])


def test_custom_rules_are_checked():
    @cr.custom_vjp
    def f(x):
        return x * 2

    f.defvjp(lambda x: (x * 2, None), lambda _, ct: (ct[:1],))
    with pytest.raises(cr.ShapeError, match="cotangent rule of `f`"):
        cr.grad(lambda x: np.sum(f(x)))(np.ones(3))

    @cr.custom_jvp
    def g(x):
        return x * 2

    with pytest.raises(cr.DifferentiationError, match="defjvp"):
        cr.grad(g)(1.0)


def test_stop_gradient_and_value_are_constants():
    assert cr.grad(lambda x: x * cr.stop_gradient(x))(3.0) == 3.0
    assert cr.grad(lambda x: x * cr.value(x))(3.0) == 3.0
    assert cr.grad(lambda y: y * cr.stop_gradient(y * y))(3.0) == 9.0
    assert cr.grad(lambda x: cr.grad(lambda y: y * cr.stop_gradient(x * y))(x))(3.0) == 0.0


# ---- the object style


def test_variables_accumulate_and_are_used_again():
    w, b = cr.variable(np.array([1.0, 2.0])), cr.variable(0.5)
    y = np.sum(w * w) * b
    y.backward()
    np.testing.assert_array_equal(w.grad, [1.0, 2.0])
    assert b.grad == 5.0
    (np.sum(w) * 1.0).backward()
    np.testing.assert_array_equal(w.grad, [2.0, 3.0])
    w.grad = None
    w.value -= 0.1
    np.sum(w * w).backward()
    np.testing.assert_allclose(w.grad, 2 * np.array([0.9, 1.9]))
    with pytest.raises(cr.DifferentiationError, match="scalar"):
        (w * w).backward()
    (w * w).backward(np.array([1.0, 0.0]))


def test_variables_do_not_keep_dead_expressions_alive():
    import gc
    import weakref

    w = cr.variable(np.ones(3))
    y = w * 2
    alive = weakref.ref(y)
    del y
    gc.collect()
    assert alive() is None


def test_variables_inside_other_transforms():
    w = cr.variable(2.0)
    y = cr.grad(lambda x: x * x * w)(3.0)
    y.backward()
    assert (y.value, w.grad) == (12.0, 6.0)


def test_an_argument_that_is_written_into_keeps_its_derivative():
    def f(x):
        x *= 2
        return np.sum(x * x)

    x = np.array([1.0, -2.0])
    wanted = 8 * x
    for _ in range(2):
        np.testing.assert_allclose(cr.grad(f)(x), wanted)
        np.testing.assert_allclose(cr.jacfwd(f)(x), wanted)
        np.testing.assert_allclose(cr.jacobian(f)(x), wanted)
        np.testing.assert_allclose(cr.hessian(f)(x), 8 * np.eye(2))
        np.testing.assert_allclose(cr.jit(cr.grad(f))(x), wanted)
        np.testing.assert_allclose(cr.grad(cr.jit(f))(x), wanted)
        np.testing.assert_allclose(cr.jit(f)(x), 20.0)
        np.testing.assert_allclose(cr.program(f)(x)(x), [20.0])
    assert x.tolist() == [1.0, -2.0]


def test_equations_of_a_backward_sweep_stand_where_their_operations_do():
    here = test_equations_of_a_backward_sweep_stand_where_their_operations_do.__code__.co_firstlineno

    def f(x):
        y = np.sin(x)
        z = y * x
        return np.sum(z)

    gradient = cr.grad(f)
    lines = {}
    for e in cr.program(lambda x: gradient(x))(np.ones(3)).equations:
        lines.setdefault(e.primitive.name, []).append(e.origin.line - here)
    assert lines == {"sin": [4], "strong_multiply": [5, 5, 4], "cos": [4], "add": [4]}
    after = cr.program(lambda x: (gradient(x), x - 1)[1])(np.ones(3)).equations[-1]
    assert after.origin.line - here == 13
    nested = cr.program(cr.grad(lambda x: np.sum(gradient(x) ** 2)))(np.ones(3))
    assert {e.origin.line - here for e in nested.equations if e.primitive.name in ("cos", "sin")} == {4}
