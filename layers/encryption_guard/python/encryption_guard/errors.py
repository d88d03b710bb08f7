"""What can go wrong, whose fault it is and who tries again.

GuardError
├── ConfigurationError       the operator's: a setting or the credentials; the message names it
├── Unavailable              the service's, for now: leaves the handler, so that the platform
│   │                        retries
│   ├── LetterNotWritten     the dead-letter queue did not take a letter
│   └── Throttled            the service wants to be asked later
└── DeadEnd                  a retry cannot help: becomes a dead letter with `reason`
    ├── InvalidEvent         the event names no bucket, or not one bucket
    ├── ForeignAccount       the bucket belongs to an account that is not allowed
    ├── ForeignRegion        the bucket is in a region that is another deployment's
    └── Refused              the service's last word on this bucket
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
    """Root of everything this package raises on purpose."""

    fault: ClassVar[Literal["operator", "service", "event"]]
    retryable: ClassVar[bool] = False


class ConfigurationError(GuardError):
    """A setting or the credentials are missing or wrong."""

    fault = "operator"


class Unavailable(GuardError):
    """The service gave no final answer within the time there was."""

    fault = "service"
    retryable = True


class DeadLetterNotWritten(Unavailable):
    """The dead-letter queue did not confirm a letter; the letter is in the log."""


class Throttled(Unavailable):
    """The service asks to slow down, for longer than there was time."""


class PermanentError(GuardError):
    """Nothing that a retry could change; an operator has to look at it."""

    reason: Reason
    # What the service said, where it was asked.
    status: int | None = None
    code: str | None = None
    message: str | None = None
    ec: str | None = None
    oss_request_id: str | None = None
    attempts: int = 0


class InvalidEvent(PermanentError):
    """The event cannot be understood as the creation of one table bucket."""

    fault = "event"
    reason: Reason = "invalid_event"


class ForeignAccount(PermanentError):
    """The bucket's account is neither the function's own nor an allowed one."""

    fault = "event"
    reason: Reason = "foreign_account"


class ForeignRegion(PermanentError):
    """The bucket's region is neither the function's own nor one that it sweeps."""

    fault = "event"
    reason: Reason = "foreign_region"


class Refused(PermanentError):
    """The service refused, or kept refusing, and says so in `status`, `code` and `message`."""

    fault = "service"

    def __init__(
        self,
        sentence: str,
        *,
        reason: Reason,
        status: int,
        code: str | None,
        message: str | None,
        ec: str | None,
        oss_request_id: str | None,
        attempts: int,
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status
        self.code = code
        self.message = message
        self.ec = ec
        self.oss_request_id = oss_request_id
        self.attempts = attempts
