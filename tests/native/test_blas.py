"""Contractions by BLAS agree with NumPy's own loops, however the operands lie in memory and whatever their sizes are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule.backends.llvm import blas, native, partition
from chainrule.backends.llvm.native import Native
from chainrule.ir.primitive import ops
from chainrule.optimise import optimise

from .test_memory import fenced  # noqa: TID252 - the tests are no package

EXTENTS = {"b": 3, "i": 4, "j": 5, "k": 6, "l": 2}


@pytest.fixture(autouse=True)
def always_blas(monkeypatch):
    monkeypatch.setattr(partition, "LOOPED", 0)
    monkeypatch.setattr(partition, "SUMMED", 0)


def draw(labels, extents, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=[extents[a] for a in labels]).astype(dtype)


def einsum_of(left, right, to):
    """The contraction as one equation, by labels as einsum writes them."""
    return lambda x, y: ops.contract(
        x, y, left=tuple(map(ord, left)), right=tuple(map(ord, right)), to=tuple(map(ord, to))
    )


def compiled(spec, x, y):
    left, right, to = spec.replace("->", ",").split(",")
    return Native(optimise(cr.program(einsum_of(left, right, to))(x, y)))


def check(spec, extents=EXTENTS, dtype=np.float64, *, by_blas=True):
    left, right, _ = spec.replace("->", ",").split(",")
    x, y = draw(left, extents, dtype), draw(right, extents, dtype, 1)
    run = compiled(spec, x, y)
    assert bool(run.code.products) == by_blas
    (found,) = run([x, y])
    assert found.dtype == dtype
    wanted = np.einsum(spec, x.astype(np.longdouble), y.astype(np.longdouble), optimize=False)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=50 * np.finfo(dtype).eps * np.max(np.abs(wanted), initial=1))


def orders(*groups):
    return ["".join(p) for p in itertools.permutations(itertools.chain(*groups))]


LAYOUTS = [
    *(f"{x},{y}->{o}" for x in orders("ij") for y in orders("jk") for o in orders("ik")),
    *(f"{x},{y}->{o}" for x in orders("bij") for y in orders("bjk") for o in orders("bik")),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
def test_every_order_of_labels_agrees(dtype):
    for spec in LAYOUTS[:8] if dtype is np.float32 else LAYOUTS:
        check(spec, dtype=dtype)


@pytest.mark.parametrize(
    "spec",
    ["ij,j->i", "ji,j->i", "j,jk->k", "j,kj->k", "bij,bj->bi", "ibj,jb->bi", "ij,bj->bi", "bj,ij->bi", "bijl,blj->bi", "ij,bij->b",
     "bijl,bjlk->bik", "bijl,bljk->bik", "ijl,ljk->ki", "bi,jlb->lij", "bij,jkl->kbil", "bi,bj->ij", "ib,jb->ji"],
)  # fmt: skip
def test_vectors_and_several_labels_of_a_kind_agree(spec):
    check(spec)


@pytest.mark.parametrize("spec", ["ij,jk->ik", "ji,kj->ki", "bij,jkb->ibk", "ij,j->i"])
def test_extents_of_one_and_none_agree(spec):
    for small in itertools.product((0, 1, 7), repeat=3):
        extents = {**EXTENTS, **dict(zip("ijk", small, strict=True))}
        left, right, _ = spec.replace("->", ",").split(",")
        x, y = draw(left, extents), draw(right, extents, seed=1)
        (found,) = compiled(spec, x, y)([x, y])
        np.testing.assert_allclose(found, np.einsum(spec, x, y, optimize=False), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", ["ij,jk->ik", "ji,jk->ki", "ij,j->i", "bij,bkj->bik", "ijl,ljk->ik"])
def test_not_a_number_and_infinity_go_where_numpy_puts_them(spec):
    left, right, _ = spec.replace("->", ",").split(",")
    x, y = draw(left, EXTENTS), draw(right, EXTENTS, seed=1)
    run = compiled(spec, x, y)
    assert run.code.products
    x.flat[3], x.flat[8], y.flat[2], y.flat[-1] = np.nan, np.inf, -np.inf, 0.0
    y.flat[1] = 0.0
    x[0] = 0.0
    with np.errstate(invalid="ignore"):
        wanted = np.einsum(spec, x, y, optimize=False)
    np.testing.assert_allclose(run([x, y])[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("spec", ["ij,jk->ik", "ij,j->i", "ijl,ljk->ik"])
def test_what_was_in_the_result_before_does_not_matter(spec, monkeypatch):
    monkeypatch.setattr(native, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    check(spec)


def test_operands_of_odd_strides_agree():
    x, y = draw("ij", {"i": 40, "j": 60})[::-2, ::3], draw("ij", {"i": 20, "j": 25}).T[:20]
    run = compiled("ij,jk->ik", x, y)
    np.testing.assert_allclose(run([x, y])[0], np.einsum("ij,jk->ik", x, y, optimize=False), rtol=1e-12, atol=1e-13)


def test_the_same_array_twice_agrees():
    x = draw("ij", EXTENTS)
    run = Native(optimise(cr.program(lambda x: x.T @ x)(x)))
    np.testing.assert_allclose(run([x])[0], np.einsum("ij,ik->jk", x, x), rtol=1e-12)


def test_constant_operands_agree():
    x, c = draw("ij", EXTENTS), draw("jk", EXTENTS, seed=1)
    run = Native(optimise(cr.program(lambda x: np.exp(x @ c))(x)))
    assert run.code.products
    np.testing.assert_allclose(run([x])[0], np.exp(np.einsum("ij,jk->ik", x, c)), rtol=1e-12)


def test_mixed_and_integer_types_are_left_to_numpy():
    x, y = draw("ij", EXTENTS, np.float32), draw("jk", EXTENTS)
    run = compiled("ij,jk->ik", x, y)
    assert not run.code.products
    np.testing.assert_allclose(run([x, y])[0], x @ y, rtol=1e-6)


def test_sizes_beyond_the_integers_of_blas_are_refused(monkeypatch):
    monkeypatch.setattr(blas, "LARGEST", 19)
    check("ij,j->i", by_blas=False)


def test_without_the_routines_numpy_computes(monkeypatch):
    monkeypatch.setattr(blas, "addresses", dict)
    check("ij,j->i", by_blas=False)
    check("ij,jk->ik")


@pytest.mark.parametrize(
    ("signature", "good"),
    [
        ("void (char *, int *, d *)", True),
        ("void (char *, int64_t *, d *)", False),
        ("void (char *, int *)", False),
        ("", False),
    ],
)
def test_only_routines_of_the_expected_form_are_called(signature, good):
    assert blas._is_as_called(signature, 3) == good


def test_a_stretch_with_products_needs_no_numpy():
    def f(w, x):
        return np.sum(np.tanh(np.tanh(x @ w) @ w.T) ** 2)

    w, x = draw("ij", {"i": 30, "j": 40}), draw("ki", {"k": 50, "i": 30}, seed=1)
    run = Native(optimise(cr.program(cr.value_and_grad(f, (0, 1)))(w, x)))
    assert len(run.steps) == 1
    assert len(run.code.products) == 6


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("spec", ["ij,jk->ik", "ji,kj->ki", "bij,bj->bi", "ijl,ljk->ik"])
def test_products_touch_nothing_beyond_their_buffers(spec, at_end, monkeypatch):
    monkeypatch.setattr(native, "empty", lambda shape, dtype: fenced(shape, dtype, at_end=at_end))
    left, right, _ = spec.replace("->", ",").split(",")
    inputs = []
    for labels in (left, right):
        value = draw(labels, EXTENTS)
        inputs.append(fenced(value.shape, value.dtype, at_end=at_end))
        inputs[-1][...] = value
    run = compiled(spec, *inputs)
    assert run.code.products
    np.testing.assert_allclose(run(inputs)[0], np.einsum(spec, *inputs, optimize=False), rtol=1e-12, atol=1e-13)


def test_products_run_in_several_threads_at_once(agree_in_threads):
    x, y = draw("ij", {"i": 90, "j": 80}), draw("jk", {"j": 80, "k": 70}, seed=1)
    fast = cr.jit(lambda x, y: np.tanh(x @ y) @ y.T)
    wanted = np.tanh(x @ y) @ y.T
    fast(x, y)
    agree_in_threads(lambda s: fast(x, y * s), lambda s: np.tanh(x @ y * s) @ y.T * s, (0.5, 1.0, 2.0))
    np.testing.assert_allclose(fast(x, y), wanted, rtol=1e-12)
