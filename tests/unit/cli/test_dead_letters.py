"""`encryption-guard dead-letters`, as an operator calls it, on letters in a file."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from tests.emulators.faults import Fault, Refuse
from tests.emulators.oss_tables import OssTables
from tests.unit.cli import printed
from tests.unit.cli.conftest import NOWHERE
from tests.unit.cli.printed import logged, objects, sentences
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    creation_of,
    dead_letter_of,
    destination_record_of,
)

pytestmark = pytest.mark.usefixtures("shell")

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b1m\x7f\u202e\r"
QUEUE_ARN = f"acs:mns:{REGION}:{ACCOUNT}:/queues/dead-letters"


@pytest.fixture
def tables(tables: OssTables) -> OssTables:
    """The emulated service, with one bucket that is not encrypted."""
    tables.plant(ARN.name)
    return tables


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def creation(bucket: str) -> dict[str, Any]:
    """The creation of a bucket, as an event of its own."""
    return creation_of(str(ARN).replace(ARN.name, bucket), event_id=f"event-{bucket}")


def letter(bucket: str, **told: object) -> bytes:
    event = creation(bucket)
    arn = event["data"]["responseElements"]["arn"]
    return dead_letter_of(event, **{"arn": arn} | told)


REJECTED = letter("orders")
CONFLICT = letter("invoices", reason="conflict", status=409, code="ConflictException")
RECORD = destination_record_of(creation("payments"))
RULE = json.dumps(creation("returns")).encode()
UNKNOWN = b"\x1b[31mhello"
ALL = (REJECTED, CONFLICT, RECORD, RULE, UNKNOWN)
REJECTED_ID = json.loads(REJECTED)["id"]


def run(file: Path, command: str, *arguments: str, **environment: str | None) -> Result:
    """One command about the letters in a file."""
    queue = ["--queue", f"file:{file}"]
    given = ["dead-letters", command, *queue, *arguments]
    return CliRunner().invoke(main, given, env=environment)


def keep(file: Path, *bodies: bytes) -> bytes:
    """Let these be the letters in the file, a line each."""
    file.write_bytes(b"".join(body + b"\n" for body in bodies))
    return file.read_bytes()


def kept(file: Path) -> list[bytes]:
    """The letters that are left in the file."""
    return [line for line in file.read_bytes().splitlines() if line.strip()]


def assert_harmless(result: Result) -> None:
    """It ended as a command does, and nothing that was printed does harm."""
    printed.assert_harmless(result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def assert_failed(result: Result, exit_code: int, *parts: str) -> None:
    """Said in one sentence on standard error, without a result, a traceback or a secret."""
    assert result.exit_code == exit_code
    assert result.stdout == ""
    (sentence,) = sentences(result.stderr)
    assert all(part in sentence for part in parts)
    assert_harmless(result)


# The list.


def test_a_list_is_a_table_for_people(file: Path) -> None:
    """Each letter is a row with its cause and what to do; nothing is changed."""
    before = keep(file, *ALL)

    result = run(file, "list")

    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["age", "ID", "reason", "bucket", "status", "redrives"]
    assert rows.index("") == len(ALL)
    told = result.stdout
    for word in ("orders", "invoices", "payments", "returns", "unknown", "403 ForbiddenException"):
        assert word in told
    assert file.read_bytes() == before
    assert_harmless(result)


@pytest.mark.parametrize("peek", [(), ("--peek",)], ids=["read", "peek"])
def test_a_list_can_be_json(peek: tuple[str, ...], file: Path) -> None:
    """Each letter is an object on a line, the oldest first, with what it means."""
    newer = letter("new", at="2026-01-02T03:04:06.000Z")
    before = keep(file, newer, *ALL)

    result = run(file, "list", "--output", "json", *peek)

    assert result.exit_code == 0
    told = objects(result.stdout)
    assert {(one["kind"], one["reason"], one["bucket"], one["cause"]) for one in told} == {
        ("dead_letter", "rejected", "orders", "no permission"),
        ("dead_letter", "rejected", "new", "no permission"),
        ("dead_letter", "conflict", "invoices", "conflict"),
        ("destination_record", "function_failed", "payments", "service down"),
        ("cloud_event", "not_delivered", "returns", "not delivered"),
        ("unknown", "unknown", None, "unknown"),
    }
    since = [one["since"] for one in told if one["since"]]
    assert since == sorted(since)
    assert file.read_bytes() == before


def test_letters_can_be_counted(file: Path) -> None:
    """The most frequent one comes first, as JSON and as a table; each advice stands once below."""
    keep(file, CONFLICT, REJECTED, REJECTED)
    expected = [("ForbiddenException", 2), ("ConflictException", 1)]

    as_json = run(file, "list", "--by", "code", "--output", "json")
    as_table = run(file, "list", "--by", "code")

    assert [(one["value"], one["messages"]) for one in objects(as_json.stdout)] == expected
    heading, *rows = as_table.stdout.splitlines()
    assert heading.split() == ["code", "messages", "oldest", "cause"]
    groups = rows[: rows.index("")]
    assert [tuple(row.split()[:2]) for row in groups] == [(v, str(n)) for v, n in expected]
    assert as_table.stdout.count("Grant oss:PutTableBucketEncryption") == 1
    assert as_table.stdout.count("Redrive the message.") == 1


def test_a_list_can_be_of_some(file: Path) -> None:
    """Only letters that meet every condition are shown."""
    keep(file, *ALL)

    result = run(file, "list", "--output", "json", "--bucket", "*s", "--reason", "rejected")

    assert result.exit_code == 0
    assert [one["bucket"] for one in objects(result.stdout)] == ["orders"]


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("list", "--output", "json"),
        ("redrive",),
        ("redrive", "--apply"),
        ("discard", "--all"),
    ],
    ids=" ".join,
)
def test_an_empty_queue_is_told(command: tuple[str, ...], file: Path) -> None:
    """Nothing is printed as a result, and a sentence says that there is nothing."""
    keep(file)

    result = run(file, *command)

    assert_failed(result, 0, "no messages found", "another command")


def test_a_misspelt_reason_is_misuse(file: Path) -> None:
    """An empty list would look like good news; the nearest reason is named, and all there are."""
    keep(file, *ALL)

    result = run(file, "list", "--reason", "rejectd")

    assert (result.exit_code, result.stdout) == (2, "")
    said = " ".join(result.stderr.split())
    assert '"rejectd" is not a reason. Did you mean rejected? The reasons are rejected, ' in said
    assert "function_failed, not_delivered, unknown." in said


def test_a_reason_that_resembles_none_is_misuse(file: Path) -> None:
    """Nothing is guessed, and what was given is told safely."""
    keep(file)

    result = run(file, "list", "--reason", ESCAPES)

    assert result.exit_code == 2
    assert "Did you mean" not in result.stderr
    assert_harmless(result)


@pytest.mark.parametrize("columns", ["60", "80", "240"])
@pytest.mark.parametrize("command", [("list",), ("list", "--by", "bucket")], ids=" ".join)
def test_a_list_can_be_read_in_any_width(
    command: tuple[str, ...], columns: str, file: Path
) -> None:
    """No line is wider, an ID stays in one piece to be pasted, and each advice is given once."""
    letters = [letter(f"{'long-' * 11}{number:03}") for number in range(30)]
    keep(file, *letters, RECORD, UNKNOWN)

    result = run(file, *command, COLUMNS=columns)

    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    if command == ("list",):
        ids = {json.loads(body)["id"][:8] for body in letters}
        assert {word for word in result.stdout.split() if word in ids} == ids
        all_columns = ["age", "ID", "reason", "bucket", "status", "redrives"]
        assert lines[0].split() == (all_columns if columns == "240" else all_columns[:5])
    text = " ".join(result.stdout.split())
    assert text.count("Grant oss:PutTableBucketEncryption") == 1
    assert text.count("Wait until the service in the error message works again") == 1


# One letter.


TWIN = letter("orders", detail="OSS Tables answered 500.", redrives=2)
ACTING = {
    "show": ("show",),
    "redrive": ("redrive", "--local", "--account", ACCOUNT, "--apply"),
    "a plan": ("redrive",),
    "discard": ("discard", "--apply", "--because", "a test"),
}


def test_several_names_of_one_letter_act_on_it_once(file: Path) -> None:
    """Its ID, a part of it, its event and its place are the same letter."""
    keep(file, REJECTED, CONFLICT)

    names = (REJECTED_ID, REJECTED_ID[:8], "event-orders", "0")
    result = run(file, "discard", *names, "--apply", "--because", "a test")

    assert (result.exit_code, sentences(result.stderr)) == (0, ["1 done."])
    assert kept(file) == [CONFLICT]


def test_many_letters_of_one_name_are_counted(file: Path) -> None:
    """A queue full of twins fills no screen."""
    keep(file, *[REJECTED] * 300)

    result = run(file, "discard", REJECTED_ID, "--apply", "--because", "a test")

    first, *matches, last = sentences(result.stderr)
    assert "names 300 messages" in first
    assert (len(matches), last.strip()) == (20, "and 280 more")


@pytest.mark.parametrize("arguments", ACTING.values(), ids=ACTING)
def test_a_name_of_several_letters_names_none(arguments: tuple[str, ...], file: Path) -> None:
    """They are listed by the one name that nobody can choose, and none is shown or touched.

    A name that is clear does not act either: nothing is done by halves.
    """
    before = keep(file, REJECTED, CONFLICT, TWIN)
    clear = () if arguments == ("show",) else ("event-invoices",)

    result = run(file, *arguments, REJECTED_ID[:8], *clear)

    assert (result.exit_code, result.stdout) == (2, "")
    first, *matches = sentences(result.stderr)
    assert first.startswith(f"the ID {REJECTED_ID[:8]} names 2 messages, so nothing was done.")
    offset = str(len(REJECTED + CONFLICT) + 2)
    assert [line.split()[0] for line in matches] == ["0", offset]
    assert file.read_bytes() == before
    assert_harmless(result)


@pytest.mark.parametrize("word", [REJECTED_ID[:7], "no-such-letter", ESCAPES], ids=ascii)
def test_a_letter_that_is_not_there_is_a_failure(word: str, file: Path) -> None:
    """The sentence names what was asked for, and why it may not be found."""
    keep(file, *ALL)

    result = run(file, "show", word)

    assert_failed(result, 1, "No message in the queue has the ID", "hidden", "8 characters")


# Redriving: the plan.


def test_a_redrive_is_a_plan_first(file: Path) -> None:
    """Without --apply it is told what would be done, and how to do it; nothing is."""
    before = keep(file, *ALL)

    result = run(file, "redrive", FC_REGION=REGION, FC_ACCOUNT_ID=ACCOUNT)

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(ALL)
    sent_to = f"would be sent to {FUNCTIONS}functions/oss-tables-encrypt-on-create"
    assert result.stdout.count(sent_to) == 4
    assert "the message contains no event" in result.stdout
    assert sentences(result.stderr) == [
        "4 planned, 1 nothing to redrive.",
        "dry run: nothing was changed; to execute the plan, run the same command with --apply.",
    ]
    assert file.read_bytes() == before
    assert_harmless(result)


FUNCTIONS = f"acs:fc:{REGION}:{ACCOUNT}:"


@pytest.mark.parametrize("how", ["--function", "GUARD_FUNCTION"])
def test_the_function_can_be_named(how: str, file: Path) -> None:
    """By the option, which counts first, or by the variable."""
    keep(file, RULE)
    known: dict[str, str] = {"FC_REGION": REGION, "FC_ACCOUNT_ID": ACCOUNT}

    if how == "--function":
        result = run(file, "redrive", "--function", "guard$mine", GUARD_FUNCTION="other", **known)
    else:
        result = run(file, "redrive", GUARD_FUNCTION="guard$mine", **known)

    assert result.exit_code == 0
    assert result.stdout.endswith(f"would be sent to {FUNCTIONS}services/guard/functions/mine\n")


def test_some_letters_can_be_redriven(file: Path) -> None:
    """The others are not even mentioned."""
    keep(file, *ALL)
    conditions = ("--bucket", "orders", "--reason", "rejected")

    result = run(
        file, "redrive", "--output", "json", REJECTED_ID[:8], "event-payments", *conditions
    )

    assert result.exit_code == 0
    assert [one["bucket"] for one in objects(result.stdout)] == ["orders"]


@pytest.mark.parametrize(
    ("options", "state"),
    [((), "left"), (("--max-redrives", "4"), "planned"), (("--max-redrives", "1"), "left")],
    ids=["three by default", "more", "less"],
)
def test_redriving_ends(options: tuple[str, ...], state: str, file: Path) -> None:
    """A letter that came back as often as is allowed is skipped."""
    keep(file, letter("orders", redrives=3))

    result = run(file, "redrive", "--local", "--output", "json", *options)

    assert [one["state"] for one in objects(result.stdout)] == [state]


# Redriving on the spot.


LOCAL = ("redrive", "--local", "--apply", "--output", "json")


def here(file: Path, *arguments: str, **environment: str) -> Result:
    """A redrive on the spot, by somebody whose account is known."""
    return run(file, *LOCAL, *arguments, FC_ACCOUNT_ID=ACCOUNT, **environment)


def test_letters_can_be_processed_here(
    tables: OssTables, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buckets are encrypted with the operator's credentials, and the letters removed.

    Each line is logged once: the threads share a logger, however long it takes to open.
    """
    add_handler = logging.Logger.addHandler

    def add_slowly(logger: logging.Logger, handler: logging.Handler) -> None:
        time.sleep(0.05)
        add_handler(logger, handler)

    monkeypatch.setattr(logging.Logger, "addHandler", add_slowly)
    arns = [tables.plant(name) for name in ("orders", "payments", "returns")]
    keep(file, REJECTED, RECORD, RULE)

    result = here(file)

    assert result.exit_code == 0
    assert [tables.encryption(arn) for arn in arns] == ["AES256"] * 3
    assert kept(file) == []
    told = objects(result.stdout)
    assert {(one["state"], one["result"]) for one in told} == {("done", "encrypted (created)")}
    lines = logged(result.stderr)
    assert {line["outcome"] for line in lines if "outcome" in line} == {"encrypted"}
    # Their times of creation are long ago or unknown, so each bucket's tables were looked at.
    audited = [line["buckets"] for line in lines if line["message"] == "table audit finished"]
    assert sorted(audited) == [[arn] for arn in sorted(arns)]
    assert sentences(result.stderr) == ["3 done."]
    assert_harmless(result)


