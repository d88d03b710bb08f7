"""The bucket that an event names, wherever it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import NamedBucket, find_bucket
from tests.unit.opened import (
    ACCOUNT,
    ARN,
    BUCKET,
    CREATION,
    OWNED,
    REGION,
    Json,
    bucket_of,
    event_of,
    to_bytes,
)

ENCODED_ARN = ARN.replace(":", "%3A").replace("/", "%2F")
HOST = f"analytics-{ACCOUNT}.{REGION}.oss-tables.aliyuncs.com"
BUCKET_TYPE = "ACS::OSS::TableBucket"


def refusal(record: Json, **envelope: Any) -> str:
    """The sentence with which the CloudEvent of a record is refused for the bucket it names."""
    with pytest.raises(InvalidEvent) as caught:
        bucket_of(record, **envelope)
    return str(caught.value)


# The places.

PLACES: dict[str, Json] = {
    "responseElements": {"responseElements": {"arn": ARN}},
    "referencedResources": {"referencedResources": {BUCKET_TYPE: ["analytics"]}},
    "resourceName": {"resourceName": "analytics", "resourceType": BUCKET_TYPE},
    "requestParameters": {"requestParameters": {"name": "analytics"}},
    "requestParameterJson": {"requestParameterJson": '{"name": "analytics"}'},
    "eventSource": {"eventSource": HOST},
}


@pytest.mark.parametrize(
    ("naming", "place"),
    [
        pytest.param({"responseElements": {"arn": ARN}}, "responseElements", id="arn"),
        pytest.param(
            {"responseElements": {"tableBucketARN": ARN}}, "responseElements", id="tableBucketARN"
        ),
        pytest.param(
            {"responseElements": {"TABLEBUCKETarn": ARN}}, "responseElements", id="key's casing"
        ),
        pytest.param(
            {"responseElements": json.dumps({"arn": ARN})}, "responseElements", id="JSON text"
        ),
        pytest.param(
            {"referencedResources": {BUCKET_TYPE: [ARN]}}, "referencedResources", id="ARN in a type"
        ),
        pytest.param(
            {"referencedResources": {"ACS::OSS::Other": ["analytics"]}},
            "referencedResources",
            id="another type",
        ),
        pytest.param(
            {"referencedResources": {"ACS::OSS::Namespace": ["sales"], BUCKET_TYPE: ["analytics"]}},
            "referencedResources",
            id="the bucket type of two",
        ),
        pytest.param(PLACES["resourceName"], "resourceName", id="resourceName"),
        pytest.param(
            {"resourceName": "analytics", "resourceType": "ACS::OSS::Other"},
            "resourceName",
            id="resourceName of another type",
        ),
        pytest.param(
            {
                "resourceName": "sales,hr;analytics",
                "resourceType": f"ACS::OSS::Namespace;{BUCKET_TYPE}",
            },
            "resourceName",
            id="the second of two types",
        ),
        pytest.param(
            {
                "resourceName": f"analytics,{ARN};sales",
                "resourceType": f"{BUCKET_TYPE};ACS::OSS::Namespace",
            },
            "resourceName",
            id="two names of the first type",
        ),
        pytest.param(
            {"requestParameters": {"tableBucketARN": ARN}}, "requestParameters", id="parameter ARN"
        ),
        pytest.param(PLACES["requestParameters"], "requestParameters", id="name"),
        pytest.param(
            {"requestParameters": {"bucketName": "analytics"}}, "requestParameters", id="bucketName"
        ),
        pytest.param(
            {"requestParameters": '{"Name": "analytics"}'},
            "requestParameters",
            id="parameters as a JSON text",
        ),
        pytest.param(
            {"requestParameters": {"url": f"https://h/buckets/{ENCODED_ARN}/encryption?a=b"}},
            "requestParameters",
            id="url",
        ),
        pytest.param(
            {"requestParameters": {"URL": f"https://h/buckets/{ARN}"}},
            "requestParameters",
            id="url with an ARN that is not encoded",
        ),
        pytest.param(
            {"requestParameters": {"Uri": f"/buckets/{ENCODED_ARN.lower()}/encryption"}},
            "requestParameters",
            id="uri encoded in lower case",
        ),
        pytest.param(PLACES["requestParameterJson"], "requestParameterJson", id="parameter JSON"),
        pytest.param(
            {"requestParameterJson": json.dumps({"tableBucketARN": ARN})},
            "requestParameterJson",
            id="an ARN in parameter JSON",
        ),
        pytest.param({"eventSource": HOST}, "eventSource", id="host"),
        pytest.param(
            {"eventSource": f"analytics-{ACCOUNT}.{REGION}-internal.oss-tables.aliyuncs.com"},
            "eventSource",
            id="internal host",
        ),
        pytest.param(
            {"eventSource": f"analytics.{REGION}.oss-tables.aliyuncs.com"},
            "eventSource",
            id="host without the account",
        ),
        pytest.param(
            {"eventSource": f"analytics.{REGION}-internal.oss-tables.aliyuncs.com:443"},
            "eventSource",
            id="internal host without the account, with a port",
        ),
    ],
)
def test_each_place_names_the_bucket(naming: Json, place: str) -> None:
    """A bucket that stands in one place only is found, and the place is told."""
    bucket = bucket_of(OWNED | naming)

    assert bucket == NamedBucket(BUCKET, place)


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(ARN, id="ARN"),
        pytest.param(ARN.replace("osstables", "oss-tables"), id="ARN, second spelling"),
        pytest.param(f"acs.oss:{REGION}:{ACCOUNT}:analytics", id="account and name"),
        pytest.param(f"{REGION}:{ACCOUNT}:analytics", id="account and name, no service"),
    ],
)
@pytest.mark.parametrize("key", ["subject", "Subject"])
def test_the_subject_names_the_bucket(key: str, subject: str) -> None:
    """The CloudEvent's subject is an ARN, or ends in account and bucket."""
    bucket = bucket_of(OWNED, **{key: subject})

    assert bucket == NamedBucket(BUCKET, "subject")


