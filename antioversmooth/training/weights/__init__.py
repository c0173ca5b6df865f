"""Tools on weights.

initial     the weights that a run starts from
recorded    the run and the model that weights were recorded with
trained     the weights of a run, of a checkpoint or of a file, in the model that they belong to
evaluate    their accuracy
analyse     measures of their layers
convert     other file formats
"""
