"""What runs, in order, as a tree: calls of kernels, operations of NumPy, and loops over both; and where every buffer is.

A call in a loop has one row of buffers for each turn of all the loops around it. Where a buffer moves on by the same number of
bytes from row to row, its address is computed; where it does not, it is read from a table, itself a constant of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm import assembly
from chainrule.backends.llvm.assembly import I8, I64, PTR
from chainrule.backends.llvm.emit import Loop
from chainrule.backends.llvm.memory import Block
from chainrule.backends.llvm.segments import Body, Packed, Ref, Segment, Turn
from chainrule.ir.program import Atom, Equation, Program, Var

WORKSPACE = 1
"""The workspace's number in the table of buffers; the status has 0."""


Buffer = Atom | Block


class Step(NamedTuple):
    """A function of the module on buffers, in so many pieces that threads share; 0 where it is whole.

    One in pieces may take `scratch` bytes of memory after its buffers, which is the thread's own.
    """

    function: Any
    buffers: Sequence[Buffer]
    pieces: int = 0
    scratch: int = 0


@dataclass(eq=False)
class Call:
    """A step on the buffers of the whole program, for each turn of the loops around it."""

    function: Any
    rows: list[list[Ref]]
    pieces: int
    scratch: int


@dataclass(eq=False)
class ByNumpy:
    """An equation of a body that NumPy computes, and what it is in the program for each turn of the loops around it."""

    step: Equation
    rows: list[Equation]


@dataclass(eq=False)
class Repeat:
    """So many turns of what stands in it."""

    count: int
    nodes: list[Tree]


Tree = Call | ByNumpy | Repeat


class Scope:
    """What the variables of a body are in one turn: places in the buffers of the whole program."""

    __slots__ = ("around", "body", "turn")

    def __init__(self, body: Body, turn: Turn, around: Scope | None) -> None:
        self.body = body
        self.turn = turn
        self.around = around

    def ref(self, a: Buffer) -> Ref:
        """The place of a buffer of the body."""
        if not isinstance(a, Var):
            return Ref(a)
        i, k = self.body.places[a]
        if i >= 0:
            return self._result(i, k)
        given = self.turn.inputs[k]
        if self.around is None:
            return given
        found = self.around.ref(given.atom)
        return Ref(found.atom, found.offset + given.offset)

    def _result(self, i: int, k: int) -> Ref:
        """The buffer of an output of an equation of the body."""
        if self.around is None:
            return Ref(self.body.program.equations[i].outs[k])
        if i < self.body.again:
            return self.around.ref(self.turn.again[i])
        return self.around._result(self.turn.start + i - self.body.again, k)

    def equation(self, i: int) -> Equation:
        """An equation of the body as it stands in the whole program."""
        if self.around is None:
            return self.body.program.equations[i]
        if i < self.body.again:
            return self.around.equation(self.around.body.places[self.turn.again[i]][0])
        return self.around.equation(self.turn.start + i - self.body.again)


Steps = Callable[[Body], Sequence[Step | Equation]]


def schedule(program: Program, segments: Sequence[Segment], steps: Steps) -> list[Tree]:
    """The tree of a program in segments, given what each body without segments of its own runs."""
    root = Scope(Body(program, 0), Turn(0, tuple(map(Ref, program.inputs)), ()), None)
    return _trees(segments, [root], steps)


def _trees(segments: Sequence[Segment], scopes: Sequence[Scope], steps: Steps) -> list[Tree]:
    found: list[Tree] = []
    for segment in segments:
        inner = [Scope(segment.body, turn, scope) for scope in scopes for turn in segment.turns]
        parts = segment.body.parts
        nodes = _trees(parts, inner, steps) if len(parts) > 1 else [_node(s, inner) for s in steps(segment.body)]
        found += nodes if len(segment.turns) == 1 else [Repeat(len(segment.turns), nodes)]
    return found


def _node(step: Step | Equation, scopes: Sequence[Scope]) -> Tree:
    if isinstance(step, Equation):
        at = scopes[0].body.places[step.outs[0]][0]
        return ByNumpy(step, [s.equation(at) for s in scopes])
    return Call(step.function, [[s.ref(a) for a in step.buffers] for s in scopes], step.pieces, step.scratch)


def touched(nodes: Sequence[Tree], row: int = 0) -> Iterator[list[Buffer]]:
    """The buffers that each call and each operation of NumPy touches, in the order in which they run."""
    for node in nodes:
        if isinstance(node, Call):
            yield [ref.atom for ref in node.rows[row]]
        elif isinstance(node, ByNumpy):
            yield [*node.rows[row].variables, *node.rows[row].outs]
        else:
            for k in range(node.count):
                yield from touched(node.nodes, row * node.count + k)


def by_numpy_in(nodes: Sequence[Tree]) -> Iterator[ByNumpy]:
    """All that NumPy computes."""
    for node in nodes:
        if isinstance(node, ByNumpy):
            yield node
        elif isinstance(node, Repeat):
            yield from by_numpy_in(node.nodes)


def is_native(node: Tree) -> bool:
    """Whether neither NumPy nor other threads have a part in it."""
    return (isinstance(node, Call) and not node.pieces) or (
        isinstance(node, Repeat) and all(map(is_native, node.nodes))
    )


