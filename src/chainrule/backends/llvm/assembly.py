"""LLVM's assembly language, written as it is built: types, values, functions, and a builder.

    module = Module()
    f = Function(module, FunctionType(F64, [F64]), "f")
    b = Builder(f.append_basic_block())
    b.ret(b.fmul(f.args[0], f.args[0]))
    str(module)

Each instruction becomes text once, when it is made. Every local name is `%.` + something + `_`, so that a function can be written
out in the place of a call by replacing text: a module's `written_out` says for which functions that is done.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

# ---- types


class Type:
    """A type, by its text; calling it makes a constant. Types are made once each, so that `is` and `==` are the same."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __call__(self, value: Any) -> Value:
        return Constant(self, value)


class _Integer(Type):
    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        super().__init__(f"i{width}")
        self.width = width


class _Vector(Type):
    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"<{count} x {element.text}>")
        self.element = element
        self.count = count


class _Array(Type):
    __slots__ = ("element",)

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"[{count} x {element.text}]")
        self.element = element


class _Struct(Type):
    __slots__ = ("elements",)

    def __init__(self, elements: tuple[Type, ...]) -> None:
        super().__init__("{" + ", ".join([t.text for t in elements]) + "}")
        self.elements = elements


class FunctionType(NamedTuple):
    """What a function returns and takes."""

    return_type: Type
    args: Sequence[Type]


VOID, PTR, F32, F64 = Type("void"), Type("ptr"), Type("float"), Type("double")


@cache
def integer(width: int) -> _Integer:
    """Integers of so many bits."""
    return _Integer(width)


@cache
def vector(element: Type, count: int) -> _Vector:
    """So many numbers side by side."""
    return _Vector(element, count)


@cache
def array(element: Type, count: int) -> _Array:
    """So many elements in memory."""
    return _Array(element, count)


@cache
def structure(*elements: Type) -> _Struct:
    """Values of several types."""
    return _Struct(elements)


I1, I8, I32, I64 = integer(1), integer(8), integer(32), integer(64)


def is_vector(kind: Type) -> bool:
    """Whether a type is a vector's."""
    return isinstance(kind, _Vector)


def _lanes_of(kind: Type, of: Type) -> Type:
    """A scalar type in as many lanes as another has."""
    return vector(kind, of.count) if isinstance(of, _Vector) else kind


# ---- values


class Value:
    """A value: its type, and how it is referred to."""

    __slots__ = ("name", "type")

    def __init__(self, kind: Type, name: str) -> None:
        self.type = kind
        self.name = name

    @property
    def typed(self) -> str:
        """The value after its type, as operands are written."""
        return f"{self.type.text} {self.name}"

    def __repr__(self) -> str:
        return self.typed


class Constant(Value):
    """A constant: a number, a list of them, bytes, or None for a null pointer."""

    __slots__ = ("value",)

    def __init__(self, kind: Type, value: Any) -> None:
        super().__init__(kind, _spell(kind, value))
        self.value = value


def _spell(kind: Type, value: Any) -> str:
    if isinstance(kind, _Integer):
        return ("true" if value else "false") if kind.width == 1 else str(int(value))
    if kind is F64 or kind is F32:
        number = float(value) if kind is F64 else struct.unpack("<f", struct.pack("<f", value))[0]
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    if kind is PTR:
        return "null"
    if isinstance(value, bytes):
        return 'c"' + "".join(map(_BYTES.__getitem__, value)) + '"'
    inside = ", ".join([f"{kind.element.text} {_spell(kind.element, v)}" for v in value])  # type: ignore[attr-defined]
    return f"<{inside}>" if isinstance(kind, _Vector) else f"[{inside}]"


_BYTES = [f"\\{n:02X}" for n in range(256)]


def undefined(kind: Type) -> Value:
    """A value of which nothing is known."""
    return Value(kind, "undef")


def splat(scalar: Value, count: int) -> Value:
    """A constant in every lane."""
    return Value(vector(scalar.type, count), f"splat ({scalar.typed})")


# ---- functions


class Global(Value):
    """What a module knows by name; `references` are the others that it names."""

    __slots__ = ("key", "references")

    def __init__(self, module: Module, key: str) -> None:
        super().__init__(PTR, f'@"{key}"')
        self.key = key
        self.references: dict[str, Global] = {}
        module.globals[key] = self


class GlobalVariable(Global):
    """An internal constant in memory."""

    __slots__ = ("align", "initializer", "value_type")

    def __init__(self, module: Module, initializer: Value, key: str, align: int = 0) -> None:
        super().__init__(module, key)
        self.value_type = initializer.type
        self.initializer = initializer
        self.align = align

    def __str__(self) -> str:
        align = f", align {self.align}" if self.align else ""
        return f"{self.name} = internal constant {self.initializer.typed}{align}"


