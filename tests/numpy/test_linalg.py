"""numpy.linalg: values, both modes, second order, batching and replay, by the laws over cases; conventions; JAX as an oracle."""

import itertools

import numpy as np
import pytest

import chainrule as cr
import chainrule.numpy as cnp
from chainrule.testing.cases import LAWS, case, draw


def regular(n, *stack, seed=0, imaginary=0.0):
    """Matrices far from singular, with distinct eigenvalues and singular values."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, (*stack, n, n)) + np.diag(2.0 + np.arange(n))
    return a + imaginary * 1j * rng.uniform(-1, 1, a.shape) if imaginary else a


def definite(n, *stack, **options):
    a = regular(n, *stack, **options)
    return a @ np.swapaxes(a, -1, -2).conj()


def square(name, f, *args, others=None, **options):
    """A case whose further arguments are a little changed, so that they stay in the domain."""
    return case(
        name, f, *args, others=tuple(np.asarray(a) * 1.05 for a in args) if others is None else others, **options
    )


A, C, S = regular(3), regular(2, imaginary=1.0), regular(3, 2)
P, H, PS = definite(3), definite(2, imaginary=1.0), definite(2, 3)
TALL, WIDE, ONE = draw(4, 2), draw(2, 3, seed=1), np.array([[1.5]])
B, V, Z = draw(3, 2, seed=2), draw(3, seed=3), draw(2, 2) + 1j * draw(2, 2, seed=4)
GENERAL = {"matrix": A, "complex": C, "stack": S, "one": ONE, "no members": regular(2, 0), "empty": np.zeros((0, 0))}


def over(name, f, matrices, **options):
    return [square(f"{name}, {kind}", f, a, **options) for kind, a in matrices.items()]


def spectral(a):
    """A function of a Hermitian matrix by its eigenvalues: independent of signs and phases."""
    w, v = np.linalg.eigh(a)
    return (v * np.exp(0.1 * w)[..., None, :]) @ np.conj(np.swapaxes(v, -1, -2))


def by_svd(a):
    """A function of a matrix by its singular values: independent of signs and phases."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return (u * np.tanh(s)[..., None, :]) @ vh


def null_space(a):
    """The projection to what the columns, or rows, of a leave out."""
    u, _, vh = np.linalg.svd(a)
    left, right = u[..., :, a.shape[-1] :], vh[..., a.shape[-2] :, :]
    return left @ np.conj(np.swapaxes(left, -1, -2)), np.conj(np.swapaxes(right, -1, -2)) @ right


def completed(a):
    q, r = np.linalg.qr(a, "complete")
    rest = q[..., :, a.shape[-1] :]
    return q[..., :, : a.shape[-1]], rest @ np.conj(np.swapaxes(rest, -1, -2)), r


