"""The OSS Tables API, as far as the guard needs it, and what each of its answers means.

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
    RETRYABLE,
    Attempts,
    FailedRequest,
    Limits,
    Reaction,
    Session,
    Throttle,
    UnreadableAnswer,
    is_retryable,
    says_clock_is_wrong,
    whose_clock,
)
from encryption_guard.invocation import Invocation
from encryption_guard.services.signing import Oss4Auth
from encryption_guard.settings import Settings
from encryption_guard.untrusted import as_object, loads, lowercase_keys, quoted

T = TypeVar("T")

# Words for an encryption, without separators and in lower case, and the algorithm that each means.
# A word that is in neither set is one of tomorrow.
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
# Without one of them an answer ends where its connection does.
FRAMING: Final = frozenset({"content-length", "transfer-encoding"})

ADVICE_SECONDS = 2.0
# A bucket that was just created may not be visible yet; pauses between tries, in seconds.
VISIBILITY_PAUSES = (0.5, 1.0, 1.5)
MAX_LABEL_LENGTH = 63


class AnswerKind(Enum):
    """What an answer says, whatever its wording."""

    DONE = "done"
    TOKEN_EXPIRED = "token expired"  # noqa: S105  a meaning, not a token
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    BUSY = "busy"
    REJECTED = "rejected"
    REDIRECT = "redirect"
    BROKEN = "broken"


REACTIONS: Final[dict[AnswerKind, Reaction]] = {
    AnswerKind.TOKEN_EXPIRED: Reaction.RENEW_CREDENTIALS,
    AnswerKind.NOT_FOUND: Reaction.WAIT_UNTIL_VISIBLE,
    AnswerKind.BUSY: Reaction.RETRY,
    AnswerKind.BROKEN: Reaction.RETRY,
}

# The service's last word on a bucket becomes a dead letter with this reason; a meaning that is not
# here is the service's trouble or the credentials', which a later invocation may find gone.
DEAD_LETTER_REASONS: Final[dict[AnswerKind, Reason]] = {
    AnswerKind.NOT_FOUND: "not_found",
    AnswerKind.CONFLICT: "conflict",
    AnswerKind.REJECTED: "rejected",
    AnswerKind.REDIRECT: "unexpected_redirect",
}


class ServiceError(NamedTuple):
    """What the service says of a failure, each part cut to a size that a dead letter can hold."""

    code: str | None
    message: str | None
    ec: str | None

    @classmethod
    def parse(cls, answer: Answer) -> ServiceError:
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
_ERROR_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?\w*error|<(?:code|message)>", re.IGNORECASE)
# Keys of a JSON object that is an error, in lower case.
ERROR_KEYS: Final = frozenset(
    {*("error", "errors", "code", "message", "errorcode", "errormessage"), "errortype", "__type"}
)
KMS_KEYS: Final = ("kmskeyarn", "kmskeyid")


def _cut(value: object, longest: int) -> str | None:
    return value[:longest] if isinstance(value, str) and value else None


def kind_of(answer: Answer) -> AnswerKind:
    """The one table of HTTP status -> meaning."""
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
        case status if status in RETRYABLE:
            return AnswerKind.BUSY
        case _:
            return AnswerKind.BROKEN


def _kind_of_403(error: ServiceError) -> AnswerKind:
    # No list of the codes of OSS Tables is published, and its code may not tell these apart.
    said = f"{error.code} {_without_arns(error.message)}".lower()
    is_expired = "token" in said and "expired" in said
    return AnswerKind.TOKEN_EXPIRED if is_expired else AnswerKind.REJECTED


def clock_is_wrong(answer: Answer) -> bool:
    """Whether an answer may be about the clock: its words may also quote the name of a bucket."""
    if not 400 <= answer.status < 500:
        return False
    error = ServiceError.parse(answer)
    return says_clock_is_wrong(error.code, _without_arns(error.message))


def _without_arns(message: str | None) -> str:
    # A bucket may be called expired-tokens.
    return re.sub(r"acs:\S+", "", message or "")


State = Literal["encrypted", "not_encrypted", "unknown"]


class Reading(NamedTuple):
    """What a service says of an encryption; `why` is a sentence where that is nothing.

    `algorithm` is the word as it came, and `known_as` what it means; of a word that nobody knows
    that is nothing, and the state is unknown.
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
    """What a 200 says of the encryption of a bucket or a table.

    Raises Unreadable where it is nothing of this API.
    """
    configuration = _configuration(answer)
    named = configuration.get("ssealgorithm")
    word = named.strip()[:MAX_ALGORITHM_LENGTH] if isinstance(named, str) else ""
    plain = _plain(word)
    reading = Reading("encrypted", word, status=200, oss_request_id=oss_request_id(answer))
    if any(_is_given(configuration.get(key)) for key in KMS_KEYS):
        # Its owner chose a key, whatever the word.
        algorithm = word if plain not in NO_ENCRYPTION else "KMS"
        return reading._replace(algorithm=algorithm, known_as="KMS")
    if not isinstance(named, str | None):
        raise UnreadableAnswer("not an algorithm")
    if plain in NO_ENCRYPTION:
        return reading._replace(state="not_encrypted", algorithm=None)
    if known_as := SPELLINGS.get(plain):
        return reading._replace(algorithm=AES256 if known_as == AES256 else word, known_as=known_as)
    why = f"This guard does not know its encryption, {quoted(word)}."
    return reading._replace(state="unknown", why=why)


