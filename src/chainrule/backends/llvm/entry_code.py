"""The code of the native entry: one C-level function for all compiled functions, which reads from tables what to check and make.

    entry(state, args, nargs, kwnames)    for each candidate of the state: match, perform; where none is left, the Python path
    match(candidate, args, ...)           walk the arguments' tree and compare all that the compiled code relies on
    perform(candidate)                    allocate, run, compare the guards, and put the results into their tree

`entry_tables` says what is in the tables, and `entry` fills them. Nothing in the code is an address of this process, so it is
kept on disk and shared by every function. A candidate's tables hold its call under way, so one that is busy (run by another
thread, or by a finaliser within its own call) is passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from chainrule.backends.llvm import assembly, cpython
from chainrule.backends.llvm.assembly import I1, I8, I32, I64, PTR
from chainrule.backends.llvm.entry_tables import (
    Build,
    Candidate,
    Function,
    Guard,
    How,
    Kind,
    Make,
    Node,
    Overlap,
    State,
    What,
)

NULL = assembly.Constant(PTR, None)
VOID = assembly.VOID


def module(triple: str) -> Any:
    """The module with `entry`."""
    whole = assembly.Module(triple)
    match = _Match(whole).function
    perform = _Perform(whole).function
    _Entry(whole, match, perform)
    return whole


class _Emitter:
    """A function under construction."""

    def __init__(self, whole: Any, name: str, returned: Any, args: Sequence[Any], *, internal: bool = False) -> None:
        self.function = assembly.Function(whole, assembly.FunctionType(returned, args), name, internal=internal)
        self.builder = assembly.Builder(self.function.append_basic_block("entry"))

    def field(self, x: Any, offset: Any, kind: Any) -> Any:
        """What lies at so many bytes after a pointer."""
        at = offset if not isinstance(offset, int) else I64(offset)
        return self.builder.load(self.builder.gep(x, [at], source_etype=I8), typ=kind)

    def word(self, record: Any, k: int, kind: Any = I64) -> Any:
        """A word of a record."""
        return self.builder.load(self.place(record, k), typ=kind)

    def put(self, record: Any, k: int, value: Any) -> None:
        """Set a word of a record."""
        self.builder.store(value, self.place(record, k))

    def place(self, record: Any, k: int) -> Any:
        return self.builder.gep(record, [I64(k)], source_etype=I64)

    def data(self, slot: Any) -> Any:
        """The address that a slot holds."""
        return self.builder.load(slot, typ=PTR)

    @contextlib.contextmanager
    def each(self, table: Any, k: int, size: int) -> Iterator[Any]:
        """A loop over the records of the table at word k."""
        first = self.word(table, k + 1, PTR)
        with self.count(self.word(table, k)) as i:
            yield self.builder.gep(first, [self.builder.mul(i, I64(size))], source_etype=I64)

    @contextlib.contextmanager
    def count(self, stop: Any) -> Iterator[Any]:
        """for i in range(stop)."""
        b = self.builder
        before = b.block
        head, body, done = (self.function.append_basic_block(n) for n in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(I64(0), before)
        b.cbranch(b.icmp_unsigned("<", i, stop), body, done)
        b.position_at_end(body)
        yield i
        i.add_incoming(b.add(i, I64(1)), b.block)
        b.branch(head)
        b.position_at_end(done)

    def equal(self, a: Any, b: Any) -> Any:
        return self.builder.icmp_unsigned("==", a, b)

    def require(self, condition: Any, otherwise: Any) -> None:
        """Go on where the condition holds."""
        following = self.function.append_basic_block("held")
        self.builder.cbranch(condition, following, otherwise)
        self.builder.position_at_end(following)

    @contextlib.contextmanager
    def where(self, condition: Any, *, likely: bool | None = None) -> Iterator[None]:
        with self.builder.if_then(condition, likely=likely):
            yield

    def choose(self, value: Any, cases: dict[int, Any], otherwise: Any) -> Any:
        """What the case that a value is gives; the cases are functions that emit code, and may branch to `otherwise` themselves."""
        b = self.builder
        after = self.function.append_basic_block("chosen")
        blocks = [self.function.append_basic_block("case") for _ in cases]
        b.switch(value, otherwise, [(I64(number), block) for number, block in zip(cases, blocks, strict=True)])
        found = []
        for emit, block in zip(cases.values(), blocks, strict=True):
            b.position_at_end(block)
            found.append((emit(), b.block))
            b.branch(after)
        b.position_at_end(after)
        if found[0][0] is None:
            return None
        phi = b.phi(found[0][0].type)
        for one, block in found:
            phi.add_incoming(one, block)
        return phi

    def c(self, functions: Any, name: Function, returned: Any, args: Sequence[Any]) -> Any:
        """Call a C function of the table."""
        return self.builder.call_pointer(self.word(functions, name, PTR), returned, args)


class _Match(_Emitter):
    """match(candidate, args, nargs, kwnames): whether the arguments are what a candidate takes."""

    def __init__(self, whole: Any) -> None:
        super().__init__(whole, "match", I1, [PTR, PTR, I64, PTR], internal=True)
        b = self.builder
        self.candidate, self.args, count, self.names = self.function.args
        self.otherwise = self.function.append_basic_block("otherwise")
        self.functions = self.word(self.candidate, Candidate.functions, PTR)
        self.put(self.candidate, Candidate.held, I64(0))
        self.require(self.equal(self.word(self.candidate, Candidate.positional), count), self.otherwise)
        self.require(self.equal(self.word(self.candidate, Candidate.named), self._named()), self.otherwise)
        holds = b.icmp_unsigned("!=", self.word(self.candidate, Candidate.holds), I64(0))
        with self.each(self.candidate, Candidate.nodes, Node.size) as node:
            x = self._object(node)
            self.put(node, Node.object, x)
            with self.where(holds):
                self.c(self.functions, Function.incref, VOID, [x])
                held = self.word(self.candidate, Candidate.held)
                self.put(self.candidate, Candidate.held, b.add(held, I64(1)))
            self._check(node, x)
        with self.each(self.candidate, Candidate.overlaps, Overlap.size) as pair:
            self._apart(pair)
        b.ret(I1(1))
        b.position_at_end(self.otherwise)
        b.ret(I1(0))

    def _named(self) -> Any:
        """How many arguments are given by name."""
        b = self.builder
        before, after = b.block, self.function.append_basic_block("counted")
        some = self.function.append_basic_block("names")
        b.cbranch(self.equal(self.names, NULL), after, some)
        b.position_at_end(some)
        n = self.field(self.names, cpython.SIZE, I64)
        b.branch(after)
        b.position_at_end(after)
        phi = b.phi(I64)
        phi.add_incoming(I64(0), before)
        phi.add_incoming(n, some)
        return phi

    def _object(self, node: Any) -> Any:
        b = self.builder
        index = self.word(node, Node.index)

        def item(items: Any) -> Any:
            return b.load(b.gep(items, [index], source_etype=PTR), typ=PTR)

        def of_tuple(whole: Any) -> Any:
            return item(b.gep(whole, [I64(cpython.tuple_items())], source_etype=I8))

        def parent() -> Any:
            return self.word(self.word(node, Node.parent, PTR), Node.object, PTR)

        def of_list() -> Any:  # a key of a dict that was met since may have run code that changed the list
            whole = parent()
            self.require(b.icmp_unsigned("<", index, self.field(whole, cpython.SIZE, I64)), self.otherwise)
            return item(self.field(whole, cpython.LIST_ITEMS, PTR))

        return self.choose(
            self.word(node, Node.how),
            {
                How.argument: lambda: item(self.args),
                How.keyword: lambda: of_tuple(self.names),
                How.tuple: lambda: of_tuple(parent()),
                How.list: of_list,
                How.dict: lambda: self._of_dict(parent(), self.word(node, Node.index, PTR)),
            },
            self.otherwise,
        )

    def _of_dict(self, whole: Any, key: Any) -> Any:
        found = self.c(self.functions, Function.dict_get, PTR, [whole, key])
        missing = self.equal(found, NULL)
        with self.where(missing, likely=False):
            self.c(self.functions, Function.clear, VOID, [])
        self.require(self.builder.not_(missing), self.otherwise)
        return found

    def _check(self, node: Any, x: Any) -> None:
        b = self.builder
        wanted = self.word(node, Node.type, PTR)
        kind = self.word(node, Node.kind)
        same = self.equal(kind, I64(Kind.same))
        found = b.select(same, x, self.field(x, cpython.TYPE, PTR))
        fits = b.or_(self.equal(found, wanted), self.equal(found, self.word(node, Node.other, PTR)))
        self.require(fits, self.otherwise)
        self.choose(
            kind,
            {
                Kind.same: lambda: None,
                Kind.container: lambda: self._counted(node, x, cpython.SIZE),
                Kind.dict: lambda: self._counted(node, x, cpython.DICT_SIZE),
                Kind.array: lambda: self._array(node, x),
                Kind.number: lambda: self._put(node, b.gep(x, [I64(cpython.VALUE)], source_etype=I8)),
                Kind.integer: lambda: self._integer(node, x),
            },
            self.otherwise,
        )

    def _counted(self, node: Any, x: Any, size: int) -> None:
        self.require(self.equal(self.field(x, size, I64), self.word(node, Node.count)), self.otherwise)

    def _put(self, node: Any, data: Any) -> None:
        self.builder.store(data, self.word(node, Node.slot, PTR))

    def _array(self, node: Any, x: Any) -> None:
        b = self.builder
        flags = b.trunc(self.word(node, Node.flags), I32)
        alike = self.equal(b.and_(self.field(x, cpython.FLAGS, I32), flags), flags)
        rank = self.word(node, Node.count)
        alike = b.and_(alike, self.equal(b.zext(self.field(x, cpython.RANK, I32), I64), rank))
        dtype = self.equal(self.field(x, cpython.DTYPE, PTR), self.word(node, Node.dtype, PTR))
        self.require(b.and_(alike, dtype), self.otherwise)
        shape, dims = self.field(x, cpython.SHAPE, PTR), self.word(node, Node.dims, PTR)
        with self.count(rank) as k:
            n, wanted = (b.load(b.gep(p, [k], source_etype=I64), typ=I64) for p in (shape, dims))
            self.require(self.equal(n, wanted), self.otherwise)
        self._put(node, self.field(x, cpython.DATA, PTR))

    def _integer(self, node: Any, x: Any) -> None:
        """An int of Python, where it has 64 bits; Node.dims is a place that is set where it has not."""
        overflow = self.word(node, Node.dims, PTR)
        value = self.c(self.functions, Function.integer, I64, [x, overflow])
        self.require(self.equal(self.builder.load(overflow, typ=I32), I32(0)), self.otherwise)
        self.put(node, Node.value, value)
        self._put(node, self.place(node, Node.value))

    def _apart(self, pair: Any) -> None:
        b = self.builder
        one, other = (b.ptrtoint(self.data(self.word(pair, k, PTR)), I64) for k in (Overlap.slot, Overlap.other))
        ends = [b.add(start, self.word(pair, k)) for start, k in ((one, Overlap.nbytes), (other, Overlap.other_nbytes))]
        apart = b.or_(b.icmp_unsigned("<=", ends[0], other), b.icmp_unsigned("<=", ends[1], one))
        self.require(apart, self.otherwise)


class _Perform(_Emitter):
    """perform(candidate): the result; NULL with an exception; or the candidate itself where it is not for these values."""

    def __init__(self, whole: Any) -> None:
        super().__init__(whole, "perform", PTR, [PTR], internal=True)
        b = self.builder
        self.candidate = self.function.args[0]
        self.functions = self.word(self.candidate, Candidate.functions, PTR)
        self.failed = self.function.append_basic_block("failed")
        self.strayed = self.function.append_basic_block("strayed")
        self._allocate()
        self._run()
        with self.each(self.candidate, Candidate.guards, Guard.size) as guard:
            self._compare(guard)
        with self.each(self.candidate, Candidate.copies, Guard.size) as copy:
            self._copy(copy)
        b.ret(self._build())
        for block, result in ((self.failed, NULL), (self.strayed, self.candidate)):
            b.position_at_end(block)
            self._drop()
            b.ret(result)

    def _drop(self) -> None:
        """Drop what was made and is in no container."""
        with self.each(self.candidate, Candidate.makes, Make.size) as make:
            made = self.word(make, Make.object, PTR)
            with self.where(self.builder.icmp_unsigned("!=", made, NULL)):
                self.c(self.functions, Function.decref, VOID, [made])
                self.put(make, Make.object, NULL)

    def _allocate(self) -> None:
        b = self.builder
        with self.each(self.candidate, Candidate.makes, Make.size) as make:
            made = self.c(
                self.functions,
                Function.array,
                PTR,
                [
                    self.word(self.functions, Function.ndarray, PTR),
                    b.trunc(self.word(make, Make.rank), I32),
                    self.word(make, Make.dims, PTR),
                    b.trunc(self.word(make, Make.number), I32),
                    *(NULL, NULL, I32(0), I32(0), NULL),
                ],
            )
            self.put(make, Make.object, made)
            self.require(b.icmp_unsigned("!=", made, NULL), self.failed)
            b.store(self.field(made, cpython.DATA, PTR), self.word(make, Make.slot, PTR))

    def _run(self) -> None:
        b = self.builder
        status = self.word(self.candidate, Candidate.status, PTR)
        b.store(I32(0), status)
        code = self.word(self.candidate, Candidate.code, PTR)
        table = self.word(self.candidate, Candidate.table, PTR)
        releases = b.icmp_unsigned("!=", self.word(self.candidate, Candidate.releases), I64(0))
        long, short, done = (self.function.append_basic_block(name) for name in ("long", "short", "done"))
        b.cbranch(releases, long, short, likely=False)
        b.position_at_end(long)
        thread = self.c(self.functions, Function.save, PTR, [])
        b.call_pointer(code, VOID, [table, I64(0)])
        self.c(self.functions, Function.restore, VOID, [thread])
        b.branch(done)
        b.position_at_end(short)
        b.call_pointer(code, VOID, [table, I64(0)])
        b.branch(done)
        b.position_at_end(done)
        self.require(self.equal(b.load(status, typ=I32), I32(0)), self.strayed)

    def _compare(self, guard: Any) -> None:
        b = self.builder
        found, expected = self.data(self.word(guard, Guard.slot, PTR)), self.word(guard, Guard.expected, PTR)
        with self.count(self.word(guard, Guard.nbytes)) as k:
            one, other = (b.load(b.gep(p, [k], source_etype=I8), typ=I8) for p in (found, expected))
            self.require(self.equal(one, other), self.strayed)

    def _copy(self, copy: Any) -> None:
        b = self.builder
        to, source = (self.data(self.word(copy, k, PTR)) for k in (Guard.slot, Guard.expected))
        b.intrinsic("llvm.memcpy.p0.p0.i64", VOID, [to, source, self.word(copy, Guard.nbytes), I1(0)])

    # ---- the results

    def _build(self) -> Any:
        b = self.builder
        root = b.alloca(PTR)
        b.store(NULL, root)
        with self.each(self.candidate, Candidate.builds, Build.size) as build:
            made = self._part(build)
            self.put(build, Build.object, made)
            with self.where(self.equal(made, NULL), likely=False):
                whole = b.load(root, typ=PTR)
                with self.where(b.icmp_unsigned("!=", whole, NULL)):
                    self.c(self.functions, Function.decref, VOID, [whole])
                b.branch(self.failed)
            self._attach(build, made, root)
        return b.load(root, typ=PTR)

    def _part(self, build: Any) -> Any:
        operand = self.word(build, Build.operand, PTR)
        count = self.word(build, Build.operand)
        return self.choose(
            self.word(build, Build.what),
            {
                What.array: lambda: self._taken(operand),
                What.scalar: lambda: self._scalar(build, operand),
                What.float64: lambda: self._float64(operand),
                What.object: lambda: self._again(operand),
                What.given: lambda: self._again(self.word(operand, Node.object, PTR)),
                What.tuple: lambda: self.c(self.functions, Function.tuple, PTR, [count]),
                What.list: lambda: self.c(self.functions, Function.list, PTR, [count]),
                What.dict: lambda: self.c(self.functions, Function.dict, PTR, []),
            },
            self.failed,
        )

    def _taken(self, make: Any) -> Any:
        made = self.word(make, Make.object, PTR)
        self.put(make, Make.object, NULL)
        return made

    def _scalar(self, build: Any, slot: Any) -> Any:
        return self.c(self.functions, Function.scalar, PTR, [self.data(slot), self.word(build, Build.dtype, PTR), NULL])

    def _float64(self, slot: Any) -> Any:
        """A scalar of float64, which is a float in memory, without the ways round of NumPy's general function."""
        b = self.builder
        made = self.c(
            self.functions, Function.float64_new, PTR, [self.word(self.functions, Function.float64, PTR), I64(0)]
        )
        with self.where(b.icmp_unsigned("!=", made, NULL), likely=True):
            place = b.gep(made, [I64(cpython.VALUE)], source_etype=I8)
            b.store(b.load(self.data(slot), typ=I64), place)
        return made

    def _again(self, x: Any) -> Any:
        self.c(self.functions, Function.incref, VOID, [x])
        return x

    def _attach(self, build: Any, made: Any, root: Any) -> None:
        """Put a part into its container, which owns it from then on."""
        b = self.builder
        how = self.word(build, Build.how)
        index = self.word(build, Build.index)

        def parent() -> Any:
            return self.word(self.word(build, Build.parent, PTR), Build.object, PTR)

        def into_dict() -> None:
            key = self.word(build, Build.index, PTR)
            failed = self.c(self.functions, Function.dict_set, I32, [parent(), key, made])
            self.c(self.functions, Function.decref, VOID, [made])
            with self.where(b.icmp_signed("<", failed, I32(0)), likely=False):
                self.c(self.functions, Function.decref, VOID, [b.load(root, typ=PTR)])
                b.branch(self.failed)

        def into(name: Function) -> None:
            self.c(self.functions, name, I32, [parent(), index, made])

        self.choose(
            how,
            {
                -1: lambda: b.store(made, root),
                How.tuple: lambda: into(Function.tuple_set),
                How.list: lambda: into(Function.list_set),
                How.dict: into_dict,
            },
            self.failed,
        )


