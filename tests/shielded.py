"""The settings of the shell that starts a test, which are not to decide about its result."""

from __future__ import annotations

from collections.abc import Iterable

# How their names begin: the guard's, the platform's, the logger's and a terminal's.
SETTINGS = (
    *("GUARD_", "FC_", "ALIBABA_CLOUD_", "POWERTOOLS_", "AWS_", "LOG_LEVEL"),
    *("FORCE_COLOR", "NO_COLOR", "TTY_", "COLUMNS"),
)


def settings_in(environment: Iterable[str]) -> list[str]:
    """The names that a test takes out of its environment."""
    return [
        name for name in environment if name.startswith(SETTINGS) or name.lower().endswith("_proxy")
    ]
