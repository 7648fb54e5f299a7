"""Arithmetic on lanes: LLVM values that read as mathematics, one number or a vector of them alike.

    lanes = Lanes(builder, width=8)
    x = lanes.wrap(value)                  # a Real: <8 x double>
    y = lanes.where(x > 1.0, x * x, -x)    # no branch: a select

A `Real` holds float64 lanes, a `Whole` their int64 lanes, a `Mask` one bit a lane. Python floats and ints become constants in
every lane. `Lanes(builder)` without a width works on a plain double by the same code.

Only target-independent intrinsics are used. Where a target has no fused multiply-add, `fused=False` computes `fma` as a product
and a sum, and `two_product` by Dekker's splitting, so that nothing calls the C library.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import F32, F64, I64

SHIFTER = 6755399441055744.0
"""1.5 * 2**52: added to a number below 2**51, it leaves the nearest integer in the low bits of the sum."""

TINIEST_NORMAL = 2.0**-1022


class Series(NamedTuple):
    """Coefficients of a polynomial, lowest first: for float64 results, and a shorter one that suffices for float32."""

    double: tuple[float, ...]
    short: tuple[float, ...]


def bits_of(value: float) -> int:
    """The 64 bits of a double, as a signed integer."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def tag(kind: Any) -> str:
    """The name that LLVM gives a type within the names of intrinsics: f64, v8f64."""
    if assembly.is_vector(kind):
        return f"v{kind.count}{tag(kind.element)}"
    return {F64: "f64", F32: "f32"}.get(kind) or str(kind)


def widen(kind: Any, width: int | None) -> Any:
    """The type of `width` lanes of a scalar type; without a width the scalar type itself."""
    return kind if width is None else assembly.vector(kind, width)


def align_stack(function: Any, width: int | None) -> None:
    """Have a function keep its stack aligned to vectors of `width` float64, so that none it spills straddles cache lines.

    LLVM finds out about spills when it is too late to realign the stack, and then spills unaligned.
    """
    if width is not None and width > 2:
        function.alignstack = min(8 * width, 64)


@dataclass(frozen=True, eq=False)
class Mask:
    """One truth value a lane."""

    lanes: Lanes
    value: Any

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.lanes, self.lanes.builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.lanes, self.lanes.builder.or_(self.value, other.value))

    def __xor__(self, other: Mask) -> Mask:
        return Mask(self.lanes, self.lanes.builder.xor(self.value, other.value))

    def __invert__(self) -> Mask:
        return Mask(self.lanes, self.lanes.builder.not_(self.value))


@dataclass(frozen=True, eq=False)
class Whole:
    """An int64 in each lane, in two's complement; arithmetic wraps around."""

    lanes: Lanes
    value: Any

    def _with(self, operation: str, other: Whole | int) -> Whole:
        lanes = self.lanes
        return Whole(lanes, getattr(lanes.builder, operation)(self.value, lanes.whole(other).value))

    def __add__(self, other: Whole | int) -> Whole:
        return self._with("add", other)

    def __sub__(self, other: Whole | int) -> Whole:
        return self._with("sub", other)

    def __and__(self, other: Whole | int) -> Whole:
        return self._with("and_", other)

    def __or__(self, other: Whole | int) -> Whole:
        return self._with("or_", other)

    def __xor__(self, other: Whole | int) -> Whole:
        return self._with("xor", other)

    def __lshift__(self, other: Whole | int) -> Whole:
        return self._with("shl", other)

    def __rshift__(self, other: Whole | int) -> Whole:
        return self._with("ashr", other)

    def below(self, other: Whole | int) -> Mask:
        """Which lanes hold the smaller integer, both read without a sign."""
        lanes = self.lanes
        return Mask(lanes, lanes.builder.icmp_unsigned("<", self.value, lanes.whole(other).value))

    def equals(self, other: Whole | int) -> Mask:
        """Which lanes hold the same integer."""
        lanes = self.lanes
        return Mask(lanes, lanes.builder.icmp_signed("==", self.value, lanes.whole(other).value))

    def as_real(self) -> Real:
        """The doubles that have these bits."""
        return Real(self.lanes, self.lanes.builder.bitcast(self.value, self.lanes.real_type))

    def to_real(self) -> Real:
        """The same integers as doubles, for integers below 2**51 in magnitude."""
        return (self + bits_of(SHIFTER)).as_real() - SHIFTER


