"""A client of the operations of OSS Tables that the guard needs, and the meaning of each answer.

https://help.aliyun.com/en/oss/developer-reference/puttablebucketencryption
https://help.aliyun.com/en/oss/developer-reference/gettablebucketencryption
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from hashlib import md5
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import httpx

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import Reason, Refused, Throttled, Unavailable
from encryption_guard.http import MAX_ANSWER_BYTES, Answer, new_request
from encryption_guard.http.retries import (
    Attempts,
    FailedRequest,
    Limits,
    Reaction,
    Session,
    Throttle,
    UnreadableAnswer,
    clock_to_set,
    is_clock_error,
    is_retryable,
)
from encryption_guard.invocation import Invocation
from encryption_guard.services.signing import Oss4Auth
from encryption_guard.settings import Settings
from encryption_guard.untrusted import as_object, loads, lowercase_keys, quoted

T = TypeVar("T")

# Names that mean no encryption, and names of algorithms: in lower case, without separators. A
# future algorithm may have a name that is in neither of them.
NO_ENCRYPTION: Final = frozenset(
    {
        *("", "none", "null", "nil", "off", "false", "disabled"),
        *("plaintext", "unencrypted", "notencrypted"),
    }
)
AES256: Final = "AES256"
SPELLINGS: Final = {
    "aes256": AES256,
    **dict.fromkeys(("kms", "ssekms", "osskms", "awskms"), "KMS"),
    "sm4": "SM4",
}
MAX_ALGORITHM_LENGTH = 100
# Without one of these headers, an answer ends when its connection ends.
FRAMING: Final = frozenset({"content-length", "transfer-encoding"})

ADVICE_SECONDS = 2.0
# A new bucket may not be visible yet: the pauses before the next attempts, in seconds.
VISIBILITY_PAUSES = (0.5, 1.0, 1.5)
MAX_LABEL_LENGTH = 63


class AnswerKind(Enum):
    """The meaning of an answer, whatever its wording."""

    DONE = "done"
    TOKEN_EXPIRED = "token expired"  # noqa: S105  not a token
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    REDIRECT = "redirect"
    UNAVAILABLE = "unavailable"


REACTIONS: Final[dict[AnswerKind, Reaction]] = {
    AnswerKind.TOKEN_EXPIRED: Reaction.RENEW_CREDENTIALS,
    AnswerKind.NOT_FOUND: Reaction.WAIT_UNTIL_VISIBLE,
    AnswerKind.UNAVAILABLE: Reaction.RETRY,
}

# A final answer of one of these kinds becomes a dead letter with this reason. Every other kind is a
# problem of the service or of the credentials: a later invocation may succeed.
DEAD_LETTER_REASONS: Final[dict[AnswerKind, Reason]] = {
    AnswerKind.NOT_FOUND: "not_found",
    AnswerKind.CONFLICT: "conflict",
    AnswerKind.REJECTED: "rejected",
    AnswerKind.REDIRECT: "unexpected_redirect",
}


class ServiceError(NamedTuple):
    """The parts of an error that the service returns, each cut to fit into a dead letter."""

    code: str | None
    message: str | None
    ec: str | None

    @classmethod
    def parse(cls, answer: Answer) -> ServiceError:
        """Parse an error in one of its forms: `x-oss-error-type` with JSON, JSON alone, or XML.

        The vendor's SDK distinguishes the same forms (`_client.py`).
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
        """Return the code for a message, in quotes if it has unusual characters."""
        code = self.code or ""
        return code if re.fullmatch(r"[\w.-]*", code, re.ASCII) else quoted(code)


_XML_PART = r"<(Code|Message|EC)>([^<]*)</"
_ERROR_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?\w*error|<(?:code|message)>", re.IGNORECASE)
# The keys of a JSON object that is an error, in lower case.
ERROR_KEYS: Final = frozenset(
    {*("error", "errors", "code", "message", "errorcode", "errormessage"), "errortype", "__type"}
)
KMS_KEYS: Final = ("kmskeyarn", "kmskeyid")


def _cut(value: object, max_length: int) -> str | None:
    return value[:max_length] if isinstance(value, str) and value else None


