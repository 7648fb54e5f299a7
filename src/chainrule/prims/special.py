"""Special functions: the elementwise ones of SciPy, and log-sum-exp.

Values are SciPy's, which is imported at the first of them. An argument whose derivative has no closed form (the order of a Bessel
function, the shape of an incomplete gamma function) has none here, and asking for it raises MissingRule. Kinks: i0e'(0) = 0;
xlogy(x, y) is constant in y where x = 0; at the bounds, where entr, xlogy and logit have infinite slopes, so has the derivative.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.ir.primitive import Params, RoomPrimitive, Sample, ops
from chainrule.ir.types import Array, ArrayType
from chainrule.linear import Diagonal, WeightedSum
from chainrule.prims.elementwise import LN10
from chainrule.prims.families import POSITIVE, PROBABILITY, REAL, UNIT, Elementwise, Interval, Rule, align, unary
from chainrule.prims.reduce import count_elements, reduced, reduction_samples, shift_axes

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
ROOT_TWO_PI = math.sqrt(2 * math.pi)
ROOT_HALF = math.sqrt(0.5)
DEGREE = math.pi / 180
ABOVE_HALF: Interval = (0.6, 3.0)


@functools.cache
def scipy_function(name: str) -> Callable[..., Any]:
    """The ufunc of scipy.special of that name."""
    from scipy.special import _ufuncs

    return getattr(_ufuncs, name)  # type: ignore[no-any-return]


# The ufuncs of scipy.special that are primitives.
UFUNC_NAMES: set[str] = set()


def scipy_value(name: str) -> Callable[..., Any]:
    """The ufunc of that name, as the value of a primitive that stands for it."""
    UFUNC_NAMES.add(name)
    return lambda *args: scipy_function(name)(*args)


def of_one(name: str, rule: Rule, *, on: Interval = REAL, flops: int = 40, holomorphic: bool = False) -> Elementwise:
    """Declare a ufunc of SciPy of one argument."""
    return unary(name, scipy_value(name), rule, flops=flops, on=on, holomorphic=holomorphic)


class Several(Elementwise):
    """An elementwise operation of any number of arguments."""

    def samples(self) -> Iterator[Sample]:
        assert self.domains is not None
        n = len(self.domains)
        for seed, shapes in enumerate((((3,),) * n, ((),) * n, ((2, 1), *((3,) for _ in range(n - 1))))):
            rng = np.random.default_rng(seed)
            yield tuple(rng.uniform(*on, shape) for on, shape in zip(self.domains, shapes, strict=True)), {}


def of_several(
    name: str, *rules: Rule, on: Sequence[Interval], flops: int = 80, value: Callable[..., Any] | None = None
) -> None:
    """Declare a ufunc of SciPy of several arguments."""
    Several(name, value or scipy_value(name), rules, flops=flops, on=on, holomorphic=False)


# ---- the error function and the normal distribution


def _density(x: Array) -> Array:
    return ops.exp(-0.5 * (x * x)) * (1 / ROOT_TWO_PI)


def _hazard(x: Array, log_cdf: Array) -> Array:
    """Density over distribution function of the normal, to full accuracy in both tails."""
    left = ops.minimum(x, 0.0)
    below = (2 / ROOT_TWO_PI) / ops.erfcx(left * -ROOT_HALF)
    return ops.where(ops.less(x, 0), below, _density(x) * ops.exp(-log_cdf))


def _erfcx_rule(x: Array, out: Array) -> Array:
    # 2 x erfcx(x) - 2/sqrt(pi) cancels as x grows; its asymptotic series (DLMF 7.12.1) does not.
    far = ops.greater(x, 50.0)
    r = ops.reciprocal(ops.where(far, x, 50.0))
    r = r * r
    series = (-0.5 * TWO_OVER_ROOT_PI) * r * (1 - r * (1.5 - r * (3.75 - r * (13.125 - r * 59.0625))))
    return ops.where(far, series, 2 * ops.where(far, 0.0, x) * out - TWO_OVER_ROOT_PI)


of_one("erf", lambda x, out: TWO_OVER_ROOT_PI * ops.exp(-(x * x)), holomorphic=True)
of_one("erfc", lambda x, out: -TWO_OVER_ROOT_PI * ops.exp(-(x * x)), holomorphic=True)
of_one("erfi", lambda x, out: TWO_OVER_ROOT_PI * ops.exp(x * x))
of_one("erfcx", _erfcx_rule)
of_one("dawsn", lambda x, out: 1 - 2 * x * out, holomorphic=True)
of_one("erfinv", lambda x, out: (1 / TWO_OVER_ROOT_PI) * ops.exp(out * out), on=UNIT)
of_one("erfcinv", lambda x, out: (-1 / TWO_OVER_ROOT_PI) * ops.exp(out * out), on=(0.1, 1.9))
of_one("ndtr", lambda x, out: _density(x))
of_one("ndtri", lambda x, out: ROOT_TWO_PI * ops.exp(0.5 * (out * out)), on=PROBABILITY)
of_one("log_ndtr", _hazard)
of_one("ndtri_exp", lambda x, out: ops.reciprocal(_hazard(out, x)), on=(-3.0, -0.2))
of_several(
    "owens_t",
    lambda h, a, out: (-0.5 / ROOT_TWO_PI) * ops.exp(-0.5 * (h * h)) * ops.erf(ROOT_HALF * a * h),
    lambda h, a, out: (0.5 / math.pi) * ops.exp(-0.5 * (h * h) * (1 + a * a)) / (1 + a * a),
    on=(REAL, REAL),
)

# ---- gamma and beta

of_one("gamma", lambda x, out: out * ops.psi(x), on=ABOVE_HALF)
of_one("rgamma", lambda x, out: -out * ops.psi(x), on=ABOVE_HALF)
of_one("gammaln", lambda x, out: ops.psi(x), on=ABOVE_HALF)
of_one("loggamma", lambda x, out: ops.psi(x), on=ABOVE_HALF)
of_one("gammasgn", 0, on=POSITIVE)
of_one("psi", lambda x, out: ops.polygamma(1, x), on=ABOVE_HALF)


def _polygamma_value(n: Any, x: Any) -> Any:
    """The n-th derivative of psi: (-1)^(n+1) n! zeta(n + 1, x)."""
    n = np.asarray(n)
    sign = np.where(n % 2, 1.0, -1.0)
    general = sign * scipy_function("gamma")(n + 1.0) * scipy_function("_zeta")(n + 1.0, x)
    found = np.where(n == 0, scipy_function("psi")(x), general) if (n == 0).any() else general
    return found.astype(x.dtype)[()] if getattr(x, "dtype", None) == np.float32 else found[()]


class _WithOrder(Elementwise):
    """An elementwise operation of an order, which is constant, and an argument."""

    def samples(self) -> Iterator[Sample]:
        assert self.domains is not None
        for seed, order in enumerate((1, 2, np.array([[3], [1]]))):
            yield (order, np.random.default_rng(seed).uniform(*self.domains[-1], 3)), {}


def with_order(name: str, rule: Rule, *, on: Interval, value: Callable[..., Any] | None = None) -> None:
    """Declare a ufunc of SciPy of an order and an argument."""
    _WithOrder(name, value or scipy_value(name), (None, rule), flops=80, on=(on, on), holomorphic=False)


def whole_order(name: str) -> Callable[..., Any]:
    """The ufunc of that name, with the loop of SciPy's for integer orders wherever the order is one.

    That loop is one of double precision; the result has the precision of the arguments nevertheless, whatever their values.
    """
    of = scipy_value(name)

    def value(n: Any, *rest: Any) -> Any:
        order = np.asarray(n)
        if order.dtype.kind != "f" or not np.all(order == np.floor(order)):
            return of(n, *rest)
        found = of(order.astype(int)[()], *rest)
        return found.astype(np.promote_types(np.result_type(n, *rest), np.float32))

    return value


def shifted(order: Array, by: int) -> Array:
    """Another order."""
    return order + by if hasattr(order, "dtype") or isinstance(order, int | float) else np.asarray(order) + by


with_order("polygamma", lambda n, x, out: ops.polygamma(shifted(n, 1), x), on=ABOVE_HALF, value=_polygamma_value)
of_several("_zeta", None, lambda s, q, out: -s * ops._zeta(s + 1, q), on=((1.5, 3.0), POSITIVE))
of_several(
    "betaln",
    lambda a, b, out: ops.psi(a) - ops.psi(a + b),
    lambda a, b, out: ops.psi(b) - ops.psi(a + b),
    on=(POSITIVE, POSITIVE),
)
of_several(
    "beta",
    lambda a, b, out: out * (ops.psi(a) - ops.psi(a + b)),
    lambda a, b, out: out * (ops.psi(b) - ops.psi(a + b)),
    on=(POSITIVE, POSITIVE),
)
of_several(
    "poch",
    lambda z, m, out: out * (ops.psi(z + m) - ops.psi(z)),
    lambda z, m, out: out * ops.psi(z + m),
    on=(ABOVE_HALF, POSITIVE),
)
of_several(
    "binom",
    lambda n, k, out: out * (ops.psi(n + 1) - ops.psi(n - k + 1)),
    lambda n, k, out: out * (ops.psi(n - k + 1) - ops.psi(k + 1)),
    on=((2.5, 4.0), (0.2, 2.0)),
)

# ---- incomplete gamma and beta functions: distribution functions, with a density for a derivative


def gamma_density(a: Array, x: Array) -> Array:
    """The derivative of gammainc."""
    return ops.exp(ops.xlogy(a - 1, x) - x - ops.gammaln(a))


def beta_density(a: Array, b: Array, x: Array) -> Array:
    """The derivative of betainc."""
    return ops.exp(ops.xlogy(a - 1, x) + ops.xlog1py(b - 1, -x) - ops.betaln(a, b))


def _student_density(df: Array, t: Array) -> Array:
    return ops.exp(-0.5 * (df + 1) * ops.log1p(t * t / df) - ops.betaln(0.5 * df, 0.5)) / ops.sqrt(df)


def f_density(n: Array, m: Array, x: Array) -> Array:
    """The derivative of fdtr."""
    u = n * x + m
    return n * m / (u * u) * beta_density(0.5 * n, 0.5 * m, n * x / u)


of_several("gammainc", None, lambda a, x, out: gamma_density(a, x), on=(POSITIVE, POSITIVE))
of_several("gammaincc", None, lambda a, x, out: -gamma_density(a, x), on=(POSITIVE, POSITIVE))
of_several("gammaincinv", None, lambda a, y, out: 1 / gamma_density(a, out), on=(ABOVE_HALF, PROBABILITY))
of_several("gammainccinv", None, lambda a, y, out: -1 / gamma_density(a, out), on=(ABOVE_HALF, PROBABILITY))
of_several("betainc", None, None, lambda a, b, x, out: beta_density(a, b, x), on=(POSITIVE, POSITIVE, PROBABILITY))
of_several("betaincc", None, None, lambda a, b, x, out: -beta_density(a, b, x), on=(POSITIVE, POSITIVE, PROBABILITY))
of_several(
    "betaincinv",
    None,
    None,
    lambda a, b, y, out: 1 / beta_density(a, b, out),
    on=(ABOVE_HALF, ABOVE_HALF, PROBABILITY),
)
of_several("chdtr", None, lambda v, x, out: 0.5 * gamma_density(0.5 * v, 0.5 * x), on=(POSITIVE, POSITIVE))
of_several("chdtrc", None, lambda v, x, out: -0.5 * gamma_density(0.5 * v, 0.5 * x), on=(POSITIVE, POSITIVE))
of_several("stdtr", None, lambda df, t, out: _student_density(df, t), on=(ABOVE_HALF, REAL))
of_several("stdtrit", None, lambda df, p, out: 1 / _student_density(df, out), on=(ABOVE_HALF, PROBABILITY))
of_several("fdtr", None, None, lambda n, m, x, out: f_density(n, m, x), on=(ABOVE_HALF, ABOVE_HALF, POSITIVE))
of_several("fdtrc", None, None, lambda n, m, x, out: -f_density(n, m, x), on=(ABOVE_HALF, ABOVE_HALF, POSITIVE))

# ---- logistic functions, entropies and losses


def _ratio(x: Array, y: Array) -> Array:
    """x / y, zero where x is."""
    at_zero = ops.equal(x, 0)
    return ops.where(at_zero, 0.0, x / ops.where(at_zero, 1.0, y))


of_one("expit", lambda x, out: out * ops.expit(-x), flops=20)
of_one("logit", lambda x, out: 1 / (x * (1 - x)), on=PROBABILITY, flops=20)
of_one("log_expit", lambda x, out: ops.expit(-x), flops=20)
of_one("entr", lambda x, out: -1 - ops.log(x), on=POSITIVE, flops=20)
of_several("xlogy", lambda x, y, out: ops.log(y), lambda x, y, out: _ratio(x, y), on=(REAL, POSITIVE), flops=20)
of_several("xlog1py", lambda x, y, out: ops.log1p(y), lambda x, y, out: _ratio(x, 1 + y), on=(REAL, POSITIVE), flops=20)
of_several(
    "rel_entr", lambda x, y, out: 1 + ops.log(x / y), lambda x, y, out: -x / y, on=(POSITIVE, POSITIVE), flops=20
)
of_several("kl_div", lambda x, y, out: ops.log(x / y), lambda x, y, out: 1 - x / y, on=(POSITIVE, POSITIVE), flops=20)
of_several(
    "huber",
    lambda delta, r, out: ops.maximum(ops.absolute(r) - delta, 0.0),
    lambda delta, r, out: ops.sign(r) * ops.minimum(ops.absolute(r), delta),
    on=((0.2, 0.4), (0.6, 2.0)),
    flops=6,
)


def _pseudo_huber_scale(delta: Array, r: Array, out: Array) -> Array:
    u = r / delta
    return 2 * out / delta - r * u / ops.sqrt(1 + u * u)


of_several(
    "pseudo_huber",
    _pseudo_huber_scale,
    lambda delta, r, out: r / ops.sqrt(1 + ops.square(r / delta)),
    on=(POSITIVE, REAL),
    flops=12,
)

# ---- exponentials and powers near one


def exprel_slope(u: Array) -> Array:
    """d/du (e^u - 1)/u = sum over k of u^k / (k! (k + 2)), summed where the closed form cancels."""
    small = ops.less(ops.absolute(u), 0.3)
    v = ops.where(small, u, 0.0)
    series = 0.0
    for k in range(12, -1, -1):
        series = series * v + 1 / (math.factorial(k) * (k + 2))
    w = ops.where(small, 1.0, u)
    return ops.where(small, series, (w * ops.exp(w) - ops.expm1(w)) / (w * w))


of_one("exprel", lambda x, out: exprel_slope(x), flops=20)
of_one("exp10", lambda x, out: LN10 * out, flops=15)
of_one("cosm1", lambda x, out: -ops.sin(x), flops=20)
of_several(
    "powm1",
    lambda x, y, out: y * ops.power(x, y - 1),
    lambda x, y, out: ops.log(x) * (out + 1),
    on=(POSITIVE, REAL),
)
of_several(
    "boxcox",
    lambda x, p, out: ops.power(x, p - 1),
    lambda x, p, out: ops.square(ops.log(x)) * exprel_slope(p * ops.log(x)),
    on=(POSITIVE, REAL),
)
of_one("sindg", lambda x, out: DEGREE * ops.cosdg(x), flops=15)
of_one("cosdg", lambda x, out: -DEGREE * ops.sindg(x), flops=15)
of_one("tandg", lambda x, out: DEGREE * (1 + out * out), flops=15)

# ---- Bessel functions


def half_sum(name: str, sign: int, scale: float) -> Callable[[Array, Array], Array]:
    """(v, x) -> scale (F(v - 1, x) + sign F(v + 1, x))."""

    def rule(v: Array, x: Array) -> Array:
        f = ops[name]
        below, above = f(shifted(v, -1), x), f(shifted(v, 1), x)
        return scale * (below - above if sign < 0 else below + above)

    return rule


_jv, _yv = half_sum("jv", -1, 0.5), half_sum("yv", -1, 0.5)
_iv, _kv = half_sum("iv", 1, 0.5), half_sum("kv", 1, -0.5)
_ive, _kve = half_sum("ive", 1, 0.5), half_sum("kve", 1, -0.5)

of_one("j0", lambda x, out: -ops.j1(x))
of_one("j1", lambda x, out: _jv(1, x))
of_one("y0", lambda x, out: -ops.y1(x), on=POSITIVE)
of_one("y1", lambda x, out: ops.y0(x) - out / x, on=POSITIVE)
of_one("i0", lambda x, out: ops.i1(x))
of_one("i1", lambda x, out: _iv(1, x))
of_one("i0e", lambda x, out: ops.i1e(x) - ops.sign(x) * out, on=POSITIVE)
of_one("i1e", lambda x, out: _ive(1, x) - ops.sign(x) * out, on=POSITIVE)
of_one("k0", lambda x, out: -ops.k1(x), on=POSITIVE)
of_one("k1", lambda x, out: -ops.k0(x) - out / x, on=POSITIVE)
of_one("k0e", lambda x, out: out - ops.k1e(x), on=POSITIVE)
of_one("k1e", lambda x, out: out - ops.k0e(x) - out / x, on=POSITIVE)
with_order("jv", lambda v, x, out: _jv(v, x), on=POSITIVE)
with_order("yv", lambda v, x, out: _yv(v, x), on=POSITIVE)
with_order("iv", lambda v, x, out: _iv(v, x), on=POSITIVE)
with_order("kv", lambda v, x, out: _kv(v, x), on=POSITIVE)
with_order("ive", lambda v, x, out: _ive(v, x) - ops.sign(x) * out, on=POSITIVE)
with_order("kve", lambda v, x, out: _kve(v, x) + out, on=POSITIVE)

# ---- integrals and hypergeometric functions


def _spence_rule(z: Array, out: Array) -> Array:
    # log(z)/(1 - z), by its series in 1 - z about the removable singularity.
    w = 1 - z
    small = ops.less(ops.absolute(w), 0.05)
    v = ops.where(small, w, 0.0)
    series = 0.0
    for k in range(12, 0, -1):
        series = series * v - 1 / k
    return ops.where(small, series, ops.log(ops.where(small, 2.0, z)) / ops.where(small, 1.0, w))


def _expn_rule(n: Array, x: Array, out: Array) -> Array:
    # -E_{n-1}; SciPy has no E_0 and below, which are elementary.
    e = ops.exp(-x) / x
    below = ops.expn(ops.maximum(shifted(n, -1), 1), x)
    return -ops.where(ops.less(n, 1), e * (1 + 1 / x), ops.where(ops.equal(n, 1), e, below))


of_one("expi", lambda x, out: ops.exp(x) / x, on=POSITIVE)
of_one("exp1", lambda x, out: -ops.exp(-x) / x, on=POSITIVE)
of_one("spence", _spence_rule, on=POSITIVE)
with_order("expn", _expn_rule, on=POSITIVE)
of_several("hyp0f1", None, lambda v, z, out: ops.hyp0f1(v + 1, z) / v, on=(POSITIVE, REAL))
of_several(
    "hyp1f1", None, None, lambda a, b, z, out: a / b * ops.hyp1f1(a + 1, b + 1, z), on=(POSITIVE, POSITIVE, REAL)
)
of_several(
    "hyp2f1",
    None,
    None,
    None,
    lambda a, b, c, z, out: a * b / c * ops.hyp2f1(a + 1, b + 1, c + 1, z),
    on=(POSITIVE, POSITIVE, POSITIVE, (-0.9, 0.4)),
)


def with_outputs(name: str, *rows: tuple[Rule, ...], on: Sequence[Interval]) -> RoomPrimitive:
    """An elementwise operation of several outputs: a row of rules, one an argument, for each of them."""

    def partial(row: int, k: int) -> Any:
        rule = rows[row][k]
        return (lambda *args, out: Diagonal(rule(*args, out), args[k], out[row])) if callable(rule) else rule

    def types(*of: ArrayType) -> tuple[ArrayType, ...]:
        shape = np.broadcast_shapes(*(t.shape for t in of))
        return tuple(ArrayType(shape, o.dtype) for o in primitive.value(*(np.ones(0, t.dtype) for t in of)))

    def samples() -> Iterator[Sample]:
        for shape in ((3,), (), (2, 3)):
            rng = np.random.default_rng(len(shape))
            yield tuple(rng.uniform(*interval, shape) for interval in on), {}

    primitive = RoomPrimitive(
        name=name,
        compute=scipy_value(name),
        types=types,
        partials=tuple(tuple(partial(row, k) for k in range(len(on))) for row in range(len(rows))),
        batching=lambda size, args, batched, params: primitive(*align(args, batched)),
        cost=lambda args, outs, params: 80 * math.prod(outs[0].shape),
        examples=samples,
        outputs=len(rows),
    )
    return primitive


with_outputs("sici", (lambda x, out: ops.sinc(x / math.pi),), (lambda x, out: ops.cos(x) / x,), on=[POSITIVE])
with_outputs("shichi", (lambda x, out: ops.sinh(x) / x,), (lambda x, out: ops.cosh(x) / x,), on=[POSITIVE])
with_outputs(
    "fresnel",
    (lambda x, out: ops.sin((0.5 * math.pi) * (x * x)),),
    (lambda x, out: ops.cos((0.5 * math.pi) * (x * x)),),
    on=[REAL],
)
with_outputs(
    "airy",
    (lambda x, out: out[1],),
    (lambda x, out: x * out[0],),
    (lambda x, out: out[3],),
    (lambda x, out: x * out[2],),
    on=[REAL],
)

# ---- reduce_logsumexp[axes](x): log of the sum of exp(x) over axes, without overflow


def _logsumexp_value(x: Any, *, axes: tuple[int, ...]) -> Any:
    top = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, np.zeros((), x.dtype))
    with np.errstate(divide="ignore", over="ignore"):
        total = np.log(np.add.reduce(np.exp(x - top), axis=axes, keepdims=True)) + top
    return total.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))[()]


def _logsumexp_partial(x: Array, out: Array, *, axes: tuple[int, ...]) -> WeightedSum:
    # The weights are the softmax; where all is -inf they are zeros.
    safe = ops.where(ops.equal(out, -np.inf), 0.0, out)
    kept = ops.reshape(safe, shape=tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return WeightedSum(ops.exp(x - kept), axes, x, out)


def _logsumexp_batch(size: int, args: Sequence[Array], batched: Sequence[bool], params: Params) -> Array:
    return shift_axes(reduce_logsumexp)(size, args, batched, params)


reduce_logsumexp = RoomPrimitive(
    name="reduce_logsumexp",
    compute=_logsumexp_value,
    types=lambda x, axes: ArrayType(reduced(x, axes), x.dtype),
    partials=(_logsumexp_partial,),
    batching=_logsumexp_batch,
    cost=lambda args, outs, params: 20 * count_elements(args, outs, params),
    examples=reduction_samples,
)
