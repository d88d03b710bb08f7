"""Builds what is deployed, the layer and the functions' code: `make build`, in `.venv`.

The layer holds the locked dependencies for the runtime's Python, whatever this one is, and the
package without an operator's commands; bytecode of both, because nothing can be written where the
layer lies; and certifi's authorities one by one. The same inputs give the same bytes: Serverless
Devs compares a checksum, and uploads nothing when it has not changed. Inputs are this repository,
the wheels, which Python of the runtime's version is found here to compile (without any there is no
bytecode), and the zlib of the one that builds. Beside the layer lies a document of what is in it.
What fails has none.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import tomli
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement

from encryption_guard.cli.console import Stdout
from layers.encryption_guard.tools.authorities import UnreadableAnswer, by_subject
from layers.encryption_guard.tools.bytecode import Interpreter, compile_layer_code
from layers.encryption_guard.tools.sbom import MissingMetadata, Product, Shipped, document

LAYER = Path(__file__).parents[1]
REPOSITORY = LAYER.parents[1]
FUNCTIONS = REPOSITORY / "functions"
PACKAGE = LAYER / "python" / "encryption_guard"
ARCHIVE = "encryption_guard-layer.zip"
SBOM_FILE = "encryption_guard-layer.cdx.json"
ISOLATED_PIP = "layers.encryption_guard.tools.isolated_pip"

# What Function Compute's runtimes can load (Debian 10 and 11).
PLATFORM = "manylinux2014_x86_64"
# Of the wheels' own bookkeeping only what tells name, version and licence is kept.
LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "bin"}
# What lies beside our sources; each function's .fcignore tells Serverless Devs the same.
NO_SOURCES = shutil.ignore_patterns("__pycache__", ".fcignore")
# An operator's commands stay here: no function runs them, nor has the layer what they stand on.
NOT_IN_LAYER = shutil.ignore_patterns("__pycache__", "cli")
# Beside `python/` in the layer, so that it is /opt/authorities.
AUTHORITIES = "authorities"
BUNDLE = Path("python", "certifi", "cacert.pem")
# The earliest date a zip can hold: contents alone decide about its bytes.
NO_DATE = (1980, 1, 1, 0, 0, 0)
# 8 MiB. Every cold start fetches the layer: what makes it this large has to be meant.
MAX_ZIP_BYTES = 8 * 1024 * 1024


class Failed(Exception):
    """The build cannot succeed; the message is for a person."""


def main() -> None:
    """Read the arguments, build, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=["python3.12", "python3.10"], default="python3.12")
    parser.add_argument("--output", type=Path, default=Path("build"))
    chosen = parser.parse_args()
    stdout = Stdout()
    try:
        compiler = build(chosen.runtime, chosen.output)
    except (Failed, MissingMetadata, InvalidRequirement, OSError) as error:
        for name in (ARCHIVE, SBOM_FILE):
            with suppress(OSError):
                (chosen.output / name).unlink()
        reason = f"{chosen.output} cannot be built into ({error}); name another with --output."
        sys.exit(f"build: {reason if isinstance(error, OSError) else error}")
    report(chosen.output / ARCHIVE, chosen.runtime, compiler, stdout)
    sys.exit(stdout.is_lost)


def report(archive: Path, runtime: str, compiler: Interpreter | None, stdout: Stdout) -> None:
    """Say how large the layer is, and who compiled it."""
    with zipfile.ZipFile(archive) as layer:
        unpacked = sum(entry.file_size for entry in layer.infolist()) / 2**20
    zipped = archive.stat().st_size / 2**20
    by = f", bytecode of Python {compiler.version} ({compiler.executable})" if compiler else ""
    stdout.line(f"{archive} ({runtime}): {zipped:.1f} MiB, unpacked {unpacked:.1f} MiB{by}")
    if not compiler:
        print(
            f"build: no {runtime} was found here: a cold start takes more than twice as long.\n"
            f"Install it, or name it: make build RUNTIME={runtime} PYTHON=/path/to/{runtime}",
            file=sys.stderr,
        )
    stdout.say_if_lost(f"{archive} is built")


def build(runtime: str, output: Path) -> Interpreter | None:
    """Build for one runtime, and put the layer and the functions into the output folder."""
    output.mkdir(parents=True, exist_ok=True)
    # There, because it tells at once whether the folder can be written to, and because from there
    # the result is moved in one step.
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        scratch, layer = Path(folder), Path(folder, "layer")
        ours = product(runtime.removeprefix("python"))
        lock = LAYER / f"requirements-{ours.runtime}.txt"
        parts = install(layer / "python", runtime=ours.runtime, scratch=scratch, lock=lock)
        package = layer / "python" / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=NOT_IN_LAYER)
        write_version(package, ours.version)
        write_authorities(layer)
        compiler = compile_layer(layer, runtime)
        finish(layer, product=ours, shipped=parts, scratch=scratch, output=output)
        return compiler


