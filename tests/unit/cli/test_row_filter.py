"""Which rows of a sweep are printed, and in which order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from encryption_guard.cli.row_filter import RowFilter
from encryption_guard.sweep.findings import FAILED
from tests.unit.sweep.sweeps import AT, LAB, bucket, exempt, without

FINE = bucket("b-fine", "cn-shanghai", created_at=AT - timedelta(days=1))
OPEN = without("c-open", created_at=AT - timedelta(days=3))
LOST = without("a-lost", "cn-beijing", state="unknown", outcome=FAILED, created_at=None)
LEFT = exempt("lab-1", "cn-hangzhou", LAB, state="not_encrypted", created_at=AT)
ALL = [FINE, OPEN, LOST, LEFT]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (RowFilter(), [LOST, OPEN, LEFT, FINE]),
        (RowFilter(states=("not_encrypted",)), [OPEN]),
        (RowFilter(states=("exempt", "encrypted")), [LEFT, FINE]),
        (RowFilter(only_problems=True), [LOST, OPEN]),
        (RowFilter(states=("encrypted",), only_problems=True), []),
        (RowFilter(sort="name"), [LOST, FINE, OPEN, LEFT]),
        (RowFilter(sort="state"), [OPEN, LOST, LEFT, FINE]),
        (RowFilter(sort="created"), [OPEN, FINE, LEFT, LOST]),
    ],
    ids=str,
)
def test_rows_are_selected_and_sorted(rows: RowFilter, expected: list[object]) -> None:
    """An exempt bucket has no other state; without a creation time a bucket comes last."""
    assert rows.select(ALL) == (expected, 0)
    assert rows.is_open is (rows == RowFilter())


def test_a_limit_leaves_out_the_last_rows() -> None:
    """And says how many."""
    assert RowFilter(limit=1, sort="name").select(ALL) == ([LOST], 3)
    assert RowFilter(limit=9).select(ALL)[1] == 0
