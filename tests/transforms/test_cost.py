"""What each mode costs: evaluations and memory, counted and not timed."""

import tracemalloc

import numpy as np

import chainrule as cr

W = np.eye(100) * 0.9


def deep(depth):
    def f(x):
        for _ in range(depth):
            x = np.tanh(W @ x)
        return np.sum(x)

    return f


def peak(call):
    call()
    tracemalloc.start()
    call()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_forward_memory_does_not_grow_with_depth():
    x = np.ones((100, 20))
    shallow, steep = (peak(lambda: cr.jvp(deep(d), (x,), (x,))) for d in (10, 100))
    assert steep < 1.2 * shallow


def test_reverse_memory_is_linear_in_depth():
    x = np.ones((100, 20))
    small, large = (peak(lambda: cr.grad(deep(d))(x)) for d in (20, 200))
    assert 5 * small < large < 15 * small


def test_a_gradient_runs_the_function_once():
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(x**2)

    cr.grad(f)(np.ones(50))
    assert len(calls) == 1
    cr.jacrev(lambda x: f(x) * x)(np.ones(50))
    assert len(calls) == 2
    cr.jacfwd(lambda x: f(x) * x)(np.ones(50))
    assert len(calls) == 3


def test_indexing_in_a_loop_sweeps_in_linear_time():
    # Each x[i] pulls back a unit array; adding them one by one into whole arrays would be quadratic.
    n = 20_000
    x = np.arange(float(n))
    tracemalloc.start()
    g = cr.grad(lambda x: sum(x[i] * x[i] for i in range(0, n, 10)))(x)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(g[::10], 2 * x[::10])
    assert memory < 200 * n
