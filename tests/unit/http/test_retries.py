"""When and how a request is sent again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.errors import Throttled
from encryption_guard.http import Answer, new_request
from encryption_guard.http.retries import (
    Attempts,
    FailedRequest,
    Limits,
    Reaction,
    Session,
    Throttle,
    backoff,
    http_date,
    is_clock_error,
)
from tests.unit.fakes import KEY, START, FakeOssTables, FakeTime, KeyRing, invocation_of, mocked

URL = "https://tables.example/"
FAR = 1e12  # an instant that no test reaches


def answer(**headers: str) -> Answer:
    return Answer(503, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), b"")


@given(chance=st.floats(0, 1, exclude_max=True), repeats=st.integers(1, 20))
def test_the_back_off_has_full_jitter_and_doubles(chance: float, repeats: int) -> None:
    """A pause is anything between nothing and 0.2 s, 0.4 s, 0.8 s and so on."""
    pause = backoff(None, repeats=repeats, clock=FakeTime(chance=chance).as_clock())

    assert pause == pytest.approx(chance * 0.2 * 2 ** (repeats - 1))


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
    pause = backoff(answer(retry_after=retry_after), repeats=1, clock=FakeTime().as_clock())

    assert pause == seconds


UNREADABLE = {
    "nothing": "",
    "a word": "soon",
    "negative": "-1",
    "a fraction": "1.5",
    "other digits": "\u0663",
    "no such day": "Fri, 99 Jan 2026 03:04:05 GMT",
    "no such year": "Fri, 02 Jan 99999999999999999999 03:04:05 GMT",
    "two values": "1, 2",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_retry_after_counts_for_nothing(text: str) -> None:
    """What is neither seconds nor a date leaves the back-off as it is."""
    named = Answer(503, httpx.Headers([(b"retry-after", text.encode())]), b"")

    pause = backoff(named, repeats=2, clock=FakeTime(chance=0.5).as_clock())

    assert pause == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        ("1500", 1.5),
        ("1", 0.001),
        ("0", 7.0),
        ("-1500", 7.0),
        ("1.5", 7.0),
        ("soon", 7.0),
        ("", 7.0),
    ],
)
def test_an_rpc_api_may_name_the_pause_in_milliseconds(milliseconds: str, seconds: float) -> None:
    """A positive x-acs-retry-after counts before Retry-After; anything else counts for nothing."""
    named = answer(x_acs_retry_after=milliseconds, retry_after="7")

    assert backoff(named, repeats=1, clock=FakeTime().as_clock()) == seconds


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


# The throttle of all who ask the same service.


def test_all_wait_as_long_as_the_service_asks() -> None:
    """The longest pause counts; another that is shorter does not cut it."""
    time = FakeTime()
    throttle = Throttle(time.as_clock())

    throttle.hold(7)
    throttle.hold(3)
    throttle.wait(FAR)

    assert time.passed == 7


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    """Nothing could be sent afterwards."""
    time = FakeTime()
    throttle = Throttle(time.as_clock())
    throttle.hold(7)

    with pytest.raises(Throttled, match="asks to wait 7 s"):
        throttle.wait(time.monotonic() + 6)

    assert time.slept == []


# One attempt after the other.


@dataclass
class Script:
    """A service that answers with these, one after the other, and how each was reacted to."""

    answers: list[Answer | httpx.TransportError]
    reactions: dict[int, Reaction] = field(default_factory=dict)
    skewed: bool = False
    time: FakeTime = field(default_factory=lambda: FakeTime(chance=1.0))
    ring: KeyRing = field(default_factory=KeyRing)
    sent_at: list[datetime] = field(default_factory=list)
    found: int | None = None
    look_takes: float = 0.0

    def look(self) -> int | None:
        if self.look_takes:
            self.time.sleep(self.look_takes)
        return self.found

    def run(self, *, seconds: float = 60, attempts: int = 4) -> int | FailedRequest:
        clock = self.time.as_clock()
        invocation = invocation_of(FakeOssTables(time=self.time), read_credentials=self.ring.read)
        session = Session(invocation)
        waiting = iter(self.answers)

        def reply(_: httpx.Request) -> httpx.Response:
            self.sent_at.append(session.now())
            answer = next(waiting)
            if isinstance(answer, httpx.TransportError):
                raise answer
            return httpx.Response(answer.status, headers=answer.headers, content=answer.body)

        limits = Limits(clock.monotonic() + seconds, attempts, (0.5, 1.0))
        tries = Attempts(limits, session, clock)
        for attempt in tries:
            if attempt.is_repeat:
                if (found := self.look()) is not None:
                    return found
                if attempt.is_late():
                    break
            with attempt:
                answer = attempt.send(mocked(reply), new_request("GET", URL, headers={}), until=FAR)
                if attempt.corrects_clock(says_wrong=self.skewed and answer.status >= 400):
                    continue
                reaction = self.reactions.get(answer.status)
                if reaction is None:
                    return answer.status
                attempt.reaction = reaction
        return tries.failure


def of(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, answer(**headers).headers, body)


RESET = httpx.ReadError("reset")


def test_trouble_is_tried_again_with_growing_pauses() -> None:
    """A broken connection and what is worth a retry count together."""
    script = Script([RESET, of(503), RESET, of(200)], {503: Reaction.RETRY})

    assert script.run() == 200
    assert script.time.slept == [0.2, 0.4, 0.8]


def test_the_attempts_are_bounded() -> None:
    """The last answer is what a service makes its error of."""
    script = Script([of(503)] * 9, {503: Reaction.RETRY})

    assert script.run(attempts=3) == FailedRequest(of(503), None, 3, final=True)


def test_a_pause_beyond_the_deadline_ends_it() -> None:
    """It is not final: a later request may find another answer."""
    script = Script([of(503, retry_after="30")], {503: Reaction.RETRY})

    ended = script.run(seconds=10)

    assert ended == FailedRequest(of(503, retry_after="30"), None, 1, final=False)
    assert script.time.slept == []


def test_what_was_just_created_has_pauses_of_its_own() -> None:
    """They are not counted as attempts."""
    script = Script([of(404)] * 3, {404: Reaction.WAIT_UNTIL_VISIBLE})

    assert script.run(attempts=1) == FailedRequest(of(404), None, 3, final=True)
    assert script.time.slept == [0.5, 1.0]


def test_nothing_is_sent_when_the_look_before_it_took_the_time() -> None:
    """It could be carried out, and nobody would hear of it."""
    script = Script([of(503), of(200)], {503: Reaction.RETRY}, look_takes=60)

    assert script.run() == FailedRequest(of(503), None, 1, final=False)
    assert len(script.sent_at) == 1


STATED = {
    "the Date header": of(403, date="Fri, 02 Jan 2026 03:10:00 GMT"),
    "ServerTime in XML": of(
        403, b"<Error><ServerTime>2026-01-02T03:10:00.000Z</ServerTime></Error>"
    ),
    "ServerTime in JSON": of(403, b'{"Code": "x", "ServerTime": "2026-01-02T03:10:00Z"}'),
    "ServerTime before Date": of(
        403,
        b"<ServerTime>2026-01-02T03:10:00Z</ServerTime>",
        date="Fri, 02 Jan 2026 09:00:00 GMT",
    ),
    "ServerTime in another casing": of(403, b'{"serverTime": "2026-01-02t03:10:00z"}'),
    "ServerTime with an attribute": of(
        403, b"<Error><serverTime x='1'>\n 2026-01-02T03:10:00Z\n</serverTime></Error>"
    ),
    "ServerTime as a date": of(403, b"<ServerTime>Fri, 02 Jan 2026 03:10:00 GMT</ServerTime>"),
    "Date where ServerTime is years away": of(
        403,
        b"<ServerTime>2030-01-02T03:10:00Z</ServerTime>",
        date="Fri, 02 Jan 2026 03:10:00 GMT",
    ),
    "Date where ServerTime is none": of(
        403, b"<ServerTime>soon</ServerTime>", date="Fri, 02 Jan 2026 03:10:00 GMT"
    ),
}


@pytest.mark.parametrize("refusal", STATED.values(), ids=STATED)
def test_a_clock_is_corrected_once(refusal: Answer) -> None:
    """The next request is signed at once, with the service's time."""
    script = Script([refusal, of(200)], skewed=True)

    assert script.run() == 200
    assert script.sent_at == [START, datetime(2026, 1, 2, 3, 10, tzinfo=timezone.utc)]
    assert script.time.slept == []


