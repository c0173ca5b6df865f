"""Data sets on disk, for both planes: which images there are and their labels. Needs no torch.

dataset    the data set that a spec names, checked against the spec
images     the images of one split: files, byte ranges of archives, or arrays
passed_over
           contents of a data set that are none of its images, counted by kind
layouts/   one layout a file: folder, tar, webdataset, inaturalist, huggingface, cifar, text_table
cache      listings of large data sets, so that a million names are read once
missing    the error for data that is not there
"""
