"""What `make verify-live` decides: what is scrubbed, what is settled, and what is well."""

from __future__ import annotations

import json
import signal
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from encryption_guard.invocation import Clock
from encryption_guard.services.smq import SmqMessage
from layers.encryption_guard.tools.preflight import ALIAS
from tests.emulators.cloud import filter_pattern
from tests.live import facts
from tests.live.capture import (
    PATTERN,
    Begin,
    Commands,
    Deaf,
    LeftOver,
    Names,
    stack,
    temporary_stack,
)
from tests.live.deployment import anything_there, checks
from tests.live.event_reading import decoded, heard, read
from tests.live.expected import expected
from tests.live.experiment import Doors, Experiment, Plan
from tests.live.interruption import interruptible
from tests.live.observations import (
    Check,
    Deployment,
    Encryption,
    Fact,
    Heard,
    Letters,
    Observed,
    Said,
    Told,
)
from tests.live.scrub import MADE_UP_ACCOUNT, Scrubbed, scrubbed
from tests.live.verify import ACCOUNT as ACCOUNT_VARIABLE
from tests.live.verify import KEY_ID, SECRET, Asked, _capture_by_stack, plan_for

ACCOUNT = "5558887776665554"
REGION = "cn-hangzhou"
BUCKET = "guard-verify-1badcafe"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{BUCKET}"
SCRUBBED_ARN = f"acs:osstables:{REGION}:{MADE_UP_ACCOUNT}:bucket/guard-verify-a0000001"
WANTED = expected(region=REGION, account=ACCOUNT)
MESSAGE = SmqMessage("1", "body", 0, 0, None)


def scrub(event: dict[str, Any]) -> Scrubbed:
    return scrubbed(json.dumps(event).encode(), account=ACCOUNT, bucket=BUCKET, region=REGION)


def scrubbed_event(event: dict[str, Any]) -> Any:
    return json.loads(scrub(event).text)


# Scrubbing.


def test_what_is_the_same_stays_the_same() -> None:
    """An id that stands in several fields has one made-up value, and fields keep agreeing."""
    request = "6110E64B004C4034363CDC5E"
    user = "213334445556667778"
    event = scrubbed_event(
        {
            "id": "45ef4de0-7c35-447a-bd93-fab012345678",
            "subject": ARN,
            "data": {
                "eventId": request,
                "requestId": request,
                "eventSource": f"{BUCKET}-{ACCOUNT}.{REGION}.oss-tables.aliyuncs.com",
                "userIdentity": {"userName": "alice", "principalId": user},
                "requestParameters": {"who": f"acs:ram::{ACCOUNT}:user/alice", "uid": int(user)},
            },
        }
    )

    assert event == {
        "id": "a0000000-0000-4000-8000-000000000001",
        "subject": SCRUBBED_ARN,
        "data": {
            "eventId": "A00000000000000000000002",
            "requestId": "A00000000000000000000002",
            "eventSource": (
                f"guard-verify-a0000001-{MADE_UP_ACCOUNT}.{REGION}.oss-tables.aliyuncs.com"
            ),
            "userIdentity": {"userName": "user-1", "principalId": "100000000000000003"},
            "requestParameters": {
                "who": f"acs:ram::{MADE_UP_ACCOUNT}:user/user-1",
                "uid": 100000000000000003,
            },
        },
    }


def test_what_says_nothing_of_anybody_stays() -> None:
    """Names of services and events, regions, times, booleans and small numbers stay."""
    event = {
        "source": "acs.oss",
        "type": "oss:ActionTrail:ApiCall",
        "datacontenttype": "application/json;charset=utf-8",
        "time": "2026-11-22T20:00:00+08:00",
        "aliyunpublishtime": "2026-11-22T20:00:00.412PRC",
        "timestamp": 1660120276975,
        "data": {
            "eventVersion": 1,
            "eventName": "DeleteTableBucketEncryption",
            "serviceName": "Oss",
            "eventSource": "cn-hangzhou.oss-tables.aliyuncs.com",
            "sourceIpAddress": "Internal",
            "isGlobal": False,
            "userIdentity": {"type": "root-account", "userName": "root"},
            "referencedResources": {"ACS::OSS::TableBucket": []},
            "additionalEventData": {"CallerBid": "26842", "isMFAToken": "false", "ratio": 0.5},
            "eventTime": "2026-11-22T12:00:00Z",
            "acsRegion": "cn-hangzhou",
            "apiVersion": None,
        },
    }

    assert scrub(event) == Scrubbed(json.dumps(event, indent=2) + "\n", ())