def read_put(answer: Answer, algorithm: str) -> Reading | None:
    """What a 2xx says of a PUT of this algorithm: nothing unless it clearly is OSS Tables'.

    Raises Unreadable for an error that has the status of a success.
    """
    request_id = oss_request_id(answer)
    if not _is_plain_success(answer.body) or answer.status not in (200, 204) or not request_id:
        return None
    return Reading(
        "encrypted", algorithm, algorithm, status=answer.status, oss_request_id=request_id
    )


def _is_plain_success(body: bytes) -> bool:
    """Whether a body is empty, or a JSON object that is no error; raises Unreadable for an error.

    OSS Tables, its Lance catalog and what stands before them have errors of several forms.
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


def _plain(word: str) -> str:
    return re.sub(r"[\s:_./-]+", "", word).lower() if word.isascii() else word


def _is_given(key: object) -> bool:
    return _plain(key.strip()) not in NO_ENCRYPTION if isinstance(key, str) else bool(key)


def _configuration(answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise UnreadableAnswer("not a 200")
    # "An empty encryption configuration" of the documentation may be nothing at all; but what ends
    # with its connection may be the rest of nothing.
    if not answer.body.strip() and not FRAMING.intersection(answer.headers):
        raise UnreadableAnswer("nothing, and perhaps cut short")
    parsed = lowercase_keys(read_object(answer)) if answer.body.strip() else {}
    if not parsed:
        return {}
    if "encryptionconfiguration" in parsed:
        held = parsed["encryptionconfiguration"]
        found = {} if held is None else as_object(held)
    else:
        # Nobody documents this form: a stronger choice in it is kept, and nothing else is believed.
        known_as = SPELLINGS.get(_plain(str(parsed.get("ssealgorithm"))))
        is_other = known_as not in (None, AES256)
        found = parsed if is_other or any(parsed.get(key) for key in KMS_KEYS) else None
    if found is None:
        raise UnreadableAnswer("not an encryption")
    return lowercase_keys(found)


def read_object(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer; raises Unreadable where it holds none."""
    try:
        parsed = loads(answer.body)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error
    if not isinstance(parsed, dict):
        raise UnreadableAnswer("not an object")
    return parsed


class Operation(NamedTuple):
    """One operation of the API; `path` and `query` as they stand in the URL.

    Without a `bucket` it is about the region. After a 404 it is repeated after each of
    `visibility_pauses`, in seconds; of the answer at most `longest` bytes are read.
    """

    name: str
    method: str
    path: str
    region: str
    bucket: TableBucketArn | None = None
    query: str = ""
    content: bytes = b""
    visibility_pauses: tuple[float, ...] = ()
    longest: int = MAX_ANSWER_BYTES

    @property
    def about(self) -> str:
        """What the operation concerns, as a sentence may name it."""
        return str(self.bucket or self.region)


def bucket_operation(
    name: str, method: str, arn: TableBucketArn, *, below: str = "", **rest: Any
) -> Operation:
    """An operation on a table bucket, or on what is `below` it."""
    path = f"buckets/{quote(str(arn), safe='')}{below}"
    return Operation(name=name, method=method, path=path, region=arn.region, bucket=arn, **rest)


def put_encryption(
    arn: TableBucketArn, algorithm: str, visibility_pauses: tuple[float, ...] = VISIBILITY_PAUSES
) -> Operation:
    """PutTableBucketEncryption with an algorithm that needs no key."""
    # Spaces as the vendor's SDK puts them: the same request down to Content-MD5.
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
    """GetTableBucketEncryption."""
    return bucket_operation("GetTableBucketEncryption", "GET", arn, below="/encryption")


