"""Patterns cover the non-zeros, and are exact on known ones."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops


def bratu(u):
    n = round(u.size**0.5)
    v = np.pad(u.reshape(n, n), 1)
    laplacian = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2] - 4 * v[1:-1, 1:-1]
    return (laplacian + np.exp(v[1:-1, 1:-1])).ravel()


def lorenz(x):
    for _ in range(2):
        x = x + 0.1 * ((np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + 8.0)
    return x


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


I = np.array([0, 3, 3, 1, 0])
W = np.arange(1.0, 13).reshape(3, 4)

# Functions of an array of 12 elements whose patterns hold no entry that is zero for all values.
EXACT = {
    "elementwise": lambda x: np.sin(x) * x + 1,
    "shift": lambda x: x[1:] * x[:-1],
    "reverse": lambda x: x[::-1] * x,
    "bratu": lambda x: bratu(x[:9]),
    "recurrence": lorenz,
    "gather": lambda x: x[I] * x[I + 4],
    "sum": lambda x: np.sum(x**2),
    "rows": lambda x: np.sum(x.reshape(3, 4) ** 2, axis=1),
    "columns": lambda x: np.prod(x.reshape(3, 4), axis=0),
    "matrix": lambda x: np.tanh(W.T @ x[:3] / 50),
    "batched product": lambda x: np.einsum("bi,bij->bj", x.reshape(3, 4), np.ones((3, 4, 2))),
    "two matrices": lambda x: x[:6].reshape(2, 3) @ x[6:].reshape(3, 2),
    "outer": lambda x: np.outer(x[:3], x[3:5]),
    "transpose": lambda x: x.reshape(3, 4).T * 2,
    "broadcast": lambda x: x[:3, None] * x[None, 3:5],
    "concatenate": lambda x: np.concatenate([x[5:], x[:5] * 2, np.ones(2)]),
    "stack": lambda x: np.array([x[0] * x[1], x[2], x[1]]),
    "constant": lambda x: np.array([x[0], 1.0, np.floor(x[1])]),
    "running sum": lambda x: np.cumsum(x.reshape(3, 4), axis=1),
    "many shifts": lambda x: sum(np.roll(x, k) for k in range(12)) * x,
    "scatter": lambda x: cr.grad(lambda y: np.sum(y[I] ** 2))(x),
    "gradient": cr.grad(rosenbrock),
    "maximum": lambda x: np.maximum(x[1:], x[:-1]),
    "blocks": lambda x: np.linalg.solve(x.reshape(3, 2, 2) + 3 * np.eye(2), np.ones((3, 2, 1))),
}


def nonzeros(f, n):
    """Where the Jacobian was non-zero at any of several points."""
    found = 0
    for seed in range(12):
        x = np.random.default_rng(seed).uniform(0.5, 2, n)
        found = found + (np.abs(cr.jacobian(f)(x).reshape(-1, n)) > 1e-14)
    return found > 0


@pytest.mark.parametrize("name", EXACT)
def test_pattern_is_exact(name):
    x = np.random.default_rng(9).uniform(0.5, 2, 12)
    found = cr.pattern(EXACT[name])(x)
    assert found.has_canonical_format
    assert found.dtype == bool
    np.testing.assert_array_equal(found.toarray(), nonzeros(EXACT[name], 12))


def _differentiable_samples():
    for primitive in ops:
        if primitive.differentiable:
            for k, (args, params) in enumerate(primitive.samples()):
                floating = [
                    i for i, a in enumerate(args) if np.asarray(a).dtype.kind == "f" and not primitive.missing(i)
                ]
                if floating and not any(np.asarray(a).dtype.kind == "c" for a in args):
                    yield pytest.param(primitive, args, params, floating, id=f"{primitive.name}-{k}")


@pytest.mark.parametrize(("primitive", "args", "params", "floating"), list(_differentiable_samples()))
def test_pattern_covers_jacobian(primitive, args, params, floating):
    def f(*xs):
        whole = list(args)
        for i, x in zip(floating, xs, strict=True):
            whole[i] = x
        out = primitive(*whole, **params)
        return [np.real(o).ravel() for o in (out if isinstance(out, tuple) else (out,))]

    xs = [np.asarray(args[i])[()] for i in floating]
    numbers = tuple(range(len(xs)))
    found = cr.pattern(f, numbers)(*xs).toarray()
    blocks = cr.jacobian(f, numbers, mode="forward")(*xs)
    dense = np.concatenate(
        [np.concatenate([b.reshape(len(b), x.size) for b, x in zip(o, xs, strict=True)], axis=1) for o in blocks]
    )
    assert not np.any((dense != 0) & ~found)


def test_pattern_of_several_arguments_and_outputs_is_one_matrix():
    found = cr.pattern(lambda a, b: {"p": a["u"] * b, "q": np.sum(b)}, argnums=(0, 1))({"u": np.ones(2)}, np.ones(2))
    assert found.toarray().astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]


def test_indices_that_depend_on_the_input_count_as_any_when_staged():
    seen = []

    def f(x):
        seen.append(cr.pattern(lambda y: y[np.argsort(x)])(x))
        return x

    cr.program(f)(np.array([3.0, 1.0, 2.0]))
    assert seen[0].toarray().all()
