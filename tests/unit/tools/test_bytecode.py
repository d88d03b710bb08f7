"""Which Python compiles the layer, and what it writes: importlib itself says what it accepts."""

from __future__ import annotations

import importlib.util
import marshal
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType

import pytest

from layers.encryption_guard.tools.bytecode import (
    Interpreter,
    compile_all,
    compile_layer_code,
    find_interpreter,
)

RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"
VERSION = ".".join(str(number) for number in sys.version_info[:3])
# Nobody has it: whoever answers to this name is made up by a test.
NOWHERE = "python3.99"
OURS = Interpreter(sys.executable, VERSION)

Written = Callable[[str, str], Path]


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes shell scripts, beside which nothing is on the search path but a shell's own needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> Path:
        path = tmp_path / name if "/" in name else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


def answering(name: str, level: str, executable: str, version: str, *, of: str = NOWHERE) -> str:
    """A script that says this of itself, as an interpreter is asked to."""
    return f"""echo '["{name}", "{of}", "{level}", "{executable}", "{version}"]'"""


def test_the_one_that_builds_is_asked_first(on_path: Written) -> None:
    """Whoever names a Python gets its bytecode, whatever else is on the search path."""
    on_path(RUNNING, "echo called >&2; exit 1")

    assert find_interpreter(RUNNING) == OURS


def test_a_shim_that_does_not_run_is_passed_by(
    on_path: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all on the search path the first one that is what its name says is taken."""
    places = [on_path(NOWHERE, "exit 127").parent, tmp_path / "empty"]
    for folder, says in {
        "another": answering("cpython", "final", "/another", "3.8.1", of="python3.8"),
        "pypy": answering("pypy", "final", "/pypy", "3.99.1"),
        "unfinished": answering("cpython", "candidate", "/unfinished", "3.99.1"),
        "silent": "echo hello",
        "right": answering("cpython", "final", "/right", "3.99.1"),
    }.items():
        places.append(on_path(f"{folder}/{NOWHERE}", says).parent)
    monkeypatch.setenv("PATH", ":".join(map(str, places)))

    assert find_interpreter(NOWHERE) == Interpreter("/right", "3.99.1")


def test_pyenv_is_asked(on_path: Written, tmp_path: Path) -> None:
    """One that pyenv keeps is found although none of its shims runs it."""
    kept = on_path("versions/3.99.4/bin/python3.99", answering("cpython", "final", "/it", "3"))
    prefix = kept.parents[1]
    on_path(
        "pyenv",
        f'case "$*" in "versions --bare") echo 3.9.18; echo 3.99.4;; '
        f'"prefix 3.99.4") echo {shlex.quote(str(prefix))};; *) exit 1;; esac',
    )
    assert (tmp_path / "versions").is_dir()

    assert find_interpreter(NOWHERE) == Interpreter("/it", "3")


def test_uv_is_asked(on_path: Written) -> None:
    """One that uv keeps is found too."""
    kept = on_path("uv/python", answering("cpython", "final", "/it", "3.99.0"))
    on_path("uv", f'[ "$*" = "python find 3.99" ] && echo {shlex.quote(str(kept))}')

    assert find_interpreter(NOWHERE) == Interpreter("/it", "3.99.0")


def test_where_there_is_none_none_is_found(on_path: Written) -> None:
    """Neither on the search path nor with pyenv or uv, and those that fail do not end it."""
    on_path("pyenv", "echo 3.99.1; exit 1")
    on_path("uv", "echo error: no interpreter >&2; exit 2")

    assert find_interpreter(NOWHERE) is None


SOURCES = {
    "ours/__init__.py": 'TEXT = "text"\nassert TEXT, "kept"\n',
    "ours/sets.py": '"""Kept."""\n\n\ndef f(x):\n    return x in {"a", "b", "c", "d", 1}\n',
    "single.py": "import json\n\nTEXT = 'text'\n",
}


def layer_of(folder: Path, contents: Mapping[str, str]) -> Path:
    """A folder that is to become a layer."""
    for name, content in contents.items():
        file = folder / "python" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def bytecode_of(layer: Path) -> dict[str, bytes]:
    """Every file below a `__pycache__` of the layer."""
    files = sorted(layer.rglob("__pycache__/*"))
    return {file.relative_to(layer).as_posix(): file.read_bytes() for file in files}


def codes(code: CodeType) -> Iterator[CodeType]:
    """A module's code with all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def test_every_source_has_bytecode_that_holds_by_its_contents(tmp_path: Path) -> None:
    """A zip has no times: importlib compares a hash, and tracebacks show the platform's place."""
    layer = layer_of(tmp_path, SOURCES)

    assert compile_layer_code(layer, RUNNING) == OURS

    for name in SOURCES:
        source = layer / "python" / name
        content = Path(importlib.util.cache_from_source(str(source))).read_bytes()
        assert content[:4] == importlib.util.MAGIC_NUMBER
        assert int.from_bytes(content[4:8], "little") == 0b11
        assert content[8:16] == importlib.util.source_hash(source.read_bytes())
        places = {code.co_filename for code in codes(marshal.loads(content[16:]))}  # noqa: S302
        assert places == {f"/opt/python/{name}"}
    assert len(bytecode_of(layer)) == len(SOURCES)


def test_bytecode_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the folder nor a variable of Python's shows in it."""
    one = layer_of(tmp_path / "one", SOURCES)
    compile_layer_code(one, RUNNING)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "sitecustomize.py").write_text("raise SystemExit('was run')\n")
    for name, value in {
        "PYTHONHASHSEED": "1234",
        "PYTHONOPTIMIZE": "2",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "elsewhere"),
        "PYTHONPATH": str(tmp_path / "startup"),
        "PYTHONWARNINGS": "error",
        "SOURCE_DATE_EPOCH": "1",
    }.items():
        monkeypatch.setenv(name, value)

    two = layer_of(tmp_path / "and" / "another" / "two", dict(reversed(SOURCES.items())))
    compile_layer_code(two, RUNNING)

    assert bytecode_of(one) == bytecode_of(two)
    assert len(bytecode_of(one)) == len(SOURCES)