@pytest.mark.parametrize(
    ("original", "expected_value"),
    [
        ("LTAI5tNotARealKey0123456", "LTAIXXXXXXXXXXXXXXXXXXX1"),
        ("STS.NUnotReal0123456789", "STS.XXXXXXXXXXXXXXXXXX1"),
        ("bob@corp.example", "someone-1@example.com"),
        ("203.0.113.77", "192.0.2.1"),
        ("2001:db8:85a3::8a2e:370:7334", "2001:db8::1"),
        ("0123456789abcdef0123456789abcdef", "a0000000000000000000000000000002"),
        ("987654321", "100000001"),
        ("bid12345678", "bid10000001"),
        ("n12345678x", "n10000001x"),
        ("run1badcafez", "runa0000001z"),
        ("vpc-bp1aevy8sofi8mh1q5abc", "vpc-X00000000000000000001"),
        ("https://h/?Signature=abc%2B&x=1", "https://h/?Signature=removed-1&x=1"),
        ("QWxhZGRpbjpvcGVuIHNlc2FtZQ12==", "X00000000000000000000000000001"),
    ],
)
def test_what_looks_like_an_identifier_is_replaced(original: str, expected_value: str) -> None:
    """Also under a field that nobody knows, each by a made-up value of its own form."""
    assert scrubbed_event({"note": original}) == {"note": expected_value}


def test_the_texts_of_json_are_looked_into() -> None:
    """A field that is the JSON text of an object is scrubbed as that object, and stays a text."""
    inner = {"name": BUCKET, "userName": "alice", "accessKeyId": "LTAI5tNotARealKey0123456"}

    event = scrubbed_event({"data": {"requestParameterJson": json.dumps(inner)}})

    assert json.loads(event["data"]["requestParameterJson"]) == {
        "name": "guard-verify-a0000001",
        "userName": "user-1",
        "accessKeyId": "LTAIXXXXXXXXXXXXXXXXXXX1",
    }


def test_a_session_is_known_by_its_parts() -> None:
    """An assumed role's principal, role id and session, agrees with the names elsewhere."""
    event = scrubbed_event(
        {
            "principalId": "312345678901234567:carol-laptop",
            "arn": f"acs:ram::{ACCOUNT}:assumed-role/admins/carol-laptop",
        }
    )

    assert event == {
        "principalId": "100000000000000001:made-up-2",
        "arn": f"acs:ram::{MADE_UP_ACCOUNT}:assumed-role/admins/made-up-2",
    }


@pytest.mark.parametrize("name", ["securityToken", "x-oss-signature", "Authorization", "password"])
def test_a_secret_goes_whatever_it_looks_like(name: str) -> None:
    """The value of a field that is called after a secret is removed, however plain it is."""
    assert scrubbed_event({name: "hunter"}) == {name: "removed-1"}


def test_it_tells_which_fields_it_replaced() -> None:
    """Each field once, by its path; items of a list together."""
    replaced = scrub(
        {"data": {"arn": ARN, "names": [BUCKET, BUCKET], "eventName": "CreateTableBucket"}}
    ).replaced

    assert replaced == ("data.arn", "data.names[]")


@pytest.mark.parametrize("event", [b"not json", b"[]", b"\xff"])
def test_what_is_no_event_is_not_scrubbed(event: bytes) -> None:
    """Nothing is saved of what cannot be read."""
    with pytest.raises(ValueError, match=r"Expecting|no JSON object|decode"):
        scrubbed(event, account=ACCOUNT, bucket=BUCKET, region=REGION)


# None that a made-up one could be.
digits = st.text("0123456789", min_size=15, max_size=18).filter(
    lambda text: text[0] != "0" and not text.startswith("10000")
)
letters = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=16)
around = st.text(max_size=12)
FIELDS = ["userName", "id", "arn", "time", "eventName", "type", "x", "names"]


