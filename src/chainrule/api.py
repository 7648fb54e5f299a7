"""The public functions: each a few lines that lay out trees of arguments and call one transform."""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import chainrule.plan  # noqa: F401 - `plan` below takes its name and shows what is in it
from chainrule.errors import DifferentiationError, IntegerInput, ShapeError, TreeError
from chainrule.ir.primitive import bind, concrete, is_tracer, ops
from chainrule.ir.program import Program
from chainrule.ir.types import Array
from chainrule.trace import tree
from chainrule.trace.intercept import before_first_trace
from chainrule.trace.record import is_recorded, record_program
from chainrule.transforms import batch, custom, forward, reverse
from chainrule.transforms.variables import Variable, variable

if TYPE_CHECKING:
    from chainrule.plan.accumulate import Accumulator
    from chainrule.plan.plans import Plan
    from chainrule.transforms.linearised import Linearised

__all__ = [
    "Variable",
    "custom_jvp",
    "custom_vjp",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "pattern",
    "plan",
    "program",
    "stop_gradient",
    "value",
    "value_and_grad",
    "variable",
    "vjp",
    "vmap",
]

Argnums = int | Sequence[int]


def _load_surface() -> None:
    for name in ("chainrule.numpy", "chainrule.scipy", "chainrule.trace.lists", "chainrule.trace.maths"):
        importlib.import_module(name)


before_first_trace(_load_surface)
Mode = Literal["auto", "forward", "reverse", "elimination"]

# Jacobians of no more entries are accumulated by the pure mode of fewer sweeps, without looking for another order.
_SMALL = 2_500


# ---- laying out arguments


def _check_function(name: str, f: Any, argnums: Any = 0) -> None:
    """Answer the two slips that come first: grad(f(x)) and grad(f, x) in the place of grad(f)(x)."""
    if not callable(f):
        raise DifferentiationError(
            f"{name} takes a function, and was given a {type(f).__name__}",
            f"Write cr.{name}(f)(x), not cr.{name}(f(x)).",
        )
    if not isinstance(argnums, int) and not (
        isinstance(argnums, Sequence) and all(isinstance(n, int) for n in argnums)
    ):
        raise DifferentiationError(
            f"argnums of {name} is the number of an argument, or a tuple of numbers, not a {type(argnums).__name__}",
            f"Write cr.{name}(f)(x) for the derivative at x.",
        )


class _Selected:
    """The arguments of one call that are differentiated, as leaves, and the function of those leaves."""

    __slots__ = ("args", "f", "kwargs", "leaves", "numbers", "rebuild", "single")

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Argnums) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs
        self.single = isinstance(argnums, int)
        self.numbers = [_checked_number(n, args) for n in ((argnums,) if isinstance(argnums, int) else argnums)]
        if len(set(self.numbers)) < len(self.numbers):
            raise TreeError(f"argnums={tuple(argnums)} names an argument twice", "Give each once.")  # type: ignore[arg-type]
        chosen = args[self.numbers[0]] if self.single else tuple(args[n] for n in self.numbers)
        leaves, self.rebuild = tree.flatten(chosen)
        self.leaves = [_inexact(x) for x in leaves]

    def call(self, leaves: list[Any]) -> Any:
        """The user's function with leaves in the place of the selected arguments."""
        chosen = self.rebuild(leaves)
        if self.single and len(self.args) == 1:
            return self.f(chosen, **self.kwargs)
        args = list(self.args)
        for n, x in zip(self.numbers, (chosen,) if self.single else chosen, strict=True):
            args[n] = x
        return self.f(*args, **self.kwargs)


def _checked_number(n: int, args: tuple[Any, ...]) -> int:
    if not -len(args) <= n < len(args):
        raise TreeError(
            f"argnums={n}, but the function was called with {len(args)} positional arguments",
            "Pass the differentiated arguments by position.",
        )
    return n % len(args)


def _inexact(x: Any) -> Array:
    """A leaf to differentiate: an array or scalar of floating or complex dtype."""
    x = _array(x)
    if not hasattr(x, "dtype"):
        raise DifferentiationError(
            f"an argument to differentiate is a {type(x).__name__}, which is no array, number, or tree of them",
            'Pass arrays of floats; declare a dataclass by @optree.dataclasses.dataclass(namespace="chainrule").',
        )
    if x.dtype.kind not in "fc":
        if x.dtype.kind in "iub":
            raise IntegerInput(
                f"an argument to differentiate has dtype {x.dtype}: integers and booleans have no derivative",
                "Pass floats: 2.0 instead of 2, or x.astype(float).",
            )
        raise DifferentiationError(f"an argument to differentiate has dtype {x.dtype}", "Pass arrays of floats.")
    return x


