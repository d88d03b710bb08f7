"""Whose key is used in which account, how long, and how often a role is taken for it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.errors import NotPrepared, Unavailable
from encryption_guard.invocation import Invocation, TimeBudget
from encryption_guard.services.member_keys import MemberKeys
from encryption_guard.services.sts import AssumedRole
from tests.unit.fakes import ACCOUNT, KEY, FakeOssTables, FakeTime, invocation_of

FIRST, SECOND = "2222222222222222", "3333333333333333"
ALLOWED = "9999999999999999"
PATIENCE = 10.0


@dataclass
class Roles:
    """STS, which gives every account a new key each time; `failing` come first, by account."""

    time: FakeTime = field(default_factory=FakeTime)
    lasts: timedelta = timedelta(hours=1)
    # How far the clock of STS is ahead of the guard's.
    ahead: timedelta = timedelta()
    failing: dict[str, list[Exception]] = field(default_factory=dict)
    before: Callable[[str], object] = lambda _account_id: None
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def assume(self, _invocation: Invocation, account_id: str) -> AssumedRole:
        with self.lock:
            self.calls.append(account_id)
            number = self.calls.count(account_id)
            errors = self.failing.get(account_id)
            error = errors.pop(0) if errors else None
        self.before(account_id)
        if error:
            raise error
        credentials = Credentials(f"STS.{account_id}.{number}", "a-secret", "a-token")
        return AssumedRole(credentials, self.time.now() + self.ahead + self.lasts)

    def keys(self) -> MemberKeys:
        return MemberKeys({ACCOUNT, ALLOWED}, assume=self.assume, now=self.time.now)


@dataclass
class Guard:
    """An instance: its keys, and an invocation that enters accounts with them."""

    roles: Roles
    keys: MemberKeys
    invocation: Invocation

    def key(self, account_id: str) -> str:
        """The id of the key for an account, as a request reads it."""
        return self.keys.enter(account_id, self.invocation).read_credentials().access_key_id

    def refuse(self, account_id: str, key_id: str) -> None:
        """A service says that this key has expired."""
        refused = Credentials(key_id, "a-secret", "a-token")
        self.keys.enter(account_id, self.invocation).discard_credentials(refused)


def guard_of(roles: Roles, *, seconds: float = 60.0) -> Guard:
    service = FakeOssTables(time=roles.time)
    return Guard(roles, roles.keys(), invocation_of(service, seconds=seconds))


@pytest.fixture
def guard() -> Guard:
    return guard_of(Roles())


def not_prepared() -> NotPrepared:
    return NotPrepared("refused.", account_id=FIRST, status=403, code="NoPermission")


# Whose key.


@pytest.mark.parametrize("account_id", [ACCOUNT, ALLOWED])
def test_the_guards_own_accounts_get_its_own_key(guard: Guard, account_id: str) -> None:
    """The invocation is the same one, and STS is not called."""
    assert guard.keys.enter(account_id, guard.invocation) is guard.invocation
    assert guard.key(account_id) == KEY.access_key_id
    assert guard.roles.calls == []


def test_each_other_account_gets_its_own_role(guard: Guard) -> None:
    """The role is taken with the first request, and the rest of the invocation stays."""
    entered = guard.keys.enter(FIRST, guard.invocation)

    assert guard.roles.calls == []
    assert entered.read_credentials().access_key_id == f"STS.{FIRST}.1"
    assert guard.key(SECOND) == f"STS.{SECOND}.1"
    assert entered.transport is guard.invocation.transport
    assert entered.settings is guard.invocation.settings


def test_the_role_is_taken_with_the_credentials_of_the_invocation_that_asks() -> None:
    """An instance outlives the key of its own role."""
    seen: list[Invocation] = []
    time = FakeTime()

    def assume(invocation: Invocation, account_id: str) -> AssumedRole:
        seen.append(invocation)
        return Roles(time).assume(invocation, account_id)

    keys = MemberKeys((), assume=assume, now=time.now)
    first, second = guard_of(Roles(time)).invocation, guard_of(Roles(time)).invocation
    keys.enter(FIRST, first).read_credentials()
    keys.enter(SECOND, second).read_credentials()

    assert [each is known for each, known in zip(seen, (first, second), strict=True)] == [True] * 2


def test_no_key_is_shown(guard: Guard) -> None:
    """Neither the class nor an invocation that uses it prints a key or a secret."""
    entered = guard.keys.enter(FIRST, guard.invocation)
    entered.read_credentials()

    shown = f"{guard.keys!r} {entered!r}"
    assert not [secret for secret in ("a-secret", "a-token", f"STS.{FIRST}") if secret in shown]


# How long.


def test_a_key_is_kept_until_five_minutes_before_it_expires(guard: Guard) -> None:
    """Up to then no request asks STS; from then on the next one does."""
    keys = [guard.key(FIRST)]
    guard.roles.time.passed += 55 * 60 - 1
    keys.append(guard.key(FIRST))
    guard.roles.time.passed += 1
    keys.append(guard.key(FIRST))

    assert keys == [f"STS.{FIRST}.{number}" for number in (1, 1, 2)]


@pytest.mark.parametrize(
    ("ahead", "minutes"),
    [(timedelta(hours=-9), 1), (timedelta(hours=9), 55), (timedelta(minutes=-59), 1)],
    ids=["behind", "ahead", "nearly an hour behind"],
)
def test_a_clock_that_is_wrong_neither_floods_sts_nor_keeps_a_key_too_long(
    ahead: timedelta, minutes: int
) -> None:
    """A key is kept for a minute at least, and never beyond the hour that was asked for."""
    guard = guard_of(Roles(ahead=ahead))
    keys = [guard.key(FIRST)]
    guard.roles.time.passed += minutes * 60 - 1
    keys.append(guard.key(FIRST))
    guard.roles.time.passed += 1
    keys.append(guard.key(FIRST))

    assert keys == [f"STS.{FIRST}.{number}" for number in (1, 1, 2)]


def test_a_key_that_is_refused_as_expired_is_replaced_at_once(guard: Guard) -> None:
    """Once: the key that replaced it stays, whoever else was refused with the old one."""
    first = guard.key(FIRST)
    other = guard.key(SECOND)
    guard.refuse(FIRST, first)
    second = guard.key(FIRST)
    guard.refuse(FIRST, first)
    guard.refuse(SECOND, first)

    assert (second, guard.key(FIRST)) == (f"STS.{FIRST}.2",) * 2
    assert guard.key(SECOND) == other


def test_what_is_refused_before_any_key_is_nothing(guard: Guard) -> None:
    """A key of an earlier instance changes nothing."""
    guard.refuse(FIRST, "STS.of-another-instance")

    assert guard.key(FIRST) == f"STS.{FIRST}.1"


# What fails.


@pytest.mark.parametrize("error", [not_prepared(), Unavailable("throttled")])
def test_an_error_reaches_the_request_and_is_forgotten(error: Exception) -> None:
    """The next request tries again: an operator may have prepared the account meanwhile."""
    guard = guard_of(Roles(failing={FIRST: [error]}))

    with pytest.raises(type(error)) as caught:
        guard.key(FIRST)

    assert caught.value is error
    assert guard.key(FIRST) == f"STS.{FIRST}.2"


def test_a_key_that_is_still_good_outlives_an_sts_that_fails(guard: Guard) -> None:
    """STS is asked again a minute later; after its end the key is not used."""
    guard.key(FIRST)
    guard.roles.time.passed += 56 * 60
    guard.roles.failing[FIRST] = [Unavailable("throttled") for _ in range(3)]
    keys = [guard.key(FIRST) for _ in range(3)]
    asked = len(guard.roles.calls)
    guard.roles.time.passed += 60
    keys.append(guard.key(FIRST))
    guard.roles.time.passed += 3 * 60

    assert keys == [f"STS.{FIRST}.1"] * 4
    assert asked == 2
    with pytest.raises(Unavailable):
        guard.key(FIRST)
    assert guard.key(FIRST) == f"STS.{FIRST}.5"


def test_a_key_is_not_used_once_its_role_may_not_be_taken(guard: Guard) -> None:
    """Whoever took the guard out of the trust policy wants it out now."""
    guard.key(FIRST)
    guard.roles.time.passed += 56 * 60
    guard.roles.failing[FIRST] = [not_prepared()]

    with pytest.raises(NotPrepared):
        guard.key(FIRST)


def test_a_refused_key_does_not_come_back_when_sts_fails(guard: Guard) -> None:
    """The service knows better than the expiry that STS stated."""
    guard.refuse(FIRST, guard.key(FIRST))
    guard.roles.failing[FIRST] = [Unavailable("throttled")]

    with pytest.raises(Unavailable):
        guard.key(FIRST)


# Threads.


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads interrupt each other as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Waiters:
    """STS does not answer for an account until so many threads wait for another one's call."""

    def __init__(self, account_id: str, number: int) -> None:
        self._account_id = account_id
        self._all_wait = threading.Barrier(number + 1)
        self.entered = threading.Event()

    def before(self, account_id: str) -> None:
        """What STS does before it answers."""
        if account_id == self._account_id:
            self.entered.set()
            self._all_wait.wait(PATIENCE)

    def among(self, invocation: Invocation) -> Invocation:
        """An invocation whose budget is read once by each thread that is about to wait."""

        def monotonic() -> float:
            self._all_wait.wait(PATIENCE)
            return invocation.clock.monotonic()

        clock = invocation.clock._replace(monotonic=monotonic)
        budget = TimeBudget(invocation.clock.monotonic() + 60, invocation.clock)
        return invocation._replace(clock=clock, budget=budget)


