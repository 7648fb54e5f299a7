"""The laws that every primitive obeys, as functions: each raises AssertionError where its law is broken.

They run over the registry in chainrule's own tests, and on a primitive of one's own with `check_primitive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Elementary, Params, Primitive, Sample
from chainrule.ir.types import Array, ArrayType
from chainrule.transforms import batch, forward, reverse

RTOL = 1e-6


def _name(primitive: Primitive, args: Sequence[Array], params: Params) -> str:
    return f"{primitive.name}({', '.join(str(ArrayType.of(a)) for a in args)}, {params})"


def _outputs(primitive: Primitive, args: Sequence[Array], params: Params) -> list[Array]:
    out = primitive(*args, **params)
    return [out] if primitive.outputs == 1 else list(out)


def active(primitive: Primitive, args: Sequence[Array]) -> list[int]:
    """The numbers of the arguments that a sample can be differentiated in."""
    return [
        k
        for k, a in enumerate(args)
        if np.asarray(a).dtype.kind in "fc" and hasattr(a, "dtype") and not primitive.missing(k)
    ]


def _restricted(
    primitive: Primitive, args: Sequence[Array], params: Params, ks: Sequence[int]
) -> Callable[[Sequence[Any]], Any]:
    """The floating outputs as a function of the arguments `ks`."""

    def f(xs: Sequence[Any]) -> list[Any]:
        full = list(args)
        for k, x in zip(ks, xs, strict=True):
            full[k] = x
        return [o for o in _outputs(primitive, full, params) if o.dtype.kind in "fc"]

    return f


def _random(x: Array, rng: np.random.Generator) -> Array:
    t = rng.standard_normal(np.shape(x))
    if x.dtype.kind == "c":
        t = t + 1j * rng.standard_normal(np.shape(x))
    return np.asarray(t, x.dtype)[()]


def _pair(a: Sequence[Array], b: Sequence[Array]) -> float:
    """The real pairing Re(sum(a * b)) under which adjoints are taken."""
    return float(sum(np.real(np.sum(x * y)) for x, y in zip(a, b, strict=True)))


def _close(what: str, found: Any, expected: Any, rtol: float = RTOL, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=what)


def type_rule_holds(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """The types of the outputs are those that the type rule derives from the arguments' types."""
    found = tuple(ArrayType.of(o) for o in _outputs(primitive, args, params))
    derived = primitive.type_rule(*(ArrayType.of(a) for a in args), **params)
    assert found == derived, f"{_name(primitive, args, params)}: type rule says {derived}, the value has {found}"


