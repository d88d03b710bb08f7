"""EventBridge's API as far as a deployment is read: whether a bus is there.

Form as the vendor's SDK has it (`alibabacloud_eventbridge20200401` 8.7.0); no live answer was at
hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import parameters
from tests.emulators.emulated_service import Call, Clock, refuse, utc_now
from tests.emulators.faults import Refuse
from tests.emulators.rpc_service import RpcService, answered, no_such_action
from tests.emulators.wire import Answer

VERSION, GET_EVENT_BUS = "2020-04-01", "GetEventBus"
DEFAULT_BUS = "default"


@dataclass
class EventState:
    """What the account has; `buses` are the names of those beside the one called `default`."""

    buses: Collection[str] = ()


class EventApis(RpcService):
    """The service."""

    default_codes: ClassVar[Mapping[int, str]] = {403: "NoPermission", 429: "Throttling.Api"}

    def __init__(
        self, *access_keys: AccessKey, region: str = "cn-hangzhou", clock: Clock = utc_now
    ) -> None:
        super().__init__(*access_keys, clock=clock)
        self.state = EventState()
        self._region = region

    def perform(self, call: Call) -> Answer:
        asked = (call.operation, call.request.headers.get("x-acs-version"))
        if asked != (GET_EVENT_BUS, VERSION):
            raise no_such_action()
        key = self.authenticated(call)
        name = parameters(call.request).get("EventBusName")
        if not name:
            raise refuse(400, "MissingEventBusName", "EventBusName is mandatory for this action.")
        place = f"acs:eventbridge:{self._region}:{key.account_id}:eventbus/{name}"
        self.require_right(key, f"eventbridge:{GET_EVENT_BUS}", place)
        if name not in (DEFAULT_BUS, *self.state.buses):
            raise refuse(200, "EventBusNotExist", f"The event bus {name} does not exist.")
        arn = f"acs:eventbridge:{self._region}::eventbus/{name}"
        bus = {"EventBusName": name, "EventBusARN": arn}
        return answered(call, {"Code": "Success", "Success": True, "Message": "", "Data": bus})

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        answer = super().refused(refusal, call)
        # EventBridge's own form.
        own = {"Success": False} if refusal.status == 200 else {}
        fields = json.loads(answer.body) | {"HostId": call.request.host} | own
        return replace(answer, body=json.dumps(fields).encode())
