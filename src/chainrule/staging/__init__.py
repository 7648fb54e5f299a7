"""Staging: a function recorded once for each kind of arguments, and from then on run as a compiled program."""

from chainrule.staging.jitted import Jitted, jit

__all__ = ["Jitted", "jit"]
