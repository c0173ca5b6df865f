"""The kind of method that decides which tokens pass which blocks of a vision transformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.methods.base import Method
from antioversmooth.methods.family import Family


@dataclass(frozen=True)
class TokenMethod(Method):
    """Where the class token enters, what follows the blocks, and tokens beside the patches.

    Prefix tokens are all that have no place in the image: class and distillation token, registers.
    The layers and tokens that such a method adds are ordinary ones: with weight decay as theirs in
    timm, and at the learning rate of the backbone.
    """

    families: ClassVar[tuple[Family, ...]] = (Family.vit,)

    def entrance(self, depth: int) -> int:
        """Number of blocks that only patch tokens pass, of `depth`."""
        return 0

    def num_blocks(self, depth: int) -> int:
        """Number of self-attention blocks that remain, of `depth`."""
        return depth

    @property
    def num_class_blocks(self) -> int:
        """Number of class-attention blocks behind the others, which the class token passes."""
        return 0

    @property
    def class_layer_scale(self) -> float:
        """Start of LayerScale's factors in class-attention blocks; 0: none."""
        return 0.0

    @property
    def num_registers(self) -> int:
        """Number of register tokens."""
        return 0

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """Registers and class attention have no form with a distillation token."""
        if distilled and (self.num_registers or self.num_class_blocks):
            yield "distillation_token", f"false with {self.title.lower()}"


def num_blocks(number: int) -> str:
    """The number of blocks in words: 1 block, 2 blocks."""
    return f"{number} block" if number == 1 else f"{number} blocks"


def last_blocks(number: int) -> str:
    """The last blocks in words: the last block, the last 2 blocks."""
    return "the last block" if number == 1 else f"the last {num_blocks(number)}"