def asked_at_once(roles: Roles, others: int) -> list[object]:
    """What one thread gets, and what those get that wait for its call; meanwhile STS is slow."""
    waiters = Waiters(FIRST, others)
    roles.before = waiters.before
    guard = guard_of(roles)
    entered = guard.keys.enter(FIRST, waiters.among(guard.invocation))
    with ThreadPoolExecutor(others + 1) as pool:
        asked = [pool.submit(guard.keys.enter(FIRST, guard.invocation).read_credentials)]
        assert waiters.entered.wait(PATIENCE)
        # A thread that is in another account is served meanwhile.
        assert guard.key(SECOND) == f"STS.{SECOND}.1"
        asked += [pool.submit(entered.read_credentials) for _ in range(others)]
        return [each.exception(PATIENCE) or each.result().access_key_id for each in asked]


@pytest.mark.usefixtures("eager_switches")
def test_threads_of_an_account_share_one_call_and_others_do_not_wait() -> None:
    """While STS is slow for one account, the key of another one is there at once."""
    roles = Roles()

    assert asked_at_once(roles, 8) == [f"STS.{FIRST}.1"] * 9
    assert Counter(roles.calls) == {FIRST: 1, SECOND: 1}


@pytest.mark.parametrize("error", [not_prepared(), Unavailable("throttled"), KeyError("a defect")])
def test_threads_of_an_account_share_its_error(error: Exception) -> None:
    """A refusal is not asked for by each thread, and none of them waits for ever."""
    roles = Roles(failing={FIRST: [error]})

    assert asked_at_once(roles, 3) == [error] * 4
    assert Counter(roles.calls) == {FIRST: 1, SECOND: 1}


