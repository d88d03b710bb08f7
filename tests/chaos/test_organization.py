"""A small organization under faults and deaths: `make chaos` has the large one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.organization import History, Plan, run, violations

PLAN = Plan(14, regions=("cn-hangzhou", "cn-shanghai"), deaths=2)


@pytest.fixture(scope="module")
def history() -> History:
    return run(PLAN)


def test_every_share_does_its_work_however_often_it_dies(history: History) -> None:
    """Each bucket is encrypted, exempt or told; totals are the service's; no key goes astray."""
    assert violations(PLAN, history) == []
    assert len(history.deaths) == 2
    # A share that died is kept by the platform, unless its repetition went well.
    assert len(history.kept) <= 2
    assert len(history.planned) == 15 * 2 * 10


def changed_totals(history: History, **by: int) -> History:
    first, *rest = history.last
    totals = {name: count + by.get(name, 0) for name, count in first["totals"].items()}
    return replace(history, last=[{**first, "totals": totals}, *rest])


def with_found(history: History, kind: str, encryption: str | None) -> History:
    arn = next(arn for arn in history.planned if arn.rpartition("/")[2].startswith(kind))
    return replace(history, found={**history.found, arn: encryption})


def told_prepared(history: History) -> History:
    last: list[dict[str, Any]] = [{**each, "problems": []} for each in history.last]
    return replace(history, last=last)


WRONG: dict[str, Callable[[History], History]] = {
    "open": lambda history: with_found(history, "open", None),
    "a downgrade": lambda history: with_found(history, "kms", "AES256"),
    "an exempt bucket": lambda history: with_found(history, "exempt", "AES256"),
    "a needless change": lambda history: replace(history, put=Counter(["kms-bucket"])),
    "a bucket too few": lambda history: changed_totals(history, buckets=-1),
    "a false success": lambda history: changed_totals(history, encrypted=1, not_encrypted=-1),
    "counted twice": lambda history: changed_totals(history, encrypted=1),
    "a lost share": lambda history: replace(history, last=history.last[1:]),
    "an account twice": lambda history: replace(
        history, started={**history.started, "another": [PLAN.account_ids[0]]}
    ),
    "an account in silence": told_prepared,
    "a wrong key": lambda history: replace(history, wrong_keys=["ListTableBuckets"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_judge_finds_what_must_not_be(history: History, wrong: str) -> None:
    """A judge that finds nothing would prove nothing."""
    assert violations(PLAN, WRONG[wrong](history))
