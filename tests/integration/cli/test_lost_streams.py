"""Full disks, closed streams and readers that have gone: real commands, real descriptors.

tests/unit/cli/test_lost_output.py has what each command says then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import REPOSITORY
from tests.emulators.operators_shell import PROGRAM
from tests.emulators.oss_tables import OssTables
from tests.unit.cli import printed
from tests.unit.fakes import ACCOUNT, REGION

OWNER = AccessKey("LTAI-operator", "operator-secret", ACCOUNT)
FULL = "/dev/full"
NO_SPACE, BAD, GONE = "No space left on device", "Bad file descriptor", "Broken pipe"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"

pytestmark = pytest.mark.skipif(not Path(FULL).exists(), reason="there is no full device here")


@pytest.fixture
def tables() -> Iterator[OssTables]:
    """Three buckets that are not encrypted."""
    with OssTables(OWNER, region=REGION) as service:
        for name in ("orders", "parts", "bills"):
            service.plant(name)
        yield service


def run(
    tables: OssTables | None,
    *arguments: str,
    redirected: str = "",
    program: str = PROGRAM,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """The command, started by a shell that redirects its streams as somebody would type it."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", program, *arguments],
        env={
            "PATH": os.environ.get("PATH", ""),  # noqa: TID251  (no setting: a process needs it)
            "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
            # Nor must a small disk cut the bytecode of others.
            "PYTHONDONTWRITEBYTECODE": "1",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": OWNER.id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": OWNER.secret,
            "GUARD_OSS_TABLES_ENDPOINT": tables.url if tables else "http://127.0.0.1:9",
            # Nobody says who it is that asks.
            "GUARD_STS_ENDPOINT": "http://127.0.0.1:9",
            "GUARD_MAX_ATTEMPTS": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said, but for who acts and by which exemptions."""
    return [each for each in printed.sentences(done.stderr) if not each.startswith("0 exemptions")]


each_loss = pytest.mark.parametrize(
    ("redirected", "why"),
    [(f">{FULL}", NO_SPACE), (">&-", BAD)],
    ids=["a full disk", "a closed output"],
)


# Standard output.


@each_loss
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_an_output_that_is_lost_is_a_failure(unbuffered: str, redirected: str, why: str) -> None:
    """Also where the words are not ours, and where nothing is left that a flush would find."""
    done = run(None, "--help", redirected=redirected, PYTHONUNBUFFERED=unbuffered)

    assert done.returncode == 1
    assert sentences(done) == [f"standard output cannot be written ({why})."]


@each_loss
def test_a_sweep_that_cannot_be_printed_says_what_it_did(
    tables: OssTables, redirected: str, why: str
) -> None:
    """A table is laid out when all is done; how many were encrypted is said on standard error."""
    done = run(tables, "sweep", "--region", REGION, "--apply", redirected=redirected)

    lost, summary = sentences(done)
    assert done.returncode == 1
    assert lost == f"standard output cannot be written ({why}): not all rows were printed."
    assert "3 of them now" in summary


def test_a_sweep_ends_when_its_reader_does() -> None:
    """As with `| head -1`: what is under way comes to its end, and the rest is not begun."""
    with OssTables(OWNER, region=REGION, bucket_quota=None) as tables:
        for number in range(150):
            tables.plant(f"orders-{number}")
        arguments = ["sweep", "--region", REGION, "--apply", "--output", "json"]

        done = run(tables, *arguments, redirected="| head -1")

        encrypted = [bucket for bucket in tables.buckets() if bucket.encryption]
    lost, not_all, summary = sentences(done)
    assert len(done.stdout.splitlines()) == 1
    assert lost == f"standard output cannot be written ({GONE}): not all rows were printed."
    assert not_all == "the results are incomplete: the sweep did not reach everything."
    assert f", {len(encrypted)} of them now," in summary
    assert 1 <= len(encrypted) < 150


# Standard error.

each_silence = pytest.mark.parametrize(
    "redirected", [f"2>{FULL}", "2>&-"], ids=["a full disk", "a closed stream"]
)


@each_silence
def test_a_command_that_can_say_nothing_still_prints_its_results(
    tables: OssTables, redirected: str
) -> None:
    """With the exit code that it has anyway."""
    arguments = ["--region", REGION, "--output", "json", "--apply"]

    done = run(tables, "sweep", *arguments, redirected=redirected)

    *rows, totals = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, len(rows), totals["kind"]) == (0, 3, "totals")


@each_silence
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_misuse_that_cannot_be_said_has_its_code(unbuffered: str, redirected: str) -> None:
    """A script that throws words away still reads the code."""
    done = run(None, "no-such-command", redirected=redirected, PYTHONUNBUFFERED=unbuffered)

    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "arguments", [["enforce", ARN, "--apply"], ["sweep", "--region", REGION, "--apply"]]
)
def test_without_any_stream_the_work_is_done(tables: OssTables, arguments: list[str]) -> None:
    """Nothing can be said, so the code says that it was not: no number is given to a connection."""
    done = run(tables, *arguments, redirected="<&- >&- 2>&-")

    assert done.returncode == 1
    assert tables.encryption(ARN) == "AES256"


# Files.


# The tools of the makefile.

TOOLS = {
    "build": (
        "from layers.encryption_guard.tools import build\n"
        "build.build = lambda *_: build.Interpreter('python3.12', '3.12.1')\n"
        "build.main()",
        ["--output", "{folder}"],
        "{folder}/encryption_guard-layer.zip is built",
    ),
    "audit": (
        "from layers.encryption_guard.tools import audit\n"
        "audit.find_vulnerabilities = list\n"
        "audit.main()",
        [],
        "the findings are not printed",
    ),
    "deploy": (
        "from types import SimpleNamespace\n"
        "from layers.encryption_guard.tools import deploy\n"
        "deploy.run_preflight = lambda *_, **__: (None, list(deploy.preflight.REGIONS.values()))\n"
        "deploy.Deployer.resolve = lambda *_: SimpleNamespace(members=None)\n"
        "deploy.Deployer.run = lambda *_: True\n"
        "deploy.main()",
        ["plan"],
        "see build/*.log",
    ),
}


@pytest.mark.parametrize(("program", "arguments", "what"), TOOLS.values(), ids=TOOLS)
def test_a_tool_that_cannot_print_says_what_is_done(
    tmp_path: Path, program: str, arguments: list[str], what: str
) -> None:
    """It has done all the same what it was to do, and its exit code tells that nobody read it."""
    with zipfile.ZipFile(tmp_path / "encryption_guard-layer.zip", "w"):
        pass
    path = f"{REPOSITORY}:{REPOSITORY / 'layers' / 'encryption_guard' / 'python'}"
    given = [argument.format(folder=tmp_path) for argument in arguments]

    done = run(None, *given, redirected=f">{FULL}", program=program, PYTHONPATH=path)

    told = f"standard output cannot be written ({NO_SPACE}): {what.format(folder=tmp_path)}."
    assert (sentences(done), done.returncode) == ([told], 1)