@st.composite
def events(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """An event with an account, a user's number and a key in it, and these three."""
    hidden = [draw(digits), draw(digits), "LTAI" + draw(letters)]
    number = st.sampled_from(hidden[:2]).map(int)
    text = st.tuples(around, st.sampled_from(hidden), around).map("".join)
    leaf = st.one_of(text, number, st.booleans(), st.none(), around)
    name = st.sampled_from(FIELDS)
    value = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(name | text, inner, max_size=3),
            st.dictionaries(name, inner, max_size=3).map(json.dumps),
        ),
        max_leaves=6,
    )
    return draw(st.dictionaries(name, value, min_size=1, max_size=4)), hidden


def shape(value: Any) -> Any:
    """How it is nested: a key stands for itself unless it could hold a name, a leaf for nothing."""
    if isinstance(value, dict):
        return [(key if key in FIELDS else "", shape(item)) for key, item in value.items()]
    return [shape(item) for item in value] if isinstance(value, list) else None


@given(events())
def test_no_number_and_no_key_survives_in_the_same_shape(
    made: tuple[dict[str, Any], list[str]],
) -> None:
    """Wherever an account, a user's number or a key stands, it is not in the scrubbed event.

    Objects, lists and fields are nested as before.
    """
    event, (account, uid, key) = made
    assume(MADE_UP_ACCOUNT not in (account, uid))

    text = scrubbed(json.dumps(event).encode(), account=account, bucket=BUCKET, region=REGION).text

    assert not any(hidden in text for hidden in (account, uid, key))
    assert shape(json.loads(text)) == shape(event)


# Reading an event.


def event_of(name: str, **record: Any) -> bytes:
    return json.dumps(
        {
            "id": "1",
            "source": "acs.oss",
            "type": "oss:ActionTrail:ApiCall",
            "time": "2026-11-22T20:00:00+08:00",
            "data": {"eventName": name, "eventVersion": "1", "serviceName": "Oss", **record},
        }
    ).encode()


def test_the_guards_own_parser_says_which_place_names_the_bucket() -> None:
    """All places that are filled are told, the one that counts, and how things are spelt."""
    event = event_of(
        "CreateTableBucket",
        responseElements=json.dumps({"arn": ARN}),
        referencedResources={"ACS::OSS::TableBucket": [BUCKET]},
    )

    reading = read(event, filter_pattern())

    assert (reading.named_by, reading.bucket) == ("responseElements", ARN)
    assert reading.places == ("responseElements", "referencedResources")
    assert reading.taken_by_the_rule
    assert (reading.source, reading.type) == ("acs.oss", "oss:ActionTrail:ApiCall")
    assert (reading.service, reading.event_type, reading.version) == ("Oss", "absent", "str")
    assert reading.times == {"time": "9999-99-99T99:99:99+99:99"}
    assert reading.shapes["responseElements"] == "a JSON text"
    assert reading.shapes["requestParameters"] == "absent"
    assert reading.shapes["data"] == "an object"


@pytest.mark.parametrize("event", [b"{}", b"nothing", event_of("CreateTableBucket")])
def test_an_event_that_names_nothing_is_read_all_the_same(event: bytes) -> None:
    """What nobody expected is a reading with nothing in it, not an error."""
    reading = read(event, filter_pattern())

    assert (reading.named_by, reading.bucket, reading.places) == ("", "", ())


@pytest.mark.parametrize(
    ("body", "coding"),
    [(b64encode(event_of("X")).decode(), "base64"), (event_of("X").decode(), "raw")],
)
def test_a_body_is_base64_or_raw(body: str, coding: str) -> None:
    """Both are read, and which it was is told."""
    assert decoded(body) == (event_of("X"), coding)


