"""Laws over random programs: straight-line NumPy code of random operations on random arrays."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr

UNARY = {
    "tanh": np.tanh,
    "sin": np.sin,
    "gaussian": lambda a: np.exp(-a * a),
    "log": lambda a: np.log1p(a * a),
    "root": lambda a: np.sqrt(1 + a**2),
    "arctan": np.arctan,
    "cube": lambda a: a**3 / 10,
    "scale": lambda a: 0.5 * a - 1,
    "expit": lambda a: 1 / (1 + np.exp(-a)),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: np.tanh(a) * b,
    "div": lambda a, b: a / (2 + np.cos(b)),
    "pow": lambda a, b: (1.5 + np.sin(a)) ** np.tanh(b),
    "where": lambda a, b: np.where(np.arange(a.size).reshape(a.shape) % 2 == 0, a, b),
    "hypot": lambda a, b: np.hypot(a, 1 + b * b),
    "logaddexp": np.logaddexp,
}
# Each keeps a (2, 3) array one, through reductions, products, indexing and reshapes.
MIXING = {
    "transpose": lambda a: a.T.reshape(2, 3),
    "roll": lambda a: np.concatenate([a[:, 1:], a[:, :1]], axis=1),
    "reverse": lambda a: a[::-1],
    "centre": lambda a: a - np.mean(a, axis=0),
    "row": lambda a: a + np.sum(a, axis=1, keepdims=True),
    "product": lambda a: (a @ a.T) @ a / 10,
    "gather": lambda a: a[:, np.array([0, 2, 2])],
    "outer": lambda a: np.outer(a[:, 0], a[1]),
    "einsum": lambda a: np.einsum("ij,kj->ik", a, a) @ a / 10,
    "scatter": lambda a: np.stack([a[0], np.sum(a, axis=0)]),
    "loop": lambda a: sum((a[:, i : i + 1] * (i + 1) for i in range(3)), start=a),
}

steps = st.one_of(
    st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
    st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), st.integers(0, 9999)),
    st.tuples(st.just("mixing"), st.sampled_from(sorted(MIXING)), st.integers(0, 99)),
)
programs = st.lists(steps, min_size=1, max_size=8)
seeds = st.integers(0, 2**31)


def run(program, x, y):
    """The program on two arrays: each step takes earlier values, the result combines the last two."""
    pool = [x, y]
    for kind, name, choice in program:
        a = pool[choice % len(pool)]
        if kind == "unary":
            pool.append(UNARY[name](a))
        elif kind == "binary":
            pool.append(BINARY[name](a, pool[(choice // 97) % len(pool)]))
        else:
            pool.append(MIXING[name](a))
    return pool[-1] * 0.7 + np.sin(pool[-2])


def draw(seed):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.5, 1.5, (2, 3)) for _ in range(4)]


@given(programs, seeds)
@settings(max_examples=60, deadline=None)
def test_forward_reverse_and_differences_agree(program, seed):
    x, y, t, ct = draw(seed)
    value, dot = cr.jvp(lambda x: run(program, x, y), (x,), (t,))
    again, pullback = cr.vjp(lambda x: run(program, x, y), x)
    (bar,) = pullback(ct)
    np.testing.assert_allclose(value, run(program, x, y), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(again, value)
    np.testing.assert_allclose(np.sum(ct * dot), np.sum(bar * t), rtol=1e-9, atol=1e-9)
    h = 1e-4
    difference = (run(program, x + h * t, y) - run(program, x - h * t, y)) / (2 * h)
    scale = 1 + np.max(np.abs(dot))
    np.testing.assert_allclose(dot, difference, rtol=1e-4, atol=1e-5 * scale)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_jacobians_by_every_mode_are_equal(program, seed):
    x, y, *_ = draw(seed)
    modes = [cr.jacobian(run, argnums=(1, 2), mode=m)(program, x, y) for m in ("forward", "reverse", "auto")]
    for block in range(2):
        np.testing.assert_allclose(modes[0][block], modes[1][block], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(modes[0][block], modes[2][block], rtol=1e-9, atol=1e-9)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_hessian_is_symmetric_in_any_nesting(program, seed):
    x, y, *_ = draw(seed)

    def f(x):
        return np.sum(run(program, x, y))

    h = cr.hessian(f)(x).reshape(6, 6)
    scale = 1 + np.max(np.abs(h))
    np.testing.assert_allclose(h, h.T, atol=1e-9 * scale)
    np.testing.assert_allclose(cr.jacrev(cr.jacrev(f))(x).reshape(6, 6), h, atol=1e-9 * scale)
    np.testing.assert_allclose(cr.jacfwd(cr.jacfwd(f))(x).reshape(6, 6), h, atol=1e-9 * scale)
    np.testing.assert_allclose(cr.jacrev(cr.jacfwd(f))(x).reshape(6, 6), h, atol=1e-9 * scale)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_vmap_equals_a_loop(program, seed):
    x, y, *_ = draw(seed)
    xs = np.stack([x, y, x * 0.5, y - 0.25])
    loop = np.stack([run(program, a, y) for a in xs])
    np.testing.assert_allclose(cr.vmap(lambda a: run(program, a, y))(xs), loop, rtol=1e-12, atol=1e-12)

    def gradient(a):
        return cr.grad(lambda a: np.sum(run(program, a, y) ** 2))(a)

    slopes = np.stack([gradient(a) for a in xs])
    scale = 1 + np.max(np.abs(slopes))
    np.testing.assert_allclose(cr.vmap(gradient)(xs), slopes, rtol=1e-9, atol=1e-10 * scale)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_programs_check_replay_and_print_the_same(program, seed):
    x, y, other, _ = draw(seed)

    def f(x):
        return cr.grad(lambda x: np.sum(run(program, x, y)))(x)

    recorded = cr.program(f)(x).check()
    scale = 1 + np.max(np.abs(f(other)))
    np.testing.assert_allclose(recorded(other)[0], f(other), rtol=1e-9, atol=1e-10 * scale)
    once_more = cr.program(lambda a: recorded(a)[0])(x).check()
    np.testing.assert_allclose(once_more(other)[0], recorded(other)[0], rtol=1e-12, atol=1e-12)
    assert str(cr.program(f)(x)) == str(recorded)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_object_style_gives_the_gradient(program, seed):
    x, y, *_ = draw(seed)
    v, w = cr.variable(x), cr.variable(y)
    np.sum(run(program, v, w)).backward()
    gx, gy = cr.grad(lambda x, y: np.sum(run(program, x, y)), argnums=(0, 1))(x, y)
    for found, expected in ((v.grad, gx), (w.grad, gy)):
        np.testing.assert_allclose(np.zeros_like(x) if found is None else found, expected, rtol=1e-12, atol=1e-12)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_linearize_is_the_jvp_at_a_point(program, seed):
    x, y, t, u = draw(seed)
    value, push = cr.linearize(lambda x: run(program, x, y), x)
    for tangent in (t, u):
        expected_value, expected = cr.jvp(lambda x: run(program, x, y), (x,), (tangent,))
        np.testing.assert_array_equal(value, expected_value)
        np.testing.assert_allclose(push(tangent), expected, rtol=1e-12, atol=1e-12)
