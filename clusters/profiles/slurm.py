"""A Slurm batch script: Ray over an allocation, the driver on its first node.

The driver is a process of the script, which knows its id. Slurm's warning comes to the script `grace` seconds before
the time limit and is passed on to that one process: Ray must live until the checkpoint is stored. What the driver ends
with decides what comes next (pipeline/exits.py): after the warning the same job goes back into the queue and continues;
after what may pass (no store, no cluster) as often as the deployment says; any other code is the job's.

Ray's own `ray symmetric-run` is not used: it gives a driver's code 0 where Ray did not start, and its `ray stop` ends
every Ray of the user on a node that two jobs share. For the same reason ports follow from the job's id.
"""

from __future__ import annotations

import shlex

from hyperloom.clusters.deployment import Deployment
from hyperloom.clusters.profiles.workload import VENV, Workload
from hyperloom.pipeline import exits

HOURS = 8.0


def slurm(load: Workload) -> str:
    """The script for sbatch."""
    deployment = load.deployment
    again = "|".join(str(int(code)) for code in sorted(exits.AGAIN))
    return _SCRIPT.format(
        recipe=load.recipe,
        options="\n".join(f"#SBATCH --{option}" for option in _options(load)),
        secrets="\n".join(_secret(s.file) for s in deployment.secrets),
        env="\n".join(f"export {name}={shlex.quote(text)}" for name, text in deployment.env.items()),
        folder=_folder(deployment),
        venv=VENV,
        command=load.shown("run"),
        retries=deployment.retries,
        again=again,
        gpus=f" --num-gpus {deployment.worker.gpus}" if deployment.worker.gpus else "",
    )


def _options(load: Workload) -> list[str]:
    """What sbatch reads. The head is one of the nodes: the driver takes little of it."""
    deployment, machine, place = load.deployment, load.deployment.worker, load.deployment.slurm
    minutes = round((deployment.hours or HOURS) * 60)
    kind = f"{machine.accelerator}:" if machine.accelerator else ""
    nodes = f"{max(1, deployment.least)}-{deployment.most}" if deployment.elastic else str(deployment.most)
    return [
        f"job-name={load.name}",
        f"nodes={nodes}",
        "ntasks-per-node=1",
        f"cpus-per-task={machine.cpus}",
        f"mem={machine.memory_gb}G",
        *([f"gres=gpu:{kind}{machine.gpus}"] if machine.gpus else []),
        f"time={minutes}",
        "requeue",
        "no-kill",
        "open-mode=append",
        f"signal=B:USR1@{deployment.grace}",
        *(f"{name}={value}" for name in ("partition", "account", "qos") if (value := getattr(place, name))),
    ]


def _folder(deployment: Deployment) -> str:
    """The project's folder: `~` is for the shell to read, nothing else is."""
    return deployment.folder if deployment.folder.startswith("~") else shlex.quote(deployment.folder)


def _secret(file: str) -> str:
    return f"set -a\n# shellcheck disable=SC1090\nsource {file}\nset +a"


_SCRIPT = """\
#!/usr/bin/env bash
# hyperloom cluster render slurm {recipe}
#   sbatch FILE                              the same line goes on where a job ended
#   scancel --batch --signal=TERM JOB        ends it in peace
{options}
set -euo pipefail
cd {folder}
source {venv}
{secrets}
{env}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
address=$(hostname -I | awk '{{print $1}}')
export port=$((20000 + SLURM_JOB_ID % 1000 * 10))
export RAY_ADDRESS="${{address:-127.0.0.1}}:$port"

# Ray on every node of the allocation, the head on this one; it ends with this script.
ray_on_a_node() {{
    common=(--num-cpus="$SLURM_CPUS_PER_TASK"{gpus} --disable-usage-stats --block)
    if [ "$SLURM_NODEID" = 0 ]; then
        head=(--head --port="$port" --node-ip-address="${{RAY_ADDRESS%:*}}" --ray-client-server-port=$((port + 1)))
        exec ray start "${{head[@]}}" --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${{common[@]}}"
    fi
    until (exec 3<>"/dev/tcp/${{RAY_ADDRESS%:*}}/$port") 2>/dev/null; do sleep 1; done
    exec ray start --address="$RAY_ADDRESS" "${{common[@]}}"
}}
export -f ray_on_a_node
srun --no-kill --kill-on-bad-exit=0 bash -c ray_on_a_node &

driver='' warned='' stopped='' status=0
tell() {{ if [ -n "$driver" ]; then kill -TERM "$driver" 2>/dev/null || true; fi; }} # one process, nobody else
trap 'warned=yes; tell' USR1
trap 'stopped=yes; tell' TERM
follow() {{ # runs a command to its end: a signal ends `wait`, not the command
    "$@" &
    driver=$!
    while true; do
        wait "$driver" && status=0 || status=$?
        kill -0 "$driver" 2>/dev/null || break
    done
    driver=''
}}
follow hyperloom cluster wait --nodes "$SLURM_JOB_NUM_NODES" --seconds 300
if [ "$status" = 0 ]; then
    follow {command}
fi

again=''
case $status in {again}) again=yes ;; esac
if [ -z "$warned" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -ge {retries} ]; then again=''; fi
if [ -n "$again" ] && [ -z "$stopped" ]; then
    echo "the run ended with $status and may go on: back into the queue"
    trap - TERM
    scontrol requeue "$SLURM_JOB_ID" && sleep 60 # until Slurm ends this script
fi
exit "$status"
"""
