"""Primitives of one's own: the door, its defaults, and what it refuses."""

import math
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.ir.types import ArrayType
from chainrule.linear import Implicit, SumOver
from chainrule.testing.laws import check_primitive


@pytest.fixture(autouse=True)
def forget():
    """Take out of the registry what a test declares."""
    before = {primitive.name for primitive in ops}
    yield
    for name in {primitive.name for primitive in ops} - before:
        ops.remove(name)


def solve_kepler(M, e):
    E = M + e * np.sin(M)
    for _ in range(20):
        E = E - (E - e * np.sin(E) - M) / (1 - e * np.cos(E))
    return E


def declare_kepler():
    return cr.primitive(
        "kepler",
        solve_kepler,
        (lambda M, e, E: 1 / (1 - e * np.cos(E)), lambda M, e, E: np.sin(E) / (1 - e * np.cos(E))),
        elementwise=True,
        on=((-2.0, 2.0), (0.1, 0.7)),
    )


def declare_smooth(**options):
    """(1 + s D'D)^-1 x: linear and symmetric, so its own derivative and its own adjoint."""

    def value(x, *, strength=2.0):
        D = np.diff(np.eye(len(x)), n=2, axis=0)
        return np.linalg.solve(np.eye(len(x)) + strength * D.T @ D, x)

    def partial(x, out, *, strength):
        again = lambda t: smooth(t, strength=strength)
        return Implicit(again, again, x, out)

    smooth = cr.primitive(
        "smooth", value, partial, samples=[np.arange(5.0) ** 2, ((np.ones(4),), {"strength": 0.5})], **options
    )
    return smooth


def test_an_elementwise_primitive_obeys_the_laws():
    kepler = declare_kepler()
    check_primitive(kepler)
    M = np.linspace(0, 1, 5)
    assert np.allclose(cr.jacobian(kepler)(M, 0.3), np.diag(1 / (1 - 0.3 * np.cos(kepler(M, 0.3)))))
    assert "kepler a 0.3" in str(cr.program(lambda M: 2 * kepler(M, 0.3))(0.5))


def test_a_primitive_of_linear_maps_obeys_the_laws_and_batches_by_a_loop():
    smooth = declare_smooth()
    check_primitive(smooth)
    x = np.sin(np.arange(6.0))
    f = lambda x: np.sum((x - smooth(x, strength=3.0)) ** 3)
    cr.check_grads(f, (x,))
    assert np.allclose(cr.hessian(f)(x), cr.hessian(f)(x).T)
    assert cr.vmap(smooth)(np.ones((0, 4))).shape == (0, 4)
    assert "smooth[strength=3.0] a" in str(cr.program(lambda x: smooth(x, strength=3.0))(x).check())


def test_partials_may_be_whole_jacobians():
    A = np.arange(6.0).reshape(2, 3)
    f = cr.primitive("affine_sine", lambda x: A @ np.sin(x), lambda x, y: A * np.cos(x), samples=[np.ones(3)])
    check_primitive(f)
    norm = cr.primitive(
        "root_of_sum", lambda x: np.sqrt(np.sum(x)), lambda x, y: 0.5 / y * np.ones((2, 3)), samples=[np.ones((2, 3))]
    )
    check_primitive(norm)
    spread = cr.primitive(
        "powers", lambda x: np.array([x, x * x]), lambda x, y: np.stack([x / x, 2 * x]), samples=[0.7]
    )
    check_primitive(spread)
    assert np.allclose(cr.hessian(spread)(0.5), [0, 2])


def test_several_outputs():
    polar = cr.primitive(
        "polar",
        lambda x, y: (np.hypot(x, y), np.arctan2(y, x)),
        (
            (lambda x, y, out: x / out[0], lambda x, y, out: y / out[0]),
            (lambda x, y, out: -y / out[0] ** 2, lambda x, y, out: x / out[0] ** 2),
        ),
        outputs=2,
        elementwise=True,
        on=((0.5, 1.0), (0.5, 1.0)),
    )
    check_primitive(polar)
    r, phi = cr.vmap(polar)(np.ones((4, 2)), np.ones((4, 2)))
    assert r.shape == phi.shape == (4, 2)
    split = cr.primitive(
        "sum_and_first",
        lambda x: (np.sum(x), x[0]),
        ((lambda x, out: SumOver((0,), x, out[0]),), (lambda x, out: np.eye(len(x))[0],)),
        outputs=2,
        samples=[np.arange(3.0)],
    )
    check_primitive(split)
    assert [g.tolist() for g in cr.jacobian(split)(np.ones(2))] == [[1, 1], [1, 0]]
    assert [x.shape for x in cr.vmap(split)(np.ones((0, 3)))] == [(0,), (0,)]


