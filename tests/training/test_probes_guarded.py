from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from probing import contexts
from torch._C._distributed_c10d import HashStore
from torch.distributed import DistError

from antioversmooth.errors import DataError
from antioversmooth.finding import Finding, Level
from antioversmooth.training.probes.context import Context, Probe, ok
from antioversmooth.training.probes.guarded import run_probe
from antioversmooth.training.probes.report import Report
from antioversmooth.training.probes.request import ProbeRequest

REQUEST = ProbeRequest(processes_per_node=1, limit_s=0.2)


def run(look: object, folder: Path) -> tuple[bool, list[Finding]]:
    """Whether a probe ended, and its findings."""
    found: list[Finding] = []
    probe = Probe("name", look)  # type: ignore[arg-type]
    return run_probe(probe, "key", contexts([folder], REQUEST)[0], found.append), found


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("no images"), "no images"),
        (PermissionError(13, "Permission denied", "/data"), "/data: Permission denied"),
        (KeyError("size"), "KeyError: 'size'"),
        (TimeoutError("rank 1 is late"), "rank 1 is late"),
    ],
)
def test_a_probe_that_fails_is_a_finding_after_those_before_it(
    tmp_path: Path, error: Exception, said: str
) -> None:
    def look(_: Context) -> Iterator[Finding]:
        yield ok("name", "first")
        raise error

    ended, found = run(look, tmp_path)
    assert ended
    assert [finding.level for finding in found] == [Level.ok, Level.wrong]
    assert found[1].text == said


def test_a_probe_that_hangs_is_a_finding_that_names_the_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    released = threading.Event()

    def wait_for_a_dead_server(_: Context) -> Iterator[Finding]:
        yield ok("name", "first")
        released.wait()
        yield ok("name", "too late")

    ended, found = run(wait_for_a_dead_server, tmp_path)
    released.set()
    assert not ended
    assert [finding.level for finding in found] == [Level.ok, Level.wrong]
    assert "no answer within 0.2 s" in found[1].text
    assert "wait_for_a_dead_server" in capfd.readouterr().err


def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    first = contexts([tmp_path] * 3, REQUEST)[0].exchange
    first.within("probe", 0.1).store.set("probe/1/2", "null")  # type: ignore[union-attr]
    with pytest.raises(TimeoutError, match=r"^rank 1 did not get here within 0.1 s"):
        first.within("probe", 0.1).gather()


def test_a_store_that_is_gone_is_named_and_ends_no_probe(tmp_path: Path) -> None:
    class Gone(HashStore):
        def set(self, *_: object) -> None:
            raise DistError("Failed to recv, got 0 bytes")

    rank = contexts([tmp_path] * 2, REQUEST)[0]
    rank = replace(rank, exchange=replace(rank.exchange, store=Gone()))

    def look(context: Context) -> Iterator[Finding]:
        context.exchange.gather()
        yield ok("name", "never")

    found: list[Finding] = []
    assert run_probe(Probe("name", look), "key", rank, found.append)
    assert "rank 0, which holds the store, is gone" in found[0].text


def test_findings_are_lines_with_rank_and_host(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = Report(tmp_path, 3, "node7")
    report.add(ok("one", "first", size_bytes=4))
    report.add(ok("two", "second"))
    lines = (tmp_path / "rank3.jsonl").read_text().splitlines()
    read = [Finding.from_line(line) for line in lines]
    assert read[0] == ok("one", "first", size_bytes=4, rank=3, host="node7")
    assert read[1].check == "two"
    assert "rank 3: ok: two: second" in capfd.readouterr().err


def test_findings_of_a_rank_that_cannot_write_are_in_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Report(tmp_path / "nowhere", 0, "node7").add(ok("one", "first"))
    Report(None, 0, "node7").add(ok("two", "second"))
    said = capfd.readouterr().err
    assert "one: first" in said
    assert "two: second" in said
