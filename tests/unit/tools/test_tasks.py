"""What is made of the answers of Serverless Devs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from encryption_guard.errors import ConfigurationError, GuardError
from layers.encryption_guard.tools import tasks
from layers.encryption_guard.tools.comparison import Stack
from layers.encryption_guard.tools.preflight import REGIONS
from layers.encryption_guard.tools.progress import Report, Terminal
from layers.encryption_guard.tools.serverless_devs import ServerlessDevs, StepFailed
from layers.encryption_guard.tools.tasks import (
    Target,
    build_layer,
    deploy_template,
    find_latest_version,
    format_next_steps,
    preview,
    publish_layer,
    remove_and_verify,
    smoke_test,
    wait_for_stack,
)


@dataclass(frozen=True)
class Answering(ServerlessDevs):
    """A Serverless Devs that prints one of these after the other, or fails with it."""

    answers: Iterator[str | StepFailed] = field(kw_only=True)

    def run(self, *_: str) -> str:
        answer = next(self.answers)
        if isinstance(answer, StepFailed):
            raise answer
        return answer


def answering(*answers: str | StepFailed) -> ServerlessDevs:
    """One that answers so, whatever it is asked."""
    return Answering((), (), {}, io.StringIO(), lambda _: None, answers=iter(answers))


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Builds with this program and returns the printed lines."""
    (tmp_path / "layer.zip").write_bytes(b"x" * 2**20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "BUILDER", "builder")
    monkeypatch.setattr(tasks, "LAYER_ZIP", tmp_path / "layer.zip")

    def build(program: str) -> list[str]:
        (tmp_path / "builder.py").write_text(program)
        printed = io.StringIO()
        build_layer("python3.12", Report(Terminal(file=printed, width=100)))
        return printed.getvalue().splitlines()

    return build


@pytest.mark.parametrize("minded", [True, False])
def test_what_a_build_has_to_say_is_passed_on(
    built: Callable[[str], list[str]], *, minded: bool
) -> None:
    """A layer that is built, but not as it should be, is deployed, and the reason is seen."""
    warning = "import sys; print('build: No bytecode.\\nInstall it.', file=sys.stderr)"

    first, *others = built(warning if minded else "")

    assert "Build the layer for python3.12: 1.0 MiB" in first
    assert [line[4:] for line in others] == (["No bytecode.", "Install it."] if minded else [])


def test_a_layer_that_cannot_be_built_is_said(built: Callable[[str], list[str]]) -> None:
    """Nothing is published, and the builder's last words are shown."""
    with pytest.raises(StepFailed, match="could not be built") as failed:
        built("raise SystemExit('no wheel for this Python')")

    assert failed.value.output == "no wheel for this Python"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        ("InvalidArgument: project 'x' does not exist", [10.0, 20.0]),
        ("EntityNotExist.Role: the role x does not exist", [10.0, 20.0]),
        ("InvalidArgument: memorySize", []),
        ("InvalidArgument: reservedConcurrency is over the quota", []),
        ("AccessDenied: no right to fc:PutConcurrencyConfig", []),
    ],
)
def test_what_passes_soon_is_tried_again(error: str, pauses: list[float]) -> None:
    """A project or a role that was just made is not seen everywhere at once; anything else ends."""
    failure, waited = StepFailed("`s deploy` ended with 101", "", error), list[float]()
    s = answering(failure, failure, "done")

    with nullcontext() if pauses else pytest.raises(StepFailed):
        assert deploy_template(s, REGIONS["cn-hangzhou"], sleep=waited.append) == "done"

    assert waited == pauses


def reading(*states: str | GuardError) -> tuple[Target, list[float]]:
    """A target whose stack is in these states, one after the other, and the pauses in between."""
    following = iter(states)

    def read_stack() -> Stack | None:
        state = next(following)
        if isinstance(state, GuardError):
            raise state
        return Stack(state, {}, {}, "No trusted access.") if state else None

    return Target(REGIONS["cn-hangzhou"], "1234567890123456", {}, read_stack=read_stack), []


@pytest.mark.parametrize("end", ["CREATE_COMPLETE", "UPDATE_COMPLETE", ""])
def test_a_stack_at_work_is_waited_for(end: str) -> None:
    """Until its last state, or until it is not there."""
    target, pauses = reading("UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", end)

    wait_for_stack(target, sleep=pauses.append)

    assert pauses == [10.0, 10.0]


@pytest.mark.parametrize("end", ["UPDATE_FAILED", "ROLLBACK_COMPLETE", "CREATE_ROLLBACK_FAILED"])
def test_a_stack_that_failed_says_why(end: str) -> None:
    """With the service's reason, and what a stack group needs."""
    target, pauses = reading("UPDATE_IN_PROGRESS", end)

    with pytest.raises(StepFailed, match=f"is in {end}: No trusted access.") as failed:
        wait_for_stack(target, sleep=pauses.append)

    assert "trusted access of Resource Orchestration Service" in failed.value.remedy


def test_a_stack_that_takes_an_hour_is_not_waited_for_any_longer() -> None:
    """The deployment fails, and says that it is still at work."""
    target, pauses = reading(*["UPDATE_IN_PROGRESS"] * 360)

    with pytest.raises(StepFailed, match="is in UPDATE_IN_PROGRESS"):
        wait_for_stack(target, sleep=pauses.append)

    assert sum(pauses) == 3600


