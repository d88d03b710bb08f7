"""What goes over the wire: a request as it came, an answer as it goes, a socket to abuse."""

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from werkzeug.datastructures import EnvironHeaders

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Where a service is when it is not behind a name of its own.
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost"})


@dataclass(frozen=True)
class Request:
    """A request as it came. Path and query are raw, header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def host(self) -> str:
        """The host it was sent to, without the port."""
        return self.headers.get("host", "").rpartition(":")[0] or self.headers.get("host", "")

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded. A `+` is a plus sign: these services do not speak form encoding."""
        pairs = (pair.partition("=") for pair in self.query.split("&") if pair)
        return {unquote(name): unquote(value) for name, _, value in pairs}


@dataclass(frozen=True)
class Answer:
    """An answer before it becomes bytes."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def status_line(self) -> str:
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return f"{self.status} Unknown"

    def head(self, *, content_length: int | None = None) -> bytes:
        """The bytes before the body, for those who write to the socket themselves."""
        length = len(self.body) if content_length is None else content_length
        lines = [f"HTTP/1.1 {self.status_line}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {length}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1")


def received(environ: "WSGIEnvironment") -> Request:
    """The request without its body, which may be slow in coming."""
    path, _, query = environ["REQUEST_URI"].partition("?")
    headers = {name.lower(): value for name, value in EnvironHeaders(environ)}
    return Request(environ["REQUEST_METHOD"], path, query, headers, b"")


def with_body(request: Request, environ: "WSGIEnvironment") -> Request:
    """The request with its body, which is read only once."""
    return replace(request, body=request.body or environ["wsgi.input"].read())


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN, at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(connection)


def close(connection: socket.socket) -> None:
    """Close under the feet of every file object that still holds the socket."""
    # In TLS without a close_notify, as it is when a machine or a balancer goes away.
    os.close(connection.detach())
