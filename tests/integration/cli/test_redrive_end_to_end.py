"""From a missing right to an empty queue: letters of all three kinds, read, mended and redriven."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.emulators.cloud import QUEUE, ROLE, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Delay, Fault, throttle
from tests.emulators.operators_shell import invoke, start
from tests.integration.cli.memory import measured
from tests.unit.fakes import creation_of

LIST = ("dead-letters", "list", "--output", "json")
REDRIVE = ("dead-letters", "redrive", "--output", "json", "--apply", "--max-redrives", "50")
# Longer than any letter stays hidden from others.
LEASE_SECONDS = 121


def grant(cloud: EmulatedCloud, *denied: str) -> None:
    """From now on the function's role has every right of template.yaml but these."""
    role = replace(ROLE, denied=frozenset(denied))
    cloud.tables.admit(role)
    cloud.queue.admit(role)


def create(cloud: EmulatedCloud, *names: str) -> list[str]:
    """Create buckets whose events come to the function; returns when it has dealt with them."""
    arns = [cloud.tables.plant(name) for name in names]
    for name, arn in zip(names, arns, strict=True):
        cloud.bus.publish(creation_of(arn, event_id=f"event-{name}"))
    cloud.bus.join(timeout=60)
    return arns


def create_out_of_reach(cloud: EmulatedCloud, *names: str) -> list[str]:
    """Create buckets whose events EventBridge may not hand over, and keeps in the queue."""
    arns = [cloud.tables.plant(name) for name in names]
    for name, arn in zip(names, arns, strict=True):
        cloud.queue.put(QUEUE, json.dumps(creation_of(arn, event_id=f"event-{name}")))
    return arns


