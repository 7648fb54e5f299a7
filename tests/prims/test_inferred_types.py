"""What a primitive infers from shapes and dtypes is what its value has; where the value refuses, so does the inference."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from chainrule.ir.primitive import Primitive, ops
from chainrule.ir.types import ArrayType
from chainrule.prims.families import Elementwise

DTYPES = ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16")
NUMBERS = (True, 3, -2, 2.5, 1j, 300)
# Values decide in these: an index may be out of range, and an integer has no negative power.
DECIDED_BY_VALUES = ("out of bounds", "negative integer powers")

TYPED = [p.name for p in ops if getattr(p, "typed", False)]
UFUNCS = [p.name for p in ops if isinstance(p, Elementwise) and isinstance(p.value, np.ufunc)]


def with_one(args: Sequence[Any], k: int, x: Any) -> list[Any]:
    return [*args[:k], x, *args[k + 1 :]]


def of_dtype(x: Any, dtype: str) -> Any:
    x = np.asarray(x)
    return (x.real if x.dtype.kind == "c" and np.dtype(dtype).kind != "c" else x).astype(dtype)[()]


def of_other_dtypes(args: Sequence[Any]) -> Iterator[list[Any]]:
    for dtype in DTYPES:
        for k, x in enumerate(args):
            yield with_one(args, k, of_dtype(x, dtype))
        yield [of_dtype(x, dtype) if np.asarray(x).dtype.kind in "fc" else x for x in args]


def of_other_shapes(args: Sequence[Any]) -> Iterator[list[Any]]:
    for k, x in enumerate(map(np.asarray, args)):
        yield with_one(args, k, x[None])
        yield with_one(args, k, x[..., None])
        if x.ndim and x.size:
            yield with_one(args, k, x[0][()])
        for axis in range(x.ndim):
            yield with_one(args, k, np.concatenate([x, x], axis))
            yield with_one(args, k, x.take(range(max(x.shape[axis] - 1, 0)), axis))
            yield with_one(args, k, x.take([], axis))


def attempt(call: Any) -> Any:
    """What a call gives, or its error."""
    try:
        with np.errstate(all="ignore"):
            return call()
    except Exception as error:  # noqa: BLE001 - NumPy refuses in many ways
        return error


def check(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> None:
    what = f"{primitive.name}({[str(ArrayType.of(a)) for a in args]}, {params})"
    inferred = attempt(lambda: primitive.infer(args, params))
    if inferred is None or isinstance(inferred, Exception):
        return  # then the value is computed, and says what is wrong
    out = attempt(lambda: primitive.value(*args, **params))
    if isinstance(out, Exception):
        assert any(text in str(out) for text in DECIDED_BY_VALUES), f"{what}: inferred, where the value says {out!r}"
    else:
        assert inferred == tuple(map(ArrayType.of, (out,) if primitive.outputs == 1 else out)), what


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TYPED)
def test_inferred_types_are_those_of_the_value(name):
    primitive = ops[name]
    for args, params in list(primitive.samples())[:12]:
        check(primitive, args, params)
        for changed in of_other_dtypes(args):
            check(primitive, changed, params)
        for changed in of_other_shapes(args):
            check(primitive, changed, params)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in UFUNCS if ops[n].value.nin == 2])
def test_python_numbers_promote_as_in_the_value(name):
    primitive = ops[name]
    for dtype in DTYPES:
        for x in (np.ones(3, dtype), np.ones((), dtype)[()]):
            for number in NUMBERS:
                check(primitive, [x, number], {})
                check(primitive, [number, x], {})


@pytest.mark.parametrize("name", ["reshape", "contract", "gather", "reduce_sum", "concatenate", "add", "slice"])
def test_samples_are_inferred(name):
    for args, params in ops[name].samples():
        assert ops[name].infer(args, params) is not None
