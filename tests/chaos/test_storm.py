"""A short storm, and guards that were broken on purpose: `make chaos` has the long one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.chaos.__main__ import ALL, main
from tests.chaos.checker import Kind, check
from tests.chaos.plan import plan
from tests.chaos.storm import raise_storm
from tests.emulators.function_instance import LAYER

SEED = 20261122


def test_nothing_is_lost_under_every_fault_at_once() -> None:
    """Each event ends as an encrypted bucket, an explained skip or a letter; no claim is false."""
    storm = plan(SEED, 250, outage_seconds=4)

    history = raise_storm(storm)

    verdict = check(storm, history)
    assert verdict.violations == ()
    assert verdict.ends.total() == 250
    assert len(history.injected) > 20


BROKEN: dict[str, tuple[str, str, str, str, Kind]] = {
    "an event that failed counts as skipped": (
        "enforcement/__init__.py",
        "result = error",
        'result = Skipped(reason="not_relevant")',
        "OSS: 5xx",
        "lost",
    ),
    "a letter is not sent": (
        "dead_letters/__init__.py",
        "self.put(dead_letter)",
        "dead_letter.body()",
        "OSS: refused",
        "lost",
    ),
    "a letter that the queue refused counts as written": (
        "dead_letters/__init__.py",
        "            raise DeadLetterNotWritten(",
        "            return Written(dead_letter, False)\n            raise DeadLetterNotWritten(",
        "SMQ: refuses",
        "lost",
    ),
    "every refusal counts as a bucket that is gone": (
        "enforcement/__init__.py",
        'if cause == "drift" and refused.reason == "not_found":',
        "if refused.reason:",
        "OSS: refused",
        "untold",
    ),
    "what was never confirmed counts as a success": (
        "services/oss_tables.py",
        "raise _final_error(operation, found, self._invocation.settings) from found.fault",
        'return Reading("encrypted", "AES256", known_as="AES256")',
        "OSS: 5xx",
        "false success",
    ),
    "a stronger choice is overwritten": (
        "enforcement/__init__.py",
        "    if current:\n",
        '    if current and current.algorithm == "AES256":\n',
        "delivered twice or thrice",
        "touched",
    ),
    "a letter holds something else": (
        "dead_letters/__init__.py",
        "return fit(empty, event.raw)",
        'return fit(empty, event.raw + b" ")',
        "OSS: refused",
        "altered",
    ),
    "the first event of an array stands for all": (
        "enforcement/__init__.py",
        "enumerate(opened.events):",
        "enumerate(opened.events[:1]):",
        "in arrays",
        "lost",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_guard_is_found_out(name: str, tmp_path: Path) -> None:
    """The storm is one that can be failed: each guard that breaks a promise does fail it."""
    file, right, wrong, trouble, kind = BROKEN[name]
    layer = shutil.copytree(
        LAYER, tmp_path / "python", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = layer / "encryption_guard" / file
    text = source.read_text("utf-8")
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong), "utf-8")
    storm = plan(SEED, 40, [trouble])

    verdict = check(storm, raise_storm(storm, instances=4, layer=layer))

    assert kind in {violation.kind for violation in verdict.violations}


def test_the_command_tells_the_seed_and_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs it can have the same again, and has the figures as JSON."""
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
