"""A program as native code: kernels and NumPy's operations in order, over one table of buffers.

Each native stretch is one function of the table; where NumPy runs an operation, its operands are views of the buffers. Results
that no caller sees lie in a workspace, whose places are planned by lifetime. Calls under way at the same time have a frame (table
and workspace) each; frames are kept for the next call.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from chainrule import cache
from chainrule.backends.executable import Executable, Report, by_numpy
from chainrule.backends.interpret import Interpreted, run_equation
from chainrule.backends.llvm import assembly, canonical, lapack, matmul, products, segments
from chainrule.backends.llvm.compositions import written_out
from chainrule.backends.llvm.functions import Functions
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.inline import decide_inlining
from chainrule.backends.llvm.kernels import Lowering
from chainrule.backends.llvm.left import why_left
from chainrule.backends.llvm.memory import LINE, plan_memory
from chainrule.backends.llvm.partition import Kernel, Partition, Plan, is_product
from chainrule.backends.llvm.pool import empty
from chainrule.backends.llvm.products import MatrixProduct
from chainrule.backends.llvm.schedule import (
    WORKSPACE,
    Buffer,
    ByNumpy,
    Call,
    Step,
    Stretch,
    Tree,
    by_numpy_in,
    is_native,
    schedule,
    touched,
)
from chainrule.backends.llvm.segments import Ref
from chainrule.backends.llvm.target import Loaded, Target, host, object_code
from chainrule.backends.llvm.tiles import tiled
from chainrule.backends.threads import share
from chainrule.ir.program import Equation, Literal, Program, Var

_ATTEMPTS = 40
_RECURSION = 50_000
_building = threading.RLock()


class Run(NamedTuple):
    """A step of native code: its function and the row; the number of pieces that threads share, 0 where it is whole, and the
    bytes of memory that each thread needs for them.
    """

    name: str
    row: int
    pieces: int = 0
    scratch: int = 0


class Code:
    """The module of a program: its text, its steps (stretches of native code, each for a row, and equations), and its buffers."""

    def __init__(self, program: Program, parts: Parts, target: Target) -> None:
        self.program = program
        self.module: Any = assembly.Module(target.triple)
        self.numbers: dict[Buffer, int] = {}
        self.steps: list[Run | Equation] = []
        self.functions = Functions(self.module, target)
        self.products: list[MatrixProduct] = self.functions.products
        self.flops = 0
        self.described: list[str] = []
        self.different = 0
        known: dict[segments.Body, list[Step | Equation]] = {}

        def steps(body: segments.Body) -> list[Step | Equation]:
            if body not in known:
                known[body] = self._steps(parts.plan(body))
            return known[body]

        trees = schedule(program, parts.segments, steps)
        self.refused = {e: parts.refused[n.step] for n in by_numpy_in(trees) for e in n.rows if n.step in parts.refused}
        when = list(touched(trees))
        for v in program.inputs:
            self.number(v)
        self.by_numpy = {o for n in by_numpy_in(trees) for e in n.rows for o in e.outs}
        self.places, self.workspace = plan_memory(when, {*program.inputs, *program.outputs, *self.by_numpy})
        self.steps += self._stretches(trees, 0, {})
        decide_inlining(self.module)

    def number(self, a: Buffer) -> int:
        """The place of a buffer in the table; the first two are the status and the workspace."""
        return self.numbers.setdefault(a, 2 + len(self.numbers))

    @property
    def entries(self) -> int:
        """How long the table is."""
        return 2 + len(self.numbers)

    def forget(self) -> None:
        """Drop what only making the code needed; what is left is kept with the code on disk."""
        self.described, self.different = self.functions.describe(), self.functions.different
        self.flops = self.functions.flops
        viewed = {v for s in self.steps if isinstance(s, Equation) for v in s.variables}
        self.places = {v: place for v, place in self.places.items() if v in viewed}
        for name in ("program", "module", "functions", "by_numpy"):
            delattr(self, name)

    # ---- what a body runs

    def _steps(self, plan: Plan) -> list[Step | Equation]:
        found: list[Step | Equation] = []
        for step in plan.steps:
            if isinstance(step, Kernel):
                found += self._kernel(Lowering(step, plan, self.functions.uniform))
            else:
                found += self.functions.steps(step)
        return found

    def _kernel(self, lowering: Lowering) -> list[Step]:
        made = self.functions.kernel(lowering)
        buffers: list[Buffer] = [*lowering.reads, *lowering.writes]
        if made.division is None:
            return [Step(made.whole, buffers)]
        buffers += map(made.division.buffer, made.division.rows)
        steps = [Step(made.before, buffers), Step(made.whole, buffers, made.division.pieces), Step(made.after, buffers)]
        return [s for s in steps if s.function is not None]

    # ---- the order

    def _locate(self, ref: Ref) -> tuple[int, int]:
        """A buffer's number in the table, and the offset in bytes."""
        place = self.places.get(ref.atom)
        return (self.number(ref.atom), ref.offset) if place is None else (WORKSPACE, place + ref.offset)

    def _stretches(self, trees: Sequence[Tree], row: int, known: dict[Tree, Run]) -> list[Run | Equation]:
        """The steps of a row: native nodes that follow each other are one function."""
        found: list[Run | Equation] = []
        for native, group in groupby(trees, is_native):
            nodes = list(group)
            if native:
                found.append(self._function(nodes, known)._replace(row=row))
                continue
            for node in nodes:
                if isinstance(node, Call):
                    found.append(self._function([node], known)._replace(row=row))
                elif isinstance(node, ByNumpy):
                    found.append(self._left(node.rows[row]))
                else:
                    for k in range(node.count):
                        found += self._stretches(node.nodes, row * node.count + k, known)
        return found

    def _function(self, nodes: Sequence[Tree], known: dict[Tree, Run]) -> Run:
        """The function of nodes that follow each other, or of one call in pieces."""
        first = nodes[0]
        if first not in known:
            pieces, scratch = (first.pieces, first.scratch) if isinstance(first, Call) else (0, 0)
            known[first] = Run(f"{'pieces' if pieces else 'stretch'}{len(known)}", 0, pieces, scratch)
            Stretch(self.module, known[first].name, self._locate, in_pieces=pieces > 0).fill(nodes)
        return known[first]

    def _left(self, e: Equation) -> Equation:
        for a in (*e.variables, *e.outs):
            if a not in self.places:
                self.number(a)
        return e


