"""The members of the organization, for an instance: which accounts they are, and their keys.

Only the event of another account, and the sweep of one, load this module.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from encryption_guard.enforcement.policy import KEEP_LIST, own_accounts
from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.directory import AccountList, list_accounts
from encryption_guard.services.member_keys import MemberKeys
from encryption_guard.services.sts import assume_role
from encryption_guard.settings import Settings

# An account that a list of this age lacks may be new: the directory is asked again.
NEW_AFTER: Final = timedelta(minutes=1)


class KeptList(NamedTuple):
    """The accounts of the organization, and when they were read."""

    accounts: AccountList
    read_at: datetime

    def is_fresh(self, now: datetime, at_most: timedelta) -> bool:
        """Return whether the list is of this age at most; a clock may also be set back."""
        return timedelta() <= now - self.read_at < at_most


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Members:
    """The other accounts in which an instance acts, their list and their keys in memory only."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._keys = MemberKeys(own_accounts(settings), assume=assume_role, now=now)
        self._now = now
        self._kept: KeptList | None = None
        # Of the last complete list and the incomplete ones since, however long ago.
        self.known_accounts: tuple[str, ...] = ()

    def enter(self, account_id: str, invocation: Invocation) -> Invocation:
        """Return the invocation as one of this account, with the credentials for it.

        The caller has to know that the guard may act there. The first request raises what
        `sts.assume_role` raises.
        """
        entered = self._keys.enter(account_id, invocation)
        if entered is invocation:
            return invocation
        # As an own account: nothing of another one is acted on with these credentials.
        settings = invocation.settings._replace(
            account_id=account_id, allowed_accounts=frozenset(), accounts=frozenset()
        )
        return entered._replace(settings=settings)

    def list(self, invocation: Invocation, *, at_most: timedelta = KEEP_LIST) -> AccountList:
        """Return the accounts of the organization, as read within the last ten minutes.

        Raises what `directory.list_accounts` raises.
        """
        kept = self._kept
        if not kept or not kept.is_fresh(self._now(), at_most):
            kept = self._kept = KeptList(list_accounts(invocation), self._now())
            earlier = self.known_accounts if kept.accounts.problems else ()
            self.known_accounts = tuple(dict.fromkeys(kept.accounts.account_ids + earlier))
        return kept.accounts

    def list_with(self, account_id: str, invocation: Invocation) -> frozenset[str]:
        """Return the accounts of the organization, to tell whether this one is among them.

        Raises Unavailable if the directory cannot be read, or only a part of it without the
        account: the account may then still be a member.
        """
        try:
            found = self.list(invocation)
            if account_id not in found.account_ids:
                found = self.list(invocation, at_most=NEW_AFTER)
        except ApiRefused as refused:
            # Whatever an operator has to correct: the event must not be lost meanwhile.
            raise Unavailable(str(refused)) from refused
        if found.problems and account_id not in found.account_ids:
            raise Unavailable(
                f"The guard cannot tell whether account {account_id} is in the organization."
                f" {' '.join(found.problems)}"
            )
        return frozenset(found.account_ids)
