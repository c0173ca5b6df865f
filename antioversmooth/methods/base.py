"""The interface of a method against oversmoothing.

N tokens, H heads, C channels. A is the attention matrix [B, H, N, N] after its softmax, v the
values of a head, m(.) the mean over tokens, A_LP = 11^T / N, so A_LP v = m(v). Two places exist:

    AttentionMethod   y = c0 v + c1 A v + c2 A A v - c3 m(v)   in front of the projection, per head
    FeatureMethod     X_hat = X + k (s DC[X] + t HC[X])        behind the projection, per channel

A method gives its coefficients as functions of its parameters; `antioversmooth.models` folds them
into the layers of each backbone family, in the form that costs least there. A frozen dataclass
whose fields are the options of the method: those of a spec are declared with
`constraints.option`, and have a docstring. Parameters start at zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

from antioversmooth.methods.family import Family
from antioversmooth.methods.options import default_of, expected, options_of

if TYPE_CHECKING:
    from torch import Tensor

Coefficient: TypeAlias = "Tensor | float"
"""One number for all heads, or one a head."""

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
    advice_on_weights: ClassVar[str] = ""
    """For people whose weights do not fit: the names in files of the released code, for example."""

    @property
    def is_off(self) -> bool:
        """Whether its options leave every model as it is: a strength of zero."""
        return False

    @property
    def inseparable(self) -> int:
        """Consecutive samples of a batch that it computes together in training."""
        return 1

    @property
    def idle_options(self) -> tuple[str, ...]:
        """Options that have no effect beside the values of the others."""
        return ()

    def canonical(self, depth: int) -> dict[str, Any]:
        """All its options, in the one spelling of those that compute the same.

        Args:
            depth: Number of self-attention blocks.
        """
        return {
            name: default_of(option) if name in self.idle_options else getattr(self, name)
            for name, option in options_of(type(self)).items()
        }

    def __post_init__(self) -> None:
        for choice in fields(self):
            value = getattr(self, choice.name)
            if wanted := expected(type(self), choice.name, value):
                raise ValueError(f"{self.name}: {choice.name}={value!r} is not possible: {wanted}")

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
    """y = c0 v + c1 A v + c2 A A v; the parameters lie in the attention layer, one number a head.

    A method defines the coefficients that it has. They are elementwise in the parameters, which
    come expanded to channels, heads or matrices, and are float32 at least.
    """

    axis: ClassVar[str] = "head"

    def constants(self, num_heads: int) -> list[list[float]]:
        """Numbers of each head that are not trained; coefficients get them behind the parameters,
        in the same shapes."""
        return []

    def own(self, *parameters: Tensor) -> Coefficient:
        """c0, the share of each token's own value."""
        return 0.0

    def attended(self, *parameters: Tensor) -> Coefficient:
        """c1, the share of attention."""
        return 1.0

    def attended_twice(self, *parameters: Tensor) -> Coefficient:
        """c2, the share of attention to attention outputs."""
        return 0.0

    @property
    def is_off(self) -> bool:
        """Without parameters, whether its coefficients are those of plain attention."""
        if self.parameters:
            return False
        return bool(self.own() == 0 and self.attended() == 1 and self.attended_twice() == 0)

    @property
    def has_own(self) -> bool:
        """Whether there is a c0."""
        return type(self).own is not AttentionMethod.own

    @property
    def attends_twice(self) -> bool:
        """Whether there is a c2."""
        return type(self).attended_twice is not AttentionMethod.attended_twice

    @property
    def needs_values(self) -> bool:
        """Whether it takes more than A v and m(v), which fold into the projection."""
        return self.has_own or self.attends_twice

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """c0 I + c1 A + c2 A A - c3 A_LP, for where the matrix itself is needed.

        Args:
            attention: A, [B, H, N, N].
            low_pass: A_LP, broadcastable to A; other rows where tokens are left out of the mean.
            parameters: Each [H, 1, 1].
        """
        filtered: Tensor = self.attended(*parameters) * attention
        if self.has_own:
            identity = attention.new_ones(attention.shape[-1]).diag()
            filtered = filtered + self.own(*parameters) * identity
        if self.attends_twice:
            filtered = filtered + self.attended_twice(*parameters) * (attention @ attention)
        return filtered.to(attention.dtype)

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """The same as its paper writes it: the reference of tests, never called by a model."""
        raise NotImplementedError


@dataclass(frozen=True)
class MeanMethod(AttentionMethod):
    """The same with - c3 m(v)."""

    mask_aware: bool = False
    """Swin: leave pairs that a shifted window masks out of m(v)."""

    @property
    def is_off(self) -> bool:
        """The same, c3 included."""
        return super().is_off and bool(self.mean() == 0)

    def mean(self, *parameters: Tensor) -> Coefficient:
        """c3."""
        raise NotImplementedError

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """c0 I + c1 A + c2 A A - c3 A_LP."""
        filtered = super().matrix(attention, low_pass, *parameters)
        return (filtered - self.mean(*parameters) * low_pass).to(attention.dtype)


@dataclass(frozen=True)
class FeatureMethod(Method):
    """X_hat = X + k (s DC[X] + t HC[X]).

    The two parameters, s of the DC and t of the HC part, lie in the block, one number a channel.
    """

    axis: ClassVar[str] = "channel"

    def times(self, family: Family) -> int:
        """k, how often the two terms are added.

        Args:
            family: Of the block's attention; vit stands for all that is not CaiT or Swin.
        """
        return 1

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
    return 1 + at_least_float32(scale)


def at_least_float32(scale: Tensor) -> Tensor:
    """The scale, half precision as float32."""
    return scale if scale.dtype.itemsize >= 4 else scale.float()
