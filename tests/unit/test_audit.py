"""What `make audit` says of what is locked; OSV is a server on this machine."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from packaging.version import Version

from layers.encryption_guard import audit
from layers.encryption_guard.audit import (
    LIST,
    REPOSITORY,
    Advisory,
    Package,
    locked,
    order,
    read_list,
)

LOCK = "h11==0.14.0 \\\n    --hash=sha256:00\nIdna==3.20 ; python_full_version < '3.11' \\\n"
NPM = {"packages": {"": {}, "node_modules/@a/s": {"version": "3.1.10"}}}
H11 = {
    "id": "GHSA-h11",
    "aliases": ["CVE-h11"],
    "summary": "Smuggles requests.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "H11"},
            "ranges": [
                {"type": "GIT", "events": [{"introduced": "0"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.16.0"}]},
            ],
        }
    ],
    "references": [{"type": "ADVISORY", "url": "https://example.com/h11"}],
}
Answer = Callable[[str, Any], tuple[int, bytes]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine asks the world through is not asked for itself."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository in which three versions are locked."""
    (tmp_path / "layers" / "encryption_guard").mkdir(parents=True)
    (tmp_path / "layers" / "encryption_guard" / "requirements.txt").write_text(LOCK)
    (tmp_path / "requirements-dev.txt").write_text(LOCK)
    (tmp_path / "package-lock.json").write_text(json.dumps(NPM))
    return tmp_path


class Handler(BaseHTTPRequestHandler):
    """Answers as a test says."""

    answer: Answer

    def do_POST(self) -> None:
        self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        self.respond(None)

    def respond(self, asked: Any) -> None:
        status, content = self.answer(self.path, asked)
        # Who asked may have gone meanwhile.
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def osv(answer: Answer) -> Iterator[str]:
    """The service that answers so; its address."""
    handler = type("Answering", (Handler,), {"answer": staticmethod(answer)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def knows(vulnerable: Mapping[str, str], records: Mapping[str, Any]) -> Answer:
    """OSV that knows one advisory for each of these packages."""

    def answer(path: str, asked: Any) -> tuple[int, bytes]:
        if path != "/v1/querybatch":
            record = records.get(path.removeprefix("/v1/vulns/"))
            return (200, json.dumps(record).encode()) if record else (404, b"{}")
        names = [question["package"]["name"] for question in asked["queries"]]
        return 200, json.dumps(
            {
                "results": [
                    {"vulns": [{"id": vulnerable[n]}]} if n in vulnerable else {} for n in names
                ]
            }
        ).encode()

    return answer


def listed(folder: Path, *records: Any, taken: str = "2026-11-01", accepted: Any = ()) -> Path:
    """A list of these advisories."""
    path = folder / "advisories.json"
    content = {"taken": taken, "advisories": records, "accepted": list(accepted)}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def run(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str]]:
    """The program: its exit status, and what it says."""

    def run(url: str, path: Path, *more: str) -> tuple[Any, str]:
        arguments = ["audit", "--root", str(root), "--osv", url, "--list", str(path), *more]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(audit, "today", lambda: date(2026, 11, 11))
        with pytest.raises(SystemExit) as ended:
            audit.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


Run = Callable[..., tuple[Any, str]]


def test_nothing_known_is_success(root: Path, run: Run) -> None:
    """It says who was asked, and about how many versions."""
    with osv(knows({}, {})) as url:
        status, said = run(url, listed(root, H11))

    assert status == 0
    assert said == (
        f"Asked {url} about 3 locked versions.\n"
        "None of the 3 locked versions is known there to be vulnerable.\n"
    )


def test_what_osv_knows_is_told(root: Path, run: Run) -> None:
    """Package, version, advisory with its other names, what it is, and which release mends it."""
    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": H11})) as url:
        status, said = run(url, listed(root))

    assert status == 1
    assert "h11 0.14.0 (PyPI): GHSA-h11, CVE-h11: Smuggles requests." in said
    assert "https://osv.dev/vulnerability/GHSA-h11" in said
    assert "Fixed in 0.16.0: `make lock`, `make test`, then `make deploy`." in said


def test_what_is_known_counts_without_its_details(root: Path, run: Run) -> None:
    """That a version is affected is not lost when the rest cannot be fetched."""
    with osv(knows({"h11": "GHSA-h11"}, {})) as url:
        status, said = run(url, listed(root))

    assert status == 1
    assert "h11 0.14.0 (PyPI): GHSA-h11: what it is could not be fetched;" in said
    assert "No release that mends it is known" in said


def test_what_was_withdrawn_does_not_count(root: Path, run: Run) -> None:
    """An advisory that its own authors took back is none."""
    withdrawn = {**H11, "withdrawn": "2026-01-01T00:00:00Z"}

    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": withdrawn})) as url:
        assert run(url, listed(root))[0] == 0


def test_every_page_is_read(root: Path, run: Run) -> None:
    """What OSV tells only when asked on is found, too."""

    def answer(path: str, asked: Any) -> tuple[int, bytes]:
        if path != "/v1/querybatch":
            return 200, json.dumps(H11).encode()
        if "page_token" in asked["queries"][0]:
            return 200, json.dumps({"results": [{"vulns": [{"id": "GHSA-h11"}]}]}).encode()
        results = [
            {"next_page_token": "2"} if question["package"]["name"] == "h11" else {}
            for question in asked["queries"]
        ]
        return 200, json.dumps({"results": results}).encode()

    with osv(answer) as url:
        status, said = run(url, listed(root))

    assert status == 1
    assert "GHSA-h11" in said


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((503, b""), "it answered 503"),
        ((400, b"{}"), "it answered 400"),
        ((200, b"<html>"), "its answer is no JSON"),
        ((200, b"\xff"), "its answer is no JSON"),
        ((200, b"[]"), "its answer cannot be read"),
        ((200, b'{"results": [{"vulns": [{}]}]}'), "its answer cannot be read"),
        ((200, b'{"results": []}'), "it answered 0 of 3 questions"),
        ((200, b'{"results": [{"next_page_token": 1}, {}, {}]}'), "it answered 3 of 1 questions"),
    ],
)
def test_without_an_answer_the_list_is_read(
    root: Path, run: Run, answer: tuple[int, bytes], reason: str
) -> None:
    """It says why OSV did not help, how old and how long the list is, and that it is not all."""
    with osv(lambda *_: answer) as url:
        status, said = run(url, listed(root))

    assert status == 0
    assert said.splitlines() == [
        f"Could not ask {url} ({reason}), so checked against the list of 2026-11-01 (10 days old) "
        "with 0 advisories, which is not complete.",
        "None of the 3 locked versions is known there to be vulnerable.",
    ]