# Subclasses of ndarray by which NumPy computes something else.
_OTHER_ALGEBRAS = {"matrix", "MaskedArray"}


def _array(x: Any) -> Array:
    """An argument as a tracer or one of NumPy's own arrays and scalars; subclasses that only store differently become arrays."""
    if type(x) is np.ndarray or isinstance(x, np.generic) or is_tracer(x):
        return x
    other = _OTHER_ALGEBRAS.intersection(c.__name__ for c in type(x).__mro__) if isinstance(x, np.ndarray) else ()
    if other:
        raise DifferentiationError(
            f"an argument is a {type(x).__name__}, whose operations are not those of arrays",
            "Pass np.asarray(x) of a matrix, and x.filled(...) or x.data with a mask of its own for a masked array.",
        )
    return np.asarray(x)[()]


class _Outputs:
    """Flattens the outputs of a traced function and remembers their form."""

    __slots__ = ("aux", "has_aux", "rebuild")

    def __init__(self, has_aux: bool = False) -> None:
        self.has_aux = has_aux
        self.aux: Any = None
        self.rebuild: Callable[[list[Any]], Any] = tree.flatten(0.0)[1]

    def of(self, f: Callable[[list[Any]], Any]) -> Callable[[list[Any]], list[Any]]:
        """f with its outputs as a list of leaves."""

        def flat(leaves: list[Any]) -> list[Any]:
            out = f(leaves)
            if self.has_aux:
                out, aux = _pair(
                    out, "with has_aux=True the function returns a pair (value, aux)", "Return `value, aux`."
                )
                self.aux = _untraced(aux, leaves)
            if out is None:
                raise DifferentiationError("the function returned None", "Give it a `return`.")
            found, self.rebuild = tree.flatten(out)
            return [x if is_tracer(x) or getattr(x, "dtype", _OBJECTS) != _OBJECTS else _as_output(x) for x in found]

        return flat


_OBJECTS = np.dtype(object)


def _as_output(x: Any) -> Any:
    from chainrule.numpy.arguments import as_array  # loaded by the trace that x comes from

    out = as_array(x)[()]
    if getattr(out, "dtype", _OBJECTS).kind not in "fciub":
        raise DifferentiationError(
            f"the function returned a {type(x).__name__}, which is not an array of numbers",
            "Return arrays, scalars, or trees of them.",
        )
    return out


def _pair(out: Any, what: str, repair: str) -> tuple[Any, Any]:
    if not (isinstance(out, tuple) and len(out) == 2):
        raise TreeError(what, repair)
    return out


def _untraced(aux: Any, inputs: Sequence[Any]) -> Any:
    """Auxiliary outputs out of the trace that the inputs belong to, so that they live on after it; other traces keep theirs."""
    ended = inputs[0].owner if inputs and is_tracer(inputs[0]) else None
    return tree.map_leaves(lambda x: x.value if is_tracer(x) and x.owner is ended else x, aux)


def _like(name: str, what: str, given: Any, of: Any, leaves: Sequence[Array]) -> list[Array]:
    """Tangents or cotangents as leaves, checked against the values that they belong to, which are the tree `of`."""
    found, _ = tree.flatten(given)
    if len(found) != len(leaves):
        raise TreeError(
            f"{name} was given {len(found)} {what} arrays for {len(leaves)} values",
            f"Give one {what} a value, in the same tree.",
        )
    if len(leaves) > 1 and tree.structure(given) != tree.structure(of) and tree.paths(given) != tree.paths(of):
        raise TreeError(
            f"{name} was given {what}s {_named(given)} for values {_named(of)}",
            f"Give one {what} a value, in the same tree.",
        )
    out = []
    for x, leaf in zip(found, leaves, strict=True):
        x = x if hasattr(x, "dtype") else np.asarray(x)[()]
        if x.shape != leaf.shape:
            raise ShapeError(
                f"{name} was given a {what} of shape {x.shape} for a value of shape {leaf.shape}",
                "Give them the same shape.",
            )
        out.append(x if x.dtype == leaf.dtype else ops.convert(x, dtype=leaf.dtype))
    return out


def _named(leaves: Any) -> str:
    return ", ".join(tree.paths(leaves))


def _held(x: Any) -> Any:
    """x apart from what the caller can change: pullbacks and pushforwards are called later."""
    return x.copy(order="K") if type(x) is np.ndarray else x


# ---- first derivatives


