"""A long program in segments: bodies that are compiled once, and the turns in which each runs.

A Python loop leaves a trace in which the same equations follow each other again and again. Two stretches of equations are the
same body where they are equal up to what they read from elsewhere: results of earlier turns, inputs of the program, slices of both,
numbers that change from turn to turn. These become the body's inputs; what other equations need of a turn are its outputs. So the
work of compiling goes with the length of the body, and the code is a loop over a table of addresses.

Bodies may have segments of their own (loops within loops). What is not repeated is a segment of one turn; a program too short to
be worth it is one such segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm.operations import cost, lowers
from chainrule.backends.llvm.partition import MOVES, Layout, written
from chainrule.backends.llvm.repeats import runs
from chainrule.backends.llvm.windows import Windows, place_of
from chainrule.ir.primitive import parameter_key
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType

LONG = 256
"""Programs of fewer equations are one segment."""
STRAIGHT = 2000
"""The most equations of a segment that is not repeated: what is decided about each depends on all before it."""
TURNS, REPEATED = 4, 128
"""The least number of turns, and of equations in all of them together, for which a loop is made."""
BODY = 200
"""Scalar operations that one turn should have at least, where several of the program's turns can be taken together."""
DEPTH = 3
"""How deep loops are nested in loops."""
AGAIN = 2
"""Operations that are computed again in another segment rather than stored for it."""


_AGAIN = -1 << 40
"""Marks in a key what is computed again."""


class Ref(NamedTuple):
    """A place in memory: so many bytes into the buffer of an atom, or of anything else that has one."""

    atom: Any
    offset: int = 0


class Packed(Literal):
    """Numbers that one argument is in successive turns."""

    __slots__ = ()


class Turn(NamedTuple):
    """One run of a body in the program around it: where its equations begin, and what its inputs and `again` are there."""

    start: int
    inputs: tuple[Ref, ...]
    again: tuple[Var, ...]


@dataclass(eq=False)
class Body:
    """A stretch of equations as a program: first those computed again from elsewhere (`again` many), then the stretch's own.

    `parts` are its segments, where it is divided further.
    """

    program: Program
    again: int
    parts: Sequence[Segment] = ()

    @cached_property
    def places(self) -> dict[Var, tuple[int, int]]:
        """For each variable the equation that makes it, and the output; for inputs (-1, the number of the input)."""
        found = {v: (-1, k) for k, v in enumerate(self.program.inputs)}
        found |= {o: (i, k) for i, e in enumerate(self.program.equations) for k, o in enumerate(e.outs)}
        return found


@dataclass(eq=False)
class Segment:
    """A body and its turns, one after the other."""

    body: Body
    turns: list[Turn]


def segments(program: Program, layout: Layout | None = None, depth: int = 0) -> tuple[list[Segment], Layout]:
    """A program in segments, and its layout, which is given for a body of a larger program."""
    whole = [Segment(Body(program, 0), [Turn(0, tuple(map(Ref, program.inputs)), ())])]
    if len(program.equations) < LONG or depth > DEPTH:
        return whole, layout or Layout.of(program)
    cut = _Cut(program, layout, depth)
    return whole if len(cut.stretches) == 1 else cut.segments(), cut.layout


