"""Builds what is deployed, the layer and the functions' code: `make build`, in `.venv`.

The layer holds the locked dependencies for the runtime's Python, whatever this one is, and the
package as it stands; bytecode of both, because nothing can be written where the layer lies; and
certifi's authorities one by one. The same inputs give the same bytes: Serverless Devs compares a
checksum, and uploads nothing when it has not changed. Inputs are this repository, the wheels, which
Python of the runtime's version is found here to compile (without any there is no bytecode), and the
zlib of the one that builds. Beside the layer lies a document of what is in it. A build that fails
leaves neither, lest somebody publishes the one before.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import tomli

if TYPE_CHECKING or __package__:
    from layers.encryption_guard.authorities import Unreadable, by_subject
    from layers.encryption_guard.bytecode import Bytecode, compiled
    from layers.encryption_guard.sbom import Product, Shipped, Untold, document
else:  # as a plain script, whose own folder is where Python looks
    from authorities import Unreadable, by_subject
    from bytecode import Bytecode, compiled
    from sbom import Product, Shipped, Untold, document

LAYER = Path(__file__).parent
REPOSITORY = LAYER.parents[1]
FUNCTIONS = REPOSITORY / "functions"
PACKAGE = LAYER / "python" / "encryption_guard"
ARCHIVE = "encryption_guard-layer.zip"
MATERIALS = "encryption_guard-layer.cdx.json"

# What Function Compute's runtimes can load (Debian 10 and 11).
PLATFORM = "manylinux2014_x86_64"
# Of the wheels' own bookkeeping only what tells name, version and licence is kept.
LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "bin"}
# What whoever ran our sources left beside them: the layer's own is made anew.
BYTECODE = "__pycache__"
# Each function's .fcignore tells Serverless Devs the same.
LEFT_OUT_OF_FUNCTIONS = {BYTECODE, ".fcignore"}
# Beside `python/` in the layer, so that it is /opt/authorities.
AUTHORITIES = "authorities"
BUNDLE = Path("python", "certifi", "cacert.pem")
# The earliest date a zip can hold: contents alone decide about its bytes.
NO_DATE = (1980, 1, 1, 0, 0, 0)
# The day after in UTC: the local time that goes into a zip is not before 1980 anywhere.
NO_TIME = 315_619_200
# 8 MiB. Every cold start fetches the layer: what makes it this large has to be meant.
LARGEST_ZIP = 8 * 1024 * 1024
LAST_LINES = 8


class Failed(Exception):
    """The build cannot succeed; the message is for a person."""


@dataclass(frozen=True)
class Layer:
    """Its bytes as a zip, and unpacked for each package; what of it is compiled, and by whom."""

    zipped: int
    parts: Mapping[str, int]
    bytecode: Bytecode | None = None

    @property
    def unpacked(self) -> int:
        return sum(self.parts.values())

    def largest(self) -> list[tuple[str, int]]:
        """The packages that make out most of it, the largest first."""
        return sorted(self.parts.items(), key=lambda part: (-part[1], part[0]))[:5]


def main() -> None:
    """Read the arguments, build, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=["python3.12", "python3.10"], default="python3.12")
    parser.add_argument("--output", type=Path, default=Path("build"))
    chosen = parser.parse_args()

    try:
        layer = build(chosen.runtime, chosen.output)
    except (Failed, Untold, OSError) as error:
        for name in (ARCHIVE, MATERIALS):
            with suppress(OSError):
                (chosen.output / name).unlink()
        sys.exit(f"build: {sentence(error, chosen.output)}")
    print("\n".join(sizes(layer, chosen.runtime, chosen.output)))
    if layer.bytecode is None:
        print(f"build: {without_bytecode(chosen.runtime)}", file=sys.stderr)


def sentence(error: Failed | Untold | OSError, output: Path) -> str:
    """What went wrong, for a person."""
    if not isinstance(error, OSError):
        return str(error)
    named = f": {error.filename}" if error.filename else ""
    return (
        f"{output} cannot be built into ({error.strerror or error}{named}); "
        "mend that, or name another folder with --output."
    )


