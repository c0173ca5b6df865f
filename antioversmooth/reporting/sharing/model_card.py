"""The card of a model on the Hugging Face hub: README.md, which begins with its metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from antioversmooth.config import Experiment
from antioversmooth.methods import method_of
from antioversmooth.reporting.rendering.markdown import escape
from antioversmooth.reporting.table import deviations
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.runs import Run
from antioversmooth.runs.identity import identity_fields
from antioversmooth.runs.metrics import EMA_TOP1, EMA_TOP5, VAL_TOP1, VAL_TOP5
from antioversmooth.runs.result import counted_images


@dataclass(frozen=True)
class Shared:
    """The model of a run that is done, as it is shared."""

    seen: Observation
    """The run; it has a result."""
    architecture: str
    """The model's name in timm's registry."""
    needs_package: bool
    """Whether timm knows it only once this package is imported."""
    average: bool
    """Whether its weights are the moving average."""
    folded: bool
    """Whether the method was folded into them."""
    difference: float
    """Largest difference of its logits from the run's, as a part of the largest logit."""
    licence: str | None
    """Of the weights, as the hub names it; None: not stated."""

    @property
    def experiment(self) -> Experiment:
        return self.seen.run.experiment

    @property
    def title(self) -> str:
        """The row's, or its name."""
        return self.experiment.title or self.experiment.row_name

    @property
    def accuracies(self) -> dict[str, float]:
        """In percent, by name; of its own weights."""
        assert self.seen.result is not None
        metrics = self.seen.result["metrics"]
        keys = (EMA_TOP1, EMA_TOP5) if self.average else (VAL_TOP1, VAL_TOP5)
        names = zip(("Top-1 accuracy", "Top-5 accuracy"), keys, strict=True)
        return {name: metrics[key] for name, key in names if metrics.get(key) is not None}


def render(shared: Shared) -> str:
    """The whole card."""
    metadata = yaml.safe_dump(_metadata(shared), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{metadata}---", f"# {escape(shared.title)}", *_parts(shared)]
    return "\n\n".join(parts) + "\n"


def _metadata(shared: Shared) -> dict[str, Any]:
    """Fields that the hub reads; `model-index` holds the accuracies."""
    data = shared.experiment.data
    measured = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": data.name.lower(), "name": data.name, "split": "validation"},
        "metrics": [
            {"type": "accuracy", "name": f"{name} (%)", "value": value}
            for name, value in shared.accuracies.items()
        ],
    }
    method = method_of(shared.experiment.model)
    return {
        **({"license": shared.licence} if shared.licence else {}),
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", *([method.name] if method else [])],
        "metrics": ["accuracy"],
        "model-index": [{"name": shared.title, "results": [measured]}],
    }


def _parts(shared: Shared) -> Iterator[str]:
    yield _introduction(shared)
    yield f"## Use\n\n{_use(shared)}"
    yield f"## Result\n\n{_result(shared)}"
    yield f"## Data\n\n{_data(shared)}"
    model, recipe = (
        yaml.safe_dump(_acting(part, shared.experiment), sort_keys=False).strip()
        for part in (shared.experiment.model, shared.experiment.recipe)
    )
    yield f"## Model\n\n```yaml\n{model}\n```"
    yield f"## Recipe\n\n```yaml\n{recipe}\n```"
    yield f"## Deviations\n\n{_deviations(shared)}"
    yield f"## Licence\n\n{_licence(shared)}"
    yield f"## Origin\n\n{_origin(shared)}"


def _introduction(shared: Shared) -> str:
    method = method_of(shared.experiment.model)
    what = f"{method.title} ({method.source})" if method else "No method against oversmoothing"
    weights = "the moving average of the weights" if shared.average else "the weights"
    lines = [
        f"{escape(what)} in timm's backbone, trained by antioversmooth; {weights} after the last"
        " step."
    ]
    if shared.folded:
        lines.append(
            "The method is folded into the weights: this is a plain timm model. Its logits differ"
            f" from those of the run by at most {shared.difference:.1e} of the largest logit,"
            " measured on two images of normal numbers."
        )
    else:
        lines.append("The model that timm loads has the logits of the run, to the bit.")
    return "\n".join(lines)


