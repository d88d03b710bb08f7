"""Who may call an emulated service."""

import fnmatch
from dataclasses import dataclass, field
from datetime import datetime

from tests.emulators.ram_policies import Policy


@dataclass(frozen=True)
class AccessKey:
    """An access key, of STS if it has a security token.

    `policy` is what RAM grants it; without one, as the account's own, it may do everything.
    `allowed` and `denied` are globs of operation names, for the moment in which a right is missing;
    what is denied wins. Policy and globs all have to agree. `user_name` is the RAM user's; the
    account itself has none. `role_name` is that of the role whose session it is.
    """

    id: str
    secret: str
    account_id: str
    security_token: str | None = None
    expires_at: datetime | None = None
    allowed: frozenset[str] = frozenset({"*"})
    denied: frozenset[str] = frozenset()
    policy: Policy | None = None
    user_name: str | None = None
    role_name: str | None = None

    @property
    def principal(self) -> str | None:
        """The ARN by which a trust policy knows it; None for the account itself."""
        own = f"acs:ram::{self.account_id}"
        if self.security_token:
            return f"{own}:role/{self.role_name or self.id.lower()}"
        if self.policy or self.user_name:
            return f"{own}:user/{self.user_name or self.id.lower()}"
        return None

    def may(self, action: str, resource: str) -> bool:
        """Whether it has the right to an action like oss:ListTables on the resource of this ARN."""
        operation = action.partition(":")[2]
        granted = self.policy is None or self.policy.allows(action, resource)
        return (
            granted and _matches(operation, self.allowed) and not _matches(operation, self.denied)
        )

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True)
class Rights:
    """What a service asked about its callers' rights: pairs of a key's id and an action."""

    used: set[tuple[str, str]] = field(default_factory=set)
    missing: set[tuple[str, str]] = field(default_factory=set)

    def allow(self, key: AccessKey, action: str, resource: str) -> bool:
        """Whether the key may do this, which is written down."""
        allowed = key.may(action, resource)
        (self.used if allowed else self.missing).add((key.id, action))
        return allowed


def _matches(operation: str, globs: frozenset[str]) -> bool:
    return any(fnmatch.fnmatchcase(operation, glob) for glob in globs)
