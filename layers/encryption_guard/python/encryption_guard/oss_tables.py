"""The OSS Tables API, as far as the guard needs it, and what each of its answers means.

https://help.aliyun.com/en/oss/developer-reference/puttablebucketencryption
https://help.aliyun.com/en/oss/developer-reference/gettablebucketencryption
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from enum import Enum
from hashlib import md5
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import httpx

from encryption_guard.arn import TableBucketArn
from encryption_guard.config import Settings
from encryption_guard.errors import Reason, Refused, Throttled, Unavailable, quoted
from encryption_guard.foreign_json import loads, mapping
from encryption_guard.signing import Oss4Auth
from encryption_guard.transport import (
    LONGEST_ANSWER,
    SLOW_DOWN,
    Answer,
    Invocation,
    Pace,
    exchange,
    http_date,
    new_request,
    pause_before_next,
)

T = TypeVar("T")

# Spaces as the vendor's SDK puts them: the same request down to Content-MD5.
AES256: Final = b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'

# What a bucket may be encrypted with; a stronger choice of its owner is kept.
ALGORITHMS: Final = frozenset({"AES256", "KMS", "SM4"})

ADVICE_SECONDS = 2.0
# A bucket that was just created may not be visible yet; pauses between tries, in seconds.
VISIBILITY_PAUSES = (0.5, 1.0, 1.5)
LONGEST_LABEL = 63


class Meaning(Enum):
    """What an answer says, whatever its wording."""

    DONE = "done"
    CLOCK_SKEWED = "clock skewed"
    TOKEN_EXPIRED = "token expired"  # noqa: S105  a meaning, not a token
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    BUSY = "busy"
    REJECTED = "rejected"
    REDIRECT = "redirect"
    BROKEN = "broken"


# The service's last word on a bucket becomes a dead letter with this reason; a meaning that is not
# here is the service's trouble or the credentials', which a later invocation may find gone.
DEAD_ENDS: Final[dict[Meaning, Reason]] = {
    Meaning.CLOCK_SKEWED: "rejected",
    Meaning.NOT_FOUND: "not_found",
    Meaning.CONFLICT: "conflict",
    Meaning.REJECTED: "rejected",
    Meaning.REDIRECT: "unexpected_redirect",
}


class ServiceError(NamedTuple):
    """What the service says of a failure, each part cut to a size that a dead letter can hold."""

    code: str | None
    message: str | None
    ec: str | None

    @classmethod
    def read(cls, answer: Answer) -> ServiceError:
        """Understand all three forms: `x-oss-error-type` with JSON, JSON alone, XML.

        As the vendor's SDK tells them apart (`_client.py`).
        """
        try:
            parsed = loads(answer.body)
        except ValueError:
            from html import unescape  # only XML needs it

            body = answer.body.decode("utf-8", "replace")
            parsed = {part: unescape(text) for part, text in re.findall(_XML_PART, body)}
        nested = parsed.get("Error", parsed) if isinstance(parsed, dict) else {}
        parts = {k.lower(): v for k, v in nested.items()} if isinstance(nested, dict) else {}
        return cls(
            _cut(answer.headers.get("x-oss-error-type") or parts.get("code"), 100),
            _cut(parts.get("message"), 1000),
            _cut(answer.headers.get("x-oss-ec") or parts.get("ec"), 100),
        )

    def readable_code(self) -> str:
        """The code as it may stand in a sentence."""
        code = self.code or ""
        return code if re.fullmatch(r"[\w.-]*", code, re.ASCII) else quoted(code)


_XML_PART = r"<(Code|Message|EC)>([^<]*)</"


def _cut(value: object, longest: int) -> str | None:
    return value[:longest] if isinstance(value, str) and value else None


def meaning(answer: Answer) -> Meaning:
    """The one table of HTTP status -> meaning."""
    match answer.status:
        case status if 200 <= status < 300:
            return Meaning.DONE
        case status if 300 <= status < 400:
            return Meaning.REDIRECT
        case 401:
            return Meaning.TOKEN_EXPIRED
        case 403:
            return _meaning_of_403(ServiceError.read(answer))
        case 404:
            return Meaning.NOT_FOUND
        case 408 | 425 | 429:
            return Meaning.BUSY
        case 409:
            return Meaning.CONFLICT
        case status if 400 <= status < 500:
            return Meaning.REJECTED
        case _:
            return Meaning.BROKEN


def _meaning_of_403(error: ServiceError) -> Meaning:
    # No list of the codes of OSS Tables is published, and its code may not tell these apart.
    said = f"{error.code} {error.message}".lower()
    if "skew" in said or "request time and the " in said:
        return Meaning.CLOCK_SKEWED
    if "token" in said and "expired" in said:
        return Meaning.TOKEN_EXPIRED
    return Meaning.REJECTED


class CurrentEncryption(NamedTuple):
    """What a bucket's default encryption is, when the service clearly says so."""

    algorithm: str
    status: int
    oss_request_id: str | None


