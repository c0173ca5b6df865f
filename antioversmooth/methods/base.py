"""The interface of a method against oversmoothing.

N tokens, H heads, C channels. A is the attention matrix [B, H, N, N] after its softmax, v the
values of a head, m(.) the mean over tokens, A_LP = 11^T / N, so A_LP v = m(v). Two places exist:

    AttentionMethod   y = c0 v + c1 A v - c3 m(v)              in front of the projection, per head
    FeatureMethod     X_hat = X + s DC[X] + t HC[X]            behind the projection, per channel

A method gives its coefficients as functions of its parameters; `antioversmooth.models` folds them
into the layers of each backbone family, in the form that costs least there. A frozen dataclass
whose fields are the options of the method: those of a spec are declared with
`constraints.option`, and have a docstring. Parameters start at zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from antioversmooth.methods.family import Family
from antioversmooth.methods.options import expected, options_of

if TYPE_CHECKING:
    from torch import Tensor

Forms = Mapping[Family, Mapping[str, Mapping[Any, str]]]
"""By family and field of `ModelConfig`: the sentence of each value."""

CLASS_TOKEN = {
    True: "DeiT's mean over tokens includes the class token, as released",
    False: "DeiT's mean over tokens leaves the class token out; the released code includes it",
}
"""Sentences of `class_token_in_mean`, the same for each method that takes a mean over tokens."""


class Parameter(NamedTuple):
    """A trained parameter of each layer; mostly 1-D, and so without weight decay, and zero at the
    start."""

    name: str
    """Last part of its key in the state dict; no two methods share one."""
    symbol: str
    """As in the equation; the analysis calls its values `scales/<symbol>`."""
    meaning: str
    """For people, one line."""


@dataclass(frozen=True)
class Method:
    """The interface that all kinds of method share."""

    name: ClassVar[str]
    """As `model.method`, `add_method` and the names in timm's registry spell it."""
    title: ClassVar[str]
    """As labels of rows spell it."""
    source: ClassVar[str]
    """The paper, with its arXiv id."""
    families: ClassVar[tuple[Family, ...]] = tuple(Family)
    """Families of backbones that it is defined for."""
    is_exact_at_start: ClassVar[bool] = False
    """Whether a model computes the same right after the method joins it."""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    axis: ClassVar[str] = ""
    """Dimension with one number of each parameter: head or channel; empty: the parameters have
    other shapes, and the analysis does not record them."""
    forms: ClassVar[Forms] = {}
    """Fields of `ModelConfig` that choose among forms of the method; tables print the sentences.

    No shape or name of a weight tells these forms apart, so weights are only evaluated in the form
    that they were trained in.
    """
    released: ClassVar[Mapping[str, str]] = {}
    """Released files, by backbone as in `models.entrypoints`."""

    @property
    def inseparable(self) -> int:
        """Consecutive samples of a batch that it computes together in training."""
        return 1

    def __post_init__(self) -> None:
        for name in options_of(type(self)):
            value = getattr(self, name)
            if wanted := expected(type(self), name, value):
                raise ValueError(f"{self.name}: {name}={value!r} is not possible: {wanted}")

    @classmethod
    def from_fields(cls, values: Mapping[str, Any], options: Mapping[str, Any]) -> Self:
        """The method of a spec.

        Args:
            values: Fields of `ModelConfig`, some of which choose its form.
            options: The options of the method by name.
        """
        named = cls.form_fields()
        forms = {named[key]: values[key] for key in named.keys() & values.keys()}
        return cls(**forms, **options)

    @classmethod
    def form_fields(cls) -> dict[str, str]:
        """Choices that have a field of their own in `ModelConfig`, by the name of that field: their
        own, or metadata `field`."""
        options = options_of(cls)
        return {
            choice.metadata.get("field", choice.name): choice.name
            for choice in fields(cls)
            if choice.name not in options
        }

    def sentences(self, family: Family) -> Iterator[str]:
        """Notes for tables on what its rows compute, beside those of its forms: where its paper
        and its released code differ, for example."""
        return iter(())

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """Fields of `ModelConfig` that the method does not go with, each with what is expected.

        Args:
            depth: Number of self-attention blocks.
            distilled: Whether the model has a distillation token.
        """
        return iter(())


@dataclass(frozen=True)
class AttentionMethod(Method):
    """y = c0 v + c1 A v - c3 m(v); the parameters lie in the attention layer, one number a head.

    The coefficients are elementwise in the parameters, which come expanded to channels, heads or
    matrices.
    """

    axis: ClassVar[str] = "head"

    mask_aware: bool = False
    """Swin: leave pairs that a shifted window masks out of m(v)."""

    def own(self, *parameters: Tensor) -> Tensor | float | None:
        """c0, the share of each token's own value; None: none."""
        return None

    @property
    def has_own(self) -> bool:
        """Whether there is a c0."""
        return type(self).own is not AttentionMethod.own

    def attended(self, *parameters: Tensor) -> Tensor | float:
        """c1, in float32 at least."""
        raise NotImplementedError

    def mean(self, *parameters: Tensor) -> Tensor | float:
        """c3."""
        raise NotImplementedError

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """c0 I + c1 A - c3 A_LP, for where the matrix itself is needed.

        Args:
            attention: A, [B, H, N, N].
            low_pass: A_LP, broadcastable to A; other rows where tokens are left out of the mean.
            parameters: Each [H, 1, 1].
        """
        raise NotImplementedError

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """The same as its paper writes it: the reference of tests, never called by a model."""
        raise NotImplementedError


@dataclass(frozen=True)
class FeatureMethod(Method):
    """X_hat = X + s DC[X] + t HC[X].

    Two parameters, of the DC and of the HC part, lie in the block, one number a channel.
    """

    axis: ClassVar[str] = "channel"

    def scales(self, family: Family, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(s, t), each [C].

        Args:
            family: Of the block's attention; vit stands for all that is not CaiT or Swin.
            parameters: Each [C].
        """
        raise NotImplementedError

    def textbook(self, x: Tensor, low_pass: Tensor, *parameters: Tensor, times: int) -> Tensor:
        """The equation as its paper writes it: the reference of tests, never called by a model.

        Args:
            x: X, [B, N, C].
            low_pass: DC[X], of the same shape.
            parameters: Each [C].
            times: How often the terms are added.
        """
        raise NotImplementedError


def one_plus(scale: Tensor) -> Tensor:
    """1 + scale, in float32 at least: bfloat16 would round a scale of 0.003 away."""
    return 1 + (scale if scale.dtype.itemsize >= 4 else scale.float())
