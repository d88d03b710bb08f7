"""The accounts of a sweep: which they are, and what becomes of one that cannot be entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from encryption_guard.arn import Scope
from encryption_guard.credentials import Credentials
from encryption_guard.enforcement.members import Members
from encryption_guard.errors import NotPrepared, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.settings import Settings
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.accounts import (
    ASK_AGAIN_SECONDS,
    AccountEntries,
    NotEntered,
    SweptAccounts,
    accounts_of_share,
    accounts_to_sweep,
    enter_members,
    enter_own,
)
from encryption_guard.sweep.findings import Finding
from encryption_guard.sweep.watch import Pace
from tests.unit.fakes import (
    ACCOUNT,
    KEY,
    START,
    FakeOssTables,
    FakeTime,
    Reply,
    invocation_of,
)
from tests.unit.services.rpc_service import refusal
from tests.unit.services.test_directory import Directory, member, page
from tests.unit.sweep.watching import dead_letters_of

FIRST, SECOND = "2222222222222222", "3333333333333333"
HERE, THERE = "cn-hangzhou", "cn-shanghai"
NOT_PREPARED = NotPrepared("no role", account_id=FIRST, status=403, code="NoPermission")
REFUSED = ApiRefused("no key", status=404, code="InvalidAccessKeyId.NotFound")
TROUBLE = Unavailable("no answer")


# Which they are.


def no_members(_: Settings) -> Members:
    raise AssertionError("no other account is asked for")


def swept_by(invocation: Invocation, members: Members | None = None) -> SweptAccounts:
    opened: Callable[[Settings], Members] = (lambda _: members) if members else no_members
    return accounts_to_sweep(invocation, opened)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (ACCOUNT,)),
        ({"GUARD_ACCOUNTS": f"{SECOND},{FIRST}"}, (ACCOUNT, FIRST, SECOND)),
        ({"GUARD_ACCOUNTS": f"{ACCOUNT},{FIRST}"}, (ACCOUNT, FIRST)),
        ({"GUARD_ACCOUNTS": FIRST, "GUARD_ALLOWED_ACCOUNTS": FIRST}, (ACCOUNT,)),
        ({"GUARD_ALLOWED_ACCOUNTS": FIRST}, (ACCOUNT,)),
    ],
)
def test_listed_accounts_are_swept_beside_the_own_one(
    variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    """Without the directory; and what the own role reads is only the own account's list."""
    invocation = invocation_of(FakeOssTables(), environment=variables)

    assert swept_by(invocation) == SweptAccounts(expected)


def test_an_account_that_is_unknown_is_not_swept_as_an_own_one() -> None:
    """A function always knows its account; without it, only the listed ones are left."""
    invocation = invocation_of(FakeOssTables(), environment={"GUARD_ACCOUNTS": FIRST})
    invocation = invocation._replace(settings=invocation.settings._replace(account_id=None))

    assert swept_by(invocation) == SweptAccounts((FIRST,))


@dataclass
class Instance:
    """An instance whose time passes as a test says, in front of this directory."""

    directory: Directory = field(default_factory=lambda: Directory({"": page(member(FIRST))}))
    passed: timedelta = timedelta()

    def __post_init__(self) -> None:
        self.invocation = invocation_of(
            self.directory, environment={"GUARD_ACCOUNTS": "organization"}
        )
        self.members = Members(self.invocation.settings, now=lambda: START + self.passed)

    def swept(self) -> SweptAccounts:
        return swept_by(self.invocation, self.members)


def organization_finding(reason: str, detail: str) -> Finding:
    return Finding.of_accounts(ACCOUNT, kind="organization", reason=reason, detail=detail)


@pytest.mark.parametrize("status", [403, 503])
def test_a_sweep_goes_on_with_the_last_list(status: int) -> None:
    """Also with one that is too old for an event, and it says so."""
    instance = Instance()
    assert instance.swept() == SweptAccounts((ACCOUNT, FIRST))
    instance.passed += timedelta(hours=1)
    instance.directory.pages = {"": refusal(status, "NoPermission", "no")}

    accounts, (problem,) = instance.swept()

    assert accounts == (ACCOUNT, FIRST)
    assert problem == organization_finding("directory_unreadable", problem.detail or "")
    assert "This sweep knows the 2 accounts of the last list." in (problem.detail or "")


def test_without_a_last_list_the_own_account_is_swept() -> None:
    """An organization is never empty, and that it could not be listed is a problem."""
    instance = Instance(Directory({"": refusal(503, "ServiceUnavailable", "no")}))

    accounts, (problem,) = instance.swept()

    assert accounts == (ACCOUNT,)
    assert (problem.reason, problem.ok) == ("directory_unreadable", False)


