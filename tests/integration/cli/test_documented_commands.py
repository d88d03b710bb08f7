"""Each command of README and docs, pasted into a shell whose cloud is the emulated one."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.documents import DOCUMENTS, REPOSITORY, commands_in
from tests.emulators.cloud import ACCOUNT, QUEUE, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.operators_shell import invoke
from tests.live import verify
from tests.unit.fakes import creation_of, dead_letter_of
from tests.unit.sweep.sweeps import realistic

BUCKETS = tuple(f"orders-{number}" for number in range(3))
PROGRAM = ".venv/bin/encryption-guard"


def lines() -> Iterator[tuple[str, str]]:
    """Each command of the guard, and what its block exports before it."""
    for document in DOCUMENTS:
        exported = ""
        for line in commands_in(document):
            if line.startswith("export GUARD_"):
                exported = line
            elif line.startswith(PROGRAM):
                yield exported, line


@pytest.fixture(scope="module")
def cloud() -> Iterator[EmulatedCloud]:
    """A cloud in which all is well: each bucket of the commands and their samples is encrypted."""
    with emulated_cloud() as cloud:
        for bucket in ("orders", "analytics", *BUCKETS):
            cloud.tables.plant(bucket, encryption="AES256")
        cloud.log.log("oss-tables-encryption-sweep", {"message": "sweep finished", "ok": True})
        yield cloud


def plant_dead_letters(cloud: EmulatedCloud) -> None:
    """Put the dead letters into the queue that the documents speak of, and no others."""
    cloud.queue.empty(QUEUE)
    for number, bucket in enumerate(BUCKETS):
        arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/{bucket}"
        event = creation_of(arn, event_id=f"event-{number}")
        cloud.queue.put(QUEUE, b64encode(dead_letter_of(event)))


@pytest.fixture
def folder(cloud: EmulatedCloud, tmp_path: Path) -> Path:
    """A folder with the samples, as a clone has them, and with an earlier report; and a queue with
    something in it."""
    (tmp_path / "events").symlink_to(REPOSITORY / "events")
    (tmp_path / "report.json").write_text(json.dumps(realistic().as_document()), "utf-8")
    plant_dead_letters(cloud)
    return tmp_path


@pytest.mark.parametrize(("exported", "line"), sorted(set(lines())), ids=lambda text: text[:80])
def test_a_command_works_as_it_is_pasted(
    exported: str, line: str, cloud: EmulatedCloud, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as it should, and prints no traceback."""
    monkeypatch.chdir(folder)
    command, _, source = line.partition(" < ")
    variables: dict[str, Any] = dict(
        word.split("=", 1) for word in shlex.split(exported) if "=" in word
    )
    variables |= {"HOME": str(folder), "FC_ACCOUNT_ID": ACCOUNT, "FC_REGION": REGION}

    done = invoke(
        cloud,
        *shlex.split(command.removeprefix(PROGRAM)),
        stdin=Path(source).read_bytes() if source else b"",
        **variables,
    )

    assert done.exception is None or isinstance(done.exception, SystemExit)
    # Dead letters wait, which `status` reports.
    assert done.exit_code == (1 if " status " in line else 0), done.stderr


def test_the_live_verifier_describes_its_options() -> None:
    """The documents send a reader to its help."""
    done = CliRunner().invoke(verify.main, ["--help"])

    assert (done.exit_code, "--region" in done.stdout) == (0, True)
