"""Exact zeros of a tangent or cotangent stay zero in contractions, whatever infinite or NaN coefficients they meet."""

import numpy as np
import pytest

import chainrule as cr

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SHAPES = {
    "ij,j->i": ((3, 4), (4,)),
    "ij,jk->ik": ((3, 4), (4, 2)),
    "ij,jk->ki": ((3, 4), (4, 2)),
    "bij,bj->bi": ((2, 3, 4), (2, 4)),
    "i,i->": ((5,), (5,)),
    "ij,ij->j": ((3, 4), (3, 4)),
}


def drawn(rng, shape, kind):
    values = np.array([0.0, 0.0, 1.0, -2.0, 0.5, 3.0, *(() if kind == "finite" else (np.inf, -np.inf, np.nan))])
    return rng.choice(values, shape)


def product(subscripts, t, w):
    """The contraction of t and w by their products one by one, of which those with an exact zero of t are zero."""
    given, to = subscripts.split("->")
    left, right = given.split(",")
    space = sorted(set(left + right))
    grid = np.einsum(f"{left},{right}->{''.join(space)}", np.zeros(t.shape), np.zeros(w.shape))
    lay = lambda x, labels: np.broadcast_to(
        np.einsum(f"{labels}->{''.join(sorted(labels))}", x).reshape(
            [n if a in labels else 1 for a, n in zip(space, grid.shape, strict=True)]
        ),
        grid.shape,
    )
    terms = np.where(lay(t, left) == 0, 0.0, lay(t, left) * lay(w, right))
    out = terms.sum(axis=tuple(i for i, a in enumerate(space) if a not in to))
    return np.einsum(f"{''.join(a for a in space if a in to)}->{to}", out)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("subscripts", SHAPES)
def test_zeros_of_a_tangent_win(subscripts, seed):
    rng = np.random.default_rng(seed)
    a, b = SHAPES[subscripts]
    t, w = drawn(rng, a, "finite"), drawn(rng, b, "any")
    found = cr.jvp(lambda x: np.einsum(subscripts, x, w), (np.ones(a),), (t,))[1]
    np.testing.assert_array_equal(found, product(subscripts, t, w))
    batched = cr.vmap(lambda t: cr.jvp(lambda x: np.einsum(subscripts, x, w), (np.ones(a),), (t,))[1])(
        np.stack([t, -t])
    )
    np.testing.assert_array_equal(batched, [product(subscripts, t, w), product(subscripts, -t, w)])


@pytest.mark.parametrize("transform", [cr.jacrev, cr.jacfwd, cr.jacobian, lambda f: cr.jit(cr.jacrev(f))])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_rows_that_are_masked_do_not_spoil_the_others(transform, bad):
    a = np.array([[1.0, bad, 4.0], [2.0, 3.0, 5.0]])
    f = lambda x: np.where([False, True], a @ x, 0.0)
    expected = np.array([[0.0, 0.0, 0.0], [2.0, 3.0, 5.0]])
    np.testing.assert_array_equal(transform(f)(np.ones(3)), expected)
    np.testing.assert_array_equal(
        cr.hessian(lambda x: np.sum(f(x) ** 2))(np.ones(3)), 2 * np.outer(expected[1], expected[1])
    )


def test_infinite_arguments_of_masked_rows_do_not_spoil_the_gradient_by_the_matrix():
    x = np.array([[1.0, np.inf], [2.0, 3.0]])
    f = lambda a: np.sum(np.where([True, False], a @ x, 0.0))
    np.testing.assert_array_equal(cr.grad(f)(np.ones((2, 2))), [[1.0, 2.0], [1.0, 2.0]])


def test_zeros_win_in_a_program_that_was_recorded_with_none():
    w = np.array([[1.0, np.inf], [2.0, 3.0]])
    forward = cr.jit(lambda t: cr.jvp(lambda x: w @ x, (np.ones(2),), (t,))[1])
    reverse = cr.jit(lambda t: cr.vjp(lambda x: w.T @ x, np.ones(2))[1](t)[0])
    for f in (forward, reverse):
        assert f(np.array([1.0, 1.0])).tolist() == [np.inf, 5.0]
        assert f(np.array([1.0, 0.0])).tolist() == [1.0, 2.0]


def test_complex_contractions_keep_zeros_too():
    w = np.array([[1.0 + 1j, np.inf], [2.0, 3.0j]])
    f = lambda z: np.sum(np.real(np.where([False, True], w @ z, 0.0)))
    np.testing.assert_array_equal(cr.grad(f)(np.ones(2, complex)), [2.0, 3.0j])


def test_a_tangent_of_nan_spoils_what_it_reaches_through_integers_and_masks():
    for w in (np.eye(2, dtype=int), np.eye(2, dtype=bool)):
        assert np.isnan(cr.jvp(lambda x: w @ x, (np.ones(2),), (np.array([np.nan, 1.0]),))[1]).all()
