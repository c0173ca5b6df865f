from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from completed import finish

from antioversmooth import files, runs, spec
from antioversmooth.config import Experiment, ModelConfig
from antioversmooth.errors import CheckpointError, ResultError, SpecError
from antioversmooth.runs import Run, RunRecord, RunState, journal
from antioversmooth.runs.attempts import EndReason, write_end
from antioversmooth.runs.siblings import explain_identity_change
from antioversmooth.runs.status import AFTER_END

MakeRun = Callable[..., Run]


def experiment_id(experiments: Path, *overrides: str, seed: int = 0, name: str = "deit_s12") -> str:
    experiment = spec.load_experiment(experiments / f"{name}.yaml", overrides)
    return runs.identity(runs.identity_fields(experiment), seed, {})


@pytest.mark.parametrize(
    "override",
    ["cluster.nodes=8", "cluster.partition=gpu", "runtime.workers=3", "runtime.device_batch=64",
    "data.root=/elsewhere",
     "title=Another", "cluster.results=/scratch", "data.max_corrupt=5"],
)  # fmt: skip
def test_where_and_how_a_run_runs_is_not_its_identity(experiments: Path, override: str) -> None:
    assert experiment_id(experiments, override) == experiment_id(experiments)


@pytest.mark.parametrize(
    "override",
    ["recipe.epochs=501", "recipe.global_batch=512", "model.method=featscale",
    "data.num_train=1281166",
     "revision=2", "recipe.clip_grad=1.0", "recipe.drop_path=0.2"],
)  # fmt: skip
def test_fields_that_change_the_computation_change_the_identity(
    experiments: Path, override: str
) -> None:
    assert experiment_id(experiments, override) != experiment_id(experiments)


def test_the_seed_is_part_of_the_identity(experiments: Path) -> None:
    assert experiment_id(experiments, seed=1) != experiment_id(experiments, seed=0)


@pytest.mark.parametrize(
    ("name", "concerned"),
    [
        ("deit_s12_featscale", True),
        ("deit_s12", False),
        ("eval_released_deit_s12_featscale", False),
    ],
)
def test_the_rate_of_a_method_identifies_the_runs_that_train_one(
    experiments: Path, name: str, concerned: bool
) -> None:
    plain, faster = (
        experiment_id(experiments, f"recipe.method_lr_factor={factor}", name=name)
        for factor in (1, 30)
    )
    assert (plain != faster) is concerned
    assert plain == experiment_id(experiments, name=name)


def test_an_int_written_as_a_float_is_the_same_run(experiments: Path) -> None:
    assert experiment_id(experiments, "recipe.warmup_epochs=5") == experiment_id(
        experiments, "recipe.warmup_epochs=5.0"
    )


def test_a_field_added_later_leaves_old_runs_their_identity() -> None:
    """A field is left out of the identity exactly while it has its `identity_default`."""

    @dataclasses.dataclass
    class Before:
        depth: int = 12

    @dataclasses.dataclass
    class After:
        depth: int = 12
        gate: str = dataclasses.field(default="sigmoid", metadata={"identity_default": "none"})

    assert runs.identity_fields(After(gate="none")) == runs.identity_fields(Before())
    assert runs.identity_fields(After()) == {"depth": 12, "gate": "sigmoid"}


@pytest.mark.parametrize(
    ("options", "concerned"),
    [
        ([], {"recipe.cutmix_box=timm", "recipe.repeated_views=together"}),
        (["recipe.cutmix=0"], {"recipe.repeated_views=together"}),
        (["recipe.repeated_augmentation=1"], {"recipe.cutmix_box=timm"}),
        (["recipe.mix_prob=0"], set()),
        (["recipe.cutmix=0", "recipe.mixup=0"], set()),
        (["recipe.cutmix=0", "recipe.repeated_augmentation=1"], set()),
        (["recipe.epochs=0", "recipe.warmup_epochs=0", "recipe.init_from=timm:a"], set()),
    ],
)
def test_how_views_are_mixed_identifies_the_runs_that_mix_so(
    experiments: Path, options: list[str], concerned: set[str]
) -> None:
    plain = experiment_id(experiments, *options)
    changed = {
        override
        for override in ("recipe.cutmix_box=timm", "recipe.repeated_views=together")
        if experiment_id(experiments, *options, override) != plain
    }
    assert changed == concerned


