"""The queues of an emulated SMQ and the messages in them."""

import base64
import hashlib
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.emulators.emulated_service import Clock, RefusedError, refuse

DEFAULT_PRIORITY = 8


@dataclass(frozen=True)
class StoredMessage:
    """A message on a node. `body` is as it was sent: SMQ knows nothing of base64."""

    id: str
    node: int
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


@dataclass
class _Queue:
    """`handles` are all that were ever given out, `sent` and `asked` the turns of the nodes."""

    messages: dict[str, StoredMessage] = field(default_factory=dict)
    handles: set[str] = field(default_factory=set)
    sent: int = 0
    asked: int = 0


def no_message() -> RefusedError:
    return refuse(404, "MessageNotExist", "Message not exist.")


class Queues:
    """All queues, behind one lock that those who wait for a message sleep on.

    Each is spread over the nodes, and whoever asks is served by one of them: by the next in turn
    that has anything in sight. So fewer messages come than are there.
    https://www.alibabacloud.com/help/en/mns/support/why-is-the-number-of-messages-returned-by-batchsendmessage-less-than-the-number-of-visible-messages-in-the-queue
    """

    def __init__(self, clock: Clock, nodes: int) -> None:
        self._clock = clock
        self._nodes = nodes
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._closed = False

    def create(self, queue: str) -> None:
        with self._changed:
            self._queues.setdefault(queue, _Queue())

    def empty(self, queue: str) -> None:
        with self._changed:
            self._queue(queue).messages.clear()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def messages(self, queue: str) -> list[StoredMessage]:
        """All messages, hidden ones too, in the order they came."""
        with self._changed:
            return list(self._queue(queue).messages.values())

    def send(
        self, queue: str, body: str, *, delay_seconds: int = 0, priority: int = DEFAULT_PRIORITY
    ) -> StoredMessage:
        now = self._clock()
        visible_at = now + timedelta(seconds=delay_seconds)
        with self._changed:
            kept = self._queue(queue)
            node = kept.sent % self._nodes
            message = StoredMessage(uuid.uuid4().hex.upper(), node, body, priority, now, visible_at)
            kept.messages[message.id] = message
            kept.sent += 1
            self._changed.notify_all()
        return message

    def peek(self, queue: str, count: int) -> list[StoredMessage]:
        with self._changed:
            return self._served(self._queue(queue))[:count]

    def receive(
        self, queue: str, count: int, *, wait_seconds: float, hidden_seconds: float
    ) -> list[StoredMessage]:
        """Take messages out of sight; waits until there is at least one."""
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            kept = self._queue(queue)
            while not (found := self._served(kept)) and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                # Short, because a hidden message comes into sight without a notice.
                self._changed.wait(min(left, 0.05))
            return [self._hide(kept, each, hidden_seconds) for each in found[:count]]

    def hide(self, queue: str, receipt_handle: str, hidden_seconds: float) -> StoredMessage:
        with self._changed:
            kept = self._queue(queue)
            message = self._held(kept, receipt_handle)
            message = replace(message, dequeue_count=message.dequeue_count - 1)
            return self._hide(kept, message, hidden_seconds)

    def delete(self, queue: str, receipt_handle: str) -> None:
        with self._changed:
            kept = self._queue(queue)
            del kept.messages[self._held(kept, receipt_handle).id]

    def _queue(self, queue: str) -> _Queue:
        try:
            return self._queues[queue]
        except KeyError:
            raise refuse(
                404, "QueueNotExist", "The queue name you provided is not exist."
            ) from None

    def _served(self, queue: _Queue) -> list[StoredMessage]:
        """What is in sight on the one node that answers, the most urgent first."""
        now = self._clock()
        visible = [each for each in queue.messages.values() if each.visible_at <= now]
        turn = queue.asked
        queue.asked += 1
        nodes = {each.node for each in visible}
        node = min(nodes, key=lambda node: (node - turn) % self._nodes, default=None)
        on_it = [each for each in visible if each.node == node]
        return sorted(on_it, key=lambda each: each.priority)

    def _hide(self, queue: _Queue, message: StoredMessage, seconds: float) -> StoredMessage:
        now = self._clock()
        handle = _new_handle()
        hidden = replace(
            message,
            visible_at=now + timedelta(seconds=seconds),
            first_dequeued_at=message.first_dequeued_at or now,
            dequeue_count=message.dequeue_count + 1,
            receipt_handle=handle,
        )
        queue.messages[message.id] = hidden
        queue.handles.add(handle)
        return hidden

    def _held(self, queue: _Queue, receipt_handle: str) -> StoredMessage:
        """The message of a handle: only the latest one, only while the message is hidden."""
        now = self._clock()
        for message in queue.messages.values():
            if message.receipt_handle == receipt_handle and message.visible_at > now:
                return message
        if receipt_handle not in queue.handles:
            raise refuse(400, "ReceiptHandleError", "The receipt handle you provide is not valid.")
        # A handle that was good once: its message is deleted, in sight, or in other hands.
        # https://alibabacloud.com/help/en/mns/message-not-exist-appears-when-you-delete-a-message-in-mns
        raise no_message()


def _new_handle() -> str:
    # With every character that is awkward in a query, for clients send handles as they are.
    return "1-" + base64.b64encode(b"\xfb\xef\xbe\xff\xff\xff" + secrets.token_bytes(7)).decode()
