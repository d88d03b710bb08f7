"""What `make audit` concludes of what pip-audit and npm print; databases are not asked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from layers.encryption_guard.tools import audit
from layers.encryption_guard.tools.audit import (
    CANARY,
    NPM_CANARY,
    NPM_LOCK,
    REPOSITORY,
    Finding,
    LookupFailed,
    format_findings,
    match_findings,
    parse_npm_lock,
    parse_requirements,
    split_queries,
)
from layers.encryption_guard.tools.build import LAYER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCKS = {
    "layer.txt": {"h11==0.14.0": "h11==0.14.0"},
    "dev.txt": {"h11==0.14.0": "h11==0.14.0", "Idna==3.20": "idna==3.20"},
    NPM_LOCK: {"node_modules/@a/s": "@a/s@3.1.10"},
}
KNOWN = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.0", "0.9.1"]}
H11 = Finding(
    "h11==0.14.0", ["PYSEC-1", "CVE-1"], "fixed in 1.0 or 0.9.1", ["layer.txt", "dev.txt"]
)
UNKNOWN = {"id": "PYSEC-2", "aliases": [], "fix_versions": []}


def by_pip_audit(**vulnerabilities: Any) -> str:
    """pip-audit's report, in which each package has these vulnerabilities; the canary has one."""
    versions = {"flask": "0.5", "h11": "0.14.0", "idna": "3.20"}
    known = {"flask": [KNOWN], "h11": [], "idna": [], **vulnerabilities}
    found = [{"name": n, "version": versions[n], "vulns": known[n]} for n in known]
    return json.dumps({"dependencies": found, "fixes": []})


def npm_knows(name: str, folder: str, *via: Any) -> dict[str, Any]:
    """An entry of npm's report."""
    return {name: {"name": name, "via": list(via), "nodes": [folder]}}


GHSA = {"url": "https://github.com/advisories/GHSA-1", "range": "<4.17.12"}
FOR_CANARY = npm_knows("lodash", "node_modules/lodash", GHSA)


def by_npm(entries: Mapping[str, Any] = FOR_CANARY, *, total: int = 2) -> str:
    """npm's report."""
    counted = {"dependencies": {"total": total}}
    return json.dumps({"auditReportVersion": 2, "vulnerabilities": entries, "metadata": counted})


def decided(
    *answers: str, npm: str | None = None, accepted: Mapping[tuple[str, str], str] | None = None
) -> list[Finding]:
    """What is found in these answers."""
    return match_findings(LOCKS, answers or [by_pip_audit()], npm or by_npm(), accepted or {})


def test_where_all_was_looked_up_and_nothing_found_it_says_so() -> None:
    """The canaries are known, every package has an answer: nothing is to be done."""
    assert decided() == []
    assert list(format_findings([])) == ["Every locked version was looked up; vulnerabilities: 0"]


def test_a_vulnerability_is_found_with_its_fix_and_its_locks() -> None:
    """By each of its ids, for each file that locks this version."""
    assert decided(by_pip_audit(h11=[KNOWN], idna=[UNKNOWN])) == [
        H11,
        Finding("idna==3.20", ["PYSEC-2"], "fixed in no known version", ["dev.txt"]),
    ]
    assert list(format_findings([H11])) == [
        "h11==0.14.0 (layer.txt, dev.txt): PYSEC-1, CVE-1",
        "  fixed in 1.0 or 0.9.1",
        "Every locked version was looked up; vulnerabilities: 1",
    ]


def test_a_vulnerability_of_an_npm_package_is_found() -> None:
    """Its version is the one of its folder; a word names another's entry, no vulnerability."""
    entries = {**FOR_CANARY, **npm_knows("@a/s", "node_modules/@a/s", GHSA, "lodash")}

    assert decided(npm=by_npm(entries)) == [
        Finding("@a/s@3.1.10", ["GHSA-1"], "affected: <4.17.12", [NPM_LOCK])
    ]


@pytest.mark.parametrize("id", ["PYSEC-1", "CVE-1"])
def test_what_is_accepted_keeps_its_reason(id: str) -> None:
    """By whichever of its ids, and it is told each time."""
    findings = decided(by_pip_audit(h11=[KNOWN]), accepted={("h11==0.14.0", id): "unused"})

    assert findings == [H11._replace(reason="unused")]
    assert list(format_findings(findings))[1] == "  accepted: unused"


def test_another_version_is_not_accepted() -> None:
    """With a new version somebody has to look again."""
    accepted = {("h11==0.13.0", "CVE-1"): "unused"}

    assert decided(by_pip_audit(h11=[KNOWN]), accepted=accepted) == [H11]


