"""A view that records what a back end shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self


class RecordingView:
    """Keeps messages, and passes each update on.

    Args:
        on_update: Called with the notes of each update.
    """

    def __init__(self, on_update: Callable[[Mapping[str, str]], None] = lambda notes: None) -> None:
        self.messages: list[str] = []
        self._on_update = on_update

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def say(self, text: str) -> None:
        self.messages.append(text)

    def update(self, notes: Mapping[str, str]) -> None:
        self._on_update(notes)
