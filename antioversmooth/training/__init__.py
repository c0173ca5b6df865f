"""Training of one run, called on every rank: `train.train(run)`.

data/         views and batches: order, decoding, augmentation, mixing
step/         one optimizer step: forward and backward pass, dropout, distillation, optimizer
run/          one attempt at a run: ranks, loop, checkpoints, signals, watchdog, result
weights/      tools on weights: initial weights, evaluation, analysis, conversion
probes/       facts about the nodes that runs would train on
process       a rank of a run as a process, and its exit code
evaluator     accuracy on a split
randomness    seeds that depend on the position in the run only
"""
