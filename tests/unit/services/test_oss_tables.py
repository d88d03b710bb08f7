"""What each answer of OSS Tables leads to: the status table of the design, a row a test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import repeat
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encryption_guard.arn import TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.errors import Refused, Throttled, Unavailable
from encryption_guard.http import Answer
from encryption_guard.http.retries import Throttle, UnreadableAnswer
from encryption_guard.services.oss_tables import (
    Operation,
    OssTables,
    Reading,
    bucket_operation,
    read_encryption,
)
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    KEY,
    REGION,
    Broken,
    FakeOssTables,
    FakeTime,
    KeyRing,
    Reply,
    Troubles,
    invocation_of,
)

MINUTES = timedelta(minutes=1)
PATH = f"/buckets/acs%3Aosstables%3A{REGION}%3A{ACCOUNT}%3Abucket%2Fmy-table-bucket/encryption"
TRANSPORT_ERRORS = [
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.RemoteProtocolError,
    httpx.WriteError,
    httpx.WriteTimeout,
]

Trouble = Reply | Broken


def refusal(status: int, code: str = "", message: str = "", **headers: str) -> Reply:
    """An error in the service's own form."""
    known = {"x-oss-error-type": code, "content-type": "application/json"}
    body = json.dumps({"message": message}).encode()
    return Reply(status, body, known | {k.replace("_", "-"): v for k, v in headers.items()})


def put(
    service: FakeOssTables, *, arn: TableBucketArn = ARN, **rest: Any
) -> Reading | Refused | Unavailable:
    """How PutTableBucketEncryption ends."""
    try:
        return OssTables(invocation_of(service, **rest)).put_encryption(arn, "AES256")
    except (Refused, Unavailable) as error:
        return error


def get(service: FakeOssTables, **rest: Any) -> Reading | None:
    """What GetTableBucketEncryption advises."""
    return OssTables(invocation_of(service, **rest)).current_encryption(ARN)


def ending(result: Reading | Refused | Unavailable) -> str:
    match result:
        case Reading():
            return "done" if result.known_as == "AES256" else f"{result.algorithm} is kept"
        case Refused():
            return result.reason
        case Unavailable():
            return "unavailable"


@dataclass(frozen=True)
class Row:
    """Answers to successive tries, how the request ends, and the pauses between its tries."""

    answers: Iterable[Trouble]
    ends: str
    pauses: tuple[float, ...] = ()


# Chance is 1, so that a jittered pause is as long as it can be.
BACK_OFF = (0.2, 0.4, 0.8)
VISIBLE_LATER = (0.5, 1.0, 1.5)

ROWS = {
    **{
        f"{status}": Row([Reply(status, headers={"location": "/elsewhere"})], "unexpected_redirect")
        for status in (300, 301, 302, 303, 307, 308)
    },
    "304": Row([Reply(304)], "unexpected_redirect"),
    **{
        f"{status}": Row([refusal(status, "BadRequestException", "No.")], "rejected")
        for status in (400, 402, 403, 405, 406, 410, 411, 412, 413, 415, 418, 422, 424, 451, 499)
    },
    "401": Row([refusal(401)], "unavailable"),
    "404": Row(repeat(refusal(404)), "not_found", VISIBLE_LATER),
    "409": Row(repeat(refusal(409)), "conflict", BACK_OFF),
    **{
        f"{status}": Row(repeat(refusal(status)), "unavailable", BACK_OFF)
        for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)
    },
    **{
        error.__name__: Row(repeat(Broken(error)), "unavailable", BACK_OFF)
        for error in TRANSPORT_ERRORS
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_each_answer_has_its_reaction(row: Row) -> None:
    """The status decides how often the request is tried and when, with one read before each repeat.

    Nothing is read after the last try.
    """
    service = FakeOssTables(troubles={"PUT": row.answers})

    result = put(service)

    assert ending(result) == row.ends
    assert service.time.slept == pytest.approx(row.pauses)
    assert service.methods() == ["PUT", *["GET", "PUT"] * len(row.pauses)]


# What OSS Tables alone puts on an answer: a page of somebody else's has none.
OURS = {"x-oss-request-id": "OSS-7"}
XML_ERROR = (
    b'<?xml version="1.0"?><Error><Code>InternalError</Code>'
    b"<Message>An internal error occurred.</Message></Error>"
)
AFTER_A_WHILE = {
    "404": Row([refusal(404)], "done", (0.5,)),
    "404 to the last": Row([refusal(404)] * 3, "done", VISIBLE_LATER),
    "409": Row([refusal(409)], "done", (0.2,)),
    "429 to the last": Row([refusal(429)] * 3, "done", BACK_OFF),
    "503 that names seconds": Row([refusal(503, retry_after="7")], "done", (7.0,)),
    "429 that names a time": Row(
        [refusal(429, retry_after="Fri, 02 Jan 2026 03:04:15 GMT")], "done", (10.0,)
    ),
    "408 that names nothing readable": Row([refusal(408, retry_after="soon")], "done", (0.2,)),
    "a reset, a time-out": Row(
        [Broken(httpx.ReadError), Broken(httpx.ReadTimeout, takes=5.0)], "done", (0.2, 0.4)
    ),
    "an error that calls itself a success": Row([Reply(200, XML_ERROR, OURS)], "done", (0.2,)),
    "not found and broken by turns": Row(
        [refusal(500), refusal(404), refusal(500), refusal(404), refusal(500), refusal(404)],
        "done",
        (0.2, 0.5, 0.4, 1.0, 0.8, 1.5),
    ),
    "all that not being found allows, then the rest": Row(
        [*[refusal(404)] * 3, refusal(409), refusal(429), Broken(httpx.ConnectError)],
        "done",
        (*VISIBLE_LATER, *BACK_OFF),
    ),
}


@pytest.mark.parametrize("row", AFTER_A_WHILE.values(), ids=AFTER_A_WHILE)
def test_what_passes_ends_in_an_encrypted_bucket(row: Row) -> None:
    """A bucket that is not visible yet does not use up the tries that other troubles have."""
    service = FakeOssTables(troubles={"PUT": row.answers})

    result = put(service)

    assert ending(result) == row.ends
    assert service.time.slept == pytest.approx(row.pauses)
    assert service.buckets[str(ARN)] == "AES256"


LAST_WORDS = {
    "broken at last": Row([refusal(409)] * 3 + [refusal(500)], "unavailable", BACK_OFF),
    "a conflict at last": Row([refusal(500)] * 3 + [refusal(409)], "conflict", BACK_OFF),
    "not found at last": Row(
        [refusal(500), *[refusal(404)] * 4], "not_found", (0.2, *VISIBLE_LATER)
    ),
    "rejected at last": Row([refusal(429), refusal(400)], "rejected", (0.2,)),
    "redirected at last": Row([refusal(503), Reply(307)], "unexpected_redirect", (0.2,)),
    "no answer at last": Row(
        [refusal(503)] * 3 + [Broken(httpx.ConnectError)], "unavailable", BACK_OFF
    ),
}


@pytest.mark.parametrize("row", LAST_WORDS.values(), ids=LAST_WORDS)
def test_the_last_answer_decides(row: Row) -> None:
    """Whether an operator or the platform tries next depends on the answer to the last try."""
    service = FakeOssTables(troubles={"PUT": row.answers})

    result = put(service)

    assert ending(result) == row.ends
    assert service.time.slept == pytest.approx(row.pauses)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            refusal(503, "SlowDown"),
            f"OSS Tables answered 503 SlowDown to PutTableBucketEncryption of {ARN} in 4 tries;"
            " a later try may succeed.",
        ),
        (
            Reply(200, XML_ERROR, OURS),
            f"OSS Tables answered 200 InternalError to PutTableBucketEncryption of {ARN} in 4 tries"
            " (an error with the status of a success); a later try may succeed.",
        ),
        (
            Broken(httpx.ReadError),
            f"OSS Tables gave no answer to PutTableBucketEncryption of {ARN} in 4 tries"
            " (ReadError); a later try may succeed.",
        ),
    ],
    ids=["busy", "an error that calls itself a success", "no answer"],
)
def test_an_unavailable_service_is_one_sentence(trouble: Trouble, sentence: str) -> None:
    """What was asked of whom, how often, the last answer, and what to expect."""
    assert str(put(FakeOssTables(troubles={"PUT": repeat(trouble)}))) == sentence


