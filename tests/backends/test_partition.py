"""Which steps of a program share a loop."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.llvm.native import Native
from chainrule.optimise import optimise


def native(f, *args):
    """The compiled program of a function at arguments."""
    return Native(optimise(cr.program(f)(*args)))


def moments(x):
    y = np.exp(np.sin(x) * x)  # worth keeping, if another loop were to read it
    return np.einsum("ni,nj->ij", y, y)


@pytest.mark.parametrize("n", [1000, 1003, 600])
def test_a_contraction_over_a_loop_reads_what_each_turn_computed(n):
    x = np.random.default_rng(0).normal(size=(n, 3))
    run = native(moments, x)
    assert sum("kernel over" in line for line in run.code.described) == 1
    assert run.code.workspace == 0
    np.testing.assert_allclose(run([x])[0], moments(x), rtol=1e-13)


def test_a_contraction_with_further_loops_reads_from_memory():
    x = np.random.default_rng(0).normal(size=(300, 40))
    y = np.random.default_rng(1).normal(size=(40, 2))

    def f(x, y):
        return np.einsum("ni,ij->nj", np.exp(np.sin(x) * x), y)

    run = native(f, x, y)
    assert run.code.workspace >= x.nbytes
    np.testing.assert_allclose(run([x, y])[0], f(x, y), rtol=1e-12)


def test_both_arguments_of_a_contraction_lie_along_its_loops_or_are_kept():
    x = np.random.default_rng(0).normal(size=(200, 2))

    def f(x):
        y = np.exp(np.sin(x) * x)
        return np.einsum("ni,mi->nm", y, y)

    np.testing.assert_allclose(native(f, x)([x])[0], f(x), rtol=1e-12)
