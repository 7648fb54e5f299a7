"""From the scalar graphs of a kernel's boxes to LLVM: loops over the box, lanes along its last axis, effects in the innermost body.

A node is computed in the outermost loop in which all axes that it depends on are known. A reduction is kept in a register across
the loops over the axes that it sums, and added to its place in memory where they end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.llvm import assembly, vector_maths
from chainrule.backends.llvm.assembly import F32, F64, I1, I8, I32, I64, PTR
from chainrule.backends.llvm.body import Body, Effect, Fill, depth, neutral
from chainrule.backends.llvm.divide import Division
from chainrule.backends.llvm.graph import DTYPES, Node
from chainrule.backends.llvm.index import Component, Dyn, Lin
from chainrule.backends.llvm.target import Target

TYPES = {"f64": F64, "f32": F32, "i64": I64, "i32": I32, "i1": I1}
SIZES = {"f64": 8, "f32": 4, "i64": 8, "i32": 4, "i1": 1}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FLOATING = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "neg": "fneg", "select": "select"}
_CONTRACTED = ("fadd", "fsub", "fmul")  # a product and a sum may be rounded once
_WHOLE = {
    "add": "add", "sub": "sub", "mul": "mul", "neg": "neg", "select": "select", "and": "and_", "or": "or_", "xor": "xor",
    "not": "not_", "quotient": "sdiv", "rest": "srem", "shl": "shl", "shr": "ashr",
}  # fmt: skip


_COMBINED = {
    ("add", "f"): "fadd", ("add", "i"): "add", ("mul", "f"): "fmul", ("mul", "i"): "mul", ("and", "i"): "and_", ("or", "i"): "or_",
}  # fmt: skip

# Strided lanes are moved one by one, which is faster than gather and scatter, unless the code would grow too long.
_ONE_BY_ONE = 100


def kernel_function(
    module: Any, name: str, bodies: Sequence[Body], fills: Sequence[Fill], slots: int, target: Target
) -> Any:
    """The function `name(buffer, ..., status)` of a kernel; a failed check of an index sets the status to 1."""
    function, builder = _function(module, name, slots, [])
    for fill in fills:
        _fill(builder, function.args[fill.slot], fill)
    for body in bodies:
        _Emitter(builder, function.args[:slots], function.args[slots], body, target).emit()
    builder.ret_void()
    return function


def piece_function(
    module: Any, name: str, bodies: Sequence[Body], division: Division, slots: int, target: Target
) -> Any:
    """The function `name(buffer, ..., status, piece)` of one piece of a kernel; the last buffers are those of its rows."""
    function, builder = _function(module, name, slots, [I64])
    piece = function.args[-1]
    buffers = list(function.args[:slots])
    for source, row in zip(buffers[slots - len(division.rows) :], division.rows, strict=True):
        start = builder.mul(piece, I64(division.stride(row)))
        buffers[row.slot] = builder.gep(source, [start], source_etype=_stored(row.kind))
        _fill(builder, buffers[row.slot], row)
    for body in bodies:
        emitter = _Emitter(builder, buffers, function.args[slots], body, target)
        lo, hi = body.box[division.axis]
        if division.blocks(lo, hi):
            emitter.part = _part(builder, division, lo, hi, piece)
            emitter.emit()
        else:
            with builder.if_then(builder.icmp_unsigned("==", piece, I64(0))):
                emitter.emit()
    builder.ret_void()
    return function


def _function(module: Any, name: str, slots: int, more: Sequence[Any]) -> tuple[Any, Any]:
    kind = assembly.FunctionType(assembly.VOID, [PTR] * (slots + 1) + list(more))
    function = assembly.Function(module, kind, name, internal=True, noalias=slots + 1)
    return function, assembly.Builder(function.append_basic_block("entry"))


class _Part(NamedTuple):
    """The range of one axis that a piece goes over: known at run time, never empty, of a whole number of steps but in the last."""

    axis: int
    begin: Any
    end: Any
    is_last: Any


def _part(builder: Any, division: Division, lo: int, hi: int, piece: Any) -> _Part:
    blocks, pieces = I64(division.blocks(lo, hi)), I64(division.pieces)

    def border(k: Any) -> Any:
        block = builder.udiv(builder.mul(k, blocks), pieces)
        return builder.add(builder.mul(block, I64(division.step)), I64(lo))

    following = builder.add(piece, I64(1))
    is_last = builder.icmp_unsigned("==", following, pieces)
    return _Part(division.axis, border(piece), builder.select(is_last, I64(hi), border(following)), is_last)


def _fill(builder: Any, pointer: Any, fill: Fill) -> None:
    value = neutral(fill.effect, fill.kind)
    kind = _stored(fill.kind)
    with Loop(builder, 0, fill.size, 1) as i:
        builder.store(
            assembly.Constant(kind, int(value) if fill.kind[0] == "i" else float(value)),
            builder.gep(pointer, [i], source_etype=kind),
        )


def _stored(kind: str) -> Any:
    """The type of an element in memory."""
    return I8 if kind == "i1" else TYPES[kind]


class Loop:
    """for i in range(start, stop, step), as a context; never empty. Bounds are numbers or values; one turn makes no loop.

    `carried` are values by name, each of which every turn takes from the one before, and may replace.
    """

    def __init__(self, builder: Any, start: Any, stop: Any, step: int, carried: dict[Any, Any] | None = None) -> None:
        self.builder, self.step = builder, step
        self.carried: dict[Any, Any] = {} if carried is None else carried
        self.is_one = isinstance(start, int) and isinstance(stop, int) and stop - start <= step
        self.start, self.stop = (I64(x) if isinstance(x, int) else x for x in (start, stop))

    def __enter__(self) -> Any:
        if self.is_one:
            return self.start
        b = self.builder
        before = b.block
        self.head = b.append_basic_block("loop")
        b.branch(self.head)
        b.position_at_end(self.head)
        self.index = b.phi(I64)
        self.index.add_incoming(self.start, before)
        self.entering = {}
        for name, value in self.carried.items():
            self.entering[name] = self.carried[name] = b.phi(value.type)
            self.entering[name].add_incoming(value, before)
        return self.index

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None or self.is_one:
            return
        b = self.builder
        following = b.add(self.index, I64(self.step), flags=["nsw", "nuw"])
        self.index.add_incoming(following, b.block)
        for name, phi in self.entering.items():
            phi.add_incoming(self.carried[name], b.block)
        done = b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", following, self.stop), self.head, done)
        b.position_at_end(done)


class _Emitter:
    """One box."""

    def __init__(self, builder: Any, buffers: Sequence[Any], status: Any, body: Body, target: Target) -> None:
        self.builder = builder
        self.buffers = buffers
        self.status = status
        self.body = body
        self.target = target
        self.nodes = body.graph.nodes
        self.rank = len(body.box)
        self.levels = body.levels()
        self.at_level: list[list[int]] = [[] for _ in range(self.rank + 1)]
        for n, level in self.levels.items():
            self.at_level[level].append(n)
        self.part: _Part | None = None
        self.full = self._width()
        self.axes: list[Any] = [None] * self.rank
        self.width = 1
        self.strided = sum(self._is_strided(self.nodes[n].extra[1]) for n in self.levels if self.nodes[n].op == "load")
        self.strided += sum(self._is_strided(e.at) for e in self.body.effects)
        self.carried: dict[
            Any, Any
        ] = {}  # sums under way, by effect and width; whether an index was out of range, by width

    def _depth(self, at: Component) -> int:
        """How many loops must be open for a position to be known."""
        return depth(at, self.levels)

    def _width(self) -> int:
        if not self.rank or any(e.kind == "scatter" for e in self.body.effects) or self.body.ordered == self.rank - 1:
            return 1
        size = max(SIZES[self.nodes[n].kind] for n in self.levels)
        width = self.target.bits // 8 // max(size, 4)
        lo, hi = self.body.box[-1]
        return width if hi - lo >= width else 1

    def _is_strided(self, at: Component) -> bool:
        return isinstance(at, Lin) and any(t == self.rank - 1 and c != 1 for t, c in at.terms)

    # ---- loops

    def emit(self) -> None:
        widths = {1, self.full} if any(self.nodes[n].op == "checked" for n in self.levels) else ()
        for width in widths:
            self.carried["bad", width] = self._constant(False, "i1", width)
        self._enter(0, {})
        for width in widths:
            self._report(width, self.carried["bad", width])

    def _enter(self, level: int, env: dict[Any, Any]) -> None:
        for n in self.at_level[level]:
            if n not in env:
                self._node(n, env)
        if level == self.rank:
            for k, effect in enumerate(self.body.effects):
                self._effect(k, effect, env)
            return
        opened = [
            k
            for k, e in enumerate(self.body.effects)
            if e.kind not in ("store", "scatter") and self._depth(e.at) == level
        ]
        self._open(opened)
        self._loop(level, env)
        for k in opened:
            self._flush(k, env)

    def _loop(self, level: int, env: dict[Any, Any]) -> None:
        lo, hi = self.body.box[level]
        width = self.full if level == self.rank - 1 else 1
        part = self.part if self.part is not None and self.part.axis == level else None
        begin, end = (lo, hi) if part is None else (part.begin, part.end)
        if width > 1 and all(e.kind == "store" for e in self.body.effects):
            bound = hi - width if part is None else self.builder.sub(end, I64(width))
            with Loop(self.builder, begin, end, width, self.carried) as i:  # the last vector overlaps the one before it
                self._turn(level, self._at_most(i, bound), width, env)
            return
        middle = lo + (hi - lo) // width * width
        if middle > lo:
            stop = end if middle == hi else middle if part is None else self._at_most(end, middle)
            with Loop(self.builder, begin, stop, width, self.carried) as i:
                self._turn(level, i, width, env)
        if middle < hi:
            condition = nullcontext() if part is None else self._where(part.is_last)
            with condition, Loop(self.builder, middle, hi, 1, self.carried) as i:
                self._turn(level, i, 1, env)

    def _turn(self, level: int, i: Any, step: int, env: dict[Any, Any]) -> None:
        self.axes[level] = i
        self.width = step
        self._enter(level + 1, dict(env))
        self.width = 1

    def _at_most(self, i: Any, bound: Any) -> Any:
        bound = I64(bound) if isinstance(bound, int) else bound
        if isinstance(i, assembly.Constant) and isinstance(bound, assembly.Constant):
            return I64(min(i.value, bound.value))
        return self.builder.select(self.builder.icmp_signed("<", i, bound), i, bound)

    # ---- accumulators

    @contextmanager
    def _where(self, condition: Any) -> Iterator[None]:
        """What follows is done only where the condition holds; what is carried is as before elsewhere."""
        b = self.builder
        before, start = dict(self.carried), b.block
        with b.if_then(condition):
            yield
            end = b.block
        for name, value in self.carried.items():
            if value is not before[name]:
                self.carried[name] = phi = b.phi(value.type)
                phi.add_incoming(before[name], start)
                phi.add_incoming(value, end)

    def _open(self, opened: Sequence[int]) -> None:
        for k in opened:
            effect = self.body.effects[k]
            kind = self.nodes[effect.node].kind
            start = neutral(effect.kind, kind)
            for width in {1, self.full}:
                self.carried[k, width] = self._constant(start, kind, width)

    def _flush(self, k: int, env: dict[Any, Any]) -> None:
        effect = self.body.effects[k]
        kind = self.nodes[effect.node].kind
        total = self.carried.pop((k, 1))
        if self.full > 1:
            wide = self._across(effect.kind, kind, self.carried.pop((k, self.full)))
            is_whole = isinstance(total, assembly.Constant)  # no turn was left for single numbers
            total = wide if is_whole else self._combine(effect.kind, kind, wide, total)
        pointer = self._pointer(effect.slot, kind, effect.at, env)
        before = self._fetch(pointer, kind, 1)
        self._deposit(self._combine(effect.kind, kind, before, total), pointer, kind)

    def _across(self, effect: str, kind: str, wide: Any) -> Any:
        """One number of a vector's lanes."""
        b = self.builder
        width = wide.type.count
        while width > 1:
            half = width // 2
            undefined = assembly.undefined(wide.type)
            low, high = (
                b.shuffle_vector(
                    wide, undefined, assembly.Constant(assembly.vector(I32, half), list(range(s, s + half)))
                )
                for s in (0, half)
            )
            wide, width = self._combine(effect, kind, low, high), half
        return b.extract_element(wide, I32(0))

    def _combine(self, effect: str, kind: str, a: Any, b: Any) -> Any:
        build = self.builder
        plain = _COMBINED.get((effect, kind[0]))
        if plain is not None:
            return getattr(build, plain)(a, b)
        if kind[0] != "f":
            return build.select(build.icmp_signed(">" if effect == "max" else "<", a, b), a, b)
        first = build.fcmp_ordered(">=" if effect == "max" else "<=", a, b)
        return build.select(build.or_(first, build.fcmp_unordered("uno", a, a)), a, b)

    # ---- values

    def _wide(self, kind: str, width: int | None = None) -> Any:
        width = self.width if width is None else width
        return TYPES[kind] if width == 1 else assembly.vector(TYPES[kind], width)

    def _constant(self, value: Any, kind: str, width: int) -> Any:
        one = bool(value) if kind == "i1" else int(value) if kind[0] == "i" else float(value)
        scalar = assembly.Constant(TYPES[kind], one)
        return scalar if width == 1 else assembly.splat(scalar, width)

    def _varies(self, n: int) -> bool:
        """Whether a node's value differs between lanes."""
        return self.width > 1 and self.levels[n] == self.rank

    def _read(self, n: int, env: dict[Any, Any], wide: bool) -> Any:
        """The value of a node, in every lane where that is asked for."""
        value = env[n]
        if not wide or assembly.is_vector(value.type):
            return value
        if isinstance(value, assembly.Constant):
            return assembly.splat(value, self.width)
        key = ~n  # the node's value in every lane
        if key not in env:
            env[key] = self._splat(value)
        return env[key]

    def _splat(self, value: Any) -> Any:
        undefined = assembly.undefined(assembly.vector(value.type, self.width))
        first = self.builder.insert_element(undefined, value, I32(0))
        return self.builder.shuffle_vector(
            first, undefined, assembly.Constant(assembly.vector(I32, self.width), [0] * self.width)
        )

    def _node(self, n: int, env: dict[Any, Any]) -> None:
        node = self.nodes[n]
        if node.op == "const":
            value = np.frombuffer(node.extra, DTYPES[node.kind])[0]
            env[n] = self._constant(value, node.kind, 1)
        elif node.op == "load":
            env[n] = self._load(node, env)
        else:
            wide = self._varies(n)
            args = [self._read(a, env, wide) for a in node.args]
            if node.op == "call":
                self._call(n, node, args, env)
            elif node.op == "checked":
                env[n] = self._checked(node, args[0], wide)
            else:
                env[n] = self._operation(node, args, wide)

    def _operation(self, node: Node, args: list[Any], wide: bool) -> Any:
        b, op = self.builder, node.op
        source = self.nodes[node.args[0]].kind
        if op in _COMPARE:
            return self._compare(op, source, args)
        if op == "strong":
            return self._strong(node.kind, args, wide)
        if op == "cast":
            return self._cast(source, node.kind, args[0], wide)
        plain = _FLOATING.get(op) if node.kind[0] == "f" else _WHOLE.get(op)
        if plain is None:
            return self._intrinsic(op, node.kind, args, wide)
        return getattr(b, plain)(*args, flags=("contract",)) if plain in _CONTRACTED else getattr(b, plain)(*args)

    def _strong(self, kind: str, args: list[Any], wide: bool) -> Any:
        zero = self._constant(0.0, kind, self.width if wide else 1)
        product = self.builder.fmul(*args, flags=("contract",))
        return self.builder.select(self.builder.fcmp_ordered("==", args[0], zero), zero, product)

    def _compare(self, op: str, source: str, args: list[Any]) -> Any:
        b = self.builder
        if source[0] != "f":
            return (b.icmp_unsigned if source == "i1" else b.icmp_signed)(_COMPARE[op], *args)
        return b.fcmp_unordered("!=", *args) if op == "ne" else b.fcmp_ordered(_COMPARE[op], *args)

    def _intrinsic(self, op: str, kind: str, args: list[Any], wide: bool) -> Any:
        name = {"abs": "fabs"}.get(op, op)
        if kind[0] == "i":
            b = self.builder
            return b.select(
                b.icmp_signed("<", args[0], self._constant(0, kind, self.width if wide else 1)), b.neg(args[0]), args[0]
            )
        shape = self._wide(kind, self.width if wide else 1)
        return self.builder.intrinsic(f"llvm.{name}.{self._tag(kind, wide)}", shape, args)

    def _tag(self, kind: str, wide: bool) -> str:
        return f"v{self.width}{kind}" if wide else kind

    def _cast(self, source: str, kind: str, a: Any, wide: bool) -> Any:
        b, width = self.builder, self.width if wide else 1
        to = self._wide(kind, width)
        if source[0] == "f" and kind[0] == "f":
            return b.fptrunc(a, to) if SIZES[kind] < SIZES[source] else b.fpext(a, to)
        if kind[0] == "f":
            return b.uitofp(a, to) if source == "i1" else b.sitofp(a, to)
        if source == "i1":
            return b.zext(a, to)
        if source[0] == "i":
            return b.trunc(a, to) if SIZES[kind] < SIZES[source] else b.sext(a, to)
        # Out of range and NaN give the least integer, as the processor's conversion does.
        bound = 2.0 ** (8 * SIZES[kind] - 1)
        low, high = (self._constant(v, source, width) for v in (-bound, bound))
        inside = b.and_(b.fcmp_ordered(">=", a, low), b.fcmp_ordered("<", a, high))
        safe = b.select(inside, a, self._constant(0.0, source, width))
        return b.select(inside, b.fptosi(safe, to), self._constant(-int(bound), kind, width))

    def _call(self, n: int, node: Node, args: list[Any], env: dict[Any, Any]) -> None:
        """An elementary function; sine and cosine of one argument share their work."""
        fused = self.target.fused
        if node.extra in ("sin", "cos"):
            twin = self.body.graph._known.get(("call", node.kind, node.args, "cos" if node.extra == "sin" else "sin"))
            if twin is not None and twin in self.levels:
                both = vector_maths.emit(self.builder, "sincos", args, fused=fused)
                env[n], env[twin] = both if node.extra == "sin" else both[::-1]
                return
        env[n] = vector_maths.emit(self.builder, node.extra, args, fused=fused)

    def _checked(self, node: Node, index: Any, wide: bool) -> Any:
        b, width = self.builder, self.width if wide else 1
        extent, zero = (self._constant(v, "i64", width) for v in (node.extra, 0))
        wrapped = b.select(b.icmp_signed("<", index, zero), b.add(index, extent), index)
        inside = b.icmp_unsigned("<", wrapped, extent)
        self.carried["bad", width] = b.or_(self.carried["bad", width], b.not_(inside))
        return b.select(inside, wrapped, zero)

    def _report(self, width: int, flags: Any) -> None:
        b = self.builder
        if width > 1:
            word = assembly.integer(width)
            flags = b.icmp_unsigned("!=", b.bitcast(flags, word), word(0))
        with b.if_then(flags, likely=False):
            b.atomic_rmw("or", self.status, I32(1), "monotonic")  # pieces may report at the same time

    # ---- memory

    def _position(self, at: Component, env: dict[Any, Any], *, wide: bool) -> Any:
        """A flat position; of lanes, the first one's (`wide` false) or each one's."""
        b = self.builder
        if isinstance(at, int):
            return I64(at)
        total: Any = None
        for atom, c in at.terms:
            if isinstance(atom, Dyn):
                term = self._read(atom.node, env, wide)
            else:
                term = self.axes[atom]
                if wide:
                    term = self._lanes(term) if atom == self.rank - 1 else self._splat(term)
            if c != 1:
                term = b.mul(term, self._constant(c, "i64", self.width if wide else 1))
            total = term if total is None else b.add(total, term)
        return b.add(total, self._constant(at.offset, "i64", self.width if wide else 1)) if at.offset else total

    def _lanes(self, first: Any) -> Any:
        steps = assembly.Constant(assembly.vector(I64, self.width), list(range(self.width)))
        return self.builder.add(self._splat(first), steps)

    def _pointer(self, slot: int, kind: str, at: Component, env: dict[Any, Any]) -> Any:
        """The place of an element; places that differ by constants are computed from one."""
        b, stored = self.builder, _stored(kind)
        if isinstance(at, int):
            return b.gep(self.buffers[slot], [I64(at)], source_etype=stored) if at else self.buffers[slot]
        key = (slot, at.terms)
        if key not in env:
            if at.terms not in env:
                env[at.terms] = self._position(Lin(0, at.terms), env, wide=False)
            env[key] = b.gep(self.buffers[slot], [env[at.terms]], source_etype=stored)
        return b.gep(env[key], [I64(at.offset)], source_etype=stored) if at.offset else env[key]

    def _stride(self, at: Component, env: dict[Any, Any]) -> int | None:
        """Elements between lanes; None where positions are read at run time and differ between lanes."""
        if isinstance(at, int) or self.width == 1:
            return 0
        stride = 0
        for atom, c in at.terms:
            if isinstance(atom, Dyn):
                if self._varies(atom.node):
                    return None
            elif atom == self.rank - 1:
                stride = c
        return stride

    def _load(self, node: Node, env: dict[Any, Any]) -> Any:
        slot, at = node.extra
        kind, b = node.kind, self.builder
        stored = _stored(kind)
        stride = self._stride(at, env)
        if stride is None:
            value = self._gather(slot, kind, stored, at, env)
        elif stride in (0, 1):
            pointer = self._pointer(slot, kind, at, env)
            wanted = stored if stride == 0 else assembly.vector(stored, self.width)
            value = b.load(pointer, typ=wanted, align=SIZES[kind])
        else:
            value = self._load_lanes(self._pointer(slot, kind, at, env), stride, stored)
        return self._as_bits(value) if kind == "i1" else value

    def _load_lanes(self, first: Any, stride: int, stored: Any) -> Any:
        if self.strided > _ONE_BY_ONE:
            return self._gather_at(first, self._steps(stride), stored)
        b = self.builder
        value = assembly.undefined(assembly.vector(stored, self.width))
        for lane in range(self.width):
            place = b.gep(first, [I64(lane * stride)], source_etype=stored)
            value = b.insert_element(value, b.load(place, typ=stored, align=_align(stored)), I32(lane))
        return value

    def _gather_at(self, first: Any, places: Any, stored: Any) -> Any:
        """The elements at positions after a pointer."""
        kind = assembly.vector(stored, self.width)
        pointers = self.builder.gep(first, [places], source_etype=stored)
        mask = assembly.splat(assembly.Constant(I1, 1), self.width)
        name = f"llvm.masked.gather.v{self.width}{_tag(stored)}.v{self.width}p0"
        return self.builder.intrinsic(name, kind, [pointers, I32(_align(stored)), mask, assembly.undefined(kind)])

    def _store_lanes(self, value: Any, first: Any, stride: int, stored: Any) -> None:
        b = self.builder
        if self.strided <= _ONE_BY_ONE:
            for lane in range(self.width):
                place = b.gep(first, [I64(lane * stride)], source_etype=stored)
                b.store(b.extract_element(value, I32(lane)), place, align=_align(stored))
            return
        pointers = self.builder.gep(first, [self._steps(stride)], source_etype=stored)
        mask = assembly.splat(assembly.Constant(I1, 1), self.width)
        name = f"llvm.masked.scatter.v{self.width}{_tag(stored)}.v{self.width}p0"
        self.builder.intrinsic(name, assembly.VOID, [value, pointers, I32(_align(stored)), mask])

    def _steps(self, stride: int) -> Any:
        return assembly.Constant(assembly.vector(I64, self.width), [lane * stride for lane in range(self.width)])

    def _as_bits(self, value: Any) -> Any:
        width = value.type.count if assembly.is_vector(value.type) else 1
        zero = assembly.Constant(I8, 0)
        return self.builder.icmp_unsigned("!=", value, zero if width == 1 else assembly.splat(zero, width))

    def _gather(self, slot: int, kind: str, stored: Any, at: Component, env: dict[Any, Any]) -> Any:
        return self._gather_at(self.buffers[slot], self._position(at, env, wide=True), stored)

    def _effect(self, k: int, effect: Effect, env: dict[Any, Any]) -> None:
        kind = self.nodes[effect.node].kind
        if effect.kind == "store":
            self._store(effect, kind, env)
        elif effect.kind != "scatter" and self._depth(effect.at) < self.rank:
            value = self._read(effect.node, env, self.width > 1)
            self.carried[k, self.width] = self._combine(effect.kind, kind, self.carried[k, self.width], value)
        else:
            self._update(effect, kind, env)

    def _update(self, effect: Effect, kind: str, env: dict[Any, Any]) -> None:
        """Combine a value with what is in memory."""
        wide = self.width > 1
        how = "add" if effect.kind == "scatter" else effect.kind
        stride = self._stride(effect.at, env) or 0
        pointer = self._pointer(effect.slot, kind, effect.at, env)
        value = self._read(effect.node, env, wide)
        if not wide or stride == 1:
            self._deposit(self._combine(how, kind, self._fetch(pointer, kind, self.width), value), pointer, kind)
            return
        before = self._load_lanes(pointer, stride, _stored(kind))
        combined = self._combine(how, kind, self._as_bits(before) if kind == "i1" else before, value)
        self._store_lanes(self._as_bytes(combined) if kind == "i1" else combined, pointer, stride, _stored(kind))

    def _fetch(self, pointer: Any, kind: str, width: int) -> Any:
        """Neighbouring elements from memory."""
        stored = _stored(kind) if width == 1 else assembly.vector(_stored(kind), width)
        value = self.builder.load(pointer, typ=stored, align=SIZES[kind])
        return self._as_bits(value) if kind == "i1" else value

    def _deposit(self, value: Any, pointer: Any, kind: str) -> None:
        """Neighbouring elements to memory."""
        self.builder.store(self._as_bytes(value) if kind == "i1" else value, pointer, align=SIZES[kind])

    def _as_bytes(self, value: Any) -> Any:
        vector = assembly.is_vector(value.type)
        return self.builder.zext(value, assembly.vector(I8, value.type.count) if vector else I8)

    def _store(self, effect: Effect, kind: str, env: dict[Any, Any]) -> None:
        wide = self.width > 1
        value = self._read(effect.node, env, wide)
        pointer = self._pointer(effect.slot, kind, effect.at, env)
        stride = self._stride(effect.at, env)
        if not wide or stride == 1:
            self._deposit(value, pointer, kind)
            return
        self._store_lanes(self._as_bytes(value) if kind == "i1" else value, pointer, stride or 0, _stored(kind))


def _align(stored: Any) -> int:
    return {F64: 8, F32: 4, I64: 8, I32: 4, I8: 1}[stored]


def _tag(stored: Any) -> str:
    return {F64: "f64", F32: "f32", I64: "i64", I32: "i32", I8: "i8"}[stored]
