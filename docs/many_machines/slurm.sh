#!/usr/bin/env bash
#SBATCH --job-name=vitbert
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@300
# A run on several machines: one process a task, all in one TF_CONFIG, which both engines read.
#
#   sbatch docs/many_machines/slurm.sh --config=paper --output_dir=/shared/runs/paper [FLAG ...]
#
# Five minutes before its time is over, or where it is preempted, the run writes a checkpoint and
# ends with status 75; then the job goes back to the queue and resumes. Options of sbatch, such as
# --nodes=4 --gres=gpu:8, stand before the name of this file. It runs where sbatch is called: in a
# checkout with .venv, or set PYTHON.
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
workers=()
for node in "${nodes[@]}"; do
  for ((n = 0; n < SLURM_NTASKS / SLURM_JOB_NUM_NODES; n++)); do
    workers+=("\"$node:$((${PORT:-12345} + n))\"")
  done
done
CLUSTER=$(IFS=,; echo "{\"worker\": [${workers[*]}]}")
export CLUSTER PYTHON=${PYTHON:-.venv/bin/python}

status=0
# shellcheck disable=SC2016 # the tasks' own variables
srun --kill-on-bad-exit=0 bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec "$PYTHON" -m keras_vitbert.pretrain "$@"' task "$@" || status=$?
((status != 75)) || exec scontrol requeue "$SLURM_JOB_ID"
exit "$status"
