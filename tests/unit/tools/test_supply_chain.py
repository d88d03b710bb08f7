"""What comes from others: pinned by checksum, never a program at installation, licences known."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as normal

from layers.encryption_guard.tools import audit, build, isolated_pip
from layers.encryption_guard.tools.build import LAYER, REPOSITORY
from layers.encryption_guard.tools.sbom import read_licences

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LAYER_LOCKS = sorted(LAYER.glob("requirements*.txt"))
LOCKS = [*LAYER_LOCKS, *sorted(REPOSITORY.glob("requirements*.txt"))]
PINNED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)(\[(?P<extras>[a-z0-9,-]+)\])?==[\w.]+( ; [^\\]+)? \\\n"
    r"(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}"
)
# To install one of these runs the program that builds it. Each needs a reason, and none may ship.
WITHOUT_WHEEL = {
    "aliyun-fc2": "Alibaba Cloud publishes its Function Compute client as source only; operators "
    "need it to invoke functions, and setuptools builds it offline from the pinned archive.",
    "aliyun-log-python-sdk": "Its client of the log service neither; `status` needs its signature.",
}
ALLOWED_LICENCES = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "PSF-2.0"),
    # Copyleft for its own files only, which are passed on unchanged and as source.
    "MPL-2.0",
    # Of operators' packages alone, as their metadata spells them.
    *("3-Clause BSD License", "CNRI-Python"),
}
# How metadata spell a licence that has an SPDX identifier.
SPELT = dict.fromkeys(("Apache 2", "Apache 2.0", "Apache License 2.0"), "Apache-2.0")
# Their metadata names no single licence, but their text is one.
TOLD_BY_TEXT = {
    "elastic-transport": "Apache-2.0",
    "jinja2": "BSD-3-Clause",
    "lz4": "BSD-3-Clause",
}
LICENCES = (REPOSITORY / "THIRD_PARTY_LICENSES.md").read_text("utf-8")
IN_LAYER, _, FOR_OPERATORS = LICENCES.partition("## For operators")
ROW = re.compile(r"^\| ([\w.-]+) \| (.+?) \| <(https://\S+)> \| (.+) \|$", re.MULTILINE)


def stanzas(lock: Path) -> list[str]:
    """What a lock file asks for, one by one with its hashes."""
    return re.split(r"\n(?=\S)", lock.read_text("utf-8").strip())


def extras(lock: Path) -> dict[str, set[str]]:
    """The packages that a lock file asks for, and the extras that each of their lines names."""
    pins = [PINNED.fullmatch(stanza) for stanza in stanzas(lock)]
    found: dict[str, set[str]] = {}
    for pin in filter(None, pins):
        named = set(filter(None, (pin["extras"] or "").split(",")))
        found[pin["name"]] = found.get(pin["name"], named) & named
    return found


def names(*locks: Path) -> set[str]:
    return {name for lock in locks for name in extras(lock)}


def without_marker(stanza: str) -> str:
    return re.sub(r" ; [^\\]+", " ", stanza)


def commands() -> Iterator[str]:
    """The Makefile's commands: continued lines in one, and simple variables put in."""
    text = (REPOSITORY / "Makefile").read_text("utf-8").replace("\\\n", " ")
    variables = dict(re.findall(r"^(\w+) :?= (.*)$", text, re.MULTILINE))
    for line in text.splitlines():
        expanded = line
        for _ in range(3):
            expanded = re.sub(
                r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), expanded
            )
        if line.startswith("\t"):
            yield expanded.strip()


def wanted(requirement: Requirement) -> bool:
    """Whether some supported Python on Linux takes it."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
    environments: list[dict[str, Any]] = [
        {**linux, "python_version": version, "python_full_version": f"{version}.0"}
        for version in ("3.10", "3.11", "3.12", "3.13")
    ]
    marker = requirement.marker
    return marker is None or any(marker.evaluate(environment) for environment in environments)


def probe(requirement: Requirement, named: set[str]) -> bool:
    """Whether a package that is locked with these extras asks for it here."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *named))


