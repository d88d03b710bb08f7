"""Shares: how accounts are split, what a payload may hold, and what happens to a late one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.errors import InvalidEvent, Unavailable
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.sweep.findings import Finding
from encryption_guard.sweep.shares import (
    Share,
    instant_of,
    read_share,
    split,
    start,
    superseded,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
ACCOUNTS = tuple(f"99000000000{number:05}" for number in range(200))
SHARE = Share(ACCOUNTS[:3], NOW)


@given(number=st.integers(1, 200), at_most=st.integers(1, 50))
def test_each_account_is_in_exactly_one_share(number: int, at_most: int) -> None:
    """There are as few shares as possible, and their sizes differ by one at most."""
    shares = split(ACCOUNTS[:number], at_most, NOW)

    sizes = [len(each.account_ids) for each in shares]
    assert sorted(account for each in shares for account in each.account_ids) == sorted(
        ACCOUNTS[:number]
    )
    assert max(sizes) <= at_most
    assert len(shares) == -(-number // at_most)
    assert max(sizes) - min(sizes) <= 1


def test_a_repeated_call_of_the_timer_makes_equal_shares() -> None:
    """Their names are equal too, and those of any other accounts or instant are not."""
    names = {each.name for each in split(ACCOUNTS, 10, NOW)}

    assert names == {each.name for each in split(ACCOUNTS, 10, NOW)}
    assert len(names) == 20
    assert not names & {each.name for each in split(ACCOUNTS, 10, NOW + timedelta(minutes=1))}


def test_a_share_is_read_from_its_own_payload() -> None:
    """As bytes, as text, and as what the platform has already parsed."""
    payload = SHARE.payload

    assert read_share(payload) == SHARE
    assert read_share(payload.decode()) == SHARE
    assert read_share(json.loads(payload)) == SHARE
    assert len(Share(ACCOUNTS * 5, NOW).payload) < 128 * 1024


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"not JSON",
        None,
        b'{"triggerTime": "2026-01-02T03:04:05Z", "triggerName": "sweep", "payload": ""}',
        b'[{"share": {}}]',
        b'{"share": "no object"}',
    ],
)
def test_any_other_payload_is_no_share(payload: object) -> None:
    """The timer's call, and one by hand."""
    assert read_share(payload) is None


def with_fields(**changed: object) -> bytes:
    fields = json.loads(SHARE.payload)["share"] | changed
    return json.dumps({"share": {k: v for k, v in fields.items() if v is not ...}}).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"version": ...},
        {"version": 0},
        {"version": "1"},
        {"version": None},
        {"accounts": ...},
        {"accounts": "12345"},
        {"accounts": [12345, 67890]},
        {"accounts": ["12345\n"]},
        {"accounts": ["../root"]},
        {"accounts": list(ACCOUNTS[1:4])},
        {"instant": ...},
        {"instant": "yesterday"},
        {"instant": (NOW + timedelta(seconds=1)).isoformat()},
        {"name": ...},
        {"name": "0" * 16},
    ],
    ids=str,
)
def test_a_share_that_no_function_started_is_refused(changed: dict[str, Any]) -> None:
    """Its name is the hash of what it holds, and none of its accounts is anything else."""
    with pytest.raises(InvalidEvent, match="is not one of this function"):
        read_share(with_fields(**changed))


def test_a_share_of_a_later_version_is_left_to_a_later_function() -> None:
    """The platform repeats it, and keeps it if no function of that version comes."""
    with pytest.raises(Unavailable, match=r"version 2.*knows version 1.*Deploy one version"):
        read_share(with_fields(version=2, accounts="of another form"))


@pytest.mark.parametrize(("age", "is_late"), [(-5, False), (0, False), (60, False), (61, True)])
def test_a_call_that_is_older_than_the_interval_is_superseded(age: int, is_late: bool) -> None:
    """The next call of the timer has started the same work; a clock may also be behind."""
    found = superseded(SHARE.title, SHARE.instant, NOW + timedelta(seconds=age))

    assert (found is not None) is is_late
    if found:
        assert (found.kind, found.reason, found.ok) == ("share", "superseded", False)
        assert f"The share {SHARE.name} of 3 accounts came 61 s after" in (found.detail or "")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"triggerTime": "2026-01-02T03:04:00Z"}', NOW.replace(second=0)),
        (b'{"triggerTime": "soon"}', NOW),
        (b"{}", NOW),
        (b"", NOW),
    ],
)
def test_the_instant_is_that_of_the_timer(payload: bytes, expected: datetime) -> None:
    """Or now, for a call by hand."""
    assert instant_of(payload, NOW) == expected


def test_every_share_is_started_and_each_failure_is_one_finding() -> None:
    """Whether it is refused or nothing is known about it; the others are started."""
    shares = split(ACCOUNTS[:40], 10, NOW)
    started: list[bytes] = []

    def invoke(payload: bytes) -> str:
        if payload == shares[1].payload:
            raise ApiRefused("No right.", status=403, code="AccessDenied")
        if payload == shares[2].payload:
            raise Unavailable("No answer.")
        started.append(payload)
        return "a request ID"

    findings = start(shares, invoke)

    assert sorted(started) == sorted([shares[0].payload, shares[3].payload])
    assert findings == [
        Finding.of_accounts(
            None,
            kind="share",
            reason="not_started",
            detail=f"The share {share.name} of 10 accounts was not started: {why} The timer's next"
            " call starts another one for its accounts.",
        )
        for share, why in ((shares[1], "No right."), (shares[2], "No answer."))
    ]
