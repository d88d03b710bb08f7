"""Time budgets, pauses, one exchange, and the client of a process."""

from __future__ import annotations

import functools
import html
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.config import Credentials
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.transport import (
    COMMON_HEADERS,
    Answer,
    Clock,
    Pace,
    TimeBudget,
    Transport,
    exchange,
    http_date,
    new_request,
    pause_before_next,
)
from encryption_guard.version import __version__
from tests.emulators.server import Authority, Server
from tests.unit.fakes import START, Chunks, FakeOssTables, FakeTime, invocation_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

UNSIGNED = httpx.Auth()
FAR = 1e12  # an instant that no test reaches


def answer(**headers: str) -> Answer:
    return Answer(503, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), b"")


def test_the_clock_is_the_worlds_unless_given() -> None:
    """Without arguments it tells UTC, a time that only grows, and chance below one."""
    clock = Clock()

    before = clock.monotonic()
    now = clock.now()
    clock.sleep(0)

    assert now.utcoffset() == timedelta()
    assert abs(now - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert clock.monotonic() >= before
    assert 0 <= clock.chance() < 1


def test_a_budget_shrinks_and_never_gets_below_zero() -> None:
    """What remains is what the clock leaves of it, and nothing once that is used up."""
    time = FakeTime()
    budget = TimeBudget(time.monotonic() + 10, time.as_clock())

    remaining = []
    for _ in range(3):
        remaining.append(budget.remaining())
        time.passed += 6

    assert remaining == [10, 4, 0]


@given(left=st.floats(0, 1000), passed=st.floats(0, 2000))
def test_a_request_may_use_sixty_percent_of_the_rest(left: float, passed: float) -> None:
    """The share is taken of what is left at that moment, and is never negative."""
    time = FakeTime()
    budget = TimeBudget(time.monotonic() + left, time.as_clock())
    time.passed += passed

    until = budget.for_one_request()

    share = until - time.monotonic()
    assert share == pytest.approx(0.6 * max(left - passed, 0), abs=1e-6)
    assert share >= 0


@pytest.mark.parametrize(
    ("end_of_request", "seconds"),
    [(3.0, 3.0), (5.0, 5.0), (30.0, 5.0)],
    ids=["the request ends first", "both", "the try ends first"],
)
def test_a_try_ends_after_its_time_out_or_with_its_request(
    end_of_request: float, seconds: float
) -> None:
    """GUARD_HTTP_TIMEOUT_SECONDS bounds a try, and the request's own end does so too."""
    service = FakeOssTables()
    invocation = invocation_of(service, environment={"GUARD_HTTP_TIMEOUT_SECONDS": "5"})
    now = service.time.monotonic()

    end = invocation.end_of_try(now + end_of_request)

    assert end == now + seconds


@given(chance=st.floats(0, 1, exclude_max=True), tries=st.integers(1, 20))
def test_the_back_off_has_full_jitter_and_doubles(chance: float, tries: int) -> None:
    """A pause is anything between nothing and 0.2 s, 0.4 s, 0.8 s and so on."""
    pause = pause_before_next(None, tries=tries, clock=FakeTime(chance=chance).as_clock())

    assert pause == pytest.approx(chance * 0.2 * 2 ** (tries - 1))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("86400", 86400.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Friday, 02-Jan-26 03:04:15 GMT", 10.0),
        ("Fri Jan  2 03:04:15 2026", 10.0),
        ("Fri, 02 Jan 2026 11:04:15 +0800", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
    ],
    ids=[
        "at once",
        "seconds",
        "a day",
        "date",
        "RFC 850 date",
        "asctime date",
        "date with an offset",
        "a date that has passed",
    ],
)
def test_the_service_may_name_the_pause(retry_after: str, seconds: float) -> None:
    """Retry-After counts, in seconds or as a date, and is never negative."""
    pause = pause_before_next(answer(retry_after=retry_after), tries=1, clock=FakeTime().as_clock())

    assert pause == seconds


UNREADABLE = {
    "nothing": "",
    "a word": "soon",
    "negative": "-1",
    "a fraction": "1.5",
    "other digits": "\u0663",
    "no such day": "Fri, 99 Jan 2026 03:04:05 GMT",
    "half a date": "Fri, 02 Jan",
    "no such year": "Fri, 02 Jan 99999999999999999999 03:04:05 GMT",
    "no such offset": "Fri, 02 Jan 2026 03:04:05 +99999999999999999999",
    "two values": "1, 2",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_retry_after_counts_for_nothing(text: str) -> None:
    """What is neither seconds nor a date leaves the back-off as it is."""
    named = Answer(503, httpx.Headers([(b"retry-after", text.encode())]), b"")

    pause = pause_before_next(named, tries=2, clock=FakeTime(chance=0.5).as_clock())

    assert pause == pytest.approx(0.2)


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_date_is_none(text: str) -> None:
    """An unreadable date is the absence of one, not an error."""
    assert http_date(text) is None


@given(st.one_of(st.text(), st.from_regex(r"Fri, [0-9]+ Jan [0-9]+ [0-9:]+ [+-]?[0-9]*")))
def test_no_date_header_is_an_error(text: str) -> None:
    """Whatever a service sends as its date, it is a time with a zone or None."""
    at = http_date(text)

    assert at is None or at.tzinfo is not None


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 -0000",
        "Fri, 02 Jan 2026 04:04:05 +0100",
    ],
    ids=["GMT", "unknown zone", "offset"],
)
def test_a_date_header_is_a_time_in_utc(text: str) -> None:
    """A date without a zone is one in UTC."""
    assert http_date(text) == START


