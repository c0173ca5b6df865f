from __future__ import annotations

from pathlib import Path

import pytest
from completed import finish

from antioversmooth import spec
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import evaluation
from antioversmooth.spec import Request


@pytest.fixture
def request_(experiments: Path) -> Request:
    return spec.load([experiments / "deit_s12.yaml"], ["profile=mini", "recipe.epochs=2"])


def test_an_evaluation_starts_from_the_trained_run_and_trains_nothing(
    request_: Request, tmp_path: Path
) -> None:
    (trained,) = request_.plan([3], tmp_path)
    finish(trained)
    (run,) = evaluation.plan_evaluations(request_, [3], tmp_path)
    assert run.upstream is not None
    assert (run.upstream.id, run.upstream.dir) == (trained.id, trained.dir)
    assert (run.seed, run.experiment.recipe.epochs, run.experiment.name) == (3, 0, "deit_s12_eval")


def test_an_evaluation_is_loaded_again_from_its_directory(
    request_: Request, tmp_path: Path
) -> None:
    (trained,) = request_.plan([0], tmp_path)
    trained.prepare()
    finish(trained)
    (run,) = evaluation.plan_evaluations(request_, [0], tmp_path)
    run.prepare()
    assert type(run).load(run.dir) == run


def test_what_is_not_trained_cannot_be_evaluated(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(
        LaunchError, match="not trained yet: deit_s12 seed 0; launch without --eval first"
    ):
        evaluation.plan_evaluations(request_, [0], tmp_path)


def test_a_row_that_only_evaluates_is_its_own_evaluation(experiments: Path, tmp_path: Path) -> None:
    request = spec.load([experiments / "cait_s24.yaml"])
    assert evaluation.plan_evaluations(request, [0], tmp_path) == request.plan([0], tmp_path)
