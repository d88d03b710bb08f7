"""Each fault does on the wire what it says, as plain sockets see it."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import Call, EmulatedService, RefusedError
from tests.emulators.faults import (
    Drip,
    Fault,
    Faults,
    Refuse,
    Reset,
    ResetMidAnswer,
    Truncate,
)
from tests.emulators.server import Authority
from tests.emulators.wire import Answer, Request

KEY = AccessKey("AKID", "AKSECRET", "1234567890123456")


class Counter(EmulatedService):
    """A service that counts: the smallest one that can be seen to have done something."""

    server_name = "Counter"
    request_id_header = "x-request-id"
    count = 0

    def new_request_id(self) -> str:
        return "1"

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        return request.method.title(), request.path.removeprefix("/")

    def perform(self, call: Call) -> Answer:
        if call.operation == "Delete":
            raise RefusedError(Refuse(404, "NotFound", "nothing to delete"))
        if call.operation == "Head":
            raise ZeroDivisionError
        self.count += 1
        return Answer(200, {"Content-Type": "text/plain"}, b"counted " * 4)

    def refused(self, refusal: Refuse, _call: Call, /) -> Answer:
        return Answer(refusal.status, refusal.headers, f"{refusal.code}".encode())


@pytest.fixture(params=["http", "https"])
def counter(request: pytest.FixtureRequest) -> Iterator[Counter]:
    authority = Authority() if request.param == "https" else None
    with Counter(authority=authority) as counter:
        yield counter


@contextmanager
def connected(service: EmulatedService) -> Iterator[http.client.HTTPConnection]:
    connection: http.client.HTTPConnection
    if service.url.startswith("https"):
        # What is looked at here is the wire; who trusts whom is tested elsewhere.
        unverified = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(
            "127.0.0.1", service.port, timeout=5, context=unverified
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def ask(service: EmulatedService, method: str = "PUT", path: str = "/a") -> tuple[int, Any, bytes]:
    """Status, headers and body of one request over a connection of its own."""
    with connected(service) as connection:
        connection.request(method, path, b"x" * 100)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def bare(connection: http.client.HTTPConnection) -> socket.socket:
    """The TCP socket under it, for Python's TLS takes an RST for the end of the stream."""
    raw = socket.socket(fileno=connection.sock.detach())
    raw.settimeout(5)
    return raw


def read_to_the_end(connection: socket.socket) -> list[bytes]:
    """The pieces that come until the other side closes."""
    return list(iter(lambda: connection.recv(4096), b""))


def test_without_a_fault_one_connection_serves_all(counter: Counter) -> None:
    """Successive requests go over one connection, also after an error and an unread body."""
    with connected(counter) as connection:
        statuses = []
        for method in ("PUT", "DELETE", "GET"):
            connection.request(method, "/a", b"x" * 100_000)
            answer = connection.getresponse()
            statuses.append(answer.status)
            answer.read()

    assert statuses == [200, 404, 200]
    assert counter.connections_accepted == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_reset_is_a_reset(counter: Counter, after: bool) -> None:
    """Reset ends the connection by RST; `after` it the operation has been carried out."""
    counter.faults.add(Fault(Reset(), after=after))

    with connected(counter) as connection:
        connection.request("PUT", "/a")
        with bare(connection) as raw, pytest.raises(ConnectionResetError):
            read_to_the_end(raw)

    assert counter.count == (1 if after else 0)


def test_a_reset_mid_answer_comes_after_half(counter: Counter) -> None:
    """ResetMidAnswer sends half of an answer before the RST."""
    counter.faults.add(Fault(ResetMidAnswer()))

    with connected(counter) as connection:
        connection.request("PUT", "/a")
        received = connection.sock.recv(12)
        with bare(connection) as raw, pytest.raises(ConnectionResetError):
            read_to_the_end(raw)

    assert received == b"HTTP/1.1 200"
    assert counter.count == 1


def test_a_truncated_answer_is_too_short(counter: Counter) -> None:
    """Truncate promises more bytes than come before the connection is closed."""
    counter.faults.add(Fault(Truncate(missing=16)))

    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(counter)

    assert (caught.value.partial, caught.value.expected) == (b"counted " * 4, 16)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_dripping_answer_is_complete_and_slow(counter: Counter, part: Any) -> None:
    """Drip sends the head or the body byte by byte, and all of it."""
    counter.faults.add(Fault(Drip(0.002, part)))

    with connected(counter) as connection:
        connection.request("PUT", "/a")
        pieces = read_to_the_end(connection.sock)

    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert body == b"counted " * 4
    assert len(pieces) > (len(head if part == "head" else body) // 2)


def test_a_fault_meets_only_what_it_names(counter: Counter) -> None:
    """A fault meets its operations on its resources, as often as it says, then no more."""
    counter.faults.add(Fault(Refuse(500), operation="P*", resource="a?", times=2))

    statuses = [
        ask(counter, method, path)[0]
        for method, path in (
            ("GET", "/a1"),
            ("PUT", "/b1"),
            ("PUT", "/a1"),
            ("POST", "/a2"),
            ("PUT", "/a1"),
        )
    ]

    assert statuses == [200, 200, 500, 500, 200]


def test_chance_is_seeded() -> None:
    """The same seed strikes the same requests, about as many as the probability says."""
    struck = [
        [bool(faults.met_by("Put", "a")) for _ in range(1000)]
        for faults in (Faults(Fault(Reset(), probability=0.3), seed=7) for _ in range(2))
    ]

    assert struck[0] == struck[1]
    assert 250 < sum(struck[0]) < 350


def test_a_broken_emulator_says_so(counter: Counter, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the emulator itself is a 500 and in the log: it must not pass for a fault."""
    status, _, _ = ask(counter, "HEAD")

    assert status == 500
    assert "the emulator failed at HEAD /a" in caplog.text
