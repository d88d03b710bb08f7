"""Asynchronous invocations of functions, signed by `aliyun-fc2`, the vendor's client.

The client supports FC 2.0. A request to FC 3.0 has another path, and Serverless Devs signs it in
the same way. No documentation describes this. If it changes, only this module has to change.

The client only signs the requests, and the guard's own transport sends them. The client itself logs
requests with their tokens as errors, follows redirects with them, lets a password in `.netrc`
replace the signature, waits 30 s for a missing host, and fails on an answer that is not valid JSON.
"""

from __future__ import annotations

import logging
from pathlib import Path

import fc2
import httpx

from encryption_guard.errors import ConfigurationError, GuardError, Unavailable
from encryption_guard.http import COMMON_HEADERS, Answer, new_request
from encryption_guard.http.retries import Attempts, Limits, Reaction, Session, is_retryable
from encryption_guard.invocation import Invocation
from encryption_guard.settings import FunctionArn
from encryption_guard.untrusted import object_or_empty, quoted, strings

ASYNCHRONOUS = {"x-fc-invocation-type": "Async"}
# The time for one event, including its retries and pauses.
MAX_SECONDS = 30.0
HINTS = {
    401: "check the credentials",
    403: "check the credentials, their permission fc:InvokeFunction, and this machine's clock",
    404: "name the function with --function or GUARD_FUNCTION",
}


class Unreachable(Unavailable):
    """The error if the endpoint of a function gives no answer at any attempt."""


class NotAccepted(GuardError):
    """The refusal of one event; the service may accept other events."""

    fault = "event"


class FunctionCompute:
    """A thread-safe client that sends events to functions; a command needs only one."""

    def __init__(self, invocation: Invocation) -> None:
        _silence_client()
        self._invocation = invocation
        self._failures: dict[FunctionArn, ConfigurationError | Unreachable] = {}

    def invoke(self, function: FunctionArn, payload: bytes) -> str:
        """Send one event to a function and return the id of the accepted request.

        Raises Unavailable if a later attempt may succeed, NotAccepted if the service refuses this
        event, and ConfigurationError if no event can succeed. After a ConfigurationError or an
        Unreachable, the client sends no further event to the same function.
        """
        failure = self._failures.get(function)
        if failure:
            raise type(failure)(str(failure))
        try:
            answer = self._send(function, "POST", _path(function), ASYNCHRONOUS, payload)
            return _request_id(function, answer)
        except (ConfigurationError, Unreachable) as error:
            self._failures[function] = error
            raise

    def read_function(self, function: FunctionArn) -> dict[str, object] | None:
        """Read the configuration of a function of FC 3.0; None if there is no such function.

        Raises Unavailable if a later attempt may succeed, else ConfigurationError.
        https://www.alibabacloud.com/help/en/functioncompute/fc/developer-reference/api-fc-2023-03-30-getfunction
        """
        answer, code = self._get(function, "", "GetFunction")
        if code == "FunctionNotFound":
            return None
        if "environmentVariables" not in answer:
            raise _unreadable(function, 200, "", "GetFunction")
        return answer

    def read_trigger(self, function: FunctionArn, name: str) -> dict[str, object]:
        """Read a trigger of a function; empty if there is none. Raises as `read_function`."""
        return self._get(function, f"/triggers/{name}", "GetTrigger")[0]

    def read_async_config(self, function: FunctionArn) -> dict[str, object]:
        """Read how asynchronous invocations are retried; empty if nothing is configured.

        Raises as `read_function`.
        """
        return self._get(function, "/async-invoke-config", "GetFunctionAsyncInvokeConfig")[0]

    def read_concurrency(self, function: FunctionArn) -> dict[str, object]:
        """Read the reserved concurrency of a function; empty if nothing is reserved.

        Raises as `read_function`.
        """
        return self._get(function, "/concurrency", "GetConcurrencyConfig")[0]

    def _get(self, function: FunctionArn, below: str, action: str) -> tuple[dict[str, object], str]:
        """Read a resource; an empty document and the service's code if it does not exist."""
        answer = self._send(function, "GET", f"/2023-03-30/functions/{function.name}{below}", {})
        document = object_or_empty(answer.body.decode("utf-8", "replace"))
        if answer.status == 200 and document:
            return document, ""
        code = next(strings(document, "code"), "")
        # Only of the function itself could "not found" also mean a wrong host or a wrong path.
        if answer.status == 404 and (code == "FunctionNotFound" or (below and code)):
            return {}, code
        raise _unreadable(function, answer.status, code, action)

    def _send(
        self,
        function: FunctionArn,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes = b"",
    ) -> Answer:
        invocation = self._invocation
        session = Session(invocation)
        until = invocation.clock.monotonic() + MAX_SECONDS
        limits = Limits(until, invocation.settings.max_attempts)
        attempts = Attempts(limits, session, invocation.clock)
        for attempt in attempts:
            with attempt:
                answer = attempt.send(
                    invocation.transport,
                    self._signed(function, method, path, headers, content, session),
                    until=invocation.attempt_deadline(until),
                )
                if _is_key_refused(answer):
                    attempt.reaction = Reaction.RENEW_CREDENTIALS
                elif not is_retryable(answer.status):
                    return answer
        failure = attempts.failure
        if not failure.answer:
            hint = failure.tls_problem() or "check the region and the network"
            raise Unreachable(f"The endpoint of {function} gave no answer: {hint}.")
        return failure.answer

    def _signed(
        self,
        function: FunctionArn,
        method: str,
        path: str,
        extra: dict[str, str],
        content: bytes,
        session: Session,
    ) -> httpx.Request:
        credentials, endpoint = session.credentials, self._invocation.settings.fc_endpoint
        client = fc2.Client(
            endpoint=endpoint or f"https://{function.account_id}.{function.region}.fc.aliyuncs.com",
            accessKeyID=credentials.access_key_id,
            accessKeySecret=credentials.access_key_secret,
            securityToken=credentials.security_token or "",
        )
        signed = client._build_common_headers(method, path, extra)
        headers = {name: value for name, value in signed.items() if name != "content-length"}
        headers["user-agent"] = f"{COMMON_HEADERS['user-agent']} {signed['user-agent']}"
        return new_request(method, client.endpoint + path, headers=headers, content=content)