@pytest.mark.parametrize(
    "naming",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {place: None for naming in PLACES.values() for place in naming}, id="all null"
        ),
        pytest.param({place: 17 for naming in PLACES.values() for place in naming}, id="numbers"),
        pytest.param({place: [ARN] for naming in PLACES.values() for place in naming}, id="lists"),
        pytest.param({"responseElements": {"arn": [ARN], "tableBucketARN": 17}}, id="no texts"),
        pytest.param({"responseElements": "{"}, id="no JSON text"),
        pytest.param({"responseElements": {"name": "analytics"}}, id="a name in the response"),
        pytest.param({"referencedResources": {BUCKET_TYPE: [17, None, {}]}}, id="no names"),
        pytest.param({"resourceName": " , ;,;", "resourceType": BUCKET_TYPE}, id="only commas"),
        pytest.param({"requestParameters": {"arn": ARN}}, id="another parameter"),
        pytest.param({"requestParameters": {"url": f"https://h/?a=/buckets/{ARN}"}}, id="a query"),
        pytest.param({"requestParameters": {"uri": "/buckets/evil.com"}}, id="a path, no ARN"),
        pytest.param({"eventSource": f"{REGION}.oss-tables.aliyuncs.com"}, id="the plain host"),
        pytest.param(
            {"eventSource": "analytics.oss-cn-hangzhou-cross.aliyuncs.com"}, id="a host of OSS"
        ),
        pytest.param({"eventSource": HOST + ".evil.com"}, id="another host behind it"),
        pytest.param({"eventSource": HOST.replace(".oss", "#.oss")}, id="a fragment in the host"),
        pytest.param({"eventSource": HOST + "\n"}, id="a newline behind the host"),
        pytest.param({"additionalEventData": {"name": "analytics"}}, id="a place of its own"),
    ],
)
def test_what_names_nothing_is_invalid(naming: Json) -> None:
    """Every place may be absent or hold anything; if none names a bucket, the event is invalid."""
    refused = refusal(OWNED | naming)

    assert refused == (
        "The event names no table bucket in any of these places: responseElements,"
        " referencedResources, resourceName, requestParameters, requestParameterJson, eventSource,"
        " subject."
    )


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "analytics",
        ACCOUNT + ":analytics",
        f"acs.oss:{REGION}:{ACCOUNT}:",
        f"acs.oss:{REGION}:{ACCOUNT}:analytics/part-0.parquet",
        f"acs.oss:{REGION}:{ACCOUNT}:analytics:more",
        f"acs.oss:{REGION}:1234:analytics",
        f"acs.oss:{REGION}:root:analytics",
        17,
        [ARN],
    ],
)
def test_a_subject_of_another_form_names_nothing(subject: object) -> None:
    """What does not end in an account's id and a bucket's name is passed over."""
    refused = refusal(OWNED, subject=subject)

    assert refused.startswith("The event names no table bucket")


