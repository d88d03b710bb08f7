"""Send one signed request, and read its answer before a deadline.

httpx provides requests and responses, httpcore provides connections, and `deadlines` limits every
wait. Other modules interpret the answer and decide about a retry.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import NamedTuple, cast

import httpcore
import httpx

from encryption_guard.errors import ConfigurationError
from encryption_guard.http.deadlines import DeadlineBackend, deadline, seconds_until
from encryption_guard.http.redaction import redact, secrets_of
from encryption_guard.invocation import DeadlineTransport
from encryption_guard.version import __version__

CONNECT_SECONDS = 2.0
# The guard does not decompress an answer, so it asks for the identity encoding.
COMMON_HEADERS = {
    "user-agent": f"oss-tables-encryption-guard/{__version__}",
    "accept-encoding": "identity",
}
MAX_ANSWER_BYTES = 64 * 1024
# Requests with these methods have a Content-Length even without content: RFC 9110, 8.6.
EXPECTING_CONTENT = {"POST", "PUT"}
# The maximum per instance, idle connections included: as many as a sweep has workers, and as many
# again for the threads of a watch, which must not wait where all workers' requests hang.
MAX_CONNECTIONS = 128
KEEP_ALIVE_SECONDS = 60.0
# certifi's authorities, which `make build` puts beside the layer's `python/`, each in a file with a
# hash as its name. OpenSSL reads only the one that a server needs; to read all takes 20 ms.
AUTHORITIES = Path(__file__).parents[3] / "authorities"
# At DEBUG these loggers print headers and URLs; the logger of httpx does so at INFO, too.
VERBOSE_LOGGERS = ("httpx", *(f"httpcore.{name}" for name in ("connection", "http11", "proxy")))
# The exceptions of httpcore, and those of httpx with the same names.
ERRORS = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"),
        *("ConnectError", "ReadError", "WriteError", "ProxyError"),
        *("LocalProtocolError", "RemoteProtocolError", "UnsupportedProtocol"),
    )
}


# Scheme, host and port.
Origin = tuple[bytes, bytes, "int | None"]


class Answer(NamedTuple):
    """A service's answer; its body may be cut at the limit of `send`."""

    status: int
    headers: httpx.Headers
    body: bytes


