"""The native entry of a compiled function: a C-level callable that checks its arguments, allocates the results, and runs the code.

It compares what it is given with constants: the types, dtypes, ranks, extents and layout of the arrays that the code was made for.
Any other call (and a failed check of an index) is handed on to the Python path, which copies, compiles anew, or raises.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from chainrule.backends.llvm import cpython
from chainrule.backends.llvm.blas import flops
from chainrule.backends.llvm.emit import I8, I32, I64, PTR
from chainrule.backends.llvm.native import Native
from chainrule.backends.llvm.target import Loaded, object_code
from chainrule.ir.program import Var

WORK, FLOPS, WORKSPACE = 300_000, 10_000_000, 1 << 16
"""Larger programs, by elements computed, operations of BLAS and bytes of workspace, take the Python path, which releases the
interpreter's lock."""

F64 = ir.DoubleType()
_NULL = ir.Constant(PTR, None)


def native_entry(
    native: Native, args: Sequence[Any], rebuild: Callable[[list[Any]], Any], slow: Callable[..., Any]
) -> Callable[..., Any] | None:
    """The entry for calls with arguments like these; None where there can be none."""
    if not cpython.holds() or not _is_simple(native, args):
        return None
    form = _form(rebuild, len(native.program.outputs))
    if form is None:
        return None
    emitter = _Entry(native, args, as_tuple=form == "tuple")
    loaded = Loaded(object_code(str(emitter.module)), ["entry"])
    owner = functools.partial(slow)
    definition = cpython.MethodDef(
        native.program.name.encode(), loaded.addresses["entry"], cpython.FASTCALL_KEYWORDS, None
    )
    owner.keeps = (definition, loaded, native, emitter.alive)  # type: ignore[attr-defined]
    return cpython.builtin(definition, owner)  # type: ignore[no-any-return]


def _is_simple(native: Native, args: Sequence[Any]) -> bool:
    program = native.program
    outputs = program.outputs
    return (
        len(native.code.steps) == 1
        and isinstance(native.code.steps[0], str)
        and len(args) == len(program.inputs)
        and native.workspace <= WORKSPACE
        and sum(o.type.size for e in program.equations for o in e.outs) <= WORK
        and sum(map(flops, native.code.products)) <= FLOPS
        and len(set(outputs)) == len(outputs) == len(native.outputs)
        and all(isinstance(a, Var) and a in native.code.numbers for a in outputs)
        and all(_accepts(x, v) for x, v in zip(args, program.inputs, strict=True))
    )


def _accepts(x: Any, v: Var) -> bool:
    if v.type.shape == ():
        return v.type.dtype == np.float64 and type(x) in (float, np.float64)
    return type(x) is np.ndarray and x.dtype is np.dtype(v.type.dtype)


def _form(rebuild: Callable[[list[Any]], Any], n: int) -> str | None:
    """Whether the results are returned as one array or as a flat tuple; None where it is another tree."""
    marks = [object() for _ in range(n)]
    tree = rebuild(list(marks))
    if n == 1 and tree is marks[0]:
        return "one"
    return (
        "tuple"
        if type(tree) is tuple and len(tree) == n and all(a is b for a, b in zip(tree, marks, strict=True))
        else None
    )


