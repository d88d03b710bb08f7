"""In which order, and how early, the rows of a sweep are printed."""

from __future__ import annotations

from encryption_guard.arn import Scope
from encryption_guard.cli.row_order import RowOrder
from encryption_guard.sweep.findings import Finding
from tests.unit.sweep.sweeps import (
    FIRST,
    REFUSED_REGION,
    SECOND,
    bucket,
    incomplete_directory,
    not_prepared,
    table,
)

HERE, THERE = Scope(None, "cn-hangzhou"), Scope(None, "cn-shanghai")


def test_a_bucket_waits_only_for_those_before_it() -> None:
    """As they are listed, whichever is read first; the last page need not be known."""
    order = RowOrder([HERE])
    a, b, c = (bucket(name) for name in "abc")
    order.expect([b, a])
    order.expect([c])

    assert list(order.add(c)) == []
    assert list(order.add(a)) == [a]
    assert list(order.add(b)) == [b, c]


def test_regions_follow_each_other_by_name() -> None:
    """The second waits until the first has ended, and then catches up."""
    order = RowOrder([THERE, HERE, THERE])
    here, there = bucket("a", HERE.region), bucket("a", THERE.region)
    order.expect([here])
    order.expect([there])

    assert list(order.add(there)) == []
    assert list(order.finish(THERE.region)) == []
    assert list(order.add(here)) == [here]
    assert list(order.finish(HERE.region)) == [there]


def test_tables_and_failed_lists_follow_the_buckets_of_their_region() -> None:
    """In the order of their names."""
    region = REFUSED_REGION.region
    order = RowOrder([REFUSED_REGION.scope])
    owner = bucket("a", region)
    first, second = (table(name, "sales", owner) for name in ("early", "late"))
    order.expect([owner, first])

    found: list[Finding] = [second, REFUSED_REGION, first, owner]
    printed = [each for finding in found for each in order.add(finding)]

    assert printed == [owner]
    assert list(order.finish(region)) == [REFUSED_REGION, first, second]


def test_a_bucket_that_no_list_has_is_printed_at_the_end_of_its_region() -> None:
    """Nothing is held back for ever."""
    order = RowOrder([HERE])
    odd = bucket("odd")

    assert list(order.add(odd)) == []
    assert list(order.finish(HERE.region)) == [odd]


def test_what_is_left_of_a_stopped_sweep_is_printed() -> None:
    """A listed bucket without a finding keeps no other one back."""
    order = RowOrder([HERE, THERE])
    order.expect([bucket("a"), bucket("b")])
    done, there = bucket("b"), bucket("c", THERE.region)

    assert [*order.add(done), *order.add(there)] == []
    assert list(order.rest()) == [done, there]
    assert list(order.rest()) == []


def test_accounts_follow_each_other() -> None:
    """In each the regions by name; the regions of all accounts end together."""
    scopes = [Scope(account, each.region) for account in (SECOND, FIRST) for each in (HERE, THERE)]
    order = RowOrder(scopes)
    rows = [bucket("a", scope.region, account=scope.account_id) for scope in scopes]
    order.expect(rows)

    printed = [each for row in rows for each in order.add(row)]
    printed += [*order.finish(THERE.region), *order.finish(HERE.region)]

    second, first = rows[:2], rows[2:]
    assert printed == [*first, *second]


def test_an_account_that_was_not_entered_comes_last() -> None:
    """Whatever is known of it by then; so does a list of accounts that is incomplete."""
    order = RowOrder([HERE])
    row, directory = bucket("a"), incomplete_directory()
    order.expect([row])

    printed = [each for one in (directory, not_prepared(SECOND), row) for each in order.add(one)]
    printed += [*order.finish(HERE.region), *order.add(not_prepared(FIRST))]

    assert printed == [row]
    assert list(order.rest()) == [directory, not_prepared(FIRST), not_prepared(SECOND)]
