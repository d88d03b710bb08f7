"""Full disks, closed streams and readers that have gone: real commands, real descriptors."""

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
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import PROGRAM
from tests.emulators.oss_tables import OssTables
from tests.unit.fakes import ACCOUNT, REGION, creation_of, dead_letter_of

OWNER = AccessKey("LTAI-operator", "operator-secret", ACCOUNT)
FULL = "/dev/full"
NO_SPACE, BAD, GONE = "No space left on device", "Bad file descriptor", "Broken pipe"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"
LETTERS = [
    dead_letter_of(creation_of(ARN.replace("orders", name), event_id=f"event-{name}"))
    for name in ("orders", "parts", "bills")
]
LETTER_ID = json.loads(LETTERS[0])["id"]
DISCARD = ["discard", "--all", "--apply", "--because", "a test"]

pytestmark = pytest.mark.skipif(not Path(FULL).exists(), reason="there is no full device here")


@pytest.fixture
def tables() -> Iterator[OssTables]:
    """Three buckets that are not encrypted."""
    with OssTables(OWNER, region=REGION) as service:
        for name in ("orders", "parts", "bills"):
            service.plant(name)
        yield service


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Three letters in a file."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(b"".join(letter + b"\n" for letter in LETTERS))
    return file


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
    """What was said on standard error after the log, who acts and by which exemptions."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert all(line.startswith("encryption-guard: ") for line in lines), done.stderr
    said = [line.removeprefix("encryption-guard: ") for line in lines]
    return [each for each in said if not each.startswith(("acting as ", "0 exemptions"))]


each_loss = pytest.mark.parametrize(
    ("redirected", "why"),
    [(f">{FULL}", NO_SPACE), (">&-", BAD)],
    ids=["a full disk", "a closed output"],
)


# Standard output.


@each_loss
@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_sweep_that_cannot_be_printed_says_what_it_did(
    tables: OssTables, output: str, redirected: str, why: str
) -> None:
    """How many buckets were encrypted is said on standard error; what was not begun is not done."""
    arguments = ["sweep", "--region", REGION, "--apply", "--output", output]

    done = run(tables, *arguments, redirected=redirected)

    encrypted = [bucket.arn.name for bucket in tables.buckets() if bucket.encryption]
    (lost, *rest) = sentences(done)
    assert done.returncode == 1
    assert lost == f"standard output cannot be written ({why}): not all rows were printed."
    assert f"{len(encrypted)} of them now" in rest[-1]
    if output == "table":
        # It is laid out when all is done.
        assert (len(encrypted), len(rest)) == (3, 1)


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


@each_loss
@pytest.mark.parametrize("output", ["table", "json"])
def test_an_event_whose_outcome_cannot_be_printed_is_in_the_log(
    tables: OssTables, output: str, redirected: str, why: str
) -> None:
    """The bucket is encrypted, the command fails, and says where to look."""
    done = run(tables, "enforce", ARN, "--apply", "--output", output, redirected=redirected)

    assert done.returncode == 1
    assert tables.encryption(ARN) == "AES256"
    assert sentences(done) == [
        f"standard output cannot be written ({why}): the log lines on standard error show what was"
        " done."
    ]
    assert '"outcome":"encrypted"' in done.stderr


@each_loss
def test_a_letter_that_cannot_be_printed_is_on_standard_error(
    tables: OssTables, redirected: str, why: str
) -> None:
    """Without a queue it is kept nowhere else."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    done = run(tables, "enforce", ARN, "--apply", redirected=redirected)

    (letter,) = [line for line in done.stderr.splitlines() if '"event_encoding"' in line]
    assert done.returncode == 1
    assert (json.loads(letter)["arn"], why in done.stderr) == (ARN, True)


@each_loss
def test_a_plan_that_cannot_be_printed_says_that_nothing_was_done(
    tables: OssTables, redirected: str, why: str
) -> None:
    """There is no log line of what was not done."""
    done = run(tables, "enforce", ARN, redirected=redirected)

    assert (done.returncode, tables.encryption(ARN)) == (1, None)
    first, second = sentences(done)
    assert first == f"standard output cannot be written ({why}): nothing was changed."
    assert second.startswith("nothing was changed; to encrypt, run")


LOOKS = {
    "list": (["list"], "not every message was printed, and nothing was changed"),
    "list as JSON": (["list", "--output", "json"], "not every message was printed, and nothing"),
    "list by reason": (["list", "--by", "reason"], "not every message was printed, and nothing"),
    "show": (["show", LETTER_ID], "the message was not printed, and nothing was changed"),
    "show as JSON": (["show", LETTER_ID, "--output", "json"], "the message was not printed, and"),
    "redrive": (["redrive", "--local"], "not every result was printed"),
    "discard": (["discard", "--all"], "not every result was printed"),
}


