"""From the text of an LLVM module to the address of a function in it, on whatever machine this is."""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm

_engines: list[Any] = []  # an engine owns the code it made, and must live as long as that code may be called


@cache
def _target() -> tuple[str, str]:
    """Initialise LLVM for this machine, once; its processor and features."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM cannot tell on some systems: plain code for the processor's name then
        features = ""
    return llvm.get_host_cpu_name(), features


def _machine() -> Any:
    cpu, features = _target()
    return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2)


def run_passes(module: Any, machine: Any, tuning: Any) -> None:
    """Run LLVM's standard passes, as they are tuned, on a module."""
    builder = llvm.create_pass_builder(machine, tuning)
    passes = builder.getModulePassManager()
    passes.run(module, builder)
    llvm.newpassmanagers.NewPassManager._dispose(passes)  # its own class would forget to
    passes.detach()


def address(text: str, symbol: str) -> int:
    """Optimise and load the module `text`; the address of `symbol` in it, valid for the life of the process."""
    _target()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    # Index arithmetic gains nothing from vectors and unrolled copies, and compiles three times faster without.
    tuning.loop_vectorization = tuning.loop_interleaving = tuning.loop_unrolling = False
    run_passes(module, _machine(), tuning)
    engine = llvm.create_mcjit_compiler(module, _machine())  # it owns its machine: never share one
    engine.finalize_object()
    _engines.append(engine)
    found: int = engine.get_function_address(symbol)
    return found
