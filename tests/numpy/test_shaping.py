"""Shapes, indexing, joining, sorting and padding: values, both modes, second order, batching and replay, by the laws over cases."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.testing.cases import LAWS, case, draw

V = draw(5)
X = draw(2, 3)
Y = draw(2, 3, seed=1)
S = draw(3, 3)
T = draw(2, 3, 4)
ROWS = np.array([1, 0, 1])
GRID = np.array([[2, 0], [1, -1]])
MASK = np.array([[True, False, True], [False, True, True]])


def product_of(a, b):
    return a * b


SHAPES = [
    case("reshape", lambda x: np.reshape(x, (3, -1)) * x.reshape(3, 2), X),
    case("reshape in column order", lambda x: np.reshape(x, (3, 2), order="F") + x.reshape(-1, 2, order="F"), X),
    case("ravel", lambda x: np.ravel(x) * x.flatten() * x.ravel("F"), X),
    case("transpose", lambda t: np.transpose(t, (2, 0, 1)) * t.transpose(2, 0, 1) + t.T.transpose((0, 2, 1)), T),
    case("matrix_transpose", lambda t: np.matrix_transpose(t) * t.mT, T),
    case("swapaxes", lambda t: np.swapaxes(t, 0, -1) * t.swapaxes(2, 0), T),
    case("moveaxis", lambda t: np.moveaxis(t, [0, 1], [-1, -2]) + np.rollaxis(t, 2, 0).transpose(0, 2, 1), T),
    case("permute_dims", lambda t: np.permute_dims(t, (1, 0, 2)), T),
    case("expand_dims", lambda x: np.expand_dims(x, (0, -1)) * np.expand_dims(x, 0)[..., None], X),
    case("squeeze", lambda x: np.squeeze(x[None, :, None]) * x[None].squeeze(0), X),
    case("atleast", lambda x: (np.atleast_1d(x[0, 0]), np.atleast_2d(x[0]), np.atleast_3d(x, x[0])), X),
    case("broadcast_to", lambda x: np.broadcast_to(x, (4, 2, 3)) ** 2, X),
    case("broadcast_arrays", lambda x, y: np.broadcast_arrays(x[:, None], y[0]), X, Y),
    case("meshgrid", lambda x, y: np.meshgrid(x[0], y[0, :2]), X, Y),
    case("meshgrid sparse", lambda x, y: np.meshgrid(x[0], y[0, :2], indexing="ij", sparse=True), X, Y),
    case("ix_", lambda x: np.ix_(x[0], x[1])[0] * np.ix_(x[0], x[1])[1], X),
    case("flat", lambda x: x.flat[2] * x.flat[1:3], X),
    case("iteration", lambda x: sum(row[0] * row for row in x), X),
]

INDEXING = [
    case("integers", lambda x: x[1, -2] * x[0], X),
    case("slices", lambda x: x[::-1, 1:] * x[:, :2] + x[-1:, ::2], X),
    case("newaxis and dots", lambda t: t[..., None, 0] * t[None, ..., 1:2], T),
    case("integer array", lambda x: x[ROWS] ** 2, X),
    case("integer list", lambda x: x[[1, 0, 1]] ** 2, X),
    case("matrix of integers", lambda v: v[GRID] ** 2, V),
    case("two integer arrays", lambda x: x[ROWS, [0, 2, 2]] ** 2, X),
    case("broadcasting integer arrays", lambda x: x[np.ix_([1, 0], [2, 0])], X),
    case("integer array and slice", lambda t: t[:, [0, 2], 1:] ** 2, T),
    case("integer array, slice, integer array", lambda t: t[[0, 1], :, [3, 0]] ** 2, T),
    case("integer, slice, integer array", lambda t: t[0, :, [3, 0]] ** 2, T),
    case("integer array after an integer", lambda t: t[:, 1, [3, 0]] ** 2, T),
    case("integer array and newaxis", lambda t: t[[0, 1], None, [2, 1]] * t[:, None, [2, 1], 0][:, :, :1], T),
    case("integer array after dots", lambda t: t[..., [3, 0, 0]] ** 2, T),
    case("matrix of integers between slices", lambda t: t[:, GRID[:, :1], ::2] ** 2, T),
    case("zero-dimensional integer array", lambda x: x[np.array(1)] * x[np.int64(0)], X),
    case("mask", lambda x: x[MASK] ** 2, X),
    case("mask of rows", lambda x: x[[True, False]] ** 2, X),
    case("mask and slice", lambda t: t[:, [True, False, True], 1:] ** 2, T),
    case("mask and integer", lambda t: t[MASK, 1] ** 2, T),
    case("lone booleans", lambda x: x[True] * x[:, True, 0] + np.sum(x[False]) + x[True, [1, 0]].shape[0], X),
    case("mask of a comparison", lambda x: x[x > 0] ** 2, X, batched=False, replayed=False),
    case("empty list", lambda x: np.sum(x[[]]) + x, X),
    case("take", lambda x: np.take(x, GRID) * x.take([[0, 1], [2, 3]]), X),
    case("take along an axis", lambda t: np.take(t, [2, 0, 2], axis=1) * t.take(1, axis=0)[:, None][:1], T),
    case("take wrapped", lambda v: np.take(v, [7, -3], mode="wrap") + np.take(v, [7, -3], mode="clip"), V),
    case("take_along_axis", lambda x: np.take_along_axis(x, np.array([[2, 0], [1, 1]]), axis=1) ** 2, X),
    case("take_along_axis flat", lambda x: np.take_along_axis(x, np.array([5, 0, 0]), axis=None) ** 2, X),
    case("take_along_axis of a stack", lambda t: np.take_along_axis(t, np.argsort(t, axis=1), 1) ** 2, T),
    case("compress", lambda x: np.compress([True, False, True], x, axis=1) ** 2, X),
    case("extract", lambda x: np.extract(MASK, x) ** 2, X),
    case("diagonal", lambda x: np.diagonal(x) * x.diagonal(0, 1, 0) + np.sum(np.diagonal(x, 1)), X),
    case("diagonal of a stack", lambda t: np.diagonal(t, -1, 1, 2) ** 2, T),
    case("trace", lambda s: np.trace(s) * np.trace(s, 1) * s.trace(-1), S),
    case("trace of a stack", lambda t: np.trace(t, axis1=1, axis2=2) ** 2, T),
    case("diag", lambda x: (np.diag(x[0]), np.diag(x[0], -2), np.diag(x[0], 1), np.diag(x, 1)), X),
    case("diagflat", lambda x: np.diagflat(x, 1), X),
    case("triangles", lambda t: np.tril(t) ** 2 + np.triu(t, 1) + np.tril(t, -1), T),
    case("triangles of a vector", lambda v: np.tril(v) + np.triu(v, 1), V),
    case("triangle indices", lambda s: s[np.tril_indices_from(s)] * s[np.triu_indices_from(s)], S),
    case("vander", lambda v: np.vander(v, 4) * np.vander(v, 4, increasing=True), V),
]

JOINING = [
    case("concatenate", lambda x, y: np.concatenate([x, y, np.ones((1, 3))]) ** 2, X, Y),
    case("concatenate flat", lambda x, y: np.concatenate((x, y[0]), axis=None) ** 2, X, Y),
    case("concat along the last axis", lambda x, y: np.concat([x, y, x], axis=-1) ** 2, X, Y),
    case("concatenate an array", lambda t: np.concatenate(t, axis=1), T),
    case("stack", lambda x, y: np.stack([x, y], axis=1) ** 2 + np.stack((x, y), axis=-1).swapaxes(1, 2), X, Y),
    case("stack of numbers", lambda v: np.stack([v[0], 2.0, v[1] * v[2]]), V),
    case("vstack", lambda x, y: np.vstack([x, y[0]]) ** 2, X, Y),
    case("hstack", lambda x, y: (np.hstack([x, y]), np.hstack([x[0], y[0], 1.0])), X, Y),
    case("dstack", lambda x, y: np.dstack([x, y]), X, Y),
    case("column_stack", lambda x, y: np.column_stack([x, y, [1.0, 2.0]]), X, Y),
    case("block", lambda x, y: np.block([[x, y], [np.ones((1, 5)), y[0, :1]]]), X, Y),
    case("block of one list", lambda x: np.block([x[0], 1.0, x[1, 0]]), X),
    case("append", lambda x, y: (np.append(x, y), np.append(x, y[:1], axis=0)), X, Y),
    case(
        "r_ and c_",
        lambda x, y: (np.r_[x[0], 1.0, y[1], x[0, 0]], np.c_[x, y[:, 0], [1.0, 2.0]], np.r_[0:3, x[0]]),
        X,
        Y,
    ),
    case("nested lists", lambda x: np.array([[x[0, 0], 1.0], [2, x[0, 1] * x[1, 2]]]), X),
    case("array of rows", lambda x: np.array([x[0], x[1] ** 2]) * np.asarray((x[0], [1, 2, 3])), X),
    case("array with dtype", lambda x: np.array([x[0, 0], 1], dtype=complex) * np.array(x[0, 1], ndmin=1), X),
    case("split", lambda t: [p * p for p in np.split(t, 2, axis=-1)] + np.split(t, [1, 3], axis=2), T),
    case("array_split", lambda v: [p * p for p in np.array_split(v, 3)], V),
    case("splits", lambda t: np.hsplit(t, 3) + np.vsplit(t, [1]) + np.dsplit(t, 2), T),
    case("unstack", lambda t: [p * p for p in np.unstack(t, axis=1)], T),
    case("unpacking", lambda x: product_of(*x), X),
    case("tile", lambda x: np.tile(x, (2, 1, 2)) ** 2, X),
    case("tile by a number", lambda x: np.tile(x, 2) * np.tile(x, 1)[0, 0], X),
    case("repeat", lambda x: np.repeat(x, 2) * x.repeat(2, axis=1).ravel(), X),
    case("repeat by counts", lambda x: np.repeat(x, [2, 0, 1], axis=1) ** 2, X),
    case("resize", lambda x: np.resize(x, (3, 4)) ** 2, X),
    case("resize of nothing", lambda x: np.resize(x[:0], (3, 4)) + x[0, 0], X),
    case("delete", lambda x: (np.delete(x, 1), np.delete(x, [0, -1], axis=1), np.delete(x, slice(1), 0)), X),
    case("insert", lambda x, y: np.insert(x, 1, y[0], axis=0) ** 2, X, Y),
    case("insert a number", lambda x, y: (np.insert(x, 2, y[0, 0]), np.insert(x, 1, y[0, 0], axis=1)), X, Y),
    case("insert a column", lambda x, y: np.insert(x, [1], y[:, :1], axis=1), X, Y),
    case("insert at places", lambda x, y: np.insert(x, [0, 2, 2], y, axis=1), X, Y),
    case("insert several at one place", lambda v, y: np.insert(v, 1, y[0]), V, Y),
    case("flips", lambda x: np.flip(x) * np.flipud(x) * np.fliplr(x) + np.flip(x, (0, 1)) + np.flip(x, 1), X),
    case("roll", lambda x: np.roll(x, 2) * np.roll(x, -1, axis=1) + np.roll(x, (1, 2), axis=(0, 1)), X),
    case("rot90", lambda t: [np.rot90(t, k, axes=(1, 2)) for k in range(5)], T),
]

PADDING = [
    *(
        case(f"pad {mode}", lambda x, mode=mode: np.pad(x, ((1, 2), (0, 3)), mode=mode) ** 2, draw(3, 4))
        for mode in (
            "constant",
            "edge",
            "reflect",
            "symmetric",
            "wrap",
            "linear_ramp",
            "maximum",
            "minimum",
            "mean",
            "median",
        )
    ),
    case("pad with constants", lambda x: np.pad(x, 1, constant_values=((1.0, 2.0), (3.0, 4.0))), X),
    case("pad with a traced constant", lambda x: np.pad(x, (1, 2), constant_values=x[0, 0]), X),
    case("pad with ramps", lambda x: np.pad(x, (2, 1), "linear_ramp", end_values=(5.0, -4.0)), X),
    case("pad with short statistics", lambda x: np.pad(x, 1, "mean", stat_length=2), X),
    case("pad a vector", lambda v: np.pad(v, (0, 2)) * np.pad(v, 1), V),
]

SORTING = [
    case("sort", lambda x: np.sort(x) ** 2 + np.sort(x, axis=0), draw(3, 4)),
    case("sort flat", lambda x: np.sort(x, axis=None) * np.arange(6), X),
    case("argsort", lambda x: (np.argsort(x), x.argsort(0), np.argsort(x, axis=None)), X),
    case("argsort as an index", lambda v: v[np.argsort(v)] * np.arange(5), V),
    case("partition", lambda v: np.partition(v, 2)[2] * np.sum(np.partition(v, 2)[:2]), V),
    case("lexsort", lambda x: (np.lexsort(x), np.lexsort((np.round(x[0]), x[1]))), X),
    case("searchsorted", lambda v: np.searchsorted(np.sort(v), [0.0, 0.5]), V),
    case("searchsorted with a sorter", lambda v: np.sort(v).searchsorted(v[:2], side="right"), V),
    case("digitize", lambda x: (np.digitize(x, [-1.0, 0.0, 1.0]), np.digitize(x, [1.0, 0.0], right=True)), X),
    case("isin", lambda x: (np.isin(x, x[0]), np.isin(x, [1.0], invert=True)), X),
    case(
        "nonzero",
        lambda x: (*np.nonzero(x > 0), np.flatnonzero(x < 0), np.argwhere(x > 0)),
        X,
        batched=False,
        replayed=False,
    ),
    case("where of a condition", lambda x: x[np.where(x > 0)] ** 2, X, batched=False, replayed=False),
    case(
        "unique",
        lambda x: np.unique(np.stack([x, x]), return_index=True, return_inverse=True, return_counts=True),
        X,
        batched=False,
    ),
    case(
        "unique with counts",
        lambda x: tuple(np.unique_all(x)) + tuple(np.unique_counts(x)) + tuple(np.unique_inverse(x)),
        X,
        batched=False,
    ),
    case(
        "sets",
        lambda x, y: (np.setdiff1d(x, x[0]), np.intersect1d(x, x[1]), np.setxor1d(x, y[0])),
        X,
        Y,
        batched=False,
        replayed=False,
    ),
    case("trim_zeros", lambda v: np.trim_zeros(v * [0, 1, 0, 1, 0]) ** 2, V, batched=False),
    case("union1d", lambda x, y: np.union1d(x, y) ** 2, X, Y, batched=False),
]

CASES = SHAPES + INDEXING + JOINING + PADDING + SORTING


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_law(law, case):
    law(case)


WRONG = {
    "axis": [lambda x: np.expand_dims(x, 5), lambda x: np.moveaxis(x, 4, 0), lambda x: np.concatenate([x, x], axis=3)],
    "shape": [
        lambda x: np.reshape(x, (4, 2)),
        lambda x: np.reshape(x, (-1, -1)),
        lambda x: np.broadcast_to(x, (2, 4)),
        lambda x: np.squeeze(x, 0),
        lambda x: np.concatenate([x, x[0]]),
        lambda x: np.concatenate([x, x[:, :1]]),
        lambda x: np.stack([x, x[0]]),
        lambda x: np.split(x, 2, axis=1),
        lambda x: np.transpose(x, (0, 0)),
        lambda x: np.block([[x], [x[0, :2]]]),
        lambda x: np.diag(np.stack([x, x])),
    ],
    "index": [
        lambda x: x[2],
        lambda x: x[[0, 2]],
        lambda x: x[0, 0, 0],
        lambda x: x[..., ...],
        lambda x: x[[True]],
        lambda x: x[np.ones((2, 4), bool)],
        lambda x: x[1.5],
        lambda x: x[[0.5]],
        lambda x: x["name"],
        lambda x: x[[0, 1], [0, 1, 2]],
        lambda x: np.take(x, 9),
    ],
}


@pytest.mark.parametrize("f", [f for fs in WRONG.values() for f in fs])
def test_mistakes_raise_as_numpy_does(f):
    with pytest.raises((ValueError, IndexError)) as plain:
        f(X)
    with pytest.raises(plain.type):
        cr.jvp(f, (X,), (X,))


def test_copies_are_their_own_and_views_are_not():
    def f(x):
        for copy in (np.array(x), x.copy(), x.flatten(), x.astype(float), np.copy(x), np.full(x.shape, x)):
            copy += 100.0
        return np.sum(x**2)

    np.testing.assert_array_equal(cr.grad(f)(V), 2 * V)


def test_indices_stay_integers_in_a_batch():
    found = cr.vmap(lambda x, i: x[i] * x[i - 1])(X, np.array([0, 2]))
    np.testing.assert_array_equal(found, [X[0, 0] * X[0, -1], X[1, 2] * X[1, 1]])


def test_a_mask_in_a_batch_names_the_repair():
    with pytest.raises(cr.errors.TraceError, match=r"np\.where"):
        cr.vmap(lambda x: x[x > 0])(X)


@pytest.mark.parametrize("name", ["sort", "partition", "fill", "put", "view", "resize", "tobytes"])
def test_methods_that_work_in_place_name_the_repair(name):
    with pytest.raises(cr.errors.TraceError, match=r"of a traced f64\[\d+\] .*\n.*(cr\.value|write|Use|use|build)"):
        cr.grad(lambda x: getattr(x, name)(0))(V)


@pytest.mark.parametrize("f", [np.copyto, np.place, np.put, np.putmask, np.fill_diagonal, np.add.at])
def test_functions_that_write_name_the_repair(f):
    with pytest.raises(cr.errors.TraceError, match=f"{f.__name__}.*writes into|Use"):
        cr.grad(lambda x: f(x, 0, 1.0))(V)


def test_attributes_that_tracers_lack():
    def f(x):
        assert not any(hasattr(x, name) for name in ("strides", "flags", "ctypes", "base_of", "newbyteorder"))
        return np.sum(x)

    cr.grad(f)(V)
