"""The built layer, unpacked as Function Compute does, under a Python that has nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.emulators.cloud import REPOSITORY
from tests.emulators.function_compute import FunctionCompute
from tests.emulators.function_instance import Function

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
BARE_PYTHON = str(Path(sys.base_prefix, "bin", RUNTIME))


@pytest.mark.skipif(
    RUNTIME not in {"python3.10", "python3.12"} or not Path(BARE_PYTHON).exists(),
    reason=f"Function Compute has no {RUNTIME}, so that no layer is built for it",
)
def test_the_layer_holds_all_that_the_function_needs(tmp_path: Path) -> None:
    """With nothing but the layer beside it, the function processes an event."""
    build = REPOSITORY / "layers" / "encryption_guard" / "build.py"
    command = [sys.executable, str(build), "--runtime", RUNTIME, "--output", str(tmp_path)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(tmp_path / "encryption_guard-layer.zip") as archive:
        archive.extractall(tmp_path / "opt")
    function = Function(
        code=tmp_path / "functions" / "encrypt_on_create",
        layer=tmp_path / "opt" / "python",
        python=BARE_PYTHON,
        runtime="python3.10" if RUNTIME == "python3.10" else "python3.12",
        initializer="index.initialize",
        environment={
            "GUARD_DEAD_LETTER_QUEUE": "acs:mns:cn-hangzhou:1234567890123456:/queues/letters"
        },
    )

    with FunctionCompute(function) as cloud:
        tried = cloud.invoke((REPOSITORY / "events" / "put_bucket.json").read_bytes())

    assert tried.error is None
    assert json.loads(tried.result or "")["reason"] == "not_relevant"
