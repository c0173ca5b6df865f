"""The SLURM back end: exactly one live job for a run.

backend launches and follows; reconcile decides what each run needs, by retry's budgets; submission
hands a run to sbatch with the batch script of script; client asks squeue, sacct and sinfo. In a
job, rank is the entry point of each process, and epilogue ends the batch script or requeues it.
"""
