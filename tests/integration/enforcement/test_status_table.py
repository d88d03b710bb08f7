"""Ten rows of the status table over real HTTP and TLS, from the event to where it ends.

tests/unit/services/test_oss_tables.py has every row.
"""

from __future__ import annotations

import pytest

from encryption_guard.enforcement import DeadLettered, Encrypted, Outcome
from encryption_guard.errors import Unavailable
from tests.emulators.faults import (
    Drip,
    Effect,
    Fault,
    Garbage,
    Refuse,
    ResetMidAnswer,
    SkewClock,
    throttle,
)
from tests.integration.conftest import Guard, creation_of

PUT = "PutTableBucketEncryption"


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


def test_a_role_without_the_right_is_named_in_the_letter(guard: Guard) -> None:
    """403 is tried once, and becomes a letter with the service's words."""
    guard.tables.faults.add(always(Refuse(403, "ForbiddenException", message="You have no right.")))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, guard.puts(), guard.clock.slept) == ("rejected", 1, [])
    (letter,) = guard.letters()
    assert (letter["code"], letter["message"]) == ("ForbiddenException", "You have no right.")
    assert letter["detail"].startswith("OSS Tables answered 403 ForbiddenException to Put")
    assert letter["oss_request_id"] == guard.tables.requests[-1].request_id


def test_404_waits_for_the_bucket_to_become_visible(guard: Guard) -> None:
    """404 NotFoundException of a bucket that is not visible yet is tried again, and then works."""
    guard.tables.faults.add(Fault(Refuse(404, "NotFoundException"), operation=PUT, times=2))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (3, [0.5, 1.0], "AES256")


def test_409_becomes_a_letter_in_the_end(guard: Guard) -> None:
    """409 for good is a letter `conflict` after all attempts."""
    guard.tables.faults.add(always(Refuse(409)))

    result = process_creation(guard)

    assert isinstance(result, DeadLettered)
    assert (result.reason, guard.puts(), guard.clock.slept) == ("conflict", 4, [0.2, 0.4, 0.8])


def test_retry_after_is_honoured(guard: Guard) -> None:
    """The service's own Retry-After takes the place of the back-off."""
    busy = (throttle(429, retry_after=3), throttle(503, retry_after=2))
    guard.tables.faults.add(*(Fault(effect, operation=PUT, times=1) for effect in busy))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert guard.clock.slept == [3.0, 2.0]


def test_lasting_trouble_is_left_to_the_platform(guard: Guard) -> None:
    """Trouble that lasts raises Unavailable after all attempts, without a letter."""
    guard.environment["GUARD_MAX_ATTEMPTS"] = "3"
    guard.tables.faults.add(always(Garbage()))

    result = process_creation(guard)

    assert isinstance(result, Unavailable)
    assert (guard.puts(), guard.clock.slept, guard.letters()) == (3, [0.2, 0.4], [])


def test_a_skewed_clock_is_corrected_from_the_answer(guard: Guard) -> None:
    """403 for a skewed clock is signed again with a better time."""
    guard.tables.faults.add(always(SkewClock(86400 * 300)))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (2, [], "AES256")


LOST: dict[str, Effect] = {"reset mid answer": ResetMidAnswer(), "dripping": Drip(0.05, "head")}


@pytest.mark.parametrize("effect", LOST.values(), ids=LOST)
def test_an_answer_that_got_lost_is_harmless(guard: Guard, effect: Effect) -> None:
    """A PUT that was carried out, but whose answer was lost, is found done and not repeated."""
    guard.environment["GUARD_HTTP_TIMEOUT_SECONDS"] = "0.4"
    guard.tables.faults.add(Fault(effect, operation=PUT, after=True))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (guard.puts(), guard.clock.slept, encryption(guard)) == (1, [0.2], "AES256")
    assert guard.letters() == []


def test_when_in_doubt_encrypt(guard: Guard) -> None:
    """Unless the GET clearly says that the bucket is encrypted, the PUT is sent."""
    guard.tables.faults.add(Fault(Refuse(403), operation="GetTableBucketEncryption"))

    result = process_creation(guard)

    assert isinstance(result, Encrypted)
    assert (encryption(guard), guard.puts()) == ("AES256", 1)
