"""Compiled code on disk: found again by equal programs only, whatever is done to its files, and whoever writes at once."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import cache
from chainrule.backends.interpret import Interpreted
from chainrule.backends.llvm import canonical, native
from chainrule.backends.llvm.matmul import matmul
from chainrule.backends.llvm.target import host
from chainrule.optimise import optimise

x9 = np.linspace(-1.0, 1.0, 9)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The directory of a cache for this test, without the products of matrices, which many programs share."""
    matmul("d")
    found = tmp_path / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(found))
    return found


@pytest.fixture
def compilations(monkeypatch):
    """The texts of the modules that LLVM compiled."""
    texts = []

    def recording(text, compiler=native.object_code):
        texts.append(text)
        return compiler(text)

    monkeypatch.setattr(native, "object_code", recording)
    return texts


def program_of(f, *args):
    return optimise(cr.program(f)(*args))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_there_is_no_cache_in_tests():
    assert cache.directory() is None


def test_where_nothing_is_kept_no_key_is_made(monkeypatch):
    monkeypatch.setattr(native.canonical, "key_of", None)  # which would be called to make one
    x = np.arange(4.0)
    np.testing.assert_allclose(native.Native(program_of(rosenbrock, x))([x])[0], rosenbrock(x), rtol=1e-14)


def mixed(x):  # kernels, an operation of NumPy between them, a captured array, an index read at run time
    y = np.sort(np.exp(x)) * np.linspace(0.0, 1.0, x.size)
    return np.sum(y[np.arange(x.size)[::-1]] * x), y


def products(x):  # one contraction for BLAS as it is, and one whose operands must be moved
    a = x.reshape(30, 40, 30)
    return np.einsum("ijk,kjl->il", a, a), np.einsum("ijk,ljk->jil", a, a)


def shares(x):  # a loop over tiles of 4000 rows, with captured columns
    y = np.exp(x @ x[:50]) + np.linspace(1.0, 2.0, 50)
    return np.sum(np.log(np.sum(y, 1)) * np.max(y, 1))


