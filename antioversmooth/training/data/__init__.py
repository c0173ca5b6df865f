"""From the images of a data set to the batches that a model sees.

sampling       order of an epoch; which rank and micro-batch a view belongs to
decoding       image files to pixels
augmentation   pixels to a training or evaluation view; normalising and erasing on the device
inspection     all images of a data set, decoded to find those that are damaged
loading        batches of views, by worker processes or from memory
workers        start of those processes, and the reason where one fails
memory         of a freed image, used again for the next
caching        the parts of a decoded cache, made
mixing         Mixup and CutMix on the device
"""
