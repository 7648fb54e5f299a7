"""Which inputs each output of a map depends on, without writing a matrix.

    moves    each output is (a multiple of) one input or none:  a -> the array of inputs' labels, moved; -1 where there is none
    groups   each output is a weighted sum of inputs:           a -> for each input, the number of its output
    full     every output depends on every input

A contraction groups and then moves. What is none of these says where it is non-zero by its `pattern`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.ir.linear_map import LinearMap
from chainrule.ir.primitive import is_tracer, ops
from chainrule.ir.types import Shape
from chainrule.linear import maps
from chainrule.linear.patterns import positions

Labels = NDArray[np.int64]
NOTHING = -1


@dataclass(frozen=True, slots=True)
class Groups:
    """The output that each input is summed into, in the shape of the input; then a shape to broadcast the sums to."""

    target: Labels
    sums: Shape
    spread: Shape


class Full:
    """Every output depends on every input."""


class Unknown:
    """What the map's `pattern` says."""


@singledispatch
def move(m: LinearMap, a: Labels) -> Labels | Groups | Full | Unknown:
    """Labels of the inputs moved to the outputs, or what else the dependence is; `a` has the shape of the input."""
    return Unknown()


@move.register(maps.Scale)
@move.register(maps.Diagonal)
@move.register(maps.Mask)
@move.register(maps.Expand)
@move.register(maps.RealPart)
@move.register(maps.Conjugate)
def _broadcast(m: LinearMap, a: Labels) -> Labels:
    return a if a.shape == m.out_shape else np.broadcast_to(a, m.out_shape)


@move.register
def _reshape(m: maps.Reshape, a: Labels) -> Labels:
    return a.reshape(m.out_shape)


@move.register
def _permute(m: maps.Permute, a: Labels) -> Labels:
    return a.transpose(m.axes)


@move.register
def _slice(m: maps.Slice, a: Labels) -> Labels:
    return np.asarray(a[m.key])


@move.register
def _place(m: maps.Place, a: Labels) -> Labels:
    out = np.full(m.out_shape, NOTHING, a.dtype)
    out[m.key] = a
    return out


@move.register
def _gather(m: maps.Gather, a: Labels) -> Labels | Full:
    if any(is_tracer(i) for i in m.indices):
        return Full()
    return np.asarray(ops.gather.value(a, *m.indices, key=m.key))


@move.register
def _scatter(m: maps.Scatter, a: Labels) -> Groups | Full:
    if any(is_tracer(i) for i in m.indices):
        return Full()
    target = np.asarray(ops.gather.value(positions(m.out_shape), *m.indices, key=m.key))
    return Groups(target, m.out_shape, m.out_shape)


def _kept(axes: tuple[int, ...], shape: Shape) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


@move.register(maps.SumOver)
@move.register(maps.WeightedSum)
def _sum(m: Any, a: Labels) -> Groups:
    target = np.broadcast_to(positions(_kept(m.axes, m.in_shape)), m.in_shape)
    return Groups(target, m.out_shape, m.out_shape)


@move.register
def _contract(m: maps.Contract, a: Labels) -> Groups:
    """Sum over the labels that the output lacks, put the rest in the output's order, with its own labels between."""
    extent = dict(zip(m.out_labels, m.out_shape, strict=True))
    kept = [label for label in m.out_labels if label in m.labels]
    sums = tuple(extent.get(label, 1) if label in m.labels else 1 for label in m.out_labels)
    order = [m.labels.index(label) for label in kept]
    rest = [i for i, label in enumerate(m.labels) if label not in kept]
    numbers = positions(tuple(m.in_shape[i] for i in order)).reshape([m.in_shape[i] for i in order] + [1] * len(rest))
    full = np.broadcast_to(numbers, [m.in_shape[i] for i in order + rest])
    target = full.transpose(np.argsort(order + rest)) if order or rest else full
    return Groups(target, sums, m.out_shape)


@move.register
def _implicit(m: maps.Implicit, a: Labels) -> Labels | Full | Unknown:
    return Full() if type(m).pattern is maps.Implicit.pattern else Unknown()
