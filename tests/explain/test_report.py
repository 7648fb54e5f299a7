from itertools import pairwise

import numpy as np
import pytest
import scipy.special

import chainrule as cr
from chainrule.explain import methods, symbolic
from chainrule.explain.problem import Problem, ProblemError
from chainrule.explain.report import AUTOMATIC, report

FAST = 0.05  # seconds for each method


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.fixture(autouse=True)
def without_symbols(monkeypatch):
    """SymPy takes a second to start: only the tests of formulas have it."""
    monkeypatch.setattr(methods, "derive", _no_formula)


def _no_formula(*_):
    raise methods.NoFormula("not in this test")


def report_of(f, *args, budget=FAST, **options):
    return report(Problem.of(f, args, **options), budget=budget)


@pytest.fixture(scope="module")
def small():
    pytest.importorskip("sympy")
    return report_of(rosenbrock, np.linspace(0.5, 1.5, 4))


def test_every_method_gives_the_gradient(small) -> None:
    gradient = cr.grad(rosenbrock)(np.linspace(0.5, 1.5, 4))
    for o in small.outcomes:
        assert o.reason == ""
        assert np.allclose(o.block.values, gradient, rtol=1e-5)


def test_errors_are_as_theory_says(small) -> None:
    errors = {o.method: o.error for o in small.outcomes}
    assert 1e-11 < errors["forward differences"] < 1e-5
    assert 1e-14 < errors["central differences"] < 1e-8
    for method in ("complex step", "symbolic", *AUTOMATIC):
        assert errors[method] < 1e-14


def test_evaluations_are_counted_as_they_are_made() -> None:
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(x**2)

    problem = Problem.of(f, (np.ones(5),))
    found = report(problem, budget=1e-9)
    central = found.outcome("central differences")
    assert central.evaluations == 2 * 5 + 2
    assert found.outcome("forward differences").evaluations == 5 + 1 + 2
    assert found.outcome("reverse mode").evaluations == 1


def test_multiplications_of_a_chain_of_matrices_are_as_predicted() -> None:
    widths = (7, 5, 6, 4)
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=(n, m)) for m, n in pairwise(widths)]

    def f(x):
        for W in matrices:
            x = W @ x
        return x

    found = report_of(f, np.ones(7))
    products = sum(a * b for a, b in pairwise(widths))
    assert found.outcome("forward mode").multiplications == products + 7 * products
    assert found.outcome("reverse mode").multiplications == products + 4 * products
    assert found.outcome("central differences").multiplications == (2 * 7 + 2) * products + 7 * 4


def test_reverse_mode_is_recommended_for_many_inputs() -> None:
    found = report_of(lambda x: np.sum(np.tanh(x) ** 2), np.linspace(-1, 1, 300))
    assert found.recommended == "reverse mode"
    assert "cr.grad(f)" in found.reasons[-1]


def test_forward_mode_is_recommended_for_many_outputs() -> None:
    t = np.linspace(0, 1, 400)
    found = report_of(lambda a: np.exp(-a * t) * np.sin(a * t), 1.3)
    assert found.recommended == "forward mode"


def test_arguments_by_number_are_named_in_the_call() -> None:
    assert "argnums=(0, 1)" in report_of(lambda x, y: x * y, 2.0, 3.0).reasons[-1]
    assert "argnums=1" in report_of(lambda x, y: np.sum(x * y), 2.0, np.ones(9), wrt=["y"]).reasons[-1]


@pytest.mark.parametrize(
    ("f", "because"),
    [
        (lambda x: np.sum(np.abs(x) ** 3), "absolute"),
        (lambda x: np.sum(np.maximum(x, 0.2) ** 2 * np.real(x)), "not analytic"),
        (lambda x: np.sum(np.floor(x) * x), "does not take complex"),
    ],
)
def test_complex_step_says_why_it_does_not_apply(f, because) -> None:
    assert because in report_of(f, np.array([-1.5, 0.7])).outcome("complex step").reason


def test_casting_to_real_is_found_out() -> None:
    def f(x):
        return np.sum(x.astype(np.float64) ** 2)

    assert "imaginary part" in report_of(f, np.array([1.0, 2.0])).outcome("complex step").reason


def test_large_formulas_are_refused_with_their_size() -> None:
    assert "too large" in report_of(lambda x: np.sum(np.sin(x)), np.ones(2000)).outcome("symbolic").reason


def test_formula_that_swells_is_given_up_in_time() -> None:
    pytest.importorskip("sympy")
    from chainrule.explain.symbolic import NoFormula, derive
    from chainrule.trace.record import record_program

    def f(xs):
        (l,) = xs
        for _ in range(40):
            l = 4 * l * (1 - l)
        return [l]

    program = record_program(f, [np.float64(0.3)], "logistic")
    with pytest.raises(NoFormula, match=r"not finished|memory"):
        derive(program, ["x"], np.array([0.3]), limit=2.0)


def test_gamma_functions_have_formulas() -> None:
    pytest.importorskip("sympy")
    program = cr.program(lambda x: scipy.special.gammaln(x) + scipy.special.digamma(x))(1.5)
    formula = symbolic.derive(program, ["x"], np.array([1.5]), 60)
    assert np.allclose(formula.jacobian, scipy.special.digamma(1.5) + scipy.special.polygamma(1, 1.5))


def test_sampled_methods_say_so() -> None:
    found = report_of(lambda x: np.sum(np.sin(x) ** 2), np.linspace(0, 3, 5000), budget=1e-3)
    central = found.outcome("central differences")
    assert central.is_estimated
    assert any("of 5,000 directions" in note for note in central.notes)
    assert central.error is not None
    assert not found.outcome("reverse mode").is_estimated


def test_trees_of_arguments_and_constants_are_laid_out() -> None:
    def f(parameters, x, power):
        return np.sum((parameters["w"] * x + parameters["b"]) ** power)

    found = report_of(f, {"w": np.ones(3), "b": 0.5}, np.arange(3.0), 2, wrt=["parameters"])
    assert found.inputs == 4
    assert set(found.problem.names) == {"parameters['w']", "parameters['b']"}
    assert found.outcome("forward differences").error < 1e-5


def test_single_precision_is_differentiated_as_it_is() -> None:
    found = report_of(lambda x: np.sum(np.exp(x) * x), np.linspace(0, 1, 3, dtype=np.float32))
    assert 1e-9 < found.outcome("reverse mode").error < 1e-5
    assert found.outcome("forward differences").error < 1e-2


def test_randomness_is_noticed() -> None:
    rng = np.random.default_rng(0)
    assert "different results" in report_of(lambda x: x * rng.normal(), 1.0).warnings[0]


@pytest.mark.parametrize(
    ("f", "args", "message"),
    [
        (lambda x: x, (1,), "2.0 instead of 2"),
        (lambda x: None, (1.0,), "returned nothing"),
        (lambda x: x > 0, (1.0,), "carries no real derivative"),
        (lambda x: x, (1j,), "complex inputs"),
        (lambda x: {}["k"] * x, (1.0,), "KeyError"),
        (lambda x: float(x) ** 2, (1.0,), "cr.value"),
    ],
)
def test_problems_are_named_in_one_line(f, args, message) -> None:
    with pytest.raises(ProblemError, match=message) as caught:
        report_of(f, *args)
    assert "\n" not in str(caught.value)
