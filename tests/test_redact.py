from __future__ import annotations

import json
from pathlib import Path

import pytest

from antioversmooth.redact import redact
from antioversmooth.runs import journal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://ada:s3cret@example.org/api: refused",
        "at https://(hidden)@example.org/api: refused"),
        ("postgresql+psycopg2://ada:s3cret@db:5432/mlflow",
        "postgresql+psycopg2://(hidden)@db:5432/mlflow"),
        ("https://ghp_s3cret@example.org/repo.git", "https://(hidden)@example.org/repo.git"),
        ("launch.py deit_s12 data.token=s3cret --nodes 2",
        "launch.py deit_s12 data.token=(hidden) --nodes 2"),
        ("GET /artifacts?access_key=s3cret&page=2", "GET /artifacts?access_key=(hidden)&page=2"),
        ("export WANDB_API_KEY='s3cret'", "export WANDB_API_KEY='(hidden)'"),
        ('{"password": "s3cret", "user": "ada"}', '{"password": "(hidden)", "user": "ada"}'),
        ("Authorization: Bearer s3cret.s3cret-s3cret", "Authorization: Bearer (hidden)"),
    ],
)  # fmt: skip
def test_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert redact(text, {}) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/ada/results/mlflow.db",
        "https://mlflow.example.org:5000/api/2.0",
        "model.class_token_in_mean=true",
        "distillation_token: true",
        "similarity of tokens: 0.9",
        "attempt 1 ended: crash (RuntimeError: loss is nan at step 4)",
        "ada@example.org",
    ],
)
def test_text_without_a_secret_is_unchanged(text: str) -> None:
    assert redact(text, {}) == text


def test_the_value_of_a_secret_variable_is_hidden_everywhere() -> None:
    variables = {"MLFLOW_TRACKING_TOKEN": "hunter2hunter2", "HOME": "/home/ada", "A_TOKEN": "ab"}
    assert (
        redact("cannot open /home/ada/hunter2hunter2/ab", variables)
        == "cannot open /home/ada/(hidden)/ab"
    )


def test_no_journal_records_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    record = {
        "attempt": 1,
        "event": "end",
        "message": "https://ada:s3cret@example.org says hunter2hunter2",
    }
    journal.append(tmp_path / "attempts.jsonl", record)
    (written,) = journal.read(tmp_path / "attempts.jsonl")
    assert written["message"] == "https://(hidden)@example.org says (hidden)"
    assert json.loads((tmp_path / "attempts.jsonl").read_text())["attempt"] == 1
