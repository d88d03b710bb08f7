"""Serves a WSGI application on loopback, over HTTP or TLS, with connections that stay open.

Werkzeug's own handler closes the connection after each answer. Clients that keep one connection
are what is tested here, so the handler below keeps it, and leaves the rest to werkzeug.
"""

import logging
import socket
import ssl
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import LimitedStream

from tests.emulators.running import Running

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOOPBACK = "127.0.0.1"
WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

_logger = logging.getLogger(__name__)


class ConnectionSpentError(Exception):
    """The application has used up the connection itself: nothing more may be written to it."""


class Authority:
    """A certificate authority that exists only in this process."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> bytes:
        return self._ca.cert_pem.bytes()

    def write(self, path: Path) -> Path:
        """Write the certificate to a file, as `SSL_CERT_FILE` wants it."""
        path.write_bytes(self.pem)
        return path

    def server_context(self, *host_names: str) -> ssl.SSLContext:
        """For a server that is 127.0.0.1, localhost and these names; `*.` is a wildcard."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(LOOPBACK, "localhost", *host_names).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this authority and no other."""
        return ssl.create_default_context(cadata=self.pem.decode("ascii"))


class Server(Running):
    """A server in a background thread."""

    def __init__(self, app: "WSGIApplication", *, tls: ssl.SSLContext | None = None) -> None:
        self._server = _LoopbackServer(app, tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.port: int = self._server.port
        self.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def connections_accepted(self) -> int:
        return self._server.accepted

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


class _LoopbackServer(ThreadedWSGIServer):
    # Threads are joined when the server closes, so that none of them outlives its test.
    daemon_threads = False

    def __init__(self, app: "WSGIApplication", tls: ssl.SSLContext | None) -> None:
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(LOOPBACK, 0, app, handler=_Handler)
        self.ssl_context = tls

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.ssl_context is not None:
            # The handshake is left to the connection's own thread: a slow or failing one must
            # not hold up everybody else.
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self.accepted += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        with self._lock:
            for connection in self._open:
                try:
                    # Not SSLSocket.shutdown: that pulls the session from under its reader.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:
                    _logger.debug("a connection was gone before the server closed it")
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.error("%s of %s failed: %r", request, client_address, sys.exc_info()[1])


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        if not environ.get("wsgi.input_terminated"):
            length = int(self.headers.get("Content-Length") or 0)
            environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], length)
            environ["wsgi.input_terminated"] = True
        try:
            self._answer(*self._run(environ))
            while environ["wsgi.input"].read(65536):
                pass
        except (ConnectionSpentError, ClientDisconnected, OSError):
            self.close_connection = True

    def _run(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        try:
            chunks, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        except (ConnectionSpentError, ClientDisconnected, OSError):
            raise
        except Exception:
            _logger.exception("the emulator failed at %s", self.requestline)
            self.close_connection = True
            return "500 Internal Server Error", [("Connection", "close")], b"the emulator failed"
        return status, headers.to_wsgi_list(), b"".join(chunks)

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        has_length = any(name.lower() == "content-length" for name, _ in headers)
        if not has_length and int(status[:3]) not in WITHOUT_BODY:
            headers = [*headers, ("Content-Length", str(len(body)))]
        head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        # In one piece: a head and a body in two packets are two wake-ups for the client.
        self.wfile.write("\r\n".join(head).encode("latin-1") + body)

    def log(self, type: str, message: str, *args: Any) -> None:
        _logger.debug("%s: %s", type, message % args)
