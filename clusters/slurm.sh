#!/usr/bin/env bash
# A recipe on a Slurm allocation:  sbatch clusters/slurm.sh recipes/demo.yaml /shared/runs
# Run it from the checkout, which must be on a file system that all nodes share, with its .venv (`make setup`).
# A time limit that ends the job costs nothing: two minutes before it the run is told, a training stores a checkpoint, and
# the same line goes on from there.
#SBATCH --job-name=hyperloom
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail
recipe=${1:?usage: sbatch clusters/slurm.sh RECIPE ROOT}
root=${2:?usage: sbatch clusters/slurm.sh RECIPE ROOT}

source .venv/bin/activate
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):6379
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# Starts Ray on every node, runs the command on the first one, and stops Ray again. Slurm's warning comes to this script,
# which runs on the first node, and is passed on to the command alone: Ray must live until the checkpoint is stored.
trap 'pkill -TERM -u "$USER" -f "hyperloom run $recipe" || true' TERM
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" -- \
    env RAY_ADDRESS="$address" hyperloom run "$recipe" --root "$root" &
ray=$!
while kill -0 "$ray" 2>/dev/null; do wait "$ray" && exit 0 || status=$?; done # a signal ends `wait`, not the work
exit "${status:-0}"
