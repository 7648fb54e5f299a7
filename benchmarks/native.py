"""Compiled functions against JAX, PyTorch and autograd: the same formulas on the same inputs in one run, medians, one thread.

usage: python benchmarks/native.py [--seconds 0.5] [--torch-compile] [CASE ...]

Every peer's result is asserted to agree with ours to 1e-10 of its largest element. A time includes the call from Python. `compile`
is the first call's time less one run.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import chainrule as cr


class Peer(NamedTuple):
    """A library: its array namespace, from and to NumPy, and value-and-gradient, gradient and batched Jacobian, compiled."""

    name: str
    np: Any
    give: Callable[[Any], Any]
    take: Callable[[Any], Any]
    value_and_grad: Callable[..., Any]
    batched_jacobian: Callable[..., Any] | None = None


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


def cases() -> dict[str, tuple[Any, tuple[Any, ...], str]]:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(256, 256)) / 16, np.zeros(256), rng.normal(size=(256, 256)) / 16, np.zeros(256))
    scene = rng.uniform(0.1, 0.6, (204472, 15))
    scene[:, 13] += 4.0  # points in front of their cameras
    found: dict[str, tuple[Any, tuple[Any, ...], str]] = {
        "rosenbrock 1e1": (rosenbrock, (rng.normal(size=10),), "value and gradient"),
        "rosenbrock 1e3": (rosenbrock, (rng.normal(size=1000),), "value and gradient"),
        "rosenbrock 1e6": (rosenbrock, (rng.normal(size=10**6),), "value and gradient"),
        "smooth 1e3": (smooth, (rng.normal(size=1000),), "value and gradient"),
        "smooth 1e6": (smooth, (rng.normal(size=10**6),), "value and gradient"),
        "network": (network, (weights, rng.normal(size=(128, 256)), rng.normal(size=(128, 256))), "value and gradient"),
        "lorenz 500": (lorenz, (rng.normal(size=40),), "value and gradient"),
        "bundle 204472": (observation, (scene,), "jacobian"),
    }
    for d, k in ((2, 5), (10, 25), (20, 50), (64, 25)):
        p = (rng.normal(size=k), rng.normal(size=(k, d)), rng.normal(size=(k, d, d)) / d)
        found[f"mixture {d} {k}"] = (mixture, (p, rng.normal(size=(1000, d))), "value and gradient")
    return found


# ---- peers


def ours() -> Peer:
    return Peer(
        "chainrule",
        np,
        lambda x: x,
        lambda x: x,
        lambda f: cr.jit(cr.value_and_grad(f)),
        lambda f: cr.jit(cr.vmap(cr.jacobian(f))),
    )


def jax_peer() -> Peer:
    import jax

    jax.config.update("jax_enable_x64", True)

    def ready(f: Callable[..., Any]) -> Callable[..., Any]:
        compiled = jax.jit(f)
        return lambda *args: jax.block_until_ready(compiled(*args))

    def jacobian(f: Callable[..., Any]) -> Callable[..., Any]:
        return ready(jax.vmap(jax.jacrev(f)))

    return Peer("JAX", jax.numpy, jax.numpy.asarray, np.asarray, lambda f: ready(jax.value_and_grad(f)), jacobian)


class _TorchNames:
    """PyTorch under NumPy's names, as far as the formulas here use them."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.torch, {"concatenate": "cat"}.get(name, name))

    def sum(self, x: Any, axis: Any = None) -> Any:
        return self.torch.sum(x) if axis is None else self.torch.sum(x, axis)

    def max(self, x: Any, axis: int) -> Any:
        return self.torch.amax(x, axis)


def torch_peer(*, compiled: bool = False) -> Peer:
    import torch

    torch.set_num_threads(1)
    finish = torch.compile if compiled else (lambda f: f)

    def value_and_grad(f: Callable[..., Any]) -> Callable[..., Any]:
        def call(p: Any, *rest: Any) -> Any:
            leaves = [x.detach().requires_grad_() for x in (p if isinstance(p, tuple) else (p,))]
            y = staged(tuple(leaves) if isinstance(p, tuple) else leaves[0], *rest)
            grads = torch.autograd.grad(y, leaves)
            return y, grads if isinstance(p, tuple) else grads[0]

        staged = finish(f)
        return call

    def jacobian(f: Callable[..., Any]) -> Callable[..., Any]:
        return finish(torch.func.vmap(torch.func.jacrev(f)))

    name = "torch.compile" if compiled else "PyTorch"
    return Peer(name, _TorchNames(torch), torch.from_numpy, lambda x: x.detach().numpy(), value_and_grad, jacobian)


def autograd_peer() -> Peer:
    import autograd
    import autograd.numpy as anp

    return Peer("autograd", anp, lambda x: x, lambda x: x, autograd.value_and_grad)


def peers(with_compile: bool) -> Iterator[Peer]:
    for make in (jax_peer, torch_peer, *((lambda: torch_peer(compiled=True),) if with_compile else ()), autograd_peer):
        try:
            yield make()
        except ImportError:
            continue


# ---- the run


def mapped(f: Callable[[Any], Any], tree: Any) -> Any:
    return tuple(mapped(f, x) for x in tree) if isinstance(tree, tuple | list) else f(tree)


def leaves(tree: Any) -> list[Any]:
    return [y for x in tree for y in leaves(x)] if isinstance(tree, tuple | list) else [tree]


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


def measure(
    peer: Peer, formula: Any, args: tuple[Any, ...], what: str, seconds: float
) -> tuple[float, float, list[Any]] | None:
    """Median run, compile time, and the results as arrays; None where a peer cannot."""
    f = formula(peer.np)
    make = peer.value_and_grad if what == "value and gradient" else peer.batched_jacobian
    if make is None:
        return None
    given = mapped(peer.give, args)
    compiled = make(f)
    start = time.perf_counter()
    result = compiled(*given)
    first = time.perf_counter() - start
    run = median(lambda: compiled(*given), seconds)
    return run, max(first - run, 0.0), [np.asarray(peer.take(x)) for x in leaves(result)]


def agree(found: list[Any], wanted: list[Any], who: str) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(float(np.max(np.abs(b))), 1e-300), err_msg=who)


def text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on each measurement")
    parser.add_argument(
        "--torch-compile", action="store_true", help="with torch.compile (needs a C++ compiler; slow to compile)"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="words that a case's name begins with")
    options = parser.parse_args()
    others = list(peers(options.torch_compile))
    for name, (formula, args, what) in cases().items():
        if options.cases and not any(name.startswith(c) for c in options.cases):
            continue
        mine = measure(ours(), formula, args, what, options.seconds)
        assert mine is not None
        value = cr.jit(formula(np) if what == "value and gradient" else cr.vmap(formula(np)))
        value(*args)
        alone = median(lambda value=value, args=args: value(*args), options.seconds)  # type: ignore[misc]
        parts = [f"{name:16s} chainrule {text(mine[0]):>8} (compile {text(mine[1])}, {mine[0] / alone:.1f} x value)"]
        for peer in others:
            if peer.name != "chainrule" and name.startswith("lorenz") and peer.name in ("JAX", "torch.compile"):
                parts.append(f"{peer.name} not compiled: minutes")
                continue
            theirs = measure(peer, formula, args, what, options.seconds)
            if theirs is not None:
                agree(theirs[2], mine[2], f"{name}: {peer.name}")
                parts.append(f"{peer.name} {text(theirs[0])} ({text(theirs[1])})")
        print(" | ".join(parts), flush=True)


if __name__ == "__main__":
    main()
