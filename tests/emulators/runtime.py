"""A stand-in for Function Compute's Python bootstrap: one process of it is one instance.

The parent (`function_compute.py`) speaks over two pipes, each message a length and JSON. The first
message starts the instance, which imports the handler and runs the initializer; every further one
is an invocation, answered before the next is read. Standard output and error are the function's.
"""

import base64
import importlib
import json
import logging
import os
import runpy
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class FunctionMeta(SimpleNamespace):
    """`context.function`."""


class ServiceMeta(SimpleNamespace):
    """`context.service`, up to python3.10."""


class Credentials(SimpleNamespace):
    """`context.credentials`, up to python3.10."""


class FCContext(SimpleNamespace):
    """What a handler gets beside the event; each runtime has its own attributes."""


def context_for(start: Message, request: Message) -> FCContext:
    """The context of the runtime that the function was deployed for."""
    shared = {
        "request_id": request["request_id"],
        "region": start["region"],
        "account_id": start["account_id"],
    }
    log = {"log_project": start["log_project"], "log_store": start["log_store"]}
    version = {"version_id": "LATEST", "qualifier": "LATEST"}
    if start["runtime"] == "python3.12":
        function = FunctionMeta(**start["function"], **version)
        return FCContext(**shared, **log, function=function, logger=None)
    return FCContext(
        **shared,
        function=FunctionMeta(**start["function"]),
        service=ServiceMeta(name="", **log, **version),
        credentials=Credentials(**request["credentials"]),
    )


class Instance:
    """The function's code, imported once, and what every invocation of it goes through."""

    def __init__(self, start: Message, request: Message) -> None:
        sys.path[:0] = [start["code"], start["layer"]]
        # Such as a test that breaks the function on purpose.
        if file := os.environ.get("RUNS_FIRST"):  # noqa: TID251  no setting of the guard's
            runpy.run_path(file)
        self._start = start
        self._log = logging.StreamHandler(sys.stdout)
        logging.basicConfig(level=logging.INFO, handlers=[self._log])
        context = self._begin(request)
        self._handler = _resolve(start["handler"])
        if start["initializer"] is not None:
            _resolve(start["initializer"])(context)

    def invoke(self, request: Message) -> str:
        context = self._begin(request)
        result = self._handler(base64.b64decode(request["event"]), context)
        if isinstance(result, bytes):
            return result.decode()
        return result if isinstance(result, str) else json.dumps(result)

    def _begin(self, request: Message) -> FCContext:
        """Everything that is the invocation's own: credentials, request id of the log, context."""
        names = (f"ALIBABA_CLOUD_{name.upper()}" for name in request["credentials"])
        # The platform itself: it sets the variables that encryption_guard.settings reads.
        os.environ.update(zip(names, request["credentials"].values(), strict=True))  # noqa: TID251
        line = f"%(asctime)s.%(msecs)03dZ {request['request_id']} [%(levelname)s] %(message)s"
        formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self._log.setFormatter(formatter)
        return context_for(self._start, request)


def _resolve(handler: str) -> Any:
    module, _, function = handler.rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), function)


def _error(error: Exception) -> Message:
    """The exception as Function Compute reports it, without the frames of this file."""
    frames = [
        [f'File "{frame.filename}"', f"line {frame.lineno}", f"in {frame.name}", frame.line]
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__
    ]
    return {
        "error": {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "stackTrace": frames,
        }
    }


def receive(requests: BinaryIO) -> Message | None:
    header = requests.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    message: Message = json.loads(requests.read(LENGTH.unpack(header)[0]))
    return message


def send(replies: BinaryIO, message: Message) -> None:
    # The parent reads the log as soon as it has the answer.
    sys.stdout.flush()
    sys.stderr.flush()
    body = json.dumps(message).encode()
    replies.write(LENGTH.pack(len(body)) + body)
    replies.flush()


def serve(
    requests: BinaryIO, replies: BinaryIO, heed: Callable[[Message], object] = lambda _message: None
) -> None:
    """Start with the first message, then answer one invocation after the other.

    `heed` gets each message before it is dealt with.
    """
    instance: Instance | None = None
    while (message := receive(requests)) is not None:
        heed(message)
        # An Exception is the function's answer; SystemExit and the like end the process, as on FC.
        try:
            if instance is None:
                instance = Instance(message["start"], message)
                send(replies, {"result": ""})
            else:
                send(replies, {"result": instance.invoke(message)})
        except Exception as error:
            send(replies, _error(error))


@contextmanager
def pipes() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The two that the arguments name, for requests and for replies."""
    descriptors = [int(argument) for argument in sys.argv[1:]]
    for descriptor in descriptors:
        # A process that the function starts must not hold the pipes open after this one ended.
        os.set_inheritable(descriptor, False)
    with os.fdopen(descriptors[0], "rb") as requests, os.fdopen(descriptors[1], "wb") as replies:
        yield requests, replies


def main() -> None:
    with pipes() as (requests, replies):
        serve(requests, replies)


if __name__ == "__main__":
    main()