def test_a_thread_does_not_wait_beyond_its_time() -> None:
    """The call goes on for the thread that made it."""
    opened, entered = threading.Event(), threading.Event()

    def before(_account_id: str) -> None:
        entered.set()
        assert opened.wait(PATIENCE)

    guard = guard_of(Roles(before=before))
    late = guard.keys.enter(FIRST, guard.invocation.within(0))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(guard.key, FIRST)
        assert entered.wait(PATIENCE)
        with pytest.raises(Unavailable, match=f"account {FIRST} in time"):
            late.read_credentials()
        opened.set()

        assert first.result(PATIENCE) == f"STS.{FIRST}.1"


ACCOUNTS = (FIRST, SECOND, "4444444444444444", ACCOUNT)
STEPS = st.lists(
    st.tuples(st.sampled_from(("read", "refuse", "wait")), st.sampled_from(ACCOUNTS)),
    min_size=1,
    max_size=12,
)


@dataclass
class Watched(Roles):
    """STS, which notes how many calls for one account were made at the same time."""

    running: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def __post_init__(self) -> None:
        self.before = self._pause

    def _pause(self, account_id: str) -> None:
        with self.lock:
            self.running[account_id] += 1
            self.most = max(self.most, self.running[account_id])
        threading.Event().wait(0.0005)
        with self.lock:
            self.running[account_id] -= 1


def walk(guard: Guard, steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The accounts that one thread entered, each with the id of the key that it got.

    A key that it has refused does not come back to it.
    """
    got: list[tuple[str, str]] = []
    for step, account_id in steps:
        if step == "wait":
            guard.roles.time.passed += 20 * 60
        key_id = guard.key(account_id)
        if step == "refuse" and account_id != ACCOUNT:
            guard.refuse(account_id, key_id)
            assert guard.key(account_id) != key_id
        got.append((account_id, key_id))
    return got


@pytest.mark.usefixtures("eager_switches")
@settings(max_examples=30, deadline=None)
@given(walks=st.lists(STEPS, min_size=2, max_size=6))
def test_no_thread_ever_gets_the_key_of_another_account(walks: list[list[tuple[str, str]]]) -> None:
    """Whatever expires or is refused meanwhile, and one call for an account at a time."""
    roles = Watched()
    guard = guard_of(roles, seconds=1e6)
    with ThreadPoolExecutor(len(walks)) as pool:
        found = [pair for got in pool.map(walk, [guard] * len(walks), walks) for pair in got]

    wrong = [
        (account_id, key_id)
        for account_id, key_id in found
        if not (key_id == KEY.access_key_id if account_id == ACCOUNT else account_id in key_id)
    ]
    assert wrong == []
    assert roles.most <= 1
