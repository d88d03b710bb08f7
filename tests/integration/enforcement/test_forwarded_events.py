"""From a member's API call to its encrypted bucket: its own bus, the hub's bus, the function."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from alibabacloud_oss_v2 import tables as oss_tables

from tests.emulators.action_trail import SHAPES, Shape
from tests.emulators.cloud import (
    ACCOUNT,
    HUB_BUS,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
    filter_pattern,
    forwarding_target,
    hub_role,
    owner_of,
)
from tests.emulators.event_buses import DEFAULT_BUS, BusArn
from tests.emulators.oss_tables import ApiCall
from tests.emulators.owners_client import owners_client
from tests.emulators.resource_directory import Member
from tests.integration.conftest import creation_of

FIRST, SECOND, STRANGER = "2222222222222222", "3333333333333333", "9999999999999999"
MEMBERS = [Member(FIRST), Member(SECOND)]
ORGANIZATION = {"GUARD_ACCOUNTS": "organization"}
ELSEWHERE = "cn-shanghai"
FOREIGN = ("dead_lettered", "foreign_account")


def create(
    cloud: EmulatedCloud, account_id: str, *names: str, region: str = REGION, **options: Any
) -> list[str]:
    """The account's owner creates buckets; every event has arrived where it was sent."""
    with owners_client(cloud, owner_of(account_id), region=region) as client:
        requests = (
            oss_tables.models.CreateTableBucketRequest(name=name, **options) for name in names
        )
        arns = [client.create_table_bucket(request).arn for request in requests]
    cloud.bus.join(timeout=30)
    return arns


def publish(
    cloud: EmulatedCloud, account_id: str, event: bytes, envelope: Mapping[str, str] | None = None
) -> None:
    """The account puts an event of its own making on its own bus, which forwards it."""
    own = cloud.bridge.bus(BusArn(REGION, account_id))
    own.publish(json.loads(event) | dict(envelope or {}))
    own.join(timeout=30)


def let_forward(cloud: EmulatedCloud, account_id: str, *, region: str = REGION) -> None:
    """Another account, or one in another region, gets the rule that the members have."""
    cloud.bridge.plant(hub_role(FIRST, SECOND, account_id))
    cloud.bridge.put_rule(BusArn(region, account_id), filter_pattern(), forwarding_target())


def ended(cloud: EmulatedCloud) -> list[tuple[str, str]]:
    return [(line["outcome"], line["reason"]) for line in cloud.outcomes()]


def taken(cloud: EmulatedCloud) -> list[str]:
    return [key.account_id for key in cloud.sts.issued]


def warnings(cloud: EmulatedCloud) -> list[str]:
    text = "".join(invocation.logs for invocation in cloud.invocations)
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["message"] for line in lines if line["level"] == "WARNING"]


@pytest.mark.parametrize("bus", [HUB_BUS, DEFAULT_BUS])
def test_a_bucket_of_a_member_is_encrypted_by_its_forwarded_event(bus: str) -> None:
    """To a bus of its own, or to the default one: each is what one of two pages demands."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS, forwards_to=bus) as cloud:
        (arn,) = create(cloud, FIRST, "orders")

        assert cloud.tables.encryption(arn) == "AES256"
        assert arn == f"acs:osstables:{REGION}:{FIRST}:bucket/orders"
        assert ended(cloud) == [("encrypted", "created")]
        assert (taken(cloud), cloud.queue.bodies(QUEUE)) == ([FIRST], [])


def test_events_of_several_accounts_that_come_twice_encrypt_each_bucket_once() -> None:
    """Two buses, each at least once: four deliveries of a member's event, two of the hub's own."""
    with emulated_cloud(
        environment=ORGANIZATION, members=MEMBERS, forwards_to=HUB_BUS, twice=1.0
    ) as cloud:
        arns = [*create(cloud, FIRST, "orders"), *create(cloud, SECOND, "orders")]
        with owners_client(cloud) as owner:
            request = oss_tables.models.CreateTableBucketRequest(name="orders")
            arns.append(owner.create_table_bucket(request).arn)
        cloud.bus.join(timeout=30)

        found = Counter((line["arn"], line["outcome"]) for line in cloud.outcomes())

        assert found == Counter(
            {
                **{(arn, "encrypted"): 1 for arn in arns},
                **{(arn, "already_encrypted"): 3 for arn in arns[:2]},
                (arns[2], "already_encrypted"): 1,
            }
        )
        assert taken(cloud) == [FIRST, SECOND]


def test_a_bare_name_is_of_the_account_that_sent_the_event() -> None:
    """Whichever place names it; the hub's bucket of the same name stays as it is."""
    names = {shape.lower(): shape for shape in SHAPES}

    def shape_of(call: ApiCall) -> Shape:
        return names[call.bucket or ""]

    with emulated_cloud(
        environment=ORGANIZATION, members=MEMBERS, forwards_to=HUB_BUS, shape_of=shape_of
    ) as cloud:
        own = [cloud.tables.plant(name) for name in names]
        arns = create(cloud, FIRST, *names)

        assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}
        assert {cloud.tables.encryption(arn) for arn in own} == {None}
        assert sorted(line["named_by"] for line in cloud.outcomes()) == sorted(SHAPES)


