"""What is changed: one operator, constant, comparison, keyword, argument, branch or statement of a source file at a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_PAIRS = (
    "sin cos, sinh cosh, exp exp2, real imag, less less_equal, greater greater_equal, equal not_equal, maximum minimum, "
    "floor ceil, logical_and logical_or, isnan isfinite, sqrt square, tril triu, cumsum cumprod, apply adjoint, zeros ones, "
    "in_shape out_shape, reduce_max reduce_min"
)
NAMES = {a: b for pair in _PAIRS.split(", ") for a, b in (pair.split(), pair.split()[::-1])}
# Calls whose arguments commute, or whose order is no rule of ours.
UNORDERED = {"isinstance", "hasattr", "getattr", "zip", "super", "max", "min", "multiply", "hypot", "convolve"} | {
    f"{prefix}{name}"
    for prefix in ("", "logical_", "not_")
    for name in ("and", "or", "equal", "maximum", "minimum", "result_type", "broadcast_shapes")
}
NO_BEHAVIOUR = (ast.Import, ast.ImportFrom, ast.Raise, ast.Assert, ast.JoinedStr)


@dataclass(frozen=True)
class Mutant:
    """A file with the characters from `start` to `end` replaced; `scope` is the function, or what is declared, around them."""

    path: Path
    scope: str
    line: int
    column: int
    start: int
    end: int
    was: str
    now: str

    def source(self) -> str:
        """The whole file, mutated."""
        text = self.path.read_text()
        return text[: self.start] + self.now + text[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} in {self.scope}\n    - {self.was}\n    + {self.now}"


@dataclass(frozen=True)
class Left:
    """What is left alone, by patterns of the names of functions and keywords: samples, costs, names and the like."""

    functions: tuple[str, ...]
    keywords: tuple[str, ...]

    def function(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.functions)


def mutants(path: Path, left: Left) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of the file."""
    text = path.read_text()
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    rows = text.splitlines()

    def offset(row: int, column: int) -> int:
        return starts[row - 1] + len(rows[row - 1].encode()[:column].decode())

    seen = set()
    for scope, node, now in _walk(ast.parse(text), (), left):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
        was, new = ast.unparse(node), ast.unparse(now)
        if was == new:
            continue
        if isinstance(node, ast.expr) and not isinstance(node, ast.Constant):
            new = f"({new})"
        if (start, end, new) not in seen:
            seen.add((start, end, new))
            yield Mutant(path, ".".join(scope), node.lineno, node.col_offset, start, end, was, new)


_Change = tuple[tuple[str, ...], ast.expr | ast.stmt, ast.AST]


def _walk(node: ast.AST, scope: tuple[str, ...], left: Left) -> Iterator[_Change]:
    """The changes to a node and all below it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        names = [ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)]
    else:
        names = []
    if _is_left(node, names, left):
        return
    if not (scope and isinstance(node, ast.Assign | ast.AnnAssign)):
        scope = (*scope, *names)
    if isinstance(node, ast.expr | ast.stmt):
        for now in _changes(node, left):
            yield scope, node, now
    for name, child in _fields(node):
        if name not in {"annotation", "returns", "decorator_list"}:
            yield from _walk(child, scope, left)


def _is_left(node: ast.AST, names: list[str], left: Left) -> bool:
    if isinstance(node, ast.keyword):
        return any(fnmatchcase(node.arg or "", pattern) for pattern in left.keywords)
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Subscript) and len(names) == 1:
        return True  # an alias of a type
    return isinstance(node, NO_BEHAVIOUR) or any(map(left.function, names))


def _fields(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield name, item


def _copy(node: ast.AST, **fields: object) -> ast.AST:
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _changes(node: ast.expr | ast.stmt, left: Left) -> Iterator[ast.AST]:
    """What stands in the node's place, one change each."""
    if isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        if type(node.op) in BINARY:
            yield _copy(node, op=BINARY[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Compare):
        yield from _comparisons(node)
    elif isinstance(node, ast.BoolOp):
        yield _copy(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield from node.values
    elif isinstance(node, ast.Attribute):
        if node.attr in NAMES and isinstance(node.ctx, ast.Load):
            yield _copy(node, attr=NAMES[node.attr])
    else:
        yield from _larger_changes(node, left)


def _larger_changes(node: ast.expr | ast.stmt, left: Left) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        yield from _calls(node, left)
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        yield _copy(node, elts=[node.elts[1], node.elts[0], *node.elts[2:]])
    elif isinstance(node, ast.Lambda) and isinstance(node.body, ast.BinOp | ast.Name | ast.Attribute):
        yield _copy(node, body=ast.UnaryOp(ast.USub(), node.body))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield from (ast.Constant(v) for v in ((1,) if value == 0 else (value - 1, value + 1)))
    elif isinstance(value, complex):
        yield ast.Constant(2 * value)


def _comparisons(node: ast.Compare) -> Iterator[ast.AST]:
    for i, op in enumerate(node.ops):
        for other in COMPARED[type(op)]:
            yield _copy(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
    last = node.comparators[-1]
    if isinstance(last, ast.Constant) and isinstance(last.value, str):
        for k in range(len(last.value)):
            shorter = last.value[:k] + last.value[k + 1 :] or "?"
            yield _copy(node, comparators=[*node.comparators[:-1], ast.Constant(shorter)])


def _calls(node: ast.Call, left: Left) -> Iterator[ast.AST]:
    """Two neighbouring arguments swapped, or a keyword left out."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for i in range(0 if called in UNORDERED else len(node.args) - 1):
        pair = node.args[i : i + 2]
        if not any(isinstance(a, ast.Starred) for a in pair):
            yield _copy(node, args=[*node.args[:i], *pair[::-1], *node.args[i + 2 :]])
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in left.keywords:
            yield _copy(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