class Parts:
    """A program in segments, and what is decided for each body; refusals add to what is left to NumPy or kept in memory."""

    def __init__(self, program: Program) -> None:
        self.segments, self.layout = segments.segments(program)
        self.refused: dict[Equation, str] = {}
        self.forced: set[Equation] = set()

    def plan(self, body: segments.Body) -> Plan:
        """Which kernels and operations of NumPy a body runs."""
        return Partition(body.program, self.layout, self.refused, self.forced).plan()

    def learn(self, refusal: Unlowerable) -> None:
        """Decide otherwise about an equation that could not be lowered."""
        if refusal.too_long and refusal.equation not in self.forced:
            self.forced.add(refusal.equation)
        else:
            self.refused[refusal.equation] = str(refusal)


def build(program: Program, target: Target) -> Code:
    """The code of a program as arranged for products; what cannot be lowered is kept in memory or left to NumPy, until all is."""
    with _building:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _RECURSION))
        try:
            parts = Parts(program)
            for _ in range(_ATTEMPTS):
                try:
                    return Code(program, parts, target)
                except Unlowerable as refusal:
                    if refusal.equation is None:
                        raise
                    parts.learn(refusal)
        finally:
            sys.setrecursionlimit(limit)
    raise Unlowerable("a program that does not come apart")


def _forms(program: Program) -> Iterator[Program]:
    """The program as arranged for products of matrices and LAPACK: with loops over tiles, where they are worth it, and without."""
    program = written_out(program)
    in_tiles = tiled(program)
    for form in (program,) if in_tiles is None else (in_tiles, program):
        yield lapack.in_double(products.arranged(form, is_product))


