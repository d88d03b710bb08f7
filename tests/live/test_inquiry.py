"""What `make verify-live` makes of ActionTrail's and EventBridge's answers, whatever they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
import pytest

from tests.emulators.cloud import filter_pattern
from tests.emulators.event_bridge import matches
from tests.live import inquiry_facts
from tests.live.event_apis import EventApis, NotAnswered, Record
from tests.live.event_reading import CREATE, DELETE, LIST, as_cloud_event
from tests.live.experiment import Plan
from tests.live.inquiry import AS_DELIVERED, PATTERN, Inquiry
from tests.live.observations import Fact, Learnt, Observed, Said, Source, Trace, Traced
from tests.unit.fakes import START, FakeService, FakeTime, Reply, invocation_of

ACCOUNT = "5558887776665554"
REGION = "cn-hangzhou"
BUCKET, LONG_NAME = "guard-verify-1badcafe", "guard-verify-long-0123456789"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{BUCKET}"
RULE = "guard-trigger"
SWEEPER = "guard-sweep-cn-hangzhou"
PLAN = Plan(REGION, ACCOUNT, BUCKET, LONG_NAME, filter_pattern(), 0, 0, wait_trail=900)
RECORD: Record = {
    "eventId": "1",
    "requestId": "REQ-1",
    "eventName": CREATE,
    "eventType": "ApiCall",
    "eventTime": "2026-01-02T03:04:05Z",
    "serviceName": "Oss",
    "responseElements": {"arn": ARN},
}
DROPPED: Record = {**RECORD, "requestId": "REQ-2", "eventName": DELETE}
DELIVERED = as_cloud_event(RECORD, service="oss", region=REGION, account=ACCOUNT)
# The clock of a fake begins at 1000 seconds.
SEEN = Observed(created=Said(200), created_at=1000.0, request_id="REQ-1")
PUT = Trace("PutEvent", "", "1767323047500", "", "", "")
FILTERED = Trace("FilterEvent", RULE, "", "", "", "")
PUSHED = Trace("PushEvent", RULE, "", "1767323048000", "200", "17")
IMPATIENT = replace(PLAN, wait_trail=0)
RIGHT = NotAnswered("no right", final=True)
THROTTLED = NotAnswered("throttled", final=False)
LISTS, STEPS_OF_IT = f"whether ActionTrail records each {LIST}", "how late EventBridge"
TRACED = Traced("1", "acs.oss", "oss:X:Y"), Traced("2", "acs.ecs", "ecs:A:B")
AS_IT_CAME = replace(SEEN, event=json.dumps(DELIVERED).encode())


@dataclass
class ScriptedApis:
    """Answers by what is known; `shown_after` are the seconds until records can be looked up."""

    time: FakeTime
    records: Sequence[Record] = (RECORD, DROPPED)
    shown_after: float = 0.0
    listed: tuple[Source, ...] = ()
    events: tuple[Traced, ...] = ()
    steps: Mapping[str, tuple[Trace, ...]] = field(default_factory=dict)
    refusals: dict[str, NotAnswered] = field(default_factory=dict)
    lookups: list[tuple[str | None, datetime, datetime]] = field(default_factory=list)

    def lookup(self, name: str | None, since: datetime, until: datetime) -> list[Record]:
        self.lookups.append((name, since, until))
        self._refuse("lookup")
        self._refuse(f"lookup {name}")
        if self.time.passed < self.shown_after:
            return []
        return [each for each in self.records if name in (None, each["eventName"])]

    def sources(self) -> tuple[Source, ...]:
        self._refuse("sources")
        return self.listed

    def takes(self, event: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool:
        self._refuse("takes")
        return matches(dict(pattern), dict(event))

    def traced(self, _since: datetime, _until: datetime, rule: str | None) -> tuple[Traced, ...]:
        self._refuse("traced")
        return () if rule and not self.steps else self.events

    def traces(self, event_id: str) -> tuple[Trace, ...]:
        return self.steps.get(event_id, ())

    def _refuse(self, what: str) -> None:
        if what in self.refusals:
            raise self.refusals[what]


def asked(
    apis: ScriptedApis,
    seen: Observed = SEEN,
    plan: Plan = PLAN,
    told: list[str] | None = None,
    lister: str | None = SWEEPER,
) -> Learnt:
    inquiry = Inquiry(
        apis,
        plan,
        rule=RULE,
        lister=lister,
        clock=apis.time.as_clock(),
        progress=(told if told is not None else []).append,
    )
    inquiry.run(seen)
    return inquiry.learnt


def fact(learnt: Learnt, beginning: str) -> Fact:
    (found,) = [each for each in inquiry_facts.facts(learnt) if each.question.startswith(beginning)]
    return found


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


# The record.


def test_a_record_that_is_there_is_found_at_the_first_look(time: FakeTime) -> None:
    """Nothing is waited for; how late it came is only known to be no later."""
    time.passed = 300.0
    learnt = asked(ScriptedApis(time))

    assert fact(learnt, "whether ActionTrail records CreateTableBucket").answer == (
        "yes, at most 300 s after the call"
    )
    assert learnt.reading is not None
    assert (learnt.reading.bucket, learnt.reading.service) == (ARN, "Oss")
    assert learnt.reading.places == ("responseElements",)
    assert time.slept == []


def test_the_window_reaches_beyond_a_clock_that_is_wrong(time: FakeTime) -> None:
    """It is asked from a quarter of an hour before the creation to the present."""
    time.passed = 60.0
    apis = ScriptedApis(time)
    asked(apis)

    name, since, until = apis.lookups[0]
    assert (name, (START - since).total_seconds(), (until - START).total_seconds()) == (
        *(CREATE, 900.0),
        60.0,
    )


def test_a_late_record_is_waited_for_and_told_of_each_minute(time: FakeTime) -> None:
    """It came between two looks; the person sees a line each minute, with what is left."""
    told: list[str] = []
    apis = ScriptedApis(time, shown_after=130)
    seen = replace(SEEN, decrypted=Said(200), decrypted_at=1010.0)
    learnt = asked(apis, seen, told=told)

    assert fact(learnt, "whether ActionTrail records CreateTableBucket").answer == (
        "yes, 120 to 140 s after the call"
    )
    assert fact(learnt, f"whether ActionTrail records {DELETE}").answer == (
        "yes, 110 to 130 s after the call"
    )
    assert [each.partition("at most ")[2][:5] for each in told] == ["910 s", "850 s", "790 s"]


def test_the_waiting_is_bounded(time: FakeTime) -> None:
    """After as long as was said it is given up, and what else is of the bucket is told."""
    apis = ScriptedApis(time, records=[{**DROPPED, "eventName": "PutBucketThing"}])
    learnt = asked(apis)

    assert 900 <= time.passed <= 920
    found = fact(learnt, "whether ActionTrail records CreateTableBucket")
    assert (found.answer, found.why_not) == (
        None,
        "ActionTrail showed no record of it within 900 s; it has PutBucketThing of the bucket",
    )
    assert learnt.why_not[PATTERN] == "there is neither an event nor a record to ask about"


def test_a_creation_under_another_name_is_found_by_its_request(time: FakeTime) -> None:
    """ActionTrail may call it otherwise: then it says how, and the pattern does not take it."""
    renamed = {**RECORD, "eventName": "CreateOssTableBucket"}
    learnt = asked(ScriptedApis(time, records=[renamed]), plan=IMPATIENT)

    assert fact(learnt, "whether ActionTrail records CreateTableBucket").answer == (
        'yes, but as "CreateOssTableBucket", at most 0 s after the call'
    )
    (check,) = inquiry_facts.checks(learnt)
    assert not check.well
    assert "acs.oss; oss:ActionTrail:ApiCall: NO" in check.seen


@pytest.mark.parametrize(
    "records",
    [
        [{**RECORD, "responseElements": {}, "requestId": "other"}],
        [
            {**RECORD, "responseElements": {}, "requestId": "other"},
            {**RECORD, "requestParameters": {"name": LONG_NAME}, "responseElements": {}},
        ],
        [
            {**RECORD, "responseElements": {}, "requestId": "other"},
            {**RECORD, "responseElements": {}, "errorCode": "InvalidName"},
        ],
    ],
)
def test_a_record_without_a_mark_is_ours_if_it_is_the_only_one(
    time: FakeTime, records: list[Record]
) -> None:
    """Nobody knows where a record has the bucket; the refused long name is not meant."""
    learnt = asked(ScriptedApis(time, records=records), replace(SEEN, request_id="another"))

    assert learnt.records[CREATE].record == records[0]


def test_two_records_without_a_mark_are_nobodys(time: FakeTime) -> None:
    """Where somebody else may have created one, none is taken for ours."""
    strange = {**RECORD, "responseElements": {}, "requestId": "other"}
    apis = ScriptedApis(time, records=[strange, strange])

    assert asked(apis, plan=IMPATIENT).records == {}


def test_a_refusal_is_not_waited_for(time: FakeTime) -> None:
    """Where asking again does not help, it is asked once, and all questions say why."""
    apis = ScriptedApis(time, refusals={"lookup": RIGHT})
    learnt = asked(apis, replace(SEEN, decrypted=Said(200), decrypted_at=1000.0))

    assert (len(apis.lookups), time.slept) == (1, [])
    assert {learnt.why_not[CREATE], learnt.why_not[DELETE]} == {"no right"}
    assert fact(learnt, "which places of the record").why_not == "no right"


def test_trouble_of_the_service_is_waited_out(time: FakeTime) -> None:
    """Where a later try may succeed, it is asked again as long as there is time."""
    apis = ScriptedApis(time, refusals={"lookup": THROTTLED})
    learnt = asked(apis)

    assert len(apis.lookups) == 46
    assert learnt.why_not[CREATE] == "throttled"


def listed(role: str) -> Record:
    """The record of a list by a function with this role."""
    identity = {"type": "assumed-role", "userName": f"{role}:session"}
    return {"eventName": LIST, "eventType": "ApiCall", "userIdentity": identity}


@pytest.mark.parametrize(
    ("known", "asked_for", "question", "why_not"),
    [
        ({}, {"lister": None}, LISTS, "the sweep function is not deployed here"),
        (
            *({"records": [listed(SWEEPER)]}, {"plan": IMPATIENT}),
            *(LISTS, "ActionTrail showed no record of the bucket either"),
        ),
        ({"refusals": {f"lookup {LIST}": THROTTLED}}, {}, LISTS, "throttled"),
        # Why there is no record was told by the looks before the last one.
        (
            *({"records": [], "refusals": {"lookup None": THROTTLED}}, {"plan": IMPATIENT}),
            "whether ActionTrail records CreateTableBucket",
            "ActionTrail showed no record of it within 0 s",
        ),
        ({"refusals": {"sources": RIGHT}}, {}, "whether EventBridge lists", "no right"),
        ({"refusals": {"takes": THROTTLED}}, {}, "whether EventBridge says", "throttled"),
        ({"refusals": {"traced": RIGHT}}, {}, STEPS_OF_IT, "no right"),
        ({}, {"seen": AS_IT_CAME}, STEPS_OF_IT, "EventBridge knows no step of the event"),
        # The true type may be among those that passed.
        (
            *({"events": TRACED}, {}, STEPS_OF_IT),
            "the rule guard-trigger matched no event meanwhile; types of OSS that passed the bus:"
            " oss:X:Y",
        ),
    ],
)
def test_what_nobody_could_see_is_not_settled(
    time: FakeTime,
    known: dict[str, Any],
    asked_for: dict[str, Any],
    question: str,
    why_not: str,
) -> None:
    """It says why, and is neither a yes nor a no."""
    found = fact(asked(ScriptedApis(time, **known), **asked_for), question)

    assert (found.answer, found.why_not) == (None, why_not)


@pytest.mark.parametrize(
    ("roles", "answer"),
    [
        ([], "no, 0 of the last 0 records of such a call name its role"),
        (["somebody"], "no, 0 of the last 1 records of such a call name its role"),
        (
            ["Guard-Sweep-cn-hangzhou", "somebody", SWEEPER],
            "yes, 2 of the last 3 records of such a call name its role",
        ),
    ],
)
def test_recorded_lists_of_the_sweep_are_counted(
    time: FakeTime, roles: list[str], answer: str
) -> None:
    """By the name of its role, in any casing; a person may list buckets too."""
    learnt = asked(ScriptedApis(time, records=[RECORD, *map(listed, roles)]))

    assert fact(learnt, f"whether ActionTrail records each {LIST}").answer == answer


def test_without_a_bucket_only_the_types_are_asked_for(time: FakeTime) -> None:
    """Nothing was created, so there is nothing to look for."""
    apis = ScriptedApis(time, listed=(Source("acs.oss", ("oss:TableBucketCreated:Create",)),))
    learnt = asked(apis, Observed(created=Said(403)))

    assert apis.lookups == []
    assert fact(learnt, "whether EventBridge lists").answer == (
        "acs.oss has 1, of table buckets oss:TableBucketCreated:Create, of ActionTrail none"
    )
    for question in ("whether ActionTrail records", "how late EventBridge"):
        assert all(
            each.why_not == inquiry_facts.NOT_ASKED
            for each in inquiry_facts.facts(learnt)
            if each.question.startswith(question)
        )


# The rule.


def test_a_delivered_event_is_judged_as_it_came(time: FakeTime) -> None:
    """No envelope of ours is asked about where there is the true one."""
    learnt = asked(ScriptedApis(time), AS_IT_CAME)

    assert learnt.takes == {AS_DELIVERED: True}
    (check,) = inquiry_facts.checks(learnt)
    assert (check.well, check.seen) == (True, "as it was delivered: yes")


def test_a_record_is_judged_in_each_envelope_that_it_may_get(time: FakeTime) -> None:
    """By the service's name in the record, and by both likely ones; a no to one is no failure."""
    record = {**RECORD, "serviceName": "Storage", "eventType": 7}
    learnt = asked(ScriptedApis(time, records=[record]))

    assert learnt.takes == {
        "acs.storage; storage:ActionTrail:ApiCall": False,
        "acs.oss; oss:ActionTrail:ApiCall": True,
        "acs.osstables; osstables:ActionTrail:ApiCall": True,
    }
    (check,) = inquiry_facts.checks(learnt)
    assert check.well
    assert "in an envelope as EventBridge's general rule has it" in check.seen