def steps(x):  # turns that are alike, between one that is not
    for k in range(60):
        x = x + 0.01 * ((np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + 8.0)
        if k == 30:
            x = np.cumsum(np.sin(x))
    return np.sum(x * x)


CASES = {
    "scalars": (cr.value_and_grad(rosenbrock), x9),
    "loops": (cr.value_and_grad(rosenbrock), np.linspace(-1, 1, 5000)),
    "mixed": (mixed, np.linspace(-1, 1, 300)),
    "steps": (cr.grad(steps), np.linspace(-1, 1, 40)),
    "products": (products, np.sin(np.arange(36_000.0))),
    "tiles": (cr.value_and_grad(shares), np.sin(np.arange(200_000.0)).reshape(4000, 50)),
    "batched": (cr.vmap(cr.jacobian(lambda x: np.sin(x) * x[::-1])), np.linspace(-1, 1, 200).reshape(40, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_equal_program_is_not_compiled_again(name, root, compilations):
    f, x = CASES[name]
    first = native.Native(program_of(f, x))
    again = program_of(f, x)
    second = native.Native(again)
    assert len(compilations) == 1
    assert len(cache.contents()) == 1
    assert second.report() == first.report()
    for at in (x, 0.5 * x + 0.1):
        for found, wanted in zip(second([at]), Interpreted(again)([at]), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_checks_of_indices_hold_in_code_from_the_disk(root, compilations):
    for _ in range(2):
        picked = cr.jit(lambda x, i: np.sin(x[i]) * 2)
        np.testing.assert_allclose(picked(x9, np.array([0, -1] * 20)), 2 * np.sin(x9[[0, -1] * 20]))
        with pytest.raises(IndexError, match=r"test_cache\.py"):
            picked(x9, np.array([0, 9] * 20))
    assert len(compilations) == 1


def _keys(*programs):
    return [canonical.key_of(p, host()) for p in programs]


def test_programs_that_differ_in_anything_have_other_keys():
    x, y = np.ones(50), np.ones(50)
    array = np.linspace(0, 1, 50)
    other = array.copy()
    other[17] = np.nextafter(other[17], 2.0)
    large, negative = np.zeros(20_000), np.zeros(20_000)
    negative[7] = -0.0
    programs = [
        cr.program(f)(*args)
        for f, args in [
            (lambda x: x * 2.0, (x,)),
            (lambda x: x * 3.0, (x,)),
            (lambda x: x * np.nextafter(2.0, 3.0), (x,)),
            (lambda x: x * 0.0, (x,)),
            (lambda x: x * -0.0, (x,)),
            (lambda x: x + 2.0, (x,)),
            (lambda x: x * 2.0, (x[:49],)),
            (lambda x: x * 2.0, (x.astype(np.float32),)),
            (lambda x: x * 2.0, (x.reshape(5, 10),)),
            (lambda x: x * array, (x,)),
            (lambda x: x * other, (x,)),
            (lambda x: x[1:], (x,)),
            (lambda x: x[2:], (x,)),
            (lambda x: x[1:][1:], (x,)),
            (lambda x: np.sum(x.reshape(5, 10), 0), (x,)),
            (lambda x: np.sum(x.reshape(5, 10), 1), (x,)),
            (lambda x, y: x - y, (x, y)),
            (lambda x, y: y - x, (x, y)),
            (lambda x, y: (x - y, x), (x, y)),
            (lambda x, y: (x, x - y), (x, y)),
            (lambda x, y: x + 0 * y, (x, y)),
            (lambda x: x[np.array([1, 2])], (x,)),
            (lambda x: x[np.array([1, 3])], (x,)),
            (lambda x: np.sum(x) * large, (x,)),
            (lambda x: np.sum(x) * negative, (x,)),
        ]
    ]
    keys = _keys(*programs)
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_a_program_has_one_key_whoever_recorded_it():
    f, g = (lambda x: np.tanh(x) @ np.ones(9)), (lambda other: np.tanh(other) @ np.ones(9))
    a, b = _keys(program_of(f, x9), program_of(g, 2 * x9))
    assert a == b


def test_the_key_is_that_of_the_machine():
    program = program_of(rosenbrock, x9)
    target = host()
    targets = [target, target._replace(cpu="other"), target._replace(features="+none"), target._replace(triple="other")]
    assert len({canonical.key_of(program, t) for t in targets}) == 4


def test_what_refers_to_other_programs_is_not_packed():
    one, other = program_of(rosenbrock, x9), program_of(rosenbrock, x9)
    known = {"places": {one.inputs[0]: np.int64(3)}, "steps": [*one.equations]}
    found = canonical.unpack(canonical.pack(known, one), other)
    assert found == {"places": {other.inputs[0]: 3}, "steps": [*other.equations]}
    assert canonical.pack(known, other) is None
    with pytest.raises(pickle.UnpicklingError):
        canonical.unpack(pickle.dumps(os.system), other)


def test_a_function_among_the_parameters_has_no_key():
    def f(x):
        return np.sin(x)

    custom = cr.custom_jvp(f, lambda primals, tangents: (f(*primals), np.cos(*primals) * tangents[0]))
    program = cr.program(lambda x: np.exp(custom(x) + 1))(x9)
    assert len(program.equations) == 3
    assert canonical.key_of(program, host()) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "cut in the head", "flipped", "longer", "another's", "no pickle"])
def test_a_damaged_file_is_compiled_and_written_anew(damage, root, compilations):
    program = program_of(rosenbrock, x9)
    native.Native(program)
    (path,) = root.iterdir()
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": good[:-1],
            "cut in the head": good[:30],
            "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
            "longer": good + b"\0",
            "another's": b"\x7fELF" + good,
            "no pickle": cache._head(path.stem, b"not a pickle") + b"not a pickle",
        }[damage]
    )
    np.testing.assert_allclose(native.Native(program)([x9])[0], rosenbrock(x9))
    assert len(compilations) == 2
    assert path.read_bytes()[:20] == good[:20]
    native.Native(program)
    assert len(compilations) == 2


def test_the_content_of_one_key_is_not_taken_for_another(root):
    one, other = cache.key_of(b"1"), cache.key_of(b"2")
    cache.write(one, b"content")
    assert cache.read(one) == b"content"
    os.replace(root / f"{one}.code", root / f"{other}.code")
    assert cache.read(other) is None
    assert cache.key_of(b"ab", b"c") != cache.key_of(b"a", b"bc")


def _linked(path, good):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _pipe(path, good):
    path.unlink()
    os.mkfifo(path)


def _directory(path, good):
    path.unlink()
    path.mkdir()


def _others(path, good):
    if os.geteuid():
        pytest.skip("only root may give files away")
    os.chown(path, 12345, 12345)


def _writable_by_all(path, good):
    path.chmod(0o666)


@pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")
@pytest.mark.parametrize("make", [_linked, _pipe, _directory, _others, _writable_by_all])
def test_what_others_may_have_written_is_not_read(make, root):
    key = cache.key_of(b"key")
    cache.write(key, b"content")
    make(root / f"{key}.code", b"content")
    assert cache.read(key) is None
    cache.write(key, b"content")  # raises nothing, whether or not it can
    assert cache.read(key) in (None, b"content")


@pytest.mark.parametrize("value", ["", "0", "off", " OFF "])
def test_the_cache_can_be_switched_off(value, monkeypatch, compilations):
    monkeypatch.setenv("CHAINRULE_CACHE", value)
    assert cache.directory() is None
    for _ in range(2):
        native.Native(program_of(rosenbrock, x9))
    assert len(compilations) == 2
    assert cache.contents() == cache.clear() == []


@pytest.mark.parametrize("where", ["below a file", "a file", "not to be made", "full"])
def test_a_directory_that_cannot_be_used_is_no_cache(where, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    root = {"below a file": file / "below", "a file": file, "not to be made": tmp_path / ("x" * 300)}.get(
        where, tmp_path
    )
    monkeypatch.setenv("CHAINRULE_CACHE", str(root))
    if where == "full":

        def replace(*_):
            raise OSError("no space left on device")

        monkeypatch.setattr(os, "replace", replace)
    for _ in range(2):
        np.testing.assert_allclose(cr.jit(rosenbrock)(x9), rosenbrock(x9))
    assert cache.contents() == cache.clear() == []
    assert os.listdir(tmp_path) == ["file"]


def test_the_users_directory_is_the_systems_habit(monkeypatch, tmp_path):
    monkeypatch.delenv("CHAINRULE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.directory() == tmp_path / ".cache" / "chainrule"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.directory() == tmp_path / "xdg" / "chainrule"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.directory() == tmp_path / ".cache" / "chainrule"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.directory() == tmp_path / "Library" / "Caches" / "chainrule"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache.directory() == tmp_path / "Local" / "chainrule" / "Cache"
    monkeypatch.delenv("LOCALAPPDATA")
    assert cache.directory() is None

    def nobody():
        raise RuntimeError("no home")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", nobody)
    assert cache.directory() is None


def test_the_files_used_last_are_kept_within_the_bound(root, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 10_000)
    monkeypatch.setitem(cache._unchecked, "bytes", 0)
    keys = [cache.key_of(bytes([k])) for k in range(30)]
    for k, key in enumerate(keys):
        cache.write(key, bytes(900))
        used = time.time() - 1000 + k
        os.utime(root / f"{key}.code", (used, used))
        assert cache.read(keys[0]) is not None  # in use all the time
    kept = cache.contents()
    assert 9000 < sum(f.size for f in kept) <= 10_000
    assert {f.path.stem for f in kept} == {keys[0], *keys[30 - len(kept) + 1 :]}


def test_clearing_deletes_nothing_else(root):
    cache.write(cache.key_of(b"1"), b"content")
    cache.write(cache.key_of(b"2"), b"content")
    (root / f".{cache.key_of(b'3')}.abc.part").write_bytes(b"unfinished")
    (root / "notes.code").write_bytes(b"mine")
    (root / "sub").mkdir()
    assert len(cache.clear()) == 2
    assert sorted(os.listdir(root)) == ["notes.code", "sub"]


WRITER = """
import os, sys
from chainrule import cache
keys = [cache.key_of(bytes([k])) for k in range(8)]
for turn in range(60):
    for k, key in enumerate(keys):
        found = cache.read(key)
        assert found is None or (len(set(found)) == 1 and found[0] == k), (k, found)
        cache.write(key, bytes([k]) * (5000 + 100 * turn))
assert None not in map(cache.read, keys)
"""


def test_processes_may_write_and_read_at_once(root):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER]) for _ in range(3)]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert {path.suffix for path in root.iterdir()} == {".code"}


SECOND = """
import numpy as np, chainrule as cr
from chainrule.backends.llvm import native
compiler, texts = native.object_code, []
native.object_code = lambda text: texts.append(text) or compiler(text)
f = cr.jit(cr.value_and_grad(lambda x: np.sum(np.sin(x[1:]) * x[:-1])))
value, gradient = f(np.linspace(0.0, 1.0, 400))
print(len(texts), value.hex(), gradient.tobytes().hex())
"""


def test_another_process_does_not_compile_again(root):
    first, second = (
        subprocess.run([sys.executable, "-c", SECOND], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    )
    assert (first[0], second[0]) == ("1", "0")
    assert first[1:] == second[1:]
