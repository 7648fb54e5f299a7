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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from chainrule import cache
from chainrule.backends.executable import Executable, Report, by_numpy
from chainrule.backends.interpret import Interpreted, run_equation
from chainrule.backends.llvm import blas, canonical
from chainrule.backends.llvm.blas import MatrixProduct, matrix_product, product_function
from chainrule.backends.llvm.body import Body, Fill
from chainrule.backends.llvm.divide import Division, Rows, combination, division
from chainrule.backends.llvm.emit import I64, PTR, kernel_function, piece_function
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.kernels import Lowering
from chainrule.backends.llvm.left import why_left
from chainrule.backends.llvm.partition import Kernel, Partition, Plan, is_for_blas
from chainrule.backends.llvm.pool import empty
from chainrule.backends.llvm.target import Loaded, Target, host, object_code
from chainrule.backends.threads import share
from chainrule.ir.program import Atom, Equation, Literal, Program, Var

_ATTEMPTS = 40
_RECURSION = 50_000
_building = threading.RLock()

Buffer = Atom | Rows


class Constants:
    """The literals of a program: those whose elements are all alike, and arrays that need a buffer."""

    def __init__(self) -> None:
        self._known: dict[Literal, Any] = {}

    def __call__(self, a: Literal) -> Any:
        """The one number that all elements are; None where they differ."""
        if a not in self._known:
            x = np.asarray(a.value)
            first = x.flat[0] if x.size else None
            alike = x.size == 1 or (x.size > 0 and bool((x == first).all()))
            self._known[a] = first if alike else None
        return self._known[a]


class Call(NamedTuple):
    """A function of a module called on buffers: those of what it reads, of what it writes, and of its pieces' rows."""

    function: Any
    buffers: Sequence[Buffer]


class Made(NamedTuple):
    """The functions of a kernel: the whole; or of one in pieces what goes before, one piece, and what follows."""

    before: Any
    whole: Any
    after: Any
    division: Division | None


class Pieces(NamedTuple):
    """A step that threads share: the name of its function, and in how many pieces it comes."""

    name: str
    pieces: int


