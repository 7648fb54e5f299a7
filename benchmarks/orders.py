"""Accumulation orders: what the automatic choice costs beside each fixed one, and sparse derivatives beside asdex, CasADi and
blocks of one observation at a time.

python benchmarks/orders.py [--small]

Medians of repeated runs on one thread of BLAS (set OPENBLAS_NUM_THREADS=1). Peers that are not installed are left out. All rows of
one table agree to 1e-10 before they are timed.
"""

import sys
import time
from functools import partial
from itertools import pairwise

import numpy as np

import chainrule as cr
from chainrule.plan.chain import ChainMap, bracket_chain

SMALL = "--small" in sys.argv
RNG = np.random.default_rng(0)


def timed(work, least=0.3):
    """The median time of some runs, in milliseconds."""
    work()
    times, began = [], time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - began < least and len(times) < 200):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return np.median(times) * 1e3


# ---- sparse


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bratu(u):
    n = round(u.size**0.5)
    v = np.pad(u.reshape(n, n), 1)
    laplacian = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2] - 4 * v[1:-1, 1:-1]
    return (laplacian + np.exp(v[1:-1, 1:-1]) / (n + 1) ** 2).ravel()


def sparse():
    n = 2_500 if SMALL else 40_000
    x = np.linspace(0.1, 1.1, n)
    print(f"\nsparse derivatives, n = {n:,}{'prepare':>24}{'evaluate':>12}   (ms)")
    rows = (("Hessian of chained Rosenbrock", cr.hessian, rosenbrock), ("Jacobian of 2-D Bratu", cr.jacobian, bratu))
    for name, transform, f in rows:
        cr.jit(transform(f, sparse=True))(x[:16])  # what loads once a process is no part of preparing
        expected = None
        for peer, prepare in (("eager", ours), ("jit", ours_staged), ("asdex", asdex_peer), ("CasADi", casadi_peer)):
            start = time.perf_counter()
            try:
                evaluate, result = prepare(transform, f, x)
            except ImportError:
                continue
            prepared = (time.perf_counter() - start) * 1e3
            expected = result if expected is None else expected
            assert abs(result - expected).max() < 1e-10 * abs(expected).max()
            print(f"{name:<34}{peer:<8}{prepared:>8.1f}{timed(evaluate):>12.3f}")


def ours(transform, f, x):
    derivative = transform(f, sparse=True)
    return (lambda: derivative(x)), derivative(x)


def ours_staged(transform, f, x):
    staged = cr.jit(transform(f, sparse=True))
    return (lambda: staged(x)), staged(x)


def asdex_peer(transform, f, x):
    import asdex
    import jax
    import jax.numpy as jnp
    from scipy.sparse import csr_array

    jax.config.update("jax_enable_x64", True)
    as_jax = {rosenbrock: lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), bratu: bratu_jax}[f]
    make = asdex.hessian if transform is cr.hessian else asdex.jacobian
    xj = jnp.asarray(x)
    derivative = jax.jit(make(as_jax, xj))
    found = derivative(xj)
    data, places = np.asarray(found.data), np.asarray(found.indices)
    return (lambda: derivative(xj).data.block_until_ready()), csr_array((data, places.T), shape=found.shape)


def bratu_jax(u):
    import jax.numpy as jnp

    n = round(u.size**0.5)
    v = jnp.pad(u.reshape(n, n), 1)
    laplacian = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2] - 4 * v[1:-1, 1:-1]
    return (laplacian + jnp.exp(v[1:-1, 1:-1]) / (n + 1) ** 2).ravel()


def casadi_peer(transform, f, x):
    import casadi
    from scipy.sparse import csr_array

    if f is not rosenbrock:
        raise ImportError("written for one problem")
    v = casadi.MX.sym("x", len(x))
    y = casadi.sumsqr(10 * (v[1:] - v[:-1] ** 2)) + casadi.sumsqr(1 - v[:-1])
    derivative = casadi.Function("H", [v], [casadi.hessian(y, v)[0]])
    return (lambda: derivative(x)), csr_array(derivative(x).sparse())


# ---- many observations


def projected(cameras, points):
    """Rodrigues' rotation, translation, projection and radial distortion, an observation a row."""
    angle = np.sqrt(np.sum(cameras[:, :3] ** 2, axis=1, keepdims=True))
    axis = cameras[:, :3] / angle
    along = np.sum(axis * points, axis=1, keepdims=True)
    turned = points * np.cos(angle) + np.cross(axis, points) * np.sin(angle) + axis * along * (1 - np.cos(angle))
    seen = turned + cameras[:, 3:6]
    flat = -seen[:, :2] / seen[:, 2:3]
    radius = np.sum(flat**2, axis=1, keepdims=True)
    return cameras[:, 6:7] * (1 + cameras[:, 7:8] * radius + cameras[:, 8:9] * radius**2) * flat


