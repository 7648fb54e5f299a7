"""Optimisation: Program in, Program out, with the same values up to rounding in the last place and the sign of zeros.

    optimise(program) = simplify, sharing common subexpressions and folding constants, until nothing changes; then drop dead code

Every rewrite keeps derivatives too, so that an optimised program may be differentiated and batched like any other.
"""

from chainrule.ir.collection import no_collection
from chainrule.ir.program import Program
from chainrule.optimise.dead import without_dead_code
from chainrule.optimise.rule import Rule
from chainrule.optimise.rules import RULES
from chainrule.optimise.simplify import simplify

__all__ = ["RULES", "Rule", "optimise", "simplify", "without_dead_code"]

# A pass sees what earlier equations became, so further passes find little; for long programs that is not worth its time.
_ROUNDS, _ROUNDS_IF_LONG, _LONG = 4, 1, 4000


@no_collection()
def optimise(program: Program) -> Program:
    """The program with its algebra simplified, equal expressions computed once, and nothing that no output needs.

    >>> import numpy as np, chainrule as cr
    >>> print(optimise(cr.program(lambda x: np.sum((x * 1.0) * (x * 1.0)))(np.ones(3))))  # doctest: +ELLIPSIS
    program <lambda>(a: f64[3]) -> f64[]
      b: f64[3] = square a ...
      c: f64[] = reduce_sum[axes=(0,)] b ...
      return c
    """
    for _ in range(_ROUNDS if len(program.equations) <= _LONG else _ROUNDS_IF_LONG):
        before = len(program.equations)
        program, changed = simplify(without_dead_code(program))
        if not changed and len(program.equations) == before:
            break
    return without_dead_code(program)
