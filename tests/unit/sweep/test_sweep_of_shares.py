"""The sweep function with more accounts than one call takes: who sweeps, and what is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from encryption_guard.enforcement.handler import shared_members
from encryption_guard.sweep.function import _memory, sweep
from encryption_guard.sweep.shares import Share
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    START,
    Broken,
    FakeOssTables,
    FakeService,
    Reply,
    forget_logger,
    invocation_of,
)
from tests.unit.services.rpc_service import refusal
from tests.unit.services.test_self_invocation import QUEUE, Functions

FIRST, SECOND = "2222222222222222", "3333333333333333"
TIMER = json.dumps({"triggerTime": START.isoformat(), "triggerName": "sweep", "payload": ""})
MINUTE = timedelta(minutes=1)
Lines = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def cold_instance() -> Iterator[None]:
    """Every test begins and ends as a fresh process would."""
    forget_logger()
    yield
    for cached in (_memory, shared_members):
        cached.cache_clear()
    forget_logger()


def swept(service: FakeService, payload: object, **variables: str) -> dict[str, Any]:
    environment = {
        "FC_FUNCTION_NAME": "oss-tables-encryption-sweep",
        "GUARD_DEAD_LETTER_QUEUE": QUEUE,
        "GUARD_WATCH_SECONDS": "0",
        "GUARD_ACCOUNTS": f"{FIRST},{SECOND}",
        "GUARD_ACCOUNTS_PER_SHARE": "2",
        **variables,
    }
    context = SimpleNamespace(region=REGION, request_id="1", function=SimpleNamespace(name="sweep"))
    return sweep(invocation_of(service, environment=environment), context, payload)


def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_timers_call_starts_a_call_for_each_share(capsys: pytest.CaptureFixture[str]) -> None:
    """It sweeps nothing itself, and says which accounts are in which share."""
    service = Functions()

    result = swept(service, TIMER)

    shares = [Share((ACCOUNT, SECOND), START), Share((FIRST,), START)]
    assert sorted(each.content for each in service.requests) == sorted(
        each.payload for each in shares
    )
    assert result["shares"] == {each.name: list(each.account_ids) for each in shares}
    assert (result["ok"], result["problems"], result["totals"]["buckets"]) == (True, [], 0)
    (line,) = lines(capsys)
    assert (line["level"], line["message"]) == ("INFO", "shares started")
    assert line["shares"] == result["shares"]


def test_a_share_that_is_not_started_is_one_finding(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are started; the next call of the timer starts it again."""
    service = Functions(troubles={"POST": [refusal(403, "AccessDenied", "no")]})

    result = swept(service, TIMER)

    assert len(service.requests) == 2
    assert [(each["kind"], each["reason"]) for each in result["problems"]] == [
        ("share", "not_started")
    ]
    assert result["totals"]["not_listed"] == 1
    assert [(line["level"], line["message"]) for line in lines(capsys)] == [
        ("WARNING", "sweep finding"),
        ("WARNING", "shares started"),
    ]


@pytest.mark.parametrize("payload", [TIMER, b"", b"{}"], ids=["timer", "empty", "by hand"])
def test_as_many_accounts_as_a_share_has_are_swept_at_once(payload: object) -> None:
    """Without a call of the function by itself, whoever called."""
    service = FakeOssTables({str(ARN): ""})

    result = swept(service, payload, GUARD_ACCOUNTS="", GUARD_ACCOUNTS_PER_SHARE="1")

    assert service.buckets == {str(ARN): "AES256"}
    assert "shares" not in result


