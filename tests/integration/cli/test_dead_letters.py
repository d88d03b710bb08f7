"""`encryption-guard dead-letters` against the emulated queue and functions, over TLS.

tests/unit/cli/test_dead_letters.py has each command on letters in a file.
"""

from __future__ import annotations

import json
import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.emulators.cloud import (
    ACCOUNT,
    OWNER,
    QUEUE,
    QUEUE_ARN,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Delay, Fault, Refuse, throttle
from tests.emulators.operators_shell import invoke, start
from tests.unit.cli.printed import assert_harmless, logged, objects, sentences
from tests.unit.fakes import creation_of, dead_letter_of, destination_record_of

FUNCTION = "oss-tables-encrypt-on-create"
BY_ITS_ARN = ("--function", f"acs:fc:{REGION}:{ACCOUNT}:functions/{FUNCTION}")


def creation(bucket: str) -> dict[str, Any]:
    """The creation of a bucket, as an event of its own."""
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{bucket}"
    return creation_of(arn, event_id=f"event-{bucket}")


def rule(bucket: str) -> bytes:
    return json.dumps(creation(bucket)).encode()


# One of each kind: the first in base64, as the vendor's client and the guard put it there.
OURS, RECORD, RULE, UNKNOWN = (
    b64encode(dead_letter_of(creation("orders"))),
    destination_record_of(creation("payments")),
    rule("returns"),
    "\x9b31mhello".encode(),
)
KINDS = (OURS, RECORD, RULE, UNKNOWN)


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    """A cloud whose functions take every event, and do nothing with it."""
    with emulated_cloud(queue_nodes=2) as cloud:
        for name in (FUNCTION, "guard$encrypt"):
            cloud.api.deploy(name, lambda _event: None)
        yield cloud


def put(cloud: EmulatedCloud, *bodies: bytes) -> dict[str, bytes]:
    """Put messages into the queue as they are; returns each by its id."""
    return {cloud.queue.put(QUEUE, body): body for body in bodies}


def run(cloud: EmulatedCloud, *arguments: str, **variables: str | None) -> Result:
    """One command about the queue; nothing that it prints does harm."""
    shell: dict[str, Any] = {"GUARD_MAX_ATTEMPTS": "1", **variables}
    result = invoke(cloud, "dead-letters", *arguments, **shell)
    assert_harmless(result.output)
    assert OWNER.secret not in result.output
    return result


def waiting(cloud: EmulatedCloud) -> list[bytes]:
    """The messages in the queue, each of which everybody can see."""
    messages, now = cloud.queue.messages(QUEUE), cloud.time.shifted_now()
    assert [message.id for message in messages if message.visible_at > now] == []
    return [message.body.encode() for message in messages]


def operations(cloud: EmulatedCloud) -> set[str | None]:
    """What the queue was asked to do."""
    return {request.operation for request in cloud.queue.requests}


def states(result: Result) -> dict[str | None, str]:
    """What became of the letter of each bucket."""
    return {told["bucket"]: told["state"] for told in objects(result.stdout)}


# The list.


def test_a_list_consumes_nothing(cloud: EmulatedCloud) -> None:
    """Every message of every kind is shown, and is as visible afterwards as it was before."""
    ids = put(cloud, *KINDS)

    result = run(cloud, "list", "--output", "json")

    assert result.exit_code == 0
    assert {ids[one["message_id"]]: one["kind"] for one in objects(result.stdout)} == {
        OURS: "dead_letter",
        RECORD: "destination_record",
        RULE: "cloud_event",
        UNKNOWN: "unknown",
    }
    assert all(one["since"] for one in objects(result.stdout))
    assert waiting(cloud) == list(KINDS)
    assert "DeleteMessage" not in operations(cloud)


def test_a_peek_hides_nothing(cloud: EmulatedCloud) -> None:
    """What one node shows is listed, while others may receive it."""
    put(cloud, OURS)

    result = run(cloud, "list", "--peek", "--by", "code")

    assert result.exit_code == 0
    assert "Grant oss:PutTableBucketEncryption" in result.stdout
    assert operations(cloud) == {"BatchPeekMessage"}


# Redriving and discarding.


def test_what_is_accepted_is_removed(cloud: EmulatedCloud) -> None:
    """Each event is sent once, counted, and its letter is gone; junk is no failure, and stays."""
    put(cloud, *KINDS)

    result = run(cloud, "redrive", "--apply", "--output", "json")

    buckets = ("orders", "payments", "returns")
    assert result.exit_code == 0
    assert states(result) == dict.fromkeys(buckets, "done") | {None: "nothing_to_redrive"}
    sent = [json.loads(event) for _, event in cloud.api.accepted]
    expected = [creation(bucket) | {"guardredrives": 1} for bucket in buckets]
    assert sorted(sent, key=json.dumps) == sorted(expected, key=json.dumps)
    assert {name for name, _ in cloud.api.accepted} == {FUNCTION}
    assert waiting(cloud) == [UNKNOWN]


def test_events_go_to_the_function_that_the_operator_names(cloud: EmulatedCloud) -> None:
    """Whatever the message names, and also to one of a service of FC 2.0."""
    put(cloud, destination_record_of(creation("orders"), functionArn="another"))

    result = run(cloud, "redrive", "--apply", "--function", "guard$encrypt")

    assert result.exit_code == 0
    assert [name for name, _ in cloud.api.accepted] == ["guard$encrypt"]
    assert waiting(cloud) == []


def test_a_letter_is_logged_before_it_is_removed(cloud: EmulatedCloud) -> None:
    """When the removal fails, its line is there all the same, and so is the letter."""
    cloud.queue.faults.add(Fault(Refuse(403), operation="DeleteMessage"))
    put(cloud, RULE, OURS)

    result = run(cloud, "discard", "event-returns", "--apply", "--because", "a test")

    assert result.exit_code == 1
    (line,) = logged(result.stderr)
    assert line["dead_letter"]["body"] == RULE.decode()
    assert "done, not removed" in result.stdout
    assert waiting(cloud) == [RULE, OURS]


@pytest.mark.parametrize(
    ("variables", "exit_code", "expected"),
    [
        ({"GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN + "-2"}, 3, "there is no such queue"),
        ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, 3, "check the credentials"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, 2, "SSL_CERT_FILE"),
    ],
    ids=["unknown queue", "wrong secret", "no certificates"],
)
def test_what_keeps_a_command_from_the_queue_is_said(
    variables: dict[str, str | None], exit_code: int, expected: str, cloud: EmulatedCloud
) -> None:
    """The last sentence says what to do; nothing is printed as a result, and nothing is lost."""
    put(cloud, *KINDS)

    result = run(cloud, "discard", "--all", "--apply", "--because", "a test", **variables)

    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert expected in sentences(result.stderr)[-1]
    assert waiting(cloud) == list(KINDS)


def test_a_queue_that_fails_on_the_way_is_released(cloud: EmulatedCloud) -> None:
    """What was sent by then is removed and told; everything else is visible, and it is said why."""
    bodies = [rule(f"bucket-{number}") for number in range(100)]
    put(cloud, *bodies)
    failing = Fault(throttle(503), operation="BatchReceiveMessage")
    cloud.api.deploy(FUNCTION, lambda _event: cloud.queue.faults.add(failing))

    result = run(cloud, "redrive", "--apply", "--output", "json")

    sent = {json.loads(event)["id"] for _, event in cloud.api.accepted}
    assert result.exit_code == 3
    assert {f"event-{bucket}" for bucket in states(result)} == sent
    assert set(states(result).values()) == {"done"}
    assert 0 < len(sent) < len(bodies)
    assert len(waiting(cloud)) == len(bodies) - len(sent)
    assert "503" in sentences(result.stderr)[-1]


# Leaving early.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three hundred events in a file."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(b"".join(rule(f"bucket-{number}") + b"\n" for number in range(300)))
    return file


def test_who_asks_twice_does_not_wait(cloud: EmulatedCloud, file: Path) -> None:
    """A second Ctrl-C ends the command although nobody answers it; nothing is lost by that."""
    cloud.api.faults.add(Fault(Delay(60)))
    before = file.read_bytes()

    queue = ("--queue", f"file:{file}")
    with start(cloud, "dead-letters", "redrive", "--apply", *queue, *BY_ITS_ARN) as process:
        while not cloud.api.requests:
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
            # Less than any request waits for its answer.
            process.wait(timeout=4)
        finally:
            process.kill()
        errors = process.stderr.read()

    assert process.returncode != 0
    assert "Traceback" not in errors
    assert file.read_bytes() == before


def test_a_redrive_that_nobody_reads_on_says_what_it_did(cloud: EmulatedCloud, file: Path) -> None:
    """As with `| head -1`: what was sent is counted and its letter removed; the rest stay."""
    queue = ("--output", "json", "--queue", f"file:{file}")
    with start(cloud, "dead-letters", "redrive", "--apply", *queue, *BY_ITS_ARN) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()

    left = [line for line in file.read_bytes().splitlines() if line.strip()]
    sent = len(cloud.api.accepted)
    assert process.returncode == 1
    assert_harmless(errors)
    assert 0 < sent < 300
    assert len(left) == 300 - sent
    assert sentences(errors) == [
        "standard output cannot be written (Broken pipe): not every result was printed.",
        f"stopped: {sent} done; the rest is still in the queue.",
    ]