def value_and_grad(
    f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, conjugate: bool = False
) -> Callable[..., Any]:
    """x -> (f(x), df/dx) for a scalar function f, by one reverse sweep.

    The gradient has the tree, shapes and dtypes of the arguments selected by `argnums`. With `has_aux`, f returns (value,
    aux) and the result is ((value, aux), gradient). For complex z = x + iy the gradient is df/dx - i df/dy, as in JAX and
    autograd; with `conjugate=True` it is df/dx + i df/dy, the direction of steepest ascent, as in PyTorch.

    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    _check_function("value_and_grad", f, argnums)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = _Selected(f, args, kwargs, argnums)
        outputs = _Outputs(has_aux)
        values, pullback = reverse.vjp(outputs.of(selected.call), selected.leaves)
        y = _scalar(values)
        found = pullback([y.dtype.type(1)])
        if conjugate:
            found = [ops.conjugate(g) if g.dtype.kind == "c" else g for g in found]
        gradient = selected.rebuild(found)
        return ((y, outputs.aux), gradient) if has_aux else (y, gradient)

    return wrapped


def _scalar(values: Sequence[Any]) -> Any:
    if len(values) != 1 or values[0].shape != ():
        shapes = ", ".join(str(v.shape) for v in values)
        raise DifferentiationError(
            f"grad needs a function with one scalar output; this one returns shape {shapes}",
            "Reduce it to a scalar (np.sum, np.mean, y[0]), or use cr.jacobian.",
        )
    y = values[0]
    if y.dtype.kind == "c":
        raise DifferentiationError(
            "grad needs a real output; this one is complex", "Take np.real, np.imag or np.abs, or use cr.vjp."
        )
    if y.dtype.kind != "f":
        raise DifferentiationError(
            f"grad needs a floating output; this one is {y.dtype}",
            "Integers and booleans carry no derivative: return a float.",
        )
    return y


def grad(
    f: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, conjugate: bool = False
) -> Callable[..., Any]:
    """x -> df/dx for a scalar function f, by one reverse sweep; arguments as for `value_and_grad`.

    >>> grad(np.tanh)(0.0)
    np.float64(1.0)
    """
    _check_function("grad", f, argnums)
    both = value_and_grad(f, argnums, has_aux=has_aux, conjugate=conjugate)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        y, g = both(*args, **kwargs)
        return (g, y[1]) if has_aux else g

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = _Selected(f, args, kwargs, argnums)
        return _linearise(_Outputs(has_aux).of(selected.call), selected.leaves)

    return _planned(wrapped, "grad", f, graph_of, _accumulator("reverse"))


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Push tangents of the inputs on to the outputs: (f(x), J(x) t), by one forward sweep beside the values.

    >>> jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TreeError("jvp takes the primals as a tuple, and so the tangents", "Write cr.jvp(f, (x,), (t,)).")
    selected = _Selected(f, tuple(primals), {}, range(len(primals)))
    outputs = _Outputs()
    ts = _like("jvp", "tangent", tuple(tangents), tuple(primals), selected.leaves)
    values, dots = forward.jvp(outputs.of(selected.call), selected.leaves, ts)
    return outputs.rebuild(values), outputs.rebuild(dots)


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Pull a cotangent of the output back to the inputs: (f(x), ct -> J(x)^T ct).

    The pullback returns a tuple with one entry an argument.

    >>> y, pullback = vjp(np.sin, 0.0)
    >>> pullback(1.0)
    (np.float64(1.0),)
    """
    selected = _Selected(f, primals, {}, range(len(primals)))
    outputs = _Outputs(has_aux)
    values, back = reverse.vjp(outputs.of(selected.call), [_held(x) for x in selected.leaves])

    def pullback(ct: Any) -> Any:
        return selected.rebuild(back(_like("the pullback", "cotangent", ct, outputs.rebuild(values), values)))

    result = outputs.rebuild([_held(v) for v in values])
    return (result, pullback, tree.map_leaves(_held, outputs.aux)) if has_aux else (result, pullback)


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(f(x), t -> J(x) t), where the second runs the recorded local Jacobians and not f again.

    >>> y, push = linearize(np.sin, 0.0)
    >>> push(3.0)
    np.float64(3.0)
    """
    selected = _Selected(f, primals, {}, range(len(primals)))
    outputs = _Outputs()
    values, push = forward.linearize(outputs.of(selected.call), [_held(x) for x in selected.leaves])

    def pushforward(*tangents: Any) -> Any:
        return outputs.rebuild(push(_like("the pushforward", "tangent", tangents, primals, selected.leaves)))

    return outputs.rebuild([_held(v) for v in values]), pushforward


# ---- Jacobians


def jacobian(
    f: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    mode: Mode = "auto",
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """x -> df/dx with shape f(x).shape + x.shape; for trees, the tree of outputs with trees of inputs in it.

    `mode="forward"` takes a sweep an input element, all in one batch; `"reverse"` one an output element; `"elimination"` expands a
    small function to scalars and multiplies out their graph in the order found to be cheapest. `"auto"` is the order predicted to
    be fastest: one of these, compressed sweeps where many entries are zero, or the cheapest way to multiply out the chain of maps
    between the narrow places that all paths go through (see `plan`). `plan=p` takes the order of a plan made before.
    `memory="500 MB"` is a limit that batches of sweeps keep to. For complex inputs `holomorphic=True` states that f is analytic.

    With `sparse=True` the result is one scipy.sparse.csr_array in canonical format, a row an element of the outputs and a column an
    element of the inputs, flattened one after the other. Its pattern and colouring are found once for each kind of arguments, and
    again where f takes another branch; each call then takes a few sweeps. `sparse="auto"` does so where it saves most of the
    entries and sweeps, and gives the dense result elsewhere.

    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    >>> jacobian(lambda x: x[1:] - x[:-1], sparse=True)(np.ones(1000)).nnz
    1998
    """
    _check_function("jacobian", f, argnums)
    if mode not in ("auto", "forward", "reverse", "elimination"):
        raise ValueError(f"mode is 'auto', 'forward', 'reverse' or 'elimination', not {mode!r}")
    way = _accumulator(mode, sparse, memory, plan)
    is_plain = sparse is False and memory is None and plan is None
    is_pure = is_plain and mode in ("forward", "reverse")
    is_plain = is_plain and mode == "auto"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = _Selected(f, args, kwargs, argnums)
        _check_holomorphic(selected, holomorphic)
        outputs = _Outputs()
        flat = outputs.of(selected.call)
        if is_pure:
            blocks = _JACOBIANS[mode](flat, selected.leaves)
        elif is_plain:
            recording = reverse.record(flat, selected.leaves)
            blocks = _few(recording, selected.leaves) or _ordered(way(), flat, selected.leaves, recording)
        else:
            found = _limited(way(), flat, selected.leaves)
            if not isinstance(found, list):
                return found
            blocks = found
        return outputs.rebuild([selected.rebuild(row) for row in blocks])

    return _planned(wrapped, "jacobian", f, jacobian_graph(f, argnums), way)


def _check_holomorphic(selected: _Selected, holomorphic: bool) -> None:
    if not holomorphic and any(x.dtype.kind == "c" for x in selected.leaves):
        raise DifferentiationError(
            "the Jacobian of a function of complex arguments is complex only where the function is analytic",
            "Pass holomorphic=True where it is, or differentiate with respect to real and imaginary part.",
        )


def _few(recording: reverse.Recording, leaves: list[Array]) -> list[list[Array]] | None:
    """The blocks of a small Jacobian, or of one that only forward mode can give; None where an order is to be chosen."""
    values = recording[2]
    inputs, outputs = (sum(int(np.prod(x.shape)) for x in xs) for xs in (leaves, values))
    is_complex = any(v.dtype.kind == "c" for v in values)
    if not is_complex and (inputs * outputs > _SMALL or any(map(is_recorded, values))):
        return None
    push, pullback = forward.both_ways(recording, leaves)
    return _columns(push, leaves) if inputs < outputs or is_complex else _rows(pullback, values)


def _ordered(
    way: Accumulator, flat: reverse.Flat, leaves: list[Array], recording: reverse.Recording
) -> list[list[Array]]:
    """The blocks of a Jacobian in the order chosen for its graph."""
    from chainrule.transforms.linearised import of_recording  # loads at first use

    graph = of_recording(recording)
    # Operations that carry programs or rules are swept jointly.
    return _auto_blocks(flat, leaves) if graph.carries else way.blocks(graph)


def _limited(way: Accumulator, flat: reverse.Flat, leaves: list[Array]) -> Any:
    """A Jacobian with a memory limit, a plan, or a sparse result: its blocks, or a sparse matrix."""
    blocks = way.without_tape(flat, leaves)
    if blocks is not None:
        return blocks
    graph = _linearise(flat, leaves)
    found = way.matrix(graph)
    return way.blocks(graph) if found is None else found


def _linearise(flat: reverse.Flat, leaves: list[Array]) -> Linearised:
    from chainrule.transforms.linearised import linearise  # loads at first use

    return linearise(flat, leaves)


def _accumulator(
    mode: Mode,
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    *,
    symmetric: bool = False,
) -> Callable[[], Accumulator]:
    """How a Jacobian is accumulated; made when it is first asked for, since planning loads at first use."""

    @functools.cache
    def way() -> Accumulator:
        from chainrule.plan.accumulate import Accumulator
        from chainrule.plan.plans import parse_memory

        return Accumulator(mode, sparse, parse_memory(memory), plan, symmetric=symmetric)

    if memory is not None:
        way()  # a wrong text is an error here and now
    return way


def jacobian_graph(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Linearised]:
    """x -> the graph of local Jacobians of f at x."""

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = _Selected(f, args, kwargs, argnums)
        return _linearise(_Outputs().of(selected.call), selected.leaves)

    return graph_of


class _Planned:
    """What `plan` needs to know of a function that a transform made: its graph for some arguments, and how it is accumulated."""

    def __init__(
        self,
        made: Callable[..., Any],
        transform: str,
        f: Callable[..., Any],
        graph: Callable[..., Linearised],
        way: Callable[[], Accumulator],
    ) -> None:
        # By a weak reference: a cycle would keep all that f closes over until the garbage collector runs.
        self.made = weakref.ref(made)
        self.transform, self.graph, self.way = transform, graph, way
        self.function = getattr(f, "__name__", type(f).__name__)


def _planned(
    made: Callable[..., Any],
    transform: str,
    f: Callable[..., Any],
    graph: Callable[..., Linearised],
    way: Callable[[], Accumulator],
) -> Callable[..., Any]:
    made.__chainrule_plan__ = _Planned(made, transform, f, graph, way)  # type: ignore[attr-defined]
    return made


def plan(
    transform: Callable[..., Any],
    *args: Any,
    memory: str | float | None = None,
    effort: Literal["fast", "thorough"] = "fast",
    **kwargs: Any,
) -> Plan:
    """Every order in which a derivative can be accumulated for these arguments, what each costs, and which is taken, and why.

    `transform` is what `jacobian`, `hessian`, `grad` or `hvp` returned (or `jit` of it). The plan prints as a table; its
    multiplications are exact, its times are predicted from constants measured once on this machine. It can be kept, pickled, and
    passed back: `jacobian(f, plan=p)`. With `effort="thorough"` an elimination order is searched for by annealing, up to a second.

    >>> waist = lambda x: np.outer(np.sin(np.ones((2, 100)) @ x), np.ones(100)).ravel()
    >>> p = plan(jacobian(waist), np.ones(100))
    >>> min(p.orders, key=lambda order: order.multiplications).kind
    'chain'
    """
    known: _Planned | None = getattr(transform, "__chainrule_plan__", None)
    if known is None or not any(known.made() is f for f in (transform, getattr(transform, "function", None))):
        raise TypeError(
            "plan takes what jacobian, hessian, grad or hvp returned (or jit of that), and then the arguments: plan(jacobian(f), x)"
        )
    graph = known.graph(*args, **kwargs)
    from chainrule.plan.plans import parse_memory  # loads at first use

    return known.way().make_plan(known.transform, known.function, graph, parse_memory(memory), effort)


# This function has the name of the package chainrule.plan, and hides it: what is in the package is reached through either.
plan.__dict__ = vars(sys.modules["chainrule.plan"])


def pattern(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """x -> where the Jacobian of f may be non-zero: a boolean scipy.sparse.csr_array, in the form of `jacobian(f, sparse=True)`.

    It covers the non-zeros for every x with which f takes the same branches. That of a Hessian is `pattern(grad(f))`.

    >>> pattern(lambda x: x * np.sum(x[1:]))(np.ones(3)).toarray().astype(int)
    array([[1, 1, 1],
           [0, 1, 1],
           [0, 1, 1]])
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        selected = _Selected(f, args, kwargs, argnums)
        from chainrule.transforms import sparsity  # loads at first use

        return sparsity.pattern(_linearise(_Outputs().of(selected.call), selected.leaves))

    return wrapped


