"""Retries of a request until a deadline: back-off, clock correction and new credentials.

The modules of the services interpret the answers; this module acts on the result.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Final, NamedTuple

import httpx

from encryption_guard.errors import Throttled
from encryption_guard.http import MAX_ANSWER_BYTES, Answer, send
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation
from encryption_guard.settings import Settings

FIRST_BACKOFF_SECONDS = 0.2
# The statuses below 500 that are worth a retry; every 5xx is worth one, too.
RETRYABLE = frozenset({408, 425, 429})
# OSS throttles with 503: https://help.aliyun.com/en/oss/user-guide/http-status-code-503
THROTTLING = frozenset({429, 503})
# The guard ignores a service's time that differs from its own by more.
MAX_CLOCK_CORRECTION = timedelta(days=366)
# A service states its time in whole seconds: RFC 9110, 5.6.7.
DATE_PRECISION = timedelta(seconds=1)
# Part of an error message; the operator's commands recognize the cause by it.
CERTIFICATE_REFUSED: Final = "certificate is refused"
_SERVER_TIME = re.compile(rb'ServerTime(?:\b[^<>"]*>|"\s*:\s*")\s*([^<"]{1,40})', re.IGNORECASE)


class Reaction(Enum):
    """The reaction to an answer."""

    GIVE_UP = "a retry cannot help"
    RETRY = "retry after a back-off"
    WAIT_UNTIL_VISIBLE = "retry after the next pause for a new resource"
    RENEW_CREDENTIALS = "sign again with new credentials"
    SIGN_AGAIN = "sign again with the service's time"


# These reactions repeat a request that the service may already have executed.
REPEATS: Final = frozenset({Reaction.RETRY, Reaction.WAIT_UNTIL_VISIBLE})


class UnreadableAnswer(ValueError):
    """A 2xx answer with a body that the API does not document; it counts as no answer."""


def is_retryable(status: int) -> bool:
    """Return whether the same request may get another answer later."""
    return status >= 500 or status in RETRYABLE


def is_clock_error(code: str | None, message: str | None) -> bool:
    """Return whether an error of OSS, OSS4 or SMQ is about the time of a signature."""
    text = re.sub(r"[\s_-]", "", f"{code} {message}".lower())
    phrases = ("skew", "requesttimeandthe", "signingdate", "timeexpired", "requesthasexpired")
    return any(phrase in text for phrase in phrases)


def clock_to_set(settings: Settings) -> str:
    """Name the clock that an operator has to set if the correction did not help."""
    return "the function's clock" if settings.function_name else "this machine's clock"


class Session:
    """The credentials and the corrected clock that sign the requests of one thread."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._offset = timedelta()
        self._imprecision = timedelta()
        self.credentials = invocation.read_credentials()

    def now(self) -> datetime:
        """Return the time, corrected by the time of the service."""
        return self._invocation.clock.now() + self._offset

    def latest(self) -> datetime:
        """Return the latest possible time: a corrected time may be up to a second early."""
        return self.now() + self._imprecision

    def correct_clock(self, answer: Answer) -> bool:
        """Adopt the service's time; return False if the answer has none that is plausible."""
        for server_time in server_times(answer):
            offset = server_time - self._invocation.clock.now()
            if abs(offset) <= MAX_CLOCK_CORRECTION:
                self._offset, self._imprecision = offset, DATE_PRECISION
                return True
        return False

    def renew_credentials(self) -> bool:
        """Read the credentials again; return False if they are unchanged."""
        refused = self.credentials
        self._invocation.discard_credentials(refused)
        self.credentials = self._invocation.read_credentials()
        return self.credentials != refused