def test_an_incomplete_list_takes_no_account_from_the_sweep() -> None:
    """Those of the last list count, too."""
    instance = Instance()
    instance.swept()
    instance.passed += timedelta(hours=1)
    repeated = page(member(SECOND), token="the same")
    instance.directory.pages = {"": repeated, "the same": repeated}

    for _ in range(2):
        accounts, problems = instance.swept()
        assert set(accounts) == {ACCOUNT, FIRST, SECOND}
        assert [problem.reason for problem in problems] == ["directory_incomplete"]
        instance.passed += timedelta(hours=1)

    instance.directory.pages = {"": page(member(SECOND))}
    assert instance.swept() == SweptAccounts((ACCOUNT, SECOND))


def test_a_share_has_only_accounts_of_the_list() -> None:
    """If the list lacks none of them, its problems are those of the timer's call."""
    problem = organization_finding("directory_incomplete", "Why.")
    listed = SweptAccounts((ACCOUNT, FIRST), (problem,))

    assert listed.of_share([FIRST]) == SweptAccounts((FIRST,))
    accounts, problems = listed.of_share([SECOND, FIRST])

    assert accounts == (FIRST,)
    assert problems == (
        replace(problem, detail="Why. Of the 2 accounts of its share it checks 1."),
    )


def test_an_account_that_joined_after_the_list_was_read_is_in_its_share() -> None:
    """The timer's call has a newer list than the instance that got the share."""
    instance = Instance()
    instance.swept()
    instance.directory.pages = {"": page(member(FIRST), member(SECOND))}

    found = accounts_of_share(instance.invocation, lambda _: instance.members, (FIRST, SECOND))

    assert found == SweptAccounts((FIRST, SECOND))
    assert len(instance.directory.requests) == 2


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ({"": page(member(FIRST))}, "not_prepared"),
        ({"": refusal(503, "ServiceUnavailable", "no")}, "directory_unreadable"),
    ],
)
def test_an_account_is_left_out_by_the_newest_list(pages: dict[str, Reply], reason: str) -> None:
    """Which may be unreadable meanwhile: then nobody knows whether the account has left."""
    instance = Instance()
    instance.swept()
    instance.directory.pages = pages

    found = accounts_of_share(instance.invocation, lambda _: instance.members, (FIRST, SECOND))

    assert found.account_ids == (FIRST,)
    assert [each.reason for each in found.problems] == [reason]


def test_an_account_of_a_share_that_left_is_not_prepared() -> None:
    """Its role is not taken, whatever that account allows."""
    accounts, (problem,) = SweptAccounts((ACCOUNT, FIRST)).of_share([SECOND, ACCOUNT])

    assert accounts == (ACCOUNT,)
    assert (problem.kind, problem.scope.account_id, problem.reason, problem.ok) == (
        *("account", SECOND, "not_prepared"),
        False,
    )
    assert SECOND in (problem.detail or "")


def test_a_directory_that_hangs_leaves_time_for_the_sweep() -> None:
    """Of a minute, it takes no more than some seconds."""
    instance = Instance(Directory({"": replace(page(), takes=60.0)}))

    _, (problem,) = instance.swept()

    assert problem.reason == "directory_unreadable"
    assert 0 < instance.directory.time.passed <= 10


# How they are entered.


def test_only_another_account_opens_the_members() -> None:
    """The own one is entered as it is."""
    invocation = invocation_of(FakeOssTables())

    assert enter_members(no_members, invocation.settings)(ACCOUNT, invocation) is invocation
    assert enter_own(FIRST, invocation) is invocation
    members = Members(invocation.settings)
    entered = enter_members(lambda _: members, invocation.settings)(FIRST, invocation)
    assert entered.settings.account_id == FIRST