def _is_key_refused(answer: Answer) -> bool:
    document = object_or_empty(answer.body.decode("utf-8", "replace"))
    code = next(strings(document, "errorcode", "code"), "").lower()
    return answer.status == 401 or (answer.status == 403 and "token" in code and "expired" in code)


def _unreadable(function: FunctionArn, status: int, code: str, action: str) -> GuardError:
    sentence = f"The endpoint of {function} answered {status} {quoted(code)[1:-1]}".rstrip()
    if is_retryable(status):
        return Unavailable(f"{sentence}; a later try may succeed.")
    return ConfigurationError(
        f"{sentence}; check the credentials, their permission fc:{action}, and this machine's"
        " clock."
    )


def _path(function: FunctionArn) -> str:
    """Return the path of an invocation; a function of FC 3.0 belongs to no service.

    https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-invokefunction
    """
    if not function.service:
        return f"/2023-03-30/functions/{function.name}/invocations"
    version = f".{function.qualifier}" if function.qualifier else ""
    service = f"{function.service}{version}"
    return f"/2016-08-15/services/{service}/functions/{function.name}/invocations"


def _request_id(function: FunctionArn, answer: Answer) -> str:
    """Return the id of an accepted request; raises an error if the service did not accept it."""
    request_id = answer.headers.get("x-fc-request-id")
    if answer.status == 202 and request_id:
        return str(request_id)
    document = object_or_empty(answer.body.decode("utf-8", "replace"))
    # The key is ErrorCode in FC 2.0, and Code in FC 3.0:
    # https://help.aliyun.com/zh/functioncompute/fc/developer-reference/api-fc-2023-03-30-struct-error
    code = next(strings(document, "errorcode", "code"), "")
    sentence = f"The endpoint of {function} answered {answer.status} {quoted(code)[1:-1]}".rstrip()
    if is_retryable(answer.status):
        raise Unavailable(f"{sentence}; a later try may succeed.")
    if answer.status < 400:
        raise ConfigurationError(
            f"{sentence}, which does not confirm that it accepted the event;"
            " check GUARD_FC_ENDPOINT."
        )
    if answer.status in HINTS:
        raise ConfigurationError(f"{sentence}; {HINTS[answer.status]}.")
    message = next(strings(document, "errormessage", "message"), "")
    # The message may quote the request, and so its signature.
    quotable = message and "authorization" not in message.lower()
    raise NotAccepted(f"{sentence}: {quoted(message) if quotable else 'no message'}.")


def _silence_client() -> None:
    """Make the root logger drop the client's records, which contain signatures."""
    root = logging.getLogger()
    if not root.handlers:
        # Without a handler, the client's first record makes the root logger print to stderr.
        root.addHandler(logging.NullHandler())
    if _is_not_from_client not in root.filters:
        root.addFilter(_is_not_from_client)


def _is_not_from_client(record: logging.LogRecord) -> bool:
    return Path(record.pathname).parent != Path(fc2.__file__).parent
