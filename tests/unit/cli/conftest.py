"""An operator's shell, with OSS Tables on loopback and a queue in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.oss_tables import OssTables
from tests.unit.fakes import ACCOUNT, ARN, REGION, creation_of, dead_letter_of, forget_logger

OPERATOR = AccessKey("LTAI-operator", "operator-secret", ACCOUNT, security_token="operator-token")
NOWHERE = "http://127.0.0.1:9"


LETTER = dead_letter_of(creation_of(ARN))
# Each command, with what it needs to begin.
COMMANDS = {
    "enforce": ("enforce", str(ARN)),
    "sweep": ("sweep", "--region", REGION),
    "status": ("status", "--region", REGION),
    "list": ("dead-letters", "list"),
    "show": ("dead-letters", "show", json.loads(LETTER)["id"]),
    "redrive": ("dead-letters", "redrive", "--local", "--account", ACCOUNT, "--apply"),
    "discard": ("dead-letters", "discard", "--all", "--because", "a test", "--apply"),
}
each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator's shell with credentials, whose requests lead nowhere unless a test says so."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.id)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.secret)
    monkeypatch.setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "operator-token")
    for service in ("OSS_TABLES", "SMQ", "STS", "FC", "LOG"):
        monkeypatch.setenv(f"GUARD_{service}_ENDPOINT", NOWHERE)
    monkeypatch.setenv("GUARD_MAX_ATTEMPTS", "1")
    forget_logger()
    yield
    forget_logger()


@pytest.fixture
def tables(shell: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[OssTables]:  # noqa: ARG001  its key
    """The emulated service, without a bucket."""
    with OssTables(OPERATOR, region=REGION, bucket_quota=None) as service:
        monkeypatch.setenv("GUARD_OSS_TABLES_ENDPOINT", service.url)
        yield service


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue in a file, with one dead letter."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(LETTER + b"\n")
    monkeypatch.setenv("GUARD_DEAD_LETTER_QUEUE", f"file:{file}")
    return file