class _Entry(_Emitter):
    """entry(owner, args, nargs, kwnames): the function that Python calls; its owner is an array, whose data are the state."""

    def __init__(self, whole: Any, match: Any, perform: Any) -> None:
        super().__init__(whole, "entry", PTR, [PTR, PTR, I64, PTR])
        b = self.builder
        owner, args, count, names = self.function.args
        state = self.field(owner, cpython.DATA, PTR)
        functions = self.word(state, State.functions, PTR)
        with self.count(self.word(state, State.count)) as k:
            candidate = b.load(b.gep(state, [b.add(k, I64(State.first))], source_etype=I64), typ=PTR)
            idle = self.equal(self.word(candidate, Candidate.busy), I64(0))
            with self.where(idle, likely=True):
                self.put(candidate, Candidate.busy, I64(1))
                before, after = b.block, self.function.append_basic_block("tried")
                fits = self.function.append_basic_block("fits")
                b.cbranch(b.call(match, [candidate, args, count, names]), fits, after)
                b.position_at_end(fits)
                made = b.call(perform, [candidate])
                b.branch(after)
                b.position_at_end(after)
                result = b.phi(PTR)
                result.add_incoming(candidate, before)
                result.add_incoming(made, fits)
                self._let_go(functions, candidate)
                self.put(candidate, Candidate.busy, I64(0))
                with self.where(b.icmp_unsigned("!=", result, candidate)):
                    b.ret(result)
        b.ret(self.c(functions, Function.call, PTR, [self.word(state, State.slow, PTR), args, count, names]))

    def _let_go(self, functions: Any, candidate: Any) -> None:
        """Drop the references to arguments that were held."""
        first = self.word(candidate, Candidate.nodes + 1, PTR)
        with self.count(self.word(candidate, Candidate.held)) as k:
            node = self.builder.gep(first, [self.builder.mul(k, I64(Node.size))], source_etype=I64)
            self.c(functions, Function.decref, VOID, [self.word(node, Node.object, PTR)])
