"""Events that mean harm: through the real door, no exception, no other host, a bounded cost.

What they cost is counted, not timed: `python -m tests.fuzz.costs` times it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encryption_guard.dead_letters import LOG_CHUNK_BYTES
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import MAX_URL_LENGTH, BucketEvent, find_bucket
from encryption_guard.events.envelopes import (
    CHUNK_BYTES,
    MAX_DECODED_BYTES,
    MAX_EVENTS,
    MIN_EVENT_BYTES,
    open_payload,
)
from encryption_guard.untrusted import MAX_QUOTE_LENGTH, shortened
from tests.fuzz.door import ACCOUNT, REGION, Door, is_allowed, opened
from tests.fuzz.hostile import creation, filled, letter, record, worst_cases
from tests.unit.opened import only

SAMPLES = [
    file.read_bytes()
    for file in sorted(Path("events").resolve().iterdir())
    if file.stem != "README"
]
MOST_MEGABYTES = 20
WORST = worst_cases()


@pytest.fixture(scope="module", params=["path", "virtual"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """A warm instance of the function, once for each form of its hosts."""
    with opened(GUARD_OSS_TABLES_ADDRESSING=request.param) as instance:
        instance.visit(b"{}")
        yield instance


@pytest.fixture(scope="module")
def one_door() -> Iterator[Door]:
    """A warm instance of the function."""
    with opened() as instance:
        instance.visit(b"{}")
        yield instance


# The door.


@pytest.mark.parametrize("event", WORST.values(), ids=WORST)
def test_the_worst_events_cost_little(one_door: Door, event: bytes) -> None:
    """One payload of 128 KB has bounded outcomes, letters, requests, log lines and memory."""
    visit, peak = one_door.traced(event)

    assert visit.wrong == []
    assert 1 <= len(visit.outcomes) <= MAX_EVENTS
    assert len(visit.letters) <= len(visit.outcomes)
    # A GET, a PUT and a look for tables, or a letter; each is seen by its address and by its Host
    # header.
    assert len(visit.hosts) <= 3 * 2 * len(visit.outcomes)
    assert visit.log_lines <= len(visit.outcomes) + MAX_DECODED_BYTES // LOG_CHUNK_BYTES + 1
    assert peak < MOST_MEGABYTES


@pytest.mark.parametrize("event", SAMPLES)
def test_no_sample_asks_another_host(door: Door, event: bytes) -> None:
    """The samples of events/ go where they may, whichever form their hosts have."""
    visit = door.visit(event)

    assert visit.wrong == []


@given(event=st.binary() | st.text(st.characters(codec=None, categories=None)))
def test_no_bytes_and_no_text_raise(door: Door, event: bytes | str) -> None:
    """Whatever comes in ends as outcomes, of which none made a request to a strange host."""
    assert door.visit(event).wrong == []


TOKENS = [
    *(b"\x00 \r\n \x1b[2J \\ud800 \\u0000 \xe2\x80\xae \xff \xed\xa0\x80".split(b" ")),
    *(b'{ } [ ] , : " [[[[ {}, null, NaN Infinity -0 1e999 1E400 true'.split(b" ")),
    *(b"acs:osstables: oss-tables osstable :bucket/ @evil.example #evil.example /../".split(b" ")),
    *(b".evil.example -internal %00 %2f %0d%0a xn--a .oss-tables.aliyuncs.com".split(b" ")),
    *(b'"data": "id": "ID": "eventName": "requestPayload": "event": "arn": "uri":'.split(b" ")),
    b"9" * 400,
    b'"version":1,"event_encoding":"gzip+base64",',
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sample in which pieces were replaced by others, or by nothing."""
    event = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(event)))
        until = min(at + draw(st.integers(0, 24)), len(event))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=3))
        event = event[:at] + piece + event[until:]
    return event


@given(event=mutated())
def test_no_mutated_sample_raises(door: Door, event: bytes) -> None:
    """A real event with a few bytes changed is still no danger."""
    assert door.visit(event).wrong == []


def _casings(key: str) -> st.SearchStrategy[str]:
    return st.sampled_from([key, key.lower(), key.upper()])


