"""Whoever may write to the queue plants dead letters, and an operator types what is documented.

Each attack has its own test. Whatever was planted, no function but the guard's own is asked for, no
real dead letter is lost, and nothing is called done for a bucket that is open.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result

from encryption_guard.cli.dead_letter_details import MAX_SHOWN_BYTES
from encryption_guard.dead_letters.redrivable import (
    CREATION_FUNCTION,
    OWN_FUNCTIONS,
    SWEEP_FUNCTION,
)
from tests.emulators.cloud import (
    ACCOUNT,
    QUEUE,
    REGION,
    ROLE,
    SWEEP_ROLE,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import invoke
from tests.integration.cli.memory import measured
from tests.unit.fakes import creation_of, dead_letter_of, destination_record_of
from tests.unit.legible import assert_legible

PUT = "PutTableBucketEncryption"
# A function of the account that nobody but its owner has any business with.
PAYROLL = "payroll-delete-everything"
APPLY = ("dead-letters", "redrive", "--apply", "--output", "json")
LOCALLY = (*APPLY, "--local")
MOST_KILOBYTES = 100 * 1024


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    """A cloud whose account has one more function; after each test only the guard's were asked."""
    with emulated_cloud(queue_nodes=2) as cloud:
        paid: list[bytes] = []
        for name in (PAYROLL, "legacy$admin", f"guard${CREATION_FUNCTION}"):
            cloud.api.deploy(name, paid.append)
        yield cloud
        cloud.api.join(timeout=60)
        assert {request.resource for request in cloud.api.requests} <= OWN_FUNCTIONS
        assert {request.query for request in cloud.api.requests} <= {""}
        assert paid == []


def plant(cloud: EmulatedCloud, *documents: bytes) -> list[str]:
    """Put messages into the queue, as mns:SendMessage allows; returns their message ids."""
    return [cloud.queue.put(QUEUE, document) for document in documents]


def real_dead_letter(cloud: EmulatedCloud, bucket: str, **event: Any) -> str:
    """A bucket whose creation the function may not follow, so that a dead letter waits for it.

    The right is there again afterwards. Returns the ARN.
    """
    arn = cloud.tables.plant(bucket)
    cloud.tables.admit(replace(ROLE, denied=frozenset({PUT})))
    cloud.bus.publish(creation_of(arn, event_id=f"event-{bucket}") | event)
    cloud.bus.join(timeout=60)
    cloud.tables.admit(ROLE)
    return arn


