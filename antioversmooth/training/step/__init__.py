"""One optimizer step: from the micro-batches of a rank to new weights.

learner         forward and backward passes, and the update
dropout         masks of dropout and drop path by sample
compilation     torch.compile, block by block
distillation    the teacher and the loss
optimisation    optimizer, learning rate, moving average
meter           sums of losses and gradient norms on the device
"""
