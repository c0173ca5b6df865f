"""The families of backbones that methods are defined for."""

from __future__ import annotations

from enum import Enum


class Family(Enum):
    """A timm backbone family that the paper treats."""

    vit = "vit"
    cait = "cait"
    swin = "swin"
