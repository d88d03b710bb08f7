"""What a cold instance loads until a bucket is encrypted: every module costs time in the gap."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from encryption_guard import __version__
from layers.encryption_guard.tools.build import write_version
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, QUEUE_ARN, REGION, REPOSITORY
from tests.emulators.function_instance import LAYER
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.integration.enforcement import cold_path

PINNED_FILE = Path(__file__).with_name("cold_path_modules.txt")
PINNED = {line for line in PINNED_FILE.read_text("utf-8").splitlines() if not line.startswith("#")}
# Whatever Python it is: some ten more or less belong to its own standard library.
CEILING = 280
CODE = REPOSITORY / "functions" / "encrypt_on_create"
SWEEP_CODE = REPOSITORY / "functions" / "sweep"
EVENTS = REPOSITORY / "events"
CREATION, TIMER = "response_elements_arn.json", "timer.json"
KEY = AccessKey("STS.cold", "cold-secret", ACCOUNT, security_token="cold-token")
# A module that nobody loads by chance, and that loads no other.
NEWCOMER = "colorsys"
FUNCTION_WITH_A_NEWCOMER = f"""
import {NEWCOMER}

def initialize(context): ...
def handler(event, context): ...
"""
COSTLY = {"pydantic", "pydantic_core", "click", "rich", "fc2", "asyncio"}


@dataclass(frozen=True)
class Cold:
    """A bucket without encryption, and a fresh process for its event."""

    tables: OssTables
    bucket: str
    certificate: Path
    layer: Path

    def loaded(
        self, code: Path = CODE, event: str = CREATION, *, ago: timedelta = timedelta(0)
    ) -> dict[str, str]:
        """Each module that the process loads to encrypt it, and which module asked for it.

        The modules are in the order in which they were loaded. The event is so old.
        """
        site = sysconfig.get_paths()["purelib"]
        file = self.layer.parent / "event.json"
        at = datetime.now(timezone.utc) - ago
        text = (EVENTS / event).read_text("utf-8")
        file.write_text(re.sub(r'"eventTime": "[^"]*"', f'"eventTime": "{at.isoformat()}"', text))
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                cold_path.__file__,
                code,
                self.layer,
                site,
                file,
            ],
            env={
                "ALIBABA_CLOUD_ACCESS_KEY_ID": KEY.id,
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": KEY.secret,
                "ALIBABA_CLOUD_SECURITY_TOKEN": "cold-token",
                "FC_FUNCTION_NAME": "encrypt-on-create",
                "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
                # One list loads what the watch loads.
                "GUARD_WATCH_SECONDS": "0",
                "GUARD_OSS_TABLES_ENDPOINT": self.tables.url,
                "SSL_CERT_FILE": str(self.certificate),
            },
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        loaded: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return loaded


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[Cold]:
    """The service over TLS, and a bucket in it that has to be encrypted."""
    authority = Authority()
    # As it is deployed, where the version is stated: elsewhere it is looked up.
    package = tmp_path / "layer" / "encryption_guard"
    shutil.copytree(Path(LAYER) / package.name, package)
    write_version(package, __version__)
    with OssTables(KEY, region=REGION, authority=authority) as tables:
        bucket = tables.plant("analytics")
        yield Cold(tables, bucket, authority.write(tmp_path / "ca.pem"), package.parent)


def is_of_the_layer(name: str) -> bool:
    return name.partition(".")[0] in cold_path.LAYER


def newcomers(loaded: dict[str, str]) -> list[str]:
    """A line for each module that is not pinned, with what brought it."""
    return [f"{name}, brought by {by}" for name, by in loaded.items() if name not in PINNED]


def test_a_cold_instance_loads_what_is_pinned(cold: Cold) -> None:
    """No module comes to the way to an encrypted bucket unseen, and none stays in the list."""
    loaded = cold.loaded()

    assert cold.tables.encryption(cold.bucket) == "AES256"
    assert newcomers(loaded) == [], f"worth its time? Then it belongs into {PINNED_FILE.name}"
    gone = set(filter(is_of_the_layer, PINNED)) - {*loaded, "exceptiongroup"}
    assert gone == set(), f"no longer loaded: take it out of {PINNED_FILE.name}"
    assert len(loaded) <= CEILING


def test_a_late_event_loads_the_audit_after_its_bucket_is_encrypted(cold: Cold) -> None:
    """Whatever the look at its tables takes, it does not make the gap longer."""
    loaded = cold.loaded(ago=timedelta(minutes=1))

    names = list(loaded)
    first = next(at for at, name in enumerate(names) if name not in PINNED)
    assert "encryption_guard.sweep.late_audit" in names[first:]
    assert PINNED.intersection(names[first:]) == set()


def test_a_new_module_is_named_with_what_brought_it(cold: Cold, tmp_path: Path) -> None:
    """The list is checked: an import too many in a function is told."""
    (tmp_path / "index.py").write_text(FUNCTION_WITH_A_NEWCOMER, "utf-8")

    loaded = cold.loaded(tmp_path)

    assert newcomers(loaded) == [f"{NEWCOMER}, brought by index"]


@pytest.mark.parametrize(
    ("code", "event"), [(CODE, CREATION), (SWEEP_CODE, TIMER)], ids=["creation", "sweep"]
)
def test_what_is_costly_stays_away(cold: Cold, code: Path, event: str) -> None:
    """Models, command lines and event loops are for those who need them.

    A sweep loads what reads letters with its first one, and here none is written.
    """
    loaded = cold.loaded(code, event)

    assert cold.tables.encryption(cold.bucket) == "AES256"
    assert COSTLY.intersection(name.partition(".")[0] for name in loaded) == set()
