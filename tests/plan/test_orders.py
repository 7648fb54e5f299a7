"""All orders give the same Jacobian; predicted multiplications are exact; plans are kept and passed back; limits hold."""

import inspect
import pickle
import tracemalloc

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DifferentiationError
from chainrule.ir.primitive import ops
from chainrule.plan.accumulate import Accumulator
from chainrule.plan.execute import blocks
from chainrule.plan.machine import Machine
from chainrule.plan.orders import Costs, cuts
from chainrule.plan.plans import candidates, make_plan, parse_memory, size_text
from chainrule.transforms.linearised import linearise

RNG = np.random.default_rng(0)
W = [RNG.normal(size=(7, 9)), RNG.normal(size=(2, 7)), RNG.normal(size=(8, 2)), RNG.normal(size=(11, 8))]
CONSTANTS = Machine(call=1e-9, byte=1e-12, product=1e-9)


def waist(x):
    for w in W:
        x = np.tanh(w @ x)
    return x


def residual(x):
    for w in (np.eye(9) * 2, W[0].T @ W[0] / 30):
        x = x + np.sin(w @ x)
    return np.sum(x**2) * np.concatenate([x, x[:3]])


def two_inputs(x):
    u, v = x[:4], x[4:]
    return np.outer(np.sin(W[1] @ np.exp(np.concatenate([u, v[:3]]))), v).ravel() + np.sum(u)


def banded(x):
    return np.sin(x[1:]) * x[:-1] + 2 * x[1:]


def loop(x):
    for _ in range(4):
        x = x + 0.1 * (np.roll(x, 1) * x - np.roll(x, -1))
    return x


def mixed(x):
    return np.concatenate([np.cumsum(x) * 3, x.reshape(3, 3).T.ravel(), np.array([np.prod(x), np.max(x), 1.0])])


def branches(x):
    """Two waists side by side: no array that all paths go through."""
    left, right = np.sin(W[1] @ x[:7]), np.cos(W[1] @ np.exp(x[2:]))
    return np.tanh(W[2] @ left) + np.tanh(W[2] @ right) * np.sum(x)


FUNCTIONS = [waist, residual, two_inputs, banded, loop, mixed, branches]
X = RNG.uniform(0.2, 1.0, 9)


def graph_of(f, x=X):
    return linearise(lambda leaves: [f(leaves[0])], [x])


