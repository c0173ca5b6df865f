from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fabricated import LIKE_THE_PAPER, Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antioversmooth import cli, files
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE
from antioversmooth.errors import UserError
from antioversmooth.reporting.sharing import report, verify
from antioversmooth.reporting.sharing.verify import Check, Verdict
from antioversmooth.reporting.table import tables

SEEDS = (0, 1)


@pytest.fixture
def committed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The JSON of a complete table; the working directory is its project."""
    monkeypatch.chdir(lab.root)
    lab.fill_honestly()
    tables.write_table(lab.collect(*SEEDS), lab.results / "mini")
    return lab.results / "mini" / "small.json"


def checks(path: Path, lab: Lab, **options: Any) -> list[Check]:
    reports = verify.verify(tables.load_committed(path), path.parent, lab.table(), **options)
    return [check for report in reports for check in report.checks]


def unconfirmed(path: Path, lab: Lab, **options: Any) -> dict[str, Verdict]:
    return {
        check.key: check.verdict
        for check in checks(path, lab, **options)
        if check.verdict is not Verdict.confirmed
    }


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    files.write_json(path, value)


def directory(lab: Lab, name: str, seed: int = 0) -> Path:
    return lab.run(name, seed).dir


def test_every_number_of_the_runs_is_confirmed(committed: Path, lab: Lab) -> None:
    found = checks(committed, lab)
    assert all(check.verdict is Verdict.confirmed for check in found)
    keys = {check.key for check in found}
    assert {
        "top1.mean",
        "top1.std",
        "gain.mean",
        "gain.spread",
        "parameters",
        "gmacs",
        "device_hours",
    } <= keys
    assert {
        "seeds[1].result.metrics.val/top1",
        "seeds[0].curve.top1",
        "seeds[0].provenance.commits",
    } <= keys
    assert {"seed 1: best", "seed 0: checkpoints/step00000032-attempt1.pt", "paper.top1"} <= keys
    assert cli.main(["verify", str(committed)]) == 0


@pytest.mark.parametrize(
    ("key", "edit"),
    [
        ("top1.mean", lambda row: row["top1"].update(mean=91.5)),
        ("top1.std", lambda row: row["top1"].update(std=0.1)),
        ("gain.beyond_spread", lambda row: row["gain"].update(beyond_spread=False)),
        ("parameters", lambda row: row.update(parameters=1)),
        ("device", lambda row: row.update(device="H100")),
        ("state", lambda row: row.update(state="partial (1/2)")),
        ("seeds[1].result.gmacs", lambda row: row["seeds"][1]["result"].update(gmacs=1.0)),
        ("seeds[0].curve.top1", lambda row: row["seeds"][0]["curve"]["top1"].reverse()),
        ("seeds[0].provenance.commits",
        lambda row: row["seeds"][0]["provenance"].update(commits=["beef"])),
        ("paper.top1", lambda row: row["paper"].update(top1=80.5)),
        ("paper.confidence", lambda row: row["paper"].update(confidence="V")),
    ],
)  # fmt: skip
def test_a_number_that_was_edited_is_found(
    committed: Path, lab: Lab, key: str, edit: Callable[[Any], None]
) -> None:
    change(committed, lambda document: edit(document["rows"][1]))
    assert unconfirmed(committed, lab) == {key: Verdict.differs}
    assert cli.main(["verify", str(committed)]) == FAILED


def test_both_values_of_a_difference_are_reported(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(committed, lambda document: document["rows"][0]["top1"].update(mean=95.25))
    assert cli.main(["verify", "small"]) == 1
    out = capsys.readouterr().out
    assert "differs   top1.mean: 95.25 in the table, 90.35 by its runs" in out
    assert "Deep_24, #layers, Deep: DIFFERS" in out
    assert (
        "NOT what this JSON renders to: small.json, small.md, small.tex, small.csv, small.html"
        in out
    )


def test_runs_that_are_gone_are_named_once_and_the_rest_is_confirmed(
    committed: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(directory(lab, "deep"))
    assert cli.main(["verify", str(committed)]) == INCOMPLETE
    out = capsys.readouterr().out
    # in its own row, and in the row whose baseline it is
    assert out.count("seed 0: there is no") == 2
    found = unconfirmed(committed, lab)
    assert set(found.values()) == {Verdict.gone}
    assert {"top1.mean", "seeds[0].result.parameters", "gain.mean"} <= set(found)
    assert "seeds[1].result.parameters" not in found


def test_a_run_that_was_edited_is_foreign(committed: Path, lab: Lab) -> None:
    path = directory(lab, "wide") / "spec.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 400"))
    assert set(unconfirmed(committed, lab).values()) == {Verdict.foreign}
    assert cli.main(["verify", str(committed)]) == FAILED


def test_another_run_in_the_place_of_the_tables_is_foreign(committed: Path, lab: Lab) -> None:
    """The ids share only the first eight digits."""
    change(
        committed,
        lambda document: document["rows"][2]["seeds"][0].update(
            id=lab.run("wide").id[:8] + "0" * 56
        ),
    )
    assert Verdict.foreign in unconfirmed(committed, lab).values()


def test_a_result_that_its_journal_contradicts_is_found(committed: Path, lab: Lab) -> None:
    change(
        directory(lab, "wide") / "result.json", lambda result: result["best"].update({"epoch": 1})
    )
    # the table takes the edited result
    tables.write_table(lab.collect(*SEEDS), committed.parent)
    assert unconfirmed(committed, lab) == {"seed 0: best": Verdict.differs}


def test_a_journal_that_is_gone_confirms_nothing(committed: Path, lab: Lab) -> None:
    (directory(lab, "wide") / "metrics.jsonl").unlink()
    found = unconfirmed(committed, lab)
    assert found["seed 0: result.json"] is Verdict.differs
    assert found["top1.mean"] is Verdict.differs


def test_checkpoints_are_held_against_their_checksums(committed: Path, lab: Lab) -> None:
    (weights,) = (directory(lab, "wide") / "checkpoints").glob("*.pt")
    weights.write_bytes(b"others")
    key = f"seed 0: checkpoints/{weights.name}"
    assert unconfirmed(committed, lab) == {key: Verdict.differs}
    weights.unlink()
    assert unconfirmed(committed, lab) == {key: Verdict.gone}
    assert unconfirmed(committed, lab, checkpoints=False) == {}
    assert cli.main(["verify", str(committed)]) == INCOMPLETE
    assert cli.main(["verify", str(committed), "--without-checkpoints"]) == 0


def test_a_table_that_is_not_complete_can_be_confirmed(lab: Lab) -> None:
    lab.fill_honestly()
    tables.write_table(lab.collect(0, 1, 2), lab.results / "mini")
    assert unconfirmed(lab.results / "mini" / "small.json", lab) == {}
    # the table is behind its runs
    lab.finish_honestly(lab.run("wide", 2), 95.0)
    found = unconfirmed(lab.results / "mini" / "small.json", lab)
    assert found["top1.mean"] is found["state"] is Verdict.differs


def test_the_difference_to_the_papers_value_is_confirmed_too(lab: Lab) -> None:
    lab.finish_honestly(lab.run("deep", 0, *LIKE_THE_PAPER), 80.05)
    tables.write_table(lab.collect(overrides=LIKE_THE_PAPER), lab.results)
    found = checks(lab.results / "small.json", lab)
    assert next(check for check in found if check.key == "difference").derived == pytest.approx(
        0.25, abs=1e-12
    )
    assert all(check.verdict is Verdict.confirmed for check in found)


def test_a_committed_table_of_before_a_new_field_is_not_blamed_for_it(
    committed: Path, lab: Lab
) -> None:
    change(committed, lambda document: [row.pop("gmacs") for row in document["rows"]])
    assert unconfirmed(committed, lab) == {}


def test_files_that_were_edited_by_hand_are_named_and_can_be_rendered_again(
    committed: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = lab.root / "README.md"
    readme.write_text("<!-- small:begin -->\n<!-- small:end -->\n")
    assert cli.main(["render", "small", "--readme"]) == 0
    assert cli.main(["verify", str(committed)]) == 0
    assert "small.html, README.md" in capsys.readouterr().out
    before = committed.with_suffix(".md").read_text()
    committed.with_suffix(".md").write_text(before.replace("91.8", "99.9"))
    readme.write_text(readme.read_text().replace("91.8", "99.9"))
    assert cli.main(["verify", str(committed)]) == FAILED
    assert "NOT what this JSON renders to: small.md, README.md" in capsys.readouterr().out
    assert cli.main(["render", str(committed), "--readme"]) == 0
    assert committed.with_suffix(".md").read_text() == before
    assert cli.main(["verify", str(committed)]) == 0


def test_the_readme_of_another_profile_is_not_this_tables(committed: Path, lab: Lab) -> None:
    other = "<!-- small:begin imagenet 4 -->\nanother table\n<!-- small:end -->\n"
    (lab.root / "README.md").write_text(other)
    assert cli.main(["verify", str(committed)]) == 0


def test_as_json_every_value_has_its_verdict(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(committed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {
        "confirmed": sum(len(row["checks"]) for row in told["rows"]),
        "differs": 0,
        "gone": 0,
        "foreign": 0,
    }
    assert [row["label"] for row in told["rows"]][-1] == "ResNet-152"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"rows": [1]}', '{"rows": [{"group": 1}]}', "[" * 9000]
)
def test_a_file_that_is_not_a_table_is_one_message(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match=r"table\.json"):
        tables.load_committed(tmp_path / "table.json")
    assert cli.main(["verify", str(tmp_path / "table.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_table_that_was_never_written_is_one_message(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    assert cli.main(["verify", "small"]) == 2


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just(["x"]),
)


def exchanged(value: Any, data: st.DataObject) -> Any:
    """The value with one of its parts, at any depth, replaced or removed."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(LEAVES)
    key = data.draw(
        st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))
    )
    part = exchanged(value[key], data)
    return (
        {**value, key: part} if isinstance(value, dict) else [*value[:key], part, *value[key + 1 :]]
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_content_of_a_table_is_verified_or_refused(
    committed: Path, lab: Lab, data: st.DataObject
) -> None:
    path = committed.with_name("fuzzed.json")
    path.write_text(json.dumps(exchanged(json.loads(committed.read_text()), data)))
    with suppress(UserError):
        reports = verify.verify(
            tables.load_committed(path), path.parent, lab.table(), checkpoints=False
        )
        json.dumps(report.as_json({}, reports, {}))
        list(report.lines(reports, {}))
