"""README and docs against the code that they describe, and against each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from encryption_guard.cli import main
from encryption_guard.cli.remedies import REMEDIES
from encryption_guard.enforcement import Outcome
from encryption_guard.errors import Reason
from encryption_guard.settings import VARIABLES, Settings
from layers.encryption_guard.tools.configuration import KEYS, parse
from layers.encryption_guard.tools.preflight import REGIONS
from tests.documents import DOCUMENTS, commands, commands_in, prose_of
from tests.emulators.cloud import REPOSITORY

ENGLISH, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
MAKEFILE = (REPOSITORY / "Makefile").read_text("utf-8")
# In order: headings are not the place of a variable of `make`.
MAKE_VARIABLES = set(
    re.findall(r"\$[({](?:or |addprefix --region ,|if )?\$?\(?([A-Z_]+)", MAKEFILE)
)


def read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def rows_under(heading: str, text: str) -> list[list[str]]:
    """The cells of the table whose first row begins with this cell."""
    lines = text.partition(f"\n| {heading} |")[2].splitlines()[2:]
    table = lines[: next((n for n, line in enumerate(lines) if not line.startswith("|")), None)]
    return [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in table]


def in_code(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


# Size.


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=lambda path: path.name)
def test_a_readme_is_for_a_person_in_a_hurry(readme: Path) -> None:
    """It has at most 150 lines, none of them over 400 characters."""
    lines = readme.read_text("utf-8").splitlines()

    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 400] == []


# Tables.


def test_the_settings_are_those_that_are_read() -> None:
    """The table of settings has a row for each variable that an operator may set, and no other."""
    documented = {
        name for row in rows_under("name", read("docs/settings.md")) for name in in_code(row[0])
    }

    names = {variable.name for variable in VARIABLES.values()}
    assert documented == {n for n in names if n.startswith("GUARD_")} | {"GUARD_EXEMPTIONS"}


@pytest.mark.parametrize("name", [variable.name for variable in VARIABLES.values()])
def test_a_default_is_the_one_that_counts(name: str) -> None:
    """Where the table of settings states a plain default, that value is accepted."""
    defaults = {
        in_code(row[0])[0]: in_code(row[1]) for row in rows_under("name", read("docs/settings.md"))
    }
    variable = next(variable for variable in VARIABLES.values() if variable.name == name)

    for default in defaults.get(name, []):
        if default != "FC_REGION":
            variable.read(default)


def test_the_variables_of_a_deployment_are_those_of_the_template() -> None:
    """Each variable that the template reads from the deploying shell has its row, and no other."""
    read_by_template = set(re.findall(r"env\('([A-Z_]+)'", read("template.yaml")))

    rows = rows_under("variable of your shell", read("docs/deploy.md"))

    assert {name for row in rows for name in re.findall("`([A-Z_]{6,})`", row[0])} == (
        read_by_template - {"ALIBABA_CLOUD_REGION"}
    )


def test_the_short_table_of_settings_is_of_settings() -> None:
    """Each key in the README's table is one of guard.toml, with the template's default."""
    defaults = dict(re.findall(r"env\('GUARD_([A-Z_]+)', '([^']*)'\)", read("template.yaml")))

    rows = rows_under("key", ENGLISH.read_text("utf-8"))

    assert rows
    assert {in_code(row[0])[0] for row in rows} <= set(KEYS)
    for key, default in ((in_code(row[0])[0], in_code(row[1])) for row in rows):
        assert default in ([], [defaults[key.upper()]])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_piece_of_a_guard_toml_is_valid(document: Path) -> None:
    """What is pasted into the file is understood."""
    for block in re.findall(r"```toml\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        file = parse(block, file=document.name)
        assert Settings.from_environment(file.values).exemption_errors == ()


def test_the_regions_are_those_that_can_be_deployed_to() -> None:
    """The table of regions says what `make deploy` relies on."""
    documented = {
        name: (events, python)
        for names, _, events, python in rows_under("region", read("docs/deploy.md"))
        for name in in_code(names)
    }

    assert documented == {
        region.name: (
            "yes" if region.publishes_events else "no",
            region.runtime.removeprefix("python"),
        )
        for region in REGIONS.values()
    }


def test_every_cause_has_its_row() -> None:
    """The table of dead letters says of each cause what the commands say, and of no other."""
    said = [
        [f"`{r.reason}`" if r.reason else "any", r.cause, r.meaning, r.what_to_do] for r in REMEDIES
    ]

    assert rows_under("reason | cause", read("docs/operate.md")) == said


def test_every_reason_of_a_dead_letter_has_a_remedy() -> None:
    """Each reason that the guard writes is in the table."""
    assert set(get_args(Reason)) <= {remedy.reason for remedy in REMEDIES}


def test_the_outcomes_are_those_there_are() -> None:
    """README and docs name each kind of outcome, and no other."""
    kinds = {kind.outcome for kind in Outcome.__subclasses__()}
    (row,) = re.findall(r"^\| `outcome` \| (.*) \|$", read("docs/operate.md"), re.MULTILINE)

    assert set(in_code(row)) == kinds
    for readme in (ENGLISH, CHINESE):
        text = readme.read_text("utf-8")
        heading = "outcome" if readme is ENGLISH else "结果"
        assert {in_code(row[0])[0] for row in rows_under(heading, text)} == kinds


# Commands.


@pytest.mark.parametrize(
    "line", sorted({line for line in commands() if re.match(r"(\w+=\S+ )*make ", line)})
)
def test_every_make_command_can_be_made(line: str) -> None:
    """Its target exists, and the Makefile or a setting of the guard knows each variable."""
    words = shlex.split(line, comments=True)
    command = words.index("make")
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    given = {word.partition("=")[0] for word in words[command + 2 :]}

    assert words[command + 1] in targets
    assert given <= MAKE_VARIABLES
    settings = {word.partition("=")[0] for word in words[:command]}
    assert settings <= {variable.name for variable in VARIABLES.values()} | {"GUARD_EXEMPTIONS"}


def test_every_target_that_prose_mentions_exists() -> None:
    """`make something` within a sentence can be made too."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    spans = [span for document in DOCUMENTS for span in in_code(prose_of(document))]
    made = {span.split()[1] for span in spans if span.startswith("make ")}

    assert made
    assert made <= targets