@pytest.mark.parametrize("first", range(len(PLACES)), ids=list(PLACES))
def test_the_first_place_that_names_the_bucket_is_told(first: int) -> None:
    """Where several places agree, the first in the contract's order is the one that is told."""
    later = dict(list(PLACES.items())[first:])
    record = OWNED.copy()
    for naming in reversed(later.values()):
        record |= naming

    bucket = bucket_of(record, subject=ARN)

    assert bucket == NamedBucket(BUCKET, next(iter(later)))


@pytest.mark.parametrize(
    "record",
    [
        {"referencedResources": {"ACS::RAM::Role": ["analyst"], BUCKET_TYPE: ["analytics"]}},
        {"referencedResources": {BUCKET_TYPE: ["analytics"], "ACS::RAM::Role": ["analyst"]}},
        {"referencedResources": {"ACS::RAM::Role": ["analyst"], "ACS::OSS::Bucket": ["analytics"]}},
        {"referencedResources": {"ACS::OSS::Bucket": ["logs"], BUCKET_TYPE: ["analytics"]}},
        {"referencedResources": {BUCKET_TYPE: ["", "UPPER"], "ACS::OSS::Bucket": ["analytics"]}},
        {"resourceName": "logs;analytics", "resourceType": f"ACS::OSS::Bucket;{BUCKET_TYPE}"},
        {"resourceName": "analytics;analyst", "resourceType": f"{BUCKET_TYPE};ACS::RAM::Role"},
    ],
    ids=[
        "a role",
        "a role behind it",
        "a role beside a bucket of OSS",
        "a log bucket",
        "what is no name is passed over",
        "resourceName",
        "resourceName, the bucket first",
    ],
)
def test_resources_of_other_types_do_not_count_beside_a_table_bucket(record: Json) -> None:
    """A role or a log bucket may stand beside it: the type tells which one is meant."""
    bucket = bucket_of(OWNED | record)

    assert bucket.arn == BUCKET


# A bare name becomes an ARN.


@pytest.mark.parametrize(
    ("fields", "envelope", "region"),
    [
        ({"acsRegion": "us-east-1"}, {"aliyunregionid": "eu-central-1"}, "us-east-1"),
        ({}, {"aliyunregionid": "eu-central-1"}, "eu-central-1"),
        ({"acsRegion": ""}, {"AliyunRegionId": "eu-central-1"}, "eu-central-1"),
        ({"acsRegion": None}, {"aliyunregionid": ""}, "cn-beijing"),
        ({}, {}, "cn-beijing"),
    ],
    ids=["acsRegion", "aliyunregionid", "empty acsRegion", "both empty", "FC_REGION"],
)
def test_a_bare_names_region(fields: Json, envelope: Json, region: str) -> None:
    """acsRegion, else aliyunregionid, else FC_REGION completes a bare name."""
    record = CREATION | {"requestParameters": {"name": "analytics"}} | fields
    event = event_of(to_bytes({**envelope, "data": record}))

    bucket = find_bucket(event, region="cn-beijing", account_id=ACCOUNT)

    assert bucket.arn == TableBucketArn(region, ACCOUNT, "analytics")


def test_a_host_tells_the_region_of_its_bucket() -> None:
    """Where the event does not, it is nearer than the function."""
    host = {"eventSource": "sales.us-east-1.oss-tables.aliyuncs.com"}

    named = find_bucket(event_of({"data": CREATION | host}), region=REGION, account_id=ACCOUNT)
    told = find_bucket(
        event_of({"data": CREATION | host | {"acsRegion": "eu-central-1"}}), account_id=ACCOUNT
    )

    assert (named.arn.region, told.arn.region) == ("us-east-1", "eu-central-1")


def test_an_account_may_be_written_as_a_fraction() -> None:
    """Some writers know one kind of number."""
    record = OWNED | {"recipientAccountId": 54321.0, "requestParameters": {"name": "sales"}}

    assert bucket_of(record).arn.account_id == "54321"


OTHERS: Json = {"userIdentity": {"accountId": "22222"}}
FORWARDED: Json = {"aliyunoriginalaccountid": "55555", "aliyunaccountid": "33333"}


