"""Looks for known vulnerabilities of everything that is locked: `make audit`.

pip-audit and `npm audit` ask databases, and both can succeed without having looked: a mirror has
packages and no data on vulnerabilities, npm may be offline. So each question holds a canary, an old
version with a known vulnerability: an answer that does not know it counts for nothing.

Exit status 0: every locked version was looked up, and what was found is accepted in pyproject.toml,
for that version and with a reason. 1: something else was found. 3: could not look.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, NoReturn

import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from encryption_guard.cli.console import Stdout

REPOSITORY = Path(__file__).parents[3]
NPM_LOCK = "package-lock.json"
# Hashes are pip's to check, and no marker counts: each version that is locked is asked for.
PIP_AUDIT = "--strict --no-deps --disable-pip --timeout 5 --progress-spinner off"
PIP_AUDIT += " --format json --aliases on --output stdout --requirement lock"
# No setting of npm's may leave out the registry, or packages.
NPM_AUDIT = "--json --package-lock-only --offline=false --include=dev --include=optional"
# Not locked here. Python's packages are written with "==", npm's with "@".
CANARY, NPM_CANARY = "flask==0.5", "lodash@4.17.4"
# For each file the packages that it locks, by its line or by the folder that one goes into.
Locks = Mapping[str, Mapping[str, str]]
# The ids of each vulnerability of a package, and which versions are fixed or affected.
Known = dict[str, list[tuple[list[str], str]]]


class Finding(NamedTuple):
    """A vulnerability of a locked version, and the files that lock it; `reason` accepts it."""

    package: str
    ids: Sequence[str]
    remedy: str
    files: Sequence[str]
    reason: str | None = None


class CouldNotLook(Exception):
    """An answer says nothing about what was asked; the message is for a person."""


def main() -> NoReturn:
    """Look, and say what was found."""
    stdout = Stdout()
    try:
        findings = look()
    except (CouldNotLook, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"something is not there, or has another form ({type(error).__name__}: {error})"
        print(
            "could not look:", error if isinstance(error, CouldNotLook) else reason, file=sys.stderr
        )
        sys.exit(3)
    stdout.line("\n".join(report_lines(findings)))
    stdout.say_if_lost("what was found is not told")
    sys.exit(0 if all(one.reason for one in findings) and not stdout.is_lost else 1)


def look() -> list[Finding]:
    """Read what is locked and what is accepted, ask, and decide."""
    folders = (REPOSITORY / "layers" / "encryption_guard", REPOSITORY)
    files = [path for folder in folders for path in sorted(folder.glob("requirements*.txt"))]
    locks = {str(path.relative_to(REPOSITORY)): of_python(path.read_text()) for path in files}
    npm_lock = json.loads((REPOSITORY / NPM_LOCK).read_text())
    settings = tomli.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["audit"]
    # By package and one of the vulnerability's ids.
    accepted = {(one["package"], one["id"]): one["reason"] for one in settings["accepted"]}
    command = [sys.executable, "-m", "pip_audit", *PIP_AUDIT.split()]
    answers = [output_of(command, {"lock": "\n".join(some)}) for some in questions(locks)]
    return decide({**locks, NPM_LOCK: of_npm(npm_lock)}, answers, ask_npm(npm_lock), accepted)


def of_python(lock: str) -> dict[str, str]:
    """The packages of a requirements file, whatever Python they are for."""
    lines = [line.partition(" \\")[0] for line in lock.splitlines() if line[:1].strip(" #")]
    pinned = {line: Requirement(line) for line in lines}
    return {line: f"{canonicalize_name(one.name)}{one.specifier}" for line, one in pinned.items()}


def of_npm(lock: Any) -> dict[str, str]:
    """The packages of a package-lock.json."""
    locked = {folder: one["version"] for folder, one in lock["packages"].items() if folder}
    return {at: f"{at.rpartition('node_modules/')[2]}@{locked[at]}" for at in locked}


def questions(locks: Locks) -> list[list[str]]:
    """pip-audit takes one version of a package at a time; the canary is in each question."""
    packages = sorted({one for lock in locks.values() for one in lock.values()})
    versions = [list(some) for _, some in groupby(packages, lambda one: one.partition("==")[0])]
    return [[*filter(None, some), CANARY] for some in zip_longest(*versions)]


def ask_npm(lock: Any) -> str:
    """npm's word about its lock, to which the canary is added."""
    name, _, version = NPM_CANARY.partition("@")
    ours = lock["packages"][""]
    ours = {**ours, "dependencies": {**ours["dependencies"], name: version}}
    packages = {**lock["packages"], "": ours, f"node_modules/{name}": {"version": version}}
    files = {NPM_LOCK: json.dumps({**lock, "packages": packages}), "package.json": json.dumps(ours)}
    return output_of(["npm", "audit", *NPM_AUDIT.split()], files)


