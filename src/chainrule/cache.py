"""The directory of what may be computed again: compiled code above all, so that the next process need not compile it.

A file of code is a line that says so, a checksum, and the content. It is written under another name and renamed when it is whole,
so any number of processes may read and write at once. What is damaged, foreign, or may have been written by somebody else is as
good as absent, and so is a directory that cannot be read or written: the program is compiled, as it would be without a cache.

`CHAINRULE_CACHE` names the directory; empty, `0` or `off` mean none. The files used last are kept, up to `LIMIT` bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LIMIT = 256 << 20
"""Bytes of all files together, beyond which those are dropped that were not used for longest."""

_MAGIC = b"chainrule native code 1\n"
_CHECKSUM = 20
_NAME = re.compile(r"[0-9a-f]{40}\.code")
_TEMPORARY = re.compile(r"\.[0-9a-f]{40}\..*\.part")
_ABANDONED = 3600.0
"""Seconds after which a file that was never finished is dropped."""

_OFF = frozenset({"", "0", "off"})
_unchecked = {"bytes": LIMIT}  # written since the total was last taken; the first write takes it


class Stored(NamedTuple):
    """A file of the cache."""

    path: Path
    size: int
    used: float


def directory() -> Path | None:
    """Where compiled code is kept; None where it is not."""
    chosen = os.environ.get("CHAINRULE_CACHE")
    if chosen is not None:
        return None if chosen.strip().lower() in _OFF else Path(chosen).absolute()
    try:
        return _users_directory()
    except (RuntimeError, KeyError):  # nobody's home
        return None


def _users_directory() -> Path:
    if sys.platform == "win32":
        return Path(os.environ["LOCALAPPDATA"]) / "chainrule" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "chainrule"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "chainrule"


def key_of(*parts: bytes) -> str:
    """A name for what is made of these parts, and of nothing else."""
    digest = hashlib.blake2b(digest_size=_CHECKSUM)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def read(key: str) -> bytes | None:
    """What was written under a key; None where there is nothing, or nothing to be trusted."""
    root = directory()
    if root is None:
        return None
    path = root / f"{key}.code"
    try:
        data = _read_own(path)
    except OSError:
        return None
    content = data[len(_MAGIC) + _CHECKSUM :]
    if data[: -len(content) or None] != _head(key, content):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now
    return content


def write(key: str, content: bytes) -> None:
    """Keep the content under a key, if that can be done."""
    root = directory()
    if root is None:
        return
    with contextlib.suppress(OSError):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(".part", f".{key}.", root)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(key, content) + content)
            os.replace(temporary, root / f"{key}.code")
        except OSError:
            os.unlink(temporary)
            raise
        _bound(root, len(content))


def contents() -> list[Stored]:
    """The files of the cache, the one used last first."""
    root = directory()
    return sorted(_files(root, _NAME), key=lambda f: -f.used) if root else []


def clear() -> list[Stored]:
    """Delete the cache's files, and no other; those that were deleted."""
    root = directory()
    if root is None:
        return []
    for abandoned in _files(root, _TEMPORARY):
        _delete(abandoned)
    return [f for f in _files(root, _NAME) if _delete(f)]


def _head(key: str, content: bytes) -> bytes:
    return _MAGIC + hashlib.blake2b(key.encode() + content, digest_size=_CHECKSUM).digest()


def _read_own(path: Path) -> bytes:
    """The bytes of a plain file that nobody but its owner, who is this user or the system's, may have written."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LIMIT:
            raise OSError("no file of ours")
        if sys.platform != "win32" and (status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022):
            raise OSError("a file that others may have written")
        return file.read()


def _files(root: Path, name: re.Pattern[str]) -> Iterator[Stored]:
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield Stored(Path(entry.path), status.st_size, status.st_mtime)
    except OSError:
        return


def _delete(file: Stored) -> bool:
    try:
        file.path.unlink()
    except OSError:
        return False
    return True


def _bound(root: Path, written: int) -> None:
    """Drop what was not used for longest where all files together are too large; the total is taken now and then."""
    _unchecked["bytes"] += written
    if _unchecked["bytes"] < LIMIT // 64:
        return
    _unchecked["bytes"] = 0
    for file in _files(root, _TEMPORARY):
        if file.used < time.time() - _ABANDONED:
            _delete(file)
    total = 0
    for file in sorted(_files(root, _NAME), key=lambda f: -f.used):
        total += file.size
        if total > LIMIT:
            _delete(file)
