"""Connections over real sockets: when one is used again or gives way, and what is no answer."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from encryption_guard.connections import Connection, Connections, Origin, connect
from encryption_guard.transport import Answer, Clock, Transport, exchange, new_request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
HERE = Origin("http", "127.0.0.1", 80)
THERE = Origin("http", "127.0.0.1", 81)
Peer = Callable[[socket.socket], None]


def answering(*answers: bytes, closes: bool = True) -> Peer:
    """A server that gives one answer after the other to whatever comes, on one connection."""

    def serve(peer: socket.socket) -> None:
        for answer in answers:
            peer.recv(64 * 1024)
            peer.sendall(answer)
        if not closes:
            peer.recv(1)

    return serve


@contextmanager
def serving(*peers: Peer) -> Iterator[str]:
    """The URL of a server that meets its clients one after the other, each in its own way."""

    def serve(listener: socket.socket) -> None:
        for meet in peers:
            # A client that hangs up, or none that comes, is a test's affair.
            with suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    meet(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def ask(transport: Transport, url: str, *, longest: int = 64 * 1024, **headers: str) -> Answer:
    """One GET."""
    return exchange(
        transport,
        new_request("GET", url, headers=headers),
        auth=httpx.Auth(),
        until=Clock().monotonic() + 5,
        longest=longest,
    )


def asked(*peers: Peer) -> Answer:
    """What one GET is answered."""
    with serving(*peers) as url, Transport() as transport:
        return ask(transport, url)


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    """A server may hang up whenever it likes: the next request goes over a new connection."""
    with serving(answering(OK), answering(OK)) as url, Transport() as transport:
        assert [ask(transport, url).body for _ in range(2)] == [b"{}", b"{}"]


def test_a_connection_of_which_not_all_was_read_is_not_used_again() -> None:
    """The rest of a long answer must not be taken for the next one."""
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"x" * 200_000

    with serving(answering(long, OK), answering(OK)) as url, Transport() as transport:
        assert ask(transport, url, longest=10).body == b"x" * 10
        assert ask(transport, url).body == b"{}"


def test_a_server_that_speaks_unasked_is_left() -> None:
    """What comes without a question must not be taken for the answer to the next one."""
    forged = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"

    with serving(answering(forged, closes=False), answering(OK)) as url, Transport() as transport:
        assert [ask(transport, url).body for _ in range(2)] == [b"{}", b"{}"]


def test_what_only_announces_an_answer_is_passed_over() -> None:
    """Interim answers (1xx) may come before the one that counts."""
    assert asked(answering(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK)).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"220 ready\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", id="a head that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\na: " + b"x" * 200_000, id="a head without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", id="a length that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", id="a body cut short"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="no chunks"
        ),
    ],
)
def test_what_is_no_answer_is_an_error(garbage: bytes) -> None:
    """A 200 counts only as part of an answer that is one from its first byte to its last."""
    with pytest.raises(httpx.RemoteProtocolError):
        asked(answering(garbage))


def test_what_cannot_be_sent_is_not() -> None:
    """A header with a line break would be another header."""
    with (
        serving(answering(OK)) as url,
        Transport() as transport,
        pytest.raises(httpx.LocalProtocolError),
    ):
        ask(transport, url, evil="a\r\nb: c")


def test_a_server_that_takes_nothing_ends_a_try() -> None:
    """A request that cannot be sent in time is a time-out like any other."""
    left = threading.Event()

    def silent(_: socket.socket) -> None:
        left.wait(5)

    with serving(silent) as url, Transport() as transport:
        try:
            with pytest.raises(httpx.WriteTimeout):
                exchange(
                    transport,
                    new_request("PUT", url, headers={}, content=b"x" * 64 * 1024 * 1024),
                    auth=httpx.Auth(),
                    until=Clock().monotonic() + 0.3,
                )
        finally:
            left.set()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://service.example/a", ("https", "service.example", 443)),
        ("http://service.example", ("http", "service.example", 80)),
        ("https://service.example:8443", ("https", "service.example", 8443)),
        ("http://[::1]:9000/", ("http", "::1", 9000)),
        ("https://bücher.example", ("https", "xn--bcher-kva.example", 443)),
    ],
)
def test_a_url_tells_where_to_go(url: str, origin: tuple[str, str, int]) -> None:
    """The port may be the scheme's, brackets belong to the URL alone, a name is in ASCII."""
    assert Origin.of(httpx.URL(url)) == origin


