"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How the names of settings begin: the guard's, the platform's, the logger's and a terminal's.
SETTINGS = (
    *("GUARD_", "FC_", "ALIBABA_CLOUD_", "POWERTOOLS_", "AWS_", "LOG_LEVEL"),
    *("FORCE_COLOR", "NO_COLOR", "TTY_", "COLUMNS"),
)

# The same examples in every run: red or green says something about the change alone. Whoever looks
# for more runs `pytest --hypothesis-profile=searching`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=5000, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings() -> Iterator[None]:
    """Nothing that whoever runs the tests has set decides about them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):  # noqa: TID251  what is read is thrown away
            if name.startswith(SETTINGS) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield
