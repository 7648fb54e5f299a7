"""The laws over the registry: a primitive is tested by being declared."""

import numpy as np
import pytest

import chainrule  # noqa: F401 - fills the registry
from chainrule.ir.primitive import ops
from chainrule.testing.laws import LAWS

CASES = [
    pytest.param(primitive, args, params, id=f"{primitive.name}-{i}")
    for primitive in ops
    for i, (args, params) in enumerate(primitive.samples())
]
# By definition its derivative is not that of its value.
EXEMPT = {("stop_gradient", "jvp_matches_difference")}
WITHOUT_SAMPLES = {
    "custom_call",
    "nextafter",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "left_shift",
    "right_shift",
    "invert",
    "ldexp",
    "gcd",
    "lcm",
    "bitwise_count",
    "isnat",
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@pytest.mark.parametrize(("primitive", "args", "params"), CASES)
def test_law(law, primitive, args, params):
    if (primitive.name, law.__name__) in EXEMPT:
        return
    with np.errstate(all="ignore"):
        law(primitive, args, params)


def test_every_primitive_has_samples():
    without = {primitive.name for primitive in ops if not any(True for _ in primitive.samples())}
    assert without <= WITHOUT_SAMPLES
