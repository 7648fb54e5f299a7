"""x modulo pi / 2 for arguments of any size.

Up to 2**30 the multiple n is subtracted with three doubles of pi / 2 (Cody and Waite). Beyond, which is rare, a scalar
routine out of line multiplies the 53 bits of x by those 192 bits of 2 / pi that matter (Payne and Hanek, SIGNUM Newsletter
18, 1983).
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import F64, I1, I32, I64
from chainrule.backends.llvm.vector_maths.lanes import Lanes, Mask, Pair, Real, Whole

TWO_OVER_PI = 0.6366197723675814
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
"""pi / 2 to 160 bits."""

FAST_LIMIT = 2.0**30
TWO_OVER_PI_BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
"""floor(2**1280 * 2 / pi), computed with mpmath."""

LEADING = 64
"""Zero bits kept before those of 2 / pi in the table, so that the window may begin before them."""
I192, I256 = assembly.integer(192), assembly.integer(256)


def modulo_half_pi(lanes: Lanes, x: Real) -> tuple[Pair, Whole]:
    """r and q with x = r + q pi / 2 (q modulo 4) and |r| <= pi / 4; NaN for infinities.

    r is found to about 100 bits.
    """
    n, q = lanes.nearest(x, TWO_OVER_PI)
    first = lanes.residual(n, HALF_PI[0], x)
    hi = lanes.fma(-n, HALF_PI[1], first)
    lo = lanes.fma(-n, HALF_PI[2], lanes.residual(n, HALF_PI[1], first - hi))
    huge = (abs(x) > FAST_LIMIT) & (abs(x) < math.inf)
    plain = [hi.value, lo.value, q.value]
    results = lanes.rarely(huge, plain, lambda: _huge_lanes(lanes, x, huge.value, plain))
    return Pair(lanes.wrap(results[0]), lanes.wrap(results[1])), Whole(lanes, results[2])


def _huge_lanes(lanes: Lanes, x: Real, mask: Any, plain: list[Any]) -> list[Any]:
    """Replace what was found for the lanes of the mask."""
    builder = lanes.builder
    routine = _declare_huge(builder.module)
    if lanes.width is None:
        result = builder.call(routine, [x.value])
        return [builder.extract_value(result, part) for part in range(3)]
    return list(_loop_over_lanes(lanes, routine, x, mask, plain))


def _loop_over_lanes(lanes: Lanes, routine: Any, x: Real, mask: Any, plain: list[Any]) -> list[Any]:
    """for lane in range(width): if mask[lane]: (hi, lo, q)[lane] = routine(x[lane])."""
    builder = lanes.builder
    before = builder.block
    head, test, call = (builder.append_basic_block(f"huge.{part}") for part in ("lane", "next", "call"))
    done = builder.append_basic_block("huge.done")
    builder.branch(head)

    builder.position_at_end(head)
    lane = builder.phi(I32)
    lane.add_incoming(I32(0), before)
    current = []
    for value in plain:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        current.append(phi)
    builder.cbranch(builder.extract_element(mask, lane), call, test)

    builder.position_at_end(call)
    result = builder.call(routine, [builder.extract_element(x.value, lane)])
    replaced = [builder.insert_element(v, builder.extract_value(result, k), lane) for k, v in enumerate(current)]
    builder.branch(test)

    builder.position_at_end(test)
    merged = []
    for phi, new in zip(current, replaced, strict=True):
        choice = builder.phi(phi.type)
        choice.add_incoming(phi, head)
        choice.add_incoming(new, call)
        phi.add_incoming(choice, test)
        merged.append(choice)
    following = builder.add(lane, I32(1))
    lane.add_incoming(following, test)
    builder.cbranch(builder.icmp_signed("<", following, I32(lanes.width)), head, done)
    builder.position_at_end(done)
    return merged


def _declare_huge(module: Any) -> Any:
    """The scalar routine (x) -> {hi, lo, q} for finite |x| >= 2**30, built at its first use in the module."""
    name = "chainrule.modulo_half_pi.huge.f64"
    if name in module.globals:
        return module.globals[name]
    kind = assembly.FunctionType(assembly.structure(F64, F64, I64), [F64])
    function = assembly.Function(module, kind, name, ("noinline", "nounwind"), internal=True)
    builder = assembly.Builder(function.append_basic_block("entry"))
    hi, lo, q = _huge(Lanes(builder), function.args[0])
    result = assembly.undefined(function.function_type.return_type)
    for k, value in enumerate((hi, lo, q)):
        result = builder.insert_value(result, value, k)
    builder.ret(result)
    return function


def _window(builder: Any, exponent: Any) -> Any:
    """192 bits of 2 / pi, of which the first has weight 2**(1 - e) for x = M 2**e with an integer M."""
    name = "chainrule.two_over_pi"
    module = builder.module
    if name not in module.globals:
        words = [0, *((TWO_OVER_PI_BITS >> shift) & (2**64 - 1) for shift in range(1216, -1, -64))]
        assembly.GlobalVariable(module, assembly.Constant(assembly.array(I64, len(words)), words), name)
    table = module.globals[name]
    position = builder.add(exponent, I64(LEADING - 2))
    first = builder.lshr(position, I64(6))
    bits = assembly.Constant(I256, 0)
    for k in range(4):
        word = builder.load(
            builder.gep(table, [I64(0), builder.add(first, I64(k))], source_etype=table.value_type), typ=I64
        )
        bits = builder.or_(bits, builder.shl(builder.zext(word, I256), I256(192 - 64 * k)))
    offset = builder.zext(builder.and_(position, I64(63)), I256)
    return builder.trunc(builder.lshr(builder.shl(bits, offset), I256(64)), I192)


def _huge(lanes: Lanes, value: Any) -> tuple[Any, Any, Any]:
    """M 2**e (2 / pi) modulo 4 in 192-bit fixed point; nearest integer and rest; the rest times pi / 2."""
    builder = lanes.builder
    x = lanes.wrap(value)
    bits = x.bits()
    exponent = ((bits >> 52) & 0x7FF) - 1075
    significand = builder.zext(((bits & (2**52 - 1)) | 2**52).value, I192)
    product = builder.mul(significand, _window(builder, exponent.value))
    # The point lies after the two highest bits. Adding a half rounds them; what is left is the rest plus a half.
    rounded = builder.add(product, I192(1 << 189))
    quotient = builder.trunc(builder.lshr(rounded, I192(190)), I64)
    rest = builder.sub(builder.and_(rounded, I192((1 << 190) - 1)), I192(1 << 189))
    turn = _times_half_pi(lanes, rest)
    negative = x < 0.0
    quotient = builder.select(negative.value, builder.neg(quotient), quotient)
    return lanes.where(negative, -turn.hi, turn.hi).value, lanes.where(negative, -turn.lo, turn.lo).value, quotient


def _times_half_pi(lanes: Lanes, rest: Any) -> Pair:
    """rest 2**-190 pi / 2 of a signed 192-bit integer, as a sum of two doubles."""
    builder = lanes.builder
    negative = builder.icmp_signed("<", rest, I192(0))
    size = builder.select(negative, builder.neg(rest), rest)
    zeros = builder.intrinsic("llvm.ctlz.i192", I192, [size, I1(1)])
    size = builder.shl(size, zeros)
    top = builder.uitofp(builder.trunc(builder.lshr(size, I192(139)), I64), F64)
    below = builder.and_(builder.lshr(size, I192(86)), I192(2**53 - 1))
    low = builder.uitofp(builder.trunc(below, I64), F64)
    unit = lanes.power_of_two(lanes.whole(139 - 190) - Whole(lanes, builder.trunc(zeros, I64)))
    unit = lanes.where(Mask(lanes, negative), -unit, unit)
    fraction = Pair(lanes.wrap(top) * unit, lanes.wrap(low) * (unit * 2.0**-53))
    return lanes.product(fraction, Pair(lanes.real(HALF_PI[0]), lanes.real(HALF_PI[1])))
