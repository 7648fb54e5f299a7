"""A kernel means the same interpreted and compiled."""

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.native import Floats, Ints, KernelError, kernel, lowest_bit, popcount

SMALL = st.integers(-50, 50)
SCALE = 7


@kernel
def integers(a: int, b: int, out: Ints) -> int:
    out[0] = a + b * 3 - (a & b) + (a | b) * (a ^ b)
    out[1] = a // b if b != 0 else -SCALE
    out[2] = a % b if b != 0 else SCALE
    out[3] = (a << 3) + (b >> 2) + ~a + abs(b) + min(a, b) * max(a, b)
    out[4] = popcount(abs(a)) + lowest_bit(abs(b) | 64)
    out[5] = 1 if a < b <= 20 or (not a and b != 4) else 0
    return out[0] + out[1]


@kernel
def floats(a: float, n: int, x: Floats) -> float:
    s = 0.0
    for i in range(n):
        s += x[i] * a + i / 2
    return s if s > float(n) else -s


@kernel
def control(n: int, out: Ints) -> int:
    found = 0
    for i in range(n, -3, -2):
        if i == 4:
            continue
        k = 0
        while True:
            k += 1
            if k > i or k > 10:
                break
        found += k
        if found > 60:
            return found
        out[0] = out[0] + helper(i, out)
    return -found


@kernel
def helper(i: int, out: Ints) -> int:
    out[1] = i
    if i > 0:
        return i
    return 0


@kernel
def nothing(out: Ints) -> None:
    out[0] = 5


@given(a=SMALL, b=SMALL)
def test_integer_arithmetic_is_pythons(a, b):
    native, plain = np.zeros(6, np.int64), [0] * 6
    assert integers(a, b, native) == integers.python(a, b, plain)
    assert native.tolist() == plain


@given(a=st.floats(-5, 5), n=st.integers(0, 8))
def test_float_arithmetic_is_pythons(a, n):
    x = np.linspace(-1, 2, 8)
    assert floats(a, n, x) == floats.python(a, n, x.tolist())


@given(n=st.integers(-5, 30))
def test_control_flow_is_pythons(n):
    native, plain = np.zeros(2, np.int64), [0, 0]
    assert control(n, native) == control.python(n, plain)
    assert native.tolist() == plain


def test_a_kernel_may_return_nothing():
    out = np.zeros(1, np.int64)
    assert nothing(out) is None
    assert out[0] == 5


@pytest.mark.parametrize("wrong", [[1], np.zeros(3), np.zeros(6, np.int64)[::2], np.zeros(1, np.int32)])
def test_only_contiguous_arrays_of_the_right_type_are_taken(wrong):
    with pytest.raises(KernelError, match="'out' must be a contiguous int64 array"):
        nothing(wrong)


def test_the_number_of_arguments_is_checked():
    with pytest.raises(KernelError, match="1 positional"):
        nothing()


@kernel
def unsupported(out: Ints) -> int:
    return sum(out)


@kernel
def two_types(n: int) -> int:
    x = 1
    if n > 0:
        x = 2.0
    return int(x)


@pytest.mark.parametrize(
    ("bad", "argument", "why"), [(unsupported, np.zeros(1, np.int64), "'sum' is not a kernel"), (two_types, 1, "type")]
)
def test_what_cannot_be_compiled_is_refused_by_name(bad, argument, why):
    with pytest.raises(KernelError, match=why):
        bad(argument)


def test_what_compiling_takes_is_let_go(monkeypatch):
    manager = llvm.newpassmanagers.NewPassManager
    dispose, disposed = manager._dispose, []
    monkeypatch.setattr(manager, "_dispose", lambda self: (disposed.append(self), dispose(self)))

    @kernel
    def twice(a: int) -> int:
        return 2 * a

    assert twice(3) == 6
    assert len(disposed) == 1
    assert disposed[0].closed or disposed[0]._ptr is None
