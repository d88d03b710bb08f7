"""Look up known vulnerabilities of every locked package (`make audit`).

pip-audit and `npm audit` query databases. Both can succeed without a look-up: a mirror of a package
index may have no data about vulnerabilities, and npm may be offline. So each query includes a
canary, an old version with a known vulnerability. An answer without the canary's vulnerability is
an error.

Exit status 0: every locked version was looked up, and pyproject.toml accepts every finding, for
that version and with a reason. 1: there are other findings. 3: could not look.
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
# pip-audit queries each locked version: pip checks the hashes, and markers are ignored.
PIP_AUDIT = "--strict --no-deps --disable-pip --timeout 5 --progress-spinner off"
PIP_AUDIT += " --format json --aliases on --output stdout --requirement lock"
# These options override npm settings that would skip the registry or some packages.
NPM_AUDIT = "--json --package-lock-only --offline=false --include=dev --include=optional"
# The locks must not hold the canaries. PyPI packages are written with "==", npm's with "@".
CANARY, NPM_CANARY = "flask==0.5", "lodash@4.17.4"
# For each file its locked packages, by the line in the file or by the folder in node_modules.
Locks = Mapping[str, Mapping[str, str]]
# For each package its vulnerabilities: their ids, and the fixed or affected versions.
Vulnerabilities = dict[str, list[tuple[list[str], str]]]


class Finding(NamedTuple):
    """A vulnerability of a locked version; a `reason` means that pyproject.toml accepts it."""

    package: str
    ids: Sequence[str]
    remedy: str
    files: Sequence[str]
    reason: str | None = None


class LookupFailed(Exception):
    """A tool's answer does not cover every package; the message is for a person."""