def test_a_partial_may_be_a_number_or_missing():
    f = cr.primitive("shifted", lambda x, n, s: x + n, (1, 0, None), elementwise=True, on=((0, 1), (0, 1), (0, 1)))
    assert cr.grad(f)(2.0, 3.0, 4.0) == 1
    assert cr.grad(f, 1)(2.0, 3.0, 4.0) == 0
    with pytest.raises(cr.MissingRule, match="argument 2"):
        cr.grad(f, 2)(2.0, 3.0, 4.0)


def test_python_numbers_promote_weakly_and_lists_are_arrays():
    kepler = declare_kepler()
    assert kepler(np.float32(0.5), 0.3).dtype == np.float32
    assert cr.grad(kepler)(np.float32(0.5), 0.3).dtype == np.float32
    smooth = declare_smooth()
    assert cr.grad(lambda t: smooth([t, 2 * t, 1.0, 0.0])[0])(1.0) == pytest.approx(smooth([1.0, 2.0, 0, 0])[0])


def test_a_number_reaches_a_primitive_that_is_not_elementwise_as_an_array():
    f = cr.primitive(
        "twice", lambda x: x.reshape(1) * 2, lambda x, out: np.full((1, *x.shape), 2.0), samples=[np.ones(())]
    )
    assert f(3.0).tolist() == [6.0]
    assert cr.jacobian(f)(3.0).tolist() == [2.0]


def test_the_program_checks_its_types():
    smooth = declare_smooth(types=lambda x, strength: ArrayType((len(x.shape),), x.dtype))
    with pytest.raises(cr.ProgramError, match="smooth"):
        cr.program(smooth)(np.ones(4)).check()
    with pytest.raises(AssertionError, match="type rule"):
        check_primitive(smooth)


def test_functions_that_a_primitive_implements_reach_it():
    from scipy import special

    struve = cr.primitive(
        "struve0",
        lambda x: special.struve(0, x),
        lambda x, y: 2 / np.pi - special.struve(1, x),
        elementwise=True,
        implements=special.expit,
    )
    try:
        assert cr.grad(special.expit)(0.5) == 2 / np.pi - special.struve(1, 0.5)
    finally:
        from chainrule.trace.numpy_protocols import UFUNCS

        assert UFUNCS.pop(special.expit) is struve


def test_own_batching_and_flops():
    f = cr.primitive(
        "halves",
        lambda x: x / 2,
        lambda x, y: SumOver((), x, y),
        batching=lambda size, args, batched, params: args[0] / 2,
        flops=lambda args, outs, params: 7,
        samples=[np.ones(3)],
    )
    assert cr.vmap(f)(np.ones((2, 3))).tolist() == [[0.5] * 3] * 2
    assert cr.program(f)(np.ones(3)).flops() == 7
    with pytest.raises(AssertionError):
        check_primitive(f)


def test_own_batching_of_an_elementwise_primitive_is_told_which_arguments_are_batched():
    def batching(size, args, batched, params):
        assert (size, list(batched), params) == (2, [True, False], {"scale": 3.0})
        x, y = args
        return params["scale"] * x * y

    f = cr.primitive(
        "scaled_product",
        lambda x, y, *, scale=3.0: scale * x * y,
        (lambda x, y, out, *, scale: scale * y, lambda x, y, out, *, scale: scale * x),
        elementwise=True,
        batching=batching,
        on=((0.5, 1.0), (0.5, 1.0)),
    )
    x, y = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([1.0, -1.0, 2.0])
    assert cr.vmap(f, in_axes=(0, None))(x, y).tolist() == [[3, -6, 18], [12, -15, 36]]


def test_primitives_pickle_by_name():
    kepler = declare_kepler()
    assert pickle.loads(pickle.dumps(kepler)) is kepler


# ---- what is refused


