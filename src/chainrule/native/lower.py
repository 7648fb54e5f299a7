"""From the syntax tree of a kernel to LLVM: one method a node, nothing clever, LLVM does the rest.

Locals are stack slots, which LLVM turns to registers. Values are i64, double, or i1 for conditions; an array is an address.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from llvmlite import ir

from chainrule.native.kernel import Kernel, KernelError

_I1, _I64, _F64, _PTR = ir.IntType(1), ir.IntType(64), ir.DoubleType(), ir.PointerType()
_TYPES = {"int": _I64, "float": _F64, "Ints": _PTR, "Floats": _PTR, "None": ir.VoidType()}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_INT_OPS: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.LShift: "shl", ast.RShift: "ashr",
}  # fmt: skip
_FLOAT_OPS: dict[type[ast.operator], str] = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}


def module_of(kernel: Kernel[..., Any]) -> tuple[str, str]:
    """The text of a module with `kernel` and all that it calls, and the symbol of `kernel` in it."""
    module = ir.Module(name=kernel.function.__name__)
    known: dict[Kernel[..., Any], Any] = {}
    function = _lower(kernel, module, known)
    function.linkage = "external"
    return str(module), function.name


def _lower(kernel: Kernel[..., Any], module: Any, known: dict[Kernel[..., Any], Any]) -> Any:
    if kernel in known:
        return known[kernel]
    kinds = kernel.kinds
    result = _TYPES[kinds["return"]]
    names = [name for name in kinds if name != "return"]
    signature = ir.FunctionType(result, [_TYPES[kinds[name]] for name in names])
    function = ir.Function(module, signature, f"{kernel.function.__name__}.{len(known)}")
    function.linkage = "internal"
    known[kernel] = function
    for argument, name in zip(function.args, names, strict=True):
        if kinds[name] in ("Ints", "Floats"):
            argument.add_attribute("noalias")
    _Body(kernel, module, known, function, names).lower()
    return function


class _Body:
    """The lowering of one function; statements and expressions are methods named after their nodes."""

    def __init__(
        self, kernel: Kernel[..., Any], module: Any, known: dict[Kernel[..., Any], Any], function: Any, names: list[str]
    ) -> None:
        self.kernel, self.module, self.known, self.function = kernel, module, known, function
        self.globals = kernel.function.__globals__
        self.arrays: dict[str, tuple[Any, Any]] = {}
        self.locals: dict[str, Any] = {}
        self.loops: list[tuple[Any, Any]] = []
        self.entry = function.append_basic_block("entry")
        self.builder = ir.IRBuilder(function.append_basic_block("body"))
        for argument, name in zip(function.args, names, strict=True):
            kind = kernel.kinds[name]
            if kind in ("Ints", "Floats"):
                self.arrays[name] = (argument, _I64 if kind == "Ints" else _F64)
            else:
                self.store(name, argument)

    def lower(self) -> None:
        source = textwrap.dedent(inspect.getsource(self.kernel.function))
        tree = ast.parse(source).body[0]
        assert isinstance(tree, ast.FunctionDef)
        first = self.builder.block
        self.block(tree.body)
        if not self.builder.block.is_terminated:
            if self.kernel.kinds["return"] == "None":
                self.builder.ret_void()
            else:
                self.builder.unreachable()
        ir.IRBuilder(self.entry).branch(first)

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        code = self.kernel.function.__code__
        line = code.co_firstlineno + getattr(node, "lineno", 1) - 1
        raise KernelError(f"{code.co_filename}:{line}: {why} in kernel {self.kernel.function.__name__}")

    # Statements

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            method: Callable[[Any], None] | None = getattr(self, f"statement_{type(statement).__name__}", None)
            if method is None:
                self.refuse(statement, f"no {type(statement).__name__}")
            method(statement)

    def slot(self, name: str, kind: Any) -> Any:
        if name not in self.locals:
            self.locals[name] = ir.IRBuilder(self.entry).alloca(kind, name=name)
        return self.locals[name]

    def store(self, name: str, value: Any) -> None:
        slot = self.slot(name, value.type)
        if slot.allocated_type != value.type:
            raise KernelError(f"{name!r} changes its type in kernel {self.kernel.function.__name__}")
        self.builder.store(value, slot)

    def statement_Pass(self, node: ast.Pass) -> None:
        pass

    def statement_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.value(node.value)

    def statement_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def statement_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def statement_AugAssign(self, node: ast.AugAssign) -> None:
        self.assign(node.target, self.arithmetic(node, node.op, self.value(node.target), self.value(node.value)))

    def assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.store(target.id, value)
        elif isinstance(target, ast.Subscript):
            address, kind = self.element(target)
            self.builder.store(self.convert(value, kind), address)
        else:
            self.refuse(target, f"no assignment to {type(target).__name__}")

    def statement_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self.convert(self.value(node.value), self.function.function_type.return_type))

    def statement_If(self, node: ast.If) -> None:
        then, otherwise, after = (self.function.append_basic_block(n) for n in ("then", "else", "after"))
        self.builder.cbranch(self.condition(node.test), then, otherwise)
        for start, statements in ((then, node.body), (otherwise, node.orelse)):
            self.builder.position_at_end(start)
            self.block(statements)
            self.jump(after)
        self.builder.position_at_end(after)

    def jump(self, block: Any) -> None:
        if not self.builder.block.is_terminated:
            self.builder.branch(block)

    def statement_While(self, node: ast.While) -> None:
        test, body, after = (self.function.append_basic_block(n) for n in ("test", "loop", "after"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self.condition(node.test), body, after)
        self.loop(node.body, body, test, after)

    def loop(self, statements: list[ast.stmt], body: Any, next_: Any, after: Any) -> None:
        self.builder.position_at_end(body)
        self.loops.append((next_, after))
        self.block(statements)
        self.loops.pop()
        self.jump(next_)
        self.builder.position_at_end(after)

    def statement_For(self, node: ast.For) -> None:
        start, stop, step = self.range(node)
        test, body, next_, after = (self.function.append_basic_block(n) for n in ("test", "loop", "next", "after"))
        assert isinstance(node.target, ast.Name)
        counter = ir.IRBuilder(self.entry).alloca(_I64)
        self.builder.store(start, counter)
        self.builder.branch(test)
        self.builder.position_at_end(next_)
        self.builder.store(self.builder.add(self.builder.load(counter), _I64(step)), counter)
        self.builder.branch(test)
        self.builder.position_at_end(test)
        now = self.builder.load(counter)
        self.builder.cbranch(self.builder.icmp_signed("<" if step > 0 else ">", now, stop), body, after)
        self.builder.position_at_end(body)
        self.store(node.target.id, now)
        self.loop(node.body, body, next_, after)

    def range(self, node: ast.For) -> tuple[Any, Any, int]:
        call = node.iter
        counts = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"
        if not (counts and isinstance(call, ast.Call) and isinstance(node.target, ast.Name)):
            self.refuse(node, "only `for name in range(..)`")
        bounds = [self.value(a) for a in call.args[:2]]
        start, stop = (_I64(0), bounds[0]) if len(bounds) == 1 else bounds
        step = ast.literal_eval(call.args[2]) if len(call.args) == 3 else 1
        return start, stop, int(step)

    def statement_Break(self, node: ast.Break) -> None:
        self.builder.branch(self.loops[-1][1])

    def statement_Continue(self, node: ast.Continue) -> None:
        self.builder.branch(self.loops[-1][0])

    # Expressions

    def value(self, node: ast.expr) -> Any:
        method: Callable[[Any], Any] | None = getattr(self, f"value_{type(node).__name__}", None)
        if method is None:
            self.refuse(node, f"no {type(node).__name__}")
        return method(node)

    def condition(self, node: ast.expr) -> Any:
        value = self.value(node)
        return value if value.type == _I1 else self.builder.icmp_signed("!=", value, _I64(0))

    def convert(self, value: Any, kind: Any) -> Any:
        if value.type == kind:
            return value
        if kind == _F64:
            return self.builder.sitofp(self.convert(value, _I64), _F64)
        return self.builder.zext(value, _I64) if value.type == _I1 else self.builder.fptosi(value, _I64)

    def constant(self, node: ast.AST, value: object) -> Any:
        if isinstance(value, bool | int):
            return _I64(int(value))
        if not isinstance(value, float):
            self.refuse(node, f"no constant of type {type(value).__name__}")
        return _F64(value)

    def value_Constant(self, node: ast.Constant) -> Any:
        return self.constant(node, node.value)

    def value_Name(self, node: ast.Name) -> Any:
        if node.id in self.locals:
            return self.builder.load(self.locals[node.id])
        if node.id not in self.globals:
            self.refuse(node, f"{node.id!r} has no value yet")
        return self.constant(node, self.globals[node.id])

    def element(self, node: ast.Subscript) -> tuple[Any, Any]:
        if not (isinstance(node.value, ast.Name) and node.value.id in self.arrays):
            self.refuse(node, "only array parameters can be indexed")
        base, kind = self.arrays[node.value.id]
        return self.builder.gep(base, [self.convert(self.value(node.slice), _I64)], source_etype=kind), kind

    def value_Subscript(self, node: ast.Subscript) -> Any:
        address, kind = self.element(node)
        return self.builder.load(address, typ=kind)

    def value_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return self.builder.not_(self.condition(node.operand))
        value = self.value(node.operand)
        if isinstance(node.op, ast.Invert):
            return self.builder.not_(value)
        if isinstance(node.op, ast.USub):
            return self.builder.fneg(value) if value.type == _F64 else self.builder.neg(value)
        return value

    def value_BinOp(self, node: ast.BinOp) -> Any:
        return self.arithmetic(node, node.op, self.value(node.left), self.value(node.right))

    def arithmetic(self, node: ast.AST, op: ast.operator, left: Any, right: Any) -> Any:
        floating = _F64 in (left.type, right.type) or isinstance(op, ast.Div)
        kind, table = (_F64, _FLOAT_OPS) if floating else (_I64, _INT_OPS)
        left, right = self.convert(left, kind), self.convert(right, kind)
        if not floating and isinstance(op, ast.FloorDiv | ast.Mod):
            return self.floor_division(op, left, right)
        if type(op) not in table:
            self.refuse(node, f"no {type(op).__name__} of {kind}")
        return getattr(self.builder, table[type(op)])(left, right)

    def floor_division(self, op: ast.operator, left: Any, right: Any) -> Any:
        """Division as Python rounds it, downwards: LLVM's rounds to zero."""
        b = self.builder
        quotient, rest = b.sdiv(left, right), b.srem(left, right)
        differ = b.icmp_signed("<", b.xor(rest, right), _I64(0))
        down = b.and_(differ, b.icmp_signed("!=", rest, _I64(0)))
        if isinstance(op, ast.FloorDiv):
            return b.sub(quotient, b.zext(down, _I64))
        return b.add(rest, b.select(down, right, _I64(0)))

    def value_Compare(self, node: ast.Compare) -> Any:
        left, result = self.value(node.left), None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            if type(op) not in _COMPARE:
                self.refuse(node, f"no {type(op).__name__}")
            one = self.compare(_COMPARE[type(op)], left, right)
            result = one if result is None else self.builder.and_(result, one)
            left = right
        return result

    def compare(self, op: str, left: Any, right: Any) -> Any:
        if _F64 in (left.type, right.type):
            return self.builder.fcmp_ordered(op, self.convert(left, _F64), self.convert(right, _F64))
        return self.builder.icmp_signed(op, self.convert(left, _I64), self.convert(right, _I64))

    def value_BoolOp(self, node: ast.BoolOp) -> Any:
        stops_at = _I1(1 if isinstance(node.op, ast.Or) else 0)
        after = self.function.append_basic_block("decided")
        incoming = []
        for operand in node.values[:-1]:
            held = self.condition(operand)
            rest = self.function.append_basic_block("rest")
            incoming.append(self.builder.block)
            self.builder.cbranch(held, *((after, rest) if isinstance(node.op, ast.Or) else (rest, after)))
            self.builder.position_at_end(rest)
        last = self.condition(node.values[-1])
        last_block = self.builder.block
        self.builder.branch(after)
        self.builder.position_at_end(after)
        phi = self.builder.phi(_I1)
        for block in incoming:
            phi.add_incoming(stops_at, block)
        phi.add_incoming(last, last_block)
        return phi

    def value_IfExp(self, node: ast.IfExp) -> Any:
        then, otherwise, after = (self.function.append_basic_block(n) for n in ("then", "else", "after"))
        self.builder.cbranch(self.condition(node.test), then, otherwise)
        arms = []
        for start, expression in ((then, node.body), (otherwise, node.orelse)):
            self.builder.position_at_end(start)
            arms.append((self.value(expression), self.builder.block))
            self.builder.branch(after)
        self.builder.position_at_end(after)
        if arms[0][0].type != arms[1][0].type:
            self.refuse(node, "two types in one conditional expression")
        phi = self.builder.phi(arms[0][0].type)
        for value, block in arms:
            phi.add_incoming(value, block)
        return phi

    # Calls

    def value_Call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.refuse(node, "only positional calls by name")
        builtin: Callable[[list[Any]], Any] | None = getattr(self, f"call_{node.func.id}", None)
        if builtin is not None:
            return builtin([self.value(a) for a in node.args])
        callee = self.globals.get(node.func.id)
        if not isinstance(callee, Kernel):
            self.refuse(node, f"{node.func.id!r} is not a kernel")
        function = _lower(callee, self.module, self.known)
        return self.builder.call(function, self.arguments(node, function))

    def arguments(self, node: ast.Call, function: Any) -> list[Any]:
        kinds = function.function_type.args
        if len(kinds) != len(node.args):
            self.refuse(node, "wrong number of arguments")
        return [
            self.arrays[a.id][0] if isinstance(a, ast.Name) and a.id in self.arrays else self.scalar(a, kind)
            for a, kind in zip(node.args, kinds, strict=True)
        ]

    def scalar(self, node: ast.expr, kind: Any) -> Any:
        return self.convert(self.value(node), kind)

    def call_popcount(self, args: list[Any]) -> Any:
        return self.builder.ctpop(args[0])

    def call_lowest_bit(self, args: list[Any]) -> Any:
        return self.builder.cttz(args[0], _I1(1))

    def call_int(self, args: list[Any]) -> Any:
        return self.convert(args[0], _I64)

    def call_float(self, args: list[Any]) -> Any:
        return self.convert(args[0], _F64)

    def call_abs(self, args: list[Any]) -> Any:
        (x,) = args
        minus = self.builder.fneg(x) if x.type == _F64 else self.builder.neg(x)
        return self.builder.select(self.compare("<", x, x.type(0)), minus, x)

    def call_min(self, args: list[Any]) -> Any:
        return self.builder.select(self.compare("<", args[1], args[0]), args[1], args[0])

    def call_max(self, args: list[Any]) -> Any:
        return self.builder.select(self.compare(">", args[1], args[0]), args[1], args[0])
