"""The emulated EventBridge across accounts: whom a bus takes events from, and what they carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from tests.emulators.event_bridge import Deliveries
from tests.emulators.event_buses import SYSTEM_POLICIES, BusArn, EventBridge, Forwarding
from tests.emulators.ram_policies import Policy
from tests.emulators.trust_policies import Role, TrustPolicy

HUB, MEMBER, OTHER = "1111111111111111", "2222222222222222", "3333333333333333"
REGION = "cn-hangzhou"
NOW = datetime(2026, 11, 22, 20, 30, 1, 250_000, tzinfo=timezone.utc)
CENTRAL = BusArn(REGION, HUB, "central")
SENDER = BusArn(REGION, MEMBER)
ROLE = Role(
    HUB,
    "events",
    TrustPolicy.naming([SENDER.service]),
    SYSTEM_POLICIES["AliyunEventBridgePutEventsPolicy"],
)
TARGET = Forwarding(CENTRAL, ROLE.name).document()
EVENT = {
    "id": "event-1",
    "source": "acs.oss",
    "time": "2026-11-23T04:30:00+08:00",
    "aliyunaccountid": MEMBER,
    "aliyunpublishtime": "2026-11-23T04:30:00.000PRC",
    "aliyuneventbusname": "default",
    "aliyunregionid": REGION,
    "data": {"eventName": "CreateTableBucket"},
}


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    """Without chance: every delivery once and at once."""
    with Deliveries(twice=0, late=0) as deliveries:
        yield deliveries


@pytest.fixture
def bridge(deliveries: Deliveries) -> EventBridge:
    """With the hub's bus, and the role that its member may take."""
    bridge = EventBridge(deliveries, clock=lambda: NOW)
    bridge.create_bus(CENTRAL)
    bridge.plant(ROLE)
    return bridge


def received(bridge: EventBridge, *arns: BusArn) -> list[dict[str, Any]]:
    """What these buses get from now on."""
    events: list[dict[str, Any]] = []
    for arn in arns:
        bridge.bus(arn).add_rule({}, lambda event: events.append(json.loads(event)))
    return events


def send(bridge: EventBridge, arn: BusArn = SENDER, **changed: object) -> None:
    bridge.bus(arn).publish(EVENT | changed)
    bridge.bus(arn).join(5)


def changed(key: str, **values: object) -> dict[str, Any]:
    """The target with another parameter."""
    listed = [
        {**each, **values} if each["ResourceKey"] == key else each for each in TARGET["ParamList"]
    ]
    return {**TARGET, "ParamList": listed}


def test_a_forwarded_event_says_who_sent_it_and_which_bus_has_it(bridge: EventBridge) -> None:
    """The rest of it is as it was; the sender's own word about its account counts for nothing."""
    bridge.put_rule(SENDER, {"source": ["acs.oss"]}, TARGET)
    events = received(bridge, CENTRAL)

    send(bridge)
    send(bridge, source="acs.ecs")
    send(bridge, aliyunoriginalaccountid=OTHER, aliyunaccountid=OTHER)

    arrived = EVENT | {
        "aliyunoriginalaccountid": MEMBER,
        "aliyunaccountid": HUB,
        "aliyuneventbusname": "central",
        "aliyunpublishtime": "2026-11-23T04:30:01.250PRC",
    }
    assert events == [arrived, arrived]


def trusting(principal: str) -> Role:
    """The role, which this one may take and nobody else."""
    return replace(ROLE, trust=TrustPolicy.naming([principal]))


@pytest.mark.parametrize(
    ("role", "target", "reason"),
    [
        (ROLE, Forwarding(CENTRAL, "absent"), f"{SENDER.service} may not take the role absent"),
        (trusting(replace(SENDER, account_id=OTHER).service), None, "may not take the role events"),
        # As the console makes the role before its trust policy is edited.
        (trusting(f"acs:ram::{MEMBER}:root"), None, "may not take the role events"),
        (replace(ROLE, policy=Policy(())), None, "events has no right to eventbridge:PutEvents"),
        (
            *(ROLE, Forwarding(replace(CENTRAL, name="absent"), ROLE.name)),
            f"there is no acs:eventbridge:{REGION}:{HUB}:eventbus/absent",
        ),
    ],
)
def test_what_the_other_account_does_not_take_is_dropped(
    bridge: EventBridge, deliveries: Deliveries, role: Role, target: Forwarding | None, reason: str
) -> None:
    """The sender's rule was taken; each of its pushes fails, and the last one loses the event."""
    events = received(bridge, CENTRAL)
    bridge.plant(role)
    bridge.put_rule(SENDER, {}, target.document() if target else TARGET)

    send(bridge)

    assert (events, [json.loads(event) for event in deliveries.dropped]) == ([], [EVENT])
    assert len(deliveries.errors) == 4
    assert {reason in str(error) for error in deliveries.errors} == {True}


@pytest.mark.parametrize(
    "target",
    [
        {key: value for key, value in TARGET.items() if key != "Id"},
        TARGET | {"Endpoint": f"acs:eventbridge:{REGION}:{HUB}:central"},
        TARGET | {"RoleName": "events"},
        TARGET | {"Type": "acs.fc.function"},
        TARGET | {"ParamList": TARGET["ParamList"][1:]},
        changed("AccountType", Value="CurrentAccount"),
        changed("AccountId", Value=OTHER),
        changed("EventBusName", Value="another"),
        changed("Body", Form="CONSTANT"),
    ],
)
def test_a_target_that_is_none_is_refused_with_its_rule(
    bridge: EventBridge, target: dict[str, Any]
) -> None:
    """A part that is missing, unknown or of another form, or two that name different buses."""
    with pytest.raises(ValueError, match=r".+"):
        bridge.put_rule(SENDER, {}, target)


def test_another_account_is_another_one(bridge: EventBridge) -> None:
    """A rule of the hub itself cannot say that the hub is another account."""
    with pytest.raises(ValueError, match="the same account"):
        bridge.put_rule(BusArn(REGION, HUB), {}, TARGET)


@pytest.mark.parametrize("custom", [True, False])
def test_which_bus_a_default_one_sends_to_depends_on_the_page(
    deliveries: Deliveries, custom: bool
) -> None:
    """One says custom ones alone, the other the default one alone; custom ones never do that."""
    bridge = EventBridge(deliveries, default_sends_to="custom" if custom else "default")
    default = Forwarding(BusArn(REGION, HUB), ROLE.name).document()
    taken, refused, kind = (TARGET, default, "custom") if custom else (default, TARGET, "default")
    own = BusArn(REGION, MEMBER, "own")
    bridge.create_bus(own)
    bridge.create_bus(CENTRAL)
    bridge.plant(ROLE)
    events = received(bridge, CENTRAL, BusArn(REGION, HUB))

    bridge.put_rule(SENDER, {}, taken)
    bridge.put_rule(own, {}, TARGET)
    with pytest.raises(ValueError, match=f"sends to {kind} buses only"):
        bridge.put_rule(SENDER, {}, refused)
    with pytest.raises(ValueError, match="sends to custom buses only"):
        bridge.put_rule(own, {}, default)
    send(bridge)

    assert [event["aliyuneventbusname"] for event in events] == ["central" if custom else "default"]


def test_only_default_buses_need_not_be_created(bridge: EventBridge) -> None:
    """A rule on a custom bus that is not there is refused."""
    with pytest.raises(KeyError):
        bridge.put_rule(BusArn(REGION, MEMBER, "absent"), {}, TARGET)
