"""The report of a verification, as JSON and as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antioversmooth.errors import and_more
from antioversmooth.reporting.sharing.checks import Check, Verdict
from antioversmooth.reporting.sharing.verify import RowReport
from antioversmooth.reporting.table.document import Document

ORDER = (
    Verdict.confirmed,
    Verdict.differs,
    Verdict.gone,
    Verdict.foreign,
    Verdict.underivable,
)
"""In which verdicts are counted."""
UNCONFIRMED = (Verdict.differs, Verdict.foreign, Verdict.gone)
"""The verdicts that are shown for each value, the worst first."""


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
    """A line for each row, one for each of its values that differs or is gone, and the sums.

    What is not derivable is named once for the whole table.
    """
    for report in reports:
        name = ", ".join(filter(None, [report.group, report.label]))
        yield f"  {name}: {_summary(report)}"
        for verdict in UNCONFIRMED:
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
    yield from _underivable(reports)
    yield ", ".join(f"{number} {verdict}" for verdict, number in count(reports).items())


def _summary(report: RowReport) -> str:
    confirmed = f"{len(report.having(Verdict.confirmed))} values confirmed"
    worst = next((verdict for verdict in UNCONFIRMED if report.having(verdict)), None)
    return confirmed if worst is None else f"{worst.value.upper()}; {confirmed}"


def _underivable(reports: Sequence[RowReport]) -> Iterator[str]:
    """The values that nothing else tells, by reason, without the seeds that they are of."""
    names: dict[str, dict[str, None]] = {}
    for check in (one for report in reports for one in report.having(Verdict.underivable)):
        key = re.sub(r"^seed(s\[\d+\]\.|\s\d+: )", "", check.key)
        names.setdefault(check.reason, {})[key] = None
    for reason, keys in names.items():
        yield f"  not derivable ({reason}): {and_more(list(keys), 8)}"