def test_without_a_judgement_nothing_is_checked(time: FakeTime) -> None:
    """What EventBridge does not judge is an open fact and no failure."""
    learnt = asked(ScriptedApis(time, refusals={"takes": THROTTLED}))

    assert inquiry_facts.checks(learnt) == []


# The steps on the bus.


def test_a_record_without_a_time_leaves_the_latency_open(time: FakeTime) -> None:
    """Nothing is made up where the record does not say when it was."""
    timeless = {key: value for key, value in RECORD.items() if key != "eventTime"}

    assert asked(ScriptedApis(time, records=[timeless])).called_at == {}


STRANGE = replace(PUT, action="Other"), replace(PUT, action="")


@pytest.mark.parametrize(
    ("seen", "event", "steps", "answer"),
    [
        # By the id of an event that was delivered.
        (
            *(AS_IT_CAME, Traced("1", "", ""), (PUT, FILTERED, PUSHED)),
            "acs.oss; oss:ActionTrail:ApiCall: on the bus 2.5 s after the call, pushed by"
            " guard-trigger 3.0 s after the call (NotifyStatus 200, NotifyLatency 17)",
        ),
        # Else those that the rule matched: whose they are nobody knows.
        (
            *(SEEN, Traced("9", "acs.oss", "t")),
            (PUT, FILTERED, replace(PUSHED, rule="x", notified="soon", status=""), *STRANGE),
            "acs.oss; t: on the bus at 03:04:07 UTC, matched by guard-trigger, pushed by x"
            " (NotifyStatus unknown, NotifyLatency 17), Other, a step without a name",
        ),
        # Unless one has the id of the record.
        (
            *(SEEN, Traced("1", "acs.oss", "t"), (PUT,)),
            "acs.oss; t: on the bus 2.5 s after the call",
        ),
    ],
)
def test_the_steps_of_an_event_are_told(
    time: FakeTime, seen: Observed, event: Traced, steps: tuple[Trace, ...], answer: str
) -> None:
    """How late it was on the bus and at its target, and with which status."""
    learnt = asked(ScriptedApis(time, events=(event,), steps={event.event_id: steps}), seen)

    assert fact(learnt, STEPS_OF_IT).answer == answer