@dataclass
class Gatekeeper:
    """Enters accounts, but for those of which the next errors are told; counts who asks."""

    errors: dict[str, list[NotEntered]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    time: FakeTime = field(default_factory=FakeTime)

    def __post_init__(self) -> None:
        self.invocation = invocation_of(FakeOssTables(time=self.time))
        self.entries = AccountEntries(self.enter_account, self.time.monotonic)

    def enter_account(self, account_id: str, invocation: Invocation) -> Invocation:
        def read() -> Credentials:
            self.asked.append(account_id)
            if errors := self.errors.get(account_id):
                raise errors.pop(0)
            return KEY

        return invocation._replace(read_credentials=read)

    def enters(self, account_id: str, region: str = HERE, **how: Any) -> bool:
        """Whether a step of this scope may run; else it is left out."""
        scope = Scope(account_id, region)
        try:
            self.entries.enter(scope, self.invocation, **{"asks_again": False} | how)
        except (NotPrepared, ApiRefused, Unavailable) as error:
            self.entries.leave_out(scope, error)
            return False
        return True


@pytest.mark.parametrize(
    ("error", "reason"),
    [(NOT_PREPARED, "not_prepared"), (REFUSED, "refused"), (TROUBLE, "unavailable")],
)
def test_an_account_that_cannot_be_entered_is_asked_once(error: NotEntered, reason: str) -> None:
    """All its regions together are one finding, and no other account is concerned."""
    keeper = Gatekeeper({FIRST: [error]})

    entered = [keeper.enters(each, region) for each in (FIRST, SECOND) for region in (HERE, THERE)]

    assert entered == [False, False, True, True]
    assert keeper.asked == [FIRST, SECOND, SECOND]
    (finding,) = keeper.entries.findings()
    found = (finding.kind, finding.scope, finding.reason, finding.detail, finding.ok)
    assert found == ("account", Scope(FIRST, ""), reason, str(error), False)
    assert finding.status == getattr(error, "status", None)


@pytest.mark.parametrize(
    ("error", "seconds", "is_entered"),
    [
        (TROUBLE, ASK_AGAIN_SECONDS, True),
        (TROUBLE, ASK_AGAIN_SECONDS - 0.1, False),
        (NOT_PREPARED, 600.0, False),
        (REFUSED, 600.0, False),
    ],
)
def test_only_a_watch_asks_again_and_only_after_trouble(
    error: NotEntered, seconds: float, is_entered: bool
) -> None:
    """Some seconds later; an operator does not correct a role within a sweep."""
    keeper = Gatekeeper({FIRST: [error]})
    assert not keeper.enters(FIRST)
    keeper.time.passed += seconds

    assert not keeper.enters(FIRST)
    assert keeper.enters(FIRST, asks_again=True) is is_entered
    assert keeper.entries.is_final(Scope(FIRST, HERE)) is not isinstance(error, Unavailable)


def test_what_a_watch_lists_again_is_no_finding() -> None:
    """But what it has not listed again is one."""
    keeper = Gatekeeper({FIRST: [TROUBLE]})
    assert not keeper.enters(FIRST, HERE)
    assert not keeper.enters(FIRST, THERE)
    keeper.entries.list_again(Scope(FIRST, HERE))

    assert [finding.reason for finding in keeper.entries.findings()] == ["unavailable"]
    keeper.entries.list_again(Scope(FIRST, THERE))
    assert keeper.entries.findings() == []


def test_an_own_account_is_no_account_to_enter() -> None:
    """Neither one that is unknown nor the own one asks for a key here."""
    time = FakeTime()
    entries = AccountEntries(enter_own, time.monotonic)
    invocation = invocation_of(FakeOssTables(time=time))

    for account_id in (None, ACCOUNT):
        scope = Scope(account_id, HERE)
        assert entries.enter(scope, invocation, asks_again=False) is invocation
        assert not entries.is_final(scope)


def test_a_key_that_is_refused_later_closes_the_account() -> None:
    """The rest of the sweep leaves it out."""
    keeper = Gatekeeper()
    assert keeper.enters(FIRST)

    keeper.entries.leave_out(Scope(FIRST, HERE), NOT_PREPARED)

    assert not keeper.enters(FIRST, THERE)
    assert [finding.reason for finding in keeper.entries.findings()] == ["not_prepared"]


# What a sweep makes of it.


def swept(
    service: FakeOssTables,
    read: Callable[[], Credentials],
    *regions: str,
    watch: Pace | None = None,
) -> list[Finding]:
    """The findings of a sweep of the account FIRST, whose key `read` returns."""
    found: list[Finding] = []
    invocation = invocation_of(service)
    settings = invocation.settings._replace(account_id=FIRST)
    Sweep(
        invocation=invocation,
        dead_letters=dead_letters_of(service),
        apply=True,
        audit="false",
        report=found.append,
        watch=watch,
        workers=1,
        enter_account=lambda _, own: own._replace(read_credentials=read, settings=settings),
    ).check_buckets(Scope(FIRST, region) for region in regions)
    return found


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_sweep_reports_the_account_and_not_its_regions(is_watched: bool) -> None:
    """A watch of such an account ends at once."""
    service = FakeOssTables({})
    start = service.time.monotonic()

    def read() -> Credentials:
        raise NOT_PREPARED

    watch = Pace(5, start, start + 50) if is_watched else None
    found = swept(service, read, HERE, THERE, watch=watch)

    assert [(each.kind, each.reason) for each in found] == [("account", "not_prepared")]
    assert service.requests == []


def test_a_role_that_is_taken_away_within_a_sweep_ends_it_for_the_account() -> None:
    """The service says that the key has expired, and STS gives no other."""
    service = FakeOssTables({}, expired=[KEY.access_key_id])
    keys = [KEY, KEY]

    def read() -> Credentials:
        if not keys:
            raise NOT_PREPARED
        return keys.pop()

    found = swept(service, read, HERE)

    assert [(each.kind, each.reason) for each in found] == [("account", "not_prepared")]
    assert len(service.requests) == 1
