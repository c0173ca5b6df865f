"""Whole runs: the same numbers however they are dealt to processes and however often they are
interrupted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
import torch
from outcomes import assert_bit_equal, final_state, losses, wait_for_step, without_times
from processes import tiny

from antioversmooth import spec
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import AttemptEnded, CheckpointError
from antioversmooth.runs import Run, RunRecord, RunState, journal
from antioversmooth.runs.metrics import VAL_TOP1, VAL_TOP5
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import new_model


def remove(run: Run) -> None:
    """Forgets all that a run did, so that it can be run in another way."""
    shutil.rmtree(run.dir)


@pytest.fixture
def run(tiny_run: Callable[..., Run]) -> Run:
    return tiny_run()


def test_a_run_ends_with_its_result(run: Run) -> None:
    train(run)
    result = run.result()
    assert result is not None
    assert RunRecord.read(run).status.state is RunState.done
    assert result["steps"] == 22
    assert result["attempts"] == 1
    assert (
        result["metrics"][VAL_TOP1] == [r for r in run.metrics() if VAL_TOP1 in r][-1]["val/top1"]
    )
    assert result["best"]["epoch"] in (1, 2)
    assert len(result["similarity"]["tokens"]) == 2
    assert result["checkpoint"]["sha256"] == run.checkpoints()[0].checksum
    assert [r["event"] for r in journal.read(run.attempts_path)] == ["start", "end"]
    assert run.attempts()[-1].reason.value == "completed"


@pytest.mark.parametrize("stop_after", [3, 11, 14])
def test_an_interrupted_run_continues_to_the_bit(
    tiny_run: Callable[..., Run], stop_after: int
) -> None:
    """In the middle of an epoch, at its end, and in the middle of the next."""
    straight = tiny_run()
    train(straight)
    expected, expected_losses = final_state(straight), losses(straight)
    remove(straight)

    interrupted = tiny_run(f"runtime.max_steps={stop_after}")
    assert interrupted.id == straight.id
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(interrupted)
    assert interrupted.result() is None
    continued = tiny_run()
    train(continued)
    assert losses(continued) == expected_losses
    assert_bit_equal(without_times(final_state(continued)), without_times(expected))
    result = continued.result()
    assert result is not None
    assert result["attempts"] == 2


def test_nodes_and_processes_are_no_hyper_parameters(tiny_run: Callable[..., Run]) -> None:
    """One, two and four processes on one and two nodes, with one and four passes: the same
    augmentation, mixing, dropout and drop path, and sums in another order, which is all that
    differs."""
    measured, similarity = {}, {}
    for nodes, ranks, device_batch in ((1, 1, 0), (1, 1, 32), (1, 2, 16), (2, 4, 0)):
        layout = (f"cluster.nodes={nodes}", f"cluster.tasks_per_node={ranks // nodes}")
        run = tiny_run(f"runtime.device_batch={device_batch}", *layout)
        assert processes.train(run, ranks=ranks, nodes=nodes) == [0] * ranks
        measured[nodes, ranks, device_batch] = losses(run)
        result = run.result()
        assert result is not None
        assert result["world_size"] == ranks
        start = run.attempts()[0].start
        size, passes = start["device_batch"], start["accumulation"]
        assert size * passes * ranks == run.experiment.recipe.global_batch
        assert size == (device_batch or run.experiment.recipe.global_batch // ranks)
        similarity[nodes, ranks, device_batch] = result["similarity"]["tokens"]
        remove(run)
    alone = measured.pop((1, 1, 0))
    assert len(alone) == 22
    for layout_of_it, found in measured.items():
        assert found == pytest.approx(alone, abs=1e-6, rel=0), layout_of_it
        assert similarity[layout_of_it] == pytest.approx(similarity[1, 1, 0], abs=1e-5, rel=0), (
            layout_of_it
        )


def test_every_image_is_evaluated_once_by_two_processes(tiny_run: Callable[..., Run]) -> None:
    """359 images over two ranks: the same numbers as on one, class by class."""
    trained = tiny_run("recipe.epochs=1")
    train(trained)
    weights = trained.checkpoints()[0].path
    found = []
    for ranks in (1, 2):
        run = tiny_run(
            "recipe.epochs=0", "recipe.warmup_epochs=0", f"recipe.init_from=file:{weights}"
        )
        assert processes.train(run, ranks=ranks) == [0] * ranks
        result = run.result()
        assert result is not None
        assert result["evaluation"]["num_images"] == 359
        assert result["evaluation"]["images_per_s"] > 0
        found.append(
            (
                result["metrics"][VAL_TOP1],
                result["metrics"][VAL_TOP5],
                result["evaluation"],
            )
        )
        remove(run)
    (top1, top5, alone), (top1_of_two, top5_of_two, shared) = found
    assert (top1, top5, alone["per_class_top1"]) == (
        top1_of_two,
        top5_of_two,
        shared["per_class_top1"],
    )
    labels = open_dataset(trained.experiment.data).val.labels
    hits = sum(
        percent / 100 * (labels == label).sum()
        for label, percent in enumerate(alone["per_class_top1"])
    )
    assert top1 == pytest.approx(100 * hits / 359)


def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(
    tiny_run: Callable[..., Run],
) -> None:
    straight = tiny_run("recipe.epochs=6")
    train(straight)
    expected, expected_losses = final_state(straight), losses(straight)
    remove(straight)

    run = tiny_run("recipe.epochs=6", "runtime.checkpoint_every_s=0")
    # of 66 steps, so the run does not end before it is killed
    moments = sorted(random.sample(range(1, 40), 3))
    # pytest shows it if the test fails
    print(f"killed at steps {moments}")
    for kill_at in moments:
        (process,) = processes.start(run)
        wait_for_step(run, kill_at)
        process.kill()
        process.join()
        assert run.result() is None
    assert processes.train(run) == [0]
    assert losses(run) == expected_losses
    assert_bit_equal(without_times(final_state(run)), without_times(expected))


def test_a_fine_tune_starts_from_the_final_weights_of_another_run(
    experiments: Path, tmp_path: Path
) -> None:
    rows = [experiments / f"{name}.yaml" for name in ("cait_s24", "cait_s24_featscale")]
    upstream, run = spec.load(rows, ["profile=mini", *tiny()]).plan([0], tmp_path)
    for each in (upstream, run):
        each.prepare()
    with pytest.raises(CheckpointError, match="cait_s24 seed 0 is not done"):
        train(run)
    train(upstream)
    train(run)
    reached, result = upstream.result(), run.result()
    assert reached is not None
    assert result is not None
    # zero scales change nothing, so the run starts at the accuracy of the other one
    assert result["start"][VAL_TOP1] == reached["metrics"][VAL_TOP1]
    (report,) = [r for r in journal.read(run.attempts_path) if r["event"] == "initial-weights"]
    assert all(name.endswith(("lamb1", "lamb2")) for name in report["missing"])
    assert result["start"]["weights"] == {
        "key": "model",
        "unchanged": report["unchanged"],
        "missing": len(report["missing"]),
        "classes": "by name",
    }


def test_a_fine_tune_that_goes_on_does_not_start_again(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    """What it started from is not even read: it may be gone by then."""
    trained = tiny_run("recipe.epochs=1")
    train(trained)
    weights = tmp_path / "start.pth"
    torch.save(final_state(trained)["model"], weights)

    def tuned(*overrides: str) -> Run:
        return tiny_run(f"recipe.init_from=file:{weights}", "recipe.base_lr=1e-3", *overrides)

    train(tuned())
    expected = final_state(tuned())
    remove(tuned())
    stopped = tuned("runtime.max_steps=5")
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(stopped)
    continued = tuned()
    weights.unlink()
    train(continued)
    assert_bit_equal(without_times(final_state(continued)), without_times(expected))
    events = [r["event"] for r in journal.read(continued.attempts_path)]
    assert events.count("initial-weights") == 1
    assert [r["from"] for r in journal.read(continued.attempts_path) if r["event"] == "start"] == [
        f"init:file:{weights}",
        "step00000005-attempt1.pt",
    ]


def test_a_file_that_was_overwritten_since_the_launch_is_refused_and_costs_a_done_run_nothing(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    weights = tmp_path / "start.pth"
    torch.save(new_model(tiny_run().experiment, seed=1).state_dict(), weights)
    run = tiny_run(f"recipe.init_from=file:{weights}", "recipe.epochs=1")
    first = weights.read_bytes()
    torch.save(new_model(run.experiment, seed=2).state_dict(), weights)
    with pytest.raises(CheckpointError, match=r"recipe.init_from: .*start.pth has other content"):
        train(Run.load(run.dir))
    weights.write_bytes(first)
    train(Run.load(run.dir))
    torch.save(new_model(run.experiment, seed=2).state_dict(), weights)
    assert Run.load(run.dir).result() is not None


def test_no_epochs_only_evaluate(tiny_run: Callable[..., Run]) -> None:
    trained = tiny_run()
    train(trained)
    weights = trained.checkpoints()[0].path
    run = tiny_run("recipe.epochs=0", "recipe.warmup_epochs=0", f"recipe.init_from=file:{weights}")
    train(run)
    reached, result = trained.result(), run.result()
    assert reached is not None
    assert result is not None
    assert result["metrics"][VAL_TOP1] == reached["metrics"][VAL_TOP1]
    assert result["checkpoint"] is None
    assert result["similarity"] == reached["similarity"]