@pytest.mark.parametrize(
    "line",
    sorted({line for line in commands() if "encryption-guard " in line and "bin/s " not in line}),
)
def test_every_guard_command_is_understood(line: str) -> None:
    """The command line accepts each documented command and each of its options."""
    words = shlex.split(line.partition(" < ")[0], comments=True)
    program = next(n for n, word in enumerate(words) if word.endswith("/encryption-guard"))

    result = CliRunner().invoke(main, [*words[program + 1 :], "--help"])

    assert result.exit_code == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_of_a_command_exists(document: Path) -> None:
    """A command names no sample, test or template that is not there."""
    words = [word for line in commands_in(document) for word in shlex.split(line, comments=True)]
    files = [
        word for word in words if re.fullmatch(r"(events|tests|docs)/\S+|template\.yaml", word)
    ]

    assert [file for file in files if not (REPOSITORY / file).exists()] == []


# Links.


def anchors(document: Path) -> set[str]:
    """The fragments that a document's headings can be linked by, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Each link within the repository: the file that it leads to, and its fragment."""
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text("utf-8")):
        if "://" not in link:
            path, _, fragment = unquote(link).partition("#")
            yield (document.parent / path).resolve() if path else document, fragment


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Each file that is linked exists, and so does each heading."""
    found = list(links(document))

    assert [path for path, _ in found if not path.exists()] == []
    assert [
        (path.name, fragment)
        for path, fragment in found
        if fragment and fragment not in anchors(path)
    ] == []


def test_every_document_is_linked() -> None:
    """A reader of the README reaches each page of docs/."""
    linked = {path for path, _ in links(ENGLISH)}

    assert {path for path in DOCUMENTS if path.parent.name == "docs"} <= linked


# Two languages.


def test_both_readmes_have_the_same_commands() -> None:
    """A command that changes in one language changes in the other."""
    assert commands_in(CHINESE) == commands_in(ENGLISH)


def test_both_readmes_have_the_same_parts() -> None:
    """The same headings in number and level, the same tables by first column, the same links."""

    def shape(document: Path) -> tuple[list[str], list[list[str]], list[tuple[str, str]]]:
        text = document.read_text("utf-8")
        headings = re.findall(r"^(#+) ", text, re.MULTILINE)
        first_cells = [in_code(cell) for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)]
        other = {ENGLISH: "README", CHINESE: "README"}
        found = [(other.get(path, path.name), fragment) for path, fragment in links(document)]
        return headings, first_cells, found

    assert shape(CHINESE) == shape(ENGLISH)
