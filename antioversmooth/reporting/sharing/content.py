"""Names in a bundle: what it may contain, which `export` writes and `import` accepts."""

from __future__ import annotations

import re

from antioversmooth.runs import Run

FORMAT = 1
MANIFEST = "manifest.json"

TEXTS = ("intent.json", "intents.jsonl", "attempts.jsonl", "provenance.json")
"""Files with messages and command lines, from which secrets are removed; measurements have none."""
RECORD = ("spec.yaml", *TEXTS, "classes.json", "metrics.jsonl", "result.json")
NEEDED = ("spec.yaml", "attempts.jsonl", "metrics.jsonl", "result.json")
"""Those without which a result is not valid."""
NAMES = re.compile(
    "|".join(map(re.escape, RECORD))
    + r"|checkpoints/step\d{1,12}-attempt\d{1,6}\.pt(\.sha256)?|analysis/\w[\w.-]{0,99}",
    re.ASCII,
)
"""The files of a run that a bundle may contain."""


def run_path(run: Run) -> str:
    """The directory of a run, relative to `runs/`."""
    return f"{run.experiment.name}/seed{run.seed}-{run.id[:8]}"