@pytest.mark.parametrize(
    ("attempts", "pauses"), [("1", ()), ("2", (0.2,)), ("6", (0.2, 0.4, 0.8, 1.6, 3.2))]
)
def test_the_number_of_tries_is_a_setting(attempts: str, pauses: tuple[float, ...]) -> None:
    """GUARD_MAX_ATTEMPTS counts all tries, the first included."""
    service = FakeOssTables(troubles={"PUT": repeat(refusal(500))})

    put(service, environment={"GUARD_MAX_ATTEMPTS": attempts})

    assert service.time.slept == pytest.approx(pauses)


def test_a_bucket_may_become_visible_whatever_the_number_of_tries() -> None:
    """The three repeats of a 404 are beside GUARD_MAX_ATTEMPTS."""
    service = FakeOssTables(troubles={"PUT": [refusal(404)] * 3})

    result = put(service, environment={"GUARD_MAX_ATTEMPTS": "1"})

    assert ending(result) == "done"


def test_a_refusal_says_how_often_it_was_asked_for() -> None:
    """`attempts` counts every request that was sent."""
    service = FakeOssTables(troubles={"PUT": [refusal(500), Broken(httpx.ReadError)]}, buckets={})

    result = put(service)

    assert isinstance(result, Refused)
    assert result.attempts == service.methods().count("PUT") == 6


# What a 2xx is worth.

CONFIRMING = {
    "200": Reply(200, headers=OURS),
    "200 with an object": Reply(200, b"{}", OURS),
    "204": Reply(204, headers=OURS),
}


@pytest.mark.parametrize("reply", CONFIRMING.values(), ids=CONFIRMING)
def test_a_200_or_204_of_the_service_confirms_the_put(reply: Reply) -> None:
    """With a request id, and a body that is no error, it is believed and nothing is read."""
    service = FakeOssTables(troubles={"PUT": [reply]})

    result = put(service)

    status = reply.status
    assert result == Reading("encrypted", "AES256", "AES256", status=status, oss_request_id="OSS-7")
    assert service.methods() == ["PUT"]


DOUBTFUL = {
    **{f"{status}": Reply(status, headers=OURS) for status in (201, 202, 206, 299)},
    "200 with a sign-in page": Reply(200, b"<html>Sign in", {"content-type": "text/html"}),
    "200 with garbage": Reply(200, b"\xff{", OURS),
    "200 with a list": Reply(200, b"[]", OURS),
    "200 with an empty id": Reply(200, headers={"x-oss-request-id": " "}),
    "204 without an id": Reply(204),
}


@pytest.mark.parametrize("algorithm", ["AES256", "KMS", "ROT13"])
@pytest.mark.parametrize("reply", DOUBTFUL.values(), ids=DOUBTFUL)
def test_another_2xx_counts_once_a_get_shows_a_choice(reply: Reply, algorithm: str) -> None:
    """What the GET shows is what is returned, also where there is no second try."""
    service = FakeOssTables({str(ARN): algorithm}, troubles={"PUT": repeat(reply)})

    result = put(service, environment={"GUARD_MAX_ATTEMPTS": "1"})

    assert isinstance(result, Reading)
    assert (result.algorithm, result.oss_request_id) == (algorithm, "OSS-2")
    assert service.methods() == ["PUT", "GET"]