def test_the_event_is_found_among_others() -> None:
    """By the bucket's name or the request's id; a single one of that name needs neither."""
    other = Heard(event_of("CreateTableBucket", x="another").decode(), 1.0)
    ours = Heard(event_of("CreateTableBucket", x=BUCKET).decode(), 2.0)
    by_request = Heard(event_of("CreateTableBucket", requestId="request-1").decode(), 3.0)
    deletion = Heard(event_of("DeleteTableBucketEncryption", x=BUCKET).decode(), 4.0)
    marks = (BUCKET, "request-1")

    assert heard([other, deletion, ours], "CreateTableBucket", marks) == ours
    assert heard([other, by_request], "CreateTableBucket", marks) == by_request
    assert heard([other, deletion], "CreateTableBucket", marks) == other
    assert heard([other, other], "CreateTableBucket", marks) is None
    assert heard([deletion], "CreateTableBucket", marks) is None


# What template.yaml says.


def test_the_template_is_resolved_for_a_region() -> None:
    """Names, roles and destinations are those of the region and account, whatever the default."""
    wanted = expected(region="cn-beijing", account=ACCOUNT)
    creation = wanted.functions["encrypt_on_create"]
    queue = "oss-tables-encryption-guard-dead-letters"

    assert wanted.queue == queue
    assert creation.name == "oss-tables-encrypt-on-create"
    assert creation.role == f"acs:ram::{ACCOUNT}:role/oss-tables-encryption-guard-cn-beijing"
    assert creation.on_failure == f"acs:mns:cn-beijing:{ACCOUNT}:/queues/{queue}/messages"
    assert (creation.trigger, creation.pattern) == ("table-bucket-events", filter_pattern())
    assert wanted.functions["sweep"].trigger is None


# The deployment.


def as_deployed() -> Deployment:
    ok = Said(200)
    functions = WANTED.functions
    config = {
        "triggerEnable": True,
        "asyncInvocationType": False,
        "eventRuleFilterPattern": json.dumps(functions["encrypt_on_create"].pattern),
    }
    return Deployment(
        functions={key: Told(ok, {"role": each.role}) for key, each in functions.items()},
        invocations={
            key: Told(ok, {"outcome": "skipped", "reason": "not_relevant"}) for key in functions
        },
        triggers={"encrypt_on_create": Told(ok, {"triggerConfig": json.dumps(config)})},
        async_configs={
            key: Told(ok, {"destinationConfig": {"onFailure": {"destination": each.on_failure}}})
            for key, each in functions.items()
        },
    )


def test_a_deployment_like_the_template_is_well() -> None:
    """Role, start, failure destination, trigger and pattern: eight checks, all well."""
    found = checks(as_deployed(), WANTED)

    assert [check.well for check in found] == [True] * 8
    assert anything_there(as_deployed())


GONE = Told(Said(404, "FunctionNotFound"))


@pytest.mark.parametrize(
    ("part", "told", "seen"),
    [
        ("functions", Told(Said(200), {"role": "acs:ram::1:role/admin"}), "admin"),
        ("functions", GONE, "404 FunctionNotFound"),
        (
            "invocations",
            Told(Said(200, "UnhandledInvocationError")),
            "200 UnhandledInvocationError",
        ),
        (
            "invocations",
            Told(Said(200), {"outcome": "dead_lettered", "reason": "invalid_event"}),
            "dead_lettered: invalid_event",
        ),
        ("triggers", Told(Said(404, "TriggerNotFound")), "404 TriggerNotFound"),
        ("triggers", Told(Said(200), {"triggerConfig": '{"triggerEnable": false}'}), "false"),
        ("triggers", Told(Said(200), {"triggerConfig": {"triggerEnable": True}}), "another one"),
        ("async_configs", Told(Said(404, "AsyncConfigNotExists")), "404 AsyncConfigNotExists"),
        ("async_configs", Told(Said(None, "ConnectError")), "no answer (ConnectError)"),
    ],
)
def test_whatever_is_not_as_deployed_is_told(part: str, told: Told, seen: str) -> None:
    """Each deviation fails a check, which shows what was seen instead."""
    deployed = as_deployed()
    changed = {**getattr(deployed, part), "encrypt_on_create": told}

    found = checks(replace(deployed, **{part: changed}), WANTED)

    assert any(not check.well and seen in check.seen for check in found)


def test_a_deployment_of_nothing_is_known_as_one() -> None:
    """Where no function exists there is nobody to wait for; a refusal is not that."""
    nothing = replace(as_deployed(), functions={"sweep": GONE, "encrypt_on_create": GONE})
    refused = replace(as_deployed(), functions={"sweep": GONE, "x": Told(Said(403, "Denied"))})

    assert not anything_there(nothing)
    assert anything_there(refused)


