#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=8
#SBATCH --error=RUN_DIR/slurm/%j_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --job-name=JOB_NAME
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=RUN_DIR/slurm/%j_0_log.out
#SBATCH --requeue
#SBATCH --reservation=maintenance
#SBATCH --signal=USR2@180
#SBATCH --time=1440

# setup
export PYTHONPATH=/snapshots/abc${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1  # without it, `-m` imports from the current folder first
[ -d /snapshots/abc ] || exit 1  # without a snapshot, Python imports an installed package
unset RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK  # the submitting shell may have set these
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + (SLURM_JOB_ID + 997 * ${SLURM_RESTART_COUNT:-0}) % 12000))  # below the ephemeral ports of Linux
started=$(date +%s)
trap : TERM  # the ranks save and exit; the epilogue must still run

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUN_DIR/slurm/%j_%t_log.out --error RUN_DIR/slurm/%j_%t_log.err --cpus-per-task=8 --kill-on-bad-exit=1 --wait=600 PYTHON -u -m antioversmooth.orchestration.slurm.rank RUN_DIR


# teardown
code=$?
PYTHON -m antioversmooth.orchestration.slurm.epilogue RUN_DIR "$code" "$started"
