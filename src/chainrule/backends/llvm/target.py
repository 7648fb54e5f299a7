"""The machine that code is made for: its vector width, and loading a module of ours into this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding


class Target(NamedTuple):
    """A processor as far as kernels care: bits of a vector, and whether it multiplies and adds in one rounding."""

    triple: str
    cpu: str
    features: str
    bits: int
    fused: bool


@cache
def host() -> Target:
    """This machine."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        known: Any = binding.get_host_cpu_features()
        features = known.flatten()
    except RuntimeError:  # LLVM cannot tell on some systems: plain code for the processor's name then
        known, features = {}, ""
    bits = 512 if known.get("avx512f") and known.get("avx512dq") else 256 if known.get("avx") else 128
    triple = binding.get_process_triple()
    fused = bool(known.get("fma")) or triple.startswith(("aarch64", "arm64"))
    return Target(triple, binding.get_host_cpu_name(), features, bits, fused)


LONG = 8_000
"""Lines of a module beyond which code is generated with less care: LLVM's best takes time that grows faster than the code."""


def machine(target: Target, level: int = 2) -> Any:
    """A target machine; MCJIT takes ownership, so each engine needs its own."""
    found = binding.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=level)


def object_code(text: str) -> bytes:
    """The object code of a module for this machine.

    LLVM's passes are left out: the text comes with every value computed once, in the outermost loop that knows it, by explicit
    vectors, with sums carried in registers and short functions written out, and gains nothing from them.
    """
    target = host()
    module = binding.parse_assembly(text)
    module.triple = target.triple
    module.verify()
    found: bytes = machine(target, 1 if text.count("\n") >= LONG else 2).emit_object(module)
    return found


class Loaded:
    """Native code in this process; it is unloaded when nothing refers to it any more."""

    def __init__(self, code: bytes, symbols: Sequence[str]) -> None:
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine(host()))
        self._engine.add_object_file(binding.object_file.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.addresses: dict[str, int] = {s: self._engine.get_function_address(s) for s in symbols}
