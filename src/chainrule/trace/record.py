"""Recording a function as a Program, for the path that Python took on the given arguments.

Operations on large arrays are typed, not computed, and so is what depends on them (see ir.pending). A value is computed, with what
it depends on, where Python asks for it: in a branch, in print, by cr.value, as an index or a number of iterations, or where a
primitive cannot tell the type of its result. Where all arguments are small and known, computing takes no longer, and is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import concrete, is_traced_by, ops
from chainrule.ir.program import Atom, Equation, Literal, Program, Var
from chainrule.ir.types import ArrayType
from chainrule.linear.strong import strong_products
from chainrule.prims.families import Elementwise
from chainrule.trace.intercept import tracing
from chainrule.trace.tape import NUMBERS, Node, Part, Recorder, unwrap


def record_program(f: Callable[[list[Any]], Sequence[Any]], xs: Sequence[Any], name: str) -> Program:
    """The Program that f runs on xs: every operation that depends on an input and that an output or a guard needs."""
    recorder = Recorder()
    tracers = [recorder.input(x) for x in xs]
    inputs = [t.data for t in tracers]  # before f, which may write into its arguments
    with tracing(), strong_products():
        outs = f(list(tracers))
    recorder.is_open = False
    recorder.operands.check()
    return _program(recorder, inputs, [unwrap(o, recorder) for o in outs], name)


def _live(recorder: Recorder, roots: Sequence[Node]) -> list[Node]:
    needed = set(roots)
    kept = []
    for node in reversed(recorder.nodes):
        if node in needed:
            needed.update(p for p in node.parents if p is not None)
            kept.append(node)
    return kept[::-1]


def literal(value: Any, args: Sequence[Any], out: Any) -> Literal:
    """A constant argument: Python scalars take the dtype that NumPy computed in, arrays are captured as they are."""
    if isinstance(value, bool | int | float | complex):
        dtype = np.result_type(*(a if isinstance(a, bool | int | float | complex) else a.dtype for a in args))
        if dtype.kind in "fc":
            # SciPy's functions of several arguments compute on Python numbers in double precision.
            if getattr(getattr(out, "dtype", None), "kind", None) == dtype.kind:
                dtype = np.promote_types(dtype, out.dtype)
            return Literal(np.asarray(value, dtype)[()])
        if type(value) is int and dtype.kind in "iu" and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return Literal(np.asarray(value, dtype)[()])
    return Literal(concrete(value) if hasattr(value, "dtype") else np.asarray(value)[()])


def _program(recorder: Recorder, inputs: Sequence[Node], outs: Sequence[tuple[Any, Node | None]], name: str) -> Program:
    variables: dict[Node, Var] = {n: Var(ArrayType.of(n.out)) for n in inputs}
    roots = [n for _, n in outs if n is not None] + [n for n, _ in recorder.guards]
    equations: list[Equation] = []
    parts: dict[Node, tuple[Var, ...]] = {}

    def atom(parent: Node | None, value: Any, node: Node) -> Atom:
        if parent is not None and (type(value) not in NUMBERS or not isinstance(node.primitive, Elementwise)):
            return variables[parent]
        args = [a if hasattr(a, "dtype") or np.isscalar(a) else np.asarray(a) for a in node.values]
        constant = literal(value, args, node.out)
        if parent is None:
            return constant
        return _promoted(variables[parent], constant, equations, recorder, parent)

    for node in _live(recorder, roots):
        if isinstance(node, Part):
            variables[node] = parts[node.whole][node.row]
            continue
        assert node.primitive is not None
        args = tuple(atom(p, v, node) for p, v in zip(node.parents, node.values, strict=True))
        results = (node.out,) if node.primitive.outputs == 1 else node.out
        made = tuple(Var(ArrayType.of(o)) for o in results)
        if node.primitive.outputs == 1:
            variables[node] = made[0]
        else:
            parts[node] = made
        equations.append(Equation(node.primitive, args, node.params, made, recorder.origins.get(node)))
    return Program(
        name=name,
        inputs=tuple(variables[n] for n in inputs),
        equations=tuple(equations),
        outputs=tuple(Literal(concrete(v)) if n is None else variables[n] for v, n in outs),
        guards=tuple((variables[n], value) for n, value in recorder.guards),
    )


def _promoted(v: Var, constant: Literal, equations: list[Equation], recorder: Recorder, node: Node) -> Atom:
    """A traced number of Python's in the precision of the operation that it is an argument of, which that constant would have."""
    dtype = constant.type.dtype
    if dtype == v.type.dtype:
        return v
    if dtype.kind in "iu":  # NumPy refuses a number that does not fit, so that another one has to be looked at
        recorder.guards.append((node, constant.value))
        return constant
    made = Var(ArrayType((), dtype))
    equations.append(Equation(ops.convert, (v,), {"dtype": dtype}, (made,)))
    return made


def is_recorded(x: Any) -> bool:
    """Whether a value is being recorded as part of a program, by whatever transformations above the recorder."""
    return is_traced_by(x, Recorder)
