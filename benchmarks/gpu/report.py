"""The tables of a check, and the problems that it found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from antioversmooth.runs.memory import RESERVED_SHARE
from benchmarks.gpu.parts import BACKBONES, COMPILED_TOLERANCE, PARTS, TIMM, TOLERANCE
from benchmarks.timing import spread

HEAD = (
    "| backbone | loop | images/s | x timm | step (ms) | host (ms) | device (ms) | waiting"
    " | peak memory (GiB) | planned |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)
ABOUT = (
    "A step normalises, erases and mixes a batch of bytes, and takes forward, backward, AdamW and"
    " the moving average, as the row's recipe says, at the recipe's images a device. `timm` is the"
    " plain backbone in a loop as timm's training script has it; `textbook` is that loop with the"
    " method written out. Host: until the last kernel of a step is launched. Device: kernels and"
    " copies, by the profiler. Waiting: share of a step's time in which the device does neither."
    " Planned: the peak that `--dry-run` shows, and that `cluster.gpu_mem_gb` is held against."
)


def card(measured: dict[str, Any]) -> str | None:
    """The name of the GPU; None in a rehearsal."""
    name: str | None = measured["machine"]["found"].get("gpu")
    return name


def problems(measured: dict[str, Any]) -> list[str]:
    """All that is not as it should be."""
    found = []
    for name, part in measured.items():
        if part["state"] != "done":
            found.append(f"{name}: {_ending(part)}")
        found += [f"{name}: {problem}" for problem in _problems_of(name, part["found"])]
    return found


def _ending(part: dict[str, Any]) -> str:
    """How a part ended that is not done, and how much of it is here."""
    # the line of an error, where lines that explain it are indented
    lines = [line for line in part["message"].splitlines() if line and not line[0].isspace()]
    why = f" ({lines[-1]})" if part["state"] == "failed" and lines else ""
    number = len(part["found"])
    return f"{part['state']} after {part['seconds']:.0f} s{why}; {number} findings until then"


def _problems_of(name: str, found: dict[str, Any]) -> Iterator[str]:
    if name == "tests":
        yield from (f"{test} failed" for test in found.get("failed", ()))
        if "tests" in found and found["tests"] == found["skipped"]:
            yield "no test ran"
    elif name == "resume":
        yield from _not_resumed(found)
    elif name == "ranks":
        for key in ("loss", "gradient norm"):
            if found.get(key, 0) > TOLERANCE:
                yield f"{key} of two ranks differs by {found[key]:.1e}, more than {TOLERANCE:.0e}"
    elif name == "compile":
        for how, one in found.items():
            yield from (f"{how}: {problem}" for problem in _not_compiled_once(one))
        yield from _not_the_same_loss({how: x["loss"] for how, x in found.items() if "loss" in x})
    elif name in BACKBONES:
        yield from (f"{loop}: {one['error']}" for loop, one in found.items() if "error" in one)
        yield from _not_as_planned(found)


def _not_compiled_once(found: dict[str, Any]) -> Iterator[str]:
    """Graphs that break or are compiled again, and CUDA graphs that are none or recorded again."""
    compiled, recorded = found["compilation"], found.get("cuda_graphs")
    yield from (f"{compiled[key]} {key}" for key in ("again", "breaks") if compiled[key])
    if recorded is not None:
        if recorded["refused"] or not recorded["recorded"]:
            yield f"{recorded['refused']} CUDA graphs refused, {recorded['recorded']} recorded"
        if recorded["again"]:
            yield f"{recorded['again']} CUDA graphs recorded again"


def _not_the_same_loss(losses: dict[str, float]) -> Iterator[str]:
    """The losses of one way to compile, where those of the first are others, or no numbers."""
    for how, loss in losses.items():
        first = next(iter(losses.values()))
        if not math.isclose(loss, first, rel_tol=COMPILED_TOLERANCE):
            yield f"{how}: the loss is {loss:.4f}, not {first:.4f}"


def _not_as_planned(loops: dict[str, Any]) -> Iterator[str]:
    """Loops that took more memory than the plan and the share that it leaves free."""
    for loop, found in loops.items():
        peak, planned = found.get("peak_bytes"), found.get("planned_bytes")
        if peak and planned and peak * (1 - RESERVED_SHARE) > planned:
            yield f"{loop}: peak memory {_gib(peak)} GiB, planned {_gib(planned)}"


def _not_resumed(found: dict[str, Any]) -> Iterator[str]:
    """Runs that differ though their kernels are deterministic, or though a repetition does not."""
    repeated = found.get("default kernels, repeated", {"differ": 1})
    for name, counts in found.items():
        exact = name.startswith("deterministic") or not repeated["differ"]
        if exact and counts["differ"]:
            yield f"{name}: {counts['differ']} of {counts['of']} values differ"


def markdown(measured: dict[str, Any]) -> str:
    """All tables, and the problems: what failed, differs, or was not finished."""
    parts = {name: part["found"] for name, part in measured.items()}
    where = ", ".join(f"{key} {value}" for key, value in parts["machine"].items())
    sections = [
        ["# Check on a GPU" if card(measured) else "# Rehearsal on a CPU"],
        [f"Made by `make check-gpu`. {where}."],
        ["## Problems", "", *(f"- {problem}" for problem in problems(measured) or ["none"])],
    ]
    if left_out := [name for name in PARTS if name not in measured]:
        sections.append([f"Not run: {', '.join(left_out)}."])
    if exactness := [*_exactness(parts)]:
        sections.append(["## Tests and exactness", "", *exactness])
    if steps := [*_steps(parts)]:
        sections.append(["## Training steps", "", ABOUT, "", *HEAD, *steps])
    if compiled := [_compiled(how, one) for how, one in parts.get("compile", {}).items()]:
        about = "DeiT-S24 with AttnScale, compiled block by block:"
        sections.append(["## Compilation", "", about, "", *compiled])
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _compiled(how: str, found: dict[str, Any]) -> str:
    compiled, recorded = found["compilation"], found.get("cuda_graphs")
    graphs = f"; {recorded['recorded']} CUDA graphs recorded" if recorded else ""
    return (
        f"- `{how}`: {compiled['graphs']} graphs in a first step of {compiled['first_s']:.1f} s,"
        f" {compiled['again']} later, {compiled['breaks']} graph breaks{graphs}"
    )


def _exactness(parts: dict[str, dict[str, Any]]) -> Iterator[str]:
    if "tests" in parts and "tests" in parts["tests"]:
        yield "- tests: " + ", ".join(f"{parts['tests'][k]} {k}" for k in _counts(parts["tests"]))
    for name, counts in parts.get("resume", {}).items():
        yield (
            f"- a small DeiT-S with FeatScale, {name}: {counts['differ']} of {counts['of']} values"
            " of the final checkpoint differ from a straight run's"
        )
    found = parts.get("ranks", {})
    for key in ("loss", "gradient norm"):
        if key in found:
            yield (
                f"- one rank and two on one device, {len(found['steps']['1'])} steps in float32:"
                f" {key} differs by at most {found[key]:.1e} (tolerance {TOLERANCE:.0e})"
            )


def _counts(tests: dict[str, Any]) -> Iterator[str]:
    return (name for name, value in tests.items() if isinstance(value, int))


def _steps(parts: dict[str, dict[str, Any]]) -> Iterator[str]:
    for backbone in BACKBONES:
        loops = parts.get(backbone, {})
        base = loops.get(TIMM, {}).get("images_per_s")
        yield from (_line(backbone, name, found, base) for name, found in loops.items())
    base = parts.get("DeiT-S24", {}).get(TIMM, {}).get("images_per_s")
    for how, found in parts.get("compile", {}).items():
        if "step" in found:
            yield _line("DeiT-S24", f"ours, attnscale, {how}", found["step"], base)


def _line(backbone: str, loop: str, found: dict[str, Any], base: float | None) -> str:
    if "error" in found:
        return f"| {backbone} | {loop} | {found['error']} | | | | | | | |"
    cells = [
        backbone,
        loop,
        f"{found['images_per_s']:.0f}",
        "-" if base is None else f"{found['images_per_s'] / base:.2f}",
        _ms(spread(found["step_s"]).median),
        _ms(spread(found["host_s"]).median),
        _ms(found["device_s"]),
        "-" if found["waiting"] is None else f"{found['waiting']:.0%}",
        _gib(found["peak_bytes"]),
        _gib(found["planned_bytes"]),
    ]
    return f"| {' | '.join(cells)} |"


def _gib(size: float | None) -> str:
    return "-" if size is None else f"{size / 2**30:.1f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f}"