# The pace of all threads.


def reply(status: int, **headers: str) -> Answer:
    return Answer(status, answer(**headers).headers, b"")


def heard(pace: Pace, time: FakeTime, *statuses: int) -> list[float]:
    """The pauses before requests that are answered, one after the other, with these."""
    pauses = []
    for status in statuses:
        before = time.passed
        pace.wait(FAR)
        pauses.append(time.passed - before)
        sent_at = time.monotonic()
        time.passed += 0.01
        pace.heed(reply(status), sent_at=sent_at)
    return pauses


def test_nobody_waits_where_nothing_was_said() -> None:
    """Requests go out at once, also those that have no time left."""
    time = FakeTime()

    Pace(time.as_clock()).wait(time.monotonic() - 1)

    assert time.slept == []


@pytest.mark.parametrize("status", [429, 503])
def test_all_wait_where_one_is_asked_to_slow_down(status: int) -> None:
    """The pause counts for whoever comes next, until it is over."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    pace.heed(reply(status), sent_at=time.monotonic())
    time.passed += 0.05

    for _ in range(2):
        pace.wait(FAR)

    assert time.slept == pytest.approx([0.15])


@pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 404, 408, 409, 425, 500, 502, 504])
def test_no_other_answer_makes_all_wait(status: int) -> None:
    """What is wrong with one request, or one node, is no reason to hold up the others."""
    time = FakeTime()
    pace = Pace(time.as_clock())

    pace.heed(reply(status, retry_after="30"), sent_at=time.monotonic())
    pace.wait(FAR)

    assert time.slept == []


def test_the_pause_is_jittered() -> None:
    """Several instances of the guard do not come back at the same moment."""
    time = FakeTime(chance=0.25)
    pace = Pace(time.as_clock())
    pace.heed(reply(503), sent_at=time.monotonic())

    pace.wait(FAR)

    assert time.slept == pytest.approx([0.25 * 0.2])


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "pause"), [("7", 7.0), ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0)]
)
def test_all_wait_as_long_as_the_service_asks(status: int, retry_after: str, pause: float) -> None:
    """Retry-After counts for all, in seconds or as a date."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    pace.heed(reply(status, retry_after=retry_after), sent_at=time.monotonic())

    pace.wait(FAR)

    assert time.slept == pytest.approx([pause])