HOSTS = ["evil.example", "evil.example#", "a.oss-tables.aliyuncs.com.evil.example", "a" * 64]
NAMES = st.sampled_from(
    [
        *("abc", "my-table-bucket", "a" * 63, "a" * 64, "-a-", "a/../b", "a\r\nHost: evil.example"),
        *(
            f"acs:osstables:{host}:{ACCOUNT}:bucket/abc"
            for host in [*HOSTS, REGION, "cn-" + "a" * 51]
        ),
        *(
            f"acs:osstables:{REGION}:{account}:bucket/abc"
            for account in ("1@evil", "١٢٣٤٥", "99999")
        ),
        *(f"abc-{ACCOUNT}.{host}.oss-tables.aliyuncs.com" for host in [*HOSTS, REGION, "a-b"]),
        *(f"acs:oss:{REGION}:{ACCOUNT}:abc{end}" for end in ("", "\n", "\0", "\u202e")),
        f"/buckets/acs%3Aosstables%3A{REGION}%3A{ACCOUNT}%3Abucket%2Fabc/encryption",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, float("nan"), float("inf")])
    | st.just(4200).map(lambda digits: 10**digits)
    | st.floats()
    | st.text()
    | NAMES
)
KEYS = [
    *("eventName", "eventTime", "errorCode", "errorMessage", "eventSource", "acsRegion", "eventId"),
    *("recipientAccountId", "userIdentity", "responseElements", "referencedResources", "arn"),
    *("resourceName", "resourceType", "requestParameters", "requestParameterJson", "bucketName"),
    *("tableBucketARN", "name", "uri", "url", "accountId", "OSS::Bucket"),
]
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS).flatmap(_casings), inner, max_size=3)
        | inner.map(json.dumps)
    ),
    max_leaves=5,
)
RECORDS = st.dictionaries(st.sampled_from(KEYS).flatmap(_casings), VALUES, max_size=5).map(
    lambda told: {"eventName": "CreateTableBucket", "acsRegion": REGION} | told
)
CLOUD_EVENTS = st.fixed_dictionaries(
    {"data": RECORDS | VALUES},
    optional={
        "id": SCALARS,
        "subject": SCALARS,
        "source": SCALARS,
        "aliyunregionid": NAMES,
        "aliyunaccountid": NAMES,
        "guardredrives": SCALARS,
    },
)
PAYLOADS = st.recursive(
    CLOUD_EVENTS.map(lambda event: json.dumps(event).encode()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]"),
        inner.map(record),
        inner.map(letter),
        inner.map(lambda event: letter(event, encoding="utf-8")),
    ),
    max_leaves=4,
)


@given(event=PAYLOADS)
def test_no_crafted_event_raises(door: Door, event: bytes) -> None:
    """Hostile values in every place that is read, wrapped in whatever is opened."""
    assert door.visit(event).wrong == []


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("cn-hangzhou.oss-tables.aliyuncs.com", True),
        ("cn-hangzhou-internal.oss-tables.aliyuncs.com", True),
        (f"abc-{ACCOUNT}.cn-hangzhou.oss-tables.aliyuncs.com", True),
        (f"{ACCOUNT}.mns.{REGION}.aliyuncs.com", True),
        ("evil.example", False),
        ("cn-hangzhou.oss-tables.aliyuncs.com.evil.example", False),
        ("abc-99999.cn-hangzhou.oss-tables.aliyuncs.com", False),
        (f"99999.mns.{REGION}.aliyuncs.com", False),
        ("a" * 64 + ".oss-tables.aliyuncs.com", False),
    ],
)
def test_the_judge_of_hosts_knows_them(host: str, allowed: bool) -> None:
    """What these tests hold every request against is the documented form and nothing else."""
    assert is_allowed(host) is allowed


# How many events.


def test_as_many_events_as_allowed_are_opened() -> None:
    """The limit itself still counts."""
    opened = open_payload(b"[" + b",".join([creation()] * MAX_EVENTS) + b"]")

    assert len(opened.events) == MAX_EVENTS
    assert all(isinstance(delivery.parsed, BucketEvent) for delivery in opened.events)


def test_a_large_payload_of_real_events_is_opened_whole() -> None:
    """A synchronous invocation may bring thousands; it is nothings that are bounded."""
    real = creation() + b" " * MIN_EVENT_BYTES

    opened = open_payload(b"[" + b",".join([real] * 3 * MAX_EVENTS) + b"]")

    assert len(opened.events) == 3 * MAX_EVENTS


def too_many() -> bytes:
    """An array of one event too many."""
    return b"[" + b",".join([b"{}"] * (MAX_EVENTS + 1)) + b"]"


def _array(*items: bytes) -> bytes:
    return b"[" + b", ".join(items) + b"]"


HALF = b"[" + b",".join([b"{}"] * (MAX_EVENTS // 2)) + b"]"


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(too_many(), id="in one array"),
        pytest.param(_array(HALF, HALF, b"{}"), id="in arrays of an array"),
        pytest.param(_array(b"{}", letter(HALF), letter(HALF)), id="in letters of an array"),
        pytest.param(_array(record(letter(too_many()))), id="in a letter in a record"),
        pytest.param(filled(b"{}"), id="by the ten thousand"),
        pytest.param(filled(b"{}")[:-1], id="by the ten thousand, cut short"),
    ],
)
def test_too_many_events_are_one_invalid_event(array: bytes) -> None:
    """An array of nothings is one dead letter, which keeps all of it, and not one for each."""
    opened = open_payload(array)

    (delivery,) = opened.events
    assert isinstance(delivery.parsed, InvalidEvent)
    assert str(delivery.parsed).startswith(f"The array holds more than {MAX_EVENTS} events, and")
    assert (delivery.raw, opened.is_array) == (array, True)


def test_too_many_events_keep_their_redrives() -> None:
    """What is kept is the array without its wrapping, but with the count of it."""
    wrapped = json.loads(letter(too_many())) | {"redrives": 2}

    delivery = only(wrapped)

    assert (delivery.raw, delivery.redrives) == (too_many(), 2)


# How much is unpacked.


