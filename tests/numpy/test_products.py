"""Products of arrays: values, both modes, second order, batching and replay, by the laws over cases."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.testing.cases import LAWS, case, draw

U, V = draw(3), draw(3, seed=1)
A, B, C = draw(2, 3), draw(3, 2, seed=1), draw(2, 2, seed=2)
S, T = draw(2, 2, 3), draw(2, 3, 2, seed=1)
Z = draw(3) + 1j * draw(3, seed=5)

CASES = [
    case("dot of vectors", np.dot, U, V),
    case("dot of matrices", np.dot, A, B),
    case("dot of a stack", np.dot, S, B),
    case("dot with a number", lambda a, u: np.dot(a, 2.0) + np.dot(u[0], a), A, U),
    case("dot method", lambda a: a.dot(a[0]) * 2.0, A),
    case("matmul", lambda a, b: a @ b, A, B),
    case("matmul of stacks", np.matmul, S, T),
    case("matmul broadcasting", np.matmul, draw(2, 1, 2, 3), draw(3, 3, 1)),
    case("matmul of a vector and a stack", np.matmul, U, T),
    case("matmul of a stack and a vector", np.matmul, S, U),
    case("matmul with a plain matrix", lambda b: np.ones((4, 3)) @ b, B),
    case("inner", np.inner, A, draw(4, 3)),
    case("outer", np.outer, A, V),
    case("vdot", np.vdot, A, B),
    case("vdot of complex numbers", np.vdot, Z, V + 0.5j),
    case("vecdot", np.vecdot, S, draw(3)),
    case("vecdot of complex numbers", lambda z, v: np.vecdot(z, v, axis=0), Z, V + 0.5j),
    case("matvec", np.matvec, S, draw(2, 3)),
    case("vecmat", np.vecmat, draw(2, 3), T),
    case("tensordot", lambda s, t: np.tensordot(s, t, axes=([1, 2], [0, 1])), S, T),
    case("tensordot of last axes", lambda a, b: np.tensordot(a, b, 1), A, B),
    case("outer tensordot", lambda a, b: np.tensordot(a, b, 0), A, V),
    case("kron", np.kron, A, C),
    case("kron of different ranks", np.kron, A, V),
    case("cross", np.cross, draw(2, 3), V),
    case("cross along an axis", lambda a, b: np.cross(a, b, axis=0), draw(3, 2), draw(3, 2, seed=1)),
    case("einsum product", lambda a, b: np.einsum("ij,jk->ki", a, b), A, B),
    case("einsum implicit", lambda a, b: np.einsum("ij,jk", a, b), A, B),
    case("einsum of one", lambda a: np.einsum("ij->j", a), A),
    case("einsum trace", lambda c: np.einsum("ii", c), C),
    case("einsum diagonal", lambda c, u: np.einsum("ii,j->ji", c, u), C, U),
    case("einsum of three", lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c), A, B, C),
    case("einsum dots", lambda s, t: np.einsum("...ij,...jk->...ik", s, t), S, T),
    case("einsum implicit dots", lambda s, u: np.einsum("...j,j", s, u), S, U),
    case("einsum broadcasting dots", lambda s, t: np.einsum("...ij,...jk->i...", s, t), draw(3, 1, 2, 3), T),
    case("einsum broadcasting a label", lambda a, b: np.einsum("ij,ij->i", a, b), A, draw(2, 1)),
    case("einsum with lists", lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]), A, B),
    case("einsum with lists and dots", lambda s, u: np.einsum(s, [Ellipsis, 0], u, [0]), S, U),
    case("einsum with a number", lambda a, u: np.einsum(",ij->j", u[0], a), A, U),
]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.dot(x, np.ones(2)),
        lambda x: x @ np.ones((2, 2)),
        lambda x: np.matmul(x, 2.0),
        lambda x: np.einsum("ij->i", x),
        lambda x: np.einsum("i,i->j", x, x),
        lambda x: np.einsum("i,i->i", x, np.ones(2)),
        lambda x: np.cross(np.stack([x, x], 1).ravel(), x),
        lambda x: np.tensordot(x, np.ones(2), 1),
    ],
)
def test_shapes_that_do_not_fit_raise_as_numpy_does(f):
    with pytest.raises(ValueError):
        f(np.ones(3))
    with pytest.raises(ValueError):
        cr.jvp(f, (np.ones(3),), (np.ones(3),))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i8", "?", "f4"])
@pytest.mark.parametrize("spec", ["i->", "ij->j", "ij,ij->i", "ij,jk,k->i", "ii->i"])
def test_einsum_has_the_dtype_of_its_operands_and_wraps_as_numpy_does(spec, dtype):
    numbers = np.random.default_rng(0).integers(0, 100, 9)
    shapes = [(3,) * len(labels) for labels in spec.split("->")[0].split(",")]
    xs = [np.resize(numbers - 3 * k, shape).astype(dtype) for k, shape in enumerate(shapes)]
    wanted = np.einsum(spec, *xs)
    found = cr.jit(lambda *xs: np.einsum(spec, *xs))(*xs)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
