"""ActionTrail and EventBridge as an owner can ask them, over their RPC APIs.

Forms as the vendor's SDKs have them (`alibabacloud_actiontrail20200706` 2.6.0,
`alibabacloud_eventbridge20200401` 8.7.0); no live answer was at hand.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import ACS_DATE, parameters
from tests.emulators.emulated_service import Call, Clock, refuse, utc_now
from tests.emulators.event_bridge import Pattern, matches
from tests.emulators.faults import Faults, Refuse
from tests.emulators.rpc_service import RpcService, answered, no_such_action
from tests.emulators.wire import Answer

Record = dict[str, Any]
Parameters = Mapping[str, str]

VERSIONS = {
    "LookupEvents": "2020-07-06",
    "ListAliyunOfficialEventSources": "2020-04-01",
    "TestEventPattern": "2020-04-01",
    "QueryTracedEvents": "2020-04-01",
    "QueryEventTraces": "2020-04-01",
    "GetEventBus": "2020-04-01",
}
# RAM knows no right to it: the page of TestEventPattern says that there is none.
FREE = frozenset({"TestEventPattern"})
LARGEST_PAGE, LARGEST_TRACED_PAGE = 50, 100
LOOKUPS_A_SECOND = 2
BUS = "default"
# What EventBridge's page of OSS events names: https://www.alibabacloud.com/help/en/eventbridge/user-guide/oss-events
OSS_TYPES = (
    *("oss:BucketCreated:PutBucket", "oss:BucketRemoved:DeleteBucket"),
    *("oss:ActionTrail:ApiCall", "oss:ActionTrail:ConsoleOperation"),
    "oss:ActionTrail:AliyunServiceEvent",
)


@dataclass(frozen=True)
class Kept:
    """An event, and when the service had it."""

    event: Record
    at: datetime


@dataclass
class EventState:
    """What both services know; `rules` are those of the bus `default`, by name.

    `buses` are the names of the buses that the account has beside it.
    """

    buses: Collection[str] = ()
    rules: dict[str, Pattern] = field(default_factory=dict)
    sources: dict[str, Sequence[str]] = field(default_factory=lambda: {"acs.oss": OSS_TYPES})
    events: list[Kept] = field(default_factory=list)


class EventApis(RpcService):
    """Both APIs at one address: a request names its action and version.

    `queryable_after` are the seconds until LookupEvents shows an event; `judge` says whether a
    pattern takes an event.
    """

    default_codes: ClassVar[Mapping[int, str]] = {
        403: "NoPermission",
        429: "Throttling.Api",
        500: "InternalError",
    }

    def __init__(
        self,
        *access_keys: AccessKey,
        region: str = "cn-hangzhou",
        queryable_after: float = 0.0,
        rules: Mapping[str, Pattern] | None = None,
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(*access_keys, faults=faults, clock=clock)
        self.state = EventState(rules=dict(rules or {}))
        self.judge: Callable[[Pattern, Record], bool] = matches
        self._region = region
        self._queryable_after = timedelta(seconds=queryable_after)
        self._lock = threading.Lock()
        self._lookups: list[datetime] = []

    def record(self, event: Record) -> None:
        """Take an event as ActionTrail hands it to EventBridge: a CloudEvent with its record."""
        with self._lock:
            self.state.events.append(Kept(event, self._clock()))

    def perform(self, call: Call) -> Answer:
        action = call.operation or ""
        if VERSIONS.get(action) != call.request.headers.get("x-acs-version"):
            raise no_such_action()
        key = self.authenticated(call)
        service = "actiontrail" if action == "LookupEvents" else "eventbridge"
        name = parameters(call.request).get("EventBusName", "")
        kind = f"eventbus/{name}" if action == "GetEventBus" else "*"
        place = f"acs:{service}:{self._region}:{key.account_id}:{kind}"
        if action not in FREE:
            self.require_right(key, f"{service}:{action}", place)
        return answered(call, ACTIONS[action](self, call))

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        answer = super().refused(refusal, call)
        # EventBridge's own form.
        own = {"Success": False} if refusal.status == 200 else {}
        fields = json.loads(answer.body) | {"HostId": call.request.host} | own
        return replace(answer, body=json.dumps(fields).encode())

    def lookup_events(self, call: Call) -> Record:
        asked = parameters(call.request)
        self._check_rate(call.now)
        since, until = _window(asked, call.now)
        name, value = asked.get("LookupAttribute.1.Key"), asked.get("LookupAttribute.1.Value")
        if name not in (None, "EventName"):
            raise refuse(400, "InvalidParameterLookupAttribute", f"{name} is not emulated.")
        with self._lock:
            shown = [
                kept.event["data"]
                for kept in reversed(self.state.events)
                if since <= kept.at <= until
                and kept.at + self._queryable_after <= call.now
                and (name is None or kept.event["data"]["eventName"] == value)
            ]
        size = _number(asked, "MaxResults", 20, LARGEST_PAGE)
        start = _number(asked, "NextToken", 0, len(shown))
        page = {"StartTime": f"{since:{ACS_DATE}}", "EndTime": f"{until:{ACS_DATE}}"}
        page |= {"NextToken": str(start + size)} if start + size < len(shown) else {}
        return {**page, "Events": shown[start : start + size]}

    def list_aliyun_official_event_sources(self, _call: Call) -> Record:
        listed = [
            {"Name": name, "FullName": name, "EventTypes": [{"Name": each} for each in types]}
            for name, types in self.state.sources.items()
        ]
        return _success({"EventSourceList": listed})

    def test_event_pattern(self, call: Call) -> Record:
        asked = dict(parse_qsl(call.request.body.decode()))
        try:
            event, pattern = json.loads(asked["Event"]), json.loads(asked["EventPattern"])
            result = self.judge(pattern, event)
        except (KeyError, ValueError) as error:
            raise refuse(
                200, "InvalidArgument", f"This is no event and pattern: {error}."
            ) from error
        return _success({"Result": result})

    def get_event_bus(self, call: Call) -> Record:
        asked = parameters(call.request)
        _need(asked, "EventBusName")
        name = asked["EventBusName"]
        if name not in (BUS, *self.state.buses):
            raise refuse(200, "EventBusNotExist", f"The event bus {name} does not exist.")
        arn = f"acs:eventbridge:{self._region}::eventbus/{name}"
        return _success({"EventBusName": name, "EventBusARN": arn})

    def query_traced_events(self, call: Call) -> Record:
        asked = parameters(call.request)
        _need(asked, "EventBusName", "StartTime", "EndTime")
        since, until = int(asked["StartTime"]), int(asked["EndTime"])
        rule = asked.get("MatchedRule")
        with self._lock:
            events = [
                {
                    "EventId": kept.event["id"],
                    "EventSource": kept.event["source"],
                    "EventType": kept.event["type"],
                }
                for kept in self.state.events
                if since <= _milliseconds(kept.at) <= until
                and (rule is None or rule in self._takers(kept.event))
            ]
        limit = _number(asked, "Limit", 10, LARGEST_TRACED_PAGE)
        return _success({"Events": events[:limit], "Total": len(events)})

    def query_event_traces(self, call: Call) -> Record:
        asked = parameters(call.request)
        _need(asked, "EventBusName", "EventId")
        with self._lock:
            kept = [each for each in self.state.events if each.event["id"] == asked["EventId"]]
            return _success([row for each in kept[:1] for row in self._traces(each)])

    def _traces(self, kept: Kept) -> list[Record]:
        at = _milliseconds(kept.at)
        pushed = {"NotifyTime": at + 20, "NotifyLatency": "17", "NotifyStatus": "200"}
        rows: list[Record] = [{"Action": "PutEvent", "ReceivedTime": at}]
        for rule in self._takers(kept.event):
            rows.append({"Action": "FilterEvent", "RuleName": rule})
            rows.append({"Action": "PushEvent", "RuleName": rule, **pushed})
        return rows

    def _takers(self, event: Record) -> list[str]:
        return [name for name, pattern in self.state.rules.items() if matches(pattern, event)]

    def _check_rate(self, now: datetime) -> None:
        with self._lock:
            recent = [at for at in self._lookups if now - at < timedelta(seconds=1)]
            if len(recent) >= LOOKUPS_A_SECOND:
                raise refuse(400, "Throttling.User", "Request was denied due to user flow control.")
            self._lookups = [*recent, now]


ACTIONS: Mapping[str, Callable[[EventApis, Call], Record]] = {
    "LookupEvents": EventApis.lookup_events,
    "ListAliyunOfficialEventSources": EventApis.list_aliyun_official_event_sources,
    "TestEventPattern": EventApis.test_event_pattern,
    "QueryTracedEvents": EventApis.query_traced_events,
    "QueryEventTraces": EventApis.query_event_traces,
    "GetEventBus": EventApis.get_event_bus,
}


def _success(data: object) -> Record:
    return {"Code": "Success", "Success": True, "Message": "", "Data": data}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _need(asked: Parameters, *names: str) -> None:
    for name in names:
        if not asked.get(name):
            raise refuse(400, f"Missing{name}", f"{name} is mandatory for this action.")


def _window(asked: Parameters, now: datetime) -> tuple[datetime, datetime]:
    """Both ends or neither; the last week where nothing is said."""
    if ("StartTime" in asked) is not ("EndTime" in asked):
        raise refuse(400, "InvalidQueryParameter", "StartTime goes with EndTime.")
    try:
        since, until = (
            datetime.strptime(asked[name], ACS_DATE).replace(tzinfo=now.tzinfo)
            for name in ("StartTime", "EndTime")
        )
    except KeyError:
        return now - timedelta(days=7), now
    except ValueError as error:
        raise refuse(400, "InvalidQueryParameter", "A time is not well formatted.") from error
    # Its own second counts, as in any time without fractions.
    return since, until + timedelta(seconds=1)


def _number(asked: Parameters, name: str, default: int, highest: int) -> int:
    text = asked.get(name, str(default))
    if not text.isdecimal() or int(text) > highest:
        raise refuse(400, f"Invalid{name}", f"{name} has to be between 0 and {highest}.")
    return int(text)
