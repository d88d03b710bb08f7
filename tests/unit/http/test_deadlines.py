"""Connections over real sockets: each wait ends, and each answer is the right one."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import httpcore
import httpx
import pytest

from encryption_guard.http import Answer, new_request, open_transport, send
from encryption_guard.invocation import Clock, DeadlineTransport
from tests.emulators.server import Server
from tests.unit.http.servers import application

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FAR = 1e12  # an instant that no test reaches


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Peer = Callable[[socket.socket], object]


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


def ask(
    transport: DeadlineTransport, url: str, *, max_bytes: int = 64 * 1024, **headers: str
) -> Answer:
    """One GET."""
    return send(
        transport,
        new_request("GET", url, headers=headers),
        until=Clock().monotonic() + 5,
        max_bytes=max_bytes,
    )


def asked(*peers: Peer) -> Answer:
    """What one GET is answered."""
    with serving(*peers) as url, open_transport() as transport:
        return ask(transport, url)


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    """A server may hang up whenever it likes: the next request goes over a new connection."""
    is_closed = threading.Event()

    def hang_up(peer: socket.socket) -> None:
        answering(OK)(peer)
        peer.close()
        is_closed.set()

    with serving(hang_up, answering(OK)) as url, open_transport() as transport:
        assert ask(transport, url).body == b"{}"
        # Until then the request would meet a connection that is about to close.
        assert is_closed.wait(5)
        assert ask(transport, url).body == b"{}"


def test_a_connection_of_which_not_all_was_read_is_not_used_again() -> None:
    """The rest of a long answer must not be taken for the next one."""
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"x" * 200_000

    with serving(answering(long, OK), answering(OK)) as url, open_transport() as transport:
        assert ask(transport, url, max_bytes=10).body == b"x" * 10
        assert ask(transport, url).body == b"{}"


def test_a_server_that_speaks_unasked_is_left() -> None:
    """What comes without a question must not be taken for the answer to the next one."""
    forged = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"

    with (
        serving(answering(forged, closes=False), answering(OK)) as url,
        open_transport() as transport,
    ):
        assert [ask(transport, url).body for _ in range(2)] == [b"{}", b"{}"]


def test_ten_answers_without_content_share_a_connection() -> None:
    """httpcore closes the connection of an answer that is not read to its end, even of a 204."""
    answers = [b"HTTP/1.1 204 No Content\r\n\r\n"] * 10

    with serving(answering(*answers)) as url, open_transport() as transport:
        assert [ask(transport, url).status for _ in answers] == [204] * 10


def test_what_only_announces_an_answer_is_passed_over() -> None:
    """Interim answers (1xx) may come before the one that counts."""
    assert asked(answering(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK)).status == 200


HEAD, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
# SECURITY.md states both lists: a new h11 that is stricter or laxer is a change to it.
REFUSED = {
    "nothing": b"",
    "another protocol": b"220 ready\r\n",
    "a line before it": b"\r\n" + OK,
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a head that is none": HEAD + b"no header\r\n\r\n",
    "a header without a name": HEAD + b": a\r\n\r\n",
    "a blank before the colon": HEAD + b"a : b\r\n\r\n",
    "a carriage return alone": HEAD + b"a: b\rc\r\n\r\n",
    "a NUL in a header": HEAD + b"a: b\0c\r\n\r\n",
    "a NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "a head without end": HEAD + b"a: " + b"x" * 200_000,
    "a length that is none": HEAD + b"content-length: -1\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a body shorter than its length": HEAD + b"content-length: 3\r\n\r\n{}",
    "no chunks": CHUNKED + b"\r\nzz\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n2\r\n{}}\r\n0\r\n\r\n",
    "chunks without an end": CHUNKED + b"\r\n2\r\n{}\r\n",
    "chunks that end in a line feed": CHUNKED + b"\r\n2\n{}\n0\n\n",
    "another coding": HEAD + b"transfer-encoding: gzip\r\n\r\n{}",
    "another coding before chunks": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n",
}
TAKEN = {
    "a line feed alone": OK.replace(b"\r\n", b"\n"),
    "no reason": OK.replace(b" OK", b""),
    "control characters in the reason": OK.replace(b"OK", b"\x01\x1b\x7f\xff"),
    "control characters in a header": OK.replace(b"OK\r\n", b"OK\r\na: b\x01\x1b\x7f\xffc\r\n"),
    "another version": OK.replace(b"1.1", b"2.7"),
    "a header on two lines": OK.replace(b"OK\r\n", b"OK\r\na: b\r\n c\r\n"),
    "the same length twice": OK.replace(b": 2", b": 2, 2"),
    "a length beside chunks": CHUNKED + b"content-length: 9\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "anything behind the size of a chunk": CHUNKED + b"\r\n2;\x01=?\r\n{}\r\n0\r\n\r\n",
    "headers behind the body": CHUNKED + b"\r\n2\r\n{}\r\n0\r\na: b\r\n\r\n",
    "no length, until the connection ends": HEAD + b"\r\n{}",
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    """A 200 does not count where the rest of its answer cannot be told from something else."""
    with pytest.raises(httpx.RemoteProtocolError):
        asked(answering(answer))


@pytest.mark.parametrize("answer", TAKEN.values(), ids=TAKEN)
def test_what_is_not_quite_http_is_an_answer(answer: bytes) -> None:
    """More is taken than RFC 9112 has; none of it makes another status or another body of it."""
    taken = asked(answering(answer))

    assert (taken.status, taken.body) == (200, b"{}")


def test_what_cannot_be_sent_is_not() -> None:
    """A header with a line break would be another header."""
    with (
        serving(answering(OK)) as url,
        open_transport() as transport,
        pytest.raises(httpx.LocalProtocolError),
    ):
        ask(transport, url, evil="a\r\nb: c")


def test_a_server_that_takes_nothing_ends_a_try() -> None:
    """A request that cannot be sent in time is a time-out like any other."""
    left = threading.Event()

    def silent(_: socket.socket) -> None:
        left.wait(5)

    with serving(silent) as url, open_transport() as transport:
        try:
            with pytest.raises(httpx.WriteTimeout):
                send(
                    transport,
                    new_request("PUT", url, headers={}, content=b"x" * 64 * 1024 * 1024),
                    until=Clock().monotonic() + 0.3,
                )
        finally:
            left.set()


needs_two_addresses = pytest.mark.skipif(
    sys.platform != "linux", reason="there is one loopback address only"
)


@contextmanager
def silence(port: int) -> Iterator[str]:
    """An address where nobody ever answers: the queue of its listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


