"""Asynchronous invocations of a function through `aliyun-fc2`, the vendor's client.

The client makes and signs the requests; it knows FC 2.0, and a small subclass has the path of
FC 3.0, which Serverless Devs signs in the same way. That is not documented, so this file is the
one place to exchange.

What the client would do with a request is not done: it logs requests with their tokens as errors,
follows redirects with them, lets a password of `.netrc` replace the signature, waits half a minute
for a host that is not there, and fails on an answer that is not quite JSON. Requests go through the
guard's own transport instead.
"""

from __future__ import annotations

import logging
from pathlib import Path

import fc2
import httpx

from encryption_guard.config import Function
from encryption_guard.errors import ConfigurationError, GuardError, Unavailable, quoted
from encryption_guard.foreign_json import mapping, strings
from encryption_guard.http import COMMON_HEADERS, Answer, new_request, send
from encryption_guard.http.retries import (
    Ended,
    Limits,
    Reaction,
    Session,
    is_retryable,
    send_with_retries,
)
from encryption_guard.invocation import Invocation

ASYNCHRONOUS = {"x-fc-invocation-type": "Async"}
# For one event, repeats and pauses included.
LONGEST_SECONDS = 30.0
ADVICE = {
    401: "check the credentials",
    403: "check the credentials, that they may fc:InvokeFunction on it, and this machine's clock",
    404: "name the function with --function or GUARD_FUNCTION",
}


class Unreachable(Unavailable):
    """Nobody answered for this function at any try."""


class NotAccepted(GuardError):
    """The service does not take this event; it may take another."""

    fault = "event"


class _Client(fc2.Client):  # type: ignore[misc]  # it publishes no types
    """The vendor's client, but for what happens to a request that is ready to be sent."""

    answer: Answer

    def __init__(
        self, invocation: Invocation, session: Session, endpoint: str, *, until: float
    ) -> None:
        credentials = session.credentials
        super().__init__(
            endpoint=endpoint,
            accessKeyID=credentials.access_key_id,
            accessKeySecret=credentials.access_key_secret,
            securityToken=credentials.security_token or "",
        )
        self._invocation = invocation
        self._until = until

    def invoke_fc3(self, name: str, payload: bytes) -> None:
        """A function of FC 3.0 belongs to no service.

        https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-invokefunction
        """
        path = f"/2023-03-30/functions/{name}/invocations"
        headers = self._build_common_headers("POST", path, ASYNCHRONOUS)
        self._do_request("POST", path, headers, body=payload)

    def _do_request(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        params: object = None,  # noqa: ARG002  (the client's signature; invocations have none)
        body: bytes = b"",
    ) -> httpx.Response:
        """Send the request, keep the answer, and give the rest of the client nothing to say."""
        given = {name: value for name, value in headers.items() if name != "content-length"}
        given["user-agent"] = f"{COMMON_HEADERS['user-agent']} {headers['user-agent']}"
        self.answer = send(
            self._invocation.transport,
            new_request(method, self.endpoint + path, headers=given, content=body),
            auth=httpx.Auth(),  # it is signed already
            until=self._invocation.attempt_deadline(self._until),
        )
        return httpx.Response(202)


class FunctionCompute:
    """Hands events to functions; one object for one command, from any thread."""

    def __init__(self, invocation: Invocation) -> None:
        _silence()
        self._invocation = invocation
        self._hopeless: dict[Function, ConfigurationError | Unreachable] = {}

    def invoke(self, function: Function, payload: bytes) -> str:
        """Hand over one event; returns the request's id when the service has accepted it.

        Raises Unavailable if it did not this time, and ConfigurationError if it never will. After
        that, or when nobody answered at all, no further event is sent to the same function.
        """
        hopeless = self._hopeless.get(function)
        if hopeless:
            raise type(hopeless)(str(hopeless))
        try:
            return self._tried(function, payload)
        except (ConfigurationError, Unreachable) as error:
            self._hopeless[function] = error
            raise

    def _tried(self, function: Function, payload: bytes) -> str:
        invocation = self._invocation
        session = Session(invocation)
        until = invocation.clock.monotonic() + LONGEST_SECONDS
        found = send_with_retries(
            lambda: self._answer(function, payload, session, until),
            lambda answer: Reaction.RETRY if is_retryable(answer.status) else answer,
            limits=Limits(until, invocation.settings.max_attempts),
            session=session,
            clock=invocation.clock,
        )
        return _request_id(function, found.answer if isinstance(found, Ended) else found)

    def _answer(self, function: Function, payload: bytes, session: Session, until: float) -> Answer:
        endpoint = self._invocation.settings.fc_endpoint
        client = _Client(
            self._invocation,
            session,
            endpoint or f"https://{function.account_id}.{function.region}.fc.aliyuncs.com",
            until=until,
        )
        if function.service:
            client.invoke_function(
                function.service,
                function.name,
                payload=payload,
                headers=ASYNCHRONOUS,
                qualifier=function.qualifier,
            )
        else:
            client.invoke_fc3(function.name, payload)
        return client.answer


def _request_id(function: Function, answer: Answer | None) -> str:
    """The id of a request that was accepted; raises what kept it from being."""
    if answer is None:
        raise Unreachable(f"Nobody answered for {function}: check its region and the network.")
    request_id = answer.headers.get("x-fc-request-id")
    if answer.status == 202 and request_id:
        return str(request_id)
    told = mapping(answer.body.decode("utf-8", "replace"))
    # FC 2.0 says ErrorCode, FC 3.0 says Code:
    # https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-struct-error
    code = next(strings(told, "errorcode", "code"), "")
    said = f"{function} was answered {answer.status} {quoted(code)[1:-1]}".rstrip()
    if is_retryable(answer.status):
        raise Unavailable(f"{said}; a later try may succeed.")
    if answer.status < 400:
        raise ConfigurationError(
            f"{said}, which does not say that the event was accepted; check GUARD_FC_ENDPOINT."
        )
    if answer.status in ADVICE:
        raise ConfigurationError(f"{said}; {ADVICE[answer.status]}.")
    message = next(strings(told, "errormessage", "message"), "")
    # It may quote the request, and so its signature.
    quotable = message and "authorization" not in message.lower()
    raise NotAccepted(f"{said}; it said {quoted(message) if quotable else 'no reason'}.")


def _silence() -> None:
    """Keep from everybody what the client logs of a signature, through the root logger."""
    root = logging.getLogger()
    if not root.handlers:
        # Else the client's first line would set the root logger up to print to standard error.
        root.addHandler(logging.NullHandler())
    if _not_of_the_client not in root.filters:
        root.addFilter(_not_of_the_client)


def _not_of_the_client(record: logging.LogRecord) -> bool:
    return Path(record.pathname).parent != Path(fc2.__file__).parent
