"""What ActionTrail's and EventBridge's own answers settle; each open question says why it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

from tests.live.event_reading import CREATE, DELETE, LIST
from tests.live.inquiry import AS_DELIVERED, PATTERN, SOURCES, STEPS
from tests.live.observations import (
    Check,
    Fact,
    Found,
    Learnt,
    Source,
    Trace,
    Traced,
    open_still,
    settled,
)

# In digits: milliseconds of this millennium.
LONGEST_TIME = 14
# Nobody got so far: there was no bucket, or somebody ended it.
NOT_ASKED = "it was not asked: no bucket was created, or this was not reached"


def facts(learnt: Learnt) -> list[Fact]:
    """In the order in which an event comes to the guard."""
    return [
        _recorded(learnt, CREATE),
        *_record(learnt),
        _recorded(learnt, DELETE),
        _lists(learnt),
        _types(learnt),
        _taken(learnt),
        _steps(learnt),
    ]


def checks(learnt: Learnt) -> list[Check]:
    """EventBridge's own judgement of the rule, if it gave one.

    A record in an envelope of ours counts as taken in whichever spelling it is.
    """
    if not learnt.takes:
        return []
    what = "EventBridge itself says that the rule takes it"
    return [Check(what, any(learnt.takes.values()), _judgement(learnt))]


def _recorded(learnt: Learnt, name: str) -> Fact:
    question = f"whether ActionTrail records {name}, and from when on it can be looked up"
    found = learnt.records.get(name)
    if found is None:
        others = ", ".join(learnt.other_names) if name == CREATE else ""
        why = learnt.why_not.get(name, NOT_ASKED)
        return open_still(question, f"{why}; it has {others} of the bucket" if others else why)
    return settled(question, f"yes, {_called(found, name)}{_when(found)} after the call")


def _called(found: Found, name: str) -> str:
    recorded = found.record.get("eventName")
    return "" if recorded == name else f"but as {json.dumps(recorded)}, "


def _when(found: Found) -> str:
    at = f"{found.after:.0f} s"
    return f"at most {at}" if found.not_before is None else f"{found.not_before:.0f} to {at}"


def _record(learnt: Learnt) -> list[Fact]:
    """The same questions that a delivered event answers, of the record that it is made of."""
    questions = (
        "serviceName and eventType of its record",
        "which places of the record name the bucket",
        "which fields the record has, and as what",
    )
    reading = learnt.reading
    if reading is None:
        return [open_still(each, learnt.why_not.get(CREATE, NOT_ASKED)) for each in questions]
    shapes = "; ".join(f"{name}: {shape}" for name, shape in reading.shapes.items())
    answers = (
        f"{reading.service}; {reading.event_type}",
        ", ".join(reading.places) or "none",
        f"{', '.join(sorted(learnt.records[CREATE].record))}; {shapes}",
    )
    return [settled(*pair) for pair in zip(questions, answers, strict=True)]


def _lists(learnt: Learnt) -> Fact:
    question = f"whether ActionTrail records each {LIST} of the sweep function"
    if learnt.lists is None:
        return open_still(question, learnt.why_not.get(LIST, NOT_ASKED))
    shown, of_sweep = learnt.lists
    known = f"{of_sweep} of the last {shown} records of such a call name its role"
    return settled(question, f"yes, {known}" if of_sweep else f"no, {known}")


def _types(learnt: Learnt) -> Fact:
    question = "whether EventBridge lists types of events for table buckets"
    if learnt.sources is None:
        return open_still(question, learnt.why_not.get(SOURCES, NOT_ASKED))
    of_oss = [source for source in learnt.sources if "oss" in source.name.lower()]
    if not of_oss:
        return settled(question, f"no source of OSS is among its {len(learnt.sources)}")
    return settled(question, "; ".join(map(_types_of, of_oss)))


def _types_of(source: Source) -> str:
    of_tables = [each for each in source.types if "table" in each.lower()]
    trail = [each for each in source.types if ":actiontrail:" in each.lower()]
    return (
        f"{source.name} has {len(source.types)}, of table buckets {_listed(of_tables)}, of"
        f" ActionTrail {_listed(trail)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _taken(learnt: Learnt) -> Fact:
    question = "whether EventBridge says that the pattern of template.yaml takes it"
    if not learnt.takes:
        return open_still(question, learnt.why_not.get(PATTERN, NOT_ASKED))
    return settled(question, _judgement(learnt))


def _judgement(learnt: Learnt) -> str:
    told = "; ".join(f"{how}: {'yes' if taken else 'NO'}" for how, taken in learnt.takes.items())
    if AS_DELIVERED in learnt.takes:
        return told
    return f"{told} (the record, in an envelope as EventBridge's general rule has it)"


def _steps(learnt: Learnt) -> Fact:
    question = "how late EventBridge had the event, and what became of its delivery"
    if not any(learnt.steps.values()):
        why = "EventBridge knows no step of the event" if learnt.steps else NOT_ASKED
        return open_still(question, learnt.why_not.get(STEPS, why))
    told = [_story(learnt, event, steps) for event, steps in learnt.steps.items() if steps]
    return settled(question, " | ".join(told))


def _story(learnt: Learnt, event: Traced, steps: Sequence[Trace]) -> str:
    # What was pushed has been matched.
    pushed = {step.rule for step in steps if step.action == "PushEvent"}
    shown = [each for each in steps if each.action != "FilterEvent" or each.rule not in pushed]
    called_at = learnt.called_at.get(event.event_id)
    told = ", ".join(_step(each, called_at) for each in shown)
    return f"{event.source}; {event.type}: {told}"


def _step(step: Trace, called_at: datetime | None) -> str:
    match step.action:
        case "PutEvent":
            return f"on the bus{_when_it_was(step.received, called_at)}"
        case "FilterEvent":
            return f"matched by {step.rule}"
        case "PushEvent":
            return (
                f"pushed by {step.rule}{_when_it_was(step.notified, called_at)} (NotifyStatus"
                f" {step.status or 'unknown'}, NotifyLatency {step.latency or 'unknown'})"
            )
        case other:
            return other or "a step without a name"


def _when_it_was(milliseconds: str, called_at: datetime | None) -> str:
    """How long after the call, whose time has no fractions; of an unknown event its time."""
    if not milliseconds.isdecimal() or len(milliseconds) > LONGEST_TIME:
        return ""
    seconds = int(milliseconds) / 1000
    if called_at:
        return f" {seconds - called_at.timestamp():.1f} s after the call"
    return f" at {datetime.fromtimestamp(seconds, timezone.utc):%H:%M:%S} UTC"
