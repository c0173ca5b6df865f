"""Monitoring of runs: state overlays their directories with squeue and sacct; progress is how far
they are; status gathers both for people and programs; explain says why in a paragraph; view redraws
them during a launch; logs prints what they wrote.
"""
