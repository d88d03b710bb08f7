"""What a shell completes, by click's protocol for bash."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from encryption_guard.cli import main
from encryption_guard.services.inventory import REGIONS


def complete(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    asked = {
        "_ENCRYPTION_GUARD_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["encryption-guard", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = CliRunner().invoke(main, [], prog_name="encryption-guard", env=asked)
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("s",), ["status", "sweep"]),
        (("sweep", "--state", "not"), ["not_encrypted"]),
        (("sweep", "--region", "cn-"), [name for name in REGIONS if name.startswith("cn-")]),
        (("status", "--region", "cn-hangzhou,us"), ["cn-hangzhou,us-east-1"]),
        (("status", "--region", "mars"), []),
        (("dead-letters", "re"), ["redrive"]),
        (
            ("dead-letters", "list", "--reason", "f"),
            ["foreign_account", "foreign_region", "function_failed"],
        ),
    ],
)
def test_commands_and_values_are_completed(words: tuple[str, ...], expected: list[str]) -> None:
    """As far as they are known without asking a service."""
    assert complete(*words) == expected
