"""What a newcomer sees first has to work."""

from __future__ import annotations

import subprocess
import sys

from tests.emulators.cloud import REPOSITORY


def test_the_demo_ends_as_it_should() -> None:
    """`make demo` shows every outcome there is, and says so with its exit code."""
    command = [sys.executable, "-m", "tests.emulators.demo"]

    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "26 ended as they should" in shown.stdout
    for outcome in (
        "encrypted",
        "already_encrypted",
        "kept_stronger",
        "skipped",
        "detected",
        "dead_lettered",
    ):
        assert f" {outcome} " in shown.stdout
