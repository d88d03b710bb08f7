"""Compiles what is in the layer with a Python of the runtime's version, whichever Python builds.

A layer is read-only in the cloud: what is not compiled here is compiled at each cold start. A file
is compiled to the same bytes wherever it lies and whatever the environment is. Another release or
build of the same version may write others, which all of that version can load.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Where Function Compute unpacks a layer; from elsewhere an import has to correct it in every code.
INSTALL_PATH = "/opt"
# What an interpreter says of itself. pyenv's shims have its name, and may start another or none;
# some distributions' smallest Pythons lack modules.
PROBE_CODE = """
import compileall, json, sys
print(json.dumps([sys.implementation.name, "python%d.%d" % sys.version_info[:2],
    sys.version_info.releaselevel, sys.executable, "%d.%d.%d" % sys.version_info[:3]]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python of the runtime's version."""

    executable: str
    version: str


def interpreter(runtime: str) -> Interpreter | None:
    """One of the runtime's version (such as "python3.12"), or None where there is none."""
    return next(filter(None, (probe(one, runtime) for one in candidates(runtime))), None)


def candidates(runtime: str) -> Iterator[str]:
    """Where it may be: this one, those on the search path, and what pyenv and uv keep."""
    yield sys.executable
    for folder in os.get_exec_path():
        yield str(Path(folder, runtime))
    version = runtime.removeprefix("python")
    for kept in (output_of(["pyenv", "versions", "--bare"]) or "").split():
        if kept.startswith(f"{version}.") and (prefix := output_of(["pyenv", "prefix", kept])):
            yield str(Path(prefix, "bin", runtime))
    if found := output_of(["uv", "python", "find", version]):
        yield found


def probe(candidate: str, runtime: str) -> Interpreter | None:
    """The interpreter that really runs there, if it is a final release of the runtime's version."""
    try:
        answer = json.loads(output_of([candidate, "-S", "-c", PROBE_CODE], environment()) or "[]")
    except ValueError:
        return None
    return Interpreter(*answer[3:]) if answer[:3] == ["cpython", runtime, "final"] else None


def output_of(command: Sequence[str], environment: dict[str, str] | None = None) -> str | None:
    """What a command prints, or None if it fails or is not there."""
    try:
        done = subprocess.run(  # noqa: S603  names are looked up where the builder looks
            command, check=True, capture_output=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def environment() -> dict[str, str]:
    """All that an interpreter gets to know: no variable of Python's that changes what it writes."""
    # Some that were moved after they were built need the second one to start at all.
    passed = ("PATH", "LD_LIBRARY_PATH")
    given = os.environ  # noqa: TID251  not a setting of ours
    # Before 3.11 a set of constants is written in the order of their hashes.
    return {"PYTHONHASHSEED": "0", **{name: given[name] for name in passed if name in given}}


def compile_layer_code(layer: Path, runtime: str) -> Interpreter | None:
    """Compile what is under `python/` of the layer's folder, if there is such a Python."""
    # What a wheel brings of its own is whoever's: here everything is compiled, or nothing.
    for foreign in list(layer.rglob("__pycache__")):
        shutil.rmtree(foreign)
    if compiler := interpreter(runtime):
        compile_all(layer, compiler)
    return compiler


def compile_all(layer: Path, compiler: Interpreter) -> None:
    """Run compileall, which says what it cannot compile."""
    # Without `site`: what is loaded decides how Python 3.10 writes names that are known already.
    # By a relative name: the scratch folder's is no part of what a file is called in tracebacks.
    subprocess.run(  # noqa: S603  an interpreter that has answered
        [
            *(compiler.executable, "-S", "-B", "-W", "ignore", "-m", "compileall", "-q", "-f"),
            *("-j", "1", "-p", INSTALL_PATH, "--invalidation-mode", "checked-hash", "python"),
        ],
        check=False,
        cwd=layer,
        env=environment(),
    )
