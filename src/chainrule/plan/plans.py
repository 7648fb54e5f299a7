"""The plan: every order that was compared, what each would cost, which was taken, and why."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.plan import orders
from chainrule.plan.machine import Machine, machine
from chainrule.plan.orders import Costs, Order
from chainrule.transforms.compress import Compression, Prepared
from chainrule.transforms.linearised import Linearised

# Below this predicted time no other order than the pure ones is looked for: looking takes longer.
_WORTH_LOOKING = 2e-3
# Patterns fuller than this, or whose colouring would take more steps, are not coloured.
_FULL, _TOO_LONG = 0.25, 2e8


@dataclass(frozen=True)
class Plan:
    """Orders in which a derivative can be accumulated, with their costs; `chosen` is the one taken.

    A plan prints as a table, can be kept and pickled, and is passed back as `jacobian(f, plan=p)`, where it is used for arguments
    of the same shapes and a function that takes the same way.
    """

    transform: str
    function: str
    signature: tuple[str, ...]
    fingerprint: str
    orders: tuple[Order, ...]
    choice: int
    why: str
    memory: int | None = None

    @property
    def chosen(self) -> Order:
        """The order that was taken."""
        return self.orders[self.choice]

    def __str__(self) -> str:
        """The table, the choice marked by *, and the reason."""
        head = ("order", "sweeps", "multiplications", "additions", "bytes", "time", "peak memory", "colours")
        rows = [head, *(_row(o) for o in self.orders)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [f"{self.transform} of {self.function}({', '.join(self.signature)})"]
        for i, row in enumerate(rows):
            mark = "*" if i == self.choice + 1 else " "
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append(f"{mark} {'  '.join(cells)}".rstrip())
        return "\n".join([*lines, self.why])


def _row(o: Order) -> tuple[str, ...]:
    sweeps = f"{o.sweeps:,}" if o.chunk is None else f"{o.sweeps:,} by {o.chunk:,}"
    colours = "" if o.colours is None else str(o.colours)
    counts = (sweeps, f"{o.multiplications:,}", f"{o.additions:,}")
    return (o.name, *counts, size_text(o.moved), time_text(o.seconds), size_text(o.peak), colours)


def size_text(n: float) -> str:
    """Bytes, in a unit that fits: `1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def time_text(seconds: float) -> str:
    """A time, in a unit that fits: `2.1 ms`."""
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def parse_memory(memory: str | float | None) -> int | None:
    """A memory limit in bytes, from a number or a text such as "500 MB".

    >>> parse_memory("1.5 GB")
    1500000000
    """
    if memory is None or isinstance(memory, int | float):
        return None if memory is None else int(memory)
    found = re.fullmatch(r"\s*([\d.]+)\s*([kMGT]?)(i?)B?\s*", memory)
    if found is None:
        raise ValueError(f'memory is a number of bytes or a text such as "500 MB", not {memory!r}')
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kMGT".index(prefix or " "))


def fingerprint(graph: Linearised) -> str:
    """A digest of a graph: two with the same one have the same vertices, edges and kinds of maps."""
    text = repr(
        (
            graph.inputs,
            graph.outputs,
            [(t.shape, t.dtype.str) for t in graph.types],
            [(v, s, type(m).__name__, m.multiplications()) for v, edges in enumerate(graph.incoming) for s, m in edges],
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()


def signature(graph: Linearised) -> tuple[str, ...]:
    """The types of the inputs."""
    return tuple(str(graph.types[v]) for v in graph.inputs)


def candidates(
    graph: Linearised,
    costs: Costs,
    prepared: Prepared | None,
    *,
    sparse: bool,
    looking: bool = True,
    effort: str = "fast",
) -> list[Order]:
    """The orders of a graph.

    Where not `looking` at any cost, other orders than the pure ones are left out unless they can save more than it takes to find
    them.
    """
    found = orders.pure(graph, costs)
    if not looking and min(o.seconds for o in found) < _WORTH_LOOKING:
        return found
    chain = orders.chain(graph, costs)
    if chain is not None:
        found.append(chain)
    arrays = None if sparse else orders.of_vertices(graph, costs)
    if arrays is not None:
        found.append(arrays)
    compression = _compression(graph, prepared, sparse=sparse)
    if compression is not None:
        found.append(orders.compressed(graph, costs, compression, sparse=sparse))
        if prepared is not None and (direct := prepared.direct(graph)) is not None:
            found.append(orders.directly(graph, costs, direct, sparse=sparse))
    if looking and not sparse:
        elimination = orders.eliminated(graph, costs, effort)
        found.extend([] if elimination is None else [elimination])
    return found


def _compression(graph: Linearised, prepared: Prepared | None, *, sparse: bool) -> Compression | None:
    if prepared is None or not sum(graph.input_sizes) or not sum(graph.output_sizes):
        return None
    compression = prepared.of(graph, worth=None if sparse else _worth_colouring)
    if compression is not None and not sparse:
        m, n = compression.layout.shape
        if compression.colouring.colours >= min(m, n):
            return None
    return compression


def _worth_colouring(found: object) -> bool:
    """Whether a pattern is sparse enough for compression to pay."""
    m, n = found.shape  # type: ignore[attr-defined]
    counts = np.diff(found.indptr)  # type: ignore[attr-defined]
    return bool(found.nnz <= _FULL * m * n and np.square(counts.astype(float)).sum() <= _TOO_LONG)  # type: ignore[attr-defined]


def choose(found: Sequence[Order], memory: int | None) -> int:
    """The fastest order among those that fit the memory, else the one that needs least."""
    fitting = [i for i, o in enumerate(found) if memory is None or o.peak <= memory]
    if fitting:
        return min(fitting, key=lambda i: (found[i].seconds, found[i].multiplications))
    return min(range(len(found)), key=lambda i: found[i].peak)


def make_plan(
    transform: str,
    function: str,
    graph: Linearised,
    *,
    prepared: Prepared | None,
    sparse: bool = False,
    memory: int | None = None,
    constants: Machine | None = None,
    only: str | None = None,
    effort: str = "fast",
) -> Plan:
    """Compare all orders for a graph."""
    costs = Costs(constants or machine(), memory, orders.held_bytes(graph))
    found = candidates(graph, costs, prepared, sparse=sparse, effort=effort)
    if sparse:
        kinds = ("compressed",) if only is not None or memory is not None else ("compressed", "direct")
        found = [o for o in found if o.kind in kinds] or found
    allowed = [o for o in found if only is None or o.kind == only or sparse]
    choice = found.index(allowed[choose(allowed, memory)])
    return Plan(
        transform,
        function,
        signature(graph),
        fingerprint(graph),
        tuple(found),
        choice,
        _why(found, choice, memory, only),
        memory,
    )


def _why(found: Sequence[Order], choice: int, memory: int | None, only: str | None) -> str:
    taken = found[choice]
    others = [o for i, o in enumerate(found) if i != choice]
    if not others:
        return f"{taken.name}: the only order for this result."
    if only is not None:
        return f"{taken.name}: asked for by mode={only!r}."
    left_out = [o for o in others if memory is not None and o.peak > memory]
    limit = (
        f" Over the limit of {size_text(memory)}: {', '.join(o.name for o in left_out)}." if memory and left_out else ""
    )
    rivals = [o for o in others if o not in left_out]
    if not rivals:
        return f"{taken.name}: the least memory.{limit}"
    best = min(rivals, key=lambda o: o.seconds)
    ratio = best.seconds / taken.seconds if taken.seconds else 1.0
    fewer = best.multiplications / taken.multiplications if taken.multiplications else 1.0
    saving = f", {fewer:.3g} times fewer multiplications" if fewer > 1.01 else ""
    return f"{taken.name}: predicted {ratio:.3g} times faster than {best.name}{saving}.{limit}"
