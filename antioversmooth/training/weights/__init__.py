"""Tools on weights.

initial     the weights that a run starts from
trained     the weights of a run, of a checkpoint or of a file, in the model that they belong to
evaluate    their accuracy
analyse     measures of their layers
convert     other file formats
"""