@pytest.mark.parametrize(
    "refusal",
    [of(403), of(403, date="never"), of(403, date="Fri, 05 Jan 2029 03:04:05 GMT")],
    ids=["no time", "no date", "years away"],
)
def test_a_time_that_nobody_believes_corrects_nothing(refusal: Answer) -> None:
    """Then the answer counts as what its status says."""
    script = Script([refusal], {403: Reaction.GIVE_UP}, skewed=True)

    assert script.run() == FailedRequest(refusal, None, 1, final=True)


def test_a_clock_that_is_still_wrong_is_not_corrected_again() -> None:
    """A service that keeps refusing is not asked for ever."""
    refusal = STATED["the Date header"]

    ended = Script([refusal] * 3, {403: Reaction.GIVE_UP}, skewed=True).run()

    assert ended == FailedRequest(refusal, None, 2, final=True)


def test_after_its_correction_an_answer_counts_as_its_status_says() -> None:
    """Its words may only quote the name of a bucket, which may be `skewed-data`."""
    missing = of(404, date="Fri, 02 Jan 2026 03:04:05 GMT")
    script = Script([missing, missing, of(200)], {404: Reaction.WAIT_UNTIL_VISIBLE}, skewed=True)

    assert script.run() == 200
    assert script.time.slept == [0.5]


