"""A client of the APIs of Alibaba Cloud that are signed with ACS3-HMAC-SHA256.

Most services of Alibaba Cloud have no other API. The signature:
https://www.alibabacloud.com/help/en/doc-detail/2593177.htm
The vendor's SDK (`alibabacloud-tea-openapi`) shows the rest. Most APIs are RPC: parameters are in
the query, and for some actions in a form. Others are ROA: the path names an object, and the body is
its content. Errors are JSON, and their keys may be in lower case or capitalized.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import NamedTuple, TypeVar
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
from encryption_guard.untrusted import as_text, lowercase_keys, object_or_empty, quoted

ALGORITHM = "ACS3-HMAC-SHA256"
_SIGNED_HEADERS = ("content-type", "host")
# Throttling, Throttling.User, Throttling.Api: at 400, 429 or 503.
THROTTLED = "throttling"
CLOCK_IS_WRONG = "invalidtimestamp.expired"
# Codes of a 403 or 404 that say nothing about the caller's rights.
_NOT_ABOUT_RIGHTS = (
    *("invalidaccesskeyid", "invalidsecuritytoken", "missingsecuritytoken", "securitytoken"),
    *("signature", "incompletesignature", "invalidtimestamp", "invalidaction"),
)


T = TypeVar("T")


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Return the sorted and percent-encoded parameters, for a query or for the body of a form.

    >>> canonical_query({"b": "x y", "a": "1/2"})
    'a=1%2F2&b=x%20y'
    """
    pairs = sorted(parameters.items())
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def canonical_request(
    *, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], digest: str
) -> tuple[str, str]:
    """Return the canonical request, and the names of the headers in it joined by `;`.

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
    """Return the HMAC of the hashed canonical request in hex; its key is the secret itself."""
    to_sign = f"{ALGORITHM}\n{sha256(canonical_request.encode()).hexdigest()}"
    return hmac.digest(access_key_secret.encode(), to_sign.encode(), "sha256").hex()


def new_nonce() -> str:
    """Return a unique value; the service refuses a second request with the same nonce."""
    return uuid4().hex


class Acs3Auth(httpx.Auth):
    """An httpx authentication that signs `host`, `content-type` and every `x-acs-*` header.

    Set all other headers of a request before you sign it. The query of its URL has to be a
    `canonical_query`.
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
        """Sign the request and send it once."""
        yield self.sign(request)

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add date, nonce, digest, token and signature to the request, and return it."""
        credentials, headers = self._credentials, request.headers
        digest = sha256(request.content).hexdigest()
        headers["x-acs-date"] = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        headers["x-acs-signature-nonce"] = self._nonce()
        headers["x-acs-content-sha256"] = digest
        if credentials.security_token:
            headers["x-acs-accesskey-id"] = credentials.access_key_id
            headers["x-acs-security-token"] = credentials.security_token
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        canonical, names = canonical_request(
            method=request.method,
            path=path,
            query=query,
            headers=[header for header in headers.items() if _is_signed(header[0])],
            digest=digest,
        )
        hex_signature = signature(
            access_key_secret=credentials.access_key_secret, canonical_request=canonical
        )
        headers["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key_id}"
            f",SignedHeaders={names},Signature={hex_signature}"
        )
        return request


def _is_signed(name: str) -> bool:
    return name in _SIGNED_HEADERS or name.startswith("x-acs-")


class Api(NamedTuple):
    """An API: its endpoint (scheme and host), and the version of its actions."""

    endpoint: str
    version: str


class ApiRefused(GuardError):
    """The final refusal of a request, with the API's own `status` and `code`."""

    fault = "operator"

    def __init__(self, sentence: str, *, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code

    @property
    def denies(self) -> bool:
        """Whether the caller may not do this, or its object does not exist.

        A refused access key or signature, and an unknown action, are something else.
        """
        code = self.code.lower()
        if not code or code.startswith(_NOT_ABOUT_RIGHTS):
            return False
        return self.status in (403, 404, 409) or "nopermission" in code


def call(
    api: Api,
    action: str,
    invocation: Invocation,
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> dict[str, object]:
    """Call an action and return the JSON object in its answer.

    Reads at most `max_bytes` bytes of the answer. Raises ApiRefused if no retry can help, and
    Unavailable if the API gives no documented answer in time.
    """
    return send(
        api,
        action,
        invocation,
        new_request=partial(rpc_request, api, action, query, form),
        read=_read_fields,
        max_bytes=max_bytes,
    )


def send(
    api: Api,
    action: str,
    invocation: Invocation,
    *,
    new_request: Callable[[], httpx.Request],
    read: Callable[[Answer, ApiAnswer], T],
    max_bytes: int = MAX_ANSWER_BYTES,
) -> T:
    """Send signed requests until one has a final answer, and return what `read` makes of it.

    `read` gets the answer of a request that succeeded, and raises UnreadableAnswer if it is not as
    documented. Raises as `call` does.
    """
    until = invocation.budget.request_deadline()
    session = Session(invocation)
    limits = Limits(until, invocation.settings.max_attempts)
    attempts = Attempts(limits, session, invocation.clock)
    for attempt in attempts:
        with attempt:
            answer = attempt.send(
                invocation.transport,
                Acs3Auth(session.credentials, now=session.now).sign(new_request()),
                until=invocation.attempt_deadline(until),
                max_bytes=max_bytes,
            )
            parsed = ApiAnswer.of(answer)
            if attempt.corrects_clock(says_wrong=parsed.code.lower() == CLOCK_IS_WRONG):
                continue
            if parsed.success:
                return read(answer, parsed)
            attempt.reaction = _reaction(answer, parsed)
    raise _failure(f"{action} of {urlsplit(api.endpoint).hostname}", attempts.failure)


def rpc_request(
    api: Api,
    action: str,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> httpx.Request:
    """Return the unsigned request of an RPC API for this action."""
    query, form = query or {}, form or {}
    headers = {"accept": "application/json", "x-acs-action": action, "x-acs-version": api.version}
    if form:
        headers["content-type"] = "application/x-www-form-urlencoded"
    url = f"{api.endpoint}/?{canonical_query(query)}" if query else f"{api.endpoint}/"
    return new_request("POST", url, headers=headers, content=canonical_query(form).encode())


class ApiAnswer(NamedTuple):
    """A parsed answer; EventBridge refuses a request with a 200 whose `success` is false."""

    fields: dict[str, object]
    success: bool
    code: str
    message: str
    request_id: str

    @classmethod
    def of(cls, answer: Answer) -> ApiAnswer:
        """Parse the body; one that is no JSON object has no fields."""
        fields = object_or_empty(answer.body)
        lowered = lowercase_keys(fields)
        return cls(
            fields=fields,
            success=answer.status < 300 and lowered.get("success") is not False,
            code=as_text(lowered.get("code")) or "",
            message=as_text(lowered.get("message")) or "",
            request_id=as_text(lowered.get("requestid")) or _request_id(answer.headers),
        )


def _request_id(headers: httpx.Headers) -> str:
    found = (headers.get(name) for name in ("x-acs-request-id", "x-fc-request-id"))
    return next((each for each in found if each), "")


def _read_fields(_: Answer, parsed: ApiAnswer) -> dict[str, object]:
    if not parsed.fields:
        raise UnreadableAnswer("not a JSON object")
    return parsed.fields


def _reaction(answer: Answer, parsed: ApiAnswer) -> Reaction:
    if _may_succeed_later(answer, parsed):
        return Reaction.RETRY
    code = parsed.code.lower()
    if answer.status == 401 or ("token" in code and "expired" in code):
        return Reaction.RENEW_CREDENTIALS
    return Reaction.GIVE_UP


def _may_succeed_later(answer: Answer, parsed: ApiAnswer) -> bool:
    return is_retryable(answer.status) or parsed.code.lower().startswith(THROTTLED)


def _failure(action: str, failure: FailedRequest) -> ApiRefused | Unavailable:
    """Return the error to raise; its message contains no key, token or signature."""
    answer = failure.answer
    if answer is None:
        return Unavailable(
            f"{action} gave no answer in {failure.attempts} tries ({type(failure.fault).__name__}):"
            " check the region and the network."
        )
    parsed = ApiAnswer.of(answer)
    sentence = f"{action} answered {answer.status}{_details(parsed)}"
    if failure.fault:
        return Unavailable(f"{sentence}, which is {failure.fault}.")
    if _may_succeed_later(answer, parsed):
        return Unavailable(f"{sentence}; a later try may succeed.")
    return ApiRefused(f"{sentence}.", status=answer.status, code=parsed.code)


def _details(parsed: ApiAnswer) -> str:
    text = f" {quoted(parsed.code)[1:-1]}" if parsed.code else ""
    # The message about a wrong signature quotes the request with its headers, and so the token.
    if parsed.message and "x-acs-" not in parsed.message.lower():
        text += f": {quoted(parsed.message)}"
    return text + (f" (request {quoted(parsed.request_id)[1:-1]})" if parsed.request_id else "")
