"""What a dead letter means, and what to do about it: one row for each cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from encryption_guard.arn import TableBucketArn
from encryption_guard.dead_letters.messages import (
    FUNCTION_FAILED,
    NOT_DELIVERED,
    UNKNOWN,
    MessageSummary,
)
from encryption_guard.errors import InvalidEvent

# https://www.alibabacloud.com/help/en/oss/how-to-troubleshoot-403-status-code-when-you-access-oss
WRONG_KEY = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidSecurityToken",
        "AccessKeyIdAndSecurityTokenNotMatch",
        "RequestTimeTooSkewed",
    }
)
LOCKED = frozenset(
    {"UserDisable", "InDebt", "InDebtOverdue", "AbnormalBucketOwnerStatus", "BucketDisable"}
)
DENIED = frozenset({401, 403})
# OSS Tables may name every 403 alike: then only its words tell a wrong key from a missing right.
KEY_WORDS = ("access key", "signature", "security token", "request time")

Fits = Callable[[MessageSummary], bool]


@dataclass(frozen=True, slots=True)
class Remedy:
    """A cause, what it means, and what an operator has to do, each in words.

    It is about letters with this `reason` (None: with any) that it `fits`.
    """

    cause: str
    reason: str | None
    meaning: str
    what_to_do: str
    fits: Fits = lambda _: True


def _wrong_key(letter: MessageSummary) -> bool:
    said = (letter.message or "").lower()
    named = letter.code in WRONG_KEY or any(words in said for words in KEY_WORDS)
    return letter.status in DENIED and named


def _code_has(*words: str) -> Fits:
    return lambda letter: any(word in (letter.code or "") for word in words)


def _timed_out(letter: MessageSummary) -> bool:
    # The platform may name the class of the error only; its words then tell.
    said = (letter.message or "").lower()
    return _code_has("TimedOut", "Timeout")(letter) or "time out" in said or "timed out" in said


def _untrusted(letter: MessageSummary) -> bool:
    unfinished = _code_has("Unavailable", "LetterNotWritten")(letter)
    return unfinished and "certificate is refused" in (letter.message or "")


# The first that fits counts.
REMEDIES = (
    Remedy(
        "no event",
        None,
        "The event itself is not in the letter: it was empty, or too large for the queue.",
        "Encrypt the bucket with `encryption-guard enforce <its ARN>`, or take the event's bytes"
        " from the function's log; then `discard` the letter.",
        fits=lambda letter: not letter.events and letter.kind != "unknown",
    ),
    Remedy(
        "wrong key",
        "rejected",
        "OSS Tables did not accept who was asking: the access key, the signature, the token or the"
        " clock.",
        "Check that the function has its role (or your shell the right key), then redrive.",
        fits=_wrong_key,
    ),
    Remedy(
        "locked",
        "rejected",
        "The account or the bucket is disabled, or in debt.",
        "Settle it with Alibaba Cloud, then redrive.",
        fits=lambda letter: letter.code in LOCKED,
    ),
    Remedy(
        "no permission",
        "rejected",
        "The function's role may not change the bucket's encryption, or a bucket policy denies it.",
        "Grant oss:PutTableBucketEncryption on the bucket to the function's role, and look for a"
        " Deny in the bucket's policy; then redrive.",
        fits=lambda letter: letter.status in DENIED,
    ),
    Remedy(
        "bad request",
        "rejected",
        "OSS Tables does not take the request as it is: a wrong setting, or an API that changed.",
        "Check the GUARD_OSS_TABLES_* settings against the message, then redrive; if they are"
        " right, report it with the OSS request id.",
    ),
    Remedy(
        "gone",
        "not_found",
        "The bucket was not there, 3 seconds after its creation: most likely deleted at once.",
        "If the bucket exists now, redrive; if it is gone, discard.",
    ),
    Remedy(
        "conflict",
        "conflict",
        "Another change to the bucket was under way at every try.",
        "Redrive.",
    ),
    Remedy(
        "unreadable event",
        "invalid_event",
        "The event is not JSON, or names no bucket, or two, or something that is no valid ARN.",
        "Find the bucket in the event with `show` and encrypt it with `encryption-guard enforce"
        " <its ARN>`; then discard, and report the event's form.",
    ),
    Remedy(
        "foreign account",
        "foreign_account",
        "The bucket belongs to an account that the guard is not responsible for.",
        "If it should be, add the account to GUARD_ALLOWED_ACCOUNTS and redrive; else discard.",
    ),
    Remedy(
        "foreign region",
        "foreign_region",
        "The bucket is in another region than the function, which encrypts there only if it sweeps"
        " that region.",
        "Deploy the guard in that region, or let the sweep look after it with GUARD_SWEEP_REGIONS;"
        " then discard. If nobody uses that region, find out who put the event here.",
    ),
    Remedy(
        "redirect",
        "unexpected_redirect",
        "Something redirected the request, and a signed request is never sent elsewhere.",
        "Check GUARD_OSS_TABLES_ENDPOINT, GUARD_OSS_TABLES_NETWORK and the region, then redrive.",
    ),
    Remedy(
        "sweep failed",
        FUNCTION_FAILED,
        "A sweep failed as a whole; the next one does its work again.",
        "Mend what the message says (a setting, the role, the time-out), see that a later sweep"
        " succeeds, then discard.",
        fits=lambda letter: letter.is_sweep,
    ),
    Remedy(
        "wrong setting",
        FUNCTION_FAILED,
        "A setting of the function is wrong; the message names it.",
        "Correct the function's environment variable, then redrive.",
        fits=_code_has("ConfigurationError"),
    ),
    Remedy(
        "certificate refused",
        FUNCTION_FAILED,
        "A service did not prove its name: the message says why its certificate was refused.",
        "Check SSL_CERT_FILE and SSL_CERT_DIR of the function, and who answers for the service;"
        " then redrive.",
        fits=_untrusted,
    ),
    Remedy(
        "letter not written",
        FUNCTION_FAILED,
        "The function could not put its dead letter into the queue; the letter is in its log.",
        "Grant mns:SendMessage on the queue to the function's role, then redrive.",
        fits=_code_has("LetterNotWritten"),
    ),
    Remedy(
        "service down",
        FUNCTION_FAILED,
        "OSS Tables gave no final answer at any of the platform's tries.",
        "When the service is well again, redrive.",
        fits=_code_has("Unavailable"),
    ),
    Remedy(
        "no capacity",
        FUNCTION_FAILED,
        "Function Compute had no instance free: the account's or the function's concurrency is"
        " used up.",
        "Raise the concurrency if it is too low, then redrive.",
        fits=_code_has("Exhausted", "Throttl", "Concurrency", "TooManyRequests"),
    ),
    Remedy(
        "time-out",
        FUNCTION_FAILED,
        "The function was stopped by its time-out at every try.",
        "Look at the function's log under its request id; raise its timeout if the service is slow;"
        " then redrive.",
        fits=_timed_out,
    ),
    Remedy(
        "function crashed",
        FUNCTION_FAILED,
        "The function itself failed at every try of the platform: its layer, its start, its memory"
        " or a bug.",
        "Look at the function's log under its request id; redrive with --local if it cannot be"
        " mended at once.",
    ),
    Remedy(
        "not delivered",
        NOT_DELIVERED,
        "EventBridge could not hand the event to the function: it is gone, or EventBridge may not"
        " invoke it.",
        "Check that the function exists, and the role AliyunServiceRoleForEventBridgeSendToFC; then"
        " redrive with --function.",
    ),
    Remedy(
        "unknown",
        UNKNOWN,
        "A message that neither the guard, nor Function Compute, nor EventBridge wrote; or one that"
        " is damaged, or newer than this program. It is left alone.",
        "Look at it with `show`; if nobody needs it, `discard` it by its ID.",
    ),
)


def remedy_for(letter: MessageSummary) -> Remedy:
    """What this letter means, and what to do."""
    return next(
        remedy
        for remedy in REMEDIES
        if remedy.reason in (None, letter.reason) and remedy.fits(letter)
    )


def missing_right(letter: MessageSummary) -> dict[str, object] | None:
    """The statement of a RAM policy that would have let the request through."""
    if remedy_for(letter).cause != "no permission":
        return None
    try:
        arn = TableBucketArn.parse(letter.arn or "")
    except InvalidEvent:
        return None  # a forged one might grant more
    return {
        "Effect": "Allow",
        "Action": ["oss:GetTableBucketEncryption", "oss:PutTableBucketEncryption"],
        "Resource": [str(arn)],
    }