SKIPPED = {"name": "h11", "skip_reason": "h11 could not be audited"}
TRACEBACK = "Traceback (most recent call last):\n  File\nConnectionError: refused\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json.dumps({"dependencies": [SKIPPED]}), "pip-audit: h11 could not be audited"),
        (by_pip_audit(flask=[]), "the known vulnerability of flask==0.5 was not found"),
        ('{"dependencies": []}', "the known vulnerability of flask==0.5 was not found"),
        (TRACEBACK, "pip-audit: ConnectionError: refused"),
        ("", "pip-audit: it printed nothing"),
    ],
    ids=["skipped", "canary", "empty", "traceback", "nothing"],
)
def test_what_pip_audit_did_not_look_up_is_not_green(answer: str, reason: str) -> None:
    """A mirror without data, or no network: nothing is known of what is locked."""
    with pytest.raises(LookupFailed, match=f"^{re.escape(reason)}$"):
        decided(answer)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"message": "405 Method Not Allowed", "error": {}}', "npm audit: 405 Method Not Allowed"),
        (by_npm({}), "the known vulnerability of lodash@4.17.4 was not found"),
        (by_npm(total=1), "npm audit: it did not read the whole lock"),
    ],
    ids=["message", "canary", "total"],
)
def test_what_npm_did_not_look_up_is_not_green(answer: str, reason: str) -> None:
    """Offline npm says that it has found nothing; only its canary tells."""
    with pytest.raises(LookupFailed, match=f"^{re.escape(reason)}$"):
        decided(npm=answer)


def test_each_package_of_a_lock_needs_an_answer() -> None:
    """One that a report leaves out was not looked up."""
    report = json.loads(by_pip_audit())
    del report["dependencies"][-1]

    with pytest.raises(LookupFailed, match=r"there is no answer about idna==3\.20"):
        decided(json.dumps(report))


def test_every_answer_of_pip_audit_has_to_know_the_canary() -> None:
    """A service that fails between two questions is not trusted for the second."""
    second = json.dumps({"dependencies": [{"name": "coverage", "version": "7.16.2", "vulns": []}]})

    with pytest.raises(LookupFailed, match=r"the known vulnerability of flask==0\.5 was not found"):
        decided(by_pip_audit(), second)


def test_a_lock_is_read_for_every_python() -> None:
    """Markers, extras and hashes say nothing about which versions are locked."""
    lock = (
        "# a comment\n"
        "Coverage[toml]==7.16.2 ; python_full_version < '3.11' \\\n    --hash=sha256:00\n"
        "coverage[toml]==7.17.5 ; python_full_version >= '3.11' \\\n    --hash=sha256:00\n"
        "certifi==2026.10.19.post1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n"
    )

    packages = parse_requirements(lock)

    assert [*packages.values()] == [
        *("coverage==7.16.2", "coverage==7.17.5", "certifi==2026.10.19.post1"),
    ]
    assert split_queries({"one": packages, "other": packages}) == [
        ["certifi==2026.10.19.post1", "coverage==7.16.2", CANARY],
        ["coverage==7.17.5", CANARY],
    ]


def test_a_package_of_npm_is_known_by_its_folder() -> None:
    """Also one that lies within another; the project itself is none."""
    folders = {"": {}, "node_modules/@a/s": {"version": "1"}, "node_modules/b/node_modules/c": {}}
    folders["node_modules/b/node_modules/c"] = {"version": "2"}

    assert parse_npm_lock({"packages": folders}) == {
        "node_modules/@a/s": "@a/s@1",
        "node_modules/b/node_modules/c": "c@2",
    }


def test_no_canary_is_locked() -> None:
    """Else its vulnerability would be a finding, and accepting it would blind the canary."""
    locks = [REPOSITORY / "requirements-dev.txt", *REPOSITORY.glob("layers/*/requirements*.txt")]

    assert not any(f"\n{CANARY.partition('==')[0]}==" in lock.read_text() for lock in locks)
    assert f"/{NPM_CANARY.partition('@')[0]}" not in (REPOSITORY / NPM_LOCK).read_text()


def test_our_own_locks_are_read() -> None:
    """What ships, what an operator installs, what tests, what builds, and what fuzzes."""
    for lock in [*REPOSITORY.glob("requirements*.txt"), *LAYER.glob("requirements*.txt")]:
        text = lock.read_text("utf-8")
        assert len(parse_requirements(text)) == len(re.findall(r"^[a-z]", text, re.MULTILINE)) > 2