def kind_of(answer: Answer) -> AnswerKind:
    """Return the kind of an answer; only this function maps HTTP statuses to meanings."""
    match answer.status:
        case status if 200 <= status < 300:
            return AnswerKind.DONE
        case status if 300 <= status < 400:
            return AnswerKind.REDIRECT
        case 401:
            return AnswerKind.TOKEN_EXPIRED
        case 403:
            return _kind_of_403(ServiceError.parse(answer))
        case 404:
            return AnswerKind.NOT_FOUND
        case 409:
            return AnswerKind.CONFLICT
        case status if 400 <= status < 500 and not is_retryable(status):
            return AnswerKind.REJECTED
        case _:
            return AnswerKind.UNAVAILABLE


def _kind_of_403(error: ServiceError) -> AnswerKind:
    # OSS Tables publishes no list of its codes, so the message counts, too.
    text = f"{error.code} {_without_arns(error.message)}".lower()
    is_expired = "token" in text and "expired" in text
    return AnswerKind.TOKEN_EXPIRED if is_expired else AnswerKind.REJECTED


def clock_is_wrong(answer: Answer) -> bool:
    """Return whether an answer may be about the clock.

    A match is no proof: the answer may quote the name of a bucket that contains the same words.
    """
    if not 400 <= answer.status < 500:
        return False
    error = ServiceError.parse(answer)
    return is_clock_error(error.code, _without_arns(error.message))


def _without_arns(message: str | None) -> str:
    # A bucket may have the name expired-tokens.
    return re.sub(r"acs:\S+", "", message or "")


State = Literal["encrypted", "not_encrypted", "unknown"]


class Reading(NamedTuple):
    """The encryption of a bucket or a table, as the service states it.

    `algorithm` is the name that the service uses, and `known_as` the algorithm that it stands for.
    If the guard does not know the name, `known_as` is None and the state is unknown. `why` is a
    sentence that explains an unknown state.
    """

    state: State
    algorithm: str | None = None
    known_as: str | None = None
    why: str | None = None
    gone: bool = False
    status: int | None = None
    code: str | None = None
    oss_request_id: str | None = None


def read_encryption(answer: Answer) -> Reading:
    """Read the encryption of a bucket or a table from a 200.

    Raises UnreadableAnswer if the answer does not follow the API.

    >>> body = b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'
    >>> read_encryption(Answer(200, httpx.Headers(), body)).state
    'encrypted'
    """
    configuration = _configuration(answer)
    value = configuration.get("ssealgorithm")
    name = value.strip()[:MAX_ALGORITHM_LENGTH] if isinstance(value, str) else ""
    normalized = _normalized(name)
    reading = Reading("encrypted", name, status=200, oss_request_id=oss_request_id(answer))
    if any(_is_given(configuration.get(key)) for key in KMS_KEYS):
        # The owner chose a KMS key, whatever the name of the algorithm is.
        algorithm = name if normalized not in NO_ENCRYPTION else "KMS"
        return reading._replace(algorithm=algorithm, known_as="KMS")
    if not isinstance(value, str | None):
        raise UnreadableAnswer("not an algorithm")
    if normalized in NO_ENCRYPTION:
        return reading._replace(state="not_encrypted", algorithm=None)
    if known_as := SPELLINGS.get(normalized):
        return reading._replace(algorithm=AES256 if known_as == AES256 else name, known_as=known_as)
    why = f"This guard does not know the encryption {quoted(name)}."
    return reading._replace(state="unknown", why=why)


def read_put(answer: Answer, algorithm: str) -> Reading | None:
    """Read a 2xx to a PUT of this algorithm; None unless OSS Tables clearly confirms it.

    Raises UnreadableAnswer if the answer is an error with the status of a success.
    """
    request_id = oss_request_id(answer)
    if not _is_plain_success(answer.body) or answer.status not in (200, 204) or not request_id:
        return None
    return Reading(
        "encrypted", algorithm, algorithm, status=answer.status, oss_request_id=request_id
    )