@pytest.mark.parametrize("reply", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_2xx_that_no_get_confirms_is_no_answer(reply: Reply) -> None:
    """It is repeated, and in the end left to the platform."""
    service = FakeOssTables(troubles={"PUT": repeat(reply)})

    result = put(service)

    assert ending(result) == "unavailable"
    assert service.time.slept == pytest.approx(BACK_OFF)
    assert service.methods().count("PUT") == 4


FAILED = {
    "XML": Reply(200, XML_ERROR, OURS),
    "JSON": Reply(200, b'{"Error": {"Code": "InternalError", "Message": "No."}}', OURS),
    "JSON without parts": Reply(200, b' {"Error": null}', OURS),
    "a code": Reply(200, b'{"Code": "InternalError"}', OURS),
    "an error behind something": Reply(200, b'{"requestId": "1", "error": "denied"}', OURS),
    "Lance's": Reply(200, b'{"code": 403, "detail": "denied"}', OURS),
    "a list": Reply(200, b'[{"Code": "X"}]', OURS),
    "another's": Reply(200, b'{"errorCode": "X", "errorMessage": "No."}', OURS),
    "a type": Reply(200, b'{"__type": "AccessDeniedException"}', OURS),
    "XML behind a mark": Reply(200, b"\xef\xbb\xbf<Error></Error>", OURS),
    "XML behind a comment": Reply(200, b"<!-- x --><ns:Error a='b'><x/></ns:Error>", OURS),
    "XML of another": Reply(200, b"<ErrorResponse><Type>x</Type></ErrorResponse>", OURS),
    "typed": Reply(204, headers=OURS | {"x-oss-error-type": "InternalError"}),
    "typed, without an id": Reply(202, headers={"x-oss-error-type": "InternalError"}),
}


@pytest.mark.parametrize("reply", FAILED.values(), ids=FAILED)
def test_an_error_with_the_status_of_a_success_is_no_answer(reply: Reply) -> None:
    """It is repeated as after a reset, and in the end left to the platform."""
    service = FakeOssTables(troubles={"PUT": repeat(reply)})

    result = put(service)

    assert ending(result) == "unavailable"
    assert service.time.slept == pytest.approx(BACK_OFF)
    assert service.methods() == ["PUT", *["GET", "PUT"] * 3]


# The read before a repeat.


@pytest.mark.parametrize(
    "trouble",
    [refusal(503), refusal(404), refusal(409), Broken(httpx.ReadError), FAILED["XML"]],
    ids=["503", "404", "409", "reset", "200 with an error"],
)
@pytest.mark.parametrize(
    ("algorithm", "ends"),
    [("AES256", "done"), ("KMS", "KMS is kept"), ("ROT13", "ROT13 is kept")],
)
def test_what_shows_before_a_repeat_ends_it(algorithm: str, ends: str, trouble: Trouble) -> None:
    """An answer may be lost after the PUT was done, and an owner's choice is not overwritten."""
    service = FakeOssTables({str(ARN): algorithm}, troubles={"PUT": [trouble]})

    result = put(service)

    assert ending(result) == ends
    assert service.methods() == ["PUT", "GET"]
    assert service.buckets[str(ARN)] == algorithm


@pytest.mark.parametrize(
    ("unclear", "takes"),
    [
        (refusal(403), 0.0),
        (refusal(404), 0.0),
        (refusal(503, retry_after="1"), 0.0),
        (Broken(httpx.ReadError), 0.0),
        (Reply(200, takes=100.0), 2.0),
    ],
    ids=["403", "404", "503", "reset", "silence"],
)
def test_an_unclear_read_does_not_stop_the_repeat(unclear: Trouble, takes: float) -> None:
    """It is not repeated itself, and takes 2 s at most."""
    service = FakeOssTables(troubles={"PUT": [refusal(500)], "GET": [unclear]})

    result = put(service)

    assert ending(result) == "done"
    assert service.methods() == ["PUT", "GET", "PUT"]
    assert service.time.passed == pytest.approx(0.2 + takes)


# The time there is.


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 5.0, 10.0, 60.0])
@pytest.mark.parametrize(
    "trouble",
    [
        Broken(httpx.ReadError),
        Broken(httpx.ReadError, takes=3.0),
        Reply(503, takes=1e6),
        refusal(404),
        refusal(429, retry_after="2"),
    ],
    ids=["resets", "slow resets", "silence", "not found", "busy"],
)
def test_a_request_keeps_to_sixty_percent_of_the_time(seconds: float, trouble: Trouble) -> None:
    """Tries, pauses and waiting for answers together leave 40 % for the dead letter."""
    service = FakeOssTables(troubles={"PUT": repeat(trouble)})

    put(service, seconds=seconds, environment={"GUARD_MAX_ATTEMPTS": "20"})

    assert service.time.passed <= 0.6 * seconds + 1e-6


def test_a_try_has_its_own_deadline() -> None:
    """A service that does not answer costs GUARD_HTTP_TIMEOUT_SECONDS, and then comes the next."""
    service = FakeOssTables(troubles={"PUT": [Reply(200, takes=100.0)]})

    result = put(service, environment={"GUARD_HTTP_TIMEOUT_SECONDS": "3"})

    assert ending(result) == "done"
    assert service.time.passed == pytest.approx(3.0 + 0.2)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_pause_beyond_the_time_is_not_waited_for(status: int) -> None:
    """A Retry-After that the invocation will not live to see raises at once."""
    service = FakeOssTables(troubles={"PUT": [refusal(status, retry_after="37")]})

    result = put(service, seconds=60)

    assert ending(result) == "unavailable"
    assert service.time.slept == []


def test_a_pause_within_the_time_is_waited_for() -> None:
    """A Retry-After just below 60 % of the rest is honoured."""
    service = FakeOssTables(troubles={"PUT": [refusal(429, retry_after="35")]})

    result = put(service, seconds=60)

    assert ending(result) == "done"
    assert service.time.slept == [35.0]


def test_nothing_is_repeated_after_a_read_that_took_the_rest_of_the_time() -> None:
    """The read before a repeat ends with the request, which then ends as it stands."""
    service = FakeOssTables(troubles={"PUT": repeat(refusal(500)), "GET": [Reply(200, takes=9.0)]})

    result = put(service, seconds=2.0)

    assert ending(result) == "unavailable"
    assert service.methods() == ["PUT", "GET"]


def test_each_request_takes_its_share_of_what_is_left_then() -> None:
    """The second request of an invocation has 60 % of what the first one left."""
    service = FakeOssTables(troubles={"PUT": repeat(Reply(503, takes=1e6))})
    tables = OssTables(
        invocation_of(service, seconds=10, environment={"GUARD_HTTP_TIMEOUT_SECONDS": "60"})
    )

    ends = []
    for _ in range(2):
        with pytest.raises(Unavailable):
            tables.put_encryption(ARN, "AES256")
        ends.append(service.time.passed)

    assert ends == pytest.approx([6.0, 8.4])


ANY_TROUBLE = st.one_of(
    st.builds(
        Reply,
        status=st.sampled_from([200, 307, 400, 401, 403, 404, 409, 429, 500, 503]),
        headers=st.sampled_from([{}, {"retry-after": "0"}, {"retry-after": "3"}]),
        takes=st.floats(0, 8),
    ),
    st.builds(Broken, error=st.sampled_from(TRANSPORT_ERRORS), takes=st.floats(0, 8)),
)


