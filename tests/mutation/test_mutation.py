"""A mutation of any rule fails a law, or scripts/mutation/survivors.toml says why it need not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def mutate(*arguments):
    command = [sys.executable, "scripts/mutation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# The files of which every survivor is known; add yours once it is.
SWEPT = (
    "linear/maps linear/patterns linear/dependence prims/contract prims/convolve prims/cumulative prims/custom prims/elementwise "
    "prims/families prims/indexing prims/reduce prims/search prims/shape"
)


@pytest.mark.slow
def test_mutants_fail_a_law_or_are_explained():
    found = mutate(*SWEPT.split(), "--sample", "60", "--seed", "2")
    assert found.returncode == 0, found.stdout + found.stderr
    killed = re.search(r"^60 mutants: .*?(\d+) killed", found.stdout, re.MULTILINE)
    assert killed
    assert int(killed[1]) > 30


def test_every_kind_of_change_is_tried():
    listed = mutate("prims/elementwise", "--list").stdout
    for was, now in [
        ("1 - out * out", "(1 + out * out)"),  # an operator
        ("0.5", "1.5"),  # a constant
        ("x.dtype.kind != 'c'", "(x.dtype.kind == 'c')"),  # a comparison
        ("Mask(condition, y, out, keep=False)", "(Mask(condition, y, out))"),  # a keyword
        ("_larger(x, y)", "(_larger(y, x))"),  # two arguments
        ("ops.cos", "(ops.sin)"),  # a function
        ("-ops.sin(x)", "(ops.sin(x))"),  # a sign
    ]:
        assert f"    - {was}\n    + {now}\n" in listed
