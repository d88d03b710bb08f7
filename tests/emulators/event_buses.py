"""EventBridge across accounts: each has its own buses, and a rule may send to one of another.

https://www.alibabacloud.com/help/en/eventbridge/user-guide/route-events-to-eventbridge (2026-03)
https://www.alibabacloud.com/help/en/eventbridge/use-cases/route-events-across-alibaba-cloud-accounts
The form of a target is that of Alibaba's own script, `python_script/subscription.py` in
`aliyun/alibabacloud-landing-zone` @ c28ad7b; no live answer was at hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.emulators.action_trail import published_at
from tests.emulators.emulated_service import Clock, utc_now
from tests.emulators.event_bridge import Deliveries, Event, EventBus, Pattern
from tests.emulators.ram_policies import Policy
from tests.emulators.trust_policies import Role

DEFAULT_BUS = "default"
TARGET_TYPE = "acs.eventbridge"
PUT_EVENTS = "eventbridge:PutEvents"
SYSTEM_POLICIES = {
    # https://alibabacloud.com/help/en/ram/developer-reference/aliyuneventbridgeputeventspolicy
    "AliyunEventBridgePutEventsPolicy": Policy.of(
        [{"Effect": "Allow", "Action": [PUT_EVENTS], "Resource": "*"}]
    )
}
REQUIRED_KEYS = {"Id", "Type", "Endpoint", "ParamList"}
OPTIONAL_KEYS = {"PushRetryStrategy", "ErrorsTolerance", "DeadLetterQueue"}
PARAMETERS = {"AccountType", "AccountId", "EventBusName", "RAMRoleName", "Body"}
ARN = re.compile(
    r"acs:eventbridge:(?P<region>[a-z]{2}(?:-[a-z0-9]+)+):(?P<account_id>[0-9]{5,20})"
    r":eventbus/(?P<name>[A-Za-z0-9_-]{1,127})",
    re.ASCII,
)


class PushRefusedError(Exception):
    """The other account does not take the event."""


@dataclass(frozen=True)
class BusArn:
    """A bus; every account has a default one in every region."""

    region: str
    account_id: str
    name: str = DEFAULT_BUS

    @classmethod
    def of(cls, text: object) -> BusArn:
        """Raises ValueError for what is no bus of an account."""
        match = ARN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"Endpoint: {text!r} is no event bus")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"acs:eventbridge:{self.region}:{self.account_id}:eventbus/{self.name}"

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_BUS

    @property
    def service(self) -> str:
        """By which a role of another account trusts the rules of this bus's account."""
        return f"{self.account_id}@eventbridge.aliyuncs.com"


@dataclass(frozen=True)
class Forwarding:
    """To which bus a rule sends, and with which role of that bus's account."""

    bus: BusArn
    role: str

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> Forwarding:
        """Raises ValueError for what is no target in another account, or is not emulated."""
        if not REQUIRED_KEYS <= set(target) <= REQUIRED_KEYS | OPTIONAL_KEYS:
            raise ValueError(f"a target has {sorted(REQUIRED_KEYS)}, not {sorted(target)}")
        if target["Type"] != TARGET_TYPE:
            raise ValueError(f"Type: {target['Type']!r} is not {TARGET_TYPE}")
        bus, values = BusArn.of(target["Endpoint"]), _parameters(target["ParamList"])
        named = (values["AccountType"], values["AccountId"], values["EventBusName"])
        if named != ("AnotherAccount", bus.account_id, bus.name):
            raise ValueError(f"ParamList: {named} does not name the bus {bus}")
        return cls(bus, values["RAMRoleName"])

    def document(self) -> dict[str, Any]:
        """The target of a rule, with the whole event as its body."""
        constants = {
            "AccountType": "AnotherAccount",
            "AccountId": self.bus.account_id,
            "EventBusName": self.bus.name,
            "RAMRoleName": self.role,
        }
        return {
            "Id": "hub",
            "Type": TARGET_TYPE,
            "Endpoint": str(self.bus),
            "PushRetryStrategy": "BACKOFF_RETRY",
            "ParamList": [
                *(
                    {"ResourceKey": key, "Form": "CONSTANT", "Value": value}
                    for key, value in constants.items()
                ),
                {"ResourceKey": "Body", "Form": "ORIGINAL"},
            ],
        }


