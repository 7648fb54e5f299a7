"""Fit a model of hares and lynxes to what was counted of them, through a plain Python loop over time.

    python examples/ode.py
    chainrule report examples/ode.py:misfit

The model is that of Lotka and Volterra: hares h and lynxes l with dh/dt = a h - b h l, dl/dt = c h l - d l. What is sought are the
four rates and the two numbers at the start.
"""

import numpy as np
from scipy.optimize import minimize

import chainrule as cr

STEPS, EVERY, DT = 60, 3, 0.3
true_rates, true_start = np.array([1.0, 0.4, 0.1, 0.6]), np.array([8.0, 2.0])


def velocity(state, rates):
    """How fast hares and lynxes change."""
    h, l = state[0], state[1]
    a, b, c, d = rates
    return np.array([a * h - b * h * l, c * h * l - d * l])


def step(state, rates):
    """One step of the classical Runge-Kutta method."""
    k1 = velocity(state, rates)
    k2 = velocity(state + 0.5 * DT * k1, rates)
    k3 = velocity(state + 0.5 * DT * k2, rates)
    k4 = velocity(state + DT * k3, rates)
    return state + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def simulated(rates, state):
    """The numbers of both at every time of counting."""
    counted = []
    for i in range(STEPS):
        if i % EVERY == 0:
            counted.append(state)
        state = step(state, rates)
    return np.array(counted)


counts = simulated(true_rates, true_start) * np.exp(np.random.default_rng(0).normal(0, 0.05, (STEPS // EVERY, 2)))


def misfit(log_rates, log_start):
    """How far the simulated numbers are from the counted ones, in logarithms; so are the unknowns, which are positive."""
    return np.mean((np.log(simulated(np.exp(log_rates), np.exp(log_start))) - np.log(counts)) ** 2)


misfit_inputs = (np.log([0.8, 0.3, 0.12, 0.7]), np.log([7.0, 2.5]))


def fitted():
    """The rates and the start that fit best, and the solver's own account."""

    def f(x):
        return misfit(x[:4], x[4:])

    found = minimize(
        cr.value_and_grad(f), np.concatenate(misfit_inputs), jac=True, method="BFGS", options={"gtol": 1e-6}
    )
    return np.exp(found.x[:4]), np.exp(found.x[4:]), found


def main():
    """Fit, and print what was found."""
    rates, start, found = fitted()
    print(f"misfit {misfit(*misfit_inputs):.4f} before, {found.fun:.4f} after {found.nfev} evaluations with gradient")
    print(f"rates {np.round(rates, 3)}, true {true_rates}")
    print(f"start {np.round(start, 2)}, true {true_start}")


if __name__ == "__main__":
    main()