class Code:
    """The module of a program: its text, its steps, and which buffers each reads and writes."""

    def __init__(self, program: Program, plan: Plan, target: Target) -> None:
        self.program = program
        self.plan = plan
        self.module: Any = ir.Module("chainrule")
        self.module.triple = target.triple
        self.numbers: dict[Buffer, int] = {}
        self.steps: list[str | Pieces | Equation] = []
        self.kernels: list[Lowering] = []
        self.products: list[MatrixProduct] = []
        self.described: list[str] = []
        self.different = 0
        self.refused: dict[Equation, str] = {}  # what kernels could not express, and why
        self.functions: dict[Any, Any] = {}
        self.when: list[Sequence[Buffer]] = []  # the buffers that each kernel and each operation of NumPy touches
        self.uniform = Constants()
        for v in program.inputs:
            self.number(v)
        stretch: list[Call] = []
        for step in plan.steps:
            if isinstance(step, Kernel):
                self._kernel(Lowering(step, plan, self.uniform), stretch, target)
                continue
            call = self._product(step)
            if call is not None:
                stretch.append(call)
                continue
            self._close(stretch)
            self.steps.append(step)
            self.when.append([*step.variables, *step.outs])
            for a in (*step.variables, *step.outs):
                self.number(a)
        self._close(stretch)

    def number(self, a: Buffer) -> int:
        """The place of a buffer in the table."""
        return self.numbers.setdefault(a, len(self.numbers))

    def forget(self) -> None:
        """Drop what only making the code needed; what is left is kept with the code on disk."""
        self.described = [k.describe(self.functions[k.key].division) for k in self.kernels]
        self.different = len(self.functions)
        for name in ("program", "plan", "module", "kernels", "functions", "uniform"):
            delattr(self, name)

    def _kernel(self, lowering: Lowering, stretch: list[Call], target: Target) -> None:
        made = self.functions.get(lowering.key)
        if made is None:
            made = self.functions[lowering.key] = self._made(lowering, target)
        self.kernels.append(lowering)
        buffers: list[Buffer] = [*lowering.reads, *lowering.writes]
        if made.division is None:
            stretch.append(Call(made.whole, buffers))
            return
        buffers += map(made.division.buffer, made.division.rows)
        if made.before is not None:
            stretch.append(Call(made.before, buffers))
        self._close(stretch)
        self._share(made, buffers)
        if made.after is not None:
            stretch.append(Call(made.after, buffers))

    def _made(self, lowering: Lowering, target: Target) -> Made:
        bodies, fills = lowering.bodies()
        slots = len(lowering.reads) + len(lowering.writes)
        name = f"kernel{len(self.functions)}"
        cut = division(bodies, fills)
        if cut is None:
            return Made(None, kernel_function(self.module, name, bodies, fills, slots, target), None, None)
        combinations = [combination(row, cut.pieces, slots + k) for k, row in enumerate(cut.rows)]
        slots += len(cut.rows)

        def serial(suffix: str, bodies: Sequence[Body], fills: Sequence[Fill]) -> Any:
            return kernel_function(self.module, name + suffix, bodies, fills, slots, target) if fills else None

        before = serial("_before", [], [f for f in fills if f not in cut.rows])
        piece = piece_function(self.module, name + "_piece", bodies, cut, slots, target)
        return Made(before, piece, serial("_after", combinations, cut.rows), cut)

    def _product(self, e: Equation) -> Call | None:
        """A contraction by BLAS; None where the equation is left to NumPy."""
        p = matrix_product(e)
        if p is None:
            return None
        function = self.functions.get(p)
        if function is None:
            function = product_function(self.module, f"product{len(self.functions)}", p, adds=False)
            self.functions[p] = function
        self.products.append(p)
        return Call(function, [*e.args, *e.outs])

    def _close(self, stretch: list[Call]) -> None:
        """One function that calls the kernels of a stretch in order; its argument is the table, with the status at its start."""
        if not stretch:
            return
        name = f"stretch{len(self.steps)}"
        whole = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR]), name)
        builder = ir.IRBuilder(whole.append_basic_block("entry"))
        arguments = self._arguments(builder, whole.args[0])
        for function, buffers in stretch:
            builder.call(function, arguments(buffers))
            self.when.append(buffers)
        builder.ret_void()
        self.steps.append(name)
        stretch.clear()

    def _share(self, made: Made, buffers: Sequence[Buffer]) -> None:
        """A function of the table and of a counter, which takes the next piece until none is left; all threads call it at once."""
        assert made.division is not None
        name = f"pieces{len(self.steps)}"
        whole = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, PTR]), name)
        builder = ir.IRBuilder(whole.append_basic_block("entry"))
        arguments = self._arguments(builder, whole.args[0])(buffers)
        head, body, done = (whole.append_basic_block(b) for b in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        piece = builder.atomic_rmw("add", whole.args[1], I64(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", piece, I64(made.division.pieces)), body, done)
        builder.position_at_end(body)
        builder.call(made.whole, [*arguments, piece])
        builder.branch(head)
        builder.position_at_end(done)
        builder.ret_void()
        self.when.append(buffers)
        self.steps.append(Pieces(name, made.division.pieces))

    def _arguments(self, builder: Any, table: Any) -> Callable[[Sequence[Buffer]], list[Any]]:
        """Buffers and the status, as a kernel takes them, each loaded from the table once."""
        known: dict[int, Any] = {}
        status = builder.load(table, typ=PTR)

        def buffer(n: int) -> Any:
            if n not in known:
                known[n] = builder.load(builder.gep(table, [I64(n)], source_etype=PTR), typ=PTR)
            return known[n]

        return lambda buffers: [*(buffer(1 + self.number(a)) for a in buffers), status]


def build(program: Program, target: Target) -> Code:
    """The code of a program as arranged for BLAS; what cannot be lowered is kept in memory or left to NumPy, until the rest can."""
    refused: dict[Equation, str] = {}
    forced: set[Equation] = set()
    with _building:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _RECURSION))
        try:
            for _ in range(_ATTEMPTS):
                try:
                    code = Code(program, Partition(program, refused, forced).plan(), target)
                    code.refused = refused
                    return code
                except Unlowerable as refusal:
                    if refusal.equation is None:
                        raise
                    if refusal.too_long and refusal.equation not in forced:
                        forced.add(refusal.equation)
                    else:
                        refused[refusal.equation] = str(refusal)
        finally:
            sys.setrecursionlimit(limit)
    raise Unlowerable("a program that does not come apart")


def compiled_code(program: Program) -> tuple[Code, bytes]:
    """What is known of a program's code, and its object code: from the disk, or made now and kept there."""
    program = blas.arranged(program, is_for_blas)
    key = canonical.key_of(program, host())
    stored = cache.read(key) if key else None
    if stored is not None:
        with contextlib.suppress(pickle.UnpicklingError, LookupError, AttributeError):
            code, image = canonical.unpack(stored, program)
            return code, image
    code = build(program, host())
    image = object_code(str(code.module))
    code.forget()
    if key:
        cache.write(key, canonical.pack((code, image), program))
    return code, image


class _Shared:
    """A kernel in pieces, run by as many threads as there are."""

    def __init__(self, address: int, pieces: int) -> None:
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
        self._pieces = pieces

    def __call__(self, table: Any, alive: Any) -> None:
        """Run all pieces; `alive` is kept until the last thread is done."""
        taken = ctypes.c_int64(0)

        def work(_alive: Any = alive) -> None:
            self._function(table, ctypes.byref(taken))

        share(work, self._pieces)


class Frame:
    """What one call needs for itself: the table, the status and the workspace with its views."""

    def __init__(self, native: Native) -> None:
        self.status = ctypes.c_int32(0)
        self.table = (ctypes.c_void_p * (len(native.code.numbers) + 1))()
        self.table[0] = ctypes.addressof(self.status)
        self.memory = np.empty(native.workspace + 64, np.uint8)
        start = self.memory.__array_interface__["data"][0]
        start += -start % 64
        offset = start - self.memory.__array_interface__["data"][0]
        self.views: dict[Var, Any] = {}
        for v, place in native.places.items():
            self.table[1 + native.code.numbers[v]] = start + place
            if isinstance(v, Var) and v in native.viewed:
                self.views[v] = np.ndarray(v.type.shape, v.type.dtype, self.memory, offset + place)
        for a, array in native.constants.items():
            self.table[1 + native.code.numbers[a]] = array.__array_interface__["data"][0]


class Native(Executable):
    """A program that runs as native code, and by NumPy where there is none."""

    def __init__(self, program: Program) -> None:
        if not program.equations:
            raise Unlowerable("nothing to compute")
        self.program = program
        self.code, image = compiled_code(program)
        names = [s if isinstance(s, str) else s.name for s in self.code.steps if not isinstance(s, Equation)]
        self.loaded = Loaded(image, names)
        self.steps = [self._step(s) for s in self.code.steps]
        self.constants = {
            a: np.require(a.value, requirements=("C", "A")) for a in self.code.numbers if isinstance(a, Literal)
        }
        self.viewed = {v for s in self.steps if isinstance(s, Equation) for v in s.variables}
        self.outputs = list(dict.fromkeys(a for a in program.outputs if isinstance(a, Var) and a not in program.inputs))
        by_numpy = {o for s in self.steps if isinstance(s, Equation) for o in s.outs}
        self.written = [v for v in self.outputs if v not in by_numpy]
        self.places, self.workspace = self._plan_memory(by_numpy)
        self._frames: list[Frame] = []

    def _step(self, step: str | Pieces | Equation) -> Any:
        if isinstance(step, str):
            return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.loaded.addresses[step])
        return _Shared(self.loaded.addresses[step.name], step.pieces) if isinstance(step, Pieces) else step

    def _plan_memory(self, by_numpy: set[Var]) -> tuple[dict[Var | Rows, int], int]:
        """Where each result lies in the workspace: results whose lifetimes do not overlap may share a place."""
        elsewhere: set[Any] = {*self.program.inputs, *self.outputs, *by_numpy}
        last: dict[Buffer, int] = {}
        for t, touched in enumerate(self.code.when):
            last.update((a, t) for a in touched)
        places: dict[Var | Rows, int] = {}
        live: list[tuple[int, int, int]] = []  # start, end, last step
        total = 0
        for t, touched in enumerate(self.code.when):
            live = [block for block in live if block[2] >= t]
            for a in touched:
                if not isinstance(a, Literal) and a not in elsewhere and a not in places:
                    need = -(-max(a.nbytes if isinstance(a, Rows) else a.type.nbytes, 1) // 64) * 64
                    places[a] = _first_gap(live, need)
                    live.append((places[a], places[a] + need, last[a]))
                    total = max(total, places[a] + need)
        return places, total

    def __call__(self, leaves: Sequence[Any], into: Sequence[Any] = ()) -> list[Any]:
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame(self)
        # A frame that an exception leaves is not used again: other threads may still write to its memory.
        env = self._run(frame, leaves, self._fit_to_write(into, leaves) if into else {})
        frame.status.value, failed = 0, frame.status.value
        self._frames.append(frame)
        if failed:  # an index out of range: NumPy raises its own error
            return Interpreted(self.program)(leaves)
        return self._results(env)

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
            table[1 + numbers[v]] = x.__array_interface__["data"][0]
        for v in self.written:
            out = env[v] = into[v] if v in into else empty(v.type.shape, v.type.dtype)
            table[1 + numbers[v]] = out.__array_interface__["data"][0]
        for step in self.steps:
            if isinstance(step, Equation):
                self._by_numpy(step, env, table)
                continue
            if isinstance(step, _Shared):
                step(table, (frame, env))
            else:
                step(table)
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
            table[1 + self.code.numbers[out]] = x.__array_interface__["data"][0]

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
            (*self.code.described, *(f"BLAS: {blas.text(p)}" for p in self.code.products)),
            tuple(by_numpy(e, why_left(e, self.code.refused)) for e in left),
            self.workspace,
            self.code.different,
        )


def _first_gap(live: Sequence[tuple[int, int, int]], need: int) -> int:
    """The first place where `need` bytes fit between the live blocks."""
    at = 0
    for start, end, _ in sorted(live):
        if start - at >= need:
            break
        at = max(at, end)
    return at