@pytest.mark.parametrize(
    ("fields", "envelope", "account_id"),
    [
        ({"recipientAccountId": "11111"} | OTHERS, FORWARDED, "11111"),
        (OTHERS, FORWARDED, "55555"),
        (OTHERS, {"AliyunOriginalAccountId": 55555}, "55555"),
        (OTHERS, {"aliyunaccountid": "33333"}, "33333"),
        (OTHERS, {"aliyunaccountid": "", "aliyunoriginalaccountid": None}, "22222"),
        ({"UserIdentity": {"AccountID": "22222"}}, {}, "22222"),
        ({"recipientAccountId": "", "userIdentity": "root"}, {"aliyunaccountid": ""}, "44444"),
        ({}, {}, "44444"),
    ],
    ids=[
        "recipientAccountId",
        "aliyunoriginalaccountid",
        "a number",
        "aliyunaccountid",
        "userIdentity",
        "its keys' casing",
        "all empty",
        "FC_ACCOUNT_ID",
    ],
)
def test_a_bare_names_account(fields: Json, envelope: Json, account_id: str) -> None:
    """The owner's, else the forwarding account, the bus's, the caller's, and the function's."""
    record = CREATION | {"requestParameters": {"name": "analytics"}} | fields
    event = event_of(to_bytes({**envelope, "data": record}))

    bucket = find_bucket(event, region=REGION, account_id="44444")

    assert bucket.arn == TableBucketArn(REGION, account_id, "analytics")


@pytest.mark.parametrize(
    ("fields", "envelope"),
    [
        ({"recipientAccountId": "54321"}, {}),
        ({}, {"aliyunoriginalaccountid": "54321"}),
        ({}, {"aliyunaccountid": "54321"}),
        ({"userIdentity": {"accountId": "54321"}}, {"aliyunaccountid": "44444"}),
        ({}, {"subject": "acs.oss:cn-hangzhou:54321:sales"}),
        ({"resourceName": f"acs:osstables:{REGION}:54321:bucket/sales"}, {}),
    ],
    ids=["owner", "forwarded from", "the bus's", "the caller", "the subject's", "an ARN's"],
)
def test_digits_of_a_host_are_an_account_that_the_event_names(fields: Json, envelope: Json) -> None:
    """`sales-54321` is the bucket `sales` of 54321, if anything names such an account."""
    host = {"eventSource": f"sales-54321.{REGION}.oss-tables.aliyuncs.com"}
    event = event_of(to_bytes({**envelope, "data": CREATION | host | fields}))

    bucket = find_bucket(event, region=REGION, account_id="44444")

    assert bucket.arn == TableBucketArn(REGION, "54321", "sales")


def test_digits_of_a_host_are_the_functions_account() -> None:
    """The function's own account counts as one that is named; the rest is the name."""
    host = f"my-sales-{ACCOUNT}.{REGION}.oss-tables.aliyuncs.com"
    event = event_of({"data": CREATION | {"eventSource": host}})

    assert find_bucket(event, account_id=ACCOUNT).arn == BUCKET._replace(name="my-sales")


@pytest.mark.parametrize("label", ["sales-2024001", "sales-1234", "s-44444", "44444"])
def test_other_digits_of_a_host_belong_to_the_name(label: str) -> None:
    """A name may end in digits: they are no account unless something names it as one."""
    host = {"eventSource": f"{label}.{REGION}.oss-tables.aliyuncs.com"}
    event = event_of({"data": CREATION | host})

    bucket = find_bucket(event, region=REGION, account_id="44444")

    assert bucket.arn == TableBucketArn(REGION, "44444", label)


