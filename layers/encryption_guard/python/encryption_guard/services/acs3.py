"""RPC APIs of Alibaba Cloud, signed with ACS3-HMAC-SHA256: most of its services have no other.

The signature: https://www.alibabacloud.com/help/en/doc-detail/2593177.htm
What that page leaves open was read in the vendor's SDK (`alibabacloud-tea-openapi`): parameters go
into the query, those of some actions into a form; errors are JSON, with keys in either casing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.errors import GuardError, Unavailable
from encryption_guard.http import MAX_ANSWER_BYTES, Answer, new_request
from encryption_guard.http.retries import (
    Attempts,
    FailedRequest,
    Limits,
    Reaction,
    Session,
    UnreadableAnswer,
    is_retryable,
)
from encryption_guard.invocation import Invocation
from encryption_guard.untrusted import lowercase_keys, object_or_empty, quoted, text_of

ALGORITHM = "ACS3-HMAC-SHA256"
_SIGNED = ("content-type", "host")
THROTTLED = frozenset({"throttling", "throttling.user", "throttling.api"})
CLOCK_IS_WRONG = "invalidtimestamp.expired"


def canonical_query(parameters: Mapping[str, str]) -> str:
    """The parameters sorted and percent-encoded, a blank as `%20`; it is a form's body too."""
    pairs = sorted(parameters.items())
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def canonical_request(
    *, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], digest: str
) -> tuple[str, str]:
    """The text that stands for the request, and the names of the headers in it.

    METHOD
    path
    canonical query
    name:value      one line for each header, sorted by name
                    an empty line
    names;joined
    SHA-256 of the body, in hex
    """
    signed = sorted((name.lower(), value.strip()) for name, value in headers)
    names = ";".join(name for name, _ in signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}", names


def signature(*, access_key_secret: str, canonical_request: str) -> str:
    """The hash of the canonical request under the secret itself, in hex: no key is derived."""
    to_sign = f"{ALGORITHM}\n{sha256(canonical_request.encode()).hexdigest()}"
    return hmac.digest(access_key_secret.encode(), to_sign.encode(), "sha256").hex()


def new_nonce() -> str:
    """What no other request has: one that comes twice is refused."""
    return uuid4().hex


