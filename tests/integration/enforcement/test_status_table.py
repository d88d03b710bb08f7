"""Each row of the status table, over real HTTP and TLS, from the event to where it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Literal

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.enforcement import DeadLettered, Encrypted, Outcome
from encryption_guard.errors import Unavailable
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, ROLE
from tests.emulators.faults import (
    Delay,
    Drip,
    Effect,
    Fault,
    Garbage,
    GarbageBody,
    Refuse,
    Reset,
    ResetMidAnswer,
    SkewClock,
    Truncate,
    throttle,
)
from tests.emulators.oss_tables import OssTables
from tests.integration.conftest import Guard, creation_of

PUT = "PutTableBucketEncryption"


def once(effect: Effect) -> Fault:
    return Fault(effect, operation=PUT, times=1)


def always(effect: Effect) -> Fault:
    return Fault(effect, operation=PUT)


def process_creation(guard: Guard) -> Outcome | Exception:
    """Create a bucket, and process its creation event."""
    arn = guard.tables.plant("orders")
    processed = guard.process(creation_of(arn))
    results: list[Outcome | Exception] = [*processed.outcomes, *processed.failures]
    assert len(results) == 1
    return results[0]


def encryption(guard: Guard) -> str | None:
    (bucket,) = guard.tables.buckets()
    return guard.tables.encryption(str(bucket.arn))


def test_200_is_encrypted(guard: Guard) -> None:
    """A 200 of the service is the end of it: one PUT, no letter, and the bucket is encrypted."""
    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (result.status, result.reason, result.named_by) == (200, "created", "responseElements")
    assert (encryption(guard), guard.puts(), guard.letters()) == ("AES256", 1, [])


REFUSALS = [
    (400, "BadRequestException"),
    (403, "ForbiddenException"),
    (402, None),
    (405, None),
    (406, None),
    (410, None),
    (411, None),
    (412, None),
    (413, None),
    (422, None),
    (451, None),
    (499, None),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS, ids=[str(status) for status, _ in REFUSALS])
def test_other_4xx_is_dead_lettered_at_once(guard: Guard, status: int, code: str | None) -> None:
    """A 4xx that no retry can help is tried once, becomes a letter and returns normally."""
    guard.tables.faults.add(always(Refuse(status, code, message="No.")))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, result.status) == ("rejected", status)
    assert (guard.puts(), guard.clock.slept) == (1, [])
    (letter,) = guard.letters()
    assert (letter["reason"], letter["status"], letter["message"]) == ("rejected", status, "No.")
    assert (letter["code"], letter["attempts"]) == (code or letter["code"], 1)
    assert letter["oss_request_id"] == guard.tables.requests[-1].request_id


def test_a_role_without_the_right_is_named_in_the_letter(guard: Guard) -> None:
    """403 ForbiddenException of a role that may not PUT is a letter with the service's words."""
    guard.tables.faults.add(always(Refuse(403, "ForbiddenException", message="You have no right.")))

    process_creation(guard)

    (letter,) = guard.letters()
    assert (letter["code"], letter["message"]) == ("ForbiddenException", "You have no right.")
    assert letter["detail"].startswith("OSS Tables answered 403 ForbiddenException to Put")


def test_a_code_that_is_no_code_is_quoted(guard: Guard) -> None:
    """Whatever a service calls its error, the sentence about it stays readable ASCII."""
    guard.tables.faults.add(always(Refuse(400, "Bad \xe9 code: 'x'")))

    process_creation(guard)

    (letter,) = guard.letters()
    assert letter["detail"].startswith(r"""OSS Tables answered 400 "Bad \u00e9 code: 'x'" to Put""")


def test_404_waits_for_the_bucket_to_become_visible(guard: Guard) -> None:
    """404 NotFoundException of a bucket that is not visible yet is tried again, and then works."""
    guard.tables.faults.add(
        Fault(Refuse(404, "NotFoundException"), operation=PUT, times=2),
    )

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (3, [0.5, 1.0], "AES256")


def test_404_becomes_a_letter_in_the_end(guard: Guard) -> None:
    """404 NotFoundException for good is a letter `not_found` after about 3 seconds."""
    guard.tables.faults.add(always(Refuse(404, "NotFoundException", message="No such bucket.")))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, result.code) == ("not_found", "NotFoundException")
    assert (guard.puts(), guard.clock.slept) == (4, [0.5, 1.0, 1.5])
    assert [letter["reason"] for letter in guard.letters()] == ["not_found"]


