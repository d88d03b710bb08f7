"""How a command starts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.emulators.cloud import REPOSITORY

PROGRAM = """
import json, sys
from encryption_guard.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("words", [("--version",), ("no-such-command",)], ids=["version", "typo"])
def test_what_needs_no_service_imports_no_client(words: tuple[str, ...]) -> None:
    """The version is there at once: HTTP, documents and tables are slow to import."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={"PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python")},
        capture_output=True,
        text=True,
        check=True,
    )

    modules = set(json.loads(done.stdout.splitlines()[-1]))
    clients = {"httpx", "fc2", "alibabacloud_credentials"}
    assert not modules & (clients | {"pydantic", "rich", "aws_lambda_powertools", "jinja2"})
