"""What of docs/fidelity.md concerns a model or a row, told from its spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antioversmooth.config import Experiment, Family, ModelConfig, Scaling, ScalingVariant

_FORMS = {
    ScalingVariant.released: "FeatScale's form on DeiT: the released code's, 1 + 2s and 1 + 2t",
    ScalingVariant.paper: "FeatScale's form on DeiT: the paper's, 1 + s and 1 + t",
}
_CLASS_TOKEN = {
    True: "DeiT's mean over tokens includes the class token, as released",
    False: "DeiT's mean over tokens leaves the class token out; the released code includes it",
}
_MASKS = {
    False: "Swin's AttnScale takes its mean over masked pairs of shifted windows too, as released",
    True: (
        "Swin's AttnScale leaves masked pairs of shifted windows out of its mean; the released code"
        " includes them"
    ),
}
PUBLISHED_EPOCHS = 300
"""Length of the training behind the DeiT paper's numbers."""


def of_model(model: ModelConfig) -> Iterator[str]:
    """Which of several forms of its scaling a model has."""
    if model.scaling is Scaling.none:
        return
    if model.family is Family.vit:
        if model.scaling is Scaling.featscale:
            yield _FORMS[model.scaling_variant]
        yield _CLASS_TOKEN[model.class_token_in_mean]
    if model.family is Family.swin and model.scaling is Scaling.attnscale:
        yield _MASKS[model.mask_aware]


def of_row(experiment: Experiment) -> Iterator[str]:
    """And what of its training stands between its number and the paper's."""
    yield from of_model(experiment.model)
    recipe = experiment.recipe
    at_paper_size = experiment.profile == "imagenet"
    if at_paper_size and recipe.epochs and recipe.mixes:
        yield (
            "Mixup and CutMix are drawn for a few samples at a time; in the released code for a"
            " device's whole batch"
        )
    if (
        at_paper_size
        and experiment.model.family is Family.vit
        and recipe.epochs not in (0, PUBLISHED_EPOCHS)
    ):
        yield f"{recipe.epochs} epochs, where published DeiT baselines have {PUBLISHED_EPOCHS}"
    if "_dist_" in (recipe.init_from or ""):
        yield (
            f"Starts from {recipe.init_from}, a distilled model; CaiT's quoted baseline is not"
            " distilled"
        )


def notes(experiments: Sequence[Experiment]) -> list[str]:
    """A sentence for each deviation, with the rows that it concerns."""
    concerned: dict[str, list[str]] = {}
    for experiment in experiments:
        for deviation in of_row(experiment):
            concerned.setdefault(deviation, []).append(experiment.name)
    rows = list(dict.fromkeys(experiment.name for experiment in experiments))
    return [f"{deviation} ({_brief(names, rows)})." for deviation, names in concerned.items()]


def _brief(names: Sequence[str], rows: Sequence[str]) -> str:
    """The names; where they are most of the rows, those that are missing."""
    others = [row for row in rows if row not in names]
    if 2 * len(others) >= len(names) or len(rows) == 1:
        return ", ".join(names)
    return f"all rows but {', '.join(others)}" if others else "all rows"