class Acs3Auth(httpx.Auth):
    """Signs `host`, `content-type` and all `x-acs-*` of one request; set every other one before.

    The query of its URL has to be a `canonical_query`.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        now: Callable[[], datetime],
        nonce: Callable[[], str] = new_nonce,
    ) -> None:
        self._credentials = credentials
        self._now = now
        self._nonce = nonce

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request, and send it once."""
        yield self.sign(request)

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add date, nonce, digest, token and signature to the request, which is returned."""
        given, headers = self._credentials, request.headers
        digest = sha256(request.content).hexdigest()
        headers["x-acs-date"] = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        headers["x-acs-signature-nonce"] = self._nonce()
        headers["x-acs-content-sha256"] = digest
        if given.security_token:
            headers["x-acs-accesskey-id"] = given.access_key_id
            headers["x-acs-security-token"] = given.security_token
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        canonical, names = canonical_request(
            method=request.method,
            path=path,
            query=query,
            headers=[each for each in headers.items() if _is_signed(each[0])],
            digest=digest,
        )
        signed = signature(access_key_secret=given.access_key_secret, canonical_request=canonical)
        headers["authorization"] = (
            f"{ALGORITHM} Credential={given.access_key_id},SignedHeaders={names},Signature={signed}"
        )
        return request


def _is_signed(name: str) -> bool:
    return name in _SIGNED or name.startswith("x-acs-")


class Api(NamedTuple):
    """An RPC API: scheme and host, and the version that its actions are of."""

    endpoint: str
    version: str


class ApiRefused(GuardError):
    """An API's last word on a request; `status` and `code` are its own."""

    fault = "operator"

    def __init__(self, sentence: str, *, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


def call(
    api: Api,
    action: str,
    invocation: Invocation,
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    longest: int = MAX_ANSWER_BYTES,
) -> dict[str, object]:
    """The JSON object that an action answers with; of its answer at most `longest` bytes are read.

    Raises ApiRefused where no repeat helps, and Unavailable where nobody answered as documented.
    """
    until = invocation.budget.request_deadline()
    session = Session(invocation)
    limits = Limits(until, invocation.settings.max_attempts)
    attempts = Attempts(limits, session, invocation.clock)
    for attempt in attempts:
        with attempt:
            request = _new_request(api, action, query or {}, form or {})
            answer = attempt.send(
                invocation.transport,
                Acs3Auth(session.credentials, now=session.now).sign(request),
                until=invocation.attempt_deadline(until),
                longest=longest,
            )
            said = _ApiAnswer.of(answer)
            if attempt.corrects_clock(says_wrong=said.code.lower() == CLOCK_IS_WRONG):
                continue
            found = _read(answer, said)
            if not isinstance(found, Reaction):
                return found
            attempt.reaction = found
    raise _failure(f"{action} of {urlsplit(api.endpoint).hostname}", attempts.failure)


def _new_request(
    api: Api, action: str, query: Mapping[str, str], form: Mapping[str, str]
) -> httpx.Request:
    headers = {"accept": "application/json", "x-acs-action": action, "x-acs-version": api.version}
    if form:
        headers["content-type"] = "application/x-www-form-urlencoded"
    url = f"{api.endpoint}/?{canonical_query(query)}" if query else f"{api.endpoint}/"
    return new_request("POST", url, headers=headers, content=canonical_query(form).encode())


class _ApiAnswer(NamedTuple):
    """What an answer says of itself; EventBridge refuses with a 200 that is no success."""

    fields: dict[str, object]
    success: bool
    code: str
    message: str
    request_id: str

    @classmethod
    def of(cls, answer: Answer) -> _ApiAnswer:
        fields = object_or_empty(answer.body)
        said = lowercase_keys(fields)
        return cls(
            fields=fields,
            success=answer.status < 300 and said.get("success") is not False,
            code=text_of(said.get("code")) or "",
            message=text_of(said.get("message")) or "",
            request_id=text_of(said.get("requestid")) or answer.headers.get("x-acs-request-id", ""),
        )


def _read(answer: Answer, said: _ApiAnswer) -> dict[str, object] | Reaction:
    if answer.status < 300 and not said.fields:
        raise UnreadableAnswer("no JSON object")
    if said.success:
        return said.fields
    if _may_succeed_later(answer, said):
        return Reaction.RETRY
    code = said.code.lower()
    if answer.status == 401 or ("token" in code and "expired" in code):
        return Reaction.RENEW_CREDENTIALS
    return Reaction.GIVE_UP


def _may_succeed_later(answer: Answer, said: _ApiAnswer) -> bool:
    return is_retryable(answer.status) or said.code.lower() in THROTTLED


def _failure(what: str, ended: FailedRequest) -> ApiRefused | Unavailable:
    """Why there is no answer that counts, as a sentence without key, token and signature."""
    answer = ended.answer
    if answer is None:
        return Unavailable(
            f"{what} gave no answer in {ended.attempts} tries ({type(ended.fault).__name__}):"
            " check the region and the network."
        )
    said = _ApiAnswer.of(answer)
    sentence = f"{what} answered {answer.status}{_in_its_words(said)}"
    if ended.fault:
        return Unavailable(f"{sentence}, which is {ended.fault}.")
    if _may_succeed_later(answer, said):
        return Unavailable(f"{sentence}; a later try may succeed.")
    return ApiRefused(f"{sentence}.", status=answer.status, code=said.code)


def _in_its_words(said: _ApiAnswer) -> str:
    words = f" {quoted(said.code)[1:-1]}" if said.code else ""
    # A signature that does not match is told with the request, headers and all.
    if said.message and "x-acs-" not in said.message.lower():
        words += f": {quoted(said.message)}"
    return words + (f" (request {quoted(said.request_id)[1:-1]})" if said.request_id else "")