def send(
    transport: DeadlineTransport,
    request: httpx.Request,
    *,
    until: float,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send a signed request once, and read its answer before the instant `until`.

    `until` is an instant of `time.monotonic`. The body ends after `max_bytes` bytes. The answer is
    redacted: credentials that a service or a proxy echoes must not reach a log or a dead letter.
    Raises httpx.TransportError if the request fails for any reason.
    """
    left = seconds_until(until)
    connect = min(CONNECT_SECONDS, left)
    request.extensions["timeout"] = {"connect": connect, "read": left, "write": left, "pool": left}
    try:
        with deadline(until):
            answer = _read(transport.handle_request(request), max_bytes)
    except httpx.TransportError as error:
        message = redact(secrets_of(request, with_id=True), str(error).encode()).decode()
        if message == str(error):
            raise
        # The original error and its causes quote an answer that is not HTTP.
        raise type(error)(message) from None
    # A successful answer may contain an event that names the same key id: it must stay unchanged.
    return _redacted(answer, secrets_of(request, with_id=answer.status >= 300))


def _read(response: httpx.Response, max_bytes: int) -> Answer:
    """Read the body to its end, even if it is empty: otherwise httpcore closes the connection."""
    try:
        body = bytearray()
        # The raw stream, which httpx neither decompresses nor counts.
        for chunk in cast("httpx.SyncByteStream", response.stream):
            body += chunk
            if len(body) > max_bytes:
                break
        return Answer(response.status_code, response.headers, bytes(body[:max_bytes]))
    finally:
        response.close()


def _redacted(answer: Answer, secrets: list[str]) -> Answer:
    text = b"\n".join([*(value for _, value in answer.headers.raw), answer.body])
    if redact(secrets, text) == text:
        return answer
    headers = [(name, redact(secrets, value)) for name, value in answer.headers.raw]
    return Answer(answer.status, httpx.Headers(headers), redact(secrets, answer.body))


# The guard often reads and then writes the same URL. Parsing a URL is slow.
_parse_url = lru_cache(maxsize=1)(httpx.URL)


def new_request(
    method: str, url: str, *, headers: dict[str, str], content: bytes = b""
) -> httpx.Request:
    """Return a request with the common headers; httpx adds no others."""
    parsed = _parse_url(url)
    framing = {"host": parsed.netloc.decode("ascii")}
    if content or method in EXPECTING_CONTENT:
        framing["content-length"] = str(len(content))
    # httpx adds no headers to a request with a stream.
    request = httpx.Request(
        method,
        parsed,
        headers=framing | COMMON_HEADERS | headers,
        stream=httpx.ByteStream(content),
    )
    request.read()
    return request


def open_transport(
    *,
    authorities: Path = AUTHORITIES,
    connections: int = MAX_CONNECTIONS,
    proxy: httpcore.Proxy | None = None,
) -> DeadlineTransport:
    """Open the transport of a process, with at most `connections` open connections.

    It trusts certifi's authorities, or those of `SSL_CERT_FILE` or `SSL_CERT_DIR` if set.
    Raises ConfigurationError if those variables do not point to certificates.
    """
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).disabled = True
    open_connection = partial(
        httpcore.ConnectionPool,
        ssl_context=tls_context(authorities),
        max_connections=1,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
        network_backend=DeadlineBackend(),
        proxy=proxy,
    )
    return DeadlineTransport(_Transport(open_connection, connections))


class _Transport(httpx.BaseTransport):
    """A transport that sends the requests of httpx over connections of httpcore.

    It follows no redirects, reads no proxy from the environment and keeps no cookies. Each
    connection is a pool of its own, which serves one request at a time: for each request httpcore
    looks at every connection of a pool, and no other thread of the pool may do so meanwhile. With
    64 threads and connections that took half of a sweep's CPU time.
    """

    def __init__(
        self, open_connection: Callable[[], httpcore.ConnectionPool], connections: int
    ) -> None:
        self._open = open_connection
        self._slots = BoundedSemaphore(connections)
        self._most = connections
        self._lock = Lock()
        self._all: list[httpcore.ConnectionPool] = []
        # By origin, the one that was used last at the end.
        self._idle: dict[Origin, list[httpcore.ConnectionPool]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and read the status and the headers of its answer."""
        if not self._slots.acquire(timeout=request.extensions["timeout"]["pool"]):
            raise httpx.PoolTimeout("every connection is in use")
        origin = (request.url.raw_scheme, request.url.raw_host, request.url.port)
        connection = self._take(origin)
        release = partial(self._release, origin, connection)
        try:
            answer = connection.handle_request(_to_httpcore(request))
        except BaseException as error:
            release()
            if type(error) in ERRORS:
                raise ERRORS[type(error)](str(error)) from error
            raise
        body = _Body(answer, release)
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    def _take(self, origin: Origin) -> httpcore.ConnectionPool:
        """Return an idle connection; one to another origin is closed, and opened again.

        The caller has a slot, so there is one if no more may be opened.
        """
        with self._lock:
            if origin not in self._idle:
                if len(self._all) < self._most:
                    self._all.append(self._open())
                    return self._all[-1]
                origin = next(iter(self._idle))
            idle = self._idle[origin]
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            return connection

    def _release(self, origin: Origin, connection: httpcore.ConnectionPool) -> None:
        with self._lock:
            self._idle.setdefault(origin, []).append(connection)
        self._slots.release()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._all:
            connection.close()


def _to_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.content,
        extensions=request.extensions,
    )


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response, release: Callable[[], None]) -> None:
        self._answer = answer
        self._release = release

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_stream()
        except tuple(ERRORS) as error:
            raise ERRORS[type(error)](str(error)) from error

    def close(self) -> None:
        try:
            if trailing_bytes(self._answer):
                self._answer.extensions["network_stream"].close()
            self._answer.close()
        finally:
            self._release()


def trailing_bytes(answer: httpcore.Response) -> bytes:
    """Return the bytes that a server sent after its answer in the same packet.

    httpcore would use them as the answer to the next request, and has no public API for them.
    """
    state = answer.stream._stream._connection._h11_state  # type: ignore[union-attr]
    return cast("bytes", state.trailing_data[0])


def tls_context(authorities: Path = AUTHORITIES) -> ssl.SSLContext:
    """Return a TLS context with the authorities of the environment, the layer or certifi.

    The first of these sources that exists counts. Raises ConfigurationError if the environment
    names authorities that cannot be read.
    """
    try:
        if authorities.is_dir() and not names_authorities():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = httpx.create_ssl_context()
    except OSError as error:
        raise ConfigurationError(
            "SSL_CERT_FILE or SSL_CERT_DIR does not point to certificates"
            f" ({error.strerror}); correct or unset the variable."
        ) from error
    # This is Python's default, except in a build that uses OpenSSL's defaults.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def names_authorities() -> bool:
    """Return whether the environment names the certificate authorities to trust."""
    return bool(os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"))
