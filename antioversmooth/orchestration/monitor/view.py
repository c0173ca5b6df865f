"""Progress for people: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from antioversmooth.errors import UserError
from antioversmooth.orchestration.monitor.progress import Progress, Reader
from antioversmooth.runs import Run
from antioversmooth.runs.status import RunState
from antioversmooth.text import open_console

if TYPE_CHECKING:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

REFRESH_S = 1.0
LABELS = {RunState.missing: "waiting", RunState.stale: "waiting"}
ORDER = (
    "running",
    "starting",
    "ending",
    "failed",
    "blocked",
    "stopped",
    "elsewhere",
    "waiting",
    "done",
)
"""States, the first ones shown first by a terminal that is too low for all runs."""


class View(ABC):
    """Shows runs while a back end works on them; a context that ends with their last state."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._reader = Reader(runs)
        self._next_draw = -float("inf")
        self._notes: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # nothing has changed where the launch was refused
        if not isinstance(error, UserError):
            self._draw()

    @abstractmethod
    def say(self, text: str) -> None:
        """Shows one message."""

    @abstractmethod
    def _draw(self) -> None: ...

    def update(self, notes: Mapping[str, str]) -> None:
        """Shows the present state, once a second; less often where it takes long to read.

        Args:
            notes: States that the run directories do not tell, by run id.
        """
        self._notes = notes
        begun = time.monotonic()
        if begun >= self._next_draw:
            self._draw()
            drawn = time.monotonic()
            # thousands of runs must not keep a core of the login node busy: ten times rarer for
            # each second that it takes
            self._next_draw = drawn + REFRESH_S * max(1.0, 10 * (drawn - begun))


def open_view(runs: Sequence[Run], stream: TextIO) -> View:
    """A live table where the stream is a terminal that can draw one, else lines."""
    console = open_console(stream)
    is_live = console.is_terminal and not console.is_dumb_terminal
    return LiveView(runs, stream) if is_live else LineView(runs, stream)


def label(progress: Progress, note: str | None) -> str:
    """State of a run in one word."""
    return note or LABELS.get(progress.state, progress.state.value)


def duration(seconds: float | None) -> str:
    """1:02:03, or a dash where it is not known."""
    if seconds is None:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class LineView(View):
    """One line for every change of state and every epoch."""

    def __init__(self, runs: Sequence[Run], stream: TextIO) -> None:
        super().__init__(runs)
        self._stream = stream
        self._shown: dict[str, tuple[str, int, int]] = {}

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=self._stream, flush=True)

    def _draw(self) -> None:
        for run, progress in zip(self._reader.runs, self._reader.read().values(), strict=True):
            state = label(progress, self._notes.get(run.id))
            stage = (state, progress.attempts, progress.epochs_done)
            if self._shown.setdefault(run.id, ("waiting", stage[1], stage[2])) != stage:
                self._shown[run.id] = stage
                self.say(_line(run, progress, state))


def _line(run: Run, progress: Progress, state: str) -> str:
    facts = [f"{run.name:<28} {state:<8} epoch {progress.epochs_done}/{progress.epochs}"]
    if progress.loss is not None:
        facts.append(f"loss {progress.loss:.3f}")
    if progress.top1 is not None:
        facts.append(f"top-1 {progress.top1:.1f} %")
    if progress.images_per_s and state == "running":
        left = f"{duration(progress.remaining_s)} left"
        facts.append(f"{progress.images_per_s:,.0f} images/s, {left}")
    if progress.attempts > 1:
        facts.append(f"attempt {progress.attempts}")
    return ", ".join(facts)


class LiveView(View):
    """A table that redraws itself in place: one line a run, its bar over all epochs."""

    def __init__(self, runs: Sequence[Run], stream: TextIO) -> None:
        from rich.live import Live

        super().__init__(runs)
        self._console = open_console(stream)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}")

    def _draw(self) -> None:
        runs, progress = self._reader.runs, self._reader.read()
        labels = {run.id: label(progress[run.id], self._notes.get(run.id)) for run in runs}
        width, height = self._console.size
        table = progress_table(runs, progress, labels, width, height - 6)
        self._live.update(table, refresh=True)


