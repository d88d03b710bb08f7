"""Messages that mean harm, as `encryption-guard dead-letters` reads and prints them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as Printed
from hypothesis import example, given
from hypothesis import strategies as st

from encryption_guard.arn import Scope
from encryption_guard.cli import main
from encryption_guard.cli.dead_letter_details import contents, details
from encryption_guard.cli.dead_letter_rows import (
    Listed,
    grouped,
    result_as_dict,
    result_line,
)
from encryption_guard.cli.redrive import Action, Result, Sender, Skip, Target
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import decoded, open_message
from encryption_guard.dead_letters.redrivable import obstacle_of
from encryption_guard.events.envelopes import MAX_DECODED_BYTES, MAX_EVENTS
from encryption_guard.untrusted import parse_time, plain, plain_json
from tests.fuzz.hostile import filled, letter, record, worst_cases
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    START,
    creation_of,
    dead_letter_of,
    destination_record_of,
    forget_logger,
)
from tests.unit.legible import assert_legible

ESC, BELL, CSI, DELETE = "\x1b", "\x07", "\x9b", "\x7f"
# Colours, the title, the clipboard, the cursor, a link; right to left, and lines written over.
STEERING = [
    *(f"{ESC}[31m", f"{ESC}]0;title{BELL}", f"{ESC}]52;c;cm0gLXJm{BELL}", f"{ESC}[2J{ESC}[H"),
    *(f"{ESC}]8;;https://evil.example{ESC}\\", f"{CSI}1m", "\x90q\x9c", "\x85", DELETE, "\0"),
    *("\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\u2028", "\u2029", "\ufeff", "\U000e0041"),
    *("all is well\rrm -rf", "all\r\nID  forged", "\b\b\b", "\v", "\f", "\n\n", "\t"),
    *("[red]markup[/red]", "[link=https://evil.example]x[/link]", ":boom:", "$(reboot)", "`x`"),
]
FOREIGN = st.lists(st.sampled_from(STEERING) | st.text(max_size=5), min_size=1, max_size=4).map(
    "".join
)
VALUES: st.SearchStrategy[object] = (
    FOREIGN | st.none() | st.integers() | st.floats() | st.just([]) | st.just({})
)
OWN = json.loads(dead_letter_of(creation_of(ARN)))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of letters, and a shell that has credentials and nothing else."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "AKSECRET")
    forget_logger()
    yield tmp_path / "letters.jsonl"
    forget_logger()


def run(file: Path, command: str, *arguments: str) -> Printed:
    """One command about the letters in a file."""
    given = ["dead-letters", command, "--queue", f"file:{file}", *arguments]
    return CliRunner().invoke(main, given, env={"COLUMNS": None})


HERE = Scope(ACCOUNT, REGION)


def waiting_of(body: bytes, scope: Scope | None = None) -> QueuedMessage:
    """A message as a queue hands it out."""
    return QueuedMessage("\x1bkey", body, open_message(body, scope), since=START)


@st.composite
def own(draw: st.DrawFn) -> bytes:
    """A letter of ours in which some texts are foreign, or gone."""
    changed = draw(st.dictionaries(st.sampled_from(sorted(OWN)), VALUES, max_size=4))
    return json.dumps(OWN | changed, ensure_ascii=draw(st.booleans())).encode()


EVENTS = st.builds(
    lambda told, event_id, source: {"id": event_id, "source": source, "data": told},
    st.dictionaries(st.sampled_from(["eventName", "resourceName", "eventTime"]), FOREIGN),
    VALUES,
    FOREIGN,
)
RECORDS = st.builds(
    lambda event, context, answer: json.dumps(
        json.loads(destination_record_of(event, **context)) | {"responsePayload": answer}
    ).encode(),
    EVENTS,
    st.dictionaries(
        st.sampled_from(["requestId", "functionArn", "condition", "approximateInvokeCount"]), VALUES
    ),
    st.dictionaries(st.sampled_from(["errorType", "errorMessage"]), VALUES) | VALUES,
)
MESSAGES = st.recursive(
    own() | RECORDS | EVENTS.map(lambda event: json.dumps(event).encode()) | st.binary(),
    lambda inner: st.one_of(
        inner.map(letter),
        inner.map(record),
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]"),
    ),
    max_leaves=3,
)


@given(body=MESSAGES)
@example(body=letter(filled(b"{}")))
@example(body=json.dumps(OWN | {"at": "0001-01-01T00:00:00+23:59"}).encode())
@example(body=json.dumps(OWN | {"redrives": 10**4299}).encode())
def test_nothing_that_is_shown_steers_the_terminal(body: bytes) -> None:
    """Whatever a message says, its row, its line, its group and its story can be read safely."""
    waiting = waiting_of(body, HERE)
    listed = Listed.of(waiting)

    assert_legible(details(waiting, START, queue="file:\x1b"), lines=True)
    for told in (
        listed.as_dict(),
        contents(waiting, in_full=True),
        *(g.as_dict() for g in grouped([listed], "code")),
    ):
        line = plain_json(told)
        assert_legible(line)
        assert isinstance(json.loads(line), dict)
    for cell in listed.row(START):
        assert_legible(plain(cell or ""))
    summary = waiting.message.summary
    result = Result(summary, waiting.key, "failed", summary.detail)
    assert_legible(result_line(result))
    assert_legible(plain_json(result_as_dict(result)))


@given(body=MESSAGES)
def test_no_message_breaks_the_plan_of_a_redrive(body: bytes) -> None:
    """What would be sent of it is settled for any message, or why nothing would be."""
    waiting = waiting_of(body, HERE)

    sender = Sender(Target(None, REGION, ACCOUNT), invoke=lambda *_: "FC-1")
    plan = sender.plan(waiting) if obstacle_of(waiting.message) is None else None

    assert plan is None or isinstance(plan, (Action, Skip))


@given(value=st.text() | st.integers() | st.sampled_from([10**400, "0001-01-01T00:00+23:59"]))
def test_no_time_breaks_the_order_of_letters(value: object) -> None:
    """A letter's time is one that can be held against others, or none."""
    at = parse_time(value)

    assert at is None or (at <= START) is not (at > START)


