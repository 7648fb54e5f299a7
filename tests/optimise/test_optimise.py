"""Optimised programs: their texts, and that they compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.ir.text import program_text
from chainrule.linear.maps import Slot
from chainrule.optimise import RULES, optimise

GOLDEN = Path(__file__).parent.parent / "golden" / "optimise.txt"
x3 = np.array([0.5, -1.5, 2.0])
x23 = np.arange(6.0).reshape(2, 3) / 7 + 0.1
x232 = np.arange(8.0).reshape(2, 2, 2) / 7 + 0.1


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


CASES = {
    "ones_and_zeros": (lambda x: (x * 1.0 + 0.0 - 0.0) / 1.0 * -1.0, (x3,)),
    "uniform_constants": (lambda x: x * np.full(3, 2.0) + np.full(3, 0.25), (x3,)),
    "signs": (lambda x, y: x - (-y) + (-x) * y + np.negative(-x), (x3, x3 + 1)),
    "common_subexpressions": (lambda x, y: np.sin(x * y) + np.sin(y * x), (x3, x3 + 1)),
    "constants": (lambda x: x * np.exp(np.log(3.0)), (x3,)),
    "powers": (lambda x: x**2 + x**3.0 + x**1 + x**-1, (x3,)),
    "moves": (lambda x: x.T.T.reshape(6).reshape(2, 3)[0:2][:, 1:3][:, 0:1], (x23,)),
    "short_axes": (lambda x: cr.grad(lambda y: np.sum(y[:, np.array([1, 2, 0])] * x))(x), (x23,)),
    "broadcasts": (lambda x: np.broadcast_to(x, (2, 3)) * x23, (x3,)),
    "axes_of_one": (lambda x: np.exp(x)[:, None] * x[None, :] + cr.grad(lambda y: np.sum(y[:, None] ** 2))(x), (x3,)),
    "sum_of_product": (lambda x, y: np.sum(x @ y, 0), (x23, x23.T)),
    "sum_of_batched_product": (lambda x, y: np.sum(x @ y, 0), (x232, x232)),
    "product_used_twice": (lambda x, y: (x @ y)[0] + np.sum(x @ y, 0), (x23, x23.T)),
    "product_by_broadcasting": (lambda x, y: np.sum(x[:, None, :] * y[None, :, :], -1), (x23, x23 + 1)),
    "sums_within_broadcasting": (lambda x, y: np.sum(x[:, :, None] * y[:, None], (0, 1)), (x23, x23 + 1)),
    "chain_of_products": (lambda x, y, z: x @ y @ z, (x23.T, x23, x3)),
    "chain_to_the_left": (lambda x, y, z: x @ (y @ z), (x23[0], x23.T, x23)),
    "cheapest_as_written": (lambda x, y, z: x @ (y @ z), (x23.T, x23, x3)),
    "powers_of_two_outwards": (lambda x: cr.grad(lambda y: np.sum(np.sum(0.5 * y**2, 1)[:, None] * x))(x), (x23,)),
    "rosenbrock_gradient": (cr.grad(rosenbrock), (np.arange(4.0),)),
    "logistic_gradient": (cr.grad(lambda x: np.sum(np.log1p(np.exp(-x)))), (x3,)),
    "gradient_of_gradient": (cr.grad(lambda x: np.sum(cr.grad(lambda y: np.sum(np.sin(y) ** 2))(x) ** 2)), (x3,)),
}


def _texts() -> dict[str, str]:
    out = {}
    for name, (f, args) in CASES.items():
        program = optimise(cr.program(f)(*args)).check()
        out[name] = program_text(program, origins=False).replace(program.name, name, 1)
    return out


def test_optimised_programs_have_their_texts():
    expected = GOLDEN.read_text()
    assert "\n\n".join(_texts().values()) + "\n" == expected


@pytest.mark.parametrize("name", CASES)
def test_optimised_programs_compute_the_same(name):
    f, args = CASES[name]
    program = cr.program(f)(*args)
    for found, wanted in zip(optimise(program)(*args), program(*args), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_optimised_programs_keep_their_derivatives(name):
    f, args = CASES[name]
    program = optimise(cr.program(f)(*args))
    tangents = tuple(np.cos(a) for a in args)
    _, found = cr.jvp(lambda *xs: program(*xs)[0], args, tangents)
    _, wanted = cr.jvp(f, args, tangents)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", [p.name for p in ops if p.outputs == 1])
def test_every_sample_optimises_to_the_same_value(name):
    primitive = ops[name]
    for args, params in primitive.samples():
        xs = [np.asarray(a) for a in args]
        program = cr.program(lambda *a, p=params: primitive(*a, **p))(*xs)
        with np.errstate(all="ignore"):
            wanted, found = program(*xs), optimise(program).check()(*xs)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_an_infinite_strong_product_stays_strong():
    program = optimise(cr.program(cr.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))))(np.zeros(2)))
    with np.errstate(all="ignore"):
        assert (program(np.zeros(2))[0] == 0).all()


def _random_labels(rng):
    """Three factors and a result whose labels each stand in two of them at least; the first two share one."""
    while True:
        sides = [tuple(rng.permutation(6)[: rng.integers(1, 4)].tolist()) for _ in range(3)]
        flat = [a for s in sides for a in s]
        to = tuple(a for a in dict.fromkeys(flat) if flat.count(a) == 1 or rng.random() < 0.3)
        if set(sides[0]) & set(sides[1]) and len(to) < 5:
            return sides, to


@pytest.mark.parametrize("seed", range(40))
def test_three_factors_multiply_to_the_same_in_no_more_operations(seed):
    rng = np.random.default_rng(seed)
    (left, middle, right), to = _random_labels(rng)
    extents = rng.integers(2, 6, 6)
    xs = [rng.uniform(0.5, 1.5, [extents[a] for a in s]) for s in (left, middle, right)]
    between = tuple(a for a in dict.fromkeys((*left, *middle)) if a in right or a in to)
    names = {
        a: 10 + k for k, a in enumerate(dict.fromkeys((*left, *middle)))
    }  # the inner product has labels of its own

    def f(x, y, z):
        own = [tuple(names[a] for a in s) for s in (left, middle, between)]
        return ops.contract(
            ops.contract(x, y, left=own[0], right=own[1], to=own[2]), z, left=between, right=right, to=to
        )

    program = cr.program(f)(*xs)
    optimised = optimise(program).check()
    wanted = np.einsum(xs[0], left, xs[1], middle, xs[2], right, to)
    np.testing.assert_allclose(optimised(*xs)[0], wanted, rtol=1e-13)
    assert optimised.flops() <= program.flops()


@pytest.mark.parametrize("where", [[1, 2, 0], [0, 0, -1], [3, 1], [2], [0, 1, 2, 3]])
@pytest.mark.parametrize("key", [(slice(None), Slot(0)), (Ellipsis, Slot(0)), (Slot(0), Ellipsis), (Slot(0),)])
def test_indices_along_a_short_axis_become_slices(where, key):
    x, i = np.random.default_rng(0).normal(size=(4, 4)), np.array(where)
    taken = x[tuple(i if isinstance(p, Slot) else p for p in key)]
    added = np.zeros((4, 4))
    np.add.at(added, tuple(i if isinstance(p, Slot) else p for p in key), taken)
    gather = optimise(cr.program(lambda x: ops.gather(x, i, key=key))(x)).check()
    scatter = optimise(cr.program(lambda t: ops.scatter_add(t, i, key=key, shape=(4, 4)))(taken)).check()
    np.testing.assert_array_equal(gather(x)[0], taken)
    np.testing.assert_array_equal(scatter(taken)[0], added)
    assert not {"gather", "scatter_add"} & {e.primitive.name for p in (gather, scatter) for e in p.equations}


@pytest.mark.parametrize(
    "f", [lambda x: x[np.arange(40) % 4], lambda x: x[np.array([[0, 1]])], lambda x: x[np.array([0, 7])]]
)
def test_other_indices_stay(f):
    program = optimise(cr.program(f)(np.ones(20))).check()
    assert "gather" in {e.primitive.name for e in program.equations}


@pytest.mark.parametrize("seed", range(30))
def test_sums_of_products_stay_what_they_are(seed):
    rng = np.random.default_rng(seed)
    (left, right, _), _ = _random_labels(rng)
    to = tuple(rng.permutation([*dict.fromkeys((*left, *right))]).tolist())
    axes = tuple(k for k in range(len(to)) if rng.random() < 0.5)
    extents = rng.integers(1, 5, 6)
    x, y = (rng.uniform(0.5, 1.5, [extents[a] for a in s]) for s in (left, right))

    def contracted(x, y):
        return np.sum(np.einsum(x, left, y, right, to), axes)

    def broadcast(x, y):
        spread = [z.transpose([s.index(a) for a in to if a in s]) for z, s in ((x, left), (y, right))]
        whole = [
            z.reshape([extents[a] if a in s else 1 for a in to]) for z, s in zip(spread, (left, right), strict=True)
        ]
        return np.sum(whole[0] * whole[1], axes)

    wanted = np.einsum(x, left, y, right, [a for k, a in enumerate(to) if k not in axes])
    for f in (contracted, broadcast):
        np.testing.assert_allclose(optimise(cr.program(f)(x, y)).check()(x, y)[0], wanted, rtol=1e-13)


def test_rules_name_primitives_that_exist():
    assert all(head in ops for head in RULES)


def test_stop_gradient_survives():
    program = optimise(cr.program(lambda x: x * cr.stop_gradient(x))(3.0))
    assert cr.grad(lambda x: program(x)[0])(3.0) == 3.0
