"""A measurement beside other programs as Markdown, and as a chart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from antioversmooth.analysis.drawing import COLOURS, STYLE
from benchmarks.markdown_report import goal_rows, section, spread_text
from benchmarks.peers import shares, training
from benchmarks.peers.goals import NO_WAITS, goals
from benchmarks.peers.turns import Measurement
from benchmarks.peers.waits import OURS
from benchmarks.timing import Spread, spread

_TEXT = (
    "Each program is a process of its own with one thread and one loading process, on the same"
    " JPEGs of 500 x 375 in class folders, with the same model, batch (32 images) and recipe"
    " (DeiT's, float32, without repeated augmentation). Programs take turns in each round; ratios"
    " are taken within a round and given as their median, with the middle half of the rounds in"
    " brackets. CPU seconds are of a process and all that it starts. Images per CPU second are"
    " counted from the end of the first epoch to the end of the last, evaluation, checkpoints and"
    " logs included. Peak memory is of all processes together: private pages, pages that they"
    " share once, file pages of the largest. The goal of the model that is bound by its input is"
    " the input's own; with more of a model in it, only the part of another program's seconds that"
    " its loading process spends has to shrink by that factor. timm's script is written with the"
    " calls of timm's train.py, which its package lacks; DeiT's loop is its main.py with stock"
    " timm."
)

_START = "From the start of a process to the end of its first step"


def markdown(measured: dict[str, Any]) -> str:
    """All tables, with the machine, the goals and what could not be measured."""
    machine = ", ".join(f"{key} {value}" for key, value in measured["machine"].items())
    tools = ", ".join(measured["tools"])
    found, waits = measured["training"], measured.get("waits", NO_WAITS)
    missing = ", ".join(measured.get("missing", ()))
    parts = [
        "# Beside other programs",
        f"Rendered from `peers.json` by `make bench-peers`. {machine}. Tools: {tools}.",
        f"**Not measured yet: {missing}.**" if missing else "",
        _TEXT,
        section("Goals", goal_rows(goals(measured))),
        *(section(_title(name, case), _epochs(case)) for name, case in found["cases"].items()),
        section(
            "From the start of a process to the end of its first step", _seconds(found["starts"])
        ),
        section("Time of a training of ours by the clock", _shares(found["cases"])),
        section("Commands that people wait for", _seconds(waits["commands"])),
    ]
    failed = {**found["failed"], **waits["failed"]}
    if failed:
        lines = [f"- {name}: {reason}" for name, reason in failed.items()]
        parts += ["## Could not be measured", "\n".join(lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _title(name: str, case: dict[str, Any]) -> str:
    bound = ", bound by its input" if case["is_input_bound"] else ""
    rounds = max(map(len, case["rounds"].values()), default=0)
    size = f"{case['train']} images, {case['epochs']} epochs, {rounds} rounds"
    return f"Training: {name}{bound}, {size}"


def _epochs(case: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "images per CPU second", "loading process alone", "its share", "peak memory"]
    for program, rounds in case["rounds"].items():
        speed, share = _of(rounds, "images_per_cpu_s"), _of(rounds, "input_share").median
        alone = spread([one["images_per_cpu_s"] / one["input_share"] for one in rounds])
        memory = f"{_of(rounds, 'peak_bytes').median / 2**20:.0f} MiB"
        texts = (spread_text(speed), spread_text(alone), f"{100 * share:.0f} %", memory)
        yield [program, *texts]


def _seconds(measured: dict[str, list[Measurement]]) -> Iterator[list[str]]:
    yield ["", "CPU seconds", "seconds by the clock"]
    for name, rounds in measured.items():
        yield [name, *(spread_text(_of(rounds, key)) for key in ("cpu_s", "wall_s"))]


def _shares(cases: dict[str, Any]) -> Iterator[list[str]]:
    names = [*shares.PARTS, shares.BESIDE]
    yield ["", *names]
    for case, found in cases.items():
        whole = found["shares"].get(shares.ALL)
        yield [
            case,
            *(f"{100 * found['shares'][name] / whole:.1f} %" if whole else "-" for name in names),
        ]


def _of(rounds: list[Measurement], key: str) -> Spread:
    return spread([one[key] for one in rounds])


def draw(measured: dict[str, Any], folder: Path) -> Path:
    """Writes peers.svg; returns its path."""
    found = measured["training"]
    with style.context(STYLE):
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        speed, start, wait = figure.subplots(1, 3, width_ratios=(1.1, 0.7, 1.2))
        speeds = {name: case["rounds"] for name, case in found["cases"].items()}
        _bars(speed, speeds, "images_per_cpu_s", "training: images per CPU second")
        _bars(start, {"": found["starts"]}, "cpu_s", "CPU seconds to the first step")
        _waits(wait, measured.get("waits", NO_WAITS)["commands"])
        figure.legend(*speed.get_legend_handles_labels(), loc="outside lower left", ncols=3)
        path = folder / "peers.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


def _bars(
    plot: Axes, groups: dict[str, dict[str, list[Measurement]]], key: str, title: str
) -> None:
    """One group of bars for each case, a bar for each program."""
    programs = [training.OURS, *training.PEERS]
    width = 0.8 / len(programs)
    for index, program in enumerate(programs):
        found = {
            place: _of(rounds[program], key)
            for place, rounds in enumerate(groups.values())
            if program in rounds
        }
        plot.bar(
            [place + width * (index - 1) for place in found],
            [one.median for one in found.values()],
            0.9 * width,
            label=program,
            color=COLOURS[index],
        )
    plot.set_axisbelow(True)
    plot.set_title(title)
    plot.set_xticks(range(len(groups)), [name.replace(" of ", "\nof ") for name in groups])


def _waits(plot: Axes, commands: dict[str, list[Measurement]]) -> None:
    """A line for each command; ours on top."""
    names = list(commands)
    colours = [COLOURS[0] if name in OURS else "#999999" for name in names]
    plot.barh(names, [_of(commands[name], "cpu_s").median for name in names], color=colours)
    plot.invert_yaxis()
    plot.set_axisbelow(True)
    plot.set_title("commands: CPU seconds")
