"""The bracketing found is the best there is, and costs what it says."""

import itertools
import random

import numpy as np
import pytest

from chainrule.plan.chain import ChainMap, bracket_chain


def random_chain(seed, length):
    r = random.Random(seed)
    widths = [r.randint(1, 9) for _ in range(length + 1)]
    return [
        ChainMap(n, m, float(r.randint(1, 3 * n * m)), float(r.randint(0, 10)), r.choice([np.inf, float(n * m)]))
        for n, m in itertools.pairwise(widths)
    ]


def all_costs(maps, i, j, memory):
    """The costs of every bracketing of maps i .. j, by recursion over the definition."""
    fits = sum(f.tape for f in maps[i : j + 1]) <= memory
    n, m = maps[i].inputs, maps[j].outputs
    if i == j:
        return [maps[i].product * n, maps[i].jacobian, *([maps[i].product * m] if fits else [])]
    found = []
    for k in range(i, j):
        inner, outer = min(all_costs(maps, i, k, memory)), min(all_costs(maps, k + 1, j, memory))
        found.append(inner + outer + m * maps[k].outputs * n)
        found.append(inner + n * sum(f.product for f in maps[k + 1 : j + 1]))
        if sum(f.tape for f in maps[i : k + 1]) <= memory:
            found.append(outer + m * sum(f.product for f in maps[i : k + 1]))
    return found


def executed_cost(bracket, maps):
    """What carrying out a bracket costs, and the largest tape that it holds."""
    f, last = maps[bracket.first], maps[bracket.last]
    if bracket.first == bracket.last:
        each = {"tangent": f.product * f.inputs, "adjoint": f.product * f.outputs, "known": f.jacobian}
        return each[bracket.how], f.tape if bracket.how == "adjoint" else 0.0
    parts = [executed_cost(p, maps) for p in (bracket.inner, bracket.outer) if p is not None]
    cost, tape = sum(c for c, _ in parts), max(t for _, t in parts)
    inside, outside = maps[bracket.first : bracket.split + 1], maps[bracket.split + 1 : bracket.last + 1]
    if bracket.how == "multiply":
        return cost + last.outputs * inside[-1].outputs * f.inputs, tape
    if bracket.how == "tangent":
        return cost + f.inputs * sum(g.product for g in outside), tape
    return cost + last.outputs * sum(g.product for g in inside), max(tape, sum(g.tape for g in inside))


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("memory", [np.inf, 12.0, 0.0])
def test_bracketing_equals_brute_force(length, memory):
    maps = random_chain(length, length)
    assert bracket_chain(maps, memory=memory).cost == min(all_costs(maps, 0, length - 1, memory))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("memory", [None, 15.0, 0.0])
def test_carrying_out_the_plan_costs_what_it_says_within_the_memory(seed, memory):
    maps = random_chain(seed, 20)
    plan = bracket_chain(maps, memory=memory)
    cost, tape = executed_cost(plan.bracket, maps)
    assert cost == plan.cost
    assert memory is None or tape <= memory


@pytest.mark.parametrize("seed", range(10))
def test_bracketing_is_no_worse_than_the_pure_modes(seed):
    plan = bracket_chain(random_chain(seed, 30))
    assert plan.cost <= min(plan.tangent, plan.adjoint)


def test_a_chain_of_matrices_is_bracketed_as_the_textbook_does():
    # Cormen, Leiserson, Rivest & Stein, Introduction to Algorithms, section 15.2: 15,125 multiplications.
    widths = [30, 35, 15, 5, 10, 20, 25]
    maps = [ChainMap.dense(n, m) for m, n in itertools.pairwise(widths)][::-1]
    assert bracket_chain(maps).cost == 15_125


def test_without_memory_there_are_only_tangents():
    maps = [ChainMap(9, 2, 5.0, 1.0), ChainMap(2, 1, 5.0, 1.0)]
    plan = bracket_chain(maps, memory=0)
    assert plan.adjoint == np.inf
    assert {b.how for b in plan.bracket} <= {"tangent", "multiply"}
    assert "no memory" in str(plan)


def test_a_bracketing_prints_as_a_product():
    assert str(bracket_chain([ChainMap(3, 3, 1.0), ChainMap(3, 1, 1.0)]).bracket) == "(F1' < f0)"
    assert str(bracket_chain([ChainMap(1, 3, 1.0), ChainMap(3, 3, 1.0)]).bracket) == "(f1 > F0)"
    assert str(bracket_chain([ChainMap.dense(3, 3), ChainMap.dense(3, 3)]).bracket) == "(F1 * F0)"


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="map 0 has 3 outputs, but map 1 has 4 inputs"):
        bracket_chain([ChainMap(2, 3, 1.0), ChainMap(4, 1, 1.0)])
    with pytest.raises(ValueError, match="at least one map"):
        bracket_chain([])
