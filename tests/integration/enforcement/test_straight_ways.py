"""One event on its way from the handler to the PUT, traced: no room calls a later one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from functions.encrypt_on_create import index
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, QUEUE_ARN, REGION, REPOSITORY
from tests.emulators.oss_tables import OssTables
from tests.integration.enforcement.test_handler import Context
from tests.unit.test_structure import PACKAGE, ROOMS

EVENT = REPOSITORY / "events" / "response_elements_arn.json"
KEY = AccessKey("STS.traced", "traced-secret", ACCOUNT, security_token="traced-token")


def room_of(frame: FrameType) -> str | None:
    """The room whose code it runs, if it is ours."""
    file = Path(frame.f_code.co_filename)
    if not file.is_relative_to(PACKAGE):
        return None
    first = file.relative_to(PACKAGE).parts[0]
    return first if first in ROOMS else "root"


def callbacks(call: Callable[[], object]) -> list[str]:
    """Each call of a later room by an earlier one, whatever stands in between."""
    found: list[str] = []

    def trace(frame: FrameType, what: str, _: Any) -> None:
        room, caller = room_of(frame), frame.f_back
        while caller and not room_of(caller):
            caller = caller.f_back
        if what == "call" and room and caller:
            before = room_of(caller) or room
            if ROOMS.index(room) > ROOMS.index(before):
                found.append(f"{before}.{caller.f_code.co_name} -> {room}.{frame.f_code.co_name}")

    previous = sys.getprofile()
    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(previous)
    return found


@pytest.mark.usefixtures("cold_instance")
def test_no_room_calls_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader follows an event downwards, and back only as its calls return."""
    with OssTables(KEY, region=REGION) as tables:
        bucket = tables.plant("analytics")
        settings = {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": KEY.id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": KEY.secret,
            "ALIBABA_CLOUD_SECURITY_TOKEN": "traced-token",
            "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
            "GUARD_OSS_TABLES_ENDPOINT": tables.url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        outcomes: list[str] = []

        found = callbacks(lambda: outcomes.append(index.handler(EVENT.read_bytes(), Context())))

        assert (found, tables.encryption(bucket)) == ([], "AES256")
        assert json.loads(outcomes[0])["outcome"] == "encrypted"


def test_a_callback_would_be_found() -> None:
    """The trace sees through what is not ours: here a callable that the throttle's clock calls."""
    from encryption_guard.enforcement.policy import choice_of
    from encryption_guard.http.retries import Throttle
    from encryption_guard.invocation import Clock
    from encryption_guard.services.oss_tables import Reading

    def monotonic() -> float:
        return len(choice_of(Reading("encrypted", "AES256", "AES256")))

    found = callbacks(lambda: Throttle(Clock(monotonic=monotonic)).left())

    assert found == ["http.left -> enforcement.choice_of"]