@settings(deadline=None)
@given(
    answers=st.lists(ANY_TROUBLE, max_size=12),
    reads=st.lists(ANY_TROUBLE, max_size=12),
    seconds=st.floats(0.5, 100),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_any_sequence_ends_in_time(
    answers: list[Trouble], reads: list[Trouble], seconds: float, chance: float
) -> None:
    """Whatever comes, it ends in time and in few tries, and is done only if it was done."""
    service = FakeOssTables(time=FakeTime(chance=chance), troubles={"PUT": answers, "GET": reads})

    result = put(service, seconds=seconds)

    assert service.time.passed <= 0.6 * seconds + 1e-6
    assert service.methods().count("PUT") <= 4 + 3 + 2
    assert (ending(result) == "done") == (service.buckets[str(ARN)] == "AES256")


# The clock and the credentials.


@pytest.mark.parametrize("ahead", [60 * MINUTES, -60 * MINUTES], ids=["ahead", "behind"])
def test_a_skewed_clock_is_corrected(ahead: timedelta) -> None:
    """After a 403 for the clock the request is signed with the service's time, at once.

    That is no repeat: nothing is read before it.
    """
    service = FakeOssTables(ahead=ahead)

    result = put(service)

    assert ending(result) == "done"
    assert service.time.slept == []
    assert [request.headers["x-oss-date"] for request in service.requests] == [
        "20260102T030405Z",
        service.now().strftime("%Y%m%dT%H%M%SZ"),
    ]


@pytest.mark.parametrize(
    "error",
    [
        refusal(403, "RequestTimeTooSkewed", "No."),
        refusal(403, "ForbiddenException", "The request time is too skewed."),
        refusal(
            403,
            "ForbiddenException",
            "The difference between the request time and the current time is too large.",
        ),
        Reply(403, b'{"Error":{"Code":"RequestTimeTooSkewed","Message":"No."}}'),
        Reply(403, b"<Error><Code>RequestTimeTooSkewed</Code><Message>No.</Message></Error>"),
        refusal(400, "InvalidArgument", "Invalid signing date in Authorization header."),
        refusal(403, "InvalidSigningDate", "No."),
    ],
    ids=["code", "message", "classic message", "JSON", "XML", "the signing date", "its code"],
)
def test_a_4xx_may_say_in_many_ways_that_the_clock_is_wrong(error: Reply) -> None:
    """Code and message both count, in every form that an error has."""
    date = {"date": "Fri, 02 Jan 2026 03:10:00 GMT"}
    dated = Reply(error.status, error.body, {**error.headers, **date})
    service = FakeOssTables(troubles={"PUT": [dated]})

    result = put(service)

    assert ending(result) == "done"
    assert service.requests[-1].headers["x-oss-date"] == "20260102T031000Z"


def test_the_clock_is_corrected_once() -> None:
    """A service that stays with its complaint has rejected the request."""
    skewed = refusal(403, "RequestTimeTooSkewed", date="Fri, 02 Jan 2026 03:10:00 GMT")
    service = FakeOssTables(troubles={"PUT": [skewed] * 5})

    result = put(service)

    assert ending(result) == "rejected"
    assert len(service.requests) == 2


@pytest.mark.parametrize("date", ["", "some day"], ids=["none", "unreadable"])
def test_a_clock_without_a_measure_is_not_corrected(date: str) -> None:
    """Without the service's time there is nothing to correct by: the 403 is the last word."""
    headers = {"date": date} if date else {}
    service = FakeOssTables(troubles={"PUT": [refusal(403, "RequestTimeTooSkewed", **headers)]})

    result = put(service)

    assert ending(result) == "rejected"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("environment", "clock"),
    [
        ({}, "this machine's clock"),
        (
            {
                "FC_FUNCTION_NAME": "f",
                "GUARD_DEAD_LETTER_QUEUE": f"acs:mns:{REGION}:{ACCOUNT}:/queues/q",
            },
            "the function's clock",
        ),
    ],
    ids=["a command", "a function"],
)
def test_whose_clock_is_wrong_is_told(environment: dict[str, str], clock: str) -> None:
    """Where a correction does not help, the sentence says which clock has to be set."""
    skewed = refusal(403, "RequestTimeTooSkewed", date="Fri, 02 Jan 2026 03:10:00 GMT")
    service = FakeOssTables(troubles={"PUT": [skewed] * 2})

    result = put(service, environment=environment)

    assert str(result).endswith(f'"no message". If it is about the time, set {clock}.')


@pytest.mark.parametrize(
    ("framing", "state"),
    [
        ({"content-length": "0"}, "not_encrypted"),
        ({"transfer-encoding": "chunked"}, "not_encrypted"),
    ],
)
def test_an_empty_answer_that_is_whole_shows_no_encryption(
    framing: dict[str, str], state: str
) -> None:
    """The documentation's "empty configuration" may be nothing at all."""
    assert read_encryption(Answer(200, httpx.Headers(framing), b" ")).state == state


def test_an_empty_answer_that_may_be_cut_short_shows_nothing() -> None:
    """What ends with its connection may have been a stronger choice."""
    with pytest.raises(UnreadableAnswer, match="cut short"):
        read_encryption(Answer(200, httpx.Headers(), b""))


OLD = Credentials("STS.old", "SECRET-OLD", "TOKEN-OLD")
NEW = Credentials("STS.new", "SECRET-NEW", "TOKEN-NEW")


@pytest.mark.parametrize(
    "troubles",
    [{}, {"PUT": [refusal(401)]}, {"PUT": [refusal(403, "Forbidden", "The STS token expired.")]}],
    ids=["403 of an expired key", "401", "403 by its message"],
)
def test_credentials_are_read_again_when_they_expired(troubles: Troubles) -> None:
    """New credentials are used at once, for one more try, and nothing is read before it."""
    service = FakeOssTables(keys=[OLD, NEW], expired=["STS.old"], troubles=troubles)
    ring = KeyRing([OLD, NEW])

    result = put(service, read_credentials=ring.read)

    assert ending(result) == "done"
    assert service.time.slept == []
    assert [request.headers["x-oss-security-token"] for request in service.requests] == [
        "TOKEN-OLD",
        "TOKEN-NEW",
    ]


@pytest.mark.parametrize(
    ("held", "tries"), [([OLD], 1), ([OLD, NEW], 2)], ids=["the same", "new ones, expired too"]
)
def test_expired_credentials_are_left_to_the_next_invocation(
    held: list[Credentials], tries: int
) -> None:
    """Where reading them again does not help, the platform has to try again."""
    service = FakeOssTables(keys=[OLD, NEW], expired=["STS.old", "STS.new"])

    result = put(service, read_credentials=KeyRing(held).read)

    assert ending(result) == "unavailable"
    assert len(service.requests) == tries
    assert "TOKEN" not in str(result)
    assert "SECRET" not in str(result)


def test_everything_at_once_still_ends_encrypted() -> None:
    """Skew, expiry, invisibility, conflict and failure each have their own remedy."""
    service = FakeOssTables(
        keys=[OLD, NEW],
        expired=["STS.old"],
        ahead=60 * MINUTES,
        troubles={"PUT": [refusal(404), refusal(409), refusal(500)]},
    )

    result = put(service, read_credentials=KeyRing([OLD, NEW]).read)

    assert ending(result) == "done"
    assert service.time.slept == pytest.approx([0.5, 0.2, 0.4])
    assert service.buckets[str(ARN)] == "AES256"


