"""Answers of SLURM's commands as versions 21.08 to 25.11 and the wrappers of sites give them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import backend
from antioversmooth.orchestration.local.inline import InlineBackend
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.slurm import client, commands, facts
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.client import Stage

Says = Callable[..., None]
WELCOME = b"\n-----\n  Welcome to the Supercomputer\n-----\n--> Valid submit host (login4)...OK\n"
LATIN_1 = "Compte défaut utilisé\n".encode("latin-1")


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Has a command print these bytes, whatever it is asked."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def say(command: str, out: bytes, *, err: bytes = b"", code: int = 0) -> None:
        for stream, said in (("out", out), ("err", err)):
            (tmp_path / f"{command}.{stream}").write_bytes(said)
        files = [shlex.quote(str(tmp_path / f"{command}.{stream}")) for stream in ("out", "err")]
        program = tmp_path / "bin" / command
        program.write_text(f"#!/bin/sh\ncat {files[0]}; cat {files[1]} >&2; exit {code}\n")
        program.chmod(0o755)

    return say


@pytest.mark.parametrize(
    ("said", "job_id"),
    [
        (b"4242\n", "4242"),
        (b"4242;dardel\n", "4242"),
        (WELCOME + b"4242\n", "4242"),
        (b"4242\n" + WELCOME, "4242"),
        (b"1200 core hours are left\n7\n" + LATIN_1 + b"4242\nGood luck\n", "4242"),
        (b"\r\n4242\r\n", "4242"),
    ],
)
def test_the_id_of_a_job_is_the_last_line_that_is_one(says: Says, said: bytes, job_id: str) -> None:
    says("sbatch", said, err=LATIN_1)
    says("scontrol", b"", err=AWAY, code=1)
    assert client.submit("job.sh", what="deit_s12 seed 0", name="one") == job_id


@pytest.mark.parametrize("said", [b"", WELCOME, b"Submitted\n", b"4242_7\n"])
def test_a_submission_without_an_id_shows_the_output(says: Says, said: bytes) -> None:
    says("sbatch", said, err=b"sbatch: lua: checked\n")
    with pytest.raises(LaunchError, match=r"gave no job id.*sbatch: lua: checked"):
        client.submit("job.sh", what="deit_s12 seed 0", name="one")


def test_a_number_in_a_refusal_is_no_job(says: Says) -> None:
    says("scontrol", NAMED % (b"12345", b"two"))
    says("sbatch", b"12345\n", err=b"sbatch: error: your balance is too low\n", code=1)
    with pytest.raises(LaunchError, match="SLURM refuses the job: your balance is too low"):
        client.submit("job.sh", what="deit_s12 seed 0", name="one")


NAMED = b"JobId=%b JobName=%b\n   UserId=alice(1000) GroupId=users(100)\n   JobState=PENDING\n"


@pytest.mark.parametrize(("said", "code"), [(b"4242\n4\n", 0), (b"7\n4242\n4\n", 1), (b"4242", 1)])
def test_the_id_that_slurm_knows_by_the_name_is_the_job(says: Says, said: bytes, code: int) -> None:
    """A footer may be a number, and a wrapper may fail after it has submitted."""
    says("sbatch", said, err=b"cannot write the site's log\n", code=code)
    says("scontrol", NAMED % (b"4242", b"one") + NAMED % (b"4", b"two"))
    assert client.submit("job.sh", what="deit_s12 seed 0", name="one") == "4242"


def test_an_id_of_a_client_that_fails_is_no_refusal_while_slurm_is_away(says: Says) -> None:
    says("sbatch", b"4242\n", err=b"cannot write the site's log\n", code=1)
    says("scontrol", b"", err=AWAY, code=1)
    with pytest.raises(client.Unanswered, match=r"in the queue or not.*4242; cannot write"):
        client.submit("job.sh", what="deit_s12 seed 0", name="one")


def test_a_client_that_asks_gets_no_answer_and_one_that_is_slow_is_named(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says("sbatch", b"4242\n")
    program = tmp_path / "bin" / "sbatch"
    asks = "#!/bin/sh\nread answer && exit 9\nsleep 0.3\n"
    program.write_text(program.read_text().replace("#!/bin/sh\n", asks))
    assert client.submit("job.sh", what="deit_s12 seed 0", name="one") == "4242"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(commands, "SILENT_S", 0.05)
    client.submit("job.sh", what="deit_s12 seed 0", name="one")
    assert capsys.readouterr().err == "sbatch has not answered for 0 s; waiting\n"


LISTED = b"7|RUNNING|alice|None|node[1-2]|2026-01-01T10:00:00|one"
OTHERS = [
    b"8_[1-3]|PENDING|alice|None||N/A|one",
    b"8_1|RUNNING|alice|None|node1|N/A|one",
    b"9+1|RUNNING|alice|None|node1|N/A|one",
    b"10|RUNNING|alice|None|node1|N/A|two\nlines",
    b"NOTICE: the queue is up to 60 s old",
    b"CLUSTER: private",
    b"JOBID|STATE|USER|REASON|NODELIST|START_TIME|NAME",
    b"slurm_load_jobs: notice | of | a | site | with | many | bars",
    b"",
]


@pytest.mark.parametrize("other", OTHERS)
def test_lines_of_squeue_that_are_no_job_are_passed_over(says: Says, other: bytes) -> None:
    says("squeue", b"\n".join([other, LISTED, other]), err=LATIN_1)
    jobs = [job for job in client.jobs_named(["one"]) if job.id != "10"]
    assert [(job.id, job.user, job.nodes) for job in jobs] == [("7", "alice", "node[1-2]")]


@pytest.mark.parametrize(
    "name", [b"a|b|c", b"x" * 900, "prüfung".encode("latin-1"), b"\xff\xfe", b"", b"a b"]
)
def test_a_job_may_have_any_name(says: Says, name: bytes) -> None:
    says("squeue", b"5|PENDING|bob|Priority||N/A|" + name + b"\n" + LISTED + b"\n")
    first, second = client.jobs_named(["one"])
    assert (first.id, first.name) == ("5", name.decode(errors="replace"))
    assert second.id == "7"


WAITING, ACTIVE, OVER = Stage.waiting, Stage.active, Stage.over
STATES = {
    "PENDING": WAITING, "REQUEUED": WAITING, "REQUEUE_HOLD": WAITING, "REQUEUE_FED": WAITING,
    "SPECIAL_EXIT": WAITING, "RESV_DEL_HOLD": WAITING, "EXPEDITING": WAITING,
    "RUNNING": ACTIVE, "CONFIGURING": ACTIVE, "COMPLETING": ACTIVE, "SUSPENDED": ACTIVE,
    "STOPPED": ACTIVE, "RESIZING": ACTIVE, "SIGNALING": ACTIVE, "STAGE_OUT": ACTIVE,
    "REVOKED": ACTIVE, "POWER_UP_NODE": ACTIVE, "A_NEW_STATE": ACTIVE,
    "COMPLETED": OVER, "CANCELLED": OVER, "FAILED": OVER, "TIMEOUT": OVER, "DEADLINE": OVER,
    "NODE_FAIL": OVER, "BOOT_FAIL": OVER, "OUT_OF_MEMORY": OVER, "PREEMPTED": OVER,
}  # fmt: skip


def test_every_state_has_its_stage(says: Says) -> None:
    lines = (f"{n}|{state}|alice|None|node1|N/A|one" for n, state in enumerate(STATES, 1))
    says("squeue", "\n".join(lines).encode())
    assert {job.state: job.stage for job in client.jobs_named(["one"])} == STATES


def test_ten_thousand_names_are_asked_for_in_arguments_that_linux_takes(
    tmp_path: Path, says: Says
) -> None:
    says("squeue", b"")
    program = tmp_path / "bin" / "squeue"
    program.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done >> {tmp_path}/words\n')
    names = [f"deit_s12_featscale-seed{number}-0123456789ab" for number in range(10_000)]
    client.jobs_named(names)
    lists = [w for w in (tmp_path / "words").read_text().splitlines() if w.startswith("--name=")]
    assert max(map(len, lists)) < 2**17
    assert [name for one in lists for name in one[7:].split(",")] == names


SHOWN = b"""JobId=%d JobName=deit_s12-seed0-abc
   UserId=alice(1000) GroupId=users(100) MCS_label=N/A
   Priority=4294901755 Nice=0 Account=(null) QOS=(null) WCKey=*
   JobState=%s Reason=%s Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   SubmitTime=2026-01-01T09:00:00 EligibleTime=2026-01-01T09:00:00
   StartTime=%s EndTime=Unknown Deadline=N/A
   Partition=main AllocNode:Sid=login:1
   ReqNodeList=(null) ExcNodeList=node9
   NodeList=%s
   Command=/x/job.sh
