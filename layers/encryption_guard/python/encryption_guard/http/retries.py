"""Sending a request again: until a deadline, with back-off, clock and credentials.

What an answer means is each service's own; here stands what can be done about it.
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
# Of a service that is busy; every 5xx is worth a retry too.
RETRYABLE = frozenset({408, 425, 429})
# Throttling of OSS comes as 503: https://help.aliyun.com/en/oss/user-guide/http-status-code-503
THROTTLING = frozenset({429, 503})
# A service whose clock differs by more is not believed.
MAX_CLOCK_CORRECTION = timedelta(days=366)
# A service tells its own time in whole seconds: RFC 9110, 5.6.7.
DATE_PRECISION = timedelta(seconds=1)
_SERVER_TIME = re.compile(rb'ServerTime(?:\b[^<>"]*>|"\s*:\s*")\s*([^<"]{1,40})', re.IGNORECASE)


class Reaction(Enum):
    """What to do about an answer."""

    GIVE_UP = "no repeat helps"
    RETRY = "retry, after a back-off"
    WAIT_UNTIL_VISIBLE = "retry, after one of the pauses for what was just created"
    RENEW_CREDENTIALS = "sign again, with new credentials"
    SIGN_AGAIN = "sign again, with the service's time"


# The same request again, which may have been carried out before.
REPEATS: Final = frozenset({Reaction.RETRY, Reaction.WAIT_UNTIL_VISIBLE})


class UnreadableAnswer(ValueError):
    """A 2xx whose body is nothing that the API documents: as good as no answer."""


def is_retryable(status: int) -> bool:
    """Whether the same request may get another answer later."""
    return status >= 500 or status in RETRYABLE


def says_clock_is_wrong(code: str | None, message: str | None) -> bool:
    """Whether an error is about the time of a signature, in the words of OSS, OSS4 or SMQ."""
    said = re.sub(r"[\s_-]", "", f"{code} {message}".lower())
    words = ("skew", "requesttimeandthe", "signingdate", "timeexpired", "requesthasexpired")
    return any(word in said for word in words)


def whose_clock(settings: Settings) -> str:
    """Which clock has to be set where a correction was not enough."""
    return "the function's clock" if settings.function_name else "this machine's clock"


class Session:
    """The credentials and the clock with which the requests of one thread are signed."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._offset = timedelta()
        self._imprecision = timedelta()
        self.credentials = invocation.read_credentials()

    def now(self) -> datetime:
        """The time, corrected by what the service said of its own."""
        return self._invocation.clock.now() + self._offset

    def latest(self) -> datetime:
        """The latest that it can be: a time that was corrected may be early by what was cut off."""
        return self.now() + self._imprecision

    def correct_clock(self, answer: Answer) -> bool:
        """Take over the service's time; False where it names none that can be believed."""
        for theirs in server_times(answer):
            offset = theirs - self._invocation.clock.now()
            if abs(offset) <= MAX_CLOCK_CORRECTION:
                self._offset, self._imprecision = offset, DATE_PRECISION
                return True
        return False

    def renew_credentials(self) -> bool:
        """Read the credentials again; False where they are the same."""
        before, self.credentials = self.credentials, self._invocation.read_credentials()
        return self.credentials != before


class Throttle:
    """Holds back everybody who asks the same service, while it asks to slow down."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resume_at = -math.inf

    def left(self) -> float:
        """Seconds until requests may go out; zero where they may."""
        return max(self._resume_at - self._clock.monotonic(), 0)

    def hold(self, seconds: float) -> None:
        """Let nobody send a request for so long."""
        self._resume_at = max(self._resume_at, self._clock.monotonic() + seconds)

    def wait(self, until: float) -> None:
        """Wait until requests may go out; raises Throttled where that is not before `until`."""
        while left := self.left():
            if self._resume_at >= until:
                raise Throttled(
                    f"The service asks to wait {left:.0f} s before the next request; a later try"
                    " may succeed."
                )
            self._clock.sleep(left)


class Limits(NamedTuple):
    """How long and how often a request is sent; `until` is an instant.

    An answer that says WAIT_UNTIL_VISIBLE is asked for again after each of `visibility_pauses`, in
    seconds, beside the `max_attempts`.
    """

    until: float
    max_attempts: int
    visibility_pauses: tuple[float, ...] = ()


class FailedRequest(NamedTuple):
    """The last answer or fault of a request that was never answered as it should be.

    It is `final` where no repeat would help, and not where the time ran out.
    """

    answer: Answer | None
    fault: httpx.TransportError | UnreadableAnswer | None
    attempts: int
    final: bool

    def tls_problem(self) -> str | None:
        """What kept TLS from coming about, in OpenSSL's words, and what to check; else None."""
        error = tls_error(self.fault)
        if error is None:
            return None
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is refused ({error.verify_message.rstrip('.')}): check"
                " SSL_CERT_FILE and SSL_CERT_DIR, this machine's clock, and who answers for the"
                " service"
            )
        # As `[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)` has it.
        reason = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(error.args[-1]))
        return f"TLS failed ({reason}): check the endpoint, and who answers for the service"