# The pool, on pairs of sockets that are connected to each other.


def exchanged(origin: Origin, connections: Connections) -> Connection:
    """A connection that was used once and is idle again."""
    connection = connections.take(origin, another, seconds=0)
    url = f"http://{origin.host}:{origin.port}"
    PEERS[-1].sendall(OK)
    until = Clock().monotonic() + 5
    connection.ask(new_request("GET", url, headers={}), until=until)
    assert b"".join(connection.body(until=until)) == b"{}"
    connections.give_back(origin, connection)
    return connection


PEERS: list[socket.socket] = []
OPENED: list[Connection] = []


@pytest.fixture(autouse=True)
def _everything_is_closed() -> Iterator[None]:
    yield
    while PEERS:
        PEERS.pop().close()
        OPENED.pop().close()


def never() -> Connection:
    raise AssertionError("no new connection was needed")


def another() -> Connection:
    ours, theirs = socket.socketpair()
    PEERS.append(theirs)
    OPENED.append(Connection(ours))
    return OPENED[-1]


def test_an_idle_connection_is_taken_before_a_new_one() -> None:
    """For the same origin there is no need for another."""
    connections = Connections(2)
    idle = exchanged(HERE, connections)

    assert connections.take(HERE, never, seconds=0) is idle


def test_a_connection_that_idled_for_too_long_is_not_taken() -> None:
    """A server, or what is in between, may have forgotten it without a word."""
    connections = Connections(1, keep_alive=-1)
    idle = exchanged(HERE, connections)

    assert connections.take(HERE, another, seconds=0) is not idle


def test_an_idle_connection_gives_way_to_another_origin() -> None:
    """Where there is no room, what idles for others is closed."""
    connections = Connections(1)
    exchanged(HERE, connections)

    taken = connections.take(THERE, another, seconds=0)

    assert PEERS[0].recv(64 * 1024).startswith(b"GET / HTTP/1.1\r\n")
    assert PEERS[0].recv(1) == b""
    with pytest.raises(httpx.PoolTimeout):
        connections.take(HERE, another, seconds=0)
    connections.drop(taken)
    connections.take(HERE, another, seconds=0)


def test_a_connection_that_cannot_be_made_leaves_its_room() -> None:
    """The next one may try."""
    connections = Connections(1)

    def refused() -> Connection:
        raise httpx.ConnectError("refused")

    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            connections.take(HERE, refused, seconds=0)


def test_who_waits_gets_what_is_given_back() -> None:
    """A connection that becomes free goes to whoever waits for one."""
    connections = Connections(1)
    taken = connections.take(HERE, another, seconds=0)
    got: list[Connection] = []
    waiting = threading.Thread(
        target=lambda: got.append(connections.take(HERE, another, seconds=5))
    )
    waiting.start()

    connections.drop(taken)
    waiting.join()

    assert got
    assert got != [taken]


def test_all_that_idle_can_be_closed() -> None:
    """Afterwards there is room for as many as before."""
    connections = Connections(2)
    exchanged(HERE, connections)
    exchanged(THERE, connections)

    connections.close()

    for peer in PEERS:
        peer.recv(64 * 1024)
        assert peer.recv(1) == b""
    for _ in range(2):
        connections.take(HERE, another, seconds=0)


def test_a_host_that_nobody_knows_is_a_connect_error() -> None:
    """A name that is none fails like one that is not found."""
    origin = Origin("http", "a" * 64 + ".example", 80)

    with pytest.raises(httpx.ConnectError):
        connect(origin, ssl.create_default_context(), until=Clock().monotonic() + 1)
