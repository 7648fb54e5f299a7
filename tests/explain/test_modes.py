import io
from itertools import pairwise

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import modes
from chainrule.explain.counting import count
from chainrule.explain.problem import Problem
from chainrule.explain.terminal import Printer


@pytest.mark.parametrize("widths", [(3, 4, 5, 2), (7, 2, 9), (1, 1, 1, 1)])
def test_predicted_multiplications_are_those_of_the_matrix_products(widths) -> None:
    forward, reverse = modes.multiplications(widths)
    sizes = list(zip(widths[1:], widths[:-1], strict=True))
    from_the_right = sum(m * n * widths[0] for m, n in sizes[1:])
    from_the_left = sum(widths[-1] * m * n for m, n in sizes[:-1])
    assert (forward, reverse) == (from_the_right, from_the_left)


def test_chain_is_the_chain_it_claims_to_be() -> None:
    f, x = modes.chain((3, 5, 2))
    assert f(x).shape == (2,)
    assert np.allclose(cr.jacfwd(f)(x), cr.jacrev(f)(x))
    assert count(Problem.of(f, (x,))).sweep == (3 * 5 + 5) + (5 * 2 + 2)


def test_forward_memory_is_constant_and_reverse_memory_linear() -> None:
    shallow, deep = modes._depth(20, 50), modes._depth(200, 50)
    assert deep.forward < 2 * shallow.forward
    assert 7 < deep.reverse / shallow.reverse < 13


def test_differences_have_a_u_and_the_complex_step_has_none() -> None:
    steps, exact = modes.differences()
    for errors in ([s.forward for s in steps], [s.central for s in steps]):
        assert min(errors) < 1e-3 * errors[0]
        assert min(errors) < 1e-3 * errors[-1]
    assert steps[-1].complex < 1e-14
    assert exact < 1e-15


def test_formula_grows_exponentially_and_programs_do_not() -> None:
    pytest.importorskip("sympy")
    found = [modes._growth(k) for k in (3, 4, 5, 6)]
    assert all(b.differentiated > 2 * a.differentiated for a, b in pairwise(found))
    assert len({b.program - a.program for a, b in pairwise(found)}) == 1
    assert len({b.derivative - a.derivative for a, b in pairwise(found)}) == 1


def test_prediction_recovers_a_cost_and_a_rate() -> None:
    counts = [10, 100, 1000, 10_000]
    times = [1e-4 + 1e-6 * n for n in counts]
    assert np.allclose(modes.predicted(counts, times), times)


def test_tables_print() -> None:
    stream = io.StringIO()
    found = modes.experiments(modes.Size((3, 6), 4, 2, (3, 6), (1, 2, 3), 1e-3))
    modes.print_experiments(found, Printer(stream, plain=True))
    for title in ("over width", "over depth", "over h", "symbolic"):
        assert title in stream.getvalue()