def test_a_row_makes_the_pause_longer_up_to_a_bound() -> None:
    """It doubles with every refusal to a request sent after the last pause, up to some 3 s."""
    time = FakeTime()

    pauses = heard(Pace(time.as_clock()), time, *[503] * 10)

    in_a_row = [0.2, 0.4, 0.8, 1.6, 3.2, 3.2, 3.2, 3.2, 3.2]
    assert pauses == pytest.approx([0, *in_a_row])


@pytest.mark.parametrize("status", [200, 404, 500])
def test_another_answer_ends_the_row(status: int) -> None:
    """Whoever is served, or refused for another reason, was not asked to slow down."""
    time = FakeTime()

    pauses = heard(Pace(time.as_clock()), time, 429, 503, 429, status, 429, 200)

    assert pauses == pytest.approx([0, 0.2, 0.4, 0.8, 0, 0.2])


def test_a_burst_of_refusals_counts_once() -> None:
    """What was under way together tells one thing, however many say it."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    sent_at = time.monotonic()
    time.passed += 0.01

    for _ in range(8):
        pace.heed(reply(503), sent_at=sent_at)
        time.passed += 0.001
    pace.wait(FAR)

    assert time.slept == pytest.approx([0.2 - 0.008])


@pytest.mark.parametrize("late", [200, 404, 503])
def test_what_was_sent_before_the_pause_tells_nothing(late: int) -> None:
    """An answer that was under way when the pause began neither ends the row nor adds to it."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    heard(pace, time, 503)
    sent_before = time.monotonic() - 0.005

    pace.heed(reply(late), sent_at=sent_before)

    assert heard(pace, time, 503, 200) == pytest.approx([0.2, 0.4])


def test_a_longer_pause_is_not_cut_short() -> None:
    """A later refusal that asks for less does not call the others back earlier."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    pace.heed(reply(503, retry_after="30"), sent_at=time.monotonic())
    time.passed += 1

    pace.heed(reply(503, retry_after="1"), sent_at=time.monotonic())
    pace.wait(FAR)

    assert time.slept == pytest.approx([29])


@pytest.mark.parametrize("left", [0.0, 6.9, 7.0])
def test_a_pause_beyond_the_time_is_not_waited_for(left: float) -> None:
    """Whoever will not live to see its end hears of it at once."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    pace.heed(reply(429, retry_after="7"), sent_at=time.monotonic())

    with pytest.raises(Unavailable, match="7 s"):
        pace.wait(time.monotonic() + left)

    assert time.slept == []


def test_a_pause_that_grows_while_it_is_waited_for_is_waited_for_whole() -> None:
    """Who sleeps already sleeps on, or gives up if that is too long."""
    time = FakeTime()
    asked = iter([4.0])

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        for more in asked:
            pace.heed(reply(503, retry_after=f"{more:.0f}"), sent_at=time.monotonic())

    pace = Pace(Clock(time.now, time.monotonic, sleep, lambda: 1.0))
    pace.heed(reply(503, retry_after="2"), sent_at=time.monotonic())

    pace.wait(FAR)

    assert time.slept == pytest.approx([2.0, 4.0])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([200, 404, 429, 500, 503]),
            st.sampled_from([None, "0", "3", "60"]),
            st.floats(0, 20),
        ),
        max_size=12,
    )
)
def test_no_request_goes_out_within_a_pause(said: list[tuple[int, str | None, float]]) -> None:
    """Whatever was answered, who waits goes on when all pauses that were asked for are over."""
    time = FakeTime()
    pace = Pace(time.as_clock())
    over_at = time.monotonic()
    for status, retry_after, passed in said:
        headers = {} if retry_after is None else {"retry_after": retry_after}
        pace.heed(reply(status, **headers), sent_at=time.monotonic())
        if status in (429, 503) and retry_after:
            over_at = max(over_at, time.monotonic() + float(retry_after))
        time.passed += passed

    pace.wait(FAR)

    assert time.monotonic() >= over_at - 1e-9


