"""The deviations of docs/fidelity.md that concern a model or a row, from its spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antioversmooth.config import Experiment, Family, ModelConfig
from antioversmooth.methods import method_of

PUBLISHED_EPOCHS = 300
"""Length of the training behind the DeiT paper's numbers."""

FAST_LEVELS, MOVES_LEVELS, CACHE_LEVELS = (1.7, 20), (0.8, 18), (4.9, 48)
"""Mean and 99th percentile of the absolute difference of bytes from the exact policy's, with DeiT's
recipe on the photographs of the benchmarks, as `make bench ARGS="--only pipeline"` measures it."""


def of_model(model: ModelConfig) -> Iterator[str]:
    """The form of its method that a model has, where there are several, and what else the method
    says about it."""
    method = method_of(model)
    if method is not None:
        for field, sentences in method.forms.get(model.family, {}).items():
            yield sentences[getattr(model, field)]
        yield from method.sentences(model.family)


def of_row(experiment: Experiment) -> Iterator[str]:
    """The form of the method, and differences between the row's training and the paper's."""
    yield from of_model(experiment.model)
    recipe = experiment.recipe
    if experiment.trains_method_parameters and recipe.method_lr_factor != 1:
        yield (
            f"The learning rate of the method's parameters is {recipe.method_lr_factor:g} times"
            " that of the others, since they would hardly move in so few steps"
        )
    if recipe.epochs and experiment.data.cache is not None:
        yield (
            "Training crops are cut out of images that were resized before, to a short side of"
            f" {experiment.data.cache} pixels (at 256 pixels, {_apart(CACHE_LEVELS)})"
        )
    if experiment.decodes_fast:
        moves = f" one ({_apart(FAST_LEVELS)})" if experiment.moves_fast else " one"
        yield (
            "Training views are made by the fast policy, whose pixels are near those of the exact"
            + moves
        )
    elif experiment.moves_fast:
        yield f"RandAugment moves the nearest pixels, by the fast policy ({_apart(MOVES_LEVELS)})"
    at_paper_size = experiment.profile == "imagenet"
    if at_paper_size and recipe.epochs and recipe.mixes:
        yield (
            "Mixup and CutMix are drawn for a few samples at a time; in the released code for a"
            " device's whole batch"
        )
    is_vit = experiment.model.family is Family.vit
    if at_paper_size and is_vit and recipe.epochs not in (0, PUBLISHED_EPOCHS):
        epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs != 1 else ''}"
        yield f"{epochs}, where published DeiT baselines have {PUBLISHED_EPOCHS}"
    if "_dist_" in (recipe.init_from or ""):
        yield (
            f"Starts from {recipe.init_from}, a distilled model; CaiT's quoted baseline is not"
            " distilled"
        )
    kind, _, trained = (recipe.init_from or "").partition(":")
    if kind == "run" and not recipe.epochs:
        yield f"Evaluates the weights of {trained} in this profile, where released ones are meant"


def _apart(levels: tuple[float, int]) -> str:
    mean, percentile = levels
    return (
        f"views of 500 x 375 photographs differ by {mean} grey levels on average, and 1 % of their"
        f" bytes by more than {percentile}"
    )


def notes(experiments: Sequence[Experiment]) -> list[str]:
    """A sentence for each deviation, with the rows that it concerns."""
    concerned: dict[str, list[str]] = {}
    for experiment in experiments:
        for deviation in of_row(experiment):
            concerned.setdefault(deviation, []).append(experiment.row_name)
    rows = list(dict.fromkeys(experiment.row_name for experiment in experiments))
    return [f"{deviation} ({_brief(names, rows)})." for deviation, names in concerned.items()]


def _brief(names: Sequence[str], rows: Sequence[str]) -> str:
    """The names of the rows; if they are most rows, the exceptions."""
    others = [row for row in rows if row not in names]
    if 2 * len(others) >= len(names) or len(rows) == 1:
        return ", ".join(names)
    return f"all rows but {', '.join(others)}" if others else "all rows"
