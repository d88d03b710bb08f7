"""The size of the sweep function's instance, and what the function costs a month.

Prices are those of the first tier, without free quotas, in compute units (CU):
https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/product-overview/billing-overview-1
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from encryption_guard.settings import ORGANIZATION, Settings
from layers.encryption_guard.tools.configuration import SHARES

CU_PER_VCPU_SECOND, CU_PER_GB_SECOND, CU_PER_INVOCATION = 1, 0.15, 75 / 10_000
DOLLARS_PER_CU = 0.00002
# The timer of template.yaml, in 30 days.
INVOCATIONS_A_MONTH = 30 * 24 * 60


class Use(NamedTuple):
    """What a function is billed for in a month."""

    vcpu_seconds: float
    gb_seconds: float
    invocations: float

    @property
    def compute_units(self) -> float:
        """The three as compute units."""
        return (
            self.vcpu_seconds * CU_PER_VCPU_SECOND
            + self.gb_seconds * CU_PER_GB_SECOND
            + self.invocations * CU_PER_INVOCATION
        )

    @property
    def dollars(self) -> float:
        """The price in USD."""
        return self.compute_units * DOLLARS_PER_CU


@dataclass(frozen=True)
class Size:
    """An instance: its share of vCPUs, and its memory in MB.

    Function Compute sells multiples of 0.05 vCPU and 64 MB, with 1 to 4 GB for each vCPU:
    https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/product-overview/limits-of-usage
    """

    vcpu: float
    memory: int

    @property
    def name(self) -> str:
        """The size as it stands in a table."""
        return f"{self.vcpu:g} vCPU, {self.memory} MB"

    def use(self, seconds: float, invocations: float = 1) -> Use:
        """Return what invocations of so many seconds each are billed for."""
        total = seconds * invocations
        return Use(self.vcpu * total, self.memory / 1024 * total, invocations)


# `make bench` measured all of these; see "Instance size" in docs/performance.md.
SMALLEST: Final = Size(0.05, 128)
SIZES: Final = (SMALLEST, Size(0.1, 128), Size(0.25, 256), Size(0.5, 512), Size(1, 1024))
# A sweep of a minute without the watch: cheaper, and five times as fast, than on the smallest.
WITHOUT_WATCH: Final = Size(0.25, 256)
SWEEP_SECONDS = 0.51
# The watch ends 55 s after it began, and Function Compute bills the waiting too.
WATCH_SECONDS = 55.0
# A full audit of 10 buckets with 100 tables each, on the smallest instance: 28 s. On a larger one
# it takes less of a vCPU. One that is not over when the watch ends would meet the next invocation.
AUDIT_VCPU_SECONDS_A_REGION = 1.4


class Price(NamedTuple):
    """What the sweep function of a region costs, in USD a month.

    `before` is 0 if nothing is deployed, and None if that is not known.
    """

    before: float | None
    after: float
    watches: bool

    @property
    def rises(self) -> bool:
        """Whether the watch makes it more expensive than it was, as far as that is known."""
        return self.watches and self.before is not None and self.after > self.before

    @property
    def is_news(self) -> bool:
        """Whether a deployment has to name the price."""
        return self.rises or (self.watches and self.before is None)


def has_watch(settings: Mapping[str, str]) -> bool:
    """Return whether a deployed function has the watch; an older version had none."""
    seconds = settings.get("GUARD_WATCH_SECONDS", "0")
    # The function takes an empty value as the default.
    return not seconds or seconds.strip("0") != ""


def choose_size(settings: Mapping[str, str]) -> Size:
    """Return the smallest size that is fast enough; `settings` are the texts of GUARD_*."""
    if not has_watch(settings):
        return WITHOUT_WATCH
    needed = 0.0
    accounts = count_accounts_a_call(settings)
    if settings.get("GUARD_AUDIT_TABLES") == "true":
        named = settings.get("GUARD_SWEEP_REGIONS", "").split(",")
        regions = {region.strip() for region in named if region.strip()}
        needed = AUDIT_VCPU_SECONDS_A_REGION * max(len(regions), 1) * accounts
    sizes = SIZES if accounts == 1 else SIZES[1:]
    return next((size for size in sizes if size.vcpu * WATCH_SECONDS >= needed), SIZES[-1])


def count_accounts_a_call(settings: Mapping[str, str]) -> int:
    """Return how many accounts one call sweeps at most; `settings` are the texts of GUARD_*."""
    if not (stated := settings.get("GUARD_ACCOUNTS")):
        return 1
    # The sweep function has it, which may be the one that is missing.
    a_share = int(settings.get("GUARD_ACCOUNTS_PER_SHARE") or Settings().accounts_per_share)
    return a_share if stated == ORGANIZATION else min(len(stated.split(",")) + 1, a_share)


def use_of(settings: Mapping[str, str]) -> Use:
    """Return what the sweep function with these settings is billed for in a month.

    The number of regions does not count: the watch takes the same time for all of them. Each share
    of the accounts is a call of its own.
    """
    size, shares = choose_size(settings), int(settings.get(SHARES, "1"))
    sweep = SWEEP_SECONDS * count_accounts_a_call(settings)
    seconds = WATCH_SECONDS if has_watch(settings) else sweep
    call = size.use(seconds, INVOCATIONS_A_MONTH * shares)
    if shares == 1:
        return call
    # The timer's call reads the accounts, and starts the shares.
    start = size.use(SWEEP_SECONDS, INVOCATIONS_A_MONTH)
    return Use(*(sum(parts) for parts in zip(call, start, strict=True)))


def find_price(deployed: Mapping[str, str] | None, settings: Mapping[str, str]) -> Price:
    """Compare the price with what is deployed; `deployed` is None if it cannot be read."""
    before = None if deployed is None else use_of(deployed).dollars if deployed else 0.0
    return Price(before, use_of(settings).dollars, has_watch(settings))


def template_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the template for the size of the sweep function."""
    size = choose_size(settings)
    return {
        "ENCRYPTION_GUARD_SWEEP_CPU": f"{size.vcpu:g}",
        "ENCRYPTION_GUARD_SWEEP_MEMORY": f"{size.memory}",
    }


def describe(prices: Iterable[Price]) -> str:
    """Say what the watch costs in some regions together."""
    found = list(prices)
    after = sum(price.after for price in found)
    before = sum(price.before or 0 for price in found)
    earlier = f" instead of {before:.2f}" if before else ""
    return (
        f"The sweep function looks for new buckets for {WATCH_SECONDS:.0f} of 60 seconds: about"
        f" {after:.2f} USD a month{earlier} by list prices, and list requests"
    )