class _Tokens:
    """Equations by kind: alike up to the variables that they read, the values of the numbers among their arguments, and to where
    a slice begins."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.numbers: dict[Any, int] = {}
        self.first: list[Equation] = []
        self.sizes: list[int] = []

    def of(self, e: Equation) -> int:
        args = tuple([self._argument(a) for a in e.args])
        outs = tuple([(o.type.shape, o.type.dtype.num) for o in e.outs])
        window = self.windows.of(e)
        params: Any = e.params if window is None else window.key
        key = (e.primitive, parameter_key(params) if params else (), args, outs)
        number = self.numbers.setdefault(key, len(self.numbers))
        if number == len(self.first):
            self.first.append(e)
            self.sizes.append(sum(o.type.size for o in e.outs))
        return number

    @staticmethod
    def _argument(a: Atom) -> Any:
        kind = (a.type.shape, a.type.dtype.num)
        if isinstance(a, Var):
            return kind
        return (kind, None if _is_number(a) else content(a))


def _is_elementwise(e: Equation) -> bool:
    return len(e.outs) == 1 and lowers(e.primitive.name, [a.type for a in e.args], e.outs[0].type)


def _is_number(a: Literal) -> bool:
    return a.type.dtype.kind == "f" and a.type.size > 0


def content(a: Literal) -> Any:
    """A key equal for literals of equal content; large arrays are told apart by identity."""
    value = a.value
    return value.tobytes() if a.type.size <= STRAIGHT else id(value)


class _Moved(NamedTuple):
    """An array from elsewhere, moved for slices of one kind: where it is, its type, and the number of the kind."""

    ref: Ref
    type: ArrayType
    kind: int


class _Stretch:
    """Some equations in a row: a key equal for those of one body, and what they read from elsewhere, in the order of the key.

    `slices` are those whose arrays are from elsewhere, with what each takes in the place of its array.
    """

    __slots__ = ("again", "elsewhere", "key", "literals", "slices", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.elsewhere: dict[Var | _Moved, int] = {}
        self.slices: dict[Equation, _Moved] = {}
        self.again: list[Equation] = []
        self.literals: list[Literal] = []
        self.key: tuple[int, ...] = ()


class _Cut:
    """A program being cut."""

    def __init__(self, program: Program, layout: Layout | None, depth: int) -> None:
        self.program = program
        self.equations = program.equations
        self.depth = depth
        self.made: dict[Var, int] = {o: i for i, e in enumerate(program.equations) for o in e.outs}
        self.windows = Windows()
        self.tokens = _Tokens(self.windows)
        self.numbers = [self.tokens.of(e) for e in program.equations]
        self.layout = layout or Layout(self.tokens.first, sum(self.tokens.sizes[n] for n in self.numbers))
        self.stretches = self._stretches()

    # ---- where to cut

    def _stretches(self) -> list[_Stretch]:
        found: list[_Stretch] = []
        at = 0
        for start, period, count in runs(self.numbers):
            if count < TURNS or period * count < REPEATED:
                continue
            turns = self._turns_together(start, period, count)
            found += self._straight(at, start)
            at = start + period * (count // turns * turns)
            found += [_Stretch(k, k + period * turns) for k in range(start, at, period * turns)]
        found += self._straight(at, len(self.equations))
        return found

    def _straight(self, start: int, stop: int) -> Iterator[_Stretch]:
        pieces = -(-(stop - start) // STRAIGHT)
        for k in range(pieces):
            yield _Stretch(start + (stop - start) * k // pieces, start + (stop - start) * (k + 1) // pieces)

    def _turns_together(self, start: int, period: int, count: int) -> int:
        """How many turns make one of the body: several where turns are short, and nothing must be in memory between them."""
        body = self.equations[start : start + period]
        if not all(self._stays_in_registers(e) for e in body):
            return 1
        return min(count // TURNS, max(1, BODY // sum(written(self.layout, e) for e in body)))

    def _stays_in_registers(self, e: Equation) -> bool:
        """Whether an equation reads elements where they were made: at the same place of a loop, or written out."""
        if not _is_light(e) or self.layout.is_fence(e):
            return False
        if e.primitive.name in MOVES and e.primitive.name != "broadcast_to":
            return not any(self.layout.loops(a.type.shape) for a in (*e.args, *e.outs))
        return True

    # ---- what is the same

    def segments(self) -> list[Segment]:
        """The segments, with the bodies that they share."""
        groups: list[list[_Stretch]] = []
        for s in self.stretches:
            self._read(s)
            if groups and groups[-1][0].key == s.key:
                groups[-1].append(s)
            else:
                groups.append([s])
        exported = self._exported()
        known: dict[Any, tuple[Body, list[int]]] = {}
        out: list[Segment] = []
        for group in groups:
            fixed, changing = _numbers_of(group)
            given = _given(group)
            key = (group[0].key, fixed, given.fixed, given.same)
            if key not in known:
                known[key] = self._body(group[0], given, changing, exported[group[0].key]), changing
            columns = [c for k, c in enumerate(given.columns) if given.same[k] == k]
            columns += [_refs([s.literals[k] for s in group]) for k in changing]
            turns = [
                Turn(s.start, tuple([c[n] for c in columns]), tuple([e.outs[0] for e in s.again]))
                for n, s in enumerate(group)
            ]
            out.append(Segment(known[key][0], turns))
        return out

    def _read(self, s: _Stretch) -> None:
        """Find a stretch's key, and what it reads."""
        own: dict[Var, int] = {}
        key: list[int] = []
        numbers: list[Literal] = []

        def place(a: Var, within: bool) -> int:
            """Within what is computed again, all up to the source is."""
            found = own.get(a)
            if found is None:
                found = s.elsewhere.get(a)
                if found is None:
                    is_again = self._is_cheap(a) or (within and a in self.sources)
                    found = again(a) if is_again else s.elsewhere.setdefault(a, ~len(s.elsewhere))
            return found

        def again(a: Var) -> int:
            i = self.made[a]
            refs = places(i, True)
            key.extend((_AGAIN, self.numbers[i], *refs))
            s.again.append(self.equations[i])
            numbers.extend(x for x in self.equations[i].args if isinstance(x, Literal) and _is_number(x))
            own[a] = len(own)
            return own[a]

        def places(i: int, within: bool) -> list[int]:
            e = self.equations[i]
            window = self.windows.of(e)
            if window is None:
                return [place(a, within) for a in e.variables]
            (a,) = e.variables
            if s.start <= self.made.get(a, -1):
                return [own[a], window.offset]
            base, offset = place_of(a, self._definition, self.windows)
            moved = _Moved(Ref(base, offset + window.offset), a.type, self.numbers[i])
            s.slices[e] = moved
            return [s.elsewhere.setdefault(moved, ~len(s.elsewhere))]

        for i in range(s.start, s.stop):
            e = self.equations[i]
            refs = places(i, False)
            s.literals += [a for a in e.args if isinstance(a, Literal) and _is_number(a)]
            key.append(self.numbers[i])
            key += refs
            for o in e.outs:
                own[o] = len(own)
        s.key = tuple(key)
        s.literals = numbers + s.literals

    def _definition(self, a: Var) -> Equation | None:
        i = self.made.get(a)
        return None if i is None else self.equations[i]

    def _is_cheap(self, a: Var) -> bool:
        """Whether to compute a variable again rather than to read it."""
        source = self.sources.get(a)
        return source is not None and (source[0] not in self.made or source[0].type.size <= 2 * a.type.size)

    @cached_property
    def sources(self) -> dict[Var, tuple[Var, int]]:
        """For what can be computed again at little cost from one variable: that variable, and the cost."""
        prices = [_price(e) for e in self.tokens.first]
        found: dict[Var, tuple[Var, int]] = {}
        for e, number in zip(self.equations, self.numbers, strict=True):
            spent = prices[number]
            if spent > AGAIN:
                continue
            read = [found.get(v, (v, 0)) for v in e.args if isinstance(v, Var)]
            spent += sum([more for _, more in read])
            if spent <= AGAIN and len({source for source, _ in read}) == 1:
                found[e.outs[0]] = (read[0][0], spent)
        return found

    def _exported(self) -> dict[Any, set[tuple[int, int]]]:
        """For each key of a body, the equations and outputs that something outside the stretch reads."""
        found: dict[Any, set[tuple[int, int]]] = {s.key: set() for s in self.stretches}
        home = [s for s in self.stretches for _ in range(s.start, s.stop)]
        needed: list[Any] = [_ref(a).atom for s in self.stretches for a in s.elsewhere]
        for a in (*needed, *self.program.outputs):
            i = self.made.get(a) if isinstance(a, Var) else None
            if i is not None:
                s = home[i]
                found[s.key].add((i - s.start, self.equations[i].outs.index(a)))
        return found

    def _body(self, s: _Stretch, given: _Given, changing: Sequence[int], exported: set[tuple[int, int]]) -> Body:
        inputs = given.inputs(s)
        names = {k: Var(s.literals[k].type) for k in changing}
        own = self.equations[s.start : s.stop]
        fixed = dict(zip(s.elsewhere, given.fixed, strict=True))

        def moved(e: Equation) -> Equation:
            """A slice of what is moved to where it begins, unless that is the same in all turns."""
            a, window = s.slices.get(e), self.windows.of(e)
            if a is None or window is None:
                return e
            return replace(e, args=(inputs[a],), params={"key": window.key} if fixed[a] is None else e.params)

        equations = _with_inputs([moved(e) for e in (*s.again, *own)], names)
        outputs = tuple(own[i].outs[k] for i, k in sorted(exported))
        program = Program(self.program.name, (*dict.fromkeys(inputs.values()), *names.values()), equations, outputs)
        parts, _ = segments(program, self.layout, self.depth + 1)
        return Body(program, len(s.again), parts if len(parts) > 1 else ())


