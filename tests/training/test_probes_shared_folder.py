"""Probes of a folder that all nodes should share, on nodes that do not."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from probing import contexts, levels, look_on_all

from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.runs import journal
from antioversmooth.training.probes import shared_folder
from antioversmooth.training.probes.context import Context
from antioversmooth.training.probes.request import ProbeRequest

QUICK = ProbeRequest(processes_per_node=1, nodes=2, limit_s=0.2)
LOOKS = [
    shared_folder.look_at_visibility,
    shared_folder.look_at_lock,
    shared_folder.look_at_replacement,
    shared_folder.look_at_creation,
    shared_folder.look_at_appending,
]


@pytest.fixture
def apart(tmp_path: Path) -> list[Context]:
    """Two ranks with a folder each, as where a node-local file system hides the shared one."""
    folders = [tmp_path / "of_node0", tmp_path / "of_node1"]
    for folder in folders:
        folder.mkdir()
    return contexts(folders, QUICK)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_folder_that_is_shared_is_all_right(tmp_path: Path, look: Any, ranks: int) -> None:
    request = ProbeRequest(processes_per_node=1, limit_s=20)
    found = look_on_all([look], contexts([tmp_path] * ranks, request))
    assert found[0]
    assert {level for of_rank in levels(found) for level in of_rank} == {Level.ok}


def test_files_that_stay_unseen_name_both_nodes(apart: list[Context]) -> None:
    found = look_on_all([shared_folder.look_at_visibility], apart)
    assert levels(found) == [[Level.wrong], [Level.wrong]]
    assert "node0 does not see in" in found[0][0].text
    assert "what node1 wrote there" in found[0][0].text
    assert "what node0 wrote there" in found[1][0].text


def test_files_that_appear_late_are_a_warning(
    apart: list[Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_folder, "SLOW_S", 0.02)
    for here, there in ((0, 1), (1, 0)):
        late = apart[there].folder / f"seen-rank{here}"
        timer = Timer(0.1, late.write_text, ("",))
        timer.start()
    found = look_on_all([shared_folder.look_at_visibility], apart)
    assert levels(found) == [[Level.warning], [Level.warning]]
    assert "late" in found[0][0].text


def test_a_lock_that_another_node_does_not_see_is_wrong(apart: list[Context]) -> None:
    found = look_on_all([shared_folder.look_at_lock], apart)
    assert levels(found) == [[Level.wrong], []]
    assert "did not keep out node1" in found[0][0].text


def test_a_lock_that_does_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a server that grants every lock."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    found = look_on_all([shared_folder.look_at_lock], contexts([tmp_path] * 2, QUICK))
    assert "did not keep out node0, node1" in found[0][0].text


def test_a_lock_of_one_rank_alone_is_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    found = look_on_all([shared_folder.look_at_lock], contexts([tmp_path], QUICK))
    assert levels(found) == [[Level.wrong]]


def test_a_lock_that_is_never_freed_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = shared_folder._lock, iter(range(100))
    monkeypatch.setattr(
        shared_folder, "_lock", lambda folder: real(folder) if next(calls) == 0 else None
    )
    found = look_on_all([shared_folder.look_at_lock], contexts([tmp_path], QUICK))
    assert "still held" in found[0][0].text


def test_a_file_system_without_locks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LaunchError, match="gives no locks"):
        look_on_all([shared_folder.look_at_lock], contexts([tmp_path], QUICK))


def test_a_node_that_reads_the_old_file_is_wrong(apart: list[Context]) -> None:
    (apart[1].folder / "replaced").write_text("old")
    found = look_on_all([shared_folder.look_at_replacement], apart)
    assert levels(found) == [[Level.ok], [Level.wrong]]
    assert "node1" in found[1][0].text
    assert "still reads the old content" in found[1][0].text


def test_a_file_that_is_torn_while_it_is_replaced_is_wrong(apart: list[Context]) -> None:
    (apart[1].folder / "replaced").write_text("ne")
    found = look_on_all([shared_folder.look_at_replacement], apart)
    assert levels(found) == [[Level.ok], [Level.wrong]]
    assert "saw ne" in found[1][0].text


def test_names_that_two_nodes_create_are_wrong(apart: list[Context]) -> None:
    found = look_on_all([shared_folder.look_at_creation], apart)
    assert levels(found) == [[Level.wrong], []]
    assert "20 of 20 names were created by 2 to 2 processes" in found[0][0].text


def test_lines_that_are_lost_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = journal.append

    def lose(path: Path, record: dict[str, Any]) -> None:
        if record["rank"] == 0 or record["number"] % 2:
            real(path, record)

    monkeypatch.setattr(journal, "append", lose)
    found = look_on_all([shared_folder.look_at_appending], contexts([tmp_path] * 2, QUICK))
    assert levels(found) == [[Level.warning], []]
    assert "50 of 200 lines" in found[0][0].text


def test_a_rank_that_fails_ends_the_wait_of_the_others(tmp_path: Path) -> None:
    def fail(context: Context) -> Iterator[Finding]:
        context.exchange.end()
        yield from ()

    request = ProbeRequest(processes_per_node=1, limit_s=20)
    with pytest.raises(TimeoutError, match="rank 1 ended this probe before"):
        look_on_all([shared_folder.look_at_lock, fail], contexts([tmp_path] * 2, request))
