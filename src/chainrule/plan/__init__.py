"""Choosing the order of accumulation: costs, chains, and the search for elimination orders."""

from __future__ import annotations

from typing import Any


def elimination_order(*args: Any, **kwargs: Any) -> tuple[list[Any], int]:
    """See `chainrule.plan.elimination.elimination_order`, which loads at first use."""
    from chainrule.plan import elimination

    return elimination.elimination_order(*args, **kwargs)
