"""What `make build` makes, under Function Compute's own Pythons: the artefact that is deployed.

Each runtime's interpreter sees its standard library, the unpacked layer and one function's folder,
as on the platform; the tests themselves run on whichever Python they like.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from encryption_guard import __version__
from layers.encryption_guard.tools import bytecode
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, QUEUE, REGION, REPOSITORY
from tests.emulators.function_compute import Credentials, FunctionCompute
from tests.emulators.function_instance import Function
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.emulators.smq import Smq

Runtime = Literal["python3.12", "python3.10"]
LAYER = REPOSITORY / "layers" / "encryption_guard"
PACKAGE = LAYER / "python" / "encryption_guard"
BUILD = (sys.executable, "-m", "layers.encryption_guard.tools.build")
ARCHIVE = "encryption_guard-layer.zip"
MATERIALS = "encryption_guard-layer.cdx.json"
ROLE = AccessKey("STS.packaged", "packaged-secret", ACCOUNT, security_token="packaged-token")
AS_ROLE = Credentials(ROLE.id, ROLE.secret, "packaged-token")
# Where everything comes from, and what of the tests' own Python can be seen.
# What a cold start loads, and what of it has to be compiled: Python itself tells of both.
COLD = """
import json, os, sys
layer, compiled = sys.argv[1], []

def hear(event, arguments):
    if event == "compile" and str(arguments[1]).startswith(layer):
        # anyio parses its own source to see what it exports: only importlib is meant.
        if "importlib" in sys._getframe(1).f_code.co_filename:
            compiled.append(str(arguments[1]))

sys.addaudithook(hear)
sys.path.insert(0, layer)
import encryption_guard.enforcement.handler
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
sources = [n for n, file in files.items() if file.startswith(layer) and file.endswith(".py")]
print(json.dumps({
    "compiled": compiled,
    "names": sources,
    "uncached": [name for name in sources if not os.path.exists(sys.modules[name].__cached__)],
}))
"""


@dataclass(frozen=True)
class Artefact:
    """One build: its folder, in which the layer is unpacked to `opt`."""

    runtime: Runtime
    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / ARCHIVE

    @property
    def materials(self) -> Path:
        return self.folder / MATERIALS

    @property
    def layer(self) -> Path:
        return self.folder / "opt" / "python"

    def function(self, name: str) -> Path:
        return self.folder / "functions" / name


@dataclass(frozen=True)
class Deployed:
    """One function of the artefact, and the services around it."""

    function: FunctionCompute
    tables: OssTables
    queue: Smq

    def answer(self, event: bytes) -> dict[str, Any]:
        """What the function returns for the event; it must not fail."""
        tried = self.function.invoke(event)
        assert tried.error is None, (tried.error, tried.logs)
        answer: dict[str, Any] = json.loads(tried.result or "")
        return answer

    def letters(self) -> list[str]:
        """The reasons of the dead letters in the queue."""
        return [json.loads(b64decode(body))["reason"] for body in self.queue.bodies(QUEUE)]


def output_of(*command: str) -> str | None:
    """What a command prints, or None if it fails or is not there."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def interpreter(runtime: Runtime) -> str | None:
    """One that runs and is of this version."""
    found = bytecode.find_interpreter(runtime)
    return found.executable if found else None


def build(runtime: Runtime, folder: Path, variables: Mapping[str, str]) -> Path:
    """Build as `make build` does, with these variables besides."""
    done = subprocess.run(
        [*BUILD, "--runtime", runtime, "--output", str(folder)],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},  # noqa: TID251  pip's settings are there
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(
    scope="module", params=["python3.12", pytest.param("python3.10", marks=pytest.mark.slow)]
)
def artefact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """One build, in a time zone and with a hash seed of its own."""
    variables = {"PYTHONHASHSEED": "2", "TZ": "Asia/Shanghai"}
    folder = build(request.param, tmp_path_factory.mktemp("build"), variables)
    built = sorted(path.name for path in folder.iterdir())
    assert built == sorted([ARCHIVE, MATERIALS, "functions"])
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        archive.extractall(folder / "opt")
    return Artefact(request.param, folder)


# The layer and the standard library are all that the interpreter sees.
SEEN = """
import sys
sys.path.insert(0, sys.argv[1])
import encryption_guard, httpx, pydantic_core
assert not any("site-packages" in place for place in sys.path), sys.path
modules = (encryption_guard, httpx, pydantic_core)
assert all(module.__file__.startswith(sys.argv[1]) for module in modules)
print("python%d.%d" % sys.version_info[:2], encryption_guard.__version__)
"""


