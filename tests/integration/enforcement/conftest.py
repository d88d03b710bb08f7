"""The creation function in this process, in an environment as it is deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encryption_guard.enforcement.handler import (
    open_proxied_transport,
    read_settings,
    shared_members,
    shared_transport,
    warn_of_unknown_names,
)
from tests.emulators.cloud import ACCOUNT, QUEUE_ARN, REGION, ROLE
from tests.integration.conftest import Guard
from tests.unit.fakes import forget_logger


@pytest.fixture
def cold_instance() -> Iterator[None]:
    """A test begins and ends as a fresh process would: nothing cached, no logger set up."""
    forget_logger()
    yield
    shared_transport().close()
    for cached in (
        shared_members,
        shared_transport,
        open_proxied_transport,
        read_settings,
        warn_of_unknown_names,
    ):
        cached.cache_clear()
    forget_logger()


@pytest.fixture
def deployed(guard: Guard, cold_instance: None, monkeypatch: pytest.MonkeyPatch) -> Guard:  # noqa: ARG001
    """The environment as template.yaml sets it, with the endpoints of the emulators."""
    environment = {
        "FC_FUNCTION_NAME": "encrypt-on-create",
        "FC_ACCOUNT_ID": ACCOUNT,
        "FC_REGION": REGION,
        "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
        "GUARD_OSS_TABLES_ENDPOINT": guard.tables.url,
        "GUARD_SMQ_ENDPOINT": guard.queue.url,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ROLE.id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ROLE.secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": ROLE.security_token or "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return guard