def letters(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    listed = invoke(cloud, *LIST)
    assert listed.exit_code == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def unencrypted(cloud: EmulatedCloud, arns: list[str]) -> list[str]:
    return [arn for arn in arns if not cloud.tables.encryption(arn)]


def from_three_paths(cloud: EmulatedCloud, number: int) -> list[str]:
    """Rights are missing, and so events end in the queue on every path there is."""
    grant(cloud, "PutTableBucketEncryption")
    ours = create(cloud, *(f"ours-{n}" for n in range(number)))
    grant(cloud, "PutTableBucketEncryption", "SendMessage")
    platform = create(cloud, *(f"platform-{n}" for n in range(number)))
    rule = create_out_of_reach(cloud, *(f"rule-{n}" for n in range(number)))
    return ours + platform + rule


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    with emulated_cloud(queue_nodes=3, instances=3) as cloud:
        yield cloud


def test_rights_are_granted_and_everything_is_redriven(cloud: EmulatedCloud) -> None:
    """Letters of all three kinds are told apart; once mended, one command encrypts every bucket."""
    arns = from_three_paths(cloud, 2)

    listed = letters(cloud)
    kinds = {letter["bucket"]: (letter["kind"], letter["cause"]) for letter in listed}
    assert kinds == {
        "ours-0": ("dead_letter", "no permission"),
        "ours-1": ("dead_letter", "no permission"),
        "platform-0": ("destination_record", "dead letter not written"),
        "platform-1": ("destination_record", "dead letter not written"),
        "rule-0": ("cloud_event", "not delivered"),
        "rule-1": ("cloud_event", "not delivered"),
    }
    assert unencrypted(cloud, arns) == arns

    grant(cloud)
    redriven = invoke(cloud, *REDRIVE)
    cloud.api.join(timeout=60)

    assert redriven.exit_code == 0, redriven.stderr
    assert unencrypted(cloud, arns) == []
    assert cloud.queue.bodies(QUEUE) == []
    assert letters(cloud) == []


def test_what_is_not_mended_comes_back_counted(cloud: EmulatedCloud) -> None:
    """A letter that fails again tells how often it was redriven, until redriving stops."""
    grant(cloud, "PutTableBucketEncryption")
    create(cloud, "orders")
    redrive = ("dead-letters", "redrive", "--apply", "--max-redrives", "2")

    counts = []
    for _ in range(3):
        counts += [letter["redrives"] for letter in letters(cloud)]
        last = invoke(cloud, *redrive)
        cloud.api.join(timeout=60)

    assert counts == [0, 1, 2]
    assert last.exit_code == 1
    assert "the redrive count (2) has reached the limit (2)" in last.stdout
    (sent_again,) = {json.loads(event)["guardredrives"] for _, event in cloud.api.accepted[1:]}
    assert sent_again == 2


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_a_redrive_that_is_killed_loses_nothing(cloud: EmulatedCloud, seed: int) -> None:
    """Killed again and again at random points, and run again, it ends with every bucket encrypted.

    After each kill every bucket is encrypted, or its event is in the queue.
    """
    chance = random.Random(seed)
    arns = from_three_paths(cloud, 6)
    grant(cloud)
    cloud.api.faults.add(Fault(Delay(0.15)), Fault(throttle(429), probability=0.2))
    cloud.queue.faults.add(Fault(Delay(0.02), operation="DeleteMessage"))

    kills = 0
    while cloud.queue.messages(QUEUE):
        process = start(cloud, *REDRIVE)
        if kills < 3:
            kills += 1
            kill_when_it_has_sent(process, cloud, more=chance.randrange(6))
        process.communicate(timeout=120)
        cloud.api.join(timeout=60)
        waiting = "".join(letter["arn"] for letter in shown(cloud))
        assert [arn for arn in unencrypted(cloud, arns) if arn not in waiting] == []

    assert kills == 3
    assert unencrypted(cloud, arns) == []


def shown(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    """What lies in the queue, when nothing is hidden any more."""
    cloud.time.sleep(LEASE_SECONDS)
    return letters(cloud)


def kill_when_it_has_sent(
    process: subprocess.Popen[str], cloud: EmulatedCloud, *, more: int
) -> None:
    """SIGKILL, at whatever point it has come to by then."""
    enough = len(cloud.api.accepted) + more
    while process.poll() is None and len(cloud.api.accepted) < enough:
        pass
    process.kill()


def test_a_stopped_redrive_says_what_it_sent(cloud: EmulatedCloud) -> None:
    """Ctrl-C lets what is under way come to its end, says so, and leaves the rest in the queue."""
    arns = create_out_of_reach(cloud, *(f"rule-{n}" for n in range(40)))
    cloud.api.faults.add(Fault(Delay(0.1)))

    process = start(cloud, *REDRIVE)
    while len(cloud.api.accepted) < 3:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    cloud.api.join(timeout=60)

    results = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 130
    assert {result["state"] for result in results} == {"done"}
    assert len(results) == len(cloud.api.accepted) < len(arns)
    assert f"stopped: {len(results)} done; the rest is still in the queue" in errors
    assert len(letters(cloud)) == len(arns) - len(results)


@pytest.mark.slow
def test_five_hundred_letters_in_bounded_memory(cloud: EmulatedCloud) -> None:
    """500 letters of 40 KB are listed and redriven without ever being in memory together."""
    commands = (LIST, ("dead-letters", "redrive", "--output", "json"), REDRIVE)
    without = [measured(cloud, *command) for command in commands]
    padding = "x" * 40_000
    arns = [cloud.tables.plant(f"bucket-{number}") for number in range(500)]
    for number, arn in enumerate(arns):
        event = creation_of(arn, event_id=f"event-{number}") | {"padding": padding}
        cloud.queue.put(QUEUE, json.dumps(event))

    with_them = [measured(cloud, *command) for command in commands]
    cloud.api.join(timeout=120)

    assert unencrypted(cloud, arns) == []
    assert cloud.queue.messages(QUEUE) == []
    half = 500 * len(padding) // 1024 // 2
    for (output, more), (_, less) in zip(with_them, without, strict=True):
        assert len(output.splitlines()) == 500
        assert more - less < half
