"""The OSS Tables API, as far as the guard needs it, and what each of its answers means.

https://help.aliyun.com/en/oss/developer-reference/puttablebucketencryption
https://help.aliyun.com/en/oss/developer-reference/gettablebucketencryption
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from hashlib import md5
from typing import Final
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from encryption_guard.arn import TableBucketArn
from encryption_guard.config import Settings
from encryption_guard.errors import Reason, Refused, Unavailable, quoted
from encryption_guard.signing import Oss4Auth
from encryption_guard.transport import (
    Answer,
    Invocation,
    exchange,
    http_date,
    new_request,
    pause_before_next,
)

# Spaces as the vendor's SDK puts them: the same request down to Content-MD5.
AES256: Final = b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'

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


@dataclass(frozen=True, slots=True)
class ServiceError:
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
            parsed = from_json(answer.body)
        except ValueError:
            from html import unescape  # only XML needs it

            body = answer.body.decode("utf-8", "replace")
            parsed = {part: unescape(text) for part, text in _XML_PART.findall(body)}
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


_XML_PART = re.compile(r"<(Code|Message|EC)>([^<]*)</")


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


class _EncryptionConfiguration(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    sse_algorithm: str = Field(default="", alias="sseAlgorithm")


class _GetEncryptionReply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    encryption_configuration: _EncryptionConfiguration = Field(alias="encryptionConfiguration")


@dataclass(frozen=True, slots=True)
class CurrentEncryption:
    """What a bucket's default encryption is, when the service clearly says so."""

    algorithm: str
    status: int
    oss_request_id: str | None


@dataclass(slots=True)
class _Tries:
    """How far one request has come."""

    sent: int = 0
    counted: int = 0
    visibility_pauses: Iterator[float] = field(default_factory=lambda: iter(VISIBILITY_PAUSES))
    clock_corrected: bool = False
    credentials_renewed: bool = False


class OssTables:
    """The service, as one invocation sees it: its credentials, its clock, its time."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._clock = invocation.clock
        self._credentials = invocation.read_credentials()
        self._clock_offset = timedelta()

    def current_encryption(self, arn: TableBucketArn) -> CurrentEncryption | None:
        """GetTableBucketEncryption, as advice: None for every answer that is not clear.

        At most 2 s in all, one repeat after a 5xx or a broken connection.
        """
        until = min(
            self._clock.monotonic() + ADVICE_SECONDS, self._invocation.budget.for_one_request()
        )
        for _ in range(2):
            try:
                answer = self._send("GET", arn, until=until)
            except httpx.TimeoutException:
                return None
            except httpx.TransportError:
                continue
            if answer.status < 500:
                return _clear(answer)
        return None

    def put_encryption(self, arn: TableBucketArn) -> Answer:
        """PutTableBucketEncryption with AES256, repeated as far as that can help; returns a 2xx.

        Raises Refused when the service's last word is one that no retry can change, Unavailable
        when there was no such word in time.
        """
        until = self._invocation.budget.for_one_request()
        tries = _Tries()
        while True:
            tries.sent += 1
            answer: Answer | None = None
            lost: httpx.TransportError | None = None
            try:
                answer = self._send("PUT", arn, until=until, content=AES256)
            except httpx.TransportError as error:
                lost = error
            if answer and meaning(answer) is Meaning.DONE:
                return answer
            pause = self._pause(answer, tries)
            if pause is None or self._clock.monotonic() + pause >= until:
                final = pause is None
                raise _last_word(arn, answer or lost, tries.sent, final=final) from lost
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
            case Meaning.CONFLICT | Meaning.BUSY | Meaning.BROKEN:
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

    def _send(
        self, method: str, arn: TableBucketArn, *, until: float, content: bytes = b""
    ) -> Answer:
        base_url = _base_url(arn, self._invocation.settings)
        request = new_request(
            method,
            f"{base_url}/buckets/{quote(str(arn), safe='')}/encryption",
            content=content,
            headers={
                "content-type": "application/json",
                # The signature covers the body through this header alone.
                "content-md5": b64encode(md5(content, usedforsecurity=False).digest()).decode(),
            },
        )
        auth = Oss4Auth(
            access_key_id=self._credentials.access_key_id,
            access_key_secret=self._credentials.access_key_secret,
            security_token=self._credentials.security_token,
            region=arn.region,
            resource=str(arn),
            now=self._now,
        )
        return exchange(
            self._invocation.transport,
            request,
            auth=auth,
            until=self._invocation.end_of_try(until),
        )


def _base_url(arn: TableBucketArn, settings: Settings) -> str:
    if settings.oss_tables_endpoint:
        return settings.oss_tables_endpoint.replace("{region}", arn.region)
    internal = settings.network == "internal" and arn.region == settings.region
    host = f"{arn.region}{'-internal' if internal else ''}.oss-tables.aliyuncs.com"
    label = f"{arn.name}-{arn.account_id}"
    if settings.addressing == "virtual" and len(label) <= LONGEST_LABEL:
        host = f"{label}.{host}"
    return f"https://{host}"


def _clear(answer: Answer) -> CurrentEncryption | None:
    if answer.status != 200:
        return None
    try:
        reply = _GetEncryptionReply.model_validate_json(answer.body)
    except ValidationError:
        return None
    algorithm = reply.encryption_configuration.sse_algorithm.upper()
    if algorithm not in {"AES256", "KMS", "SM4"}:
        return None
    return CurrentEncryption(algorithm, answer.status, oss_request_id(answer))


def oss_request_id(answer: Answer) -> str | None:
    """The id to name when asking the vendor about this request."""
    return _cut(answer.headers.get("x-oss-request-id"), 100)


def _last_word(
    arn: TableBucketArn,
    answer: Answer | httpx.TransportError | None,
    sent: int,
    *,
    final: bool,
) -> Refused | Unavailable:
    """What is to be raised; `final` unless it is only the time that ran out."""
    if not isinstance(answer, Answer):
        return Unavailable(
            f"OSS Tables gave no answer for {arn} in {sent} tries ({type(answer).__name__}); the"
            " next invocation tries again."
        )
    error = ServiceError.read(answer)
    said = f"{answer.status} {error.readable_code()}".rstrip()
    reason = DEAD_ENDS.get(meaning(answer))
    asked_to_wait = not final and "retry-after" in answer.headers
    if reason is None or asked_to_wait:
        return Unavailable(
            f"OSS Tables answered {said} for {arn} in {sent} tries; the next invocation tries"
            " again."
        )
    return Refused(
        f"OSS Tables answered {said} to PutTableBucketEncryption of {arn}:"
        f" {quoted(error.message or 'no message')}.",
        reason=reason,
        status=answer.status,
        code=error.code,
        message=error.message,
        ec=error.ec,
        oss_request_id=oss_request_id(answer),
        attempts=sent,
    )