def _use(shared: Shared) -> str:
    package = [
        "# adds the architecture to timm",
        "import antioversmooth.models",
    ]
    lines = [
        "import timm",
        *(package if shared.needs_package else []),
        "",
        "# from the hub: hf-hub:OWNER/NAME",
        'model = timm.create_model("local-dir:DIR", pretrained=True).eval()',
        "settings = timm.data.resolve_model_data_config(model)",
        "transform = timm.data.create_transform(**settings, is_training=False)",
    ]
    return "\n".join(["```python", *lines, "```"])


def _result(shared: Shared) -> str:
    experiment, result = shared.experiment, shared.seen.result
    assert result is not None
    cells = {
        "Row": escape(experiment.row_name),
        **{name: f"{value:.2f} %" for name, value in shared.accuracies.items()},
        "Parameters": f"{result['parameters']:,}",
        "GMACs": f"{result['gmacs']:.3g}",
        "Epochs": str(experiment.recipe.epochs),
        "Seed": str(shared.seen.run.seed),
    }
    num_val = experiment.data.num_val
    counted = counted_images(result, num_val)
    part = f" ({counted:,} of {num_val:,}; the others cannot be read)" if counted < num_val else ""
    lines = [cells.keys(), ["---"] * len(cells), cells.values()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{table}\n\nOne run, measured after its last epoch on the validation images{part}; no"
        " epoch was chosen by them. What other seeds give is not known from one run."
    )


def _data(shared: Shared) -> str:
    data, side = shared.experiment.data, shared.experiment.model.image_size
    return (
        f"{escape(data.name)}: {data.num_classes:,} classes, {data.num_train:,} training and"
        f" {data.num_val:,} validation images, at {side} x {side} pixels; mean {data.mean}, std"
        f" {data.std}. The names of the classes, where the run recorded them, and the transform of"
        " evaluation are in `config.json`."
    )


def _acting(part: Any, experiment: Experiment) -> Mapping[str, Any]:
    """The fields that decide what was computed, without folders of this machine."""
    fields = identity_fields(part, experiment, names_of_today=True)
    return {key: _without_folder(value) for key, value in fields.items()}


def _without_folder(value: Any) -> Any:
    is_file = isinstance(value, str) and value.startswith("file:")
    return f"file:{value.rpartition('/')[2]}" if is_file else value


def _deviations(shared: Shared) -> str:
    found = [f"- {escape(sentence)}." for sentence in deviations.of_row(shared.experiment)]
    return "\n".join(found) or "None from the paper's form and training that is known."


def _licence(shared: Shared) -> str:
    stated = f"`{shared.licence}`" if shared.licence else "not stated; ask who shared them"
    lines = [f"Of these weights: {stated}.", "The code that trained them has the MIT licence."]
    if start := _initial_weights(shared.seen.run):
        lines.append(f"They started from {escape(start)}, whose licence holds for them, too.")
    lines.append("The images have terms of their own.")
    return "\n".join(lines)


def _initial_weights(run: Run) -> str:
    """The weights from elsewhere that a run started from, also through other runs; empty: none."""
    while run.upstream is not None:
        run = run.upstream
    return str(_without_folder(run.experiment.recipe.init_from or ""))


def _origin(shared: Shared) -> str:
    seen = shared.seen
    assert seen.result is not None
    provenance = seen.provenance or {}
    commits = ", ".join(provenance.get("commits", [])) or "not recorded"
    changes = ", with uncommitted changes" if provenance.get("uncommitted_changes") else ""
    versions = [f"{name} {', '.join(found)}" for name, found in seen.versions.items()]
    facts = {
        "architecture": shared.architecture,
        "experiment": seen.run.experiment.name,
        "run": seen.run.id,
        "commit of antioversmooth": f"{commits}{changes}",
        "versions": "; ".join(versions) or "not recorded",
        "device": "; ".join(seen.devices),
        "checkpoint": f"sha256 {seen.result['checkpoint']['sha256']}",
    }
    return "\n".join(f"- {key}: {escape(value)}" for key, value in facts.items())