@dataclass(frozen=True, eq=False)
class Real:
    """A float64 in each lane."""

    lanes: Lanes
    value: Any

    def _with(self, operation: str, left: Real | float, right: Real | float) -> Real:
        lanes = self.lanes
        return Real(lanes, getattr(lanes.builder, operation)(lanes.real(left).value, lanes.real(right).value))

    def _compare(self, relation: str, other: Real | float) -> Mask:
        lanes = self.lanes
        return Mask(lanes, lanes.builder.fcmp_ordered(relation, self.value, lanes.real(other).value))

    def __add__(self, other: Real | float) -> Real:
        return self._with("fadd", self, other)

    def __radd__(self, other: float) -> Real:
        return self._with("fadd", other, self)

    def __sub__(self, other: Real | float) -> Real:
        return self._with("fsub", self, other)

    def __rsub__(self, other: float) -> Real:
        return self._with("fsub", other, self)

    def __mul__(self, other: Real | float) -> Real:
        return self._with("fmul", self, other)

    def __rmul__(self, other: float) -> Real:
        return self._with("fmul", other, self)

    def __truediv__(self, other: Real | float) -> Real:
        return self._with("fdiv", self, other)

    def __rtruediv__(self, other: float) -> Real:
        return self._with("fdiv", other, self)

    def __neg__(self) -> Real:
        return Real(self.lanes, self.lanes.builder.fneg(self.value))

    def __abs__(self) -> Real:
        return self.lanes.intrinsic("fabs", self)

    def __lt__(self, other: Real | float) -> Mask:
        return self._compare("<", other)

    def __le__(self, other: Real | float) -> Mask:
        return self._compare("<=", other)

    def __gt__(self, other: Real | float) -> Mask:
        return self._compare(">", other)

    def __ge__(self, other: Real | float) -> Mask:
        return self._compare(">=", other)

    def equals(self, other: Real | float) -> Mask:
        """Which lanes hold equal numbers; never those with a NaN."""
        return self._compare("==", other)

    def is_nan(self) -> Mask:
        """Which lanes hold a NaN."""
        return Mask(self.lanes, self.lanes.builder.fcmp_unordered("uno", self.value, self.value))

    def is_positive_normal(self) -> Mask:
        """Which lanes hold a number from 2**-1022 up, but not infinity: by their bits, in one comparison."""
        return (self.bits() - bits_of(TINIEST_NORMAL)).below(bits_of(math.inf) - bits_of(TINIEST_NORMAL))

    def bits(self) -> Whole:
        """The bits of the doubles, as integers."""
        return Whole(self.lanes, self.lanes.builder.bitcast(self.value, self.lanes.whole_type))


@dataclass(frozen=True)
class Pair:
    """An unevaluated sum hi + lo, with lo small against hi: about twice the digits of a double."""

    hi: Real
    lo: Real