def test_a_run_recorded_before_a_field_was_added_has_its_id_and_the_meaning_of_then(
    make_run: MakeRun,
) -> None:
    run = make_run(
        "deit_s12",
        "recipe.cutmix_box=timm",
        "recipe.repeated_augmentation=2",
        "recipe.repeated_views=together",
    )
    path = run.dir / "spec.yaml"
    lines = path.read_text().splitlines(keepends=True)
    added = ("    cutmix_box:", "    repeated_views:")
    before = [line for line in lines if not line.startswith(added)]
    assert len(before) == len(lines) - 2
    path.write_text("".join(before))
    assert Run.load(run.dir) == run


def test_runs_of_before_are_not_those_of_today_and_the_difference_is_said(
    make_run: MakeRun,
) -> None:
    before, today = make_run("deit_s12", "recipe.cutmix_box=timm"), make_run()
    (before.dir / "attempts.jsonl").write_text("{}\n")
    assert before.id != today.id
    said = explain_identity_change(today)
    assert said.startswith(f"{before.dir.name} ran, with recipe.cutmix_box=timm (now released);")


@pytest.mark.parametrize(
    ("of_then", "lacks"),
    [
        (("recipe.cutmix_box=timm",), ("cutmix_box",)),
        (("recipe.cutmix_box=timm", "recipe.epochs=7"), ("cutmix_box",)),
        (("recipe.cutmix=0", "recipe.cutmix_box=timm"), ("cutmix_box",)),
        (("recipe.cutmix=0",), ()),
        (("recipe.clip_grad=1.5", "model.class_token_std=1"), ()),
    ],
)
def test_the_difference_from_a_run_of_before_is_said_as_the_overrides_that_find_it(
    make_run: MakeRun, of_then: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    before, today = make_run("deit_s12", *of_then), make_run()
    (before.dir / "attempts.jsonl").write_text("{}\n")
    path = before.dir / "spec.yaml"
    for key in lacks:
        path.write_text(re.sub(rf"^ +{key}: .*\n", "", path.read_text(), flags=re.MULTILINE))
    said = explain_identity_change(today)
    overrides = re.findall(r"([\w.]+=\S+) \(now (\S+)\)", said)
    assert make_run("deit_s12", *(override for override, _ in overrides)).id == before.id
    now = [f"{override.partition('=')[0]}={value}" for override, value in overrides]
    assert make_run("deit_s12", *now).id == today.id


@pytest.mark.parametrize(
    ("name", "profile", "start"),
    [
        ("deit_s12", "imagenet", "c4f6d9c077104047"),
        ("deit_s12", "mini", "00ce41bc9ee600cd"),
        ("cait_s24_featscale", "mini", "eb74296e78364cc4"),
        ("swin_s", "mini", "4ea4457d2571bd66"),
    ],
)
def test_runs_of_shipped_rows_are_what_they_were(
    make_run: MakeRun, name: str, profile: str, start: str
) -> None:
    """Results are published under these ids: a field that is added, or a default that changes, must
    not orphan them."""
    assert make_run(name, profile=profile).id.startswith(start)


def test_a_run_loads_from_its_directory_alone(make_run: MakeRun) -> None:
    run = make_run("cait_s24_featscale")
    assert run.upstream is not None
    run.upstream.prepare()
    assert Run.load(run.dir) == run


def test_an_edited_spec_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    path = run.dir / "spec.yaml"
    path.write_text(path.read_text().replace("epochs: 8", "epochs: 9"))
    with pytest.raises(ResultError, match="was edited"):
        Run.load(run.dir)


HEAD = "id: a\nseed: 0\nupstream: null\n"


@pytest.mark.parametrize(
    "content",
    ["", "- a", "id: 1\n", "{", f"{HEAD}experiment: {{nam: x}}\n",
    f"{HEAD}experiment: {{revision: !!int x}}\n",
     f"{HEAD}experiment: {{title: 2026-01-01}}\n", f"{HEAD}experiment: {'[' * 3000}",
     f"{HEAD}experiment: \xff",
     f"{HEAD}experiment: {{runtime: 8}}\n", f"{HEAD}experiment: {{model: vit}}\n",
     f"{HEAD}experiment: !!python/object/apply:os.getcwd []\n"],
)  # fmt: skip
def test_a_spoilt_spec_is_one_clear_error(make_run: MakeRun, content: str) -> None:
    run = make_run()
    (run.dir / "spec.yaml").write_text(content)
    with pytest.raises(ResultError, match=r"spec\.yaml"):
        Run.load(run.dir)


def test_a_spec_reads_no_variable_of_this_machine(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cret")
    path = make_run().dir / "spec.yaml"
    path.write_text(path.read_text().replace("title: DeiT-S", "title: ${oc.env:A_TOKEN}"))
    with pytest.raises(ResultError, match="interpolation") as caught:
        Run.load(path.parent)
    assert "s3cret" not in str(caught.value)


def test_aliases_are_not_followed(make_run: MakeRun) -> None:
    """Ten lines of them stand for a thousand million values."""
    lines = [
        "a0: &a0 [x, x, x, x, x, x, x, x]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 10)),
    ]
    run = make_run()
    (run.dir / "spec.yaml").write_text("\n".join([*lines, "experiment: *a9", ""]))
    with pytest.raises(ResultError, match="alias"):
        Run.load(run.dir)


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 9000 + "x"])
def test_a_spec_that_is_nested_beyond_reason_is_refused(make_run: MakeRun, text: str) -> None:
    """The fast loader of YAML would end the process: its stack overflows."""
    run = make_run()
    (run.dir / "spec.yaml").write_text(text)
    with pytest.raises(ResultError, match="nested more deeply"):
        Run.load(run.dir)


