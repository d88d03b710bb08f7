"""A client of SMQ queues over HTTPS, with HMAC-SHA1, the only signature that SMQ documents.

https://www.alibabacloud.com/help/en/mns/developer-reference/request-protocol-description
The guard does not use the vendor's client, which has no time-out over HTTPS.
"""

from __future__ import annotations

import hmac
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from typing import TYPE_CHECKING, Literal

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.errors import Unavailable
from encryption_guard.http import MAX_ANSWER_BYTES, Answer, new_request
from encryption_guard.http.retries import (
    Attempts,
    FailedRequest,
    Limits,
    Reaction,
    Session,
    clock_to_set,
    is_clock_error,
    is_retryable,
)
from encryption_guard.invocation import Invocation
from encryption_guard.settings import QueueArn, Settings

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
API_VERSION = "2015-06-06"
# A peek or a receive returns at most 16 messages, each of at most 64 KB.
MAX_BATCH_BYTES = 16 * 70 * 1024
# XML allows neither these characters nor numeric references to them:
# https://www.w3.org/TR/xml/#charsets
_FORBIDDEN_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMERIC_REFERENCE = re.compile(r"&#(?:x0*([0-9A-Fa-f]*)|0*([0-9]*));")


def string_to_sign(*, method: str, headers: Mapping[str, str], resource: str) -> str:
    r"""Return method, MD5, type, date, each `x-mns-*` header and the resource, one per line.

    The names of `headers` are in lower case. `resource` is the path and the query of the URL.

    >>> string_to_sign(method="GET", headers={"x-mns-version": "2015-06-06"}, resource="/queues")
    'GET\n\n\n\nx-mns-version:2015-06-06\n/queues'
    """
    lines = [method, *(headers.get(name, "") for name in ("content-md5", "content-type", "date"))]
    lines += [f"{k}:{v}" for k, v in sorted(headers.items()) if k.startswith("x-mns-")]
    return "\n".join([*lines, resource])


def signature(*, access_key_secret: str, string_to_sign: str) -> str:
    """Return the HMAC-SHA1 of the string to sign in base64."""
    digest = hmac.digest(access_key_secret.encode(), string_to_sign.encode(), "sha1")
    return b64encode(digest).decode()


