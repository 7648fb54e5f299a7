"""The native entry of a jitted function: what Python calls first, and what is left to it by the Python path.

For each path that was compiled, and each way in which it was called (by position, by name, with buffers for the results), there
is a candidate: tables of what the arguments must be, in their tree, and of what becomes of the results (`entry_tables`).
`entry_code` is the function that reads them. A call that no candidate takes is handed on to the Python path, which copies,
compiles, or raises.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule import cache
from chainrule.backends.executable import Call, Executable
from chainrule.backends.llvm import canonical, cpython, entry_code
from chainrule.backends.llvm.entry_tables import (
    Build,
    Candidate,
    Function,
    Guard,
    How,
    Kind,
    Make,
    Node,
    Overlap,
    State,
    What,
)
from chainrule.backends.llvm.native import Native, Run
from chainrule.backends.llvm.pool import LARGE
from chainrule.backends.llvm.target import Loaded, host, object_code
from chainrule.ir.program import Atom, Literal, Var

CAPACITY = 16
"""How many candidates an entry has."""
WORK, FLOPS = 300_000, 10_000_000
"""Elements computed and operations of BLAS from which a run releases the interpreter's lock."""
WORKSPACE = 1 << 24
"""The most bytes of workspace that a candidate has for itself."""


class _NoEntry(Exception):
    """A call that only the Python path can take."""


class _Words(np.ndarray[Any, np.dtype[np.int64]]):
    """An array of words that keeps what its words point to."""

    keeps: list[Any]


def _words(n: int) -> _Words:
    found = np.zeros(max(n, 1), np.int64).view(_Words)
    found.keeps = []
    return found


def _address(x: Any) -> int:
    found: int = x.__array_interface__["data"][0]
    return found


@functools.cache
def _code() -> Loaded:
    """The code of all entries, in this process."""
    key = canonical.key_of_text(f"entry {cpython.tuple_items()}", host())
    image = cache.read(key)
    if image is None:
        image = object_code(str(entry_code.module(host().triple)))
        cache.write(key, image)
    return Loaded(image, ["entry"])


@functools.cache
def _functions() -> _Words:
    words = _words(len(Function))
    for name, address in cpython.functions().items():
        words[Function[name]] = address
    return words


class Entry:
    """What is called in the place of a jitted function: `call` is the C-level callable."""

    def __init__(self, name: str, slow: Callable[..., Any]) -> None:
        self._state = _words(State.first + CAPACITY)
        self._state[State.slow] = id(slow)
        self._state[State.functions] = _address(_functions())
        definition = cpython.MethodDef(
            name.encode(errors="replace"), _code().addresses["entry"], cpython.FASTCALL_KEYWORDS, None
        )
        self._state.keeps = [slow, definition, _functions(), _code()]
        self.call = cpython.builtin(definition, self._state)

    def add(self, executable: Executable, call: Call) -> bool:
        """Serve calls like this one from now on; whether that can be done."""
        count = int(self._state[State.count])
        if count >= CAPACITY or not isinstance(executable, Native) or not _is_simple(executable):
            return False
        try:
            candidate = _Tables(executable, call).candidate
        except _NoEntry:
            return False
        self._state.keeps.append(candidate)
        self._state[State.first + count] = _address(candidate)
        self._state[State.count] = count + 1
        return True


def new_entry(name: str, slow: Callable[..., Any]) -> Entry | None:
    """An entry before a function's Python path; None where this interpreter allows none."""
    return Entry(name, slow) if cpython.holds() else None


def _is_simple(native: Native) -> bool:
    """Whether a run is one call of native code, whose results need no pool, and whose memory may be kept for it alone."""
    return (
        len(native.code.steps) == 1
        and native.code.workspace <= WORKSPACE
        and isinstance(native.code.steps[0], Run)
        and not native.code.steps[0].pieces
        and not any(a.type.nbytes >= LARGE for a in native.program.outputs)
    )


def _is_long(native: Native) -> bool:
    work = sum(o.type.size for e in native.program.equations for o in e.outs)
    return work > WORK or native.code.flops > FLOPS


