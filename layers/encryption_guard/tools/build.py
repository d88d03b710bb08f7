"""Build the files that are deployed: the layer and the code of the functions (`make build`).

The layer holds the locked dependencies for the runtime's Python, the guard's package without its
`cli` and `__main__.py`, and certifi's certificate authorities, each in its own file. It includes
bytecode, because it is read-only in the cloud. The build also writes an SBOM of the layer. A failed
build leaves no layer and no SBOM.

The same inputs give the same bytes, because Serverless Devs uploads a layer only if its checksum
has changed. The inputs are this repository, the wheels, the Python of the runtime's version that
compiles (if there is none, the layer has no bytecode), and the zlib of the Python that builds.
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
from layers.encryption_guard.tools.authorities import InvalidBundle, split_bundle
from layers.encryption_guard.tools.bytecode import Interpreter, compile_layer_code
from layers.encryption_guard.tools.sbom import (
    MissingMetadata,
    Product,
    ShippedWheel,
    create_document,
)

LAYER = Path(__file__).parents[1]
REPOSITORY = LAYER.parents[1]
FUNCTIONS = REPOSITORY / "functions"
PACKAGE = LAYER / "python" / "encryption_guard"
ARCHIVE = "encryption_guard-layer.zip"
SBOM_FILE = "encryption_guard-layer.cdx.json"
ISOLATED_PIP = "layers.encryption_guard.tools.isolated_pip"

# The platform of the wheels that Function Compute's runtimes (Debian 10 and 11) can load.
PLATFORM = "manylinux2014_x86_64"
# Scripts, and files of a wheel that only an installer needs. METADATA and the licences stay.
EXCLUDED_NAMES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "bin"}
# Each function's .fcignore lists the same names for Serverless Devs.
IGNORE_IN_FUNCTIONS = shutil.ignore_patterns("__pycache__", ".fcignore")
# No function uses `cli` or what starts it, and its dependencies are not in the layer.
IGNORE_IN_PACKAGE = shutil.ignore_patterns("__pycache__", "cli", "__main__.py")
# Beside `python/` in the layer, so Function Compute unpacks it to /opt/authorities.
AUTHORITIES = "authorities"
BUNDLE = Path("python", "certifi", "cacert.pem")
# The earliest date that a zip can hold; a constant date makes the zip reproducible.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# 8 MiB. Every cold start downloads the layer, so it must not grow unnoticed.
MAX_ZIP_BYTES = 8 * 1024 * 1024


class BuildFailed(Exception):
    """The build cannot succeed; the message is for a person."""


def main() -> None:
    """Parse the arguments, build, and report the size of the layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=["python3.12", "python3.10"], default="python3.12")
    parser.add_argument("--output", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    stdout = Stdout()
    try:
        compiler = build(arguments.runtime, arguments.output)
    except (BuildFailed, MissingMetadata, InvalidRequirement, OSError) as error:
        for name in (ARCHIVE, SBOM_FILE):
            with suppress(OSError):
                (arguments.output / name).unlink()
        problem = f"cannot build into {arguments.output} ({error}); set another --output."
        sys.exit(f"build: {problem if isinstance(error, OSError) else error}")
    report(arguments.output / ARCHIVE, arguments.runtime, compiler, stdout)
    sys.exit(stdout.is_lost)


def report(archive: Path, runtime: str, compiler: Interpreter | None, stdout: Stdout) -> None:
    """Print the size of the layer, and which Python compiled it."""
    with zipfile.ZipFile(archive) as layer:
        unpacked = sum(entry.file_size for entry in layer.infolist()) / 2**20
    zipped = archive.stat().st_size / 2**20
    by = f", bytecode of Python {compiler.version} ({compiler.executable})" if compiler else ""
    stdout.line(f"{archive} ({runtime}): {zipped:.1f} MiB, unpacked {unpacked:.1f} MiB{by}")
    if not compiler:
        print(
            f"build: {runtime} was not found, so the layer has no bytecode: a cold start takes "
            f"more than twice as long.\nInstall {runtime}, or set its path: "
            f"make build RUNTIME={runtime} PYTHON=/path/to/{runtime}",
            file=sys.stderr,
        )
    stdout.say_if_lost(f"{archive} is built")


def build(runtime: str, output: Path) -> Interpreter | None:
    """Build the layer and the functions for one runtime into the output folder.

    Return the Python that compiled the layer, or None if there is no bytecode. Raises BuildFailed
    or MissingMetadata if the build cannot succeed.
    """
    output.mkdir(parents=True, exist_ok=True)
    # In the output folder, this fails at once if the folder is read-only. It is also on the same
    # file system, so each result is moved in one step.
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        scratch, layer = Path(folder), Path(folder, "layer")
        product = read_product(runtime.removeprefix("python"))
        lock = LAYER / f"requirements-{product.runtime}.txt"
        wheels = install(layer / "python", runtime=product.runtime, scratch=scratch, lock=lock)
        package = layer / "python" / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=IGNORE_IN_PACKAGE)
        write_version(package, product.version)
        write_authorities(layer)
        compiler = compile_layer(layer, runtime)
        write_results(layer, product=product, shipped=wheels, scratch=scratch, output=output)
        return compiler


