"""ActionTrail and EventBridge, asked through their own APIs what they know of an event.

Actions and fields as in the vendor's SDKs (`alibabacloud_actiontrail20200706`,
`alibabacloud_eventbridge20200401`); what is missing in an answer, or has another form, counts as
not answered. The hosts are those of their endpoint pages:
https://www.alibabacloud.com/help/en/eventbridge/developer-reference/api-eventbridge-2020-04-01-endpoint
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Clock, Invocation
from encryption_guard.services.acs3 import Api, ApiRefused, call
from encryption_guard.untrusted import as_text, object_or_empty
from tests.live.observations import Source, Trace, Traced

ENDPOINT = "https://{service}.{region}.aliyuncs.com"
BUS = "default"
# Twice a second is what LookupEvents allows: https://help.aliyun.com/en/actiontrail/product-overview/limits
SECONDS_BETWEEN_LOOKUPS = 0.6
LOOKUP_PAGE, MOST_PAGES, TRACED_PAGE = 50, 5, 100
# All sources of the platform with their types come in one answer; 50 records in another.
LONGEST = 8 * 1024 * 1024
_DENIALS = ("nopermission", "forbidden", "accessdenied")

Record = dict[str, Any]


class NotAnswered(Exception):
    """A sentence that says why there is no answer; `final` where asking again does not help."""

    def __init__(self, sentence: str, *, final: bool) -> None:
        super().__init__(sentence)
        self.final = final


@dataclass(frozen=True)
class EventApis:
    """Both APIs in one region; each request gets an invocation of its own."""

    region: str
    invocation: Callable[[], Invocation]
    clock: Clock
    endpoint: str = ENDPOINT

    def lookup(self, name: str | None, since: datetime, until: datetime) -> list[Record]:
        """The records of the events of this name, or of all, the newest first; up to 250."""
        query = {
            "StartTime": f"{since:%Y-%m-%dT%H:%M:%SZ}",
            "EndTime": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            "MaxResults": str(LOOKUP_PAGE),
        }
        if name:
            query |= {"LookupAttribute.1.Key": "EventName", "LookupAttribute.1.Value": name}
        records: list[Record] = []
        for _ in range(MOST_PAGES):
            self.clock.sleep(SECONDS_BETWEEN_LOOKUPS)
            answer = self._asked("actiontrail", "LookupEvents", query=query)
            records += [
                record for each in _list(answer, "Events") if (record := object_or_empty(each))
            ]
            token = as_text(answer.get("NextToken"))
            if not token:
                break
            query["NextToken"] = token
        return records

    def sources(self) -> tuple[Source, ...]:
        """Every service that EventBridge says it has events of, with their types."""
        answer = self._asked("eventbridge", "ListAliyunOfficialEventSources")
        listed = _list(object_or_empty(answer.get("Data")), "EventSourceList")
        return tuple(_source(object_or_empty(each)) for each in listed)

    def takes(self, event: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool:
        """Whether a rule with this pattern takes the event, by EventBridge's own judgement."""
        form = {"Event": json.dumps(event), "EventPattern": json.dumps(pattern)}
        answer = self._asked("eventbridge", "TestEventPattern", form=form)
        result = object_or_empty(answer.get("Data")).get("Result")
        if not isinstance(result, bool):
            raise _without("TestEventPattern", "Result")
        return result

    def traced(self, since: datetime, until: datetime, rule: str | None) -> tuple[Traced, ...]:
        """The events that passed the bus meanwhile, of those that a rule matched; up to 100."""
        query = {
            "EventBusName": BUS,
            "StartTime": str(int(since.timestamp() * 1000)),
            "EndTime": str(int(until.timestamp() * 1000)),
            "Limit": str(TRACED_PAGE),
        }
        if rule:
            query["MatchedRule"] = rule
        answer = self._asked("eventbridge", "QueryTracedEvents", query=query)
        return tuple(
            Traced(
                as_text(object_or_empty(each).get("EventId")) or "",
                as_text(object_or_empty(each).get("EventSource")) or "",
                as_text(object_or_empty(each).get("EventType")) or "",
            )
            for each in _list(object_or_empty(answer.get("Data")), "Events")
        )

    def traces(self, event_id: str) -> tuple[Trace, ...]:
        """The steps of one event on the bus."""
        query = {"EventBusName": BUS, "EventId": event_id}
        answer = self._asked("eventbridge", "QueryEventTraces", query=query)
        return tuple(_trace(object_or_empty(each)) for each in _list(answer, "Data"))

    def _asked(self, service: str, action: str, **rest: Any) -> dict[str, object]:
        # EventBridge's API for management has a host of its own.
        host = "eventbridge-console" if service == "eventbridge" else service
        version = "2020-07-06" if service == "actiontrail" else "2020-04-01"
        api = Api(self.endpoint.format(service=host, region=self.region), version)
        try:
            return call(api, action, self.invocation(), max_bytes=LONGEST, **rest)
        except Unavailable as error:
            raise NotAnswered(str(error), final=False) from error
        except ApiRefused as error:
            denied = error.status == 403 or error.code.lower().startswith(_DENIALS)
            needs = f" The key needs the right {service}:{action}." if denied else ""
            raise NotAnswered(f"{error}{needs}", final=True) from error


def _list(fields: Mapping[str, object], name: str) -> Sequence[object]:
    found = fields.get(name)
    if not isinstance(found, list):
        raise _without("the answer", name)
    return found


def _without(what: str, name: str) -> NotAnswered:
    return NotAnswered(f"{what} has no {name} in the documented form.", final=False)


def _source(fields: Mapping[str, object]) -> Source:
    types = fields.get("EventTypes")
    return Source(
        as_text(fields.get("FullName")) or as_text(fields.get("Name")) or "",
        tuple(
            as_text(object_or_empty(each).get("Name")) or ""
            for each in (types if isinstance(types, list) else [])
        ),
    )


def _trace(fields: Mapping[str, object]) -> Trace:
    def text(name: str) -> str:
        return as_text(fields.get(name)) or ""

    return Trace(
        action=text("Action"),
        rule=text("RuleName"),
        received=text("ReceivedTime"),
        notified=text("NotifyTime"),
        status=text("NotifyStatus"),
        latency=text("NotifyLatency"),
    )
