"""The members of the organization: how long their list is kept, and as whom they are entered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from encryption_guard.enforcement.members import Members
from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.settings import Settings
from tests.unit.fakes import ACCOUNT, START, invocation_of
from tests.unit.services.rpc_service import refusal
from tests.unit.services.test_directory import Directory, member, page

FIRST, SECOND, ALLOWED = "2222222222222222", "3333333333333333", "4444444444444444"
SETTINGS = Settings(
    account_id=ACCOUNT, accounts="organization", allowed_accounts=frozenset({ALLOWED})
)


class Instance:
    """An instance whose time passes as a test says; its directory lists these accounts."""

    def __init__(self, *account_ids: str) -> None:
        self.passed = timedelta()
        self.directory = Directory({})
        self.lists(account_ids)
        self.members = Members(SETTINGS, now=self.now)

    def now(self) -> datetime:
        return START + self.passed

    def lists(self, account_ids: Iterable[str], token: str = "") -> None:
        """What the directory answers from now on; with a token, the list never ends."""
        answer = page(*map(member, account_ids), token=token)
        self.directory.pages = {"": answer, token: answer}

    def invocation(self) -> Invocation:
        return invocation_of(self.directory)._replace(settings=SETTINGS)

    def has(self, account_id: str) -> bool:
        return account_id in self.members.list_with(account_id, self.invocation())


@pytest.mark.parametrize(("minutes", "asked"), [(0, 1), (9.99, 1), (10, 2), (-1, 2)], ids=str)
def test_a_list_is_kept_for_ten_minutes(minutes: float, asked: int) -> None:
    """An event of a member asks the directory once in that time, and if the clock is set back."""
    instance = Instance(FIRST)
    assert instance.has(FIRST)
    instance.passed += timedelta(minutes=minutes)

    assert instance.has(FIRST)
    assert len(instance.directory.requests) == asked


@pytest.mark.parametrize(("seconds", "is_found"), [(59, False), (60, True)])
def test_an_account_that_has_just_joined_is_looked_for_again(seconds: int, is_found: bool) -> None:
    """A stranger costs at most one request a minute, and a new member waits no ten minutes."""
    instance = Instance(FIRST)
    assert not instance.has(SECOND)
    instance.lists([FIRST, SECOND])
    instance.passed += timedelta(seconds=seconds)

    assert instance.has(SECOND) is is_found


@pytest.mark.parametrize("status", [403, 503])
def test_a_directory_that_cannot_be_read_decides_nothing(status: int) -> None:
    """Not even by a list that is too old: the platform delivers the event again."""
    instance = Instance(FIRST)
    assert instance.has(FIRST)
    instance.passed += timedelta(minutes=10)
    instance.directory.pages = {"": refusal(status, "NoPermission", "no")}

    with pytest.raises(Unavailable):
        instance.has(FIRST)
    assert instance.members.known_accounts == (ACCOUNT, FIRST)


def test_an_incomplete_list_denies_nobody() -> None:
    """Who is in it is a member; whether anybody else is one, it does not tell."""
    instance = Instance()
    instance.lists([FIRST], token="the same")

    assert instance.has(FIRST)
    with pytest.raises(Unavailable, match=f"account {SECOND} is in the organization. The list of"):
        instance.has(SECOND)


def test_without_another_clock_it_is_the_machines() -> None:
    """A list that has just been read is kept."""
    instance = Instance(FIRST)
    instance.members = Members(SETTINGS)

    assert instance.has(FIRST)
    assert instance.has(FIRST)
    assert len(instance.directory.requests) == 1


def test_nothing_is_listed_before_it_is_asked_for() -> None:
    """A fresh instance remembers no list."""
    assert Instance(FIRST).members.known_accounts == ()


@pytest.mark.parametrize("account_id", [ACCOUNT, ALLOWED])
def test_the_guards_own_accounts_are_entered_as_they_are(account_id: str) -> None:
    """Its own role acts there, and no setting changes."""
    instance = Instance()
    invocation = instance.invocation()

    assert instance.members.enter(account_id, invocation) is invocation


def test_in_a_members_account_no_other_account_counts() -> None:
    """Its credentials are for its own buckets, so nobody else's are allowed with them."""
    instance = Instance()

    entered = instance.members.enter(FIRST, instance.invocation())

    allowed = (
        entered.settings.account_id,
        entered.settings.accounts,
        entered.settings.allowed_accounts,
    )
    assert allowed == (FIRST, frozenset(), frozenset())
