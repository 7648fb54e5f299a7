"""A staged program among traced values: one operation, whose derivatives and batches are staged programs in their turn.

    reverse mode    compiled forward code returns outputs and residuals; compiled linear code pulls cotangents back
    forward mode    the same forward code, and compiled linear code that pushes tangents on
    vmap            the program over a batch, compiled for each size and choice of batched arguments

As each of these is a program, the same holds of its derivatives: transformations nest to any depth.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.backends import Call, Executable, compile_program, entry
from chainrule.ir.primitive import Trace, is_tracer
from chainrule.ir.program import Program, evaluate
from chainrule.ir.types import Array, ArrayType
from chainrule.linear.maps import convert
from chainrule.optimise import optimise, without_dead_code
from chainrule.prims.custom import CustomRule, custom_call
from chainrule.staging.signature import native
from chainrule.trace.record import is_recorded, record_program
from chainrule.trace.tape import Tape, unwrap
from chainrule.transforms import batch, forward, reverse
from chainrule.transforms.batch import Batch
from chainrule.transforms.forward import Forward
from chainrule.transforms.joint import Split, dependence, pulled, pushed, split, without_seeds

if TYPE_CHECKING:
    from chainrule.backends.llvm.entry import Entry

# What a path may raise when it is run with values that would have taken another.
_ASTRAY = (ArithmeticError, LookupError, ValueError, TypeError)


class Astray(Exception):
    """The values that were branched on are not those of the path that was tried."""


class Staged(CustomRule):
    """An optimised program, compiled when it first runs; its last outputs are compared with `expected`, the guards' values."""

    is_typed = True

    def __init__(self, program: Program, backend: str, expected: Sequence[Any] = ()) -> None:
        self.program = program
        self.backend = backend
        self.expected = expected
        self.lock = threading.RLock()
        self.seconds = 0.0  # that compiling took
        self._derived: dict[tuple[Any, ...], Any] = {}
        self._evaluated: Callable[..., tuple[Array, ...]] = self._by_python  # or the native entry before it
        self._entry: Entry | None = None
        self._served: set[tuple[type, ...]] = set()  # the types of arguments that the entry has been shown

    def __str__(self) -> str:
        return self.program.name

    @functools.cached_property
    def executable(self) -> Executable:
        """The compiled program."""
        with self.lock:
            if "executable" in self.__dict__:
                return self.__dict__["executable"]  # type: ignore[no-any-return]
            start = time.perf_counter()
            found = compile_program(self.program, self.backend)
            self.seconds = time.perf_counter() - start
            return found

    def run(self, leaves: Sequence[Array], into: Sequence[Array] = ()) -> list[Array]:
        """The outputs on arrays of the program's types, without the guards' values; raises Astray where these differ.

        `into` are arrays that the outputs may be written to.
        """
        if not self.expected:
            return self.executable(leaves, into)
        try:
            found = self.executable(leaves, into[: len(self.outputs)])
        except _ASTRAY as error:
            raise Astray from error
        count = len(found) - len(self.expected)
        if not all(same(a, b) for a, b in zip(found[count:], self.expected, strict=True)):
            raise Astray
        return found[:count]

    # ---- as an operation

    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        return self._evaluated(*args)

    def _by_python(self, *args: Array) -> tuple[Array, ...]:
        """The outputs; calls like this one are taken by the native entry from now on, where it can."""
        leaves = [_fitted(x, v.type) for x, v in zip(args, self.program.inputs, strict=True)]
        found = tuple(self.run(leaves))
        kinds = tuple(map(type, args))
        if kinds not in self._served:
            with self.lock:
                self._served.add(kinds)
                if self._entry is None:
                    self._entry = entry(self.backend, str(self), self._by_python)
                shown = Call(args, {}, (), args, tuple, self.expected)
                if self._entry is not None and self._entry.add(self.executable, shown):
                    self._evaluated = self._entry.call
        return found

    def types(self, types: Sequence[ArrayType]) -> tuple[ArrayType, ...]:
        return tuple(a.type for a in self.outputs)

    @functools.cached_property
    def outputs(self) -> tuple[Any, ...]:
        """The outputs without the guards' values."""
        return self.program.outputs[: len(self.program.outputs) - len(self.expected)]

    @functools.cached_property
    def dependence(self) -> list[int]:
        """For each output, through which inputs a derivative can reach it: bit k for input k."""
        return dependence(self.program)

    def _reached(self, flags: Sequence[bool]) -> list[bool]:
        """Which outputs of the program a derivative reaches from the flagged inputs; none of the guards' values."""
        bits = sum(1 << k for k, flag in enumerate(flags) if flag)
        count = len(self.outputs)
        return [bool(d & bits) and k < count for k, d in enumerate(self.dependence)]

    def call(self, args: Sequence[Array]) -> Sequence[Array]:
        """The outputs on arrays or traced values; where derivatives are to follow, what they need is kept."""
        top = _top(args)
        if top is None:
            return self.evaluate(args)
        if not self.expected and any(is_recorded(a) for a in args):
            return evaluate(self.program, args)
        outs: Sequence[Array]
        forwards = self._forwards_for(top, args)
        if forwards is None:
            outs = custom_call(*args, rule=self)
            return outs
        whole = forwards.staged.call([unwrap(a, top)[0] for a in args])
        rule = _Kept(self, forwards, whole)
        outs = top.attach(custom_call, args, tuple(whole[: len(self.outputs)]), {"rule": rule})  # type: ignore[attr-defined]
        return outs

    def _forwards_for(self, top: Trace, args: Sequence[Array]) -> Forwards | None:
        """The program with residuals for the derivatives that a trace carries, where it carries any."""
        mode = "pull" if isinstance(top, Tape) else "push" if isinstance(top, Forward) else None
        if mode is None:
            return None
        carried = tuple(is_tracer(a) and a.owner is top for a in args)
        found: Forwards | None = self.derived(("forwards", mode, carried), lambda: self._forwards(mode, carried, args))
        return found

    def push(
        self, args: Sequence[Array], outs: Sequence[Array], tangents: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        moved = tuple(t is not None for t in tangents)
        wanted = self._reached(moved)
        linear = self.derived(("push", moved), lambda: self._linear("push", moved, wanted, args))
        ts = [_in_type(t, v.type) for t, v in zip(tangents, self.program.inputs, strict=True) if t is not None]
        if linear is None:
            dots = forward.jvp(lambda xs: evaluate(self.program, xs), args, tangents)[1]
            return [d if want else None for d, want in zip(dots, wanted, strict=True)][: len(self.outputs)]
        found = iter(linear.call([*args, *ts]))
        return [next(found) if want else None for want in wanted][: len(self.outputs)]

    def pull(
        self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        wanted = tuple(wanted)
        given = tuple(c is not None and a.type.is_differentiable for c, a in zip(cts, self.outputs, strict=True))
        if not any(given):
            return [None] * len(args)
        whole = (*given, *(False for _ in self.expected))
        linear = self.derived(("pull", wanted, given), lambda: self._linear("pull", wanted, whole, args))
        seeds = [_in_type(c, a.type) for c, a, g in zip(cts, self.outputs, given, strict=True) if g]
        if linear is None:
            found = iter(self._pull_recorded(args, cts, wanted))
        else:
            found = iter(linear.call([*args, *seeds]))
        return [next(found) if want else None for want in wanted]

    def batch(self, size: int, args: Sequence[Array], flags: Sequence[bool]) -> Sequence[Array]:
        flags = tuple(flags)
        axes = [0 if f else None for f in flags]

        def whole(xs: list[Array]) -> list[Array]:
            return batch.vmap(lambda ys: evaluate(self.program, ys), xs, axes, size)

        def make() -> Staged | None:
            return self._made(record_program(whole, [instance(a) for a in args], self.program.name))

        rule: Staged | None = self.derived(("batch", size, flags), make)
        return whole(list(args)) if rule is None else rule.call(args)

    # ---- derived programs

    def derivatives(self) -> Iterator[str]:
        """What has been derived from this program, in words."""
        for key, found in list(self._derived.items()):
            if isinstance(found, Forwards):
                kept = ", ".join(str(found.staged.outputs[k].type) for k in found.residuals) or "nothing"
                mode = "reverse" if found.mode == "pull" else "forward"
                yield f"{mode} mode, keeping {kept} from values to derivatives"
            elif found is not None and key[0] == "batch":
                yield f"batches of {key[1]}"

    def derived(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What is derived from this program, made once."""
        if key not in self._derived:
            # A derivative's own equations meet infinities that strong zeros then absorb.
            with self.lock, np.errstate(all="ignore"):
                if key not in self._derived:
                    self._derived[key] = make()
        return self._derived[key]

    def _made(self, program: Program) -> Staged | None:
        """A derived program; None where rules of the user's own, which it carries, branch on values."""
        return None if program.guards else Staged(optimise(program), self.backend)

    def _joint(self, mode: str, of_args: Sequence[bool], of_outs: Sequence[bool], args: Sequence[Array]) -> Program:
        at = [instance(a) for a in args]
        make = pulled if mode == "pull" else pushed
        return make(self.program, of_args, of_outs, at)

    def _linear(
        self, mode: str, of_args: Sequence[bool], of_outs: Sequence[bool], args: Sequence[Array]
    ) -> Staged | None:
        """(args, seeds) -> derivatives, without residuals."""
        joint = self._joint(mode, of_args, of_outs, args)
        found = Program(
            joint.name, joint.inputs, joint.equations, joint.outputs[len(self.program.outputs) :], joint.guards
        )
        return self._made(found if found.guards else without_dead_code(found))

    def _forwards(self, mode: str, carried: tuple[bool, ...], args: Sequence[Array]) -> Forwards | None:
        """The program with residuals."""
        of_outs = self._reached(carried)
        joint = self._joint(mode, carried, of_outs, args)
        if joint.guards:
            return None
        parts = split(optimise(joint), len(self.program.inputs), len(self.program.outputs))
        return Forwards(self, mode, carried, of_outs, parts)

    def _pull_recorded(self, args: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]) -> list[Array]:
        chosen = [k for k, want in enumerate(wanted) if want]

        def f(ys: list[Array]) -> Sequence[Array]:
            whole = list(args)
            for k, y in zip(chosen, ys, strict=True):
                whole[k] = y
            return evaluate(self.program, whole)[: len(self.outputs)]

        return reverse.vjp(f, [args[k] for k in chosen])[1](cts)


class Forwards:
    """A program with residuals after its outputs, and the linear part of a derivative, which reads them."""

    def __init__(self, of: Staged, mode: str, of_args: tuple[bool, ...], of_outs: Sequence[bool], parts: Split) -> None:
        program = parts.forward
        # Guards come last, as in every staged program, so that residuals stand where the outputs are.
        first, last = len(of.outputs), len(of.program.outputs)
        order = (*program.outputs[:first], *program.outputs[last:], *program.outputs[first:last])
        self.staged = Staged(
            without_dead_code(Program(program.name, program.inputs, program.equations, order)), of.backend, of.expected
        )
        self.mode = mode
        self.of_args = of_args
        self.of_outs = of_outs[:first]
        self.args = parts.args
        self.residuals = [k - last + first if k >= last else k for k in parts.residuals]
        self.linear = Staged(parts.linear, of.backend)

    def seeded(self, given: Sequence[bool]) -> Staged:
        """The linear part for the seeds that are given."""
        if all(given):
            return self.linear
        program = self.linear.program
        found: Staged = self.linear.derived(
            ("seeded", tuple(given)),
            lambda: Staged(optimise(without_seeds(program, len(given), given)), self.linear.backend),
        )
        return found


class _Kept(CustomRule):
    """One call of a staged program, whose residuals the linear part reads; what that does not give, the program itself does."""

    def __init__(self, of: Staged, forwards: Forwards, outs: Sequence[Array]) -> None:
        self.of = of
        self.forwards = forwards
        self.residuals = [outs[k] for k in forwards.residuals]

    def __str__(self) -> str:
        return str(self.of)

    def evaluate(self, args: Sequence[Array]) -> tuple[Array, ...]:
        return self.of.evaluate(args)

    def types(self, types: Sequence[ArrayType]) -> tuple[ArrayType, ...]:
        return self.of.types(types)

    def batch(self, size: int, args: Sequence[Array], flags: Sequence[bool]) -> Sequence[Array]:
        return self.of.batch(size, args, flags)

    def push(
        self, args: Sequence[Array], outs: Sequence[Array], tangents: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        parts = self.forwards
        moved = [t is not None for t in tangents]
        if parts.mode != "push" or any(m and not c for m, c in zip(moved, parts.of_args, strict=True)):
            return self.of.push(args, outs, tangents)
        given = [m for m, c in zip(moved, parts.of_args, strict=True) if c]
        types = (v.type for v in self.of.program.inputs)
        ts = [_in_type(t, like) for t, like in zip(tangents, types, strict=True) if t is not None]
        found = iter(parts.seeded(given).call([*self._read(args), *ts]))
        return [next(found) if o else None for o in parts.of_outs]

    def pull(
        self, args: Sequence[Array], outs: Sequence[Array], cts: Sequence[Array | None], wanted: Sequence[bool]
    ) -> Sequence[Array | None]:
        parts = self.forwards
        if parts.mode != "pull" or any(w and not c for w, c in zip(wanted, parts.of_args, strict=True)):
            return self.of.pull(args, outs, cts, wanted)
        given = [c is not None for c, o in zip(cts, parts.of_outs, strict=True) if o]
        if not any(given):
            return [None] * len(args)
        types = (a.type for a in self.of.outputs)
        seeds = [_in_type(c, like) for c, like, o in zip(cts, types, parts.of_outs, strict=True) if o and c is not None]
        found = iter(parts.seeded(given).call([*self._read(args), *seeds]))
        return [next(found) if c else None for c in parts.of_args]

    def _read(self, args: Sequence[Array]) -> list[Array]:
        return [*(args[k] for k in self.forwards.args), *self.residuals]


# ---- values


def _top(args: Sequence[Array]) -> Trace | None:
    """The highest trace among the arguments."""
    top: Trace | None = None
    for a in args:
        if is_tracer(a) and (top is None or a.owner.level > top.level):
            top = a.owner
    return top


def instance(x: Array) -> Array:
    """The plain value under all traces, of one instance of what is batched: zeros where the batch is empty."""
    if not is_tracer(x):
        return native(x)
    below = instance(x.value)
    if not isinstance(x.owner, Batch):
        return below
    return below[0] if below.shape[0] else np.zeros(below.shape[1:], below.dtype)[()]


def without_idle(out: Array, dependence: int, args: Sequence[Array]) -> Array:
    """An output apart from the tapes through whose values no derivative reaches it."""
    while is_tracer(out) and isinstance(out.owner, Tape):
        tape = out.owner
        owned = [is_tracer(a) and a.owner is tape for a in args]
        if any(dependence >> k & 1 for k, o in enumerate(owned) if o):
            break
        out = out.value
        args = [a.value if o else a for a, o in zip(args, owned, strict=True)]
    return out


def _fitted(x: Array, t: ArrayType) -> Array:
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return x if x.dtype == t.dtype and x.dtype.isnative else x.astype(t.dtype)


def _in_type(x: Array, t: ArrayType) -> Array:
    return x if x.dtype == t.dtype else convert(x, t.dtype)


def same(a: Any, b: Any) -> bool:
    """Whether two values of a guard are alike; NaN is like itself."""
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc"))