# What is settled.


READING = read(event_of("CreateTableBucket", responseElements={"arn": ARN}), filter_pattern())
SEEN = Observed(
    created=Said(200),
    arn=ARN,
    first_get=Encryption(Said(200)),
    encrypted_after=3.5,
    deaf="",
    reading=READING,
    event_after=2.5,
    body="base64",
    plain_host=Said(200),
    virtual_host=Said(200),
    decrypted=Said(204),
    get_after_delete=Encryption(Said(200)),
    drift_event_after=4.0,
    drift_encrypted_after=5.0,
    kms=Said(400, "BadRequestException"),
    long_name=Said(400, "ValidationException"),
    gone=Said(404, "NotFoundException"),
    letters=Letters(seen=2),
)


def fact(seen: Observed, beginning: str, deployed: Deployment | None = None) -> Fact:
    """The one fact whose question has this in it."""
    known = facts.facts(seen, deployed or as_deployed(), WANTED)
    (found,) = [each for each in known if beginning in each.question]
    return found


def test_a_run_that_saw_everything_leaves_one_question() -> None:
    """Only what asyncInvocationType means cannot be seen from outside."""
    known = facts.facts(SEEN, as_deployed(), WANTED)

    assert [each.question for each in known if each.answer is None] == [facts.ASYNCHRONOUS]


def test_a_run_that_saw_nothing_settles_nothing() -> None:
    """Every fact says why it is open, and nothing is made up."""
    lost = Told(Said(None, "ConnectError"))
    nothing = Deployment({"sweep": lost}, {"sweep": lost}, {"sweep": lost}, {"sweep": lost})

    known = facts.facts(Observed(), nothing, WANTED)

    assert [each for each in known if each.answer is not None or not each.why_not] == []


@pytest.mark.parametrize(
    ("seen", "question", "answer"),
    [
        (SEEN, "source and type", "acs.oss; oss:ActionTrail:ApiCall"),
        (SEEN, "which places", "responseElements"),
        (SEEN, "how late", "yes, 2.5 s after the answer to the creation, as seen in a queue"),
        (SEEN, "open to tables", "3.5 s this time"),
        (SEEN, "into a queue", "base64, with IsBase64Encode true"),
        (SEEN, "taken as drift", "told after 4.0 s, encrypted again after 5.0 s"),
        (SEEN, "FC 3.0 takes", "yes, 200 to a GET on a path of 2023-03-30"),
        (SEEN, "how a GET answers", "200, without an algorithm"),
        (
            replace(SEEN, first_get=Encryption(Said(404, "NoSuchEncryption"))),
            "how a GET answers",
            "404 NoSuchEncryption",
        ),
        (
            replace(SEEN, first_get=Encryption(Said(200), "AES256")),
            "how a GET answers",
            "200, without an algorithm",
        ),
        (SEEN, "{bucket}-{uid}", "yes, 200"),
        (replace(SEEN, virtual_host=Said(400, "Bad")), "{bucket}-{uid}", "400 Bad"),
        (SEEN, "spells the service", "osstables"),
        (SEEN, "longer than 32", "no: 400 ValidationException"),
        (replace(SEEN, long_name=Said(200)), "longer than 32", "yes, with 40: 200"),
        (SEEN, "takes KMS", "KMS without a key: refused, 400 BadRequestException"),
        (replace(SEEN, kms=Said(200)), "takes KMS", "KMS without a key: taken, 200"),
        (
            SEEN,
            "names its errors",
            "a bucket that is gone: 404 NotFoundException; a name too long: 400"
            " ValidationException; KMS: 400 BadRequestException",
        ),
    ],
)
def test_what_was_seen_settles_a_fact(seen: Observed, question: str, answer: str) -> None:
    """A clear observation becomes the answer."""
    assert fact(seen, question).answer == answer


