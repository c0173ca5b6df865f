"""Findings of ranks brought together, shown, and turned into costs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from antioversmooth.config import ClusterConfig
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.orchestration.doctor import gathering, report, speeds
from antioversmooth.orchestration.doctor.costs import costs
from antioversmooth.orchestration.doctor.report import Report
from antioversmooth.orchestration.doctor.site import Site
from antioversmooth.orchestration.doctor.speeds import Speeds
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.runs import Run

MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "SETTLE_S", 0.0)


def write(folder: Path, rank: int, *findings: Finding, waits: bool = True) -> None:
    lines = [replace(f, values={"rank": rank, "host": f"n{rank}"}).to_line() for f in findings]
    (folder / f"rank{rank}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if waits:
        (folder / f"rank{rank}.waiting").touch()


OK = Finding("clock", Level.ok, "agrees")
LATE = Finding("clock", Level.wrong, "300 s behind", "synchronise it")


def test_ranks_that_agree_are_one_finding(tmp_path: Path) -> None:
    for rank in range(3):
        write(tmp_path, rank, OK)
    (found,) = gathering.gather(tmp_path, 3, ended=True)
    assert (found.level, found.text) == (Level.ok, "agrees")


def test_the_worse_ranks_are_named_with_their_nodes(tmp_path: Path) -> None:
    for rank in range(4):
        write(tmp_path, rank, LATE if rank in (1, 3) else OK)
    (found,) = gathering.gather(tmp_path, 4, ended=True)
    assert found.level is Level.wrong
    assert found.text == "rank 1 on n1: 300 s behind (and 1 more rank)"
    assert found.advice == "synchronise it"


def test_two_findings_of_one_check_stay_two(tmp_path: Path) -> None:
    small, large = (Finding("all-reduce", Level.ok, f"{size} MB") for size in (1, 64))
    for rank in range(2):
        write(tmp_path, rank, small, large)
    assert [f.text for f in gathering.gather(tmp_path, 2, ended=True)] == ["1 MB", "64 MB"]


def test_a_rank_that_wrote_nothing_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    write(tmp_path, 0, OK)
    (tmp_path / "7_1_log.err").write_text("starting\nNo module named antioversmooth\n\n")
    *_, found = gathering.gather(tmp_path, 2, ended=True)
    assert found.level is Level.wrong
    assert "rank 1 of 2" in found.text
    assert "No module named antioversmooth" in found.text


def test_a_rank_that_ended_early_is_named_though_its_last_line_is_torn(tmp_path: Path) -> None:
    write(tmp_path, 0, OK)
    write(tmp_path, 1, OK, waits=False)
    with (tmp_path / "rank1.jsonl").open("a") as file:
        file.write(LATE.to_line()[:30])
    first, early = gathering.gather(tmp_path, 2, ended=True)
    assert first.level is Level.ok
    assert "rank 1 ended before all was probed" in early.text


def test_a_rank_that_was_killed_for_its_memory_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "7_0_log.err").write_text(
        "slurmstepd-n1: error: StepId=7.0 exceeded memory limit (529 > 524), being killed\n"
        "srun: error: n1: task 0: Killed\n"
    )
    (found,) = gathering.gather(tmp_path, 1, ended=True)
    assert "cluster.mem_gb" in found.text


def test_the_rank_that_ended_the_others_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "7_0_log.err").write_text(
        "srun: error: n2: task 1: Exited with exit code 2\n"
        "slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-28T23:55:25 ***\n"
        "srun: error: n1: task 0: Terminated\n"
    )
    (tmp_path / "7_1_log.err").write_text("execve(): python: No such file or directory\n")
    (found,) = gathering.gather(tmp_path, 2, ended=True)
    assert "rank 0, 1 of 2 wrote nothing: execve(): python: No such file" in found.text


def test_nothing_is_missing_of_a_job_that_was_cancelled(tmp_path: Path) -> None:
    write(tmp_path, 0, OK, waits=False)
    assert len(gathering.gather(tmp_path, 2, ended=False)) == 1


def findings() -> list[Finding]:
    return [
        Finding("GPUs", Level.ok, "4 of them", place=Place.gpus),
        Finding("shell", Level.warning, "a \x1b[31mred\nword", "unset it", place=Place.login),
        Finding("flock", Level.wrong, "mlflow at https://me:hunter22@host", "another folder"),
    ]


def shown(found: list[Finding]) -> str:
    cluster = ClusterConfig(name="site", setup=["export API_TOKEN=abcdef123456"], nodes=2)
    out = io.StringIO()
    report.show(Report(found, cluster, "n[1-2]", "antioversmooth doctor"), out)
    return out.getvalue()


def test_findings_are_shown_by_place_with_the_remedy() -> None:
    text = shown(findings())
    places = [text.index(f"\n{place}\n") for place in ("login node", "nodes", "GPUs")]
    assert places == sorted(places)
    assert "-> another folder" in text
    assert "3 checks: 1 ok, 1 warning, 1 wrong" in text


def test_text_from_elsewhere_is_harmless_and_secrets_are_hidden() -> None:
    text = shown(findings())
    assert "\x1b" not in text
    assert "hunter22" not in text
    assert "abcdef123456" not in text


def test_the_summary_for_a_ticket_has_the_profile_and_all_that_is_not_ok() -> None:
    ticket = shown(findings()).partition("summary for a ticket")[2]
    assert "profile site: nodes=2" in ticket
    assert "nodes: n[1-2]" in ticket
    assert "wrong: nodes: flock" in ticket
    assert "warning: login node: shell" in ticket


def test_json_has_every_finding_in_the_order_of_the_report() -> None:
    cluster = ClusterConfig(name="site")
    value = Report(findings(), cluster, "n1", "doctor").to_json()
    assert json.loads(json.dumps(value)) == value
    assert [one["check"] for one in value["findings"]] == ["shell", "flock", "GPUs"]
    assert value["wrong"] is True
    assert "hunter22" not in json.dumps(value)


def measured(run: Run, images_per_s: float, device_type: str = "cpu") -> dict[str, object]:
    return {"run": f"/x/{run.dir.name}", "images_per_s": images_per_s, "device_type": device_type}


def test_a_measured_speed_replaces_that_of_the_same_model_and_device(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run, other = make_run("deit_s12"), make_run("deit_s24")
    path = speeds.speeds_path(tmp_path, "site")
    speeds.record_speeds(path, [run, other], [measured(run, 10.0), measured(other, 5.0)])
    speeds.record_speeds(path, [run], [measured(run, 30.0), measured(run, 20.0)])
    speeds.record_speeds(path, [run], [measured(run, 900.0, "cuda")])
    found = Speeds.read(path)
    assert found.find(run, on_gpu=False) == 25.0
    assert found.find(run, on_gpu=True) == 900.0
    assert found.find(other, on_gpu=False) == 5.0
    assert found.find(other, on_gpu=True) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"time": 1, "speeds": [{"model": 3}]}'])
def test_another_file_has_no_speeds(tmp_path: Path, content: str) -> None:
    path = tmp_path / "site.json"
    path.write_text(content)
    assert not Speeds.read(path).entries
    assert not Speeds.read(tmp_path / "none.json").entries


def test_runs_cost_what_doctor_measured(make_run: MakeRun) -> None:
    overrides = ("cluster.gpus_per_node=0", "cluster.tasks_per_node=2")
    runs = [make_run("deit_s12", *overrides), make_run("deit_s12_featscale", *overrides)]
    results = runs[0].dir.parents[2]
    site = Site(runs[0].experiment.cluster, results, runs)
    path = speeds.speeds_path(results, site.cluster.name)
    speeds.record_speeds(path, runs, [measured(runs[0], 20.0), measured(runs[1], 10.0)])
    one, other, total = costs(site, LocalBackend())
    images = [run.experiment.total_steps * run.experiment.recipe.global_batch for run in runs]
    assert one.values["device_hours"] == pytest.approx(images[0] / 20 / 3600)
    assert one.values["hours"] == pytest.approx(images[0] / 20 / 3600 / 2)
    assert other.values["device_hours"] == pytest.approx(images[1] / 10 / 3600)
    assert "measured by doctor" in one.text
    assert total.values["device_hours"] == pytest.approx(
        images[0] / 20 / 3600 + images[1] / 10 / 3600
    )