class Block(Value):
    """A basic block: its phis, its instructions, and the one that ends it."""

    __slots__ = ("function", "lines", "phis", "returned", "terminator")

    def __init__(self, function: Function, name: str) -> None:
        super().__init__(_LABEL, f"%.{name}{function.number()}_")
        self.function = function
        self.phis: list[Phi] = []
        self.lines: list[str | _Call] = []
        self.terminator = "unreachable"
        self.returned: str | None = None  # the value that the terminator returns, "" where that is none


_LABEL = Type("label")


class Phi(Value):
    """A value that depends on where its block was entered from."""

    __slots__ = ("incoming",)

    def __init__(self, kind: Type, name: str) -> None:
        super().__init__(kind, name)
        self.incoming: list[tuple[Value, Block]] = []

    def add_incoming(self, value: Value, block: Block) -> None:
        """The value where the block was entered from another."""
        self.incoming.append((value, block))


class _Call(NamedTuple):
    """A call of a function that may be written out."""

    callee: Function
    args: list[str]
    text: str
    kind: str
    result: str


class Function(Global):
    """A function; one without blocks is declared only."""

    __slots__ = (
        "alignstack",
        "args",
        "attributes",
        "blocks",
        "function_type",
        "is_internal",
        "module",
        "noalias",
        "numbers",
    )

    def __init__(
        self,
        module: Module,
        kind: FunctionType,
        key: str,
        attributes: Sequence[str] = ("nounwind",),
        *,
        internal: bool = False,
        noalias: int = 0,
    ) -> None:
        """`noalias`: how many of the first arguments point to memory that nothing else does."""
        super().__init__(module, key)
        self.module = module
        self.function_type = kind
        self.args = [Value(t, f"%.a{k}_") for k, t in enumerate(kind.args)]
        self.attributes = attributes
        self.alignstack = 0
        self.is_internal = internal
        self.noalias = noalias
        self.blocks: list[Block] = []
        self.numbers = 0

    def number(self) -> int:
        """A number that no local name has."""
        self.numbers += 1
        return self.numbers

    def append_basic_block(self, name: str = "entry") -> Block:
        """A further block, empty."""
        self.blocks.append(Block(self, name))
        return self.blocks[-1]

    @property
    def size(self) -> int:
        """The number of instructions."""
        return sum(len(b.phis) + len(b.lines) + 1 for b in self.blocks)

    @property
    def calls(self) -> Iterator[Function]:
        """What it calls, once for each call."""
        return (line.callee for b in self.blocks for line in b.lines if isinstance(line, _Call))

    def text(self, pieces: Sequence[_Piece]) -> str:
        """The definition, or the declaration."""
        returned, types = self.function_type
        if not self.blocks:
            return f"declare {returned.text} {self.name}({', '.join([t.text for t in types])})"
        args = [f"{a.type.text}{' noalias' if k < self.noalias else ''} {a.name}" for k, a in enumerate(self.args)]
        attributes = [*self.attributes, *([f"alignstack({self.alignstack})"] if self.alignstack else [])]
        kind = "internal " if self.is_internal else ""
        head = f"define {kind}{returned.text} {self.name}({', '.join(args)}) {' '.join(attributes)} {{\n"
        return head + "".join([f"{p.label[1:]}:\n{p.text}  {p.terminator}\n" for p in pieces]) + "}"


# ---- modules, and functions written out in others