SOLVING = [
    *over("inv", np.linalg.inv, GENERAL),
    *over("det", np.linalg.det, GENERAL),
    *over("slogdet", lambda a: tuple(np.linalg.slogdet(a)), GENERAL),
    *over("matrix_power -2", lambda a: np.linalg.matrix_power(a, -2), GENERAL),
    *over("matrix_power 5", lambda a: np.linalg.matrix_power(a / 3, 5), GENERAL),
    square("matrix_power 1", lambda a: np.linalg.matrix_power(a, 1), A),
    square("det of a singular matrix", np.linalg.det, A - A[:, ::-1]),
    square("solve, vector", np.linalg.solve, A, V),
    square("solve, matrix", np.linalg.solve, A, B),
    square("solve, stacks", np.linalg.solve, S, draw(2, 3, 2)),
    square("solve, stack of right-hand sides", np.linalg.solve, A, draw(2, 3, 2)),
    square("solve, stack of matrices", np.linalg.solve, S, V),
    square("solve, stacks that broadcast", np.linalg.solve, regular(2, 2, 1), draw(3, 2, 1)),
    square("solve, complex", np.linalg.solve, C, Z),
    square("solve, real matrix and complex side", np.linalg.solve, regular(2), Z),
    square("solve, complex matrix and real side", np.linalg.solve, C, V[:2]),
    square("solve, no right-hand side", np.linalg.solve, A, np.zeros((3, 0))),
    square("solve, with itself", lambda a: np.linalg.solve(a, a.T), A),
    square("tensorsolve", np.linalg.tensorsolve, regular(6).reshape(2, 3, 6), draw(2, 3)),
    square(
        "tensorsolve, axes",
        lambda a, b: np.linalg.tensorsolve(a, b, axes=(0,)),
        regular(4).reshape(4, 2, 2),
        draw(2, 2),
    ),
    square("tensorinv", lambda a: np.linalg.tensorinv(a, 1), regular(4).reshape(4, 2, 2)),
    *over("pinv", np.linalg.pinv, {"tall": TALL, "wide": WIDE, "stack": draw(2, 3, 2), "complex": Z, "square": A}),
    square("pinv, hermitian", lambda a: np.linalg.pinv(a, hermitian=True), P),
    square("pinv, rtol", lambda a: np.linalg.pinv(a, rtol=1e-10), TALL),
    square("lstsq", lambda a, b: tuple(np.linalg.lstsq(a, b)[k] for k in (0, 1, 3)), TALL, draw(4)),
    square("lstsq, matrix", lambda a, b: np.linalg.lstsq(a, b)[0], TALL, draw(4, 2)),
    square("lstsq, underdetermined", lambda a, b: np.linalg.lstsq(a, b)[0], WIDE, draw(2)),
]

FACTORS = [
    *over(
        "cholesky", np.linalg.cholesky, {"matrix": P, "stack": PS, "complex": H, "one": ONE, "empty": np.zeros((0, 0))}
    ),
    square("cholesky, upper", lambda a: np.linalg.cholesky(a, upper=True), P),
    square("cholesky of one triangle", np.linalg.cholesky, np.tril(P)),
    *over("eigh", lambda a: tuple(np.linalg.eigh(a)), {"matrix": P, "stack": PS, "one": ONE, "not symmetric": A}),
    square("eigh, upper", lambda a: tuple(np.linalg.eigh(a, UPLO="U")), A),
    *over("eigvalsh", np.linalg.eigvalsh, {"matrix": P, "complex": H, "empty": np.zeros((0, 0))}),
    *over("a function by eigh", spectral, {"matrix": P, "stack": PS, "complex": H}),
    square("eig, real", lambda a: tuple(np.linalg.eig(a)), A, batched=False),
    square("eig, complex", lambda a: tuple(np.linalg.eig(a)), C + np.diag([0, 3j])),
    square("eigvals", np.linalg.eigvals, A, batched=False),
    square(
        "eigvals, complex pairs", np.linalg.eigvals, np.array([[1.0, 2.0, 0.3], [-2.0, 1.5, 0.1], [0.2, 0.4, -1.0]])
    ),
    *over(
        "svd",
        lambda a: tuple(np.linalg.svd(a, full_matrices=False)),
        {"square": A, "tall": TALL, "wide": WIDE, "stack": S},
    ),
    square("svd, full", lambda a: tuple(np.linalg.svd(a)), A),
    square("svd, full, one more column", lambda a: tuple(np.linalg.svd(a)), WIDE),
    *over("svd, full, span", null_space, {"tall": TALL, "wide": draw(2, 4), "complex": TALL + 1j * draw(4, 2, seed=5)}),
    *over(
        "a function by svd",
        by_svd,
        {
            "tall": TALL,
            "complex": C,
            "wide complex": WIDE + 1j * draw(2, 3, seed=6),
            "tall complex": TALL + 1j * draw(4, 2, seed=5),
        },
    ),
    square("svd, hermitian", lambda a: tuple(np.linalg.svd(a, hermitian=True)), P - 3 * np.eye(3)),
    square("svdvals", np.linalg.svdvals, S),
    square("singular values alone", lambda a: np.linalg.svd(a, compute_uv=False), TALL),
    *over("qr", lambda a: tuple(np.linalg.qr(a)), {"square": A, "tall": TALL, "wide": WIDE, "stack": S, "complex": C}),
    square("qr, tall complex", lambda a: tuple(np.linalg.qr(a)), TALL + 1j * draw(4, 2, seed=5)),
    square("qr, r", lambda a: np.linalg.qr(a, "r"), TALL),
    square("qr, complete", completed, TALL),
    square("qr, complete, wide", lambda a: tuple(np.linalg.qr(a, "complete")), WIDE),
]

