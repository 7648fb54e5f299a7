"""Factorisations and solves as calls of LAPACK from native code, by the addresses that SciPy exports.

    cholesky            potrf in place, on a copy of the triangle that is read
    solve               getrf of a copy with its columns in memory, as NumPy's, then getrs
    inv                 the same, and getrs of the transposed system for the identity
    det, slogdet        getrf alike: the signs of pivots and swaps, and the sum of the pivots' logarithms, as NumPy's
    solve_triangular    trsm from the right, or trsv, in place on a copy of the right-hand sides

Fortran's columns are our rows: a matrix of ours is its transpose there, and a lower triangle an upper one. Where LAPACK finds a
matrix singular or not positive definite, or a number on the diagonal of a factor is not finite, the run ends like one with an
index out of range, and NumPy computes, or raises, what it does.

What is of single precision is converted, and factored in double precision, which is how NumPy does it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm import assembly, blas, vector_maths
from chainrule.backends.llvm.assembly import F64, I8, I32, I64, PTR
from chainrule.backends.llvm.emit import Loop
from chainrule.backends.llvm.memory import LINE
from chainrule.ir.primitive import ops
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType

OPERANDS = {"cholesky": 1, "inv": 1, "det": 1, "slogdet": 2, "solve": 2, "solve_triangular": 2}
"""The operations, and how many buffers there are beside the matrices: right-hand sides and results."""


class Factors(NamedTuple):
    """A stack of `depth` matrices of n rows, to be factored or divided by; others have `columns`, or are numbers if 0."""

    operation: str
    depth: int
    n: int
    columns: int
    is_lower: bool

    @property
    def places(self) -> tuple[int, int, int]:
        """Where the pivots, the factors and the right-hand sides begin in the workspace, after LAPACK's answer."""
        factors = LINE + _in_lines(4 * self.n)
        return LINE, factors, factors + _in_lines(8 * self.n * self.n)

    @property
    def nbytes(self) -> int:
        """Bytes of workspace."""
        if self.operation in ("cholesky", "solve_triangular"):
            return LINE
        return self.places[2] + (8 * self.n * self.columns if self.operation == "solve" else 0)


def _in_lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


def factors(e: Equation) -> Factors | None:
    """How LAPACK computes an equation; None where it does not."""
    if e.primitive.name not in OPERANDS:
        return None
    types = [a.type for a in (*e.args, *e.outs)]
    first = types[0]
    if not blas.lapack_addresses() or any(t.dtype != np.float64 or not 0 < t.size <= blas.LARGEST for t in types):
        return None
    is_number = e.primitive.name in ("det", "slogdet")
    if not is_number and any(t.shape[:-1] != first.shape[:-1] for t in types):
        return None
    columns = 0 if is_number else types[-1].shape[-1]
    is_lower = e.params.get("lower", not e.params.get("upper", False))
    return Factors(e.primitive.name, prod(first.shape[:-2]), first.shape[-1], columns, is_lower)


