"""Builds what is deployed: the layer and the functions' code. Needs only Python: `make build`.

The layer holds the locked dependencies for the runtime's Python, whatever this one is, and the
package as it stands. The same inputs give the same bytes: Serverless Devs compares a checksum, and
uploads nothing when it has not changed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

LAYER = Path(__file__).parent
FUNCTIONS = LAYER.parents[1] / "functions"
PACKAGE = LAYER / "python" / "encryption_guard"

# What Function Compute's runtimes can load (Debian 10 and 11).
PLATFORM = "manylinux2014_x86_64"
# Of the wheels' own bookkeeping only what tells name, version and licence is kept.
LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "__pycache__", "bin"}
# The earliest date a zip can hold: contents alone decide about its bytes.
NO_DATE = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=["python3.12", "python3.10"], default="python3.12")
    parser.add_argument("--output", type=Path, default=Path("build"))
    chosen = parser.parse_args()

    chosen.output.mkdir(parents=True, exist_ok=True)
    archive = chosen.output / "encryption_guard-layer.zip"
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "layer", "python")
        install(python, runtime=chosen.runtime.removeprefix("python"), scratch=Path(folder))
        shutil.copytree(PACKAGE, python / PACKAGE.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        unpacked = write_zip(archive, python.parent)
    functions = copy_functions(chosen.output / "functions")

    print(f"{archive}: {archive.stat().st_size:,} bytes, {unpacked:,} unpacked, {chosen.runtime}")
    for function in functions:
        print(f"{function}/")


def install(target: Path, *, runtime: str, scratch: Path) -> None:
    """Put the locked wheels for the runtime's Python (such as "3.12") into the target folder."""
    locked = scratch / "requirements.txt"
    locked.write_text(requirements_for(runtime, (LAYER / "requirements.txt").read_text("utf-8")))
    # Debian's Python comes without pip, but a virtual environment has one.
    venv.create(scratch / "venv", with_pip=True)
    subprocess.run(  # noqa: S603  every part of the command is ours
        [
            *(scratch / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--implementation", "cp", "--platform", PLATFORM),
            *("--python-version", runtime, "--target", target, "--requirement", locked),
        ],
        check=True,
    )


def requirements_for(runtime: str, locked: str) -> str:
    """The lock file for one Python: pip would judge its markers by the Python that builds."""
    kept = []
    for requirement in re.split(r"\n(?=\S)", locked.strip()):
        pinned, marker, hashes = re.fullmatch(
            r"(\S+)(?: ; (.*?))? \\(\n.*)", requirement, re.DOTALL
        ).groups()  # type: ignore[union-attr]  # the lock file has one form
        if marker is None or applies(marker, runtime):
            kept.append(f"{pinned} \\{hashes}")
    return "\n".join(kept) + "\n"


def applies(marker: str, runtime: str) -> bool:
    """Whether a marker of the lock file holds for the runtime."""
    match = re.fullmatch(r"python_full_version (<|>=) '3\.(\d+)'", marker)
    if not match:
        sys.exit(f"build: the lock file's marker {marker!r} is not known here; extend applies().")
    older = int(runtime.partition(".")[2]) < int(match[2])
    return older if match[1] == "<" else not older


def write_zip(archive: Path, root: Path) -> int:
    """Zip a folder, the same way every time; returns the bytes it holds."""
    total = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as layer:
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            name = file.relative_to(root)
            if LEFT_OUT.intersection(name.parts):
                continue
            entry = zipfile.ZipInfo(name.as_posix(), NO_DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = file.read_bytes()
            total += len(content)
            layer.writestr(entry, content)
    return total


def copy_functions(target: Path) -> list[Path]:
    """Copy each function's folder as it stands."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(FUNCTIONS, target, ignore=shutil.ignore_patterns("__pycache__"))
    return sorted(path for path in target.iterdir() if path.is_dir())


if __name__ == "__main__":
    main()
