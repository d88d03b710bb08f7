"""What every command does with a wrong setting of the shell: it says so before it does anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from encryption_guard.cli import main
from tests.emulators.oss_tables import OssTables
from tests.unit.fakes import ACCOUNT, ARN, REGION, creation_of, dead_letter_of

LETTER = dead_letter_of(creation_of(ARN))
COMMANDS = {
    "enforce": ["enforce", str(ARN)],
    "sweep": ["sweep", "--region", REGION],
    "sweep --apply": ["sweep", "--region", REGION, "--apply"],
    "list": ["dead-letters", "list"],
    "show": ["dead-letters", "show", json.loads(LETTER)["id"]],
    "redrive --local": ["dead-letters", "redrive", "--local", "--account", ACCOUNT, "--apply"],
    "discard": ["dead-letters", "discard", "--all", "--because", "a test", "--apply"],
}

each_command = pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue in a file, with one dead letter."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(LETTER + b"\n")
    monkeypatch.setenv("GUARD_DEAD_LETTER_QUEUE", f"file:{file}")
    return file


@each_command
@pytest.mark.usefixtures("tables", "queue")
def test_a_misspelt_name_is_said(arguments: list[str]) -> None:
    """Once, on standard error, with the nearest setting; the command goes on."""
    result = CliRunner().invoke(
        main, arguments, env={"GUARD_MOD": "detect", "GUARD_CONTACT_GROUP": "ops"}
    )

    told = [line for line in result.stderr.splitlines() if "GUARD_" in line]
    assert told == [
        "encryption-guard: GUARD_MOD is not a setting, and has no effect. Did you mean GUARD_MODE?"
    ]
    assert result.exit_code != 2
    assert "GUARD_" not in result.stdout


BAD_EXEMPTIONS = {
    "a misspelt key": ('[{"bucket": "a-*", "reason": "r", "expire": "2027-01-01"}]', '"expire" is'),
    "one of two": ('[{"bucket": "a-*", "reason": "r"}, 5]', "entry 2: it is not a JSON object"),
    "no file": ("file:nowhere.json", "No such file or directory"),
}


@each_command
@pytest.mark.parametrize(("exemptions", "problem"), BAD_EXEMPTIONS.values(), ids=BAD_EXEMPTIONS)
def test_a_bad_exemption_is_misuse(
    arguments: list[str], exemptions: str, problem: str, tables: OssTables, queue: Path
) -> None:
    """No command would encrypt what somebody meant to exempt: it asks nothing and exits with 2."""
    before = queue.read_bytes()

    result = CliRunner().invoke(main, arguments, env={"GUARD_EXEMPTIONS": exemptions})

    assert (result.exit_code, result.stdout, tables.requests) == (2, "", [])
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("encryption-guard: GUARD_EXEMPTIONS")
    assert problem in sentence
    assert queue.read_bytes() == before