def closure(requirements: Iterable[str]) -> set[str]:
    """All that these requirements bring, by what is installed here."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = normal(requirement.name)
        if name in found or not wanted(requirement):
            continue
        found.add(name)
        try:
            waiting += map(Requirement, distribution(name).requires or [])
        except PackageNotFoundError:  # a backport that this Python does not need
            continue
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.relative_to(REPOSITORY).as_posix())
def test_everything_is_pinned_by_its_checksum(lock: Path) -> None:
    """Each requirement is one version with SHA-256 hashes; no file, option or index besides."""
    assert [one for one in stanzas(lock) if not PINNED.fullmatch(one)] == []
    assert "://" not in lock.read_text("utf-8")


def test_a_lock_names_each_extra_that_a_package_asks_for() -> None:
    """Some installers take `name[extra]` for another package than `name`, which nothing pins."""
    locked: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, named in extras(lock).items():
            locked.setdefault(name, set()).update(named)
    lacking = [
        f"{normal(package.name)} asks for {requirement}"
        for package in distributions()
        for requirement in map(Requirement, package.requires or [])
        if probe(requirement, locked.get(normal(package.name), set()))
        if not requirement.extras <= locked.get(normal(requirement.name), set())
    ]

    assert lacking == []


def test_the_newer_pip_is_locked() -> None:
    """The pip that a Python brings installs only this one, and this one the rest."""
    assert "pip" in names(REPOSITORY / "requirements-build.txt")
    (bootstrap,) = [line for line in commands() if "/dev/stdin" in line]
    assert bootstrap.index("'/^pip==/") < bootstrap.index("-r requirements-build.txt")


def test_the_layer_is_part_of_what_is_tested() -> None:
    """The tests run with the very files that ship."""
    tested = [without_marker(one) for one in stanzas(REPOSITORY / "requirements-dev.txt")]

    for lock in LAYER_LOCKS:
        assert [one for one in stanzas(lock) if one not in tested] == []


def test_the_layer_has_a_lock_for_each_runtime() -> None:
    """None has a marker, which pip would judge by the Python that builds."""
    assert [lock.name for lock in LAYER_LOCKS] == ["requirements-3.10.txt", "requirements-3.12.txt"]
    assert not any(";" in lock.read_text("utf-8") for lock in LAYER_LOCKS)


def test_a_lock_is_made_for_the_wheels_that_the_build_takes() -> None:
    """The platform is the same, and each runtime has its own version of Python."""
    system, _, machine = build.PLATFORM.partition("_")
    made = [line for line in commands() if line.startswith("uv ") and "python-platform" in line]

    assert len(made) == len(LAYER_LOCKS)
    for line in made:
        (version,) = re.findall(r"--python-version (\S+)", line)
        assert f"--python-platform {machine}-{system} " in line
        assert line.endswith(f"-o layers/encryption_guard/requirements-{version}.txt")


def test_only_known_wheels_reach_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pip fetches or installs for it is a wheel with a locked hash, and nothing more."""
    ran: list[list[str]] = []

    def done(command: Iterable[object], **_: object) -> CompletedProcess[str]:
        ran.append([*map(str, command)])
        return CompletedProcess(ran[-1], 0)

    monkeypatch.setattr("subprocess.run", done)
    (tmp_path / "wheels").mkdir()

    lock = LAYER / "requirements-3.12.txt"
    build.install(tmp_path / "python", runtime="3.12", scratch=tmp_path, lock=lock)

    assert [command[3] for command in ran] == ["download", "install"]
    for command in ran:
        assert command[1:3] == ["-m", isolated_pip.__name__]
        assert {"--require-hashes", "--no-deps"} <= set(command)
        assert command[command.index("--only-binary") + 1] == ":all:"
        assert "--no-binary" not in command
        assert command[command.index("--requirement") + 1] == str(lock)
    assert "--no-index" in ran[1]


