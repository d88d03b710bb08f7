"""Events of other accounts: the guard acts in those it guards, by their role, and in no other.

test_forwarded_events.py has the way of an event from the bus of its account to the function.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

import pytest

from tests.emulators.cloud import (
    ACCOUNT,
    MEMBER_ROLE,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Fault, Refuse
from tests.emulators.resource_directory import Member
from tests.emulators.trust_policies import Role, TrustPolicy
from tests.integration.conftest import creation_of

FIRST, SECOND, STRANGER = "2222222222222222", "3333333333333333", "9999999999999999"
MEMBERS = [Member(FIRST), Member(SECOND)]
ORGANIZATION = {"GUARD_ACCOUNTS": "organization"}


def created(arn: str, *, forwarded_from: str | None = None, **record: object) -> dict[str, Any]:
    """The event of a creation, as the account's own bus forwards it."""
    event: dict[str, Any] = json.loads(creation_of(arn, **record))
    event["id"] = f"event of {arn}"
    return event | ({"aliyunoriginalaccountid": forwarded_from} if forwarded_from else {})


def outcomes(cloud: EmulatedCloud, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """What becomes of events that reach the function in one payload, at its first try."""
    payload = json.dumps(events[0] if len(events) == 1 else events)
    invocation = cloud.function.deliver(payload.encode())[0]
    assert invocation.error is None, invocation.error
    result = json.loads(invocation.result or "")
    return result if isinstance(result, list) else [result]


def outcome(cloud: EmulatedCloud, event: dict[str, Any]) -> tuple[str, str]:
    (found,) = outcomes(cloud, event)
    return found["outcome"], found["reason"]


def taken(cloud: EmulatedCloud) -> list[str]:
    return [key.account_id for key in cloud.sts.issued]


def refusals(cloud: EmulatedCloud) -> list[int]:
    """The requests to buckets that were refused, such as one with the key of another account."""
    statuses = (request.status for request in cloud.tables.requests)
    return [status for status in statuses if status == 403]


def letters(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    return [json.loads(b64decode(body)) for body in cloud.queue.bodies(QUEUE)]


def encryptions(cloud: EmulatedCloud, arns: Iterable[str]) -> set[str | None]:
    return {cloud.tables.encryption(arn) for arn in arns}


@pytest.mark.parametrize(("accounts", "lists"), [("organization", 1), (f"{FIRST},{SECOND}", 0)])
def test_the_buckets_of_members_are_encrypted_by_their_roles(accounts: str, lists: int) -> None:
    """One instance takes each role once, and lists the organization only where it has to."""
    with emulated_cloud(environment={"GUARD_ACCOUNTS": accounts}, members=MEMBERS) as cloud:
        owners = (ACCOUNT, FIRST, SECOND)
        arns = [cloud.tables.plant(f"b-{n}", account_id=owner) for n in (1, 2) for owner in owners]

        found = outcomes(cloud, *map(created, arns))
        again = outcome(cloud, created(arns[1], forwarded_from=FIRST))

        assert [each["outcome"] for each in found] == ["encrypted"] * 6
        assert again == ("already_encrypted", "AES256")
        assert encryptions(cloud, arns) == {"AES256"}
        assert (taken(cloud), refusals(cloud)) == ([FIRST, SECOND], [])
        assert len(cloud.directory.requests) == lists


@pytest.mark.parametrize("manager", [ACCOUNT, SECOND], ids=["does not answer", "of another"])
def test_without_the_directory_only_the_known_accounts_are_served(manager: str) -> None:
    """Every other event fails, so that the platform repeats it and keeps it in the queue."""
    allowed = {"GUARD_ALLOWED_ACCOUNTS": SECOND}
    with emulated_cloud(environment=ORGANIZATION | allowed, members=MEMBERS) as cloud:
        cloud.directory.manager = manager
        if manager == ACCOUNT:
            cloud.directory.faults.add(Fault(Refuse(503)))
        own = cloud.tables.plant("orders")
        member = cloud.tables.plant("orders", account_id=FIRST)

        assert outcome(cloud, created(own)) == ("encrypted", "created")
        assert cloud.directory.requests == []
        event = json.dumps(created(member)).encode()
        tries = cloud.function.deliver(event)

        assert {(each.error or {}).get("errorType") for each in tries} == {"Unavailable"}
        assert len(tries) > 1
        (record,) = cloud.queue.bodies(QUEUE)
        assert json.loads(record)["requestPayload"] == event.decode()
        assert cloud.sts.requests == []


def test_where_no_sweep_looks_an_account_that_is_not_prepared_makes_dead_letters() -> None:
    """Nothing else would find the bucket again; the dead letter says what to do."""
    elsewhere = {"GUARD_SWEEP_REGIONS": "cn-shanghai"}
    with emulated_cloud(environment=ORGANIZATION | elsewhere, members=MEMBERS) as cloud:
        cloud.sts.plant(Role(FIRST, MEMBER_ROLE, TrustPolicy()))
        arn = cloud.tables.plant("orders", account_id=FIRST, region=REGION)

        assert outcome(cloud, created(arn)) == ("dead_lettered", "rejected")
        (letter,) = letters(cloud)
    assert (letter["arn"], letter["status"], letter["code"]) == (arn, 403, "NoPermission")
    assert f"Create the role in account {FIRST}" in letter["detail"]


def test_trouble_of_sts_is_repeated_by_the_platform() -> None:
    """It says nothing about the account."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        cloud.sts.faults.add(Fault(Refuse(503), times=4))
        arn = cloud.tables.plant("orders", account_id=FIRST)

        tries = cloud.function.deliver(json.dumps(created(arn)).encode())

        assert [bool(each.error) for each in tries] == [True, False]
        assert cloud.tables.encryption(arn) == "AES256"


def test_a_late_event_of_a_member_looks_at_the_tables_with_its_role() -> None:
    """Tables that the bucket got while it was open are named in the log."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS) as cloud:
        arn = cloud.tables.plant("orders", account_id=FIRST)
        cloud.tables.plant_table(arn, "sales", "early")
        event = created(arn, eventTime="2026-01-02T03:04:05Z")

        (invocation,) = cloud.function.deliver(json.dumps(event).encode())

        lines = [json.loads(line) for line in invocation.logs.splitlines()]
        tables = [line["table"] for line in lines if line.get("kind") == "table"]
        assert (tables, refusals(cloud), taken(cloud)) == (["early"], [], [FIRST])
