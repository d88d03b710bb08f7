"""SECURITY.md against the tests that it calls as witnesses."""

from __future__ import annotations

import re

import pytest

from tests.emulators.cloud import REPOSITORY

DOCUMENT = (REPOSITORY / "SECURITY.md").read_text("utf-8")
WITNESSES = sorted(set(re.findall(r"`(tests/[^`]+)`", DOCUMENT)))


@pytest.mark.parametrize("witness", WITNESSES)
def test_every_witness_exists(witness: str) -> None:
    """A file of tests, and the test in it where one is named."""
    file, _, test = witness.partition("::")
    source = (REPOSITORY / file).read_text("utf-8")

    assert (f"def {test}(" if test else "test_") in source


def test_every_threat_has_a_witness() -> None:
    """Nothing is said to be stopped that no test shows."""
    rows = re.findall(r"^\| \*\*(.+?)\*\*.*\| (.+?) \|$", DOCUMENT, re.MULTILINE)

    assert len(rows) >= 12
    assert [threat for threat, shown in rows if "`tests/" not in shown] == []