@each_loss
@pytest.mark.parametrize(("arguments", "said"), LOOKS.values(), ids=LOOKS)
def test_letters_that_cannot_be_printed_are_a_failure(
    queue: Path, arguments: list[str], said: str, redirected: str, why: str
) -> None:
    """One sentence says so, and the queue is as it was."""
    before = queue.read_bytes()
    command = ["dead-letters", *arguments, "--queue", f"file:{queue}"]

    done = run(None, *command, redirected=redirected)

    first, *_ = sentences(done)
    assert done.returncode == 1
    assert first.startswith(f"standard output cannot be written ({why}): {said}")
    assert queue.read_bytes() == before


@each_loss
@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["redrive", "--local", "--account", ACCOUNT, "--apply"], "done"),
        (DISCARD, "done"),
    ],
    ids=["redrive", "discard"],
)
def test_what_was_done_with_letters_is_counted(
    tables: OssTables, queue: Path, arguments: list[str], result: str, redirected: str, why: str
) -> None:
    """The first result that cannot be printed ends the command; the summary counts what is done."""
    command = ["dead-letters", *arguments, "--queue", f"file:{queue}"]

    done = run(tables, *command, redirected=redirected)

    left = [line for line in queue.read_bytes().splitlines() if line.strip()]
    lost, summary = sentences(done)
    assert done.returncode == 1
    assert lost == f"standard output cannot be written ({why}): not every result was printed."
    assert summary == f"stopped: {3 - len(left)} {result}; the rest is still in the queue."


@each_loss
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["sweep", "--help"], ["dead-letters", "redrive", "--help"]],
    ids=" ".join,
)
def test_help_that_cannot_be_printed_is_a_failure(
    arguments: list[str], redirected: str, why: str
) -> None:
    """Also where the words are not ours."""
    done = run(None, *arguments, redirected=redirected)

    assert done.returncode == 1
    assert sentences(done) == [f"standard output cannot be written ({why})."]


@each_loss
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "."),
        (["dead-letters", "list", "--queue", "{queue}"], ": not every message was printed, and"),
        (["enforce", ARN, "--apply"], ": the log lines on standard error show what was done."),
    ],
    ids=["help", "a table", "an outcome"],
)
def test_a_stream_without_a_buffer_is_lost_too(
    tables: OssTables, queue: Path, arguments: list[str], said: str, redirected: str, why: str
) -> None:
    """As in many containers: what fails is gone then, and a flush finds nothing."""
    command = [word.format(queue=f"file:{queue}") for word in arguments]

    done = run(tables, *command, redirected=redirected, PYTHONUNBUFFERED="1")

    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert sentence.startswith(f"standard output cannot be written ({why}){said}")


# Standard error.

each_silence = pytest.mark.parametrize(
    "redirected", [f"2>{FULL}", "2>&-"], ids=["a full disk", "a closed stream"]
)


@each_silence
def test_a_command_that_can_say_nothing_still_prints_its_results(
    tables: OssTables, redirected: str
) -> None:
    """With the exit code that it has anyway."""
    arguments = ["--region", REGION, "--output", "json"]

    looked = run(tables, "sweep", *arguments, redirected=redirected)
    acted = run(tables, "sweep", *arguments, "--apply", redirected=redirected)

    assert (looked.returncode, acted.returncode) == (1, 0)
    for done in (looked, acted):
        *rows, totals = map(json.loads, done.stdout.splitlines())
        assert (len(rows), totals["kind"]) == (3, "totals")


@each_silence
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["enforce", "--event", "/nowhere/event.json"], 2),
        (["sweep"], 2),
        (["sweep", "--region", "?"], 2),
        (["no-such-command"], 2),
        (["dead-letters", "list"], 2),
        (["dead-letters", "list", "--queue", "file:/nowhere/letters"], 2),
    ],
    ids=["no event", "no region", "a bad option", "no command", "no queue", "no file"],
)
def test_misuse_that_cannot_be_said_has_its_code(
    arguments: list[str], code: int, redirected: str
) -> None:
    """A script that throws words away still reads the code."""
    for unbuffered in ("", "1"):
        done = run(None, *arguments, redirected=redirected, PYTHONUNBUFFERED=unbuffered)

        assert (done.returncode, done.stdout) == (code, "")


@each_silence
def test_nothing_is_discarded_that_cannot_be_logged(queue: Path, redirected: str) -> None:
    """Each letter is in the log before it is removed, or it stays."""
    before = queue.read_bytes()

    done = run(None, "dead-letters", *DISCARD, "--queue", f"file:{queue}", redirected=redirected)

    assert done.returncode == 1
    assert queue.read_bytes() == before
    assert "standard error cannot be written" in done.stdout