def test_moved_runs_find_the_run_that_they_start_from(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("cait_s24_featscale")
    assert run.upstream is not None
    run.upstream.prepare()
    (tmp_path / "results").rename(tmp_path / "moved")
    moved = Run.load(tmp_path / "moved" / run.dir.relative_to(tmp_path / "results"))
    assert moved.id == run.id
    assert moved.upstream is not None
    assert moved.upstream.dir.is_relative_to(tmp_path / "moved")


def test_a_run_that_needs_itself_is_refused(make_run: MakeRun) -> None:
    run = make_run("cait_s24_featscale")
    path = run.dir / "spec.yaml"
    path.write_text(
        path.read_text().replace(
            f"upstream: {run.upstream and run.upstream.dir}", f"upstream: {run.dir}"
        )
    )
    with pytest.raises(ResultError, match="depends on itself"):
        Run.load(run.dir)


def test_a_run_knows_the_file_that_it_started_from_when_that_is_gone(
    make_run: MakeRun, tmp_path: Path
) -> None:
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"weights")
    run = make_run("deit_s12", f"recipe.init_from='file:{weights}'")
    weights.write_bytes(b"others")
    assert Run.load(run.dir) == run
    with pytest.raises(
        CheckpointError, match=rf"deit_s12 seed 0: recipe.init_from: {weights} has other content"
    ):
        Run.load(run.dir).require_file("init_from")
    weights.unlink()
    assert Run.load(run.dir) == run


def test_a_run_is_found_from_its_spec_when_the_file_that_it_started_from_is_gone(
    make_run: MakeRun, tmp_path: Path
) -> None:
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"weights")
    start = f"recipe.init_from='file:{weights}'"
    run = make_run("deit_s12", start)
    weights.unlink()
    assert make_run("deit_s12", start) == run
    with pytest.raises(CheckpointError, match="there is no file"):
        # a run whose start is not recorded
        make_run("deit_s12", start, "recipe.epochs=9")
    weights.write_bytes(b"others")
    assert make_run("deit_s12", start).id != run.id
    weights.unlink()
    with pytest.raises(CheckpointError, match="there is no file"):
        # ambiguous: two runs fit
        make_run("deit_s12", start)


def test_a_row_that_starts_from_another_row_comes_after_it(
    experiments: Path, tmp_path: Path
) -> None:
    request = spec.load([experiments / "cait_s24_featscale.yaml"], ["profile=mini"])
    names = [(run.experiment.name, run.seed) for run in request.plan([0, 1], tmp_path)]
    assert names == [
        ("cait_s24", 0),
        ("cait_s24_featscale", 0),
        ("cait_s24", 1),
        ("cait_s24_featscale", 1),
    ]


def test_another_start_is_another_run(experiments: Path, tmp_path: Path) -> None:
    """A fine-tune of a changed baseline must not pass for a fine-tune of the old one."""
    row = [experiments / "cait_s24_featscale.yaml"]
    before = spec.load(row, ["profile=mini"]).plan([0], tmp_path)
    after = spec.load([experiments / "cait_s24.yaml", *row], ["profile=mini", "revision=2"]).plan(
        [0], tmp_path
    )
    assert before[-1].id != after[-1].id
    assert before[0].id != after[0].id


