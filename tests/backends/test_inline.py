"""Which functions are written out where they are called, and what becomes of them there."""

from __future__ import annotations

import ctypes

import pytest

from chainrule.backends.llvm.assembly import F64, I1, Builder, Constant, Function, FunctionType, Module
from chainrule.backends.llvm.inline import WRITTEN_OUT, decide_inlining
from chainrule.backends.llvm.target import Loaded, object_code

SIGNATURE = FunctionType(F64, [F64])


def module_of(size, calls, attributes=("nounwind",)):
    """A module with an internal function of so many instructions, called so often."""
    module = Module()
    inner = Function(module, SIGNATURE, "inner", attributes, internal=True)
    builder = Builder(inner.append_basic_block())
    x = inner.args[0]
    for _ in range(size - 1):
        x = builder.fadd(x, x)
    builder.ret(x)
    outer = Function(module, SIGNATURE, "outer")
    builder = Builder(outer.append_basic_block())
    y = outer.args[0]
    for _ in range(calls):
        y = builder.call(inner, [y])
    builder.ret(y)
    return module, inner


@pytest.mark.parametrize(
    ("size", "calls", "wanted"),
    [(20, 3, True), (WRITTEN_OUT, 1, True), (2 * WRITTEN_OUT, 1, True), (WRITTEN_OUT, 2, False), (20, 0, False)],
)
def test_what_is_short_or_called_once_is_written_out(size, calls, wanted):
    module, inner = module_of(size, calls)
    decide_inlining(module)
    assert module.written_out == ({inner} if wanted else set())
    assert ('@"inner"' in str(module)) is not wanted


def test_a_function_that_is_to_stay_one_does():
    module, _ = module_of(20, 1, ("noinline",))
    decide_inlining(module)
    assert not module.written_out


def compiled(module):
    """The function `outer` of a module, written out as decided."""
    decide_inlining(module)
    loaded = Loaded(object_code(str(module)), ["outer"])
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(loaded.addresses["outer"])
    function.loaded = loaded
    return function


def test_a_function_written_out_within_another_within_a_branch_gives_what_it_gave():
    module = Module()
    inner = Function(module, SIGNATURE, "inner", internal=True)  # |x|, by a branch
    b = Builder(inner.append_basic_block())
    before = b.block
    with b.if_then(b.fcmp_ordered("<", inner.args[0], F64(0.0))):
        negated, inside = b.fneg(inner.args[0]), b.block
    x = b.phi(F64)
    x.add_incoming(inner.args[0], before)
    x.add_incoming(negated, inside)
    b.ret(x)
    middle = Function(module, SIGNATURE, "middle", internal=True)  # |x| + |x - 3|
    b = Builder(middle.append_basic_block())
    x = middle.args[0]
    b.ret(b.fadd(b.call(inner, [x]), b.call(inner, [b.fsub(x, F64(3.0))])))
    outer = Function(module, SIGNATURE, "outer")  # the same, and where it is above 5, its own of that
    b = Builder(outer.append_basic_block())
    first = b.call(middle, outer.args)
    start = b.block
    with b.if_then(b.fcmp_ordered(">", first, F64(5.0)), likely=False):
        again, inside = b.call(middle, [first]), b.block
    x = b.phi(F64)
    x.add_incoming(first, start)
    x.add_incoming(again, inside)
    b.ret(x)

    def expected(x):
        y = abs(x) + abs(x - 3)
        return abs(y) + abs(y - 3) if y > 5 else y

    f = compiled(module)
    assert "call" not in str(module)
    for x in (-4.0, -0.5, 1.0, 2.0, 4.0, 10.0):
        assert f(x) == expected(x)


@pytest.mark.parametrize("what", ["argument", "constant"])
def test_a_function_that_computes_nothing_may_be_written_out(what):
    module = Module()
    inner = Function(module, SIGNATURE, "inner", internal=True)
    b = Builder(inner.append_basic_block())
    b.ret(inner.args[0] if what == "argument" else F64(7.0))
    outer = Function(module, SIGNATURE, "outer")
    b = Builder(outer.append_basic_block())
    b.ret(b.call(inner, [b.call(inner, outer.args)]))
    assert compiled(module)(2.5) == (2.5 if what == "argument" else 7.0)


def test_constants_are_spelt_to_the_last_bit():
    assert Constant(F64, 0.1).typed == "double 0x3FB999999999999A"
    assert Constant(F64, float("-inf")).typed == "double 0xFFF0000000000000"
    assert Constant(I1, True).typed == "i1 true"