class Call(NamedTuple):
    """One operation of the API; `path` and `query` as they stand in the URL.

    Without a `bucket` it is about the region. After a 404 it is repeated after each of
    `visibility_pauses`, in seconds; of the answer at most `longest` bytes are read.
    """

    operation: str
    method: str
    path: str
    region: str
    bucket: TableBucketArn | None = None
    query: str = ""
    content: bytes = b""
    visibility_pauses: tuple[float, ...] = ()
    longest: int = LONGEST_ANSWER

    @property
    def about(self) -> str:
        """What the operation concerns, as a sentence may name it."""
        return str(self.bucket or self.region)


def bucket_call(
    operation: str, method: str, arn: TableBucketArn, *, below: str = "", **rest: Any
) -> Call:
    """An operation on a table bucket, or on what is `below` it."""
    path = f"buckets/{quote(str(arn), safe='')}{below}"
    return Call(
        operation=operation, method=method, path=path, region=arn.region, bucket=arn, **rest
    )


def put_encryption(arn: TableBucketArn) -> Call:
    """PutTableBucketEncryption with AES256."""
    return bucket_call(
        "PutTableBucketEncryption",
        "PUT",
        arn,
        below="/encryption",
        content=AES256,
        visibility_pauses=VISIBILITY_PAUSES,
    )


def get_encryption(arn: TableBucketArn) -> Call:
    """GetTableBucketEncryption."""
    return bucket_call("GetTableBucketEncryption", "GET", arn, below="/encryption")


class _Tries:
    """How far one request has come."""

    def __init__(self, visibility_pauses: Iterator[float]) -> None:
        self.visibility_pauses = visibility_pauses
        self.sent = self.counted = 0
        self.clock_corrected = self.credentials_renewed = False


class Unreadable(ValueError):
    """A 2xx whose body is nothing of this API."""


class OssTables:
    """The service, as one thread of an invocation sees it: its credentials, its clock, its time.

    `pace` is shared with the other threads.
    """

    def __init__(self, invocation: Invocation, pace: Pace | None = None) -> None:
        self._invocation = invocation
        self._pace = pace
        self._clock = invocation.clock
        self._credentials = invocation.read_credentials()
        self._clock_offset = timedelta()

    def current_encryption(self, arn: TableBucketArn) -> CurrentEncryption | None:
        """GetTableBucketEncryption, as advice: None for every answer that is not clear.

        At most 2 s in all, one repeat after a 5xx or a broken connection. Raises Throttled where a
        pace is kept that leaves no time for it: whoever comes again learns more.
        """
        until = min(
            self._clock.monotonic() + ADVICE_SECONDS, self._invocation.budget.for_one_request()
        )
        for _ in range(2):
            try:
                answer = self._send(get_encryption(arn), until=until)
            except httpx.TimeoutException:
                return None
            except httpx.TransportError:
                continue
            is_paced = self._pace is not None and answer.status in SLOW_DOWN
            if answer.status < 500 and not is_paced:
                return _clear(answer)
        return None

    def put_encryption(self, arn: TableBucketArn) -> Answer:
        """PutTableBucketEncryption with AES256, repeated as far as that can help; returns a 2xx.

        Raises as `perform` does.
        """
        return self.perform(put_encryption(arn), lambda answer: answer)

    def perform(self, call: Call, read: Callable[[Answer], T]) -> T:
        """Repeat a call as far as that can help, and return what `read` makes of its 2xx.

        What `read` finds Unreadable is as good as no answer.
        Raises Refused when the service's last word is one that no retry can change, Unavailable
        when there was no such word in time.
        """
        until = self._invocation.budget.for_one_request()
        tries = _Tries(iter(call.visibility_pauses))
        while True:
            tries.sent += 1
            answer: Answer | None = None
            fault: httpx.TransportError | Unreadable | None = None
            try:
                answer = self._send(call, until=until)
            except httpx.TransportError as error:
                fault = error
            if answer and meaning(answer) is Meaning.DONE:
                try:
                    return read(answer)
                except Unreadable as error:
                    fault = error
            pause = self._pause(answer, tries)
            if pause is None or self._clock.monotonic() + pause >= until:
                paced, final = self._pace is not None, pause is None
                word = _last_word(call, answer, fault, tries.sent, final=final, paced=paced)
                raise word from fault
            self._clock.sleep(pause)

    def _pause(self, answer: Answer | None, tries: _Tries) -> float | None:
        """Seconds until the same request may be tried again; None when it would not help."""
        match meaning(answer) if answer else Meaning.BROKEN:
            case Meaning.CLOCK_SKEWED if answer and not tries.clock_corrected:
                tries.clock_corrected = True
                return 0 if self._correct_clock(answer) else None
            case Meaning.TOKEN_EXPIRED if not tries.credentials_renewed:
                tries.credentials_renewed = True
                return 0 if self._renew_credentials() else None
            case Meaning.NOT_FOUND:
                return next(tries.visibility_pauses, None)
            # What was done and cannot be read is as good as broken.
            case Meaning.CONFLICT | Meaning.BUSY | Meaning.BROKEN | Meaning.DONE:
                tries.counted += 1
                if tries.counted >= self._invocation.settings.max_attempts:
                    return None
                return pause_before_next(answer, tries=tries.counted, clock=self._clock)
            case _:
                return None

    def _correct_clock(self, answer: Answer) -> bool:
        theirs = http_date(answer.headers.get("date", ""))
        if theirs is None:
            return False
        self._clock_offset = theirs - self._clock.now()
        return True

    def _renew_credentials(self) -> bool:
        before, self._credentials = self._credentials, self._invocation.read_credentials()
        return self._credentials != before

    def _now(self) -> datetime:
        return self._clock.now() + self._clock_offset

    def _send(self, call: Call, *, until: float) -> Answer:
        if self._pace:
            self._pace.wait(until)
        query = f"?{call.query}" if call.query else ""
        request = new_request(
            call.method,
            f"{_base_url(call, self._invocation.settings)}/{call.path}{query}",
            content=call.content,
            headers={
                "content-type": "application/json",
                # The signature covers the body through this header alone.
                "content-md5": b64encode(
                    md5(call.content, usedforsecurity=False).digest()
                ).decode(),
            },
        )
        auth = Oss4Auth(
            access_key_id=self._credentials.access_key_id,
            access_key_secret=self._credentials.access_key_secret,
            security_token=self._credentials.security_token,
            region=call.region,
            resource=str(call.bucket) if call.bucket else None,
            now=self._now,
        )
        sent_at = self._clock.monotonic()
        answer = exchange(
            self._invocation.transport,
            request,
            auth=auth,
            until=self._invocation.end_of_try(until),
            longest=call.longest,
        )
        if self._pace:
            self._pace.heed(answer, sent_at=sent_at)
        return answer


