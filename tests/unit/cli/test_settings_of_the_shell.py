"""What every command does with a wrong setting of the shell: it says so before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from encryption_guard.cli import main
from tests.emulators.oss_tables import OssTables
from tests.unit.cli.conftest import each_command
from tests.unit.fakes import ACCOUNT


@each_command
@pytest.mark.usefixtures("tables", "queue")
def test_a_misspelt_name_is_said(command: tuple[str, ...]) -> None:
    """Once, on standard error, with the nearest setting; the command goes on."""
    shell = {"GUARD_MOD": "detect", "GUARD_CONTACT_GROUP": "ops", "FC_ACCOUNT_ID": ACCOUNT}

    result = CliRunner().invoke(main, command, env=shell)

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
    command: tuple[str, ...], exemptions: str, problem: str, tables: OssTables, queue: Path
) -> None:
    """No command would encrypt what somebody meant to exempt: it asks nothing and exits with 2."""
    before = queue.read_bytes()

    result = CliRunner().invoke(main, command, env={"GUARD_EXEMPTIONS": exemptions})

    assert (result.exit_code, result.stdout, tables.requests) == (2, "", [])
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("encryption-guard: GUARD_EXEMPTIONS")
    assert problem in sentence
    assert queue.read_bytes() == before
