"""The credentials of each account: the guard's own, or those of the member role."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Final, NamedTuple

from encryption_guard.credentials import Credentials
from encryption_guard.errors import Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.sts import DURATION_SECONDS, AssumedRole

RENEW_BEFORE: Final = timedelta(minutes=5)
# A key is kept at least this long: the expiry of a key may look past to a clock that is wrong. An
# STS that fails is asked again after the same time, as long as the old key is good.
ASK_AGAIN_AFTER: Final = timedelta(minutes=1)


class _Key(NamedTuple):
    """A key in memory; both instants are of the guard's own clock."""

    credentials: Credentials
    renew_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, role: AssumedRole, now: datetime) -> _Key:
        left = min(role.expires_at - now, timedelta(seconds=DURATION_SECONDS))
        keep = max(left - RENEW_BEFORE, ASK_AGAIN_AFTER)
        return cls(role.credentials, now + keep, now + left)


class MemberKeys:
    """The keys of an instance for other accounts, in memory only, shared by its threads.

    `own_accounts` are those where the guard acts with its own credentials. In every other one it
    takes a role with `assume`, and keeps the key until five minutes before it expires. A key that a
    service refuses as expired is replaced at once. Threads that need the key of the same account
    wait for one call of `assume`, and get its key or its error; other accounts do not wait.
    """

    def __init__(
        self,
        own_accounts: Collection[str],
        *,
        assume: Callable[[Invocation, str], AssumedRole],
        now: Callable[[], datetime],
    ) -> None:
        self._own_accounts = frozenset(own_accounts)
        self._assume = assume
        self._now = now
        self._lock = Lock()
        self._keys: dict[str, _Key] = {}
        self._calls: dict[str, Future[Credentials]] = {}

    def enter(self, account_id: str, invocation: Invocation) -> Invocation:
        """Return the invocation with the credentials for an account.

        They are read with the first request, which then raises what `assume` raises. The caller has
        to know that the guard may act in the account.
        """
        if account_id in self._own_accounts:
            return invocation
        return invocation._replace(
            read_credentials=partial(self._read, account_id, invocation),
            discard_credentials=partial(self._discard, account_id),
        )

    def _read(self, account_id: str, invocation: Invocation) -> Credentials:
        with self._lock:
            key = self._keys.get(account_id)
            if key and self._now() < key.renew_at:
                return key.credentials
            running = self._calls.get(account_id)
            call = self._calls[account_id] = running or Future()
        if running:
            return _wait(running, account_id, invocation)
        outcome = self._settle(account_id, self._ask(account_id, invocation))
        if isinstance(outcome, BaseException):
            call.set_exception(outcome)
            raise outcome
        call.set_result(outcome.credentials)
        return outcome.credentials

    def _ask(self, account_id: str, invocation: Invocation) -> _Key | BaseException:
        try:
            return _Key.of(self._assume(invocation, account_id), self._now())
        except BaseException as error:  # the threads that wait have to get it, too
            return error

    def _settle(self, account_id: str, outcome: _Key | BaseException) -> _Key | BaseException:
        """End the call: keep the new key, or the last one if it is good and STS only failed."""
        # At once: a key that is refused meanwhile must not come back, neither by the call nor here.
        with self._lock:
            del self._calls[account_id]
            last, now = self._keys.pop(account_id, None), self._now()
            if isinstance(outcome, Unavailable) and last and now < last.ends_at:
                outcome = last._replace(renew_at=now + ASK_AGAIN_AFTER)
            if isinstance(outcome, _Key):
                self._keys[account_id] = outcome
            return outcome

    def _discard(self, account_id: str, refused: Credentials) -> None:
        with self._lock:
            key = self._keys.get(account_id)
            # Another thread may have replaced the refused key already.
            if key and key.credentials == refused:
                del self._keys[account_id]


def _wait(running: Future[Credentials], account_id: str, invocation: Invocation) -> Credentials:
    left = invocation.budget.request_deadline() - invocation.clock.monotonic()
    try:
        return running.result(timeout=left)
    except WaitTimeoutError:
        raise Unavailable(
            f"Another thread did not get credentials for account {account_id} in time; a later try"
            " may succeed."
        ) from None