class _Given(NamedTuple):
    """What stretches with one key read from elsewhere: for each input where it is in every turn; by how much its array is moved,
    where that is a number of the body; and the first input that is the same in every turn."""

    columns: list[list[Ref]]
    fixed: tuple[int | None, ...]
    same: tuple[int, ...]

    def inputs(self, s: _Stretch) -> dict[Var | _Moved, Var]:
        """The input of a stretch's body for each of what it reads."""
        found = {k: a for a, k in zip(s.elsewhere, self.same, strict=True) if isinstance(a, Var)}
        for a, k in zip(s.elsewhere, self.same, strict=True):
            if k not in found:
                found[k] = Var(a.type)
        return {a: found[k] for a, k in zip(s.elsewhere, self.same, strict=True)}


def _given(group: Sequence[_Stretch]) -> _Given:
    columns: list[list[Ref]] = []
    fixed: list[int | None] = []
    for column in zip(*(s.elsewhere for s in group), strict=True):
        refs = [_ref(a) for a in column]
        offset = _common_offset(column[0], refs)
        fixed.append(offset)
        columns.append(refs if offset is None else [Ref(r.atom) for r in refs])
    first: dict[Any, int] = {}
    return _Given(columns, tuple(fixed), tuple([first.setdefault(tuple(c), k) for k, c in enumerate(columns)]))