class Stretch:
    """The function name(table, row) that runs a few nodes; the table holds pointers: the status, the workspace, the buffers.

    That of a call in pieces takes the place of a counter and memory of the thread's own as well, and runs the next piece until
    none is left; all threads call it.
    """

    def __init__(self, module: Any, name: str, locate: Callable[[Ref], tuple[int, int]], *, in_pieces: bool) -> None:
        self.module = module
        arguments = [PTR, I64, PTR, PTR] if in_pieces else [PTR, I64]
        self.function = assembly.Function(module, assembly.FunctionType(assembly.VOID, arguments), name)
        self.builder = assembly.Builder(self.function.append_basic_block("entry"))
        self.locate = locate
        self._buffers: dict[int, Any] = {}

    def fill(self, nodes: Sequence[Tree]) -> None:
        """Emit the nodes."""
        body = self.builder.append_basic_block("body")
        with self.builder.goto_block(body):
            self._emit(nodes, self.function.args[1])
            self.builder.ret_void()
        self.builder.branch(body)

    def _emit(self, nodes: Sequence[Tree], row: Any) -> None:
        b = self.builder
        for node in nodes:
            if isinstance(node, Call):
                self._call(node, row)
            elif isinstance(node, Repeat):
                with Loop(b, 0, node.count, 1) as k:
                    self._emit(node.nodes, b.add(b.mul(row, I64(node.count)), k))

    def _buffer(self, n: int) -> Any:
        """The pointer at a place of the table, loaded before all else."""
        if n not in self._buffers:
            b = self.builder
            with b.goto_block(self.function.blocks[0]):
                pointer = b.gep(self.function.args[0], [I64(n)], source_etype=PTR)
                self._buffers[n] = b.load(pointer, typ=PTR)
        return self._buffers[n]

    def _call(self, call: Call, row: Any) -> None:
        arguments = self._arguments(call, row)
        if not call.pieces:
            self.builder.call(call.function, arguments)
            return
        b = self.builder
        head, body, done = (b.append_basic_block(name) for name in ("head", "piece", "done"))
        b.branch(head)
        b.position_at_end(head)
        piece = b.atomic_rmw("add", self.function.args[2], I64(1), "monotonic")
        b.cbranch(b.icmp_signed("<", piece, I64(call.pieces)), body, done)
        b.position_at_end(body)
        scratch = [self.function.args[3]] if call.scratch else []
        b.call(call.function, [*arguments[:-1], *scratch, arguments[-1], piece])
        b.branch(head)
        b.position_at_end(done)

    def _arguments(self, call: Call, row: Any) -> list[Any]:
        """The buffers of a row, and the status."""
        b = self.builder
        table: list[Any] = []
        ways = [self._way([refs[k] for refs in call.rows], table) for k in range(len(call.rows[0]))]
        record = None
        if table:
            entries = constant(self.module, np.stack(table, 1))
            record = b.gep(entries, [b.mul(row, I64(8 * len(table)))], source_etype=I8)
        return [*(way(row, record) for way in ways), self._buffer(0)]

    def _way(self, refs: Sequence[Ref], table: list[Any]) -> Callable[[Any, Any], Any]:
        """How the pointer to a buffer is found from the row, and from the row's record in the table."""
        b = self.builder
        if isinstance(refs[0].atom, Packed):
            numbers, offsets = None, np.array([ref.offset for ref in refs])
            base = constant(self.module, refs[0].atom.value)
        else:
            numbers, offsets = np.array([self.locate(ref) for ref in refs], np.int64).T
            if not (numbers == numbers[0]).all():
                table += [8 * numbers, offsets]
                at = len(table)
                return lambda row, record: self._listed(record, at)
            base = self._buffer(int(numbers[0]))
        first = int(offsets[0])
        step = int(offsets[1]) - first if len(offsets) > 1 else 0
        if (offsets == first + step * np.arange(len(offsets))).all():
            return lambda row, record: self._moved(base, first, step, row)
        table.append(offsets)
        last = len(table) - 1
        return lambda row, record: b.gep(base, [self._entry(record, last)], source_etype=I8)

    def _listed(self, record: Any, at: int) -> Any:
        """A pointer of which the record says where in the buffers' table it stands, and how far it is moved."""
        b = self.builder
        pointer = b.load(b.gep(self.function.args[0], [self._entry(record, at - 2)], source_etype=I8), typ=PTR)
        return b.gep(pointer, [self._entry(record, at - 1)], source_etype=I8)

    def _moved(self, pointer: Any, first: int, step: int, row: Any) -> Any:
        b = self.builder
        offset = b.add(b.mul(row, I64(step)), I64(first)) if step else I64(first)
        return b.gep(pointer, [offset], source_etype=I8) if step or first else pointer

    def _entry(self, record: Any, k: int) -> Any:
        return self.builder.load(self.builder.gep(record, [I64(k)], source_etype=I64), typ=I64)


def constant(module: Any, x: Any) -> Any:
    """An array as a constant of the module."""
    content = np.ascontiguousarray(x).tobytes()
    value = assembly.Constant(assembly.array(I8, len(content)), content)
    return assembly.GlobalVariable(module, value, f"constant{len(module.globals)}", align=64)
