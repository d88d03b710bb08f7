"""The exceptions of the package: who causes each one, and what follows.

GuardError
├── ConfigurationError          the operator has to correct the setting that the message names
├── Unavailable                 a temporary failure of a service: it leaves the handler, and the
│   │                           platform retries
│   ├── DeadLetterNotWritten    the dead-letter queue did not accept a dead letter
│   └── Throttled               the service asks for a pause that is too long
└── PermanentError              a retry cannot help: the event becomes a dead letter with `reason`
    ├── InvalidEvent            the event names no bucket, or more than one
    ├── ForeignAccount          the bucket belongs to an account that is not allowed
    ├── ForeignRegion           the bucket is in a region of another deployment
    ├── NotPrepared             the member role of an account cannot be taken
    └── Refused                 the service refused the request for the bucket
"""

from __future__ import annotations

from typing import ClassVar, Literal

Reason = Literal[
    "rejected",
    "not_found",
    "conflict",
    "invalid_event",
    "foreign_account",
    "foreign_region",
    "unexpected_redirect",
]


class GuardError(Exception):
    """The base class of all exceptions that this package raises on purpose."""

    fault: ClassVar[Literal["operator", "service", "event"]]
    retryable: ClassVar[bool] = False


class ConfigurationError(GuardError):
    """A missing or wrong setting or access key."""

    fault = "operator"


class Unavailable(GuardError):
    """A temporary failure: a service gave no final answer in time."""

    fault = "service"
    retryable = True


class DeadLetterNotWritten(Unavailable):
    """A dead letter that the queue did not confirm; the log contains it instead."""


class Throttled(Unavailable):
    """A pause, requested by a service, that is longer than the remaining time."""


class PermanentError(GuardError):
    """A failure that no retry can change; an operator has to check it."""

    reason: Reason
    # The answer of the service, if the guard sent a request.
    status: int | None = None
    code: str | None = None
    message: str | None = None
    ec: str | None = None
    oss_request_id: str | None = None
    attempts: int = 0


class InvalidEvent(PermanentError):
    """An event that does not describe the creation of exactly one table bucket."""

    fault = "event"
    reason: Reason = "invalid_event"


class ForeignAccount(PermanentError):
    """A bucket of an account that is neither the function's own nor an allowed one."""

    fault = "event"
    reason: Reason = "foreign_account"


class ForeignRegion(PermanentError):
    """A bucket in a region that is neither the function's own nor one that it sweeps."""

    fault = "event"
    reason: Reason = "foreign_region"


class NotPrepared(PermanentError):
    """An account whose member role does not exist, does not trust the guard, or may not be taken.

    An operator has to prepare the account; until then no request to it can succeed.
    """

    fault = "operator"
    reason: Reason = "rejected"

    def __init__(self, detail: str, *, account_id: str, status: int, code: str) -> None:
        super().__init__(detail)
        self.account_id = account_id
        self.status = status
        self.code = code


class Refused(PermanentError):
    """A refusal by the service that no retry can change."""

    fault = "service"

    def __init__(
        self,
        detail: str,
        *,
        reason: Reason,
        status: int,
        code: str | None,
        message: str | None,
        ec: str | None,
        oss_request_id: str | None,
        attempts: int,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status
        self.code = code
        self.message = message
        self.ec = ec
        self.oss_request_id = oss_request_id
        self.attempts = attempts
