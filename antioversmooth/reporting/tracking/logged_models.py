"""Logs the final weights of done runs as models in MLflow, with signature.

`mlflow.pytorch.load_model` loads them. `torch.export` writes the graph and the weights as plain
data, about four bytes for each parameter. There is no pickle in it, so loading executes no code,
and it needs neither timm nor this project. Exporting imports torch and takes some seconds for each
run, so it is a separate step after mirror.py.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from antioversmooth.errors import CheckpointError
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.reporting.tracking import database
from antioversmooth.reporting.tracking.database import DIRECTORY, ID, MODEL, Held
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun
    from mlflow.models import ModelSignature
    from torch import nn

    from antioversmooth.reporting.tracking.mirror import Mirrored

EXAMPLES = 2
"""Images in the example input; traced with one image, the graph would accept only one."""


class LoggedModels:
    """Logs models repeatedly; a run that cannot be logged is tried once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.problems: dict[str, str] = {}
        """Why a run has no model in MLflow, by the id of the run."""

    def sync(
        self,
        observed: Iterable[Observation],
        mirrored: Iterable[Mirrored],
        *,
        limit: int | None = None,
    ) -> list[Run]:
        """Logs the final weights of mirrored, done runs without a model; returns those runs.

        Args:
            mirrored: The MLflow experiments of the runs.
            limit: Maximum number of models.

        Raises:
            TrackingError: MLflow does not answer, or refuses. Calling again completes the sync.
        """
        done = [seen for seen in observed if seen.result and seen.result["checkpoint"]]
        homes = [experiment.experiment_id for experiment in mirrored if not experiment.problem]
        if not done or not homes:
            return []
        with database.open_client(self.results) as client:
            held = [run for home in homes for run in database.held_runs(client, self.results, home)]
        lacking = _lacking(held, {seen.run.id: database.place(seen.run) for seen in done})
        ids = lacking.keys() - self.problems.keys()
        wanted = [seen for seen in done if seen.run.id in ids]
        return [seen.run for seen in wanted[:limit] if self._log(seen, lacking[seen.run.id])]

    def _log(self, seen: Observation, homes: Sequence[str]) -> bool:
        with TemporaryDirectory() as folder:
            try:
                export(seen, Path(folder) / "model")
            except Exception as err:
                # A missing checkpoint, or a backbone that torch cannot export: go on with others.
                line = next(iter(str(err).splitlines()), "")
                self.problems[seen.run.id] = f"{type(err).__name__}: {line}"
                return False
            with database.open_client(self.results) as client:
                _upload(client, seen, homes, Path(folder) / "model")
        return True


def _lacking(held: Iterable[Held], places: Mapping[str, str]) -> dict[str, list[str]]:
    """MLflow runs without a model, by the id of their run: one for each table of the run.

    Args:
        places: The directories of runs by their ids; what mirrors another one is left out.
    """
    found: dict[str, list[str]] = {}
    for run in held:
        run_id = run.tags.get(ID, "")
        is_own = run_id in places and run.tags.get(DIRECTORY) == places[run_id]
        if is_own and not run.is_deleted and MODEL not in run.tags:
            found.setdefault(run_id, []).append(run.id)
    return found


def export(seen: Observation, folder: Path) -> None:
    """Writes a done run's final weights as an MLflow model.

    Args:
        folder: Is created.

    Raises:
        CheckpointError: The checkpoint is missing, or differs from the result.
    """
    from antioversmooth.training.weights.trained import trained_model

    save(trained_model(_checkpoint(seen), seen.run.experiment), seen.run, folder)


def save(model: nn.Module, run: Run, folder: Path) -> None:
    """Writes a run's model, on the CPU, as an MLflow model."""
    import mlflow.pytorch
    import numpy as np

    config, data, side = run.experiment, run.experiment.data, run.experiment.model.image_size
    metadata = {"id": run.id, "experiment": config.name, "seed": run.seed}
    # of the images that the model expects
    metadata |= {"mean": list(data.mean), "std": list(data.std)}
    # torch warns about its own export
    with warnings.catch_warnings(action="ignore"):
        mlflow.pytorch.save_model(
            model.eval(),
            folder,
            serialization_format="pt2",
            signature=_signature(data.in_channels, side, data.num_classes),
            input_example=np.zeros((EXAMPLES, data.in_channels, side, side), np.float32),
            pip_requirements=["torch", "numpy"],
            metadata=metadata,
        )


def _checkpoint(seen: Observation) -> Path:
    assert seen.result is not None
    recorded = seen.result["checkpoint"]
    found = Checkpoint.at(seen.run.checkpoints_dir / Path(recorded["file"]).name)
    if found.checksum != recorded["sha256"] or not found.is_whole():
        raise CheckpointError(f"{found.path} is missing, or differs from result.json")
    return found.path


def _signature(channels: int, side: int, num_classes: int) -> ModelSignature:
    """The signature: any number of images to their logits."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    float32 = np.dtype(np.float32)
    images = TensorSpec(float32, (-1, channels, side, side), "images")
    logits = TensorSpec(float32, (-1, num_classes), "logits")
    return ModelSignature(Schema([images]), Schema([logits]))


def _upload(client: MlflowClient, seen: Observation, homes: Sequence[str], folder: Path) -> None:
    """Logs an exported model for each table: MLflow shows a model only in its own experiment."""
    for home in map(client.get_run, homes):
        # Another process has logged it since.
        if MODEL in home.data.tags:
            continue
        model = _create(client, seen.run, home)
        _write_ids(folder, model, home)
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        _link(client, seen, home, model)


def _create(client: MlflowClient, run: Run, home: MlflowRun) -> LoggedModel:
    # remains of a sync that was killed
    forget(client, home.info.run_id, home.info.experiment_id)
    # MLflow allows no dots or slashes in names.
    name = re.sub(r"[^\w-]", "-", run.experiment.row_name)
    where = {"source_run_id": home.info.run_id, "tags": {ID: run.id}, "params": home.data.params}
    return client.create_logged_model(home.info.experiment_id, f"{name}-seed{run.seed}", **where)


def _write_ids(folder: Path, model: LoggedModel, home: MlflowRun) -> None:
    """Writes MLflow's ids of the model and its run into the model's own file."""
    from mlflow.models import Model

    description = Model.load(str(folder))
    description.model_id = description.model_uuid = model.model_id
    description.run_id, description.artifact_path = home.info.run_id, model.artifact_location
    description.save(str(folder / "MLmodel"))


def _link(client: MlflowClient, seen: Observation, home: MlflowRun, model: LoggedModel) -> None:
    """Links a model with its run and its final metrics; the tag that records this comes last."""
    from mlflow.entities import LoggedModelOutput, Metric

    assert seen.result is not None
    run_id, step = home.info.run_id, seen.run.experiment.total_steps
    where = {"model_id": model.model_id, "run_id": run_id}
    final = [
        Metric(metric.key, metric.value, metric.timestamp, metric.step, **where)
        for key in seen.result["metrics"]
        for metric in client.get_metric_history(run_id, key)
        if metric.step == step and metric.model_id is None
    ]
    client.log_batch(run_id, final)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    client.set_tag(run_id, MODEL, f"{model.model_id} {seen.result['checkpoint']['sha256']}")


def forget(client: MlflowClient, run_id: str, experiment_id: str) -> None:
    """Deletes the models that were logged for an MLflow run."""
    source = f"source_run_id = '{run_id}'"
    for model in client.search_logged_models([experiment_id], filter_string=source):
        client.delete_logged_model(model.model_id)
