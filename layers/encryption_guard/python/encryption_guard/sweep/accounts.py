"""The accounts of a sweep: which they are, and how each one is entered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from encryption_guard.arn import Scope
from encryption_guard.enforcement.policy import KEEP_LIST, own_accounts
from encryption_guard.errors import NotPrepared, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.settings import ORGANIZATION, Settings
from encryption_guard.sweep.findings import Finding

if TYPE_CHECKING:
    from encryption_guard.enforcement.members import Members

# While STS fails, a watch asks it again for an account after this time.
ASK_AGAIN_SECONDS = 5.0
# A directory that does not answer must not take the time of the sweep.
LIST_SECONDS = 10.0

# Returns an invocation as one of another account.
Enter = Callable[[str, Invocation], Invocation]
NotEntered = NotPrepared | ApiRefused | Unavailable


class SweptAccounts(NamedTuple):
    """The accounts that a sweep enters, the own one first, and what is wrong with their list."""

    account_ids: tuple[str, ...]
    problems: tuple[Finding, ...] = ()

    def of_share(self, account_ids: Sequence[str]) -> SweptAccounts:
        """Return those of a share. What a payload names and this list lacks is not entered.

        The timer's call, which has started the share, reports the problems of the list.
        """
        known = tuple(each for each in account_ids if each in self.account_ids)
        lacking = [each for each in account_ids if each not in self.account_ids]
        problems = self.problems if lacking else ()
        if lacking and problems:
            covers = f" Of the {len(account_ids)} accounts of its share it checks {len(known)}."
            problems = tuple(replace(each, detail=f"{each.detail}{covers}") for each in problems)
        elif lacking:
            problems = tuple(map(_left, lacking))
        return SweptAccounts(known, problems)


def accounts_of_share(
    invocation: Invocation, members: Callable[[Settings], Members], account_ids: Sequence[str]
) -> SweptAccounts:
    """Return the accounts of a share that the guard may enter.

    The timer's call may have read the directory later than this instance has, so the directory is
    read again before an account is left out.
    """
    known = accounts_to_sweep(invocation, members)
    if not known.problems and not {*account_ids} <= {*known.account_ids}:
        known = accounts_to_sweep(invocation, members, at_most=timedelta())
    return known.of_share(account_ids)


def accounts_to_sweep(
    invocation: Invocation,
    members: Callable[[Settings], Members],
    *,
    at_most: timedelta = KEEP_LIST,
) -> SweptAccounts:
    """Return the own account and those of GUARD_ACCOUNTS; reads the directory only if it has to.

    A list of the directory may be `at_most` so old. If it cannot be read, or only in part, the
    accounts of the last list count, too.
    """
    settings = invocation.settings
    listed: Iterable[str]
    if settings.accounts == ORGANIZATION:
        listed, problems = _organization(invocation, members(settings), at_most)
    else:
        listed, problems = sorted(settings.accounts), ()
    own = [settings.account_id] if settings.account_id else []
    # A list that the own role reads in an allowed account would be that of the own account.
    others = [each for each in listed if each not in own_accounts(settings)]
    return SweptAccounts(tuple(dict.fromkeys(own + others)), problems)


def _left(account_id: str) -> Finding:
    why = (
        f"Account {account_id} is not in GUARD_ACCOUNTS or in the organization any more, so the"
        " guard does not take its role."
    )
    return Finding.of_accounts(account_id, kind="account", reason="not_prepared", detail=why)


def _organization(
    invocation: Invocation, members: Members, at_most: timedelta
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    problem = partial(Finding.of_accounts, invocation.settings.account_id, kind="organization")
    try:
        listed = members.list(invocation.within(LIST_SECONDS), at_most=at_most)
    except (ApiRefused, Unavailable) as error:
        last = members.known_accounts
        known = f"the {len(last)} accounts of the last list" if last else "its own account alone"
        why = f"{error} This sweep knows {known}."
        return last, (problem(reason="directory_unreadable", detail=why),)
    incomplete = tuple(
        problem(reason="directory_incomplete", detail=why) for why in listed.problems
    )
    return members.known_accounts, incomplete


def enter_own(account_id: str, invocation: Invocation) -> Invocation:  # noqa: ARG001  as an `Enter`
    """Return the invocation as it is: the sweep has no other account."""
    return invocation


def enter_members(members: Callable[[Settings], Members], settings: Settings) -> Enter:
    """Return a function that enters the accounts of members, and opens those when it has to."""
    own = own_accounts(settings)

    def enter(account_id: str, invocation: Invocation) -> Invocation:
        if account_id in own:
            return invocation
        return members(settings).enter(account_id, invocation)

    return enter


class _Closed(NamedTuple):
    """Why an account was not entered, and when."""

    error: NotEntered
    at: float


@dataclass(frozen=True, slots=True)
class AccountEntries:
    """Enters the accounts of one sweep, for all its threads.

    One that cannot be entered is one finding, and is not asked again within the sweep. If only STS
    failed, a list of a watch may ask again.
    """

    enter_account: Enter
    monotonic: Callable[[], float]
    _closed: dict[str, _Closed] = field(default_factory=dict)
    # Of each scope of which a step did not run, the last error.
    _left_out: dict[Scope, NotEntered] = field(default_factory=dict)
    _locks: dict[str, Lock] = field(default_factory=dict)

    def enter(self, scope: Scope, invocation: Invocation, *, asks_again: bool) -> Invocation:
        """Return the invocation with the credentials for an account.

        Raises what `sts.assume_role` raises, or has raised for this account.
        """
        account_id = scope.account_id
        entered = self.enter_account(account_id, invocation) if account_id else invocation
        if account_id is None or entered is invocation:
            return invocation
        with self._locks.setdefault(account_id, Lock()):
            closed = self._closed.get(account_id)
            if closed and not (asks_again and self._may_ask_again(closed)):
                raise closed.error
            try:
                entered.read_credentials()
            except (NotPrepared, ApiRefused, Unavailable) as error:
                self._closed[account_id] = _Closed(error, self.monotonic())
                raise
            self._closed.pop(account_id, None)
        return entered

    def _may_ask_again(self, closed: _Closed) -> bool:
        is_trouble = isinstance(closed.error, Unavailable)
        return is_trouble and self.monotonic() >= closed.at + ASK_AGAIN_SECONDS

    def leave_out(self, scope: Scope, error: NotEntered) -> None:
        """Record that a step of this scope did not run, because of its account."""
        self._left_out[scope] = error
        # A role may also be refused later, when its key has to be renewed.
        self._closed.setdefault(scope.account_id or "", _Closed(error, self.monotonic()))

    def list_again(self, scope: Scope) -> None:
        """Record that a watch lists the scope: what was left out of it before comes again."""
        self._left_out.pop(scope, None)

    def is_final(self, scope: Scope) -> bool:
        """Return whether nothing in this sweep can enter the account any more."""
        closed = self._closed.get(scope.account_id or "")
        return closed is not None and not isinstance(closed.error, Unavailable)

    def findings(self) -> list[Finding]:
        """Return one finding for each account of which a part was left out."""
        errors = {scope.account_id: error for scope, error in self._left_out.items()}
        return [_finding(account_id, error) for account_id, error in errors.items()]


def _finding(account_id: str | None, error: NotEntered) -> Finding:
    match error:
        case NotPrepared():
            reason = "not_prepared"
        case Unavailable():
            reason = "unavailable"
        case _:
            reason = "refused"
    found = Finding.of_accounts(account_id, kind="account", reason=reason, detail=str(error))
    if isinstance(error, Unavailable):
        return found
    return replace(found, status=error.status, code=error.code)
