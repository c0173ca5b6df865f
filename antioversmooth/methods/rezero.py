"""ReZero: x + a * branch(x), a one number a branch, 0 at the start, `ls1.alpha`, `ls2.alpha` [1].

One number a branch is SkipInit's form (De and Smith, arXiv 2002.10444); ReZero's released layer
shares one between its two branches, and has no layer norms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from antioversmooth.methods.base import Parameter
from antioversmooth.methods.branches import BranchMethod
from antioversmooth.methods.family import Family


@dataclass(frozen=True)
class ReZero(BranchMethod):
    """Starts with blocks that add nothing."""

    name: ClassVar[str] = "rezero"
    title: ClassVar[str] = "ReZero"
    source: ClassVar[str] = "Bachlechner et al., ReZero, UAI 2021, arXiv 2003.04887"
    per_channel: ClassVar[bool] = False
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", "a", "ReZero's a, of both branches"),
    )

    @property
    def start(self) -> float:
        """0: a block adds nothing."""
        return 0.0

    def sentences(self, family: Family) -> Iterator[str]:
        """The two differences from the released layer."""
        yield (
            "ReZero has one number for each branch, as SkipInit, and layer norms; the released"
            " layer shares one between its two branches, and has no norms"
        )