def main() -> NoReturn:
    """Look up every locked package and print the findings."""
    stdout = Stdout()
    try:
        findings = find_vulnerabilities()
    except (LookupFailed, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"a file or an answer is missing or malformed ({type(error).__name__}: {error})"
        print(
            "could not look:",
            error if isinstance(error, LookupFailed) else problem,
            file=sys.stderr,
        )
        sys.exit(3)
    stdout.line("\n".join(format_findings(findings)))
    stdout.say_if_lost("the findings are not printed")
    sys.exit(0 if all(one.reason for one in findings) and not stdout.is_lost else 1)


def find_vulnerabilities() -> list[Finding]:
    """Read the locks and the accepted vulnerabilities, and run both tools.

    Raises LookupFailed if a locked version was not looked up.
    """
    folders = (REPOSITORY / "layers" / "encryption_guard", REPOSITORY)
    files = [path for folder in folders for path in sorted(folder.glob("requirements*.txt"))]
    locks = {
        str(path.relative_to(REPOSITORY)): parse_requirements(path.read_text()) for path in files
    }
    npm_lock = json.loads((REPOSITORY / NPM_LOCK).read_text())
    settings = tomli.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["audit"]
    # The key is a package and one of the vulnerability's ids.
    accepted = {(one["package"], one["id"]): one["reason"] for one in settings["accepted"]}
    command = [sys.executable, "-m", "pip_audit", *PIP_AUDIT.split()]
    answers = [
        run_command(command, {"lock": "\n".join(packages)}) for packages in split_queries(locks)
    ]
    all_locks = {**locks, NPM_LOCK: parse_npm_lock(npm_lock)}
    return match_findings(all_locks, answers, run_npm_audit(npm_lock), accepted)


def parse_requirements(lock: str) -> dict[str, str]:
    """Parse a requirements file; return `name==version` by its line, without extras and markers.

    >>> parse_requirements("PyYAML[x]==6.0 ; python_version < '4'")
    {"PyYAML[x]==6.0 ; python_version < '4'": 'pyyaml==6.0'}
    """
    lines = [line.partition(" \\")[0] for line in lock.splitlines() if line[:1].strip(" #")]
    pinned = {line: Requirement(line) for line in lines}
    return {line: f"{canonicalize_name(one.name)}{one.specifier}" for line, one in pinned.items()}


def parse_npm_lock(lock: Any) -> dict[str, str]:
    """Return `name@version` by the folder of each package of a package-lock.json."""
    versions = {folder: one["version"] for folder, one in lock["packages"].items() if folder}
    return {
        folder: f"{folder.rpartition('node_modules/')[2]}@{version}"
        for folder, version in versions.items()
    }


def split_queries(locks: Locks) -> list[list[str]]:
    """Split the locked packages into queries with one version of a package and the canary each.

    pip-audit accepts only one version of a package at a time.
    """
    packages = sorted({one for lock in locks.values() for one in lock.values()})
    versions = [list(some) for _, some in groupby(packages, lambda one: one.partition("==")[0])]
    return [[*filter(None, some), CANARY] for some in zip_longest(*versions)]


def run_npm_audit(lock: Any) -> str:
    """Add the canary to the lock and return the output of `npm audit` for it."""
    name, _, version = NPM_CANARY.partition("@")
    project = lock["packages"][""]
    project = {**project, "dependencies": {**project["dependencies"], name: version}}
    packages = {**lock["packages"], "": project, f"node_modules/{name}": {"version": version}}
    files = {
        NPM_LOCK: json.dumps({**lock, "packages": packages}),
        "package.json": json.dumps(project),
    }
    return run_command(["npm", "audit", *NPM_AUDIT.split()], files)


def run_command(command: Sequence[str], files: Mapping[str, str]) -> str:
    """Run a command in a folder with these files and return its output.

    The exit status is ignored: it is the same for a vulnerability and for a failure.
    """
    with TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() or done.stderr


def match_findings(
    locks: Locks, pip_audit: Sequence[str], npm: str, accepted: Mapping[tuple[str, str], str]
) -> list[Finding]:
    """Return the vulnerabilities of the locked packages from the outputs of both tools.

    Raises LookupFailed if a locked package is in no output.
    """
    known = parse_npm_audit(npm, locks[NPM_LOCK])
    for answer in pip_audit:
        known |= parse_pip_audit(answer)
    locked = sorted({one for lock in locks.values() for one in lock.values()})
    if missing := [one for one in locked if one not in known]:
        raise LookupFailed(f"there is no answer about {', '.join(missing)}")
    findings = []
    for package, ids, remedy in [(one, *found) for one in locked for found in known[one]]:
        files = [file for file, lock in locks.items() if package in lock.values()]
        reasons = [accepted[package, id] for id in ids if (package, id) in accepted]
        findings.append(Finding(package, ids, remedy, files, *reasons[:1]))
    return findings


def parse_pip_audit(answer: str) -> Vulnerabilities:
    """Return the vulnerabilities of each package in pip-audit's report."""
    known: Vulnerabilities = {}
    for one in parse_report("pip-audit", answer)["dependencies"]:
        if "vulns" not in one:
            raise LookupFailed(f"pip-audit: {one['skip_reason']}")
        package = f"{one['name']}=={one['version']}"
        known[package] = []
        for vulnerability in one["vulns"]:
            fixed = " or ".join(vulnerability["fix_versions"]) or "no known version"
            ids = [vulnerability["id"], *vulnerability["aliases"]]
            known[package].append((ids, f"fixed in {fixed}"))
    return require_canary(known, CANARY)


def parse_npm_audit(answer: str, lock: Mapping[str, str]) -> Vulnerabilities:
    """Return the vulnerabilities of each package in npm's report."""
    report = parse_report("npm audit", answer)
    packages = {**lock, f"node_modules/{NPM_CANARY.partition('@')[0]}": NPM_CANARY}
    if "auditReportVersion" not in report:
        raise LookupFailed(f"npm audit: {report['message']}")
    if report["metadata"]["dependencies"]["total"] != len(packages):
        raise LookupFailed("npm audit: it did not read the whole lock")
    known: Vulnerabilities = {one: [] for one in packages.values()}
    for entry in report["vulnerabilities"].values():
        # A string names another package, which has an entry of its own.
        for via in (via for via in entry["via"] if not isinstance(via, str)):
            vulnerability = ([via["url"].rpartition("/")[2]], f"affected: {via['range']}")
            for folder in entry["nodes"]:
                known[packages[folder]].append(vulnerability)
    return require_canary(known, NPM_CANARY)


def require_canary(known: Vulnerabilities, canary: str) -> Vulnerabilities:
    """Return the vulnerabilities; raises LookupFailed if the canary has none."""
    if not known.get(canary):
        raise LookupFailed(f"the known vulnerability of {canary} was not found")
    return known


def parse_report(tool: str, answer: str) -> Any:
    """Parse a tool's JSON report; raises LookupFailed with its last line if it printed none."""
    try:
        return json.loads(answer)
    except ValueError:
        lines = answer.strip().splitlines() or ["it printed nothing"]
        raise LookupFailed(f"{tool}: {lines[-1]}") from None


def format_findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines to print: each finding with its remedy or reason, then the total."""
    for package, ids, remedy, files, reason in findings:
        yield f"{package} ({', '.join(files)}): {', '.join(ids)}"
        yield f"  accepted: {reason}" if reason else f"  {remedy}"
    yield f"Every locked version was looked up; vulnerabilities: {len(findings)}"


if __name__ == "__main__":
    main()