def waiting(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    """What the operator's list says, oldest first."""
    listed = invoke(cloud, "dead-letters", "list", "--output", "json")
    assert listed.exit_code == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def results(done: Result, cloud: EmulatedCloud) -> dict[str, str]:
    """What the command says of each message, by its message id; nothing open is called done."""
    cloud.api.join(timeout=60)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for one in told:
        if one["state"] == "done" and one["arn"]:
            assert cloud.tables.encryption(one["arn"]), one
    return {one["message_id"]: one["state"] for one in told}


# A message chooses nothing.

PURGE = {"action": "purge", "confirm": True}


def about(bucket: str, **fields: Any) -> dict[str, Any]:
    """The creation of a bucket of the account, with fields of the attacker's choice."""
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{bucket}"
    return creation_of(arn, event_id=f"planted-{bucket}") | fields


FC = f"acs:fc:{REGION}:{ACCOUNT}:"
OTHER_FUNCTIONS = {
    "a name": dead_letter_of(about("decoy", **PURGE), function=PAYROLL),
    "a record": destination_record_of(
        about("decoy", **PURGE), functionArn=f"{FC}functions/{PAYROLL}"
    ),
    "our name in a service": dead_letter_of(
        about("decoy"), function=f"{FC}services/guard.LATEST/functions/{CREATION_FUNCTION}"
    ),
    "another region": dead_letter_of(
        about("decoy"), function=f"acs:fc:cn-beijing:{ACCOUNT}:functions/{CREATION_FUNCTION}"
    ),
}
NO_AUDIT_EVENTS = {
    "a command for payroll": destination_record_of(
        {"command": "rm"}, functionArn=f"{FC}functions/{PAYROLL}"
    ),
    "a letter of a command": dead_letter_of(PURGE, reason="invalid_event", arn=None),
    "an event of a timer": destination_record_of({"triggerTime": "2026", "triggerName": "x"}),
    "letters in an array": json.dumps(
        [json.loads(dead_letter_of(about("decoy"))), {"command": "rm"}]
    ).encode(),
}
MIXED = {
    "an array": destination_record_of([about("decoy"), {"command": "rm"}]),
    "a letter of an array": dead_letter_of([about("decoy"), PURGE], arn=None),
}


def test_a_message_does_not_choose_the_function(cloud: EmulatedCloud) -> None:
    """A message that names another function is left with a sentence; the real one is redriven."""
    decoy = cloud.tables.plant("decoy")
    arn = real_dead_letter(cloud, "orders")
    (real,) = waiting(cloud)
    keys = plant(cloud, *OTHER_FUNCTIONS.values())

    plan = invoke(cloud, "dead-letters", "redrive", "--output", "json")
    done = invoke(cloud, *APPLY)

    assert done.exit_code == 1
    states = results(done, cloud)
    assert states == {real["message_id"]: "done"} | dict.fromkeys(keys, "left")
    sentences = [json.loads(line)["result"] for line in plan.stdout.splitlines()]
    assert sum("--function" in sentence for sentence in sentences) == len(keys)
    assert (cloud.tables.encryption(arn), cloud.tables.encryption(decoy)) == ("AES256", None)
    assert [name for name, _ in cloud.api.accepted] == [CREATION_FUNCTION]
    assert {one["message_id"] for one in waiting(cloud)} == set(keys)


@pytest.mark.parametrize("options", [(), ("--function", SWEEP_FUNCTION), ("--local",)], ids=str)
def test_only_events_of_table_buckets_are_processed(
    options: tuple[str, ...], cloud: EmulatedCloud
) -> None:
    """What is none goes nowhere, whatever the operator names, nor does an array that has one."""
    decoy = cloud.tables.plant("decoy")
    nothing, mixed = (plant(cloud, *bodies.values()) for bodies in (NO_AUDIT_EVENTS, MIXED))
    command = (*APPLY, "--max-redrives", "1000", *options)

    done = invoke(cloud, *command)

    states = dict.fromkeys(nothing, "nothing_to_redrive") | dict.fromkeys(mixed, "left")
    assert results(done, cloud) == states
    assert done.exit_code == 1
    assert cloud.api.requests == []
    assert cloud.tables.encryption(decoy) is None
    assert {one["message_id"] for one in waiting(cloud)} == {*nothing, *mixed}


def test_each_letter_goes_back_to_the_function_that_wrote_it(cloud: EmulatedCloud) -> None:
    """The sweep function processes the event of its own dead letter."""
    created = real_dead_letter(cloud, "orders")
    swept = cloud.tables.plant("returns")
    cloud.tables.admit(replace(SWEEP_ROLE, denied=frozenset({PUT})))
    cloud.sweep()
    cloud.tables.admit(SWEEP_ROLE)
    arns = {one["arn"]: one["function"] for one in waiting(cloud)}
    assert arns == {created: CREATION_FUNCTION, swept: SWEEP_FUNCTION}

    done = invoke(cloud, *APPLY)

    assert set(results(done, cloud).values()) == {"done"}
    assert {name for name, _ in cloud.api.accepted} == OWN_FUNCTIONS
    assert [cloud.tables.encryption(arn) for arn in arns] == ["AES256"] * 2
    assert waiting(cloud) == []


def test_a_count_in_an_event_does_not_stop_its_redrive(cloud: EmulatedCloud) -> None:
    """Whoever sends an event with 999 redrives gets a letter like any other."""
    arn = real_dead_letter(cloud, "orders", guardredrives=999)

    done = invoke(cloud, *APPLY)

    assert list(results(done, cloud).values()) == ["done"]
    assert cloud.tables.encryption(arn) == "AES256"


# A message's word about itself is not believed.


def decoyed(cloud: EmulatedCloud) -> dict[str, bytes]:
    """Messages that claim to be about payments, or to be its dead letter."""
    decoy = creation_of(cloud.tables.plant("decoy"), event_id="event-payments")
    payments = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/payments"
    own = creation_of(payments, event_id="event-planted")
    return {
        "another bucket": dead_letter_of(decoy, arn=payments),
        "redriven 999 times": dead_letter_of(own, redrives=999),
        "no event": dead_letter_of(own, event=""),
        "another function": dead_letter_of(own, function=PAYROLL),
        "an array": dead_letter_of([own, decoy], arn=payments),
    }


@pytest.mark.parametrize("who", ["operator", "function"])
def test_a_planted_letter_holds_no_real_one_back(who: str, cloud: EmulatedCloud) -> None:
    """The sweep writes its own, and says so; the bucket is done only once it is encrypted."""
    payments = cloud.tables.plant("payments")
    planted = plant(cloud, *decoyed(cloud).values())
    cloud.tables.faults.add(Fault(Refuse(403), operation=PUT, resource="payments"))

    if who == "operator":
        swept = invoke(cloud, "sweep", "--region", REGION, "--apply", columns=200)
        assert "dead-lettered (rejected)" in swept.stdout
        assert "1 dead letter written" in swept.stderr
    else:
        cloud.sweep()
    (real,) = (one for one in waiting(cloud) if one["message_id"] not in planted)
    assert (real["kind"], real["reason"], real["arn"]) == ("dead_letter", "rejected", payments)

    tried = invoke(cloud, *LOCALLY, "--bucket", "payments")

    assert tried.exit_code == 1
    assert results(tried, cloud)[real["message_id"]] == "failed"
    assert "done" not in results(tried, cloud).values()
    assert {one["message_id"] for one in waiting(cloud)} == {real["message_id"], *planted}
    cloud.tables.faults.clear()
    done = invoke(cloud, *LOCALLY, "--bucket", "payments")
    assert results(done, cloud)[real["message_id"]] == "done"
    assert cloud.tables.encryption(payments) == "AES256"


FORWARDED = {"aliyunoriginalaccountid": "9876543210987654"}


@pytest.mark.parametrize("who", ["operator", "function"])
def test_a_letter_that_the_guard_would_refuse_holds_no_real_one_back(
    who: str, cloud: EmulatedCloud
) -> None:
    """Its event was forwarded by another account: a redrive of it would end as a refusal."""
    payments = cloud.tables.plant("payments")
    (planted,) = plant(cloud, dead_letter_of(creation_of(payments) | FORWARDED, arn=payments))
    cloud.tables.faults.add(Fault(Refuse(403), operation=PUT, resource="payments"))

    if who == "operator":
        invoke(cloud, "sweep", "--region", REGION, "--apply")
    else:
        cloud.sweep()

    (real,) = (one for one in waiting(cloud) if one["message_id"] != planted)
    assert (real["reason"], real["arn"]) == ("rejected", payments)


# An ID means one message.


def twin(real: dict[str, Any]) -> bytes:
    """Junk that has the ID of a real dead letter, because it has no event to derive one from."""
    return dead_letter_of({}, id=real["id"], event="", arn=None, detail="a test: throw it away")


def rider(real: dict[str, Any]) -> bytes:
    """A message whose event is called like the first characters of a real dead letter's ID."""
    return dead_letter_of(about("decoy") | {"id": real["id"][:8]}, function=PAYROLL)


@pytest.mark.parametrize("kind", [twin, rider], ids=["twin", "rider"])
def test_an_id_of_two_messages_is_refused(
    kind: Callable[[dict[str, Any]], bytes], cloud: EmulatedCloud
) -> None:
    """Both are listed with their message ids, nothing is done, and a message id names one."""
    arn = real_dead_letter(cloud, "orders")
    (real,) = waiting(cloud)
    (planted,) = plant(cloud, kind(real))
    before = sorted(cloud.queue.bodies(QUEUE))

    for command in (("redrive", "--apply"), ("discard", "--apply", "--because", "the junk one")):
        refused = invoke(cloud, "dead-letters", *command, real["id"][:8])

        assert (refused.exit_code, refused.stdout) == (2, "")
        assert real["message_id"] in refused.stderr
        assert planted in refused.stderr
    assert sorted(cloud.queue.bodies(QUEUE)) == before
    assert cloud.api.requests == []
    assert cloud.tables.encryption(arn) is None

    named = invoke(cloud, *LOCALLY, real["message_id"])

    assert results(named, cloud) == {real["message_id"]: "done"}
    assert [message.id for message in cloud.queue.messages(QUEUE)] == [planted]


# What would fill the screen, or the memory.


def packed(text: str) -> bytes:
    """A letter whose event has this in it, compressed, as a queue hands it out."""
    event = json.dumps(about("orders", more="HERE")).replace('"HERE"', text).encode()
    kept = b64encode(gzip.compress(event)).decode()
    return b64encode(dead_letter_of(about("orders"), event=kept, event_encoding="gzip+base64"))


BOMBS = {
    "1.2 million zeros, 400 deep": packed("[" * 400 + "0," * 1_200_000 + "0" + "]" * 400),
    "objects in objects": packed("[" + ",".join(['{"":' * 900 + "0" + "}" * 900] * 50) + "]"),
    "4 MB": packed(json.dumps("x" * 4_000_000)),
}


@pytest.fixture(scope="module")
def bombed() -> Iterator[EmulatedCloud]:
    with emulated_cloud() as cloud:
        yield cloud


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_few_kilobytes_fill_no_screen_and_no_memory(
    bomb: bytes, output: str, bombed: EmulatedCloud
) -> None:
    """Whatever is packed into a message, `show` prints 256 KB at most and has 100 MB at most."""
    bombed.queue.empty(QUEUE)
    (key,) = plant(bombed, bomb)

    shown, kilobytes = measured(bombed, "dead-letters", "show", key, "--output", output)

    assert len(shown.encode()) <= MAX_SHOWN_BYTES
    assert kilobytes <= MOST_KILOBYTES
    assert_legible(shown, lines=True)
