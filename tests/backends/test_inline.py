"""Which functions are written out where they are called."""

from __future__ import annotations

from llvmlite import ir

from chainrule.backends.llvm.inline import WRITTEN_OUT, decide_inlining

F64 = ir.DoubleType()


def module_of(size, calls):
    """A module with an internal function of so many instructions, called so often."""
    module = ir.Module()
    inner = ir.Function(module, ir.FunctionType(F64, [F64]), "inner")
    inner.linkage = "internal"
    builder = ir.IRBuilder(inner.append_basic_block())
    x = inner.args[0]
    for _ in range(size - 1):
        x = builder.fadd(x, x)
    builder.ret(x)
    outer = ir.Function(module, inner.function_type, "outer")
    builder = ir.IRBuilder(outer.append_basic_block())
    y = outer.args[0]
    for _ in range(calls):
        y = builder.call(inner, [y])
    builder.ret(y)
    return module, inner, outer


def test_what_is_short_or_called_once_is_written_out():
    for size, calls, wanted in (
        (20, 3, "alwaysinline"),
        (WRITTEN_OUT, 1, "alwaysinline"),
        (WRITTEN_OUT, 2, "noinline"),
    ):
        module, inner, outer = module_of(size, calls)
        decide_inlining(module)
        assert wanted in inner.attributes
        assert not {"alwaysinline", "noinline"}.intersection(outer.attributes)


def test_a_function_that_is_to_stay_one_does():
    module, inner, _ = module_of(20, 1)
    inner.attributes.add("noinline")
    decide_inlining(module)
    assert "alwaysinline" not in inner.attributes