ORDERS = (None, 1, 2, 3, 0.5, -1, -2.0, np.inf, -np.inf)
NORMS = [
    *(square(f"vector norm {p}", lambda x, p=p: np.linalg.norm(x, p), V) for p in ORDERS),
    *(
        square(f"vector norm {p} along 0", lambda x, p=p: np.linalg.norm(x, p, axis=0, keepdims=True), B)
        for p in ORDERS
    ),
    *(
        square(f"matrix norm {p}", lambda x, p=p: np.linalg.norm(x, p), A)
        for p in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ),
    *(
        square(
            f"matrix norm {p} of axes", lambda x, p=p: np.linalg.norm(x, p, axis=(2, 0), keepdims=True), draw(3, 2, 4)
        )
        for p in ("fro", "nuc", 1, 2, -np.inf)
    ),
    square("norm of all", np.linalg.norm, draw(2, 3, 2)),
    square("norm, complex", np.linalg.norm, Z),
    square("norm 1, complex", lambda x: np.linalg.norm(x, 1, axis=1), Z),
    square("matrix norm 2, complex", lambda x: np.linalg.norm(x, 2), C),
    *(
        square(f"vector_norm {p}", lambda x, p=p: np.linalg.vector_norm(x, ord=p, axis=(0, 2)), draw(2, 3, 2))
        for p in (1, 2, 3)
    ),
    square("vector_norm of all", lambda x: np.linalg.vector_norm(x, keepdims=True), B),
    *(square(f"matrix_norm {p}", lambda x, p=p: np.linalg.matrix_norm(x, ord=p), S) for p in ("fro", "nuc", 2, 1)),
    *(square(f"cond {p}", lambda x, p=p: np.linalg.cond(x, p), S) for p in (None, 2, -2, 1, "fro", np.inf)),
    square("norm 0", lambda x: np.linalg.norm(x, 0), V, order=0),
    square("matrix_rank", np.linalg.matrix_rank, S, order=0),
    square("matrix_rank of a vector", np.linalg.matrix_rank, V, order=0),
    square("matrix_rank, tol", lambda a: np.linalg.matrix_rank(a, tol=3.0), A, order=0),
]

