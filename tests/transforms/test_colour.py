"""A colouring is valid, has as few colours as is known to do, and gives the derivative back."""

import itertools

import numpy as np
import pytest
from scipy import sparse as sp

from chainrule.transforms import colour_loops as loops
from chainrule.transforms.colour import ORDERS, ColourError, colour, compress, recover

KINDS = ("column", "row", "bidirectional", "star", "acyclic")


def tridiagonal(n):
    return sp.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()


def stencil(*widths):
    """The 2 d + 1 point stencil on a grid of d dimensions."""
    total = None
    for at in range(len(widths)):
        parts = [tridiagonal(n) if i == at else sp.eye_array(n) for i, n in enumerate(widths)]
        term = parts[0]
        for part in parts[1:]:
            term = sp.kron(part, term)
        total = term if total is None else total + term
    return total.tocsr()


def arrow(n):
    i = np.arange(n)
    entries = np.ones(3 * n), (np.concatenate([i, 0 * i, i]), np.concatenate([i, i, 0 * i]))
    return sp.coo_array(entries, shape=(n, n)).tocsr()


def scattered(m, n, density, seed):
    return sp.random_array((m, n), density=density, rng=seed).tocsr()


def symmetric(n, density, seed):
    half = scattered(n, n, density, seed)
    return (half + half.T).tocsr()


PATTERNS = {
    "tridiagonal": tridiagonal(17),
    "stencil": stencil(7, 6),
    "arrow": arrow(12),
    "scattered": symmetric(40, 0.05, 1),
    "no diagonal": (symmetric(30, 0.1, 2) - sp.diags_array(symmetric(30, 0.1, 2).diagonal())).tocsr(),
    "diagonal": sp.eye_array(5).tocsr(),
    "empty": sp.csr_array((4, 4)),
    "full": sp.csr_array(np.ones((5, 5))),
    "wide": scattered(9, 30, 0.15, 3),
    "tall": scattered(30, 9, 0.15, 4),
    "no rows": sp.csr_array((0, 5)),
}
CASES = [
    (name, kind)
    for name, kind in itertools.product(PATTERNS, KINDS)
    if kind not in ("star", "acyclic") or name not in ("wide", "tall", "no rows")
]


def with_values(pattern, is_symmetric, seed=0):
    rng = np.random.default_rng(seed)
    matrix = sp.csr_array((rng.standard_normal(pattern.nnz), pattern.indices, pattern.indptr), shape=pattern.shape)
    return (matrix + matrix.T).tocsr() if is_symmetric else matrix