@pytest.mark.parametrize(
    ("seen", "question", "why_not"),
    [
        (replace(SEEN, reading=None, deaf="no rule"), "source and type", "no rule"),
        (replace(SEEN, event_after=None, event_waited=180.0), "how late", "within 180 s"),
        (replace(SEEN, encrypted_after=None, waited=60.0), "open to tables", "within 60 s"),
        (replace(SEEN, decrypted=None), "taken as drift", "never encrypted"),
        (replace(SEEN, decrypted=Said(403, "Denied")), "taken as drift", "403 Denied"),
        (
            replace(SEEN, drift_event_after=None, drift_encrypted_after=None, drift_waited=9.0),
            "taken as drift",
            "no event came within 9 s; not encrypted again",
        ),
        (
            replace(SEEN, first_get=Encryption(Said(200), "AES256"), get_after_delete=None),
            "how a GET answers",
            "the guard was faster",
        ),
        (
            replace(SEEN, first_get=Encryption(Said(403, "Denied")), get_after_delete=None),
            "how a GET answers",
            "403 Denied",
        ),
        (replace(SEEN, plain_host=None, one_host="one"), "host {region}", "one"),
        (replace(SEEN, virtual_host=Said(None, "Unavailable")), "{bucket}-{uid}", "no answer"),
        (replace(SEEN, kms=Said(403, "AccessDenied")), "takes KMS", "403 AccessDenied"),
        (replace(SEEN, long_name=Said(503)), "longer than 32", "503"),
    ],
)
def test_what_was_not_seen_leaves_a_fact_open(seen: Observed, question: str, why_not: str) -> None:
    """Without a clear observation there is no answer, but the reason why."""
    found = fact(seen, question)

    assert found.answer is None
    assert why_not in found.why_not


def test_a_refusal_does_not_tell_a_signature_from_a_right() -> None:
    """A 403 may be either, and is told as such; a 404 is the answer to one who was believed."""
    denied = replace(as_deployed(), functions={"sweep": Told(Said(403, "AccessDenied"))})
    gone = replace(as_deployed(), functions={"sweep": GONE})

    assert fact(SEEN, "FC 3.0 takes", denied).answer == (
        "no, or the key may not fc:GetFunction: 403 AccessDenied"
    )
    assert (fact(SEEN, "FC 3.0 takes", gone).answer or "").startswith("yes, 404")


def test_the_checks_of_a_run_that_went_well() -> None:
    """Created, encrypted, named, taken by the rule, and no letter about it."""
    assert facts.checks(SEEN, ARN, "letters") == [
        Check("the bucket can be created", True, "200"),
        Check("the guard encrypts it", True, "AES256 after 3.5 s"),
        Check("the event names the bucket", True, "named by responseElements"),
        Check(
            "the rule of template.yaml takes its event",
            True,
            "source acs.oss, type oss:ActionTrail:ApiCall",
        ),
        Check(
            "the queue letters is there, with nothing about this bucket",
            True,
            "0 about it among the 2 in sight",
        ),
    ]


@pytest.mark.parametrize(
    "seen",
    [
        Observed(created=Said(403, "AccessDenied"), letters=Letters()),
        replace(SEEN, encrypted_after=None),
        replace(SEEN, reading=replace(READING, bucket="", named_by="")),
        replace(SEEN, reading=replace(READING, bucket=f"{ARN}x")),
        replace(SEEN, reading=replace(READING, taken_by_the_rule=False)),
        replace(SEEN, letters=Letters(seen=1, about_the_bucket=1)),
        replace(SEEN, letters=Letters(trouble="The queue answered 404 QueueNotExist.")),
        replace(SEEN, letters=None),
    ],
)
def test_one_thing_amiss_fails_a_check(seen: Observed) -> None:
    """Whatever is not as it has to be is not passed over."""
    assert not all(check.well for check in facts.checks(seen, ARN, "letters"))


# The temporary rule and queue.


NAMES = Names(BUCKET, REGION, ACCOUNT)