def output_of(command: Sequence[str], files: Mapping[str, str]) -> str:
    """What a command prints about files; its status is the same for a finding and a failure."""
    with TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or done.stderr


def decide(
    locks: Locks, pip_audit: Sequence[str], npm: str, accepted: Mapping[tuple[str, str], str]
) -> list[Finding]:
    """What both tools know of what is locked, if they have looked."""
    known = from_npm(npm, locks[NPM_LOCK])
    for answer in pip_audit:
        known |= from_pip_audit(answer)
    locked = sorted({one for lock in locks.values() for one in lock.values()})
    if unseen := [one for one in locked if one not in known]:
        raise CouldNotLook(f"there is no answer about {', '.join(unseen)}")
    findings = []
    for package, ids, remedy in [(one, *found) for one in locked for found in known[one]]:
        files = [file for file, lock in locks.items() if package in lock.values()]
        reasons = [accepted[package, id] for id in ids if (package, id) in accepted]
        findings.append(Finding(package, ids, remedy, files, *reasons[:1]))
    return findings


def from_pip_audit(answer: str) -> Known:
    """What pip-audit knows of each package that it looked up."""
    known: Known = {}
    for one in report_in("pip-audit", answer)["dependencies"]:
        if "vulns" not in one:
            raise CouldNotLook(f"pip-audit: {one['skip_reason']}")
        package = f"{one['name']}=={one['version']}"
        known[package] = []
        for each in one["vulns"]:
            fixed = " or ".join(each["fix_versions"]) or "no known version"
            known[package].append(([each["id"], *each["aliases"]], f"fixed in {fixed}"))
    return with_canary(known, CANARY)


def from_npm(answer: str, lock: Mapping[str, str]) -> Known:
    """What npm knows of each package of its lock."""
    report = report_in("npm audit", answer)
    packages = {**lock, f"node_modules/{NPM_CANARY.partition('@')[0]}": NPM_CANARY}
    if "auditReportVersion" not in report:
        raise CouldNotLook(f"npm audit: {report['message']}")
    if report["metadata"]["dependencies"]["total"] != len(packages):
        raise CouldNotLook("npm audit: it has not read the whole lock")
    known: Known = {one: [] for one in packages.values()}
    for entry in report["vulnerabilities"].values():
        # What is no object names another package, which has an entry of its own.
        for via in (via for via in entry["via"] if not isinstance(via, str)):
            vulnerability = ([via["url"].rpartition("/")[2]], f"affected: {via['range']}")
            for folder in entry["nodes"]:
                known[packages[folder]].append(vulnerability)
    return with_canary(known, NPM_CANARY)


def with_canary(known: Known, canary: str) -> Known:
    """The same, if its answer about the canary shows that it looked."""
    if not known.get(canary):
        raise CouldNotLook(f"the known vulnerability of {canary} was not found")
    return known


def report_in(tool: str, answer: str) -> Any:
    """The report that a tool printed, if it did."""
    try:
        return json.loads(answer)
    except ValueError:
        lines = answer.strip().splitlines() or ["it printed nothing"]
        raise CouldNotLook(f"{tool}: {lines[-1]}") from None


def report_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """What was found, and what of it is accepted."""
    for package, ids, remedy, files, reason in findings:
        yield f"{package} ({', '.join(files)}): {', '.join(ids)}"
        yield f"  accepted: {reason}" if reason else f"  {remedy}"
    yield f"Every locked version was looked up; vulnerabilities: {len(findings)}"


if __name__ == "__main__":
    main()
