"""Figures from runs: the panels, their sources, and their notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import completed
import pytest

from antioversmooth import files, spec
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import (
    Figure,
    FigureRow,
    Panel,
    PanelKind,
    ReferenceCurve,
    Table,
    TableRow,
)
from antioversmooth.errors import SpecError
from antioversmooth.reporting import figures
from antioversmooth.runs import Run, journal
from antioversmooth.spec import Request

ROWS = ("deit_s12", "deit_s12_attnscale")
REFERENCE = ReferenceCurve(
    experiment="deit_s12", first_layer=0, values=[0.2, 0.3], source="a plot", confidence="D"
)
FIGURE = Figure(
    name="similarity",
    title="Similarity",
    rows=[FigureRow(name, name) for name in ROWS],
    panels=[Panel(PanelKind.token_similarity, references=[REFERENCE])],
)


@pytest.fixture
def request_(experiments: Path) -> Request:
    return spec.load([experiments / f"{name}.yaml" for name in ROWS], ["profile=mini"])


@pytest.fixture
def finish(request_: Request, tmp_path: Path) -> Callable[..., list[Run]]:
    """Gives runs a result in which they journaled their similarity."""

    def finish_all(
        names: Sequence[str] = ROWS, seeds: Sequence[int] = (0,), **result: Any
    ) -> list[Run]:
        runs = [run for run in request_.plan(seeds, tmp_path) if run.experiment.name in names]
        for run in runs:
            run.prepare()
            similarity = {
                "tokens": [0.1 + run.seed / 2, 0.2 + run.seed / 2],
                "off_diagonal": [0.0, 0.1],
                "images": 128,
            }
            checkpoint = {"file": "step10.pt", "sha256": "0" * 64}
            completed.finish(run, **{"similarity": similarity, "checkpoint": checkpoint, **result})
        return runs

    return finish_all


def test_journaled_similarity_is_drawn_without_a_model(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    finish(seeds=(0, 1))
    found = figures.picture(FIGURE, request_, [0, 1], tmp_path)
    assert found is not None
    (panel,) = found.panels
    assert [curve.label for curve in panel.curves] == list(ROWS)
    assert list(panel.curves[0].y) == pytest.approx([0.35, 0.45])
    assert (list(panel.curves[0].low), list(panel.curves[0].high)) == ([0.1, 0.2], [0.6, 0.7])
    assert found.title == "Similarity (MNIST-5k, mini profile)"
    assert found.notes == [
        "Every layer is measured; markers take turns, since curves may lie on each other.",
        (
            "MNIST-5k (mini profile), 128 validation images. Mean over n = 2 seeds (0, 1); band:"
            " lowest to highest."
        ),
    ]


def test_the_form_of_follow_ups_is_journaled_beside_the_authors(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    finish()
    figure = replace(FIGURE, panels=[Panel(PanelKind.token_similarity_off_diagonal)])
    found = figures.picture(figure, request_, [0], tmp_path)
    assert found is not None
    assert [list(curve.y) for curve in found.panels[0].curves] == [[0.0, 0.1]] * 2


def test_panels_that_the_models_have_nothing_of_are_left_out(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    finish()
    panels = [Panel(PanelKind.token_similarity, rows=[name]) for name in ROWS]
    found = figures.picture(replace(FIGURE, panels=panels), request_, [0], tmp_path)
    assert found is not None
    assert [panel.title for panel in found.panels] == [
        f"Tokens, the authors' definition: {name}" for name in ROWS
    ]
    stored = Analysis(
        "",
        Analysis.weights_name("step10.pt", "0" * 64),
        128,
        2,
        {"attention/similarity": {1: [0.5]}},
    )
    stored.write(finish(["deit_s12"])[0].dir / "analysis")
    heads = [Panel(PanelKind.attention_similarity, head=head, rows=["deit_s12"]) for head in (1, 2)]
    figure = replace(FIGURE, rows=[FigureRow("deit_s12", "DeiT-S")], panels=heads)
    alone = figures.picture(figure, request_, [0], tmp_path)
    assert alone is not None
    assert [panel.title for panel in alone.panels] == [
        "Attention maps, the authors' definition: DeiT-S, head 1"
    ]
    assert figures.picture(replace(figure, panels=heads[1:]), request_, [0], tmp_path) is None


def test_nothing_is_drawn_before_a_row_is_done_and_missing_seeds_are_noted(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    assert figures.picture(FIGURE, request_, [0], tmp_path) is None
    finish(["deit_s12"])
    found = figures.picture(FIGURE, request_, [0], tmp_path)
    assert found is not None
    assert found.notes[0] == "INCOMPLETE: not all seeds are done of deit_s12_attnscale (0 of 1)."
    assert len(found.panels[0].curves) == 1


def test_a_figure_counts_the_seeds_that_are_drawn_and_names_a_row_without_a_shared_one(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    finish(["deit_s12"], seeds=(0,))
    finish(["deit_s12_attnscale"], seeds=(1,))
    panels = [Panel(PanelKind.token_similarity), Panel(PanelKind.token_similarity_difference)]
    found = figures.picture(replace(FIGURE, panels=panels), request_, [0, 1, 2, 3], tmp_path)
    assert found is not None
    assert found.notes[0] == (
        "INCOMPLETE: not all seeds are done of deit_s12 (1 of 4), deit_s12_attnscale (1 of 4)."
    )
    assert found.notes[2] == (
        "MNIST-5k (mini profile), 128 validation images. Means, and bands from lowest to highest:"
        " deit_s12, n = 1 seed (0); deit_s12_attnscale, n = 1 seed (1). Differences are"
        " between runs of the same seed. No seed is shared with deit_s12: deit_s12_attnscale."
    )


def test_published_curves_never_stand_beside_other_data(
    request_: Request, finish: Callable[..., list[Run]], tmp_path: Path
) -> None:
    finish()
    found = figures.picture(FIGURE, request_, [0], tmp_path)
    assert found is not None
    assert not any("published" in curve.label for curve in found.panels[0].curves)


def test_published_curves_stand_beside_the_papers_setting(
    experiments: Path, tmp_path: Path
) -> None:
    request = spec.load([experiments / "deit_s12.yaml"])
    (run,) = request.plan([0], tmp_path)
    run.prepare()
    completed.finish(run, similarity={"tokens": [0.1]})
    found = figures.picture(FIGURE, request, [0], tmp_path)
    assert found is not None
    assert found.title == "Similarity"
    assert [curve.label for curve in found.panels[0].curves] == [
        "deit_s12",
        "deit_s12, published (D)",
    ]
    assert found.notes[-1] == "Published (D, derived): a plot."


def test_published_curves_stand_beside_nothing_but_the_rows_that_they_are_of(
    experiments: Path, tmp_path: Path
) -> None:
    """The paper's data, and another depth."""
    request = spec.load([experiments / "deit_s12.yaml"], ["model.depth=6"])
    (run,) = request.plan([0], tmp_path)
    run.prepare()
    completed.finish(run, similarity={"tokens": [0.1]})
    found = figures.picture(FIGURE, request, [0], tmp_path)
    assert found is not None
    assert [curve.label for curve in found.panels[0].curves] == ["deit_s12"]
    assert not any("Published" in note for note in found.notes)


