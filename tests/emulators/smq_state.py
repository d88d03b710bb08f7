"""The queues of an emulated SMQ and the messages in them."""

import base64
import hashlib
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.emulators.emulated_service import Clock, RefusedError
from tests.emulators.faults import Refuse

DEFAULT_PRIORITY = 8


@dataclass(frozen=True)
class QueuedMessage:
    """A message. `body` is as it was sent: SMQ knows nothing of base64."""

    id: str
    body: str
    priority: int
    enqueued_at: datetime
    visible_at: datetime
    first_dequeued_at: datetime | None = None
    dequeue_count: int = 0
    receipt_handle: str | None = None

    @property
    def body_md5(self) -> str:
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest().upper()


def refuse(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(Refuse(status, code, message))


class Queues:
    """All queues, behind one lock that those who wait for a message sleep on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._queues: dict[str, dict[str, QueuedMessage]] = {}
        self._closed = False

    def create(self, queue: str) -> None:
        with self._changed:
            self._queues.setdefault(queue, {})

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def messages(self, queue: str) -> list[QueuedMessage]:
        """All messages, hidden ones too, in the order they came."""
        with self._changed:
            return list(self._queue(queue).values())

    def send(
        self, queue: str, body: str, *, delay_seconds: int = 0, priority: int = DEFAULT_PRIORITY
    ) -> QueuedMessage:
        now = self._clock()
        message = QueuedMessage(
            uuid.uuid4().hex.upper(), body, priority, now, now + timedelta(seconds=delay_seconds)
        )
        with self._changed:
            self._queue(queue)[message.id] = message
            self._changed.notify_all()
        return message

    def peek(self, queue: str, count: int) -> list[QueuedMessage]:
        with self._changed:
            return self._visible(queue)[:count]

    def receive(
        self, queue: str, count: int, *, wait_seconds: float, hidden_seconds: float
    ) -> list[QueuedMessage]:
        """Take messages out of sight; waits until there is at least one."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            while not (found := self._visible(queue)) and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                # Short, because a hidden message comes into sight without a notice.
                self._changed.wait(min(left, 0.05))
            return [self._hide(queue, each, hidden_seconds) for each in found[:count]]

    def hide(self, queue: str, receipt_handle: str, hidden_seconds: float) -> QueuedMessage:
        with self._changed:
            message = self._held(queue, receipt_handle)
            message = replace(message, dequeue_count=message.dequeue_count - 1)
            return self._hide(queue, message, hidden_seconds)

    def delete(self, queue: str, receipt_handle: str) -> None:
        with self._changed:
            del self._queue(queue)[self._held(queue, receipt_handle).id]

    def _queue(self, queue: str) -> dict[str, QueuedMessage]:
        try:
            return self._queues[queue]
        except KeyError:
            raise refuse(
                404, "QueueNotExist", "The queue name you provided is not exist."
            ) from None

    def _visible(self, queue: str) -> list[QueuedMessage]:
        now = self._clock()
        visible = [each for each in self._queue(queue).values() if each.visible_at <= now]
        return sorted(visible, key=lambda each: each.priority)

    def _hide(self, queue: str, message: QueuedMessage, seconds: float) -> QueuedMessage:
        now = self._clock()
        hidden = replace(
            message,
            visible_at=now + timedelta(seconds=seconds),
            first_dequeued_at=message.first_dequeued_at or now,
            dequeue_count=message.dequeue_count + 1,
            receipt_handle=_new_handle(),
        )
        self._queue(queue)[message.id] = hidden
        return hidden

    def _held(self, queue: str, receipt_handle: str) -> QueuedMessage:
        """The message of a handle: only the latest one, only while the message is hidden."""
        now = self._clock()
        for message in self._queue(queue).values():
            if message.receipt_handle == receipt_handle and message.visible_at > now:
                return message
        raise refuse(400, "ReceiptHandleError", "The receipt handle you provide is not valid.")


def _new_handle() -> str:
    # With every character that is awkward in a query, for clients send handles as they are.
    return "1-" + base64.b64encode(b"\xfb\xef\xbe\xff\xff\xff" + secrets.token_bytes(7)).decode()