PRODUCTS = [
    square("multi_dot", lambda a, b, c: np.linalg.multi_dot([a, b, c]), draw(2, 3), draw(3, 4), draw(4, 2)),
    square("multi_dot, vectors", lambda a, b, c: np.linalg.multi_dot([a, b, c]), draw(3), draw(3, 4), draw(4)),
    square("multi_dot of four", lambda a, b: np.linalg.multi_dot([a, b, a, b]), draw(2, 3), draw(3, 2)),
    square("matmul", np.linalg.matmul, S, B),
    square("tensordot", lambda a, b: np.linalg.tensordot(a, b, axes=1), S, B),
    square("outer", np.linalg.outer, V, V[:2]),
    square("vecdot", np.linalg.vecdot, Z, Z),
    square("vecdot, axis", lambda a, b: np.linalg.vecdot(a, b, axis=0), B, B),
    square("cross", np.linalg.cross, draw(2, 3), V),
    square("cross, axis", lambda a, b: np.linalg.cross(a, b, axis=0), B, B),
    square("matrix_transpose", np.linalg.matrix_transpose, S),
    *(square(f"diagonal {k}", lambda a, k=k: np.linalg.diagonal(a, offset=k), draw(2, 3, 4)) for k in (0, 1, -2, 5)),
    *(square(f"trace {k}", lambda a, k=k: np.linalg.trace(a, offset=k), draw(2, 3, 4)) for k in (0, -1)),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", [*SOLVING, *FACTORS, *NORMS, *PRODUCTS], ids=str)
def test_law(law, case):
    law(case)


# ---- conventions


def test_norm_at_zero_has_derivative_zero():
    zero = np.zeros(3)
    for p in (None, 1, 2, 3, np.inf):
        np.testing.assert_array_equal(cr.grad(lambda x: np.linalg.norm(x, p))(zero), zero)
    np.testing.assert_array_equal(cr.hessian(np.linalg.norm)(zero), np.zeros((3, 3)))
    np.testing.assert_array_equal(cr.grad(lambda z: np.linalg.norm(z))(zero + 0j), zero)


def test_det_has_its_gradient_at_singular_matrices():
    np.testing.assert_allclose(cr.grad(np.linalg.det)(np.zeros((1, 1))), [[1.0]])
    np.testing.assert_allclose(cr.grad(np.linalg.det)(np.diag([2.0, 3.0, 0.0])), np.diag([0, 0, 6.0]), atol=1e-14)
    h = cr.hessian(np.linalg.det)(np.zeros((2, 2)))
    np.testing.assert_allclose(h.reshape(4, 4), [[0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0]], atol=1e-14)


def test_third_derivative_of_det_is_the_permutation_sign():
    third = cr.jacobian(cr.hessian(np.linalg.det))(A)
    for i, j, k in itertools.permutations(range(3)):
        sign = np.linalg.det(np.eye(3)[[i, j, k]])
        np.testing.assert_allclose(third[0, i, 1, j, 2, k], sign, atol=1e-8)


def test_gradient_lies_in_the_triangle_that_numpy_reads():
    for f, empty in (
        (lambda a: np.sum(np.linalg.cholesky(a)), np.triu),
        (lambda a: np.sum(np.linalg.cholesky(a, upper=True)), np.tril),
        (lambda a: np.linalg.eigvalsh(a)[0], np.triu),
        (lambda a: np.linalg.eigvalsh(a, "U")[0], np.tril),
    ):
        k = 1 if empty is np.triu else -1
        assert not np.any(empty(cr.grad(f)(P), k))


def test_of_a_symmetric_matrix_made_from_its_factor_the_gradient_is_the_usual_one():
    by_cholesky = lambda x: 2 * np.sum(np.log(np.linalg.diagonal(np.linalg.cholesky(x @ x.T))))
    by_eigh = lambda x: np.sum(np.log(np.linalg.eigh(x @ x.T)[0]))
    expected = 2 * np.linalg.inv(A).T
    np.testing.assert_allclose(cr.grad(by_cholesky)(A), expected, rtol=1e-12)
    np.testing.assert_allclose(cr.grad(by_eigh)(A), expected, rtol=1e-12)


def test_vectors_of_equal_eigenvalues_have_no_derivative_but_their_values_do():
    eye = np.eye(3)
    assert not np.all(np.isfinite(cr.grad(lambda a: np.sum(B.T @ np.linalg.eigh(a)[1]))(eye)))
    assert not np.all(np.isfinite(cr.grad(lambda a: np.sum(B.T @ np.linalg.svd(a)[0]))(eye)))
    np.testing.assert_allclose(cr.grad(lambda a: np.sum(np.linalg.eigvalsh(a) ** 2))(eye), 2 * eye, atol=1e-15)
    np.testing.assert_allclose(cr.grad(lambda a: np.sum(np.linalg.svdvals(a) ** 2))(eye), 2 * eye, atol=1e-15)


def test_eigenvectors_keep_their_normalisation():
    a = np.array([[1.0, 2.0, 0.3], [-2.0, 1.5, 0.1], [0.2, 0.4, -1.0]])
    (_, v), (_, dv) = cr.jvp(lambda a: tuple(np.linalg.eig(a)), (a,), (draw(3, 3, seed=9),))
    np.testing.assert_allclose(np.real(np.sum(v.conj() * dv, axis=0)), 0, atol=1e-14)
    largest = np.argmax(np.abs(v), axis=0)
    np.testing.assert_allclose(np.imag(dv[largest, range(3)]), 0, atol=1e-14)


def test_eig_of_a_batch_is_complex():
    found = cr.vmap(lambda a: np.linalg.eigvals(a))(S)
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, np.linalg.eigvals(S), rtol=1e-12)


