"""Textbook functions, and their derivatives as textbooks print them.

python examples/textbook.py
chainrule report examples/textbook.py:baydin
"""

import numpy as np

import chainrule as cr


def baydin(x1, x2):
    """ln(x1) + x1 x2 - sin(x2): Baydin et al. (2018), tables 2 and 3."""
    return np.log(x1) + x1 * x2 - np.sin(x2)


baydin_inputs = (2.0, 5.0)


def parabola(x1, x2):
    """x1^2 + x2: the smallest graph with two paths."""
    return x1**2 + x2


parabola_inputs = (3.0, 1.0)


def squared_length(w1, w2):
    """w1^2 + w2^2."""
    return w1**2 + w2**2


squared_length_inputs = (3.0, 4.0)


def squared_length_of_four(w1, w2, w3, w4):
    """Its sister of four inputs: reverse mode still takes one sweep, forward mode four."""
    return w1**2 + w2**2 + w3**2 + w4**2


squared_length_of_four_inputs = (1.0, 2.0, 3.0, 4.0)


def logistic(x, steps=4):
    """l_1 = x, l_{k+1} = 4 l_k (1 - l_k): its derivative grows exponentially as a formula, not as a program."""
    l = x
    for _ in range(steps - 1):
        l = 4 * l * (1 - l)
    return l


logistic_inputs = 0.3

# A chain given as lists: the functions, and for each the function that computes its Jacobian.
rotation = np.array([[0.8, -0.6], [0.6, 0.8]])
functions = [lambda x: rotation @ x, np.exp, lambda x: np.array([x[0] * x[1], x[0] + x[1], x[0]])]
jacobians = [
    lambda x: rotation,
    lambda x: np.diag(np.exp(x)),
    lambda x: np.array([[x[1], x[0]], [1.0, 1.0], [1.0, 0.0]]),
]


def chain(x):
    """The functions of the chain, one after the other."""
    for f in functions:
        x = f(x)
    return x


chain_inputs = (np.array([0.5, -0.25]),)


def chain_rule_forward(x):
    """The product of the chain's Jacobians, multiplied as they come: forward mode by hand."""
    product = np.eye(len(x))
    for f, jacobian in zip(functions, jacobians, strict=True):
        product = jacobian(x) @ product
        x = f(x)
    return product


def chain_rule_reverse(x):
    """The same product from the other end: reverse mode by hand."""
    points = [x]
    for f in functions:
        points.append(f(points[-1]))
    product = np.eye(len(points[-1]))
    for jacobian, point in zip(reversed(jacobians), reversed(points[:-1]), strict=True):
        product = product @ jacobian(point)
    return product


def main():
    """Print the traces, and the chain's Jacobian three times."""
    for f, at in (
        (baydin, baydin_inputs),
        (parabola, parabola_inputs),
        (squared_length, squared_length_inputs),
        (squared_length_of_four, squared_length_of_four_inputs),
        (logistic, (logistic_inputs,)),
    ):
        print(f.__doc__.splitlines()[0])
        print(cr.explain(f, *at))
        print()
    (x,) = chain_inputs
    by_chainrule = cr.jacobian(chain)(x)
    print("A chain of three functions: its Jacobian by chainrule,")
    print(by_chainrule)
    print("largest difference from the product of the Jacobians, multiplied first to last and last to first:")
    print(np.max(np.abs(by_chainrule - chain_rule_forward(x))), np.max(np.abs(by_chainrule - chain_rule_reverse(x))))


if __name__ == "__main__":
    main()