def test_a_plan_to_process_here_does_nothing(tables: OssTables, file: Path) -> None:
    """Not even a question is asked of the service."""
    before = keep(file, letter(ARN.name))

    result = run(file, "redrive", "--local", FC_ACCOUNT_ID=ACCOUNT)

    assert result.exit_code == 0
    assert "would be processed locally" in result.stdout
    assert tables.requests == []
    assert file.read_bytes() == before


REFUSED = (Fault(Refuse(403), operation="PutTableBucketEncryption"),)


@pytest.mark.parametrize(
    ("faults", "variables", "told"),
    [
        ((), {"GUARD_MODE": "detect"}, "detected (would_encrypt); the message stays in the queue"),
        # There is one letter as before, and not a second one.
        (REFUSED, {}, "dead_lettered (rejected); the message stays in the queue"),
        ((), {"GUARD_OSS_TABLES_ENDPOINT": NOWHERE}, str(ARN)),
    ],
    ids=["only looked at", "refused again", "unavailable"],
)
def test_what_is_not_encrypted_here_stays(
    faults: tuple[Fault, ...], variables: dict[str, str], told: str, tables: OssTables, file: Path
) -> None:
    """The bucket is as open as before, and the command has failed."""
    tables.faults.add(*faults)
    before = keep(file, letter(ARN.name))

    result = here(file, **variables)

    assert result.exit_code == 1
    (only,) = objects(result.stdout)
    assert (only["state"], told in only["result"]) == ("failed", True), only["result"]
    assert sentences(result.stderr) == ["1 failed."]
    assert tables.encryption(str(ARN)) is None
    assert file.read_bytes() == before
    assert_harmless(result)