def product(runtime: str) -> Product:
    """What pyproject.toml says of our package."""
    project = tomli.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    licence, requires = project["license"], project["dependencies"]
    return Product(project["name"], project["version"], licence, requires, runtime)


def install(target: Path, *, runtime: str, scratch: Path, lock: Path) -> list[Shipped]:
    """Put locked wheels for the runtime's Python (such as "3.12") into the target folder."""
    wheels = scratch / "wheels"
    # Fetched first: once it is installed, pip does not tell for sure which file it was.
    for command in (
        ["download", f"--dest={wheels}"],
        ["install", f"--target={target}", "--no-compile", "--no-index", f"--find-links={wheels}"],
    ):
        done = subprocess.run(  # noqa: S603  every part of the command is ours
            [
                *(sys.executable, "-m", ISOLATED_PIP, *command, "-qq"),
                *("--no-deps", "--require-hashes", "--requirement", str(lock)),
                *("--only-binary", ":all:", "--platform", PLATFORM),
                *("--implementation", "cp", "--python-version", runtime),
            ],
            check=False,
        )
        if done.returncode:
            raise Failed(f"pip could not install what {lock.name} locks: fix what it says above.")
    return [shipped(wheel, target) for wheel in sorted(wheels.iterdir())]


def shipped(wheel: Path, installed: Path) -> Shipped:
    """What the layer holds of a wheel."""
    name, version, *_ = wheel.name.split("-")
    info = installed / f"{name}-{version}.dist-info"
    return Shipped(
        parse_email((info / "METADATA").read_text("utf-8"))[0],
        checksum(wheel),
        {f"python/{info.name}/sboms/{file.name}": checksum(file) for file in info.glob("sboms/*")},
    )


def write_version(package: Path, version: str) -> None:
    """State the version where the package would ask for its metadata: a layer has none."""
    stated = f'"""The version of the guard."""\n\n__version__ = "{version}"\n'
    (package / "version.py").write_text(stated, "utf-8")


def write_authorities(layer: Path) -> None:
    """Put each certificate of the layer's certifi where OpenSSL finds it without reading all."""
    try:
        files = by_subject((layer / BUNDLE).read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, UnreadableAnswer) as error:
        raise Failed(
            f"the layer's {BUNDLE} is not read as certificates ({error}); lock another certifi "
            "(`make lock`), or extend tools/authorities.py."
        ) from None
    (layer / AUTHORITIES).mkdir()
    for name, certificate in files.items():
        (layer / AUTHORITIES / name).write_text(certificate, "utf-8", newline="\n")


def compile_layer(layer: Path, runtime: str) -> Interpreter | None:
    """Compile what is in the layer; what others wrote for another Python may stay as it is."""
    compiler, ours = compile_layer_code(layer, runtime), layer / "python" / PACKAGE.name
    if compiler and len([*ours.rglob("*.pyc")]) < len([*ours.rglob("*.py")]):
        who = compiler.executable
        raise Failed(f"{who} cannot compile all of {PACKAGE.name}: fix what it says above.")
    return compiler


def checksum(file: Path) -> str:
    """A file's SHA-256."""
    return sha256(file.read_bytes()).hexdigest()


def finish(
    layer: Path, *, product: Product, shipped: Sequence[Shipped], scratch: Path, output: Path
) -> None:
    """Zip the layer's folder, and move all results to where they belong, all or nothing."""
    write_zip(scratch / ARCHIVE, layer)
    if (size := (scratch / ARCHIVE).stat().st_size) > MAX_ZIP_BYTES:
        raise Failed(
            f"the layer has {size:,} bytes as a zip, {MAX_ZIP_BYTES:,} (8 MiB) are allowed; take "
            "out what need not ship (a dependency from pyproject.toml, then `make lock`), or raise "
            "MAX_ZIP_BYTES in tools/build.py if it is worth it."
        )
    materials = document(product, shipped, archive=checksum(scratch / ARCHIVE))
    (scratch / SBOM_FILE).write_text(materials, "utf-8")
    shutil.copytree(FUNCTIONS, scratch / "functions", ignore=NO_SOURCES)
    # One build at a time moves its results, lest those of two be mixed.
    with Path(__file__).open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        shutil.rmtree(output / "functions", ignore_errors=True)
        for name in ("functions", ARCHIVE, SBOM_FILE):
            (scratch / name).replace(output / name)


def write_zip(archive: Path, root: Path) -> None:
    """Zip a folder, the same way every time.

    How deflate packs is zlib's: a Python that is built with another one, such as zlib-ng, writes
    other bytes of the same contents.
    """
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
    with zipfile.ZipFile(archive, "w", compresslevel=9) as layer:
        for name, file in sorted(files.items()):
            if LEFT_OUT.isdisjoint(name.split("/")):
                entry = zipfile.ZipInfo(name, NO_DATE)
                entry.external_attr = 0o644 << 16
                layer.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
