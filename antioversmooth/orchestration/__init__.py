"""Starting runs and watching them, from the control plane.

backend chooses where runs start; slurm/ and local/ are the back ends, monitor/ shows what they do.
preflight checks, snapshot copies the code, intent records a launch; control cancels and retries.
devices, estimate and dryrun answer what a launch would take; evaluation plans `--eval`.
"""