def all_orders(graph):
    return candidates(graph, Costs(CONSTANTS, None, 0), Accumulator().prepared(graph), sparse=False)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_order_of_accumulation_does_not_matter(f):
    graph = graph_of(f)
    dense = cr.jacfwd(f)(X)
    found, prepared = all_orders(graph), Accumulator().prepared(graph)
    assert {o.kind for o in found} >= {"forward", "reverse"}
    for order in found:
        ((block,),) = blocks(graph, order, prepared)
        np.testing.assert_allclose(block, dense, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("f", [waist, residual, loop])
def test_every_bracketing_of_random_machines_agrees(f):
    graph = graph_of(f)
    dense = cr.jacrev(f)(X)
    for chunk in (1, 3, None):
        order = next(o for o in all_orders(graph) if o.kind == "chain") if cuts(graph) else all_orders(graph)[0]
        ((block,),) = blocks(graph, order.__class__(**{**vars(order), "chunk": chunk}), Accumulator().prepared(graph))
        np.testing.assert_allclose(block, dense, rtol=1e-12, atol=1e-13)


class Counter:
    """Counts the scalar multiplications of every product that is computed while it is on."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("multiply", "strong_multiply"):
            self._watch(monkeypatch, ops[name], lambda out, args, params: np.size(out))
        self._watch(monkeypatch, ops["contract"], self._contraction)

    def _watch(self, monkeypatch, primitive, size):
        value = primitive.value

        def counted(*args, **params):
            out = value(*args, **params)
            self.count += int(size(out, args, params))
            return out

        monkeypatch.setattr(primitive, "value", counted)

    @staticmethod
    def _contraction(_, args, params):
        labels = params["left"] + params["right"]
        return np.prod(list(dict(zip(labels, args[0].shape + args[1].shape, strict=True)).values()))


@pytest.mark.parametrize("f", [waist, residual, two_inputs, banded, loop, branches])
def test_predicted_multiplications_are_exact(f, monkeypatch):
    graph = graph_of(f)
    prepared = Accumulator().prepared(graph)
    for order in all_orders(graph):
        with monkeypatch.context() as patch:
            counter = Counter(patch)
            blocks(graph, order, prepared)
            assert counter.count == order.multiplications, order.name


def test_waist_takes_fewer_multiplications_than_both_modes():
    by_kind = {o.kind: o.multiplications for o in all_orders(graph_of(waist))}
    assert by_kind["chain"] < 0.6 * min(by_kind["forward"], by_kind["reverse"])


def test_side_by_side_waists_are_eliminated():
    by_kind = {o.kind: o.multiplications for o in all_orders(graph_of(branches))}
    assert "chain" not in by_kind
    assert by_kind["vertices"] < 0.6 * min(by_kind["forward"], by_kind["reverse"])


def test_cuts_are_where_all_paths_go_through():
    graph = graph_of(lambda x: np.sin(x) * np.exp(np.sum(np.sin(x)) * x))
    assert cuts(graph) == []
    graph = graph_of(lambda x: np.exp(np.sum(np.sin(x) * x)))
    assert [graph.types[v].shape for v in cuts(graph)] == [(9,), ()]


def test_plan_prints_its_table_and_says_why():
    p = make_plan("jacobian", "waist", graph_of(waist), prepared=None, constants=CONSTANTS)
    text = str(p)
    assert text.startswith("jacobian of waist(f64[9])\n")
    assert sum(line.startswith("* ") for line in text.splitlines()) == 1
    assert f"{p.chosen.multiplications:,}" in text
    assert text.splitlines()[-1].startswith(p.chosen.name)


def test_plan_is_pickled_and_passed_back():
    p = pickle.loads(pickle.dumps(cr.plan(cr.jacobian(waist), X)))
    np.testing.assert_allclose(cr.jacobian(waist, plan=p)(X), cr.jacfwd(waist)(X), rtol=1e-12, atol=1e-14)
    assert cr.plan(cr.jacobian(waist, plan=p), X) == p
    # Another way through the function is planned anew.
    np.testing.assert_allclose(cr.jacobian(banded, plan=p)(X), cr.jacfwd(banded)(X), rtol=1e-12)


@pytest.mark.parametrize("transform", [cr.grad, cr.hvp, cr.hessian, lambda f: cr.hessian(f, sparse=True)])
def test_every_transform_has_a_plan(transform):
    f = lambda x: np.sum(waist(x) ** 2)
    args = (X, X) if transform is cr.hvp else (X,)
    p = cr.plan(transform(f), *args)
    assert p.chosen in p.orders
    assert p.chosen.multiplications > 0


def test_plan_refuses_other_functions():
    J = cr.jacobian(waist)
    for f in (waist, cr.vmap(J), cr.jvp):
        with pytest.raises(TypeError, match="plan takes what jacobian"):
            cr.plan(f, X)


def test_package_is_called_as_a_function_and_has_its_modules():
    import chainrule.plan.chain as module

    assert cr.plan.chain is module
    assert next(iter(inspect.signature(cr.plan).parameters)) == "transform"
    assert "cumulat" in cr.plan.__doc__
    assert cr.plan.elimination_order([("x", "v"), ("v", "y")], ["x"], ["y"], effort="fast") == (["v"], 1)


def test_hessian_by_plan_is_hessian():
    f = lambda x: np.sum(waist(x) ** 2) * np.sum(x)
    p = cr.plan(cr.hessian(f), X)
    np.testing.assert_allclose(cr.hessian(f, plan=p)(X), cr.hessian(f)(X), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(cr.hessian(f, memory="1 MB")(X), cr.hessian(f)(X), rtol=1e-11, atol=1e-13)


def test_auto_takes_the_cheapest_order_of_large_problems():
    a, b = RNG.normal(size=(3, 400)), RNG.normal(size=(400, 3))
    m = RNG.normal(size=(400, 400)) / 20
    f = lambda x: np.tanh(m @ (b @ np.sin(a @ np.tanh(m @ x))))
    x = RNG.normal(size=400)
    assert Accumulator().order(graph_of(f, x)).kind == "chain"
    np.testing.assert_allclose(cr.jacobian(f)(x), cr.jacrev(f)(x), rtol=1e-10, atol=1e-13)
    large = np.linspace(0, 1, 600)
    assert Accumulator().order(graph_of(lambda x: loop(np.sin(x)), np.linspace(0, 1, 1500))).kind == "compressed"
    np.testing.assert_allclose(cr.jacobian(loop)(large), cr.jacfwd(loop)(large), rtol=1e-12, atol=1e-14)


# ---- memory


def peak_of(work):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def deep(x):
    for k in range(20):
        x = np.sin(x * (1.0 + k))
    return np.cumsum(x)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_memory_limit_holds_under_measurement(mode):
    x = np.linspace(0, 1, 500)
    J, limited = cr.jacobian(deep, mode=mode), cr.jacobian(deep, mode=mode, memory="5 MB")
    np.testing.assert_allclose(limited(x), J(x), rtol=1e-12, atol=1e-14)
    assert peak_of(lambda: limited(x)) < 5e6
    assert "by" in str(cr.plan(limited, x))


def test_forward_mode_records_nothing_where_a_recording_does_not_fit():
    def f(x):
        for _ in range(100):
            x = np.sin(x)
        return x[:4]

    x = np.linspace(0, 1, 20_000)
    J = cr.jacobian(lambda x: f(x * np.ones(20_000)), memory="12 MB")
    assert peak_of(lambda: J(0.5)) < 12e6
    np.testing.assert_allclose(J(0.5), cr.jacobian(lambda x: f(x * np.ones(20_000)))(0.5))
    assert x.size == 20_000


def test_result_above_the_limit_is_refused():
    with pytest.raises(DifferentiationError, match="the Jacobian itself takes"):
        cr.jacobian(deep, memory="1 MB")(np.ones(1000))


def test_memory_texts():
    assert [parse_memory(m) for m in (None, 10, "10", "1kB", "2 MB", "1 GiB")] == [None, 10, 10, 1000, 2_000_000, 2**30]
    assert size_text(1.5e6) == "1.5 MB"
    with pytest.raises(ValueError, match="memory is"):
        parse_memory("lots")


@pytest.mark.parametrize("memory", [50, 100, 10_000])
def test_jacobians_of_nothing_keep_a_memory_limit(memory):
    x, nothing = np.ones(6), np.zeros((0, 3))
    np.testing.assert_array_equal(cr.jacobian(lambda x: 1.0, memory=memory)(x), np.zeros(6))
    assert cr.hessian(lambda x: np.sum(np.sum(x, 0) ** 2), memory=memory)(nothing).shape == (0, 3, 0, 3)
    assert cr.jacobian(lambda x: np.sum(x, 0), memory=memory)(nothing).shape == (3, 0, 3)


@pytest.mark.parametrize("options", [{"sparse": True}, {"sparse": "auto"}, {"memory": "1 MB"}, {}])
def test_hessian_of_complex_arguments_asks_whether_the_function_is_analytic(options):
    with pytest.raises(DifferentiationError, match="holomorphic"):
        cr.hessian(lambda z: np.sum(np.abs(z) ** 2), **options)(np.ones(3) + 1j)