"""


@pytest.mark.parametrize("before", [b"", WELCOME, LATIN_1])
def test_scontrol_shows_a_job_that_squeue_does_not(says: Says, before: bytes) -> None:
    paragraphs = [
        SHOWN % (7, b"RUNNING", b"None", b"2026-01-01T10:00:00", b"node[1-2]"),
        SHOWN % (8, b"PENDING", b"Resources", b"Unknown", b"(null)"),
        SHOWN % (9, b"PENDING", b"Resources", b"Unknown", b""),
    ]
    says("scontrol", before + b"\n".join(paragraphs))
    first, second = client.jobs_shown(map(str, [*range(7, 9), *range(100, 200)]))
    assert (first.user, first.state, first.nodes) == ("alice", "RUNNING", "node[1-2]")
    assert (first.name, first.start) == ("deit_s12-seed0-abc", "2026-01-01T10:00:00")
    assert (second.state, second.reason, second.nodes, second.start) == (
        "PENDING", "Resources", "", "N/A",
    )  # fmt: skip


ENDS = {
    b"7|COMPLETED|node1|2026-01-01T10:00:00|n": ("COMPLETED", "node1"),
    b"7|CANCELLED by 1000|None assigned|Unknown|n": ("CANCELLED", ""),
    b"7|CANCELLED|node1|2026-01-01T10:00:00|a|b": ("CANCELLED", "node1"),
    b"7|NODE_FAIL|node[1-2]|2026-01-01T10:00:00|\xfc": ("NODE_FAIL", "node[1-2]"),
    b"7|OUT_OF_MEMORY|node1||n": ("OUT_OF_MEMORY", "node1"),
}


@pytest.mark.parametrize("line", ENDS)
def test_accounting_is_read_between_notices(says: Says, line: bytes) -> None:
    notice = b"NOTICE: accounting data may be up to 5 minutes old\na|b\n"
    says("sacct", notice + line + b"\n7.batch|COMPLETED|node1||batch\n" + notice)
    ended = client.accounting(["7"])
    assert {job_id: (job.state, job.nodes) for job_id, job in ended.items()} == {"7": ENDS[line]}


@pytest.mark.parametrize("said", [b"3\n", b"3                   \n", WELCOME + b"  3 \n", b"1\n3"])
def test_the_count_of_requeues_is_read_between_notices(says: Says, said: bytes) -> None:
    says("squeue", said)
    assert client.restarts("7") == 3


def test_a_count_of_requeues_that_is_none_is_an_error(says: Says) -> None:
    says("squeue", b"RESTART_COUNT\n")
    with pytest.raises(LaunchError, match="how often job 7 was requeued: RESTART_COUNT"):
        client.restarts("7")


def test_nodes_are_read_between_notices(says: Says) -> None:
    states = ["main*|idle", "main*|mixed-", "main*|allocated*", "main*|drained$", "low|idle~"]
    lines = "\n".join(f"{one}|up|a,b|(null)" for one in states).encode()
    says("sinfo", WELCOME + lines + b"\n" + LATIN_1)
    assert [(node.partition, node.is_default, node.is_up) for node in facts.nodes()] == [
        ("main", True, True),
        ("main", True, True),
        ("main", True, False),
        ("main", True, False),
        ("low", False, True),
    ]


AWAY = b"slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


@pytest.mark.parametrize("code", [0, 1])
def test_an_empty_list_of_a_controller_that_is_away_is_no_list(says: Says, code: int) -> None:
    """Also where a wrapper hides the exit code: `squeue "$@" | cat`."""
    says("squeue", b"", err=AWAY, code=code)
    with pytest.raises(commands.Unreachable):
        client.jobs_named(["one"])


def test_noise_on_stderr_is_no_error(says: Says) -> None:
    says("squeue", LISTED, err=b"squeue: error: spank: cannot load x11.so: " + LATIN_1)
    assert [job.id for job in client.jobs_named(["one"])] == ["7"]


def test_an_id_that_slurm_has_forgotten_is_no_error(says: Says) -> None:
    forgotten = b"slurm_load_jobs error: Invalid job id specified\n"
    for command in ("squeue", "scontrol"):
        says(command, b"", err=forgotten, code=1)
    assert client.jobs_numbered(["7"]) == client.jobs_shown(["7"]) == []
    says("squeue", LISTED, err=forgotten, code=1)
    assert [job.id for job in client.jobs_numbered(["6", "7"])] == ["7"]


def test_only_jobs_that_go_on_are_refused_a_cancellation(says: Says) -> None:
    words = b"scancel: error: Kill job error on job id 7: "
    for over in (b"Invalid job id specified\n", b"Job/step already completing or completed\n"):
        says("scancel", b"", err=words + over, code=1)
        assert client.cancel(["7"]) == {}
    says("scancel", b"", err=words + b"Access/permission denied\n", code=1)
    assert client.cancel(["7"]) == {"7": "Kill job error on job id 7: Access/permission denied"}


def test_a_job_that_goes_on_after_scancel_is_not_called_cancelled(
    says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CANCEL_S", (0.0, 0.0))
    says("scancel", b"", err=b"use the portal\n")
    says("scontrol", NAMED % (b"7", b"one"))
    assert client.cancel(["7"]) == {"7": "it is PENDING after scancel, which says: use the portal"}
    for state in (b"COMPLETING", b"CANCELLED"):
        says("scontrol", (NAMED % (b"7", b"one")).replace(b"PENDING", state))
        assert client.cancel(["7"]) == {}


def test_the_version_is_read_between_notices(says: Says) -> None:
    backends = {"slurm": SlurmBackend(), "local": LocalBackend(), "inline": InlineBackend()}
    for version in ("21.08.8-2", "22.05.8", "23.02.7", "23.11.10", "24.05.3", "25.05.1", "25.11.0"):
        says("sbatch", WELCOME + f"slurm {version}\n".encode() + LATIN_1)
        assert backend.choose("auto", **backends).reason == f"sbatch answers: slurm {version}"
