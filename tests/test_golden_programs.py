"""Each transform of a small function is the program that stands in `golden/programs`, and computes what mathematics says.

After a change that is meant, write the texts anew, and read in the diff what changed: `python tests/test_golden_programs.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.ir.text import program_text

FOLDER = Path(__file__).resolve().parent / "golden/programs"


def textbook(x1, x2):
    return np.log(x1) + x1 * x2 - np.sin(x2)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def layer(W, b, x):
    return np.tanh(W @ x + b)


def guarded_root(x):
    return np.sum(np.where(x > 0, np.sqrt(x), 0.0))


x = np.array([0.5, -1.0, 2.0])
v = np.array([1.0, 0.0, -2.0])
W = np.array([[0.1, -0.2, 0.3], [0.4, 0.0, -0.5]])
b = np.array([0.25, -0.75])
batch = np.array([[0.5, -1.0, 2.0], [0.0, 4.0, 1.0]])

# By hand.
slope = 1 - np.tanh(W @ x + b) ** 2
rosenbrock_gradient = np.array(
    [
        -400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]),
        200 * (x[1] - x[0] ** 2) - 400 * x[1] * (x[2] - x[1] ** 2) - 2 * (1 - x[1]),
        200 * (x[2] - x[1] ** 2),
    ]
)
rosenbrock_hessian = np.array(
    [
        [1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0], 0],
        [-400 * x[0], 202 + 1200 * x[1] ** 2 - 400 * x[2], -400 * x[1]],
        [0, -400 * x[1], 200],
    ]
)


@dataclass(frozen=True)
class Case:
    """A transformed function, where to record it, and the arrays that it computes there."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    expected: tuple[Any, ...]


def pushed(x1, x2, t1, t2):
    return cr.jvp(textbook, (x1, x2), (t1, t2))


def pulled(W, b, x, ct):
    return cr.vjp(layer, W, b, x)[1](ct)


CASES = {
    "textbook_jvp": Case(pushed, (2.0, 5.0, 1.0, 0.5), (np.log(2) + 10 - np.sin(5), 5 + 0.5 + 0.5 * (2 - np.cos(5)))),
    "textbook_gradient": Case(cr.grad(textbook, (0, 1)), (2.0, 5.0), (0.5 + 5, 2 - np.cos(5))),
    "textbook_vmap": Case(cr.vmap(textbook, in_axes=(0, None)), (np.ones(3), 5.0), (np.full(3, 5 - np.sin(5)),)),
    "rosenbrock_gradient": Case(cr.grad(rosenbrock), (x,), (rosenbrock_gradient,)),
    "rosenbrock_hvp": Case(cr.hvp(rosenbrock), (x, v), (rosenbrock_hessian @ v,)),
    "rosenbrock_hessian": Case(cr.hessian(rosenbrock), (x,), (rosenbrock_hessian,)),
    "layer_vjp": Case(pulled, (W, b, x, np.array([1.0, 2.0])), ((g := slope * [1, 2])[:, None] * x, g, W.T @ g)),
    "layer_jacfwd": Case(cr.jacfwd(layer, 2), (W, b, x), (slope[:, None] * W,)),
    "layer_jacrev": Case(cr.jacrev(layer, 2), (W, b, x), (slope[:, None] * W,)),
    "guarded_root_gradient": Case(cr.grad(guarded_root), (np.array([0.0, 4.0, 1.0]),), (np.array([0, 0.25, 0.5]),)),
    "guarded_root_gradient_vmap": Case(
        cr.vmap(cr.grad(guarded_root)),
        (np.abs(batch),),
        (np.array([[0.5 / np.sqrt(0.5), 0.5, 0.5 / np.sqrt(2)], [0, 0.25, 0.5]]),),
    ),
}


def text_of(name: str) -> str:
    case = CASES[name]
    program = cr.program(case.f)(*case.args).check()
    return program_text(program, origins=False).replace(program.name, name, 1) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_a_transform_is_the_program_of_its_golden_text(name: str) -> None:
    assert text_of(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_transform_computes_the_derivative_by_hand(name: str) -> None:
    case = CASES[name]
    for found, expected in zip(cr.program(case.f)(*case.args)(*case.args), case.expected, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_every_golden_text_has_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CASES)


def write_texts() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name in CASES:
        (FOLDER / f"{name}.txt").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    write_texts()
