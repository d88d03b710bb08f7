"""Shares: with many accounts, the timer's call starts one call of the function for each part.

timer ─▶ accounts ─▶ shares ─▶ an asynchronous invocation of the function by itself for each share

Function Compute queues these calls, runs as many at a time as are reserved for the function, and
keeps what failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from encryption_guard.arn import ACCOUNT_ID
from encryption_guard.errors import InvalidEvent, Unavailable
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.sweep.findings import Finding
from encryption_guard.untrusted import as_object, as_text, object_or_empty, parse_time, quoted

# The timer of template.yaml calls each minute: what is older is left to the next call.
INTERVAL: Final = timedelta(minutes=1)
# The form of a share in a payload. A later version of the guard may start shares of another form.
VERSION: Final = 1
# Calls that start shares at a time: each waits for one answer.
STARTING_AT_ONCE = 4


class Share(NamedTuple):
    """The accounts that one call sweeps, for the timer's call at an instant."""

    account_ids: tuple[str, ...]
    instant: datetime

    @property
    def name(self) -> str:
        """The hash of accounts and instant: a call of the timer that is repeated starts equal ones.

        >>> Share(("12345", "67890"), datetime(2026, 1, 2)).name
        'a94df25b93f93d21'
        """
        text = f"{self.instant.isoformat()} {','.join(self.account_ids)}"
        return sha256(text.encode()).hexdigest()[:16]

    @property
    def payload(self) -> bytes:
        """The payload of the call for this share."""
        fields = {
            "version": VERSION,
            "name": self.name,
            "instant": self.instant.isoformat(),
            "accounts": self.account_ids,
        }
        return json.dumps({"share": fields}).encode()

    @property
    def title(self) -> str:
        """The share as it stands in a sentence."""
        return f"share {self.name} of {len(self.account_ids)} accounts"


def read_share(payload: object) -> Share | None:
    """Return the share in a payload; None if there is none, as in the timer's own call.

    Raises Unavailable for a share of a later version, which a function of that version can sweep,
    and InvalidEvent for one that is not as `Share.payload` writes it.
    """
    fields = as_object(object_or_empty(payload).get("share"))
    if fields is None:
        return None
    version = fields.get("version")
    if isinstance(version, int) and version > VERSION:
        raise Unavailable(
            f"The share has version {version}, and this function knows version {VERSION}: another"
            " version of the guard has started it. Deploy one version."
        )
    accounts, instant = fields.get("accounts"), parse_time(fields.get("instant"))
    if version != VERSION or not instant or not isinstance(accounts, list):
        raise _invalid(fields, "version, accounts or instant is missing")
    if not all(isinstance(each, str) and re.fullmatch(ACCOUNT_ID, each, re.A) for each in accounts):
        raise _invalid(fields, "an account is no account id")
    share = Share(tuple(accounts), instant)
    if fields.get("name") != share.name:
        raise _invalid(fields, "its name is not the hash of its accounts and its instant")
    return share


def _invalid(fields: dict[str, object], why: str) -> InvalidEvent:
    name = quoted(as_text(fields.get("name")) or "")
    return InvalidEvent(f"The share {name} is not one of this function: {why}.")


def instant_of(payload: object, now: datetime) -> datetime:
    """Return when the timer called; now, if somebody else did."""
    return parse_time(object_or_empty(payload).get("triggerTime")) or now


def split(account_ids: Sequence[str], at_most: int, instant: datetime) -> list[Share]:
    """Return as few shares as possible, of about equal size.

    >>> split(("1", "2", "3", "4"), 3, datetime(2026, 1, 2))[0].account_ids
    ('1', '3')
    """
    number = -(-len(account_ids) // at_most)
    return [Share(tuple(account_ids[first::number]), instant) for first in range(number)]


def start(shares: Sequence[Share], invoke: Callable[[bytes], str]) -> list[Finding]:
    """Start a call for each share, and return a finding for each one that was not confirmed.

    `invoke` raises ApiRefused or Unavailable.
    """
    with ThreadPoolExecutor(STARTING_AT_ONCE) as pool:
        return [each for each in pool.map(lambda share: _start(share, invoke), shares) if each]


def _start(share: Share, invoke: Callable[[bytes], str]) -> Finding | None:
    try:
        invoke(share.payload)
    except (ApiRefused, Unavailable) as error:
        why = (
            f"The {share.title} was not started: {error} The timer's next call starts another one"
            " for its accounts."
        )
        return _finding("not_started", why)
    return None


def superseded(what: str, instant: datetime, now: datetime) -> Finding | None:
    """Return the finding of a call that came after the timer's next one; None if it is in time."""
    late = now - instant
    if late <= INTERVAL:
        return None
    why = (
        f"The {what} came {late.total_seconds():.0f} s after the timer's call, so it did nothing:"
        " the timer's next call has started the same work. If this comes again, raise the reserved"
        " concurrency of the sweep function above the number of shares."
    )
    return _finding("superseded", why)


def _finding(reason: str, detail: str) -> Finding:
    return Finding.of_accounts(None, kind="share", reason=reason, detail=detail)