def test_missing_credentials_remove_nothing(file: Path) -> None:
    """Every letter stays, and the sentence names the variables."""
    before = keep(file, REJECTED)

    result = here(file, ALIBABA_CLOUD_ACCESS_KEY_ID="")

    assert result.exit_code == 2
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in result.output
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" in result.output
    assert file.read_bytes() == before
    assert_harmless(result)


# Discarding.


def test_a_discard_is_a_plan_first(file: Path) -> None:
    """Without --apply nothing is removed, and no reason is asked for."""
    before = keep(file, *ALL)

    result = run(file, "discard", "--all")

    assert result.exit_code == 0
    assert result.stdout.count("would be discarded") == len(ALL)
    assert logged(result.stderr) == []
    assert sentences(result.stderr)[-1] == (
        "dry run: nothing was changed; to execute the plan, run the same command with --apply."
    )
    assert file.read_bytes() == before


def test_what_is_discarded_is_logged_in_full(file: Path) -> None:
    """Each message can be put back from its log line, which says why it was removed."""
    keep(file, *ALL)

    result = run(file, "discard", "--all", "--apply", "--because", "a test of mine")

    assert result.exit_code == 0
    assert kept(file) == []
    lines = logged(result.stderr)
    assert {line["because"] for line in lines} == {"a test of mine"}
    assert sorted(line["dead_letter"]["body"] for line in lines) == sorted(
        body.decode() for body in ALL
    )
    assert result.stdout.count("discarded: a test of mine") == len(ALL)
    assert sentences(result.stderr) == [f"{len(ALL)} done."]
    assert_harmless(result)


