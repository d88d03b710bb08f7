"""An operator's shell, and OSS Tables on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.oss_tables import OssTables
from tests.unit.fakes import ACCOUNT, REGION, forget_logger

OPERATOR = AccessKey("LTAI-operator", "operator-secret", ACCOUNT, security_token="operator-token")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator's shell with credentials, whose requests lead nowhere unless a test says so."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.id)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.secret)
    monkeypatch.setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "operator-token")
    for service in ("OSS_TABLES", "SMQ", "STS"):
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