@each_silence
def test_a_letter_of_a_sweep_that_is_written_nowhere_is_told(
    tables: OssTables, redirected: str
) -> None:
    """Without a queue letters go to standard error; a bucket whose letter is lost is unknown."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))
    arguments = ["sweep", "--region", REGION, "--apply", "--output", "json"]

    done = run(tables, *arguments, redirected=redirected)

    *rows, _ = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert {"was not written: standard error cannot be" in row["detail"] for row in rows} == {True}


@pytest.mark.parametrize(
    "arguments", [["enforce", ARN, "--apply"], ["sweep", "--region", REGION, "--apply"]]
)
def test_without_any_stream_the_work_is_done(tables: OssTables, arguments: list[str]) -> None:
    """Nothing can be said, so the code says that it was not: no number is given to a connection."""
    done = run(tables, *arguments, redirected="<&- >&- 2>&-")

    assert done.returncode == 1
    assert tables.encryption(ARN) == "AES256"


# Standard input.


def test_an_event_that_cannot_be_read_is_misuse() -> None:
    """One sentence, before anything is done."""
    done = run(None, "enforce", "--event", "-", "--account", ACCOUNT, redirected="<&-")

    assert (done.returncode, done.stdout) == (2, "")
    assert sentences(done) == [f"standard input cannot be read: {BAD}."]


# Files.


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_queue_on_a_full_disk_keeps_the_letter_in_the_log(tables: OssTables, output: str) -> None:
    """The command fails with the disk's word, and the whole letter is on standard error."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    done = run(
        tables,
        *("enforce", ARN, "--apply", "--output", output),
        GUARD_DEAD_LETTER_QUEUE=f"file:{FULL}",
    )

    (sentence,) = sentences(done)
    assert done.returncode == 1
    assert "was not written: " in sentence
    assert f"{NO_SPACE}; the file may hold a part of the line: '{FULL}'" in sentence
    assert '"message":"dead letter not written"' in done.stderr


def test_a_sweep_with_a_queue_on_a_full_disk_says_so(tables: OssTables) -> None:
    """Each bucket that was refused is unknown, with the disk's word; nothing reads the device."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))
    arguments = ["sweep", "--region", REGION, "--apply", "--output", "json"]

    done = run(tables, *arguments, GUARD_DEAD_LETTER_QUEUE=f"file:{FULL}")

    *rows, _ = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert {NO_SPACE in row["detail"] for row in rows} == {True}
    sentences(done)


@pytest.mark.parametrize(
    "command",
    [["list"], DISCARD, ["redrive", "--local", "--account", ACCOUNT, "--apply"]],
    ids=["list", "discard", "redrive"],
)
def test_a_queue_that_is_a_device_is_misuse(command: list[str]) -> None:
    """It would be read without end."""
    done = run(None, "dead-letters", *command, "--queue", f"file:{FULL}")

    assert done.returncode == 2
    assert sentences(done) == [
        f"The dead letters in {FULL} cannot be used (it is a device); check"
        " GUARD_DEAD_LETTER_QUEUE."
    ]


SMALL_FILES = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {PROGRAM}"


def test_a_page_that_does_not_fit_leaves_no_half(tables: OssTables, tmp_path: Path) -> None:
    """What was done is said after it; the page that was there stays, and nothing lies beside it."""
    page = tmp_path / "report.html"
    page.write_text("yesterday's", "utf-8")
    arguments = ["sweep", "--region", REGION, "--apply", "--html", str(page)]

    done = run(tables, *arguments, program=SMALL_FILES)

    said = sentences(done)
    assert done.returncode == 1
    assert said[0] == f"{page} cannot be written (File too large): this sweep has no report."
    assert said[1].endswith("3 encrypted, 3 of them now, 0 not encrypted, 0 unknown, 0 exempt.")
    assert [*tmp_path.iterdir()] == [page]
    assert page.read_text("utf-8") == "yesterday's"


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


@each_loss
@pytest.mark.parametrize(("program", "arguments", "what"), TOOLS.values(), ids=TOOLS)
def test_a_tool_that_cannot_print_says_what_is_done(
    tmp_path: Path, program: str, arguments: list[str], what: str, redirected: str, why: str
) -> None:
    """It has done all the same what it was to do, and its exit code tells that nobody read it."""
    with zipfile.ZipFile(tmp_path / "encryption_guard-layer.zip", "w"):
        pass
    path = f"{REPOSITORY}:{REPOSITORY / 'layers' / 'encryption_guard' / 'python'}"
    given = [argument.format(folder=tmp_path) for argument in arguments]

    done = run(None, *given, redirected=redirected, program=program, PYTHONPATH=path)

    told = f"standard output cannot be written ({why}): {what.format(folder=tmp_path)}."
    assert (sentences(done), done.returncode) == ([told], 1)