def resolving_to(*addresses: str) -> Callable[..., list[tuple[object, ...]]]:
    """A resolver that knows one host by these addresses, and every address by itself."""

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        found = addresses if host == "service.test" else (host,)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in found]

    return resolve


def put_once(url: str, *, seconds: float) -> int:
    """The status of one request, if it is answered in time."""
    with open_transport() as transport:
        request = new_request("PUT", url, headers={})
        return send(transport, request, until=Clock().monotonic() + seconds).status


@needs_two_addresses
@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_a_silent_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of a host share the time of a try, so that one of them cannot use it up."""
    answer = application("200 OK")

    def thinking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        time.sleep(0.1)
        return answer(environ, start_response)

    with Server(thinking) as server, silence(server.port) as silent:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(silent, "127.0.0.1"))

        status = put_once(f"http://service.test:{server.port}/", seconds=1)

    assert status == 200


@needs_two_addresses
@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_an_address_that_refuses_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one address is closed and another is open, the request arrives."""
    with Server(application("200 OK")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.2", "127.0.0.1"))

        status = put_once(f"http://service.test:{server.port}/", seconds=1)

    assert status == 200


@needs_two_addresses
@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_a_host_without_an_open_address_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last address's failure is what is told."""
    with Server(application("200 OK")) as server, silence(server.port) as silent:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(silent))

        with pytest.raises(httpx.ConnectTimeout):
            put_once(f"http://service.test:{server.port}/", seconds=0.2)


@pytest.mark.parametrize("error", [socket.gaierror("unknown"), UnicodeError("label too long")])
def test_a_host_that_is_not_found_is_no_answer(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that cannot be looked up is trouble like any other, and tried again like it."""

    def resolve(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(httpx.ConnectError, match=str(error)):
        put_once("http://service.test/", seconds=1)


def dripping(peer: socket.socket) -> None:
    """Answer a byte at a time, each soon enough for any time-out that is for one read."""
    peer.recv(64 * 1024)
    with suppress(OSError):  # the client hangs up
        for byte in OK:
            peer.sendall(bytes([byte]))
            time.sleep(0.3)


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_a_server_that_drips_its_answer_is_left_at_the_deadline(seconds: float) -> None:
    """Each byte comes in time, and the answer would take twelve seconds."""
    with serving(dripping) as url, open_transport() as transport:
        begun = time.monotonic()
        request = new_request("GET", url, headers={})
        with pytest.raises(httpx.ReadTimeout):
            send(transport, request, until=begun + seconds)

    assert time.monotonic() - begun == pytest.approx(seconds, abs=0.25)


def test_a_proxy_that_drips_its_answer_is_left_at_the_deadline() -> None:
    """The way through a proxy has the same deadline."""
    with serving(dripping) as url, open_transport(proxy=httpcore.Proxy(url)) as transport:
        begun = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            send(
                transport,
                new_request("GET", "https://service.test/", headers={}),
                until=begun + 1,
            )

    assert time.monotonic() - begun == pytest.approx(1, abs=0.25)


def test_a_server_that_is_silent_in_tls_is_left_at_the_deadline() -> None:
    """A handshake is a wait like any other."""
    left = threading.Event()

    with serving(lambda _: left.wait(5)) as url, open_transport() as transport:
        begun = time.monotonic()
        request = new_request("GET", url.replace("http:", "https:"), headers={})
        with pytest.raises(httpx.ConnectTimeout):
            send(transport, request, until=begun + 0.3)
        left.set()

    assert time.monotonic() - begun < 1


def test_a_request_without_a_deadline_is_a_bug() -> None:
    """It fails at once, instead of waiting for as long as a server likes."""
    with (
        serving(answering(OK)) as url,
        open_transport() as transport,
        pytest.raises(LookupError),
    ):
        transport.handle_request(new_request("GET", url, headers={}))


def test_a_bug_leaves_the_connection_to_the_next_request() -> None:
    """Of one connection, too."""
    with Server(application("200 OK")) as server, open_transport(connections=1) as transport:
        request = new_request("GET", server.url, headers={})
        request.extensions["timeout"] = {"pool": 1.0}
        with pytest.raises(LookupError):
            transport.handle_request(request)

        answer = send(transport, new_request("GET", server.url, headers={}), until=soon())

    assert answer.status == 200


def soon() -> float:
    return Clock().monotonic() + 5