COMMANDS = {
    "list": ("list",),
    "list as json": ("list", "--output", "json"),
    "list by reason": ("list", "--by", "reason"),
    "list by code": ("list", "--by", "code"),
    "list by code as json": ("list", "--by", "code", "--output", "json"),
    "show": ("show", "0"),
    "show as json": ("show", "0", "--output", "json"),
    "redrive": ("redrive",),
    "redrive as json": ("redrive", "--output", "json"),
    "discard": ("discard", "--all"),
    "discard as json": ("discard", "--all", "--output", "json"),
    "discard --apply": ("discard", "--all", "--apply", "--because", "".join(STEERING)),
}


def hostile_letters() -> list[bytes]:
    """Every text of a letter of ours steering the terminal, and every other kind of message."""
    texts = {"detail", "event", "event_id", "arn", "code", "message", "ec", "oss_request_id"}
    texts |= {"function", "function_request_id", "at"}
    steering = "".join(STEERING)
    event = creation_of(ARN, event_id=steering, eventSource=steering)
    own_letters: list[Any] = [OWN | {name: steering} for name in sorted(texts)]
    own_letters += [OWN | dict.fromkeys(texts - {"event"}, steering)]
    return [
        *(json.dumps(told).encode() for told in own_letters),
        json.dumps(event).encode(),
        destination_record_of(event, requestId=steering, functionArn=steering, condition=steering),
        steering.replace("\n", " ").encode(),
        b"\xff" + steering.replace("\n", " ").encode("utf-16"),
        letter(json.dumps(event).encode()),
    ]


def keep(file: Path, bodies: list[bytes]) -> None:
    """Let these be the letters in the file, a line each."""
    file.write_bytes(b"".join(body.replace(b"\n", b" ") + b"\n" for body in bodies))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_prints_what_steers_the_terminal(file: Path, command: tuple[str, ...]) -> None:
    """Tables, stories and lines of JSON can be read safely; log lines are ASCII besides."""
    keep(file, hostile_letters())

    result = run(file, *command)

    assert result.exit_code == 0, result.output
    assert result.stdout
    assert_legible(result.stdout, lines=True)
    assert_legible(result.stderr, lines=True)
    assert all(line.isascii() for line in result.stderr.splitlines() if line.startswith("{"))


SMALL = {name: body for name, body in worst_cases().items() if len(body) < 64 * 1024}


@pytest.mark.parametrize("body", SMALL.values(), ids=SMALL)
def test_the_worst_messages_are_read_within_bounds(body: bytes) -> None:
    """A message of 64 KB holds no more events, and unpacks no further, than a payload may."""
    waiting = waiting_of(body)

    assert len(waiting.message.events) <= MAX_EVENTS
    assert sum(len(delivery.raw) for delivery in waiting.message.events) <= (
        MAX_DECODED_BYTES + len(body)
    )


@given(body=st.text(st.characters(codec=None, categories=None)) | st.text("aA0+/=-_\n {[\ud800"))
@example("\ud800")
@example("====")
@example("A===")
def test_no_body_of_a_message_raises(body: str) -> None:
    """Base64, halves of it, or anything else: it is some letter, and it can be shown."""
    assert_legible(details(waiting_of(decoded(body)), START), lines=True)
