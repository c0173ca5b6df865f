"""Figures of a spec: pictures and their numbers, `figures/<name>.{json,csv,png,svg}`.

The similarity of tokens is in the result of each run. Everything else is measured from the final
weights once, and stored in the run directory as `analysis/analysis.json`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from antioversmooth import spec
from antioversmooth.analysis import drawing
from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import FigureRow, PanelData, panel_data
from antioversmooth.analysis.record import Analysis
from antioversmooth.config import Figure, PanelKind, Table
from antioversmooth.errors import and_more
from antioversmooth.reporting.rendering import gallery
from antioversmooth.reporting.table import captions, tables
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run
from antioversmooth.runs.recorded_data import describe_change
from antioversmooth.spec import Request

JOURNALED = {
    PanelKind.token_similarity,
    PanelKind.token_similarity_off_diagonal,
    PanelKind.token_similarity_difference,
}
"""Panels of measures in every `result.json`: drawn without a model, and without torch."""
NUM_IMAGES = 128
"""Validation images that a run is analysed on by default."""


def render(table: Table, request: Request, seeds: Sequence[int], results: Path) -> list[Path]:
    """Draws the figures that a table names, with a page of them; returns the files.

    Nothing is drawn where the table itself is not written, nor before a row of the figure is done.

    Args:
        request: The request of the table.
        results: The project's results folder.
    """
    folder = destination(request, results)
    if folder is None:
        return []
    specs = [request.folder / "figures" / f"{name}.yaml" for name in table.figures]
    drawn = [picture(*spec.load_figure(path, request.overrides), seeds, results) for path in specs]
    written = [path for found in drawn if found for path in drawing.write_picture(found, folder)]
    return [*written, gallery.write_gallery(folder)] if written else []


def destination(request: Request, results: Path, output: Path | None = None) -> Path | None:
    """The folder for a request's figures; None where they must not be written, as for tables.

    Args:
        results: The project's results folder.
    """
    folder = tables.destination(request, results)
    return output or (folder / "figures" if folder else None)


def picture(
    figure: Figure,
    request: Request,
    seeds: Sequence[int],
    results: Path,
    *,
    num_images: int = NUM_IMAGES,
) -> Picture | None:
    """The figure from the runs that are done; None if they have nothing to draw.

    Args:
        request: The request of the figure.
        results: The project's results folder.
        num_images: Validation images for measures that are not in the results of runs.
    """
    runs = request.plan(seeds, results)
    journaled = all(panel.kind in JOURNALED for panel in figure.panels)
    done = [run for run in runs if not run.invalid_result_reason() and run.result() is not None]
    rows = []
    for row in figure.rows:
        own = [run for run in done if run.experiment.row_name == row.experiment]
        found = {
            run.seed: from_result(run) if journaled else analysed(run, num_images) for run in own
        }
        rows.append(FigureRow(row.experiment, row.label, found))
    measured = [row for row in rows if row.seeds]
    if not measured:
        return None
    setting = captions.Setting.of(
        next(r.experiment for r in runs if r.experiment.row_name == measured[0].experiment)
    )
    published = setting.comparable and not request.changes_identity
    drawn = [
        run for row in figure.rows for run in done if run.experiment.row_name == row.experiment
    ]
    panels = [panel_data(panel, measured, published=published) for panel in figure.panels]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        return None
    title = figure.title
    if not setting.comparable:
        title += f" ({setting.data}, {setting.profile} profile)"
    notes = [
        *_notes(figure, rows, panels, seeds, setting, published),
        *([] if journaled else _images(drawn, [seed for row in rows for seed in row.seeds])),
        *captions.origins([observe(run) for run in drawn]),
    ]
    return Picture(figure.name, title, notes, panels)


def from_result(run: Run) -> Analysis:
    """The measures of layers in the result of a finished run."""
    similarity = (run.result() or {}).get("similarity", {})
    named = {"tokens/similarity": "tokens", "tokens/off_diagonal": "off_diagonal"}
    measures = {
        measure: dict(enumerate(similarity[key], start=1))
        for measure, key in named.items()
        if key in similarity
    }
    depth = len(similarity.get("tokens", []))
    return Analysis(
        run.experiment.title, _weights(run), similarity.get("images", NUM_IMAGES), depth, measures
    )


def analysed(run: Run, num_images: int = NUM_IMAGES) -> Analysis:
    """The analysis of a finished run: the stored one, or a new one if weights or images differ.

    The images are those that the run was measured on, where both have recorded checksums.

    Raises:
        CheckpointError: Its weights are gone.
    """
    folder = run.dir / "analysis"
    wanted = _weights(run), min(num_images, run.experiment.data.num_val)
    found = Analysis.read(folder / "analysis.json")
    of_others = found and (
        describe_change(run.result() or {}, found.checksums)
        or found.selection
        not in ("", Analysis.evenly_spaced(num_images, run.experiment.data.num_val))
    )
    if found is None or (found.weights, found.num_images) != wanted or of_others:
        # imports torch, which stored measures do not need
        from antioversmooth.training.weights.analyse import analyse

        found = analyse(run.dir, num_images=num_images)
        found.write(folder)
    return found


def _images(runs: Sequence[Run], analyses: Sequence[Analysis]) -> Iterator[str]:
    """Names the runs whose analysis is of other images than the run or than the other analyses, or
    does not say of which."""
    pairs = list(zip(runs, analyses, strict=True))
    changes = [
        (run.name, found.checksums and describe_change(run.result() or {}, found.checksums))
        for run, found in pairs
    ]
    if changed := [name for name, change in changes if change]:
        yield f"Analysed on other images than the run was measured on: {and_more(changed, 3)}."
    yield from _apart({run.name: found for run, found in pairs})
    if unknown := [run.name for run, found in pairs if not found.checksums]:
        yield f"The images of the analysis are not recorded: {and_more(unknown, 3)}."


def _apart(analyses: Mapping[str, Analysis]) -> Iterator[str]:
    """Says that analyses are not all of the same images, as far as they record them.

    Args:
        analyses: By the names of their runs.
    """
    groups: dict[str, list[str]] = {}
    for name, found in analyses.items():
        if found.checksums and found.selection:
            data = ", ".join(f"{key} {sha[:12]}" for key, sha in sorted(found.checksums.items()))
            groups.setdefault(f"{found.selection} ({data})", []).append(name)
    if len(groups) > 1:
        listed = "; ".join(f"{and_more(names, 3)}: {images}" for images, names in groups.items())
        yield f"The analyses are not all of the same images, so do not compare them: {listed}."


def _weights(run: Run) -> str:
    if checkpoint := (run.result() or {}).get("checkpoint"):
        return Analysis.weights_name(checkpoint["file"], checkpoint["sha256"])
    return str(run.experiment.recipe.init_from)


def _spread(figure: Figure, rows: Sequence[FigureRow]) -> Iterator[str]:
    """Sentences on the seeds behind lines and bands, which are those that are done."""
    kinds = {panel.kind for panel in figure.panels}
    sets = {tuple(row.by_seed) for row in rows}
    seeds = sorted(set().union(*sets))
    if len(seeds) == 1:
        yield f"Seed {seeds[0]}."
        return
    if len(sets) == 1:
        yield f"Mean over {_listed(seeds)}; band: lowest to highest."
    else:
        by_row = "; ".join(f"{row.label}, {_listed(row.by_seed)}" for row in rows)
        yield f"Means, and bands from lowest to highest: {by_row}."
    if PanelKind.token_similarity_difference in kinds:
        yield "Differences are between runs of the same seed."
        first, *others = rows
        if unpaired := [row.label for row in others if not row.by_seed.keys() & first.by_seed]:
            yield f"No seed is shared with {first.label}: {', '.join(unpaired)}."
    if PanelKind.feature_scales in kinds:
        yield "FeatScale's band: 90 % of the channels of all seeds."


def _listed(seeds: Collection[int]) -> str:
    return (
        f"n = {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(map(str, seeds))})"
    )


def _notes(
    figure: Figure,
    rows: Sequence[FigureRow],
    panels: Sequence[PanelData],
    seeds: Sequence[int],
    setting: captions.Setting,
    published: bool,
) -> Iterator[str]:
    if figure.caption:
        yield figure.caption
    if absent := [
        f"{row.label} ({len(row.by_seed)} of {len(seeds)})"
        for row in rows
        if len(row.by_seed) < len(seeds)
    ]:
        yield f"INCOMPLETE: not all seeds are done of {', '.join(absent)}."
    of_rows = [panel for panel in panels if not panel.layers]
    if any(len({curve.group for curve in panel.curves}) > 1 for panel in of_rows):
        yield "Every layer is measured; markers take turns, since curves may lie on each other."
    images = max(seed.num_images for row in rows for seed in row.seeds)
    yield (
        f"{setting.data} ({setting.profile} profile), {images:,} validation images."
        f" {' '.join(_spread(figure, [row for row in rows if row.by_seed]))}"
    )
    if published:
        yield from dict.fromkeys(
            f"Published ({curve.confidence}, {captions.CONFIDENCE[curve.confidence]}):"
            f" {curve.source}."
            for panel in figure.panels
            for curve in panel.references
        )
