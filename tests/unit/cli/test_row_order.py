"""In which order, and how early, the rows of a sweep are printed."""

from __future__ import annotations

from encryption_guard.cli.row_order import RowOrder
from encryption_guard.sweep.findings import Finding
from tests.unit.sweep.sweeps import REFUSED_REGION, bucket, table

HERE, THERE = "cn-hangzhou", "cn-shanghai"


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
    here, there = bucket("a", HERE), bucket("a", THERE)
    order.expect([here])
    order.expect([there])

    assert list(order.add(there)) == []
    assert list(order.finish(THERE)) == []
    assert list(order.add(here)) == [here]
    assert list(order.finish(HERE)) == [there]


def test_tables_and_failed_lists_follow_the_buckets_of_their_region() -> None:
    """In the order of their names."""
    region = REFUSED_REGION.region
    order = RowOrder([region])
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
    assert list(order.finish(HERE)) == [odd]


def test_what_is_left_of_a_stopped_sweep_is_printed() -> None:
    """A listed bucket without a finding keeps no other one back."""
    order = RowOrder([HERE, THERE])
    order.expect([bucket("a"), bucket("b")])
    done, there = bucket("b"), bucket("c", THERE)

    assert [*order.add(done), *order.add(there)] == []
    assert list(order.rest()) == [done, there]
    assert list(order.rest()) == []
