"""A proxy on loopback that carries connections (CONNECT) and remembers all that it could read."""

from __future__ import annotations

import selectors
import socket
import socketserver
import ssl
import threading
from typing import Any

from tests.emulators.running import Running

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy(Running):
    """The proxy. `answer` is what it says to a CONNECT; another than 200 ends it.

    With `tls` it is spoken to in TLS itself. `hangs`: it says nothing for as long as it runs.
    `heads` holds what each client said to it before the tunnel, `read` every byte that came by.
    """

    def __init__(
        self,
        *,
        answer: bytes = ESTABLISHED,
        tls: ssl.SSLContext | None = None,
        hangs: bool = False,
    ) -> None:
        self.answer = answer
        self.hangs = hangs
        self._stopping = threading.Event()
        self._tls = tls
        self.heads: list[str] = []
        self.read = b""
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def as_spoken_to(self, client: socket.socket) -> socket.socket:
        """The connection as its bytes are to be read."""
        return self._tls.wrap_socket(client, server_side=True) if self._tls else client

    def serve(self, client: socket.socket) -> None:
        """One client: its CONNECT, and then the tunnel."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = client.recv(65536)
            if not part:
                return
            head += part
        self.heads.append(head.decode("latin-1"))
        if self.hangs:
            self._stopping.wait()
        client.sendall(self.answer)
        if self.answer == ESTABLISHED:
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as service:
                self._tunnel(client, service)

    def _tunnel(self, client: socket.socket, service: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, service)
            selector.register(service, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    part = client.recv(65536) if key.fileobj is client else service.recv(65536)
                    if not part:
                        return
                    self.read += part
                    key.data.sendall(part)


def _handler(proxy: ConnectProxy) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        request: Any

        def handle(self) -> None:
            try:
                with proxy.as_spoken_to(self.request) as client:
                    proxy.serve(client)
            except OSError:  # whoever hangs up ends the tunnel
                return

    return Handler
