"""Exit with 0 when this interpreter can import this checkout's chainrule, and has every package of one of its extras.

usage: has_extra.py EXTRA
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def packages(extra: str, extras: dict[str, list[str]]) -> set[str]:
    """The names of the packages that `extra` asks for, following `chainrule[other]`."""
    names: set[str] = set()
    for requirement in extras[extra]:
        inner = re.match(r"chainrule\[(.*)\]", requirement)
        if inner:
            for other in inner.group(1).split(","):
                names |= packages(other.strip(), extras)
        else:
            names |= plain_names([requirement])
    return names


def plain_names(requirements: list[str]) -> set[str]:
    """The names of packages without their version bounds."""
    return {re.split(r"[\s<>=!~;\[]", requirement)[0] for requirement in requirements}


def is_missing(name: str) -> bool:
    """Whether no distribution of this name is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return True
    return False


def main(extra: str) -> int:
    """The exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = packages(extra, project["optional-dependencies"]) | plain_names(project["dependencies"])
    found = find_spec("chainrule")
    from_here = found is not None and found.origin is not None and ROOT in Path(found.origin).resolve().parents
    return int(not from_here or any(map(is_missing, wanted)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