def test_every_installation_checks_hashes() -> None:
    """`make` installs nothing of others without; of ourselves only what lies here."""
    calls = [call.strip() for line in commands() for call in re.split(r"&&|\|\|?", line)]
    installs = [
        call for call in calls if "pip " in call and " install " in call and "echo" not in call
    ]

    assert len(installs) > 4
    for call in installs:
        # What is newer than the locks goes into a folder that is thrown away.
        newest = "--upgrade" in call
        ours = "--no-deps" in call and "--editable ." in call
        assert "--require-hashes" in call or ours or newest, call
        assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|://", call)


def test_only_what_is_listed_is_built_here() -> None:
    """pip refuses whatever else has no wheel, so that no new setup.py runs unnoticed."""
    for line in commands():
        if "--require-hashes" in line:
            assert "--only-binary :all:" in line, line
            built = {
                name for some in re.findall(r"--no-binary (\S+)", line) for name in some.split(",")
            }
            assert built <= set(WITHOUT_WHEEL), line


def test_what_has_no_wheel_is_locked_and_does_not_ship() -> None:
    """The list names nothing that is gone, and nothing of the layer."""
    assert set(WITHOUT_WHEEL) <= names(*LOCKS)
    assert not set(WITHOUT_WHEEL) & names(*LAYER_LOCKS)
    assert all(len(reason) > 40 for reason in WITHOUT_WHEEL.values())


def test_vulnerabilities_are_looked_for_by_make() -> None:
    """`make audit` asks for what is known of all that is locked."""
    assert any(re.search(rf"-m {audit.__name__}$", line) for line in commands())


def test_npm_packages_are_pinned_and_run_nothing() -> None:
    """Each has a SHA-512, from no particular registry, and no script that runs when installed."""
    lock = json.loads((REPOSITORY / "package-lock.json").read_text("utf-8"))
    packages = {path: entry for path, entry in lock["packages"].items() if path}

    assert packages
    for path, entry in packages.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"]), path
        assert "resolved" not in entry
        assert not entry.get("hasInstallScript", False)


def test_npm_installs_what_is_locked_without_scripts() -> None:
    """Even if a package had one, `make` would not run it."""
    installs = [line for line in commands() if re.search(r"\bnpm (ci|i|install|add)\b", line)]

    assert installs
    assert all("npm ci --ignore-scripts" in line for line in installs)


def test_every_package_that_ships_is_listed_with_its_licence() -> None:
    """A dependency that is added comes with a line about what it may be used for."""
    assert [row[0] for row in ROW.findall(IN_LAYER)] == sorted(names(*LAYER_LOCKS))


def test_every_package_of_an_operator_is_listed_with_its_licence() -> None:
    """All that the `[cli]` extra brings beyond the layer's packages is there, and nothing else."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    brought = closure(project["optional-dependencies"]["cli"]) - names(*LAYER_LOCKS)

    assert [row[0] for row in ROW.findall(FOR_OPERATORS)] == sorted(brought)
    assert brought <= names(REPOSITORY / "requirements-dev.txt")


@pytest.mark.parametrize("row", ROW.findall(LICENCES), ids=lambda row: row[0])
def test_a_licence_is_the_declared_one_and_allowed(row: tuple[str, str, str, str]) -> None:
    """What is listed is what the package says of itself, and its text is where it is said to be."""
    name, listed, _, text = row
    assert set(listed.split(", ")) <= ALLOWED_LICENCES
    try:
        found = distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not for this Python")

    # An older pip leaves what is built from source with the older kind of metadata.
    metadata = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    declared = read_licences(parse_email(metadata)[0]) or [TOLD_BY_TEXT[name]]
    parts = [part for licence in declared for part in licence.split(" AND ")]
    assert listed.split(", ") == [SPELT.get(part, part) for part in parts]
    files = [str(file).partition(".dist-info/")[2] for file in found.files or []]
    assert [file for file in re.findall(r"`([^`]+)`", text) if file not in files] == []
    assert ("`" in text) == any("LICENSE" in file for file in files)