# What the service said.


@dataclass(frozen=True)
class Said:
    """An error as it comes, and what can be read of it."""

    body: bytes
    headers: Mapping[str, str]
    code: str | None
    message: str | None
    ec: str | None


XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>AccessDenied</Code>\n'
    b"  <Message>Not &lt;you&gt; &amp; not now.</Message>\n  <RequestId>1</RequestId>\n"
    b"  <HostId>h</HostId>\n  <EC>0003-00000001</EC>\n</Error>"
)
SIGNATURE = (
    b"<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message>"
    b"<SignatureProvided>cafe</SignatureProvided><StringToSign>OSS4</StringToSign></Error>"
)
TYPED = {"x-oss-error-type": "ForbiddenException", "x-oss-ec": "0002-00000040"}
ERRORS = {
    "typed": Said(b'{"message": "No."}', TYPED, "ForbiddenException", "No.", "0002-00000040"),
    "JSON": Said(
        b'{"Error": {"Code": "AccessDenied", "Message": "No.", "EC": "0003-1", "RequestId": "1"}}',
        {},
        "AccessDenied",
        "No.",
        "0003-1",
    ),
    "XML": Said(XML, {}, "AccessDenied", "Not <you> & not now.", "0003-00000001"),
    "XML that repeats the signature": Said(SIGNATURE, {}, "SignatureDoesNotMatch", "No.", None),
    "XML with EC as a header": Said(
        b"<Error><Code>A</Code></Error>", {"x-oss-ec": "0003-2"}, "A", None, "0003-2"
    ),
    "empty": Said(b"", {}, None, None, None),
    "typed and empty": Said(b"", TYPED, "ForbiddenException", None, "0002-00000040"),
    "binary": Said(b"\xff\xfe\x00", {}, None, None, None),
    "JSON of other types": Said(b'{"message": 5, "Error": null}', {}, None, None, None),
    "parts of other types": Said(
        b'{"Error": {"Code": ["a"], "Message": {}, "EC": 1}}', {}, None, None, None
    ),
    "deep arrays": Said(b"[" * 60_000, {}, None, None, None),
    "deep objects": Said(
        b'{"message":' * 5_000, TYPED, "ForbiddenException", None, "0002-00000040"
    ),
}


@pytest.mark.parametrize("said", ERRORS.values(), ids=ERRORS)
def test_an_error_is_understood_in_all_its_forms(said: Said) -> None:
    """Code, message and EC are read where they are, and are nothing where they are not."""
    headers = {**said.headers, "x-oss-request-id": "OSS-1"}
    service = FakeOssTables(troubles={"PUT": [Reply(403, said.body, headers)]})

    result = put(service)

    assert isinstance(result, Refused)
    assert (result.code, result.message, result.ec) == (said.code, said.message, said.ec)
    assert (result.status, result.oss_request_id, result.attempts) == (403, "OSS-1", 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "\\ud800"}',
        b'{"Error": {"Code": "\\udfff", "Message": "a\\ud800b"}}',
        b"<Error><Code>&#xD800;</Code><Message>&#xDFFF;</Message></Error>",
        b"<Error><Message>\xed\xa0\x80</Message></Error>",
    ],
    ids=["JSON", "nested", "XML entities", "bytes"],
)
def test_half_a_character_does_no_harm(body: bytes) -> None:
    """Whatever a lone surrogate becomes, it can be written down."""
    service = FakeOssTables(troubles={"PUT": [Reply(403, body)]})

    result = put(service)

    assert isinstance(result, Refused)
    for part in (result.code, result.message, result.ec, str(result)):
        (part or "").encode()


@settings(deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["message", "Error", "Code", "Message", "EC", "x"]),
                    inner,
                    max_size=4,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_error_is_too_strange_to_be_told(body: bytes) -> None:
    """A 400 is rejected whatever stands in it, and what is told of it can be written down."""
    service = FakeOssTables(troubles={"PUT": [Reply(400, body)]})

    result = put(service)

    assert isinstance(result, Refused)
    for part in (result.code, result.message, result.ec, str(result)):
        (part or "").encode()


def test_what_is_told_of_an_error_has_an_end() -> None:
    """However much a service says, a dead letter can hold it."""
    body = json.dumps({"message": "\u20ac" * 20_000}, ensure_ascii=False).encode()
    names = ("x-oss-error-type", "x-oss-ec", "x-oss-request-id")
    service = FakeOssTables(
        troubles={"PUT": [Reply(400, body, dict.fromkeys(names, "long" * 5000))]}
    )

    result = put(service)

    assert isinstance(result, Refused)
    for part in (result.code, result.message, result.ec, result.oss_request_id, str(result)):
        assert part
        assert len(part) <= 1000


def test_a_foreign_message_is_quoted() -> None:
    """In the sentence of an error a service's message is escaped and at most 200 characters."""
    said = 'a"b\n\x1b[31m\u202e' + "c" * 500
    service = FakeOssTables(troubles={"PUT": [refusal(400, "BadRequestException", said)]})

    result = put(service)

    assert str(result).isascii()
    assert str(result).isprintable()
    assert len(str(result)) < 500


def test_an_unavailable_service_is_named_with_its_answer() -> None:
    """The exception that the platform stores tells the status, the bucket and the tries."""
    service = FakeOssTables(troubles={"PUT": repeat(refusal(503, "ServiceUnavailable"))})

    result = put(service)

    assert isinstance(result, Unavailable)
    assert all(part in str(result) for part in ("503", "ServiceUnavailable", str(ARN), "4 tries"))


# The advice.


def encryption(algorithm: object, **more: object) -> bytes:
    return json.dumps({"encryptionConfiguration": {"sseAlgorithm": algorithm, **more}}).encode()


def test_a_clear_answer_is_taken() -> None:
    """A 200 with a choice says how the bucket is encrypted; test_inventory.py has each word."""
    reply = Reply(200, encryption("aes256", kmsKeyArn="", more=1), {"x-oss-request-id": "OSS-7"})
    service = FakeOssTables(troubles={"GET": [reply]})

    advice = get(service)

    assert advice == Reading("encrypted", "AES256", "AES256", status=200, oss_request_id="OSS-7")
    assert service.methods() == ["GET"]


