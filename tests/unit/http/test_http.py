"""One request, its answer, and the connections of a process."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from encryption_guard.errors import ConfigurationError
from encryption_guard.http import COMMON_HEADERS, Answer, new_request, open_transport, send
from encryption_guard.invocation import Clock, DeadlineTransport
from encryption_guard.version import __version__
from tests.emulators.server import Server
from tests.unit.fakes import Chunks, mocked
from tests.unit.http.servers import application

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FAR = 1e12  # an instant that no test reaches


@pytest.mark.parametrize("size", [0, 1, 65536], ids=["empty", "a byte", "64 KB"])
def test_an_answer_is_read_whole_up_to_64_kb(size: int) -> None:
    """Status, headers and body come back as they were sent."""
    body = Chunks([b"x" * size])
    transport = mocked(lambda _: httpx.Response(207, headers={"x-a": "b"}, stream=body))

    read = get(transport)

    assert (read.status, read.headers["x-a"], read.body) == (207, "b", b"x" * size)
    assert body.closed


def test_of_a_huge_answer_64_kb_are_read() -> None:
    """The rest is not asked for, and the connection is given up."""
    body = Chunks(repeat(b"x" * 1000, 10_000))
    transport = mocked(lambda _: httpx.Response(200, stream=body))

    read = get(transport)

    assert read.body == b"x" * 65536
    assert body.taken <= 65536 + 1000
    assert body.closed


@pytest.mark.parametrize("content", [b"", b"{}"], ids=["without content", "with content"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("host", ["service", "service:8443", "[::1]:8443"])
def test_a_request_is_framed_as_httpx_would_do_it(method: str, content: bytes, host: str) -> None:
    """Host and length are there as if nobody had been in a hurry, and nothing else is."""
    url, headers = f"https://{host}/a?b", {"x-oss-date": "20260102T030405Z"}

    request = new_request(method, url, headers=headers, content=content)

    theirs = httpx.Request(method, url, headers=COMMON_HEADERS | headers, content=content)
    assert sorted(request.headers.items()) == sorted(theirs.headers.items())
    assert request.content == content


def get(
    transport: DeadlineTransport,
    url: str = "http://service/",
    *,
    until: float = FAR,
    **rest: Any,
) -> Answer:
    """One GET."""
    return send(transport, new_request("GET", url, headers={}), until=until, **rest)


def breaking_off() -> Iterator[bytes]:
    yield b"half"
    raise httpx.ReadError("reset")


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    """A connection that is lost in the middle of a body raises, and is closed."""
    body = Chunks(breaking_off())
    transport = mocked(lambda _: httpx.Response(200, stream=body))

    with pytest.raises(httpx.TransportError, match="reset"):
        get(transport)

    assert body.closed


def fetch(url: str) -> Answer:
    """One GET with a transport of its own."""
    with open_transport() as transport:
        return get(transport, url, until=Clock().monotonic() + 10)


@pytest.mark.parametrize(
    "location",
    ["/elsewhere", "https://example.com/", "http://a:b:c", "\x01", "x" * 70000, ""],
    ids=["path", "URL", "bad port", "control character", "too long", "empty"],
)
def test_a_redirect_is_an_answer_wherever_it_points(location: str) -> None:
    """A 3xx comes back as what it is, even where its Location is not an address."""
    with Server(application("307 Temporary Redirect", Location=location)) as server:
        read = fetch(server.url)

    assert read.status == 307
    assert server.connections_accepted == 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_no_proxy_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables of the environment do not lead a signed request elsewhere."""
    with Server(application("502 Bad Gateway")) as proxy, Server(application("200 OK")) as server:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

        read = fetch(server.url)

    assert read.status == 200
    assert proxy.connections_accepted == 0


def test_a_request_names_us_and_wants_bytes_as_they_are() -> None:
    """An answer must not be compressed: it is read as it comes, up to a bound."""
    with Server(application("200 OK")) as server:
        read = fetch(server.url)

    lines = read.body.decode().splitlines()
    assert "HTTP_ACCEPT_ENCODING=identity" in lines
    assert f"HTTP_USER_AGENT=oss-tables-encryption-guard/{__version__}" in lines


