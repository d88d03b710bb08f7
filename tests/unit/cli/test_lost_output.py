"""What each command says and leaves behind when its output is lost, on a disk that is full."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from encryption_guard.cli import main
from tests.emulators.faults import Fault, Refuse
from tests.emulators.oss_tables import OssTables
from tests.unit.cli.printed import logged, sentences
from tests.unit.fakes import ACCOUNT, REGION, creation_of, dead_letter_of

FULL = Path("/dev/full")
NO_SPACE = "No space left on device"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"
LETTERS = [
    dead_letter_of(creation_of(ARN.replace("orders", name), event_id=f"event-{name}"))
    for name in ("orders", "parts", "bills")
]
SWEEP = ("sweep", "--region", REGION, "--apply")
DISCARD = ("discard", "--all", "--apply", "--because", "a test")
RunWithout = Callable[..., tuple[object, str, str]]

pytestmark = [
    pytest.mark.usefixtures("shell"),
    pytest.mark.skipif(not FULL.exists(), reason="there is no full device here"),
]


@pytest.fixture
def tables(tables: OssTables) -> OssTables:
    """Three buckets that are not encrypted."""
    for name in ("orders", "parts", "bills"):
        tables.plant(name)
    return tables


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three letters in a file."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(b"".join(letter + b"\n" for letter in LETTERS))
    monkeypatch.setenv("GUARD_DEAD_LETTER_QUEUE", f"file:{file}")
    return file


@pytest.fixture
def full() -> Iterator[IO[str]]:
    """A stream whose disk is full."""
    stream = FULL.open("w", encoding="utf-8")
    yield stream
    # What a test has left in its buffer.
    with suppress(OSError):
        stream.close()


@pytest.fixture
def run_without(
    full: IO[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunWithout:
    """Run a command without one of its streams; returns its code, and what the others have."""

    def run(stream: str | None, *arguments: str) -> tuple[object, str, str]:
        if stream:
            monkeypatch.setattr(f"sys.{stream}", full)
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        output, errors = capsys.readouterr()
        return raised.value.code, output, errors

    return run


# Standard output.


@pytest.mark.parametrize("output", ["table", "json"])
def test_an_event_whose_outcome_cannot_be_printed_is_in_the_log(
    tables: OssTables, output: str, run_without: RunWithout
) -> None:
    """The bucket is encrypted, the command fails, and says where to look."""
    code, _, errors = run_without("stdout", "enforce", ARN, "--apply", "--output", output)

    assert (code, tables.encryption(ARN)) == (1, "AES256")
    assert sentences(errors) == [
        f"standard output cannot be written ({NO_SPACE}): the log lines on standard error show what"
        " was done."
    ]
    assert "encrypted" in {line.get("outcome") for line in logged(errors)}


def test_a_letter_that_cannot_be_printed_is_on_standard_error(
    tables: OssTables, run_without: RunWithout
) -> None:
    """Without a queue it is kept nowhere else."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    code, _, errors = run_without("stdout", "enforce", ARN, "--apply", "--output", "json")

    (letter,) = [line for line in logged(errors) if "event_encoding" in line]
    assert (code, letter["arn"]) == (1, ARN)


def test_a_plan_that_cannot_be_printed_says_that_nothing_was_done(
    tables: OssTables, run_without: RunWithout
) -> None:
    """There is no log line of what was not done."""
    code, _, errors = run_without("stdout", "enforce", ARN)

    assert (code, tables.encryption(ARN)) == (1, None)
    first, second = sentences(errors)
    assert first == f"standard output cannot be written ({NO_SPACE}): nothing was changed."
    assert second.startswith("nothing was changed; to encrypt, run")


LOOKS = {
    "list": (["list"], "not every message was printed, and nothing was changed"),
    "list as JSON": (["list", "--output", "json"], "not every message was printed, and nothing"),
    "list by reason": (["list", "--by", "reason"], "not every message was printed, and nothing"),
    "show": (["show", "event-parts"], "the message was not printed, and nothing was changed"),
    "redrive": (["redrive", "--local"], "not every result was printed"),
    "discard": (["discard", "--all"], "not every result was printed"),
}


@pytest.mark.parametrize(("arguments", "said"), LOOKS.values(), ids=LOOKS)
def test_letters_that_cannot_be_printed_are_a_failure(
    queue: Path, arguments: list[str], said: str, run_without: RunWithout
) -> None:
    """One sentence says so, and the queue is as it was."""
    before = queue.read_bytes()

    code, _, errors = run_without("stdout", "dead-letters", *arguments)

    first, *_ = sentences(errors)
    assert code == 1
    assert first.startswith(f"standard output cannot be written ({NO_SPACE}): {said}")
    assert queue.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [("redrive", "--local", "--account", ACCOUNT, "--apply"), DISCARD],
    ids=["redrive", "discard"],
)
@pytest.mark.usefixtures("tables")
def test_what_was_done_with_letters_is_counted(
    queue: Path, arguments: tuple[str, ...], run_without: RunWithout
) -> None:
    """The first result that cannot be printed ends the command; the summary counts what is done."""
    code, _, errors = run_without("stdout", "dead-letters", *arguments)

    left = [line for line in queue.read_bytes().splitlines() if line.strip()]
    lost, summary = sentences(errors)
    assert code == 1
    assert lost == f"standard output cannot be written ({NO_SPACE}): not every result was printed."
    assert summary == f"stopped: {3 - len(left)} done; the rest is still in the queue."


# Standard error.


def test_nothing_is_discarded_that_cannot_be_logged(queue: Path, run_without: RunWithout) -> None:
    """Each letter is in the log before it is removed, or it stays."""
    before = queue.read_bytes()

    code, output, _ = run_without("stderr", "dead-letters", *DISCARD)

    assert code == 1
    assert queue.read_bytes() == before
    assert output.count("standard error cannot be written") == len(LETTERS)


def test_a_letter_of_a_sweep_that_is_written_nowhere_is_told(
    tables: OssTables, run_without: RunWithout
) -> None:
    """Without a queue letters go to standard error; a bucket whose letter is lost is unknown."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    code, output, _ = run_without("stderr", *SWEEP, "--output", "json")

    *rows, _ = map(json.loads, output.splitlines())
    assert code == 1
    assert {"was not written: standard error cannot be" in row["detail"] for row in rows} == {True}


# A queue on a full disk.


@pytest.mark.parametrize(
    "command", [("enforce", ARN, "--apply"), SWEEP], ids=lambda command: command[0]
)
def test_a_queue_on_a_full_disk_keeps_the_letter_in_the_log(
    command: tuple[str, ...],
    tables: OssTables,
    monkeypatch: pytest.MonkeyPatch,
    run_without: RunWithout,
) -> None:
    """The command fails with the disk's word, and the whole letter is on standard error."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))
    monkeypatch.setenv("GUARD_DEAD_LETTER_QUEUE", f"file:{FULL}")

    code, output, errors = run_without(None, *command)

    lines = [line for line in logged(errors) if line["message"] == "dead letter not written"]
    told = "".join([output, *sentences(errors)])
    assert (code, ARN in {line["dead_letter"]["arn"] for line in lines}) == (1, True)
    assert f"{NO_SPACE}; the file may hold a part of the line" in " ".join(told.split())