def flops(f: Factors) -> int:
    """About how many multiplications and additions it takes."""
    cube, side = f.n**3, f.n * f.n * f.columns
    costs = {"cholesky": cube // 3, "solve_triangular": side}
    return f.depth * costs.get(f.operation, 2 * cube // 3 + 2 * side)


def text(f: Factors) -> str:
    """How it is computed, in words."""
    routine = {"cholesky": "potrf", "solve_triangular": "trsv" if f.columns == 1 else "trsm"}.get(f.operation, "getrf")
    return f"{f.operation}: {f.depth} x d{routine} of {f.n} x {f.n}"


def in_double(program: Program) -> Program:
    """The program with matrices of single precision factored in double precision, as NumPy does it."""
    equations: list[Equation] = []
    for e in program.equations:
        equations += _widened(e) if e.primitive.name in OPERANDS else [e]
    return replace(program, equations=tuple(equations))


def _widened(e: Equation) -> list[Equation]:
    """An equation of single precision as one of double precision between conversions; any other as it is."""
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    if any(a.type.dtype != single for a in (*e.args, *e.outs)):
        return [e]
    conversions: list[Equation] = []

    def wide(a: Atom) -> Atom:
        if isinstance(a, Literal):
            return Literal(np.asarray(a.value, double))
        out = Var(ArrayType(a.type.shape, double))
        conversions.append(Equation(ops.convert, (a,), {"dtype": double}, (out,), e.origin))
        return out

    outs = tuple(Var(ArrayType(o.type.shape, double)) for o in e.outs)
    within = Equation(e.primitive, tuple(map(wide, e.args)), e.params, outs, e.origin)
    if factors(within) is None:
        return [e]
    back = [Equation(ops.convert, (w,), {"dtype": single}, (o,), e.origin) for w, o in zip(outs, e.outs, strict=True)]
    return [*conversions, within, *back]


# ---- the code


def factors_function(module: Any, name: str, f: Factors, *, fused: bool) -> Any:
    """The function `name(a, ..., out, workspace, status)`."""
    others = OPERANDS[f.operation]
    kind = assembly.FunctionType(assembly.VOID, [PTR] * (others + 3))
    function = assembly.Function(module, kind, name, internal=True)
    code = _Code(assembly.Builder(function.append_basic_block("entry")), f, *function.args[-2:], fused=fused)
    sizes = [f.n * f.n] + [f.n * f.columns or 1] * others
    with Loop(code.builder, 0, f.depth, 1) as turn:
        at = [code.element(p, code.builder.mul(turn, I64(size))) for p, size in zip(function.args, sizes, strict=False)]
        getattr(code, f.operation)(*at)
    code.builder.ret_void()
    return function


class _Code:
    """The code for one matrix under construction."""

    def __init__(self, builder: Any, f: Factors, workspace: Any, status: Any, *, fused: bool) -> None:
        self.builder, self.module, self.f, self.status, self.fused = builder, builder.module, f, status, fused
        self.info, self.sums = workspace, builder.gep(workspace, [I64(LINE // 2)], source_etype=I8)
        self.pivots, self.factors, self.sides = (builder.gep(workspace, [I64(n)], source_etype=I8) for n in f.places)

    # ---- the operations

    def cholesky(self, a: Any, out: Any) -> None:
        """The factor in the place of the triangle of a that is read; zeros in the other."""
        b, n = self.builder, self.f.n
        zero = assembly.Constant(F64, 0.0)
        with Loop(b, 0, n, 1) as i, Loop(b, 0, n, 1) as j:
            at = b.add(b.mul(i, I64(n)), j)
            is_read = b.icmp_unsigned("<=", *((j, i) if self.f.is_lower else (i, j)))
            self._store(out, at, b.select(is_read, self._load(a, at), zero))
        self._call("potrf", self._uplo(), self._whole(n), out, self._whole(n), self.info)
        self._fail(b.or_(self._found_fault(), self._has_bad_diagonal(out)))

    def solve(self, a: Any, sides: Any, out: Any) -> None:
        """Right-hand sides with their columns in memory, which a single one has anyway."""
        n, k = self.f.n, self.f.columns
        with self.builder.if_then(self._factor(a)):
            if k == 1:
                self._copy(sides, out, n)
                self._substitute("N", out)
            else:
                self._transpose(sides, self.sides, n, k)
                self._substitute("N", self.sides)
                self._transpose(self.sides, out, k, n)

    def inv(self, a: Any, out: Any) -> None:
        """The columns of the inverse of the transpose are the rows of the inverse."""
        b, n = self.builder, self.f.n
        with b.if_then(self._factor(a)):
            with Loop(b, 0, n, 1) as i, Loop(b, 0, n, 1) as j:
                one, zero = assembly.Constant(F64, 1.0), assembly.Constant(F64, 0.0)
                self._store(out, b.add(b.mul(i, I64(n)), j), b.select(b.icmp_unsigned("==", i, j), one, zero))
            self._substitute("T", out)

    def solve_triangular(self, a: Any, sides: Any, out: Any) -> None:
        """a x = b, that is x^T a^T = b^T, in which all three are as Fortran sees what lies in memory."""
        n, k = self.f.n, self.f.columns
        self._copy(sides, out, n * k)
        flag, whole = self._flag, self._whole
        if k == 1:
            self._call("trsv", self._uplo(), flag("T"), flag("N"), whole(n), a, whole(n), out, whole(1))
        else:
            one = blas.constant(self.module, F64, 1.0)
            flags = [flag("R"), self._uplo(), flag("N"), flag("N")]
            self._call("trsm", *flags, whole(k), whole(n), one, a, whole(n), out, whole(k))
        self._fail(self._has_bad_diagonal(a))

    def slogdet(self, a: Any, sign: Any, log: Any) -> None:
        """The sign, and the logarithm of the absolute value."""
        with self.builder.if_then(self._factor(a)):
            for target, x in zip((sign, log), self._sign_and_logarithm(), strict=True):
                self._store(target, I64(0), x)

    def det(self, a: Any, out: Any) -> None:
        """By logarithms, since products of the pivots overflow where the determinant does not."""
        b = self.builder
        with b.if_then(self._factor(a)):
            sign, log = self._sign_and_logarithm()
            self._store(out, I64(0), b.fmul(sign, vector_maths.emit(b, "exp", [log], fused=self.fused)))

    # ---- steps

    def _factor(self, a: Any) -> Any:
        """Factor a copy of a; whether that went well."""
        n = self._whole(self.f.n)
        self._transpose(a, self.factors, self.f.n, self.f.n)
        self._call("getrf", n, n, self.factors, n, self.pivots, self.info)
        fault = self.builder.or_(self._found_fault(), self._has_bad_diagonal(self.factors))
        self._fail(fault)
        return self.builder.not_(fault)

    def _sign_and_logarithm(self) -> tuple[Any, Any]:
        """Of the product of the pivots, negative once more for every swap of rows."""
        b = self.builder
        zero = assembly.Constant(F64, 0.0)
        self._store(self.sums, I64(0), assembly.Constant(F64, 1.0))
        self._store(self.sums, I64(1), zero)
        with Loop(b, 0, self.f.n, 1) as i:
            x = self._load(self.factors, b.mul(i, I64(self.f.n + 1)))
            row = b.load(b.gep(self.pivots, [i], source_etype=I32), typ=I32)
            is_swapped = b.icmp_unsigned("!=", b.zext(row, I64), b.add(i, I64(1)))
            is_negative = b.fcmp_ordered("<", x, zero)
            sign, log = (self._load(self.sums, I64(k)) for k in (0, 1))
            self._store(self.sums, I64(0), b.select(b.xor(is_swapped, is_negative), b.fneg(sign), sign))
            size = b.select(is_negative, b.fneg(x), x)
            self._store(self.sums, I64(1), b.fadd(log, vector_maths.emit(b, "log", [size], fused=self.fused)))
        return self._load(self.sums, I64(0)), self._load(self.sums, I64(1))

    def _substitute(self, transposed: str, sides: Any) -> None:
        n, k = self._whole(self.f.n), self._whole(self.f.columns)
        self._call("getrs", self._flag(transposed), n, k, self.factors, n, self.pivots, sides, n, self.info)

    def _found_fault(self) -> Any:
        return self.builder.icmp_signed("!=", self.builder.load(self.info, typ=I32), I32(0))

    def _has_bad_diagonal(self, a: Any) -> Any:
        """Whether a number on the diagonal is zero, infinite or NaN, which takes the place of LAPACK's answer."""
        b, n = self.builder, self.f.n
        zero = assembly.Constant(F64, 0.0)
        b.store(I32(0), self.info)
        with Loop(b, 0, n, 1) as i:
            x = self._load(a, b.mul(i, I64(n + 1)))
            is_finite = b.fcmp_ordered("==", b.fsub(x, x), zero)
            is_good = b.and_(is_finite, b.fcmp_ordered("!=", x, zero))
            b.store(b.or_(b.load(self.info, typ=I32), b.zext(b.not_(is_good), I32)), self.info)
        return self._found_fault()

    def _fail(self, fault: Any) -> None:
        with self.builder.if_then(fault, likely=False):
            self.builder.atomic_rmw("or", self.status, I32(1), "monotonic")

    # ---- memory

    def element(self, pointer: Any, at: Any) -> Any:
        """The place of an element."""
        return self.builder.gep(pointer, [at], source_etype=F64)

    def _load(self, pointer: Any, at: Any) -> Any:
        return self.builder.load(self.element(pointer, at), typ=F64)

    def _store(self, pointer: Any, at: Any, x: Any) -> None:
        self.builder.store(x, self.element(pointer, at))

    def _copy(self, source: Any, target: Any, size: int) -> None:
        with Loop(self.builder, 0, size, 1) as i:
            self._store(target, i, self._load(source, i))

    def _transpose(self, source: Any, target: Any, rows: int, columns: int) -> None:
        b = self.builder
        with Loop(b, 0, columns, 1) as j, Loop(b, 0, rows, 1) as i:
            x = self._load(source, b.add(b.mul(i, I64(columns)), j))
            self._store(target, b.add(b.mul(j, I64(rows)), i), x)

    # ---- calls

    def _call(self, name: str, *args: Any) -> None:
        blas.call_routine(self.builder, f"{blas.PREFIX}d{name}", args)

    def _flag(self, letter: str) -> Any:
        return blas.constant(self.module, I8, ord(letter))

    def _whole(self, n: int) -> Any:
        return blas.constant(self.module, I32, n)

    def _uplo(self) -> Any:
        """A triangle as Fortran sees it."""
        return self._flag("U" if self.f.is_lower else "L")
