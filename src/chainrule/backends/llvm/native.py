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
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from chainrule import cache
from chainrule.backends.executable import Executable, Report, by_numpy
from chainrule.backends.interpret import Interpreted, run_equation
from chainrule.backends.llvm import blas, canonical
from chainrule.backends.llvm.blas import MatrixProduct, matrix_product, product_function
from chainrule.backends.llvm.emit import I64, PTR, kernel_function
from chainrule.backends.llvm.index import Unlowerable
from chainrule.backends.llvm.kernels import Lowering
from chainrule.backends.llvm.left import why_left
from chainrule.backends.llvm.partition import Kernel, Partition, Plan, is_for_blas
from chainrule.backends.llvm.pool import empty
from chainrule.backends.llvm.target import Loaded, Target, host, object_code
from chainrule.ir.program import Atom, Equation, Literal, Program, Var

_ATTEMPTS = 40
_RECURSION = 50_000
_building = threading.RLock()


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
    """A function of a module called on buffers: those of what it reads, then of what it writes."""

    function: Any
    reads: Sequence[Atom]
    writes: Sequence[Var]


class Code:
    """The module of a program: its text, its steps, and which buffers each reads and writes."""

    def __init__(self, program: Program, plan: Plan, target: Target) -> None:
        self.program = program
        self.plan = plan
        self.module: Any = ir.Module("chainrule")
        self.module.triple = target.triple
        self.numbers: dict[Atom, int] = {}
        self.steps: list[str | Equation] = []
        self.kernels: list[Lowering] = []
        self.products: list[MatrixProduct] = []
        self.described: list[str] = []
        self.different = 0
        self.refused: dict[Equation, str] = {}  # what kernels could not express, and why
        self.functions: dict[Any, Any] = {}
        self.when: list[list[Atom]] = []  # the buffers that each kernel and each operation of NumPy touches
        self.uniform = Constants()
        for v in program.inputs:
            self.number(v)
        stretch: list[Call] = []
        for step in plan.steps:
            call = self._kernel(step, target) if isinstance(step, Kernel) else self._product(step)
            if call is not None:
                stretch.append(call)
                continue
            assert isinstance(step, Equation)
            self._close(stretch)
            self.steps.append(step)
            self.when.append([*step.variables, *step.outs])
            for a in (*step.variables, *step.outs):
                self.number(a)
        self._close(stretch)

    def number(self, a: Atom) -> int:
        """The place of an atom's buffer in the table."""
        return self.numbers.setdefault(a, len(self.numbers))

    def forget(self) -> None:
        """Drop what only making the code needed; what is left is kept with the code on disk."""
        self.described = [k.describe() for k in self.kernels]
        self.different = len(self.functions)
        for name in ("program", "plan", "module", "kernels", "functions", "uniform"):
            delattr(self, name)

    def _kernel(self, kernel: Kernel, target: Target) -> Call:
        lowering = Lowering(kernel, self.plan, self.uniform)
        function = self.functions.get(lowering.key)
        if function is None:
            bodies, fills = lowering.bodies()
            slots = len(lowering.reads) + len(lowering.writes)
            function = kernel_function(self.module, f"kernel{len(self.functions)}", bodies, fills, slots, target)
            self.functions[lowering.key] = function
        self.kernels.append(lowering)
        return Call(function, lowering.reads, lowering.writes)

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
        return Call(function, e.args, e.outs)

    def _close(self, stretch: list[Call]) -> None:
        """One function that calls the kernels of a stretch in order; its argument is the table, with the status at its end."""
        if not stretch:
            return
        name = f"stretch{len(self.steps)}"
        whole = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR]), name)
        builder = ir.IRBuilder(whole.append_basic_block("entry"))
        known: dict[Any, Any] = {}

        def buffer(n: int) -> Any:
            if n not in known:
                known[n] = builder.load(builder.gep(whole.args[0], [I64(n)], source_etype=PTR), typ=PTR)
            return known[n]

        status = builder.load(whole.args[0], typ=PTR)
        for function, reads, writes in stretch:
            builder.call(function, [*(buffer(1 + self.number(a)) for a in (*reads, *writes)), status])
            self.when.append([*reads, *writes])
        builder.ret_void()
        self.steps.append(name)
        stretch.clear()


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


class _Frame:
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
            if v in native.viewed:
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
        self.loaded = Loaded(image, [s for s in self.code.steps if isinstance(s, str)])
        stretch = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self.steps: list[Any] = [
            stretch(self.loaded.addresses[s]) if isinstance(s, str) else s for s in self.code.steps
        ]
        self.constants = {
            a: np.require(a.value, requirements=("C", "A")) for a in self.code.numbers if isinstance(a, Literal)
        }
        self.viewed = {v for s in self.steps if isinstance(s, Equation) for v in s.variables}
        self.outputs = list(dict.fromkeys(a for a in program.outputs if isinstance(a, Var) and a not in program.inputs))
        by_numpy = {o for s in self.steps if isinstance(s, Equation) for o in s.outs}
        self.written = [v for v in self.outputs if v not in by_numpy]
        self.places, self.workspace = self._plan_memory(by_numpy)
        self._frames: list[_Frame] = []

    def _plan_memory(self, by_numpy: set[Var]) -> tuple[dict[Var, int], int]:
        """Where each result lies in the workspace: results whose lifetimes do not overlap may share a place."""
        elsewhere = {*self.program.inputs, *self.outputs, *by_numpy}
        last: dict[Var, int] = {}
        for t, touched in enumerate(self.code.when):
            last.update((a, t) for a in touched if isinstance(a, Var))
        places: dict[Var, int] = {}
        live: list[tuple[int, int, int]] = []  # start, end, last step
        total = 0
        for t, touched in enumerate(self.code.when):
            live = [block for block in live if block[2] >= t]
            for a in touched:
                if isinstance(a, Var) and a not in elsewhere and a not in places:
                    need = -(-max(a.type.nbytes, 1) // 64) * 64
                    places[a] = _first_gap(live, need)
                    live.append((places[a], places[a] + need, last[a]))
                    total = max(total, places[a] + need)
        return places, total

    def __call__(self, leaves: Sequence[Any]) -> list[Any]:
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = _Frame(self)
        try:
            env = self._run(frame, leaves)
        finally:
            frame.status.value, failed = 0, frame.status.value
            self._frames.append(frame)
        if failed:  # an index out of range: NumPy raises its own error
            return Interpreted(self.program)(leaves)
        return self._results(env)

    def _run(self, frame: _Frame, leaves: Sequence[Any]) -> dict[Var, Any]:
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
            out = env[v] = empty(v.type.shape, v.type.dtype)
            table[1 + numbers[v]] = out.__array_interface__["data"][0]
        for step in self.steps:
            if isinstance(step, Equation):
                self._by_numpy(step, env, table)
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