def _parameters(listed: list[Mapping[str, str]]) -> dict[str, str]:
    """The constants by their key; the body has none, as it is the event itself."""
    if sorted(each["ResourceKey"] for each in listed) != sorted(PARAMETERS):
        raise ValueError(f"ParamList: each of {sorted(PARAMETERS)} once, not {listed}")
    for each in listed:
        form = "ORIGINAL" if each["ResourceKey"] == "Body" else "CONSTANT"
        if each["Form"] != form:
            raise ValueError(f"{each['ResourceKey']}: the form {each['Form']} is not {form}")
    return {each["ResourceKey"]: each.get("Value", "") for each in listed}


class EventBridge:
    """The service. A rule that it takes may still fail to send, which the other account decides.

    The pages contradict each other: `default_sends_to` says to which kind of bus a default one may
    send. By the newer page it may be in another region.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        *,
        default_sends_to: Literal["custom", "default"] = "custom",
        clock: Clock = utc_now,
    ) -> None:
        self.default_sends_to = default_sends_to
        self._deliveries = deliveries
        self._clock = clock
        self._buses: dict[BusArn, EventBus] = {}
        self._roles: dict[str, Role] = {}

    def create_bus(self, arn: BusArn) -> EventBus:
        """Let a custom bus be there."""
        return self._buses.setdefault(arn, EventBus(self._deliveries))

    def bus(self, arn: BusArn) -> EventBus:
        """Raises KeyError for a custom bus that nobody created."""
        return self.create_bus(arn) if arn.is_default else self._buses[arn]

    def plant(self, role: Role) -> None:
        """Let the role be there, instead of an earlier one of its name."""
        self._roles[role.arn] = role

    def put_rule(self, sender: BusArn, pattern: Pattern, target: Mapping[str, Any]) -> None:
        """Send what the pattern matches to the bus of another account.

        Raises ValueError for what the service refuses when the rule is made.
        """
        forwarding = Forwarding.of(target)
        self._check_route(sender, forwarding.bus)
        self.bus(sender).add_rule(pattern, lambda event: self._send(event, sender, forwarding))

    def _check_route(self, sender: BusArn, receiver: BusArn) -> None:
        if sender.account_id == receiver.account_id:
            raise ValueError(f"AccountType: {receiver} is of the same account")
        to_default = sender.is_default and self.default_sends_to == "default"
        if receiver.is_default != to_default:
            kind = "default" if to_default else "custom"
            raise ValueError(f"Endpoint: {sender} sends to {kind} buses only, not to {receiver}")

    def _send(self, event: bytes, sender: BusArn, forwarding: Forwarding) -> None:
        arn = forwarding.bus
        role = self._roles.get(f"acs:ram::{arn.account_id}:role/{forwarding.role}")
        if role is None or not role.trust.trusts(sender.service, None):
            raise PushRefusedError(f"{sender.service} may not take the role {forwarding.role}")
        if role.policy is not None and not role.policy.allows(PUT_EVENTS, str(arn)):
            raise PushRefusedError(f"the role {forwarding.role} has no right to {PUT_EVENTS}")
        if not arn.is_default and arn not in self._buses:
            raise PushRefusedError(f"there is no {arn}")
        self.bus(arn).publish(self._arrived(json.loads(event), sender, arn))

    def _arrived(self, event: Event, sender: BusArn, arn: BusArn) -> Event:
        """The event as the receiving bus has it: who sent it is not the sender's to say."""
        return event | {
            "aliyunoriginalaccountid": sender.account_id,
            "aliyunaccountid": arn.account_id,
            "aliyuneventbusname": arn.name,
            "aliyunregionid": arn.region,
            "aliyunpublishtime": published_at(self._clock()),
        }
