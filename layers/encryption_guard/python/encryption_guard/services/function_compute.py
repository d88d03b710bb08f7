"""Asynchronous invocations of a function, signed by `aliyun-fc2`, the vendor's client.

The client knows FC 2.0; a request to FC 3.0 has another path, and Serverless Devs signs it in the
same way. That is not documented, so this file is the one place to exchange.

The client does not send the requests: it logs requests with their tokens as errors,
follows redirects with them, lets a password of `.netrc` replace the signature, waits half a minute
for a host that is not there, and fails on an answer that is not quite JSON. Requests go through the
guard's own transport instead.
"""

from __future__ import annotations

import logging
from pathlib import Path

import fc2
import httpx

from encryption_guard.errors import ConfigurationError, GuardError, Unavailable
from encryption_guard.http import COMMON_HEADERS, Answer, new_request
from encryption_guard.http.retries import Attempts, Limits, Session, is_retryable
from encryption_guard.invocation import Invocation
from encryption_guard.settings import FunctionArn
from encryption_guard.untrusted import object_or_empty, quoted, strings

ASYNCHRONOUS = {"x-fc-invocation-type": "Async"}
# For one event, repeats and pauses included.
MAX_SECONDS = 30.0
HINTS = {
    401: "check the credentials",
    403: "check the credentials, that they may fc:InvokeFunction on it, and this machine's clock",
    404: "name the function with --function or GUARD_FUNCTION",
}


class Unreachable(Unavailable):
    """Nobody answered for this function at any try."""


class NotAccepted(GuardError):
    """The service does not take this event; it may take another."""

    fault = "event"


class FunctionCompute:
    """Hands events to functions; one object for one command, from any thread."""

    def __init__(self, invocation: Invocation) -> None:
        _silence()
        self._invocation = invocation
        self._hopeless: dict[FunctionArn, ConfigurationError | Unreachable] = {}

    def invoke(self, function: FunctionArn, payload: bytes) -> str:
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

    def _tried(self, function: FunctionArn, payload: bytes) -> str:
        invocation = self._invocation
        session = Session(invocation)
        until = invocation.clock.monotonic() + MAX_SECONDS
        limits = Limits(until, invocation.settings.max_attempts)
        attempts = Attempts(limits, session, invocation.clock)
        for attempt in attempts:
            with attempt:
                answer = attempt.send(
                    invocation.transport,
                    self._signed(function, payload, session),
                    until=invocation.attempt_deadline(until),
                )
                if not is_retryable(answer.status):
                    return _request_id(function, answer)
        ended = attempts.failure
        if not ended.answer:
            why = ended.tls_problem() or "check its region and the network"
            raise Unreachable(f"Nobody answered for {function}: {why}.")
        return _request_id(function, ended.answer)

    def _signed(self, function: FunctionArn, payload: bytes, session: Session) -> httpx.Request:
        credentials, endpoint = session.credentials, self._invocation.settings.fc_endpoint
        client = fc2.Client(
            endpoint=endpoint or f"https://{function.account_id}.{function.region}.fc.aliyuncs.com",
            accessKeyID=credentials.access_key_id,
            accessKeySecret=credentials.access_key_secret,
            securityToken=credentials.security_token or "",
        )
        path = _path(function)
        signed = client._build_common_headers("POST", path, ASYNCHRONOUS)
        headers = {name: value for name, value in signed.items() if name != "content-length"}
        headers["user-agent"] = f"{COMMON_HEADERS['user-agent']} {signed['user-agent']}"
        return new_request("POST", client.endpoint + path, headers=headers, content=payload)


def _path(function: FunctionArn) -> str:
    """A function of FC 3.0 belongs to no service.

    https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-invokefunction
    """
    if not function.service:
        return f"/2023-03-30/functions/{function.name}/invocations"
    version = f".{function.qualifier}" if function.qualifier else ""
    service = f"{function.service}{version}"
    return f"/2016-08-15/services/{service}/functions/{function.name}/invocations"


def _request_id(function: FunctionArn, answer: Answer) -> str:
    """The id of a request that was accepted; raises what kept it from being."""
    request_id = answer.headers.get("x-fc-request-id")
    if answer.status == 202 and request_id:
        return str(request_id)
    document = object_or_empty(answer.body.decode("utf-8", "replace"))
    # FC 2.0 says ErrorCode, FC 3.0 says Code:
    # https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-struct-error
    code = next(strings(document, "errorcode", "code"), "")
    said = f"{function} was answered {answer.status} {quoted(code)[1:-1]}".rstrip()
    if is_retryable(answer.status):
        raise Unavailable(f"{said}; a later try may succeed.")
    if answer.status < 400:
        raise ConfigurationError(
            f"{said}, which does not say that the event was accepted; check GUARD_FC_ENDPOINT."
        )
    if answer.status in HINTS:
        raise ConfigurationError(f"{said}; {HINTS[answer.status]}.")
    message = next(strings(document, "errormessage", "message"), "")
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
