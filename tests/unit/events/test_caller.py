"""Who made a call, as its event says: in one text that no value of the event can forge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.events import caller
from tests.unit.opened import ACCOUNT, event_of, to_bytes

ALICE = {
    "type": "ram-user",
    "principalId": "288153348682784898",
    "accountId": ACCOUNT,
    "userName": "alice",
}
ADDRESS = "203.0.113.9"
EVENT = {"eventName": "DeleteTableBucketEncryption", "sourceIpAddress": ADDRESS}


def by(**record: Any) -> str | None:
    """Who made the call of this record."""
    return caller(event_of(to_bytes({"id": "1", "data": EVENT | record})))


CALLERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a RAM user": ({"userIdentity": ALICE}, f"ram-user:alice of {ACCOUNT} from {ADDRESS}"),
    "a role": (
        {"userIdentity": ALICE | {"type": "assumed-role", "userName": "admin:session-1"}},
        f"assumed-role:admin:session-1 of {ACCOUNT} from {ADDRESS}",
    ),
    "a service": (
        {
            "userIdentity": {"type": "system", "userName": "ecs.aliyuncs.com"},
            "sourceIpAddress": "ecs.aliyuncs.com",
        },
        "system:ecs.aliyuncs.com of ? from ecs.aliyuncs.com",
    ),
    "no name, but a principal": (
        {"userIdentity": ALICE | {"userName": ""}},
        f"ram-user:288153348682784898 of {ACCOUNT} from {ADDRESS}",
    ),
    "numbers without quotes": (
        {"userIdentity": {"principalId": 2881533, "accountId": int(ACCOUNT)}},
        f"?:2881533 of {ACCOUNT} from {ADDRESS}",
    ),
    "JSON text": (
        {"userIdentity": json.dumps(ALICE)},
        f"ram-user:alice of {ACCOUNT} from {ADDRESS}",
    ),
    "an address alone": ({}, f"?:? of ? from {ADDRESS}"),
    "an identity alone": (
        {"userIdentity": ALICE, "sourceIpAddress": None},
        f"ram-user:alice of {ACCOUNT} from ?",
    ),
    "nothing": ({"sourceIpAddress": None}, None),
    "nothing that is a text": (
        {"userIdentity": {"type": [], "userName": {}, "accountId": True}, "sourceIpAddress": {}},
        None,
    ),
    "a name that forges the rest": (
        {"userIdentity": ALICE | {"userName": "bob of 99999 from 10.0.0.1"}},
        f'ram-user:"bob of 99999 from 10.0.0.1" of {ACCOUNT} from {ADDRESS}',
    ),
    "a name that steers a terminal": (
        {"userIdentity": ALICE | {"userName": "\x1b[2J\r\n\u202eecila\x7f"}},
        f'ram-user:"\\u001b[2J\\r\\n\\u202eecila\\u007f" of {ACCOUNT} from {ADDRESS}',
    ),
    "a name with quotes and backslashes": (
        {"userIdentity": ALICE | {"userName": 'a"b\\c'}},
        f'ram-user:"a\\"b\\\\c" of {ACCOUNT} from {ADDRESS}',
    ),
}


@pytest.mark.parametrize(("record", "expected"), CALLERS.values(), ids=CALLERS)
def test_a_caller_is_named_by_what_the_event_has(
    record: dict[str, Any], expected: str | None
) -> None:
    """Type, name, account and address, in any casing; what is missing is `?`."""
    assert by(**record) == expected


def test_a_long_name_does_not_push_out_the_address() -> None:
    """Each part has a length of its own, so that account and address are always there."""
    told = by(userIdentity=ALICE | {"userName": "a" * 500})

    assert told is not None
    assert told.startswith("ram-user:aaaa")
    assert told.endswith(f"... of {ACCOUNT} from {ADDRESS}")


ANYTHING = st.text() | st.text('\x00"\\ \u5f20', min_size=50) | st.integers() | st.none()


@given(kind=ANYTHING, name=ANYTHING, account=ANYTHING, address=ANYTHING)
def test_whatever_an_event_holds_a_caller_is_short_and_ascii(
    kind: object, name: object, account: object, address: object
) -> None:
    """It has at most 200 characters in a JSON line, and is never cut behind a part."""
    identity = {"type": kind, "userName": name, "accountId": account}

    told = by(userIdentity=identity, sourceIpAddress=address)

    if told is not None:
        assert told.isascii()
        assert len(json.dumps(told)) <= 200
        assert told.count(" of ") >= 1 <= told.count(" from ")
