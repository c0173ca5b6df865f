"""Arguments of the benchmarks: a mistake is one line, before anything is measured."""

from __future__ import annotations

from types import ModuleType

import pytest

import benchmarks.__main__ as bench
import benchmarks.gpu.__main__ as gpu
import benchmarks.peers.__main__ as peers

NOWHERE = "/proc/x: nothing can be written there (No such file or directory); name another folder"


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        (bench, ["--device", "foo"], "'foo' is no device, as cpu, cuda or cuda:1"),
        (bench, ["--device", "meta"], "'meta' is no device, as cpu, cuda or cuda:1"),
        (bench, ["--device", "cuda:99"], "'cuda:99' is not there: this machine has"),
        (bench, ["--rounds", "0"], "'0' is no whole number from 1 on"),
        (bench, ["--rounds", "-1"], "'-1' is no whole number from 1 on"),
        (bench, ["--augmentations", "-5"], "'-5' is no whole number from 1 on"),
        (bench, ["--input"], "there is no option --input"),
        (bench, ["--onyl", "size"], "there is no option --onyl; did you mean --only?"),
        (bench, ["--output", "/proc/x"], NOWHERE),
        (gpu, ["--only", "machine", "--output", "/proc/x"], NOWHERE),
        (gpu, ["--output", __file__], "test_arguments.py is a file, and a folder belongs here"),
        (peers, ["--output", "/proc/x"], NOWHERE),
    ],
)
def test_a_mistake_in_the_arguments_of_a_benchmark_is_one_line_and_exit_2(
    program: ModuleType, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = program.main(words)
    except SystemExit as err:
        code = err.code
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert message in said
