"""One function over whole arrays, compiled for this machine: to test and to time it by itself."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import binding

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import F32, F64, I64
from chainrule.backends.llvm.vector_maths.lanes import align_stack
from chainrule.backends.llvm.vector_maths.library import FUNCTIONS, emit
from chainrule.native.engine import run_passes

FLOATS = {"float64": F64, "float32": F32}
FloatArray = npt.NDArray[np.floating[Any]]


def loop_module(name: str, dtype: str, width: int, *, fused: bool = True) -> Any:
    """A module with `loop(x, ..., out, ..., n)`: vectors of `width` while they last, then one number at a time."""
    entry, kind = FUNCTIONS[name], FLOATS[dtype]
    module = assembly.Module()
    pointers = entry.arguments + entry.results
    kind_of_loop = assembly.FunctionType(assembly.VOID, [assembly.PTR] * pointers + [I64])
    function = assembly.Function(module, kind_of_loop, "loop", noalias=pointers)
    align_stack(function, width)
    builder = assembly.Builder(function.append_basic_block("entry"))
    start = I64(0)
    if width > 1:
        start = _loop(builder, name, assembly.vector(kind, width), start, width, fused)
    _loop(builder, name, kind, start, 1, fused)
    builder.ret_void()
    return module


def _loop(builder: Any, name: str, kind: Any, start: Any, step: int, fused: bool) -> Any:
    """for i in range(start, n - step + 1, step): out[i:] = name(x[i:]); where it stopped."""
    function, scalar = builder.function, getattr(kind, "element", kind)
    arguments, n = FUNCTIONS[name].arguments, function.args[-1]
    head, body, done = (builder.append_basic_block(f"{part}{step}") for part in ("head", "body", "done"))
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<=", builder.add(i, I64(step)), n), body, done)
    builder.position_at_end(body)
    places = [builder.gep(p, [i], source_etype=scalar) for p in function.args[:-1]]
    align = 8 if scalar == F64 else 4
    loaded = [builder.load(p, align=align, typ=kind) for p in places[:arguments]]
    results = emit(builder, name, loaded, fused=fused)
    for result, place in zip(results if isinstance(results, tuple) else (results,), places[arguments:], strict=True):
        builder.store(result, place, align=align)
    i.add_incoming(builder.add(i, I64(step), flags=["nsw"]), builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return i


def optimise(text: str, machine: Any) -> Any:
    """Parse, verify and run LLVM's standard passes for a target machine."""
    module = binding.parse_assembly(text)
    module.verify()
    run_passes(module, machine, binding.create_pipeline_tuning_options(speed_level=3))
    return module


def host_machine() -> Any:
    """A target machine for the CPU we run on; MCJIT takes ownership, so each engine needs its own."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )


class Kernel:
    """A compiled function over contiguous arrays of one dtype and length."""

    def __init__(self, name: str, dtype: str, width: int, *, fused: bool) -> None:
        self.entry = FUNCTIONS[name]
        self.dtype = dtype
        module = optimise(str(loop_module(name, dtype, width, fused=fused)), host_machine())
        self._engine = binding.create_mcjit_compiler(module, host_machine())
        self._engine.finalize_object()
        pointers = [ctypes.c_void_p] * (self.entry.arguments + self.entry.results)
        self.loop = ctypes.CFUNCTYPE(None, *pointers, ctypes.c_int64)(self._engine.get_function_address("loop"))
        """(address of each argument, ..., address of each result, ..., length)"""

    def __call__(self, *args: FloatArray) -> Any:
        """The result as an array; a tuple of several."""
        inputs = [np.ascontiguousarray(a, self.dtype) for a in args]
        outputs = [np.empty_like(inputs[0]) for _ in range(self.entry.results)]
        self.loop(*(a.ctypes.data for a in (*inputs, *outputs)), inputs[0].size)
        return outputs[0] if self.entry.results == 1 else tuple(outputs)


@functools.cache
def loop_kernel(name: str, dtype: str = "float64", width: int = 8, *, fused: bool = True) -> Kernel:
    """name, compiled for this machine, as a function of arrays: vectors of `width`, then one number at a time."""
    return Kernel(name, dtype, width, fused=fused)