def test_nobody_waits_long(root: Path, run: Run) -> None:
    """A service that is silent counts as one that is not there."""
    answered = Event()

    def silent(*_: object) -> tuple[int, bytes]:
        answered.wait(10)
        return 503, b""

    with osv(silent) as url:
        status, said = run(url, listed(root), "--patience", "0.1")
        answered.set()

    assert status == 0
    assert f"Could not ask {url} (timed out), so checked" in said


def test_where_nothing_listens_the_list_is_read(root: Path, run: Run) -> None:
    """So it is on machines that reach no service."""
    with osv(lambda *_: (503, b"")) as url:
        pass

    status, said = run(url, listed(root, H11))

    assert status == 1
    assert "Connection refused" in said
    assert (
        "h11 0.14.0 (PyPI): GHSA-h11, CVE-h11: Smuggles requests. https://example.com/h11" in said
    )
    assert "Fixed in 0.16.0" in said


def test_an_old_list_says_so(root: Path, run: Run) -> None:
    """A list of last year says little about this year's versions."""
    with osv(lambda *_: (503, b"")) as url:
        status, said = run(url, listed(root, taken="2025-11-11"))

    assert status == 0
    assert "of 2025-11-11 (365 days old)" in said
    assert "That is old: run this where https://api.osv.dev can be reached." in said


@pytest.mark.parametrize(
    "content",
    [
        None,
        "no JSON",
        "[]",
        '{"taken": "today", "advisories": [], "accepted": []}',
        '{"taken": "2026-11-01", "advisories": [{}], "accepted": []}',
        '{"taken": "2026-11-01", "advisories": []}',
    ],
)
def test_with_neither_it_says_that_nothing_is_known(
    root: Path, run: Run, content: str | None
) -> None:
    """Its own exit status keeps it from being taken for a clean result."""
    path = root / "advisories.json"
    if content is not None:
        path.write_text(content)

    with osv(lambda *_: (503, b"")) as url:
        status, said = run(url, path)

    assert status == 2
    assert said.startswith(f"audit: Could not ask {url} (it answered 503), and {path} ")
    assert said.endswith("; nothing is known of what is locked.\n")


def test_osv_alone_is_enough(root: Path, run: Run) -> None:
    """Without a list what OSV says still counts."""
    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": H11})) as url:
        assert run(url, root / "missing.json")[0] == 1


ACCEPTED = {"id": "CVE-h11", "ecosystem": "PyPI", "name": "h11", "reason": "no server here."}


def test_what_is_accepted_is_told_and_does_not_count(root: Path, run: Run) -> None:
    """The reason stands beside the finding, by whichever of its names it is accepted."""
    path = listed(root, accepted=[{**ACCEPTED, "version": "0.14.0"}])

    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": H11})) as url:
        status, said = run(url, path)

    assert status == 0
    assert "  Accepted for this version: no server here.\nNo other of the 3 locked" in said


def test_another_version_is_not_accepted(root: Path, run: Run) -> None:
    """With a new version somebody has to look again."""
    path = listed(root, accepted=[{**ACCEPTED, "version": "0.13.0"}])

    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": H11})) as url:
        assert run(url, path)[0] == 1


def test_every_lock_file_is_read(root: Path) -> None:
    """Of both ecosystems, each version once, by the name that the index compares."""
    assert locked(root) == [
        Package("PyPI", "h11", "0.14.0"),
        Package("PyPI", "idna", "3.20"),
        Package("npm", "@a/s", "3.1.10"),
    ]


