"""Discrete Fourier transforms of full length, over any axes.

    fft[axes, norm, inverse]    y = F x,  F[j, k] = c exp(-+ 2 pi i j k / n)    symmetric: its own transpose, without conjugation
    rfft[axis, norm]            the first n // 2 + 1 elements of the fft of a real array of n
    irfft[n, axis, norm]        the real array of n whose rfft is x, the imaginary parts at frequencies 0 and n / 2 ignored

With R the rfft and C the irfft without their factors, and w = 2 at the frequencies that stand for two and 1 at the others (0, and
n / 2 of an even n), the transposes under Re(sum(a * b)) are R^T ct = C(conj(ct) / w) and C^T ct = w conj(R ct). `norm` is NumPy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log2, prod
from typing import Any, Literal, TypeAlias

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Implicit
from chainrule.prims import matrices as mx
from chainrule.prims.elementwise import conjugate
from chainrule.prims.shape import draw

Axes: TypeAlias = tuple[int, ...]
Norm: TypeAlias = Literal["backward", "ortho", "forward"]
# The factor of the opposite direction: an inverse transform of the one norm is a forward transform of the other.
OPPOSITE: dict[str, Norm] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _complex(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.complex64)


def _log_cost(x: ArrayType, extents: Sequence[int]) -> int:
    return int(5 * x.size * log2(max(2, prod(extents))))


# ---- fft[axes, norm, inverse](x)


def _fft_value(x: Any, *, axes: Axes, norm: Norm, inverse: bool) -> Any:
    return (np.fft.ifftn if inverse else np.fft.fftn)(x, axes=axes, norm=norm)


def _fft_partial(x: Array, *, out: Array, axes: Axes, norm: Norm, inverse: bool) -> Implicit:
    def transform(t: Array) -> Array:
        return fft(t, axes=axes, norm=norm, inverse=inverse)

    extents = [x.shape[a] for a in axes]
    return Implicit(transform, transform, x, out, cost=int(2 * prod(x.shape) * log2(max(2, prod(extents)))))


def _fft_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return fft(args[0], **{**params, "axes": tuple(a + 1 for a in params["axes"])})


def _fft_samples() -> Iterator[Sample]:
    for norm, inverse in (("backward", False), ("ortho", True), ("forward", False), ("backward", True)):
        yield (draw(4) + 0.5j,), {"axes": (0,), "norm": norm, "inverse": inverse}
        yield (draw(3, 2) + 1j * draw(2, 3).T,), {"axes": (0, 1), "norm": norm, "inverse": inverse}
    yield (draw(5),), {"axes": (0,), "norm": "backward", "inverse": False}
    yield (draw(1, 3),), {"axes": (1,), "norm": "backward", "inverse": True}
    yield (draw(0, 3),), {"axes": (1,), "norm": "backward", "inverse": False}


fft = RoomPrimitive(
    name="fft",
    compute=_fft_value,
    types=lambda x, axes, norm, inverse: ArrayType(x.shape, _complex(x.dtype)),
    partials=(_fft_partial,),
    batching=_fft_batch,
    cost=lambda args, outs, params: _log_cost(args[0], [args[0].shape[a] for a in params["axes"]]),
    examples=_fft_samples,
)

# ---- rfft[axis, norm](x) and irfft[n, axis, norm](x)


def _multiplicity(n: int, axis: int, rank: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """How many frequencies of a full transform each one of a real transform stands for, along an axis of `rank` axes."""
    count = np.full(n // 2 + 1, 2, mx.real_dtype(dtype))
    count[0] = 1
    if n % 2 == 0:
        count[-1] = 1
    return count.reshape((-1,) + (1,) * (rank - 1 - axis))


def _rfft_transposed(ct: Array, n: int, axis: int, norm: Norm) -> Array:
    count = _multiplicity(n, axis, ct.ndim, ct.dtype)
    return irfft(conjugate(ct) / count, n=n, axis=axis, norm=OPPOSITE[norm])


def _irfft_transposed(ct: Array, n: int, axis: int, norm: Norm) -> Array:
    return conjugate(rfft(ct, axis=axis, norm=OPPOSITE[norm])) * _multiplicity(n, axis, ct.ndim, ct.dtype)


def _rfft_partial(x: Array, *, out: Array, axis: int, norm: Norm) -> Implicit:
    n = x.shape[axis]
    return Implicit(
        lambda t: rfft(t, axis=axis, norm=norm),
        lambda ct: _rfft_transposed(ct, n, axis, norm),
        x,
        out,
        cost=int(prod(x.shape) * log2(max(2, n))),
    )


def _irfft_partial(x: Array, *, out: Array, n: int, axis: int, norm: Norm) -> Implicit:
    return Implicit(
        lambda t: irfft(t, n=n, axis=axis, norm=norm),
        lambda ct: _irfft_transposed(ct, n, axis, norm),
        x,
        out,
        cost=int(prod(out.shape) * log2(max(2, n))),
    )


def _rfft_types(x: ArrayType, *, axis: int, norm: Norm) -> ArrayType:
    return ArrayType((*x.shape[:axis], x.shape[axis] // 2 + 1, *x.shape[axis + 1 :]), _complex(x.dtype))


def _irfft_types(x: ArrayType, *, n: int, axis: int, norm: Norm) -> ArrayType:
    return ArrayType((*x.shape[:axis], n, *x.shape[axis + 1 :]), mx.real_dtype(_complex(x.dtype)))


def _rfft_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return rfft(args[0], **{**params, "axis": params["axis"] + 1})


def _irfft_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return irfft(args[0], **{**params, "axis": params["axis"] + 1})


def _rfft_samples() -> Iterator[Sample]:
    for n, norm in ((4, "backward"), (5, "ortho"), (6, "forward"), (2, "backward"), (1, "backward")):
        yield (draw(n),), {"axis": 0, "norm": norm}
    yield (draw(2, 4, 3),), {"axis": 1, "norm": "ortho"}
    yield (draw(0, 3),), {"axis": 1, "norm": "backward"}


def _irfft_samples() -> Iterator[Sample]:
    for (x,), params in _rfft_samples():
        z = rfft(x, **params)
        yield (z + 0.25j,), {"n": x.shape[params["axis"]], **params}


rfft = RoomPrimitive(
    name="rfft",
    compute=lambda x, axis, norm: np.fft.rfft(x, axis=axis, norm=norm),
    types=_rfft_types,
    partials=(_rfft_partial,),
    batching=_rfft_batch,
    cost=lambda args, outs, params: _log_cost(args[0], [args[0].shape[params["axis"]]]) // 2,
    examples=_rfft_samples,
)

irfft = RoomPrimitive(
    name="irfft",
    compute=lambda x, n, axis, norm: np.fft.irfft(x, n, axis=axis, norm=norm),
    types=_irfft_types,
    partials=(_irfft_partial,),
    batching=_irfft_batch,
    cost=lambda args, outs, params: _log_cost(outs[0], [params["n"]]) // 2,
    examples=_irfft_samples,
)
