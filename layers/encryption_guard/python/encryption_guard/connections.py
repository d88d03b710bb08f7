"""HTTP/1.1 over sockets, on which every wait ends at an instant: h11 has the protocol, we the time.

The time-out of an HTTP client starts again with every byte: a peer that drips its answer would hold
a try, and the invocation, for as long as it likes. Here it is told when to stop (seconds of the
monotonic clock). Only looking a host up is beyond this: the system's resolver has time-outs of its
own.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import h11
import httpx

KEEP_ALIVE_SECONDS = 60.0
# Of an answer, up to its body.
LONGEST_HEAD = 100 * 1024
PIECE = 64 * 1024
PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a request goes."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """The origin of a URL."""
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme])


class Connection:
    """One connection to a server, for one request after the other."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._idle_since = 0.0

    def ask(self, request: httpx.Request, *, until: float) -> h11.Response:
        """Send a request, its head and body together, and read the head of its answer.

        Raises httpx.TransportError if that does not work out.
        """
        self._send(self._written(request), until)
        while True:
            event = self._next_event(until)
            if isinstance(event, h11.Response):
                return event

    def body(self, *, until: float) -> Iterator[bytes]:
        """The body of the answer, as it comes."""
        while isinstance(event := self._next_event(until), h11.Data):
            yield bytes(event.data)

    def is_free(self) -> bool:
        """Whether the exchange is over and another one may follow."""
        is_over = {self._http.our_state, self._http.their_state} == {h11.DONE}
        # What came behind the answer would be taken for the next one.
        if not is_over or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._idle_since = time.monotonic()
        return True

    def is_stale(self, *, keep_alive: float) -> bool:
        """Whether it was idle for longer, or the server has closed it, or has spoken unasked."""
        is_old = time.monotonic() - self._idle_since > keep_alive
        return is_old or bool(select.select([self._peer], [], [], 0)[0])

    def close(self) -> None:
        """Close it, whatever its state."""
        with suppress(OSError):
            self._peer.close()

    def _written(self, request: httpx.Request) -> bytes:
        try:
            head = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
            body = [h11.Data(data=request.content)] if request.content else []
            events = [head, *body, h11.EndOfMessage()]
            return b"".join(self._http.send(event) or b"" for event in events)
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error

    def _send(self, message: bytes, until: float) -> None:
        left = memoryview(message)
        try:
            while left:
                self._peer.settimeout(seconds_until(until))
                left = left[self._peer.send(left) :]
        except TimeoutError as error:
            raise httpx.WriteTimeout(str(error)) from error
        except OSError:
            # A server may answer and close before it has read everything: what it says counts.
            return

    def _next_event(self, until: float) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                with telling(httpx.ReadTimeout, httpx.ReadError):
                    self._peer.settimeout(seconds_until(until))
                    self._http.receive_data(self._peer.recv(PIECE))
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        return event


class Connections:
    """The connections of a process, `most` at a time, idle ones included; threads share them.

    After `keep_alive` seconds an idle one is not used any more.
    """

    def __init__(self, most: int, *, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._room = most
        self._keep_alive = keep_alive
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._changed = threading.Condition()

    def take(
        self, origin: Origin, connect: Callable[[], Connection], *, seconds: float
    ) -> Connection:
        """An idle connection to the origin, or a new one as soon as there is room for it.

        Raises httpx.PoolTimeout if there is none in so many seconds, or what `connect` raises.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_room_for(origin), seconds):
                raise httpx.PoolTimeout("no connection was free in time")
            if self._idle[origin]:
                return self._idle[origin].pop()
            self._room -= 1
        try:
            return connect()
        except BaseException:
            self._make_room()
            raise

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection for the next request, or close it if none may follow."""
        if not connection.is_free():
            self.drop(connection)
            return
        with self._changed:
            self._idle[origin].append(connection)
            self._changed.notify()

    def drop(self, connection: Connection) -> None:
        """Close a connection that was taken."""
        connection.close()
        self._make_room()

    def close(self) -> None:
        """Close those that are idle."""
        with self._changed:
            for connections in self._idle.values():
                while connections:
                    connections.pop().close()
                    self._room += 1

    def _is_room_for(self, origin: Origin) -> bool:
        idle = self._idle[origin]
        while idle and idle[-1].is_stale(keep_alive=self._keep_alive):
            idle.pop().close()
            self._room += 1
        if idle or self._room > 0:
            return True
        # One that idles for others gives way.
        other = next(filter(None, self._idle.values()), None)
        if other is None:
            return False
        other.pop(0).close()
        self._room += 1
        return True

    def _make_room(self) -> None:
        with self._changed:
            self._room += 1
            self._changed.notify()


def connect(origin: Origin, tls: ssl.SSLContext, *, until: float) -> Connection:
    """A new connection, in TLS for https, whose server has proved its name.

    Raises httpx.ConnectError or httpx.ConnectTimeout.
    """
    with telling(httpx.ConnectTimeout, httpx.ConnectError):
        peer = _connected(_addresses(origin), until)
        try:
            if origin.scheme == "https":
                peer.settimeout(seconds_until(until))
                peer = tls.wrap_socket(peer, server_hostname=origin.host)
        except BaseException:
            peer.close()
            raise
        return Connection(peer)


def _addresses(origin: Origin) -> list[tuple[int, tuple[object, ...]]]:
    """Family and address of each place where the host is; raises OSError where it is nowhere."""
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    # A host that is none at all fails while it is encoded.
    except UnicodeError as error:
        raise OSError(str(error)) from error
    return list(dict.fromkeys((int(family), address) for family, *_, address in found))


def _connected(places: list[tuple[int, tuple[object, ...]]], until: float) -> socket.socket:
    """The first that answers; each has its share of the time, lest a silent one uses up all."""
    while True:
        share = seconds_until(until) / len(places)
        family, address = places.pop(0)
        peer = socket.socket(family, socket.SOCK_STREAM)
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(share)
            peer.connect(address)
        except OSError:
            peer.close()
            if not places:
                raise
        else:
            return peer


@contextmanager
def telling(
    timeout: type[httpx.TimeoutException], broken: type[httpx.NetworkError]
) -> Iterator[None]:
    """Tell what goes wrong with a socket in httpx's words."""
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except OSError as error:
        raise broken(str(error)) from error


def seconds_until(instant: float) -> float:
    """How long a socket may wait."""
    # Zero would mean "do not wait" to a socket, and then not look like a time-out.
    return max(instant - time.monotonic(), 0.001)