class Throttle:
    """A pause of all requests to a service that asks to slow down, shared by all threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resume_at = -math.inf
        # How often the service has asked to slow down.
        self.holds = 0

    def left(self) -> float:
        """Return the remaining seconds of the pause, at least 0."""
        return max(self._resume_at - self._clock.monotonic(), 0)

    def hold(self, seconds: float) -> None:
        """Start a pause of `seconds`, unless the current pause ends later."""
        self._resume_at = max(self._resume_at, self._clock.monotonic() + seconds)
        self.holds += 1

    def wait(self, until: float) -> None:
        """Wait until the pause ends; raises Throttled if that is not before `until`."""
        while left := self.left():
            if self._resume_at >= until:
                raise Throttled(
                    f"The service asks to wait {left:.0f} s before the next request; a later try"
                    " may succeed."
                )
            self._clock.sleep(left)


class Limits(NamedTuple):
    """The limits of one request; its attempts end at the instant `until`.

    The reaction WAIT_UNTIL_VISIBLE allows one more attempt after each of `visibility_pauses` (in
    seconds), in addition to `max_attempts`.
    """

    until: float
    max_attempts: int
    visibility_pauses: tuple[float, ...] = ()


class FailedRequest(NamedTuple):
    """The last answer or fault of a request that did not succeed.

    `final` is False if the time ran out, and True if no attempt is left or no retry can help.
    """

    answer: Answer | None
    fault: httpx.TransportError | UnreadableAnswer | None
    attempts: int
    final: bool

    def tls_problem(self) -> str | None:
        """Return OpenSSL's reason for a TLS failure, and what to check; None for other faults."""
        error = tls_error(self.fault)
        if error is None:
            return None
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its {CERTIFICATE_REFUSED} ({error.verify_message.rstrip('.')}): check"
                " SSL_CERT_FILE and SSL_CERT_DIR, this machine's clock, and which server"
                " answers for the service"
            )
        # For example `[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)`.
        reason = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(error.args[-1]))
        return (
            f"TLS failed ({reason}): check the endpoint, and which server answers for the service"
        )


