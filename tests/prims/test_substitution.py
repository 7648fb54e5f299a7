"""Substitution solves the triangular system that it stands for, and its adjoint is the transpose."""

import numpy as np
from scipy.sparse import coo_array, csr_array, tril

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.transforms.colour import colour, compress, recover


def tree(n, seed):
    """The symmetric pattern of a random tree with a diagonal."""
    rng = np.random.default_rng(seed)
    parents = np.array([rng.integers(0, i) for i in range(1, n)])
    rows, columns = np.concatenate([np.arange(1, n), parents]), np.concatenate([parents, np.arange(1, n)])
    return csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n)) + coo_array(np.eye(n)))


def test_substitution_recovers_a_symmetric_matrix():
    pattern = tree(60, 0)
    values = tril(pattern.multiply(np.random.default_rng(1).normal(size=pattern.shape)))
    matrix = csr_array(values + values.T)
    c = colour(pattern, kind="acyclic")
    np.testing.assert_allclose(recover(c, *compress(matrix, c)).toarray(), matrix.toarray(), rtol=1e-12, atol=1e-13)
    assert 1 <= c.substitution.depth < 60


def test_depth_is_the_longest_run():
    for n in (2, 3, 10, 11):
        path = csr_array(np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1))
        assert colour(path, kind="acyclic").substitution.depth == n // 2


def test_adjoint_is_the_transpose():
    steps = colour(tree(20, 2), kind="acyclic").substitution
    indices = (steps.order, steps.source, steps.sink)
    size = int(max(steps.source.max(), steps.sink.max())) + 1
    matrix = np.stack([ops.substitute(e, *indices) for e in np.eye(size)], axis=1)
    back = np.stack([ops.substitute_back(e, *indices, size=size) for e in np.eye(19)], axis=1)
    np.testing.assert_array_equal(back, matrix.T)
    x = np.random.default_rng(0).normal(size=(3, size))
    f = lambda x: ops.substitute(x, *indices)
    np.testing.assert_allclose(cr.vmap(f)(x), x @ matrix.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(cr.jit(f)(x[0]), matrix @ x[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(f(x.astype(np.float32)), x @ matrix.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(f(x * 1j), 1j * (x @ matrix.T), rtol=1e-12, atol=1e-13)
    z = x + 1j * x[::-1]
    np.testing.assert_allclose(f(z), z @ matrix.T, rtol=1e-12, atol=1e-13)
    terms = np.arange(38.0).reshape(2, 19) + 1j
    g = lambda ct: ops.substitute_back(ct, *indices, size=size)
    np.testing.assert_allclose(g(terms), terms @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cr.vmap(g)(terms), terms @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(g(np.asfortranarray(terms.real)), terms.real @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(f(np.asfortranarray(x)), x @ matrix.T, rtol=1e-12, atol=1e-13)
    assert g(terms.astype(np.complex64)).dtype == np.complex64
    assert g(terms.real.astype(np.float32)).dtype == np.float32
