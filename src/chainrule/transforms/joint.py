"""Programs of values and derivatives together, and how such a program is cut in two.

    pulled   (args, cotangents of outputs) -> (outputs, cotangents of args)
    pushed   (args, tangents of args)      -> (outputs, tangents of outputs)
    split    one of these as   forward: args -> (outputs, residuals)   and   linear: (args, residuals, seeds) -> derivatives

What the linear part needs of the forward part it either reads from the residuals or computes again: an operation over memory takes
about as long as a dozen multiplications in registers, so that keeping is worth it only for what is dear to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from chainrule.ir.primitive import Elementary
from chainrule.ir.program import Atom, Equation, Literal, Program, Var, evaluate
from chainrule.ir.types import Array, ArrayType
from chainrule.prims.families import Elementwise
from chainrule.trace.record import record_program
from chainrule.transforms import forward, reverse

# Up to so many operations a value is computed again in the place of being kept; or so many an element, where a sum of products
# takes less time for each than an elementary function does.
_AGAIN, _AGAIN_AN_ELEMENT, _SUMMED_AN_ELEMENT = 50_000, 10, 32


def ones(t: ArrayType) -> Array:
    """Ones of a type."""
    return np.ones(t.shape, t.dtype)[()]


def pulled(program: Program, wanted: Sequence[bool], given: Sequence[bool], args: Sequence[Array]) -> Program:
    """The outputs, and from the cotangents of those that are given the cotangents of the wanted arguments; recorded at `args`."""
    n = len(program.inputs)
    chosen = [k for k, want in enumerate(wanted) if want]

    def joint(xs: list[Array]) -> list[Array]:
        def f(ys: list[Array]) -> Sequence[Array]:
            whole = list(xs[:n])
            for k, y in zip(chosen, ys, strict=True):
                whole[k] = y
            return evaluate(program, whole)

        cts = iter(xs[n:])
        values, pullback = reverse.vjp(f, [xs[k] for k in chosen])
        return [*values, *pullback([next(cts) if g else None for g in given])]

    seeds = [ones(a.type) for a, g in zip(program.outputs, given, strict=True) if g]
    return record_program(joint, [*args, *seeds], program.name)


def pushed(program: Program, moved: Sequence[bool], wanted: Sequence[bool], args: Sequence[Array]) -> Program:
    """The outputs, and from the tangents of the arguments that are moved the tangents of the wanted outputs; recorded at `args`."""
    n = len(program.inputs)

    def joint(xs: list[Array]) -> list[Array]:
        ts = iter(xs[n:])
        dots: list[Array | None] = [next(ts) if m else None for m in moved]
        values, found = forward.jvp(lambda ys: evaluate(program, ys), xs[:n], dots)
        return [*values, *(d for d, want in zip(found, wanted, strict=True) if want)]

    seeds = [ones(v.type) for v, m in zip(program.inputs, moved, strict=True) if m]
    return record_program(joint, [*args, *seeds], program.name)


def _zeros(t: ArrayType) -> Literal:
    return Literal(np.broadcast_to(np.zeros((), t.dtype), t.shape)[()])


def dependence(program: Program) -> list[int]:
    """For each output, through which inputs a derivative can reach it: bit k for input k."""
    reach: dict[Atom, int] = {v: 1 << k if v.type.is_differentiable else 0 for k, v in enumerate(program.inputs)}
    for e in program.equations:
        mask = 0
        if e.primitive.differentiable:
            for v in e.variables:
                mask |= reach[v]
        for out in e.outs:
            reach[out] = mask if out.type.is_differentiable else 0
    return [reach.get(a, 0) for a in program.outputs]


class Split(NamedTuple):
    """A joint program in two parts.

    `linear` takes the arguments numbered `args`, the outputs of `forward` numbered `residuals`, and then all seeds.
    """

    forward: Program
    linear: Program
    args: tuple[int, ...]
    residuals: tuple[int, ...]


def split(joint: Program, inputs: int, outputs: int) -> Split:
    """The two parts of a joint program; its first `inputs` inputs are arguments, its first `outputs` outputs values."""
    seeded: set[Atom] = set(joint.inputs[inputs:])
    first: list[Equation] = []
    second: list[Equation] = []
    for e in joint.equations:
        if seeded.isdisjoint(e.args):
            first.append(e)
        else:
            second.append(e)
            seeded.update(e.outs)
    given = set(joint.inputs)
    crossing = {v for e in second for v in e.variables if v not in seeded and v not in given}
    crossing.update(a for a in joint.outputs[outputs:] if isinstance(a, Var) and a not in seeded and a not in given)
    kept, again = _kept_and_again(first, crossing, set(joint.inputs[:inputs]))
    return _parts(joint, inputs, outputs, first, [*again, *second], kept)


def _parts(
    joint: Program, inputs: int, outputs: int, first: list[Equation], second: list[Equation], kept: list[Var]
) -> Split:
    values: list[Atom] = list(joint.outputs[:outputs])
    places = {a: k for k, a in reversed(list(enumerate(values)))}
    for v in kept:
        if v not in places:
            places[v] = len(values)
            values.append(v)
    read = {v for e in second for v in e.variables}
    read.update(a for a in joint.outputs[outputs:] if isinstance(a, Var))
    args = tuple(k for k, v in enumerate(joint.inputs[:inputs]) if v in read)
    name = joint.name
    return Split(
        Program(name, joint.inputs[:inputs], tuple(first), tuple(values)),
        Program(
            name,
            (*(joint.inputs[k] for k in args), *kept, *joint.inputs[inputs:]),
            tuple(second),
            joint.outputs[outputs:],
        ),
        args,
        tuple(places[v] for v in kept),
    )


def _kept_and_again(first: list[Equation], crossing: set[Var], given: set[Var]) -> tuple[list[Var], list[Equation]]:
    """Of what crosses over: the values that are kept, and the equations by which the others are computed again.

    Last first, a value is computed again where the operands that would be kept in its place are no larger than itself; where all
    of it together is little work, wherever that can be.
    """
    is_little = sum(e.flops() for e in first if _is_light(e)) <= _AGAIN
    needed = set(crossing)
    again: list[Equation] = []
    for e in reversed(first):
        if needed.isdisjoint(e.outs) or not _is_light(e):
            continue
        further = {v for v in e.variables if v not in given and v not in needed}
        if is_little or sum(v.type.nbytes for v in further) <= e.outs[0].type.nbytes:
            again.append(e)
            needed -= set(e.outs)
            needed |= further
    return [v for e in first for v in e.outs if v in needed], again[::-1]


def _is_light(e: Equation) -> bool:
    """Whether an operation may be computed again: one result by little work, from operands that are not much larger."""
    if not isinstance(e.primitive, Elementary) or len(e.outs) != 1:
        return False
    size = e.outs[0].type.size
    an_element = _AGAIN_AN_ELEMENT if isinstance(e.primitive, Elementwise) else _SUMMED_AN_ELEMENT
    return e.flops() <= max(_AGAIN, an_element * size) and all(v.type.size <= 4 * size for v in e.variables)


def without_seeds(program: Program, seeds: int, given: Sequence[bool]) -> Program:
    """A linear part whose last inputs are seeds, with those that are not given taken as zero."""
    first = len(program.inputs) - seeds
    absent: dict[Atom, Atom] = {v: _zeros(v.type) for v, g in zip(program.inputs[first:], given, strict=True) if not g}
    equations = tuple(replace(e, args=tuple(absent.get(a, a) for a in e.args)) for e in program.equations)
    inputs = tuple(v for v in program.inputs if v not in absent)
    return replace(
        program, inputs=inputs, equations=equations, outputs=tuple(absent.get(a, a) for a in program.outputs)
    )
