"""Values that the ranks exchange over a TCP store, which works where a process group does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store
from torch.distributed import DistError
from torch.distributed.rendezvous import rendezvous

from antioversmooth.training.run.distributed import RankInfo

POLL_S = 0.02


@dataclass
class Exchange:
    """The exchange of values within one probe; every rank calls the same methods in turn."""

    info: RankInfo
    store: Store | None = None
    """Store that all ranks are connected to; None where there is only one."""
    limit_s: float = 60.0
    """Seconds that a rank waits for the others."""
    probe: str = ""
    _count: int = field(default=0, init=False)

    def within(self, probe: str, limit_s: float) -> Exchange:
        """The exchange of another probe, with its time limit."""
        return Exchange(self.info, self.store, limit_s, probe)

    def gather(self, value: Any = None) -> list[Any]:
        """Every rank's value, by rank; JSON types. Without values it is a barrier.

        Raises:
            TimeoutError: Some rank did not get here in time, or has ended this probe before.
            ConnectionError: Rank 0, which holds the store, is gone.
        """
        if self.store is None:
            return [value]
        with _connection():
            return self._gather(self.store, value)

    def _gather(self, store: Store, value: Any) -> list[Any]:
        self._count += 1
        store.set(self._key(self._count, self.info.rank), json.dumps(value))
        keys = [self._key(self._count, rank) for rank in range(self.info.world_size)]
        deadline = time.monotonic() + self.limit_s
        while not store.check(keys):
            self._check_others(store, keys, late=time.monotonic() > deadline)
            time.sleep(POLL_S)
        return [json.loads(store.get(key)) for key in keys]

    def end(self) -> None:
        """Says to the other ranks that this one leaves the probe."""
        with _connection():
            if self.store is not None:
                self.store.set(self._key("end", self.info.rank), "")

    def leave(self) -> None:
        """Ends all exchanges; rank 0, with which the store ends, waits for the others."""
        store, others = self.store, range(1, self.info.world_size)
        # rank 0 may have ended, or others may have died: their findings say so
        with suppress(ConnectionError):
            self.end()
            deadline = time.monotonic() + self.limit_s
            while store is not None and self.info.rank == 0 and time.monotonic() < deadline:
                if store.check([self._key("end", rank) for rank in others]):
                    return
                time.sleep(POLL_S)

    def _check_others(self, store: Store, keys: list[str], *, late: bool) -> None:
        """Raises TimeoutError where a value is missing that will not come, or is late."""
        # before the values, which a rank gives before its end
        ended = [store.check([self._key("end", rank)]) for rank in range(self.info.world_size)]
        missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
        if gone := [rank for rank in missing if ended[rank]]:
            raise TimeoutError(f"{_ranks(gone)} ended this probe before")
        if late and missing:
            raise TimeoutError(f"{_ranks(missing)} did not get here within {self.limit_s:g} s")

    def _key(self, step: int | str, rank: int) -> str:
        return f"{self.probe}/{step}/{rank}"


@contextmanager
def _connection() -> Iterator[None]:
    """Raises ConnectionError in place of torch's error where the store is gone."""
    try:
        yield
    except DistError as err:
        raise ConnectionError("rank 0, which holds the store, is gone") from err


def _ranks(ranks: list[int]) -> str:
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"


def open_store(info: RankInfo, limit_s: float) -> Store | None:
    """The store at MASTER_ADDR that all ranks connect to; None for a single rank.

    Raises:
        RuntimeError: It cannot be reached or opened within the time limit (torch's DistError).
    """
    if info.world_size == 1:
        return None
    info.export_master()
    # torchrun's agent may have opened it already, which torch's rendezvous knows
    handlers = rendezvous("env://", info.rank, info.world_size, timeout=timedelta(seconds=limit_s))
    store: Store = next(iter(handlers))[0]
    return store