COLUMNS = {
    "seed": 4,
    "state": 8,
    "": 8,
    "epoch": 7,
    "top-1 %": 7,
    "left": 8,
    "loss": 6,
    "images/s": 8,
    "attempt": 7,
}
"""Columns of a live view after the name of a run, and their widths; "" is the bar."""
PRIORITY = ("state", "seed", "top-1 %", "epoch", "left", "", "attempt", "loss", "images/s")
"""The columns that stay on a narrow terminal, the first ones first."""
PADDING = 2
SHORTEST_NAME = 18
"""To what a name may be cut for the sake of a column."""


def progress_table(
    runs: Sequence[Run],
    progress: Mapping[str, Progress],
    labels: Mapping[str, str],
    width: int,
    height: int,
) -> Table:
    """The table of a live view.

    Args:
        width: Columns of the terminal.
        height: Lines there are for runs; where they are too few, the runs that are most alive stay.
    """
    from rich.table import Table

    counts = Counter(labels[run.id] for run in runs)
    table = Table(
        box=None,
        padding=(0, 1),
        caption=", ".join(f"{count} {label}" for label, count in counts.most_common()),
    )
    table.caption_justify = "left"
    name_width = max(len(run.experiment.row_name) for run in runs)
    if width < 80:
        name_width = min(name_width, SHORTEST_NAME)
    table.add_column("run", no_wrap=True, width=name_width)
    columns, spare = _fitting(width - name_width - PADDING, _telling(runs, progress))
    for column in columns:
        table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
    above = ""
    for run in _most_alive(runs, labels, max(height, 1)):
        cells = _cells(run, progress[run.id], labels[run.id], bar=COLUMNS[""] + min(spare, 22))
        name = run.experiment.row_name
        table.add_row("" if name == above else name, *(cells[column] for column in columns))
        above = name
    return table


def _telling(runs: Sequence[Run], progress: Mapping[str, Progress]) -> list[str]:
    """The columns that say something, the most important ones first."""
    silent = set()
    if len({run.seed for run in runs}) == 1:
        silent.add("seed")
    if all(progress[run.id].attempts < 2 for run in runs):
        silent.add("attempt")
    return [column for column in PRIORITY if column not in silent]


def _fitting(width: int, wanted: Sequence[str]) -> tuple[list[str], int]:
    """The columns that fit, from left to right, and the characters that are left."""
    chosen = []
    for column in wanted:
        if COLUMNS[column] + PADDING <= width:
            chosen.append(column)
            width -= COLUMNS[column] + PADDING
    return [column for column in COLUMNS if column in chosen], width


def _cells(run: Run, now: Progress, state: str, *, bar: int) -> dict[str, str | ProgressBar]:
    from rich.progress_bar import ProgressBar

    return {
        "seed": str(run.seed),
        "state": state,
        "": ProgressBar(total=1.0, completed=now.fraction, width=bar),
        "epoch": f"{now.epochs_done}/{now.epochs}",
        "top-1 %": "" if now.top1 is None else f"{now.top1:.1f}",
        "left": duration(now.remaining_s) if state == "running" else "",
        "loss": "" if now.loss is None else f"{now.loss:.3f}",
        "images/s": "" if now.images_per_s is None else f"{now.images_per_s:,.0f}",
        "attempt": str(now.attempts or ""),
    }


def _most_alive(runs: Sequence[Run], labels: Mapping[str, str], count: int) -> list[Run]:
    """As many runs as there is room for, in their own order."""
    rank = {state: position for position, state in enumerate(ORDER)}
    by_rank = sorted(runs, key=lambda run: rank.get(labels[run.id], 0))
    chosen = {run.id for run in by_rank[:count]}
    return [run for run in runs if run.id in chosen]
