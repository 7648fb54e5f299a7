"""The laws of derivatives over functions: a table of cases, each a NumPy function with arguments, and what must hold of every one.

    CASES = [Case("diff", lambda x: np.diff(x, n=2), vector(5)), ...]

    @pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_law(law, case):
        law(case)

Every law raises AssertionError where it does not hold. `others` are further arguments of the same shapes, by default the
elements of the given ones in another order: on them programs are replayed, and with them batches are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule import api
from chainrule.ir.types import Array
from chainrule.trace import tree

Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, and floating or complex arguments in which it is smooth.

    `order` is how often it is differentiated (0: its results carry no derivative), `batched` whether vmap covers it,
    `replayed` whether a program of it holds for other arguments, `step` the step of differences.
    """

    name: str
    f: Function
    args: tuple[Any, ...]
    _: dataclasses.KW_ONLY
    others: tuple[Any, ...] | None = None
    order: int = 2
    batched: bool = True
    replayed: bool = True
    step: float = 1e-3
    rtol: float = 1e-6

    def __str__(self) -> str:
        return self.name


def case(name: str, f: Function, *args: Any, **options: Any) -> Case:
    """A case with its arguments in a row."""
    return Case(name, f, tuple(np.asarray(a)[()] for a in args), **options)


def draw(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """A sample array without ties, its elements spread evenly over an interval in random order."""
    n = int(np.prod(shape))
    rng = np.random.default_rng(seed)
    return np.asarray(
        low + (high - low) * rng.permutation((np.arange(n) + rng.uniform(0.3, 0.7, n)) / max(n, 1))
    ).reshape(shape)[()]


def others(c: Case) -> tuple[Any, ...]:
    """Further arguments of the same shapes and domain."""
    if c.others is not None:
        return c.others
    rng = np.random.default_rng(17)
    return tuple(rng.permutation(np.ravel(a)).reshape(np.shape(a))[()] for a in c.args)


def leaves(out: Any) -> list[Any]:
    """The arrays of a result: of a tuple or list its items'."""
    return [x if hasattr(x, "dtype") else np.asarray(x)[()] for x in tree.flatten(out)[0]]


def differentiable(out: Sequence[Any]) -> list[Any]:
    """The floating and complex ones among arrays."""
    return [x for x in out if x.dtype.kind in "fc"]


def _direction(x: Array, rng: np.random.Generator) -> Array:
    t = rng.standard_normal(np.shape(x))
    if x.dtype.kind == "c":
        t = t + 1j * rng.standard_normal(np.shape(x))
    return np.asarray(t, x.dtype)[()]


def _directions(xs: Sequence[Array], seed: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(_direction(x, rng) for x in xs)


def _pairing(a: Sequence[Array], b: Sequence[Array]) -> float:
    return float(sum(np.real(np.sum(x * y)) for x, y in zip(a, b, strict=True)))


def _close(what: str, found: Any, expected: Any, rtol: float, atol: float = 1e-9) -> None:
    assert np.shape(found) == np.shape(expected), f"{what}: shape {np.shape(found)}, expected {np.shape(expected)}"
    scale = float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol + rtol * scale, err_msg=what)


def _same(what: str, found: Any, expected: Any) -> None:
    """Equal types, and values equal to rounding."""
    found, expected = leaves(found), leaves(expected)
    assert len(found) == len(expected), f"{what}: {len(found)} arrays, expected {len(expected)}"
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype, f"{what}: dtype {f.dtype}, expected {e.dtype}"
        if e.dtype.kind in "fc":
            _close(what, f, e, 20 * float(np.finfo(e.dtype).eps))
        else:
            np.testing.assert_array_equal(f, e, err_msg=what)


def _flat(c: Case) -> Callable[..., tuple[Any, ...]]:
    """The function with its differentiable outputs as a tuple."""

    def f(*xs: Any) -> tuple[Any, ...]:
        return tuple(differentiable(leaves(c.f(*xs))))

    f.__name__ = c.name
    return f


def _difference(f: Callable[..., Sequence[Array]], xs: Sequence[Array], ts: Sequence[Array], h: float) -> list[Array]:
    """The derivative of f in a direction by fourth-order central differences."""

    def at(s: float) -> Sequence[Array]:
        return f(*(x + s * h * t for x, t in zip(xs, ts, strict=True)))

    parts = zip(at(1), at(-1), at(2), at(-2), strict=True)
    return [(8 * (p - m) - (pp - mm)) / (12 * h) for p, m, pp, mm in parts]


# ---- the laws


def value_is_numpys(c: Case) -> None:
    """Traced forwards or backwards, the function has NumPy's values, shapes and dtypes."""
    expected = c.f(*c.args)
    seen: list[Any] = []

    def f(*xs: Any) -> Any:
        out = c.f(*xs)
        seen[:] = [api.value(x) for x in tree.flatten(out)[0]]
        return differentiable(leaves(out)) or np.zeros(())

    api.jvp(f, c.args, _directions(c.args, 1))
    _same(f"{c.name}: value in forward mode", seen, expected)
    api.vjp(f, *c.args)
    _same(f"{c.name}: value in reverse mode", seen, expected)


def forward_matches_differences(c: Case) -> None:
    """The pushforward is the limit of differences."""
    if not c.order:
        return
    ts = _directions(c.args, 2)
    _, dots = api.jvp(_flat(c), c.args, ts)
    for found, expected in zip(dots, _difference(_flat(c), c.args, ts, c.step), strict=True):
        _close(f"{c.name}: jvp against differences", found, expected, c.rtol)


def reverse_is_adjoint_of_forward(c: Case) -> None:
    """<ct, J t> = <J^T ct, t>, and both have their primals' types."""
    if not c.order:
        return
    ts = _directions(c.args, 3)
    outs, dots = api.jvp(_flat(c), c.args, ts)
    _, pullback = api.vjp(_flat(c), *c.args)
    cts = _directions(outs, 4)
    back = pullback(cts)
    for x, y in (*zip(outs, dots, strict=True), *zip(c.args, back, strict=True)):
        assert (x.shape, x.dtype) == (y.shape, y.dtype), f"{c.name}: a derivative is {y.dtype}{y.shape}"
    left, right = _pairing(cts, dots), _pairing(back, ts)
    assert abs(left - right) <= 1e-10 * (1 + abs(left)), f"{c.name}: <ct, Jt> = {left}, <J'ct, t> = {right}"


def second_order_is_consistent(c: Case) -> None:
    """Forward over reverse is the difference of gradients; reverse over reverse and reverse over forward agree with it."""
    if c.order < 2:
        return
    f = _flat(c)
    cts = _directions(f(*c.args), 5)
    us, vs = _directions(c.args, 6), _directions(c.args, 7)

    def gradient(*xs: Any) -> Any:
        return api.vjp(f, *xs)[1](cts)

    def slope(*xs: Any) -> Any:
        return sum(np.sum(np.real(ct * t)) for ct, t in zip(cts, api.jvp(f, xs, us)[1], strict=True))

    hu = api.jvp(gradient, c.args, us)[1]
    for found, expected in zip(hu, _difference(gradient, c.args, us, c.step), strict=True):
        _close(f"{c.name}: second derivative against differences", found, expected, 10 * c.rtol, 1e-7)
    rr = api.vjp(gradient, *c.args)[1](vs)
    left, right = _pairing(vs, hu), _pairing(rr, us)
    assert abs(left - right) <= 1e-9 * (1 + abs(left)), f"{c.name}: second order is not symmetric: {left}, {right}"
    rf = _pairing(api.vjp(slope, *c.args)[1](np.float64(1)), vs)
    assert abs(left - rf) <= 1e-9 * (1 + abs(left)), f"{c.name}: reverse over forward {rf}, forward over reverse {left}"


def _pullback(c: Case, cts: Sequence[Array]) -> Function:
    """The function's pullback of cotangents as a function of its arguments."""

    def back(*xs: Any) -> tuple[Any, ...]:
        return tuple(api.vjp(_flat(c), *xs)[1](tuple(cts)))

    return back


def _batch(c: Case) -> list[tuple[Any, ...]]:
    return [c.args, others(c), tuple(a * 1.0 for a in c.args)]


def batching_equals_loop(c: Case) -> None:
    """vmap of the function, and of its derivatives, is a loop, whichever arguments are batched."""
    if not c.batched:
        return
    instances = _batch(c)
    n = len(c.args)
    flags = [[True] * n] + ([[k == j for j in range(n)] for k in range(n)] if n > 1 else [])
    for flag in flags:
        stacks = [np.stack([xs[k] for xs in instances]) if b else c.args[k] for k, b in enumerate(flag)]
        loop = [tuple(xs[k] if b else c.args[k] for k, b in enumerate(flag)) for xs in instances]
        axes = tuple(0 if b else None for b in flag)

        def outputs(*xs: Any) -> tuple[Any, ...]:
            return tuple(leaves(c.f(*xs)))

        _equal_loop(f"{c.name} batched in {flag}", outputs, stacks, axes, loop)
    if c.order:
        cts = _directions(_flat(c)(*c.args), 8)
        ts = _directions(c.args, 9)
        stacks = [np.stack([xs[k] for xs in instances]) for k in range(n)]
        back = _pullback(c, cts)

        def push(*xs: Any) -> tuple[Any, ...]:
            return tuple(api.jvp(_flat(c), xs, ts)[1])

        for what, g in (("pullback", back), ("pushforward", push)):
            _equal_loop(f"{c.name}: {what} batched", g, stacks, (0,) * n, instances)


def _equal_loop(what: str, f: Function, stacks: Sequence[Array], axes: Any, loop: Sequence[tuple[Any, ...]]) -> None:
    found = api.vmap(f, in_axes=axes)(*stacks)
    for k, result in enumerate(found):
        expected = np.stack([f(*xs)[k] for xs in loop])
        assert result.dtype == expected.dtype, f"{what}: dtype {result.dtype}, loop {expected.dtype}"
        _close(what, result, expected, 1e-10, 1e-12)


def program_replays(c: Case) -> None:
    """The traced Program is well typed, and gives the function's values on these and on other arguments; so does its derivative."""

    def outputs(*xs: Any) -> tuple[Any, ...]:
        return tuple(leaves(c.f(*xs)))

    recorded = api.program(outputs)(*c.args).check()
    for xs in (c.args, others(c)) if c.replayed else (c.args,):
        _same(f"{c.name}: program", list(recorded(*xs)), list(outputs(*xs)))
    if not c.order:
        return
    cts = _directions(_flat(c)(*c.args), 10)
    back = _pullback(c, cts)
    derivative = api.program(back)(*c.args).check()
    for xs in (c.args, others(c)) if c.replayed else (c.args,):
        for found, expected in zip(derivative(*xs), back(*xs), strict=True):
            _close(f"{c.name}: program of the derivative", found, expected, 1e-10, 1e-12)


LAWS: dict[str, Callable[[Case], None]] = {
    law.__name__: law
    for law in (
        value_is_numpys,
        forward_matches_differences,
        reverse_is_adjoint_of_forward,
        second_order_is_consistent,
        batching_equals_loop,
        program_replays,
    )
}


def check_case(c: Case) -> None:
    """Check every law on one case.

    >>> check_case(case("norm", lambda x: np.sqrt(np.sum(x * x)), [3.0, 4.0]))
    """
    for law in LAWS.values():
        law(c)