ANSWER = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def asked_once(*, reads: bool) -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes what comes first, if it reads at all, answers and closes."""
    came: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            if reads:
                came.append(connection.recv(64 * 1024))
            connection.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
        thread.join()


def put(url: str, content: bytes) -> Answer:
    """One PUT with a transport of its own."""
    with open_transport() as transport:
        return send(
            transport,
            new_request("PUT", url, headers={}, content=content),
            until=Clock().monotonic() + 10,
        )


def test_an_answer_that_comes_early_counts() -> None:
    """A server may answer and close before it has read all of a large request."""
    with asked_once(reads=False) as (url, _):
        try:
            answered = put(url, b"x" * 32 * 1024 * 1024).status
        # Its system may throw the answer away together with what was not read.
        except (httpx.ReadError, httpx.RemoteProtocolError):
            answered = 413

    assert answered == 413


def test_a_connection_is_used_again() -> None:
    """Two requests to one host go over one connection."""
    with Server(application("200 OK")) as server, open_transport() as transport:
        for _ in range(2):
            send(
                transport,
                new_request("PUT", server.url, headers={}, content=b"body"),
                until=Clock().monotonic() + 10,
            )

    assert server.connections_accepted == 1


@pytest.mark.parametrize("connections", [1, 3])
def test_there_are_as_many_connections_as_asked_for(connections: int) -> None:
    """Threads that are more than those wait for one that is free, and are all served."""
    ok = application("200 OK")
    all_at_once = threading.Barrier(connections, timeout=10)

    def thinking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        all_at_once.wait()
        return ok(environ, start_response)

    statuses: list[int] = []
    with Server(thinking) as server, open_transport(connections=connections) as transport:

        def ask() -> None:
            statuses.append(get(transport, server.url, until=Clock().monotonic() + 10).status)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [200] * 6
    assert server.connections_accepted == connections


def test_a_connection_to_another_server_makes_room() -> None:
    """Where no more may be open, one that nobody uses is closed, and opened anew."""
    ok = application("200 OK")
    with (
        Server(ok) as first,
        Server(ok) as second,
        open_transport(connections=1) as transport,
    ):
        for server in (first, second, second, first):
            get(transport, server.url, until=Clock().monotonic() + 10)

    assert (first.connections_accepted, second.connections_accepted) == (2, 1)


def test_who_gets_no_connection_in_time_has_no_answer() -> None:
    """Waiting for a free connection is part of a try, and ends with it."""
    ok = application("200 OK")
    arrived, leave = threading.Event(), threading.Event()

    def thinking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        arrived.set()
        leave.wait(10)
        return ok(environ, start_response)

    with Server(thinking) as server, open_transport(connections=1) as transport:

        def ask(seconds: float) -> None:
            get(transport, server.url, until=Clock().monotonic() + seconds)

        first = threading.Thread(target=ask, args=[10])
        first.start()
        arrived.wait(10)
        with pytest.raises(httpx.PoolTimeout):
            ask(0.1)
        leave.set()
        first.join()


def test_no_cookie_is_sent_back() -> None:
    """A request carries what we put in, and nothing that an earlier answer left behind."""
    with (
        Server(application("200 OK", **{"Set-Cookie": "a=b"})) as server,
        open_transport() as transport,
    ):
        for _ in range(2):
            read = get(transport, server.url, until=Clock().monotonic() + 10)

    assert b"HTTP_COOKIE" not in read.body


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "unreadable"])
def test_a_trust_file_that_is_none_is_named(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence names the variable; nothing is trusted instead."""
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        open_transport()


def test_the_libraries_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """At their finest level httpx and httpcore would print URLs, and headers with signatures."""
    for name in ("httpx", "httpcore", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
        caplog.set_level(logging.DEBUG, logger=name)

    with Server(application("200 OK")) as server:
        fetch(server.url)

    assert [line for line in caplog.records if line.name.startswith("http")] == []


def test_time_outs_are_seconds() -> None:
    """httpx's documented extension keeps its meaning; the deadline is not part of it."""
    seen: list[dict[str, float]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200)

    get(mocked(handler), until=Clock().monotonic() + 5)

    (timeout,) = seen
    assert timeout["connect"] == 2
    assert {4 < timeout[name] <= 5 for name in ("read", "write", "pool")} == {True}