def test_an_analysis_in_the_run_is_used_while_it_is_of_these_weights_and_images(
    finish: Callable[..., list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from antioversmooth.training.weights import analyse as analysing

    run = finish()[0]
    stored = Analysis(
        "",
        Analysis.weights_name("step10.pt", "0" * 64),
        128,
        2,
        {"attention/similarity": {1: [0.5]}},
    )
    stored.write(run.dir / "analysis")
    assert figures.analysed(run, 128) == stored

    def measured(target: Path, *, num_images: int) -> Analysis:
        assert target == run.dir
        return Analysis("", stored.weights, num_images, 2, {"attention/similarity": {1: [0.25]}})

    monkeypatch.setattr(analysing, "analyse", measured)
    assert figures.analysed(run, 64).measures == {"attention/similarity": {1: [0.25]}}
    again = Analysis.read(run.dir / "analysis" / "analysis.json")
    assert again is not None
    assert again.num_images == 64
    replace(again, weights="other.pt").write(run.dir / "analysis")
    assert figures.analysed(run, 64).weights == stored.weights


SUMS = {"fingerprint": "a" * 64, "sample": "b" * 64, "classes": "c" * 64}
HEADS = replace(
    FIGURE,
    rows=[FigureRow("deit_s12", "DeiT-S")],
    panels=[Panel(PanelKind.attention_similarity, rows=["deit_s12"])],
)


def stored(run: Run, selection: str = "", **sums: str) -> Analysis:
    """An analysis of the final weights of a run, in its directory."""
    final = (run.result() or {})["checkpoint"]
    weights = Analysis.weights_name(final["file"], final["sha256"])
    measures = {"attention/similarity": {1: [0.5]}}
    made = Analysis("", weights, 128, 2, measures, checksums=sums, selection=selection)
    made.write(run.dir / "analysis")
    return made


@pytest.mark.parametrize("key", SUMS)
def test_an_analysis_of_other_images_than_the_run_is_measured_again_and_if_still_noted(
    finish: Callable[..., list[Run]],
    request_: Request,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    from antioversmooth.training.weights import analyse as analysing

    run = finish(["deit_s12"], data={"root": "/nowhere", **SUMS})[0]
    same = stored(run, **SUMS)
    assert figures.analysed(run) == same
    found = figures.picture(HEADS, request_, [0], tmp_path)
    assert found is not None
    assert not any("images of the analysis" in note or "Analysed" in note for note in found.notes)

    other = stored(run, **{**SUMS, key: "f" * 64})
    again = replace(other, measures={"attention/similarity": {1: [0.25]}}, checksums=SUMS)
    monkeypatch.setattr(analysing, "analyse", lambda target, *, num_images: again)
    assert figures.analysed(run) == again
    monkeypatch.setattr(analysing, "analyse", lambda target, *, num_images: other)
    stored(run, **{**SUMS, key: "f" * 64})
    found = figures.picture(HEADS, request_, [0], tmp_path)
    assert found is not None
    assert f"Analysed on other images than the run was measured on: {run.name}." in found.notes


def test_an_analysis_of_another_selection_is_measured_again(
    finish: Callable[..., list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from antioversmooth.training.weights import analyse as analysing

    run = finish(["deit_s12"], data={"root": "/nowhere", **SUMS})[0]
    usual = Analysis.evenly_spaced(128, run.experiment.data.num_val)
    same = stored(run, usual, **SUMS)
    assert figures.analysed(run) == same
    stored(run, "128 of 2,000, the first", **SUMS)
    monkeypatch.setattr(analysing, "analyse", lambda target, *, num_images: same)
    assert figures.analysed(run) == same


@pytest.mark.parametrize(
    ("selection", "sums", "named"),
    [
        ("the first 128", SUMS, "deit_s12_attnscale seed 0: the first 128 (classes cccc"),
        ("as usual", {**SUMS, "sample": "f" * 64}, "as usual (classes cccccccccccc, fingerprint"),
    ],
)
def test_analyses_of_different_images_in_one_figure_are_named(
    finish: Callable[..., list[Run]],
    request_: Request,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    selection: str,
    sums: dict[str, str],
    named: str,
) -> None:
    rows = ["deit_s12", "deit_s12_attnscale"]
    runs = finish(rows, data={"root": "/nowhere", **SUMS})
    analyses = {run.dir: stored(run, "as usual", **SUMS) for run in runs}
    monkeypatch.setattr(figures, "analysed", lambda run, num_images: analyses[run.dir])
    both = replace(
        HEADS,
        rows=[FigureRow(row, row) for row in rows],
        panels=[Panel(PanelKind.attention_similarity, rows=[])],
    )
    found = figures.picture(both, request_, [0], tmp_path)
    assert found is not None
    assert not any("same images" in note for note in found.notes)
    analyses[runs[1].dir] = stored(runs[1], selection, **sums)
    found = figures.picture(both, request_, [0], tmp_path)
    assert found is not None
    (note,) = [note for note in found.notes if "not all of the same images" in note]
    assert named in note


def test_a_figure_names_imported_runs_and_analyses_of_unknown_images(
    finish: Callable[..., list[Run]], request_: Request, tmp_path: Path
) -> None:
    (planned,) = request_.plan([0], tmp_path)[:1]
    name = f"step{planned.experiment.total_steps:08d}-attempt1.pt"
    run = finish(["deit_s12"], checkpoint={"file": name, "sha256": "0" * 64})[0]
    start = {"time": 1.0, "attempt": 1, "event": "start", "step": 0}
    journal.append(run.attempts_path, {**start, "device": "CPU"})
    end = {"time": 1.0, "attempt": 1, "event": "end", "reason": "completed"}
    journal.append(run.attempts_path, {**end, "step": run.experiment.total_steps})
    files.write_json(run.dir / "imported.json", {"bundle": "b.tar", "sha256": "e" * 64})
    stored(run)
    found = figures.picture(HEADS, request_, [0], tmp_path)
    assert found is not None
    assert f"The images of the analysis are not recorded: {run.name}." in found.notes
    origin = f"Imported, not run here (b.tar, sha256 {'e' * 12}: {run.name})."
    assert origin in found.notes
    journaled = figures.picture(FIGURE, request_, [0], tmp_path)
    assert journaled is not None
    assert origin in journaled.notes


def table(*names: str) -> Table:
    return Table(
        name="two",
        title="Two rows",
        rows=[TableRow(name, name) for name in ROWS],
        figures=list(names),
    )


def test_a_table_draws_the_figures_that_it_names_into_its_own_folder(
    experiments: Path, tmp_path: Path
) -> None:
    request = spec.load(
        [experiments / f"deit_s24{kind}.yaml" for kind in ("", "_attnscale", "_featscale")], MINI
    )
    for run in request.plan([0], tmp_path):
        run.prepare()
        completed.finish(run, similarity={"tokens": [0.1] * 24})
    written = figures.render(table("similarity_deit_s24"), request, [0], tmp_path)
    names = [f"similarity_deit_s24.{end}" for end in ("json", "csv", "png", "svg")]
    assert written == [tmp_path / "mini" / "figures" / name for name in [*names, "index.html"]]
    assert all(path.stat().st_size > 0 for path in written)


MINI = ["profile=mini"]


def test_overrides_that_change_the_rows_draw_nothing_over_the_committed_figures(
    experiments: Path, tmp_path: Path
) -> None:
    request = spec.load([experiments / "deit_s12.yaml"], [*MINI, "model.depth=2"])
    assert figures.render(table("similarity_deit_s24"), request, [0], tmp_path) == []
    assert figures.destination(request, tmp_path, tmp_path / "mine") == tmp_path / "mine"


SHIPPED = sorted((Path(__file__).parents[2] / "experiments" / "figures").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_figure_loads_with_its_rows(path: Path) -> None:
    figure, request = spec.load_figure(path, MINI)
    assert figure.name == path.stem
    assert [row.experiment for row in figure.rows] == [
        experiment.name for experiment in request.experiments
    ]
    for panel in figure.panels:
        for curve in panel.references:
            depth = next(e.model.depth for e in request.experiments if e.name == curve.experiment)
            assert curve.first_layer + len(curve.values) - 1 == depth, "one value for each layer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("kind: token_similarity", "kind: cosine"),
        ("experiment: deit_s24, label", "experiment: deit_s99, label"),
        ("confidence: V", "confidence: sure"),
        ("- experiment: deit_s24_featscale\n", "- experiment: swin_s\n"),
    ],
)
def test_a_wrong_figure_is_a_clear_mistake(
    experiments: Path, tmp_path: Path, change: str, message: str
) -> None:
    (tmp_path / "figures").mkdir()
    for row in experiments.glob("*.yaml"):
        (tmp_path / row.name).symlink_to(row)
    text = (experiments / "figures" / "similarity_deit_s24.yaml").read_text()
    assert change in text
    (tmp_path / "figures" / "wrong.yaml").write_text(text.replace(change, message, 1))
    with pytest.raises(
        SpecError,
        match=message.split()[-1].strip("\n").split(",")[0]
        if "label" not in message
        else "deit_s99",
    ):
        spec.load_figure(tmp_path / "figures" / "wrong.yaml", MINI)


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (
            "rows: [cait_s24]",
            r"wrong\.yaml:\d+.*panels\[0\]\.rows\[0\].*'cait_s24' .*an experiment of this figure",
        ),
        (
            "head: -1",
            r"panels.*head.*-1 is not possible: at least 0.*1 is the first, 0 the mean over all",
        ),
        ("layers: [1, 1]", r"panels.*layers.*each layer at most once"),
        (
            "layers: [25, 3]",
            r"wrong: panels\[0\]\.layers.*\[25\] .*24 layers; from the end they are -1 to -24",
        ),
        ("layers: [-25]", r"\[-25\] is not possible"),
    ],
)
def test_a_panel_of_a_measure_that_its_rows_lack_is_one_message(
    experiments: Path, tmp_path: Path, panel: str, message: str
) -> None:
    (tmp_path / "figures").mkdir()
    for name in (
        *(path.name for path in experiments.glob("*.yaml")),
        "data",
        "model",
        "recipe",
        "cluster",
        "method",
        "profile",
    ):
        (tmp_path / name).symlink_to(experiments / name)
    (tmp_path / "figures" / "wrong.yaml").write_text(
        "title: Wrong\nrows:\n- {experiment: deit_s24, label: DeiT-S}\npanels:\n- {kind: decay,"
        f" {panel}}}\n"
    )
    with pytest.raises(SpecError, match=f"(?s){message}"):
        spec.load_figure(tmp_path / "figures" / "wrong.yaml", MINI)