def compiled_code(program: Program) -> tuple[Code, bytes]:
    """What is known of a program's code, and its object code: from the disk, or made now and kept there."""
    key = canonical.key_of(program, host()) if cache.directory() else None
    stored = cache.read(key) if key else None
    if stored is not None:
        with contextlib.suppress(pickle.UnpicklingError, LookupError, AttributeError):
            form = list(_forms(program))[stored[0]]
            code, image = canonical.unpack(stored[1:], form)
            return code, image
    number, form, code = _built(program)
    image = object_code(str(code.module))
    code.forget()
    if key and (packed := canonical.pack((code, image), form)) is not None:
        cache.write(key, bytes([number]) + packed)
    return code, image


def _built(program: Program) -> tuple[int, Program, Code]:
    """The first form of a program that has code: its number, the form, and the code."""
    *others, last = enumerate(_forms(program))
    for number, form in others:
        with contextlib.suppress(Unlowerable):  # something in a loop over tiles that only NumPy computes
            return number, form, build(form, host())
    return *last, build(last[1], host())


class _Scratch:
    """Memory that threads have for themselves while they run pieces: as much as was ever in use at once."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._free: list[Any] = []

    def take(self) -> Any:
        """A block that nobody else has."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._nbytes + LINE, np.uint8)

    def give_back(self, block: Any) -> None:
        self._free.append(block)


class _Shared:
    """A step in pieces, run by as many threads as there are."""

    def __init__(self, address: int, step: Run, scratch: _Scratch) -> None:
        arguments = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self._function = ctypes.CFUNCTYPE(None, *arguments)(address)
        self._step, self._scratch = step, scratch

    def __call__(self, table: Any, alive: Any) -> None:
        """Run all pieces; `alive` is kept until the last thread is done."""
        taken = ctypes.c_int64(0)

        def work(_alive: Any = alive) -> None:
            if not self._step.scratch:
                self._function(table, self._step.row, ctypes.byref(taken), None)
                return
            block = self._scratch.take()
            self._function(table, self._step.row, ctypes.byref(taken), _aligned(block))
            self._scratch.give_back(block)

        share(work, self._step.pieces)


def _aligned(block: Any) -> int:
    """The first address in a block at which a line of the cache begins."""
    start: int = block.__array_interface__["data"][0]
    return start + -start % LINE


class Frame:
    """What one call needs for itself: the table, the status and the workspace with its views."""

    def __init__(self, native: Native) -> None:
        self.status = ctypes.c_int32(0)
        self.table = (ctypes.c_void_p * native.code.entries)()
        self.table[0] = ctypes.addressof(self.status)
        self.memory = np.empty(native.code.workspace + LINE, np.uint8)
        start = _aligned(self.memory)
        offset = start - self.memory.__array_interface__["data"][0]
        self.table[WORKSPACE] = start
        self.views: dict[Var, Any] = {
            v: np.ndarray(v.type.shape, v.type.dtype, self.memory, offset + place)
            for v, place in native.code.places.items()
        }
        for a, array in native.constants.items():
            self.table[native.code.numbers[a]] = array.__array_interface__["data"][0]


