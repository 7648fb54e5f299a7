"""What newcomers get wrong is answered with what happened, where, and what to write instead."""

from math import sin
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr

x = np.array([1.0, 2.0, 3.0])
outside = np.zeros(3)


def assigns(x):
    outside[0] = x
    return outside.sum()


def prints_only(x):
    print(np.sum(x))


MISTAKES = {
    "the value of the function in the place of the function": (
        lambda: cr.grad(np.sum(x)),
        "takes a function, and was given a float64",
        "cr.grad(f)(x)",
    ),
    "the point in the place of argnums": (lambda: cr.grad(np.sum, x), "not a ndarray", "cr.grad(f)(x)"),
    "no return": (lambda: cr.grad(prints_only)(x), "returned None", "`return`"),
    "an array in the place of a scalar": (lambda: cr.grad(np.sin)(x), "returns shape (3,)", "cr.jacobian"),
    "primals that are no tuple": (lambda: cr.jvp(np.sin, x, x), "as a tuple", "cr.jvp(f, (x,), (t,))"),
    "an object of a class that is no tree": (lambda: cr.grad(id)(Path()), "Path", "optree"),
    "an integer somewhere in a tree": (
        lambda: cr.grad(lambda scale, layers: scale)(1.0, {"w": x}) and cr.grad(len, argnums=1)(x, {"w": [x, 2]}),
        "argument 1 at `['w'][1]`, has dtype int64",
        "2.0",
    ),
    "an integer parameter of a function": (
        lambda: cr.grad(lambda scale, layers: scale, (0, 1))(1.0, {"w": [x, 2]}),
        "`layers['w'][1]`, has dtype int64",
        "2.0",
    ),
    "True in the place of argnums": (lambda: cr.grad(np.sum, True), "not a bool", "cr.grad(f)(x)"),
    "integers": (lambda: cr.grad(lambda n: n * n)(2), "int64", "2.0"),
    "a function of math by name": (lambda: cr.grad(lambda x: sin(x))(1.0), "float()", "np.sin"),
    "float": (lambda: cr.grad(lambda x: float(x) ** 2)(1.0), "float()", "cr.value"),
    "item": (lambda: cr.grad(lambda x: x.item() ** 2)(1.0), ".item()", "cr.value"),
    "assignment into an array made outside": (
        lambda: cr.grad(assigns)(1.0),
        "assignment of a traced f64[]",
        "np.stack",
    ),
    "a function without a rule": (lambda: cr.grad(lambda x: np.histogram(x)[1][0])(x), "not covered", "cr.primitive"),
    "a branch on a batch": (lambda: cr.vmap(lambda x: x if x > 0 else -x)(x), "batched", "np.where"),
    "an argument by name": (lambda: cr.grad(np.sin)(x=1.0), "0 positional arguments", "by position"),
    "backward of an array": (lambda: (cr.variable(x) * 2).backward(), "only a scalar", "Sum it first"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_repair(mistake: str) -> None:
    wrong, what, repair = MISTAKES[mistake]
    with pytest.raises(cr.ChainruleError) as error:
        wrong()
    assert what in error.value.what
    assert repair in error.value.repair
    assert __file__ in error.value.where


def test_a_value_used_after_its_transformation_is_refused() -> None:
    kept = []
    cr.grad(lambda x: kept.append(2 * x) or x)(1.0)
    with pytest.raises(cr.TraceError, match="has_aux"):
        np.sin(kept[0])
