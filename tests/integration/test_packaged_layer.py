"""The built layer, unpacked as Function Compute does, under a Python that has nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.cloud import REPOSITORY, TIMER_EVENT
from tests.emulators.function_compute import FunctionCompute
from tests.emulators.function_instance import Function

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
BARE_PYTHON = str(Path(sys.base_prefix, "bin", RUNTIME))


pytestmark = pytest.mark.skipif(
    RUNTIME not in {"python3.10", "python3.12"} or not Path(BARE_PYTHON).exists(),
    reason=f"Function Compute has no {RUNTIME}, so that no layer is built for it",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make build` makes, the layer unpacked in `opt`."""
    folder = tmp_path_factory.mktemp("build")
    build = REPOSITORY / "layers" / "encryption_guard" / "build.py"
    command = [sys.executable, str(build), "--runtime", RUNTIME, "--output", str(folder)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(folder / "encryption_guard-layer.zip") as archive:
        archive.extractall(folder / "opt")
    return folder


def invoked(built: Path, name: str, event: bytes) -> dict[str, Any]:
    """What this function answers, with nothing but the layer beside it."""
    function = Function(
        code=built / "functions" / name,
        layer=built / "opt" / "python",
        python=BARE_PYTHON,
        runtime="python3.10" if RUNTIME == "python3.10" else "python3.12",
        initializer="index.initialize",
        environment={
            "GUARD_DEAD_LETTER_QUEUE": "acs:mns:cn-hangzhou:1234567890123456:/queues/letters",
            "GUARD_OSS_TABLES_ENDPOINT": "http://127.0.0.1:9",
            "GUARD_MAX_ATTEMPTS": "1",
        },
    )
    with FunctionCompute(function) as cloud:
        tried = cloud.invoke(event)
    assert tried.error is None
    answer: dict[str, Any] = json.loads(tried.result or "")
    return answer


def test_the_layer_holds_all_that_an_event_needs(built: Path) -> None:
    """With nothing but the layer beside it, the creation function processes an event."""
    event = (REPOSITORY / "events" / "put_bucket.json").read_bytes()

    assert invoked(built, "encrypt_on_create", event)["reason"] == "not_relevant"


def test_the_layer_holds_all_that_a_sweep_needs(built: Path) -> None:
    """Where no service answers, the timer's function says so, region by region."""
    result = invoked(built, "sweep", TIMER_EVENT)

    (region,) = result["amiss"]
    assert (region["kind"], region["reason"]) == ("region", "not_listed")
    assert result["totals"]["not_listed"] == 1
