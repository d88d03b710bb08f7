"""What `make deploy` gives the template for other accounts.

It is code of the guard, so `cloud` loads it only where it is needed: whoever judges the guard must
share no code with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from encryption_guard.settings import ORGANIZATION
from layers.encryption_guard.tools.member_stacks import Home, Members
from layers.encryption_guard.tools.organization import Guarded


def members_of(shell: Mapping[str, str], *, account_id: str, region: str) -> Members:
    """Other accounts, of a guard in one region; those that are listed may send their events."""
    defaults = {
        "GUARD_MEMBER_ROLE": "oss-tables-encryption-guard-member",
        "GUARD_AUDIT_TABLES": "late",
    }
    listed = [each for each in shell["GUARD_ACCOUNTS"].split(",") if each != ORGANIZATION]
    return Members(
        {**defaults, **shell}, account_id, Home(region, (region,)), Guarded((account_id, *listed))
    )