# The requests.


class Scripted(FakeService):
    """Answers each action with what stands for it, one after the other."""

    def __init__(self, **answers: Sequence[object]) -> None:
        super().__init__()
        self._answers = {action: iter(each) for action, each in answers.items()}

    def resource(self, _request: httpx.Request) -> str:
        return ""

    def answer(self, request: httpx.Request) -> Reply:
        answer = next(self._answers[request.headers["x-acs-action"]])
        return answer if isinstance(answer, Reply) else Reply(200, json.dumps(answer).encode())


def apis_of(service: Scripted) -> EventApis:
    return EventApis(REGION, lambda: invocation_of(service), service.time.as_clock())


WINDOW = (START, datetime(2026, 1, 2, 4, tzinfo=timezone.utc))


def test_records_are_looked_up_page_by_page() -> None:
    """By name and window, with the token of each page, no more than two a second."""
    service = Scripted(
        LookupEvents=[
            {"Events": [RECORD, json.dumps(DROPPED), 7], "NextToken": "t"},
            {"Events": [RECORD], "NextToken": ""},
        ]
    )

    records = apis_of(service).lookup(CREATE, *WINDOW)

    first, second = service.requests
    assert records == [RECORD, DROPPED, RECORD]
    assert first.url.host == "actiontrail.cn-hangzhou.aliyuncs.com"
    assert first.headers["x-acs-version"] == "2020-07-06"
    assert dict(pair.split("=") for pair in unquote(first.url.query.decode()).split("&")) == {
        "LookupAttribute.1.Key": "EventName",
        "LookupAttribute.1.Value": CREATE,
        "StartTime": "2026-01-02T03:04:05Z",
        "EndTime": "2026-01-02T04:00:00Z",
        "MaxResults": "50",
    }
    assert b"NextToken=t" in second.url.query
    assert service.time.slept == [0.6, 0.6]