def observations():
    """The sparse Jacobian of plainly vectorised residuals beside the blocks of one observation at a time."""
    count = 2_000 if SMALL else 20_000
    camera, point = RNG.integers(0, 50, count), RNG.integers(0, 4_000, count)
    cameras = RNG.normal(0, 0.1, (50, 9)) + np.array([0, 0, 0, 0, 0, -8, 500, 0.01, 0.001])
    points = RNG.standard_normal((4_000, 3))

    def residuals(cameras, points):
        return projected(cameras[camera], points[point]).ravel()

    def one(camera, point):
        return projected(camera[None], point[None])[0]

    start = time.perf_counter()
    whole = cr.jit(cr.jacobian(residuals, (0, 1), sparse=True))
    found = whole(cameras, points)
    prepared = (time.perf_counter() - start) * 1e3
    blocks = cr.jit(cr.vmap(cr.jacobian(one, (0, 1))))
    rows = cameras[camera], points[point]
    by_camera, _ = blocks(*rows)
    np.testing.assert_allclose(found[6:8, 9 * camera[3] : 9 * camera[3] + 9].toarray(), by_camera[3], rtol=1e-10)
    one_by_one, together = timed(lambda: blocks(*rows)), timed(lambda: whole(cameras, points))
    print(f"\nbundle adjustment, {count:,} observations   (ns an observation)")
    print(f"sparse Jacobian, plainly vectorised{together / count * 1e6:>10.1f}     prepared in {prepared:.0f} ms")
    print(f"blocks, jit(vmap(jacobian(one))){one_by_one / count * 1e6:>13.1f}")


# ---- one Jacobian, every order


def autoencoder(n, waist=10, layers=3):
    """n -> `layers` tanh layers of n -> waist -> `layers` of n -> n, and its Jacobian as one would write it by hand."""
    draw = lambda m, k: RNG.standard_normal((m, k)) / np.sqrt(k)
    first, second = [draw(n, n) for _ in range(layers)], [draw(n, n) for _ in range(layers)]
    down, up = draw(waist, n), draw(n, waist)

    def f(x):
        for w in (*first, down, up, *second):
            x = np.tanh(w @ x)
        return x

    def by_hand(x):
        slopes, values = [], x
        for w in (*first, down, up, *second):
            values = np.tanh(w @ values)
            slopes.append(1 - values * values)
        rows = slopes[layers][:, None] * down
        for w, d in zip(reversed(first), reversed(slopes[:layers]), strict=True):
            rows = (rows * d) @ w
        columns = slopes[layers + 1][:, None] * up
        for w, d in zip(second, slopes[layers + 2 :], strict=True):
            columns = d[:, None] * (w @ columns)
        return columns @ rows

    return f, by_hand


def arm(q):
    x, y, z = 0.0, 0.0, 1.0
    for k in range(6):
        c, s = np.cos(q[k]), np.sin(q[k])
        x, y, z = c * x - s * z + 0.1, y + 0.3 * x, s * x + c * z
    return np.array([x, y, z])


def problems():
    n = 200 if SMALL else 1000
    f, by_hand = autoencoder(n)
    yield "autoencoder", f, RNG.standard_normal(n), by_hand
    wide = RNG.standard_normal((300, 60))
    yield "60 inputs to 300", lambda x: np.tanh(wide @ np.sin(x)), RNG.standard_normal(60), None
    yield "300 inputs to 60", lambda x: np.tanh(wide.T @ np.sin(x)), RNG.standard_normal(300), None
    yield (
        "banded, dense result",
        lambda x: np.sin(x[1:]) * x[:-1] ** 2,
        RNG.standard_normal(400 if SMALL else 1500),
        None,
    )
    yield "2-D Bratu, dense result", bratu, RNG.standard_normal(400 if SMALL else 1600), None
    yield "robot arm", arm, RNG.standard_normal(6), None


def choices():
    print(f"\n{'Jacobian':<26}{'auto':>10}{'forward':>10}{'reverse':>10}{'by hand':>10}{'auto/best':>11}   (ms)  order")
    for name, f, x, by_hand in problems():
        modes = {m: cr.jit(cr.jacobian(f, mode=m)) for m in ("auto", "forward", "reverse")}
        expected = modes["reverse"](x)
        work = modes if by_hand is None else {**modes, "by hand": by_hand}
        for run in work.values():
            np.testing.assert_allclose(run(x), expected, rtol=1e-10, atol=1e-10)
        ms = {m: timed(partial(run, x)) for m, run in work.items()}
        best = min(t for m, t in ms.items() if m != "auto")
        cells = "".join(
            f"{ms[m]:>10.3f}" if m in ms else f"{'':>10}" for m in ("auto", "forward", "reverse", "by hand")
        )
        print(f"{name:<26}{cells}{ms['auto'] / best:>11.2f}         {cr.plan(cr.jacobian(f), x).chosen.kind}")


def batched():
    count = 1_000 if SMALL else 10_000
    qs = RNG.standard_normal((count, 6))
    print(f"\nvmap(jacobian(robot arm)) under jit, {count:,} instances   (ms)")
    for mode in ("auto", "forward", "reverse", "elimination"):
        staged = cr.jit(cr.vmap(cr.jacobian(arm, mode=mode)))
        np.testing.assert_allclose(staged(qs), cr.vmap(cr.jacfwd(arm))(qs), rtol=1e-10, atol=1e-12)
        print(f"{mode:<14}{timed(partial(staged, qs)):>10.3f}")


def chains():
    print("\nrandom dense chains, widths 5-50: multiplications of the better pure mode over those of the bracketing")
    for length in (10, 50):
        ratios = []
        for _ in range(100):
            widths = RNG.integers(5, 51, length + 1).tolist()
            plan = bracket_chain([ChainMap.dense(n, m) for n, m in pairwise(widths)])
            ratios.append(min(plan.tangent, plan.adjoint) / plan.cost)
        print(f"{length:>4} maps: median {np.median(ratios):.2f} times fewer")


if __name__ == "__main__":
    sparse()
    observations()
    choices()
    batched()
    chains()