class SmqAuth:
    """A signer of requests to SMQ; set all other headers of a request before you sign it."""

    def __init__(self, credentials: Credentials, *, now: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._now = now

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add the date, the security token and the signature to the request, and return it.

        The signature does not cover the token.
        """
        request.headers["date"] = self._now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        request.headers["x-mns-version"] = API_VERSION
        text = string_to_sign(
            method=request.method,
            headers=request.headers,
            resource=request.url.raw_path.decode("ascii"),
        )
        encoded = signature(
            access_key_secret=self._credentials.access_key_secret, string_to_sign=text
        )
        request.headers["authorization"] = f"MNS {self._credentials.access_key_id}:{encoded}"
        if self._credentials.security_token:
            request.headers["security-token"] = self._credentials.security_token
        return request


@dataclass(frozen=True, slots=True)
class SmqMessage:
    """A message from a queue; its `body` is the stored text, in base64 or not.

    The `receipt_handle` deletes the message or hides it; a peeked message has none.
    """

    message_id: str
    body: str
    dequeue_count: int
    enqueued_at_ms: int
    receipt_handle: str | None


class SmqQueue:
    """A client of one queue for one invocation."""

    def __init__(self, queue: QueueArn, invocation: Invocation) -> None:
        self._url = _base_url(queue, invocation.settings) + f"/queues/{queue.name}/messages"
        self._queue = queue
        self._invocation = invocation

    def send(self, body: bytes) -> None:
        """Send one message, in base64 as the vendor's client does.

        Raises Unavailable unless the service confirms it with a 201 that names the message.
        """
        content = (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<Message xmlns="{NAMESPACE}"><MessageBody>{b64encode(body).decode()}</MessageBody>'
            "</Message>"
        ).encode()
        answer = self._request("POST", "", content=content)
        # A gateway may also answer with a 201, but it does not name a message.
        if answer.status != 201 or not re.search(rb"<MessageId>[^<\s]", answer.body):
            raise self._refusal(answer)

    def peek(self, number: int = 16) -> list[SmqMessage]:
        """Return up to 16 messages and leave them visible; the next peek returns the same ones."""
        return self._messages(f"?peekonly=true&numOfMessages={number}")

    def receive(self, number: int = 16, *, wait_seconds: int = 0) -> list[SmqMessage]:
        """Receive up to 16 messages, and hide them for the queue's visibility time-out.

        One node of the service answers, with only its own messages: the queue may hold more.
        https://www.alibabacloud.com/help/en/mns/support/why-is-the-number-of-messages-returned-by-batchsendmessage-less-than-the-number-of-visible-messages-in-the-queue
        """
        return self._messages(f"?numOfMessages={number}&waitseconds={wait_seconds}")

    def delete(self, receipt_handle: str) -> bool:
        """Delete a received message; return False if its handle has expired.

        Raises Unavailable unless the service clearly answers one or the other.
        """
        answer = self._request("DELETE", f"?ReceiptHandle={receipt_handle}")
        if answer.status == 204:
            return True
        return self._false_if_expired(answer)

    def hide(self, receipt_handle: str, *, seconds: int) -> str | None:
        """Hide a received message from other consumers for 1 s to 12 hours.

        Returns the new handle, or None if the old one has expired. Raises Unavailable unless the
        service clearly answers one or the other.
        """
        query = f"?ReceiptHandle={receipt_handle}&VisibilityTimeout={seconds}"
        answer = self._request("PUT", query)
        if answer.status == 200:
            match = re.search(rb"<ReceiptHandle>([^<]+)</ReceiptHandle>", answer.body)
            if match:
                return match[1].decode("ascii", "replace")
        self._false_if_expired(answer)
        return None

    def _false_if_expired(self, answer: Answer) -> Literal[False]:
        # A handle expires when its message becomes visible again, or is hidden again:
        # https://alibabacloud.com/help/en/mns/developer-reference/queuemessage
        if answer.status == 404 and _code(answer) == "MessageNotExist":
            return False
        raise self._refusal(answer)

    def _messages(self, query: str) -> list[SmqMessage]:
        from xml.etree import ElementTree  # only reading needs it, sending does not

        answer = self._request("GET", query, max_bytes=MAX_BATCH_BYTES)
        if answer.status == 404 and _code(answer) == "MessageNotExist":
            return []
        if answer.status != 200:
            raise self._refusal(answer)
        try:
            # It comes from the service over verified TLS, and expat limits entity expansion.
            root = ElementTree.fromstring(_readable(answer.body))  # noqa: S314
            return [_message(element) for element in root.iter(f"{{{NAMESPACE}}}Message")]
        except (ElementTree.ParseError, ValueError) as error:
            raise Unavailable(
                f"The queue {self._queue.name} gave an unreadable answer: {error}."
            ) from error

    def _request(
        self, method: str, query: str, *, content: bytes = b"", max_bytes: int = MAX_ANSWER_BYTES
    ) -> Answer:
        """Send a request, with retries; raises Unavailable if the last one gets no answer."""
        result = self._attempt(method, query, content, max_bytes)
        if isinstance(result, Answer):
            return result
        if result.answer:
            return result.answer
        tls_problem = result.tls_problem()
        reason = (
            f": {tls_problem}"
            if tls_problem
            else f" in {result.attempts} tries ({type(result.fault).__name__}): check the region"
            f" {self._queue.region} and the network"
        )
        raise Unavailable(f"The queue {self._queue.name} gave no answer{reason}.") from result.fault

    def _attempt(
        self, method: str, query: str, content: bytes, max_bytes: int
    ) -> Answer | FailedRequest:
        invocation, url = self._invocation, self._url + query
        until = invocation.budget.request_deadline()
        session = Session(invocation)
        limits = Limits(until, invocation.settings.max_attempts)
        attempts = Attempts(limits, session, invocation.clock)
        for attempt in attempts:
            with attempt:
                request = new_request(method, url, content=content, headers=_headers(content))
                answer = attempt.send(
                    invocation.transport,
                    SmqAuth(session.credentials, now=session.now).sign(request),
                    until=invocation.attempt_deadline(until),
                    max_bytes=max_bytes,
                )
                if attempt.corrects_clock(says_wrong=_clock_is_wrong(answer)):
                    continue
                reaction = _react(answer)
                if not reaction:
                    return answer
                attempt.reaction = reaction
        return attempts.failure

    def _refusal(self, answer: Answer) -> Unavailable:
        code = _code(answer) or ""
        sentence = f"The queue {self._queue.name} answered {answer.status} {code}".rstrip()
        if code == "QueueNotExist":
            hint = (
                f"there is no such queue in {self._queue.region} of account"
                f" {self._queue.account_id}: correct GUARD_DEAD_LETTER_QUEUE"
            )
        elif is_retryable(answer.status):
            hint = "a later try may succeed"
        elif answer.status < 400:
            hint = "SMQ does not document this answer: check GUARD_SMQ_ENDPOINT"
        elif _clock_is_wrong(answer):
            hint = f"set {clock_to_set(self._invocation.settings)}"
        else:
            hint = "check the credentials, and that they may use the queue"
        return Unavailable(f"{sentence}; {hint}.")


def _base_url(queue: QueueArn, settings: Settings) -> str:
    return settings.smq_endpoint or f"https://{queue.account_id}.mns.{queue.region}.aliyuncs.com"


def _headers(content: bytes) -> dict[str, str]:
    if not content:
        return {}
    # The vendor's client encodes the hex digits of the digest, not the digest itself.
    hex_digits = md5(content, usedforsecurity=False).hexdigest()
    return {
        "content-type": "text/xml;charset=UTF-8",
        "content-md5": b64encode(hex_digits.encode()).decode(),
    }


def _clock_is_wrong(answer: Answer) -> bool:
    is_clock = is_clock_error(_code(answer), _message_of(answer))
    return 400 <= answer.status < 500 and is_clock


def _react(answer: Answer) -> Reaction | None:
    """Return the reaction if a retry may get another answer, else None."""
    if is_retryable(answer.status):
        return Reaction.RETRY
    text = f"{_code(answer)} {_message_of(answer)}".lower()
    if answer.status == 401 or (answer.status == 403 and "token" in text and "expired" in text):
        return Reaction.RENEW_CREDENTIALS
    return None


def _code(answer: Answer) -> str | None:
    match = re.search(rb"<Code>([A-Za-z0-9.]{1,100})</Code>", answer.body)
    return match[1].decode() if match else None


def _message_of(answer: Answer) -> str | None:
    match = re.search(rb"<Message>([^<]{1,1000})</Message>", answer.body)
    return match[1].decode("utf-8", "replace") if match else None


def _readable(document: bytes) -> str:
    """Replace invalid characters, so that no sender can make the other messages unreadable."""
    text = _NUMERIC_REFERENCE.sub(_checked_reference, document.decode("utf-8", "replace"))
    return _FORBIDDEN_IN_XML.sub("?", text)


def _checked_reference(reference: re.Match[str]) -> str:
    digits = reference[1] or reference[2] or "0"
    # A character's number has at most 7 digits.
    code = int(digits, 16 if reference[1] else 10) if len(digits) <= 7 else -1
    return (
        reference[0]
        if 0 <= code <= sys.maxunicode and not _FORBIDDEN_IN_XML.match(chr(code))
        else "?"
    )


def _message(element: Element) -> SmqMessage:
    def text(tag: str) -> str:
        return element.findtext(f"{{{NAMESPACE}}}{tag}", default="")

    return SmqMessage(
        message_id=text("MessageId"),
        body=text("MessageBody"),
        dequeue_count=int(text("DequeueCount") or 0),
        enqueued_at_ms=int(text("EnqueueTime") or 0),
        receipt_handle=text("ReceiptHandle") or None,
    )
