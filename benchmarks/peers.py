"""Who chainrule's native code is measured against: each peer turns a case into a call, written as its own manual would.

A peer that is not installed is left out; one that cannot do a case says why. Peers in C and C++ are compiled with -O3
-march=native by the C or C++ compiler that is found. Results are flat lists of arrays: value then gradients, or the blocks.
"""

import ctypes
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

import chainrule as cr

Function = Callable[..., Any]


class Case(NamedTuple):
    """A formula by namespace, its arguments, and what is wanted: value and gradient in the first, or the batched Jacobian."""

    name: str
    kind: str
    formula: Callable[[Any], Function]
    args: tuple[Any, ...]
    jacobian: bool = False


class Skip(Exception):
    """Why a peer does not take part in a case."""


class Peer(ABC):
    """A library or language that differentiates: `prepare` returns the call that is timed, and `results` reads what it returned."""

    name: str

    @abstractmethod
    def prepare(self, case: Case) -> Callable[[], Any]:
        """The call, its arguments bound to it and already in the peer's own arrays."""

    def results(self, returned: Any) -> list[Any]:
        """What a call returned, as flat arrays of NumPy."""
        return [np.asarray(x) for x in leaves(returned)]


def leaves(tree: Any) -> list[Any]:
    return [y for x in tree for y in leaves(x)] if isinstance(tree, tuple | list) else [tree]


def mapped(f: Function, tree: Any) -> Any:
    return tuple(mapped(f, x) for x in tree) if isinstance(tree, tuple | list) else f(tree)


# ---- libraries of Python


class Chainrule(Peer):
    name = "chainrule"

    def prepare(self, case: Case) -> Callable[[], Any]:
        f, args = case.formula(np), case.args
        compiled = cr.jit(cr.vmap(cr.jacobian(f)) if case.jacobian else cr.value_and_grad(f))
        return lambda: compiled(*args)


class Jax(Peer):
    name = "JAX"
    formulas: ClassVar[dict[str, Callable[[Any], Function]]] = {}  # by kind, where they are not the case's own

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def prepare(self, case: Case) -> Callable[[], Any]:
        jax = self.jax
        if case.kind == "lorenz" and not self.formulas:
            raise Skip("compiles for minutes")
        f = self.formulas.get(case.kind, case.formula)(jax.numpy)
        compiled = jax.jit(jax.vmap(jax.jacrev(f)) if case.jacobian else jax.value_and_grad(f))
        args = mapped(jax.numpy.asarray, case.args)
        return lambda: jax.block_until_ready(compiled(*args))


def lorenz_by_scan(np: Any) -> Function:
    from jax import lax

    def step(x: Any, _: None) -> Any:
        ahead, behind, far = np.roll(x, -1), np.roll(x, 1), np.roll(x, 2)
        return x + 0.002 * ((ahead - far) * behind - x + 8.0), None

    return lambda x: np.sum(lax.scan(step, x, None, length=500)[0] ** 2)


def mixture_by_one_product(np: Any) -> Function:
    def f(p: Any, x: Any) -> Any:
        a, mu, factor = p
        k, d = mu.shape
        q = (x @ factor.reshape(k * d, d).T).reshape(-1, k, d) - np.einsum("kij,kj->ki", factor, mu)
        lp = a - 0.5 * np.sum(q * q, -1)
        top = np.max(lp, 1)
        return np.sum(top + np.log(np.sum(np.exp(lp - top[:, None]), 1)))

    return f


class JaxByExpert(Jax):
    """JAX on formulas rewritten for it by hand."""

    name = "JAX rewritten"
    formulas: ClassVar = {"lorenz": lorenz_by_scan, "mixture": mixture_by_one_product}

    def prepare(self, case: Case) -> Callable[[], Any]:
        if case.kind not in self.formulas:
            raise Skip("nothing to rewrite")
        return super().prepare(case)


