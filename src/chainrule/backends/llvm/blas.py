"""Contractions as calls of BLAS from native code, by the addresses that SciPy exports.

    out[batch, rows, columns] = sum over summed of x[batch, rows, summed] y[batch, summed, columns]

The labels of a contraction are sorted into these four groups; neighbouring labels of a group that lie in memory as one become one
axis; of each group but the batch one axis is left to gemm (or gemv), and loops run over the others. A transposed operand is a flag.

Code names the routines (`chainrule_dgemm`); their addresses are told to LLVM when code is loaded, so that code may be kept on disk.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import F32, F64, I8, I32, I64, PTR
from chainrule.backends.llvm.emit import Loop
from chainrule.ir.primitive import ops
from chainrule.ir.program import Atom, Equation, Program, Var
from chainrule.ir.types import ArrayType, Shape

PREFIX = "chainrule_blas_"
LARGEST = 2**31 - 1
"""The integers of SciPy's BLAS have 32 bits."""

_ROUTINES = {"sgemm": 13, "dgemm": 13, "sgemv": 11, "dgemv": 11, "dtrsm": 11, "dtrsv": 8}
_LAPACK_ROUTINES = {"dpotrf": 5, "dgetrf": 6, "dgetrs": 9}
_LETTERS = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}
_FLOATS = {"s": F32, "d": F64}


# ---- the routines


@cache
def addresses() -> dict[str, int]:
    """The addresses of BLAS's routines by their symbols in our code; empty where SciPy's do not have the form we call."""
    return _exported("scipy.linalg.cython_blas", _ROUTINES)


@cache
def lapack_addresses() -> dict[str, int]:
    """The same of LAPACK's routines, which come with those of BLAS or not at all."""
    return _exported("scipy.linalg.cython_lapack", _LAPACK_ROUTINES) if addresses() else {}


def _exported(library: str, arities: Mapping[str, int]) -> dict[str, int]:
    """The addresses of a library's routines of so many arguments; none unless all are as called."""
    capsules = importlib.import_module(library).__pyx_capi__  # loads at first use
    name_of, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found: dict[str, int] = {}
    for routine, arity in arities.items():
        capsule = capsules.get(routine)
        signature = b"" if capsule is None else name_of(capsule)
        if not _is_as_called(signature.decode(), arity):
            return {}
        found[PREFIX + routine] = pointer(capsule, signature)
    return found


def _is_as_called(signature: str, arity: int) -> bool:
    """Whether a routine returns nothing and takes so many pointers, its integers being C's int."""
    kinds = signature.removeprefix("void (").removesuffix(")").split(", ")
    return (
        signature.startswith("void (")
        and len(kinds) == arity
        and all(k.endswith(" *") for k in kinds)
        and "int *" in kinds
    )


@cache
def register() -> None:
    """Tell LLVM where the routines are that loaded code names."""
    for symbol, address in (addresses() | lapack_addresses()).items():
        binding.add_symbol(symbol, address)


# ---- how a contraction becomes matrix products


class Axis(NamedTuple):
    """A label, or neighbouring labels as one: its extent, and its strides in x, y and out, in elements; 0 where it is not there."""

    extent: int
    x: int
    y: int
    out: int


class Matrix(NamedTuple):
    """An operand of gemm: its number among x, y and out; whether its rows, rather than its columns, are neighbours in memory."""

    operand: int
    is_transposed: bool
    stride: int


class MatrixProduct(NamedTuple):
    """One call of gemm inside loops: left (m by k) times right (k by n) gives out (m by n); for gemv n is 1."""

    letter: str
    left: Matrix
    right: Matrix
    out: Matrix
    m: int
    n: int
    k: int
    loops: tuple[Axis, ...]  # over the batch
    sums: tuple[Axis, ...]  # over what is summed beside k


_ONE = Axis(1, 0, 0, 0)


def matrix_product(e: Equation) -> MatrixProduct | None:
    """How BLAS computes a contraction as its operands lie in memory; None where it does not."""
    if e.primitive.name != "contract":
        return None
    x, y = (a.type for a in e.args)
    out = e.outs[0].type
    letter = _LETTERS.get(out.dtype)
    if letter is None or x.dtype != out.dtype or y.dtype != out.dtype or not addresses():
        return None
    if max(x.size, y.size, out.size) > LARGEST or min(x.size, y.size, out.size) == 0:
        return None
    axes = _axes(e, x.shape, y.shape, out.shape)
    batch, summed, rows, columns = (_merged([a for a in axes if _group(a) == g]) for g in _GROUPS)
    calls = [
        (core, call)
        for core in product(rows or [_ONE], summed or [_ONE], columns or [_ONE])
        if (call := _with_core(letter, *core)) is not None
    ]
    if not calls:
        return None
    core, best = max(calls, key=lambda c: (c[1].m * c[1].n * c[1].k, c[1].k))
    loops = (*batch, *(a for a in (*rows, *columns) if a not in core))
    return best._replace(loops=loops, sums=tuple(a for a in summed if a not in core))


