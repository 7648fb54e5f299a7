"""What a program's code depends on, as a key; and what is known of the code, as bytes that fit any equal program.

Two programs are equal if they are spelt alike: operations with their parameters, types, constants to the last bit, and who reads
what. Their variables are others, so what refers to one is stored by its number in the order of appearance.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding

from chainrule import cache
from chainrule.backends.llvm import blas, lapack
from chainrule.backends.llvm.target import Target
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType


class _Unspellable(Exception):
    """A parameter that has no spelling: an object of the user's, a function."""


@functools.cache
def _maker() -> bytes:
    """Everything beside the program and the target that shapes the code: the versions and the text of the compiler."""
    digest = hashlib.blake2b()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(str(path.relative_to(here)).encode() + b"\0" + path.read_bytes())
    versions = (
        sys.modules["chainrule"].__version__,  # our own package, which loads before its parts
        llvmlite.__version__,
        binding.llvm_version_info,
        np.__version__,
        sys.implementation.cache_tag,
    )
    return repr(versions).encode() + digest.digest()


def key_of(program: Program, target: Target) -> str | None:
    """The key under which the code of a program for a target is kept; None where no key would tell it from others."""
    try:
        spelt = "\n".join(_lines(program))
        if any(e.primitive.name == "contract" for e in program.equations):
            spelt += " ".join(blas.addresses())  # the names of what can be called
        if any(e.primitive.name in lapack.OPERANDS for e in program.equations):
            spelt += " ".join(blas.lapack_addresses())
    except _Unspellable:
        return None
    return cache.key_of(_maker(), repr(target).encode(), spelt.encode())


def key_of_text(text: str, target: Target) -> str:
    """The key of code that depends on a text and a target alone."""
    return cache.key_of(_maker(), repr(target).encode(), b"text", text.encode())


def _lines(program: Program) -> Iterator[str]:
    numbers: dict[Atom, str] = {}
    types: dict[ArrayType, str] = {}

    def kind(t: ArrayType) -> str:
        found = types.get(t)
        if found is None:
            found = types[t] = f"{t.dtype.str}{t.shape}"
        return found

    def refer(a: Atom) -> str:
        found = numbers.get(a)
        if found is None:
            assert isinstance(a, Literal)
            numbers[a] = f"c{len(numbers)}"
            found = f"{numbers[a]}={_constant(a.value)}"
        return found

    def made(v: Var) -> str:
        numbers[v] = f"v{len(numbers)}"
        return kind(v.type)

    yield " ".join(made(v) for v in program.inputs)
    for e in program.equations:
        read = " ".join([refer(a) for a in e.args])
        yield f"{e.primitive.name}{_spell(e.params) if e.params else ''} {read} {' '.join([made(o) for o in e.outs])}"
    yield " ".join(refer(a) for a in program.outputs)


def _constant(value: Any) -> str:
    x = np.asarray(value)
    if x.dtype.hasobject:
        raise _Unspellable
    content = x.tobytes()
    spelt = content.hex() if len(content) <= 16 else hashlib.blake2b(content, digest_size=20).hexdigest()
    return f"{x.dtype.str}{x.shape}{spelt}"


_PLAIN = frozenset({int, bool, str, bytes, type(None), type(...), float, complex})  # repr tells their values apart


def _spell(value: Any) -> str:
    """A parameter's value, spelt so that different values differ."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if isinstance(value, tuple | list):  # named tuples among them
        return f"{kind.__name__}({','.join([_spell(v) for v in value])})"
    if kind is dict:
        return "{" + ",".join([f"{_spell(k)}:{_spell(v)}" for k, v in value.items()]) + "}"
    if kind is slice:
        return f"slice({_spell(value.start)},{_spell(value.stop)},{_spell(value.step)})"
    if isinstance(value, np.ndarray | np.generic):
        return f"{kind.__name__}({_constant(value)})"
    if isinstance(value, np.dtype):
        return repr(value)
    if isinstance(value, type) and value.__module__ in ("numpy", "builtins"):
        return value.__name__
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:
        fields = ",".join([_spell(getattr(value, f.name)) for f in dataclasses.fields(value)])
        return f"{kind.__module__}.{kind.__qualname__}({fields})"
    raise _Unspellable


# ---- what refers to a program's parts


def _parts(program: Program) -> Iterator[Atom | Equation]:
    """Variables, constants and equations in the order of appearance."""
    yield from program.inputs
    for e in program.equations:
        yield from e.args
        yield e
        yield from e.outs
    yield from program.outputs


_NUMBERS = {("numpy", "dtype"), ("numpy", "scalar")}


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, program: Program) -> None:
        super().__init__(file, protocol=5)
        self.numbers: dict[Any, int] = {}
        for part in _parts(program):
            self.numbers.setdefault(part, len(self.numbers))

    def persistent_id(self, obj: Any) -> int | None:
        return self.numbers[obj] if isinstance(obj, Var | Literal | Equation) else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, data: bytes, program: Program) -> None:
        super().__init__(io.BytesIO(data))
        self.parts = list(dict.fromkeys(_parts(program)))

    def persistent_load(self, number: int) -> Any:
        return self.parts[number]

    def find_class(self, module: str, name: str) -> Any:
        if not module.startswith("chainrule.backends.llvm.") and (module.partition(".")[0], name) not in _NUMBERS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of native code")
        return super().find_class(module, name)


def pack(known: Any, program: Program) -> bytes | None:
    """What is known of a program's code as bytes, its variables, constants and equations by number; None where it has others."""
    file = io.BytesIO()
    try:
        _Packer(file, program).dump(known)
    except (pickle.PicklingError, LookupError, RecursionError):
        return None
    return file.getvalue()


def unpack(data: bytes, program: Program) -> Any:
    """What `pack` was given for an equal program, in terms of this one."""
    return _Unpacker(data, program).load()