@pytest.mark.parametrize("order", [*ORDERS, "best"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_is_compressed_is_recovered(name, kind, order):
    matrix = with_values(PATTERNS[name], kind in ("star", "acyclic"))
    colouring = colour(matrix, kind=kind, order=order)
    found = recover(colouring, *compress(matrix, colouring))
    np.testing.assert_allclose(found.toarray(), matrix.toarray(), rtol=1e-12, atol=1e-12)
    assert found.has_canonical_format
    assert found.nnz == matrix.nnz


@pytest.mark.parametrize("kind", KINDS)
def test_complex_derivatives_are_recovered(kind):
    matrix = with_values(PATTERNS["stencil"], True) * (1 + 2j)
    colouring = colour(matrix, kind=kind)
    found = recover(colouring, *compress(matrix, colouring))
    np.testing.assert_allclose(found.toarray(), matrix.toarray(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [*ORDERS, "best"])
@pytest.mark.parametrize("name", PATTERNS)
def test_columns_of_a_colour_share_no_row(name, order):
    pattern = PATTERNS[name].astype(bool).toarray()
    colouring = colour(PATTERNS[name], order=order)
    for c in range(colouring.column_colours):
        assert pattern[:, colouring.columns == c].sum(axis=1).max(initial=0) <= 1
    assert np.array_equal(colouring.columns >= 0, pattern.any(axis=0))


def adjacency(name):
    graph = PATTERNS[name].astype(bool).toarray()
    np.fill_diagonal(graph, False)
    return [np.flatnonzero(row).tolist() for row in graph]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["tridiagonal", "stencil", "arrow", "scattered", "no diagonal", "full"])
def test_star_colouring_leaves_no_path_of_four_with_two_colours(name, order):
    near = adjacency(name)
    c = colour(PATTERNS[name], kind="star", order=order).columns
    for b, following in enumerate(near):
        for d in following:
            assert c[b] != c[d]
            for a, e in itertools.product(following, near[d]):
                if a not in (d, e) and e != b:
                    assert len({c[a], c[b], c[d], c[e]}) > 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["tridiagonal", "stencil", "arrow", "scattered", "no diagonal", "full"])
def test_acyclic_colouring_leaves_no_cycle_with_two_colours(name, order):
    near = adjacency(name)
    c = colour(PATTERNS[name], kind="acyclic", order=order).columns
    edges = [(i, j) for i, following in enumerate(near) for j in following if i < j]
    assert all(c[i] != c[j] for i, j in edges)
    for pair in itertools.combinations(range(c.max() + 1), 2):
        inside = [(i, j) for i, j in edges if {c[i], c[j]} == set(pair)]
        graph = sp.coo_array((np.ones(len(inside)), np.array(inside).reshape(-1, 2).T), shape=(len(c), len(c)))
        parts = sp.csgraph.connected_components(graph, directed=False)[0]
        assert len(inside) == len(c) - parts


# Counts that are known


@pytest.mark.parametrize("order", [*ORDERS, "best"])
def test_a_tridiagonal_matrix_takes_three_columns_three_stars_two_trees(order):
    matrix = tridiagonal(50)
    assert [colour(matrix, kind=kind, order=order).colours for kind in KINDS] == [3, 3, 3, 3, 2]


@pytest.mark.parametrize(("widths", "points"), [((10, 10), 5), ((7, 13), 5), ((20, 4), 5), ((5, 6, 7), 7)])
def test_a_stencil_takes_as_many_columns_as_it_has_points(widths, points):
    assert colour(stencil(*widths)).colours == points


@pytest.mark.parametrize("bandwidth", [0, 1, 2, 5])
def test_a_band_takes_as_many_columns_as_it_is_wide(bandwidth):
    offsets = range(-bandwidth, bandwidth + 1)
    band = sp.diags_array([np.ones(40 - abs(k)) for k in offsets], offsets=list(offsets))
    assert colour(band).colours == 2 * bandwidth + 1
    assert colour(band, kind="acyclic").colours == bandwidth + 1


def test_an_arrow_takes_all_columns_or_three_products_both_ways_or_two_symmetric():
    assert [colour(arrow(20), kind=kind).colours for kind in KINDS] == [20, 20, 3, 2, 2]


def test_a_very_full_row_is_coloured_at_once():
    n = 60_000
    both = colour(arrow(n), kind="bidirectional")
    assert (both.column_colours, both.row_colours) == (2, 1)
    assert colour(arrow(n)).colours == n


def test_a_full_matrix_takes_all_colours():
    assert [colour(np.ones((4, 4)), kind=kind).colours for kind in KINDS] == [4, 4, 4, 4, 4]


def test_orders_are_what_their_names_say():
    star = sp.csr_array(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]))  # column 3 meets all others
    for order in ("largest-first", "incidence-degree"):
        assert colour(star, order=order).columns[3] == (0 if order == "largest-first" else 1)
    assert colour(star, order="natural").columns.tolist() == [0, 0, 0, 1]
    assert colour(star, order="smallest-last").colours == 2