def test_a_share_is_swept_by_the_call_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The result and the last line have its name and its accounts, so that it can be found."""
    service = FakeOssTables({str(ARN): ""})
    share = Share((ACCOUNT,), START - MINUTE)

    result = swept(service, share.payload)

    assert service.buckets == {str(ARN): "AES256"}
    assert (result["share"], result["ok"]) == (share.name, True)
    *_, end = lines(capsys)
    assert end["message"] == "sweep finished"
    assert (end["share"], end["accounts"]) == (share.name, [ACCOUNT])


class Dated(Functions):
    """STS and Function Compute by a clock that is so far from that of the instance."""

    def __init__(self, *, ahead: timedelta = timedelta()) -> None:
        super().__init__()
        self._ahead = ahead

    def answer(self, request: httpx.Request) -> Reply:
        if request.headers["x-acs-action"] == "InvokeFunction":
            return super().answer(request)
        date = format_datetime(self.time.now() + self._ahead, usegmt=True)
        return Reply(200, b'{"RequestId": "1"}', {"date": date})


@pytest.mark.parametrize(
    "service", [Dated(), Functions(troubles={"POST": [refusal(403, "NoPermission", "no")]})]
)
def test_a_share_that_comes_too_late_does_nothing(
    service: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one finding, and it does not fail: its dead letter would be no help to anybody."""
    share = Share((ACCOUNT,), START - MINUTE - timedelta(seconds=1))

    result = swept(service, share.payload)

    assert [each.url.host for each in service.requests] == ["sts.aliyuncs.com"]
    assert (result["share"], result["ok"]) == (share.name, False)
    assert [each["reason"] for each in result["problems"]] == ["superseded"]
    assert [(line["level"], line["message"]) for line in lines(capsys)] == [
        ("WARNING", "sweep finding"),
        ("WARNING", "share superseded"),
    ]


def test_a_timers_call_that_comes_too_late_starts_nothing() -> None:
    """Its shares would do nothing."""
    service = Dated()

    result = swept(service, EARLIER)

    assert [each.url.host for each in service.requests] == ["sts.aliyuncs.com"]
    assert [each["reason"] for each in result["problems"]] == ["superseded"]


EARLIER = json.dumps({"triggerTime": (START - 2 * MINUTE).isoformat()})


def test_a_clock_that_is_ahead_makes_nothing_late() -> None:
    """The timer called just now, by the clock of STS."""
    service = Dated(ahead=-2 * MINUTE)

    result = swept(service, EARLIER)

    assert (len(service.requests), result["problems"]) == (3, [])


def test_shares_that_cannot_be_started_in_time_are_reported_in_time() -> None:
    """A service that does not answer takes half a minute, and not the time-out of the function."""
    service = Functions(troubles={"POST": [Broken(httpx.ReadTimeout, takes=5.0)] * 1000})

    result = swept(service, TIMER, GUARD_ACCOUNTS_PER_SHARE="1")

    assert [each["reason"] for each in result["problems"]] == ["not_started"] * 3
    assert service.time.passed < 35


def test_an_account_that_the_settings_do_not_name_is_not_entered() -> None:
    """Whoever started the share: STS is not asked for its role, and the rest is swept."""
    service = FakeOssTables({str(ARN): ""})

    result = swept(service, Share((ACCOUNT, "9999999999999999"), START).payload)

    assert service.buckets == {str(ARN): "AES256"}
    assert {request.url.host for request in service.requests} == {
        f"{REGION}.oss-tables.aliyuncs.com"
    }
    assert [(each["account"], each["reason"]) for each in result["problems"]] == [
        ("9999999999999999", "not_prepared")
    ]


def test_each_account_has_its_own_full_sweeps() -> None:
    """An instance gets now this share and now that one."""
    service = FakeOssTables({str(ARN): "AES256"})
    share = Share((ACCOUNT,), START)
    nobody = Share(("9999999999999999",), START)

    full = [swept(service, each.payload)["full"] for each in (nobody, share, nobody, share)]

    assert full == [False, True, False, False]


@pytest.mark.parametrize(("waited", "lists"), [(0, 11), (30, 6), (58, 1)])
def test_the_watch_of_a_late_share_ends_before_the_next_share(waited: int, lists: int) -> None:
    """It makes up for nothing: the timer's next call starts another one for its accounts."""
    service = FakeOssTables({str(ARN): "AES256"})
    share = Share((ACCOUNT,), START - timedelta(seconds=waited))

    swept(service, share.payload, GUARD_WATCH_SECONDS="5")

    assert service.operations().count("ListTableBuckets") == lists
