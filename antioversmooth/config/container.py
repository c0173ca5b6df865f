"""The container that the processes of a job run in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from antioversmooth.config.rules import Broken, Config, absolute, rule
from antioversmooth.constraints import MISSING, each, matches, not_blank, one_line, option

_WORD = matches(r"[^-\s][^\n\r]*", "a word without a leading dash")
_HIDES_VARIABLES = {"-e", "--cleanenv", "-C", "--containall"}


class ContainerRuntime(Enum):
    """The program that starts containers on the nodes."""

    pyxis = "pyxis"
    apptainer = "apptainer"
    singularity = "singularity"


@dataclass
class ContainerConfig(Config, section="cluster.container"):
    """A container with Python, torch, timm and the other requirements of this package; the code
    itself is the snapshot. The snapshot, the run, its data, its weights and the results are mounted
    under their own paths."""

    image: str = option(MISSING, _WORD)
    """Image: a file, a folder or an address (docker://nvcr.io/...; nvcr.io#nvidia/... for Pyxis).
    All nodes must see a file."""
    runtime: ContainerRuntime = option(MISSING)
    """pyxis: an extension of srun (with Enroot). apptainer, singularity: a command of that name,
    which a line of `setup` may load."""
    mounts: list[str] = option(
        [],
        each(matches(r"/[^:,]*(:/[^:,]*(:r[ow])?)?", "/path, /path:/inside or /path:/inside:ro")),
    )
    """Further files and folders of the nodes."""
    options: list[str] = option([], each(one_line(), not_blank("a word")))
    """Further words after `apptainer exec`, as [--rocm]; with Pyxis: see `cluster.srun`."""
    python: str = option("python3", _WORD)
    """Python in the image."""

    def normalise(self) -> None:
        if self.is_file:
            self.image = absolute(self.image)

    @property
    def is_file(self) -> bool:
        """Whether the image is a file or a folder by its name."""
        return isinstance(getattr(self, "image", None), str) and self.image.startswith(
            ("/", "./", "../", "~")
        )

    @rule("options", "runtime")
    def _options_of_a_command(self) -> Iterator[Broken]:
        if self.options and self.runtime is ContainerRuntime.pyxis:
            expected = "none with pyxis, whose options are options of srun (cluster.srun)"
            yield Broken("options", self.options, expected, also=("runtime",))
        for index, word in enumerate(self.options):
            if word in _HIDES_VARIABLES:
                expected = "another one: processes know their rank by variables"
                yield Broken(f"options[{index}]", word, expected)
