"""Compile the layer with a Python of the runtime's version, whichever Python runs the build.

A layer is read-only in the cloud, so each cold start would compile every file that the build did
not. The bytecode does not depend on the folder or on the environment. Another release or build
of the same Python version may write different bytes; every Python of that version can load them.
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

# Function Compute unpacks a layer here. With any other path in the bytecode, each import would
# have to correct every code object.
INSTALL_PATH = "/opt"
# Prints the version and path of an interpreter. A pyenv shim may start another version, and the
# minimal Python of a distribution may lack modules.
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


def find_interpreter(runtime: str) -> Interpreter | None:
    """Find a Python of the runtime's version (such as "python3.12"); None if there is none."""
    probed = (probe_interpreter(candidate, runtime) for candidate in list_candidates(runtime))
    return next(filter(None, probed), None)


def list_candidates(runtime: str) -> Iterator[str]:
    """Yield this interpreter, those on the search path, and those that pyenv and uv manage."""
    yield sys.executable
    for folder in os.get_exec_path():
        yield str(Path(folder, runtime))
    version = runtime.removeprefix("python")
    for installed in (read_output(["pyenv", "versions", "--bare"]) or "").split():
        if installed.startswith(f"{version}.") and (
            prefix := read_output(["pyenv", "prefix", installed])
        ):
            yield str(Path(prefix, "bin", runtime))
    if found := read_output(["uv", "python", "find", version]):
        yield found


def probe_interpreter(candidate: str, runtime: str) -> Interpreter | None:
    """Run the candidate; return it if it is a final release of CPython in the runtime's version."""
    try:
        answer = json.loads(
            read_output([candidate, "-S", "-c", PROBE_CODE], make_environment()) or "[]"
        )
    except ValueError:
        return None
    return Interpreter(*answer[3:]) if answer[:3] == ["cpython", runtime, "final"] else None


def read_output(command: Sequence[str], environment: dict[str, str] | None = None) -> str | None:
    """Run a command and return its output; None if it fails or does not exist."""
    try:
        done = subprocess.run(  # noqa: S603  the commands are ours
            command, check=True, capture_output=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def make_environment() -> dict[str, str]:
    """Return an environment without the `PYTHON*` variables that would change the bytecode."""
    # A Python that was moved after its build may need LD_LIBRARY_PATH to start.
    inherited = ("PATH", "LD_LIBRARY_PATH")
    environment = os.environ  # noqa: TID251  not a setting of ours
    # Before Python 3.11, bytecode holds a set of constants in the order of their hashes.
    return {
        "PYTHONHASHSEED": "0",
        **{name: environment[name] for name in inherited if name in environment},
    }


def compile_layer_code(layer: Path, runtime: str) -> Interpreter | None:
    """Compile `python/` in the layer's folder; return the compiler, or None if there is none."""
    # The origin of bytecode in a wheel is unknown. So this compiles every file, or ships none.
    for foreign in list(layer.rglob("__pycache__")):
        shutil.rmtree(foreign)
    if compiler := find_interpreter(runtime):
        compile_all(layer, compiler)
    return compiler


def compile_all(layer: Path, compiler: Interpreter) -> None:
    """Run compileall, which prints an error for each file that it cannot compile."""
    # -S: the modules that `site` loads change how Python 3.10 writes names.
    # A relative path keeps the scratch folder out of the file names in tracebacks.
    subprocess.run(  # noqa: S603  an interpreter that was probed
        [
            *(compiler.executable, "-S", "-B", "-W", "ignore", "-m", "compileall", "-q", "-f"),
            *("-j", "1", "-p", INSTALL_PATH, "--invalidation-mode", "checked-hash", "python"),
        ],
        check=False,
        cwd=layer,
        env=make_environment(),
    )