class _TorchNames:
    """PyTorch under NumPy's names, as far as the formulas use them."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.torch, {"concatenate": "cat"}.get(name, name))

    def sum(self, x: Any, axis: Any = None) -> Any:
        return self.torch.sum(x) if axis is None else self.torch.sum(x, axis)

    def max(self, x: Any, axis: int) -> Any:
        return self.torch.amax(x, axis)


class Torch(Peer):
    name = "PyTorch"

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    def finish(self, f: Function) -> Function:
        return f

    def prepare(self, case: Case) -> Callable[[], Any]:
        torch = self.torch
        first, *rest = mapped(torch.from_numpy, case.args)
        f = case.formula(_TorchNames(torch))
        if case.jacobian:
            blocks = self.finish(torch.func.vmap(torch.func.jacrev(f)))
            return lambda: blocks(first, *rest)
        staged = self.finish(f)

        def call() -> Any:
            wanted = mapped(lambda x: x.detach().requires_grad_(), first)
            y = staged(wanted, *rest)
            return y, torch.autograd.grad(y, leaves(wanted))

        return call

    def results(self, returned: Any) -> list[Any]:
        return [x.detach().numpy() for x in leaves(returned)]


class TorchCompile(Torch):
    name = "torch.compile"

    def finish(self, f: Function) -> Function:
        self.torch._dynamo.reset()
        return self.torch.compile(f)

    def prepare(self, case: Case) -> Callable[[], Any]:
        if case.kind == "lorenz":
            raise Skip("compiles for minutes")
        return super().prepare(case)


class Autograd(Peer):
    name = "autograd"

    def __init__(self) -> None:
        import autograd
        import autograd.numpy

        self.autograd = autograd

    def prepare(self, case: Case) -> Callable[[], Any]:
        if case.jacobian:
            raise Skip("has no vmap")
        call = self.autograd.value_and_grad(case.formula(self.autograd.numpy))
        return lambda: call(*case.args)


# ---- compiled languages


def built(source: Path, compiler: str) -> str:
    """The shared library of a C or C++ file, beside it."""
    target = source.with_suffix(".so")
    subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    return str(target)


def compiler(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise ImportError(f"no compiler: none of {', '.join(names)} is on PATH")
    return found


class ByHand(Peer):
    """Derivatives written by hand in C++, called into buffers that are kept."""

    name = "C++ by hand"

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        source = Path(shutil.copy(Path(__file__).with_name("by_hand.cpp"), self.folder.name))
        self.library = ctypes.CDLL(built(source, compiler("g++", "clang++", "c++")))

    def prepare(self, case: Case) -> Callable[[], Any]:
        arrays = [np.ascontiguousarray(x) for x in leaves(case.args)]
        wanted = leaves(case.args[0])
        out = [np.empty((len(arrays[0]), 2, 15))] if case.jacobian else [np.zeros(()), *map(np.empty_like, wanted)]
        sizes = {
            "lorenz": lambda: [ctypes.c_size_t(40), ctypes.c_size_t(500), ctypes.c_double(0.002)],
            "mixture": lambda: [ctypes.c_size_t(n) for n in (arrays[3].shape[0], *arrays[1].shape[::-1])],
            "network": lambda: [ctypes.c_size_t(n) for n in arrays[4].shape],
        }.get(case.kind, lambda: [ctypes.c_size_t(len(arrays[0]))])()
        function = getattr(self.library, case.kind)
        function.restype = None
        given = (*sizes, *(ctypes.c_void_p(x.ctypes.data) for x in (*arrays, *out)))

        def call(keep: Any = arrays) -> Any:
            function(*given)
            return out

        return call


ENZYME = {
    "rosenbrock": """
template<std::size_t N> void f(enzyme::tensor<double>& out, const enzyme::tensor<double, N>& x) {
    double sum = 0;
    for (std::size_t i = 0; i + 1 < N; i++) {
        double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
        sum += 100 * a * a + b * b;
    }
    out = sum;
}""",
    "smooth": """
template<std::size_t N> void f(enzyme::tensor<double>& out, const enzyme::tensor<double, N>& x) {
    double sum = 0;
    for (std::size_t i = 0; i < N; i++)
        sum += __builtin_sin(x[i]) * __builtin_exp(-x[i] * x[i]) + __builtin_log(1 + x[i] * x[i]);
    out = sum;
}""",
    "lorenz": """
