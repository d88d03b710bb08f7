"""What every command in this process leaves as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import fc2
import pytest

from tests.unit.fakes import forget_logger


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """A logger for each test, and what the vendor's client is silenced by taken back."""
    forget_logger()
    root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
    before = root.level, root.handlers[:], root.filters[:], urllib3.level, fc2.client.retries
    yield
    root.level, root.handlers, root.filters, urllib3.level, fc2.client.retries = before
    forget_logger()