def tls_error(fault: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error that caused a fault; None if there is none or the peer only hung up."""
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__ or fault.__context__
    return None if isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError) else fault


class Attempts:
    """The attempts of one request, until the caller has its result or no retry can help.

    The module of a service sends the request in each attempt, and returns when it has its result:

        for attempt in attempts:
            with attempt:
                answer = attempt.send(transport, signed_request, until=...)
                if attempt.corrects_clock(says_wrong=...):
                    continue
                attempt.reaction = ...
        return attempts.failure

    An httpx.TransportError or UnreadableAnswer in an attempt does not end the loop. It becomes the
    fault of the attempt, with the reaction RETRY unless the server's certificate is refused.
    """

    def __init__(
        self, limits: Limits, session: Session, clock: Clock, throttle: Throttle | None = None
    ) -> None:
        self._limits = limits
        self._session = session
        self._clock = clock
        self._throttle = throttle
        self._answer: Answer | None = None
        self._fault: httpx.TransportError | UnreadableAnswer | None = None
        self._sent = 0
        self._final = False
        self._may_correct_clock = True
        self.reaction = Reaction.RETRY
        # Whether the service may have executed the same request in an earlier attempt.
        self.is_repeat = False

    def __iter__(self) -> Iterator[Attempts]:
        """Yield each attempt, and pause before the next one as the last reaction requires."""
        pauses = _Pauses(self._limits, self._session, self._clock)
        while True:
            self.reaction = Reaction.RETRY
            yield self
            pause = pauses.before_next(self.reaction, self._answer)
            self._hold_others_back(pause)
            if pause is None or self._clock.monotonic() + pause >= self._limits.until:
                self._final = pause is None
                return
            if pause:
                self._clock.sleep(pause)
            self.is_repeat = self.reaction in REPEATS

    def __enter__(self) -> Attempts:
        self._answer = self._fault = None
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, httpx.TransportError | UnreadableAnswer):
            return False
        self._fault = error
        # The server has no other certificate a moment later.
        if isinstance(tls_error(error), ssl.SSLCertVerificationError):
            self.reaction = Reaction.GIVE_UP
        return True

    def send(
        self,
        transport: DeadlineTransport,
        request: httpx.Request,
        *,
        until: float,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send the signed request as `http.send` does."""
        self._sent += 1
        self._answer = send(transport, request, until=until, max_bytes=max_bytes)
        return self._answer

    def corrects_clock(self, *, says_wrong: bool) -> bool:
        """Adopt the service's time if the answer reports a wrong clock; only once per request.

        Returns True if the caller has to sign the request again, and False if it has to interpret
        the answer.
        """
        if not says_wrong or not self._may_correct_clock or not self._answer:
            return False
        self._may_correct_clock = False
        if not self._session.correct_clock(self._answer) or self.is_late():
            return False
        self.reaction = Reaction.SIGN_AGAIN
        return True

    def is_late(self) -> bool:
        """Return whether the time for this request is over."""
        return self._clock.monotonic() >= self._limits.until

    @property
    def failure(self) -> FailedRequest:
        """The outcome of the last attempt."""
        return FailedRequest(self._answer, self._fault, self._sent, self._final)

    def _hold_others_back(self, pause: float | None) -> None:
        answer = self._answer
        if self._throttle and answer and answer.status in THROTTLING:
            seconds = pause or backoff(answer, repeats=self._sent, clock=self._clock)
            self._throttle.hold(seconds)


class _Pauses:
    """The pauses between the attempts of one request."""

    def __init__(self, limits: Limits, session: Session, clock: Clock) -> None:
        self._limits = limits
        self._session = session
        self._clock = clock
        self._visibility = iter(limits.visibility_pauses)
        self._repeats = 0
        self._credentials_renewed = False

    def before_next(self, reaction: Reaction, answer: Answer | None) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        match reaction:
            case Reaction.RETRY:
                self._repeats += 1
                if self._repeats >= self._limits.max_attempts:
                    return None
                return backoff(answer, repeats=self._repeats, clock=self._clock)
            case Reaction.WAIT_UNTIL_VISIBLE:
                return next(self._visibility, None)
            case Reaction.SIGN_AGAIN:
                return 0
            case Reaction.RENEW_CREDENTIALS if not self._credentials_renewed:
                self._credentials_renewed = True
                return 0 if self._session.renew_credentials() else None
            case _:
                return None


def backoff(answer: Answer | None, *, repeats: int, clock: Clock) -> float:
    """Return the seconds until the next attempt: the service's own value, or full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    pause = None if answer is None else _requested_pause(answer, clock)
    return clock.chance() * FIRST_BACKOFF_SECONDS * 2.0 ** (repeats - 1) if pause is None else pause


def _requested_pause(answer: Answer, clock: Clock) -> float | None:
    # RPC APIs use milliseconds: no page documents the unit, but the vendor's SDK divides by 1000.
    milliseconds = _number(answer.headers.get("x-acs-retry-after", ""))
    if milliseconds:
        return milliseconds / 1000
    text = answer.headers.get("retry-after", "")
    if not text:
        return None
    # Seconds or a date: RFC 9110, 10.2.3.
    seconds = _number(text)
    if seconds is not None:
        return seconds
    at = http_date(text)
    return max((at - clock.now()).total_seconds(), 0) if at else None


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def http_date(text: str) -> datetime | None:
    """Parse an HTTP date, which is UTC if it has no zone; None for any other text."""
    from email.utils import parsedate_to_datetime  # slow to import, and rarely needed

    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def server_times(answer: Answer) -> Iterator[datetime]:
    """Yield the service's times: `ServerTime` from the body of an error, then the `Date` header."""
    stated = _SERVER_TIME.search(answer.body)
    texts = (stated[1].decode("ascii", "replace") if stated else "", answer.headers.get("date", ""))
    for text in map(str.strip, texts):
        at: datetime | None
        try:
            at = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
        except ValueError:
            at = http_date(text)
        if at is not None:
            yield at if at.tzinfo else at.replace(tzinfo=timezone.utc)
