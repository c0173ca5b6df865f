"""The tests of the project that need a CUDA device."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.parts import Finding

FILE = "tests/training/test_on_gpu.py"
OUTCOMES = ("tests", "failures", "errors", "skipped")


def run_tests(root: Path) -> Iterator[Finding]:
    """Runs the tests that are marked `gpu`; yields their number, and the names of failed ones.

    Without a device, those that can are rehearsed on the CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        given = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junit-xml={report}", FILE]
        subprocess.run([sys.executable, "-m", "pytest", *given], cwd=root)
        # its output says why there is none
        suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, "pytest writes one"
    yield from ((name, int(suite.attrib[name])) for name in OUTCOMES)
    yield (
        "failed",
        [
            case.attrib["name"]
            for case in suite.iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ],
    )