class Module:
    """Functions and constants by name."""

    def __init__(self, triple: str = "") -> None:
        self.triple = triple
        self.globals: dict[str, Global] = {}
        self.written_out: set[Function] = set()

    @property
    def functions(self) -> list[Function]:
        """The functions that are defined."""
        return [g for g in self.globals.values() if isinstance(g, Function) and g.blocks]

    def adopt(self, one: Global) -> None:
        """Know what another module has, and all that it refers to, as one's own."""
        if one.key not in self.globals:
            self.globals[one.key] = one
            for other in one.references.values():
                self.adopt(other)

    def __str__(self) -> str:
        known: dict[Function, list[_Piece]] = {}
        parts = [f'target triple = "{self.triple}"'] if self.triple else []
        for g in self.globals.values():
            if isinstance(g, GlobalVariable):
                parts.append(str(g))
            elif isinstance(g, Function) and g not in self.written_out:
                parts.append(g.text(self._pieces(g, known)))
        return "\n".join([*parts, *_WEIGHTS, ""])

    def _pieces(self, f: Function, known: dict[Function, list[_Piece]]) -> list[_Piece]:
        """A function's blocks as text, with what is written out in it."""
        if f not in known:
            found: list[_Piece] = []
            starts = []
            last: dict[Block, str] = {}
            count = 0  # of the calls that are written out
            for block in f.blocks:
                starts.append(len(found))
                found.append(_Piece(block.name))
                count = self._fill(block, found, known, count)
                last[block] = found[-1].label
            for block, start in zip(f.blocks, starts, strict=True):
                found[start].text = "".join([_phi(p, last) for p in block.phis]) + found[start].text
            known[f] = found
        return known[f]

    def _fill(self, block: Block, found: list[_Piece], known: dict[Function, list[_Piece]], count: int) -> int:
        """Append a block's instructions to the last piece, and the pieces of what is written out; the count of that."""
        lines: list[str] = []
        for line in block.lines:
            if isinstance(line, str):
                lines.append(line)
            elif line.callee not in self.written_out:
                lines.append(line.text)
            else:
                found[-1].text += "".join(lines)
                lines = []
                count += 1
                _write_out(line, f"%.i{count}.", self._pieces(line.callee, known), found)
        found[-1].text += "".join(lines)
        found[-1].terminator, found[-1].returned = block.terminator, block.returned
        return count


_WEIGHTS = ('!0 = !{!"branch_weights", i32 99, i32 1}', '!1 = !{!"branch_weights", i32 1, i32 99}')


class _Piece:
    """A block as text: its label, its instructions, the one that ends it, and the value that this one returns."""

    __slots__ = ("label", "returned", "terminator", "text")

    def __init__(self, label: str, text: str = "", terminator: str = "", returned: str | None = None) -> None:
        self.label = label
        self.text = text
        self.terminator = terminator
        self.returned = returned


def _phi(p: Phi, last: dict[Block, str]) -> str:
    """A phi, which names the last pieces of the blocks that lead to it."""
    incoming = ", ".join([f"[{v.name}, {last[b]}]" for v, b in p.incoming])
    return f"  {p.name} = phi {p.type.text} {incoming}\n"


def _write_out(call: _Call, prefix: str, pieces: Sequence[_Piece], found: list[_Piece]) -> None:
    """Append a function's pieces to those of the caller, of which the last goes on where the function returns."""
    (end,) = (k for k, p in enumerate(pieces) if p.returned is not None)
    renamed = [(f"{prefix}a{k}_", actual) for k, actual in enumerate(call.args)]
    renamed.append((prefix + pieces[0].label[2:], found[-1].label))
    result = pieces[end].returned or ""
    is_named = result.startswith("%.") and not result.startswith("%.a")  # else an argument or a constant
    if is_named:
        renamed.append((prefix + result[2:], call.result))

    def own(text: str) -> str:
        text = text.replace("%.", prefix)
        for name, actual in renamed:
            text = text.replace(name, actual)
        return text

    made = [_Piece(own(p.label), own(p.text), own(p.terminator)) for p in pieces]
    if result and not is_named:
        made[end].text += f"  {call.result} = freeze {call.kind} {own(result)}\n"
    found[-1].text += made[0].text
    found[-1].terminator = made[0].terminator
    found += made[1:]
    if end:  # the caller goes on in the piece that returned
        found.append(found.pop(end - len(made)))


_SIGNED = {"==": "eq", "!=": "ne", "<": "slt", "<=": "sle", ">": "sgt", ">=": "sge"}
_UNSIGNED = {"==": "eq", "!=": "ne", "<": "ult", "<=": "ule", ">": "ugt", ">=": "uge"}
_ORDERED = {"==": "oeq", "!=": "one", "<": "olt", "<=": "ole", ">": "ogt", ">=": "oge"}
_UNORDERED = {"==": "ueq", "!=": "une", "<": "ult", "<=": "ule", ">": "ugt", ">=": "uge", "uno": "uno"}


def _binary(operation: str) -> Any:
    def build(self: Builder, a: Value, b: Value, flags: Sequence[str] = ()) -> Value:
        kind = a.type
        words = f"{operation} {' '.join(flags)}" if flags else operation
        return self._emit(kind, f"{words} {kind.text} {a.name}, {b.name}")

    return build


def _cast(operation: str) -> Any:
    def build(self: Builder, a: Value, kind: Type) -> Value:
        return a if a.type is kind else self._emit(kind, f"{operation} {a.typed} to {kind.text}")

    return build


def _comparison(operation: str, names: dict[str, str]) -> Any:
    def build(self: Builder, relation: str, a: Value, b: Value) -> Value:
        return self._emit(_lanes_of(I1, a.type), f"{operation} {names[relation]} {a.type.text} {a.name}, {b.name}")

    return build