def _basis(x: Array) -> Array:
    """All unit arrays of the type of x, along a leading axis."""
    n = int(np.prod(x.shape))
    return np.eye(n, dtype=x.dtype).reshape(n, *x.shape)


def _columns(push: Callable[[list[Any]], Sequence[Array]], leaves: Sequence[Array]) -> list[list[Array]]:
    """Jacobian blocks, a row an output, from a pushforward: one batch of unit tangents a leaf."""
    columns = []
    for k, x in enumerate(leaves):
        unit = _basis(x)

        def one(t: list[Any], k: int = k) -> Sequence[Array]:
            return push([t[0] if i == k else None for i in range(len(leaves))])

        dots = batch.vmap(one, [unit], [0], unit.shape[0])
        columns.append([ops.reshape(batch.from_front(d, -1), shape=(*d.shape[1:], *x.shape)) for d in dots])
    return [list(row) for row in zip(*columns, strict=True)]


def _rows(pullback: Callable[[Sequence[Any]], list[Array]], values: Sequence[Array]) -> list[list[Array]]:
    """Jacobian blocks, a row an output, from a pullback: one batch of unit cotangents an output."""
    rows = []
    for j, y in enumerate(values):
        unit = _basis(y)

        def one(ct: list[Any], j: int = j) -> list[Array]:
            return pullback([ct[0] if i == j else None for i in range(len(values))])

        found = batch.vmap(one, [unit], [0], unit.shape[0])
        rows.append([ops.reshape(g, shape=(*y.shape, *g.shape[1:])) for g in found])
    return rows