def test_404s_do_not_count_as_attempts(guard: Guard) -> None:
    """A bucket that becomes visible late still gets all its attempts."""
    refused = [Refuse(404), Refuse(500), Refuse(404), Refuse(500), Refuse(404), Refuse(500)]
    guard.tables.faults.add(*(once(effect) for effect in refused))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert guard.puts() == 7


def test_409_is_tried_again(guard: Guard) -> None:
    """409 once is only a pause."""
    guard.tables.faults.add(once(Refuse(409)))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept) == (2, [0.2])


def test_409_becomes_a_letter_in_the_end(guard: Guard) -> None:
    """409 for good is a letter `conflict` after all attempts."""
    guard.tables.faults.add(always(Refuse(409)))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, guard.puts(), guard.clock.slept) == ("conflict", 4, [0.2, 0.4, 0.8])


TRANSIENT: dict[str, Effect] = {
    "408": Refuse(408),
    "425": Refuse(425),
    "429": Refuse(429),
    "500": Refuse(500),
    "502": Refuse(502),
    "503": Refuse(503),
    "504": Refuse(504),
    "200-with-an-error": GarbageBody(b"<Error><Code>InternalError</Code></Error>"),
    "reset": Reset(),
    "garbage": Garbage(),
    "no-answer": Delay(3.0),
}
each_transient = pytest.mark.parametrize("effect", TRANSIENT.values(), ids=TRANSIENT)


@each_transient
def test_transient_trouble_is_tried_again(guard: Guard, effect: Effect) -> None:
    """Trouble that passes costs a second try and nothing else; a slow answer counts as trouble."""
    guard.environment["GUARD_HTTP_TIMEOUT_SECONDS"] = "0.4"
    guard.tables.faults.add(once(effect))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (2, [0.2], "AES256")
    assert guard.letters() == []


@each_transient
def test_lasting_trouble_is_left_to_the_platform(guard: Guard, effect: Effect) -> None:
    """Trouble that lasts raises Unavailable after all attempts, without a letter."""
    guard.environment |= {"GUARD_HTTP_TIMEOUT_SECONDS": "0.2", "GUARD_MAX_ATTEMPTS": "3"}
    guard.tables.faults.add(always(effect))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert (guard.puts(), guard.clock.slept) == (3, [0.2, 0.4])
    assert guard.letters() == []


def test_retry_after_is_honoured(guard: Guard) -> None:
    """The service's own Retry-After takes the place of the back-off."""
    guard.tables.faults.add(once(throttle(429, retry_after=3)), once(throttle(503, retry_after=2)))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert guard.clock.slept == [3.0, 2.0]


def test_retry_after_beyond_the_budget_raises_at_once(guard: Guard) -> None:
    """A Retry-After that the invocation cannot wait for is left to the platform, unslept."""
    guard.tables.faults.add(always(throttle(429, retry_after=60)))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert (guard.puts(), guard.clock.slept) == (1, [])


def test_a_conflict_that_asks_for_more_time_is_no_conflict_yet(guard: Guard) -> None:
    """409 with a Retry-After beyond the budget is raised, not written off as a letter."""
    guard.tables.faults.add(always(Refuse(409, headers={"Retry-After": "60"})))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert (guard.puts(), guard.clock.slept, guard.letters()) == (1, [], [])


def test_attempts_end_with_the_time_budget(guard: Guard) -> None:
    """However many attempts are allowed, they take no more than 60 % of the time that is left."""
    guard.environment["GUARD_MAX_ATTEMPTS"] = "20"
    guard.seconds = 10
    guard.tables.faults.add(always(Refuse(500)))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert guard.clock.slept == [0.2, 0.4, 0.8, 1.6]  # the next pause would be 3.2 s: over 6 s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_3xx_is_dead_lettered_and_never_followed(guard: Guard, status: int) -> None:
    """A redirect becomes a letter; nothing signed is sent to where it points."""
    with OssTables(OWNER, ROLE) as elsewhere:
        redirect = Refuse(status, headers={"Location": elsewhere.url + "/steal"})
        guard.tables.faults.add(always(redirect))

        result = process_creation(guard)

        assert isinstance(result, DeadLettered)
        assert (result.reason, guard.puts()) == ("unexpected_redirect", 1)
        assert elsewhere.requests == []


@pytest.mark.parametrize("seconds", [3600, -3600, 86400 * 300])
@pytest.mark.parametrize("error_types", ["telling", "generic"])
def test_a_skewed_clock_is_corrected_from_the_answer(
    guard: Guard, seconds: int, error_types: Literal["telling", "generic"]
) -> None:
    """403 for a skewed clock, told by code or by message, is signed again with a better time."""
    guard.tables.faults.add(always(SkewClock(seconds)))
    guard.tables.error_types = error_types

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (2, [], "AES256")