class SlowStream(io.StringIO):
    """A stream whose first line takes until the next comes, if that comes in the middle of it."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = threading.Event()
        self._free = threading.Lock()
        self._first = True

    def write(self, text: str) -> int:
        if not text:
            # click asks in this way whether it takes text or bytes.
            return super().write(text)
        if not self._free.acquire(blocking=False):
            self.mixed.set()
            return len(text)
        try:
            if self._first:
                self._first = False
                self.mixed.wait(0.3)
            return super().write(text)
        finally:
            self._free.release()


def test_lines_do_not_mix(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several are discarded at a time, and logged one after the other: a long line takes time."""
    stream = SlowStream()
    monkeypatch.setattr(sys, "stderr", stream)
    keep(file, *(f"message {number}".encode() for number in range(20)))
    arguments = ["discard", "--queue", f"file:{file}", "--all", "--apply", "--because", "a test"]

    with pytest.raises(SystemExit):
        main(["dead-letters", *arguments])

    assert not stream.mixed.is_set()
    assert stream.getvalue().count("dead letter discarded") == 20


@pytest.mark.parametrize("variable", ["LOG_LEVEL", "POWERTOOLS_LOG_LEVEL"])
def test_nothing_is_discarded_without_having_been_printed(
    variable: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell that wants fewer log lines still gets this one."""
    monkeypatch.setenv(variable, "CRITICAL")
    keep(file, REJECTED)

    result = run(file, "discard", "--all", "--apply", "--because", "a test")

    assert [line["dead_letter"]["body"] for line in logged(result.stderr)] == [REJECTED.decode()]


@pytest.mark.parametrize(
    ("selection", "gone"),
    [((REJECTED_ID,), [REJECTED]), (("--all", "--reason", "conflict"), [CONFLICT])],
    ids=["ID", "all, but"],
)
def test_some_letters_can_be_discarded(
    selection: tuple[str, ...], gone: list[bytes], file: Path
) -> None:
    """The others stay where they are."""
    keep(file, *ALL)

    result = run(file, "discard", "--apply", "--because", "a test", *selection)

    assert result.exit_code == 0
    assert kept(file) == [body for body in ALL if body not in gone]


@pytest.mark.parametrize("apply", [(), ("--apply", "--because", "a test")], ids=["plan", "apply"])
def test_which_letters_has_to_be_said(apply: tuple[str, ...], file: Path) -> None:
    """Nobody discards everything by forgetting a word."""
    before = keep(file, *ALL)

    result = run(file, "discard", *apply)

    assert_failed(result, 2, "--reason", "--bucket", "--all")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "because", [(), ("--because", ""), ("--because", " \t")], ids=["none", "empty", "blank"]
)
def test_why_has_to_be_said(because: tuple[str, ...], file: Path) -> None:
    """Nothing is removed without a reason."""
    before = keep(file, *ALL)

    result = run(file, "discard", "--all", "--apply", *because)

    assert_failed(result, 2, "--because")
    assert file.read_bytes() == before


def test_a_missing_letter_cannot_be_discarded(file: Path) -> None:
    """What is there is discarded; what is not makes the command fail."""
    keep(file, *ALL)

    result = run(file, "discard", REJECTED_ID, "no-such-id", "--apply", "--because", "a test")

    assert result.exit_code == 1
    assert kept(file) == [*ALL[1:]]
    assert "no-such-id" in sentences(result.stderr)[-1]


@pytest.mark.parametrize("apply", [(), ("--apply",)], ids=["plan", "apply"])
def test_a_letter_that_does_not_meet_the_conditions_is_not_missing(
    apply: tuple[str, ...], file: Path
) -> None:
    """An ID that is there, but has another reason, is not said to be absent."""
    before = keep(file, REJECTED)

    result = run(file, "redrive", REJECTED_ID, "--reason", "conflict", *apply)

    assert result.exit_code == (1 if apply else 0)
    assert sentences(result.stderr)[0] == "no message was selected, of 1 in the queue."
    assert "No message in the queue" not in result.stderr
    assert file.read_bytes() == before


def test_whose_letters_a_file_holds_has_to_be_told(file: Path) -> None:
    """Without an account every bucket would be somebody else's."""
    before = keep(file, REJECTED)

    result = run(file, "redrive", "--local", "--apply")

    assert result.exit_code == 2
    assert "--account" in sentences(result.stderr)[-1]
    assert file.read_bytes() == before


def test_the_commands_of_a_story_name_the_queue(file: Path) -> None:
    """Whoever named the queue as an option can paste them as they are."""
    keep(file, REJECTED)

    result = run(file, "show", REJECTED_ID)

    assert f"redrive 0 --queue file:{file} --apply" in result.stdout


# Being stopped.


def interrupted(path: Path) -> threading.Thread:
    """A queue that brings one letter, then the operator's Ctrl-C, then another letter."""
    os.mkfifo(path)

    def bring() -> None:
        with path.open("wb", buffering=0) as queue:
            queue.write(REJECTED + b"\n")
            os.kill(os.getpid(), signal.SIGINT)
            queue.write(CONFLICT + b"\n" + RULE + b"\n")

    thread = threading.Thread(target=bring)
    thread.start()
    return thread


def test_a_list_that_is_stopped_says_so(file: Path) -> None:
    """What was read is shown, and told as not all of it."""
    bringing = interrupted(file)

    result = run(file, "list", "--output", "json")
    bringing.join()

    assert result.exit_code == 130
    assert "orders" in {one["bucket"] for one in objects(result.stdout)}
    assert "returns" not in {one["bucket"] for one in objects(result.stdout)}
    assert sentences(result.stderr)[-1] == "the list is incomplete."


def test_a_search_that_is_stopped_shows_nothing(file: Path) -> None:
    """What was not read could be another letter of that name; it is not said to be absent."""
    bringing = interrupted(file)

    result = run(file, "show", "event-orders")
    bringing.join()

    assert (result.exit_code, result.stdout) == (130, "")
    assert "stopping" in sentences(result.stderr)[0]
    assert "No message in the queue" not in result.stderr


# Misuse, and what is not there.


def without_a_queue(command: str, *arguments: str, **environment: str | None) -> Result:
    return CliRunner().invoke(main, ["dead-letters", command, *arguments], env=environment)


COMMANDS = {
    "list": (),
    "show": (REJECTED_ID,),
    "redrive": (),
    "discard": ("--all", "--apply", "--because", "a test"),
}
each_command = pytest.mark.parametrize(("command", "arguments"), COMMANDS.items(), ids=COMMANDS)


FORM = ["acs:mns:<region>:<account id>:/queues/<name>", "file:<path>"]
KEY = ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"]
UNUSABLE: dict[str, tuple[str | None, dict[str, str | None], int, list[str]]] = {
    "no queue": (None, {}, 2, ["--queue", "GUARD_DEAD_LETTER_QUEUE"]),
    "no form": ("dead-letters", {}, 2, FORM),
    "escapes": (ESCAPES, {}, 2, FORM),
    "no ID": (QUEUE_ARN, {KEY[0]: None}, 2, KEY),
    "no secret": (QUEUE_ARN, {KEY[1]: None}, 2, KEY),
    # A wrong region looks like this.
    "no answer": (QUEUE_ARN, {}, 3, ["gave no answer", f"check the region {REGION}"]),
    "no file": ("file:/nowhere/letters", {}, 2, ["/nowhere/letters", "No such file"]),
}


@each_command
@pytest.mark.parametrize(
    ("queue", "variables", "exit_code", "parts"), UNUSABLE.values(), ids=UNUSABLE
)
def test_a_queue_that_cannot_be_used_is_told(
    command: str,
    arguments: tuple[str, ...],
    queue: str | None,
    variables: dict[str, str | None],
    exit_code: int,
    parts: list[str],
) -> None:
    """The last sentence says what was given and what is wrong with it, or what to check."""
    options = ("--queue", queue) if queue else ()

    result = without_a_queue(command, *arguments, *options, **variables)

    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert [part for part in parts if part not in sentences(result.stderr)[-1]] == []
    assert_harmless(result)


def test_the_option_comes_before_the_variable(file: Path) -> None:
    """What is said on the command line counts; the variable is enough, too."""
    keep(file, REJECTED)

    by_option = run(file, "list", GUARD_DEAD_LETTER_QUEUE="file:/nowhere")
    by_variable = without_a_queue("list", GUARD_DEAD_LETTER_QUEUE=f"file:{file}")

    assert by_option.exit_code == by_variable.exit_code == 0
    assert "orders" in by_option.stdout
    assert "orders" in by_variable.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [("GUARD_FUNCTION", "my function"), ("GUARD_MODE", "dry-run")],
)
def test_a_bad_setting_is_misuse(option: str, value: str, file: Path) -> None:
    """The sentence names the variable and its value, and nothing is read."""
    before = keep(file, *ALL)

    result = run(file, "redrive", "--apply", **{option: value})

    assert_failed(result, 2, option, value)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive", "--max-redrives", "0"),
        ("list", "--by", "colour"),
        ("list", "an-id"),
        ("show",),
        ("show", "one-id", "another-id"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_is_misuse(arguments: tuple[str, ...], file: Path) -> None:
    """Nothing is done on a guess."""
    before = keep(file, *ALL)

    result = run(file, *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert file.read_bytes() == before


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_commands_are_named(word: str) -> None:
    """Who knows only `dead-letters` finds the rest."""
    result = CliRunner().invoke(main, ["dead-letters", word])

    assert result.exit_code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in result.stdout] == []


# What comes from outside; tests/unit/dead_letters/test_hostile_letters.py has what means harm.

BAD = {
    "truncated": REJECTED[:-20],
    "truncated event": RULE[:-3],
    "another version": letter("orders", version=2),
    "an extra field": letter("orders", colour="red"),
    "no UUID": letter("orders", id="$(reboot)"),
    "plain text": b"hello",
    "a number": b"5",
    "base64 of nothing known": b"aGVsbG8=",
    "empty object": b"{}",
    "empty array": b"[]",
    "deep": b"[" * 10_000,
}


@pytest.mark.parametrize("local", [(), ("--local", "--account", ACCOUNT)], ids=["send", "local"])
def test_messages_that_are_none_of_ours_are_left_alone(local: tuple[str, ...], file: Path) -> None:
    """A redrive says so and sends nothing; it fails only where a message was named."""
    before = keep(file, *BAD.values())
    options = ("--apply", "--output", "json", *local)

    of_all, of_one = run(file, "redrive", *options), run(file, "redrive", "0", *options)

    assert (of_all.exit_code, of_one.exit_code) == (0, 1)
    assert sentences(of_all.stderr) == [f"{len(BAD)} nothing to redrive."]
    assert sentences(of_one.stderr) == ["1 nothing to redrive."]
    for told in objects(of_all.stdout):
        assert told["state"] == "nothing_to_redrive"
        assert told["result"].startswith("the message contains no event of a table bucket")
    assert file.read_bytes() == before
