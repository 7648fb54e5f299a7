"""A staged function among traced values: one compiled operation, with the derivatives of the function that it stands for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.transforms.joint import dependence, split

rng = np.random.default_rng(3)
X = rng.uniform(0.2, 0.9, 6)
A = rng.normal(size=(6, 6))


def close(found, wanted, rtol=1e-11):
    found, wanted = _leaves(found), _leaves(wanted)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert np.shape(f) == np.shape(w)
        assert np.asarray(f).dtype == np.asarray(w).dtype
        np.testing.assert_allclose(f, w, rtol=rtol, atol=1e-13)


def _leaves(x):
    if isinstance(x, dict):
        return [a for k in sorted(x) for a in _leaves(x[k])]
    if isinstance(x, tuple | list):
        return [a for y in x for a in _leaves(y)]
    return [] if x is None else [x]


def dot_product(x):
    return np.sum(x * np.sin(x[::-1]))


def chain(x):
    y = x
    for k in range(4):
        y = np.sin(y) * x + np.exp(-y * y) / (1 + k)
    return np.sum(y * y)


def dense(x):
    return np.sum(np.tanh(A @ np.tanh(A @ x)))


def norms(x):
    return np.linalg.norm(np.linalg.solve(A + 9 * np.eye(6), x)) + np.linalg.det(A[:2, :2] * x[0])


def lookup(x):
    return np.sum(x[np.array([0, 2, 2, -1])] ** 3) + np.sort(x)[2] * np.max(x)


def cumulative(x):
    return np.sum(np.cumsum(x * x)[1:] * np.cumprod(x)[:-1])


def branching(x):
    total = x[0]
    for k in range(1, 6):
        total = total * x[k] if x[k] > 0.5 else total + np.exp(x[k])
    return total


def trip(x):
    y = np.sum(x)
    while y < 20.0:
        y = y * 1.7 + x[0]
    return y


@cr.custom_jvp
def bent(x):
    return np.where(x > 0.5, x * x, x)


@bent.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    slope = 2 * x if np.sum(x) > 100 else np.where(x > 0.5, 2 * x, 1.0)  # branches on a value
    return bent(x), slope * t


def with_rule(x):
    return np.sum(bent(x) * x)


FUNCTIONS = [dot_product, chain, dense, norms, lookup, cumulative, branching, trip, with_rule]
TRANSFORMS = {
    "grad": lambda f: cr.grad(f)(X),
    "value_and_grad": lambda f: cr.value_and_grad(f)(X),
    "jvp": lambda f: cr.jvp(f, (X,), (X[::-1].copy(),)),
    "vjp": lambda f: cr.vjp(f, X)[1](2.5),
    "linearize": lambda f: cr.linearize(f, X)[1](X[::-1].copy()),
    "jacobian of grad": lambda f: cr.jacobian(cr.grad(f))(X),
    "jacfwd": lambda f: cr.jacfwd(f)(X),
    "jacrev": lambda f: cr.jacrev(lambda x: f(x) * x)(X),
    "hessian": lambda f: cr.hessian(f)(X),
    "hvp": lambda f: cr.hvp(f)(X, X[::-1].copy()),
    "grad of grad": lambda f: cr.grad(lambda x: np.sum(cr.grad(f)(x) ** 2))(X),
    "jvp of jvp": lambda f: cr.jvp(lambda x: cr.jvp(f, (x,), (x,))[1], (X,), (X,)),
    "third": lambda f: cr.jvp(cr.hvp(f), (X, X), (X, X))[1],
    "inside": lambda f: cr.grad(lambda x: np.sin(f(x * x)) * np.sum(x))(X),
    "twice": lambda f: cr.grad(lambda x: f(x) * f(x + 0.01))(X),
    "jit outside": lambda f: cr.jit(cr.grad(lambda x: f(x) ** 2))(X),
    "grad of jit of grad": lambda f: cr.grad(lambda x: np.sum(cr.jit(cr.grad(f))(x) * x))(X),
    "sparse": lambda f: cr.jacobian(lambda x: f(x) * x, sparse=True)(X).toarray(),
    "pattern": lambda f: cr.pattern(lambda x: f(x) * x)(X).toarray(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_staged_function_has_the_derivatives_of_the_function(f, name):
    transform = TRANSFORMS[name]
    # The program is the same for every backend; native code is for the transformations that are used most.
    staged = cr.jit(f, backend="llvm" if name in ("grad", "jvp", "hessian") else "numpy")
    within = lambda *args: staged(*args)  # the derivative of a function that calls a staged one
    for _ in range(2):
        close(transform(within), transform(f))


@pytest.mark.parametrize("f", [dot_product, chain, dense, lookup, cumulative, with_rule], ids=lambda f: f.__name__)
def test_batches_of_a_staged_function(f):
    batch = np.stack([X, X[::-1], 0.5 * X])
    loop = lambda g: np.stack([g(x) for x in batch])
    for staged in (cr.jit(f), cr.jit(f, backend="numpy")):
        close(cr.vmap(staged)(batch), loop(f))
        if f is with_rule:
            continue  # its rule branches on values, which a batch cannot decide
        close(cr.vmap(cr.grad(staged))(batch), loop(cr.grad(f)))
        close(cr.grad(lambda b: np.sum(cr.vmap(staged)(b)))(batch), loop(cr.grad(f)))
        if staged.backend == "llvm":
            continue
        close(cr.vmap(cr.hessian(staged))(batch), loop(cr.hessian(f)))
        close(cr.vmap(staged, in_axes=1)(batch.T.copy()), loop(f))
        close(cr.vmap(cr.vmap(staged))(np.stack([batch, batch])), np.stack([loop(f), loop(f)]))
        close(cr.vmap(lambda x, y: staged(x) * staged(y), in_axes=(0, None))(batch, X), loop(f) * f(X))
        close(cr.vmap(staged)(batch[:0]), np.zeros(0))
        close(cr.vmap(staged)(batch[:2]), loop(f)[:2])


def test_it_runs_compiled_and_not_the_python_function():
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(np.sin(x) * x)

    staged = cr.jit(f)
    slope = lambda x: cr.grad(lambda y: staged(y) * 2)(x)
    for _ in range(3):
        close(slope(X), 2 * cr.grad(lambda x: np.sum(np.sin(x) * x))(X))
    cr.jvp(lambda y: staged(y) * 2, (X,), (X,))
    cr.vmap(lambda y: staged(y) * 2)(np.stack([X, X]))
    staged(X)
    assert len(calls) == 1
    for _ in range(3):  # staged as a whole, and so recorded once more each
        cr.jvp(staged, (X,), (X,))
        cr.vmap(staged)(np.stack([X, X]))
    assert len(calls) == 3


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_derivatives_of_a_staged_function_are_staged_as_a_whole(f):
    staged = cr.jit(f, backend="numpy")
    for transform in (cr.grad, cr.value_and_grad, cr.jacobian, cr.hessian):
        derivative = transform(staged)
        assert derivative is transform(staged)
        for x in (X, 0.9 * X):
            close(derivative(x), transform(f)(x))
        assert type(derivative) is type(staged)
    close(cr.grad(lambda x: np.sum(cr.grad(staged)(x) ** 2))(X), cr.grad(lambda x: np.sum(cr.grad(f)(x) ** 2))(X))
    for transform in (cr.hvp, lambda g: cr.vmap(g, in_axes=1)):
        whole = transform(staged)
        assert whole is transform(staged)
        assert type(whole) is type(staged)
    xs = np.stack([X, 0.9 * X])
    for _ in range(2):
        close(cr.hvp(staged)(X, 0.5 * X), cr.hvp(f)(X, 0.5 * X))
        if f not in (branching, trip):
            close(cr.vmap(staged, 1)(xs.T.copy()), np.stack([f(x) for x in xs]))
            close(cr.vmap(staged, in_axes=[0])(xs), np.stack([f(x) for x in xs]))
        close(cr.jvp(staged, [X], [0.5 * X])[1], cr.jvp(f, (X,), (0.5 * X,))[1])


def test_transforms_that_take_other_arguments_leave_static_ones_to_the_function():
    calls = []

    def f(x, n):
        calls.append(type(n))
        return np.sum(x**n)

    staged = cr.jit(f, static_argnums=1)
    xs = np.stack([X, 2 * X])
    close(cr.vmap(lambda x: staged(x, 2))(xs), np.array([f(x, 2) for x in xs]))
    close(cr.vmap(staged, (0, None))(xs, 3), np.array([f(x, 3) for x in xs]))
    close(cr.vmap(cr.jit(lambda p: p["a"] * p["b"]), ({"a": 0, "b": None},))({"a": xs, "b": X}), xs * X)
    close(cr.hvp(staged)(X, X, 3), 6 * X * X)
    assert set(calls) <= {int, np.int64}


def test_operations_by_staged_functions_take_arguments_of_every_kind():
    f = lambda x, y: np.sin(x) * y
    staged = cr.jit(f)
    g, h = (cr.grad(lambda x, y, f=f: np.sum(f(x, y) * 2.0)) for f in (staged, f))
    wide = np.linspace(0.0, 1.0, 12)
    for x in (
        X,
        wide[:: 12 // len(X)][: len(X)],
        X[::-1],
        X.astype(np.float32),
        np.asfortranarray(np.outer(X, X)),
        0.5,
    ):
        for y in (2.0, np.float64(3.0), np.float32(2.0), 2, np.array(0.5)):
            for _ in range(3):
                close(g(x, y), h(x, y))
                assert g(x, y).dtype == h(x, y).dtype


def test_staged_derivatives_keep_the_semantics():
    scale = [2.0]
    staged = cr.jit(lambda p, n: scale[0] * np.sum(p["a"] ** n), static_argnames="n")
    close(cr.grad(staged)({"a": X}, n=2), {"a": 4 * X})
    scale[0] = 3.0
    close(cr.grad(staged)({"a": X}, n=2), {"a": 4 * X})
    staged.clear()
    close(cr.grad(staged)({"a": X}, n=2), {"a": 6 * X})
    close(cr.jacobian(staged, mode="reverse")({"a": X}, 3), {"a": 9 * X**2})
    with pytest.raises(cr.IntegerInput, match="integers"):
        cr.grad(cr.jit(lambda x: x * x))(2)
    with pytest.raises(cr.DifferentiationError, match="scalar output"):
        cr.grad(cr.jit(lambda x: x * x))(X)
    assert cr.grad(cr.jit(lambda x: (x * x, np.sin(x))), has_aux=True)(2.0) == (4.0, np.sin(2.0))
    assert cr.jacobian(cr.jit(lambda x: x[1:] * x[:-1]), sparse=True)(X).nnz == 10
    two = cr.jit(lambda x, y: np.sum(x * y**2))
    close(cr.grad(two, (1, 0))(X, 2 * X), (4 * X * X, 4 * X**2))
    assert "jit" not in str(cr.plan(cr.grad(two), X, X))


def test_elimination_sees_inside():
    slope = lambda f: cr.jacobian(lambda x: f(x) * x[:2], mode="elimination")(X)
    close(slope(cr.jit(dot_product)), slope(dot_product))


def test_one_operation_on_the_tape():
    from chainrule.transforms.reverse import record

    staged = cr.jit(chain)
    tape = record(lambda xs: [staged(xs[0])], [X])[0]
    assert [n.primitive.name for n in tape.nodes if n.primitive is not None] == ["custom_call"]


def test_guards_are_checked_in_every_mode():
    signs = [np.where(rng.uniform(size=6) > 0.5, 0.7, 0.3) for _ in range(6)]
    staged = cr.jit(branching)
    for x in signs:
        close(cr.grad(staged)(x), cr.grad(branching)(x))
        close(cr.jvp(staged, (x,), (X,)), cr.jvp(branching, (x,), (X,)))
        close(cr.hessian(staged)(x), cr.hessian(branching)(x))
        close(staged(x), branching(x))
    assert len(staged.known(X).paths) <= 7


def test_a_batch_that_cannot_decide_says_so():
    staged = cr.jit(branching)
    staged(X)
    with pytest.raises(cr.TraceError, match=r"batched.*\n.*np\.where"):
        cr.vmap(staged)(np.stack([X, X]))
    n = cr.jit(lambda x, k: x * 2 if k > 0 else x)
    close(cr.vmap(n, in_axes=(0, None))(X, 1.0), 2 * X)


def test_beyond_the_paths_it_runs_eagerly_under_derivatives():
    def f(x):
        for _ in range(int(x[0])):
            x = x * 1.5
        return np.sum(x)

    staged = cr.jit(f)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(20):
            x = np.array([k + 0.5, 2.0])
            close(cr.grad(staged)(x), cr.grad(f)(x))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert caught[0].filename == __file__


def test_trees_statics_integers_and_keywords():
    def f(p, n, k, *, scale=1.0):
        y = p["a"][k] * scale + np.sum(p["b"][0]) ** n
        return {"loss": np.sum(y * y), "more": (p["a"] * 2, k + 1, np.argmax(p["a"]), p["b"][0] > 0.4, 7)}

    p = {"a": X, "b": [X[:2] * 2, None]}
    staged = cr.jit(f, static_argnums=1, backend="numpy")
    k = np.array([1, 3])
    for g in (
        lambda h: cr.grad(lambda p: h(p, 2, k, scale=3.0)["loss"])(p),
        lambda h: cr.jvp(lambda p: h(p, 3, k), (p,), (p,)),
        lambda h: cr.grad(lambda p: np.sum(h(p, 2, k)["more"][0] ** 2))(p)["a"],
        lambda h: cr.grad(lambda s: h(p, 2, k, scale=s)["loss"])(1.5),
    ):
        for _ in range(2):
            close(g(staged), g(f))


def test_what_carries_no_derivative_is_plain():
    staged = cr.jit(lambda x, y: (np.argmax(x), x > 0.5, np.floor(x), cr.stop_gradient(x), np.sum(y), 3.0, x * 2))
    seen = []

    def f(x):
        seen.append(staged(x, X))
        return np.sum(seen[-1][-1] * seen[-1][1])

    close(cr.grad(f)(X), 2.0 * (X > 0.5))
    assert all(isinstance(v, np.ndarray | np.generic) for v in seen[0][:-1])
    assert int(seen[0][0]) == np.argmax(X)


def test_strong_zeros_and_kinks():
    f = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)) + np.sum(np.abs(x)) + np.max(x) * np.linalg.norm(0 * x)
    x = np.array([0.0, 4.0, 4.0, 0.0])
    for staged in (cr.jit(f), cr.jit(f, backend="numpy")):
        close(cr.grad(staged)(x), cr.grad(f)(x))
        close(cr.vmap(cr.grad(staged))(np.stack([x, x + 1])), np.stack([cr.grad(f)(x), cr.grad(f)(x + 1)]))
    root = cr.jit(np.sqrt)
    close(cr.grad(lambda x: root(x) * 0.0)(0.0), np.float64(0.0))
    two = cr.jit(lambda x: (np.sqrt(x), x))
    close(cr.grad(lambda x: two(x)[1])(0.0), np.float64(1.0))


def test_single_precision_and_complex():
    x = X.astype(np.float32)
    close(cr.grad(cr.jit(chain))(x), cr.grad(chain)(x), rtol=1e-5)
    f = lambda z: np.sum(np.abs(z * np.exp(1j * z)) ** 2)
    z = X + 1j * X[::-1]
    close(cr.grad(cr.jit(f))(z), cr.grad(f)(z))
    close(cr.jvp(cr.jit(f), (z,), (z,)), cr.jvp(f, (z,), (z,)))
    mixed = lambda x: np.sum(np.real(np.fft.ifft(np.fft.fft(x) ** 2)))
    close(cr.grad(cr.jit(mixed))(X), cr.grad(mixed)(X))


def test_closures_over_outer_traced_values():
    def f(x):
        inner = cr.jit(lambda y: np.sum(y * x) * np.sum(np.sin(x)))
        return inner(x * x) + inner(x)

    def g(x):
        inner = lambda y: np.sum(y * x) * np.sum(np.sin(x))
        return inner(x * x) + inner(x)

    for transform in (cr.grad, cr.hessian, lambda f: lambda x: cr.jvp(f, (x,), (x,)), lambda f: cr.jit(cr.grad(f))):
        close(transform(f)(X), transform(g)(X))
    close(cr.vmap(f)(np.stack([X, X])), np.array([g(X), g(X)]))


def test_variables():
    staged = cr.jit(chain)
    w, v = cr.variable(X), cr.variable(X)
    (staged(w) * 2).backward()
    (chain(v) * 2).backward()
    close(w.grad, v.grad)


def test_an_index_out_of_range_names_the_line_of_the_function():
    def f(x, i):
        return np.sum(np.sin(x[i]) ** 2)

    staged = cr.jit(f)
    good, bad = np.array([0, -6, 5]), np.array([0, 6])
    close(cr.grad(staged)(X, good), cr.grad(f)(X, good))
    cr.grad(staged)(X, good[:2])
    line = rf"out of bounds.*test_carrier\.py:{f.__code__.co_firstlineno + 1}\b"
    with pytest.raises(IndexError, match=line):
        cr.grad(staged)(X, bad)
    cr.vmap(cr.grad(staged), in_axes=(None, 0))(X, np.stack([good[:2], good[1:]]))
    with pytest.raises(IndexError, match=line):
        cr.vmap(cr.grad(staged), in_axes=(None, 0))(X, np.stack([good[:2], bad]))
    close(cr.grad(staged)(X, good), cr.grad(f)(X, good))


def test_errors_of_the_function_are_its_own():
    def f(x):
        if x[0] > 0.9:
            raise ValueError("too large")
        return np.sum(x)

    staged = cr.jit(f)
    close(cr.grad(staged)(X * 0.5), np.ones(6))
    with pytest.raises(ValueError, match="too large"):
        cr.grad(staged)(X + 1)
    with pytest.raises(cr.MissingRule, match=r"nextafter.*test_carrier\.py"):
        cr.grad(cr.jit(lambda x: np.sum(np.nextafter(x, 1.0))))(X)


def test_odd_memory():
    staged = cr.jit(chain)
    for make in (
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x[::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype),
        lambda x: np.broadcast_to(x[0], 6),
    ):
        x = make(X)
        np.testing.assert_allclose(cr.grad(staged)(x), cr.grad(chain)(np.array(x, float)), rtol=1e-12)


def test_gradients_are_the_callers_own():
    staged = cr.jit(lambda x: (np.exp(x), x))
    _, pullback = cr.vjp(staged, X)
    first = pullback((np.ones(6), np.ones(6)))[0]
    wanted = first.copy()
    first += 1
    close(pullback((np.ones(6), np.ones(6)))[0], wanted)


# ---- the cut between values and derivatives


def _joint(f, x):
    from chainrule.optimise import optimise
    from chainrule.transforms.joint import pulled

    program = cr.program(f)(x)
    return optimise(pulled(program, [True], [True], [x]))


@pytest.mark.parametrize("n", [6, 3000])
@pytest.mark.parametrize("f", [dot_product, chain, cumulative], ids=lambda f: f.__name__)
def test_the_two_parts_compute_what_the_whole_does(f, n):
    x = rng.uniform(0.2, 0.9, n)
    joint = _joint(f, x)
    forward, linear, args, residuals = split(joint, 1, 1)
    forward.check(), linear.check()
    outs = forward(x)
    found = linear(*(x for _ in args), *(outs[k] for k in residuals), np.float64(1.0))
    value, gradient = joint(x, np.float64(1.0))
    close(outs[0], value)
    close(found[0], gradient)


def test_light_values_are_computed_again_and_dear_ones_kept():
    x = rng.uniform(0.2, 0.9, 50_000)
    assert split(_joint(lambda x: np.sum((x * 2 + 1) ** 2), x), 1, 1).residuals == ()
    product = rng.normal(size=(300, 300))
    kept = split(_joint(lambda x: np.sum(np.tanh(product @ x) ** 2), x[:300]), 1, 1)
    assert [kept.forward.outputs[k].type.shape for k in kept.residuals] == [(300,)]


def test_dependence_goes_through_what_has_derivatives():
    program = cr.program(lambda x, y: (x * y, np.floor(x) + y, x > 0, cr.stop_gradient(x), y))(X, X)
    assert dependence(program) == [3, 2, 0, 0, 2]


def test_recording_inlines():
    inner = cr.jit(chain)
    program = cr.program(lambda x: inner(x) * 2)(X)
    assert "custom_call" not in str(program)
    assert any(e.origin.function == "chain" for e in program.equations)
