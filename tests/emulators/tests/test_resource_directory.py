"""The emulated Resource Directory: its pages, its members and who may list them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.resource_directory import VERSION, Member, ResourceDirectory
from tests.emulators.tests.rpc_requests import Time, call, code, official_client

HUB = "1111111111111111"
KEY = AccessKey("AKID", "AKSECRET", HUB)
MEMBERS = [Member(f"22222222222222{number:02}") for number in range(12)]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def directory(time: Time) -> Iterator[ResourceDirectory]:
    with ResourceDirectory(KEY, manager=HUB, members=MEMBERS, clock=time) as service:
        yield service


def asked(
    directory: ResourceDirectory, time: Time, key: AccessKey = KEY, **query: str
) -> tuple[int, dict[str, Any]]:
    return call(directory, "ListAccounts", VERSION, query, now=time.now, key=key)


def ids(page: dict[str, Any]) -> list[str]:
    return [entry["AccountId"] for entry in page["Accounts"]["Account"]]


@pytest.mark.parametrize(
    ("account_id", "expected"),
    [
        (MEMBERS[0].account_id, (409, "NoPermission.ResourceDirectory.MemberAccount")),
        ("9999999999999999", (404, "EntityNotExists.ResourceDirectory")),
    ],
    ids=["a member", "a stranger"],
)
def test_the_list_is_for_the_manager_and_its_delegates(
    directory: ResourceDirectory, time: Time, account_id: str, expected: tuple[int, str]
) -> None:
    """A member and a stranger are refused, each in its way, until it is delegated to them."""
    key = replace(KEY, id="AKID2", account_id=account_id)
    directory.admit(key)
    refused = asked(directory, time, key)
    directory.delegated.add(account_id)

    assert code(refused) == expected
    assert asked(directory, time, key)[0] == 200


def test_a_right_that_is_missing_is_refused(directory: ResourceDirectory, time: Time) -> None:
    """Of the manager too, which is written down."""
    directory.admit(replace(KEY, allowed=frozenset()))

    assert code(asked(directory, time)) == (403, "NoPermission")
    assert directory.rights.missing == {(KEY.id, "resourcemanager:ListAccounts")}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (("MaxResults", "0"), "InvalidParameter.MaxResults"),
        (("MaxResults", "101"), "InvalidParameter.MaxResults"),
        (("MaxResults", "all"), "InvalidParameter.MaxResults"),
        (("NextToken", "made up"), "InvalidParameter.NextToken"),
    ],
)
def test_what_is_not_as_documented_is_refused(
    directory: ResourceDirectory, time: Time, query: tuple[str, str], expected: str
) -> None:
    """A page that is too large or too small, and a token of nobody."""
    answered = call(directory, "ListAccounts", VERSION, dict([query]), now=time.now, key=KEY)

    assert code(answered) == (400, expected)


# It asks for the time in a way that Python 3.12 warns of.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_official_client_is_answered() -> None:
    """Its own request is believed, with a token that has signs of a URL."""
    with ResourceDirectory(KEY, manager=HUB, members=MEMBERS) as directory:
        first = official_client(directory, "ListAccounts", VERSION, {"MaxResults": "5"}, key=KEY)[1]
        second = official_client(
            *(directory, "ListAccounts", VERSION, {"NextToken": first["NextToken"]}), key=KEY
        )[1]

    assert set(first["NextToken"]) & set(" /+=") == set(" /+=")
    assert ids(first) + ids(second) == [each.account_id for each in MEMBERS]
