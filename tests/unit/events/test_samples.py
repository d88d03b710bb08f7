"""Every sample in events/ ends as the table in events/README.md says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from encryption_guard.enforcement.policy import AskDirectory, Deny, Encrypt, Skip, decide
from encryption_guard.errors import InvalidEvent
from encryption_guard.events.envelopes import Event, open_payload
from encryption_guard.settings import Settings

FOLDER = Path(__file__).resolve().parents[3] / "events"
README = (FOLDER / "README.md").read_text("utf-8")
ORIGIN = re.compile(r"invented|(?:documented|derived): <https://[^ >]+>")


@dataclass(frozen=True)
class Expected:
    """How one event ends: `<outcome>: <reason>`, and the place that named the bucket."""

    outcome: str
    named_by: str | None


@dataclass(frozen=True)
class Sample:
    """One row of the README's tables."""

    file: str
    origin: str
    ends: tuple[Expected, ...]


def cells(line: str) -> list[str]:
    """The columns of one line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def values(cell: str) -> list[str | None]:
    """The `quoted` values of a cell; a dash is none."""
    return [quoted or None for quoted in re.findall(r"`([^`]*)`|-", cell)]


def read_samples(readme: str) -> list[Sample]:
    """The rows of all tables."""
    samples = []
    for line in readme.splitlines():
        if not line.startswith("| `"):
            continue
        file, origin, _, outcome, named_by = cells(line)
        ends = [
            Expected(str(outcome), place)
            for outcome, place in zip(values(outcome), values(named_by), strict=True)
        ]
        samples.append(Sample(file.strip("`"), origin, tuple(ends)))
    return samples


def read_settings(readme: str) -> Settings:
    """The settings that the README says the outcomes hold for."""
    return Settings.from_environment(
        json.loads(readme.partition("```json\n")[2].partition("```")[0])
    )


SAMPLES = read_samples(README)
SETTINGS = read_settings(README)
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=[s.file for s in SAMPLES])
each_json_file = pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name
)


def judged(delivery: Event) -> Expected:
    """What is decided about an event, in the words of the README; requests all succeed there."""
    try:
        if isinstance(delivery.parsed, InvalidEvent):
            raise delivery.parsed
        decision = decide(delivery.parsed, SETTINGS, today=date(2026, 11, 22))
    except InvalidEvent as error:
        return Expected(f"dead_lettered: {error.reason}", None)
    match decision:
        case Encrypt(bucket, cause):
            return Expected(f"encrypted: {cause}", bucket.named_by)
        case Skip(reason, bucket):
            return Expected(f"skipped: {reason}", bucket.named_by if bucket else None)
        case Deny(bucket, foreign):
            return Expected(f"dead_lettered: foreign_{foreign}", bucket.named_by)
        case AskDirectory(bucket):
            return Expected("asks the directory", bucket.named_by)


@each_sample
def test_a_sample_ends_as_the_readme_says(sample: Sample) -> None:
    """Each event in the file is decided as its row says, in the order of the row."""
    opened = open_payload((FOLDER / sample.file).read_bytes())

    ends = tuple(judged(delivery) for delivery in opened.events)

    assert ends == sample.ends


def test_every_file_has_a_row_and_every_row_a_file() -> None:
    """The tables list each file of the folder once, and nothing else."""
    files = sorted(path.name for path in FOLDER.iterdir() if path.name != "README.md")

    listed = sorted(sample.file for sample in SAMPLES)

    assert listed == files


@each_sample
def test_a_sample_tells_where_it_comes_from(sample: Sample) -> None:
    """The origin is a documented page, something derived from one, or an invention."""
    assert ORIGIN.fullmatch(sample.origin)


def test_every_place_is_named_by_a_sample() -> None:
    """There is a sample for each place of the contract that can name a bucket."""
    places = {end.named_by for sample in SAMPLES for end in sample.ends if end.named_by}

    assert places == {
        "responseElements",
        "referencedResources",
        "resourceName",
        "requestParameters",
        "requestParameterJson",
        "eventSource",
        "subject",
    }


@each_json_file
def test_a_sample_is_pretty_printed(path: Path) -> None:
    """A .json file is JSON, indented by two spaces."""
    text = path.read_text("utf-8-sig")

    printed = json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"

    assert text == printed


def test_samples_hold_no_real_account() -> None:
    """Every number that may be an account id is one of the two made up for documentation."""
    texts = [path.read_text("utf-8") for path in FOLDER.iterdir()]

    accounts = {found for text in texts for found in re.findall(r"(?<!\w)\d{16}(?!\w)", text)}

    assert accounts == {"1234567890123456", "9876543210987654"}
