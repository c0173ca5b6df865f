"""Values of the environment in a spec: numbers, choices and paths are recorded, other texts are
refused, and no message shows a value."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from antioversmooth import spec
from antioversmooth.errors import SpecError

SECRET = "s3cret-of-mine"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLACE", "A_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.setenv("SWITCH", "yes")
    monkeypatch.setenv("CHOICE", "torchrun")
    monkeypatch.setenv("LIST", "[0.5,0.6,0.7]")
    monkeypatch.setenv("TEXTS", f"[{SECRET},b]")
    monkeypatch.setenv("BROKEN", f"[{SECRET}")


TEXTS = [
    "title='run ${oc.env:PLACE}'",
    "title='${oc.env:PLACE,default}'",
    "title='${oc.env:NO_SUCH_VARIABLE,default}'",
    "title='${oc.decode:${oc.env:PLACE}}'",
    "title='${oc.env:${oc.env:NAME,PLACE}}'",
    "title='${oc.select:data.root,none} ${oc.env:PLACE}'",
    "title='${cluster.results}' cluster.results='${oc.env:PLACE}'",
    "data.name='${oc.env:PLACE}'",
    "data.label='${oc.env:PLACE}' data.source=huggingface",
    "recipe.rand_augment='${oc.env:PLACE}'",
    "recipe.init_allow_missing=['${oc.env:PLACE}']",
    "recipe.init_allow_missing='${oc.decode:${oc.env:TEXTS}}'",
    "cluster.account='${oc.env:PLACE}'",
    "cluster.setup=['export A=${oc.env:PLACE}']",
    "cluster.sbatch={comment:'${oc.env:PLACE}'}",
    "cluster.results='${oc.env:A_TOKEN}'",
    "data.root='/data/${oc.env:A_TOKEN}'",
    "recipe.init_from='file:${oc.env:A_TOKEN}'",
    # no value, or not a fitting one: the reason must not quote it
    "recipe.epochs='${oc.env:PLACE}'",
    "recipe.epochs='${oc.decode:${oc.env:BROKEN}}'",
    "recipe.epochs='${${oc.env:PLACE}}'",
    "cluster.starter='${oc.env:PLACE}'",
]


@pytest.mark.parametrize("words", TEXTS)
def test_text_of_the_environment_is_refused_without_its_value(words: str, copy: Path) -> None:
    overrides = words.replace("' ", "'\n").splitlines()
    with pytest.raises(SpecError) as caught:
        spec.load([copy / "deit_s12.yaml"], overrides)
    key = words.partition("=")[0]
    assert f"command line: {key}: `" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("recipe.epochs='${oc.env:EPOCHS}'", 7),
        ("cluster.requeue='${oc.env:SWITCH}'", True),
        ("cluster.starter='${oc.env:CHOICE}'", "torchrun"),
        ("data.mean='${oc.decode:${oc.env:LIST}}' data=imagenet", [0.5, 0.6, 0.7]),
        ("data.root='/data/${oc.env:PLACE}' data=imagenet", f"/data/{SECRET}"),
        ("data.root='${oc.env:NO_SUCH_VARIABLE,null}' data=imagenet", None),
        ("data.train='${oc.env:PLACE}' data=imagenet", SECRET),
        ("cluster.results='${oc.env:PLACE}'", SECRET),
        ("recipe.init_from='file:/${oc.env:PLACE}'", f"file:/{SECRET}"),
        ("cluster.account='group-${data.num_classes}'", "group-10"),
    ],
)
def test_numbers_choices_and_paths_may_come_from_the_environment(
    word: str, value: object, copy: Path
) -> None:
    overrides = ["profile=mini", *word.replace("' ", "'\n").splitlines()]
    (experiment,) = spec.load([copy / "deit_s12.yaml"], overrides).experiments
    section, _, name = word.partition("=")[0].partition(".")
    found = getattr(getattr(experiment, section), name)
    assert getattr(found, "value", found) == value


@pytest.mark.parametrize("key", ["title", "caption", "label"])
def test_a_table_shows_no_text_of_the_environment(key: str, copy: Path) -> None:
    text = "title: T\ncaption: C\nrows:\n  - label: L\n    experiment: deit_s12\n"
    text = text.replace(f"{key}: {key[0].upper()}", f"{key}: ${{oc.env:PLACE}}")
    (copy / "tables/own.yaml").write_text(text)
    with pytest.raises(SpecError, match="takes text from the environment") as caught:
        spec.load([copy / "tables/own.yaml"])
    assert SECRET not in str(caught.value)


def test_titles_labels_and_captions_are_redacted(copy: Path) -> None:
    text = "title: a api_key=x1y2z3\ncaption: see https://ada:pw@example.org\n"
    text += "rows:\n  - label: --token x1y2z3\n    experiment: deit_s12\n"
    (copy / "tables/own.yaml").write_text(text)
    table = spec.load_table(copy / "tables/own.yaml")
    assert (table.title, table.caption) == (
        "a api_key=(hidden)",
        "see https://(hidden)@example.org",
    )
    assert table.rows[0].label == "--token (hidden)"
    (row,) = spec.load([copy / "deit_s12.yaml"], ["title='with password=x1y2z3'"]).experiments
    assert row.title == "with password=(hidden)"


def test_the_resolver_of_omegaconf_is_as_it_was(copy: Path) -> None:
    with pytest.raises(SpecError):
        spec.load([copy / "deit_s12.yaml"], ["title='${oc.env:PLACE}'"])
    assert OmegaConf.create({"a": "${oc.env:EPOCHS}"}).a == "7"
