"""The size of the sweep function's instance, its price, and when a deployment asks about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from encryption_guard.services.inventory import REGIONS as OFFERED
from encryption_guard.sweep.function import WATCH_END_SECONDS
from layers.encryption_guard.tools import costs
from layers.encryption_guard.tools.configuration import SHARES
from layers.encryption_guard.tools.costs import (
    SIZES,
    WITHOUT_WATCH,
    Price,
    Size,
    Use,
    choose_size,
    describe,
    find_price,
    use_of,
)
from layers.encryption_guard.tools.deploy import find_questions
from layers.encryption_guard.tools.preflight import REGIONS
from layers.encryption_guard.tools.tasks import Target
from tests.emulators.cloud import REPOSITORY, deployment
from tests.emulators.template import function_props

WATCHED, UNWATCHED = {"GUARD_WATCH_SECONDS": "5"}, {"GUARD_WATCH_SECONDS": "0"}
AUDITED = {**WATCHED, "GUARD_AUDIT_TABLES": "true"}
# What 0.1 left in the variables of a deployed function.
OLDER = {"GUARD_MODE": "enforce"}
# 100 accounts.
TEN_SHARES = {
    **WATCHED,
    "GUARD_ACCOUNTS": "organization",
    "GUARD_ACCOUNTS_PER_SHARE": "10",
    SHARES: "10",
}
DEPLOY = (REPOSITORY / "docs" / "deploy.md").read_text("utf-8")


def regions(number: int) -> dict[str, str]:
    """The setting that sweeps so many regions."""
    return {"GUARD_SWEEP_REGIONS": ",".join(OFFERED[:number])}


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (WATCHED, Size(0.05, 128)),
        ({**WATCHED, **regions(8)}, Size(0.05, 128)),
        ({**AUDITED, **regions(1)}, Size(0.05, 128)),
        ({**AUDITED, **regions(2)}, Size(0.1, 128)),
        ({**AUDITED, **regions(3)}, Size(0.1, 128)),
        ({**AUDITED, **regions(4)}, Size(0.25, 256)),
        ({**AUDITED, **regions(8)}, Size(0.25, 256)),
        ({**AUDITED, "GUARD_SWEEP_REGIONS": ",".join(map(str, range(99)))}, Size(1, 1024)),
        ({**AUDITED, "GUARD_SWEEP_REGIONS": "cn-a, cn-a ,cn-b,"}, Size(0.1, 128)),
        # The function takes an empty value as the default.
        ({"GUARD_WATCH_SECONDS": ""}, Size(0.05, 128)),
        (UNWATCHED, Size(0.25, 256)),
        (OLDER, Size(0.25, 256)),
        (TEN_SHARES, Size(0.1, 128)),
        ({**TEN_SHARES, **AUDITED}, Size(0.5, 512)),
        ({**TEN_SHARES, **AUDITED, "GUARD_ACCOUNTS": "2222222222222222"}, Size(0.1, 128)),
        # Only the creation function is there.
        ({**AUDITED, "GUARD_ACCOUNTS": "organization"}, Size(0.5, 512)),
    ],
)
def test_the_size_is_the_smallest_that_is_fast_enough(
    settings: Mapping[str, str], size: Size
) -> None:
    """The watch waits; a full audit of several regions has to end before the next invocation."""
    assert choose_size(settings) == size


def test_the_defaults_of_the_template_have_the_size_of_the_template() -> None:
    """A plain `s deploy` gets what `make deploy` computes for the same settings."""
    sweep = function_props(deployment(), "sweep")

    assert costs.template_variables(sweep["environmentVariables"]) == {
        "ENCRYPTION_GUARD_SWEEP_CPU": str(sweep["cpu"]),
        "ENCRYPTION_GUARD_SWEEP_MEMORY": str(sweep["memorySize"]),
    }


@pytest.mark.parametrize("size", [*SIZES, WITHOUT_WATCH], ids=lambda size: size.name)
def test_every_size_reaches_the_template_and_is_sold(size: Size) -> None:
    """As numbers: multiples of 0.05 vCPU and 64 MB, with 1 to 4 GB for each vCPU."""
    variables = {
        "ENCRYPTION_GUARD_SWEEP_CPU": f"{size.vcpu:g}",
        "ENCRYPTION_GUARD_SWEEP_MEMORY": f"{size.memory}",
    }
    sweep = function_props(deployment(variables), "sweep")

    assert (sweep["cpu"], sweep["memorySize"]) == (size.vcpu, size.memory)
    assert round(size.vcpu / 0.05, 6).is_integer()
    assert size.memory % 64 == 0
    assert 1 <= size.memory / 1024 / size.vcpu <= 4


def test_the_watch_is_billed_for_as_long_as_it_lasts() -> None:
    """The function waits until then, and Function Compute bills the waiting."""
    assert costs.WATCH_SECONDS == WATCH_END_SECONDS


def test_each_share_is_billed() -> None:
    """Ten calls a minute, each as long as one without shares, and the one that starts them."""
    calls = Size(0.1, 128).use(costs.WATCH_SECONDS, 10 * costs.INVOCATIONS_A_MONTH)
    starts = Size(0.1, 128).use(costs.SWEEP_SECONDS, costs.INVOCATIONS_A_MONTH)

    assert use_of(TEN_SHARES) == pytest.approx(
        [sum(both) for both in zip(calls, starts, strict=True)]
    )


def test_a_sweep_without_the_watch_takes_as_long_as_its_accounts() -> None:
    """A list of two accounts and the own one, or a share of ten."""
    three, ten = (
        use_of({**TEN_SHARES, **UNWATCHED, "GUARD_ACCOUNTS": each, SHARES: "1"})
        for each in ("1111111111111111,2222222222222222", "organization")
    )

    alone = use_of(UNWATCHED)
    assert three.vcpu_seconds == pytest.approx(3 * alone.vcpu_seconds)
    assert ten.vcpu_seconds == pytest.approx(10 * alone.vcpu_seconds)


def test_compute_units_are_the_sum_of_three() -> None:
    """A vCPU-second is 1 CU, a GB-second 0.15, an invocation 0.0075; a CU is 0.00002 USD."""
    assert Use(100, 100, 1000).compute_units == pytest.approx(100 + 15 + 7.5)
    assert Use(100, 100, 1000).dollars == pytest.approx(0.00245)
    assert Size(1, 1024).use(0.1, 20) == pytest.approx(Use(2, 2, 20))


# The table of costs.


def rows() -> list[tuple[str, tuple[float, ...]]]:
    """The rows of the table that state vCPU-seconds, GB-seconds, CU and USD."""
    number = r"([\d,.]+)"
    use = f"{number} invocations, {number} vCPU-seconds, {number} GB-seconds: {number} CU"
    row = rf"^\| (.+?) \| {use} \| {number} \|$"
    return [
        (found[0], tuple(float(each.replace(",", "")) for each in found[1:]))
        for found in re.findall(row, DEPLOY, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    ("item", "use"),
    [
        ("one deployment without the watch", use_of(UNWATCHED)),
        ("one deployment with the watch", use_of(WATCHED)),
        ("eight deployments without the watch", Use(*(8 * each for each in use_of(UNWATCHED)))),
        ("eight deployments with the watch", Use(*(8 * each for each in use_of(WATCHED)))),
        (
            "one deployment, eight regions, with the watch",
            use_of({**WATCHED, **regions(8)}),
        ),
        (
            "one deployment, eight regions, with the watch and the full audit",
            use_of({**AUDITED, **regions(8)}),
        ),
        ("one deployment, 100 accounts in ten shares, with the watch", use_of(TEN_SHARES)),
        ("creations", Size(1, 1024).use(0.1, 20)),
    ],
)
def test_the_documented_costs_are_computed(item: str, use: Use) -> None:
    """Each row is what the tools compute, rounded to three digits, and to cents."""
    ((_, documented),) = [row for row in rows() if row[0] == item]
    invocations, *rest, dollars = documented

    assert invocations == use.invocations
    computed = (use.vcpu_seconds, use.gb_seconds, use.compute_units)
    assert rest == [float(f"{each:.3g}") for each in computed]
    assert dollars == round(use.dollars, 2)


# When a deployment asks.


@pytest.mark.parametrize(
    ("deployed", "settings", "price", "is_news"),
    [
        ({}, WATCHED, Price(0, 3.27, True), True),
        (OLDER, WATCHED, Price(0.13, 3.27, True), True),
        (UNWATCHED, WATCHED, Price(0.13, 3.27, True), True),
        (WATCHED, {"GUARD_WATCH_SECONDS": "10"}, Price(3.27, 3.27, True), False),
        (WATCHED, UNWATCHED, Price(3.27, 0.13, False), False),
        (WATCHED, {**AUDITED, **regions(8)}, Price(3.27, 13.67, True), True),
        (None, WATCHED, Price(None, 3.27, True), True),
    ],
)
def test_a_price_is_news_where_the_watch_costs_more(
    deployed: Mapping[str, str] | None, settings: Mapping[str, str], price: Price, is_news: bool
) -> None:
    """Nothing deployed, an older version, or one without the watch; what is unknown, too."""
    found = find_price(deployed, settings)

    assert [each if each is None else round(each, 2) for each in found] == [*price]
    assert found.is_news is is_news


def target(region: str, price: Price | None) -> Target:
    return Target(REGIONS[region], "1234567890123456", {}, price=price)


def test_regions_are_asked_about_at_once() -> None:
    """One question has the sum of those that will cost more."""
    watched = Price(0.13, 3.27, True)
    targets = [
        target("cn-hangzhou", watched),
        target("cn-shanghai", watched),
        target("us-east-1", Price(3.27, 3.27, True)),
    ]

    assert [*find_questions(targets, can_answer=False)] == [
        "cn-hangzhou, cn-shanghai: The sweep function looks for new buckets for 55 of 60 seconds:"
        " about 6.54 USD a month instead of 0.26 by list prices, and list requests"
    ]
    assert describe([Price(0, 3.27, True)]).endswith(
        "about 3.27 USD a month by list prices, and list requests"
    )