def test_as_much_as_allowed_is_unpacked() -> None:
    """The limit itself still counts."""
    event = creation()
    raw = event + b" " * (MAX_DECODED_BYTES - len(event))

    assert only(letter(raw)).raw == raw


def test_letters_share_what_may_be_unpacked() -> None:
    """Of the letters in one payload those that are too much together stay letters."""
    event = creation()
    half = event + b" " * (MAX_DECODED_BYTES // 2 - len(event))
    bomb = letter(b" " * 20 * MAX_DECODED_BYTES)

    opened = open_payload(_array(letter(half), letter(half), letter(event), bomb, event))

    assert [delivery.raw for delivery in opened.events] == [
        *(half, half, letter(event), bomb, event)
    ]
    assert [type(delivery.parsed) for delivery in opened.events] == [
        *(BucketEvent, BucketEvent, InvalidEvent, InvalidEvent, BucketEvent)
    ]


def _damaged(letter: bytes) -> bytes:
    parts = json.loads(letter)
    packed = b64decode(parts["event"])
    return json.dumps(parts | {"event": b64encode(packed[:-8] + bytes(8)).decode()}).encode()


def test_what_a_damaged_letter_unpacked_counts_too() -> None:
    """A checksum is at the end: whoever damages it must not have everything else for nothing."""
    event = creation()
    most = _damaged(letter(event + b" " * (MAX_DECODED_BYTES - len(event))))

    opened = open_payload(_array(most, letter(event)))

    assert [delivery.raw for delivery in opened.events] == [most, letter(event)]
    assert "incorrect data check" in str(opened.events[0].parsed)
    assert "more bytes than a payload may hold" in str(opened.events[1].parsed)


def test_a_damaged_letter_costs_no_other_its_turn() -> None:
    """A small one leaves nearly all of what may be unpacked to the others."""
    event = creation()
    rest = event + b" " * (MAX_DECODED_BYTES - 2 * CHUNK_BYTES - len(event))

    opened = open_payload(_array(_damaged(letter(event)), letter(rest)))

    assert [delivery.raw for delivery in opened.events] == [_damaged(letter(event)), rest]


def test_an_invalid_event_keeps_nothing_else_alive() -> None:
    """Hundreds of them must not hold hundreds of frames, with all that was unpacked there."""
    delivery = only(letter(b"{}")[:-20] + b'", "event_encoding": "gzip+base64"}')

    assert isinstance(delivery.parsed, InvalidEvent)
    assert (delivery.parsed.__traceback__, delivery.parsed.__context__) == (None, None)


# What is handed in parsed.

CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"id": 10**5000}, id="an integer that Python does not print"),
        pytest.param({"data": CIRCULAR}, id="a circle"),
        pytest.param({(1, 2): 3}, id="a key that JSON does not know"),
        pytest.param({"id": "\ud800"}, id="half a character"),
        pytest.param({"id": float("nan"), "x": b"\xff"}, id="what JSON does not know"),
        pytest.param(17, id="a number"),
        pytest.param(None, id="nothing"),
    ],
)
def test_a_parsed_value_that_is_no_event_is_invalid(one_door: Door, value: object) -> None:
    """Whatever is handed in parsed, it ends as a dead letter and not as an exception."""
    visit = one_door.visit(value)

    assert (visit.wrong, visit.outcomes) == ([], ("dead_lettered: invalid_event",))


def test_a_parsed_value_nested_without_end_is_invalid(one_door: Door) -> None:
    """A list in a list, deeper than JSON is written, is an event like any other."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    visit = one_door.visit({"data": value})

    assert (visit.wrong, visit.outcomes) == ([], ("dead_lettered: invalid_event",))


# What is read of it.


@pytest.mark.parametrize(
    ("length", "named_by"),
    [(MAX_URL_LENGTH, "requestParameters"), (MAX_URL_LENGTH + 1, "subject")],
)
def test_a_url_that_no_server_takes_names_nothing(length: int, named_by: str) -> None:
    """The longest that one takes does."""
    url = f"/buckets/acs:osstables:{REGION}:{ACCOUNT}:bucket/abc?"
    event = json.loads(creation(requestParameters={"url": url.ljust(length, "x")}))

    read = only(event | {"subject": f"acs:oss:{REGION}:{ACCOUNT}:abc"}).parsed

    assert isinstance(read, BucketEvent)
    assert find_bucket(read).named_by == named_by


@given(
    st.text(st.characters(codec=None, categories=None)) | st.text("a\0ü\U0001f600", max_size=300)
)
@example("a" * 198)
@example("a" * 199)
@example("\0" * 33)
@example("\0" * 34)
@example("\U0001f600" * 200)
def test_a_foreign_text_is_cut_as_late_as_may_be(text: str) -> None:
    """As it is where it fits; else the longest beginning that fits, and three dots."""
    cut = shortened(text)

    assert len(json.dumps(cut)) <= MAX_QUOTE_LENGTH
    if cut != text:
        assert len(json.dumps(text)) > MAX_QUOTE_LENGTH
        assert text.startswith(cut[:-3])
        assert len(json.dumps(text[: len(cut) - 2] + "...")) > MAX_QUOTE_LENGTH
