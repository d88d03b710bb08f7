"""The README against what it describes."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from click.testing import CliRunner

from encryption_guard.cli import main
from encryption_guard.cli.remedies import REMEDIES
from encryption_guard.enforcement import Outcome
from encryption_guard.errors import Reason
from encryption_guard.settings import VARIABLES
from layers.encryption_guard.tools.preflight import REGIONS
from tests.emulators.cloud import REPOSITORY

README = (REPOSITORY / "README.md").read_text("utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text("utf-8")


def section(heading: str) -> str:
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """What stands in code in the first column of the section's tables."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def commands() -> list[str]:
    """The lines of every block of commands."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_settings_are_those_that_are_read() -> None:
    """The settings table has a row for each variable that an operator may set, and no other."""
    names = {variable.name for variable in VARIABLES.values()}
    read = {name for name in names if name.startswith("GUARD_")} | {"GUARD_EXEMPTIONS"}

    assert set(first_cells(section("Settings"))) == read


def test_the_variables_of_a_deployment_are_those_of_the_template() -> None:
    """Whatever the template reads of the deploying shell has its row, and nothing else has."""
    template = (REPOSITORY / "template.yaml").read_text("utf-8")
    read = set(re.findall(r"env\('([A-Z_]+)'", template)) - {"ALIBABA_CLOUD_REGION"}
    table = section("Deploy").partition("| variable of your shell |")[2].partition("\n\n")[0]

    documented = {
        name
        for row in table.splitlines()
        for name in re.findall("`([A-Z_]{6,})`", row.split(" | ")[0])
    }

    assert documented == read


def test_the_regions_are_those_that_can_be_deployed_to() -> None:
    """Its table of what a region has says what `make deploy` goes by."""
    table = section("Deploy").partition("| OSS publishes events |")[2].partition("\n\n")[0]

    told = {
        name: (events, python)
        for row in table.splitlines()[2:]
        for names, _, events, python in [row.strip("| ").split(" | ")]
        for name in re.findall("`([^`]+)`", names)
    }

    assert told == {
        region.name: (
            "yes" if region.publishes_events else "no",
            region.runtime.removeprefix("python"),
        )
        for region in REGIONS.values()
    }


def test_every_cause_has_its_row() -> None:
    """The table of dead letters says of each cause what the commands say, and of no other."""
    chapter = section("When something is in the dead-letter queue")
    table = chapter.partition("| reason | cause |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]

    said = [
        [f"`{a.reason}`" if a.reason else "any", a.cause, a.meaning, a.what_to_do] for a in REMEDIES
    ]

    assert rows == said


def test_every_reason_of_a_letter_has_a_cause() -> None:
    """Whatever reason the guard gives, the table has it."""
    assert set(get_args(Reason)) <= {remedy.reason for remedy in REMEDIES}


def test_the_outcomes_are_those_there_are() -> None:
    """The row of `outcome` names each kind."""
    (row,) = re.findall(r"^\| `outcome` \| (.*) \|$", README, re.MULTILINE)

    kinds = {kind.outcome for kind in Outcome.__subclasses__()}

    assert set(re.findall(r"`([a-z_]+)`", row)) == kinds


def test_every_make_command_is_a_target() -> None:
    """Whatever the README has one type behind `make` can be made."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    made = {shlex.split(line, comments=True)[1] for line in commands() if line.startswith("make ")}

    assert made
    assert made <= targets


def test_every_guard_command_is_understood() -> None:
    """The command line takes each line of the README as far as it can without a cloud."""
    lines = [shlex.split(line.partition(" < ")[0]) for line in commands() if "-guard" in line]
    lines = [line for line in lines if line[0].endswith("bin/encryption-guard")]

    for line in lines:
        result = CliRunner().invoke(main, [*line[1:], "--help"])

        assert result.exit_code == 0
        for word in line[2:]:
            if word.startswith("events/"):
                assert (REPOSITORY / word).is_file()


def test_every_file_it_links_to_is_there() -> None:
    """No link within the repository leads nowhere."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (REPOSITORY / link).exists()] == []
