"""Optimised programs: their texts, and that they compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.primitive import ops
from chainrule.ir.text import program_text
from chainrule.optimise import RULES, optimise

GOLDEN = Path(__file__).parent.parent / "golden" / "optimise.txt"
x3 = np.array([0.5, -1.5, 2.0])
x23 = np.arange(6.0).reshape(2, 3) / 7 + 0.1


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


CASES = {
    "ones_and_zeros": (lambda x: (x * 1.0 + 0.0 - 0.0) / 1.0 * -1.0, (x3,)),
    "uniform_constants": (lambda x: x * np.full(3, 2.0) + np.full(3, 0.25), (x3,)),
    "signs": (lambda x, y: x - (-y) + (-x) * y + np.negative(-x), (x3, x3 + 1)),
    "common_subexpressions": (lambda x, y: np.sin(x * y) + np.sin(y * x), (x3, x3 + 1)),
    "constants": (lambda x: x * np.exp(np.log(3.0)), (x3,)),
    "powers": (lambda x: x**2 + x**3.0 + x**1 + x**-1, (x3,)),
    "moves": (lambda x: x.T.T.reshape(6).reshape(2, 3)[0:2][:, 1:3][:, 0:1], (x23,)),
    "broadcasts": (lambda x: np.broadcast_to(x, (2, 3)) * x23, (x3,)),
    "rosenbrock_gradient": (cr.grad(rosenbrock), (np.arange(4.0),)),
    "logistic_gradient": (cr.grad(lambda x: np.sum(np.log1p(np.exp(-x)))), (x3,)),
    "gradient_of_gradient": (cr.grad(lambda x: np.sum(cr.grad(lambda y: np.sum(np.sin(y) ** 2))(x) ** 2)), (x3,)),
}


def _texts() -> dict[str, str]:
    out = {}
    for name, (f, args) in CASES.items():
        program = optimise(cr.program(f)(*args)).check()
        out[name] = program_text(program, origins=False).replace(program.name, name, 1)
    return out


def test_optimised_programs_have_their_texts():
    expected = GOLDEN.read_text()
    assert "\n\n".join(_texts().values()) + "\n" == expected


@pytest.mark.parametrize("name", CASES)
def test_optimised_programs_compute_the_same(name):
    f, args = CASES[name]
    program = cr.program(f)(*args)
    for found, wanted in zip(optimise(program)(*args), program(*args), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_optimised_programs_keep_their_derivatives(name):
    f, args = CASES[name]
    program = optimise(cr.program(f)(*args))
    tangents = tuple(np.cos(a) for a in args)
    _, found = cr.jvp(lambda *xs: program(*xs)[0], args, tangents)
    _, wanted = cr.jvp(f, args, tangents)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", [p.name for p in ops if p.outputs == 1])
def test_every_sample_optimises_to_the_same_value(name):
    primitive = ops[name]
    for args, params in primitive.samples():
        xs = [np.asarray(a) for a in args]
        program = cr.program(lambda *a, p=params: primitive(*a, **p))(*xs)
        with np.errstate(all="ignore"):
            wanted, found = program(*xs), optimise(program).check()(*xs)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_an_infinite_strong_product_stays_strong():
    program = optimise(cr.program(cr.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))))(np.zeros(2)))
    with np.errstate(all="ignore"):
        assert (program(np.zeros(2))[0] == 0).all()


def test_rules_name_primitives_that_exist():
    assert all(head in ops for head in RULES)


def test_stop_gradient_survives():
    program = optimise(cr.program(lambda x: x * cr.stop_gradient(x))(3.0))
    assert cr.grad(lambda x: program(x)[0])(3.0) == 3.0
