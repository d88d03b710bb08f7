"""What this settles of the facts that no documentation does; each open one says why it is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.live.deployment import trigger_config
from tests.live.expected import Expected
from tests.live.observations import (
    AES256,
    Check,
    Deployment,
    Encryption,
    Fact,
    Observed,
    Reading,
    Said,
    open_still,
    settled,
)

ASYNCHRONOUS = "whether asyncInvocationType: false means asynchronous"


def facts(seen: Observed, deployed: Deployment, wanted: Expected) -> list[Fact]:
    """What one bucket can tell of what the README lists as not known."""
    return [
        *_of_the_event(seen),
        _delivery(seen),
        _time_to_encrypt(seen),
        _body(seen),
        _drift(seen),
        *_of_function_compute(deployed, wanted),
        _unset(seen),
        *_hosts(seen),
        _spelling(seen),
        _decided(
            *("whether a name may be longer than 32 characters", seen.long_name),
            *("yes, with 40:", "no:"),
        ),
        _decided(
            *("whether a bucket takes KMS, or AES256 only", seen.kms),
            *("KMS without a key: taken,", "KMS without a key: refused,"),
        ),
        _codes(seen),
    ]


def checks(seen: Observed, bucket_arn: str, queue: str) -> list[Check]:
    """What has to be so of the bucket, its event and the dead-letter queue."""
    created = Check(
        "the bucket can be created",
        bool(seen.created and seen.created.done),
        str(seen.created or "not tried"),
    )
    after = seen.encrypted_after
    found = f"{AES256} after {after:.1f} s" if after is not None else f"not in {seen.waited:.0f} s"
    listed = [created, Check("the guard encrypts it", after is not None, found)]
    if seen.reading:
        listed.append(_named(seen.reading, bucket_arn))
        listed.append(
            Check(
                "the rule of template.yaml takes its event",
                seen.reading.taken_by_the_rule,
                f"source {seen.reading.source}, type {seen.reading.type}",
            )
        )
    return [*listed, _letters(seen, queue)]


def _named(reading: Reading, bucket_arn: str) -> Check:
    place = f"named by {reading.named_by}" if reading.named_by else "no place names it"
    others = [each for each in reading.places if each != reading.named_by]
    also = f", also in {', '.join(others)}" if others else ""
    return Check("the event names the bucket", reading.bucket == bucket_arn, f"{place}{also}")


def _letters(seen: Observed, queue: str) -> Check:
    what = f"the queue {queue} is there, with nothing about this bucket"
    letters = seen.letters
    if letters is None:
        return Check(what, False, "it was not looked at")
    if letters.trouble:
        return Check(what, False, letters.trouble)
    told = f"{letters.about_the_bucket} about it among the {letters.seen} in sight"
    return Check(what, not letters.about_the_bucket, told)


def _no_event(seen: Observed) -> str:
    if seen.deaf:
        return seen.deaf
    return (
        f"no event came within {seen.event_waited:.0f} s; ActionTrail and EventBridge have to be"
        " activated, and EventBridge needs the role AliyunServiceRoleForEventBridgeSendToMNS to"
        " reach a queue"
    )


def _of_the_event(seen: Observed) -> list[Fact]:
    questions = (
        "source and type of a CreateTableBucket event",
        "its serviceName and eventType",
        "which places of it name the bucket",
        "which fields it has, and as what",
        "the type of eventVersion and the form of its times",
        "whether the pattern of template.yaml takes it",
    )
    if seen.reading is None:
        return [open_still(question, _no_event(seen)) for question in questions]
    reading = seen.reading
    answers = (
        f"{reading.source}; {reading.type}",
        f"{reading.service}; {reading.event_type}",
        ", ".join(reading.places) or "none",
        "; ".join(f"{name}: {shape}" for name, shape in reading.shapes.items()),
        f"eventVersion: {reading.version}; "
        + "; ".join(f"{name}: {form}" for name, form in reading.times.items()),
        "yes" if reading.taken_by_the_rule else "NO: the guard hears of no bucket",
    )
    return [settled(*pair) for pair in zip(questions, answers, strict=True)]


def _delivery(seen: Observed) -> Fact:
    question = "whether ActionTrail delivers it at all, and how late"
    if seen.event_after is None:
        return open_still(question, _no_event(seen))
    late = f"{seen.event_after:.1f} s after the answer to the creation"
    return settled(question, f"yes, {late}, as seen in a queue")


def _time_to_encrypt(seen: Observed) -> Fact:
    question = "how long a new bucket is open to tables without encryption"
    if seen.encrypted_after is None:
        return open_still(question, f"it was not encrypted within {seen.waited:.0f} s")
    return settled(question, f"{seen.encrypted_after:.1f} s this time")


def _body(seen: Observed) -> Fact:
    question = "whether EventBridge encodes what it puts into a queue"
    if seen.body is None:
        return open_still(question, _no_event(seen))
    return settled(question, f"{seen.body}, with IsBase64Encode true")


def _drift(seen: Observed) -> Fact:
    question = "whether DeleteTableBucketEncryption is told, and taken as drift"
    if seen.decrypted is None:
        return open_still(question, "the bucket was never encrypted, or this was not reached")
    if not seen.decrypted.done:
        return open_still(question, f"the encryption could not be taken off: {seen.decrypted}")
    event, again = seen.drift_event_after, seen.drift_encrypted_after
    undone = "not encrypted again" if again is None else f"encrypted again after {again:.1f} s"
    if event is not None:
        return settled(question, f"told after {event:.1f} s, {undone}")
    why = seen.deaf or f"no event came within {seen.drift_waited:.0f} s"
    return open_still(question, f"{why}; {undone}")


def _of_function_compute(deployed: Deployment, wanted: Expected) -> list[Fact]:
    answers = [told.said for told in deployed.functions.values()]
    signature = "whether FC 3.0 takes the signature of the vendor's FC 2.0 client"
    # A 404 is the answer to one who was believed.
    believed = [said for said in answers if said.done or said.status == 404]
    if believed:
        signed = settled(signature, f"yes, {believed[0]} to a GET on a path of 2023-03-30")
    elif any(said.status is not None for said in answers):
        signed = settled(signature, f"no, or the key may not fc:GetFunction: {answers[0]}")
    else:
        signed = open_still(signature, str(answers[0]))
    return [signed, *_of_triggers(deployed), _on_failure(deployed, wanted)]


def _of_triggers(deployed: Deployment) -> list[Fact]:
    creatable = "whether Serverless Devs can create the trigger"
    found = []
    for told in deployed.triggers.values():
        if not told.said.done:
            found += [open_still(creatable, str(told.said)), open_still(ASYNCHRONOUS, _MEANS)]
            continue
        value = json.dumps(trigger_config(told).get("asyncInvocationType"))
        found.append(settled(creatable, "yes, it is there (if nobody made it in the console)"))
        found.append(open_still(ASYNCHRONOUS, f"{_MEANS}; the trigger says {value}"))
    return found


_MEANS = (
    "it shows only where a function fails: repeated after about a minute by Function Compute, with"
    " a record in the dead-letter queue, it was asynchronous; after 10 to 20 s, without one, it was"
    " EventBridge"
)


def _on_failure(deployed: Deployment, wanted: Expected) -> Fact:
    question = "whether onFailure takes the ARN of a queue with /messages"
    for key, told in deployed.async_configs.items():
        destination = json.dumps(dict(told.fields))
        if told.said.done and wanted.functions[key].on_failure in destination:
            return settled(question, "it was accepted; that it arrives is not tried here")
    said = next((str(told.said) for told in deployed.async_configs.values()), "not asked")
    return open_still(question, f"it is not there as the template has it: {said}")


def _unset(seen: Observed) -> Fact:
    question = "how a GET answers for a bucket without encryption"
    if answered := _first_unset(seen.first_get, seen.get_after_delete):
        return settled(question, answered)
    if seen.first_get is None:
        return open_still(question, "no bucket was created")
    if seen.first_get.algorithm:
        return open_still(question, "the guard was faster")
    return open_still(question, f"the answer was {seen.first_get.said}")


def _first_unset(*answers: Encryption | None) -> str | None:
    for answer in answers:
        if answer is None or answer.algorithm:
            continue
        if answer.said.done:
            return f"{answer.said}, without an algorithm"
        if answer.said.status == 404:
            return str(answer.said)
    return None


def _hosts(seen: Observed) -> list[Fact]:
    asked = (("{region}.oss-tables", seen.plain_host), ("{bucket}-{uid}.{region}.oss-tables",
             seen.virtual_host))  # fmt: skip
    return [
        _host(f"whether the host {host}.aliyuncs.com serves", said, seen) for host, said in asked
    ]


def _host(question: str, said: Said | None, seen: Observed) -> Fact:
    if said is None:
        return open_still(question, seen.one_host or "no bucket was created")
    if said.done:
        return settled(question, f"yes, {said}")
    return open_still(question, str(said)) if said.status is None else settled(question, str(said))


def _spelling(seen: Observed) -> Fact:
    question = "how the ARN spells the service"
    if not seen.arn:
        return open_still(question, f"creating the bucket was answered {seen.created}")
    return settled(question, seen.arn.split(":")[1])


def _decided(question: str, said: Said | None, taken: str, refused: str) -> Fact:
    """Trouble of the service, or a right that is missing, decides nothing."""
    if said is None or said.status is None or said.status >= 500 or said.status in (401, 403, 429):
        return open_still(question, "it was not tried" if said is None else str(said))
    return settled(question, f"{taken if said.done else refused} {said}")


def _codes(seen: Observed) -> Fact:
    question = "how the service names its errors"
    codes = _refusals(
        ("a bucket that is gone", seen.gone),
        ("a name too long", seen.long_name),
        ("KMS", seen.kms),
        ("an encryption never set", seen.first_get.said if seen.first_get else None),
        ("creation", seen.created),
    )
    return settled(question, "; ".join(codes)) if codes else open_still(question, "none came up")


def _refusals(*answers: tuple[str, Said | None]) -> Sequence[str]:
    return [
        f"{about}: {said}"
        for about, said in answers
        if said is not None and said.status is not None and not said.done
    ]