def test_a_clock_is_corrected_only_once(guard: Guard) -> None:
    """A service that still calls the clock skewed is refusing: a letter after two tries."""
    guard.tables.faults.add(always(Refuse(403, "RequestTimeTooSkewed", message="Your clock!")))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, result.code, guard.puts()) == ("rejected", "RequestTimeTooSkewed", 2)


EXPIRED: dict[str, Refuse] = {
    "401": Refuse(401),
    "403-by-code": Refuse(403, "SecurityTokenExpired", message="No."),
    "403-by-message": Refuse(403, message="The security token you provided has expired."),
}
each_expired = pytest.mark.parametrize("refusal", EXPIRED.values(), ids=EXPIRED)


@each_expired
def test_expired_credentials_are_left_to_the_next_invocation(guard: Guard, refusal: Refuse) -> None:
    """Without newer credentials there is nothing to try: Unavailable after one try, no letter."""
    guard.tables.faults.add(always(refusal))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert (guard.puts(), guard.letters()) == (1, [])


@each_expired
def test_newer_credentials_are_tried_once(guard: Guard, refusal: Refuse) -> None:
    """Credentials that differ when they are read again are tried, once."""
    numbers = iter(range(10))
    guard.read_credentials = lambda: Credentials(f"STS.{next(numbers)}", "secret", "token")
    guard.tables.faults.add(always(refusal))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert guard.puts() == 2


def test_a_token_that_expires_in_between_is_replaced(guard: Guard) -> None:
    """The GET that comes first finds it out, and reads the renewed key, which the PUT uses."""
    expired = AccessKey(
        "STS.expired",
        "old-secret",
        ACCOUNT,
        security_token="old-token",
        expires_at=datetime.now(timezone.utc) - timedelta(minutes=1),
    )
    held = iter([Credentials(expired.id, expired.secret, expired.security_token)])
    role = Credentials(ROLE.id, ROLE.secret, ROLE.security_token)
    guard.tables.admit(expired)
    guard.read_credentials = lambda: next(held, role)

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), encryption(guard)) == (1, "AES256")


LOST: dict[str, Effect] = {
    "reset": Reset(),
    "reset-mid-answer": ResetMidAnswer(),
    "cut-short": Truncate(),
    "dripping-head": Drip(0.05, "head"),
    "another-page": GarbageBody(b"<Error/>"),
}


@pytest.mark.parametrize("effect", LOST.values(), ids=LOST)
def test_an_answer_that_got_lost_is_harmless(guard: Guard, effect: Effect) -> None:
    """A PUT that was carried out, but whose answer was lost, is found done and not repeated."""
    guard.environment["GUARD_HTTP_TIMEOUT_SECONDS"] = "0.4"
    guard.tables.faults.add(replace(always(effect), after=True))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (1, [0.2], "AES256")
    assert guard.letters() == []


UNCLEAR: dict[str, Effect] = {
    "403": Refuse(403),
    "404": Refuse(404),
    "429": Refuse(429),
    "500": Refuse(500),
    "redirect": Refuse(302, headers={"Location": "https://127.0.0.1:1/"}),
    "garbage-body": GarbageBody(),
    "garbage": Garbage(),
    "reset": Reset(),
    "cut-short": Truncate(),
    "no-answer": Delay(3),
    "dripping-body": Drip(0.2, "body"),
}


@pytest.mark.parametrize("effect", UNCLEAR.values(), ids=UNCLEAR)
def test_when_in_doubt_encrypt(guard: Guard, effect: Effect) -> None:
    """Whatever the GET says, unless it clearly says that it is encrypted, the PUT is sent."""
    guard.environment["GUARD_HTTP_TIMEOUT_SECONDS"] = "0.5"
    guard.tables.faults.add(Fault(effect, operation="GetTableBucketEncryption"))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (encryption(guard), guard.puts()) == ("AES256", 1)


def test_a_letter_that_cannot_be_written_is_logged_and_raised(guard: Guard) -> None:
    """When the queue is in trouble too, the letter is in the log and the event comes again."""
    guard.tables.faults.add(always(Refuse(400)))
    guard.queue.faults.add(Fault(Refuse(500)))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    (line,) = guard.logged
    assert line["message"] == "dead letter not written"
    assert (line["dead_letter"]["reason"], line["dead_letter"]["status"]) == ("rejected", 400)
    assert guard.queue.messages(QUEUE) == []
