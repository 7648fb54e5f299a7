import math

import numpy as np
import pytest
from llvmlite import binding

from chainrule.backends.llvm.assembly import (
    F32,
    F64,
    VOID,
    Builder,
    Function,
    FunctionType,
    Module,
    structure,
    undefined,
    vector,
)
from chainrule.backends.llvm.vector_maths import FUNCTIONS, Lanes, coefficients, emit, loop_kernel, loops, minimax
from chainrule.backends.llvm.vector_maths.oracle import CASES, arguments, errors

INF, NAN = math.inf, math.nan
PI = math.pi
DTYPES = ["float64", "float32"]
WIDTHS = {"float64": 8, "float32": 16}

# Arguments and result; a zero's sign counts.
SPECIAL_VALUES = {
    "exp": [(INF, INF), (-INF, 0.0), (0.0, 1.0), (-0.0, 1.0), (1e300, INF), (-1e300, 0.0), (NAN, NAN)],
    "exp2": [(INF, INF), (-INF, 0.0), (-0.0, 1.0), (10.0, 1024.0), (-149.0, 2.0**-149), (1e300, INF), (NAN, NAN)],
    "expm1": [(INF, INF), (-INF, -1.0), (0.0, 0.0), (-0.0, -0.0), (-1e300, -1.0), (1e300, INF), (NAN, NAN)],
    "log": [(INF, INF), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN), (-INF, NAN), (NAN, NAN)],
    "log2": [
        (INF, INF),
        (0.0, -INF),
        (-0.0, -INF),
        (1.0, 0.0),
        (8.0, 3.0),
        (2.0**-140, -140.0),
        (-1.0, NAN),
        (NAN, NAN),
    ],
    "log10": [(INF, INF), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (1000.0, 3.0), (-1.0, NAN), (-INF, NAN), (NAN, NAN)],
    "log1p": [(INF, INF), (-1.0, -INF), (0.0, 0.0), (-0.0, -0.0), (-1.5, NAN), (-INF, NAN), (NAN, NAN)],
    "sqrt": [(INF, INF), (0.0, 0.0), (-0.0, -0.0), (-1.0, NAN), (-INF, NAN), (NAN, NAN)],
    "cbrt": [(INF, INF), (-INF, -INF), (0.0, 0.0), (-0.0, -0.0), (27.0, 3.0), (-8.0, -2.0), (NAN, NAN)],
    "hypot": [
        (INF, NAN, INF),
        (NAN, -INF, INF),
        (-0.0, -0.0, 0.0),
        (3.0, -4.0, 5.0),
        (NAN, 1.0, NAN),
        (1e30, 0.0, 1e30),
    ],
    "fmod": [
        (0.0, 1.0, 0.0),
        (-0.0, 1.0, -0.0),
        (5.0, 3.0, 2.0),
        (-5.0, 3.0, -2.0),
        (5.0, -3.0, 2.0),
        (-6.0, 3.0, -0.0),
        (1.0, INF, 1.0),
        (-1.0, -INF, -1.0),
        (INF, 1.0, NAN),
        (1.0, 0.0, NAN),
        (NAN, 1.0, NAN),
        (1.0, NAN, NAN),
    ],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.0, PI / 2), (-1.0, -PI / 2), (1.5, NAN), (-INF, NAN), (NAN, NAN)],
    "acos": [(1.0, 0.0), (-1.0, PI), (0.0, PI / 2), (-0.0, PI / 2), (-1.5, NAN), (INF, NAN), (NAN, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, PI / 2), (-INF, -PI / 2), (1.0, PI / 4), (NAN, NAN)],
    "atan2": [
        (0.0, -0.0, PI),
        (-0.0, -0.0, -PI),
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, -0.0),
        (-0.0, -1.0, -PI),
        (-0.0, 1.0, -0.0),
        (-1.0, 0.0, -PI / 2),
        (1.0, -0.0, PI / 2),
        (1.0, -INF, PI),
        (-1.0, INF, -0.0),
        (INF, 1.0, PI / 2),
        (-INF, -INF, -3 * PI / 4),
        (INF, INF, PI / 4),
        (NAN, 1.0, NAN),
        (1.0, NAN, NAN),
        (0.0, NAN, NAN),
        (NAN, 0.0, NAN),
        (NAN, -0.0, NAN),
        (NAN, INF, NAN),
    ],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e300, INF), (-1e300, -INF), (NAN, NAN)],
    "cosh": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (-1e300, INF), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e300, 1.0), (NAN, NAN)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "acosh": [(1.0, 0.0), (INF, INF), (0.5, NAN), (-1.0, NAN), (-INF, NAN), (NAN, NAN)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-INF, NAN), (NAN, NAN)],
    "expit": [(INF, 1.0), (-INF, 0.0), (0.0, 0.5), (-0.0, 0.5), (1e300, 1.0), (-1e300, 0.0), (NAN, NAN)],
    "softplus": [(INF, INF), (-INF, 0.0), (1e30, 1e30), (-1e30, 0.0), (NAN, NAN)],
    "logaddexp": [
        (INF, INF, INF),
        (-INF, -INF, -INF),
        (INF, -INF, INF),
        (-INF, 3.0, 3.0),
        (3.0, -INF, 3.0),
        (1e30, 1.0, 1e30),
        (NAN, 1.0, NAN),
        (1.0, NAN, NAN),
        (-INF, NAN, NAN),
    ],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e300, 1.0), (NAN, NAN)],
    "erfc": [(0.0, 1.0), (-0.0, 1.0), (INF, 0.0), (-INF, 2.0), (1e300, 0.0), (-1e300, 2.0), (NAN, NAN)],
    "ndtr": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (1e300, 1.0), (-1e300, 0.0), (NAN, NAN)],
    "log_ndtr": [(-INF, -INF), (-1e300, -INF), (NAN, NAN)],
    "lgamma": [
        (1.0, 0.0),
        (2.0, 0.0),
        (0.0, INF),
        (-0.0, INF),
        (-3.0, INF),
        (-1e30, INF),
        (INF, INF),
        (-INF, INF),
        (NAN, NAN),
    ],
    "digamma": [(0.0, -INF), (-0.0, INF), (-3.0, NAN), (-1e30, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "pow": [
        (0.0, 0.0, 1.0),
        (NAN, 0.0, 1.0),
        (NAN, -0.0, 1.0),
        (1.0, NAN, 1.0),
        (1.0, INF, 1.0),
        (-1.0, INF, 1.0),
        (-1.0, -INF, 1.0),
        (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0),
        (-0.0, 2.0, 0.0),
        (-0.0, 0.5, 0.0),
        (0.0, -3.0, INF),
        (-0.0, -3.0, -INF),
        (-0.0, -2.0, INF),
        (-0.0, -INF, INF),
        (0.0, INF, 0.0),
        (-8.0, 1 / 3, NAN),
        (-2.0, 3.0, -8.0),
        (-2.0, 1e30, INF),
        (-2.0, -1e30, 0.0),
        (0.5, INF, 0.0),
        (0.5, -INF, INF),
        (-2.0, INF, INF),
        (2.0, -INF, 0.0),
        (INF, 0.5, INF),
        (INF, -0.5, 0.0),
        (-INF, 3.0, -INF),
        (-INF, 2.0, INF),
        (-INF, -3.0, -0.0),
        (-INF, 0.5, INF),
        (-INF, -INF, 0.0),
        (NAN, 1.0, NAN),
        (2.0, NAN, NAN),
        (10.0, 2.0, 100.0),
        (2.0, -149.0, 2.0**-149),
    ],
}


def bound(name: str, x: np.ndarray) -> np.ndarray:
    """Units in the last place, as the functions' docstrings promise."""
    return np.where((x < 0) & (name in ("lgamma", "digamma")), 3.0, 2.0)


def check_errors(name: str, dtype: str, count: int, *, fused: bool = True) -> None:
    args = arguments(name, dtype, count)
    found = errors(name, args, loop_kernel(name, dtype, WIDTHS[dtype], fused=fused)(*args))
    worst = int(np.argmax(found - bound(name, args[0])))
    assert found[worst] <= bound(name, args[0])[worst], f"{found[worst]:.2f} ulp at {[float(a[worst]) for a in args]}"


def test_every_function_has_a_reference_and_special_values():
    assert set(CASES) | {"sincos"} == set(FUNCTIONS)
    assert set(SPECIAL_VALUES) == set(CASES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_errors_stay_within_the_promised_ulps(name, dtype):
    check_errors(name, dtype, 300)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_errors_stay_within_the_promised_ulps_on_many_arguments(name, dtype):
    check_errors(name, dtype, 30000)


@pytest.mark.parametrize("name", CASES)
def test_errors_stay_within_the_promised_ulps_without_fused_multiply_add(name):
    check_errors(name, "float64", 200, fused=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_special_values_are_those_of_c99(name, dtype):
    columns = np.array(SPECIAL_VALUES[name], dtype="float64").T
    with np.errstate(over="ignore", under="ignore"):
        *args, expected = columns.astype(dtype)
    found = loop_kernel(name, dtype, WIDTHS[dtype])(*args)
    np.testing.assert_array_max_ulp(
        found[np.isfinite(expected)], expected[np.isfinite(expected)], 0 if name != "digamma" else 1
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.parametrize(
    ("dtype", "width"),
    [("float64", 2), ("float64", 16), ("float32", 16)],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectors_equal_scalars(name, dtype, width):
    args = arguments("sin" if name == "sincos" else name, dtype, 200)
    by_one, by_many = (np.asarray(loop_kernel(name, dtype, w)(*args)) for w in (1, width))
    np.testing.assert_array_equal(by_many.view(f"u{by_many.itemsize}"), by_one.view(f"u{by_one.itemsize}"))


def test_sincos_is_sin_and_cos():
    (x,) = arguments("sin", "float64", 500)
    s, c = loop_kernel("sincos")(x)
    np.testing.assert_array_equal(s, loop_kernel("sin")(x))
    np.testing.assert_array_equal(c, loop_kernel("cos")(x))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_closest_to_multiples_of_half_pi_keep_all_digits(name):
    # The first is the double closest to one, relative to its size: Muller, Elementary Functions, section 11.3.
    x = np.array(
        [6381956970095103 * 2.0**797, 5.0e300, 1.7976931348623157e308, 2.0**30, 2.0**30 + 1, 1e22, 52707178.54]
    )
    x = np.concatenate(
        [x, -x, *(np.nextafter(k * np.pi / 2, d) for k in np.arange(1.0, 400.0) for d in ([0.0], [9e9]))]
    )
    assert errors(name, [x], loop_kernel(name)(x)).max() <= 1.2


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 17])
def test_a_kernel_writes_its_elements_and_no_other(length):
    x, out = np.linspace(0.1, 3, length + 1), np.full(length + 1, -7.0)
    loop_kernel("log").loop(x.ctypes.data, out.ctypes.data, length)
    np.testing.assert_array_max_ulp(out[:length], np.log(x[:length]), 2)
    assert out[length] == -7.0


def module_of_all(kinds: list[object], *, fused: bool) -> Module:
    """One external function for every name and type."""
    module = Module()
    for name, entry in FUNCTIONS.items():
        for position, kind in enumerate(kinds):
            returned = kind if entry.results == 1 else structure(*[kind] * entry.results)
            function = Function(module, FunctionType(returned, [kind] * entry.arguments), f"{name}_{position}")
            builder = Builder(function.append_basic_block())
            result = emit(builder, name, function.args, fused=fused)
            if entry.results > 1:
                parts, result = result, undefined(returned)
                for k, part in enumerate(parts):
                    result = builder.insert_value(result, part, k)
            builder.ret(result)
    return module


@pytest.mark.parametrize(
    ("triple", "fused"),
    [("x86_64-unknown-linux-gnu", False), ("aarch64-unknown-linux-gnu", True)],
)
def test_code_for_any_target_verifies_and_calls_no_library_but_for_rests_of_large_quotients(triple, fused):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(opt=2)
    kinds = [F64, vector(F64, 4), vector(F32, 4)]
    module = module_of_all(kinds, fused=fused)
    module.triple = triple
    optimised = loops.optimise(str(module), machine)
    objects = binding.object_file.ObjectFileRef.from_data(machine.emit_object(optimised))
    assert any(section.is_text() and section.size() for section in objects.sections())
    assembly = machine.emit_assembly(optimised)
    calls = {line.split()[1] for line in assembly.splitlines() if line.split()[:1] in (["call"], ["callq"], ["bl"])}
    others = {c.removesuffix("@PLT") for c in calls if "chainrule." not in c and not c.startswith("*")}
    assert others <= {"fmod", "fmodf"}


def test_a_function_is_defined_once_in_a_module():
    module = Module()
    kind = vector(F64, 8)
    function = Function(module, FunctionType(kind, [kind]), "twice")
    builder = Builder(function.append_basic_block())
    builder.ret(emit(builder, "exp", [emit(builder, "exp", [function.args[0]])]))
    assert str(module).count("define internal") == 1
    assert "chainrule.exp.v8f64" in module.globals


def test_emit_refuses_a_wrong_number_of_arguments():
    function = Function(Module(), FunctionType(F64, [F64]), "f")
    builder = Builder(function.append_basic_block())
    with pytest.raises(TypeError, match="pow takes 2 arguments, and was given 1"):
        emit(builder, "pow", function.args)


@pytest.mark.parametrize("width", [None, 4])
def test_lanes_read_as_mathematics(width):
    lanes = Lanes(Builder(Function(Module(), FunctionType(VOID, []), "f").append_basic_block()), width)
    x = lanes.real(2.0)
    assert (1.0 - x * x / 3.0).value.type == lanes.real_type
    assert (x.bits() << 3).value.type == lanes.whole_type


@pytest.mark.parametrize("name", minimax.FITS)
def test_coefficients_are_those_that_minimax_computes(name):
    fit = minimax.FITS[name]
    expected = (tuple(float(c) for c in minimax.interpolate(fit, degree)) for degree in (fit.degree, fit.short))
    assert getattr(coefficients, name) == tuple(expected)
