"""Who may call an emulated service."""

import fnmatch
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class AccessKey:
    """An access key, of STS if it has a security token. `allowed` and `denied` are globs of
    operation names; what is denied wins."""

    id: str
    secret: str
    account_id: str
    security_token: str | None = None
    expires_at: datetime | None = None
    allowed: frozenset[str] = frozenset({"*"})
    denied: frozenset[str] = frozenset()

    def may(self, operation: str) -> bool:
        return _matches(operation, self.allowed) and not _matches(operation, self.denied)

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def _matches(operation: str, globs: frozenset[str]) -> bool:
    return any(fnmatch.fnmatchcase(operation, glob) for glob in globs)
