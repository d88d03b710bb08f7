"""A function as it is deployed, and one instance of it: the parent's end of `runtime.py`."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.emulators import runtime

LAYER = Path(__file__).parents[2] / "layers" / "encryption_guard" / "python"
BOOTSTRAP = runtime.__file__
LARGEST_ENVIRONMENT = 4 * 1024

Message = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function as it is deployed: what template.yaml says about it, and where its files are."""

    code: Path
    layer: Path = LAYER
    python: str = sys.executable
    runtime: Literal["python3.12", "python3.10"] = "python3.12"
    handler: str = "index.handler"
    initializer: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 10
    initialization_timeout_seconds: float = 60
    memory_mb: int = 256
    name: str = "encrypt-on-create"
    region: str = "cn-hangzhou"
    account_id: str = "1234567890123456"
    log_project: str = "emulated-project"
    log_store: str = "emulated-store"

    def __post_init__(self) -> None:
        reserved = sorted(name for name in self.environment if name.startswith("FC_"))
        if reserved:
            raise ValueError(f"variables of the prefix FC_ are the platform's: {reserved}")
        size = sum(len(f"{name}{value}".encode()) for name, value in self.environment.items())
        if size > LARGEST_ENVIRONMENT:
            raise ValueError(f"the environment has {size} bytes, 4 KB are allowed")

    @property
    def arn(self) -> str:
        return f"acs:fc:{self.region}:{self.account_id}:functions/{self.name}"

    def as_message(self) -> Message:
        """What the process has to know of it."""
        return {
            "code": str(self.code.resolve()),
            "layer": str(self.layer.resolve()),
            "runtime": self.runtime,
            "handler": self.handler,
            "initializer": self.initializer,
            "function": {
                "name": self.name,
                "handler": self.handler,
                "memory": self.memory_mb,
                "timeout": self.timeout_seconds,
            },
            "region": self.region,
            "account_id": self.account_id,
            "log_project": self.log_project,
            "log_store": self.log_store,
        }


class InstanceDiedError(Exception):
    """The process ended before it answered."""


class Instance:
    """One process, the two pipes to it and the file its output goes to."""

    def __init__(self, function: Function, bootstrap: str = BOOTSTRAP) -> None:
        self._bootstrap = bootstrap
        self._closing = ExitStack()
        # A file, not a pipe: it never blocks the function and outlives a killed process.
        log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the instance is)
        self._log = self._closing.enter_context(log)
        self._logged = 0
        their_requests, self._requests = os.pipe()
        self._replies, their_replies = os.pipe()
        for descriptor in (self._requests, self._replies):
            self._closing.callback(os.close, descriptor)
            os.set_blocking(descriptor, False)
        theirs = (their_requests, their_replies)
        try:
            self._process = self._start(function, theirs)
        except OSError:
            self._closing.close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def _start(self, function: Function, theirs: tuple[int, int]) -> "subprocess.Popen[bytes]":
        # -I: neither the emulators' folder nor PYTHON* variables reach the function; -B: its code
        # folder is deployed as it stands; -u: what it printed before it was killed is not lost.
        return subprocess.Popen(
            [function.python, "-I", "-B", "-u", self._bootstrap, *map(str, theirs)],
            cwd=function.code,
            env=_environment(function),
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, message: Message, seconds: float) -> Message:
        """The process's answer; TimeoutError when it is late, InstanceDiedError when it is gone.

        After either the process has ended.
        """
        try:
            return self._exchange(message, time.monotonic() + seconds)
        except TimeoutError:
            self.kill()
            raise
        except (EOFError, BrokenPipeError):
            self.kill()
            raise InstanceDiedError from None

    def _exchange(self, message: Message, deadline: float) -> Message:
        body = json.dumps(message).encode()
        self._write(runtime.LENGTH.pack(len(body)) + body, deadline)
        (length,) = runtime.LENGTH.unpack(self._read(runtime.LENGTH.size, deadline))
        answer: Message = json.loads(self._read(length, deadline))
        return answer

    def _write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self._requests, select.POLLOUT, deadline)
            rest = rest[os.write(self._requests, rest) :]

    def _read(self, length: int, deadline: float) -> bytes:
        data = b""
        while len(data) < length:
            _wait(self._replies, select.POLLIN, deadline)
            part = os.read(self._replies, length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def new_logs(self) -> str:
        """What was printed since the last call."""
        size = os.fstat(self._log.fileno()).st_size
        # pread, because the process writes where the offset that it shares with us stands.
        text = os.pread(self._log.fileno(), size - self._logged, self._logged)
        self._logged = size
        return text.decode(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def freeze(self) -> None:
        """Let it stand still; only `kill` ends that."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._closing.close()


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _environment(function: Function) -> dict[str, str]:
    # What an interpreter may need to start at all; nothing else of the test process leaks in.
    inherited = {
        name: os.environ[name]  # noqa: TID251 (not a setting: the child process's search paths)
        for name in ("PATH", "LD_LIBRARY_PATH")
        if name in os.environ  # noqa: TID251 (as above)
    }
    version = "FC_FUNCTION_VERSION" if function.runtime == "python3.12" else "FC_VER_ID"
    return {
        **inherited,
        **function.environment,
        "FC_ACCOUNT_ID": function.account_id,
        "FC_REGION": function.region,
        "FC_FUNCTION_NAME": function.name,
        "FC_FUNCTION_HANDLER": function.handler,
        "FC_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "FC_FUNC_CODE_PATH": str(function.code.resolve()),
        "FC_INSTANCE_ID": f"c-{uuid.uuid4()}",
        version: "LATEST",
    }
