"""The report of a verification, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antioversmooth.reporting.sharing.verify import Check, RowReport, Verdict
from antioversmooth.reporting.table.document import Document

ORDER = (Verdict.confirmed, Verdict.differs, Verdict.gone, Verdict.foreign)
"""In which verdicts are counted."""


def count(reports: Sequence[RowReport]) -> dict[str, int]:
    """The number of values with each verdict."""
    verdicts = Counter(check.verdict for report in reports for check in report.checks)
    return {verdict.value: verdicts[verdict] for verdict in ORDER}


def as_json(
    document: Document, reports: Sequence[RowReport], rendered: Mapping[str, bool]
) -> dict[str, Any]:
    """Every value with its verdict.

    Args:
        rendered: Files beside the JSON, and whether they are its renderings.
    """
    return {
        "table": document.get("name"),
        "title": document.get("title"),
        "counts": count(reports),
        "renderings": dict(rendered),
        "rows": [
            {**vars(report), "checks": [_check_json(check) for check in report.checks]}
            for report in reports
        ],
    }


def _check_json(check: Check) -> dict[str, Any]:
    fields = {**vars(check), "verdict": check.verdict.value}
    del fields["absent_run"]
    return fields


def lines(reports: Sequence[RowReport], rendered: Mapping[str, bool]) -> Iterator[str]:
    """A line for each row, one for each of its values that is not confirmed, and the sums."""
    for report in reports:
        name = ", ".join(filter(None, [report.group, report.label]))
        yield f"  {name}: {_summary(report)}"
        for verdict in (Verdict.differs, Verdict.foreign, Verdict.gone):
            # An absent run is reported once, not for each of its values.
            reasons = dict.fromkeys(
                check.reason if check.absent_run else str(check) for check in report.having(verdict)
            )
            yield from (f"      {verdict.value:<8}  {reason}" for reason in reasons)
    same = [name for name, equal in rendered.items() if equal]
    other = [name for name, equal in rendered.items() if not equal]
    if same:
        yield f"  rendered from this JSON, to the byte: {', '.join(same)}"
    if other:
        names = ", ".join(other)
        yield f"  NOT what this JSON renders to: {names}; `antioversmooth render` writes them again"
    yield ", ".join(f"{number} {verdict}" for verdict, number in count(reports).items())


def _summary(report: RowReport) -> str:
    confirmed = f"{len(report.having(Verdict.confirmed))} values confirmed"
    worst = next((verdict for verdict in Verdict if report.having(verdict)), Verdict.confirmed)
    return confirmed if worst is Verdict.confirmed else f"{worst.value.upper()}; {confirmed}"
