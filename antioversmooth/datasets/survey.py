"""A survey of the images of a data set, and the sentences about what is odd in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from antioversmooth.datasets.splits import KINDS
from antioversmooth.errors import and_more

FEW = 200
"""Validation images below which one of them is worth a remark."""
IMBALANCE = 10
"""How many times as many images the largest class may have as the smallest."""
TINY = 32
"""Pixels of a short side below which an image is tiny."""
SMALL = 112
"""The same of most images, which models of 224 pixels enlarge."""
EXAMPLES = 3


@dataclass(frozen=True)
class Seen:
    """One image that was read."""

    split: str
    name: str
    """Path within the data set."""
    label: int
    reason: str = ""
    """Why it cannot be decoded; empty: it can."""
    digest: bytes = b""
    """sha256 over its size and pixels."""
    width: int = 0
    """In pixels."""
    height: int = 0
    grey: bool = False
    """Whether all its channels are equal."""
    turned: bool = False
    """Whether it has an EXIF orientation that is not applied."""


@dataclass(frozen=True)
class Survey:
    """The images of a data set that were read."""

    classes: Sequence[str]
    counts: dict[str, list[int]]
    """Images of each class, by split; also those that were not read."""
    seen: list[Seen]
    mean: list[float]
    """Of the training images, per channel, on a 0..1 scale; each image counts the same."""
    std: list[float]

    @cached_property
    def decoded(self) -> list[Seen]:
        """The images that can be decoded."""
        return [image for image in self.seen if not image.reason]

    @cached_property
    def damaged(self) -> list[Seen]:
        """The images that cannot be decoded."""
        return [image for image in self.seen if image.reason]

    @property
    def num_images(self) -> int:
        """Images of both splits."""
        return sum(map(sum, self.counts.values()))

    def sizes(self) -> str:
        """Smallest, largest and median size, in words."""
        found = sorted(self.decoded, key=lambda image: image.width * image.height)
        small, large = (f"{image.width} x {image.height}" for image in (found[0], found[-1]))
        if small == large:
            return f"all {small} pixels"
        return f"{small} to {large} pixels, median short side {self._median_side():.0f}"

    def _median_side(self) -> float:
        return median(min(image.width, image.height) for image in self.decoded)

    # -- what is odd -------------------------------------------------------------------------------

    def warnings(self) -> list[str]:
        """A sentence for everything that is odd."""
        checks = (
            self._single_images,
            self._imbalance,
            self._few_validation_images,
            self._in_both_splits,
            self._in_two_classes,
            self._damaged_images,
            self._grey_images,
            self._turned_images,
            self._small_images,
        )
        return [sentence for check in checks for sentence in check()]

    def _single_images(self) -> Iterator[str]:
        for split, counts in self.counts.items():
            single = [self.classes[label] for label, count in enumerate(counts) if count == 1]
            if single:
                yield f"one {KINDS[split]} image of {and_more(single, 5)}"

    def _imbalance(self) -> Iterator[str]:
        counts = self.counts["train"]
        most, fewest = max(counts), min(counts)
        if most >= IMBALANCE * fewest:
            large, small = (self.classes[counts.index(count)] for count in (most, fewest))
            share = 100 * self.counts["val"][counts.index(most)] / sum(self.counts["val"])
            yield (
                f"unbalanced: {most:,} training images of {large}, {fewest:,} of {small}; a model"
                f" that always answers {large} has {share:.1f} % top-1"
            )

    def _few_validation_images(self) -> Iterator[str]:
        count = sum(self.counts["val"])
        if count < FEW:
            yield (
                f"{count} validation images: one of them is {100 / count:.1f} points of accuracy;"
                " compare rows over several seeds"
            )

    def _in_both_splits(self) -> Iterator[str]:
        training = {image.digest: image for image in self.decoded if image.split == "train"}
        shared = [one for one in self.decoded if one.split == "val" and one.digest in training]
        if shared:
            pairs = [f"{image.name} = {training[image.digest].name}" for image in shared]
            yield (
                f"{_images(len(shared), 'is', 'are')} in both splits, to the pixel:"
                f" {and_more(pairs, EXAMPLES)}; accuracy on them is memory; remove them from one"
                " side"
            )

    def _in_two_classes(self) -> Iterator[str]:
        same: defaultdict[bytes, list[Seen]] = defaultdict(list)
        for image in self.decoded:
            same[image.digest].append(image)
        doubtful = [found for found in same.values() if len({one.label for one in found}) > 1]
        if doubtful:
            names = [" = ".join(_names_by_class(found)[:2]) for found in doubtful]
            count = _images(len(doubtful), "is", "are")
            yield f"{count} in two classes: {and_more(names, EXAMPLES)}"

    def _damaged_images(self) -> Iterator[str]:
        if self.damaged:
            names = [f"{image.name} ({image.reason})" for image in self.damaged]
            yield (
                f"{_images(len(names))} cannot be read: {and_more(names, EXAMPLES)}; restore them,"
                " or remove them and look again; the spec allows for them by max_corrupt, which"
                " replaces them by neighbours in training and leaves them out of evaluations"
            )

    def _grey_images(self) -> Iterator[str]:
        grey = Counter(image.grey for image in self.decoded)
        if grey[True]:
            which = (
                "all images" if not grey[False] else f"{grey[True]:,} of {grey.total():,} images"
            )
            yield f"{which} are grey; they are read as three equal channels"

    def _turned_images(self) -> Iterator[str]:
        turned = [image.name for image in self.decoded if image.turned]
        if turned:
            yield (
                f"{_images(len(turned), 'has', 'have')} an EXIF orientation, which is not applied:"
                f" {and_more(turned, EXAMPLES)}; to have them upright, rotate the files, as"
                " `mogrify -auto-orient` of ImageMagick does"
            )

    def _small_images(self) -> Iterator[str]:
        tiny = [one for one in self.decoded if min(one.width, one.height) < TINY]
        if tiny:
            names = [f"{image.name} ({image.width} x {image.height})" for image in tiny]
            yield (
                f"{_images(len(tiny), 'has', 'have')} a side below {TINY} pixels:"
                f" {and_more(names, EXAMPLES)}; a model's input enlarges them"
            )
        side = self._median_side()
        if side < SMALL:
            yield (
                f"most images are small (median short side {side:.0f} pixels), and models of 224"
                " pixels enlarge them; model.image_size sets another size"
            )


def _names_by_class(images: Sequence[Seen]) -> list[str]:
    """The name of the first image of each class."""
    first: dict[int, str] = {}
    for image in images:
        first.setdefault(image.label, image.name)
    return list(first.values())


def _images(count: int, one: str = "", more: str = "") -> str:
    """A number of images, and a verb: 1 image is, 1,000 images are."""
    return f"{count:,} image {one}".rstrip() if count == 1 else f"{count:,} images {more}".rstrip()