@pytest.mark.parametrize("path", ["requirements-dev.txt", "package-lock.json"])
def test_a_lock_file_that_says_nothing_is_no_clean_result(root: Path, run: Run, path: str) -> None:
    """An empty lock file would otherwise pass for one without vulnerabilities."""
    (root / path).write_text("")

    status, said = run("http://127.0.0.1:1", listed(root))

    assert status == 2
    assert str(root / path) in said


def test_our_own_locks_are_read() -> None:
    """What ships, what an operator installs, what tests, what builds, and what deploys."""
    names = {package.name for package in locked(REPOSITORY)}

    assert {"httpx", "aliyun-fc2", "pytest", "hatchling", "@serverless-devs/s"} <= names


def test_our_own_list_has_a_source_for_each_advisory() -> None:
    """Each names a package that we lock, a range, and where it was read."""
    known = read_list(LIST)
    names = {package.name for package in locked(REPOSITORY)}

    assert len(known.advisories) == len({advisory.id for advisory in known.advisories})
    for advisory in known.advisories:
        assert advisory.package in names
        assert advisory.ranges
        assert advisory.source.startswith("https://")
        assert advisory.summary != "no summary;"


def test_our_own_list_says_what_it_is_not() -> None:
    """Whoever opens the file instead of running the program is not misled either."""
    assert "not complete" in json.loads(LIST.read_text("utf-8"))["about"]


def test_our_own_list_accepts_only_what_it_knows() -> None:
    """An acceptance that outlives its advisory or its version goes."""
    known = read_list(LIST)
    ids = {id for advisory in known.advisories for id in [advisory.id, *advisory.aliases]}

    for id, package in known.accepted:
        assert id in ids
        assert package in locked(REPOSITORY)


def test_nothing_here_runs_what_is_accepted() -> None:
    """`s init` is what CVE-2026-51190 is about: no program of ours gives that command."""
    programs = [*LIST.parent.glob("*.py"), *(REPOSITORY / "tests" / "live").glob("*.py")]
    texts = [path.read_text("utf-8") for path in [*programs, REPOSITORY / "Makefile"]]

    assert not any('"init"' in text or "BIN)/s init" in text for text in texts)


@pytest.mark.parametrize(
    ("version", "mended"),
    [("0.9", None), ("1.0", "1.2"), ("1.1.9", "1.2"), ("1.2", None), ("2.0.0", None), ("3", None)],
)
def test_a_range_begins_with_its_first_version_and_ends_before_the_mended(
    version: str, mended: str | None
) -> None:
    """Affected from `introduced` on, no longer from `fixed` on, and for good where none is."""
    advisory = Advisory("A", (), "a", "PyPI", [("1.0", "1.2"), ("2.0", None)], "", "")

    assert advisory.affects(Package("PyPI", "a", version)) == (version not in {"0.9", "1.2"})
    assert advisory.mended(Package("PyPI", "a", version)) == mended
    assert not advisory.affects(Package("npm", "a", version))


VERSIONS = ["0", "0.9", "1.0a1", "1.0rc2", "1.0rc10", "1.0", "1.0.post0", "1.0.1", "1.9", "1.10"]


def test_versions_compare_as_packaging_does() -> None:
    """Numbers by their value, pre-releases before, and post-releases after their release."""
    shuffled = random.Random(0).sample(VERSIONS, len(VERSIONS))

    assert sorted(shuffled, key=order) == sorted(shuffled, key=Version) == VERSIONS
    assert order("1.0") == order("1.0.0") == order("v1+local")
    assert order("3.1.0-beta.1") < order("3.1.0")


def test_a_version_that_cannot_be_compared_is_not_guessed() -> None:
    """Whoever meets one has to look."""
    with pytest.raises(ValueError, match="'1!2' is no version"):
        order("1!2")


def test_a_lock_that_cannot_be_compared_is_no_clean_result(root: Path, run: Run) -> None:
    """Whether such a version is affected is unknown, and that is what is said."""
    (root / "requirements-dev.txt").write_text("h11==1!2\n")

    status, said = run("http://127.0.0.1:1", listed(root, H11))

    assert status == 2
    assert "'1!2' is no version that can be compared here" in said


def test_what_osv_knows_needs_no_comparison(root: Path, run: Run) -> None:
    """OSV has compared: only which release mends it stays open."""
    (root / "requirements-dev.txt").write_text("h11==1!2\n")

    with osv(knows({"h11": "GHSA-h11"}, {"GHSA-h11": H11})) as url:
        status, said = run(url, listed(root))

    assert status == 1
    assert "h11 1!2 (PyPI): GHSA-h11" in said


def test_it_runs_as_a_plain_script(root: Path) -> None:
    """With any Python, and nothing installed."""
    with osv(knows({}, {})) as url:
        done = subprocess.run(
            [sys.executable, "-I", "-S", audit.__file__, "--root", root, "--osv", url],
            check=False,
            capture_output=True,
            text=True,
        )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Asked {url} about 3 locked versions.")