@pytest.fixture(scope="module")
def python(artefact: Artefact, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The runtime's interpreter without any site-packages; skips where there is none."""
    found = interpreter(artefact.runtime)
    if found is None:
        pytest.skip(f"no {artefact.runtime} on this machine")
    python = started_by(tmp_path_factory.mktemp("bin"), f'exec {shlex.quote(found)} -S "$@"')
    seen = output_of(python, "-B", "-c", SEEN, str(artefact.layer))
    assert seen == f"{artefact.runtime} {__version__}"
    return python


def started_by(folder: Path, line: str) -> str:
    """A command that starts an interpreter in this way: the emulator takes only one word."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{line}\n")
    script.chmod(0o755)
    return str(script)


@contextmanager
def deployed(artefact: Artefact, code: Path, python: str) -> Iterator[Deployed]:
    """The function in its runtime, and OSS Tables and the queue over TLS."""
    authority = Authority()
    certificate = authority.write(artefact.folder / "ca.pem")
    with ExitStack() as stack:
        tables = stack.enter_context(OssTables(ROLE, region=REGION, authority=authority))
        queue = stack.enter_context(Smq(ROLE, queues=[QUEUE], authority=authority))
        function = Function(
            code=code,
            layer=artefact.layer,
            python=python,
            runtime=artefact.runtime,
            initializer="index.initialize",
            environment={
                "GUARD_DEAD_LETTER_QUEUE": f"acs:mns:{REGION}:{ACCOUNT}:/queues/{QUEUE}",
                "GUARD_OSS_TABLES_ENDPOINT": tables.url,
                "GUARD_SMQ_ENDPOINT": queue.url,
                # One list, and the function returns.
                "GUARD_WATCH_SECONDS": "0",
                "SSL_CERT_FILE": str(certificate),
            },
        )
        running = stack.enter_context(FunctionCompute(function, credentials=lambda: AS_ROLE))
        yield Deployed(running, tables, queue)


def sample(name: str) -> bytes:
    return (REPOSITORY / "events" / name).read_bytes()


def ends_its_events(cloud: Deployed) -> None:
    """One event of each kind: one that encrypts, one that is skipped, one that becomes a letter."""
    arn = cloud.tables.plant("analytics")

    encrypted = cloud.answer(sample("response_elements_arn.json"))
    skipped = cloud.answer(sample("put_bucket.json"))
    invalid = cloud.answer(sample("hostile_arn.json"))

    assert (encrypted["outcome"], encrypted["arn"]) == ("encrypted", arn)
    assert cloud.tables.encryption(arn) == "AES256"
    assert (skipped["outcome"], skipped["reason"]) == ("skipped", "not_relevant")
    assert invalid["outcome"] == "dead_lettered"
    assert cloud.letters() == [invalid["reason"]]


def sweeps(cloud: Deployed, event: bytes) -> None:
    """The timer finds what no event told of."""
    arns = [cloud.tables.plant(name) for name in ("orders", "analytics")]

    totals = cloud.answer(event)["totals"]

    assert (totals["buckets"], totals["newly_encrypted"]) == (2, 2)
    assert [cloud.tables.encryption(arn) for arn in arns] == ["AES256", "AES256"]


def test_it_ends_every_event(artefact: Artefact, python: str) -> None:
    """The creation function encrypts, skips and dead-letters with what the layer brings."""
    with deployed(artefact, artefact.function("encrypt_on_create"), python) as cloud:
        ends_its_events(cloud)


@pytest.fixture
def unprivileged(artefact: Artefact, tmp_path: Path) -> str:
    """The interpreter, bound by permissions even if root runs the tests; it may write bytecode.

    Nobody documents that the platform starts it with -B, so that the emulator's has to go.
    """
    found = interpreter(artefact.runtime)
    if found is None:
        pytest.skip(f"no {artefact.runtime} on this machine")
    bound = "setpriv --bounding-set=-dac_override" if os.geteuid() == 0 else ""
    python = started_by(
        tmp_path, f'case $2 in -B) shift 2;; esac; exec {bound} {shlex.quote(found)} -I -S "$@"'
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if output_of(python, "-c", f"open({str(closed / 'file')!r}, 'x')") is not None:
        pytest.skip("no permission binds whoever runs the tests")
    if output_of(python, "-c", "") is None:
        pytest.skip("root cannot be bound by permissions on this machine")
    return python


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Nothing can be written anywhere in them."""
    everything = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    modes = {path: path.stat().st_mode for path in everything}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def contents(*folders: Path) -> dict[str, str]:
    """Each file of the folders with a checksum."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(file): sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.slow
def test_it_needs_to_write_nothing(artefact: Artefact, unprivileged: str) -> None:
    """With layer and code read-only, as the platform mounts them, both functions do the same."""
    functions = artefact.folder / "functions"
    before = contents(artefact.layer, functions)

    with read_only(artefact.layer, functions):
        with deployed(artefact, functions / "encrypt_on_create", unprivileged) as cloud:
            ends_its_events(cloud)
        with deployed(artefact, functions / "sweep", unprivileged) as cloud:
            sweeps(cloud, sample("timer.json"))

    assert contents(artefact.layer, functions) == before


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(artefact: Artefact, tmp_path: Path) -> None:
    """Wherever and whenever it is built."""
    again = build(artefact.runtime, tmp_path, {"PYTHONHASHSEED": "1"})

    assert (again / ARCHIVE).read_bytes() == artefact.archive.read_bytes()
    assert (again / MATERIALS).read_bytes() == artefact.materials.read_bytes()


@pytest.mark.slow
def test_the_materials_are_what_is_in_the_zip(artefact: Artefact) -> None:
    """Each distribution of the layer with its version and a locked hash, and no other."""
    described = json.loads(artefact.materials.read_text("utf-8"))

    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(artefact.materials.read_text())
    assert errors is None
    assert {(one["name"], one["version"]) for one in described["components"]} == {
        (one.metadata["Name"], one.version) for one in distributions(path=[str(artefact.layer)])
    }
    ours = described["metadata"]["component"]
    version = ours["properties"][0]["value"]
    locked = (LAYER / f"requirements-{version}.txt").read_text("utf-8")
    assert all(f"sha256:{hash_of(one)}" in locked for one in described["components"])
    assert hash_of(ours) == sha256(artefact.archive.read_bytes()).hexdigest()
    assert f"python{version}" == artefact.runtime


def hash_of(component: dict[str, Any]) -> str:
    ((algorithm, content),) = [tuple(one.values()) for one in component["hashes"]]
    assert algorithm == "SHA-256"
    return str(content)


@pytest.mark.slow
def test_every_licence_ships_with_what_it_is_for(artefact: Artefact) -> None:
    """Whoever has the layer has the text under which each part of it may be passed on."""
    parts = [path for path in artefact.layer.iterdir() if path.suffix == ".dist-info"]

    without = [part.name for part in parts if not any(part.rglob("LICENSE*"))]
    assert len(parts) > 10
    assert without == []


@pytest.mark.slow
def test_only_what_runs_there_ships(artefact: Artefact) -> None:
    """Our package but for an operator's commands, bytecode and binaries for this runtime."""
    with zipfile.ZipFile(artefact.archive) as archive:
        names = archive.namelist()
        wheels = [archive.read(name).decode() for name in names if name.endswith("/WHEEL")]

    prefix = f"python/{PACKAGE.name}/"
    compiled = {name for name in names if "/__pycache__/" in name}
    ours = {name.removeprefix(prefix) for name in {*names} - compiled if name.startswith(prefix)}
    sources = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()]
    left_out = {"__pycache__", "cli", "__main__.py"}
    assert ours == {path.as_posix() for path in sources if left_out.isdisjoint(path.parts)}
    assert {name.partition("/")[0] for name in names} == {"python", "authorities"}
    assert not any(name.endswith((".pyd", ".dll", ".dylib")) for name in names)
    tag = artefact.runtime.replace("python", "cp").replace(".", "")
    assert all(name.endswith(f".cpython-{tag[2:]}.pyc") for name in compiled)
    assert not any(name.endswith(".pyc") for name in {*names} - compiled)
    sources_of_all = [name for name in names if name.endswith(".py")]
    assert len(compiled) == len(sources_of_all) or interpreter(artefact.runtime) is None
    binaries = [name for name in names if name.endswith(".so")]
    assert binaries
    assert all(f"cpython-{tag[2:]}-x86_64-linux-gnu" in name for name in binaries)
    tags = {line for wheel in wheels for line in wheel.splitlines() if line.startswith("Tag:")}
    binary_tags = {line for line in tags if not line.endswith("-none-any")}
    assert binary_tags
    assert all(line.startswith(f"Tag: {tag}-{tag}-manylinux") for line in binary_tags)