def test_a_stack_that_cannot_be_read_is_not_taken_for_done() -> None:
    """It may still be at work."""
    target, pauses = reading(ConfigurationError("403 NoPermission"))

    with pytest.raises(StepFailed, match="cannot be read: 403 NoPermission"):
        wait_for_stack(target, sleep=pauses.append)


@pytest.mark.parametrize(
    "printed",
    ["version: 7", "layerName: encryption-guard\nversion:           7\nlayerVersionArn: a:b:1"],
)
def test_the_published_version_is_read(printed: str) -> None:
    """The version is taken from what Serverless Devs prints, alone or among other lines."""
    assert publish_layer(answering(printed), "python3.12") == "7"


@pytest.mark.parametrize("printed", ["", "published", "compatible-version: 7", "version: latest"])
def test_a_version_that_is_not_told_is_not_guessed(printed: str) -> None:
    """A publication that prints no numbered version fails, and says how to name one."""
    with pytest.raises(StepFailed, match="printed no version") as failed:
        publish_layer(answering(printed), "python3.12")

    assert "LAYER_VERSION=<number>" in failed.value.remedy


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('[{"version": 9}, {"version": 10}]', "10"),
        ("[]", "1"),
    ],
    ids=["some", "none left"],
)
def test_the_latest_version_is_the_highest(printed: str, version: str) -> None:
    """The latest version is the highest by number, and 1 where the list is empty."""
    assert find_latest_version(answering(printed)) == version


@pytest.mark.parametrize(
    "printed",
    ["", '{"error": "no such layer"}', "Forbidden"],
    ids=["a refusal, kept to itself", "something else", "words"],
)
def test_a_list_that_was_refused_is_no_empty_list(printed: str) -> None:
    """Otherwise a removal would report layer versions as removed that it never saw."""
    with pytest.raises(StepFailed, match="could not be listed") as failed:
        find_latest_version(answering(printed))

    assert "fc:ListLayerVersions" in failed.value.remedy


def test_the_answer_that_is_expected_is_the_result() -> None:
    """Outcome and reason are read from the invocation's result, not from the log before it."""
    printed = (
        "========= FC invoke Logs begin =========\n"
        '{"level": "INFO", "outcome": "encrypted", "reason": "created"}\n'
        "========= FC invoke Logs end =========\n\nRequestId: 1\n\nInvoke Result:\n"
        '{"outcome": "skipped", "reason": "not_relevant", "arn": null}\n✔ [sweep] completed\n'
    )

    assert smoke_test(answering(printed), "sweep") == "skipped: not_relevant"


@pytest.mark.parametrize(
    ("result", "seen"),
    [
        ('{"outcome": "encrypted", "reason": "created"}', "encrypted: created"),
        ('{"errorMessage": "No module named httpx"}', "an error"),
        ("[]", "an error"),
        ("nothing that anybody expects", "an error"),
    ],
)
def test_any_other_answer_is_a_failure(result: str, seen: str) -> None:
    """Deployed is not working: what came back is told and shown."""
    with pytest.raises(StepFailed, match=f"sweep answered a harmless event with {seen}") as failed:
        smoke_test(answering(f"Invoke Result:\n{result}"), "sweep")

    assert result in failed.value.output


@pytest.mark.parametrize(("mode", "said"), [("enforce", "guarded"), ("detect", "watched")])
def test_a_region_that_is_only_watched_is_not_called_guarded(mode: str, said: str) -> None:
    """In detect mode nothing is encrypted, and the last words of the deployment say so."""
    variables = {"GUARD_MODE": mode, "GUARD_DEAD_LETTER_QUEUE": "acs:mns:r:1:/queues/q"}
    function = {"environmentVariables": variables, "logConfig": {"project": "p"}}

    target = Target(REGIONS["cn-hangzhou"], "1234567890123456", {"encrypt_on_create": function})
    shown = format_next_steps(target)

    assert f"cn-hangzhou is {said}" in shown


@pytest.mark.parametrize("printed", ["", "[]", '{"vars": {}}'])
def test_a_template_that_does_not_resolve_is_said(printed: str) -> None:
    """Output without a resolved template is a failure, even when the command succeeded."""
    with pytest.raises(StepFailed, match="could not be resolved"):
        preview(answering(printed))


def test_versions_that_stay_are_told() -> None:
    """Of a layer that could not be removed, the versions that are there still are named."""
    with pytest.raises(StepFailed, match=r"versions not removed: \[3, 4\]"):
        remove_and_verify(
            answering("", '[{"version": 3}, {"version": 4}]'), "sweep", "layer", "remove"
        )


@pytest.mark.parametrize(
    "printed",
    ["", "[2026-11-23 03:33:33][ERROR][infra] stack is not exist, id = , name = x", "[x][WARN] y"],
    ids=["silence", "nothing there", "a warning"],
)
def test_what_is_not_there_is_gone(printed: str) -> None:
    """A second removal finds nothing, and that is no failure."""
    remove_and_verify(answering(printed), "infra", "remove", "-y")
