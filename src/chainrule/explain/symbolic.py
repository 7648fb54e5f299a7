"""The derivative as a formula: a Program as SymPy expressions, differentiated, counted, simplified, compiled and timed.

Formulas can grow without bound, and SymPy cannot be interrupted, so all of it runs in a process of its own
(`python -m chainrule.explain.symbolic`) that reports each stage as it is done and is ended when its time is up.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.explain.measure import peak_bytes, seconds
from chainrule.ir.program import Atom, Equation, Program, Var

_MOST_MEMORY = 4 << 30


@dataclass(frozen=True)
class Formula:
    """The derivative as a formula. Counts are of operations: of f, as differentiated, with common parts shared, and simplified."""

    function: int
    differentiated: int
    shared: int
    multiplications: int
    deriving: float
    time: float
    memory: int
    jacobian: np.ndarray[Any, Any]
    text: str
    simplified: int | None = None


class NoFormula(Exception):
    """Why there is no formula, in one line."""


def derive(program: Program, names: Sequence[str], x: np.ndarray[Any, Any], limit: float) -> Formula:
    """The Jacobian of a program at x, its inputs as one vector, called by `names`; raises NoFormula after `limit` seconds."""
    if find_spec("sympy") is None:
        raise NoFormula("SymPy is not here: pip install 'chainrule[report]'")
    try:
        asked = pickle.dumps((program, list(names), x))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NoFormula(f"the program cannot be sent to SymPy: {error}") from error
    return _formula(_ask(asked, limit), limit)


def _ask(asked: bytes, limit: float) -> bytes:
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    command = [sys.executable, "-m", "chainrule.explain.symbolic"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        return child.communicate(asked, timeout=limit)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()[0]
    finally:
        child.kill()
        child.wait()


def _formula(answer: bytes, limit: float) -> Formula:
    found: dict[str, Any] = {}
    for stage in _stages(answer):
        found.update(stage)
    if "error" in found:
        raise NoFormula(found["error"])
    if "time" not in found:
        raise NoFormula(f"the formula was not finished after {limit:g} s")
    return Formula(**found)


def _stages(answer: bytes) -> Iterator[dict[str, Any]]:
    stream = io.BytesIO(answer)
    while True:
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):  # the end, or a stage cut short
            return


# ---- in the process of its own


def _table(sp: Any) -> dict[str, Callable[..., Any]]:
    """Elementwise operations on SymPy's numbers."""
    one = sp.Integer(1)
    return {
        **{
            name: getattr(sp, name)
            for name in ("sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "cbrt", "sign", "floor")
        },
        **{
            name: getattr(sp, name.replace("arc", "a"))
            for name in ("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh")
        },
        "erf": sp.erf,
        "erfc": sp.erfc,
        "gammaln": sp.loggamma,
        "psi": sp.digamma,
        "ceil": sp.ceiling,
        "add": lambda x, y: x + y,
        "subtract": lambda x, y: x - y,
        "multiply": lambda x, y: x * y,
        "divide": lambda x, y: x / y,
        "power": lambda x, y: x**y,
        "float_power": lambda x, y: x**y,
        "negative": lambda x: -x,
        "positive": lambda x: x,
        "convert": lambda x: x,
        "reciprocal": lambda x: one / x,
        "square": lambda x: x**2,
        "absolute": sp.Abs,
        "exp2": lambda x: 2**x,
        "expm1": lambda x: sp.exp(x) - 1,
        "log1p": lambda x: sp.log(1 + x),
        "log2": lambda x: sp.log(x) / sp.log(2),
        "log10": lambda x: sp.log(x) / sp.log(10),
        "logaddexp": lambda x, y: sp.log(sp.exp(x) + sp.exp(y)),
        "expit": lambda x: one / (1 + sp.exp(-x)),
        "arctan2": sp.atan2,
        "hypot": lambda x, y: sp.sqrt(x**2 + y**2),
        "maximum": sp.Max,
        "minimum": sp.Min,
        "where": lambda c, x, y: sp.Piecewise((x, c), (y, True)),
        "less": sp.Lt,
        "less_equal": sp.Le,
        "greater": sp.Gt,
        "greater_equal": sp.Ge,
        "deg2rad": lambda x: x * sp.pi / 180,
        "rad2deg": lambda x: x * 180 / sp.pi,
    }


# These only move elements, so NumPy computes them on arrays of expressions as on any others.
_MOVES = (
    "reshape",
    "transpose",
    "broadcast_to",
    "slice",
    "place",
    "gather",
    "scatter_add",
    "concatenate",
    "reduce_sum",
)


def _exact(value: Any, sp: Any) -> Any:
    """A constant as an array of SymPy's numbers: integers where it holds integers."""

    def one(v: Any) -> Any:
        if isinstance(v, bool | np.bool_):
            return sp.true if v else sp.false
        v = float(v)
        return sp.Integer(int(v)) if v.is_integer() and abs(v) < 2**53 else sp.Float(v)

    return np.frompyfunc(one, 1, 1)(np.asarray(value)) if np.size(value) else np.asarray(value, dtype=object)


class _Symbols:
    """Evaluates a program on arrays of SymPy expressions."""

    def __init__(self, sp: Any) -> None:
        self.sp = sp
        self.table = _table(sp)
        self.env: dict[Var, Any] = {}

    def read(self, a: Atom) -> Any:
        return self.env[a] if isinstance(a, Var) else _exact(a.value, self.sp)

    def compute(self, e: Equation) -> Any:
        name, args = e.primitive.name, e.args
        if name in ("gather", "scatter_add"):
            indices = [self._number(a) for a in args[1:]]
            return e.primitive.value(self.read(args[0]), *indices, **e.params)
        values = [self.read(a) for a in args]
        if name == "contract":
            return np.einsum(
                values[0], list(e.params["left"]), values[1], list(e.params["right"]), list(e.params["to"])
            )
        if name in _MOVES:
            return e.primitive.value(*values, **e.params)
        if name not in self.table:
            raise NoFormula(f"`{name}` has no formula here")
        return np.frompyfunc(self.table[name], len(values), 1)(*values)

    def _number(self, a: Atom) -> Any:
        if isinstance(a, Var):
            raise NoFormula("an index depends on the inputs")
        return a.value

    def run(self, program: Program, symbols: Sequence[Any]) -> Any:
        start = 0
        for v in program.inputs:
            self.env[v] = np.array(symbols[start : start + v.type.size], dtype=object).reshape(v.type.shape)
            start += v.type.size
        for e in program.equations:
            out = np.asarray(self.compute(e), dtype=object)
            self.env[e.outs[0]] = out
        return np.concatenate([np.ravel(self.read(a)) for a in program.outputs])


def _multiplications(sp: Any, expressions: Sequence[Any]) -> int:
    total = 0
    for expression in expressions:
        for part in sp.preorder_traversal(expression):
            if part.is_Mul:
                total += len([a for a in part.args if a is not sp.S.NegativeOne]) - 1
            elif part.is_Pow or part.is_Function:
                total += 1
    return total


def _answer(asked: bytes, tell: Callable[[dict[str, Any]], None]) -> None:
    import sympy as sp
    from scipy import special

    program, names, x = pickle.loads(asked)
    start = time.perf_counter()
    symbols = sp.symbols(names, real=True)
    function = _Symbols(sp).run(program, symbols)
    entries = [sp.diff(y, s) for y in function for s in symbols]
    deriving = time.perf_counter() - start
    rows, columns = len(function), len(symbols)
    replacements, reduced = sp.cse(entries)
    parts = [e for _, e in replacements] + list(reduced)
    compiled = sp.lambdify(symbols, entries, modules=["math", {"polygamma": special.polygamma}], cse=True)
    point = [float(v) for v in x]
    jacobian = np.array([float(v) for v in compiled(*point)]).reshape(rows, columns)
    text = str(entries[0]) if len(entries) == 1 else str(entries)
    tell(
        {
            "function": sum(int(sp.count_ops(y)) for y in function),
            "differentiated": sum(int(sp.count_ops(e)) for e in entries),
            "shared": sum(int(sp.count_ops(e)) for e in parts),
            "multiplications": _multiplications(sp, parts),
            "deriving": deriving,
            "time": seconds(lambda: compiled(*point), 0.2),
            "memory": peak_bytes(lambda: compiled(*point)),
            "jacobian": jacobian,
            "text": text if len(text) <= 2000 else text[:2000] + " …",
        }
    )
    tell({"simplified": sum(int(sp.count_ops(sp.simplify(e))) for e in entries)})


def _serve() -> None:
    stream = sys.stdout.buffer

    def tell(stage: dict[str, Any]) -> None:
        pickle.dump(stage, stream)
        stream.flush()

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system: the time limit remains
    try:
        _answer(sys.stdin.buffer.read(), tell)
    except NoFormula as error:
        tell({"error": str(error)})
    except MemoryError:
        tell({"error": "the formula needs too much memory"})
    except Exception as error:  # noqa: BLE001 - whatever SymPy could not do is told, and makes the row say so
        tell({"error": f"SymPy: {type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    _serve()
