"""What a command printed, as a program reads it and as a person does."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.legible import assert_legible

SAID = "encryption-guard: "


def objects(text: str) -> list[dict[str, Any]]:
    """The objects that were printed, if each line is one."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(item, dict) for item in found)
    return found


def logged(errors: str) -> list[dict[str, Any]]:
    """The log lines on standard error, without the sentences for a person."""
    return objects("\n".join(line for line in errors.splitlines() if line.startswith("{")))


def sentences(errors: str) -> list[str]:
    """What was said on standard error, but for the log, and for who acts."""
    lines = [line for line in errors.splitlines() if not line.startswith("{")]
    assert all(line.startswith(SAID) for line in lines), errors
    words = [line.removeprefix(SAID) for line in lines]
    return [each for each in words if not each.startswith("acting as ")]


def assert_harmless(output: str) -> None:
    """Nothing that was printed steers a terminal, tells a secret, or is meant for programmers."""
    assert_legible(output, lines=True)
    assert "Traceback" not in output
    assert "operator-secret" not in output
    assert "operator-token" not in output
    assert "authorization" not in output.lower()