def _common_offset(a: Var | _Moved, refs: Sequence[Ref]) -> int | None:
    """By how much an array is moved in all turns; None where that differs, or the array has another shape in memory."""
    if isinstance(a, Var):
        return 0
    same = all(r.offset == a.ref.offset and r.atom.type == a.type for r in refs)
    return a.ref.offset if same else None


def _ref(a: Var | _Moved) -> Ref:
    return a.ref if isinstance(a, _Moved) else Ref(a)


def _is_light(e: Equation) -> bool:
    """Whether an equation only moves elements, by a rule known beforehand, or computes each from those at the same place."""
    return e.primitive.name != "gather" if e.primitive.name in MOVES else _is_elementwise(e)


def _price(e: Equation) -> int:
    """What computing an equation again costs, an element."""
    if len(e.outs) != 1 or not _is_light(e):
        return AGAIN + 1
    return 0 if e.primitive.name in MOVES else cost(e.primitive.name)


def _numbers_of(group: Sequence[_Stretch]) -> tuple[Any, list[int]]:
    """Which numbers are the same in all stretches, as a key, and the places of the others."""
    fixed: list[Any] = []
    changing: list[int] = []
    for k, column in enumerate(zip(*(s.literals for s in group), strict=True)):
        first = content(column[0])
        if all(a is column[0] or content(a) == first for a in column):
            fixed.append(first)
        else:
            fixed.append(None)
            changing.append(k)
    return tuple(fixed), changing


def _refs(column: Sequence[Literal]) -> list[Ref]:
    """Where one argument's numbers in successive turns are: packed in one array if they are scalars."""
    if column[0].type.shape:
        return [Ref(a) for a in column]
    packed = Packed(np.stack([np.asarray(a.value) for a in column]))
    return [Ref(packed, k * packed.type.dtype.itemsize) for k in range(len(column))]


def _with_inputs(equations: Sequence[Equation], names: dict[int, Var]) -> tuple[Equation, ...]:
    """The equations with variables in the place of some of the numbers among their arguments, in order."""
    if not names:
        return tuple(equations)
    count = -1

    def renamed(a: Atom) -> Atom:
        nonlocal count
        if isinstance(a, Var) or not _is_number(a):
            return a
        count += 1
        return names.get(count, a)

    args = [tuple(map(renamed, e.args)) for e in equations]
    return tuple(e if new == e.args else replace(e, args=new) for e, new in zip(equations, args, strict=True))
