"""Eager derivatives against autograd, PyTorch and JAX: one run, the same inputs, agreement to 1e-10 asserted.

    python benchmarks/eager.py [--quick] [CASE ...]

Each case is written once, in terms of a namespace: NumPy for chainrule, autograd.numpy for autograd, torch for PyTorch's eager
mode, jax.numpy for JAX without jit. Printed are the least and the median time of value and gradient together, over turns that
the contestants take in one process, in seconds of the processor. Contestants that are not installed are left out.
"""

import argparse
import gc
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402 - after the number of threads is set

import chainrule as cr  # noqa: E402

AGREEMENT = 1e-10
Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A function of (namespace, *arguments), differentiated in the first `wrt` arguments; the others are constants."""

    name: str
    function: Function
    arguments: tuple[Any, ...]
    wrt: int = 1

    @property
    def argnums(self) -> int | tuple[int, ...]:
        """The differentiated arguments as a user would name them: a sole one by its number."""
        return 0 if self.wrt == 1 else tuple(range(self.wrt))


# ---- the cases


def rosenbrock(xp, x):
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def network(xp, w1, b1, w2, b2, w3, b3, images, wanted):
    h = xp.tanh(xp.matmul(images, w1) + b1)
    h = xp.tanh(xp.matmul(h, w2) + b2)
    scores = xp.matmul(h, w3) + b3
    total = xp.log(xp.sum(xp.exp(scores), 1))
    return xp.mean(total - xp.sum(scores * wanted, 1))


def mixture(xp, logits, means, spreads, points):
    """Minus the log-likelihood of a mixture of Gaussians with diagonal covariance."""
    scaled = (points[:, None, :] - means) * xp.exp(-spreads)
    logs = logits - 0.5 * xp.sum(scaled**2, 2) - xp.sum(spreads, 1)
    return -xp.sum(xp.log(xp.sum(xp.exp(logs), 1))) + len(points) * xp.log(xp.sum(xp.exp(logits)))


def logistic_regression(xp, w, x, y):
    margins = y * xp.matmul(x, w)
    return xp.mean(xp.log1p(xp.exp(-margins))) + 1e-3 * xp.sum(w**2)


def lorenz(xp, x, steps=20):
    """The energy after some steps of Lorenz 96, by the midpoint rule in a plain loop."""

    def velocity(x):
        ahead = xp.concatenate((x[1:], x[:1]))
        behind = xp.concatenate((x[-1:], x[:-1]))
        before = xp.concatenate((x[-2:], x[:-2]))
        return (ahead - before) * behind - x + 8.0

    for _ in range(steps):
        x = x + 0.01 * velocity(x + 0.005 * velocity(x))
    return xp.sum(x**2)


def cases() -> list[Case]:
    rng = np.random.default_rng(0)

    def draw(*shape, size=1.0):
        return size * rng.normal(size=shape)

    widths = (784, 256, 256, 10)
    layers: list[Any] = []
    for n, m in pairwise(widths):
        layers += [draw(n, m, size=n**-0.5), np.zeros(m)]
    wanted = np.eye(10)[rng.integers(10, size=128)]
    signs = rng.choice((-1.0, 1.0), 500)
    return [
        Case("Rosenbrock, 10 variables", rosenbrock, (draw(10),)),
        Case("network 784-256-256-10, batch 128", network, (*layers, draw(128, 784), wanted), len(layers)),
        Case(
            "mixture of 10 Gaussians, 500 x 5", mixture, (draw(10), draw(10, 5), draw(10, 5, size=0.1), draw(500, 5)), 3
        ),
        Case("logistic regression, 500 x 50", logistic_regression, (draw(50, size=0.1), draw(500, 50), signs)),
        Case("Lorenz 96, 40 variables, 20 steps", lorenz, (8 + draw(40, size=0.01),)),
    ]


# ---- the contestants: case -> a function without arguments that gives (value, gradients)


def with_chainrule(case: Case) -> Function:
    both = cr.value_and_grad(lambda *a: case.function(np, *a), case.argnums)
    return lambda: both(*case.arguments)


def with_autograd(case: Case) -> Function:
    import autograd
    import autograd.numpy as anp

    both = autograd.value_and_grad(lambda *a: case.function(anp, *a), case.argnums)
    return lambda: both(*case.arguments)


def with_torch(case: Case) -> Function:
    import torch

    torch.set_num_threads(1)
    arguments = [torch.tensor(a) for a in case.arguments]

    def run():
        wrt = [a.detach().requires_grad_() for a in arguments[: case.wrt]]
        value = case.function(torch, *wrt, *arguments[case.wrt :])
        return value, torch.autograd.grad(value, wrt)

    return run


def with_jax(case: Case) -> Function:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    both = jax.value_and_grad(lambda *a: case.function(jnp, *a), case.argnums)
    arguments = [jnp.asarray(a) for a in case.arguments]
    return lambda: jax.block_until_ready(both(*arguments))


CONTESTANTS = {"chainrule": with_chainrule, "autograd": with_autograd, "torch": with_torch, "jax": with_jax}


def entered() -> dict[str, Callable[[Case], Function]]:
    return {name: f for name, f in CONTESTANTS.items() if importlib.util.find_spec(name) is not None}


# ---- measuring


def assert_agreement(case: Case, found: dict[str, Any]) -> None:
    """Every contestant's value and gradients, against chainrule's, relative to their largest entry."""

    def leaves(result: Any) -> tuple[Any, ...]:
        value, gradients = result
        return (value, *gradients) if isinstance(gradients, tuple) else (value, gradients)

    ours = leaves(found["chainrule"])
    for name, result in found.items():
        for a, b in zip(ours, leaves(result), strict=True):
            b = np.asarray(b.detach() if hasattr(b, "detach") else b)
            gap = np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-300)
            assert gap < AGREEMENT, f"{case.name}: chainrule and {name} differ by {gap:.1e}"


TURN = 5e-3  # seconds of one contestant's turn, if one run is shorter


def turn(run: Function, number: int) -> float:
    """Seconds a run, of several after untimed ones: nobody pays for caches that the one before has filled, nor for garbage.

    They are seconds of the processor, which do not pass while it works for others.
    """
    gc.collect()
    gc.disable()
    for _ in range(1 + number // 4):
        run()
    start = time.process_time()
    for _ in range(number):
        run()
    taken = time.process_time() - start
    gc.enable()
    return taken / number


def times(runs: dict[str, Function], budget: float) -> dict[str, list[float]]:
    """Seconds a run, contestants taking turns: what slows the machine for a while falls on all of them."""
    gc.collect()
    gc.freeze()  # what has been imported is no garbage, and is not looked through again
    number = {name: max(1, int(TURN / turn(run, 3))) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(found["chainrule"]) < 5:
        for name, run in runs.items():
            found[name].append(turn(run, number[name]))
    gc.unfreeze()
    return found


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


def ratio(theirs: float, ours: float) -> str:
    """A quotient with two digits after the point, cut off rather than rounded up."""
    return f"{math.floor(theirs / ours * 100) / 100:6.2f}"


def compare(case: Case, budget: float) -> None:
    runs = {name: prepare(case) for name, prepare in entered().items()}
    assert_agreement(case, {name: run() for name, run in runs.items()})
    found = times(runs, budget)
    least = {name: min(taken) for name, taken in found.items()}
    median = {name: statistics.median(taken) for name, taken in found.items()}
    print(f"\n{case.name}")
    for name in runs:
        line = f"  {name:10} {duration(least[name]):>12} {duration(median[name]):>12}"
        if name != "chainrule":
            by_least, by_median = (ratio(t[name], t["chainrule"]) for t in (least, median))
            line += f"   {by_least} x chainrule by the least, {by_median} by the median"
        print(line)


# ---- import


def import_seconds(statement: str) -> float:
    """Seconds of the processor for an import by a fresh interpreter, compiled code being cached as on a user's machine."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    program = f"import time; s = time.process_time(); {statement}; print(time.process_time() - s)"
    return float(
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        ).stdout
    )


def compare_imports(repeats: int) -> None:
    statements = ("import numpy", "import chainrule")
    found: dict[str, list[float]] = {s: [] for s in statements}
    import_seconds(statements[-1])  # writes the compiled code where there is none
    for _ in range(repeats):
        for s in statements:
            found[s].append(import_seconds(s))
    numpy, ours = (min(found[s]) for s in statements)
    print("\nimport")
    for s in statements:
        print(f"  {s:18} least {duration(min(found[s])):>12}   median {duration(statistics.median(found[s])):>12}")
    print(f"  chainrule over numpy: {ours / numpy - 1:+.0%} (least), the limit is a third")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only those whose name contains one of these words")
    options = parser.parse_args()
    print(f"value and gradient, float64, one thread; {', '.join(entered())}")
    for case in cases():
        if not options.cases or any(word.lower() in case.name.lower() for word in options.cases):
            compare(case, 0.05 if options.quick else 3.0)
    if not options.cases or "import" in options.cases:
        compare_imports(3 if options.quick else 15)


if __name__ == "__main__":
    main()