def test_pages_without_end_are_left() -> None:
    """A token that always comes again is followed five times."""
    service = Scripted(LookupEvents=[{"Events": [RECORD], "NextToken": "t"}] * 9)

    assert len(apis_of(service).lookup(None, *WINDOW)) == 5
    assert b"LookupAttribute" not in service.requests[0].url.query


@pytest.mark.parametrize("answer", [{"RequestId": "1"}, {"Events": None}, {"Events": "none"}])
def test_an_answer_without_events_is_none(answer: object) -> None:
    """What has no list of records does not say that there are none."""
    with pytest.raises(NotAnswered, match="has no Events in the documented form") as caught:
        apis_of(Scripted(LookupEvents=[answer])).lookup(None, *WINDOW)

    assert not caught.value.final


def test_the_sources_are_read_leniently() -> None:
    """A source without types, or without a name, is one all the same."""
    oss = {"FullName": "acs.oss", "EventTypes": [{"Name": "oss:A:B"}, {}]}
    service = Scripted(
        ListAliyunOfficialEventSources=[{"Data": {"EventSourceList": [oss, {"Name": "x"}, 7]}}]
    )

    sources = apis_of(service).sources()

    assert sources == (Source("acs.oss", ("oss:A:B", "")), Source("x", ()), Source("", ()))
    assert service.requests[0].url.host == "eventbridge-console.cn-hangzhou.aliyuncs.com"