def test_names_are_declared_once():
    declare_kepler()
    with pytest.raises(cr.ProgramError, match="declared already"):
        declare_kepler()
    cr.primitive("kepler", np.sin, lambda x, y: np.cos(x), elementwise=True, replace=True)
    assert cr.grad(ops.kepler)(0.0) == 1
    with pytest.raises(cr.ProgramError, match="chainrule's own"):
        cr.primitive("sin", np.sin, 1, replace=True)
    for name in ("register", "", "__len__"):
        with pytest.raises(cr.ProgramError, match="cannot be"):
            cr.primitive(name, np.sin, 1)


@pytest.mark.parametrize(
    ("partial", "elementwise", "error", "match"),
    [
        (lambda x, y: None, True, TypeError, "returned None"),
        (lambda x, y: None, False, TypeError, "returned None"),
        (lambda x, y: np.ones(5), True, cr.ShapeError, r"shape \(5,\)"),
        (lambda x, y: np.ones((1, 3)), True, cr.ShapeError, r"shape \(1, 3\)"),
        (lambda x, y: np.cos(x), False, cr.ShapeError, r"whole Jacobian, of shape \(3, 3\).*elementwise=True"),
        (lambda x, y: SumOver((0,), x, np.ones(())), False, cr.ShapeError, r"maps shape \(3,\) to \(\)"),
    ],
)
def test_partials_of_wrong_shape_are_refused(partial, elementwise, error, match):
    f = cr.primitive("mine", np.sin, partial, elementwise=elementwise)
    for transform in (lambda: cr.jvp(f, (np.ones(3),), (np.ones(3),)), lambda: cr.vjp(f, np.ones(3))[1](np.ones(3))):
        with pytest.raises(error, match=f"(?s){match}"):
            transform()


def test_values_of_wrong_shape_are_refused():
    f = cr.primitive("mine", lambda x: np.sum(x), 1, elementwise=True)
    with pytest.raises(cr.ShapeError, match=r"returned shape \(\) for arguments that broadcast to \(3,\)"):
        cr.grad(lambda x: np.sum(f(x)))(np.ones(3))
    g = cr.primitive("named", lambda x: "text", 1)
    with pytest.raises(TypeError, match="returned a str"):
        g(1.0)
    h = cr.primitive("pair", lambda x: x, ((1,), (1,)), outputs=2)
    with pytest.raises(cr.ShapeError, match="tuple of 2"):
        h(1.0)


def test_declarations_that_do_not_fit_are_refused():
    with pytest.raises(cr.ProgramError, match="2 rows"):
        cr.primitive("mine", np.sin, (1,), outputs=2)
    with pytest.raises(cr.ProgramError, match="not a str"):
        cr.primitive("mine", np.sin, ("cos",))


def test_calls_that_do_not_fit_are_refused():
    smooth = declare_smooth()
    with pytest.raises(TypeError, match="takes 1 arrays by position, and was given 2"):
        smooth(np.ones(4), 2.0)
    with pytest.raises(cr.TraceError, match="parameter `strength`"):
        cr.grad(lambda s: smooth(np.ones(4), strength=s)[0])(1.0)


def test_a_value_that_closes_over_a_traced_one_is_refused():
    def f(t):
        g = cr.primitive("closing", lambda x: x * t, 1, elementwise=True, replace=True)
        return g(1.0)

    with pytest.raises(cr.TraceError, match="not among its arguments"):
        cr.grad(f)(2.0)


def test_the_laws_find_a_wrong_partial():
    wrong = cr.primitive("wrong", np.sin, lambda x, y: np.cos(x) * 1.001, elementwise=True, on=(-1.0, 1.0))
    with pytest.raises(AssertionError, match="jvp against differences"):
        check_primitive(wrong)
    second = cr.primitive("second", np.sin, lambda x, y: cr.stop_gradient(np.cos(x)), elementwise=True, on=(0.1, 1.0))
    with pytest.raises(AssertionError, match="second derivative"):
        check_primitive(second)
    adjoint = cr.primitive(
        "adjoint",
        lambda x: np.cumsum(x),
        lambda x, y: Implicit(lambda t: t @ np.triu(np.ones((3, 3))), lambda ct: ct @ np.triu(np.ones((3, 3))), x, y),
        samples=[np.arange(3.0)],
    )
    with pytest.raises(AssertionError, match="pullback against pushforward"):
        check_primitive(adjoint)


def test_the_laws_ask_for_samples():
    f = cr.primitive("mine", math.sin, lambda x, y: np.cos(x))
    with pytest.raises(AssertionError, match="samples"):
        check_primitive(f)
    check_primitive(f, [((np.float64(0.3),), {})])
