"""The public names are those listed in `golden/public_names.txt`. Changing the list is a decision; users are told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr

ROOT = Path(__file__).resolve().parent.parent
LISTED = (ROOT / "tests/golden/public_names.txt").read_text(encoding="utf-8").split()


def test_public_names_are_those_listed() -> None:
    assert sorted(cr.__all__) == LISTED


@pytest.mark.parametrize("name", LISTED)
def test_public_name_is_documented(name: str) -> None:
    assert getattr(cr, name).__doc__
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert re.search(rf"^\s*(\.\. auto\w+:: )?(chainrule\.)?{name}$", reference, re.MULTILINE)


def test_heavy_packages_load_at_first_use() -> None:
    heavy = "numpy.random scipy llvmlite matplotlib rich sympy igraph jax torch autograd hypothesis"
    program = f"import sys, chainrule; print(*[name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_rooms_of_primitives_load_when_one_is_asked_for() -> None:
    program = """
import sys, chainrule
from chainrule.ir.primitive import ops
late = "chainrule.prims.special"
assert late not in sys.modules
assert ops.add is ops["add"] and late not in sys.modules
assert "erf" in ops and late in sys.modules and ops.svd.name == "svd"
assert len(ops) == len(list(ops)) == len(set(ops))
try:
    ops.no_such_operation
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "no primitive is named `no_such_operation`\n"
