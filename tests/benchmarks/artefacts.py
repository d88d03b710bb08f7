"""What a cold instance finds: the built layer unpacked, the vendor's SDK likewise, the functions.

The SDK gets what the layer gets: the locked wheels for the runtime's Python, bytecode that is
checked against the source by its hash, and a folder that nobody writes to.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from layers.encryption_guard.tools.authorities import split_bundle
from layers.encryption_guard.tools.build import ARCHIVE, REPOSITORY, build, install
from layers.encryption_guard.tools.bytecode import Interpreter, compile_layer_code, find_interpreter

RUNTIMES = ("python3.12", "python3.10")
SDK = (
    *("alibabacloud-oss-v2", "certifi", "charset-normalizer", "crcmod-plus", "idna"),
    *("pycryptodome", "requests", "urllib3"),
)
# What of this folder runs inside the measured processes.
PROGRAMS = (
    *("batches", "case", "event_limit", "event_official_sdk", "instance", "limit"),
    "official_sdk",
)


@dataclass(frozen=True)
class Variant:
    """Where a process finds modules, and which it imports: the function's is the last."""

    path: Sequence[Path]
    modules: Sequence[str]


@dataclass(frozen=True)
class Artefacts:
    """All that was prepared, for one runtime and its interpreter."""

    runtime: str
    python: Interpreter
    zipped: int
    folder: Path

    @property
    def authorities(self) -> Path:
        """Those of the layer, which ours finds by itself."""
        return self.folder / "opt" / "authorities"

    @property
    def variants(self) -> Mapping[str, Variant]:
        """What is compared; the floor imports besides what ours stands on."""
        function = self.folder / "built" / "functions" / "encrypt_on_create"
        programs, layer, sdk = (
            self.folder / name / "python" for name in ("programs", "opt", "sdk")
        )
        limit = "tests.benchmarks.event_limit"
        floor = ("httpx", "httpcore", "aws_lambda_powertools.logging")
        return {
            "ours": Variant((function, layer, programs), ("index",)),
            "official_sdk": Variant((programs, sdk), ("tests.benchmarks.event_official_sdk",)),
            "limit": Variant((programs,), (limit,)),
            "floor": Variant((programs, layer), (*floor, limit)),
        }

    @property
    def sweep(self) -> Variant:
        """The function of the timer."""
        ours = self.variants["ours"]
        function = self.folder / "built" / "functions" / "sweep"
        return Variant((function, *ours.path[1:]), ours.modules)

    def versions(self) -> Iterator[str]:
        """Of Python and of all that is in the two layers."""
        yield f"CPython {self.python.version}"
        places = [str(self.folder / name / "python") for name in ("opt", "sdk")]
        found = {(one.metadata["Name"], one.version) for one in distributions(path=places)}
        yield from (f"{name} {version}" for name, version in sorted(found))


def prepare(folder: Path) -> Artefacts:
    """Build for the newest runtime whose Python is here, else for the one that runs this."""
    runtime, python = _chosen()
    build(runtime, folder / "built")
    with zipfile.ZipFile(folder / "built" / ARCHIVE) as archive:
        archive.extractall(folder / "opt")
    scratch = folder / "scratch"
    scratch.mkdir()
    lock = scratch / "requirements-sdk.txt"
    lock.write_text(_lock_of(SDK))
    version = runtime.removeprefix("python")
    install(folder / "sdk" / "python", runtime=version, scratch=scratch, lock=lock)
    _copy_programs(folder / "programs" / "python" / "tests" / "benchmarks")
    # The layer is as it was built, bytecode included.
    for name in ("sdk", "programs"):
        compile_layer_code(folder / name, runtime)
    for name in ("opt", "sdk", "programs"):
        _close(folder / name)
    return Artefacts(runtime, python, (folder / "built" / ARCHIVE).stat().st_size, folder)


def trust_also(authorities: Path, bundle: Path) -> None:
    """Put those of the bundle that are not there yet beside the authorities of the layer."""
    authorities.chmod(0o755)
    for name, certificate in split_bundle(bundle.read_text("utf-8")).items():
        if not (authorities / name).exists():
            (authorities / name).write_text(certificate, "utf-8")
    _close(authorities)


def _chosen() -> tuple[str, Interpreter]:
    for runtime in RUNTIMES:
        if found := find_interpreter(runtime):
            return runtime, found
    version = sys.version.partition(" ")[0]
    return "python{}.{}".format(*sys.version_info), Interpreter(sys.executable, version)


def _lock_of(names: Sequence[str]) -> str:
    locked = (REPOSITORY / "requirements-dev.txt").read_text("utf-8").strip()
    stanzas = re.split(r"\n(?=\S)", locked)
    return "\n".join(stanza for stanza in stanzas if re.split(r"[\[=]", stanza)[0] in names)


def _copy_programs(target: Path) -> None:
    target.mkdir(parents=True)
    for name in PROGRAMS:
        shutil.copy(Path(__file__).parent / f"{name}.py", target)


def _close(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
