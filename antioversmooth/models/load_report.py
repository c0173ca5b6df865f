"""The account of a load: which weights were read, and how each key was handled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoadReport:
    """How each key of the source and of the model was handled."""

    source: str
    unchanged: int
    """Tensors of the source that were loaded as they were."""
    key: str = ""
    """Key of the file under which the weights are; empty where the file is a state dict."""
    beside: tuple[str, ...] = ()
    """Keys of the file with other weights, which were not loaded."""
    prefix: str = ""
    """Common beginning of all keys, which was removed."""
    renamed: tuple[str, ...] = ()
    """Tensors that were loaded under another name: `old -> new`."""
    missing: tuple[str, ...] = ()
    """Scales and declared parameters that the source lacks: they keep their initial values."""
    resampled: tuple[str, ...] = ()
    """Position embeddings and the like, resampled to the model's size."""
    reset: tuple[str, ...] = ()
    """The classifier, if its classes are others: it keeps its initial values."""
    ignored: tuple[str, ...] = ()
    """Buffers of the source that the model computes for itself."""
    no_tensors: tuple[str, ...] = ()
    """Values between the tensors of the source that are no tensors."""
    training: tuple[str, ...] = ()
    """State of the training that the weights come from; a run that starts from them has its own."""
    assumed: tuple[str, ...] = ()
    """Values of the row that change what the weights compute, and that the source does not
    record."""
    classes: str = ""
    """How its classes were matched with those of the data; empty where they were not compared."""

    def lines(self) -> list[str]:
        """Lines for people, without empty groups."""
        groups = {
            "renamed": self.renamed,
            "resampled to this model's size": self.resampled,
            "not loaded, because its classes are others": self.reset,
            "not loaded, because the model computes them": self.ignored,
            "not loaded, because they are no tensors": self.no_tensors,
            "not used, because training begins at its first step": self.training,
            "not in the source, left at their initial values": self.missing,
            "not recorded with the weights, so as the row says": self.assumed,
        }
        listed = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in groups.items() if keys]
        matched = [f"classes: {self.classes}"] if self.classes else []
        return [f"{self._origin()}: {self.unchanged} tensors loaded as they are", *listed, *matched]

    def _origin(self) -> str:
        key = f", key {self.key!r}" if self.key else ""
        beside = f" (not {', '.join(map(repr, self.beside))})" if self.beside else ""
        prefix = f", without the prefix {self.prefix!r}" if self.prefix else ""
        return f"{self.source}{key}{beside}{prefix}"

    def counts(self) -> dict[str, str | int]:
        """The report in short: the part of the file, and the number of keys of each group."""
        groups = {
            "renamed": self.renamed,
            "resampled": self.resampled,
            "reset": self.reset,
            "ignored": self.ignored,
            "no_tensors": self.no_tensors,
            "missing": self.missing,
            "assumed": self.assumed,
        }
        origin = {"key": self.key, "prefix": self.prefix, "classes": self.classes}
        return {
            **{name: value for name, value in origin.items() if value},
            "unchanged": self.unchanged,
            **{name: len(keys) for name, keys in groups.items() if keys},
        }
