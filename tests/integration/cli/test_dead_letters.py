"""`encryption-guard dead-letters` against the emulated queue, functions and buckets, over TLS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, QUEUE, QUEUE_ARN, REGION, REPOSITORY
from tests.emulators.emulated_service import utc_now
from tests.emulators.faults import Delay, Fault, Refuse, throttle
from tests.emulators.function_compute_api import FunctionComputeApi
from tests.emulators.operators_shell import PROGRAM
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.emulators.smq import Smq
from tests.unit.cli.printed import assert_harmless, logged, objects, sentences
from tests.unit.fakes import (
    creation_of,
    dead_letter_of,
    destination_record_of,
)

OPERATOR = AccessKey("STS.operator", "operator-secret", ACCOUNT, security_token="operator-token")
NOWHERE = "https://127.0.0.1:9"
PLACE = f"acs:fc:{REGION}:{ACCOUNT}:"


def arn_of(bucket: str) -> str:
    return f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{bucket}"


def creation(bucket: str) -> dict[str, Any]:
    """The creation of a bucket, as an event of its own."""
    return creation_of(arn_of(bucket), event_id=f"event-{bucket}")


def letter(bucket: str, **told: object) -> bytes:
    return dead_letter_of(creation(bucket), **{"arn": arn_of(bucket)} | told)


def record(bucket: str, **context: object) -> bytes:
    return destination_record_of(creation(bucket), **context)


def rule(bucket: str) -> bytes:
    return json.dumps(creation(bucket)).encode()


# One of each kind: the first in base64, as the vendor's client and the guard put it there.
OURS, RECORD, RULE, UNKNOWN = (
    b64encode(letter("orders")),
    record("payments"),
    rule("returns"),
    "\x9b31mhello".encode(),
)
KINDS = (OURS, RECORD, RULE, UNKNOWN)


@dataclass
class Shell:
    """An operator's shell, and the services that its commands reach."""

    queue: Smq
    functions: FunctionComputeApi
    tables: OssTables
    environment: dict[str, str]
    ids: dict[bytes, str] = field(default_factory=dict)
    when_called: Callable[[], None] = lambda: None

    def put(self, *bodies: bytes) -> None:
        """Put messages into the queue as they are."""
        for body in bodies:
            self.ids[body] = self.queue.put(QUEUE, body)

    def run(self, *arguments: str, **environment: str | None) -> Result:
        """One command about the queue."""
        given = ["dead-letters", *arguments]
        return CliRunner().invoke(main, given, env={**self.environment, **environment})

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The same as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "dead-letters", *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def waiting(self) -> list[bytes]:
        """The messages in the queue, each of which everybody can see."""
        messages = self.queue.messages(QUEUE)
        now = utc_now()
        assert [message.id for message in messages if message.visible_at > now] == []
        return [message.body.encode() for message in messages]

    def accepted(self) -> list[str]:
        """The functions that were handed an event."""
        return [name for name, _ in self.functions.accepted]

    def operations(self) -> set[str | None]:
        """What the queue was asked to do."""
        return {request.operation for request in self.queue.requests}


