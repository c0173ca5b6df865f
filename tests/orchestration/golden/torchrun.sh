#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --constraint='a100&ib'
#SBATCH --cpus-per-task=64
#SBATCH --error=RUN_DIR/slurm/%j_0_log.err
#SBATCH --exclude='node[03-05],node9'
#SBATCH --exclusive
#SBATCH --gres=gpu:a100:8
#SBATCH --job-name=JOB_NAME
#SBATCH --mail-type=FAIL
#SBATCH --mail-user=me@example.org
#SBATCH --mem=491520M
#SBATCH --no-requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=RUN_DIR/slurm/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --reservation=maintenance
#SBATCH --signal=USR2@180
#SBATCH --time=1440

# setup
module load cuda
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
srun --unbuffered --output RUN_DIR/slurm/%j_%t_log.out --error RUN_DIR/slurm/%j_%t_log.err --cpus-per-task=64 --kill-on-bad-exit=1 --wait=600 PYTHON -u -m torch.distributed.run --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2 --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" -m antioversmooth.orchestration.slurm.rank RUN_DIR


# teardown
code=$?
PYTHON -m antioversmooth.orchestration.slurm.epilogue RUN_DIR "$code" "$started"
