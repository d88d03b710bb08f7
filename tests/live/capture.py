"""A temporary rule and queue, so that an event is had exactly as EventBridge delivers it.

Serverless Devs makes both as one stack, and removes it.

https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-eventbridge-rule (the rule)
https://www.alibabacloud.com/help/en/eventbridge/user-guide/event-target-parameters (its target)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encryption_guard.services.smq import SmqMessage
from layers.encryption_guard.tools.serverless_devs import find_remedy, redact, tail

# Neither source nor type: how those are spelled is what is to be learnt.
PATTERN = {"data": {"eventName": ["CreateTableBucket", "DeleteTableBucketEncryption"]}}
# Until a rule that was just made is known everywhere; nothing says how long that takes.
SETTLING_SECONDS = 10.0
REMOVALS = 3
PAUSE_BETWEEN_REMOVALS = 20.0
SERVERLESS_DEVS = (str(Path("node_modules", ".bin", "s")),)

Listen = Callable[[], list[SmqMessage]]
# Raises Deaf if there is nothing to listen to.
Begin = Callable[[], Listen]
Capture = Callable[[], AbstractContextManager[Begin]]


class Deaf(Exception):
    """The rule and its queue could not be made; one line says why."""


class LeftOver(Exception):
    """Something could not be removed; what it is, and how a person removes it."""


@dataclass(frozen=True)
class Names:
    """What the stack, its rule and its queue are called: all the same."""

    name: str
    region: str
    account: str


def stack(names: Names) -> dict[str, Any]:
    """The Serverless Devs application with the one stack."""
    return {
        "edition": "3.0.0",
        "name": names.name,
        "access": "default",
        "resources": {
            "capture": {
                "component": "ros",
                "props": {
                    "region": names.region,
                    "name": names.name,
                    "template": {
                        "ROSTemplateFormatVersion": "2015-09-01",
                        "Resources": {"Queue": _queue(names), "Rule": _rule(names)},
                    },
                },
            }
        },
    }


def _queue(names: Names) -> dict[str, Any]:
    return {
        "Type": "ALIYUN::MNS::Queue",
        "Properties": {"QueueName": names.name, "MessageRetentionPeriod": 3600},
    }


def _rule(names: Names) -> dict[str, Any]:
    endpoint = f"acs:mns:{names.region}:{names.account}:queues/{names.name}"
    target = {
        "Id": "queue",
        "Type": "acs.mns.queue",
        "Endpoint": endpoint,
        "PushRetryStrategy": "BACKOFF_RETRY",
        "ParamList": [
            {"ResourceKey": "queue", "Form": "CONSTANT", "Value": names.name},
            # A value is required of every form, though this one has none.
            {"ResourceKey": "Body", "Form": "ORIGINAL", "Value": ""},
            {"ResourceKey": "IsBase64Encode", "Form": "CONSTANT", "Value": "true"},
        ],
    }
    return {
        "Type": "ALIYUN::EventBridge::Rule",
        "DependsOn": "Queue",
        "Properties": {
            "EventBusName": "default",
            "RuleName": names.name,
            "Status": "ENABLE",
            "FilterPattern": PATTERN,
            "Targets": [target],
        },
    }


@dataclass(frozen=True)
class Commands:
    """The `s` command, with a key of the environment that no output may show."""

    environment: Mapping[str, str]
    options: Sequence[str]
    template: Path
    command: Sequence[str] = SERVERLESS_DEVS

    def run(self, action: str) -> str | None:
        """None if it succeeded, else one line that says why it did not."""
        arguments = (*self.command, action, "-t", str(self.template), "-y", *self.options)
        try:
            # In a session of its own: Ctrl-C is for us to hear, and a removal is not to be cut.
            process = subprocess.Popen(
                arguments,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return f"`s` does not run ({error.strerror}); `make serverless-devs` installs it"
        with process:
            try:
                printed, _ = process.communicate()
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        return None if process.returncode == 0 else self._why(action, printed, process.returncode)

    def _why(self, action: str, printed: str, code: int) -> str:
        plain = redact(printed, self.environment)
        last = (tail(plain).splitlines() or [""])[-1].strip()
        return f"`s {action}` ended with {code}: {last} {find_remedy(plain)}"


@contextmanager
def temporary_stack(
    names: Names, commands: Commands, listen: Listen, sleep: Callable[[float], None]
) -> Iterator[Begin]:
    """What makes the rule and the queue; they last until this is left.

    Leaving it raises LeftOver if they could not be removed.
    """
    begun = False

    def begin() -> Listen:
        nonlocal begun
        _write(commands.template, stack(names))
        begun = True
        if why := commands.run("deploy"):
            raise Deaf(why)
        sleep(SETTLING_SECONDS)
        return listen

    try:
        yield begin
    finally:
        # Also if it could not be made, or not to its end: half a stack is one, too.
        if begun:
            _remove(names, commands, sleep)


def _write(template: Path, application: Mapping[str, Any]) -> None:
    template.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    template.write_text(json.dumps(application, indent=2), "utf-8")


def _remove(names: Names, commands: Commands, sleep: Callable[[float], None]) -> None:
    why = commands.run("remove")
    for _ in range(REMOVALS - 1):
        if why:
            # A stack that is still being made cannot be removed yet.
            sleep(PAUSE_BETWEEN_REMOVALS)
            why = commands.run("remove")
    if why:
        raise LeftOver(
            f"the ROS stack {names.name} in {names.region}, with a rule on the event bus default"
            f" and an SMQ queue of the same name ({why}): `{' '.join(commands.command)} remove -t"
            f" {commands.template} -y`, or delete the stack in the ROS console"
        )
