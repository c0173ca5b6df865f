"""A table as CSV: one line a row, numbers in full, for a spreadsheet or a script."""

from __future__ import annotations

import csv
import io
from typing import Any

from antioversmooth.reporting.table.document import Document

HEADER = (
    *(
        "group",
        "label",
        "experiment",
        "state",
        "data",
        "seeds",
        "n",
        "top1_mean",
        "top1_std",
        "best_mean",
        "best_std",
    ),
    *("start_mean", "paper_imagenet_top1", "paper_confidence", "paper_source", "difference"),
    *("gain", "gain_spread", "gain_beyond_spread"),
    *("parameters", "gmacs", "images_per_s", "device", "epochs", "device_hours"),
)


def render(document: Document) -> str:
    """Header and rows; empty where there is nothing, or where the table is of before a measure was
    added."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([_row(document, row) for row in document["rows"]])
    return out.getvalue()


def _row(document: Document, row: dict[str, Any]) -> list[Any]:
    top1, best, start, paper, gain = (
        row.get(key) or {} for key in ("top1", "best", "start", "paper", "gain")
    )
    return [
        *(row["group"], row["label"], row["experiment"], row["state"], document["data"]["name"]),
        *(" ".join(map(str, document["seeds"])), top1.get("n"), top1.get("mean"), top1.get("std")),
        *(best.get("mean"), best.get("std"), start.get("mean")),
        *(paper.get("top1"), paper.get("confidence"), paper.get("source"), row.get("difference")),
        *(gain.get("mean"), gain.get("spread"), gain.get("beyond_spread")),
        *(
            row.get(key)
            for key in ("parameters", "gmacs", "images_per_s", "device", "epochs", "device_hours")
        ),
    ]
