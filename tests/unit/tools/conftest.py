"""A deployer with an account in this process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from layers.encryption_guard.tools import tasks
from tests.emulators.cloud import REPOSITORY
from tests.unit.tools.emulated_account import Deployer


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: of a clone, what a deployment reads and may write."""
    folder = tmp_path / "clone"
    for function in tasks.FUNCTIONS:
        (folder / "functions" / function).mkdir(parents=True)
        handler = Path("functions", function, "index.py")
        shutil.copy(REPOSITORY / handler, folder / handler)
    shutil.copy(REPOSITORY / "template.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def deployer(checkout: Path) -> Deployer:
    return Deployer(checkout.parent)
