"""Models in MLflow: of a run that really trained, on real SQLite."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from antioversmooth import spec
from antioversmooth.errors import CheckpointError
from antioversmooth.reporting.table.observe import observe
from antioversmooth.reporting.tracking import database, logged_models, mirror, ui
from antioversmooth.reporting.tracking.logged_models import LoggedModels, export
from antioversmooth.runs import Run
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.trained import trained_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy", "ignore::ResourceWarning"),
    # warnings of MLflow and torch about their own code
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
    ),
]

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DIGITS = (
    "model.depth=2", "model.embed_dim=16", "model.num_heads=2", "model.image_size=8",
    "model.patch_size=4",
    "data.name=digits", "data.source=digits", "data.fingerprint=''", "data.num_train=1438",
    "data.num_val=359",
    "recipe.epochs=1", "recipe.warmup_epochs=0", "recipe.mix_prob=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that trained for a second, on real digits."""
    request = spec.load([EXPERIMENTS / "deit_s12_attnscale.yaml"], ["profile=mini", *DIGITS])
    (run,) = request.plan([0], tmp_path_factory.mktemp("trained"))
    run.prepare()
    train(run)
    return run


@pytest.fixture(scope="module")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model, as `export` writes it."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    logged_models.export(observe(trained), folder)
    return folder


@pytest.fixture
def done(
    trained: Run, exported: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The run in a results folder of its own, mirrored; its model is exported already, since that
    takes a second."""
    # MLflow's own functions read the variable
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    directory = tmp_path / trained.dir.relative_to(results(trained))
    shutil.copytree(trained.dir, directory)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    run = Run.load(directory)
    mirror.sync([observe(run)], [], tmp_path)
    monkeypatch.setattr(
        logged_models, "export", lambda _, folder: shutil.copytree(exported, folder)
    )
    return run


def results(run: Run) -> Path:
    return run.dir.parents[2]


def log(run: Run, models: LoggedModels | None = None) -> list[Run]:
    """Logs the run's model, as `antioversmooth sync` does after the numbers."""
    seen = [observe(run)]
    mirrored = mirror.sync(seen, [], results(run))
    return (models or LoggedModels(results(run))).sync(seen, mirrored)


def shown(run: Run) -> list[Any]:
    """The models that MLflow shows."""
    with database.open_client(results(run)) as client:
        return list(
            client.search_logged_models([e.experiment_id for e in client.search_experiments()])
        )


def test_the_final_weights_are_a_model_that_mlflow_loads(
    done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = LoggedModels(results(done))
    assert log(done, logged) == [done]
    assert not logged.problems
    (model,) = shown(done)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pytorch.load_model(model.model_uri)
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = trained_model(done.dir, done.experiment).eval()(images)
        torch.testing.assert_close(loaded(images), ours, rtol=0, atol=1e-6)
    signature = mlflow.models.get_model_info(model.model_uri).signature
    assert [spec.shape for spec in signature.inputs.inputs] == [(-1, 1, 8, 8)]
    assert [spec.shape for spec in signature.outputs.inputs] == [(-1, 10)]


def test_the_model_loads_without_this_project_and_without_timm(done: Run) -> None:
    log(done)
    (model,) = shown(done)
    program = (
        "import sys; sys.modules['timm'] = sys.modules['antioversmooth'] = None; import mlflow,"
        " torch; print(tuple(mlflow.pytorch.load_model(sys.argv[1])(torch.zeros(3, 1, 8,"
        " 8)).shape))"
    )
    folder = model.artifact_location.removeprefix("file://")
    loading = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
    )
    assert loading.stdout == "(3, 10)\n"


def test_the_model_shows_its_run_and_its_accuracy(done: Run) -> None:
    log(done)
    (model,) = shown(done)
    result = done.result()
    assert result is not None
    assert {m.key: m.value for m in model.metrics} == result["metrics"]
    assert model.params["model.scaling"] == "attnscale"
    with database.open_client(results(done)) as client:
        run = client.get_run(model.source_run_id)
        history = client.get_metric_history(model.source_run_id, "val/top1")
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert run.data.tags[database.MODEL].split() == [model.model_id, result["checkpoint"]["sha256"]]
    assert len(history) == done.experiment.recipe.epochs
    assert run.info.status == "FINISHED"


def test_a_second_sync_logs_no_second_model(done: Run) -> None:
    for expected in ([done], []):
        assert log(done) == expected
    mirror.sync([observe(done)], [], results(done))
    assert len(shown(done)) == 1


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize(
    "at", ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "set_tag"]
)
def test_a_sync_killed_midway_and_repeated_leaves_one_model(
    done: Run, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, at, die)
        with pytest.raises(Killed):
            log(done)
    assert log(done) == [done]
    (model,) = shown(done)
    assert model.status == "READY"
    mlflow.pytorch.load_model(model.model_uri)


def test_a_checkpoint_that_changed_is_not_logged(
    done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged_models, "export", export)
    for path in done.checkpoints_dir.glob("*.pt"):
        path.write_bytes(path.read_bytes() + b"x")
    logged = LoggedModels(results(done))
    assert log(done, logged) == []
    assert "is missing, or differs from result.json" in logged.problems[done.id]
    assert shown(done) == []
    with pytest.raises(CheckpointError):
        export(observe(done), done.dir / "model")


@pytest.mark.parametrize(
    ("row", "smaller"),
    [
        ("cait_s24_attnscale", ["model.depth=2"]),
        ("swin_s_attnscale", ["model.depth=2", "model.stage_depths=[1,1]"]),
    ],
)
def test_the_other_families_are_exported_too(
    row: str, smaller: list[str], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(row, *smaller)
    model = new_model(run.experiment, seed=0)
    logged_models.save(model, run, tmp_path / "model")
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(images, run.experiment.model.image_size)
    with torch.no_grad():
        same = mlflow.pytorch.load_model(str(tmp_path / "model"))(images)
        torch.testing.assert_close(same, model.eval()(images), rtol=0, atol=1e-6)


def test_the_model_is_a_graph_and_no_pickle(exported: Path) -> None:
    names = sorted(
        str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()
    )
    assert "data/model.pt2" in names
    assert not [name for name in names if name.endswith((".pkl", ".pth", ".pt"))]


@pytest.mark.slow
def test_a_real_server_gets_the_numbers_and_the_model_too(
    done: Run, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "server"
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    address = ui.Address(port=ui.free_port(ui.Address(port=0)))
    with ui.server(f"sqlite:///{home / 'mlflow.db'}", home, address, io.StringIO()) as (address, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert log(done) == [done]
        assert log(done) == []
        (model,) = shown(done)
        assert model.artifact_location.startswith("mlflow-artifacts:")
        assert mlflow.pytorch.load_model(model.model_uri)(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
        with database.open_client(results(done)) as client:
            steps = [
                metric.step
                for metric in client.get_metric_history(model.source_run_id, "train/loss")
            ]
    assert steps == [record["step"] for record in done.metrics() if "train/loss" in record]