def test_an_interpreter_in_a_virtual_environment_writes_the_same(tmp_path: Path) -> None:
    """What is installed beside it, and runs whenever it starts, has no part in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "startup.pth").write_text("import json, http.client\n")
    # Python 3.10 writes a name that something loaded knows in another way than one that is new.
    names = {"names.py": "def f(x):\n    return x._tunnel_host, x.makefile\n"}
    one, two = (layer_of(tmp_path / name, names) for name in ("one", "two"))

    compile_all(one, OURS)
    compile_all(two, Interpreter(str(tmp_path / "venv" / "bin" / "python"), VERSION))

    assert bytecode_of(one) == bytecode_of(two)


def test_what_does_not_compile_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It stays as it is, the others are compiled, and Python says why; it warns of nothing."""
    layer = layer_of(
        tmp_path, {**SOURCES, "theirs/old.py": "print 'Python 2'\n", "theirs/odd.py": "1 is 1\n"}
    )

    compile_layer_code(layer, RUNNING)

    said = capfd.readouterr()
    assert "python/theirs/old.py" in said.out
    assert "SyntaxError" in said.out
    assert "odd.py" not in said.out + said.err
    assert len(bytecode_of(layer)) == len(SOURCES) + 1
    assert (layer / "python" / "theirs" / "old.py").is_file()


def test_bytecode_that_a_wheel_brings_is_not_kept(tmp_path: Path) -> None:
    """It is compiled anew, or there is none: nobody knows what made it."""
    foreign = {
        "ours/__pycache__/sets.cpython-27.pyc": "foreign",
        f"ours/__pycache__/sets.{sys.implementation.cache_tag}.pyc": "foreign",
        "gone/__pycache__/gone.cpython-312.pyc": "foreign",
    }
    layer = layer_of(tmp_path, {**SOURCES, **foreign})

    compile_layer_code(layer, RUNNING)
    assert len(bytecode_of(layer)) == len(SOURCES)
    assert b"foreign" not in bytecode_of(layer).values()

    assert compile_layer_code(layer, NOWHERE) is None
    assert bytecode_of(layer) == {}


def test_the_interpreter_may_need_to_be_told_its_libraries(
    on_path: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was moved after it was built starts here as it does in its user's shell."""
    says = answering("cpython", "final", "/it", "3.99.0")
    on_path(NOWHERE, f'[ "$LD_LIBRARY_PATH" = /its/lib ] && [ -z "$SECRET" ] && {says}')
    monkeypatch.setenv("LD_LIBRARY_PATH", "/its/lib")
    monkeypatch.setenv("SECRET", "nothing else is passed on")

    assert find_interpreter(NOWHERE) == Interpreter("/it", "3.99.0")