def _forward_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    return _columns(lambda ts: forward.jvp(f, leaves, ts)[1], leaves)


def _reverse_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    values, pullback = reverse.vjp(f, leaves)
    _refuse_complex_outputs(values, leaves)
    return _rows(pullback, values)


def _refuse_complex_outputs(values: Sequence[Array], leaves: Sequence[Array]) -> None:
    if any(v.dtype.kind == "c" for v in values) and any(x.dtype.kind != "c" for x in leaves):
        raise DifferentiationError(
            "reverse mode gives only the real part of a Jacobian from real inputs to complex outputs",
            'Use mode="forward".',
        )


def _auto_blocks(f: reverse.Flat, leaves: list[Array]) -> list[list[Array]]:
    recording = reverse.record(f, leaves)
    push, pullback = forward.both_ways(recording, leaves)
    values = recording[2]
    inputs = sum(int(np.prod(x.shape)) for x in leaves)
    outputs = sum(int(np.prod(v.shape)) for v in values)
    if inputs < outputs or any(v.dtype.kind == "c" for v in values):
        return _columns(push, leaves)
    return _rows(pullback, values)


_JACOBIANS: dict[str, Callable[[reverse.Flat, list[Array]], list[list[Array]]]] = {
    "auto": _auto_blocks,
    "forward": _forward_blocks,
    "reverse": _reverse_blocks,
}


