"""Compiled functions against every peer of peers.py: the same formulas on the same inputs in one run, medians, one thread.

usage: python benchmarks/native.py [--seconds 0.5] [--peers JAX,PyTorch] [CASE ...]

Every peer's result is asserted to agree with ours to 1e-10 of its largest element. A time includes the call from Python. `compile`
is the first call's time less one run, nothing of which is taken from the disk.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["CHAINRULE_CACHE"] = "off"  # a compile time is the compiler's
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
from peers import Case, Chainrule, Peer, Skip, peers

import chainrule as cr


def rosenbrock(np):
    return lambda x: np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def smooth(np):
    return lambda x: np.sum(np.sin(x) * np.exp(-(x**2)) + np.log(1.0 + x**2))


def network(np):
    def f(p, x, y):
        w1, b1, w2, b2 = p
        return np.mean((np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2) - y) ** 2)

    return f


def lorenz(np, steps=500):
    def f(x):
        for _ in range(steps):
            ahead, behind = np.concatenate([x[1:], x[:1]]), np.concatenate([x[-1:], x[:-1]])
            x = x + 0.002 * (
                (ahead - np.concatenate([x[-2:], x[:-2]])) * behind - x + 8.0
            )  # longer steps amplify rounding
        return np.sum(x * x)

    return f


def observation(np):
    def f(v):
        r, c, k, x, w = v[0:3], v[3:6], v[9:11], v[11:14], v[14]
        theta = np.sqrt(np.sum(r * r))
        n, p = r / theta, x - c
        cross = np.stack([n[1] * p[2] - n[2] * p[1], n[2] * p[0] - n[0] * p[2], n[0] * p[1] - n[1] * p[0]])
        q = p * np.cos(theta) + cross * np.sin(theta) + n * (np.sum(n * p) * (1.0 - np.cos(theta)))
        xy = q[:2] / q[2]
        rs = np.sum(xy * xy)
        return w * (xy * (1.0 + k[0] * rs + k[1] * rs * rs) * v[6] + v[7:9])

    return f


def mixture(np):
    def f(p, x):
        a, mu, factor = p
        d = x[:, None, :] - mu
        q = np.einsum("kij,nkj->nki", factor, d)
        lp = a - 0.5 * np.sum(q * q, -1)
        top = np.max(lp, 1)
        return np.sum(top + np.log(np.sum(np.exp(lp - top[:, None]), 1)))

    return f


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(256, 256)) / 16, np.zeros(256), rng.normal(size=(256, 256)) / 16, np.zeros(256))
    scene = rng.uniform(0.1, 0.6, (204472, 15))
    scene[:, 13] += 4.0  # points in front of their cameras
    found = [
        Case("rosenbrock 1e1", "rosenbrock", rosenbrock, (rng.normal(size=10),)),
        Case("rosenbrock 1e3", "rosenbrock", rosenbrock, (rng.normal(size=1000),)),
        Case("rosenbrock 1e6", "rosenbrock", rosenbrock, (rng.normal(size=10**6),)),
        Case("smooth 1e3", "smooth", smooth, (rng.normal(size=1000),)),
        Case("smooth 1e6", "smooth", smooth, (rng.normal(size=10**6),)),
        Case("network", "network", network, (weights, rng.normal(size=(128, 256)), rng.normal(size=(128, 256)))),
        Case("lorenz 500", "lorenz", lorenz, (rng.normal(size=40),)),
        Case("bundle 204472", "bundle", observation, (scene,), jacobian=True),
    ]
    for n, d, k in ((1000, 2, 5), (1000, 10, 25), (1000, 20, 50), (1000, 64, 25), (10_000, 10, 25), (10_000, 32, 50)):
        p = (rng.normal(size=k), rng.normal(size=(k, d)), rng.normal(size=(k, d, d)) / d)
        found.append(Case(f"mixture {n} {d} {k}", "mixture", mixture, (p, rng.normal(size=(n, d)))))
    return found


# ---- the run


class Measured(NamedTuple):
    """Seconds of one call, of what came before the second, and the results."""

    run: float
    compile: float
    results: list[Any]


def median(call: Callable[[], object], seconds: float) -> float:
    """Seconds of one call: the median over rounds, each of so many calls that the clock does not matter."""
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-7)
    inner = max(1, int(1e-3 / once))
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        for _ in range(inner):
            call()
        times.append((time.perf_counter() - start) / inner)
    return statistics.median(times)


def measure(peer: Peer, case: Case, seconds: float) -> Measured:
    start = time.perf_counter()
    call = peer.prepare(case)
    returned = call()
    first = time.perf_counter() - start
    run = median(call, seconds)
    return Measured(run, max(first - run, 0.0), peer.results(returned))


def agree(found: list[Any], wanted: list[Any], who: str) -> None:
    assert len(found) == len(wanted), who
    for a, b in zip(found, wanted, strict=True):
        scale = max(float(np.max(np.abs(b))), 1e-300)
        np.testing.assert_allclose(np.reshape(a, np.shape(b)), b, rtol=1e-10, atol=1e-10 * scale, err_msg=who)


def text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def against(peer: Peer, case: Case, mine: Measured, seconds: float) -> tuple[str, Measured | None]:
    """What a peer takes, as text; its results agree with ours."""
    try:
        theirs = measure(peer, case, seconds)
    except Skip as reason:
        return f"{peer.name}: {reason}", None
    agree(theirs.results, mine.results, f"{case.name}: {peer.name}")
    return f"{peer.name} {text(theirs.run)} ({text(theirs.compile)})", theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on each measurement")
    parser.add_argument(
        "--peers", type=lambda names: names.split(","), default=[], help="names, with commas between; default all"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="words that a case's name begins with")
    options = parser.parse_args()
    others = list(peers(options.peers))
    ratios, compiles = [], []
    for case in cases():
        if options.cases and not any(case.name.startswith(c) for c in options.cases):
            continue
        mine = measure(Chainrule(), case, options.seconds)
        value = cr.jit(cr.vmap(case.formula(np)) if case.jacobian else case.formula(np))
        value(*case.args)
        alone = median(lambda value=value, case=case: value(*case.args), options.seconds)  # type: ignore[misc]
        ratios.append(mine.run / alone)
        print(
            f"{case.name:20s} chainrule {text(mine.run)} (compile {text(mine.compile)}; {ratios[-1]:.1f} x value)",
            flush=True,
        )
        for peer in others:
            line, theirs = against(peer, case, mine, options.seconds)
            ratio = f"{theirs.run / mine.run:8.2f} x" if theirs else " " * 10
            print(f"{'':20s} {ratio}  {line}", flush=True)
            if theirs and peer.name == "JAX":
                compiles.append(mine.compile / theirs.compile)
    print(f"median of t(value and derivative) / t(value): {statistics.median(ratios):.2f}")
    if compiles:
        print(f"median of our compile time / JAX's: {statistics.median(compiles):.2f}")


if __name__ == "__main__":
    main()
