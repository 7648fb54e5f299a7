"""Contractions as products of matrices, one call for each.

    out[batch, rows, columns] = sum over summed of x[batch, rows, summed] y[batch, summed, columns]

The labels of a contraction are sorted into these four groups; neighbouring labels of a group that lie in memory as one become one
axis; of each group but the batch one axis is left to the call, and loops run over the others. A product of two matrices is one of
`gemm`, which takes any strides; that of a matrix and a vector one of BLAS, for which the matrix has neighbours along one axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm import assembly, blas
from chainrule.backends.llvm.assembly import I1, I8, I32, I64, PTR, VOID
from chainrule.backends.llvm.blocking import FLOATS, Blocking, blocking, symbol
from chainrule.backends.llvm.emit import Loop
from chainrule.backends.llvm.target import Target
from chainrule.ir.primitive import ops
from chainrule.ir.program import Atom, Equation, Program, Var
from chainrule.ir.types import ArrayType, Shape

_LETTERS = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}


# ---- how a contraction becomes matrix products


class Axis(NamedTuple):
    """A label, or neighbouring labels as one: its extent, and its strides in x, y and out, in elements; 0 where it is not there."""

    extent: int
    x: int
    y: int
    out: int


class Matrix(NamedTuple):
    """An operand of a product: its number among x, y and out; the strides of its rows and of its columns, in elements."""

    operand: int
    row: int
    column: int


class MatrixProduct(NamedTuple):
    """One call inside loops: left (m by k) times right (k by n) gives out (m by n); right is a vector if n is 1."""

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
    """How a contraction is computed by products as its operands lie in memory; None where it is not."""
    if e.primitive.name != "contract":
        return None
    x, y = (a.type for a in e.args)
    out = e.outs[0].type
    letter = _LETTERS.get(out.dtype)
    if letter is None or x.dtype != out.dtype or y.dtype != out.dtype or min(x.size, y.size, out.size) == 0:
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
    """The call whose axes these are."""
    m, k, n = row.extent, inner.extent, column.extent
    if m == 1 or n == 1:
        return _by_gemv(letter, row, inner, column)
    left, right, out = Matrix(0, row.x, inner.x), Matrix(1, inner.y, column.y), Matrix(2, row.out, column.out)
    return MatrixProduct(letter, left, right, out, m, n, k, (), ())


def _by_gemv(letter: str, row: Axis, inner: Axis, column: Axis) -> MatrixProduct | None:
    """A matrix times a vector, where the matrix has neighbours in memory along one of its axes."""
    which, free = (0, row) if column.extent == 1 else (1, column)
    m, k = free.extent, inner.extent
    matrix = Matrix(which, free[1 + which], inner[1 + which])
    vector, out = Matrix(1 - which, inner[2 - which], 0), Matrix(2, free.out, 0)
    furthest = max(m * matrix.row, k * matrix.column, k * vector.row, m * out.row)
    if min(m, k) == 1 or furthest > blas.LARGEST or not blas.addresses():
        return None
    if not ((matrix.column == 1 and matrix.row >= k) or (matrix.row == 1 and matrix.column >= m)):
        return None
    return MatrixProduct(letter, matrix, vector, out, m, 1, k, (), ())


def arranged(program: Program, takes: Callable[[Equation], bool]) -> Program:
    """The program with transposes around the contractions that are products but not with operands as they lie in memory."""
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


def product_function(module: Any, name: str, p: MatrixProduct, target: Target, *, adds: bool) -> Any:
    """The function `name(x, y, out, workspace, status)`; it adds to what is in `out`, or overwrites it."""
    function = assembly.Function(module, assembly.FunctionType(VOID, [PTR] * 5), name, internal=True)
    builder = assembly.Builder(function.append_basic_block())
    call = _Call(builder, module, p)
    with call.over(p.loops, function.args[:3]) as pointers, call.over(p.sums, pointers) as inner:
        if p.n == 1:
            call.gemv(inner, adds=adds)
        else:
            call.gemm(inner, function.args[3], blocks(p, target), adds=adds)
    builder.ret_void()
    return function


def blocks(p: MatrixProduct, target: Target) -> Blocking:
    """How one call is cut into blocks."""
    return blocking(p.letter, target, (p.m, p.n, p.k), *(q[1:] for q in (p.left, p.right, p.out)))


def workspace(p: MatrixProduct, target: Target) -> int:
    """Bytes of workspace of a call."""
    return 0 if p.n == 1 else blocks(p, target).nbytes


class _Call:
    """A call under construction."""

    def __init__(self, builder: Any, module: Any, p: MatrixProduct) -> None:
        self.builder, self.module, self.p = builder, module, p
        self.kind = FLOATS[p.letter]
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

    def _overwrites(self, *, adds: bool) -> Any:
        """Whether nothing of the result is there yet, a bit: in the first turn of all loops over what is summed."""
        if adds:
            return I1(0)
        b, first = self.builder, I1(1)
        for i in self.indices[len(self.p.loops) :]:
            first = b.and_(first, b.icmp_unsigned("==", i, I64(0)))
        return first

    def gemm(self, pointers: Sequence[Any], workspace: Any, blocks: Blocking, *, adds: bool) -> None:
        """A product of two matrices, as its blocking says."""
        b, p = self.builder, self.p
        left, right, out = (pointers[q.operand] for q in (p.left, p.right, p.out))
        if blocks.is_transposed:
            left, right = right, left
        place = self._record(blocks)
        is_adding = b.zext(b.not_(self._overwrites(adds=adds)), I64)
        routine = blas.declared(self.module, symbol(p.letter), [PTR] * 5 + [I64])
        b.call(routine, [place, left, right, out, workspace, is_adding])

    def _record(self, blocks: Blocking) -> Any:
        """The words of the record, in memory."""
        name = ".".join(map(str, ("record", *blocks.record)))
        known = self.module.globals.get(name)
        if known is None:
            words = assembly.array(I64, len(blocks.record))(blocks.record)
            known = assembly.GlobalVariable(self.module, words, name)
        return known

    def gemv(self, pointers: Sequence[Any], *, adds: bool) -> None:
        """Fortran stores columns where we store rows: its matrix is the transpose of ours."""
        b, p = self.builder, self.p
        left, right, out = (pointers[q.operand] for q in (p.left, p.right, p.out))
        whole, one, zero = self._constant, self._constant(self.kind, 1.0), self._constant(self.kind, 0.0)
        rows_are_near = p.left.column == 1
        rows, columns, lead = (p.k, p.m, p.left.row) if rows_are_near else (p.m, p.k, p.left.column)
        flag = whole(I8, ord("T" if rows_are_near else "N"))
        sizes = [whole(I32, n) for n in (rows, columns)]
        beta = b.select(self._overwrites(adds=adds), zero, one)
        steps = [whole(I32, n) for n in (lead, p.right.row, p.out.row)]
        arguments = [flag, *sizes, one, left, steps[0], right, steps[1], beta, out, steps[2]]
        blas.call_routine(b, f"{blas.PREFIX}{p.letter}gemv", arguments)

    def _constant(self, kind: Any, value: float) -> Any:
        return blas.constant(self.module, kind, value)


def flops(p: MatrixProduct) -> int:
    """Multiplications and additions of all calls."""
    return 2 * p.m * p.n * p.k * prod(a.extent for a in (*p.loops, *p.sums))


def text(p: MatrixProduct) -> str:
    """How it is computed, in words."""
    calls = prod(a.extent for a in (*p.loops, *p.sums))
    routine = f"BLAS: {calls} x {p.letter}gemv" if p.n == 1 else f"products: {calls} x {p.letter}gemm"
    return f"{routine} of {p.m} x {p.k} by {p.k} x {p.n}"