def read_product(runtime: str) -> Product:
    """Read the description of our package from pyproject.toml."""
    project = tomli.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    licence, requires = project["license"], project["dependencies"]
    return Product(project["name"], project["version"], licence, requires, runtime)


def install(target: Path, *, runtime: str, scratch: Path, lock: Path) -> list[ShippedWheel]:
    """Install the locked wheels for the runtime's Python (such as "3.12") into the target folder.

    Raises BuildFailed if pip fails.
    """
    wheels = scratch / "wheels"
    # Download first: after an installation, pip does not show reliably which wheel it used.
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
            raise BuildFailed(
                f"pip cannot install the packages of {lock.name}: fix the error above."
            )
    return [read_wheel(wheel, target) for wheel in sorted(wheels.iterdir())]


def read_wheel(wheel: Path, installed: Path) -> ShippedWheel:
    """Read the metadata of an installed wheel, and the hashes of the wheel and its documents."""
    name, version, *_ = wheel.name.split("-")
    info = installed / f"{name}-{version}.dist-info"
    return ShippedWheel(
        parse_email((info / "METADATA").read_text("utf-8"))[0],
        checksum(wheel),
        {f"python/{info.name}/sboms/{file.name}": checksum(file) for file in info.glob("sboms/*")},
    )


def write_version(package: Path, version: str) -> None:
    """Write the version into the package: a layer has no metadata of it to read."""
    source = f'"""The version of the guard."""\n\n__version__ = "{version}"\n'
    (package / "version.py").write_text(source, "utf-8")


def write_authorities(layer: Path) -> None:
    """Write each certificate of the layer's certifi to the file where OpenSSL looks it up."""
    try:
        files = split_bundle((layer / BUNDLE).read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, InvalidBundle) as error:
        raise BuildFailed(
            f"the certificates in the layer's {BUNDLE} cannot be read ({error}); lock another "
            "certifi (`make lock`), or extend tools/authorities.py."
        ) from None
    (layer / AUTHORITIES).mkdir()
    for name, certificate in files.items():
        (layer / AUTHORITIES / name).write_text(certificate, "utf-8", newline="\n")


def compile_layer(layer: Path, runtime: str) -> Interpreter | None:
    """Compile the layer; raises BuildFailed if a file of our package does not compile.

    A file of a dependency may be meant for another Python, so it may stay without bytecode.
    """
    compiler, ours = compile_layer_code(layer, runtime), layer / "python" / PACKAGE.name
    if compiler and len([*ours.rglob("*.pyc")]) < len([*ours.rglob("*.py")]):
        executable = compiler.executable
        raise BuildFailed(
            f"{executable} cannot compile all of {PACKAGE.name}: fix the error above."
        )
    return compiler


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return sha256(file.read_bytes()).hexdigest()


def write_results(
    layer: Path,
    *,
    product: Product,
    shipped: Sequence[ShippedWheel],
    scratch: Path,
    output: Path,
) -> None:
    """Zip the layer, then move the zip, the SBOM and the functions into the output folder.

    Raises BuildFailed or MissingMetadata before anything is moved.
    """
    write_zip(scratch / ARCHIVE, layer)
    if (size := (scratch / ARCHIVE).stat().st_size) > MAX_ZIP_BYTES:
        raise BuildFailed(
            f"the layer has {size:,} bytes as a zip, the limit is {MAX_ZIP_BYTES:,} (8 MiB); "
            "remove a dependency from pyproject.toml and run `make lock`, or raise MAX_ZIP_BYTES "
            "in tools/build.py."
        )
    document = create_document(product, shipped, archive=checksum(scratch / ARCHIVE))
    (scratch / SBOM_FILE).write_text(document, "utf-8")
    shutil.copytree(FUNCTIONS, scratch / "functions", ignore=IGNORE_IN_FUNCTIONS)
    # The lock prevents a mix of the results of two builds.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(output / "functions", ignore_errors=True)
        for name in ("functions", ARCHIVE, SBOM_FILE):
            (scratch / name).replace(output / name)


def write_zip(archive: Path, root: Path) -> None:
    """Zip a folder reproducibly.

    The compressed bytes depend on zlib: a Python that is built with zlib-ng writes other bytes
    for the same contents.
    """
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
    with zipfile.ZipFile(archive, "w", compresslevel=9) as layer:
        for name, file in sorted(files.items()):
            if EXCLUDED_NAMES.isdisjoint(name.split("/")):
                entry = zipfile.ZipInfo(name, ZIP_DATE)
                entry.external_attr = 0o644 << 16
                layer.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
