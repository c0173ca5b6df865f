"""AttnScale and FeatScale for vision transformers, and the system that reproduces their table."""

__version__ = "0.1.0"
