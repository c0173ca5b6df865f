"""The findings for people, as a block for a ticket, and as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.config import ClusterConfig
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.redact import redact, redact_all
from antioversmooth.runs.identity import to_json
from antioversmooth.text import one_line, open_console

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {Level.ok: "green", Level.warning: "yellow", Level.wrong: "bold red"}
CHECK_WIDTH = 20
"""Characters of the column of names; longer ones push their text to the right."""


@dataclass(frozen=True)
class Report:
    """All findings of an examination."""

    findings: Sequence[Finding]
    cluster: ClusterConfig
    nodes: str
    """Nodes that were examined, in SLURM's words; empty: none."""
    command: str
    """The words that asked for it."""

    @property
    def is_wrong(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.level is Level.wrong for finding in self.findings)

    def by_place(self) -> list[tuple[Place, list[Finding]]]:
        """The findings of each place that has any, in the order of `Place`."""
        groups = [(place, [f for f in self.findings if f.place is place]) for place in Place]
        return [(place, found) for place, found in groups if found]

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON types, without secrets."""
        return {
            "profile": self.cluster.name,
            "nodes": self.nodes,
            "wrong": self.is_wrong,
            "findings": [
                redact_all(
                    {
                        "place": finding.place.value,
                        "check": finding.check,
                        "level": finding.level.value,
                        "text": one_line(finding.text),
                        "advice": one_line(finding.advice),
                        "values": finding.values,
                    }
                )
                for _, found in self.by_place()
                for finding in found
            ],
        }


def show(report: Report, stream: TextIO) -> None:
    """Prints the findings by place, and the block for a ticket."""
    console = open_console(stream, soft_wrap=True)
    for place, found in report.by_place():
        console.print(f"\n{place.value}", style="bold")
        for finding in found:
            _show_finding(finding, console)
    console.print(f"\n{_counts(report.findings)}")
    console.print("\n----- summary for a ticket")
    for line in ticket(report):
        console.print(line)


def _show_finding(finding: Finding, console: Console) -> None:
    head = f"  {finding.level.value:<8} {one_line(finding.check):<{CHECK_WIDTH}} "
    console.print(head, style=STYLES[finding.level], end="")
    console.print(one_line(redact(finding.text)))
    if finding.advice:
        console.print(f"{'':<11}-> {one_line(redact(finding.advice))}")


def _counts(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.level for finding in findings)
    parts = [f"{counts[level]} {level.value}" for level in Level if counts[level]]
    return f"{len(findings)} checks: {', '.join(parts)}"


def line_of(finding: Finding) -> str:
    """A finding in one line of plain text, without secrets."""
    text = f"{finding.level.value}: {finding.place.value}: {finding.check}: {finding.text}"
    return one_line(redact(text))


def ticket(report: Report) -> Iterator[str]:
    """Lines of plain text for a ticket: the profile, the software, and all that is not ok."""
    cluster = report.cluster
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    yield one_line(redact(f"{report.command}  ({when})"))
    set_here = {
        key: value
        for key, value in to_json(cluster).items()
        if value != to_json(ClusterConfig(name=cluster.name))[key]
    }
    yield one_line(redact(f"profile {cluster.name}: {_words(redact_all(set_here))}"))
    yield f"nodes: {one_line(report.nodes) or 'none examined'}"
    for finding in report.findings:
        if finding.level is not Level.ok:
            yield line_of(finding)
        elif finding.check in ("SLURM's commands", "Python", "software", "GPUs", "driver"):
            yield one_line(redact(f"{finding.check}: {finding.text}"))
    yield _counts(report.findings)


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "all defaults"
