"""Probes of the nodes that runs would train on: `python -m antioversmooth.training.probes FOLDER`.

request        content of FOLDER/request.json: what to probe, and what the profile promises
"""