template<std::size_t N> void f(enzyme::tensor<double>& out, const enzyme::tensor<double, N>& start) {
    double x[N], next[N], sum = 0;
    for (std::size_t i = 0; i < N; i++) x[i] = start[i];
    for (int t = 0; t < 500; t++) {
        for (std::size_t i = 0; i < N; i++) {
            double ahead = x[i + 1 < N ? i + 1 : 0], behind = x[i ? i - 1 : N - 1], far = x[i > 1 ? i - 2 : N + i - 2];
            next[i] = x[i] + 0.002 * ((ahead - far) * behind - x[i] + 8.0);
        }
        for (std::size_t i = 0; i < N; i++) x[i] = next[i];
    }
    for (std::size_t i = 0; i < N; i++) sum += x[i] * x[i];
    out = sum;
}""",
}


class Enzyme(Peer):
    """C++ differentiated by Enzyme, through Enzyme-JAX: a call includes what JAX takes to dispatch one."""

    name = "Enzyme"

    def __init__(self) -> None:
        import jax
        from enzyme_ad.jax import cpp_call

        jax.config.update("jax_enable_x64", True)
        self.jax, self.cpp_call = jax, cpp_call

    def prepare(self, case: Case) -> Callable[[], Any]:
        if case.kind not in ENZYME:
            raise Skip("not written for it")
        jax, scalar = self.jax, self.jax.core.ShapedArray([], self.jax.numpy.float64)

        def f(x: Any) -> Any:
            return self.cpp_call(x, out_shapes=[scalar], source=ENZYME[case.kind], fn="f")[0]

        compiled, x = jax.jit(jax.value_and_grad(f)), jax.numpy.asarray(case.args[0])
        return lambda: jax.block_until_ready(compiled(x))


class CasADi(Peer):
    """CasADi's C code, compiled, and called into buffers that are kept."""

    name = "CasADi C"

    def __init__(self) -> None:
        import casadi

        self.casadi, self.compiler = casadi, compiler("gcc", "clang", "cc")
        self.folder = tempfile.TemporaryDirectory()

    def prepare(self, case: Case) -> Callable[[], Any]:
        function, given = getattr(self, "_" + case.kind)(case)
        buffer, trigger = self._native(function).buffer()
        given = [np.ravel(x, order="F") for x in given]
        out = [np.zeros(function.numel_out(i)) for i in range(function.n_out())]
        for i, x in enumerate(given):
            buffer.set_arg(i, memoryview(x))
        for i, x in enumerate(out):
            buffer.set_res(i, memoryview(x))
        batch, shapes = (
            case.args[0].shape[0] if case.jacobian else 0,
            [function.size_out(i) for i in range(function.n_out())],
        )

        def call(keep: Any = (buffer, given)) -> Any:
            trigger()
            return out

        def read(found: list[Any]) -> list[Any]:
            matrices = [x.reshape(shape, order="F") for x, shape in zip(found, shapes, strict=True)]
            if case.jacobian:
                return [matrices[0].reshape(2, 15, batch, order="F").transpose(2, 0, 1)]
            wanted = [(), *map(np.shape, leaves(case.args[0]))]
            return [self._as(x, shape) for x, shape in zip(matrices, wanted, strict=True)]

        self._read = read
        return call

    @staticmethod
    def _as(x: Any, shape: tuple[int, ...]) -> Any:
        """A matrix of CasADi's in the shape of the argument it belongs to; a stack has its matrices side by side, transposed."""
        return x if x.shape == shape else x.T.reshape(shape)

    def results(self, returned: Any) -> list[Any]:
        return self._read([x.copy() for x in returned])

    def _native(self, function: Any) -> Any:
        folder = Path(tempfile.mkdtemp(dir=self.folder.name))
        generator = self.casadi.CodeGenerator(f"{function.name()}.c")
        generator.add(function)
        source = Path(generator.generate(f"{folder}/"))
        return self.casadi.external(function.name(), built(source, self.compiler))

    def _gradient(self, inputs: Any, wanted: list[Any], value: Any) -> Any:
        return self.casadi.Function("f", inputs, [value, *(self.casadi.gradient(value, x) for x in wanted)])

    def _of_vector(self, case: Case, value: Function) -> tuple[Any, list[Any]]:
        kind = self.casadi.SX if len(case.args[0]) <= 100 else self.casadi.MX
        x = kind.sym("x", len(case.args[0]))
        return self._gradient([x], [x], value(x)), [case.args[0]]

    def _rosenbrock(self, case: Case) -> tuple[Any, list[Any]]:
        ca = self.casadi
        return self._of_vector(case, lambda x: ca.sum1(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    def _smooth(self, case: Case) -> tuple[Any, list[Any]]:
        ca = self.casadi
        return self._of_vector(case, lambda x: ca.sum1(ca.sin(x) * ca.exp(-(x**2)) + ca.log(1 + x**2)))

    def _lorenz(self, case: Case) -> tuple[Any, list[Any]]:
        ca = self.casadi
        x = ca.SX.sym("x", 40)
        ahead, behind, far = (ca.vertcat(x[k:], x[:k]) for k in (1, -1, -2))
        step = ca.Function("step", [x], [x + 0.002 * ((ahead - far) * behind - x + 8.0)])
        start = ca.MX.sym("start", 40)
        end = step.fold(500)(start)
        return self._gradient([start], [start], ca.dot(end, end)), [case.args[0]]

    def _network(self, case: Case) -> tuple[Any, list[Any]]:
        ca, ((w1, b1, w2, b2), x, y) = self.casadi, case.args
        names = [
            ca.MX.sym(name, *np.atleast_2d(v).shape) for name, v in zip("abcdxy", (w1, b1, w2, b2, x, y), strict=True)
        ]
        rows = len(x)
        hidden = ca.tanh(names[4] @ names[0] + ca.repmat(names[1], rows, 1))
        error = ca.tanh(hidden @ names[2] + ca.repmat(names[3], rows, 1)) - names[5]
        function = self._gradient(names, names[:4], ca.sumsqr(error) / error.numel())
        return function, [np.atleast_2d(v) for v in (w1, b1, w2, b2, x, y)]

    def _bundle(self, case: Case) -> tuple[Any, list[Any]]:
        ca = self.casadi
        v = ca.SX.sym("v", 15)
        r, c, k, x, w = v[0:3], v[3:6], v[9:11], v[11:14], v[14]
        theta = ca.norm_2(r)
        n, p = r / theta, x - c
        q = p * ca.cos(theta) + ca.cross(n, p) * ca.sin(theta) + n * (ca.dot(n, p) * (1 - ca.cos(theta)))
        xy = q[:2] / q[2]
        rs = ca.dot(xy, xy)
        out = w * (xy * (1 + k[0] * rs + k[1] * rs * rs) * v[6] + v[7:9])
        one = ca.Function("one", [v], [ca.densify(ca.jacobian(out, v))])
        return one.map(len(case.args[0])), [case.args[0].T]

    def _mixture(self, case: Case) -> tuple[Any, list[Any]]:
        ca, ((a, mu, factor), points) = self.casadi, case.args
        k, d = mu.shape
        if d > 10:
            raise Skip("code too large")
        names = [ca.SX.sym("a", k), ca.SX.sym("m", d, k), ca.SX.sym("f", d, d * k), ca.SX.sym("x", d)]
        distances = (names[2][:, i * d : (i + 1) * d].T @ (names[3] - names[1][:, i]) for i in range(k))
        lp = names[0] - 0.5 * ca.vertcat(*(ca.sumsqr(q) for q in distances))
        top = ca.mmax(lp)
        one = self._gradient(names, names[:3], top + ca.log(ca.sum1(ca.exp(lp - top))))
        n = len(points)
        together = one.map("f", "serial", n, [0, 1, 2], [0, 1, 2, 3])
        return together, [a, mu.T, factor.transpose(2, 0, 1).reshape(d, d * k), points.T]


def peers(names: list[str]) -> Iterator[Peer]:
    """Those that are asked for, or all; without those that are not installed, which are named."""
    for make in (Jax, JaxByExpert, Torch, TorchCompile, Autograd, CasADi, Enzyme, ByHand):
        if names and make.name not in names:
            continue
        try:
            yield make()
        except ImportError as missing:
            print(f"without {make.name}: {missing}", flush=True)