class Native(Executable):
    """A program that runs as native code, and by NumPy where there is none."""

    def __init__(self, program: Program) -> None:
        if not program.equations:
            raise Unlowerable("nothing to compute")
        self.program = program
        self.code, image = compiled_code(program)
        matmul.provide(image)
        self.loaded = Loaded(image, [s.name for s in self.code.steps if isinstance(s, Run)])
        self.steps = self._bound()
        self.constants = {
            a: np.require(a.value, requirements=("C", "A")) for a in self.code.numbers if isinstance(a, Literal)
        }
        self.outputs = list(dict.fromkeys(a for a in program.outputs if isinstance(a, Var) and a not in program.inputs))
        by_numpy = {o for s in self.steps if isinstance(s, Equation) for o in s.outs}
        self.written = [v for v in self.outputs if v not in by_numpy]
        self._frames: list[Frame] = []

    def _bound(self) -> list[Any]:
        """The steps with functions that can be called."""
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
        known: dict[str, Any] = {}
        found: list[Any] = []
        scratch = _Scratch(max((s.scratch for s in self.code.steps if isinstance(s, Run)), default=0))
        for s in self.code.steps:
            if isinstance(s, Equation):
                found.append(s)
            elif s.pieces:
                found.append(_Shared(self.loaded.addresses[s.name], s, scratch))
            else:
                found.append((known.setdefault(s.name, function(self.loaded.addresses[s.name])), s.row))
        return found

    def __call__(self, leaves: Sequence[Any], into: Sequence[Any] = ()) -> list[Any]:
        frame = self.take_frame()
        # A frame that an exception leaves is not used again: other threads may still write to its memory.
        env = self._run(frame, leaves, self._fit_to_write(into, leaves) if into else {})
        frame.status.value, failed = 0, frame.status.value
        self._frames.append(frame)
        if failed:  # an index out of range: NumPy raises its own error
            return Interpreted(self.program)(leaves)
        return self._results(env)

    def take_frame(self) -> Frame:
        """A frame that is the taker's alone."""
        try:
            return self._frames.pop()
        except IndexError:
            return Frame(self)

    def _fit_to_write(self, into: Sequence[Any], leaves: Sequence[Any]) -> dict[Var, Any]:
        """Those of the arrays for the outputs that kernels can write to in the place of fresh ones."""
        found: dict[Var, Any] = {}
        for a, x in zip(self.program.outputs, into, strict=False):
            if not isinstance(a, Var) or type(x) is not np.ndarray or a in found:
                continue
            alike = x.shape == a.type.shape and x.dtype == a.type.dtype and x.dtype.isnative
            plain = x.flags.c_contiguous and x.flags.aligned and x.flags.writeable
            if alike and plain and not any(np.may_share_memory(x, y) for y in (*leaves, *found.values())):
                found[a] = x
        return found

    def _run(self, frame: Frame, leaves: Sequence[Any], into: Mapping[Var, Any]) -> dict[Var, Any]:
        table, numbers = frame.table, self.code.numbers
        env: dict[Any, Any] = dict(frame.views)
        for v, x in zip(self.program.inputs, leaves, strict=True):
            env[v] = x
            flags = getattr(x, "flags", None)
            if type(x) is not np.ndarray or not (flags.c_contiguous and flags.aligned):  # type: ignore[union-attr]
                x = np.require(x, requirements=("C", "A"))
                env[v, "contiguous"] = x  # alive as long as the call
            table[numbers[v]] = x.__array_interface__["data"][0]
        for v in self.written:
            out = env[v] = into[v] if v in into else empty(v.type.shape, v.type.dtype)
            table[numbers[v]] = out.__array_interface__["data"][0]
        for step in self.steps:
            if isinstance(step, Equation):
                self._by_numpy(step, env, table)
                continue
            if isinstance(step, _Shared):
                step(table, (frame, env))
            else:
                function, row = step
                function(table, row)
            if frame.status.value:
                break
        return env

    def _by_numpy(self, e: Equation, env: dict[Var, Any], table: Any) -> None:
        with np.errstate(all="ignore"):
            run_equation(e, env)
        for out in e.outs:
            x = np.asarray(env[out], out.type.dtype)
            if not (x.flags.c_contiguous and x.flags.aligned and x.flags.owndata):
                x = np.array(x, order="C")
            env[out] = x
            table[self.code.numbers[out]] = x.__array_interface__["data"][0]

    def _results(self, env: dict[Var, Any]) -> list[Any]:
        out: list[Any] = []
        seen: set[int] = set()
        for a in self.program.outputs:
            x = a.value if isinstance(a, Literal) else env[a]
            if isinstance(x, np.ndarray):
                if x.ndim == 0:
                    x = x[()]
                elif isinstance(a, Literal) or a in self.program.inputs or id(x) in seen:
                    x = x.copy()
                else:
                    seen.add(id(x))
            out.append(x)
        return out

    def report(self) -> Report:
        left = (s for s in self.steps if isinstance(s, Equation))
        return Report(
            tuple(self.code.described),
            tuple(by_numpy(e, why_left(e, self.code.refused)) for e in left),
            self.code.workspace,
            self.code.different,
        )
