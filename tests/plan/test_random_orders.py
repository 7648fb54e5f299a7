"""Every order of every random program gives the same Jacobian, and every sparse derivative the dense one."""

import importlib.util
from pathlib import Path

import numpy as np
from hypothesis import given, settings

import chainrule as cr
from chainrule.plan.accumulate import Accumulator
from chainrule.plan.execute import blocks
from chainrule.plan.machine import Machine
from chainrule.plan.orders import Costs
from chainrule.plan.plans import candidates
from chainrule.transforms.linearised import linearise

_spec = importlib.util.spec_from_file_location("random_programs", Path(__file__).parents[1] / "test_random_programs.py")
random_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(random_programs)
run, draw, programs, seeds = (getattr(random_programs, name) for name in ("run", "draw", "programs", "seeds"))
CONSTANTS = Machine(call=1e-9, byte=1e-12, product=1e-9)


@given(programs, seeds)
@settings(max_examples=40, deadline=None)
def test_order_of_accumulation_does_not_matter(program, seed):
    x, y, *_ = draw(seed)
    graph = linearise(lambda leaves: [run(program, *leaves)], [x, y])
    dense = cr.jacobian(run, argnums=(1, 2), mode="forward")(program, x, y)
    prepared = Accumulator().prepared(graph)
    found = candidates(graph, Costs(CONSTANTS, None, 0), prepared, sparse=False)
    scale = 1 + max(np.max(np.abs(d)) for d in dense)
    for order in found:
        (row,) = blocks(graph, order, prepared)
        for block, expected in zip(row, dense, strict=True):
            np.testing.assert_allclose(block, expected, rtol=1e-9, atol=1e-10 * scale, err_msg=order.name)


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_sparse_derivatives_are_the_dense_ones(program, seed):
    x, y, *_ = draw(seed)
    dense = cr.jacobian(run, argnums=(1, 2))(program, x, y)
    expected = np.concatenate([d.reshape(6, 6) for d in dense], axis=1)
    scale = 1 + np.max(np.abs(expected))
    for mode in ("forward", "reverse", "auto"):
        found = cr.jacobian(run, argnums=(1, 2), mode=mode, sparse=True)(program, x, y)
        np.testing.assert_allclose(found.toarray(), expected, rtol=1e-9, atol=1e-10 * scale)

    def f(x):
        return np.sum(run(program, x, y) ** 2)

    full = cr.hessian(f)(x).reshape(6, 6)
    found = cr.hessian(f, sparse=True)(x).toarray()
    np.testing.assert_allclose(found, full, rtol=1e-8, atol=1e-9 * (1 + np.max(np.abs(full))))


@given(programs, seeds)
@settings(max_examples=30, deadline=None)
def test_predicted_patterns_hold_elsewhere(program, seed):
    x, y, other, another = draw(seed)
    pattern = cr.pattern(run, argnums=(1, 2))(program, x, y).toarray()
    for a, b in ((x, y), (other, another), (x, another)):
        dense = cr.jacobian(run, argnums=(1, 2))(program, a, b)
        assert not np.any((np.concatenate([d.reshape(6, 6) for d in dense], axis=1) != 0) & ~pattern)
