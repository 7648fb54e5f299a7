"""Native code agrees with the interpreter, for every primitive and for whole programs, written out as scalars and as loops."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.interpret import Interpreted
from chainrule.backends.llvm import partition
from chainrule.backends.llvm.native import Native
from chainrule.ir.primitive import ops
from chainrule.optimise import optimise

LAYOUTS = {"scalars": {}, "loops": {"UNROLLED_PROGRAM": 0, "SCALAR": 0}}


@pytest.fixture(params=LAYOUTS)
def layout(request, monkeypatch):
    for name, value in LAYOUTS[request.param].items():
        monkeypatch.setattr(partition, name, value)
    return request.param


def agree(f, args, rtol=1e-12, *, raw=False):
    """f(args) by native code, by the interpreter, and both again on other numbers of the same types."""
    program = cr.program(f)(*args)
    if not raw:
        program = optimise(program)
    native, reference = Native(program), Interpreted(program)
    leaves = [np.asarray(a)[()] for a in args]
    for xs in (leaves, leaves):
        found, wanted = native(xs), reference(xs)
        for a, b in zip(found, wanted, strict=True):
            assert type(a) is type(b)
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            np.testing.assert_allclose(
                a, b, rtol=rtol if a.dtype != np.float32 else 1e-5, atol=1e-13 if a.dtype != np.float32 else 1e-6
            )
    return native


@pytest.mark.parametrize("name", [p.name for p in ops if p.outputs == 1])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_primitive_agrees(name, dtype, layout):
    primitive = ops[name]
    if dtype == "float32" and layout == "scalars":
        pytest.skip("the same graphs as in loops")
    for args, params in primitive.samples():
        xs = [np.asarray(a) for a in args]
        xs = [x.astype(dtype) if x.dtype == np.float64 else x for x in xs]
        if dtype == "float32" and all(x.dtype != np.float32 for x in xs):
            continue
        with np.errstate(all="ignore"):
            agree(lambda *a, p=params: primitive(*a, **p), xs, raw=True)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def mixture(a, mu, L, x):
    d = x[:, None, :] - mu
    q = np.einsum("kij,nkj->nki", L, d)
    lp = a - 0.5 * np.sum(q * q, -1)
    m = np.max(lp, 1, keepdims=True)
    return np.sum(m[:, 0] + np.log(np.sum(np.exp(lp - m), 1)))


def network(w1, b1, w2, x):
    return np.mean((np.tanh(x @ w1 + b1) @ w2) ** 2)


def lorenz(x):
    for _ in range(4):
        x = x + 0.01 * (
            (np.concatenate([x[1:], x[:1]]) - np.concatenate([x[-2:], x[:-2]])) * np.concatenate([x[-1:], x[:-1]])
            - x
            + 8.0
        )
    return np.sum(x * x)


def observation(v):
    r, c, k, x, w = v[0:3], v[3:6], v[9:11], v[11:14], v[14]
    theta = np.sqrt(np.sum(r * r))
    n, p = r / theta, x - c
    cross = np.array([n[1] * p[2] - n[2] * p[1], n[2] * p[0] - n[0] * p[2], n[0] * p[1] - n[1] * p[0]])
    q = p * np.cos(theta) + cross * np.sin(theta) + n * (np.sum(n * p) * (1 - np.cos(theta)))
    xy = q[:2] / q[2]
    rs = np.sum(xy * xy)
    return w * (xy * (1 + k[0] * rs + k[1] * rs * rs) * v[6] + v[7:9])


def gathered(x, i):
    return np.sum(np.sin(x[i]) * x[i[::-1]])


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.3, 1.7, shape)


PROGRAMS = {
    "rosenbrock": (rosenbrock, (draw(37),)),
    "rosenbrock_gradient": (cr.value_and_grad(rosenbrock), (draw(37),)),
    "rosenbrock_gradient_large": (cr.value_and_grad(rosenbrock), (draw(1003),)),
    "rosenbrock_hessian": (cr.hessian(rosenbrock), (draw(9),)),
    "elementwise": (cr.value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(-(x**2)) + np.log(1 + x**2))), (draw(1001),)),
    "mixture": (cr.value_and_grad(mixture, (0, 1, 2)), (draw(5), draw(5, 2), draw(5, 2, 2), draw(33, 2))),
    "mixture_large": (cr.value_and_grad(mixture, (0, 1, 2)), (draw(25), draw(25, 10), draw(25, 10, 10), draw(100, 10))),
    "network": (cr.value_and_grad(network, (0, 1, 2)), (draw(4, 20), draw(20), draw(20, 3), draw(30, 4))),
    "lorenz": (cr.grad(lorenz), (draw(40),)),
    "observations": (cr.vmap(cr.jacobian(observation)), (draw(131, 15),)),
    "gathered": (cr.grad(gathered), (draw(50), np.arange(60) % 47)),
    "row_sums": (lambda x: np.sum(np.exp(x), 1) / np.max(x, 1), (draw(70, 90),)),
    "column_sums": (lambda x: np.sum(np.exp(x), 0) + np.min(x, 0), (draw(70, 90),)),
    "middle_sums": (lambda x: np.sum(x, 1) + np.max(x, (0, 2))[None, :5].sum(), (draw(20, 21, 22),)),
    "transposed": (lambda x: (x.T @ x)[:, :20] + np.exp(x.T)[:30, :20], (draw(30, 30),)),
    "branches": (lambda x: np.where(x > 1, np.sqrt(x), x[::-1]) - np.maximum(x, 0.9), (draw(200),)),
    "strides": (lambda x: x[::2] * x[1::2] + x[::-2], (draw(200),)),
    "reshapes": (lambda x: (np.sin(x).reshape(30, 40) * 2).reshape(40, 30)[3:, ::2].ravel(), (draw(1200),)),
    "integers": (lambda x: np.sum(x * x) + np.cumsum(x) % 7, (np.arange(100),)),
    "second_order": (cr.grad(lambda x: np.sum(cr.grad(rosenbrock)(x) ** 2)), (draw(300),)),
    "linear_algebra": (cr.grad(lambda a: np.log(np.sum(np.tanh(0.01 * a @ a.T + np.eye(20)) ** 2))), (draw(20, 20),)),
    "outer": (lambda x, y: np.outer(np.sin(x), y)[1:, :-1] + x[1:, None], (draw(100), draw(50))),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_programs_agree(name, dtype, layout):
    f, args = PROGRAMS[name]
    args = [a.astype(dtype) if a.dtype == np.float64 else a for a in args]
    if dtype == "float32" and name in ("rosenbrock_hessian", "second_order"):
        pytest.skip("sums of large numbers of opposite sign")
    with np.errstate(all="ignore"):
        program = optimise(cr.program(f)(*args))
        native, reference = Native(program), Interpreted(program)
        for found, wanted in zip(native(args), reference(args), strict=True):
            assert found.dtype == wanted.dtype
            scale = np.max(np.abs(wanted)) if np.size(wanted) else 1
            np.testing.assert_allclose(
                found,
                wanted,
                rtol=1e-10 if dtype == "float64" else 2e-3,
                atol=scale * (1e-13 if dtype == "float64" else 1e-5),
            )


def _random_program(rng):
    """A random composition of elementwise functions, moves and reductions on a few arrays."""
    n = int(rng.choice([3, 17, 64, 130]))

    def f(x, y):
        pool = [x, y, x * y]
        local = np.random.default_rng(seed)
        for _ in range(int(local.integers(3, 14))):
            a, b = (pool[int(local.integers(len(pool)))] for _ in range(2))
            k = int(local.integers(1, 3))
            choice = int(local.integers(12))
            new = [
                lambda: a + b, lambda: a * b - x, lambda: np.tanh(a), lambda: np.where(a > b, a, np.sin(b)),
                lambda: np.concatenate([a[k:], b[:k]]), lambda: a - np.sum(b) / n, lambda: a[::-1] * 0.5, lambda: np.maximum(a, b),
                lambda: np.sum(np.outer(a, b[:k]), 1) / k, lambda: np.reshape(np.stack([a, b]), (n, 2))[:, 0],
                lambda: a / (1 + b * b), lambda: np.concatenate([np.zeros(k), a[:-k]]),
            ][choice]()  # fmt: skip
            pool.append(new)
        return np.sum(pool[-1] * pool[-2]), pool[-1]

    seed = int(rng.integers(1 << 30))
    return f, (rng.normal(size=n), rng.normal(size=n))


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_and_their_gradients_agree(seed, layout):
    rng = np.random.default_rng(zlib.crc32(f"{seed}".encode()))
    f, args = _random_program(rng)
    agree(f, args, rtol=1e-9)
    agree(cr.grad(lambda x, y: f(x, y)[0], (0, 1)), args, rtol=1e-8)
