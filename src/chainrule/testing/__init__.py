"""Laws, differences and samples: what chainrule tests itself with, shipped for primitives and functions of one's own."""

from typing import Any

from chainrule.testing.differences import check_grads

__all__ = ["check_grads", "check_primitive"]


def __getattr__(name: str) -> Any:
    if name == "check_primitive":
        from chainrule.testing.laws import check_primitive

        return check_primitive
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
