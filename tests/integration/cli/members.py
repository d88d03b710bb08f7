"""What a command did in the accounts of an organization."""

from __future__ import annotations

from tests.emulators.cloud import EmulatedCloud


def encrypted(cloud: EmulatedCloud) -> set[str]:
    """The accounts whose bucket is encrypted."""
    return {each.arn.account_id for each in cloud.tables.buckets() if each.encryption}


def taken(cloud: EmulatedCloud) -> list[str]:
    """The accounts whose role was taken, as often as it was."""
    return sorted(key.account_id for key in cloud.sts.issued)


def refusals(cloud: EmulatedCloud) -> list[int | None]:
    """What OSS Tables answered to what it refused."""
    return [each.status for each in cloud.tables.requests if (each.status or 500) >= 400]