@pytest.mark.parametrize("size", [0, 1, 65536], ids=["empty", "a byte", "64 KB"])
def test_an_answer_is_read_whole_up_to_64_kb(size: int) -> None:
    """Status, headers and body come back as they were sent."""
    body = Chunks([b"x" * size])
    transport = httpx.MockTransport(
        lambda _: httpx.Response(207, headers={"x-a": "b"}, stream=body)
    )
    request = new_request("GET", "http://service/", headers={})

    read = exchange(transport, request, auth=UNSIGNED, until=FAR)

    assert (read.status, read.headers["x-a"], read.body) == (207, "b", b"x" * size)
    assert body.closed


def test_of_a_huge_answer_64_kb_are_read() -> None:
    """The rest is not asked for, and the connection is given up."""
    body = Chunks(repeat(b"x" * 1000, 10_000))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    request = new_request("GET", "http://service/", headers={})

    read = exchange(transport, request, auth=UNSIGNED, until=FAR)

    assert read.body == b"x" * 65536
    assert body.taken <= 65536 + 1000
    assert body.closed


def test_more_is_read_for_who_asks_for_it() -> None:
    """The bound is the caller's where it names one."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Chunks([b"x" * 100])))
    request = new_request("GET", "http://service/", headers={})

    read = exchange(transport, request, auth=UNSIGNED, until=FAR, longest=10)

    assert read.body == b"x" * 10


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


def breaking_off() -> Iterator[bytes]:
    yield b"half"
    raise httpx.ReadError("reset")


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    """A connection that is lost in the middle of a body raises, and is closed."""
    body = Chunks(breaking_off())
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    request = new_request("GET", "http://service/", headers={})

    with pytest.raises(httpx.TransportError, match="reset"):
        exchange(transport, request, auth=UNSIGNED, until=FAR)

    assert body.closed


TOKEN = "CAIS+planted/Token=0123456789abcdef=="
KEY_ID = "STS.Planted/Key+Id1234"
SIGNATURE = "+Planted/Signature0123456789="
HEX = "0123456789abcdef" * 4
PROVEN = {
    "token of OSS": ("x-oss-security-token", TOKEN, (TOKEN,)),
    "token of SMQ": ("security-token", TOKEN, (TOKEN,)),
    "token of FC": ("x-fc-security-token", TOKEN, (TOKEN,)),
    "OSS": (
        "authorization",
        f"OSS4-HMAC-SHA256 Credential={KEY_ID}/20260101/cn/osstables/x,Signature={HEX}",
        (KEY_ID, HEX),
    ),
    "SMQ": ("authorization", f"MNS {KEY_ID}:{SIGNATURE}", (KEY_ID, SIGNATURE)),
    "FC": ("authorization", f"FC {KEY_ID}:{SIGNATURE}", (KEY_ID, SIGNATURE)),
    "another": ("authorization", "Planted of any form", ("Planted of any form",)),
}
PROOF = st.text("+/=.-_ abcXYZ019", min_size=16, max_size=40).map(str.strip)


def json_of(text: str) -> str:
    return json.dumps(text)[1:-1]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json_of(text).replace("/", r"\/"),
    "JSON in numbers": lambda text: text.replace("/", r"\u002f").replace("+", r"\u002B"),
    "JSON in JSON": lambda text: json_of(json_of(text).replace("/", r"\/")),
    "XML in numbers": lambda text: text.replace("/", "&#47;").replace("=", "&#x3D;"),
    "XML in names": lambda text: text.replace("/", "&sol;").replace("+", "&plus;"),
    "XML in XML": lambda text: html.escape(text.replace("/", "&#047;")),
    "URL": lambda text: quote(text, safe=""),
    "URL in URL": lambda text: quote(quote(text, safe="").replace("2F", "2f")),
}


def asked_with(name: str, value: str, response: httpx.Response | Exception) -> Answer:
    """What comes back to a request with this header."""

    def answer_or_fail(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    request = new_request("GET", "http://service/", headers={name: value})
    return exchange(httpx.MockTransport(answer_or_fail), request, auth=UNSIGNED, until=FAR)


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize(("name", "value", "proofs"), PROVEN.values(), ids=PROVEN)
def test_what_proves_who_asks_is_taken_out_of_an_answer(
    name: str, value: str, proofs: tuple[str, ...], spelled: Callable[[str], str]
) -> None:
    """However a service writes what it was sent, only that is gone."""
    echoed = " and ".join(spelled(proof) for proof in proofs)
    said = httpx.Response(403, headers={"x-said": f"<{echoed}>"}, stream=Chunks([echoed.encode()]))

    read = asked_with(name, value, said)

    redacted = " and ".join("[redacted]" for _ in proofs)
    assert read == Answer(403, httpx.Headers({"x-said": f"<{redacted}>"}), redacted.encode())


@given(PROOF.filter(lambda text: len(text) >= 16), st.data())
def test_a_proof_is_found_whatever_it_consists_of(proof: str, data: st.DataObject) -> None:
    """Each sign may be written in a way of its own."""
    ways = st.sampled_from(list(SPELLINGS.values()))
    echoed = "".join(data.draw(ways)(sign) for sign in proof)

    said = httpx.Response(403, stream=Chunks([echoed.encode()]))
    read = asked_with("security-token", proof, said)

    assert read.body == b"[redacted]"


@pytest.mark.parametrize(
    "said", [b"", TOKEN[:-2].encode(), rb"\\\\\\\\/", b"&amp;" * 9, b"%25" * 9]
)
def test_an_answer_without_a_proof_is_left_as_it_is(said: bytes) -> None:
    """What only looks a little like one is the service's to say."""
    read = asked_with("security-token", TOKEN, httpx.Response(403, stream=Chunks([said])))

    assert read.body == said