def test_a_singular_member_of_a_stack_that_is_masked_gets_gradient_zero():
    stack = np.stack([np.zeros((2, 2)), 2 * np.eye(2)])
    f = lambda a: np.sum(np.where(np.linalg.det(a) != 0, np.linalg.slogdet(a)[1], 0.0))
    np.testing.assert_array_equal(cr.grad(f)(stack), np.stack([np.zeros((2, 2)), 0.5 * np.eye(2)]))
    np.testing.assert_array_equal(cr.jvp(f, (stack,), (np.stack([np.zeros((2, 2)), np.eye(2)]),))[1], 1.0)


def test_a_singular_matrix_raises_as_numpy_does():
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        cr.grad(lambda a: np.sum(np.linalg.inv(a)))(np.zeros((2, 2)))
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        cr.vmap(lambda b: np.linalg.solve(np.zeros((2, 2)), b))(np.ones((3, 2)))


def test_shapes_that_do_not_agree_raise_as_numpy_does():
    for f in (np.linalg.inv, np.linalg.det, np.linalg.cholesky, np.linalg.eigh, np.linalg.eig):
        with pytest.raises(np.linalg.LinAlgError, match="square"):
            cr.vjp(f, np.ones((2, 3)))
    with pytest.raises(ValueError, match="agree"):
        cr.vjp(np.linalg.solve, np.ones((2, 2)), np.ones(3))
    with pytest.raises(ValueError, match="Invalid norm order"):
        cr.vjp(lambda x: np.linalg.norm(x, "nuc"), np.ones(3))
    with pytest.raises(ValueError, match="Improper number"):
        cr.vjp(lambda x: np.linalg.norm(x, 1), np.ones((2, 2, 2)))


def test_raw_qr_says_what_to_use():
    with pytest.raises(cr.errors.MissingRule, match="reduced"):
        cr.vjp(lambda a: np.linalg.qr(a, "raw"), A)


