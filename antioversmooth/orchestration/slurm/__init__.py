"""The SLURM back end: exactly one live job for a run.

backend launches and follows; reconcile decides what each run needs, by retry_budget; submission
hands a run to sbatch with the batch script of script; client asks for jobs and ends them, facts
asks for the cluster, both through commands. In a job, rank is the entry point of each process, and
epilogue ends the batch script or requeues it.
"""