def jvp_matches_difference(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """The pushforward is the limit of differences: fourth-order central differences of the value agree with it."""
    ks = active(primitive, args)
    f = _restricted(primitive, args, params, ks)
    xs = [np.asarray(args[k])[()] for k in ks]
    ts = [_random(x, np.random.default_rng(k)) for k, x in zip(ks, xs, strict=True)]
    with np.errstate(all="ignore"):
        _, dots = forward.jvp(f, xs, ts)
        h = 1e-3

        def at(s: float) -> list[Array]:
            return list(f([x + s * h * t for x, t in zip(xs, ts, strict=True)]))

        parts = zip(at(1), at(-1), at(2), at(-2), strict=True)
        expected = [(8 * (p - m) - (pp - mm)) / (12 * h) for p, m, pp, mm in parts]
    for found, e in zip(dots, expected, strict=True):
        _close(f"{_name(primitive, args, params)}: jvp against differences", found, e, rtol=1e-5, atol=1e-7)


def vjp_is_adjoint_of_jvp(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """<ct, J t> = <J^T ct, t> for random t and ct, one argument at a time and all together."""
    every = active(primitive, args)
    for ks in [*([k] for k in every), every]:
        f = _restricted(primitive, args, params, ks)
        xs = [np.asarray(args[k])[()] for k in ks]
        rng = np.random.default_rng(7)
        ts = [_random(x, rng) for x in xs]
        outs, dots = forward.jvp(f, xs, ts)
        values, pullback = reverse.vjp(f, xs)
        cts = [_random(o, rng) for o in outs]
        back = pullback(cts)
        what = _name(primitive, args, params)
        for o, d in zip(outs, dots, strict=True):
            assert (o.shape, o.dtype) == (d.shape, d.dtype), (
                f"{what}: a tangent is {ArrayType.of(d)} for {ArrayType.of(o)}"
            )
        for x, g in zip(xs, back, strict=True):
            assert (x.shape, x.dtype) == (g.shape, g.dtype), (
                f"{what}: a cotangent is {ArrayType.of(g)} for {ArrayType.of(x)}"
            )
        _close(f"{what}: pullback against pushforward", _pair(back, ts), _pair(cts, dots))
        for v, o in zip(values, outs, strict=True):
            _close(f"{what}: values of both modes", v, o, rtol=0, atol=0)


def second_order_is_symmetric(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """<u, H v> = <v, H u> for the Hessian H of a random combination of outputs; differences agree."""
    ks = active(primitive, args)
    f = _restricted(primitive, args, params, ks)
    xs = [np.asarray(args[k])[()] for k in ks]
    rng = np.random.default_rng(11)
    cts = [_random(o, rng) for o in f(xs)]

    def gradient(ys: Sequence[Any]) -> list[Any]:
        return reverse.vjp(f, ys)[1](cts)

    us, vs = ([_random(x, rng) for x in xs] for _ in range(2))
    hu = forward.jvp(gradient, xs, us)[1]
    hv = forward.jvp(gradient, xs, vs)[1]
    what = _name(primitive, args, params)
    scale = 1 + max((float(np.max(np.abs(h), initial=0)) for h in (*hu, *hv)), default=0.0)
    _close(f"{what}: Hessian symmetry", _pair(vs, hu), _pair(us, hv), atol=1e-8 * scale)
    h = 1e-3

    def at(s: float) -> list[Array]:
        return gradient([x + s * h * u for x, u in zip(xs, us, strict=True)])

    parts = zip(at(1), at(-1), at(2), at(-2), strict=True)
    for found, (p, m, pp, mm) in zip(hu, parts, strict=True):
        expected = (8 * (p - m) - (pp - mm)) / (12 * h)
        _close(f"{what}: second derivative against differences", found, expected, rtol=1e-5, atol=1e-6 * scale)


def _batchings(args: Sequence[Array]) -> Iterator[list[bool]]:
    arrays = [k for k, a in enumerate(args) if hasattr(a, "dtype")]
    yield [k in arrays for k in range(len(args))]
    if len(arrays) > 1:
        for chosen in arrays:
            yield [k == chosen for k in range(len(args))]


def batching_equals_loop(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """The batched operation gives what a loop over the instances gives, whichever arguments are batched."""
    for flags in _batchings(args):
        rng = np.random.default_rng(5)
        stacks = [_stack(np.asarray(a), rng) if flag else a for a, flag in zip(args, flags, strict=True)]
        size = 3

        def f(xs: Sequence[Any]) -> list[Any]:
            return _outputs(primitive, xs, params)

        found = batch.vmap(f, stacks, [0 if flag else None for flag in flags], size)
        loop = [f([a[i] if flag else a for a, flag in zip(stacks, flags, strict=True)]) for i in range(size)]
        for k, result in enumerate(found):
            expected = np.stack([outs[k] for outs in loop])
            what = f"{_name(primitive, args, params)} batched in {flags}"
            assert result.shape == expected.shape, f"{what}: shape {result.shape}, loop {expected.shape}"
            _close(what, result, expected, rtol=1e-10, atol=1e-12)


def _stack(a: Array, rng: np.random.Generator) -> Array:
    """Three instances like a: itself and small changes of it, which stay in the operation's domain."""
    if a.dtype.kind in "fc":
        return np.stack([a, a * (1 + 1e-3 * rng.uniform(size=a.shape)), a * (1 - 1e-3 * rng.uniform(size=a.shape))])
    return np.stack([a, a[::-1] if a.ndim else a, a])


def pattern_covers_jacobian(primitive: Primitive, args: Sequence[Array], params: Params) -> None:
    """Every partial is zero outside its pattern, and an output element depends on nothing else."""
    if not isinstance(primitive, Elementary):
        return
    out = primitive(*args, **params)
    for row in range(primitive.outputs):
        for k in active(primitive, args):
            x = np.asarray(args[k])
            m = primitive.partial(k, args, out, params, row)
            if m is None:
                continue
            pattern = m.pattern().toarray()
            dense = (
                np.stack([np.ravel(m.apply(e.reshape(x.shape))) for e in np.eye(x.size, dtype=x.dtype)], axis=-1)
                if (x.size)
                else np.zeros(pattern.shape)
            )
            assert pattern.shape == dense.shape, (
                f"{_name(primitive, args, params)}: pattern {pattern.shape}, Jacobian {dense.shape}"
            )
            assert not np.any(dense[~pattern]), f"{_name(primitive, args, params)}: non-zero outside its pattern"


LAWS: dict[str, Callable[[Primitive, Sequence[Array], Params], None]] = {
    law.__name__: law
    for law in (
        type_rule_holds,
        jvp_matches_difference,
        vjp_is_adjoint_of_jvp,
        second_order_is_symmetric,
        batching_equals_loop,
        pattern_covers_jacobian,
    )
}


def check_primitive(primitive: Primitive, samples: Sequence[Sample] | None = None) -> None:
    """Check every law on a primitive's samples; raises AssertionError with the law, the sample and both numbers.

    >>> from chainrule.ir.primitive import ops
    >>> check_primitive(ops.tanh)
    """
    found = list(primitive.samples() if samples is None else samples)
    assert found, f"{primitive.name} has no samples on which to check the laws"
    for args, params in found:
        for law in LAWS.values():
            law(primitive, args, params)
