"""The coverage page says what the library has."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy

import chainrule  # noqa: F401 - fills the registry
from chainrule.backends.llvm.operations import OPERATIONS
from chainrule.ir.primitive import ops

PAGE = Path(__file__).resolve().parent.parent / "docs/coverage.md"


def minor(versions: tuple[str, ...]) -> list[list[str]]:
    return [version.split(".")[:2] for version in versions]


def without_versions(text: str) -> str:
    return re.sub(r"NumPy \S+ and SciPy \S+\n", "", text)


def test_every_native_operation_is_one_of_the_registry() -> None:
    assert set(OPERATIONS) <= {primitive.name for primitive in ops}


def test_coverage_page_is_current(tmp_path: Path) -> None:
    written = PAGE.read_text(encoding="utf-8")
    versions = re.search(r"with NumPy (\S+) and SciPy (\S+)\.\n", written)
    assert versions is not None
    if minor(versions.groups()) != minor((np.__version__, scipy.__version__)):
        pytest.skip("the page was read off with other versions of NumPy and SciPy, which have other functions")
    fresh = tmp_path / "coverage.md"
    # In a process of its own, in which no test has declared a primitive.
    subprocess.run([sys.executable, "-m", "chainrule.explain.coverage", str(fresh)], check=True)
    assert without_versions(written) == without_versions(fresh.read_text(encoding="utf-8")), "generate docs/coverage.md"