def test_new_credentials_are_tried_once() -> None:
    """A token may be renewed while a request is under way."""
    ring = KeyRing([Credentials("OLD", "OLDSECRET"), KEY])
    script = Script([of(401), of(200)], {401: Reaction.RENEW_CREDENTIALS}, ring=ring)

    assert script.run() == 200
    assert ring.readings == 2


def test_refused_credentials_are_discarded_before_new_ones_are_read() -> None:
    """Whoever keeps a key for a while has to know that it must not come again."""
    old, calls = Credentials("OLD", "OLDSECRET"), list[object]()

    def read() -> Credentials:
        calls.append("read")
        return KEY if old in calls else old

    invocation = invocation_of(FakeOssTables(), read_credentials=read)
    session = Session(invocation._replace(discard_credentials=calls.append))

    assert session.renew_credentials()
    assert calls == ["read", old, "read"]


def test_the_same_credentials_are_not_tried_again() -> None:
    """They would be refused again."""
    ended = Script([of(401)], {401: Reaction.RENEW_CREDENTIALS}).run()

    assert ended == FailedRequest(of(401), None, 1, final=True)


def test_before_a_repeat_the_value_may_be_found_elsewhere() -> None:
    """An answer that was lost may have been carried out."""
    script = Script([RESET], found=204)

    assert script.run() == 204
    assert len(script.sent_at) == 1


def test_a_request_that_is_only_signed_again_is_no_repeat() -> None:
    """The service refused it: nothing can have been carried out."""
    script = Script([STATED["the Date header"], of(200)], skewed=True, found=204)

    assert script.run() == 200


@pytest.mark.parametrize(
    ("code", "message", "wrong"),
    [
        ("RequestTimeTooSkewed", None, True),
        ("InvalidArgument", "Invalid signing date in Authorization header.", True),
        (None, "The difference between the request time and the current time is too large.", True),
        ("TimeExpired", None, True),
        ("AccessDenied", "No right.", False),
        (None, None, False),
    ],
)
def test_the_words_for_a_wrong_clock(code: str | None, message: str | None, wrong: bool) -> None:
    """Of OSS, of its signature version 4, and of SMQ."""
    assert is_clock_error(code, message) == wrong


def test_a_corrected_time_may_be_early_by_what_was_cut_off() -> None:
    """A service tells its time in whole seconds: until it does, now is the latest it can be."""
    session = Session(invocation_of(FakeOssTables()))
    before = session.latest() - session.now()

    assert session.correct_clock(of(403, date="Fri, 02 Jan 2026 04:04:05 GMT"))

    assert (before, session.latest() - session.now()) == (timedelta(), timedelta(seconds=1))
