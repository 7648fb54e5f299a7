"""What elementary work costs on this machine: measured once, kept in the user's cache, and replaceable.

The file is `machine.json` in the cache directory (`chainrule.cache`). Where it cannot be written, the measurement is repeated in
each process, which takes some milliseconds.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chainrule import cache


@dataclass(frozen=True)
class Machine:
    """Seconds for one call of an operation, one byte moved by it, and one multiplication within a matrix product."""

    call: float
    byte: float
    product: float

    def seconds(self, calls: float, moved: float, products: float) -> float:
        """The predicted time of some work."""
        return self.call * calls + self.byte * moved + self.product * products


_found: dict[str, Machine] = {}


def machine() -> Machine:
    """The constants of this machine: those set, else those in the cache, else measured now."""
    known = _found.get("machine")
    if known is None:
        known = _found["machine"] = _read() or _measured()
    return known


def set_machine(constants: Machine | None) -> None:
    """Plan with these constants from now on; None goes back to those of the cache or of a measurement."""
    _found.clear()
    if constants is not None:
        _found["machine"] = constants


def _key() -> str:
    return f"{platform.node()} {platform.machine()} {platform.processor()} numpy {np.__version__}"


def _read() -> Machine | None:
    root = cache.directory()
    with suppress(OSError, ValueError, KeyError, TypeError):
        held = {} if root is None else json.loads((root / "machine.json").read_text(encoding="utf-8"))
        constants = Machine(**held[_key()])
        if all(isinstance(x, float) and 0 < x < 1 for x in asdict(constants).values()):
            return constants
    return None


def _measured() -> Machine:
    constants, root = measure(), cache.directory()
    if root is None:
        return constants
    with suppress(OSError, ValueError, TypeError):
        path = root / "machine.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        held: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            held = json.loads(path.read_text(encoding="utf-8"))
        held[_key()] = asdict(constants)
        part = path.with_name(f"machine.{os.getpid()}.part")
        part.write_text(json.dumps(held, indent=1), encoding="utf-8")
        part.replace(path)
    return constants


def measure() -> Machine:
    """Time an operation on one element, one on many, and a matrix product."""
    from chainrule.ir.primitive import ops
    from chainrule.transforms.batch import vmap

    one, many = np.ones((1, 1)), np.ones((1, 1 << 17))
    matrix, columns = np.ones((256, 256)), np.ones((256, 64))

    def chained(times: int, x: Any) -> Any:
        """Batched products one after the other, as sweeps have them."""

        def work(xs: list[Any]) -> list[Any]:
            t = xs[0]
            for _ in range(times):
                t = ops.strong_multiply(t, x[0])
            return [t]

        return lambda: vmap(work, [x], [0], 1)

    call = (_fastest(chained(33, one)) - _fastest(chained(1, one))) / 32
    moved = (_fastest(chained(5, many)) - _fastest(chained(1, many))) / 4
    product = _fastest(lambda: matrix @ columns)
    return Machine(
        call=max(call, 1e-7),
        byte=max((moved - call) / (24 * many.size), 1e-12),
        product=max(product / (256 * 256 * 64), 1e-13),
    )


def _fastest(work: Callable[[], Any], runs: int = 15) -> float:
    work()
    best = np.inf
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return float(best)
