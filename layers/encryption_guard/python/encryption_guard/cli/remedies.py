"""Causes of the messages in the dead-letter queue, and the remedy for each cause."""

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
from encryption_guard.http.retries import CERTIFICATE_REFUSED

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
# OSS Tables may return the same code for every 403. Then only the text of the error distinguishes
# wrong credentials from a missing permission.
KEY_WORDS = ("access key", "signature", "security token", "request time")
# A part of `DeadLetterNotWritten` and of its earlier name, `LetterNotWritten`.
NOT_WRITTEN = "LetterNotWritten"

# Of the errors about the list of accounts.
DIRECTORY_WORDS = ("ListAccounts", "is in the organization")

Fits = Callable[[MessageSummary], bool]


@dataclass(frozen=True, slots=True)
class Remedy:
    """A cause, its meaning and the steps that an operator takes.

    It applies to messages with this `reason` (None: any reason) for which `fits` returns True.
    """

    cause: str
    reason: str | None
    meaning: str
    what_to_do: str
    fits: Fits = lambda _: True


def _wrong_key(summary: MessageSummary) -> bool:
    text = (summary.message or "").lower()
    is_wrong_key = summary.code in WRONG_KEY or any(words in text for words in KEY_WORDS)
    return summary.status in DENIED and is_wrong_key


def _code_has(*words: str) -> Fits:
    return lambda summary: any(word in (summary.code or "") for word in words)


def _timed_out(summary: MessageSummary) -> bool:
    # Function Compute may return only an error class as the code; then the error text decides.
    text = (summary.message or "").lower()
    return _code_has("TimedOut", "Timeout")(summary) or "time out" in text or "timed out" in text


def _untrusted(summary: MessageSummary) -> bool:
    is_unfinished = _code_has("Unavailable", NOT_WRITTEN)(summary)
    return is_unfinished and CERTIFICATE_REFUSED in (summary.message or "")


def _organization_unknown(summary: MessageSummary) -> bool:
    is_unfinished = _code_has("Unavailable")(summary)
    return is_unfinished and any(words in (summary.message or "") for words in DIRECTORY_WORDS)