def test_what_we_accept_is_locked_and_has_a_reason() -> None:
    """An acceptance that outlives its version goes."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    locked = parse_npm_lock(json.loads((REPOSITORY / NPM_LOCK).read_text("utf-8"))).values()
    texts = [lock.read_text("utf-8") for lock in REPOSITORY.glob("requirements*.txt")]

    for one in project["tool"]["audit"]["accepted"]:
        assert set(one) == {"package", "id", "reason"}
        assert one["package"] in {*locked}.union(
            *(parse_requirements(text).values() for text in texts)
        )
        assert len(one["reason"]) > 40


def test_nothing_here_runs_what_is_accepted() -> None:
    """`s init` is what CVE-2026-51190 is about: no program of ours gives that command."""
    programs = [
        *Path(audit.__file__).parent.glob("*.py"),
        *(REPOSITORY / "tests" / "live").glob("*.py"),
    ]
    texts = [path.read_text("utf-8") for path in [*programs, REPOSITORY / "Makefile"]]

    assert not any('"init"' in text or "BIN)/s init" in text for text in texts)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository that locks two packages."""
    lock = tmp_path / "layers" / "encryption_guard" / "requirements-3.12.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text("h11==0.14.0 \\\n    --hash=x\n")
    (tmp_path / "pyproject.toml").write_text("[tool.audit]\naccepted = []\n")
    packages = {
        "": {"dependencies": {"@a/s": "3.1.10"}},
        "node_modules/@a/s": {"version": "3.1.10"},
    }
    (tmp_path / NPM_LOCK).write_text(json.dumps({"packages": packages}))
    return tmp_path


Program = Callable[..., tuple[int, str]]


@pytest.fixture
def program(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    """The program in this repository with answers of both tools: its exit status and output.

    npm answers if it is asked about its canary too.
    """

    run_command = audit.run_command

    def run(
        *vulnerabilities: Any, npm: str = by_npm(), real_pip_audit: bool = False
    ) -> tuple[int, str]:
        def answer(command: Sequence[str], files: Mapping[str, str]) -> str:
            if command[0] != "npm":
                if real_pip_audit:
                    return run_command(command, files)
                return by_pip_audit(h11=[*vulnerabilities])
            wanted = {"@a/s": "3.1.10", "lodash": "4.17.4"}
            lock = json.loads(files[NPM_LOCK])["packages"]
            assert lock["node_modules/lodash"] == {"version": "4.17.4"}
            assert lock[""]["dependencies"] == wanted
            assert json.loads(files["package.json"])["dependencies"] == wanted
            return npm

        monkeypatch.setattr(audit, "REPOSITORY", project)
        monkeypatch.setattr(audit, "run_command", answer)
        with pytest.raises(SystemExit) as ended:
            audit.main()
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    return run


ACCEPTED = '[[tool.audit.accepted]]\npackage = "h11==0.14.0"\nid = "PYSEC-1"\nreason = '


@pytest.mark.parametrize(
    ("known", "reason", "status"),
    [([], None, 0), ([KNOWN], None, 1), ([KNOWN], '"no server here"', 0), ([KNOWN], '""', 1)],
    ids=["nothing", "found", "accepted", "accepted without a reason"],
)
def test_the_exit_status_says_whether_there_is_something_to_do(
    program: Program, project: Path, known: list[Any], reason: str | None, status: int
) -> None:
    """What stands in pyproject.toml, with a reason, is done."""
    if reason:
        (project / "pyproject.toml").write_text(ACCEPTED + reason)

    assert program(*known)[0] == status


@pytest.mark.parametrize("content", [None, "{}"])
@pytest.mark.parametrize("name", [NPM_LOCK, "pyproject.toml"])
def test_without_its_own_files_the_program_fails(
    program: Program, project: Path, name: str, content: str | None
) -> None:
    """Nothing that is locked is nothing that was looked up; what is accepted has to be known."""
    (project / name).unlink()
    if content is not None:
        (project / name).write_text(content)

    status, said = program()

    assert status == 3
    assert said.startswith("could not look: a file or an answer is missing or malformed (")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("report", ["[]", '{"auditReportVersion": 2, "metadata": 7}'])
def test_a_report_of_another_form_is_not_green(program: Program, report: str) -> None:
    """A later npm may tell what it knows in another way."""
    status, said = program(npm=report)

    assert status == 3
    assert said.startswith("could not look: a file or an answer is missing or malformed (")


class Database(BaseHTTPRequestHandler):
    """A database in the form of OSV, which knows vulnerabilities of the packages in `weak`."""

    weak: tuple[str, ...] = ()

    def do_POST(self) -> None:
        probe = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_weak = probe["package"]["name"] in self.weak
        content = json.dumps({"vulns": [{"id": "PYSEC-1", "affected": []}]} if is_weak else {})
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def osv(*weak: str) -> Iterator[str]:
    """The URL of such a database."""
    handler = type("Knowing", (Database,), {"weak": weak})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weak", "status", "said"),
    [
        (["flask"], 0, "Every locked version was looked up; vulnerabilities: 0"),
        (["flask", "h11"], 1, "h11==0.14.0 (layers/encryption_guard/requirements-3.12.txt): PYSEC"),
        ([], 3, "could not look: the known vulnerability of flask"),
    ],
    ids=["nothing", "found", "an empty database"],
)
def test_the_real_pip_audit_is_asked_and_understood(
    program: Program, monkeypatch: pytest.MonkeyPatch, weak: list[str], status: int, said: str
) -> None:
    """In front of a database of this test."""
    with osv(*weak) as url:
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
        ended, output = program(real_pip_audit=True)

    assert (ended, said in output) == (status, True), output
