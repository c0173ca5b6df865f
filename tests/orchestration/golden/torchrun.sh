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
# BASH_ENV may set options and traps of this shell; a site's login or prolog, of srun
set +eu; trap - ERR DEBUG EXIT
unset ${!SRUN_@} ${!SLURM_CPU_BIND@} ${!SLURM_MEM_BIND@} ${!PMI@} ${!OMPI_@} SLURM_BCAST SLURM_BCAST_EXCLUDE SLURM_CLUSTERS SLURM_COMPRESS SLURM_DEBUG SLURM_EPILOG SLURM_EXACT SLURM_EXCLUSIVE SLURM_EXIT_ERROR SLURM_EXIT_IMMEDIATE SLURM_EXPORT_ENV SLURM_IMMEDIATE SLURM_KILL_BAD_EXIT SLURM_LABELIO SLURM_NO_KILL SLURM_OPEN_MODE SLURM_OVERLAP SLURM_PROLOG SLURM_REMOTE_CWD SLURM_SIGNAL SLURM_STDERRMODE SLURM_STDINMODE SLURM_STDOUTMODE SLURM_STEP_GRES SLURM_TASK_EPILOG SLURM_TASK_PROLOG SLURM_TEST_EXEC SLURM_THREADS SLURM_TIMELIMIT SLURM_UNBUFFEREDIO SLURM_WAIT SLURM_WORKING_DIR
[ -d /snapshots/abc ] || exit 1  # without a snapshot, Python imports an installed package
_said=$(/usr/bin/env scontrol show hostnames "$SLURM_JOB_NODELIST" 2>&1)
_master=$(/usr/bin/env grep -m 1 -xE "${SLURM_JOB_NODELIST%%[[,]*}[[:alnum:]._-]*" <<< "$_said")
_port=$((20000 + (SLURM_JOB_ID + 997 * ${SLURM_RESTART_COUNT:-0}) % 12000))  # below the ephemeral ports of Linux
_srun=$(type -P srun || echo srun)
_env=(/usr/bin/env -u RANK -u LOCAL_RANK -u WORLD_SIZE -u LOCAL_WORLD_SIZE -u GROUP_RANK -u GROUP_WORLD_SIZE -u ROLE_RANK -u ROLE_WORLD_SIZE -u NODE_RANK -u PYTHONHOME -u PYTHONSTARTUP -u PYTHONINSPECT -u PYTHONOPTIMIZE -u PYTHONEXECUTABLE -u PYTHONPLATLIBDIR -u PYTHONCASEOK -u PYTHONPYCACHEPREFIX PYTHONSAFEPATH=1 "SLURM_JOB_ID=$SLURM_JOB_ID" "SLURM_RESTART_COUNT=${SLURM_RESTART_COUNT:-0}")
_stage=RUN_DIR/slurm/"$SLURM_JOB_ID"_stage.txt
_setup='module load cuda'
started=$(/usr/bin/env date +%s)
trap : TERM  # the ranks save and exit; the epilogue must still run
(  # whatever `setup` does to its shell, it does not do to the rest of this script
[ "$_master" ] || { echo "hosts $_said" >| "$_stage"; exit 1; }
echo setup >| "$_stage"
trap '[ "$BASH_COMMAND" = "eval \"\$_setup\"" ] || _last=$BASH_COMMAND' DEBUG
trap '[ "${_ran-}" ] || echo "setup $_last" >| "$_stage"' EXIT
eval "$_setup"
set +eu; trap - DEBUG ERR; trap : TERM; _ran=1

# command
export SUBMITIT_EXECUTOR=slurm
"${_env[@]}" PYTHONPATH=/snapshots/abc"${PYTHONPATH:+:$PYTHONPATH}" MASTER_ADDR="$_master" MASTER_PORT="$_port" \
  "$_srun" --unbuffered --export=ALL --nodes=2 --ntasks=2 --cpus-per-task=64 --kill-on-bad-exit=1 --wait=600 --open-mode=append --output=RUN_DIR/slurm/%j_%t_log.out --error=RUN_DIR/slurm/%j_%t_log.err \
  PYTHON -u -m torch.distributed.run --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2 --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" --rdzv-endpoint="$_master:$_port" -m antioversmooth.orchestration.slurm.rank RUN_DIR


# teardown
code=$?; echo "srun $code" >| "$_stage"; exit "$code"
)
code=$?
"${_env[@]}" PYTHONPATH=/snapshots/abc"${PYTHONPATH:+:$PYTHONPATH}" PYTHON -m antioversmooth.orchestration.slurm.epilogue RUN_DIR "$code" "$started"
