"""One signed request and its answer, before a deadline.

httpx has the requests and the answers, httpcore the connections; `deadlines` bounds every wait.
What an answer means, and whether to ask again, is decided elsewhere.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple, cast

import httpcore
import httpx

from encryption_guard.errors import ConfigurationError
from encryption_guard.http.deadlines import DeadlineBackend, deadline, seconds_until
from encryption_guard.http.redaction import redact, secrets_of
from encryption_guard.invocation import DeadlineTransport
from encryption_guard.version import __version__

CONNECT_SECONDS = 2.0
# What is read is raw: an answer that was compressed all the same would be unreadable.
COMMON_HEADERS = {
    "user-agent": f"oss-tables-encryption-guard/{__version__}",
    "accept-encoding": "identity",
}
MAX_ANSWER_BYTES = 64 * 1024
# These tell the length of their content also where there is none: RFC 9110, 8.6.
EXPECTING_CONTENT = {"POST", "PUT"}
# In an instance at a time, idle ones included: as many as a sweep has workers.
CONNECTIONS = 64
KEEP_ALIVE_SECONDS = 60.0
# certifi's, as `make build` puts them beside the layer's `python/`: a file for each, found by the
# hash of its name and read when a server presents what it signed. To read all takes 20 ms.
AUTHORITIES = Path(__file__).parents[3] / "authorities"
# At DEBUG they print headers and URLs, and so do httpx's at INFO.
CHATTY_LOGGERS = ("httpx", *(f"httpcore.{name}" for name in ("connection", "http11", "proxy")))
# Their exceptions have the same names.
ERRORS = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"),
        *("ConnectError", "ReadError", "WriteError", "ProxyError"),
        *("LocalProtocolError", "RemoteProtocolError", "UnsupportedProtocol"),
    )
}


class Answer(NamedTuple):
    """A service's answer: its body is what was read of it, at most 64 KB unless asked for more."""

    status: int
    headers: httpx.Headers
    body: bytes


def send(
    transport: DeadlineTransport,
    request: httpx.Request,
    *,
    until: float,
    longest: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send a signed request once and read its answer, all before the instant `until`.

    Credentials are taken out of the answer: a service or a proxy that echoes them must not bring
    them into a log or a dead letter.
    Raises httpx.TransportError if that does not succeed, whatever the reason.
    """
    left = seconds_until(until)
    connect = min(CONNECT_SECONDS, left)
    request.extensions["timeout"] = {"connect": connect, "read": left, "write": left, "pool": left}
    try:
        with deadline(until):
            answer = _read(transport.handle_request(request), longest)
    except httpx.TransportError as error:
        said = redact(secrets_of(request, with_id=True), str(error).encode()).decode()
        if said == str(error):
            raise
        # It quotes what came instead of HTTP, and so do its causes.
        raise type(error)(said) from None
    # What is handed out may be an event about the same key, which has to stay as it is.
    return _redacted(answer, secrets_of(request, with_id=answer.status >= 300))


def _read(response: httpx.Response, longest: int) -> Answer:
    """Read to the end, even a body that has none: else httpcore closes the connection."""
    try:
        body = bytearray()
        # As it comes: neither decompressed nor counted.
        for chunk in cast("httpx.SyncByteStream", response.stream):
            body += chunk
            if len(body) > longest:
                break
        return Answer(response.status_code, response.headers, bytes(body[:longest]))
    finally:
        response.close()


def _redacted(answer: Answer, secrets: list[str]) -> Answer:
    said = b"\n".join([*(value for _, value in answer.headers.raw), answer.body])
    if redact(secrets, said) == said:
        return answer
    headers = [(name, redact(secrets, value)) for name, value in answer.headers.raw]
    return Answer(answer.status, httpx.Headers(headers), redact(secrets, answer.body))


# What is read of a bucket is written next, under the same URL, which takes long to parse.
_parsed = lru_cache(maxsize=1)(httpx.URL)


def new_request(
    method: str, url: str, *, headers: dict[str, str], content: bytes = b""
) -> httpx.Request:
    """A request with the headers that all of ours have; nothing else is added on its way."""
    parsed = _parsed(url)
    framing = {"host": parsed.netloc.decode("ascii")}
    if content or method in EXPECTING_CONTENT:
        framing["content-length"] = str(len(content))
    # To what comes as a stream httpx adds nothing.
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
    connections: int = CONNECTIONS,
    proxy: httpcore.Proxy | None = None,
) -> DeadlineTransport:
    """Open the connections of a process, of which at most so many are open at a time.

    Trust comes from certifi, or from `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set.
    Raises ConfigurationError where those do not lead to certificates.
    """
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).disabled = True
    pool = httpcore.ConnectionPool(
        ssl_context=tls_context(authorities),
        max_connections=connections,
        keepalive_expiry=KEEP_ALIVE_SECONDS,
        network_backend=DeadlineBackend(),
        proxy=proxy,
    )
    return DeadlineTransport(_PoolTransport(pool, connections))


class _PoolTransport(httpx.BaseTransport):
    """httpx's requests and answers on httpcore's pool.

    Nothing follows a redirect, asks a proxy of the environment or keeps a cookie. No more requests
    are in the pool than it has connections: one that waits there may have it close a connection
    that another thread has just begun to use.
    """

    def __init__(self, pool: httpcore.ConnectionPool, connections: int) -> None:
        self._pool = pool
        self._free = BoundedSemaphore(connections)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and read the head of its answer."""
        if not self._free.acquire(timeout=request.extensions["timeout"]["pool"]):
            raise httpx.PoolTimeout("every connection is in use")
        try:
            answer = self._pool.handle_request(_of_httpcore(request))
        except BaseException as error:
            self._free.release()
            if type(error) in ERRORS:
                raise ERRORS[type(error)](str(error)) from error
            raise
        body = _Body(answer, self._free.release)
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def _of_httpcore(request: httpx.Request) -> httpcore.Request:
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
        stream = self._answer.extensions["network_stream"]
        if bytes_behind(self._answer):
            stream.close()
        stream.end_use()
        try:
            self._answer.close()
        finally:
            self._release()


def bytes_behind(answer: httpcore.Response) -> bytes:
    """What a server sent behind its answer in the same packet.

    httpcore would take it for the answer to the next request, and has no public place to see it.
    """
    state = answer.stream._stream._connection._h11_state  # type: ignore[union-attr]
    return cast("bytes", state.trailing_data[0])


def tls_context(authorities: Path = AUTHORITIES) -> ssl.SSLContext:
    """Trust the authorities that the environment names, else those of the layer, else certifi's.

    Raises ConfigurationError where the environment names none that can be read.
    """
    try:
        if authorities.is_dir() and not names_authorities():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = httpx.create_ssl_context()
    except OSError as error:
        raise ConfigurationError(
            f"SSL_CERT_FILE or SSL_CERT_DIR does not lead to certificates ({error.strerror});"
            " correct or unset it."
        ) from error
    # Python's own default, unless it was built to follow OpenSSL's.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def names_authorities() -> bool:
    """Whether the environment says which certificate authorities to trust."""
    return bool(os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"))