@pytest.mark.parametrize(
    ("known", "missing"),
    [({"account_id": ACCOUNT}, "region"), ({"region": REGION}, "account"), ({}, "region")],
    ids=["no region", "no account", "neither"],
)
def test_a_bare_name_that_nothing_completes_is_invalid(known: Json, missing: str) -> None:
    """Without region or account there is no ARN, and none is made up."""
    event = event_of({"data": CREATION | {"requestParameters": {"name": "analytics"}}})

    with pytest.raises(InvalidEvent) as caught:
        find_bucket(event, **known)

    assert str(caught.value) == (
        'The event names the bucket "analytics", but neither the event nor the function\'s'
        f" environment contains its {missing}."
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"acsRegion": "evil.com#"},
        {"acsRegion": "cn-hangzhou\n"},
        {"acsRegion": "CN-HANGZHOU"},
        {"acsRegion": "cn-" + "a" * 70},
        {"recipientAccountId": "189217171671****"},
        {"recipientAccountId": "١٢٣٤٥٦"},
        {"recipientAccountId": f"{ACCOUNT}:bucket/finance"},
    ],
    ids=ascii,
)
def test_what_completes_a_name_is_held_to_the_alphabet(fields: Json) -> None:
    """Region and account of a bare name have to be valid ones, like those of an ARN."""
    record = OWNED | {"requestParameters": {"name": "analytics"}} | fields

    with pytest.raises(InvalidEvent):
        bucket_of(record)


def test_the_regions_own_word_for_a_name_is_not_needed_with_an_arn() -> None:
    """An ARN brings its region and account: those of the event do not count."""
    record = {
        **CREATION,
        "acsRegion": "us-east-1",
        "recipientAccountId": "99999",
        "responseElements": {"arn": ARN},
    }

    bucket = bucket_of(record, aliyunregionid="eu-central-1")

    assert bucket == NamedBucket(BUCKET, "responseElements")


# Agreement and contradiction.


@pytest.mark.parametrize(
    ("naming", "place"),
    [
        pytest.param(
            {"responseElements": {"arn": ARN}, "requestParameters": {"name": "analytics"}},
            "responseElements",
            id="the ARN first",
        ),
        pytest.param(
            {
                "referencedResources": {BUCKET_TYPE: ["analytics"]},
                "requestParameters": {"tableBucketARN": ARN},
            },
            "referencedResources",
            id="the name first",
        ),
        pytest.param(
            {"referencedResources": {BUCKET_TYPE: ["analytics"]}, "eventSource": HOST},
            "referencedResources",
            id="the name before a host",
        ),
        pytest.param(
            {"referencedResources": {BUCKET_TYPE: ["analytics", ARN]}},
            "referencedResources",
            id="both in one place",
        ),
    ],
)
def test_a_bare_name_agrees_with_an_arn_of_that_name(naming: Json, place: str) -> None:
    """Region and account are the ARN's, wherever it stands; the first place is told."""
    elsewhere = {"acsRegion": "us-east-1", "recipientAccountId": "99999"}
    caller = {"userIdentity": {"accountId": ACCOUNT}}

    bucket = bucket_of(CREATION | elsewhere | caller | naming)

    assert bucket == NamedBucket(BUCKET, place)


def test_spellings_of_one_arn_agree() -> None:
    """Two ARNs that differ in the spelling of the service only are the same bucket."""
    bucket = bucket_of(
        CREATION
        | {
            "responseElements": {"arn": ARN.replace("osstables", "osstable")},
            "requestParameters": {"tableBucketARN": ARN.replace("osstables", "oss-tables")},
        }
    )

    assert bucket == NamedBucket(BUCKET, "responseElements")


@pytest.mark.parametrize(
    "naming",
    [
        pytest.param(
            {"resourceName": "finance", "eventSource": HOST},
            id="a name and a host",
        ),
        pytest.param(
            {"resourceName": ARN, "requestParameters": {"name": "finance"}},
            id="an ARN and a name",
        ),
        pytest.param(
            {"responseElements": {"arn": "analytics"}, "requestParameters": {"name": "finance"}},
            id="a bare name in the response",
        ),
        pytest.param(
            {
                "resourceName": ARN,
                "requestParameters": {"tableBucketARN": ARN.replace(REGION, "cn-beijing")},
            },
            id="two regions",
        ),
        pytest.param(
            {
                "resourceName": ARN,
                "requestParameters": {"tableBucketARN": ARN.replace(ACCOUNT, "9876543210987654")},
            },
            id="two accounts",
        ),
        pytest.param(
            {"responseElements": {"arn": ARN, "tableBucketARN": ARN.replace("ics", "ics2")}},
            id="two in one place",
        ),
        pytest.param(
            {"referencedResources": {BUCKET_TYPE: ["analytics", "finance"]}}, id="two in one list"
        ),
    ],
)
def test_two_different_buckets_are_no_guess(naming: Json) -> None:
    """Places that name different buckets make an invalid event."""
    refused = refusal(OWNED | naming)

    assert refused.startswith("The event names different buckets: ")