@pytest.mark.parametrize(
    "f",
    [
        np.linalg.inv,
        np.linalg.det,
        np.linalg.slogdet,
        np.linalg.cholesky,
        np.linalg.eigh,
        np.linalg.svd,
        np.linalg.qr,
        np.linalg.norm,
        np.linalg.pinv,
        np.linalg.eig,
        lambda a: np.linalg.norm(a, 3, axis=0),
        lambda a: np.linalg.solve(a, a[0]),
        lambda a: np.linalg.matrix_power(a, -3),
        lambda a: np.linalg.norm(a, "nuc"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_is_kept(f, dtype):
    a = P.astype(dtype)
    outs, pullback = cr.vjp(lambda a: tuple(f(a)) if isinstance(f(a), tuple) else (f(a),), a)
    expected = f(a) if isinstance(f(a), tuple) else (f(a),)
    assert [o.dtype for o in outs] == [e.dtype for e in expected]
    assert pullback(tuple(np.ones_like(o) for o in outs))[0].dtype == dtype
    dots = cr.jvp(lambda a: tuple(f(a)) if isinstance(f(a), tuple) else (f(a),), (a,), (a,))[1]
    assert [d.dtype for d in dots] == [e.dtype for e in expected]


def test_nested_batching_is_a_loop():
    a = regular(2, 2, 3)
    b = draw(3, 2)
    found = cr.vmap(cr.vmap(np.linalg.solve), in_axes=(0, None))(a, b)
    np.testing.assert_allclose(found, np.linalg.solve(a, b[None, ..., None])[..., 0], rtol=1e-12)
    found = cr.vmap(cr.vmap(cr.grad(lambda a: np.linalg.slogdet(a)[1])))(a)
    np.testing.assert_allclose(found, np.swapaxes(np.linalg.inv(a), -1, -2), rtol=1e-12)


def test_results_are_numpys_named_tuples():
    seen = []
    cr.jvp(
        lambda a: (
            seen.append((np.linalg.svd(a), np.linalg.slogdet(a), np.linalg.qr(a), np.linalg.eigh(a), np.linalg.eig(a)))
            or a
        ),
        (A,),
        (A,),
    )
    for ours, f in zip(
        seen[0], (np.linalg.svd, np.linalg.slogdet, np.linalg.qr, np.linalg.eigh, np.linalg.eig), strict=True
    ):
        assert type(ours) is type(f(A))


def test_namespace_has_all_of_numpys_names():
    for name in np.linalg.__all__:
        assert getattr(cnp.linalg, name) is not None
    np.testing.assert_array_equal(cnp.linalg.inv(A), np.linalg.inv(A))


# ---- oracle

FUNCTIONS = [
    ("inv", lambda np, a: np.linalg.inv(a)),
    ("det", lambda np, a: np.linalg.det(a)),
    ("slogdet", lambda np, a: np.linalg.slogdet(a)[1]),
    ("solve", lambda np, a: np.linalg.solve(a, a.T)),
    ("cholesky", lambda np, a: np.linalg.cholesky(a @ np.conj(a.T))),
    ("eigvalsh", lambda np, a: np.linalg.eigvalsh(a @ np.conj(a.T))),
    ("eigh", lambda np, a: np.abs(np.linalg.eigh(a + np.conj(a.T))[1])),
    ("svd", lambda np, a: np.abs(np.linalg.svd(a[:, :2], full_matrices=False)[0])),
    ("svd, right", lambda np, a: np.abs(np.linalg.svd(a[:2], full_matrices=False)[2])),
    ("svdvals", lambda np, a: np.linalg.svd(a, compute_uv=False)),
    ("qr, q", lambda np, a: np.abs(np.linalg.qr(a[:, :2])[0])),
    ("qr, r", lambda np, a: np.abs(np.linalg.qr(a)[1] + 1)),
    ("pinv", lambda np, a: np.linalg.pinv(a[:, :2])),
    ("matrix_power", lambda np, a: np.linalg.matrix_power(a, -2)),
    ("norm", lambda np, a: np.linalg.norm(a)),
    ("norm 2", lambda np, a: np.linalg.norm(a, 2)),
    ("norm nuc", lambda np, a: np.linalg.norm(a, "nuc")),
    ("norm 1", lambda np, a: np.linalg.norm(a, 1)),
    ("norm 3", lambda np, a: np.linalg.norm(a, 3, axis=0)),
    ("multi_dot", lambda np, a: np.linalg.multi_dot([a, a, a[0]])),
]


@pytest.mark.oracle
@pytest.mark.parametrize("a", [A, regular(3, seed=2, imaginary=0.7)], ids=["real", "complex"])
@pytest.mark.parametrize("f", [f for _, f in FUNCTIONS], ids=[n for n, _ in FUNCTIONS])
def test_gradient_is_jaxs(f, a):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        expected = jax.grad(lambda a: jax.numpy.sum(jax.numpy.abs(f(jax.numpy, a)) ** 2))(jax.numpy.asarray(a))
        expected = np.asarray(expected)
    found = cr.grad(lambda a: np.sum(np.abs(f(np, a)) ** 2))(a)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
