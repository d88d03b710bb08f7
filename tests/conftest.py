"""What holds for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.shielded import settings_in

# The same examples in every run: red or green says something about the change alone. Whoever looks
# for more runs `pytest --hypothesis-profile=searching`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=5000, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--switch-threads`: it makes races show that are rare without it."""
    what = "switch threads as often as Python can, so that races show"
    parser.addoption("--switch-threads", action="store_true", help=what)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("switch_threads"):
        sys.setswitchinterval(1e-6)


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings() -> Iterator[None]:
    """Nothing that whoever runs the tests has set decides about them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in settings_in(os.environ):  # noqa: TID251  what is read is thrown away
            patch.delenv(name)
        yield