@pytest.mark.parametrize("rising", [0, 1])
@pytest.mark.parametrize("hops", [1, 2])
def test_dynamic_orders_take_the_extreme_vertex_each_time(rising, hops):
    pattern = symmetric(25, 0.06, 5)
    ptr, idx = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    reach = pattern.astype(bool).astype(int).toarray()
    near = (reach if hops == 1 else reach @ reach).astype(bool)
    np.fill_diagonal(near, False)
    n = len(near)
    keys = np.zeros(n, np.int64) if rising else near.sum(axis=1)
    head, unset = np.full(n + 2, -1), [np.full(n, -1) for _ in range(5)]
    loops.dynamic_order(hops, ptr, idx, ptr, idx, n, rising, keys, head, *unset)
    order = unset[-1].tolist()
    assert sorted(order) == list(range(n))
    placed = []
    for v in order if rising else order[::-1]:
        left = [u for u in range(n) if u not in placed]
        degree = {u: near[u, placed if rising else left].sum() for u in left}
        assert degree[v] == (max if rising else min)(degree.values())
        placed.append(v)


# The native loops against the same text, interpreted


def both(loop, *args):
    native = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    plain = [a.tolist() if isinstance(a, np.ndarray) else a for a in args]
    assert loop(*native) == loop.python(*plain)
    for one, other in zip(native, plain, strict=True):
        if isinstance(one, np.ndarray):
            assert one.tolist() == other


def test_native_loops_equal_interpreted():
    pattern = symmetric(30, 0.06, 6)
    pattern.setdiag(0)
    pattern.eliminate_zeros()
    n, ptr, idx = 30, pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    edge = np.full(len(idx), -1)
    both(loops.number_edges, ptr, idx, n, ptr.copy(), edge)
    loops.number_edges(ptr, idx, n, ptr.copy(), edge)
    e, order = len(idx) // 2, np.random.default_rng(0).permutation(n)
    unset = lambda *sizes: [np.full(size, -1) for size in sizes]
    both(loops.partial_colour, ptr, idx, ptr, idx, order, n, *unset(n + 1, n))
    both(loops.star_colour, ptr, idx, edge, order, n, *unset(n + 1, n, e, e, n, n, n, n))
    forest = np.arange(e), np.ones(e, np.int64)
    both(loops.acyclic_colour, ptr, idx, edge, order, n, *unset(n + 1), *forest, *unset(e, e, n, n, n))
    colours = colour(pattern, kind="acyclic").columns
    count = int(colours.max()) + 1
    both(loops.alone_in_row, ptr, idx, colours, n, np.zeros(count, np.int64), np.zeros(len(idx), np.int64))
    both(loops.degrees, 2, ptr, idx, ptr, idx, n, *unset(n, n, n))
    for hops, rising in itertools.product((1, 2), (0, 1)):
        keys = np.full(n, 0)
        if not rising:
            loops.degrees(hops, ptr, idx, ptr, idx, n, *unset(n, n), keys)
        both(loops.dynamic_order, hops, ptr, idx, ptr, idx, n, rising, keys, *unset(n + 2, n, n, n, n, n))


# What is refused


def test_an_unsymmetric_pattern_has_no_star_colouring():
    with pytest.raises(ColourError, match="symmetric"):
        colour(np.triu(np.ones((3, 3))), kind="star")


@pytest.mark.parametrize("options", [{"kind": "rainbow"}, {"order": "random"}])
def test_unknown_kinds_and_orders_are_refused(options):
    with pytest.raises(ColourError, match="is one of"):
        colour(np.eye(2), **options)


def test_a_compressed_derivative_of_another_shape_is_refused():
    colouring = colour(tridiagonal(5))
    with pytest.raises(ColourError, match=r"forward has shape \(5, 2\); this colouring needs \(5, 3\)"):
        recover(colouring, np.ones((5, 2)))
    with pytest.raises(ColourError, match="forward has shape"):
        recover(colouring)


def test_stored_zeros_and_duplicates_count_once():
    entries = np.array([0.0, 1.0, 2.0]), (np.array([0, 1, 1]), np.array([1, 0, 0]))
    colouring = colour(sp.coo_array(entries, shape=(2, 2)))
    assert colouring.indices.tolist() == [1, 0]