@pytest.fixture
def shell(authority: Authority, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell with an operator's credentials, whose one function takes every event."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    names = ("oss-tables-encrypt-on-create", "guard$encrypt")
    operators: Shell
    functions = dict.fromkeys(names, lambda _event: operators.when_called())
    with (
        Smq(OPERATOR, queues=[QUEUE], nodes=2, authority=authority) as queue,
        FunctionComputeApi(OPERATOR, functions=functions, authority=authority) as api,
        OssTables(OPERATOR, region=REGION, authority=authority) as tables,
    ):
        environment = {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": OPERATOR.id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": OPERATOR.secret,
            "ALIBABA_CLOUD_SECURITY_TOKEN": "operator-token",
            "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
            "GUARD_SMQ_ENDPOINT": queue.url,
            # Nobody says who it is that asks.
            "GUARD_STS_ENDPOINT": NOWHERE,
            "GUARD_FC_ENDPOINT": api.url,
            "GUARD_OSS_TABLES_ENDPOINT": tables.url,
            "GUARD_MAX_ATTEMPTS": "1",
            "SSL_CERT_FILE": str(trusted),
            "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
        }
        operators = Shell(queue, api, tables, environment)
        yield operators


def states(result: Result) -> dict[str | None, str]:
    """What became of the letter of each bucket."""
    return {told["bucket"]: told["state"] for told in objects(result.stdout)}


# The list.


def test_a_list_consumes_nothing(shell: Shell) -> None:
    """Every message of every kind is shown, and is as visible afterwards as it was before."""
    shell.put(*KINDS)

    result = shell.run("list", "--output", "json")

    assert result.exit_code == 0
    told = {one["message_id"]: one for one in objects(result.stdout)}
    assert {body: told[shell.ids[body]]["kind"] for body in KINDS} == {
        OURS: "dead_letter",
        RECORD: "destination_record",
        RULE: "cloud_event",
        UNKNOWN: "unknown",
    }
    assert all(one["since"] for one in told.values())
    assert shell.waiting() == list(KINDS)
    assert "DeleteMessage" not in shell.operations()
    assert_harmless(result.output)


def test_a_peek_hides_nothing(shell: Shell) -> None:
    """What one node shows is listed, while others may receive it."""
    shell.put(letter("orders"))

    result = shell.run("list", "--peek", "--by", "code")

    assert result.exit_code == 0
    assert "Grant oss:PutTableBucketEncryption" in result.stdout
    assert shell.operations() == {"BatchPeekMessage"}


# One letter.


def test_the_letters_of_one_event_are_told_apart_by_the_queue(shell: Shell) -> None:
    """The event's id names both, so they are listed; their message ids name one each."""
    both = (OURS, record("orders"))
    shell.put(*both, RULE, UNKNOWN)

    result = shell.run("show", "event-orders")
    stories = [shell.run("show", shell.ids[body]) for body in both]

    assert (result.exit_code, result.stdout) == (2, "")
    assert {line.split()[0] for line in sentences(result.stderr)[1:]} == {
        shell.ids[body] for body in both
    }
    assert [story.exit_code for story in stories] == [0, 0]
    assert all(json.dumps(creation("orders"), indent=2) in story.stdout for story in stories)
    assert len(shell.waiting()) == 4
    assert_harmless(result.output)


# Redriving.


def test_what_is_accepted_is_removed(shell: Shell) -> None:
    """Each event is sent once, counted, and its letter is gone; junk is no failure, and stays."""
    shell.put(*KINDS)

    result = shell.run("redrive", "--apply", "--output", "json")

    buckets = ("orders", "payments", "returns")
    assert result.exit_code == 0
    assert states(result) == dict.fromkeys(buckets, "done") | {None: "nothing_to_redrive"}
    sent = [json.loads(event) for _, event in shell.functions.accepted]
    expected = [creation(bucket) | {"guardredrives": 1} for bucket in buckets]
    assert sorted(sent, key=json.dumps) == sorted(expected, key=json.dumps)
    assert shell.accepted() == ["oss-tables-encrypt-on-create"] * 3
    assert shell.waiting() == [UNKNOWN]
    assert_harmless(result.output)


@pytest.mark.parametrize(
    "function", ["guard$encrypt", f"{PLACE}services/guard.LATEST/functions/encrypt"]
)
def test_events_go_to_the_function_that_the_operator_names(function: str, shell: Shell) -> None:
    """Whatever the message names, and in whichever form."""
    shell.put(record("orders", functionArn="another"))

    result = shell.run("redrive", "--apply", "--function", function)

    assert result.exit_code == 0
    assert shell.accepted() == ["guard$encrypt"]
    assert shell.waiting() == []
    assert sentences(result.stderr) == ["1 done."]


def test_a_function_that_does_not_exist_keeps_the_letters(shell: Shell) -> None:
    """The sentence names it and says how to name another one; the vendor's client is silent."""
    shell.put(OURS, RULE)

    result = shell.run("redrive", "--apply", "--function", "not-there")

    assert result.exit_code == 1
    assert result.stdout.count("functions/not-there answered 404 FunctionNotFound") == 2
    assert result.stdout.count("--function") == 2
    assert shell.waiting() == [OURS, RULE]
    assert_harmless(result.output)


def test_what_was_sent_but_not_removed_is_told(shell: Shell) -> None:
    """When the queue fails after the event was accepted, the operator learns both."""
    shell.queue.faults.add(Fault(throttle(503), operation="DeleteMessage"))
    shell.put(OURS)

    result = shell.run("redrive", "--apply", "--output", "json")

    assert result.exit_code == 1
    (told,) = objects(result.stdout)
    assert told["state"] == "done_not_removed"
    assert "but the message may still be in the queue: " in told["result"]
    assert sentences(result.stderr) == ["1 done, not removed."]
    assert shell.accepted() == ["oss-tables-encrypt-on-create"]
    assert shell.waiting() == [OURS]


# Redriving on the spot.


# Discarding.


def test_a_letter_is_logged_before_it_is_removed(shell: Shell) -> None:
    """When the removal fails, its line is there all the same, and so is the letter."""
    shell.queue.faults.add(Fault(Refuse(403), operation="DeleteMessage"))
    shell.put(OURS, RULE)

    result = shell.run("discard", "event-orders", "--apply", "--because", "a test")

    assert result.exit_code == 1
    (line,) = logged(result.stderr)
    assert line["dead_letter"]["body"] == letter("orders").decode()
    assert "done, not removed" in result.stdout
    assert shell.waiting() == [OURS, RULE]


# What is not there.


@pytest.mark.parametrize(
    ("environment", "exit_code", "expected"),
    [
        ({"GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN + "-2"}, 3, "there is no such queue"),
        ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, 3, "check the credentials"),
        ({"ALIBABA_CLOUD_SECURITY_TOKEN": None}, 3, "check the credentials"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, 2, "SSL_CERT_FILE"),
    ],
    ids=["unknown queue", "wrong secret", "no token", "no certificates"],
)
def test_what_keeps_a_command_from_the_queue_is_said(
    environment: dict[str, str | None], exit_code: int, expected: str, shell: Shell
) -> None:
    """The last sentence says what to do; nothing is printed as a result, and nothing is lost."""
    shell.put(*KINDS)

    result = shell.run("discard", "--all", "--apply", "--because", "a test", **environment)

    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert expected in sentences(result.stderr)[-1]
    assert shell.waiting() == list(KINDS)
    assert shell.functions.requests == []
    assert_harmless(result.output)


def test_a_queue_that_fails_on_the_way_is_released(shell: Shell) -> None:
    """What was sent by then is removed and told; everything else is visible, and it is said why."""
    bodies = [record(f"bucket-{number}") for number in range(100)]
    shell.put(*bodies)
    shell.when_called = lambda: shell.queue.faults.add(
        Fault(throttle(503), operation="BatchReceiveMessage")
    )

    result = shell.run("redrive", "--apply", "--output", "json")

    sent = {json.loads(event)["id"] for _, event in shell.functions.accepted}
    assert result.exit_code == 3
    assert {f"event-{bucket}" for bucket in states(result)} == sent
    assert set(states(result).values()) == {"done"}
    assert 0 < len(sent) < len(bodies)
    assert len(shell.waiting()) == len(bodies) - len(sent)
    assert "503" in sentences(result.stderr)[-1]


# Leaving early.


def test_who_asks_twice_does_not_wait(shell: Shell, tmp_path: Path) -> None:
    """A second Ctrl-C ends the command although nobody answers it; nothing is lost by that."""
    shell.functions.faults.add(Fault(Delay(60)))
    file = tmp_path / "letters.jsonl"
    file.write_bytes(b"".join(record(f"bucket-{number}") + b"\n" for number in range(20)))
    before = file.read_bytes()

    process = shell.start(
        *("redrive", "--apply", "--queue", f"file:{file}"),
        *("--function", f"{PLACE}functions/oss-tables-encrypt-on-create"),
        GUARD_HTTP_TIMEOUT_SECONDS="60",
    )
    with process:
        while not shell.functions.requests:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert "acting as " in process.stderr.readline()
        assert "press Ctrl-C again to stop at once" in process.stderr.readline()
        # Nobody is faster. Until the handler of the first has returned to a thread that waits for a
        # lock, CPython may keep a signal until that wait ends.
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        try:
            # Long enough for anybody who does not wait for an answer.
            process.wait(timeout=10)
        finally:
            process.kill()
        errors = process.stderr.read()

    assert process.returncode != 0
    assert "Traceback" not in errors
    assert file.read_bytes() == before


# Nobody who reads on.


def heard_once(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """The first line of a command's output, as `| head -1` reads it, its errors and its end."""
    assert process.stdout
    assert process.stderr
    with process:
        line = process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    return line, errors, process.returncode


def test_a_redrive_that_nobody_reads_on_says_what_it_did(shell: Shell, tmp_path: Path) -> None:
    """Every event that was sent is counted and its letter removed; the rest stay."""
    file = tmp_path / "letters.jsonl"
    bodies = [rule(f"bucket-{number}") for number in range(300)]
    file.write_bytes(b"".join(body + b"\n" for body in bodies))

    process = shell.start(
        *("redrive", "--apply", "--output", "json", "--queue", f"file:{file}"),
        *("--function", f"{PLACE}functions/oss-tables-encrypt-on-create"),
    )
    _, errors, exit_code = heard_once(process)

    left = [line for line in file.read_bytes().splitlines() if line.strip()]
    sent = len(shell.functions.accepted)
    assert exit_code == 1
    assert_harmless(errors)
    assert 0 < sent < len(bodies)
    assert len(left) == len(bodies) - sent
    assert sentences(errors) == [
        "standard output cannot be written (Broken pipe): not every result was printed.",
        f"stopped: {sent} done; the rest is still in the queue.",
    ]
