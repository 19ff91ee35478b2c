#!/usr/bin/env bash
# A recipe on a Slurm allocation:  sbatch clusters/slurm.sh recipes/demo.yaml /shared/runs
# Run it from the checkout, which must be on a file system that all nodes share, with its .venv (`make setup`).
# A time limit that ends the job costs nothing that was committed: submit it again and it goes on.
#SBATCH --job-name=hyperloom
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail
recipe=${1:?usage: sbatch clusters/slurm.sh RECIPE ROOT}
root=${2:?usage: sbatch clusters/slurm.sh RECIPE ROOT}

source .venv/bin/activate
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):6379
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# Starts Ray on every node, runs the command on the first one, and stops Ray again.
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" -- \
    env RAY_ADDRESS="$address" hyperloom run "$recipe" --root "$root"
