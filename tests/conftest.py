"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.shielded import settings_in

# The same examples in every run: red or green says something about the change alone. Whoever looks
# for more runs `pytest --hypothesis-profile=searching`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=5000, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings() -> Iterator[None]:
    """Nothing that whoever runs the tests has set decides about them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in settings_in(os.environ):  # noqa: TID251  what is read is thrown away
            patch.delenv(name)
        yield