def build(runtime: str, output: Path) -> Layer:
    """Build for one runtime, and put the layer and the functions into the output folder."""
    output.mkdir(parents=True, exist_ok=True)
    # There, because it tells at once whether the folder can be written to, and because from there
    # the result is moved in one step.
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        scratch = Path(folder)
        python = scratch / "layer" / "python"
        ours = product(runtime.removeprefix("python"))
        parts = install(python, runtime=ours.runtime, scratch=scratch)
        ignored = shutil.ignore_patterns(*LEFT_OUT, BYTECODE)
        shutil.copytree(PACKAGE, python / PACKAGE.name, ignore=ignored)
        write_version(python / PACKAGE.name, ours.version)
        write_authorities(python.parent)
        bytecode = compile_layer(python.parent, runtime)
        written = finish(python.parent, product=ours, shipped=parts, scratch=scratch, output=output)
        return replace(written, bytecode=bytecode)


def product(runtime: str) -> Product:
    """What pyproject.toml says of our package."""
    project = tomli.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    licence, requires = project["license"], project["dependencies"]
    return Product(project["name"], project["version"], licence, requires, runtime)


def install(
    target: Path, *, runtime: str, scratch: Path, lock: Path | None = None
) -> list[Shipped]:
    """Put the locked wheels for the runtime's Python (such as "3.12") into the target folder.

    What is locked is the layer's, or what another file locks; neither has markers.
    """
    lock = lock or LAYER / f"requirements-{runtime}.txt"
    # Fetched first: once it is installed, not every pip tells which file it was.
    pip(lock, runtime, "download", "--dest", scratch / "wheels")
    pip(
        *(lock, runtime, "install", "--no-compile", "--target", target),
        *("--no-index", "--find-links", scratch / "wheels"),
    )
    return [shipped(wheel, target) for wheel in sorted((scratch / "wheels").iterdir())]


def pip(lock: Path, runtime: str, *command: str | Path) -> None:
    """Run a command of pip for what is locked: nothing but wheels, and only with these hashes."""
    run(
        [
            *(sys.executable, LAYER / "isolated_pip.py", *command, "--quiet"),
            *("--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--implementation", "cp", "--platform", PLATFORM),
            *("--python-version", runtime, "--requirement", lock),
        ],
        otherwise=f"pip could not install what {lock.name} locks; its last lines say why:",
    )


def shipped(wheel: Path, installed: Path) -> Shipped:
    """What the layer holds of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(
            name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        )
    documents = (installed / metadata).parent.glob("sboms/*")
    return Shipped(
        (installed / metadata).read_text("utf-8"),
        checksum(wheel),
        {path.relative_to(installed.parent).as_posix(): checksum(path) for path in documents},
    )


def write_version(package: Path, version: str) -> None:
    """State the version where the package would ask for its metadata: a layer has none."""
    stated = f'"""The version of the guard."""\n\n__version__ = "{version}"\n'
    (package / "version.py").write_text(stated, "utf-8")


def write_authorities(layer: Path) -> None:
    """Put each certificate of the layer's certifi where OpenSSL finds it without reading all."""
    try:
        files = by_subject((layer / BUNDLE).read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, Unreadable) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Failed(
            f"the layer's {BUNDLE} is not read as certificates ({reason}); lock another certifi "
            "(`make lock`), or extend authorities.py."
        ) from None
    (layer / AUTHORITIES).mkdir()
    for name, certificate in files.items():
        (layer / AUTHORITIES / name).write_text(certificate, "utf-8", newline="\n")


def compile_layer(layer: Path, runtime: str) -> Bytecode | None:
    """Compile what is in the layer; what others wrote for another Python may stay as it is."""
    bytecode = compiled(layer, runtime)
    if bytecode and any(name.startswith(f"python/{PACKAGE.name}/") for name in bytecode.lacking):
        raise Failed(
            f"{bytecode.compiler.executable} cannot compile all of {PACKAGE.name}:\n"
            f"{end_of(bytecode.printed)}"
        )
    return bytecode


def checksum(file: Path) -> str:
    """A file's SHA-256."""
    return sha256(file.read_bytes()).hexdigest()


def run(command: Sequence[str | Path], *, otherwise: str) -> None:
    """Run a command in silence; raises Failed with the end of what it printed."""
    done = subprocess.run(  # noqa: S603  every part of the command is ours
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise Failed(f"{otherwise}\n{end_of(done.stdout.decode(errors='replace'))}")


def end_of(printed: str) -> str:
    """The last lines that a command printed, under a sentence about it."""
    return "\n".join(f"  {line}" for line in printed.strip().splitlines()[-LAST_LINES:])


def finish(
    layer: Path, *, product: Product, shipped: Sequence[Shipped], scratch: Path, output: Path
) -> Layer:
    """Zip the layer's folder, and move all results to where they belong, all or nothing."""
    written = write_zip(scratch / ARCHIVE, layer)
    if written.zipped > LARGEST_ZIP:
        raise Failed(too_large(written))
    materials = document(product, shipped, archive=checksum(scratch / ARCHIVE))
    (scratch / MATERIALS).write_text(materials, "utf-8")
    copy_functions(scratch / "functions")
    with alone_in(output):
        with suppress(FileNotFoundError):
            (output / "functions").rename(scratch / "functions-before")
        (scratch / "functions").rename(output / "functions")
        for name in (ARCHIVE, MATERIALS):
            (scratch / name).replace(output / name)
    return written


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other build moves its results into the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_zip(archive: Path, root: Path) -> Layer:
    """Zip a folder, the same way every time.

    How deflate packs is zlib's: a Python that is built with another one, such as zlib-ng, writes
    other bytes of the same contents.
    """
    parts: Counter[str] = Counter()
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as layer:
        for name, file in sorted(files.items()):
            if LEFT_OUT.intersection(name.split("/")):
                continue
            entry = zipfile.ZipInfo(name, NO_DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = file.read_bytes()
            parts[part_of(name)] += len(content)
            layer.writestr(entry, content)
    return Layer(archive.stat().st_size, parts)


def part_of(name: str) -> str:
    """The package that a file of the layer belongs to: its metadata and bytecode are part of it."""
    top, inside, *_ = [folder for folder in name.split("/") if folder != BYTECODE]
    return re.split(r"[-.]", inside)[0] if top == "python" else top


def copy_functions(target: Path) -> None:
    """Copy each function's folder as it stands; whoever zips the copies gets the same bytes."""
    left_out = shutil.ignore_patterns(*LEFT_OUT_OF_FUNCTIONS)
    shutil.copytree(FUNCTIONS, target, ignore=left_out)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (NO_TIME, NO_TIME))


def too_large(layer: Layer) -> str:
    """What is too large, by how much, and what to do."""
    largest = ", ".join(f"{name} {readable(size)}" for name, size in layer.largest())
    return (
        f"the layer has {layer.zipped:,} bytes as a zip, {LARGEST_ZIP:,} (8 MiB) are allowed, and "
        f"most of it is (unpacked) {largest}; take out what need not ship (a dependency from "
        "pyproject.toml, then `make lock`), or raise LARGEST_ZIP in build.py if it is worth it."
    )


def sizes(layer: Layer, runtime: str, output: Path) -> Iterator[str]:
    """How large everything is that was built, line by line."""
    yield (
        f"{output / ARCHIVE} ({runtime}): {readable(layer.zipped)} zipped, at most "
        f"{readable(LARGEST_ZIP)}; {readable(layer.unpacked)} unpacked, of which"
    )
    largest = layer.largest()
    rest = layer.unpacked - sum(size for _, size in largest)
    for name, size in [*largest, ("everything else", rest)]:
        yield f"  {readable(size):>10}  {name}"
    yield f"  {told_of(layer.bytecode)}"
    yield f"{output / MATERIALS}: what it is made of (CycloneDX)"
    for function in sorted((output / "functions").iterdir()):
        held = sum(file.stat().st_size for file in function.rglob("*") if file.is_file())
        yield f"{function}/: {held:,} bytes"


def told_of(bytecode: Bytecode | None) -> str:
    """Whether there is bytecode, and whose."""
    if bytecode is None:
        return "without bytecode"
    lacking = f"; not of {', '.join(bytecode.lacking)}" if bytecode.lacking else ""
    return (
        f"with bytecode of Python {bytecode.compiler.version} "
        f"({bytecode.compiler.executable}){lacking}"
    )


def without_bytecode(runtime: str) -> str:
    """What it costs that nobody here could compile, and what to do."""
    return (
        f"no {runtime} was found here to compile the layer with: a cold start takes about twice as "
        f"long.\nInstall {runtime} and build again, or name it: "
        f"make build RUNTIME={runtime} PYTHON=/path/to/{runtime}"
    )


def readable(size: int) -> str:
    """A number of bytes as a person reads it."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


if __name__ == "__main__":
    main()