def test_a_word_that_nobody_knows_is_advice() -> None:
    """Its owner chose something: it is not overwritten."""
    advice = get(FakeOssTables(troubles={"GET": [Reply(200, encryption("ROT13"))]}))

    assert advice is not None
    assert (advice.state, advice.algorithm) == ("unknown", "ROT13")


UNCLEAR = {
    "empty": Reply(200),
    "empty object": Reply(200, b"{}"),
    "no algorithm": Reply(200, b'{"encryptionConfiguration":{}}'),
    "empty algorithm": Reply(200, encryption("")),
    "a word for nothing": Reply(200, encryption("none")),
    "a redirect": Reply(302, encryption("AES256"), {"location": "/elsewhere"}),
    "400": refusal(400),
    "403": refusal(403),
    "404": refusal(404),
    "409": refusal(409),
    "a pause beyond its time": refusal(429, retry_after="30"),
    "time-out": Broken(httpx.ReadTimeout, takes=2.0),
}


@pytest.mark.parametrize("reply", UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_answer_is_no_advice(reply: Trouble) -> None:
    """An answer that shows no choice says nothing, and is not asked for twice."""
    service = FakeOssTables({str(ARN): "AES256"}, troubles={"GET": [reply]})

    advice = get(service)

    assert advice is None
    assert service.methods() == ["GET"]


PASSING = {
    "500": refusal(500),
    "503": refusal(503, retry_after="1"),
    "408": refusal(408),
    "425": refusal(425),
    "429": refusal(429, retry_after="1"),
    "reset": Broken(httpx.ReadError),
    "disconnected": Broken(httpx.RemoteProtocolError),
    "garbage": Reply(200, b"\xff\x00<html>"),
    "deep": Reply(200, b"[" * 60_000),
    "cut short": Reply(200, encryption("AES256")[:-1]),
    "another success": Reply(204, encryption("AES256")),
    "a number": Reply(200, encryption(256)),
    "a typed error": Reply(200, encryption("AES256"), {"x-oss-error-type": "InternalError"}),
    "a wrong clock": refusal(403, "RequestTimeTooSkewed", date="Fri, 02 Jan 2026 03:10:00 GMT"),
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_advice_is_asked_for_again_as_a_put_is(trouble: Trouble) -> None:
    """What may pass within 2 s does not let a stronger choice be overwritten."""
    service = FakeOssTables({str(ARN): "KMS"}, troubles={"GET": [trouble]})

    advice = get(service)

    assert advice
    assert advice.algorithm == "KMS"
    assert service.methods() == ["GET", "GET"]


def test_advice_is_asked_for_with_new_credentials() -> None:
    """A token that has just expired does not let a stronger choice be overwritten."""
    old = Credentials("OLD", "OLDSECRET")
    service = FakeOssTables({str(ARN): "KMS"}, expired=["OLD"], keys=[KEY, old])

    advice = get(service, read_credentials=KeyRing([old, KEY]).read)

    assert advice
    assert advice.algorithm == "KMS"


def test_advice_is_asked_for_as_often_as_the_settings_say() -> None:
    """After that it is as good as no advice."""
    service = FakeOssTables(troubles={"GET": repeat(refusal(500))})

    advice = get(service)

    assert advice is None
    assert service.methods() == ["GET"] * 4


@pytest.mark.parametrize(
    ("answers", "seconds", "longest"),
    [
        ([Reply(200, takes=100.0)], 60, 2.0),
        ([Reply(500, takes=1.5), Reply(200, takes=100.0)], 60, 2.0),
        ([Reply(200, takes=100.0)], 2, 1.2),
        ([Reply(500, takes=0.5), Reply(200, takes=100.0)], 2, 1.2),
    ],
    ids=["silence", "failure, then silence", "little time", "little time and a failure"],
)
def test_advice_takes_two_seconds_at_most(
    answers: list[Reply], seconds: float, longest: float
) -> None:
    """Both tries together take 2 s, or 60 % of what is left where that is less."""
    service = FakeOssTables(troubles={"GET": answers})

    advice = get(service, seconds=seconds)

    assert advice is None
    assert service.time.passed == pytest.approx(longest)


# The request.


def test_the_put_asks_for_aes256_and_nothing_else() -> None:
    """The body is the one documented, in JSON, its digest is a header, and it is signed."""
    service = FakeOssTables()

    put(service)

    (request,) = service.requests
    assert request.method == "PUT"
    assert json.loads(request.content) == {"encryptionConfiguration": {"sseAlgorithm": "AES256"}}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-md5"] == "8brxxND+ziGAM1VKSOGH2A=="
    assert request.headers["x-oss-date"] == "20260102T030405Z"
    assert request.headers["authorization"].startswith(
        "OSS4-HMAC-SHA256 Credential=AKID/20260102/cn-hangzhou/osstables/aliyun_v4_request,"
    )
    assert "x-oss-security-token" not in request.headers


def test_the_get_has_no_body() -> None:
    """It is signed like the PUT, the digest of nothing included."""
    service = FakeOssTables({str(ARN): "AES256"})

    advice = get(service)

    (request,) = service.requests
    assert advice
    assert request.content == b""
    assert request.headers["content-md5"] == "1B2M2Y8AsgTpgAmY7PhCfg=="


def test_temporary_credentials_send_their_token() -> None:
    """The token of an STS key goes along and is signed."""
    service = FakeOssTables(keys=[NEW])

    result = put(service, read_credentials=KeyRing([NEW]).read)

    assert ending(result) == "done"
    assert service.requests[0].headers["x-oss-security-token"] == "TOKEN-NEW"


def arn_of(name: str, *, region: str = REGION) -> TableBucketArn:
    return TableBucketArn(region, ACCOUNT, name)


FITTING = "b" * (63 - 1 - len(ACCOUNT))
VIRTUAL = {"GUARD_OSS_TABLES_ADDRESSING": "virtual"}
INTERNAL = {"GUARD_OSS_TABLES_NETWORK": "internal"}
LOOPBACK = {"GUARD_OSS_TABLES_ENDPOINT": "http://127.0.0.1:8080"}
URLS = [
    ("path", {}, ARN, "https://cn-hangzhou.oss-tables.aliyuncs.com"),
    (
        "virtual",
        VIRTUAL,
        ARN,
        f"https://my-table-bucket-{ACCOUNT}.cn-hangzhou.oss-tables.aliyuncs.com",
    ),
    (
        "virtual, a label of 63",
        VIRTUAL,
        arn_of(FITTING),
        f"https://{FITTING}-{ACCOUNT}.cn-hangzhou.oss-tables.aliyuncs.com",
    ),
    (
        "virtual, a label of 64",
        VIRTUAL,
        arn_of(FITTING + "b"),
        "https://cn-hangzhou.oss-tables.aliyuncs.com",
    ),
    ("internal", INTERNAL, ARN, "https://cn-hangzhou-internal.oss-tables.aliyuncs.com"),
    (
        "internal, another region",
        INTERNAL,
        arn_of("bucket", region="eu-central-1"),
        "https://eu-central-1.oss-tables.aliyuncs.com",
    ),
    (
        "internal, no region known",
        INTERNAL | {"FC_REGION": ""},
        ARN,
        "https://cn-hangzhou.oss-tables.aliyuncs.com",
    ),
    (
        "internal and virtual",
        INTERNAL | VIRTUAL,
        ARN,
        f"https://my-table-bucket-{ACCOUNT}.cn-hangzhou-internal.oss-tables.aliyuncs.com",
    ),
    ("endpoint", LOOPBACK, ARN, "http://127.0.0.1:8080"),
    (
        "endpoint with a region",
        {"GUARD_OSS_TABLES_ENDPOINT": "https://{region}.example.com:8443"},
        arn_of("bucket", region="eu-central-1"),
        "https://eu-central-1.example.com:8443",
    ),
]


@pytest.mark.parametrize(
    ("environment", "arn", "base"), [row[1:] for row in URLS], ids=[row[0] for row in URLS]
)
def test_where_a_request_goes(environment: dict[str, str], arn: TableBucketArn, base: str) -> None:
    """Settings decide on scheme, host and port; the path holds the ARN, its slash encoded."""
    service = FakeOssTables({str(arn): ""})

    result = put(service, arn=arn, environment=environment)

    assert ending(result) == "done"
    path = PATH.replace(REGION, arn.region).replace("my-table-bucket", arn.name)
    assert str(service.requests[0].url) == base + path


def test_a_refused_key_is_rejected_at_once() -> None:
    """A key that the service does not know is an operator's business, and stays a secret."""
    service = FakeOssTables(keys=[])

    result = put(service)

    assert ending(result) == "rejected"
    assert len(service.requests) == 1
    assert KEY.access_key_secret not in str(result)
    assert "Signature=" not in str(result)


# Any other call.

EXISTS = bucket_operation("GetTableBucket", "GET", ARN)
LIST = Operation(name="ListTableBuckets", method="GET", path="buckets", region=REGION)


def body_of(answer: Answer) -> bytes:
    """The body, which has to hold something."""
    if not answer.body:
        raise UnreadableAnswer("nothing")
    return answer.body


def perform(
    service: FakeOssTables, call: Operation, *, throttle: Throttle | None = None, **rest: Any
) -> bytes | Refused | Unavailable:
    """How a call ends."""
    try:
        return OssTables(invocation_of(service, **rest), throttle).call(call, body_of)
    except (Refused, Unavailable) as error:
        return error


CALL_ROWS = {
    "299": Row([Reply(299, b"{}")], "done"),
    "302": Row([Reply(302, headers={"location": "/elsewhere"})], "unexpected_redirect"),
    "401": Row([refusal(401)], "unavailable"),
    "403": Row([refusal(403)], "rejected"),
    "404": Row([refusal(404)], "not_found"),
    "409": Row([refusal(409)], "conflict"),
    "503": Row(repeat(refusal(503)), "unavailable", BACK_OFF),
    "reset": Row(repeat(Broken(httpx.ReadError)), "unavailable", BACK_OFF),
    "unreadable": Row(repeat(Reply(200)), "unavailable", BACK_OFF),
    "unreadable once": Row([Reply(200)], "done", BACK_OFF[:1]),
    "unreadable, busy, reset": Row(
        [Reply(200), refusal(429), Broken(httpx.ReadError)], "done", BACK_OFF
    ),
    "unreadable, then gone": Row([Reply(200), refusal(404)], "not_found", BACK_OFF[:1]),
    "unreadable that names seconds": Row([Reply(200, headers={"retry-after": "3"})], "done", (3,)),
}


@pytest.mark.parametrize("call", [EXISTS, LIST], ids=["a bucket's", "a region's"])
@pytest.mark.parametrize("row", CALL_ROWS.values(), ids=CALL_ROWS)
def test_any_call_is_repeated_as_far_as_that_can_help(row: Row, call: Operation) -> None:
    """As for a PUT, but that a 404 is final and that a 2xx has to be readable."""
    service = FakeOssTables(troubles={"GET": row.answers})

    result = perform(service, call)

    ended = "done" if isinstance(result, bytes) else ending(result)
    assert ended == row.ends
    assert service.time.slept == pytest.approx(row.pauses)
    assert len(service.requests) == len(row.pauses) + 1


def test_a_call_may_wait_for_a_bucket_to_become_visible() -> None:
    """As often and as long as the call says."""
    service = FakeOssTables(troubles={"GET": [refusal(404)] * 2})
    call = bucket_operation("GetTableBucket", "GET", ARN, visibility_pauses=(0.3, 0.6))

    result = perform(service, call)

    assert isinstance(result, bytes)
    assert service.time.slept == [0.3, 0.6]


@pytest.mark.parametrize("call", [EXISTS, LIST], ids=["a bucket's", "a region's"])
def test_what_cannot_be_read_is_told_as_that(call: Operation) -> None:
    """The sentence names the status, the operation, what it is about, and why it is no answer."""
    service = FakeOssTables(troubles={"GET": repeat(Reply(200))})

    result = perform(service, call)

    about = str(call.bucket or call.region)
    assert str(result) == (
        f"OSS Tables answered 200 to {call.name} of {about} in 4 tries (nothing);"
        " a later try may succeed."
    )


def test_the_last_try_is_what_is_told() -> None:
    """What could not be read before is not mentioned where another answer was the last."""
    service = FakeOssTables(
        troubles={"GET": [Reply(200)] * 3 + [refusal(503, "ServiceUnavailable")]}
    )

    result = perform(service, EXISTS)

    assert str(result).startswith("OSS Tables answered 503 ServiceUnavailable to GetTableBucket")


@pytest.mark.parametrize(("max_bytes", "read"), [(3, b"xxx"), (10, b"x" * 10), (11, b"x" * 10)])
def test_a_call_says_how_much_of_its_answer_is_read(max_bytes: int, read: bytes) -> None:
    """Lists are longer than other answers."""
    service = FakeOssTables(troubles={"GET": [Reply(200, b"x" * 10)]})
    call = bucket_operation("GetTableBucket", "GET", ARN, max_bytes=max_bytes)

    result = perform(service, call)

    assert result == read


@pytest.mark.parametrize(
    ("environment", "region", "url"),
    [
        ({}, REGION, "https://cn-hangzhou.oss-tables.aliyuncs.com/buckets?maxBuckets=7"),
        (VIRTUAL, REGION, "https://cn-hangzhou.oss-tables.aliyuncs.com/buckets?maxBuckets=7"),
        (
            VIRTUAL | INTERNAL,
            REGION,
            "https://cn-hangzhou-internal.oss-tables.aliyuncs.com/buckets?maxBuckets=7",
        ),
        (INTERNAL, "us-east-1", "https://us-east-1.oss-tables.aliyuncs.com/buckets?maxBuckets=7"),
        (LOOPBACK | VIRTUAL, "us-east-1", "http://127.0.0.1:8080/buckets?maxBuckets=7"),
        (
            {"GUARD_OSS_TABLES_ENDPOINT": "https://{region}.example.com"},
            "eu-central-1",
            "https://eu-central-1.example.com/buckets?maxBuckets=7",
        ),
    ],
    ids=["path", "virtual", "internal", "internal, another region", "endpoint", "by region"],
)
def test_a_call_without_a_bucket_goes_to_the_region(
    environment: dict[str, str], region: str, url: str
) -> None:
    """It is signed for the region, and its host is the region's whatever the addressing."""
    arn = arn_of("analytics", region=region)
    service = FakeOssTables({str(arn): ""})
    call = Operation(
        name="ListTableBuckets",
        method="GET",
        path="buckets",
        region=region,
        query="maxBuckets=7",
    )

    result = perform(service, call, environment=environment)

    assert isinstance(result, bytes)
    assert str(arn) in result.decode()
    (request,) = service.requests
    assert str(request.url) == url
    assert f"/{region}/osstables/aliyun_v4_request" in request.headers["authorization"]


# The throttle that the threads of a region share.


def test_one_buckets_429_holds_up_the_next_buckets_request() -> None:
    """The service was asked too much, not the bucket; each has its own client."""
    other = arn_of("other")
    service = FakeOssTables(
        {str(ARN): "", str(other): ""},
        troubles={"GET my-table-bucket": [refusal(429, retry_after="7")]},
    )
    throttle = Throttle(service.time.as_clock())
    environment = {"GUARD_MAX_ATTEMPTS": "1"}

    first = perform(service, EXISTS, throttle=throttle, environment=environment)
    second = perform(service, bucket_operation("GetTableBucket", "GET", other), throttle=throttle)

    assert isinstance(first, Unavailable)
    assert isinstance(second, bytes)
    assert service.time.slept == [7.0]


def test_without_a_throttle_nobody_is_held_up() -> None:
    """Events are few, and each comes alone."""
    other = arn_of("other")
    service = FakeOssTables(
        {str(ARN): "", str(other): ""},
        troubles={"GET my-table-bucket": [refusal(429, retry_after="7")]},
    )

    perform(service, EXISTS, environment={"GUARD_MAX_ATTEMPTS": "1"})
    perform(service, bucket_operation("GetTableBucket", "GET", other))

    assert service.time.slept == []


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_of_a_try_is_not_waited_for_twice(status: int) -> None:
    """The own pause and the shared one pass at the same time."""
    service = FakeOssTables(troubles={"GET": [refusal(status, retry_after="3")] * 2})

    result = perform(service, EXISTS, throttle=Throttle(service.time.as_clock()))

    assert isinstance(result, bytes)
    assert service.time.slept == [3.0, 3.0]


def test_a_throttle_that_is_too_slow_for_a_request_ends_it() -> None:
    """A pause beyond the request's time is an unavailable service, and nothing is sent."""
    service = FakeOssTables()
    throttle = Throttle(service.time.as_clock())
    throttle.hold(37)

    result = perform(service, EXISTS, throttle=throttle, seconds=60)

    assert isinstance(result, Unavailable)
    assert (service.requests, service.time.slept) == ([], [])


def test_a_request_that_had_to_wait_is_signed_when_it_goes_out() -> None:
    """The pause of others does not make a signature old."""
    service = FakeOssTables()
    throttle = Throttle(service.time.as_clock())
    throttle.hold(30)

    perform(service, EXISTS, throttle=throttle, seconds=60)

    assert [request.headers["x-oss-date"] for request in service.requests] == ["20260102T030435Z"]


@pytest.mark.parametrize("status", [429, 503])
def test_advice_that_would_have_to_wait_is_asked_for_again(status: int) -> None:
    """Whoever keeps a throttle comes again, instead of encrypting unadvised after a long pause."""
    service = FakeOssTables(troubles={"GET": repeat(refusal(status, retry_after="5"))})
    tables = OssTables(invocation_of(service), Throttle(service.time.as_clock()))

    for _ in range(2):
        with pytest.raises(Throttled):
            tables.current_encryption(ARN)

    assert OssTables(invocation_of(service)).current_encryption(ARN) is None


def test_a_name_does_not_make_a_token_expired() -> None:
    """What is refused for good is a dead letter at once, whatever its bucket is called."""
    arn = arn_of("expired-tokens")
    said = f"You have no right to act on {arn}."
    service = FakeOssTables({str(arn): ""}, troubles={"PUT": repeat(refusal(403, "Denied", said))})

    assert ending(put(service, arn=arn)) == "rejected"
    assert service.methods() == ["PUT"]


@pytest.mark.parametrize("status", [404, 409])
def test_what_had_no_time_for_its_repeats_comes_again(status: int) -> None:
    """A bucket that is not visible yet is not given up because time is short."""
    service = FakeOssTables(troubles={"PUT": repeat(refusal(status))})

    assert ending(put(service, seconds=0.3)) == "unavailable"


def test_a_new_bucket_may_have_the_words_of_a_wrong_clock_in_its_name() -> None:
    """A 404 that quotes its name is still waited for, and ends as what it is."""
    arn = arn_of("skewed-data")
    date = "Fri, 02 Jan 2026 03:04:05 GMT"
    missing = Reply(
        404, b'{"message": "The specified bucket skewed-data does not exist."}', {"date": date}
    )
    service = FakeOssTables({str(arn): ""}, troubles={"PUT": [missing] * 3})

    assert OssTables(invocation_of(service)).put_encryption(arn, "AES256").status == 200

    never = FakeOssTables({str(arn): ""}, troubles={"PUT": repeat(missing)})
    with pytest.raises(Refused) as refusal:
        OssTables(invocation_of(never)).put_encryption(arn, "AES256")
    assert refusal.value.reason == "not_found"