@pytest.mark.parametrize("owner", [SECOND, ACCOUNT])
@pytest.mark.parametrize("forged", [True, False])
def test_a_member_that_claims_the_bucket_of_another_is_refused(owner: str, forged: bool) -> None:
    """Whatever it says about itself: who sent an event is the receiving bus's to say."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS, forwards_to=HUB_BUS) as cloud:
        arn = cloud.tables.plant("orders", account_id=owner)
        claim = {"aliyunoriginalaccountid": owner, "aliyunaccountid": owner} if forged else {}

        publish(cloud, FIRST, creation_of(arn, recipientAccountId=owner), claim)

        assert ended(cloud) == [FOREIGN]
        (letter,) = [json.loads(b64decode(body)) for body in cloud.queue.bodies(QUEUE)]
        assert (letter["reason"], letter["arn"]) == ("foreign_account", arn)
        assert json.loads(letter["event"])["aliyunoriginalaccountid"] == FIRST
        assert (cloud.sts.requests, cloud.tables.requests) == ([], [])


@pytest.mark.parametrize("accounts", ["organization", f"{FIRST},{SECOND}"])
def test_a_stranger_that_forwards_gets_nothing(accounts: str) -> None:
    """Though the hub's bus takes its events, and it has a role that trusts the guard."""
    with emulated_cloud(
        environment={"GUARD_ACCOUNTS": accounts}, members=MEMBERS, forwards_to=HUB_BUS
    ) as cloud:
        let_forward(cloud, STRANGER)
        cloud.tables.admit(owner_of(STRANGER))
        cloud.sts.plant(replace(cloud.member_roles[FIRST], account_id=STRANGER))

        (arn,) = create(cloud, STRANGER, "orders")

        assert ended(cloud) == [FOREIGN]
        assert (cloud.sts.requests, cloud.tables.encryption(arn)) == ([], None)


def test_a_member_that_is_not_prepared_is_left_to_the_sweep() -> None:
    """One warning for each event and no dead letter; once it is prepared, the sweep encrypts."""
    with emulated_cloud(environment=ORGANIZATION, members=MEMBERS, forwards_to=HUB_BUS) as cloud:
        cloud.sts.remove(cloud.member_roles[FIRST])
        (arn,) = create(cloud, FIRST, "orders")

        assert ended(cloud) == [("skipped", "not_prepared")]
        assert (warnings(cloud), cloud.queue.bodies(QUEUE)) == (["account not prepared"], [])
        problems = [swept(cloud)["problems"] for _ in range(2)]
        cloud.sts.plant(cloud.member_roles[FIRST])
        result = swept(cloud)

        assert [[each["reason"] for each in told] for told in problems] == [["not_prepared"]] * 2
        (found,) = result["encrypted"]
        assert (found["bucket"], found["found_by"], result["ok"]) == ("orders", "sweep", True)
        assert cloud.tables.encryption(arn) == "AES256"


def swept(cloud: EmulatedCloud) -> dict[str, Any]:
    (invocation,) = cloud.sweep()
    result: dict[str, Any] = json.loads(invocation.result or "")
    return result


@pytest.mark.parametrize("shape", ["responseElements", "resourceName"])
@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (REGION, ("dead_lettered", "foreign_region")),
        (f"{REGION},{ELSEWHERE}", ("encrypted", "created")),
    ],
)
def test_an_event_from_another_region_acts_where_the_sweep_does(
    shape: Shape, regions: str, expected: tuple[str, str]
) -> None:
    """If rules reach across regions: the bucket's region is the record's, not that of the bus."""
    environment = ORGANIZATION | {"GUARD_SWEEP_REGIONS": regions}
    with emulated_cloud(
        environment=environment,
        members=MEMBERS,
        forwards_to=HUB_BUS,
        shape_of=lambda _call: shape,
    ) as cloud:
        let_forward(cloud, FIRST, region=ELSEWHERE)

        (arn,) = create(cloud, FIRST, "orders", region=ELSEWHERE)

        assert ended(cloud) == [expected]
        encrypted = "AES256" if expected[0] == "encrypted" else None
        assert (cloud.tables.encryption(arn), f":{ELSEWHERE}:" in arn) == (encrypted, True)