@pytest.mark.parametrize(("result", "taken"), [(True, True), (False, False)])
def test_the_pattern_is_asked_about_in_a_form(result: bool, taken: bool) -> None:
    """Event and pattern go as JSON texts into a form."""
    service = Scripted(TestEventPattern=[{"Success": True, "Data": {"Result": result}}])

    assert apis_of(service).takes(DELIVERED, filter_pattern()) is taken
    form = dict(parse_qsl(service.requests[0].content.decode()))
    assert json.loads(form["Event"]) == DELIVERED
    assert json.loads(form["EventPattern"]) == filter_pattern()


@pytest.mark.parametrize("data", [None, {}, {"Result": "true"}])
def test_a_judgement_in_another_form_is_none(data: object) -> None:
    """What is neither true nor false is not taken for either."""
    with pytest.raises(NotAnswered, match="has no Result"):
        apis_of(Scripted(TestEventPattern=[{"Data": data}])).takes({}, {})


def test_traced_events_are_asked_for_in_milliseconds() -> None:
    """On the bus `default`, within the window, and of one rule where one is named."""
    row = {"EventId": "1", "EventSource": "acs.oss", "EventType": "t", "EventReceivedTime": 1}
    service = Scripted(QueryTracedEvents=[{"Data": {"Events": [row, {}]}}] * 2)

    events = apis_of(service).traced(*WINDOW, RULE)
    apis_of(service).traced(*WINDOW, None)

    first, second = (request.url.query.decode() for request in service.requests)
    assert events == (Traced("1", "acs.oss", "t"), Traced("", "", ""))
    assert first == (
        "EndTime=1767326400000&EventBusName=default&Limit=100&MatchedRule=guard-trigger"
        "&StartTime=1767323045000"
    )
    assert "MatchedRule" not in second


@pytest.mark.parametrize(
    ("reply", "final", "ending"),
    [
        (
            Reply(403, b'{"Code": "NoPermission"}'),
            True,
            "The key needs the right eventbridge:QueryEventTraces.",
        ),
        (
            Reply(400, b'{"Code": "Forbidden.RAM"}'),
            True,
            "The key needs the right eventbridge:QueryEventTraces.",
        ),
        (Reply(404, b'{"Code": "InvalidAction.NotFound"}'), True, "InvalidAction.NotFound."),
        (Reply(503, b"<html>"), False, "a later try may succeed."),
    ],
)
def test_a_refusal_names_the_right_that_is_missing(reply: Reply, final: bool, ending: str) -> None:
    """Denials say which RAM action the key needs; only trouble of the service may pass."""
    with pytest.raises(NotAnswered) as caught:
        apis_of(Scripted(QueryEventTraces=[reply] * 9)).traces("1")

    assert caught.value.final is final
    assert str(caught.value).endswith(ending)
