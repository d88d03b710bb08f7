"""`--debug`: a line for each request of a command, with its time, status and request ID."""

from __future__ import annotations

import platform
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import httpx

from encryption_guard.cli.console import say
from encryption_guard.cli.verbosity import is_debug
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation
from encryption_guard.untrusted import shortened
from encryption_guard.version import __version__

# The headers in which the services return the ID of a request, by which their support finds it.
REQUEST_IDS = (
    "x-oss-request-id",
    "x-fc-request-id",
    "x-mns-request-id",
    "x-log-requestid",
    "x-acs-request-id",
)


class LoggedTransport(httpx.BaseTransport):
    """A transport that passes each request on, and prints a line about it.

    A line has method, host and path, and never a query, a header or a body: these may contain
    signatures and keys. Without `with_path` it has the host alone: the path of a credentials URI
    may be a secret.
    """

    def __init__(
        self,
        inner: DeadlineTransport,
        clock: Clock,
        *,
        with_path: bool = True,
        write: Callable[[str], None] = say,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._with_path = with_path
        self._write = write

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises what the inner transport raises."""
        started_at, start = self._clock.now(), self._clock.monotonic()
        ended = "no answer"
        try:
            response = self._inner.handle_request(request)
            ended = _described(response)
        except httpx.TransportError as error:
            # The text of the error may quote an answer, and so an echo of a key.
            ended = f"no answer ({type(error).__name__})"
            raise
        finally:
            elapsed = round(1000 * (self._clock.monotonic() - start))
            at = f"{started_at:%H:%M:%S}.{started_at.microsecond // 1000:03}"
            self._write(f"debug: {at} {self._named(request)} {ended} after {elapsed} ms")
        return response

    def _named(self, request: httpx.Request) -> str:
        url = urlsplit(str(request.url))
        host = url.netloc.rpartition("@")[2]
        path = unquote(url.path) if self._with_path else ""
        action = request.headers.get("x-acs-action")
        return f"{request.method} {url.scheme}://{host}{path}{f' {action}' if action else ''}"


def _described(response: httpx.Response) -> str:
    found = (response.headers.get(name) for name in REQUEST_IDS)
    request_id = next(filter(None, found), None)
    return f"{response.status_code}{f', request ID {shortened(request_id)},' if request_id else ''}"


def with_request_log(invocation: Invocation, *, with_path: bool = True) -> Invocation:
    """Return the invocation with a log of its requests if the command has `--debug`."""
    if not is_debug():
        return invocation
    transport = LoggedTransport(invocation.transport, invocation.clock, with_path=with_path)
    return invocation._replace(transport=DeadlineTransport(transport))


def say_start(key_source: str) -> None:
    """Print version and source of the access key if the command has `--debug`."""
    if is_debug():
        python = platform.python_version()
        say(f"debug: version {__version__}, Python {python}, access key of {key_source}")
