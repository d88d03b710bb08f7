"""The real Serverless Devs CLI, with stand-ins for the components that it would download.

It writes into a folder of its own, talks to nobody, and acts on an emulated account.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.emulators.cloud import ACCOUNT, REPOSITORY

CLI = REPOSITORY / "node_modules" / ".bin" / "s"
COMPONENTS = ("fc3", "ros")
CREDENTIALS = {
    "AccountID": ACCOUNT,
    "AccessKeyID": "LTAI-emulated-deployer",
    "AccessKeySecret": "deployer-secret",
}
MISSING = (
    "Node.js is not installed"
    if shutil.which("node") is None
    else None
    if CLI.exists()
    else "Serverless Devs is not installed: run `npm ci --ignore-scripts`"
)
# In milliseconds of the epoch, and never reached: asked for nothing newer, it asks nobody.
NEVER = 9_999_999_999_999


@dataclass(frozen=True)
class ServerlessDevs:
    """The CLI with the stand-ins in `folder`, which is the home of whoever calls it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes any `s` use the stand-ins; credentials are not among it."""
        return {
            "HOME": str(self.folder),
            "serverless_devs_config_home": str(self.folder),
            "EMULATED_ACCOUNT": str(self._account),
        }

    @property
    def _account(self) -> Path:
        return self.folder / "account.json"

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        template: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `s` beside the template, with made-up credentials and nothing of this shell's."""
        file = template or REPOSITORY / "template.yaml"
        return subprocess.run(
            [str(CLI), *arguments, "-t", file.name],
            cwd=file.parent,
            env={"PATH": _path(), **CREDENTIALS, **self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=120,
        )

    def preview(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """The resources, as Serverless Devs resolves the template."""
        done = self.run("preview", "-o", "json", "--silent", environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        resources: dict[str, Any] = json.loads(done.stdout)["resources"]
        return resources

    def account(self) -> dict[str, Any]:
        """What is in the emulated account: `regions`, and all `calls` so far."""
        if not self._account.exists():
            return {"calls": [], "regions": {}}
        account: dict[str, Any] = json.loads(self._account.read_text("utf-8"))
        return account

    def calls(self) -> list[dict[str, Any]]:
        """Every command that reached a component, oldest first."""
        calls: list[dict[str, Any]] = self.account()["calls"]
        return calls


def serverless_devs(folder: Path) -> ServerlessDevs:
    """Lay out the stand-ins in this folder, as if they had been downloaded."""
    here = Path(__file__).parent
    home = folder / ".s"
    for name in COMPONENTS:
        component = home / "components" / "devsapp.cn" / "v3" / name
        component.mkdir(parents=True)
        for file in (*here.glob("*.js"), here / "fc3.schema.json"):
            shutil.copyfile(file, component / file.name)
        manifest = {"name": name, "version": "0.0.0", "main": "component.js"}
        (component / "package.json").write_text(json.dumps(manifest), "utf-8")
        # Otherwise a process in the background looks for a newer one, and puts it in its place.
        (component / ".s.lock").write_text(json.dumps({"lastUpdateCheck": NEVER}), "utf-8")
    _keep_to_itself(home)
    return ServerlessDevs(folder)


def _keep_to_itself(home: Path) -> None:
    (home / "config").mkdir()
    notifier = {"output": False, "current": "0.0.0", "latest": "0.0.0", "lastUpdateCheck": NEVER}
    (home / "config" / "update-notifier.json").write_text(json.dumps(notifier), "utf-8")
    # No usage statistics, and a registry where nobody answers: JSON is YAML.
    settings = {"analysis": "disable", "registry": "http://127.0.0.1:9"}
    (home / "set-config.yml").write_text(json.dumps(settings), "utf-8")


def _path() -> str:
    """Where `node` is, and a shell for the actions."""
    node = shutil.which("node")
    assert node is not None
    return f"{Path(node).parent}:/usr/bin:/bin"
