"""How a task ends in a region; a program stands in the place of Serverless Devs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from layers.encryption_guard.tools import deploy
from layers.encryption_guard.tools.deploy import Deployer
from layers.encryption_guard.tools.preflight import REGIONS, Access
from layers.encryption_guard.tools.progress import Report, Terminal
from layers.encryption_guard.tools.serverless_devs import ServerlessDevs
from layers.encryption_guard.tools.tasks import Target


def acts_once(s: ServerlessDevs, _: Target, __: Report) -> None:
    s.run("deploy")


@pytest.mark.parametrize(
    ("place", "why"),
    [("{folder}/file/below", "Not a directory"), ("{folder}/full", "No space left on device")],
    ids=["no folder", "a full disk"],
)
def test_a_log_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, why: str
) -> None:
    """One line says which file and why, and the next region is not kept from its turn."""
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "acts_once-cn-hangzhou.log").symlink_to("/dev/full")
    monkeypatch.setattr(deploy, "BUILD", Path(place.format(folder=tmp_path)))
    monkeypatch.setattr(deploy, "SERVERLESS_DEVS", ("echo",))
    region, said = REGIONS["cn-hangzhou"], io.StringIO()
    report = Report(Terminal(file=said, soft_wrap=True))

    deployer = Deployer(acts_once, Access("somebody"), {}, report)
    done = deployer.run(Target(region, "1234567890123456", {}))

    assert not done
    assert f": {why}" in said.getvalue()
    assert "run the command again" in said.getvalue()


def test_a_deployment_that_is_stopped_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C names the step and the region, and how to continue; the next region is not begun."""

    def stopped(_: ServerlessDevs, __: Target, report: Report) -> None:
        with report.step("Deploy the queue"):
            raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "BUILD", tmp_path)
    said = io.StringIO()
    report = Report(Terminal(file=said, soft_wrap=True))
    deployer = Deployer(stopped, Access("somebody"), {}, report)

    with pytest.raises(SystemExit) as ended:
        deployer.run(Target(REGIONS["cn-hangzhou"], "1234567890123456", {}))

    assert ended.value.code == 130
    assert "cn-hangzhou of account 1234567890123456" in said.getvalue()
    assert "✗ Deploy the queue" in said.getvalue()
    assert "make remove REGION=cn-hangzhou" in said.getvalue()
