from __future__ import annotations

import json
from pathlib import Path

import pytest

from antioversmooth.redact import redact, redact_all
from antioversmooth.runs import journal

S = "hunter2hunter2"
SECRETS = [
    f"--token {S}",
    f"--password {S}",
    f"wandb login {S}",
    f"export DB_PASS={S}",
    f"export MYSQL_PWD={S}",
    f"export OPENAI_KEY={S}",
    f"export GH_PAT={S}",
    f"AUTHORIZATION: token {S}",
    f"postgresql://u:{S}@h/db",
    f"postgresql://u:a@{S}@h/db",
    f"postgresql://u:a/{S}@h/db",
    f"https://h/x?sig={S}&se=1",
    f"https://h/x?X-Amz-Signature={S}",
    f"https://h/x?sv=1&access_token={S}",
    f'export API_TOKEN="a {S} b"',
    f"curl -u user:{S} https://h",
    f"SECRET: |\n  {S}",
    f"token: {S}",
    f'"token": "{S}"',
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}",
    f"ghp_{S}{S}aaaaaaaaaaaa",
    f"sshpass -p {S} ssh x",
    f"hf_{S}{S}aaaaaa",
    f"AKIA{S.upper()}AA",
    f"passphrase={S}",
    f"pwd={S}",
    f"auth={S}",
    f"git+https://{S}@github.com/x",
    f"https://maps.example.org/api?key={S}",
    f"client_secret_id={S}",
    f"['wandb', 'login', '{S}']",
    f"wandb login --relogin {S}",
    f"wandb login --host=https://h {S}",
    f"['--api-key', '{S}']",
    f"--api-key={S}",
    f"--api_key '{S} x'",
    f"-token {S}",
    f"docker login -u ada -p {S} registry",
    f"mysql -u root -p{S} db",
    f"redis-cli -h h -a {S}",
    f"curl --user=ada:{S} h",
    f"curl -H 'X-Api-Key: {S}' h",
    f'curl -H "PRIVATE-TOKEN: {S}" h',
    f"PGPASSWORD={S} psql",
    f"setenv WANDB_API_KEY {S}",
    f"set -gx HF_TOKEN {S}",
    f'$env:HF_TOKEN = "{S}"',
    f"os.environ['HF_TOKEN'] = '{S}'",
    f'os.environ["OPENAI_API_KEY"]="{S}"',
    f"{{'password': '{S}'}}",
    f'{{\\"token\\": \\"{S}\\"}}',
    f"token = '{S}'",
    f"apiToken: {S}",
    f"clientSecret={S}",
    f"AccountKey={S};EndpointSuffix=x",
    f"AWSSecretKey={S}",
    f"<password>{S}</password>",
    f"machine h login ada password {S}",
    f"openssl rsa -passin pass:{S}",
    f"Proxy-Authorization: Basic {S}",
    f"Cookie: session={S}",
    f"Authorization: AWS4-HMAC-SHA256 Credential=x, Signature={S}",
    f"redis://:{S}@h:6379/0",
    f"mongodb+srv://u:{S}@h/db",
    f"https://u:a#b{S}@h/x",
    f"ftp://u:{S}@h",
    f"https://h/x?X-Goog-Signature={S}",
    f"https://h/?x=1#access_token={S}",
    f"sv=2020&sig={S}",
    f"'data.token=a {S}'",
    f"launch.py 'cluster.setup=[\"export A_TOKEN={S}\"]'",
    f"export A_TOKEN=abc\\ {S}",
    f"export A_TOKEN=abc,{S}",
    f"api key: {S}",
    f"x_auth_token: {S}",
    f"password: >-\n    {S}\nnext: 1",
    f"secret_access_key: '{S}'",
    f"SLURM_JWT={S}",
    f"sasToken={S}",
    f"KAGGLE_KEY={S}",
    f"MLFLOW_TRACKING_PASSWORD: {S}",
    f'+  api_key = "{S}"',
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{S}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"eyJhbGciOiJIUzI1NiJ9.eyJ{S}.{S}",
    f"glpat-{S}{S}",
    f"xoxb-1234-{S}",
    f"sk-proj-{S}{S}",
    f"https://hooks.slack.com/services/T0/B0/{S}",
    f"AIza{S}{S}aaaa",
    f"github_pat_{S}_{S}",
    f"npm_{S}{S}",
    f"Bearer {S}",
    f"http -a ada:{S} h",
    f"export SECRET='it''s' TOKEN={S}",
    f"auth_token:{S}",
    f"PASSWORD := {S}",
    f"password => '{S}'",
    f"ssh://ada:{S}@h",
    f"user=ada&password={S}",
    f"export DB_PASSWORD={S}#x",
    f"https://ada.l:{S}@h/x",
    f"https://u:a@{S}/b@h/x",
    f"Set-Cookie: id={S}; Path=/",
    f"jwt={S}",
    f"--passwd {S}",
    f"svn --username ada --password {S} co x",
    f"wget --http-password={S} h",
    f"helm registry login -p {S}",
]
"""Spellings in which people write a secret."""

