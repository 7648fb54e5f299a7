"""Elementary functions: nanoseconds an element against NumPy and SciPy, largest error found, and milliseconds to compile.

usage: python benchmarks/vector_maths.py [--dtype float32] [--samples 2000] [NAME ...]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import special

from chainrule.backends.llvm.vector_maths import FUNCTIONS, loop_kernel
from chainrule.backends.llvm.vector_maths.oracle import CASES, arguments, errors

PEERS = {
    "pow": np.power,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "expit": special.expit,
    "softplus": lambda x, out: np.logaddexp(x, np.zeros((), x.dtype), out=out),
    "erf": special.erf,
    "erfc": special.erfc,
    "ndtr": special.ndtr,
    "log_ndtr": special.log_ndtr,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
}
TIMED = {"acosh": (1, 5), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "lgamma": (0, 20), "digamma": (0, 20)}
POSITIVE = ("log", "log2", "log10", "log1p", "sqrt", "pow")


def fastest(call: Callable[[], object], number: int) -> float:
    """Nanoseconds an element, the best of many."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best / number * 1e9


def inputs(name: str, dtype: str, number: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    low, high = TIMED.get(name, (0, 5) if name in POSITIVE else (-5, 5))
    return [rng.uniform(low, high, number).astype(dtype) for _ in range(FUNCTIONS[name].arguments)]


def row(name: str, dtype: str, samples: int, number: int = 16384) -> str:
    start = time.perf_counter()
    kernel = loop_kernel(name, dtype, 8 if dtype == "float64" else 16)
    compiled = (time.perf_counter() - start) * 1e3
    args = inputs(name, dtype, number)
    outs = [np.empty(number, dtype) for _ in range(FUNCTIONS[name].results)]
    addresses = [a.ctypes.data for a in (*args, *outs)]
    ours = fastest(lambda: kernel.loop(*addresses, number), number)
    if name == "sincos":
        theirs = fastest(lambda: (np.sin(args[0], out=outs[0]), np.cos(args[0], out=outs[1])), number)
        return f"{name:10s} {ours:8.2f} {theirs:8.2f} {theirs / ours:7.1f} {'as sin, cos':>19s} {compiled:8.0f}"
    peer = PEERS[name] if name in PEERS else getattr(np, name)
    theirs = fastest(lambda: peer(*args, out=outs[0]), number)
    tried = arguments(name, dtype, samples)
    with np.errstate(all="ignore"):
        worst, peers_worst = (
            errors(name, tried, f(*tried)).max() for f in (kernel, lambda *a: peer(*a, out=np.empty_like(a[0])))
        )
    return f"{name:10s} {ours:8.2f} {theirs:8.2f} {theirs / ours:7.1f} {worst:8.2f} {peers_worst:10.3g} {compiled:8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*CASES, "sincos"])
    parser.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    parser.add_argument("--samples", type=int, default=2000, help="arguments of each kind on which errors are measured")
    options = parser.parse_args()
    print(
        f"{options.dtype:10s} {'ours ns':>8s} {'peer ns':>8s} {'ratio':>7s} {'ours ulp':>8s} {'peer ulp':>10s} {'compile':>8s}"
    )
    for name in options.names or [*CASES, "sincos"]:
        print(row(name, options.dtype, options.samples), flush=True)


if __name__ == "__main__":
    main()