@pytest.mark.parametrize("name", ["OSS", "SMQ", "FC"])
def test_an_event_about_the_same_key_is_left_as_it_is(name: str) -> None:
    """What a queue hands out may tell of the operator's key, and has to stay byte for byte."""
    header, value, (key_id, signature) = PROVEN[name]
    event = f'{{"userIdentity": {{"accessKeyId": "{key_id}"}}}}'.encode()
    said = httpx.Response(200, stream=Chunks([event, signature.encode()]))

    assert asked_with(header, value, said).body == event + b"[redacted]"


def test_what_is_too_short_to_prove_anything_is_left_alone() -> None:
    """Else it would be found in every other word."""
    said = httpx.Response(403, stream=Chunks([b"the token is a token"]))

    assert asked_with("security-token", "token", said).body == b"the token is a token"


@pytest.mark.parametrize(("name", "value", "proofs"), PROVEN.values(), ids=PROVEN)
def test_an_error_does_not_quote_what_proves_who_asks(
    name: str, value: str, proofs: tuple[str, ...]
) -> None:
    """What came instead of HTTP is quoted by the libraries; it is in no text of any cause."""
    lost = httpx.RemoteProtocolError(f"illegal header line: b'x : {value}'")
    lost.__cause__ = ValueError(value)

    with pytest.raises(httpx.RemoteProtocolError, match="illegal header line") as raised:
        asked_with(name, value, lost)

    told = "".join(traceback.format_exception(raised.value))
    assert "[redacted]" in told
    assert not any(proof in told for proof in proofs)


def test_any_other_error_keeps_its_causes() -> None:
    """Whoever looks for the reason finds it."""
    lost = httpx.ReadError("reset")

    with pytest.raises(httpx.ReadError) as raised:
        asked_with("security-token", TOKEN, lost)

    assert raised.value is lost


