"""httpcore's connections, with one deadline for a whole request.

httpcore's time-outs start again with every read, so a server that drips its answer can hold a
request for as long as it likes. Inside `deadline(...)` no wait on a socket lasts beyond that
instant. Only the look-up of a host is bounded by the system's resolver alone.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore

# Without a default: a wait outside of `deadline(...)` is a bug, and raises LookupError.
_deadline: ContextVar[float] = ContextVar("deadline")
# Zero would make a socket non-blocking, and then not look like a time-out.
MIN_WAIT_SECONDS = 0.001
# A TLS record holds as much: a socket takes it at once, or waits.
CHUNK_BYTES = 16 * 1024


@contextmanager
def deadline(at: float) -> Iterator[None]:
    """Let every wait of this thread end at `at`, an instant of `time.monotonic`."""
    token = _deadline.set(at)
    try:
        yield
    finally:
        _deadline.reset(token)


def current_deadline() -> float:
    """The instant at which this thread has to stop waiting; raises LookupError without one."""
    return _deadline.get()


def seconds_until(instant: float) -> float:
    """How long a socket may wait."""
    return max(instant - time.monotonic(), MIN_WAIT_SECONDS)


def _seconds_left(timeout: float | None) -> float:
    left = seconds_until(current_deadline())
    return left if timeout is None else min(timeout, left)


class DeadlineBackend(httpcore.SyncBackend):
    """Opens connections that keep the deadline."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try each address of the host, each with its share of the time that is left."""
        until = time.monotonic() + _seconds_left(timeout)
        addresses = _addresses(host, port)
        while True:
            share = seconds_until(until) / len(addresses)
            address = addresses.pop(0)
            try:
                stream = super().connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not addresses:
                    raise
            else:
                return DeadlineStream(stream)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # UnicodeError: a label of more than 63 characters.
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DeadlineStream(httpcore.NetworkStream):
    """A connection on which a time-out never reaches beyond the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._in_use = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore's own."""
        return self._stream.read(max_bytes, _seconds_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As httpcore's own, whose time-out starts again with each piece that a socket takes."""
        self._in_use = True
        for start in range(0, len(buffer), CHUNK_BYTES):
            self._stream.write(buffer[start : start + CHUNK_BYTES], _seconds_left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore's own."""
        seconds = _seconds_left(timeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def close(self) -> None:
        """As httpcore's own."""
        self._stream.close()

    def end_use(self) -> None:
        """The answer to what was written has been read: the next request may be anybody's."""
        self._in_use = False

    def get_extra_info(self, info: str) -> Any:
        """As httpcore's own: it asks for `ssl_object` and `is_readable`.

        A pool closes an idle connection that is readable. Another thread may have begun to use it
        since the pool found it idle: what can be read is that thread's answer then.
        """
        if info == "is_readable" and self._in_use:
            return False
        return self._stream.get_extra_info(info)