_GROUPS = ((True, True, True), (True, True, False), (True, False, True), (False, True, True))


def _group(a: Axis) -> tuple[bool, bool, bool]:
    return (a.x > 0, a.y > 0, a.out > 0)


def _strides(shape: Shape) -> list[int]:
    return [prod(shape[k + 1 :]) for k in range(len(shape))]


def _axes(e: Equation, *shapes: Shape) -> list[Axis]:
    """The labels of more than one element, in the order of the operands."""
    found: dict[Any, list[int]] = {}
    for k, (name, shape) in enumerate(zip(("left", "right", "to"), shapes, strict=True)):
        for label, n, stride in zip(e.params[name], shape, _strides(shape), strict=True):
            found.setdefault(label, [n, 0, 0, 0])[k + 1] = stride
    return [Axis(*a) for a in found.values() if a[0] > 1]


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """Axes of one group, those that follow each other in memory joined."""
    found: list[Axis] = []
    for a in sorted(axes, key=lambda a: a[1:], reverse=True):
        before = found[-1] if found else _ONE
        if found and all(p == q * a.extent for p, q in zip(before[1:], a[1:], strict=True)):
            found[-1] = Axis(before.extent * a.extent, *a[1:])
        else:
            found.append(a)
    return found


def _with_core(letter: str, row: Axis, inner: Axis, column: Axis) -> MatrixProduct | None:
    """The call whose axes these are, where each matrix has neighbours in memory along one of its axes."""
    m, k, n = row.extent, inner.extent, column.extent
    if k == 1 or m == n == 1:
        return None
    if n == 1 or m == 1:
        return _by_gemv(letter, row, inner, column)
    left = _matrix(0, (m, row.x), (k, inner.x))
    right = _matrix(1, (k, inner.y), (n, column.y))
    out = _matrix(2, (m, row.out), (n, column.out))
    if left is None or right is None or out is None:
        return None
    if out.is_transposed:  # the transposed product has a result whose rows lie in memory one after the other
        left, right = (q._replace(is_transposed=not q.is_transposed) for q in (right, left))
        out, m, n = out._replace(is_transposed=False), n, m
    return MatrixProduct(letter, left, right, out, m, n, k, (), ())


def _by_gemv(letter: str, row: Axis, inner: Axis, column: Axis) -> MatrixProduct | None:
    which, free = (0, row) if column.extent == 1 else (1, column)
    matrix = _matrix(which, (free.extent, free[1 + which]), (inner.extent, inner[1 + which]))
    if matrix is None:
        return None
    vector, out = Matrix(1 - which, False, inner[2 - which]), Matrix(2, False, free.out)
    return MatrixProduct(letter, matrix, vector, out, free.extent, 1, inner.extent, (), ())


def _matrix(operand: int, first: tuple[int, int], second: tuple[int, int]) -> Matrix | None:
    """A matrix from the (extent, stride) of its two axes."""
    for is_transposed, (_, apart), (n, near) in ((False, first, second), (True, second, first)):
        if near == 1 and apart >= n:
            return Matrix(operand, is_transposed, apart)
    return None


def arranged(program: Program, takes: Callable[[Equation], bool]) -> Program:
    """The program with transposes around the contractions that BLAS takes but not with operands as they lie in memory."""
    equations: list[Equation] = []
    for e in program.equations:
        if takes(e) and matrix_product(e) is None:
            equations += _in_order(e)
        else:
            equations.append(e)
    return replace(program, equations=tuple(equations))


def _in_order(e: Equation) -> list[Equation]:
    """A contraction of operands in the order batch, rows, summed, columns."""
    left, right, to = (e.params[name] for name in ("left", "right", "to"))
    batch = tuple(a for a in to if a in left and a in right)
    rows, columns = (
        tuple(a for a in to if a in one and a not in other) for one, other in ((left, right), (right, left))
    )
    summed = tuple(a for a in left if a not in to)
    equations: list[Equation] = []

    def moved(a: Atom, labels: Sequence[Any], order: Sequence[Any]) -> Atom:
        axes = tuple(labels.index(label) for label in order)
        if axes == tuple(range(len(axes))):
            return a
        out = Var(ArrayType(tuple(a.type.shape[k] for k in axes), a.type.dtype))
        equations.append(Equation(ops.transpose, (a,), {"axes": axes}, (out,), e.origin))
        return out

    x = moved(e.args[0], left, (*batch, *rows, *summed))
    y = moved(e.args[1], right, (*batch, *summed, *columns))
    made = (*batch, *rows, *columns)
    params = {"left": (*batch, *rows, *summed), "right": (*batch, *summed, *columns), "to": made}
    if made == to:
        return [*equations, Equation(e.primitive, (x, y), params, e.outs, e.origin)]
    extents = dict(zip(to, e.outs[0].type.shape, strict=True))
    between = Var(ArrayType(tuple(extents[a] for a in made), e.outs[0].type.dtype))
    back = {"axes": tuple(made.index(a) for a in to)}
    equations.append(Equation(e.primitive, (x, y), params, (between,), e.origin))
    return [*equations, Equation(ops.transpose, (between,), back, e.outs, e.origin)]


