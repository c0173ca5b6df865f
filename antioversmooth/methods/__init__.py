"""Methods against oversmoothing: one module each, found by everything else through METHODS.

base        the interface: what a method computes, its parameters, options, forms and sentences
attnscale   AttnScale: the high-pass part of attention matrices, scaled head by head
featscale   FeatScale: the DC and HC parts of attention outputs, scaled channel by channel
registry    METHODS, and the method that a spec or a call names

No module here imports torch: tables read the sentences, models apply the equations.
"""

from antioversmooth.methods.base import AttentionMethod, FeatureMethod, Method, Parameter
from antioversmooth.methods.registry import METHODS, method_of, methods_named, parameter_names

__all__ = [
    "METHODS",
    "AttentionMethod",
    "FeatureMethod",
    "Method",
    "Parameter",
    "method_of",
    "methods_named",
    "parameter_names",
]