def jacfwd(f: Callable[..., Any], argnums: Argnums = 0, *, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by forward mode: `jacobian(f, argnums, mode="forward")`.

    >>> jacfwd(lambda x: np.array([x, x**2]))(3.0)
    array([1., 6.])
    """
    return jacobian(f, argnums, mode="forward", holomorphic=holomorphic)


def jacrev(f: Callable[..., Any], argnums: Argnums = 0, *, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by reverse mode: `jacobian(f, argnums, mode="reverse")`.

    >>> jacrev(lambda x: np.sum(x**2))(np.array([1.0, 3.0]))
    array([2., 6.])
    """
    return jacobian(f, argnums, mode="reverse", holomorphic=holomorphic)


# ---- second derivatives


def hessian(
    f: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    sparse: bool | Literal["auto"] = False,
    memory: str | float | None = None,
    plan: Plan | None = None,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """x -> d^2 f / dx^2, forward over reverse; shape f(x).shape + x.shape + x.shape.

    With `sparse=True`, for a scalar f, one scipy.sparse.csr_array in canonical format, a row and a column an element of the inputs,
    flattened one after the other: by a few sweeps over the gradient, as many as a star colouring of its pattern has colours.
    `sparse="auto"` does so where it saves most of the entries and sweeps. `memory` and `plan`, for a scalar f, as for `jacobian`.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    >>> hessian(lambda x: np.sum((x[1:] - x[:-1]) ** 4), sparse=True)(np.arange(1000.0)).nnz
    2998
    """
    _check_function("hessian", f, argnums)
    dense = jacfwd(jacrev(f, argnums, holomorphic=holomorphic), argnums, holomorphic=holomorphic)
    way = _accumulator("auto", sparse, memory, plan, symmetric=True)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if sparse is False and memory is None and plan is None:
            return dense(*args, **kwargs)
        selected = _Selected(f, args, kwargs, argnums)
        _check_holomorphic(selected, holomorphic)
        found = _limited(way(), _gradient(selected), selected.leaves)
        return selected.rebuild([selected.rebuild(row) for row in found]) if isinstance(found, list) else found

    return _planned(wrapped, "hessian", f, gradient_graph(f, argnums), way)


def gradient_graph(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Linearised]:
    """x -> the graph of local Jacobians of the gradient of a scalar f at x."""

    def graph_of(*args: Any, **kwargs: Any) -> Linearised:
        selected = _Selected(f, args, kwargs, argnums)
        return _linearise(_gradient(selected), selected.leaves)

    return graph_of


def _gradient(selected: _Selected) -> Callable[[list[Any]], list[Any]]:
    """The gradient of a scalar function as a function of leaves."""

    def gradient(leaves: list[Any]) -> list[Any]:
        values, pullback = reverse.vjp(_Outputs().of(selected.call), leaves)
        y = _scalar(values)
        return pullback([y.dtype.type(1)])

    return gradient


def hvp(f: Callable[..., Any]) -> Callable[..., Any]:
    """(x, v) -> d^2 f / dx^2 v for a scalar function f of one argument: a forward sweep over a reverse one, no matrix formed.

    >>> hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    _check_function("hvp", f)
    gradient = grad(f)

    @functools.wraps(f)
    def wrapped(x: Any, v: Any, *rest: Any, **kwargs: Any) -> Any:
        return jvp(lambda y: gradient(y, *rest, **kwargs), (x,), (v,))[1]

    def graph_of(x: Any, *rest: Any, **kwargs: Any) -> Linearised:
        """The gradient along the line x + s v, of which the product is the derivative at s = 0."""
        v, *others = rest or (x,)
        along = _Selected(lambda s: tree.map_leaves(lambda a, t: a + s * t, x, v), (0.0,), {}, 0)
        selected = _Selected(f, (x, *others), kwargs, 0)

        def gradient_along(leaves: list[Any]) -> list[Any]:
            moved, _ = tree.flatten(along.call(leaves))
            return _gradient(selected)(moved)

        return _linearise(gradient_along, along.leaves)

    return _planned(wrapped, "hvp", f, graph_of, _accumulator("forward"))


# ---- batching


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """f over an axis of its arguments, all instances at once in the place of a loop.

    `in_axes` is an axis for all arguments, or a tuple with an entry an argument: an axis, None (not batched), or a tree of these.
    `out_axes` says where the batch axis of the outputs is.

    >>> vmap(np.dot)(np.ones((3, 2)), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    array([ 3.,  7., 11.])
    """
    _check_function("vmap", f)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = tree.flatten(args)
        leaves = [_array(x) for x in leaves]
        axes = tree.spread_prefix(in_axes if isinstance(in_axes, int | None) else tuple(in_axes), args, "in_axes")
        size = _batch_size(leaves, axes)
        outputs = _Outputs()
        outs = batch.vmap(outputs.of(lambda xs: f(*rebuild(xs), **kwargs)), leaves, axes, size)
        result = outputs.rebuild(outs)
        places = tree.spread_prefix(out_axes, result, "out_axes")
        if any(p is None for p in places):
            raise TreeError(
                "out_axes has None: every output of vmap has the batch axis", "Give an axis, 0 for the first."
            )
        return outputs.rebuild([batch.from_front(o, p) for o, p in zip(outs, places, strict=True) if p is not None])

    return wrapped


def _batch_size(leaves: Sequence[Array], axes: Sequence[int | None]) -> int:
    sizes: set[int] = set()
    for x, axis in zip(leaves, axes, strict=True):
        if axis is not None:
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(
                    f"vmap over axis {axis} of an argument of shape {x.shape}",
                    "Choose in_axes among its axes, or None.",
                )
            sizes.add(int(x.shape[axis]))
    if len(sizes) != 1:
        raise ShapeError(
            f"vmap needs one batch size; the batched axes have {sorted(sizes)}"
            if sizes
            else "vmap with nothing batched",
            "Give the batched arguments equal extents along in_axes, and None for the others.",
        )
    return sizes.pop()


# ---- constants, and rules of one's own


def stop_gradient(x: Any) -> Any:
    """x as a constant: the same value, whose derivative is zero. Trees are taken leaf by leaf.

    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree.map_leaves(lambda a: bind(ops.stop_gradient, (a,), {}), x)


def value(x: Any) -> Any:
    """The plain value of a traced x, as a deliberate constant: no derivative flows through it, and it may be converted at will.

    >>> grad(lambda x: x * float(value(x)))(3.0)
    np.float64(3.0)
    """
    return tree.map_leaves(lambda a: _held(concrete(a)) if is_tracer(a) else a, x)


class _CustomFunction:
    """A function with a derivative of the user's own; keyword arguments are constants."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        functools.update_wrapper(self, f)

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: _Outputs) -> Any:
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = tree.flatten(args)
        if not any(is_tracer(x) for x in leaves):
            return self.f(*args, **kwargs)
        outputs = _Outputs()
        outs = ops.custom_call(*leaves, rule=self._rule(rebuild, kwargs, outputs))
        return outputs.rebuild(list(outs))


class custom_jvp(_CustomFunction):  # noqa: N801 - a decorator
    """A function whose pushforward the user gives: rule(primals, tangents) -> (output, its tangent), linear in the tangents.

    Reverse mode, higher derivatives and vmap follow; the pullback is the transpose of the pushforward.

    >>> @custom_jvp
    ... def softplus(x):
    ...     return np.log1p(np.exp(x))
    >>> @softplus.defjvp
    ... def softplus_jvp(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return softplus(x), t / (1 + np.exp(-x))
    >>> grad(softplus)(0.0)
    np.float64(0.5)
    """

    def __init__(self, f: Callable[..., Any], jvp: Callable[..., Any] | None = None) -> None:
        super().__init__(f)
        self.jvp = jvp

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Declare the pushforward; usable as a decorator."""
        self.jvp = jvp
        return jvp

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: _Outputs) -> custom.PushRule:
        if self.jvp is None:
            raise DifferentiationError(f"`{self.f.__name__}` has no pushforward yet", "Declare it with @f.defjvp.")
        jvp = self.jvp

        def push(args: Sequence[Array], ts: Sequence[Array]) -> list[Array]:
            out, dots = _pair(
                jvp(rebuild(list(args)), rebuild(list(ts)), **kwargs),
                f"the tangent rule of `{self.f.__name__}` returns a pair (output, its tangent)",
                "Return both, in this order.",
            )
            like, _ = tree.flatten(out)
            found = [t if hasattr(t, "dtype") else np.asarray(t)[()] for t in tree.flatten(dots)[0]]
            custom.agree(self.f.__name__, "tangent", found, like)
            return found

        return custom.PushRule(self.f.__name__, outputs.of(lambda xs: self.f(*rebuild(list(xs)), **kwargs)), push)


class custom_vjp(_CustomFunction):  # noqa: N801 - a decorator
    """A function whose pullback the user gives in two parts.

    forwards(*args) -> (output, residuals) and backwards(residuals, ct) -> a tuple of cotangents, linear in ct.
    Forward mode, higher derivatives and vmap follow; the pushforward is the transpose of the pullback.

    >>> @custom_vjp
    ... def logarithm(x):
    ...     return np.log(x)
    >>> logarithm.defvjp(lambda x: (np.log(x), x), lambda x, ct: (ct / x,))
    >>> grad(lambda x: 3 * logarithm(x))(2.0)
    np.float64(1.5)
    """

    def __init__(
        self,
        f: Callable[..., Any],
        forwards: Callable[..., Any] | None = None,
        backwards: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(f)
        self.forwards = forwards
        self.backwards = backwards

    def defvjp(self, forwards: Callable[..., Any], backwards: Callable[..., Any]) -> None:
        """Declare the pullback in its two parts."""
        self.forwards = forwards
        self.backwards = backwards

    def _rule(self, rebuild: Callable[[list[Any]], Any], kwargs: dict[str, Any], outputs: _Outputs) -> custom.PullRule:
        name = self.f.__name__
        if self.forwards is None or self.backwards is None:
            raise DifferentiationError(
                f"`{self.f.__name__}` has no pullback yet", "Declare it with f.defvjp(forwards, backwards)."
            )
        first, second = self.forwards, self.backwards

        def forwards(args: Sequence[Array]) -> tuple[Sequence[Array], Any]:
            given = rebuild(list(args))
            out, residuals = _pair(
                first(*given, **kwargs),
                f"the first part of the pullback of `{name}` returns a pair (output, residuals)",
                "Return both, with None for residuals where there are none.",
            )
            return outputs.of(lambda _: out)([]), (given, residuals)

        def backwards(kept: Any, cts: Sequence[Array]) -> list[Array]:
            given, residuals = kept
            return tree.flatten_like(second(residuals, outputs.rebuild(list(cts))), given, name)

        return custom.PullRule(name, outputs.of(lambda xs: self.f(*rebuild(list(xs)), **kwargs)), forwards, backwards)


# ---- programs


def program(f: Callable[..., Any]) -> Callable[..., Program]:
    """args -> the traced Program of f for these arguments: it prints, evaluates on arrays, and re-checks itself.

    >>> print(program(lambda x: np.sum(x * x))(np.ones(3)).check())  # doctest: +ELLIPSIS
    program <lambda>(a: f64[3]) -> f64[]
      b: f64[3] = multiply a a ...
      c: f64[] = reduce_sum[axes=(0,)] b ...
      return c
    """
    _check_function("program", f)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Program:
        leaves, rebuild = tree.flatten(args)
        leaves = [_array(x) for x in leaves]
        outputs = _Outputs()
        name = getattr(f, "__name__", type(f).__name__)
        return record_program(outputs.of(lambda xs: f(*rebuild(xs), **kwargs)), leaves, name)

    return wrapped
