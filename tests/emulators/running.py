"""What runs for a while, such as a server."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Running")


class Running:
    """Something that runs between `start` and `stop`, or inside `with`."""

    def start(self) -> None:
        """Begin, unless it began when it was made."""

    def stop(self) -> None:
        """Come to an end."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