def test_the_stack_is_a_rule_into_a_queue() -> None:
    """The rule takes both events, however they are spelled, and hands each on as it came."""
    resources = stack(NAMES)["resources"]["capture"]["props"]["template"]["Resources"]
    rule = resources["Rule"]["Properties"]
    (target,) = rule["Targets"]

    assert resources["Queue"]["Properties"]["QueueName"] == BUCKET
    assert (rule["EventBusName"], rule["FilterPattern"]) == ("default", PATTERN)
    assert target["Type"] == "acs.mns.queue"
    assert target["Endpoint"] == f"acs:mns:{REGION}:{ACCOUNT}:queues/{BUCKET}"
    assert target["ParamList"] == [
        {"ResourceKey": "queue", "Form": "CONSTANT", "Value": BUCKET},
        {"ResourceKey": "Body", "Form": "ORIGINAL", "Value": ""},
        {"ResourceKey": "IsBase64Encode", "Form": "CONSTANT", "Value": "true"},
    ]


def commands(folder: Path, program: str) -> Commands:
    """An `s` that writes down how it was called, and then does what the program says."""
    script = folder / "s.py"
    written = f"import sys; open({str(folder / 'calls')!r}, 'a').write(sys.argv[1] + '\\n')\n"
    script.write_text(written + program, "utf-8")
    environment = {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "a-secret-of-some-length"}
    return Commands(environment, (), folder / "live" / "s.yaml", (sys.executable, str(script)))


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text("utf-8").split()


def test_the_stack_lasts_as_long_as_it_is_needed(tmp_path: Path) -> None:
    """It is deployed when it is begun, waited for, listened to, and removed when it is left."""
    slept: list[float] = []
    with temporary_stack(NAMES, commands(tmp_path, ""), lambda: [MESSAGE], slept.append) as begin:
        assert begin()() == [MESSAGE]
        assert calls(tmp_path) == ["deploy"]

    assert calls(tmp_path) == ["deploy", "remove"]
    assert slept == [10.0]
    assert json.loads((tmp_path / "live" / "s.yaml").read_text("utf-8")) == stack(NAMES)


def test_a_stack_that_cannot_be_made_is_removed_and_told_without_secrets(tmp_path: Path) -> None:
    """Half a stack is removed too; the one line of why holds no secret that `s` printed."""
    fails = (
        "if sys.argv[1] == 'deploy':\n"
        "    print('AccessDenied for a-secret-of-some-length'); sys.exit(101)"
    )
    capture = temporary_stack(NAMES, commands(tmp_path, fails), list, lambda _: None)
    with capture as begin, pytest.raises(Deaf) as caught:
        begin()

    assert calls(tmp_path) == ["deploy", "remove"]
    assert "ended with 101: AccessDenied for ****" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stack_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    """The removal is tried again; what is left over is named with the command that removes it."""
    fails = "sys.exit(sys.argv[1] == 'remove')"
    capture = temporary_stack(NAMES, commands(tmp_path, fails), list, lambda _: None)
    with pytest.raises(LeftOver) as caught, capture as begin:
        begin()

    assert calls(tmp_path) == ["deploy", "remove", "remove", "remove"]
    assert f"the ROS stack {BUCKET} in {REGION}" in str(caught.value)
    assert "s.yaml -y" in str(caught.value)


def test_a_stack_that_was_never_begun_is_not_removed(tmp_path: Path) -> None:
    """Nothing is asked of `s` where nothing was made."""
    with temporary_stack(NAMES, commands(tmp_path, ""), list, lambda _: None):
        pass

    assert not (tmp_path / "calls").exists()


def test_without_serverless_devs_it_says_how_to_get_it(tmp_path: Path) -> None:
    """A command that is not there is a reason to go on without the event, not to stop."""
    missing = replace(commands(tmp_path, ""), command=(str(tmp_path / "nothing"),))

    assert missing.run("deploy") == (
        "`s` does not run (No such file or directory); `make serverless-devs` installs it"
    )


