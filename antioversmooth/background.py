"""A thread that works in the background of a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def background_thread(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Runs `work` in a thread until the block is left.

    Args:
        work: Gets an event that is set when the block is left, and must return soon after that.
        name: Name of the thread in stack traces.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