INNOCENT = [
    "GOOGLE_APPLICATION_CREDENTIALS=/home/ada/key.json",
    "key_dim=64",
    "qkv_key: 3",
    "tokens: 197",
    "recipe.epochs=3",
    "the key idea",
    "model.class_token_in_mean=true",
    "keys too many: head.weight",
    "tokens per image",
    "max_tokens=197",
    "commit 6ca4aec19b55c72f54bd2b3d1b2a5d2c0ffee012",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "deit_s12 seed0-e0660ff2",
    "/home/ada/results/mini/runs/deit_s12/seed0-e0660ff2/spec.yaml",
    "keyboard",
    "monkey=1",
    "keyboard: qwerty",
    "key: value",
    "label_key: fine",
    "sort_key=loss",
    "https://example.org:5000/x?page=2",
    "https://mlflow.example.org:5000/api@2",
    "git+https://github.com/org/repo.git@v1.0",
    "https://medium.com/@ada/post",
    "git@github.com:org/repo.git",
    "sqlite:////home/ada/results/mlflow.db",
    "s3://bucket/key=1/x",
    "distillation_token: true",
    "similarity of tokens: 0.9",
    "class_token: mean",
    "cls_token=0.02",
    "token: 0.93",
    "forward pass: 0.3 s",
    "backward_pass=0.2",
    "passed=12",
    "pass@1: 0.5",
    "bypass=true",
    "author=Ada",
    "authors: Wang et al.",
    "signature: (self, x)",
    "ada@example.org",
    "PWD=/home/ada/project",
    "OLDPWD=/home/ada",
    "SSH_AUTH_SOCK=/tmp/ssh-1/agent.7",
    "export HF_TOKEN=$HF_TOKEN",
    'export A_TOKEN="${A_TOKEN}"',
    "password_file=/run/secrets/db",
    "--password-stdin",
    "--max-tokens 197",
    "--class-token mean",
    "docker run -u 1000:1000 x",
    "curl -u ada https://h",
    "basic augmentation of images",
    "token similarity, layer 12",
    "TOKENIZERS_PARALLELISM=false",
    "attempt 1 ended: crash (RuntimeError: loss is nan at step 4)",
    "risk-aware-training-of-transformers",
    "token-mixing: 3",
    "def f(token: str) -> None",
    "if token == other:",
    "hf_dataset",
    "secret: null",
    "RuntimeError: [/pytorch/third_party/gloo/transport/tcp/pair.cc:537] Connection closed",
    "http://localhost:5000/#/runs",
    "no key named 'x'; keys: a, b",
    "images/s: 1234.5",
    "mkdir -p results/mini",
    "rsync -a u:x y",
    "module load cuda/12.4",
    "source /opt/env/bin/activate",
    "tar -a -cf x.tar",
    "primary_key: id",
    "compass: north",
    "wandb login failed",
    "mysql -p",
    "ssh -p 2222 host",
    "auth: none",
    "num_register_tokens=4",
    "cache_key=3f2a1b",
    "the secret of token mixing",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_usual_spelling_shows_a_secret(text: str) -> None:
    shown = redact(text, {})
    assert S not in shown
    assert S.upper() not in shown
    # a second pass, as over an exported journal, changes nothing
    assert redact(shown, {}) == shown


@pytest.mark.parametrize("text", INNOCENT)
def test_text_that_only_resembles_a_secret_is_unchanged(text: str) -> None:
    assert redact(text, {}) == text


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


def test_names_of_variables_decide_and_their_values_may_be_encoded() -> None:
    variables = {
        "PWD": "/home/ada/project",
        "SSH_AUTH_SOCK": "/tmp/agent.7",
        "GH_PAT": "a/b+hunter2",
    }
    text = "cd /home/ada/project; /tmp/agent.7; https://h/x?q=a%2Fb%2Bhunter2&r=a/b+hunter2"
    shown = "cd /home/ada/project; /tmp/agent.7; https://h/x?q=(hidden)&r=(hidden)"
    assert redact(text, variables) == shown


def test_texts_in_lists_and_dicts_are_redacted_and_numbers_stay(tmp_path: Path) -> None:
    value = {"note": ["token=s3cret", {"url": "https://u:p@h"}], "step": 3, "last": None}
    expected = {"note": ["token=(hidden)", {"url": "https://(hidden)@h"}], "step": 3, "last": None}
    assert redact_all(value) == expected
    journal.append(tmp_path / "attempts.jsonl", {"facts": value})
    (written,) = journal.read(tmp_path / "attempts.jsonl")
    assert written["facts"] == expected


@pytest.mark.parametrize("word", ["mysql -p ", "https://u:p", "'token=a", "wandb login ", "--a "])
def test_long_texts_are_read_in_one_pass(word: str) -> None:
    """Patterns that begin again at each word would take minutes."""
    assert len(redact(word * 30_000, {})) > 0