def _is_plain_success(body: bytes) -> bool:
    """Return whether a body is empty, or a JSON object that is not an error.

    Raises UnreadableAnswer if it is an error. OSS Tables, its Lance catalog and the gateways in
    front of them write errors in several forms.
    """
    if not body.strip():
        return True
    try:
        parsed = loads(body)
    except ValueError:
        parsed = None
    first = parsed[0] if isinstance(parsed, list) and parsed else parsed
    keys = {key.lower() for key in first} if isinstance(first, dict) else set()
    if keys & ERROR_KEYS or _ERROR_ELEMENT.search(body):
        raise UnreadableAnswer("an error with the status of a success")
    return isinstance(parsed, dict)


def _normalized(name: str) -> str:
    return re.sub(r"[\s:_./-]+", "", name).lower() if name.isascii() else name


def _is_given(key: object) -> bool:
    return _normalized(key.strip()) not in NO_ENCRYPTION if isinstance(key, str) else bool(key)


def _configuration(answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise UnreadableAnswer("not a 200")
    # The "empty encryption configuration" of the documentation may be an empty body. But an answer
    # that ends with its connection may have lost its body.
    if not answer.body.strip() and not FRAMING.intersection(answer.headers):
        raise UnreadableAnswer("an empty body, perhaps cut short")
    parsed = lowercase_keys(read_object(answer)) if answer.body.strip() else {}
    if not parsed:
        return {}
    if "encryptionconfiguration" in parsed:
        value = parsed["encryptionconfiguration"]
        found = {} if value is None else as_object(value)
    else:
        # No documentation shows this form: the guard trusts only a stronger choice in it.
        known_as = SPELLINGS.get(_normalized(str(parsed.get("ssealgorithm"))))
        is_other = known_as not in (None, AES256)
        found = parsed if is_other or any(parsed.get(key) for key in KMS_KEYS) else None
    if found is None:
        raise UnreadableAnswer("not an encryption")
    return lowercase_keys(found)


def read_object(answer: Answer) -> dict[str, Any]:
    """Return the JSON object in an answer; raises UnreadableAnswer if there is none."""
    try:
        parsed = loads(answer.body)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error
    if not isinstance(parsed, dict):
        raise UnreadableAnswer("not a JSON object")
    return parsed


class Operation(NamedTuple):
    """One operation of the API; `path` and `query` are percent-encoded.

    Without a `bucket`, the operation concerns the region. After a 404, the client repeats it after
    each of the `visibility_pauses` (in seconds). It reads at most `max_bytes` bytes of an answer.
    """

    name: str
    method: str
    path: str
    region: str
    bucket: TableBucketArn | None = None
    query: str = ""
    content: bytes = b""
    visibility_pauses: tuple[float, ...] = ()
    max_bytes: int = MAX_ANSWER_BYTES

    @property
    def about(self) -> str:
        """The bucket or the region that the operation concerns, for a message."""
        return str(self.bucket or self.region)


def bucket_operation(
    name: str, method: str, arn: TableBucketArn, *, below: str = "", **rest: Any
) -> Operation:
    """Return an operation on a table bucket, or on the path `below` it."""
    path = f"buckets/{quote(str(arn), safe='')}{below}"
    return Operation(name=name, method=method, path=path, region=arn.region, bucket=arn, **rest)


def put_encryption(
    arn: TableBucketArn, algorithm: str, visibility_pauses: tuple[float, ...] = VISIBILITY_PAUSES
) -> Operation:
    """Return the operation PutTableBucketEncryption with an algorithm that needs no key."""
    # The vendor's SDK writes the same spaces, so both send the same Content-MD5.
    body = json.dumps({"encryptionConfiguration": {"sseAlgorithm": algorithm}})
    return bucket_operation(
        "PutTableBucketEncryption",
        "PUT",
        arn,
        below="/encryption",
        content=body.encode(),
        visibility_pauses=visibility_pauses,
    )


def get_encryption(arn: TableBucketArn) -> Operation:
    """Return the operation GetTableBucketEncryption."""
    return bucket_operation("GetTableBucketEncryption", "GET", arn, below="/encryption")


class OssTables:
    """A client for one thread of an invocation, with its own credentials and clock correction.

    All threads that send requests to the same region share a `throttle`.
    """

    def __init__(self, invocation: Invocation, throttle: Throttle | None = None) -> None:
        self._invocation = invocation
        self._throttle = throttle
        self._clock = invocation.clock
        self._session = Session(invocation)

    def now(self) -> datetime:
        """Return the time of the service's clock if it is known, else of the local clock."""
        return self._session.now()

    def latest(self) -> datetime:
        """Return the latest possible time of the service's clock, which is never before `now`."""
        return self._session.latest()

    def current_encryption(self, arn: TableBucketArn) -> Reading | None:
        """Read a bucket's encryption as advice; None unless an answer shows an algorithm.

        Takes at most 2 s, retries included. Raises Throttled if the service asks for a longer
        pause: the caller can then retry later instead of continuing without advice.
        """
        until = self._clock.monotonic() + ADVICE_SECONDS
        return self._choice(arn, until, self._invocation.settings.max_attempts)

    def put_encryption(
        self,
        arn: TableBucketArn,
        algorithm: str,
        visibility_pauses: tuple[float, ...] = VISIBILITY_PAUSES,
    ) -> Reading:
        """Set a bucket's default encryption, and return the reading that confirms it.

        Before each retry, the client reads the encryption, and returns it if there is one: an
        earlier PUT may have succeeded although its answer was lost, or the owner may have made a
        stronger choice. Raises the errors of `call`.
        """
        until = self._invocation.budget.request_deadline()

        def read_choice() -> Reading | None:
            try:
                return self._choice(arn, min(until, self._clock.monotonic() + ADVICE_SECONDS), 1)
            except Throttled:
                # The retry may wait longer than this read.
                return None

        def confirm(answer: Answer) -> Reading:
            reading = read_put(answer, algorithm) or read_choice()
            if reading is None:
                raise UnreadableAnswer("no confirmation")
            return reading

        operation = put_encryption(arn, algorithm, visibility_pauses)
        return self._result_or_raise(
            operation, self._send(operation, confirm, until, before_repeat=read_choice)
        )

    def _choice(self, arn: TableBucketArn, until: float, max_attempts: int) -> Reading | None:
        until = min(until, self._invocation.budget.request_deadline())
        found = self._send(get_encryption(arn), read_encryption, until, max_attempts=max_attempts)
        if isinstance(found, FailedRequest) and self._throttle:
            self._throttle.wait(until)
        return found if isinstance(found, Reading) and found.algorithm else None

    def call(self, operation: Operation, parse: Callable[[Answer], T]) -> T:
        """Call an operation, with retries, and return the result of `parse` for its 2xx.

        An answer for which `parse` raises UnreadableAnswer counts as no answer. Raises Refused if
        no retry can change the service's answer, and Unavailable if there is no final answer in
        time.
        """
        return self._result_or_raise(
            operation, self._send(operation, parse, self._invocation.budget.request_deadline())
        )

    def _result_or_raise(self, operation: Operation, found: T | FailedRequest) -> T:
        if isinstance(found, FailedRequest):
            raise _final_error(operation, found, self._invocation.settings) from found.fault
        return found

    def _send(
        self,
        operation: Operation,
        parse: Callable[[Answer], T],
        until: float,
        *,
        max_attempts: int | None = None,
        before_repeat: Callable[[], T | None] = lambda: None,
    ) -> T | FailedRequest:
        """Return the result of `parse` for the first 2xx, or an earlier one of `before_repeat`."""
        invocation = self._invocation
        max_attempts = max_attempts or invocation.settings.max_attempts
        limits = Limits(until, max_attempts, operation.visibility_pauses)
        attempts = Attempts(limits, self._session, self._clock, self._throttle)
        for attempt in attempts:
            if attempt.is_repeat:
                if (found := before_repeat()) is not None:
                    return found
                if attempt.is_late():
                    break
            with attempt:
                if self._throttle:
                    self._throttle.wait(until)
                answer = attempt.send(
                    invocation.transport,
                    self._signed(operation),
                    until=invocation.attempt_deadline(until),
                    max_bytes=operation.max_bytes,
                )
                if attempt.corrects_clock(says_wrong=clock_is_wrong(answer)):
                    continue
                if kind_of(answer) is AnswerKind.DONE:
                    return _parse_success(answer, parse)
                attempt.reaction = _reaction(answer, operation)
        return attempts.failure

    def _signed(self, operation: Operation) -> httpx.Request:
        query = f"?{operation.query}" if operation.query else ""
        request = new_request(
            operation.method,
            f"{_base_url(operation, self._invocation.settings)}/{operation.path}{query}",
            content=operation.content,
            headers={
                "content-type": "application/json",
                # The signature covers the body only through this header.
                "content-md5": b64encode(
                    md5(operation.content, usedforsecurity=False).digest()
                ).decode(),
            },
        )
        credentials = self._session.credentials
        auth = Oss4Auth(
            access_key_id=credentials.access_key_id,
            access_key_secret=credentials.access_key_secret,
            security_token=credentials.security_token,
            region=operation.region,
            resource=str(operation.bucket) if operation.bucket else None,
            now=self._session.now,
        )
        return auth.sign(request)


def _parse_success(answer: Answer, parse: Callable[[Answer], T]) -> T:
    if "x-oss-error-type" in answer.headers:
        raise UnreadableAnswer("an error with the status of a success")
    return parse(answer)


def _reaction(answer: Answer, operation: Operation) -> Reaction:
    kind = kind_of(answer)
    # A change may conflict with another one for a moment; a GET changes nothing.
    if kind is AnswerKind.CONFLICT and operation.method != "GET":
        return Reaction.RETRY
    return REACTIONS.get(kind, Reaction.GIVE_UP)


def _base_url(operation: Operation, settings: Settings) -> str:
    if settings.oss_tables_endpoint:
        return settings.oss_tables_endpoint.replace("{region}", operation.region)
    internal = settings.network == "internal" and operation.region == settings.region
    host = f"{operation.region}{'-internal' if internal else ''}.oss-tables.aliyuncs.com"
    label = f"{operation.bucket.name}-{operation.bucket.account_id}" if operation.bucket else ""
    if label and settings.addressing == "virtual" and len(label) <= MAX_LABEL_LENGTH:
        host = f"{label}.{host}"
    return f"https://{host}"


def oss_request_id(answer: Answer) -> str | None:
    """Return the request id, which the vendor needs to find this request."""
    return _cut(answer.headers.get("x-oss-request-id", "").strip(), 100)


def _final_error(
    operation: Operation, failure: FailedRequest, settings: Settings
) -> Refused | Unavailable:
    """Return the error to raise: Refused for a final answer, else Unavailable."""
    answer, attempts = failure.answer, failure.attempts
    if answer is None:
        silence = f"OSS Tables gave no answer to {operation.name} of {operation.about}"
        if tls_problem := failure.tls_problem():
            return Unavailable(f"{silence}: {tls_problem}.")
        return Unavailable(
            f"{silence} in {attempts} tries ({type(failure.fault).__name__}); a later try may"
            " succeed."
        )
    error = ServiceError.parse(answer)
    status = f"{answer.status} {error.readable_code()}".rstrip()
    # The correction of the clock did not help, or the words belong to a bucket's name.
    is_clock = clock_is_wrong(answer)
    hint = f" If it is about the time, set {clock_to_set(settings)}." if is_clock else ""
    reason = DEAD_LETTER_REASONS.get(kind_of(answer))
    # If there was no time for all retries, a later invocation may get another answer.
    if reason is None or not failure.final:
        return Unavailable(
            f"OSS Tables answered {status} to {operation.name} of {operation.about} in"
            f" {attempts} tries{f' ({failure.fault})' if failure.fault else ''}; a later try may"
            f" succeed.{hint}"
        )
    return Refused(
        f"OSS Tables answered {status} to {operation.name} of {operation.about}:"
        f" {quoted(error.message or 'no message')}.{hint}",
        reason=reason,
        status=answer.status,
        code=error.code,
        message=error.message,
        ec=error.ec,
        oss_request_id=oss_request_id(answer),
        attempts=attempts,
    )
