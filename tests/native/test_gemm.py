"""Products of matrices agree with sums in higher precision, whatever the sizes, the strides, the blocks, and the registers."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from llvmlite import binding

from chainrule.backends.llvm import blocking, gemm, matmul
from chainrule.backends.llvm.matmul import Matmul
from chainrule.backends.llvm.target import Target, host, machine

from .test_memory import TARGETS, fenced  # noqa: TID252 - the tests are no package

LETTERS = {np.float64: "d", np.float32: "s"}
FORMS = {
    "this": host(),
    "512 bits": host()._replace(bits=512, fused=True),
    "256 bits": host()._replace(bits=256, fused=True),
    "128 bits": host()._replace(bits=128, fused=False),
}
"""Code in the form for other processors, which this one can run all the same."""


@pytest.fixture(scope="module")
def products():
    return {(d, f): Matmul(letter, t) for d, letter in LETTERS.items() for f, t in FORMS.items()}


def laid_out(x, order):
    """An equal array that lies in memory in some way."""
    m, n = x.shape
    made = {
        "rows": lambda: np.empty((m, n), x.dtype),
        "columns": lambda: np.empty((n, m), x.dtype).T,
        "reversed": lambda: np.empty((m, n), x.dtype)[::-1, ::-1],
        "apart": lambda: np.empty((2 * m, 3 * n), x.dtype)[::2, ::-3],
        "odd": lambda: np.empty(m * (n + 3) + 1, x.dtype)[1:].reshape(m, n + 3)[:, :n],
    }[order]()
    made[...] = x
    return made


ORDERS = ("rows", "columns", "reversed", "apart", "odd")


def check(product, dtype, m, n, k, orders=("rows", "rows", "rows"), *, adds=False):
    rng = np.random.default_rng(m * 10_000 + n * 100 + k)
    a, b, c = (rng.normal(size=size).astype(dtype) for size in ((m, k), (k, n), (m, n)))
    wanted = a.astype(np.longdouble) @ b.astype(np.longdouble) + (c if adds else 0)
    scale = np.abs(a.astype(np.longdouble)) @ np.abs(b.astype(np.longdouble)) + np.abs(c)
    a, b, c = (laid_out(x, order) for x, order in zip((a, b, c), orders, strict=True))
    if not adds:
        c[...] = np.nan
    assert product(a, b, c, adds=adds) is c
    error = np.abs(c - wanted)
    assert np.all(error <= (k + 2) * np.finfo(dtype).eps * scale), (m, n, k, orders)


EDGES = [1, 2, 7, 8, 9, 16, 23, 25, 31, 49]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", LETTERS, ids=LETTERS.get)
def test_sizes_around_the_edges_of_tiles_agree(dtype, form, products):
    for m, n in itertools.product(EDGES, repeat=2):
        check(products[dtype, form], dtype, m, n, 5)
        check(products[dtype, form], dtype, m, n, 3, ("columns", "rows", "columns"), adds=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", LETTERS, ids=LETTERS.get)
def test_every_order_in_memory_agrees(dtype, form, products):
    for orders in itertools.product(ORDERS, repeat=3):
        check(products[dtype, form], dtype, 13, 29, 37, orders)
        check(products[dtype, form], dtype, 40, 16, 8, orders, adds=True)


@pytest.mark.parametrize("form", ["this", "128 bits"])
@pytest.mark.parametrize("packs", ["both", "none"])
def test_many_blocks_agree(form, packs, products, monkeypatch):
    monkeypatch.setattr(blocking, "DEPTH", 17)
    monkeypatch.setattr(blocking, "BLOCK", 4000)
    monkeypatch.setattr(blocking, "COLUMNS", 20)
    monkeypatch.setattr(blocking, "FEW", 0 if packs == "both" else 1000)
    monkeypatch.setattr(blocking, "MANY", 0 if packs == "both" else 1000)
    for dtype, orders in itertools.product(LETTERS, itertools.product(("rows", "columns"), repeat=3)):
        for sizes in ((100, 61, 53), (61, 96, 35), (5, 43, 18)):
            check(products[dtype, form], dtype, *sizes, orders)
            check(products[dtype, form], dtype, *sizes, orders, adds=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", LETTERS, ids=LETTERS.get)
def test_dot_products_agree(dtype, form, products, monkeypatch):
    monkeypatch.setattr(blocking, "SUMMED", -1000)
    for m, n, k in itertools.product((1, 4, 5, 6, 11), (1, 3, 5, 7), (1, 7, 16, 40, 131)):
        for order, adds in (("rows", False), ("columns", True), ("apart", True)):
            check(products[dtype, form], dtype, m, n, k, ("rows", "columns", order), adds=adds)


def test_dot_products_are_taken_for_few_long_rows():
    assert blocking.blocking("d", host(), (4, 4, 4000), (4000, 1), (1, 4000), (4, 1)).record[blocking.Field.dots]
    assert not blocking.blocking("d", host(), (400, 400, 40), (40, 1), (1, 40), (400, 1)).record[blocking.Field.dots]


def test_large_sizes_agree(products):
    for sizes, orders in (
        ((300, 500, 700), ("rows", "rows", "rows")),
        ((1500, 30, 90), ("columns", "rows", "columns")),
        ((3, 1500, 1000), ("rows", "columns", "rows")),
        ((500, 2, 600), ("columns", "columns", "rows")),
    ):
        check(products[np.float64, "this"], np.float64, *sizes, orders)


@pytest.mark.parametrize("sizes", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_nothing_to_multiply(sizes, products):
    m, n, k = sizes
    for adds in (False, True):
        out = np.ones((m, n))
        products[np.float64, "this"](np.ones((m, k)), np.ones((k, n)), out, adds=adds)
        assert np.all(out == (1.0 if adds else 0.0))


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_not_a_number_and_infinity_go_where_a_sum_of_products_puts_them(order, products, monkeypatch):
    for summed in (blocking.SUMMED, -1000):
        monkeypatch.setattr(blocking, "SUMMED", summed)
        for size in (6, 30):
            rng = np.random.default_rng(size)
            a, b = rng.normal(size=(size, size)), laid_out(rng.normal(size=(size, size)), order)
            a[1, 2], a[3, 4], b[0, 1], b[5, 0] = np.nan, np.inf, -np.inf, 0.0
            a[0], b[4] = 0.0, 0.0
            with np.errstate(invalid="ignore"):
                wanted = np.einsum("ij,jk->ik", a, b, optimize=False)
            found = products[np.float64, "this"](a, b, np.full((size, size), np.nan))
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def test_what_is_beside_a_result_is_left_alone(products):
    for form in FORMS:
        whole = np.full((40, 50), 7.0)
        for out in (whole[3:20, 5:18], whole.T[5:18, 3:20]):
            whole[...] = 7.0
            m, n = out.shape
            products[np.float64, form](np.ones((m, 6)), np.ones((6, n)), out)
            assert np.all(out == 6.0)
            assert np.sum(whole == 7.0) == whole.size - out.size


def test_a_part_of_a_product_is_the_product_of_the_parts_to_the_last_bit(products, monkeypatch):
    monkeypatch.setattr(blocking, "SUMMED", 1000)  # by dot products, sums have another order
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(150, 600)), rng.normal(size=(600, 130))
    product = products[np.float64, "this"]
    whole = product(a, b, np.empty((150, 130)))
    for rows, columns in ((slice(0, 5), slice(0, 130)), (slice(31, 150), slice(17, 18)), (slice(2, 90), slice(50, 97))):
        part = whole[rows, columns]
        assert np.array_equal(product(a[rows], b[:, columns], np.empty(part.shape)), part)
        assert np.array_equal(product(a[rows], b[:, columns], np.empty(part.shape[::-1]).T), part)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_products_touch_nothing_beyond_operands_and_workspace(form, at_end, products, monkeypatch):
    monkeypatch.setattr(matmul, "room", lambda nbytes: fenced((nbytes,), np.uint8, at_end=at_end))
    monkeypatch.setattr(blocking, "DEPTH", 20)
    monkeypatch.setattr(blocking, "BLOCK", 6000)
    rng = np.random.default_rng(0)
    for (m, n, k), many, summed in (((29, 19, 43), 0, 1000), ((40, 24, 16), 1000, 1000), ((6, 7, 33), 1000, -1000)):
        monkeypatch.setattr(blocking, "MANY", many)
        monkeypatch.setattr(blocking, "SUMMED", summed)
        for dtype, turned in itertools.product(LETTERS, itertools.product((False, True), repeat=3)):
            arrays = []
            for (height, width), is_turned in zip(((m, k), (k, n), (m, n)), turned, strict=True):
                x = fenced((width, height) if is_turned else (height, width), dtype, at_end=at_end)
                x[...] = rng.normal(size=x.shape)
                arrays.append(x.T if is_turned else x)
            a, b, out = arrays
            products[dtype, form](a, b, out)
            np.testing.assert_allclose(out, a.astype(np.float64) @ b, rtol=0, atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.cpu + t.triple[:5])
@pytest.mark.parametrize("letter", LETTERS.values())
def test_code_for_other_machines_is_well_formed(letter, target):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = binding.parse_assembly(str(gemm.module(letter, target)))
    module.triple = target.triple
    module.verify()
    assert len(machine(target, 1).emit_object(module)) > 5000


def vectors(target):
    """How many registers the innermost loop needs."""
    shape = blocking.tile("d", target)
    return shape.vectors * shape.columns + shape.vectors + 1, shape.side**2 + shape.side + 1


@pytest.mark.parametrize(
    "target", [*TARGETS, Target("x86_64-unknown-linux-gnu", "skylake-avx512", "", 512, fused=True)]
)
def test_tiles_fit_the_registers(target):
    available = 32 if target.bits == 512 or not target.triple.startswith("x86") else 16
    assert all(n <= available for n in vectors(target))
