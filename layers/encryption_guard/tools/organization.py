"""The accounts that a deployment guards: who they are, and how many calls share their sweep."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from layers.encryption_guard.tools.configuration import SHARES
from layers.encryption_guard.tools.preflight import Finding

ACCOUNTS: Final = "GUARD_ACCOUNTS"
PER_SHARE: Final = "GUARD_ACCOUNTS_PER_SHARE"
CONCURRENCY: Final = "GUARD_SWEEP_CONCURRENCY"
# Of encrypt_on_create, for the accounts of each share, and at most: half of an account's instances.
EVENT_INSTANCES, MAX_EVENT_INSTANCES = 5, 50
# Of all functions of an account in a region, unless its quota was raised.
# https://www.alibabacloud.com/help/en/functioncompute/fc/product-overview/limits
MAX_INSTANCES: Final = 100
SWEEP_VARIABLE: Final = "ENCRYPTION_GUARD_SWEEP_CONCURRENCY"
EVENT_VARIABLE: Final = "ENCRYPTION_GUARD_EVENT_CONCURRENCY"
# Beside the shares run the timer's call, and a share of the minute before.
BESIDE_SHARES: Final = 2


class Guarded(NamedTuple):
    """The accounts that a sweep covers, the own one first.

    `problem` says why the others are not known, and `incomplete` which entries are left out.
    """

    account_ids: tuple[str, ...]
    problem: str = ""
    incomplete: tuple[str, ...] = ()


def count_shares(settings: Mapping[str, str], guarded: Guarded) -> int:
    """Return how many calls share the accounts; `settings` are the texts of GUARD_*.

    If the accounts are not known, the stated number of instances counts as enough for them.
    """
    if guarded.problem and (stated := settings.get(CONCURRENCY)):
        return max(int(stated) - BESIDE_SHARES, 1)
    return max(ceil(len(guarded.account_ids) / int(settings[PER_SHARE])), 1)


def template_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the template for the shares; `settings` contain their number."""
    shares = int(settings[SHARES])
    needed = BESIDE_SHARES if shares == 1 else shares + BESIDE_SHARES
    return {
        SWEEP_VARIABLE: settings.get(CONCURRENCY) or str(needed),
        EVENT_VARIABLE: str(min(EVENT_INSTANCES * shares, MAX_EVENT_INSTANCES)),
    }


def check_instances(settings: Mapping[str, str]) -> list[Finding]:
    """Check that an account has the instances that are reserved for both functions.

    `settings` contain the number of shares.
    """
    reserved = template_variables(settings)
    of_sweep, of_events = (int(reserved[name]) for name in (SWEEP_VARIABLE, EVENT_VARIABLE))
    if (both := of_sweep + of_events) <= MAX_INSTANCES:
        return []
    what = (
        f"{both} instances are reserved, {of_sweep} for sweeps and {of_events} for events, and an"
        f" account has {MAX_INSTANCES} in a region unless its quota was raised"
    )
    remedy = (
        "Raise the quota of Function Compute for this region (Quota Center), or set a larger"
        f" {PER_SHARE}: fewer shares need fewer instances."
    )
    return [Finding("warning", what, remedy)]


def check_accounts(
    settings: Mapping[str, str], guarded: Guarded, *, is_plan: bool
) -> list[Finding]:
    """Name the guarded accounts, and check that an instance is reserved for each of their shares.

    `settings` contain the number of shares. For an account of its own there is nothing to say.
    """
    if not settings.get(ACCOUNTS):
        return []
    if guarded.problem:
        return [_describe_unknown(settings, guarded.problem, is_plan=is_plan)]
    number, shares = len(guarded.account_ids), int(settings[SHARES])
    in_shares = "1 share" if shares == 1 else f"{shares} shares"
    size = f"{in_shares} of at most {settings[PER_SHARE]}"
    listed = ", ".join(guarded.account_ids)
    findings = [Finding("ok", f"Guards {number} accounts, in {size}: {listed}")]
    findings += [Finding("warning", each) for each in guarded.incomplete]
    stated = settings.get(CONCURRENCY)
    if stated and int(stated) < shares:
        remedy = (
            f"Set it to {shares + BESIDE_SHARES}, or unset it; or set a larger {PER_SHARE}."
            " With fewer instances than shares a minute would end before all accounts are swept."
        )
        what = f"{CONCURRENCY} is {stated}, but {number} accounts are {in_shares}"
        findings.append(Finding("error", what, remedy))
    return findings


def _describe_unknown(settings: Mapping[str, str], problem: str, *, is_plan: bool) -> Finding:
    what = f"The accounts of {settings[ACCOUNTS]} are not known to this key: {problem}"
    if stated := settings.get(CONCURRENCY):
        return Finding("warning", what, f"{CONCURRENCY}={stated} has to be enough for them.")
    remedy = (
        "Use a key that may list them (resourcemanager:ListAccounts), or set"
        f" {CONCURRENCY} to the number of shares and {BESIDE_SHARES} more."
    )
    return Finding("warning" if is_plan else "error", what, remedy)
