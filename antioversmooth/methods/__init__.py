"""Methods against oversmoothing: one module each, found by everything else through METHODS.

base        the interface: what a method computes, its parameters, options, forms and sentences
branches    the kind of method that multiplies the branches of a block
mixing      the kind of method that mixes the attention matrices of all heads
norms       the kind of method in front of layer norms
tokens      the kind of method that decides which tokens pass which blocks
losses      the kind of method that adds terms to the training loss
options     the options of a method, and what is wrong with a value
family      the families of backbones
registry    METHODS, and the method that a spec or a call names

Every other module is a method, and found by the registry. No module here imports torch: tables read
the sentences, models apply the equations.
"""

from antioversmooth.methods.base import (
    AttentionMethod,
    FeatureMethod,
    MeanMethod,
    Method,
    Parameter,
)
from antioversmooth.methods.family import Family
from antioversmooth.methods.registry import (
    METHODS,
    method_named,
    method_of,
    parameter_names,
)

__all__ = [
    "METHODS",
    "AttentionMethod",
    "Family",
    "FeatureMethod",
    "MeanMethod",
    "Method",
    "Parameter",
    "method_named",
    "method_of",
    "parameter_names",
]
