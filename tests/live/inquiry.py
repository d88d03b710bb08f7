"""What ActionTrail and EventBridge tell of the bucket's events, after they have had some time.

Nothing has to be there any more, and nothing is changed. Whatever they refuse, or do not know,
is a sentence in `learnt.why_not`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from encryption_guard.invocation import Clock
from encryption_guard.untrusted import as_text, object_or_empty, read_time
from tests.live.event_apis import NotAnswered, Record
from tests.live.event_reading import CREATE, DELETE, LIST, as_cloud_event, read
from tests.live.experiment import Plan
from tests.live.observations import Found, Learnt, Observed, Source, Trace, Traced

POLL_SECONDS = 20.0
SECONDS_BETWEEN_TELLING = 60.0
# Between this machine's clock and the platform's.
MARGIN = timedelta(minutes=15)
SOURCES, PATTERN, STEPS = "sources", "pattern", "steps"
AS_DELIVERED = "as it was delivered"
# How the service may be called in `source` and `type`, besides as its records call it.
SERVICES = ("oss", "osstables")
# Enough for a creation and a drift, and for somebody else's.
MOST_TRACED = 5


class Apis(Protocol):
    """What is asked; each raises NotAnswered."""

    def lookup(self, name: str | None, since: datetime, until: datetime) -> list[Record]: ...
    def sources(self) -> tuple[Source, ...]: ...
    def takes(self, event: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool: ...
    def traced(self, since: datetime, until: datetime, rule: str | None) -> tuple[Traced, ...]: ...
    def traces(self, event_id: str) -> tuple[Trace, ...]: ...


class Inquiry:
    """Collects what it hears in `learnt`, so that an interruption loses nothing.

    `rule` is the name of the trigger's rule on the bus, `lister` that of the sweep function's role,
    None if it is not deployed; `progress` takes what is told meanwhile.
    """

    def __init__(
        self,
        apis: Apis,
        plan: Plan,
        *,
        rule: str,
        lister: str | None,
        clock: Clock,
        progress: Callable[[str], None],
    ) -> None:
        self.learnt = Learnt()
        self._apis = apis
        self._plan = plan
        self._rule = rule
        self._lister = lister
        self._clock = clock
        self._progress = progress
        self._looked_at: dict[str, float] = {}
        self._told_at = float("-inf")

    def run(self, seen: Observed) -> None:
        """Ask for everything; it takes as long as the plan waits for ActionTrail, at most."""
        self._ask_for_sources()
        calls = _calls(seen)
        if calls:
            self._await_records(dict(calls), seen)
            self._ask_for_lists(seen)
            self._read_record(seen)
            self._test_pattern(seen)
            self._ask_for_steps(seen)

    def _ask_for_sources(self) -> None:
        try:
            self.learnt.sources = self._apis.sources()
        except NotAnswered as error:
            self.learnt.why_not[SOURCES] = str(error)

    def _await_records(self, waiting: dict[str, float], seen: Observed) -> None:
        until = max(waiting.values()) + self._plan.wait_trail
        while self._look(waiting, seen) and self._clock.monotonic() < until:
            self._tell(until - self._clock.monotonic())
            self._clock.sleep(POLL_SECONDS)
        if CREATE in waiting and CREATE in self._looked_at:
            self._look_by_any_name(seen)

    def _look(self, waiting: dict[str, float], seen: Observed) -> bool:
        """Look for each record that is missing; whether to look again."""
        for name, called_at in list(waiting.items()):
            now = self._clock.monotonic() - called_at
            try:
                record = self._mine(self._apis.lookup(name, *self._window(seen)), seen)
            except NotAnswered as error:
                self.learnt.why_not |= dict.fromkeys(waiting if error.final else [name], str(error))
                if error.final:
                    return False
                continue
            if record is None:
                self.learnt.why_not[name] = f"ActionTrail showed no record of it within {now:.0f} s"
                self._looked_at[name] = now
                continue
            self.learnt.records[name] = Found(record, now, self._looked_at.get(name))
            self.learnt.why_not.pop(name, None)
            del waiting[name]
        return bool(waiting)

    def _window(self, seen: Observed) -> tuple[datetime, datetime]:
        now = self._clock.now()
        passed = timedelta(seconds=self._clock.monotonic() - seen.created_at)
        return now - passed - MARGIN, now

    def _mine(self, records: Sequence[Record], seen: Observed) -> Record | None:
        """The record with the bucket or the request in it, or the only one of a call that worked.

        The refused creation of the long name is not meant.
        """
        marked = list(self._marked(records, seen))
        if marked:
            return marked[0]
        others = [each for each in records if self._plan.long_name not in json.dumps(each)]
        worked = [each for each in others if not each.get("errorCode")]
        return worked[0] if len(worked) == 1 else None

    def _marked(self, records: Sequence[Record], seen: Observed) -> Iterator[Record]:
        marks = [mark for mark in (self._plan.bucket, seen.request_id) if mark]
        return (each for each in records if any(mark in json.dumps(each) for mark in marks))

    def _look_by_any_name(self, seen: Observed) -> None:
        """The creation may be recorded under another name, which its request tells."""
        try:
            records = self._apis.lookup(None, *self._window(seen))
        except NotAnswered:
            return  # why is told already, by the looks before
        marked = list(self._marked(records, seen))
        names = dict.fromkeys(as_text(each.get("eventName")) or "" for each in marked)
        self.learnt.other_names = tuple(name for name in names if name)
        for record in marked:
            if seen.request_id and record.get("requestId") == seen.request_id:
                after = self._clock.monotonic() - seen.created_at
                self.learnt.records[CREATE] = Found(record, after, None)

    def _ask_for_lists(self, seen: Observed) -> None:
        """The watch lists the buckets every few seconds: each record may have its price."""
        if self._lister is None:
            self.learnt.why_not[LIST] = "the sweep function is not deployed here"
        elif not self.learnt.records:
            self.learnt.why_not[LIST] = "ActionTrail showed no record of the bucket either"
        else:
            try:
                records = self._apis.lookup(LIST, *self._window(seen))
            except NotAnswered as error:
                self.learnt.why_not[LIST] = str(error)
                return
            of_sweep = [each for each in records if self._lister in json.dumps(each).lower()]
            self.learnt.lists = len(records), len(of_sweep)

    def _tell(self, left: float) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= SECONDS_BETWEEN_TELLING:
            self._told_at = now
            self._progress(
                "Waiting for ActionTrail, which shows events after some 10 minutes: at most"
                f" {left:.0f} s more. All that was made is deleted; Ctrl-C ends the waiting."
            )

    def _read_record(self, seen: Observed) -> None:
        event = object_or_empty((seen.event or b"").decode("utf-8", "replace"))
        self._note_call(event.get("id"), object_or_empty(event.get("data")))
        if found := self.learnt.records.get(CREATE):
            self._note_call(found.record.get("eventId"), found.record)
            wrapped = self._wrapped(found.record, SERVICES[0])
            self.learnt.reading = read(json.dumps(wrapped).encode(), self._plan.pattern)

    def _note_call(self, event_id: object, record: Mapping[str, Any]) -> None:
        called_at = read_time(as_text(record.get("eventTime")))
        if called_at:
            self.learnt.called_at[as_text(event_id) or ""] = called_at

    def _wrapped(self, record: Mapping[str, Any], service: str) -> dict[str, Any]:
        return as_cloud_event(
            record, service=service, region=self._plan.region, account=self._plan.account
        )

    def _test_pattern(self, seen: Observed) -> None:
        for spelling, event in self._events(seen).items():
            try:
                self.learnt.takes[spelling] = self._apis.takes(event, self._plan.pattern)
            except NotAnswered as error:
                self.learnt.why_not[PATTERN] = str(error)
                return

    def _events(self, seen: Observed) -> dict[str, Mapping[str, Any]]:
        """The event as it was delivered, else the record in each envelope that it may get."""
        if seen.event:
            return {AS_DELIVERED: object_or_empty(seen.event.decode("utf-8", "replace"))}
        found = self.learnt.records.get(CREATE)
        if found is None:
            self.learnt.why_not[PATTERN] = "there is neither an event nor a record to ask about"
            return {}
        own_name = (as_text(found.record.get("serviceName")) or SERVICES[0]).lower()
        wrapped = [
            self._wrapped(found.record, each) for each in dict.fromkeys((own_name, *SERVICES))
        ]
        return {f"{each['source']}; {each['type']}": each for each in wrapped}

    def _ask_for_steps(self, seen: Observed) -> None:
        try:
            for event in self._traced(seen):
                self.learnt.steps[event] = self._apis.traces(event.event_id)
        except NotAnswered as error:
            self.learnt.why_not[STEPS] = str(error)

    def _traced(self, seen: Observed) -> Sequence[Traced]:
        """The event that was delivered, else those that the rule matched since the creation."""
        event = object_or_empty((seen.event or b"").decode("utf-8", "replace"))
        if event_id := as_text(event.get("id")):
            source, kind = (as_text(event.get(name)) or "" for name in ("source", "type"))
            return [Traced(event_id, source, kind)]
        window = self._window(seen)
        matched = self._apis.traced(*window, self._rule)
        if not matched:
            passed = [each for each in self._apis.traced(*window, None) if "oss" in each.source]
            types = ", ".join(dict.fromkeys(each.type for each in passed)) or "none"
            self.learnt.why_not[STEPS] = (
                f"the rule {self._rule} matched no event meanwhile; types of OSS that passed the"
                f" bus: {types}"
            )
        return matched[:MOST_TRACED]


def _calls(seen: Observed) -> dict[str, float]:
    """The calls of which there has to be a record, and when they were answered."""
    calls = {}
    if seen.created and seen.created.done:
        calls[CREATE] = seen.created_at
    if seen.decrypted and seen.decrypted.done:
        calls[DELETE] = seen.decrypted_at
    return calls
