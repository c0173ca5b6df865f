"""Probes of the nodes that runs would train on: `python -m antioversmooth.training.probes FOLDER`.

request         content of FOLDER/request.json: promises of the profile, and runs; without torch
inspection      all probes of one rank, in the order of `catalogue`
guarded         a probe under a time limit: one that fails or hangs is a finding
exchange        values that ranks exchange, also where no process group works
report          FOLDER/rank<r>.jsonl
identity, resources, gpus, clock, disk, shared_folder, network, loading, steps, warning_signal
                the probes by subject; each is a function that yields findings
"""
