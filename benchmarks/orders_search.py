"""What the searches find, and how long they take: elimination orders, chain bracketings, colourings.

python benchmarks/orders_search.py [folder of elimination graphs as JSON]
"""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse as sp

from chainrule.plan.chain import ChainMap, bracket_chain
from chainrule.plan.elimination import elimination_order
from chainrule.transforms.colour import ORDERS, colour, compress, recover

GRAPHS = Path(__file__).parents[1].parent / "shared" / "data" / "elimination"
SEEDS = 5


def timed(work, repeat=1):
    """The result, and the least time in milliseconds."""
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return result, best * 1e3


def elimination(folder):
    print(f"{'graph':<20}{'free edges':<12}{'greedy':>8}{'ms':>8}   annealed, {SEEDS} seeds{'ms':>14}")
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        edges = [(e["src"], e["dst"]) for e in data["edges"]]
        copies = [(e["src"], e["dst"]) for e in data["edges"] if e.get("copy")]
        ones = copies + [(e["src"], e["dst"]) for e in data["edges"] if e["value"] in ("+1", "-1")]
        for rule, unit in (("copies", copies), ("+1 and -1", ones)):
            graph = edges, data["inputs"], data["outputs"]
            (_, fast), fast_time = timed(lambda g=graph, u=unit: elimination_order(*g, unit=u, effort="fast"), 5)
            runs = [timed(lambda g=graph, u=unit, s=s: elimination_order(*g, unit=u, seed=s)) for s in range(SEEDS)]
            counts = " ".join(str(total) for (_, total), _ in runs)
            slowest = max(took for _, took in runs)
            print(f"{path.stem:<20}{rule:<12}{fast:>8}{fast_time:>8.1f}   {counts:<20}{slowest:>14.0f}")


def chains():
    rng = np.random.default_rng(0)
    print(f"\n{'chains of':<12}{'maps are':<28}{'gain: median':>14}{'least':>8}{'most':>8}{'ms':>8}")
    ways = {
        "matrices": lambda n, m: ChainMap.dense(n, m),
        "dense, products only": lambda n, m: ChainMap(n, m, float(n * m)),
        "of random cost": lambda n, m: ChainMap(n, m, float(rng.integers(1, n * m + 1))),
    }
    for length in (10, 50, 100):
        for name, make in ways.items():
            gains, times = [], []
            for _ in range(200):
                widths = rng.integers(5, 51, length + 1).tolist()
                maps = [make(n, m) for n, m in itertools.pairwise(widths)]
                plan, took = timed(lambda c=maps: bracket_chain(c))
                gains.append(min(plan.tangent, plan.adjoint) / plan.cost)
                times.append(took)
            row = f"{np.median(gains):>14.2f}{min(gains):>8.2f}{max(gains):>8.1f}{np.median(times):>8.1f}"
            print(f"{length:<12}{name:<28}{row}")


def tridiagonal(n):
    return sp.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])


def colourings(n=1_000_000):
    side = int(n**0.5)
    line = tridiagonal(side)
    patterns = {
        "tridiagonal": tridiagonal(n).tocsr(),
        "five-point": (sp.kron(sp.eye_array(side), line) + sp.kron(line, sp.eye_array(side))).tocsr(),
    }
    print(
        f"\n{'pattern, n = ' + str(n):<24}{'kind':<16}" + "".join(f"{order + ', s':>24}" for order in (*ORDERS, "best"))
    )
    for name, pattern in patterns.items():
        for kind in ("column", "star", "acyclic", "bidirectional"):
            cells = []
            for order in (*ORDERS, "best"):
                found, took = timed(lambda p=pattern, k=kind, o=order: colour(p, kind=k, order=o))
                cells.append(f"{found.colours:>18}{took / 1e3:>6.2f}")
            print(f"{name:<24}{kind:<16}" + "".join(cells))
        for kind in ("column", "star", "acyclic"):
            plan = colour(pattern, kind=kind)
            compressed = compress(pattern, plan)
            _, took = timed(lambda p=plan, c=compressed: recover(p, *c), 3)
            print(f"{name:<24}{'recover ' + kind:<16}{took:>18.1f} ms")


if __name__ == "__main__":
    elimination_order([(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (0, 3)], [0], [4])  # compiles the loops
    elimination(Path(sys.argv[1]) if len(sys.argv) > 1 else GRAPHS)
    chains()
    colourings()