# The order matters: the first remedy that fits applies.
REMEDIES = (
    Remedy(
        "no event",
        None,
        "The message does not contain the event, because the event was empty, too large for the"
        " queue, or too large to unpack.",
        "Encrypt the bucket with `encryption-guard enforce <bucket ARN> --apply`; if the bucket is"
        " not known, find the event in the function's log. Then discard the message.",
        fits=lambda summary: not summary.events and summary.kind != "unknown",
    ),
    Remedy(
        "wrong key",
        "rejected",
        "OSS Tables did not accept the credentials: the access key, the signature, the security"
        " token or the clock is wrong.",
        "Check that the function has its role; if you ran `encryption-guard` yourself, check the"
        " credentials of your shell and the clock of your machine. Then redrive.",
        fits=_wrong_key,
    ),
    Remedy(
        "locked",
        "rejected",
        "The account or the bucket is disabled, or a payment is overdue.",
        "Pay the overdue amount, or ask Alibaba Cloud to enable the account or the bucket; then"
        " redrive.",
        fits=lambda summary: summary.code in LOCKED,
    ),
    Remedy(
        "no permission",
        "rejected",
        "The function's role is not allowed to change the bucket's encryption, or a bucket policy"
        " denies it.",
        "Grant oss:PutTableBucketEncryption on the bucket to the function's role, and check the"
        " bucket policy for a Deny statement; then redrive.",
        fits=lambda summary: summary.status in DENIED,
    ),
    Remedy(
        "bad request",
        "rejected",
        "OSS Tables did not accept the form of the request: a setting is wrong, or the API has"
        " changed.",
        "Compare the GUARD_OSS_TABLES_* settings with the error message, correct them and redrive;"
        " if they are correct, report the error with its OSS request ID.",
    ),
    Remedy(
        "gone",
        "not_found",
        "The bucket did not exist 3 seconds after its creation; most likely, its owner deleted it"
        " at once.",
        "If the bucket exists now, redrive; otherwise, discard the message.",
    ),
    Remedy(
        "conflict",
        "conflict",
        "Another change to the bucket was in progress at every attempt.",
        "Redrive the message.",
    ),
    Remedy(
        "unreadable event",
        "invalid_event",
        "The event is not JSON, or it names no bucket, two buckets or an invalid ARN.",
        "Find the bucket in the event with `show`, and encrypt it with `encryption-guard enforce"
        " <bucket ARN> --apply`. Then discard the message, and report the format of the event.",
    ),
    Remedy(
        "foreign account",
        "foreign_account",
        "The bucket belongs to an account that the guard does not protect.",
        "If the guard should protect it, add the account to GUARD_ACCOUNTS and redrive;"
        " otherwise, discard the message.",
    ),
    Remedy(
        "foreign region",
        "foreign_region",
        "The bucket is in a region other than the function's, and the function does not sweep that"
        " region.",
        "Deploy the guard in that region, or list it in GUARD_SWEEP_REGIONS beside the function's"
        " own region; then discard the message. If you do not use that region, find out who put the"
        " event into the queue.",
    ),
    Remedy(
        "redirect",
        "unexpected_redirect",
        "The endpoint answered with a redirect, and the guard never sends a signed request to"
        " another address.",
        "Check GUARD_OSS_TABLES_ENDPOINT, GUARD_OSS_TABLES_NETWORK and the region, then redrive.",
    ),
    Remedy(
        "sweep failed",
        FUNCTION_FAILED,
        "A sweep or a share failed as a whole; the next one repeats its work.",
        "Fix the cause in the error message (a setting, the role, the time-out, or two versions of"
        " the guard), check that a later sweep succeeds, then discard the message.",
        fits=lambda summary: summary.is_sweep,
    ),
    Remedy(
        "wrong setting",
        FUNCTION_FAILED,
        "A setting of the function is wrong; the error message names it.",
        "Correct the function's environment variable, then redrive.",
        fits=_code_has("ConfigurationError"),
    ),
    Remedy(
        "certificate refused",
        FUNCTION_FAILED,
        "The function did not accept the TLS certificate of a service; the error message gives the"
        " reason.",
        "Check SSL_CERT_FILE and SSL_CERT_DIR of the function, and check which server answers at"
        " the address of the service; then redrive.",
        fits=_untrusted,
    ),
    Remedy(
        "dead letter not written",
        FUNCTION_FAILED,
        "The function could not write its dead letter to the queue; the dead letter is in the"
        " function's log.",
        "Grant mns:SendMessage on the queue to the function's role, then redrive.",
        fits=_code_has(NOT_WRITTEN),
    ),
    Remedy(
        "organization unknown",
        FUNCTION_FAILED,
        "The function could not find out whether the account of the bucket is in the organization.",
        "Follow the error message: let the function's role list the accounts"
        " (resourcemanager:ListAccounts), or list them in GUARD_ACCOUNTS; then redrive.",
        fits=_organization_unknown,
    ),
    Remedy(
        "service down",
        FUNCTION_FAILED,
        "A service, most often OSS Tables, gave no final answer at any attempt, for example because"
        " it timed out or returned a 5xx status.",
        "Wait until the service in the error message works again, then redrive.",
        fits=_code_has("Unavailable"),
    ),
    Remedy(
        "no capacity",
        FUNCTION_FAILED,
        "Function Compute had no free instance, because the account or the function has reached"
        " its concurrency limit.",
        "Raise the concurrency limit if it is too low, then redrive.",
        fits=_code_has("Exhausted", "Throttl", "Concurrency", "TooManyRequests"),
    ),
    Remedy(
        "time-out",
        FUNCTION_FAILED,
        "The function exceeded its time-out at every attempt.",
        "Find the request ID in the function's log; if a service is slow, raise the function's"
        " time-out. Then redrive.",
        fits=_timed_out,
    ),
    Remedy(
        "function crashed",
        FUNCTION_FAILED,
        "The function crashed at every attempt, because of its layer, its start, its memory or a"
        " bug.",
        "Find the request ID in the function's log, fix the cause, then redrive; if you cannot fix"
        " it at once, redrive with --local.",
    ),
    Remedy(
        "not delivered",
        NOT_DELIVERED,
        "EventBridge could not deliver the event to the function: the function does not exist, or"
        " EventBridge is not allowed to invoke it.",
        "Check that the function and the role AliyunServiceRoleForEventBridgeSendToFC exist, then"
        " redrive.",
    ),
    Remedy(
        "unknown",
        UNKNOWN,
        "The guard cannot read the message, or it contradicts the event in it: another program or"
        " an attacker wrote it, it is damaged, or a newer version of the guard wrote it.",
        "Read the message with `show`; if it is not needed, discard it by its ID. A redrive skips"
        " it. If it contradicts its event, find out who may write to the queue.",
    ),
)


def remedy_for(summary: MessageSummary) -> Remedy:
    """Return the first remedy that fits the message."""
    return next(
        remedy
        for remedy in REMEDIES
        if remedy.reason in (None, summary.reason) and remedy.fits(summary)
    )


def named_bucket(summary: MessageSummary) -> TableBucketArn | None:
    """Return the bucket of a message if its ARN is valid: only that may enter a command to paste.

    It is the bucket that the event names, or else the one that a dead letter without event states.
    """
    try:
        return TableBucketArn.parse(summary.arn or summary.stated_arn or "")
    except InvalidEvent:
        return None


def missing_right(summary: MessageSummary) -> dict[str, object] | None:
    """Return the RAM policy statement that allows the rejected request.

    Returns None if no permission is missing, or if the event names no valid bucket: a forged ARN
    could grant access to more than one bucket.
    """
    arn = named_bucket(summary) if summary.arn else None
    if remedy_for(summary).cause != "no permission" or not arn:
        return None
    return {
        "Effect": "Allow",
        "Action": ["oss:GetTableBucketEncryption", "oss:PutTableBucketEncryption"],
        "Resource": [str(arn)],
    }
