"""A short storm, and guards that were broken on purpose: `make chaos` has the long one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import ALL, main
from tests.chaos.broken_guards import BROKEN
from tests.chaos.checker import Kind, check
from tests.chaos.plan import plan
from tests.chaos.storm import raise_storm

SEED = 20261122


@pytest.mark.slow
def test_nothing_is_lost_under_every_fault_at_once() -> None:
    """Each event ends as an encrypted bucket, an explained skip or a letter; no claim is false."""
    storm = plan(SEED, 250, outage_seconds=4)

    history = raise_storm(storm)

    verdict = check(storm, history)
    assert verdict.violations == ()
    assert verdict.ends.total() == 250
    assert len(history.injected) > 20


# What a storm is to find of each, and by which trouble.
FOUND: dict[str, tuple[str, Kind]] = {
    "an event that failed counts as skipped": ("OSS: 5xx", "lost"),
    "a letter is not sent": ("OSS: refused", "lost"),
    "a letter that the queue refused counts as written": ("SMQ: refuses", "lost"),
    "every refusal counts as a bucket that is gone": ("OSS: refused", "untold"),
    "what was never confirmed counts as a success": ("OSS: 5xx", "false success"),
    "a stronger choice is overwritten": ("delivered twice or thrice", "touched"),
    "a letter holds something else": ("OSS: refused", "altered"),
    "the first event of an array stands for all": ("in arrays", "lost"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_guard_is_found_out(name: str) -> None:
    """The storm is one that can be failed: each guard that breaks a promise does fail it."""
    trouble, kind = FOUND[name]
    storm = plan(SEED, 40, [trouble])

    verdict = check(storm, raise_storm(storm, instances=4, broken=name))

    assert kind in {violation.kind for violation in verdict.violations}


def test_a_few_events_are_not_lost_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs it can have the same again by its seed, and has the figures as JSON."""
    figures = tmp_path / "build" / "chaos.json"
    arguments = ["--seed", "7", "--trouble", ALL, "--events", "10", "--outage", "0"]
    monkeypatch.setattr("sys.argv", ["chaos", *arguments, "--json", str(figures)])

    code = main()

    printed = capsys.readouterr()
    assert code == 0
    assert "seed 7" in printed.err
    assert ALL in printed.out
    (row,) = json.loads(figures.read_text("utf-8"))["storms"]
    assert (row["storm"], row["seed"], row["events"], row["lost"]) == (ALL, 7, 10, 0)
