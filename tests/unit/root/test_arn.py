"""The ARN of a table bucket: what is one, what is not, and what it prints as."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encryption_guard.arn import Scope, TableBucketArn, is_bucket_name, looks_like_oss_tables_arn
from encryption_guard.errors import InvalidEvent

ARN = "acs:osstables:cn-hangzhou:1234567890123456:bucket/analytics"

LOWER = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
regions = st.builds(
    lambda country, parts: "-".join([country, *parts]),
    st.text(LOWER, min_size=2, max_size=2),
    st.lists(st.text(LOWER + DIGITS, min_size=1, max_size=12), min_size=1, max_size=3),
)
account_ids = st.text(DIGITS, min_size=5, max_size=20)
names = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(LOWER + DIGITS),
    st.text(LOWER + DIGITS + "-", min_size=1, max_size=61),
    st.sampled_from(LOWER + DIGITS),
)


@settings(deadline=None)
@given(regions, account_ids, names)
def test_an_arn_survives_printing_and_parsing(region: str, account_id: str, name: str) -> None:
    """What is within the alphabet is printed as an ARN that reads back as the same bucket."""
    arn = TableBucketArn(region, account_id, name)

    parsed = TableBucketArn.parse(str(arn))

    assert parsed == arn


@settings(deadline=None)
@given(st.text() | st.from_regex(r"acs:[a-z-]+:[^:]*:[^:]*:.*"))
@example(ARN)
def test_what_is_parsed_is_within_the_alphabet(text: str) -> None:
    """Whatever the text, the parts of its ARN fit a host name and it prints as it was parsed."""
    try:
        arn = TableBucketArn.parse(text)
    except InvalidEvent:
        return

    letters = set(arn.region + arn.account_id + arn.name)

    assert letters <= set(LOWER + DIGITS + "-")
    assert str(arn) == "acs:osstables:" + text.split(":", 2)[2]


def test_the_scope_of_a_bucket_is_its_account_and_region() -> None:
    """A sweep lists buckets by scopes."""
    assert Scope.of(TableBucketArn.parse(ARN)) == Scope("1234567890123456", "cn-hangzhou")


@pytest.mark.parametrize("service", ["osstables", "oss-tables", "osstable"])
def test_three_spellings_of_the_service_print_as_one(service: str) -> None:
    """osstables, oss-tables and osstable all mean OSS Tables, whose ARN says osstables."""
    text = f"acs:{service}:cn-hangzhou:1234567890123456:bucket/analytics"

    arn = TableBucketArn.parse(text)

    assert arn == TableBucketArn("cn-hangzhou", "1234567890123456", "analytics")
    assert str(arn) == ARN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ARN.replace("cn-hangzhou", "us-east-1"), id="a region of three parts"),
        pytest.param(ARN.replace("cn-hangzhou", "ap-s"), id="a region's short part"),
        pytest.param(ARN.replace("hangzhou", "a" * 51), id="a region of 54"),
        pytest.param(ARN.replace("1234567890123456", "12345"), id="an account of 5 digits"),
        pytest.param(ARN.replace("1234567890123456", "1" * 20), id="an account of 20 digits"),
        pytest.param(ARN.replace("analytics", "a1b"), id="a name of 3"),
        pytest.param(ARN.replace("analytics", "a" * 63), id="a name of 63"),
        pytest.param(ARN.replace("analytics", "0--9"), id="hyphens within a name"),
    ],
)
def test_an_arn_within_the_limits_is_taken(text: str) -> None:
    """The limits themselves belong to what is allowed."""
    arn = TableBucketArn.parse(text)

    assert str(arn) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("analytics", id="a name"),
        pytest.param(ARN.replace("cn-hangzhou", "evil.com#"), id="another host"),
        pytest.param(ARN.replace("cn-hangzhou", "cn-hangzhou.evil"), id="a dot in the region"),
        pytest.param(ARN.replace("cn-hangzhou", "cn"), id="a region of one part"),
        pytest.param(ARN.replace("cn-hangzhou", "c-hangzhou"), id="a country of one letter"),
        pytest.param(ARN.replace("cn-hangzhou", "cnn-hangzhou"), id="a country of three letters"),
        pytest.param(ARN.replace("cn-hangzhou", "cn-"), id="a region's empty part"),
        pytest.param(ARN.replace("cn-hangzhou", "CN-HANGZHOU"), id="an upper-case region"),
        pytest.param(ARN.replace("cn-hangzhou", ""), id="no region"),
        pytest.param(ARN.replace("cn-hangzhou", "cn-" + "a" * 61), id="a region beyond a label"),
        pytest.param(ARN.replace("1234567890123456", ""), id="no account"),
        pytest.param(ARN.replace("1234567890123456", "1234"), id="an account of 4 digits"),
        pytest.param(ARN.replace("1234567890123456", "1" * 21), id="an account of 21 digits"),
        pytest.param(ARN.replace("1234567890123456", "12345a"), id="a letter in the account"),
        pytest.param(ARN.replace("1234567890123456", "١٢٣٤٥"), id="Arabic digits"),
        pytest.param(ARN.replace("analytics", ""), id="no name"),
        pytest.param(ARN.replace("analytics", "ab"), id="a name of 2"),
        pytest.param(ARN.replace("analytics", "a" * 64), id="a name of 64"),
        pytest.param(ARN.replace("analytics", "Analytics"), id="an upper-case name"),
        pytest.param(ARN.replace("analytics", "-analytics"), id="a name's first hyphen"),
        pytest.param(ARN.replace("analytics", "analytics-"), id="a name's last hyphen"),
        pytest.param(ARN.replace("analytics", "my.bucket"), id="a dot in the name"),
        pytest.param(ARN.replace("analytics", "bücket"), id="a letter beyond ASCII"),
        pytest.param(ARN.replace("analytics", "analytic\u017f"), id="the long s, upper case S"),
        pytest.param(ARN.replace("analytics", "../../buckets"), id="out of the path"),
        pytest.param(ARN.replace("analytics", "analytics?policy"), id="a query"),
        pytest.param(ARN.replace("analytics", "ana\r\nHost: evil.com"), id="a header"),
        pytest.param(ARN.replace("analytics", "ana\0lytics"), id="a null in the name"),
        pytest.param(ARN + "\n", id="a trailing newline"),
        pytest.param(ARN + " ", id="a trailing space"),
        pytest.param(" " + ARN, id="a leading space"),
        pytest.param(ARN + "/", id="a trailing slash"),
        pytest.param(ARN + "/table/340c6672", id="a table"),
        pytest.param(ARN.replace("bucket/", "bucket:"), id="a colon for the slash"),
        pytest.param(ARN.replace("bucket/", "table/"), id="another resource"),
        pytest.param(ARN.replace("acs:", "arn:"), id="another cloud"),
        pytest.param(ARN.replace("osstables", "oss"), id="another service"),
        pytest.param(ARN.replace("osstables", "OssTables"), id="the service in another casing"),
    ],
)
def test_anything_else_is_not_an_arn(text: str) -> None:
    """One character out of place is enough: the event is invalid."""
    with pytest.raises(InvalidEvent):
        TableBucketArn.parse(text)


def test_the_refusal_quotes_the_value_and_says_what_is_allowed() -> None:
    """An operator reads what stood there and what should have stood there."""
    with pytest.raises(InvalidEvent) as caught:
        TableBucketArn.parse("acs:osstables:evil.com#\r\n")

    assert str(caught.value) == (
        '"acs:osstables:evil.com#\\r\\n" is not the ARN of a table bucket, which has the form'
        " acs:osstables:<region>:<account id>:bucket/<name>."
    )


@settings(deadline=None)
@given(st.text())
@example("\u202e" * 5000)
@example("\x1b[2J\r\n" * 200)
@example('"' * 200)
def test_a_refused_value_is_quoted_short_and_escaped(value: str) -> None:
    """A foreign value stands in a sentence as JSON-escaped ASCII of at most 200 characters."""
    with pytest.raises(InvalidEvent) as caught:
        TableBucketArn.parse("acs:osstables:" + value + "#")

    sentence = str(caught.value)
    quoted, _ = json.JSONDecoder().raw_decode(sentence)

    assert sentence.isascii()
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    assert len(json.dumps(quoted)) <= 200
    assert sentence.startswith(json.dumps(quoted))


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        pytest.param(ARN, True, id="an ARN"),
        pytest.param("acs:oss-tables:cn-hangzhou", True, id="the second spelling, cut short"),
        pytest.param("acs:osstable:", True, id="the third spelling, and nothing else"),
        pytest.param(ARN.replace("cn-hangzhou", "evil.com#"), True, id="a hostile one"),
        pytest.param("acs:oss:cn-hangzhou:1234567890123456:analytics", False, id="OSS"),
        pytest.param("acs:osstablesx:cn-hangzhou", False, id="a longer service"),
        pytest.param("acs:kms:cn-hangzhou:1234567890123456:key/0a1b", False, id="KMS"),
        pytest.param("analytics", False, id="a name"),
        pytest.param("osstables", False, id="a name like the service"),
        pytest.param("", False, id="empty"),
    ],
)
def test_an_arn_is_told_by_its_service(text: str, claims: bool) -> None:
    """A value is an OSS Tables ARN by the service it names, valid or not."""
    assert looks_like_oss_tables_arn(text) == claims


@settings(deadline=None)
@given(names)
def test_a_name_within_the_alphabet_is_a_name(name: str) -> None:
    """3 to 63 of a-z, 0-9 and -, the first and the last no hyphen."""
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "text",
    ["", "ab", "a" * 64, "Abc", "-abc", "abc-", "a.c", "a_c", "a/c", "abc\n", "äbc", "١٢٣", ARN],
    ids=ascii,
)
def test_anything_else_is_no_name(text: str) -> None:
    """A value that is not within the alphabet of a bucket name is none."""
    assert not is_bucket_name(text)