class Builder:
    """Writes instructions at the end of a block."""

    def __init__(self, block: Block) -> None:
        self.block = block

    @property
    def function(self) -> Function:
        """The function under construction."""
        return self.block.function

    @property
    def module(self) -> Module:
        """The function's module."""
        return self.block.function.module

    def _emit(self, kind: Type, text: str) -> Value:
        block = self.block
        f = block.function
        f.numbers = n = f.numbers + 1
        block.lines.append(f"  %.{n}_ = {text}\n")
        return Value(kind, f"%.{n}_")

    def _refer(self, x: Value) -> None:
        if isinstance(x, Global):
            self.block.function.references[x.key] = x

    # ---- arithmetic

    add, sub, mul, sdiv, udiv, srem = (_binary(f) for f in ("add", "sub", "mul", "sdiv", "udiv", "srem"))
    and_, or_, xor, shl, lshr, ashr = (_binary(f) for f in ("and", "or", "xor", "shl", "lshr", "ashr"))
    fadd, fsub, fmul, fdiv, frem = (_binary(f) for f in ("fadd", "fsub", "fmul", "fdiv", "frem"))
    trunc, zext, sext, fptrunc, fpext = (_cast(f) for f in ("trunc", "zext", "sext", "fptrunc", "fpext"))
    uitofp, sitofp, fptosi, bitcast = (_cast(f) for f in ("uitofp", "sitofp", "fptosi", "bitcast"))
    inttoptr, ptrtoint = (_cast(f) for f in ("inttoptr", "ptrtoint"))
    icmp_signed, icmp_unsigned = _comparison("icmp", _SIGNED), _comparison("icmp", _UNSIGNED)
    fcmp_ordered, fcmp_unordered = _comparison("fcmp", _ORDERED), _comparison("fcmp", _UNORDERED)

    def neg(self, a: Value) -> Value:
        """-a, of integers."""
        return self._emit(a.type, f"sub {a.type.text} {'zeroinitializer' if is_vector(a.type) else 0}, {a.name}")

    def not_(self, a: Value) -> Value:
        """The complement of every bit."""
        kind = a.type.element if isinstance(a.type, _Vector) else a.type
        ones = Constant(kind, -1)
        other = splat(ones, a.type.count) if isinstance(a.type, _Vector) else ones
        return self._emit(a.type, f"xor {a.typed}, {other.name}")

    def fneg(self, a: Value) -> Value:
        """-a."""
        return self._emit(a.type, f"fneg {a.typed}")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition holds, else b."""
        return self._emit(a.type, f"select {condition.typed}, {a.typed}, {b.typed}")

    # ---- parts of vectors and structures

    def extract_element(self, a: Value, k: Value) -> Value:
        """Lane k."""
        return self._emit(a.type.element, f"extractelement {a.typed}, {k.typed}")  # type: ignore[attr-defined]

    def insert_element(self, a: Value, x: Value, k: Value) -> Value:
        """a with x in lane k."""
        return self._emit(a.type, f"insertelement {a.typed}, {x.typed}, {k.typed}")

    def shuffle_vector(self, a: Value, b: Value, lanes: Value) -> Value:
        """Those lanes of a and b side by side."""
        kind = vector(a.type.element, lanes.type.count)  # type: ignore[attr-defined]
        return self._emit(kind, f"shufflevector {a.typed}, {b.typed}, {lanes.typed}")

    def extract_value(self, a: Value, k: int) -> Value:
        """Part k of a structure."""
        return self._emit(a.type.elements[k], f"extractvalue {a.typed}, {k}")  # type: ignore[attr-defined]

    def insert_value(self, a: Value, x: Value, k: int) -> Value:
        """A structure with x as part k."""
        return self._emit(a.type, f"insertvalue {a.typed}, {x.typed}, {k}")

    # ---- memory

    def gep(self, pointer: Value, indices: Sequence[Value], source_etype: Type) -> Value:
        """A pointer to so many elements of a type after another, or to a part of the last; of a vector of indices, many."""
        self._refer(pointer)
        places = ", ".join([i.typed for i in indices])
        kind = _lanes_of(PTR, indices[0].type)
        return self._emit(kind, f"getelementptr {source_etype.text}, {pointer.typed}, {places}")

    def load(self, pointer: Value, typ: Type, align: int | None = None) -> Value:
        """What lies at a pointer."""
        self._refer(pointer)
        return self._emit(typ, f"load {typ.text}, {pointer.typed}{f', align {align}' if align else ''}")

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Put a value at a pointer."""
        self._refer(pointer)
        self.block.lines.append(f"  store {value.typed}, {pointer.typed}{f', align {align}' if align else ''}\n")

    def alloca(self, kind: Type) -> Value:
        """A place on the stack; in the first block of a function that is not written out."""
        return Value(PTR, self._emit(PTR, f"alloca {kind.text}").name)

    def atomic_rmw(self, operation: str, pointer: Value, value: Value, ordering: str) -> Value:
        """Combine a value with what is at a pointer, at once; what was there."""
        return self._emit(value.type, f"atomicrmw {operation} {pointer.typed}, {value.typed} {ordering}")

    # ---- calls

    def call(self, function: Function, args: Sequence[Value]) -> Value:
        """A call of a function of the module."""
        self._refer(function)
        for a in args:
            self._refer(a)
        returned = function.function_type.return_type
        text = f"call {returned.text} {function.name}({', '.join([a.typed for a in args])})"
        result = "" if returned is VOID else f"%.{self.function.number()}_"
        line = f"  {result} = {text}\n" if result else f"  {text}\n"
        if function.blocks:
            self.block.lines.append(_Call(function, [a.name for a in args], line, returned.text, result))
        else:
            self.block.lines.append(line)
        return Value(returned, result)

    def call_pointer(self, pointer: Value, returned: Type, args: Sequence[Value]) -> Value:
        """A call of the function at an address."""
        text = f"call {returned.text} {pointer.name}({', '.join([a.typed for a in args])})"
        if returned is not VOID:
            return self._emit(returned, text)
        self.block.lines.append(f"  {text}\n")
        return Value(VOID, "")

    def intrinsic(self, name: str, returned: Type, args: Sequence[Value]) -> Value:
        """A call of a function outside the module, declared at its first use."""
        found = self.module.globals.get(name)
        if found is None:
            found = Function(self.module, FunctionType(returned, [a.type for a in args]), name)
        return self.call(found, args)  # type: ignore[arg-type]

    # ---- control

    def append_basic_block(self, name: str = "block") -> Block:
        """A further block of the function, empty."""
        return self.function.append_basic_block(name)

    def position_at_end(self, block: Block) -> None:
        """Go on in a block."""
        self.block = block

    @contextmanager
    def goto_block(self, block: Block) -> Iterator[None]:
        """Go on in a block for a while, before the instruction that ends it."""
        before, self.block = self.block, block
        yield
        self.block = before

    def phi(self, kind: Type) -> Phi:
        """A value that depends on where the block was entered from."""
        found = Phi(kind, f"%.{self.function.number()}_")
        self.block.phis.append(found)
        return found

    def _end(self, text: str, returned: str | None = None) -> None:
        if self.block.terminator == "unreachable":
            self.block.terminator, self.block.returned = text, returned

    def branch(self, block: Block) -> None:
        """Go to a block."""
        self._end(f"br {block.typed}")

    def cbranch(self, condition: Value, yes: Block, no: Block, *, likely: bool | None = None) -> None:
        """Go to one of two blocks."""
        weights = "" if likely is None else f", !prof !{0 if likely else 1}"
        self._end(f"br {condition.typed}, {yes.typed}, {no.typed}{weights}")

    def switch(self, value: Value, otherwise: Block, cases: Sequence[tuple[Value, Block]]) -> None:
        """Go to the block of the case that a value is."""
        listed = " ".join([f"{number.typed}, {block.typed}" for number, block in cases])
        self._end(f"switch {value.typed}, {otherwise.typed} [{listed}]")

    def ret(self, value: Value) -> None:
        """Return a value."""
        self._end(f"ret {value.typed}", value.name)

    def ret_void(self) -> None:
        """Return."""
        self._end("ret void", "")

    @contextmanager
    def if_then(self, condition: Value, *, likely: bool | None = None) -> Iterator[None]:
        """What follows is done only where the condition holds."""
        then, after = self.append_basic_block("if"), self.append_basic_block("endif")
        self.cbranch(condition, then, after, likely=likely)
        self.block = then
        yield
        self.branch(after)
        self.block = after

    @contextmanager
    def if_else(self, condition: Value, *, likely: bool | None = None) -> Iterator[tuple[Any, Any]]:
        """Two contexts, one for each way: what is done where the condition holds, and what is done elsewhere."""
        then, other, after = (self.append_basic_block(n) for n in ("if", "else", "endif"))
        self.cbranch(condition, then, other, likely=likely)
        yield self._way(then, after), self._way(other, after)
        self.block = after

    @contextmanager
    def _way(self, block: Block, after: Block) -> Iterator[None]:
        self.block = block
        yield
        self.branch(after)