class Lanes:
    """Constants and operations on `width` lanes of float64, emitted at the builder's position.

    short: results will be rounded to float32, so formulas may drop what float32 cannot hold
    fused: the target multiplies and adds in one rounding
    """

    def __init__(self, builder: Any, width: int | None = None, *, short: bool = False, fused: bool = True) -> None:
        self.builder = builder
        self.width = width
        self.short = short
        self.fused = fused
        self.real_type = widen(F64, width)
        self.whole_type = widen(I64, width)

    # values ---------------------------------------------------------------------------------------------------------

    def wrap(self, value: Any) -> Real:
        """The lanes of an LLVM value."""
        return Real(self, value)

    def constant(self, kind: Any, value: float) -> Any:
        """One constant in every lane."""
        scalar = assembly.Constant(kind, value)
        return scalar if self.width is None else assembly.splat(scalar, self.width)

    def real(self, value: Real | float) -> Real:
        """A float in every lane."""
        return value if isinstance(value, Real) else Real(self, self.constant(F64, float(value)))

    def whole(self, value: Whole | int) -> Whole:
        """An int in every lane."""
        return value if isinstance(value, Whole) else Whole(self, self.constant(I64, value))

    # operations -----------------------------------------------------------------------------------------------------

    def intrinsic(self, name: str, *args: Real) -> Real:
        """llvm.<name> of these lanes, declared at its first use in the module."""
        full = f"llvm.{name}.{tag(self.real_type)}"
        return Real(self, self.builder.intrinsic(full, self.real_type, [a.value for a in args]))

    def fma(self, a: Real | float, b: Real | float, c: Real | float) -> Real:
        """a * b + c, in one rounding where the target can."""
        if self.fused:
            return self.intrinsic("fma", self.real(a), self.real(b), self.real(c))
        return self.real(a) * b + c

    def sqrt(self, x: Real) -> Real:
        """The square root, correctly rounded."""
        return self.intrinsic("sqrt", x)

    def rint(self, x: Real) -> Real:
        """The nearest integer, ties to even."""
        if self.fused:
            return self.intrinsic("rint", x)
        # A target so old may have no instruction for it, and would call the C library.
        size = abs(x)
        return self.where(size < 2.0**52, self.copysign((size + 2.0**52) - 2.0**52, x), x)

    def copysign(self, magnitude: Real | float, sign: Real) -> Real:
        """|magnitude| with the sign of `sign`, a zero's included."""
        return self.intrinsic("copysign", self.real(magnitude), sign)

    def where(self, mask: Mask, yes: Real | float, no: Real | float) -> Real:
        """`yes` in the lanes of the mask, `no` in the others."""
        return Real(self, self.builder.select(mask.value, self.real(yes).value, self.real(no).value))

    def at_least(self, x: Real, low: float) -> Real:
        """max(x, low); NaN stays NaN."""
        return self.where(x < low, low, x)

    def at_most(self, x: Real, high: float) -> Real:
        """min(x, high); NaN stays NaN."""
        return self.where(x > high, high, x)

    def nearest(self, x: Real | float, scale: float = 1.0) -> tuple[Real, Whole]:
        """n = rint(scale * x), |n| < 2**51, and n modulo 2**51 as an integer: arbitrary bits above, and for NaN or infinity."""
        shifted = self.fma(x, scale, SHIFTER) if scale != 1.0 else self.real(x) + SHIFTER
        return shifted - SHIFTER, shifted.bits()

    def power_of_two(self, n: Whole) -> Real:
        """2**n for -1022 <= n <= 1023, and 0 for n = -1023; bits of n above the low 12 do not matter."""
        return ((n + 1023) << 52).as_real()

    def polynomial(self, x: Real, series: Series | Sequence[float]) -> Real:
        """c[0] + c[1] x + c[2] x**2 + ...: Horner's rule, in longer series on even and odd terms apart, which halves the wait."""
        coefficients = (series.short if self.short else series.double) if isinstance(series, Series) else series
        if len(coefficients) < 6:
            return self.horner(x, coefficients)
        square = x * x
        return self.fma(x, self.horner(square, coefficients[1::2]), self.horner(square, coefficients[::2]))

    def horner(self, x: Real, series: Series | Sequence[float]) -> Real:
        """The same by Horner's rule alone: more accurate where x is near 1 or the terms do not fall quickly."""
        coefficients = (series.short if self.short else series.double) if isinstance(series, Series) else series
        *rest, top = coefficients
        total = self.real(top)
        for c in reversed(rest):
            total = self.fma(total, x, c)
        return total

    def polynomial_pair(self, x: Real, series: Series) -> Pair:
        """The same, with the rounding of the last step kept as `lo`; for |c[0]| the largest part."""
        coefficients = series.short if self.short else series.double
        rest, first = self.horner(x, coefficients[1:]), self.real(coefficients[0])
        total = self.fma(rest, x, first)
        return Pair(total, self.fma(rest, x, first - total))

    # twice the digits -----------------------------------------------------------------------------------------------

    def two_sum(self, a: Real | float, b: Real | float) -> Pair:
        """a + b exactly, as rounded sum and rest (Knuth, TAOCP 2, section 4.2.2)."""
        a, b = self.real(a), self.real(b)
        total = a + b
        part = total - a
        return Pair(total, (a - (total - part)) + (b - part))

    def fast_two_sum(self, a: Real | float, b: Real | float) -> Pair:
        """a + b exactly, where |a| >= |b| or a = 0 (Dekker 1971)."""
        a, b = self.real(a), self.real(b)
        total = a + b
        return Pair(total, b - (total - a))

    def two_product(self, a: Real | float, b: Real | float) -> Pair:
        """a * b exactly, as rounded product and rest (Dekker 1971); no factor beyond 2**996 where not fused."""
        a, b = self.real(a), self.real(b)
        product = a * b
        if self.fused:
            return Pair(product, self.fma(a, b, -product))
        (a_hi, a_lo), (b_hi, b_lo) = _halves(a), _halves(b)
        return Pair(product, ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo)

    def residual(self, a: Real | float, b: Real | float, c: Real) -> Real:
        """c - a * b in one rounding, where c is near a * b."""
        if self.fused:
            return self.fma(-self.real(a), b, c)
        product = self.two_product(a, b)
        return (c - product.hi) - product.lo

    def product(self, a: Pair, b: Pair) -> Pair:
        """a * b to about 100 bits."""
        p = self.two_product(a.hi, b.hi)
        return self.fast_two_sum(p.hi, p.lo + self.fma(a.hi, b.lo, a.lo * b.hi))

    def quotient(self, a: Pair, b: Pair) -> Pair:
        """a / b to about 100 bits, by one division."""
        inverse = 1.0 / b.hi
        q = a.hi * inverse
        rest = self.residual(q, b.hi, a.hi) + (a.lo - q * b.lo)
        return self.fast_two_sum(q, rest * inverse)

    # control --------------------------------------------------------------------------------------------------------

    def any(self, mask: Mask) -> Any:
        """Whether any lane of the mask is set, as one bit."""
        if self.width is None:
            return mask.value
        word = assembly.integer(self.width)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(mask.value, word), word(0))

    def rarely(self, mask: Mask, values: Sequence[Any], repair: Callable[[], Sequence[Any]]) -> list[Any]:
        """The LLVM values as they are, or those of `repair()`, which runs only when some lane of the mask is set."""
        builder = self.builder
        condition = self.any(mask)
        before = builder.block
        with builder.if_then(condition, likely=False):
            repaired = list(repair())
            after = builder.block
        results = []
        for plain, other in zip(values, repaired, strict=True):
            phi = builder.phi(plain.type)
            phi.add_incoming(plain, before)
            phi.add_incoming(other, after)
            results.append(phi)
        return results

    def unless(self, usual: Mask, fast: Real, name: str, formula: Callable[..., Real], *args: Real) -> Real:
        """`fast`, where all lanes are usual; else formula(*args), right for all arguments, from a function of its own."""

        def call() -> Sequence[Any]:
            return [self.builder.call(self._out_of_line(name, formula, len(args)), [a.value for a in args])]

        return Real(self, self.rarely(~usual, [fast.value], call)[0])

    def _out_of_line(self, name: str, formula: Callable[..., Real], arguments: int) -> Any:
        """The formula as a function `chainrule.<name>.any.v8f64` of the module, defined at its first use."""
        suffix = (".short" if self.short else "") + ("" if self.fused else ".unfused")
        full = f"chainrule.{name}.any.{tag(self.real_type)}{suffix}"
        module = self.builder.module
        if full not in module.globals:
            kind = assembly.FunctionType(self.real_type, [self.real_type] * arguments)
            function = assembly.Function(module, kind, full, ("noinline", "cold", "nounwind"), internal=True)
            align_stack(function, self.width)
            builder = assembly.Builder(function.append_basic_block("entry"))
            lanes = Lanes(builder, self.width, short=self.short, fused=self.fused)
            builder.ret(formula(lanes, *(lanes.wrap(a) for a in function.args)).value)
        return module.globals[full]


def _halves(x: Real) -> tuple[Real, Real]:
    """x as the sum of two numbers of 26 bits (Veltkamp)."""
    scaled = x * 134217729.0
    hi = scaled - (scaled - x)
    return hi, x - hi