_Row = dict[int, int]  # the words of a record that are not zero


class _Mark(NamedTuple):
    """The k-th result in a tree of results."""

    k: int


class _Tables:
    """The tables of one candidate under construction; rows are dicts from word to value."""

    def __init__(self, native: Native, call: Call) -> None:
        self.native, self.call, self.program = native, call, native.program
        self.frame = native.take_frame()
        self.candidate = _words(Candidate.size)
        self.keeps = self.candidate.keeps
        self.keeps += [native, self.frame, _functions()]
        self.outputs = self.program.outputs[: len(self.program.outputs) - len(call.expected)]
        self.nodes: list[_Row] = []
        self.found: list[Any] = []  # the leaves met
        self.read: list[tuple[int, int]] = []  # slots and sizes of the arrays that are read,
        self.buffers: list[tuple[int, int]] = []  # and of those that are written
        self.copies: list[_Row] = []
        self.slots = self._result_slots()
        self._arguments()
        self._results()
        self._guards()
        self._header()

    def _slot(self, v: Var) -> int:
        """The address of a variable's place in the frame's table."""
        return ctypes.addressof(self.frame.table) + 8 * self.native.code.numbers[v]

    def _memory(self, n: int) -> int:
        """The address of fresh memory of so many bytes."""
        block = _words(n // 8 + 1)
        self.keeps.append(block)
        return _address(block)

    def _holder(self, address: int) -> int:
        """The address of a fresh slot that holds an address."""
        slot = self._memory(8)
        ctypes.c_int64.from_address(slot).value = address
        return slot

    def _id(self, x: Any) -> int:
        self.keeps.append(x)
        return id(x)

    def _array(self, x: Sequence[int]) -> int:
        words = _words(len(x))
        words[: len(x)] = x
        self.keeps.append(words)
        return _address(words)

    def _put(self, k: int, rows: Sequence[Mapping[int, int]], size: int) -> int:
        """Make a table of rows, with its length and address at words k and k + 1; its address."""
        table = _words(len(rows) * size)
        for n, row in enumerate(rows):
            for word, value in row.items():
                table[n * size + word] = value
        self.keeps.append(table)
        self.candidate[k], self.candidate[k + 1] = len(rows), _address(table)
        return _address(table)

    # ---- arguments

    def _arguments(self) -> None:
        call = self.call
        inputs = [(v, self._slot(v), False) for v in self.program.inputs]
        results = [(a, slot, True) for a, slot in zip(self.outputs, self.slots, strict=True)]
        names = list(call.kwargs) + (["out"] if call.out is not None else [])
        wanted = iter(inputs)
        for n, x in enumerate(call.args):
            if n in call.statics:
                self.nodes.append(self._same(x, How.argument, n))
            else:
                self._node(x, How.argument, -1, n, wanted)
        for name in sorted(call.kwargs):
            place = len(call.args) + names.index(name)
            if name in call.statics:
                self.nodes.append(self._same(call.kwargs[name], How.argument, place))
            else:
                self._node(call.kwargs[name], How.argument, -1, place, wanted)
        for n, name in enumerate(names):
            self.nodes.append(self._same(sys.intern(name), How.keyword, n))
        if len(self.found) != len(call.leaves) or any(a is not b for a, b in zip(self.found, call.leaves, strict=True)):
            raise _NoEntry
        self.root = len(self.nodes)
        if call.out is not None:
            self._node(call.out, How.argument, -1, len(call.args) + len(names) - 1, iter(results))
        self.candidate[Candidate.positional] = len(call.args)
        self.candidate[Candidate.named] = len(names)
        self.candidate[Candidate.holds] = any(row[Node.how] in (How.list, How.dict) for row in self.nodes)

    def _same(self, x: Any, how: How, index: int) -> _Row:
        return {Node.how: how, Node.index: index, Node.kind: Kind.same, Node.type: self._id(x)}

    def _node(self, x: Any, how: How, parent: int, index: int, wanted: Iterator[tuple[Atom, int, bool]]) -> None:
        row: _Row = {Node.how: how, Node.parent: parent, Node.index: index, Node.type: id(type(x))}
        here = len(self.nodes)
        self.nodes.append(row)
        if x is None:
            row.update({Node.kind: Kind.same, Node.type: id(None)})
        elif type(x) in (tuple, list):
            row.update({Node.kind: Kind.container, Node.count: len(x)})
            for n, item in enumerate(x):
                self._node(item, How.tuple if type(x) is tuple else How.list, here, n, wanted)
        elif type(x) is dict and all(type(key) is str for key in x):
            row.update({Node.kind: Kind.dict, Node.count: len(x)})
            for key in sorted(x):
                self._node(x[key], How.dict, here, self._id(key), wanted)
        else:
            self._leaf(row, x, *next(wanted, (None, 0, False)))

    def _leaf(self, row: _Row, x: Any, a: Atom | None, slot: int, writes: bool) -> None:
        if a is None:
            raise _NoEntry
        if not writes:
            self.found.append(x)
        row[Node.slot] = slot
        if type(x) is np.ndarray and (a.type.shape or writes):
            self._array_leaf(row, x, a, slot, writes)
        elif writes or a.type.shape:
            raise _NoEntry
        elif a.type.dtype == np.float64 and type(x) in (float, np.float64):
            row.update({Node.kind: Kind.number, Node.type: id(float), Node.other: id(np.float64)})
        elif a.type.dtype == np.int64 and type(x) is np.int64:
            row[Node.kind] = Kind.number
        elif a.type.dtype == np.int64 and type(x) is int:
            row.update({Node.kind: Kind.integer, Node.dims: self._memory(8)})
        else:
            raise _NoEntry

    def _array_leaf(self, row: _Row, x: Any, a: Atom, slot: int, writes: bool) -> None:
        dtype = np.dtype(a.type.dtype)
        if x.dtype is not dtype or x.shape != a.type.shape:
            raise _NoEntry
        row.update(
            {
                Node.kind: Kind.array,
                Node.count: len(x.shape),
                Node.dims: self._array(x.shape),
                Node.dtype: self._id(dtype),
                Node.flags: cpython.PLAIN | (cpython.WRITEABLE if writes else 0),
            }
        )
        (self.buffers if writes else self.read).append((slot, a.type.nbytes))

    # ---- results

    def _result_slots(self) -> list[int]:
        """Where the address of each result's memory is; results that are inputs, constants, or there before, are copied."""
        slots: list[int] = []
        first: set[Var] = set()
        for a in self.outputs:
            if isinstance(a, Var) and a not in self.program.inputs and a not in first:
                first.add(a)
                slots.append(self._slot(a))
                continue
            slots.append(self._holder(0))
            if a.type.shape or self.call.out is not None:
                self.copies.append(
                    {Guard.slot: slots[-1], Guard.expected: self._source(a), Guard.nbytes: a.type.nbytes}
                )
        return slots

    def _source(self, a: Atom) -> int:
        if isinstance(a, Var):
            return self._slot(a)
        value = np.require(a.value, a.type.dtype, ("C", "A"))
        self.keeps.append(value)
        return self._holder(_address(value))

    def _results(self) -> None:
        if self.call.out is not None:
            self.makes: list[_Row] = []
            self.builds: list[_Row] = [{Build.what: What.given, Build.operand: self.root, Build.how: -1}]
            return
        arrays = [k for k, a in enumerate(self.outputs) if a.type.shape]
        self.makes = [
            {
                Make.rank: len(self.outputs[k].type.shape),
                Make.dims: self._array(self.outputs[k].type.shape),
                Make.number: np.dtype(self.outputs[k].type.dtype).num,
                Make.slot: self.slots[k],
            }
            for k in arrays
        ]
        self.places = {k: n for n, k in enumerate(arrays)}
        self.builds = []
        self._part(self.call.rebuild([_Mark(k) for k in range(len(self.outputs))]), -1, -1, 0)

    def _part(self, x: Any, how: int, parent: int, index: int) -> None:
        here = len(self.builds)
        row: _Row = {Build.how: how, Build.parent: parent, Build.index: index}
        self.builds.append(row)
        if type(x) is _Mark:
            row.update(self._result(x.k))
        elif type(x) in (tuple, list):
            kind = "tuple" if type(x) is tuple else "list"
            row.update({Build.what: What[kind], Build.operand: len(x)})
            for n, item in enumerate(x):
                self._part(item, How[kind], here, n)
        elif type(x) is dict:
            row[Build.what] = What.dict
            for key, item in x.items():
                self._part(item, How.dict, here, self._id(key))
        elif x is None:
            row.update({Build.what: What.object, Build.operand: id(None)})
        else:
            raise _NoEntry

    def _result(self, k: int) -> _Row:
        a = self.outputs[k]
        if a.type.shape:
            return {Build.what: What.array, Build.operand: self.places[k]}
        if isinstance(a, Var) and a not in self.program.inputs:
            ctypes.c_int64.from_address(self._slot(a)).value = self._memory(a.type.nbytes)
        what = What.float64 if a.type.dtype == np.float64 else What.scalar
        return {Build.what: what, Build.operand: self._source(a), Build.dtype: self._id(np.dtype(a.type.dtype))}

    # ---- guards, and all together

    def _guards(self) -> None:
        self.guards: list[_Row] = []
        for a, value in zip(self.program.outputs[len(self.outputs) :], self.call.expected, strict=True):
            expected = np.require(value, a.type.dtype, ("C", "A"))
            if expected.shape != a.type.shape or not np.array_equal(expected, value):
                raise _NoEntry
            if isinstance(a, Literal):
                if not np.array_equal(a.value, expected):
                    raise _NoEntry
                continue
            if a not in self.program.inputs and a not in self.outputs:
                ctypes.c_int64.from_address(self._slot(a)).value = self._memory(a.type.nbytes)
            self.keeps.append(expected)
            self.guards.append(
                {Guard.slot: self._slot(a), Guard.expected: _address(expected), Guard.nbytes: a.type.nbytes}
            )

    def _header(self) -> None:
        head = self.candidate
        nodes = self._put(Candidate.nodes, self.nodes, Node.size)
        self._point(nodes, self.nodes, Node.size, Node.parent)
        makes = self._put(Candidate.makes, self.makes, Make.size)
        for row in self.builds:
            if row[Build.what] == What.array:
                row[Build.operand] = makes + 8 * Make.size * row[Build.operand]
            elif row[Build.what] == What.given:
                row[Build.operand] = nodes + 8 * Node.size * row[Build.operand]
        builds = self._put(Candidate.builds, self.builds, Build.size)
        self._point(builds, self.builds, Build.size, Build.parent)
        self._put(Candidate.overlaps, self._overlaps(), Overlap.size)
        self._put(Candidate.guards, self.guards, Guard.size)
        self._put(Candidate.copies, self.copies, Guard.size)
        head[Candidate.releases] = _is_long(self.native)
        (head[Candidate.code],) = self.native.loaded.addresses.values()
        head[Candidate.table] = ctypes.addressof(self.frame.table)
        head[Candidate.status] = ctypes.addressof(self.frame.status)
        head[Candidate.functions] = _address(_functions())

    @staticmethod
    def _point(table: int, rows: Sequence[Mapping[int, int]], size: int, word: int) -> None:
        """Turn the numbers of records at a word of each record into their addresses."""
        for n, row in enumerate(rows):
            if row.get(word, -1) >= 0:
                ctypes.c_int64.from_address(table + 8 * (n * size + word)).value = table + 8 * size * row[word]

    def _overlaps(self) -> list[_Row]:
        pairs = [(b, other) for k, b in enumerate(self.buffers) for other in (*self.read, *self.buffers[:k])]
        return [
            {Overlap.slot: a, Overlap.nbytes: n, Overlap.other: b, Overlap.other_nbytes: m} for (a, n), (b, m) in pairs
        ]