def _base_url(call: Call, settings: Settings) -> str:
    if settings.oss_tables_endpoint:
        return settings.oss_tables_endpoint.replace("{region}", call.region)
    internal = settings.network == "internal" and call.region == settings.region
    host = f"{call.region}{'-internal' if internal else ''}.oss-tables.aliyuncs.com"
    label = f"{call.bucket.name}-{call.bucket.account_id}" if call.bucket else ""
    if label and settings.addressing == "virtual" and len(label) <= LONGEST_LABEL:
        host = f"{label}.{host}"
    return f"https://{host}"


def _clear(answer: Answer) -> CurrentEncryption | None:
    if answer.status != 200:
        return None
    configuration = mapping(answer.body).get("encryptionConfiguration")
    told = configuration.get("sseAlgorithm") if isinstance(configuration, dict) else None
    algorithm = known_algorithm(told) if isinstance(told, str) else None
    return CurrentEncryption(algorithm, 200, oss_request_id(answer)) if algorithm else None


def known_algorithm(text: str) -> str | None:
    """An algorithm as this guard spells it, whatever its casing; None for any other word."""
    # Beyond ASCII there are letters that become others in capitals.
    folded = text.upper() if text.isascii() else ""
    return folded if folded in ALGORITHMS else None


def oss_request_id(answer: Answer) -> str | None:
    """The id to name when asking the vendor about this request."""
    return _cut(answer.headers.get("x-oss-request-id"), 100)


def _last_word(
    call: Call,
    answer: Answer | None,
    fault: Exception | None,
    sent: int,
    *,
    final: bool,
    paced: bool,
) -> Refused | Unavailable:
    """What is to be raised; `final` unless it is only the time that ran out.

    Whoever keeps a pace is told where all it takes is a later turn.
    """
    if answer is None:
        return Unavailable(
            f"OSS Tables gave no answer to {call.operation} of {call.about} in {sent} tries"
            f" ({type(fault).__name__}); a later try may get one."
        )
    error = ServiceError.read(answer)
    said = f"{answer.status} {error.readable_code()}".rstrip()
    reason = DEAD_ENDS.get(meaning(answer))
    asked_to_wait = not final and "retry-after" in answer.headers
    if reason is None or asked_to_wait:
        is_early = paced and not final and answer.status in SLOW_DOWN
        return (Throttled if is_early else Unavailable)(
            f"OSS Tables answered {said} to {call.operation} of {call.about} in {sent} tries"
            f"{', with nothing that can be read' if fault else ''}; a later try may succeed."
        )
    return Refused(
        f"OSS Tables answered {said} to {call.operation} of {call.about}:"
        f" {quoted(error.message or 'no message')}.",
        reason=reason,
        status=answer.status,
        code=error.code,
        message=error.message,
        ec=error.ec,
        oss_request_id=oss_request_id(answer),
        attempts=sent,
    )