def tls_error(fault: BaseException | None) -> ssl.SSLError | None:
    """OpenSSL's error behind a fault; None where the other side only hung up, or it is no TLS."""
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__ or fault.__context__
    return None if isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError) else fault


class Attempts:
    """The tries of one request: one after the other, until nothing helps any more.

    A service sends in each of them, and returns as soon as it has what it wants:

        for attempt in attempts:
            with attempt:
                answer = attempt.send(transport, signed_request, until=...)
                if attempt.corrects_clock(says_wrong=...):
                    continue
                attempt.reaction = ...
        return attempts.failure

    What a transport raises, and Unreadable, ends no loop: it is the fault of that attempt, and as
    good as a RETRY.
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
        # Whether the same request was sent before, and may have been carried out.
        self.is_repeat = False

    def __iter__(self) -> Iterator[Attempts]:
        """Wait before each attempt but the first, as long as the last one makes it necessary."""
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
        # Whoever answers has no other certificate a moment later.
        if isinstance(tls_error(error), ssl.SSLCertVerificationError):
            self.reaction = Reaction.GIVE_UP
        return True

    def send(
        self,
        transport: DeadlineTransport,
        request: httpx.Request,
        *,
        until: float,
        longest: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send the request, which is signed already, as `http.send` does."""
        self._sent += 1
        self._answer = send(transport, request, until=until, longest=longest)
        return self._answer

    def corrects_clock(self, *, says_wrong: bool) -> bool:
        """Take over the service's time, if the answer says that ours is wrong; only once.

        False where it does not, or names no time that can be believed: the answer then counts as it
        is.
        """
        if not says_wrong or not self._may_correct_clock or not self._answer:
            return False
        self._may_correct_clock = False
        if not self._session.correct_clock(self._answer) or self.is_late():
            return False
        self.reaction = Reaction.SIGN_AGAIN
        return True

    def is_late(self) -> bool:
        """Whether the time for this request is over."""
        return self._clock.monotonic() >= self._limits.until

    @property
    def failure(self) -> FailedRequest:
        """How the last attempt ended that was sent."""
        return FailedRequest(self._answer, self._fault, self._sent, self._final)

    def _hold_others_back(self, pause: float | None) -> None:
        answer = self._answer
        if self._throttle and answer and answer.status in THROTTLING:
            seconds = pause or backoff(answer, repeats=self._sent, clock=self._clock)
            self._throttle.hold(seconds)


class _Pauses:
    """How long to wait before the next attempt of one request."""

    def __init__(self, limits: Limits, session: Session, clock: Clock) -> None:
        self._limits = limits
        self._session = session
        self._clock = clock
        self._visibility = iter(limits.visibility_pauses)
        self._repeats = 0
        self._credentials_renewed = False

    def before_next(self, reaction: Reaction, answer: Answer | None) -> float | None:
        """Seconds until the next attempt; None where none would help."""
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
    """Seconds until the next attempt: those that the service names, else with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    asked = None if answer is None else _named_pause(answer, clock)
    return clock.chance() * FIRST_BACKOFF_SECONDS * 2.0 ** (repeats - 1) if asked is None else asked


def _named_pause(answer: Answer, clock: Clock) -> float | None:
    # Of RPC APIs, in milliseconds: no page names the unit, the vendor's SDK divides by 1000.
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
    """A `Date` header's time in UTC, or None where it is not one."""
    from email.utils import parsedate_to_datetime  # only a clock that is wrong needs it

    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def server_times(answer: Answer) -> Iterator[datetime]:
    """The service's time, as `ServerTime` of an error's body and as the `Date` header tell it."""
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