@pytest.mark.slow
def test_a_cold_start_compiles_nothing(artefact: Artefact, python: str) -> None:
    """Everything that an instance imports of the layer is there as bytecode."""
    with read_only(artefact.layer):
        printed = output_of(python, "-B", "-c", COLD, str(artefact.layer))

    seen = json.loads(printed or "{}")
    assert {"encryption_guard.enforcement.handler", "httpx", "h11"} <= {*seen["names"]}
    assert seen["compiled"] == []
    assert seen["uncached"] == []


@pytest.mark.slow
def test_a_source_that_changed_is_compiled(artefact: Artefact, python: str, tmp_path: Path) -> None:
    """The bytecode of a former source is not run; and the test above would hear of it."""
    layer = shutil.copytree(artefact.layer, tmp_path / "python")
    changed = layer / "encryption_guard" / "errors.py"
    changed.write_text(changed.read_text("utf-8") + "\n# changed\n", "utf-8")

    seen = json.loads(output_of(python, "-B", "-c", COLD, str(layer)) or "{}")

    assert seen["compiled"] == [str(changed)]


@pytest.mark.slow
def test_a_build_without_an_index_says_so_and_leaves_no_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody publishes the layer of before by mistake; pip's own words tell what is wrong."""
    for name in (ARCHIVE, MATERIALS):
        (tmp_path / name).write_text("of before")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    done = subprocess.run(
        [*BUILD, "--output", str(tmp_path)],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr
    assert done.stderr.endswith(
        "build: pip cannot install the packages of requirements-3.12.txt: fix the error above.\n"
    )
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