def test_a_file_to_start_from_is_identified_by_its_content(
    make_run: MakeRun, tmp_path: Path
) -> None:
    weights, copy = tmp_path / "a.pth", tmp_path / "b.pth"
    weights.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    one = make_run("deit_s12", f"recipe.init_from='file:{weights}'")
    two = make_run("deit_s12", f"recipe.init_from='file:{copy}'")
    assert one.id == two.id
    weights.write_bytes(b"others")
    assert make_run("deit_s12", f"recipe.init_from='file:{weights}'").id != two.id


def test_a_missing_file_to_start_from_is_named(make_run: MakeRun) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file /none\.pth"):
        make_run("deit_s12", "recipe.init_from='file:/none.pth'")


def test_a_circle_of_starts_is_refused(experiments: Path, tmp_path: Path) -> None:
    request = spec.load(
        [experiments / "cait_s24.yaml"], ["profile=mini", "recipe.init_from='run:cait_s24'"]
    )
    with pytest.raises(SpecError, match="depends on itself"):
        request.plan([0], tmp_path)


def test_attempt_numbers_are_never_shared(make_run: MakeRun) -> None:
    run = make_run()
    assert [run.new_attempt() for _ in range(11)] == list(range(1, 12))


def test_the_last_word_on_the_end_of_an_attempt_counts(make_run: MakeRun) -> None:
    run = make_run()
    for attempt, event, reason in [
        (1, "start", ""),
        (1, "end", "crash"),
        (2, "start", ""),
        (1, "end", "out-of-memory"),
    ]:
        journal.append(
            run.attempts_path, {"attempt": attempt, "event": event, "step": 0, "reason": reason}
        )
    first, second = run.attempts()
    assert (first.number, first.reason) == (1, EndReason.out_of_memory)
    assert (second.number, second.ended) == (2, None)


def state_of(run: Run, *, later_s: float = 0.0) -> RunState:
    return RunRecord.read(run, now=time.time() + later_s).status.state


def test_states_follow_the_directory(make_run: MakeRun) -> None:
    run = make_run()
    assert state_of(run) is RunState.missing
    # a local launch that was killed before the run began
    files.write_json(run.dir / "intent.json", {"backend": "local"})
    assert state_of(run) is RunState.missing
    files.write_json(run.dir / "intent.json", {"backend": "slurm"})
    assert state_of(run) is RunState.submitted
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    (run.dir / "heartbeat").touch()
    assert state_of(run) is RunState.running
    assert state_of(run, later_s=3600) is RunState.lost
    write_end(run.attempts_path, 1, EndReason.timeout, step=5)
    assert state_of(run) is RunState.timed_out
    finish(run)
    assert state_of(run) is RunState.done


@pytest.mark.parametrize("reason", EndReason)
def test_a_state_follows_each_reason_of_an_end(make_run: MakeRun, reason: EndReason) -> None:
    run = make_run()
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    write_end(run.attempts_path, 1, reason, step=5, message="for a test")
    status = RunRecord.read(run).status
    assert status.reason is reason
    assert status.state is AFTER_END[reason]
    assert status.state.is_failure or status.state.is_resumable


def test_a_result_of_another_run_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    files.write_json(run.dir / "result.json", {"id": "0" * 64})
    with pytest.raises(ResultError, match="is of run"):
        run.result()


@pytest.mark.parametrize(
    ("world", "limit", "group", "expected"),
    [
        (1, 0, 1, (1024, 1)),
        (16, 0, 1, (64, 1)),
        (1, 256, 1, (256, 4)),
        (2, 96, 32, (64, 8)),
        (4, 0, 32, (256, 1)),
    ],
)
def test_the_global_batch_is_dealt_to_the_ranks(
    world: int, limit: int, group: int, expected: tuple[int, int]
) -> None:
    assert runs.split_batch(1024, world, limit=limit, group=group) == expected
    assert expected[0] * expected[1] * world == 1024


def test_a_batch_that_does_not_divide_names_the_worlds_that_do() -> None:
    with pytest.raises(
        SpecError, match=r"does not divide over 3 processes; it does over 1, 2, 4, 8$"
    ):
        runs.split_batch(8, 3, limit=0, group=1)


def test_configs_are_plain_json_types(experiments: Path) -> None:
    experiment: Experiment = spec.load_experiment(experiments / "swin_s.yaml")
    assert runs.to_json(experiment)["model"]["family"] == "swin"
    assert runs.to_json(experiment.model)["stage_depths"] == [2, 2, 18, 2]
    assert isinstance(experiment.model, ModelConfig)