def test_another_key_of_the_shell_does_not_reach_serverless_devs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`s` gets the key that was asked for, and none of the variables that it would prefer."""
    command = tmp_path / "node_modules" / ".bin" / "s"
    command.parent.mkdir(parents=True)
    command.write_text(
        f"#!{sys.executable}\nimport json, os\njson.dump(dict(os.environ), open('told', 'w'))\n"
    )
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    asked_for = {KEY_ID: "LTAI-mine", SECRET: "mine", ACCOUNT_VARIABLE: ACCOUNT}
    others = {"AccountID": "99999", "AccessKeyID": "LTAI-other", "AccessKeySecret": "other"}
    plan = plan_for(Asked(REGION), ACCOUNT)

    make = _capture_by_stack(
        {**asked_for, **others, "HOME": "/home/me"}, Clock(sleep=lambda _: None), tmp_path / "live"
    )
    with make(plan, lambda _queue: [])() as begin:
        begin()

    told = json.loads((tmp_path / "told").read_text("utf-8"))
    assert told.keys().isdisjoint(others)
    assert told["HOME"] == "/home/me"
    assert json.loads(told[ALIAS]) == {
        "AccountID": ACCOUNT,
        "AccessKeyID": "LTAI-mine",
        "AccessKeySecret": "mine",
    }


# What is deleted.


@dataclass
class OwnedTables:
    """Table buckets that a script answers for: creation and deletion, each with what is next."""

    creations: list[Said]
    deletions: list[Said | Exception]
    deleted: list[str] = field(default_factory=list)

    def create(self, name: str) -> tuple[Said, str | None, str | None]:
        said = self.creations.pop(0)
        return said, f"acs:osstables:{name}" if said.done else None, None

    def encryption(self, _arn: str) -> Encryption:
        return Encryption(Said(200), "AES256")

    def decrypt(self, _arn: str) -> Said:
        return Said(403, "AccessDenied")

    def put_kms(self, _arn: str) -> Said:
        return Said(400)

    def delete(self, arn: str) -> Said:
        self.deleted.append(arn.rpartition("/")[2])
        said = self.deletions.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def run_and_clean_up(tables: OwnedTables) -> tuple[list[str], list[str]]:
    """What is left over after a whole run, and what became of the capture."""
    captures: list[str] = []

    @contextmanager
    def capture() -> Iterator[Begin]:
        yield lambda: list
        captures.append("removed")

    plan = Plan(REGION, ACCOUNT, "short", "long", filter_pattern(), wait=0, wait_drift=0)
    doors = Doors(
        tables=tables,
        capture=capture,
        host=lambda _addressing, _arn: Said(200),
        one_host="",
        peek=list,
        clock=Clock(sleep=lambda _: None),
        tell=lambda _: None,
    )
    experiment = Experiment(plan, doors)
    experiment.run()
    return experiment.clean_up(), captures


def test_a_deletion_is_tried_again() -> None:
    """Trouble of the service is outlived; what is gone already, or was refused, is no trouble."""
    tables = OwnedTables(
        [Said(200), Said(400, "BadRequest")],
        [Said(503), Said(None, "Timeout"), Said(204), Said(404)],
    )

    assert run_and_clean_up(tables) == ([], ["removed"])
    assert tables.deleted == ["short", "short", "short", "long"]


@pytest.mark.parametrize("failure", [Said(403, "AccessDenied"), OSError("no route")])
def test_what_cannot_be_deleted_is_told_and_the_rest_is_deleted(failure: Said | Exception) -> None:
    """One bucket that stays keeps neither the other nor the capture, and is named with its ARN."""
    failures = [failure] * (4 if isinstance(failure, Said) else 1)
    tables = OwnedTables([Said(200), Said(200)], [*failures, Said(204)])

    (left,), captures = run_and_clean_up(tables)

    assert left.startswith("the table bucket short in cn-hangzhou (")
    assert left.endswith(f"DeleteTableBucket of acs:osstables:{REGION}:{ACCOUNT}:bucket/short")
    assert tables.deleted[-1] == "long"
    assert captures == ["removed"]


@pytest.mark.parametrize("lost", [Said(None, "ResponseError"), Said(500), Said(409, "Exists")])
def test_a_bucket_that_may_be_there_is_deleted(lost: Said) -> None:
    """An answer that was lost, or one to its repetition, says nothing of what was made."""
    tables = OwnedTables([lost, Said(400)], [*[Said(403)] * 4, Said(404)])

    (left,), _ = run_and_clean_up(tables)

    assert "the table bucket short" in left


# Interruptions.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_the_first_signal_interrupts(number: signal.Signals) -> None:
    """The second is answered with a sentence; afterwards the handlers are what they were."""
    told: list[str] = []
    before = signal.getsignal(number)

    with interruptible(told.append):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)

    assert len(told) == 1
    assert signal.getsignal(number) is before