class OssTables:
    """The service, as one thread of an invocation sees it: its credentials, its clock, its time.

    `throttle` is shared with the other threads that ask the same region.
    """

    def __init__(self, invocation: Invocation, throttle: Throttle | None = None) -> None:
        self._invocation = invocation
        self._throttle = throttle
        self._clock = invocation.clock
        self._session = Session(invocation)

    def now(self) -> datetime:
        """The time, by the service's clock where that is known to differ from ours."""
        return self._session.now()

    def latest(self) -> datetime:
        """The latest that it can be by the service's clock: not before `now`."""
        return self._session.latest()

    def current_encryption(self, arn: TableBucketArn) -> Reading | None:
        """GetTableBucketEncryption, as advice: None for every answer that shows no choice.

        At most 2 s in all. Raises Throttled where the service asks others to wait for longer:
        they come again, and need not go on without advice.
        """
        until = self._clock.monotonic() + ADVICE_SECONDS
        return self._choice(arn, until, self._invocation.settings.max_attempts)

    def put_encryption(
        self,
        arn: TableBucketArn,
        algorithm: str,
        visibility_pauses: tuple[float, ...] = VISIBILITY_PAUSES,
    ) -> Reading:
        """PutTableBucketEncryption, and what shows that it was done.

        Before each repeat the encryption is read: an owner may have made a stronger choice since,
        which is then what is returned, and the answer to a PUT may be lost after it was done.
        Raises as `call` does.
        """
        until = self._invocation.budget.request_deadline()

        def look() -> Reading | None:
            try:
                return self._choice(arn, min(until, self._clock.monotonic() + ADVICE_SECONDS), 1)
            except Throttled:
                # The repeat has more time to wait than this look.
                return None

        def confirmed(answer: Answer) -> Reading:
            reading = read_put(answer, algorithm) or look()
            if reading is None:
                raise UnreadableAnswer("nothing that confirms it")
            return reading

        operation = put_encryption(arn, algorithm, visibility_pauses)
        return self._result_or_raise(
            operation, self._send(operation, confirmed, until, before_repeat=look)
        )

    def _choice(self, arn: TableBucketArn, until: float, max_attempts: int) -> Reading | None:
        until = min(until, self._invocation.budget.request_deadline())
        found = self._send(get_encryption(arn), read_encryption, until, max_attempts=max_attempts)
        if isinstance(found, FailedRequest) and self._throttle:
            self._throttle.wait(until)
        return found if isinstance(found, Reading) and found.algorithm else None

    def call(self, operation: Operation, parse: Callable[[Answer], T]) -> T:
        """Repeat a call as far as that can help, and return what `parse` makes of its 2xx.

        What `parse` finds Unreadable is as good as no answer.
        Raises Refused when the service's last word is one that no retry can change, Unavailable
        when there was no such word in time.
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
        """What `parse` makes of the first 2xx, or `before_repeat` finds meanwhile."""
        invocation = self._invocation
        most = max_attempts or invocation.settings.max_attempts
        limits = Limits(until, most, operation.visibility_pauses)
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
                    longest=operation.longest,
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
                # The signature covers the body through this header alone.
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
    said = kind_of(answer)
    # Only what changes something can be in conflict for a moment.
    if said is AnswerKind.CONFLICT and operation.method != "GET":
        return Reaction.RETRY
    return REACTIONS.get(said, Reaction.GIVE_UP)


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
    """The id to name when asking the vendor about this request."""
    return _cut(answer.headers.get("x-oss-request-id", "").strip(), 100)


def _final_error(
    operation: Operation, ended: FailedRequest, settings: Settings
) -> Refused | Unavailable:
    """What is to be raised; whatever is not final may be different at a later time."""
    answer, sent = ended.answer, ended.attempts
    if answer is None:
        said = f"OSS Tables gave no answer to {operation.name} of {operation.about}"
        if tls_problem := ended.tls_problem():
            return Unavailable(f"{said}: {tls_problem}.")
        return Unavailable(
            f"{said} in {sent} tries ({type(ended.fault).__name__}); a later try may get one."
        )
    error = ServiceError.parse(answer)
    said = f"{answer.status} {error.readable_code()}".rstrip()
    # It was corrected once, or could not be; the words may also be those of a bucket's name.
    clock = f" If it is about the time, set {whose_clock(settings)}."
    todo = clock if clock_is_wrong(answer) else ""
    reason = DEAD_LETTER_REASONS.get(kind_of(answer))
    # Of what had no time for its repeats a later invocation may find something else.
    if reason is None or not ended.final:
        return Unavailable(
            f"OSS Tables answered {said} to {operation.name} of {operation.about} in {sent} tries"
            f"{f' ({ended.fault})' if ended.fault else ''}; a later try may succeed.{todo}"
        )
    return Refused(
        f"OSS Tables answered {said} to {operation.name} of {operation.about}:"
        f" {quoted(error.message or 'no message')}.{todo}",
        reason=reason,
        status=answer.status,
        code=error.code,
        message=error.message,
        ec=error.ec,
        oss_request_id=oss_request_id(answer),
        attempts=sent,
    )