def test_a_contradiction_tells_both_sides() -> None:
    """An operator reads which places said what."""
    record = {"resourceName": "finance", "requestParameters": {"tableBucketARN": ARN}}

    refused = refusal(CREATION | record)

    assert refused == (
        f'The event names different buckets: requestParameters names "{ARN}", resourceName names'
        ' "finance".'
    )


@pytest.mark.parametrize(
    ("otherwise", "envelope", "place"),
    [
        ({"requestParameters": {"name": "finance"}}, {}, "requestParameters"),
        ({"requestParameters": {"url": f"/buckets/{ARN}2"}}, {}, "requestParameters"),
        (
            {"requestParameterJson": json.dumps({"tableBucketARN": ARN.replace(REGION, "x")})},
            {},
            "requestParameterJson",
        ),
        (
            {"requestParameters": {"tableBucketARN": ARN.replace(ACCOUNT, "9876543210987654")}},
            {},
            "requestParameters",
        ),
        ({"referencedResources": {BUCKET_TYPE: ["logs"]}}, {}, "referencedResources"),
        ({"resourceName": "logs", "requestParameters": {"name": "logs"}}, {}, "resourceName"),
        ({"eventSource": HOST.replace("analytics", "logs")}, {}, "eventSource"),
        ({}, {"subject": f"x:{ACCOUNT}:finance"}, "subject"),
        ({"responseElements": {"arn": ARN, "tableBucketARN": "logs"}}, {}, "responseElements"),
    ],
    ids=[
        "a name",
        "a path",
        "no valid ARN",
        "another account",
        "a resource",
        "the first of two",
        "a host",
        "the subject",
        "a name beside it",
    ],
)
def test_what_others_say_does_not_outvote_the_service(
    otherwise: Json, envelope: Json, place: str
) -> None:
    """The ARN in responseElements is the bucket; the first place that says otherwise is told."""
    record = OWNED | {"responseElements": {"arn": ARN}} | otherwise

    bucket = bucket_of(record, **envelope)

    assert bucket == NamedBucket(BUCKET, "responseElements", disagrees=place)


# Whether the call has failed.


