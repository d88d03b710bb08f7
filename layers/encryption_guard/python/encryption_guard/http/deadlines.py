"""Connections of httpcore with one deadline for a whole request.

The time-outs of httpcore restart with every read: a server that sends its answer byte by byte can
hold a request without limit. Inside `deadline(...)` every wait on a socket ends at that instant.
Only the system's resolver limits the look-up of a host name.
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

# There is no default: a wait outside `deadline(...)` is a bug, and raises LookupError.
_deadline: ContextVar[float] = ContextVar("deadline")
# Zero would make a socket non-blocking, and its error would not be a time-out.
MIN_WAIT_SECONDS = 0.001
# The size of a TLS record: a socket accepts one chunk at once, or waits.
CHUNK_BYTES = 16 * 1024


@contextmanager
def deadline(at: float) -> Iterator[None]:
    """End every wait of this thread at `at`, an instant of `time.monotonic`."""
    token = _deadline.set(at)
    try:
        yield
    finally:
        _deadline.reset(token)


def current_deadline() -> float:
    """Return the deadline of this thread; raises LookupError if it has none."""
    return _deadline.get()


def seconds_until(instant: float) -> float:
    """Return the seconds until an instant, at least MIN_WAIT_SECONDS."""
    return max(instant - time.monotonic(), MIN_WAIT_SECONDS)


def _seconds_left(timeout: float | None) -> float:
    left = seconds_until(current_deadline())
    return left if timeout is None else min(timeout, left)


class DeadlineBackend(httpcore.SyncBackend):
    """A network backend whose connections keep the deadline."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that accepts; the addresses share the remaining time."""
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
    # A label of more than 63 characters raises UnicodeError.
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DeadlineStream(httpcore.NetworkStream):
    """A connection whose waits end at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read as httpcore does, but not after the deadline."""
        return self._stream.read(max_bytes, _seconds_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write in chunks: httpcore's time-out restarts with each part that a socket accepts."""
        for start in range(0, len(buffer), CHUNK_BYTES):
            self._stream.write(buffer[start : start + CHUNK_BYTES], _seconds_left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Start TLS as httpcore does, but not after the deadline."""
        seconds = _seconds_left(timeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """Return httpcore's value, such as whether an idle connection was closed by the server."""
        return self._stream.get_extra_info(info)
