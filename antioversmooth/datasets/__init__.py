"""Data sets on disk, for both planes: which images there are and their labels. Needs no torch.

dataset    the data set that a spec names, checked against the spec
images     the images of one split: files, byte ranges of archives, or arrays
passed_over
           contents of a data set that are none of its images, counted by kind
layouts/   one layout a file: folder, tar, webdataset, inaturalist, huggingface, cifar, text_table
validation another validation set than that of a spec
classes    classes by name: the map from those of data to those of weights
current    checksums of data sets as they are now, for comparison with those of done runs
cache      listings of large data sets, so that a million names are read once
missing    the error for data that is not there
"""