class _Entry:
    """entry(self, args, nargs, kwnames) of one compiled program."""

    def __init__(self, native: Native, args: Sequence[Any], *, as_tuple: bool) -> None:
        self.native = native
        self.module = ir.Module("chainrule.entry")
        self.alive: list[Any] = []
        function = ir.Function(self.module, ir.FunctionType(PTR, [PTR, PTR, I64, PTR]), "entry")
        self.function = function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.slow = function.append_basic_block("slow")
        self.table = self.builder.alloca(PTR, len(native.code.numbers) + 1)
        self.status = self.builder.alloca(I32)
        self._check(args)
        self._buffers()
        made = self._allocate()
        self._run(made)
        self._return(made, as_tuple)
        self._hand_on()

    # ---- small things

    def _address(self, value: int) -> Any:
        return self.builder.inttoptr(I64(value), PTR)

    def _field(self, x: Any, offset: int, kind: Any) -> Any:
        return self.builder.load(self.builder.gep(x, [I64(offset)], source_etype=I8), typ=kind)

    def _c(self, name: str, returned: Any, args: Sequence[Any]) -> Any:
        kind = ir.FunctionType(returned, [a.type for a in args])
        pointer = self.builder.inttoptr(I64(cpython.functions()[name]), kind.as_pointer())
        return self.builder.call(pointer, args)

    def _require(self, condition: Any) -> None:
        following = self.function.append_basic_block()
        self.builder.cbranch(condition, following, self.slow)
        self.builder.position_at_end(following)

    def _put(self, a: Any, pointer: Any) -> None:
        place = self.builder.gep(self.table, [I64(1 + self.native.code.numbers[a])], source_etype=PTR)
        self.builder.store(pointer, place)

    # ---- arguments

    def _check(self, args: Sequence[Any]) -> None:
        b = self.builder
        _, vector, count, names = self.function.args
        self._require(b.and_(b.icmp_unsigned("==", count, I64(len(args))), b.icmp_unsigned("==", names, _NULL)))
        for k, v in enumerate(self.native.program.inputs):
            x = b.load(b.gep(vector, [I64(k)], source_etype=PTR), typ=PTR)
            self._number(x, v) if v.type.shape == () else self._array(x, v)

    def _number(self, x: Any, v: Var) -> None:
        b = self.builder
        kind = self._field(x, cpython.TYPE, I64)
        is_float = b.icmp_unsigned("==", kind, I64(id(float)))
        self._require(b.or_(is_float, b.icmp_unsigned("==", kind, I64(id(np.float64)))))
        self._put(v, b.gep(x, [I64(cpython.VALUE)], source_etype=I8))

    def _array(self, x: Any, v: Var) -> None:
        b = self.builder
        dtype = np.dtype(v.type.dtype)
        self.alive.append(dtype)
        self._require(b.icmp_unsigned("==", self._field(x, cpython.TYPE, I64), I64(id(np.ndarray))))
        alike = b.icmp_unsigned("==", self._field(x, cpython.DTYPE, I64), I64(id(dtype)))
        alike = b.and_(alike, b.icmp_unsigned("==", self._field(x, cpython.RANK, I32), I32(len(v.type.shape))))
        flags = b.and_(self._field(x, cpython.FLAGS, I32), I32(cpython.PLAIN))
        self._require(b.and_(alike, b.icmp_unsigned("==", flags, I32(cpython.PLAIN))))
        shape = self._field(x, cpython.SHAPE, PTR)
        alike = None
        for k, n in enumerate(v.type.shape):
            same = b.icmp_unsigned("==", self._field(shape, 8 * k, I64), I64(n))
            alike = same if alike is None else b.and_(alike, same)
        self._require(alike)
        self._put(v, self._field(x, cpython.DATA, PTR))

    # ---- buffers

    def _buffers(self) -> None:
        b = self.builder
        b.store(I32(0), self.status)
        b.store(self.status, self.table)
        for a, array in self.native.constants.items():
            self._put(a, self._address(array.__array_interface__["data"][0]))
        if self.native.places:
            memory = b.alloca(I8, self.native.workspace)
            memory.align = 64
            for v, place in self.native.places.items():
                self._put(v, b.gep(memory, [I64(place)], source_etype=I8))

    def _allocate(self) -> list[Any]:
        """The results: new arrays, or for rank 0 stack slots, whose numbers become objects after the run."""
        b = self.builder
        made: list[Any] = []
        for v in self.native.program.outputs:
            shape = v.type.shape
            if shape == ():
                made.append(b.alloca(F64))
                self._put(v, made[-1])
                continue
            extents = b.alloca(I64, len(shape))
            for k, n in enumerate(shape):
                b.store(I64(n), b.gep(extents, [I64(k)], source_etype=I64))
            null, zero = _NULL, I32(0)
            array = self._c(
                "array",
                PTR,
                [
                    self._address(id(np.ndarray)),
                    I32(len(shape)),
                    extents,
                    I32(v.type.dtype.num),
                    null,
                    null,
                    zero,
                    zero,
                    null,
                ],
            )
            self._unless_null(
                array, [m for m, w in zip(made, self.native.program.outputs, strict=False) if w.type.shape]
            )
            made.append(array)
            self._put(v, self._field(array, cpython.DATA, PTR))
        return made

    def _unless_null(self, x: Any, made: Sequence[Any]) -> None:
        """Return NULL (with the exception that is set) where x is NULL, dropping what was made before."""
        b = self.builder
        with b.if_then(b.icmp_unsigned("==", x, _NULL), likely=False):
            for m in made:
                self._c("decref", ir.VoidType(), [m])
            b.ret(_NULL)

    # ---- the run and the results

    def _run(self, made: Sequence[Any]) -> None:
        b = self.builder
        (address,) = self.native.loaded.addresses.values()
        kind = ir.FunctionType(ir.VoidType(), [PTR])
        b.call(b.inttoptr(I64(address), kind.as_pointer()), [self.table])
        with b.if_then(b.icmp_unsigned("!=", b.load(self.status, typ=I32), I32(0)), likely=False):
            for m, v in zip(made, self.native.program.outputs, strict=True):
                if v.type.shape:
                    self._c("decref", ir.VoidType(), [m])
            b.branch(self.slow)

    def _return(self, made: Sequence[Any], as_tuple: bool) -> None:
        b = self.builder
        outputs = self.native.program.outputs
        arrays = [m for m, v in zip(made, outputs, strict=True) if v.type.shape]
        results: list[Any] = []
        for m, v in zip(made, outputs, strict=True):
            if v.type.shape:
                results.append(m)
                continue
            dtype = np.dtype(v.type.dtype)
            self.alive.append(dtype)
            number = self._c("scalar", PTR, [m, self._address(id(dtype)), _NULL])
            self._unless_null(number, arrays)
            arrays.append(number)
            results.append(number)
        if not as_tuple:
            b.ret(results[0])
            return
        whole = self._c("tuple", PTR, [I64(len(results))])
        self._unless_null(whole, results)
        for k, r in enumerate(results):
            self._c("set", I32, [whole, I64(k), r])
        b.ret(whole)

    def _hand_on(self) -> None:
        b = self.builder
        b.position_at_end(self.slow)
        owner, vector, count, names = self.function.args
        b.ret(self._c("call", PTR, [owner, vector, count, names]))
