"""What a dead letter means and what to do about it: one case at least for each cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.cli.remedies import REMEDIES, Remedy, missing_right, remedy_for
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.errors import Reason
from tests.unit.opened import ARN

REASONS = [*get_args(Reason), "function_failed", "not_delivered", "unknown"]


def letter_of(reason: str = "rejected", **fields: Any) -> MessageSummary:
    """A letter about one event, of which this is known."""
    known: dict[str, Any] = {
        "id": "0f1c9d4e-7a55-5f0e-8c0c-6c1f6f0d9c11",
        "kind": "dead_letter",
        "detail": "No.",
        "arn": ARN,
        "events": 1,
    }
    return MessageSummary(reason=reason, **(known | fields))


def refused(status: int, code: str | None = None, message: str | None = None) -> MessageSummary:
    """A letter about a request that OSS Tables has refused."""
    return letter_of(status=status, code=code, message=message)


def failed(code: str | None, message: str | None = None) -> MessageSummary:
    """A record of a function that failed at every try."""
    return letter_of("function_failed", kind="destination_record", code=code, message=message)


# The causes in their order, each with the letters that have it.
CASES = {
    "unknown": [letter_of("unknown", kind="unknown", events=0, arn=None)],
    "no event": [
        letter_of("invalid_event", events=0, arn=None),
        letter_of(status=403, code="AccessDenied", events=0),
        letter_of("function_failed", code="Unavailable", events=0),
    ],
    "wrong key": [
        refused(403, "SignatureDoesNotMatch"),
        refused(403, "InvalidAccessKeyId"),
        refused(403, "InvalidSecurityToken"),
        refused(403, "AccessKeyIdAndSecurityTokenNotMatch"),
        refused(403, "RequestTimeTooSkewed"),
        refused(401, "InvalidAccessKeyId"),
        refused(
            403,
            "ForbiddenException",
            "The OSS Access Key Id you provided does not exist in our records.",
        ),
        refused(
            403,
            "AccessDenied",
            "The request signature we calculated does not match the signature you provided.",
        ),
        refused(403, None, "The security token you provided is invalid."),
        refused(
            403,
            "ForbiddenException",
            "The difference between the request time and the current time is too large.",
        ),
    ],
    "locked": [
        refused(403, "UserDisable"),
        refused(403, "InDebt"),
        refused(403, "InDebtOverdue"),
        refused(403, "AbnormalBucketOwnerStatus"),
        refused(403, "BucketDisable", "The bucket is disabled."),
    ],
    "no permission": [
        refused(403, "AccessDenied"),
        refused(403, "ForbiddenException", "No."),
        refused(403, "AccessDenied", "Anonymous user has no right to access this bucket."),
        refused(403),
        refused(401),
    ],
    "bad request": [
        refused(400, "BadRequestException"),
        refused(400, "BadRequestException", "The signature of the table is not valid."),
        refused(405),
        refused(418),
        letter_of(status=None),
    ],
    "gone": [letter_of("not_found", status=404)],
    "conflict": [letter_of("conflict", status=409)],
    "unreadable event": [letter_of("invalid_event", arn=None)],
    "foreign account": [letter_of("foreign_account")],
    "foreign region": [letter_of("foreign_region")],
    "redirect": [letter_of("unexpected_redirect", status=307)],
    "sweep failed": [
        replace(failed("ConfigurationError"), is_sweep=True, arn=None),
        replace(failed("FunctionTimedOut"), is_sweep=True, arn=None),
    ],
    "wrong setting": [failed("ConfigurationError")],
    "certificate refused": [
        failed("Unavailable", "... : its certificate is refused (certificate has expired): ..."),
        failed("LetterNotWritten", "... its certificate is refused (Hostname mismatch): ..."),
    ],
    "dead letter not written": [failed("LetterNotWritten")],
    "organization unknown": [
        failed("Unavailable", "ListAccounts of resourcedirectory.aliyuncs.com answered 503."),
        failed("Unavailable", "The guard cannot tell whether account 1 is in the organization."),
    ],
    "service down": [failed("Unavailable"), failed("Unavailable", "AssumeRole gave no answer.")],
    "no capacity": [
        failed("FunctionResourceExhausted"),
        failed("ResourceExhausted"),
        failed("ResourceThrottled"),
        failed("Throttling.Api.Concurrency"),
        failed("TooManyRequests"),
    ],
    "time-out": [
        failed("FunctionTimedOut"),
        failed("FunctionTimeout"),
        failed("InvocationTimeout"),
    ],
    "function crashed": [
        failed("UnhandledInvocationError"),
        failed("KeyError", "'requestTime'"),
        failed("FunctionRuntimeError"),
        failed(None),
    ],
    "not delivered": [
        letter_of("not_delivered", kind="cloud_event"),
        letter_of("not_delivered", kind="cloud_event", arn=None),
    ],
}


def told(letter: MessageSummary) -> str:
    """What a case is called by."""
    parts = (letter.reason, letter.status, letter.code, letter.message)
    return " ".join(str(part) for part in parts if part)


@pytest.mark.parametrize(
    ("cause", "letter"),
    [
        pytest.param(cause, letter, id=f"{cause}: {told(letter)}")
        for cause, letters in CASES.items()
        for letter in letters
    ],
)
def test_a_letter_has_its_cause(cause: str, letter: MessageSummary) -> None:
    """What is known of a letter decides what to do; a right helps where one is missing alone."""
    assert remedy_for(letter).cause == cause
    assert (missing_right(letter) is not None) == (cause == "no permission")


def test_every_cause_has_its_cases() -> None:
    """No row stands behind others that take all its letters."""
    assert set(CASES) == {remedy.cause for remedy in REMEDIES}


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.cause)
def test_a_cause_says_what_it_means_and_what_to_do(remedy: Remedy) -> None:
    """Each in sentences, and none means the same as another."""
    meanings = [other.meaning for other in REMEDIES]

    assert (remedy.meaning[-1], remedy.what_to_do[-1]) == (".", ".")
    assert meanings.count(remedy.meaning) == 1


# The order of the rows.


@pytest.mark.parametrize(
    ("letter", "cause"),
    [
        pytest.param(
            letter_of(status=403, code="SignatureDoesNotMatch", events=0),
            "no event",
            id="nothing to send comes before why",
        ),
        pytest.param(
            letter_of("unknown", kind="unknown", status=403, code="AccessDenied"),
            "unknown",
            id="what is not known comes before all",
        ),
        pytest.param(
            letter_of("not_found", status=404, message="signature"), "gone", id="words of a 404"
        ),
        pytest.param(failed("SignatureDoesNotMatch"), "function crashed", id="a function's words"),
    ],
)
def test_the_first_cause_that_fits_counts(letter: MessageSummary, cause: str) -> None:
    """The rows stand in the order in which they are to be looked at."""
    assert remedy_for(letter).cause == cause


# Whatever a letter says.


@given(
    st.builds(
        MessageSummary,
        id=st.just("0f1c9d4e-7a55-5f0e-8c0c-6c1f6f0d9c11"),
        kind=st.sampled_from(["dead_letter", "destination_record", "cloud_event", "unknown"]),
        reason=st.sampled_from(REASONS),
        detail=st.text(max_size=5),
        arn=st.none() | st.text() | st.just(ARN),
        events=st.integers(0, 2),
        status=st.none() | st.integers() | st.sampled_from([401, 403, 404]),
        code=st.none()
        | st.text()
        | st.sampled_from([letter.code for letters in CASES.values() for letter in letters]),
        message=st.none()
        | st.text()
        | st.sampled_from([letter.message for letters in CASES.values() for letter in letters]),
    )
)
def test_every_letter_has_an_advice(letter: MessageSummary) -> None:
    """No reason, status, code or message leaves an operator alone."""
    remedy = remedy_for(letter)

    assert remedy in REMEDIES
    assert (missing_right(letter) is None) == (remedy.cause != "no permission" or letter.arn != ARN)


# The missing right.


def test_the_missing_right_is_a_statement_of_a_ram_policy() -> None:
    """It allows both requests on this one bucket, and nothing else."""
    assert missing_right(refused(403)) == {
        "Effect": "Allow",
        "Action": ["oss:GetTableBucketEncryption", "oss:PutTableBucketEncryption"],
        "Resource": [ARN],
    }


@pytest.mark.parametrize(
    "arn",
    [
        None,
        "*",
        "acs:osstables:*:*:bucket/*",
        "acs:oss:*:1234567890123456:*",
        f"{ARN[:-3]}...",
    ],
)
def test_a_forged_arn_gets_no_right(arn: str | None) -> None:
    """What an operator is told to grant is never more than one table bucket."""
    letter = letter_of(status=403, arn=arn)

    assert missing_right(letter) is None