def test_an_invocation_does_not_show_its_credentials() -> None:
    """What reads them may hold them: the platform's context does."""
    context = SimpleNamespace(credentials=SimpleNamespace(security_token=TOKEN))
    read = functools.partial(Credentials.read, context)

    invocation = invocation_of(FakeOssTables(), read_credentials=read)

    assert TOKEN in repr(read)
    assert TOKEN not in repr(invocation)


def application(status: str, **headers: str) -> WSGIApplication:
    """Answers everything with this status and the headers it was sent, a line each."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, list(headers.items()))
        sent = sorted(key for key in environ if key.startswith("HTTP_"))
        return ["".join(f"{key}={environ[key]}\n" for key in sent).encode()]

    return app


def fetch(url: str) -> Answer:
    """One GET with a transport of its own."""
    with Transport() as transport:
        return exchange(
            transport,
            new_request("GET", url, headers={}),
            auth=UNSIGNED,
            until=Clock().monotonic() + 10,
        )


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


def trust_by_file(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))


def trust_nobody(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


def test_ssl_cert_file_says_whom_to_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose authority SSL_CERT_FILE holds is trusted."""
    authority = Authority()
    trust_by_file(authority.write(tmp_path / "ca.pem"), monkeypatch)

    with Server(application("200 OK"), tls=authority.server_context()) as server:
        read = fetch(server.url)

    assert read.status == 200


@pytest.mark.parametrize("trust", [trust_nobody, trust_by_file], ids=["unset", "another authority"])
def test_tls_is_always_verified(
    trust: Callable[[Path, pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service that cannot prove itself is not spoken to."""
    trust(Authority().write(tmp_path / "another.pem"), monkeypatch)

    with (
        Server(application("200 OK"), tls=Authority().server_context()) as server,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        fetch(server.url)


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
    with Transport() as transport:
        return exchange(
            transport,
            new_request("PUT", url, headers={}, content=content),
            auth=UNSIGNED,
            until=Clock().monotonic() + 10,
        )


def test_a_requests_head_and_body_are_sent_together() -> None:
    """The first that a server gets is all of a small request: it need not wait for another part."""
    with asked_once(reads=True) as (url, came):
        assert put(url, b"body").status == 413

    assert came[0].startswith(b"PUT / HTTP/1.1\r\n")
    assert came[0].endswith(b"\r\n\r\nbody")


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
    with Server(application("200 OK")) as server, Transport() as transport:
        for _ in range(2):
            exchange(
                transport,
                new_request("PUT", server.url, headers={}, content=b"body"),
                auth=UNSIGNED,
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
    with Server(thinking) as server, Transport(connections=connections) as transport:

        def ask() -> None:
            request = new_request("GET", server.url, headers={})
            until = Clock().monotonic() + 10
            statuses.append(exchange(transport, request, auth=UNSIGNED, until=until).status)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [200] * 6
    assert server.connections_accepted == connections


def test_who_gets_no_connection_in_time_has_no_answer() -> None:
    """Waiting for a free connection is part of a try, and ends with it."""
    ok = application("200 OK")
    arrived, leave = threading.Event(), threading.Event()

    def thinking(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        arrived.set()
        leave.wait(10)
        return ok(environ, start_response)

    with Server(thinking) as server, Transport(connections=1) as transport:

        def ask(seconds: float) -> None:
            request = new_request("GET", server.url, headers={})
            until = Clock().monotonic() + seconds
            exchange(transport, request, auth=UNSIGNED, until=until)

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
        Transport() as transport,
    ):
        for _ in range(2):
            request = new_request("GET", server.url, headers={})
            read = exchange(transport, request, auth=UNSIGNED, until=Clock().monotonic() + 10)

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
        Transport()


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
    with Transport() as transport:
        request = new_request("PUT", url, headers={})
        return exchange(
            transport, request, auth=UNSIGNED, until=Clock().monotonic() + seconds
        ).status


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