# ---- the code


def product_function(module: Any, name: str, p: MatrixProduct, *, adds: bool) -> Any:
    """The function `name(x, y, out, status)`; it adds to what is in `out`, or overwrites it."""
    function = assembly.Function(module, assembly.FunctionType(assembly.VOID, [PTR] * 4), name, internal=True)
    builder = assembly.Builder(function.append_basic_block("entry"))
    call = _Call(builder, module, p)
    with call.over(p.loops, function.args[:3]) as pointers, call.over(p.sums, pointers) as inner:
        call.emit(inner, call.beta(adds=adds))
    builder.ret_void()
    return function


class _Call:
    """A call of gemm or gemv under construction."""

    def __init__(self, builder: Any, module: Any, p: MatrixProduct) -> None:
        self.builder, self.module, self.p = builder, module, p
        self.kind = _FLOATS[p.letter]
        self.indices: list[Any] = []

    @contextmanager
    def over(self, axes: Sequence[Axis], pointers: Sequence[Any]) -> Iterator[list[Any]]:
        """Loops over axes, as a context that gives the operands' places within."""
        b, places = self.builder, list(pointers)
        with ExitStack() as loops:
            for axis in axes:
                index = loops.enter_context(Loop(b, 0, axis.extent, 1))
                self.indices.append(index)
                places = [
                    b.gep(q, [b.mul(index, I64(stride))], source_etype=self.kind) if stride else q
                    for q, stride in zip(places, axis[1:], strict=True)
                ]
            yield places

    def beta(self, *, adds: bool) -> Any:
        """What the result is multiplied by before: 0, or 1 once something of it is there."""
        one, zero = self._constant(self.kind, 1.0), self._constant(self.kind, 0.0)
        indices = self.indices[len(self.p.loops) :]
        if adds or not indices:
            return one if adds else zero
        b = self.builder
        some = indices[0]
        for i in indices[1:]:
            some = b.or_(some, i)
        return b.select(b.icmp_unsigned("==", some, I64(0)), zero, one)

    def emit(self, pointers: Sequence[Any], beta: Any) -> None:
        """Fortran stores columns where we store rows: it is asked for the transposed product of the transposed operands."""
        p, one = self.p, self._constant(self.kind, 1.0)
        left, right, out = pointers[p.left.operand], pointers[p.right.operand], pointers[2]
        whole = self._constant
        if p.n == 1:
            rows, columns = (p.m, p.k) if p.left.is_transposed else (p.k, p.m)
            flag = self._flag(p.left.is_transposed is False)
            sizes = [whole(I32, rows), whole(I32, columns)]
            lead, step, out_step = (whole(I32, q.stride) for q in (p.left, p.right, p.out))
            self._call("gemv", [flag, *sizes, one, left, lead, right, step, beta, out, out_step])
            return
        flags = [self._flag(q.is_transposed) for q in (p.right, p.left)]
        sizes = [whole(I32, n) for n in (p.n, p.m, p.k)]
        lead_left, lead_right, lead_out = (whole(I32, q.stride) for q in (p.left, p.right, p.out))
        self._call("gemm", [*flags, *sizes, one, right, lead_right, left, lead_left, beta, out, lead_out])

    def _call(self, name: str, args: Sequence[Any]) -> None:
        call_routine(self.builder, f"{PREFIX}{self.p.letter}{name}", args)

    def _flag(self, is_transposed: bool) -> Any:
        return self._constant(I8, ord("T" if is_transposed else "N"))

    def _constant(self, kind: Any, value: float) -> Any:
        return constant(self.module, kind, value)


def call_routine(builder: Any, symbol: str, args: Sequence[Any]) -> None:
    """Call a routine, declared where it is not yet."""
    routine = builder.module.globals.get(symbol)
    if routine is None:
        routine = assembly.Function(builder.module, assembly.FunctionType(assembly.VOID, [PTR] * len(args)), symbol)
    builder.call(routine, args)


def constant(module: Any, kind: Any, value: float) -> Any:
    """The address of a constant, which Fortran takes in the place of its value."""
    name = f"{kind}.{value}"
    known = module.globals.get(name)
    if known is None:
        known = assembly.GlobalVariable(module, assembly.Constant(kind, value), name)
    return known


def flops(p: MatrixProduct) -> int:
    """Multiplications and additions of all calls."""
    return 2 * p.m * p.n * p.k * prod(a.extent for a in (*p.loops, *p.sums))


def text(p: MatrixProduct) -> str:
    """How it is computed, in words."""
    calls = prod(a.extent for a in (*p.loops, *p.sums))
    routine = f"{p.letter}gem{'v' if p.n == 1 else 'm'}"
    return f"{calls} x {routine} of {p.m} x {p.k} by {p.k} x {p.n}"
