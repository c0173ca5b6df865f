"""Where images lie and what they are labelled, without opening one: read by both planes, needs no
torch.

folder, inaturalist, tar, webdataset, huggingface, cifar     one layout each
packaged                                                     sets that are a file of an installed package
listing                                                      the layout that a spec names, held against the spec
cache                                                        so that a million names are read once
"""
