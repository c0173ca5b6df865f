"""`antioversmooth doctor`: whether runs will work here, before they cost anything.

examination  all checks in order: this machine's, then the nodes'
site         the profile and the runs that are examined
clients      SLURM's commands, versions and accounting
limits       what partition and account allow
storage      the results folder, and where Python lies
shell        variables of this shell that would reach jobs
job          the short job on the profile's nodes; rank and turn run in it
processes    the same probes as processes of this machine
gathering    findings of all ranks as one, and ranks that wrote none
report       the findings for people, for a ticket, and as JSON
speeds       measured speeds, and what the runs cost by them
"""
