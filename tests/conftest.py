"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run: red or green says something about the change alone. Whoever looks
# for more runs `pytest --hypothesis-profile=searching`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=5000, deadline=None)
settings.load_profile("repeatable")