@pytest.mark.parametrize(
    "code",
    [
        *("", " ", "null", "NULL", "None", "nil", "-", "0", "200", "OK", " ok ", "success"),
        *("Successful", None, 0, 200, False, [], {}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("message", ["success", "You have no right.", None])
def test_a_word_for_nothing_is_no_failure(code: object, message: str | None) -> None:
    """Only an errorCode that says something tells of a failure; a message alone never does."""
    event = event_of({"data": CREATION | {"errorCode": code, "errorMessage": message}})

    assert event.failed is False


@pytest.mark.parametrize("code", ["ForbiddenException", "403", "E", "NullPointerException"])
@pytest.mark.parametrize(
    "naming",
    [{}, PLACES["requestParameters"], {"responseElements": {"arn": ARN.replace(REGION, "x y")}}],
    ids=["nothing", "what was asked for", "no valid ARN"],
)
def test_an_error_code_tells_of_a_failure(code: str, naming: Json) -> None:
    """What the caller asked for was not made."""
    assert event_of({"data": CREATION | naming | {"ERRORCODE": code}}).failed is True


@pytest.mark.parametrize("arn", [ARN, "analytics"])
def test_a_call_that_was_answered_with_the_bucket_has_not_failed(arn: str) -> None:
    """The service's own word counts for more than a code."""
    record = CREATION | {"errorCode": "SlowDown", "responseElements": {"tableBucketArn": arn}}

    assert event_of({"data": record}).failed is False


# What is passed over, and what is not.


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"acs:oss:{REGION}:{ACCOUNT}:finance", id="an ARN of OSS"),
        pytest.param(f"acs:kms:{REGION}:{ACCOUNT}:key/0a1b", id="an ARN of KMS"),
        pytest.param(f"arn:aws:s3tables:us-east-1:{ACCOUNT}:bucket/finance", id="another cloud's"),
        pytest.param("Finance", id="upper case"),
        pytest.param("finance\n", id="a newline"),
        pytest.param("../finance", id="a path"),
        pytest.param("finänce", id="beyond ASCII"),
        pytest.param("", id="empty"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda value: {"responseElements": {"arn": value}},
        lambda value: {"referencedResources": {BUCKET_TYPE: [value]}},
        lambda value: {"requestParameters": {"tableBucketARN": value, "bucketName": value}},
        lambda value: {"requestParameters": {"uri": f"/buckets/{value}"}},
    ],
    ids=["responseElements", "referencedResources", "requestParameters", "uri"],
)
def test_other_arns_and_other_values_are_passed_over(
    place: Callable[[str], Json], value: str
) -> None:
    """What is neither an OSS Tables ARN nor within the alphabet of a name is as good as absent."""
    record = OWNED | place(value) | {"eventSource": HOST}

    bucket = bucket_of(record)

    assert bucket == NamedBucket(BUCKET, "eventSource")


@pytest.mark.parametrize("service", ["osstables", "oss-tables", "osstable"])
@pytest.mark.parametrize(
    ("record", "envelope"),
    [
        pytest.param(lambda arn: {"responseElements": {"arn": arn}}, {}, id="responseElements"),
        pytest.param(
            lambda arn: {"referencedResources": {BUCKET_TYPE: [arn]}}, {}, id="referencedResources"
        ),
        pytest.param(
            lambda arn: {"requestParameters": {"tableBucketARN": arn}}, {}, id="requestParameters"
        ),
    ],
)
def test_an_invalid_arn_makes_the_event_invalid(
    record: Callable[[str], Json], envelope: Json, service: str
) -> None:
    """A value whose service is OSS Tables has to be valid, also where another place names one."""
    hostile = f"acs:{service}:evil.com#:{ACCOUNT}:bucket/analytics"

    refused = refusal(OWNED | {"eventSource": HOST} | record(hostile), **envelope)

    place = next(iter(record("")))
    assert refused == (
        f'In {place}: "{hostile}" is not the ARN of a table bucket, which has the form'
        " acs:osstables:<region>:<account id>:bucket/<name>."
    )


@pytest.mark.parametrize(
    "uri",
    [
        "/buckets/acs%3Aosstables%3Aevil.com%23%3A12345%3Abucket%2Fanalytics/encryption",
        f"/buckets/acs:osstables:{REGION}:{ACCOUNT}:bucket/..%2F..%2Ffinance",
        f"/buckets/acs:osstables:{REGION}:{ACCOUNT}:bucket%2fana%0d%0alytics",
    ],
    ids=["another host", "the parent folder", "a header"],
)
def test_an_invalid_arn_in_a_path_makes_the_event_invalid(uri: str) -> None:
    """The path's ARN is decoded first and then held to the same alphabet."""
    refused = refusal(OWNED | {"requestParameters": {"uri": uri}})

    assert refused.startswith('In requestParameters: "acs:osstables:')


def test_an_invalid_arn_in_the_subject_makes_the_event_invalid() -> None:
    """The subject is no exception."""
    refused = refusal(OWNED | {"eventSource": HOST}, subject=ARN + "\r\nHost: evil.com")

    assert refused.startswith('In subject: "acs:osstables:')


def test_a_region_too_long_for_a_host_is_invalid() -> None:
    """A host in eventSource whose region fits no label with `-internal` is refused like an ARN."""
    refused = refusal(
        OWNED | {"eventSource": f"a1b-{ACCOUNT}.cn-{'a' * 60}.oss-tables.aliyuncs.com"}
    )

    assert refused.startswith("In eventSource: ")


# What the platform may well write, though nobody has seen it.


def test_the_subject_of_the_documented_form_is_a_name_whatever_its_service() -> None:
    """`acs:osstables:<region>:<uid>:<bucket>`, as OSS's own subjects are, is no broken ARN."""
    subject = f"acs:osstables:{REGION}:{ACCOUNT}:analytics"

    named = bucket_of(OWNED, subject=subject)
    agreed = bucket_of(OWNED | {"responseElements": {"arn": ARN}}, subject=subject)

    assert named == NamedBucket(BUCKET, named_by="subject")
    assert agreed == NamedBucket(BUCKET, named_by="responseElements")


@pytest.mark.parametrize("end", ["?x-oss-a=b", "#top", "?a#b", "/encryption#top"])
def test_a_path_ends_where_a_path_ends(end: str) -> None:
    """Neither query nor fragment belongs to the path that names the bucket."""
    record = OWNED | {"requestParameters": {"uri": f"/buckets/{ENCODED_ARN}{end}"}}

    assert bucket_of(record) == NamedBucket(BUCKET, named_by="requestParameters")
